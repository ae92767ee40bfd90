#!/usr/bin/env python3
"""Goes on with a checkpoint of these programs in Python's Trainer, and prints the losses and rates.

`python resume_in_python.py CHECKPOINT TRAIN.txt BLOCK EXAMPLES STEPS [ARGUMENT VALUE]…`, with torch and transformers 4.57 or 5:
a causal model, on EXAMPLES blocks of BLOCK tokens a step, to step STEPS. The arguments are those of its training_args.bin, and
what is given of TrainingArguments' own besides, such as `learning_rate 0.002`. Each step is a batch of all examples where EXAMPLES are all that TRAIN.txt has, so that their
order plays no part. The loss is the mean over what is predicted, as these programs compute it.
"""
import dataclasses
import json
import os
import random
import sys
import tempfile

import numpy
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer
from transformers import __version__ as version


def number(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


def main():
    checkpoint, text, block, examples, steps, *more = sys.argv[1:]
    block, arguments = int(block), {name: number(value) for name, value in zip(more[::2], more[1::2])}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with open(text) as lines:
        ids = sum((tokenizer(line.rstrip("\n"))["input_ids"] for line in lines), [])
    rows = [ids[i:i + block] for i in range(0, len(ids) - block + 1, block)]
    saved = torch.load(os.path.join(checkpoint, "training_args.bin"), weights_only=False)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            AutoModelForCausalLM.from_pretrained(checkpoint),
            dataclasses.replace(
                saved, output_dir=folder, max_steps=int(steps), per_device_train_batch_size=int(examples), logging_steps=1,
                use_cpu=True, save_strategy="no", report_to=[], disable_tqdm=True, **arguments),
            train_dataset=[dict(input_ids=row, labels=row) for row in rows])
        trainer.model_accepts_loss_kwargs = False
        trainer._load_rng_state(checkpoint)
        drawn = random.random(), numpy.random.rand(), torch.rand(1).item()
        trainer.train(resume_from_checkpoint=checkpoint)
    print(f"transformers {version}: {type(trainer.optimizer.optimizer).__name__}")
    print("random numbers of rng_state.pth: {:.6f} {:.6f} {:.6f}".format(*drawn))
    for record in trainer.state.log_history:
        if "loss" in record:
            print(f"step {record['step']:3}  loss {record['loss']:.4f}  rate {record['learning_rate']:.6g}")


main()
