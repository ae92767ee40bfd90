#!/usr/bin/env python3
"""Load a folder that our program wrote in Python, and compare Python's logits with ours.

    python logits.py --task mlm FOLDER OURS.safetensors

OURS.safetensors is what `cargo run --release -p lm-train --example logits -- FOLDER OURS.safetensors` writes:
input_ids, attention_mask and logits of a small batch.
"""
import argparse

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, XLNetLMHeadModel

TASKS = {"mlm": AutoModelForMaskedLM, "clm": AutoModelForCausalLM, "plm": XLNetLMHeadModel}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("folder")
    parser.add_argument("ours")
    args = parser.parse_args()
    tensors = load_file(args.ours)
    AutoTokenizer.from_pretrained(args.folder)
    model, loading = TASKS[args.task].from_pretrained(args.folder, output_loading_info=True)
    model.eval()
    with torch.no_grad():
        inputs = {name: tensors[name].long() for name in ("input_ids", "attention_mask")}
        if args.task == "plm":  # ours are those of the query stream, which sees every position
            batch, seq = inputs["input_ids"].shape
            inputs["target_mapping"] = torch.eye(seq).expand(batch, seq, seq)
        python = model(**inputs).logits
    seen = tensors["attention_mask"].bool()
    difference = (python - tensors["logits"]).abs()[seen].max().item()
    print(f"{args.folder} in Python: tokenizer and model load, missing {loading['missing_keys']}, "
          f"unexpected {loading['unexpected_keys']}; logits {tuple(python.shape)}, "
          f"largest difference {difference:.2e} (tolerance {args.tolerance:.0e})")
    if not difference <= args.tolerance or loading["missing_keys"] or loading["unexpected_keys"]:
        raise SystemExit("logits: the folder is not the same model in Python")
