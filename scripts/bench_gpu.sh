#!/usr/bin/env bash
# BERT-base and GPT-2 (124 M) on a GPU, in bf16: tokens per second, share of the GPU's peak (MFU) and memory, beside
# Python's Trainer with and without torch.compile. Prints a table for each pair; figures go to results/bench_gpu/.
set -euo pipefail

usage() {
    cat <<'TEXT'
scripts/bench_gpu.sh --venv DIR [options]

  --venv DIR            Python with scripts/compare/requirements.txt
  --devices A,B         ours to measure (libtorch:cuda:0); wgpu:0 as well where the program has it
  --mlm NAME --clm NAME models, folders or names on the Hub (google-bert/bert-base-uncased, openai-community/gpt2)
  --train_file FILE     text (samples/train.txt)
  --batch N --seq N     shape of a batch (32, 512)
  --steps N --warmup N  steps per run, and how many of them are left out of the medians (40, 15)
  --rounds N            pairs of runs (2)
  --peak_tflops X       the GPU's dense bf16 peak; known for A100, H100, H200, L4, L40S, RTX 4090
  --float32             both programs in float32 instead of bf16
  --no_compile          Python without torch.compile only
  --programs DIR        folder of run_mlm and run_clm (default: built with --release --features tch)
TEXT
}

fail() { echo "bench_gpu: $1" >&2; exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv= programs= peak= devices=libtorch:cuda:0
mlm=google-bert/bert-base-uncased clm=openai-community/gpt2 train_file=$root/samples/train.txt
batch=32 seq=512 steps=40 warmup=15 rounds=2 precision=--bf16 modes=(eager compile)
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --float32) precision=; shift; continue ;;
        --no_compile) modes=(eager); shift; continue ;;
        --*) (($# > 1)) || fail "$1 needs a value" ;;
        *) fail "unexpected argument $1 (see --help)" ;;
    esac
    case $1 in
        --venv) venv=$2 ;;
        --devices) devices=$2 ;;
        --mlm) mlm=$2 ;;
        --clm) clm=$2 ;;
        --train_file) train_file=$2 ;;
        --batch) batch=$2 ;;
        --seq) seq=$2 ;;
        --steps) steps=$2 ;;
        --warmup) warmup=$2 ;;
        --rounds) rounds=$2 ;;
        --peak_tflops) peak=$2 ;;
        --programs) programs=$2 ;;
        *) fail "unknown option $1 (see --help)" ;;
    esac
    shift 2
done
[[ -n $venv ]] || fail "say which Python to use: --venv DIR"
[[ -x $venv/bin/python ]] || fail "there is no $venv/bin/python: make it with scripts/compare_with_python.sh --setup_venv $venv"

if [[ -z $peak ]] && command -v nvidia-smi >/dev/null; then
    case $(nvidia-smi --query-gpu=name --format=csv,noheader --id=0) in
        *H100* | *H200*) peak=989 ;;
        *A100*) peak=312 ;;
        *L40S*) peak=362 ;;
        *L4*) peak=121 ;;
        *"RTX 4090"*) peak=165 ;;
    esac
fi
if [[ -z $programs ]]; then
    features=tch
    [[ $devices == *wgpu* || $devices == *vulkan* ]] && features=tch,wgpu
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --features "$features" --bin run_mlm --bin run_clm
    programs=${CARGO_TARGET_DIR:-$root/target}/release
fi

for task in mlm clm; do
    [[ $task == mlm ]] && model=$mlm || model=$clm
    for device in ${devices//,/ }; do
        for mode in "${modes[@]}"; do
            echo "== $task on $device, Python $mode"
            python3 "$root/scripts/compare/compare.py" --task "$task" --model "$model" --train_file "$train_file" \
                --python "$venv/bin/python" --program "$programs/run_$task" --device "$device" \
                --batch "$batch" --seq "$seq" --steps "$steps" --warmup "$warmup" --rounds "$rounds" $precision \
                ${peak:+--peak_tflops "$peak"} $([[ $mode == compile ]] && echo --compile) \
                --results "$root/results/bench_gpu/${task}_${device//:/_}_$mode"
        done
    done
done
