#!/usr/bin/env python3
"""Measure what the size of a corpus costs, and print tables for docs/dev/speed.md.

    cargo build --release --bin run_clm
    scripts/measure_size.py --model FOLDER [--sizes 10,1000] [--venv DIR] [--work DIR] [--program FILE]

Of generated text of each size (in MB; words of a Zipf distribution in paragraphs, the same bytes in every run):
  * seconds and peak memory of a run of one step, cold (nothing tokenized) and warm, stored and with --streaming;
  * the same of a run that resumes after two steps and takes one more;
  * the same of some hundred MB in one file and in ten thousand (if a size is at least 100);
  * with --venv, reading and tokenizing on 1 and 2 threads beside Python's `datasets`, of text and of Parquet, in alternating
    pairs of --pair_size MB: of Python the seconds of the work, here those of the whole program; and the processor's seconds of
    all threads and processes, which other programs disturb less; and reading alone, on one thread (`cargo bench`).

FOLDER has a tokenizer and a small GPT-2 for run_clm, so that the step itself takes next to nothing. The text lies in the
system's page cache in all runs alike. Only the standard library is needed.
"""

import argparse
import itertools
import os
import pathlib
import random
import shutil
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
MB = 1_000_000


def paragraphs():
    """Twenty thousand paragraphs of made-up words."""
    dice = random.Random(1904)
    syllables = ["".join(parts) for parts in itertools.product("bdfklmnprst", "aeiou", ["", "n", "r", "s"])]
    words = ["".join(dice.choice(syllables) for _ in range(dice.choice((1, 2, 2, 3, 4)))) for _ in range(50_000)]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
    return [" ".join(dice.choices(words, cum_weights=weights, k=dice.randint(20, 120))) + ".\n" for _ in range(20_000)]


def write_text(path, size, pool):
    """So many bytes of paragraphs in a random order; nothing if they are there."""
    if path.exists() and path.stat().st_size >= size:
        return
    dice = random.Random(size)
    with open(path, "w") as file:
        while file.tell() < size:
            file.write("".join(dice.choices(pool, k=2_000)))


def write_parquet(venv, text):
    """The lines of a text as rows of a Parquet file, in the groups that `datasets` writes."""
    path = text.with_suffix(".parquet")
    code = ("import sys, pyarrow as pa, pyarrow.parquet as pq; lines = open(sys.argv[1]).read().splitlines(); "
            "pq.write_table(pa.table({'id': list(range(len(lines))), 'text': lines}), sys.argv[2], row_group_size=1000)")
    measured([str(venv / "bin/python"), "-c", code, str(text), str(path)])
    return path


def measured(command, env=None):
    """Seconds, peak memory in MiB, the processor's seconds and the last line of a command that must succeed."""
    log = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"measure_size-{os.getpid()}.log"
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.execvpe(command[0], command, {**os.environ, "HF_HUB_OFFLINE": "1", **(env or {})})
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - began
    if status:
        sys.exit(f"failed: {' '.join(command)}\n{log.read_text()}")
    said = log.read_text().splitlines()
    log.unlink()
    return seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, said[-1] if said else ""


def row(*cells):
    print("| " + " | ".join(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True)


class Runs:
    def __init__(self, args):
        self.args = args
        self.cache, self.out = args.work / "cache", args.work / "out"

    def run(self, train_file, steps, *more, fresh=True):
        if fresh:
            shutil.rmtree(self.out, ignore_errors=True)
        return measured([
            str(self.args.program), "--model_name_or_path", str(self.args.model), "--train_file", str(train_file), "--do_train",
            "--max_steps", str(steps), "--block_size", "64", "--per_device_train_batch_size", "1", "--logging_steps", "1",
            "--output_dir", str(self.out), "--data_cache_dir", str(self.cache), "--report_to", "none", *more,
        ])[:2]

    def to_the_first_step(self, name, train_file):
        shutil.rmtree(self.cache, ignore_errors=True)
        cold = self.run(train_file, 1, "--save_strategy", "no")
        store = sum(file.stat().st_size for file in self.cache.glob("tokens-*.bin")) / MB
        warm = self.run(train_file, 1, "--save_strategy", "no")
        self.run(train_file, 2, "--save_steps", "1")
        resumed = self.run(train_file, 3, "--save_strategy", "no", fresh=False)
        row(name, "stored", *cold, *warm, *resumed, store)
        streamed = [self.run(train_file, 1, "--save_strategy", "no", "--streaming") for _ in range(2)]
        self.run(train_file, 2, "--save_steps", "1", "--streaming")
        resumed = self.run(train_file, 3, "--save_strategy", "no", "--streaming", fresh=False)
        row(name, "streamed", *streamed[0], *streamed[1], *resumed, "")

    def tokenizing(self, train_file, threads):
        shutil.rmtree(self.cache, ignore_errors=True)
        return measured([
            str(self.args.program), "--tokenizer_name", str(self.args.model), "--train_file", str(train_file), "--block_size",
            "128", "--preview", "1", "--data_cache_dir", str(self.cache), "--preprocessing_num_workers", str(threads),
        ], {"RAYON_NUM_THREADS": str(threads)})[:3]

    def reading(self, file):
        command = ["cargo", "bench", "--quiet", "--workspace", "--bench", "reading", "--", str(file.resolve())]
        return float(measured(command)[3].rpartition("seconds: ")[2])

    def datasets_reading(self, file, *more):
        script = str(ROOT / "scripts/compare/reading.py")
        return float(measured([str(self.args.venv / "bin/python"), script, str(file), *more])[3].split()[1])

    def datasets(self, train_file, workers):
        _, memory, _, said = measured([
            str(self.args.venv / "bin/python"), str(ROOT / "scripts/compare/tokenizing.py"), "--model", str(self.args.model),
            "--train_file", str(train_file), "--block", "128", "--workers", str(workers),
        ], {"TOKENIZERS_PARALLELISM": "false"})
        seconds, processor = said.split()[-2:]
        return float(seconds), memory, float(processor)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--sizes", default="10,1000")
    parser.add_argument("--venv", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pair_size", type=int, default=20)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("results/size"))
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/run_clm")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    pool, runs = paragraphs(), Runs(args)
    sizes = [int(size) for size in args.sizes.split(",") if size]
    for size in sizes:
        write_text(args.work / f"{size}.txt", size * MB, pool)

    row("text", "way", "cold, s", "MiB", "warm, s", "MiB", "resumed, s", "MiB", "store, MB")
    row(*["---"] * 9)
    for size in sizes:
        runs.to_the_first_step(f"{size} MB", args.work / f"{size}.txt")
    if max(sizes, default=0) >= 100:
        folder = args.work / "many"
        folder.mkdir(exist_ok=True)
        if len(list(folder.iterdir())) < 10_000:
            dice = random.Random(1)
            for number in range(10_000):
                (folder / f"{number:05}.txt").write_text("".join(dice.choices(pool, k=25)))
        one = args.work / "one.txt"
        with open(one, "wb") as file:
            for part in sorted(folder.iterdir()):
                file.write(part.read_bytes())
        megabytes = f"{one.stat().st_size / MB:.0f} MB"
        runs.to_the_first_step(f"{megabytes} in one file", one)
        runs.to_the_first_step(f"{megabytes} in 10,000", folder / "*.txt")

    if args.venv:
        print()
        row("text", "threads", "datasets, s", "MiB", "CPU s", "here, s", "MiB", "CPU s", "MB/s", "times as fast", "by CPU s")
        row(*["---"] * 11)
        size = args.pair_size
        text = args.work / f"{size}.txt"
        write_text(text, size * MB, pool)
        parquet = write_parquet(args.venv, text)
        files = ((f"{size} MB of text", text), ("the same in Parquet", parquet))
        for name, text in files:
            for threads in (1, 2):
                pairs = []
                for turn in range(args.rounds):
                    both = [lambda: runs.datasets(text, threads), lambda: runs.tokenizing(text, threads)]
                    if turn % 2:
                        here, python = both[1](), both[0]()
                    else:
                        python, here = both[0](), both[1]()
                    pairs.append((python, here))
                middle = lambda values: statistics.median(values)
                python = [middle(pair[0][i] for pair in pairs) for i in range(3)]
                here = [middle(pair[1][i] for pair in pairs) for i in range(3)]
                ratio, of_cpu = (middle(pair[0][i] / pair[1][i] for pair in pairs) for i in (0, 2))
                row(name, threads, *python, *here, size / here[0], ratio, of_cpu)
        print()
        row("text", "datasets, table, s", "datasets, streaming, s", "here, s", "times as fast as the table", "as streaming")
        row(*["---"] * 6)
        for name, text in files:
            turns = [(runs.datasets_reading(text), runs.datasets_reading(text, "--streaming"), runs.reading(text))
                     for _ in range(args.rounds)]
            ratios = (statistics.median(turn[i] / turn[2] for turn in turns) for i in (0, 1))
            seconds = [f"{statistics.median(turn[i] for turn in turns):.3f}" for i in range(3)]
            row(name, *seconds, *ratios)
    shutil.rmtree(runs.cache, ignore_errors=True)
    shutil.rmtree(runs.out, ignore_errors=True)


if __name__ == "__main__":
    main()
