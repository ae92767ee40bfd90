#!/usr/bin/env python3
"""Train every family for a step with the programs, and have Python's transformers 4.57 load what they saved.

    python scripts/load_in_python.py target/release [FAMILY ...]

prints a line per family; fails if one can't be trained or loaded, or if Python misses weights or does not know some.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, XLNetLMHeadModel

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = {
    "run_mlm": (AutoModelForMaskedLM, "--line_by_line --max_seq_length 16"),
    "run_clm": (AutoModelForCausalLM, "--block_size 16"),
    "run_plm": (XLNetLMHeadModel, "--max_seq_length 16"),
}


def check(family, program, sizes, programs, folder):
    cls, words = PROGRAMS[program]
    (folder / f"{family}.json").write_text(json.dumps({**sizes, "model_type": family, "vocab_size": 290}))
    command = (f"{programs / program} --config_name {family}.json --train_tokenizer 290 --train_file train.txt "
               f"--do_train --max_steps 1 --save_strategy no --output_dir {family} {words}")
    subprocess.run(command.split(), cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    model, info = cls.from_pretrained(folder / family, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder / family)
    found = {name: list(what) for name, what in info.items() if what}
    print(f"{family:22} {type(model).__name__:30} {type(tokenizer).__name__:24} {found or 'whole'}", flush=True)
    return not found and model.config.architectures == [type(model).__name__]


def main():
    programs, wanted = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    sizes = {}
    for model in json.loads((ROOT / "crates/lm-models/tests/fixtures/initial/initial.json").read_text())["models"]:
        sizes.setdefault(model["model_type"], model["config"])
    table = re.findall(r"^\| `([^`]*)` \| `(run_...)` ", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        lines = (f"line {line} tells of ships, storms and a lighthouse.\n" for line in range(12))
        (folder / "train.txt").write_text("".join(lines))
        families = [(family, program) for family, program in table if not wanted or family in wanted]
        failed = [family for family, program in families
                  if not check(family, program, sizes[family], programs, folder)]
    print(f"{len(families) - len(failed)} of {len(families)} are whole in Python")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
