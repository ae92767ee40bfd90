#!/usr/bin/env python3
"""Run one model over lengths, batches and threads, then tokenize growing texts. Called by scripts/scaling.sh. Only the
standard library.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import time

from compare import run

NEW_MODEL = "hidden_size=384,num_hidden_layers=6,intermediate_size=1536,max_position_embeddings=1024"


def measure(command):
    """Seconds and MiB that a command takes."""
    born = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"scaling: code {process.returncode} from {' '.join(command)}\n{said}")
    return time.monotonic() - born, usage.ru_maxrss / 1024


def available_mib():
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024


def expected_mib(seen, tokens):
    """Memory for so many tokens a batch, by the line through the last two measured; unknown from fewer."""
    if len(seen) < 2:
        return 0
    (less, small), (more, large) = sorted(seen)[-2:]
    return large + max(large - small, 0) / (more - less) * (tokens - more)


def training(args, model):
    rows = []
    for threads in args.threads:
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        seen = {}
        for seq in args.seqs:
            for batch in args.batches:
                tokens = seq * batch
                if expected_mib(list(seen.items()), tokens) > 0.9 * available_mib():
                    rows.append((threads, seq, batch, "–", "does not fit"))
                    continue
                output = args.results / f"{threads}x{seq}x{batch}"
                figures = run(
                    [args.program, "--model_name_or_path", model, "--train_file", args.train_file,
                     "--max_seq_length", str(seq), "--per_device_train_batch_size", str(batch),
                     "--max_steps", str(args.steps), "--logging_steps", "1", "--save_strategy", "no", "--do_train",
                     "--data_cache_dir", str(args.results / "cache"), "--overwrite_output_dir",
                     "--output_dir", str(output)],
                    output, 1, args.steps)
                seen[tokens] = figures["peak_mib"]
                rows.append((threads, seq, batch, f"{figures['tokens_per_second']:.0f}", f"{figures['peak_mib']:.0f}"))
                print(rows[-1], file=sys.stderr, flush=True)
    del os.environ["RAYON_NUM_THREADS"]
    return table(["threads", "sequence", "batch", "tokens/s", "peak memory, MiB"], rows)


def tokenizing(args, model):
    text = pathlib.Path(args.train_file).read_bytes()
    rows = []
    for megabytes in args.megabytes:
        big = args.results / "big.txt"
        with open(big, "wb") as out:
            for _ in range(-(-megabytes * 1_000_000 // len(text))):
                out.write(text)
        size = big.stat().st_size / 1e6
        seconds, peak = measure(
            [args.program, "--tokenizer_name", model, "--train_file", str(big), "--max_seq_length", "128",
             "--preview", "1", "--data_cache_dir", str(args.results / "cache"), "--overwrite_cache"])
        big.unlink()
        rows.append((f"{size:.0f}", f"{seconds:.1f}", f"{size / seconds:.1f}", f"{peak:.0f}"))
    return table(["text, MB", "seconds", "MB/s", "peak memory, MiB"], rows)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--train_file", required=True)
    parser.add_argument("--seqs", type=int, nargs="+", default=[32, 64, 128, 256, 512, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--results", type=pathlib.Path, required=True)
    parser.add_argument("--program", required=True)
    args = parser.parse_args()
    if args.steps < 2:
        sys.exit("scaling: --steps must be at least 2: the first one is left out")
    args.results.mkdir(parents=True, exist_ok=True)

    model = args.model
    if model is None:
        model = str(args.results / "model")
        measure([args.program, "--model_type", "bert", "--config_overrides", NEW_MODEL, "--train_tokenizer", "8000",
                 "--train_file", args.train_file, "--do_train", "--max_steps", "1", "--save_strategy", "no",
                 "--overwrite_output_dir", "--output_dir", model])
    text = f"Training {args.model or 'BERT 6 × 384'}:\n\n{training(args, model)}\n"
    text += f"Tokenizing, from the start of the program, as many threads as cores:\n\n{tokenizing(args, model)}"
    (args.results / "scaling.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
