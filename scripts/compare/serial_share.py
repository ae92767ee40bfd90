#!/usr/bin/env python3
"""What share of a training run's processor time one thread works alone: what further cores would wait for.

A profile of stacks by `perf`, of a program with symbols: a sample below one of rayon's parallel calls is shared out, any other
is not. Waiting is counted apart. Of the run the first seconds, and the last, are left out.

    cargo build --profile profiling
    python3 scripts/compare/serial_share.py --after 3 --before 1 target/profiling/run_mlm --config_name …
"""

import argparse
import collections
import re
import subprocess
import tempfile
from pathlib import Path

RATE = 400
SHARED_OUT = re.compile(r"consume_iter|join_context|StackJob|share_out|bridge_|ForEachConsumer|help_until")
WAITS = re.compile(r"rayon_core|help_until|crossbeam|yield|futex|schedule")
UNTOLD = re.compile(r"^(core|std|alloc|rayon)|closure|start_thread|clone3|unknown")


def samples(text):
    """Time and stack of each, innermost function first."""
    for block in text.split("\n\n"):
        head, *frames = block.strip("\n").split("\n")
        if match := re.match(r"\s*([\d.]+):", head):
            yield float(match[1]), [frame.strip().split(" ", 1)[-1] for frame in frames]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--after", type=float, default=3, help="seconds left out at the beginning")
    parser.add_argument("--before", type=float, default=1, help="seconds left out at the end")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "perf.data"
        record = ["perf", "record", "--call-graph", "dwarf,8192", "-F", str(RATE), "-o", data, "--"]
        subprocess.run([*record, *args.command], check=True, stdout=subprocess.DEVNULL)
        script = ["perf", "script", "--no-inline", "-i", data, "-F", "time,ip,sym"]
        text = subprocess.run(script, check=True, text=True, stdout=subprocess.PIPE).stdout
    taken = list(samples(text))
    begin = min(time for time, _ in taken) + args.after
    end = max(time for time, _ in taken) - args.before
    kinds, alone = collections.Counter(), collections.Counter()
    for time, stack in taken:
        if not begin <= time <= end:
            continue
        if any(map(WAITS.search, stack[:1])) or any("futex" in frame for frame in stack[:8]):
            kinds["waits"] += 1
        elif any(map(SHARED_OUT.search, stack)):
            kinds["shared out"] += 1
        else:
            kinds["alone"] += 1
            told = [frame for frame in stack if not UNTOLD.search(frame)] or stack or ["no stack"]
            alone[" < ".join(frame[:60] for frame in told[:3])] += 1
    work = kinds["alone"] + kinds["shared out"]
    if not work:
        raise SystemExit("no samples between --after and --before: let it run longer")
    print(f"{work} samples of work: {kinds['alone'] / work:.2%} by one thread alone; {kinds['waits'] / RATE:.2f} s of waiting")
    for function, count in alone.most_common(15):
        print(f"{count / work:7.2%}  {function}")


if __name__ == "__main__":
    main()
