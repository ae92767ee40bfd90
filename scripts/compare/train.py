#!/usr/bin/env python3
"""Train with the Trainer of Python's `transformers`, as its example scripts do, and write down what each step took.

Takes the arguments of our programs that a comparison needs, and writes OUTPUT_DIR/log.jsonl with the same fields:
step, loss, step_seconds, tokens (positions of the padded batch) and real_tokens (without padding).
"""
import argparse
import itertools
import json
import pathlib
import tempfile
import time

import datasets
import torch
import transformers
from transformers import (AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling,
                          DataCollatorForPermutationLanguageModeling, Trainer, TrainerCallback, TrainingArguments,
                          XLNetLMHeadModel, default_data_collator)

TASKS = {
    "mlm": (AutoModelForMaskedLM, DataCollatorForLanguageModeling),
    "clm": (AutoModelForCausalLM, lambda tokenizer: default_data_collator),
    "plm": (XLNetLMHeadModel, DataCollatorForPermutationLanguageModeling),
}


def examples(args, tokenizer):
    """The training split as run_mlm.py, run_clm.py and run_plm.py prepare it."""
    text = datasets.load_dataset("text", data_files=args.train_file, split="train",
                                 keep_linebreaks=args.task == "clm", cache_dir=tempfile.mkdtemp())

    def lines(rows):
        kept = [line for line in rows["text"] if line and not line.isspace()]
        return tokenizer(kept, truncation=True, max_length=args.seq, return_special_tokens_mask=True)

    def whole(rows):
        return tokenizer(rows["text"], return_special_tokens_mask=args.task == "mlm")

    def blocks(rows):
        joined = {name: list(itertools.chain(*column)) for name, column in rows.items()}
        end = len(joined["input_ids"]) // args.seq * args.seq
        cut = {name: [ids[at:at + args.seq] for at in range(0, end, args.seq)] for name, ids in joined.items()}
        return cut | {"labels": [list(ids) for ids in cut["input_ids"]]} if args.task == "clm" else cut

    if args.line_by_line:
        return text.map(lines, batched=True, remove_columns=text.column_names)
    return text.map(whole, batched=True, remove_columns=text.column_names).map(blocks, batched=True)


class Log(TrainerCallback):
    """Writes a line when a step and its loss are known. `sizes` has one (tokens, real_tokens) per batch, in order."""

    def __init__(self, path, sizes):
        self.file, self.sizes = open(path, "w", buffering=1), sizes

    def on_step_begin(self, args, state, control, **_):
        wait_for_device()
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **_):
        wait_for_device()
        self.seconds = time.perf_counter() - self.began

    def on_log(self, args, state, control, logs=None, **_):
        if "loss" not in logs:
            return
        per_step = args.gradient_accumulation_steps
        batches = self.sizes[(state.global_step - 1) * per_step:state.global_step * per_step]
        self.file.write(json.dumps({
            "step": state.global_step, "loss": logs["loss"], "step_seconds": self.seconds,
            "tokens": sum(tokens for tokens, _ in batches), "real_tokens": sum(real for _, real in batches)}) + "\n")


def wait_for_device():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train_file", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--line_by_line", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()

    transformers.set_seed(42)
    datasets.disable_progress_bars()
    build, make_collator = TASKS[args.task]
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = build.from_pretrained(args.model)
    data = examples(args, tokenizer)
    collator, sizes = make_collator(tokenizer), []

    def collate(rows):
        batch = collator(rows)
        tokens = batch["input_ids"].numel()
        # The collator for permutations passes no attention mask on: its padding is known by the token.
        mask = batch.get("attention_mask")
        if mask is None and tokenizer.pad_token_id is not None:
            mask = batch["input_ids"] != tokenizer.pad_token_id
        sizes.append((tokens, tokens if mask is None else int(mask.sum())))
        return batch

    output = pathlib.Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    settings = TrainingArguments(
        output_dir=str(output), max_steps=args.steps, per_device_train_batch_size=args.batch,
        gradient_accumulation_steps=args.accumulate, logging_steps=1, save_strategy="no", report_to="none",
        disable_tqdm=True, use_cpu=args.device == "cpu", bf16=args.bf16, torch_compile=args.compile)
    Trainer(model=model, args=settings, train_dataset=data, data_collator=collate,
            callbacks=[Log(output / "log.jsonl", sizes)]).train()


if __name__ == "__main__":
    main()
