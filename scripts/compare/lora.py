#!/usr/bin/env python3
"""Train a LoRA adapter with run_clm and with Python's peft, and print peak memory and speed side by side.

    python scripts/compare/lora.py target/release/run_clm FOLDER [--sizes tiny gpt2 llama-1b] [--threads 2] [--steps 6]

Needs torch, transformers and peft. The models are made in FOLDER with random weights in bfloat16: GPT-2 of 124 million
parameters, a Llama of 1.1 billion (TinyLlama's shape), and a tiny one to try the script. A step is one example of 512
tokens; the median of the steps but the first counts. Peak memory is the resident memory of the process, loading included, and
pages of a file that is mapped into memory count like any others, for both. peft trains with the base in bfloat16, and a second
time in float32, what the processor computes faster in; our run_clm gets what stands after `--`, such as
`--base_dtype bfloat16 --bf16` and, to trade speed for memory, `--gradient_checkpointing`.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

SEQ = 512
SIZES = {
    "tiny": dict(kind="gpt2", n_embd=64, n_layer=2, n_head=4),
    "gpt2": dict(kind="gpt2"),
    "llama-1b": dict(kind="llama", hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
                     num_key_value_heads=4, vocab_size=32000, max_position_embeddings=2048),
}


def make(folder, size):
    """A model with random weights, and a tokenizer of words beside it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast

    if (folder / "model.safetensors").exists():
        return
    options = dict(SIZES[size])
    config = {"gpt2": GPT2Config, "llama": LlamaConfig}[options.pop("kind")](**options, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, torch_dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="100GB")
    inner = Tokenizer(models.WordLevel({"<|endoftext|>": 0, **{f"w{i}": i for i in range(1, 1000)}}, "<|endoftext|>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|endoftext|>").save_pretrained(folder)


def text(path, examples):
    words = (f"w{1 + (17 * i + i // 7) % 999}" for i in range(SEQ * examples))
    path.write_text(" ".join(words) + "\n")


def measured(command, **options):
    """Output and peak resident memory, in bytes, of a process."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: failed with {status}")
    return output, usage.ru_maxrss * 1024


def ours(program, model, work, steps, threads, more):
    output = work / "ours"
    _, peak = measured(
        [str(program), *f"--model_name_or_path {model} --use_lora --train_file {work / 'train.txt'} --do_train --block_size {SEQ} "
         f"--per_device_train_batch_size 1 --max_steps {steps} --logging_steps 1 --save_strategy no --dataloader_num_workers 1 "
         f"--device cpu --report_to none --output_dir {output} --overwrite_output_dir --data_cache_dir {work / 'cache'}".split(),
         *more],
        env={**os.environ, "RAYON_NUM_THREADS": str(threads)}, stderr=subprocess.DEVNULL)
    records = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return peak, [record["tokens_per_second"] for record in records if "tokens_per_second" in record][-steps:]


def peft(model, steps, threads, dtype):
    command = [sys.executable, __file__, "--peft", str(model), str(steps), str(threads), dtype]
    output, peak = measured(command, stderr=subprocess.DEVNULL)
    return peak, json.loads(output.splitlines()[-1])


def train_with_peft(model, steps, threads, dtype):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(model, torch_dtype=getattr(torch, dtype))
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM"))
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-5)
    ids = (torch.arange(SEQ) * 17 % 999 + 1)[None]
    speeds = []
    for _ in range(int(steps)):
        begin = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        speeds.append(SEQ / (time.perf_counter() - begin))
    print(json.dumps(speeds))


def main():
    if sys.argv[1:2] == ["--peft"]:
        return train_with_peft(*sys.argv[2:])
    words, more = sys.argv[1:], []
    if "--" in words:
        words, more = words[:words.index("--")], words[words.index("--") + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["gpt2", "llama-1b"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    options = parser.parse_args(words)
    for size in options.sizes:
        work = options.folder.resolve() / size
        work.mkdir(parents=True, exist_ok=True)
        make(work / "model", size)
        text(work / "train.txt", options.steps)
        runs = {"run_clm": ours(options.program.resolve(), work / "model", work, options.steps, options.threads, more)}
        for dtype in ["bfloat16", "float32"]:
            runs[f"peft, {dtype}"] = peft(work / "model", options.steps, options.threads, dtype)
        for name, (peak, speeds) in runs.items():
            print(f"{size:10} {name:15} {peak / 2**30:6.2f} GiB  {statistics.median(speeds[1:]):8.1f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
