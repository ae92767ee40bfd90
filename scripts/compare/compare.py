#!/usr/bin/env python3
"""Run both programs in turn and print what they took, side by side. Called by scripts/compare_with_python.sh.

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
    ("loss of the first step", "first_loss", 4),
    ("loss, mean of last five steps", "last_loss", 4),
]


def read_log(path):
    """The lines of log.jsonl that describe a training step; a line still being written is left for later."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [entry for entry in map(json.loads, lines) if "step_seconds" in entry]


def run(command, output, warmup, steps):
    """Runs `command`, which writes output/log.jsonl, and returns its figures."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    console = output.with_suffix(".console.txt")
    with open(console, "w") as sink:
        born = time.monotonic()
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
        first_step, status = None, 0
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if first_step is None and read_log(output / "log.jsonl"):
                first_step = time.monotonic() - born
            if pid:
                break
            time.sleep(0.01 if first_step is None else 0.2)
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
    commands = {
        "python": [args.python, str(HERE / "train.py"), "--task", args.task, "--model", args.model,
                   "--train_file", args.train_file, "--seq", str(args.seq), "--batch", str(args.batch),
                   "--steps", str(args.steps), "--output_dir", str(outputs["python"]), *line_by_line],
        "ours": [args.program, "--model_name_or_path", args.model, "--train_file", args.train_file,
                 length, str(args.seq), "--per_device_train_batch_size", str(args.batch),
                 "--max_steps", str(args.steps), "--logging_steps", "1", "--save_strategy", "no", "--do_train",
                 "--overwrite_cache", "--overwrite_output_dir", "--output_dir", str(outputs["ours"]),
                 *line_by_line, *args.extra],
    }
    for command in commands.values():
        print("$ " + " ".join(command))
    rounds = []
    for index in range(args.rounds):
        order = ["python", "ours"] if index % 2 == 0 else ["ours", "python"]
        figures = {name: run(commands[name], outputs[name], args.warmup, args.steps) for name in order}
        rounds.append(figures)
        print(f"round {index + 1} of {args.rounds}: tokens per second {figures['python']['tokens_per_second']:.1f} "
              f"Python, {figures['ours']['tokens_per_second']:.1f} ours", flush=True)

    print(f"\n{args.task}, {args.model}, {args.batch} x {args.seq} tokens, {args.steps} steps, "
          f"medians of {args.rounds} rounds; ratio = ours / Python, its median and range over the rounds\n")
    print(f"{'':32}{'Python':>12}{'ours':>12}{'ratio':>9}   range")
    summary = {"arguments": vars(args), "rounds": rounds, "median": {}}
    for title, key, digits in ROWS:
        python, ours = (statistics.median(r[name][key] for r in rounds) for name in ("python", "ours"))
        ratios = [r["ours"][key] / r["python"][key] for r in rounds]
        summary["median"][key] = {"python": python, "ours": ours, "ratio": statistics.median(ratios)}
        print(f"{title:32}{python:12.{digits}f}{ours:12.{digits}f}{statistics.median(ratios):9.3f}"
              f"   {min(ratios):.3f} to {max(ratios):.3f}")
    (results / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"\nall figures: {results / 'summary.json'}")


if __name__ == "__main__":
    main()
