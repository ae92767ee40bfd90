#!/usr/bin/env bash
# What processes joined by MPI cost: two ranks of one thread beside one process of two threads, on this machine, the bytes of a
# step, and the sum of as many values as the model has parameters beside the MPI library's own. Arguments are those of run_mlm that name the model, text and batch; without
# any, a new BERT of 6 layers of width 384 on the sample text.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folders=(/usr/lib/llvm-*/lib)
export LIBCLANG_PATH=${LIBCLANG_PATH-${folders[-1]}}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
cargo build --quiet --release --features mpi --bin run_mlm
program=${CARGO_TARGET_DIR:-target}/release/run_mlm
(($# > 0)) || set -- --model_type bert --train_tokenizer 8000 --max_seq_length 128 --train_file samples/train.txt \
    --config_overrides num_hidden_layers=6,hidden_size=384,num_attention_heads=6,intermediate_size=1536 \
    --per_device_train_batch_size 16
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
common=("$@" --do_train --max_steps 12 --logging_steps 1 --save_strategy no --report_to none --data_cache_dir "$work/cache")
# Turn by turn, since other work on the machine comes and goes.
for round in 1 2 3; do
    RAYON_NUM_THREADS=2 "$program" "${common[@]}" --gradient_accumulation_steps 2 --output_dir "$work/one-$round" >/dev/null
    mpirun -n 2 --bind-to core -x RAYON_NUM_THREADS=1 "$program" "${common[@]}" --output_dir "$work/two-$round" >/dev/null
done
python3 - "$work" <<'PYTHON'
import json, pathlib, statistics, sys
work = pathlib.Path(sys.argv[1])
def seconds(kind):
    steps = []
    for log in work.glob(f"{kind}-*/log.jsonl"):
        records = [json.loads(line) for line in log.read_text().splitlines()]
        # The first two warm up.
        steps += [record["step_seconds"] for record in records if "step_seconds" in record][2:]
    return statistics.median(steps)
one, two = seconds("one"), seconds("two")
print(f"one process of two threads {one:.3f} s a step, two ranks of one thread {two:.3f} s: efficiency {one / two:.2f}")
with open(work / "one-1/model.safetensors", "rb") as file:
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
# Of two ranks each sends half of its gradients and then half of the sums.
print(f"each rank sends {max(ends) / 1e6:.1f} MB a step and gets as many")
(work / "values").write_text(str(max(ends) // 4))
PYTHON
VALUES=$(cat "$work/values") cargo test --quiet --release --workspace --features mpi --lib -- --ignored --nocapture \
    dist::mpi::tests::beside
