#!/usr/bin/env python3
"""Run both programs in turn and print what they took, side by side. Called by scripts/compare_with_python.sh, and by
scripts/bench_gpu.sh with --device.

Each round runs both, in alternating order, one at a time; ratios are taken within a round, so that a machine that
slows down or speeds up between rounds does not decide. Only the standard library.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROWS = [  # title, key, digits
    ("tokens per second", "tokens_per_second", 1),
    ("real tokens per second", "real_tokens_per_second", 1),
    ("start to end of first step, s", "first_step_seconds", 2),
    ("peak memory, MiB", "peak_mib", 0),
    ("GPU memory, MiB", "device_mib", 0),
    ("MFU, %", "mfu_percent", 2),
    ("loss of the first step", "first_loss", 4),
    ("loss, mean of last five steps", "last_loss", 4),
]


def read_log(path):
    """The lines of log.jsonl that describe a training step; a line still being written is left for later."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [entry for entry in map(json.loads, lines) if "step_seconds" in entry]


def device_mib():
    """MiB in use on the first GPU; none where there is no NVIDIA driver."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return float(subprocess.run(query, check=True, capture_output=True, text=True).stdout)


def flops_per_token(folder, task, seq):
    """Operations of a forward and backward pass that the model asks for, per token: six per weight of the layers and of
    the projection of each predicted token, and attention's products (Chowdhery et al., 2022, appendix B)."""
    config = json.loads((folder / "config.json").read_text())

    def size(*names, default=None):
        return next((config[name] for name in names if config.get(name) is not None), default)

    hidden, layers = size("hidden_size", "n_embd", "d_model", "dim"), size("num_hidden_layers", "n_layer", "n_layers")
    inner = size("intermediate_size", "n_inner", "d_inner", "hidden_dim", default=4 * hidden)
    predicted = {"mlm": 0.15, "clm": 1.0, "plm": 1 / 6}[task]
    weights = layers * (4 * hidden * hidden + 2 * hidden * inner) + predicted * hidden * config["vocab_size"]
    return 6 * weights + 12 * layers * hidden * seq


def run(command, output, warmup, steps):
    """Runs `command`, which writes output/log.jsonl, and returns its figures."""
    idle_mib = device_mib()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    console = output.with_suffix(".console.txt")
    with open(console, "w") as sink:
        born = time.monotonic()
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
        first_step, status, used_mib = None, 0, idle_mib
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if first_step is None and read_log(output / "log.jsonl"):
                first_step = time.monotonic() - born
            if pid:
                break
            time.sleep(0.01 if first_step is None else 0.2)
            if first_step is not None and used_mib is not None:
                used_mib = max(used_mib, device_mib())
    process.returncode = os.waitstatus_to_exitcode(status)
    log = read_log(output / "log.jsonl")
    if process.returncode != 0 or len(log) != steps:
        tail = "\n".join(console.read_text().splitlines()[-15:])
        sys.exit(f"compare: this run ended with code {process.returncode} and {len(log)} of {steps} steps in "
                 f"{output / 'log.jsonl'}:\n  {' '.join(command)}\n{tail}")
    kept = log[warmup:]
    return {
        "tokens_per_second": statistics.median(e["tokens"] / e["step_seconds"] for e in kept),
        "real_tokens_per_second": statistics.median(e["real_tokens"] / e["step_seconds"] for e in kept),
        "first_step_seconds": first_step,
        "peak_mib": usage.ru_maxrss / 1024,
        "device_mib": None if idle_mib is None else used_mib - idle_mib,
        "first_loss": log[0]["loss"],
        "last_loss": statistics.fmean(e["loss"] for e in log[-5:]),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["mlm", "clm", "plm"], required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train_file", required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5, help="steps left out of the medians")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--line_by_line", action="store_true")
    parser.add_argument("--device", help="of our program; Python computes on CUDA unless this is a processor")
    parser.add_argument("--bf16", action="store_true", help="both programs")
    parser.add_argument("--compile", action="store_true", help="Python's torch.compile")
    parser.add_argument("--peak_tflops", type=float, help="of the device, for its share that is used (MFU)")
    parser.add_argument("--results", required=True, help="folder for logs, models and summary.json")
    parser.add_argument("--python", required=True, help="the interpreter that has transformers")
    parser.add_argument("--program", required=True, help="our binary")
    parser.add_argument("extra", nargs="*", help="further arguments for our program, after --")
    args = parser.parse_args()
    if not 0 <= args.warmup < args.steps:
        sys.exit("compare: --warmup must be smaller than --steps")
    if args.line_by_line and args.task != "mlm":
        sys.exit("compare: --line_by_line goes with --task mlm; Python's run_clm has none, and its collator for "
                 "permutations refuses batches of odd length")

    results = pathlib.Path(args.results).resolve()
    results.mkdir(parents=True, exist_ok=True)
    outputs = {"python": results / "python", "ours": results / "ours"}
    line_by_line = ["--line_by_line"] if args.line_by_line else []
    length = "--block_size" if args.task == "clm" else "--max_seq_length"
    python = ["--bf16"] * args.bf16 + ["--compile"] * args.compile
    ours = ["--bf16"] * args.bf16
    if args.device:
        python += ["--device", "cpu" if args.device.endswith("cpu") else "cuda"]
        ours += ["--device", args.device]
    commands = {
        "python": [args.python, str(HERE / "train.py"), "--task", args.task, "--model", args.model,
                   "--train_file", args.train_file, "--seq", str(args.seq), "--batch", str(args.batch),
                   "--steps", str(args.steps), "--output_dir", str(outputs["python"]), *line_by_line, *python],
        "ours": [args.program, "--model_name_or_path", args.model, "--train_file", args.train_file,
                 length, str(args.seq), "--per_device_train_batch_size", str(args.batch),
                 "--max_steps", str(args.steps), "--logging_steps", "1", "--save_strategy", "no", "--do_train",
                 "--overwrite_cache", "--overwrite_output_dir", "--output_dir", str(outputs["ours"]),
                 *line_by_line, *ours, *args.extra],
    }
    for command in commands.values():
        print("$ " + " ".join(command))
    rounds = []
    for index in range(args.rounds):
        order = ["python", "ours"] if index % 2 == 0 else ["ours", "python"]
        figures = {name: run(commands[name], outputs[name], args.warmup, args.steps) for name in order}
        if args.peak_tflops:
            flops = flops_per_token(outputs["ours"], args.task, args.seq)
            for figure in figures.values():
                figure["mfu_percent"] = 100 * flops * figure["tokens_per_second"] / (args.peak_tflops * 1e12)
        rounds.append(figures)
        print(f"round {index + 1} of {args.rounds}: tokens per second {figures['python']['tokens_per_second']:.1f} "
              f"Python, {figures['ours']['tokens_per_second']:.1f} ours", flush=True)

    print(f"\n{args.task}, {args.model}, {args.batch} x {args.seq} tokens, {args.steps} steps, "
          f"medians of {args.rounds} rounds; ratio = ours / Python, its median and range over the rounds\n")
    print(f"{'':32}{'Python':>12}{'ours':>12}{'ratio':>9}   range")
    summary = {"arguments": vars(args), "rounds": rounds, "median": {}}
    for title, key, digits in ROWS:
        if rounds[0]["ours"].get(key) is None:
            continue
        python, ours = (statistics.median(r[name][key] for r in rounds) for name in ("python", "ours"))
        ratios = [r["ours"][key] / r["python"][key] for r in rounds]
        summary["median"][key] = {"python": python, "ours": ours, "ratio": statistics.median(ratios)}
        print(f"{title:32}{python:12.{digits}f}{ours:12.{digits}f}{statistics.median(ratios):9.3f}"
              f"   {min(ratios):.3f} to {max(ratios):.3f}")
    (results / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"\nall figures: {results / 'summary.json'}")


if __name__ == "__main__":
    main()
