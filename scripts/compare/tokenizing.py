#!/usr/bin/env python3
"""Tokenize and group a text with `datasets`, as run_clm.py does, in a cache of its own; print the number of blocks, the
seconds that it took and those of the processor in all processes, without those of the imports."""
import argparse
import itertools
import os
import tempfile
import time

import datasets
from transformers import AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train_file", required=True)
    parser.add_argument("--block", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    args = parser.parse_args()
    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(args.model)

    def group(rows):
        joined = {name: list(itertools.chain(*column)) for name, column in rows.items()}
        end = len(joined["input_ids"]) // args.block * args.block
        cut = {name: [ids[at:at + args.block] for at in range(0, end, args.block)] for name, ids in joined.items()}
        return cut | {"labels": [list(ids) for ids in cut["input_ids"]]}

    processor = lambda: sum(os.times()[:4])
    began, before = time.monotonic(), processor()
    with tempfile.TemporaryDirectory() as cache:
        kind = ("parquet", {}) if args.train_file.endswith(".parquet") else ("text", {"keep_linebreaks": True})
        text = datasets.load_dataset(kind[0], data_files=args.train_file, split="train", cache_dir=cache, **kind[1])
        tokens = text.map(lambda rows: tokenizer(rows["text"]), batched=True, remove_columns=text.column_names,
                          num_proc=args.workers)
        blocks = len(tokens.map(group, batched=True, num_proc=args.workers))
    print(blocks, time.monotonic() - began, processor() - before)


if __name__ == "__main__":
    main()
