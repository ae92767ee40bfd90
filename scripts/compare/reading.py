#!/usr/bin/env python3
"""Read every text of a file with `datasets`, and print the number of texts, the seconds and those of the processor, without
those of the imports. `--streaming` keeps nothing on the disk; else the table is written first, as the scripts have it."""
import argparse
import os
import tempfile
import time

import datasets


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--streaming", action="store_true")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    kind = ("parquet", {}) if args.file.endswith(".parquet") else ("text", {"keep_linebreaks": True})
    processor = lambda: sum(os.times()[:4])
    began, before = time.monotonic(), processor()
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset(kind[0], data_files=args.file, split="train", cache_dir=cache,
                                     streaming=args.streaming, **kind[1])
        count = sum(len(batch["text"]) for batch in rows.select_columns("text").iter(1000))
    print(count, time.monotonic() - began, processor() - before)


if __name__ == "__main__":
    main()
