#!/usr/bin/env python3
"""Perplexity of a unigram model: what a model reaches that knows only how frequent each token is.

    run_mlm ... --dump_examples examples.jsonl
    python3 scripts/unigram_perplexity.py examples.jsonl --tokenizer FOLDER [--results FOLDER/all_results.json]

Counts the tokens of the split "train" (one added to each count, so that no token is impossible) and measures the
split "validation". Special tokens are left out of both, as nothing is predicted there. With --results, prints the
trained model's perplexity too, and fails unless it is lower. Only the standard library.
"""
import argparse
import collections
import json
import math
import pathlib
import sys


def unigram_perplexity(examples, vocab_size, special_ids):
    """`examples` is an iterable of (split, input_ids)."""
    counts = {"train": collections.Counter(), "validation": collections.Counter()}
    for split, input_ids in examples:
        counts[split].update(token for token in input_ids if token not in special_ids)
    train, valid = counts["train"], counts["validation"]
    if not train or not valid:
        sys.exit("unigram_perplexity: the examples need a train and a validation split")
    total = train.total() + vocab_size - len(special_ids)
    loss = -sum(n * math.log((train[token] + 1) / total) for token, n in valid.items()) / valid.total()
    return math.exp(loss)


def read_examples(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            example = json.loads(line)
            yield example["split"], example["input_ids"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("examples", help="what --dump_examples wrote")
    parser.add_argument("--tokenizer", required=True, help="folder with the tokenizer.json that was used")
    parser.add_argument("--results", help="all_results.json of the trained model")
    args = parser.parse_args()

    tokenizer = json.loads((pathlib.Path(args.tokenizer) / "tokenizer.json").read_text(encoding="utf-8"))
    added = tokenizer["added_tokens"]
    special_ids = {token["id"] for token in added if token["special"]}
    vocab_size = 1 + max([len(tokenizer["model"]["vocab"]) - 1] + [token["id"] for token in added])
    unigram = unigram_perplexity(read_examples(args.examples), vocab_size, special_ids)
    print(f"unigram model: perplexity {unigram:.1f}")
    if args.results:
        model = json.loads(pathlib.Path(args.results).read_text(encoding="utf-8"))["perplexity"]
        print(f"trained model: perplexity {model:.1f}")
        if not model < unigram:
            sys.exit(f"unigram_perplexity: {args.results}: the trained model is no better than a unigram model")


if __name__ == "__main__":
    main()
