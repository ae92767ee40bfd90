#!/usr/bin/env python3
"""Print the tables of docs/guide/memory.md: what `--plan` says of usual sizes.

    cargo build --release
    scripts/memory_table.py [--programs DIR] [--write]

`--plan` does once what a run of each model does, with new weights and a vocabulary as large as the published models', trained on
made-up words; an adapter is given a base that a step was trained of. The whole takes ten minutes on two cores and 8 GB. --write puts the
table into the page. Only the standard library is needed.
"""

import argparse
import pathlib
import random
import re
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/guide/memory.md"
# Name, program, arguments.
MODELS = [
    ("BERT 4 × 256", "run_mlm", "--model_type bert --train_tokenizer 30522 --config_overrides hidden_size=256,"
     "num_hidden_layers=4,num_attention_heads=4,intermediate_size=1024"),
    ("BERT-base", "run_mlm", "--model_type bert --train_tokenizer 30522"),
    ("GPT-2", "run_clm", "--model_type gpt2 --train_tokenizer 50257"),
    ("GPT-2 medium", "run_clm", "--model_type gpt2 --train_tokenizer 50257 "
     "--config_overrides n_embd=1024,n_layer=24,n_head=16"),
]
# Head of the column, batch size, length, more arguments.
RUNS = [
    ("8 × 128", 8, 128, ""),
    ("2 × 512", 2, 512, ""),
    ("2 × 512, `--gradient_checkpointing`", 2, 512, "--gradient_checkpointing"),
    ("2 × 512, `--use_lora`", 2, 512, "--use_lora"),
    ("2 × 512, `--use_lora --base_dtype bfloat16`", 2, 512, "--use_lora --base_dtype bfloat16"),
]
BEGIN, END = "<!-- scripts/memory_table.py writes this -->\n", "<!-- end -->\n"


def write_text(path):
    """Enough different words for the largest vocabulary."""
    dice = random.Random(7)
    words = ["".join(dice.choices("eeetaoinshrdlucmfwypvbgkqjxz", k=dice.randint(3, 9))) for _ in range(120_000)]
    with open(path, "w") as file:
        for start in range(0, len(words), 20):
            file.write(" ".join(2 * words[start:start + 20]) + ".\n")


def run(program, text, arguments):
    """What a program prints, by the words that its lines begin with."""
    command = f"{program} {arguments} --train_file {text} --do_train --ignore_disk_check"
    done = subprocess.run(command.split(), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command}\n{done.stderr}")
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in done.stdout.splitlines() if re.match(r"\S+( \S+)? {2,}", line))


def row(program, folder, name, model):
    """A row of the table: the size, its fixed part, and the peak of each run."""
    length = "--block_size" if program.name == "run_clm" else "--max_seq_length"
    peaks, said = [], {}
    text, base = f"{folder}/text.txt", f"{folder}/base"
    write_text(text)
    run(program, text, f"{model} {length} 32 --max_train_samples 8 --max_steps 1 --report_to none --output_dir {base}")
    for _, batch, tokens, more in RUNS:
        size = f"--per_device_train_batch_size {batch} {length} {tokens}"
        start = f"--model_name_or_path {base}" if "--use_lora" in more else model
        ran = run(program, text, f"{start} {size} {more} --plan --output_dir {folder}/out")
        said = said or ran
        peaks.append(re.match(r"[\d.,]+ \w+", ran["peak memory"])[0])
        print(name, batch, tokens, more, ran["memory"], "|", peaks[-1], flush=True)
    parameters = re.search(r"with ([\d,]+) parameters", said["model"])[1]
    fixed = [re.search(rf"([\d.,]+ \w+) {part}", said["memory"])[1] for part in ("weights", "gradients", "optimizer")]
    return [name, parameters, " + ".join(fixed), *peaks]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--programs", type=pathlib.Path, default=ROOT / "target/release")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    head = ["model", "parameters", "weights + gradients + AdamW", *(name for name, *_ in RUNS)]
    rows = [head, ["---"] * len(head)]
    for name, program, model in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(arguments.programs.absolute() / program, folder, name, model))
    table = "".join("| " + " | ".join(cells) + " |\n" for cells in rows)
    print(table)
    if arguments.write:
        page = PAGE.read_text()
        before, after = page.index(BEGIN) + len(BEGIN), page.index(END)
        PAGE.write_text(page[:before] + table + page[after:])


if __name__ == "__main__":
    main()
