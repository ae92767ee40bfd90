#!/usr/bin/env python3
"""How often a step of transformers' Trainer calls ATen on the processor: what lm-train's test `aten_calls` holds ours against.

The models and the batch are the test's. Counted is what the profiler sees from the beginning of the third step, when its
batch is there, to its end: forward, backward, clipping, AdamW, the schedule, and the zeroing of gradients.

    python3 scripts/compare/aten_calls.py [--calls]     --calls prints them by name
"""

import argparse
import re
import tempfile
from collections import Counter
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, Trainer, TrainerCallback, TrainingArguments
from transformers import XLNetLMHeadModel

VOCAB, BATCH, SEQ = 100, 4, 16
TEST = Path(__file__).resolve().parents[2] / "crates/lm-train/tests/aten_calls.rs"


def of_test(name):
    """A list of names in the test."""
    return set(re.findall(r'"(\w+)"', re.search(rf"const {name}: .*? = &\[(.*?)\];", TEST.read_text(), re.S)[1]))


def model(model_type):
    sizes = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if model_type == "xlnet":
        return XLNetLMHeadModel(AutoConfig.for_model(model_type, **sizes, d_inner=64))
    config = AutoConfig.for_model(model_type, **sizes, max_position_embeddings=32)
    if model_type == "gpt2":
        return AutoModelForCausalLM.from_config(config)
    config.intermediate_size = 64
    return AutoModelForMaskedLM.from_config(config)


def example(model_type, row):
    ids = torch.tensor([5 + i * 7 % (VOCAB - 5) for i in range(row * SEQ, (row + 1) * SEQ)])
    labels = ids.clone()
    if model_type != "gpt2":
        labels[torch.tensor([i % 6 != 1 for i in range(row * SEQ, (row + 1) * SEQ)])] = -100
    if model_type == "xlnet":
        return {
            "input_ids": ids,
            "labels": labels,
            "perm_mask": torch.ones(SEQ, SEQ).tril(),
            "target_mapping": torch.eye(SEQ),
        }
    return {"input_ids": ids, "labels": labels, "attention_mask": torch.ones(SEQ, dtype=torch.long)}


class ThirdStep(TrainerCallback):
    """Counts between the step's beginning and its end."""

    profiler = None

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
            self.profiler.start()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            self.profiler.stop()


def calls(model_type):
    torch.manual_seed(3)
    third = ThirdStep()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, max_steps=4, use_cpu=True, report_to="none", save_strategy="no",
            weight_decay=0.01, max_grad_norm=1e-3, disable_tqdm=True, logging_strategy="no",
        )
        examples = [example(model_type, row) for row in range(BATCH)] * 4
        Trainer(model(model_type), arguments, train_dataset=examples, callbacks=[third]).train()
    events = third.profiler.events()
    return Counter(event.name.removeprefix("aten::") for event in events if event.name.startswith("aten::")), arguments.optim


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", action="store_true", help="print the calls by name")
    by_name = parser.parse_args().calls
    views, waits = of_test("VIEWS"), of_test("WAITS")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for model_type in ["bert", "gpt2", "xlnet"]:
        counted, optimizer = calls(model_type)
        if by_name:
            print("\n".join(f"{times:6} {name}" for name, times in counted.most_common()))
        computing = sum(times for name, times in counted.items() if name not in views)
        waiting = sum(times for name, times in counted.items() if name in waits)
        print(f"{model_type}, {optimizer}: {counted.total()} calls, {computing} without views; {waiting} waits")


if __name__ == "__main__":
    main()
