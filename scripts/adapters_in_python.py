#!/usr/bin/env python3
"""Train an adapter of every family with the programs, and have Python's peft load what they saved.

    python scripts/adapters_in_python.py target/release [FAMILY ...]

prints a line per family: how far the logits of peft's model with the adapter are from those of the plain model that
`--merge_lora` wrote. Fails if peft warns, or one is off by more than 1e-4. The fixtures of lm-models are the bases.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

transformers.logging.set_verbosity_error()

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = ROOT / "crates/lm-models/tests/fixtures/models"
PROGRAMS = {"run_mlm": AutoModelForMaskedLM, "run_clm": AutoModelForCausalLM, "run_plm": AutoModelForCausalLM}
TEXT = "the clock on the tower tells of ships and storms and a lighthouse\n"


def vocabulary(size):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + sorted(set(TEXT.split()))
    return words + [f"unseen{i}" for i in range(size - len(words))]


def check(family, program, folder, programs):
    config = json.loads((MODELS / family / "config.json").read_text())
    cls = PROGRAMS[program]
    work = folder / family
    (work / "tokenizer").mkdir(parents=True)
    (work / "tokenizer/vocab.txt").write_text("\n".join(vocabulary(config["vocab_size"])) + "\n")
    (work / "tokenizer/tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 512}))
    (work / "train.txt").write_text(TEXT * 40)
    length = "--block_size 16" if program == "run_clm" else "--line_by_line --max_seq_length 16"
    base = ["--model_name_or_path", str(MODELS / family), "--tokenizer_name", "tokenizer"]

    def run(*words):
        done = subprocess.run([str(programs / program), *words], cwd=work, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{family}: {' '.join(words)}: {done.stderr}")

    run(*base, *f"--use_lora --lora_r 4 --lora_alpha 16 --learning_rate 1e-2 --train_file train.txt --do_train --max_steps 5 "
        f"--save_strategy no --seed 1 --output_dir adapter {length}".split())
    run("--model_name_or_path", "adapter", "--merge_lora", "--output_dir", "merged")

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(cls.from_pretrained(MODELS / family), work / "adapter")
        automatic = cls.from_pretrained(work / "adapter")
    said = [str(w.message) for w in said if "peft" in str(w.filename) or "adapter" in str(w.message)]
    # GPT-2's layers are told by their type, whatever the file says.
    ids = torch.tensor([[(7 * i) % (config["vocab_size"] - 10) + 5 for i in range(12)]])
    logits = lambda of: of.eval()(input_ids=ids).logits
    with torch.no_grad():
        reference, merged, plain = logits(model), logits(cls.from_pretrained(work / "merged")), logits(cls.from_pretrained(MODELS / family))
        apart = max((reference - other).abs().max().item() for other in (merged, logits(automatic)))
        moved = (reference - plain).abs().max().item()
    tokenizer = AutoTokenizer.from_pretrained(work / "adapter")
    ok = apart < 1e-4 and moved > 1e-3 and not said and len(tokenizer) == config["vocab_size"]
    print(f"{'ok    ' if ok else 'FAILED'} {family:22} {type(model.base_model.model).__name__:30} "
          f"merged {apart:.1e} apart, the adapter moves logits by {moved:.1e} {said or ''}", flush=True)
    return ok


def main():
    programs, wanted = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    table = re.findall(r"^\| `([^`]*)` \| `(run_[cmp]lm)` ", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    table = [(family, program) for family, program in table if not wanted or family in wanted]
    with tempfile.TemporaryDirectory() as folder:
        failed = [family for family, program in table if not check(family, program, pathlib.Path(folder), programs)]
    raise SystemExit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
