#!/usr/bin/env bash
# What must hold of the feature `wgpu`, on Mesa's software Vulkan, which stands in for a GPU: builds, and checks the
# reference numbers, training, saving and resuming there, and moving between it and the processor. --short, which .ci/run
# uses, builds without the processor's backend, without what keeps tuned kernels and with less optimisation, checks the
# reference numbers of a masked and a causal architecture and trains a step of run_mlm. A command after it runs once
# everything is built, beside these checks: software Vulkan keeps little more than one core busy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TERM_COLOR=never RUST_BACKTRACE=1

stage() {
    local began=$SECONDS
    printf '\n=== %s\n' "$*"
    "$@"
    printf '=== %d s: %s\n' $((SECONDS - began)) "$*"
}

# quick_start TASK PROGRAM ...: trains its model on the device.
quick_start() {
    local task=$1
    shift
    stage "$@" configs/quickstart_"$task".json --device wgpu "${length[@]}" --output_dir results/wgpu_"$task" \
        --overwrite_output_dir
}

short() {
    local features=(--release --config scripts/quick_wgpu.toml --no-default-features --features lm-train/wgpu)
    local test=(cargo test -p lm-train "${features[@]}" --test reference --no-run)
    # Batches of one size, since each has kernels of its own chosen.
    local length=(--max_steps 1 --per_device_train_batch_size 8 --per_device_eval_batch_size 8 --max_eval_samples 8)
    local target=${CARGO_TARGET_DIR:-target} failed=0 checks
    stage "${test[@]}"
    stage cargo build "${features[@]}" --bin run_mlm
    # The command beside may build others of the same names.
    mkdir -p "$target/wgpu"
    cp "$("${test[@]}" 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')" "$target/wgpu/reference"
    cp "$target/release/run_mlm" "$target/wgpu"
    {
        LM_TEST_DEVICE=wgpu stage "$target/wgpu/reference" roberta mistral
        quick_start mlm "$target/wgpu/run_mlm"
    } >"$target/wgpu/log" 2>&1 &
    checks=$!
    "$@" || failed=1
    wait "$checks" || failed=1
    cat "$target/wgpu/log"
    return $failed
}

long() {
    local features=(--release --features wgpu) length=(--max_steps 20 --max_eval_samples 64)
    local test=(cargo test --workspace "${features[@]}")
    stage "${test[@]}" --test reference --test run_mlm --test run_clm --test run_plm --no-run
    export LM_TEST_DEVICE=wgpu
    stage "${test[@]}" --test reference
    for name in run_mlm run_clm run_plm; do stage "${test[@]}" --test "$name" -- wgpu; done
    quick_start mlm cargo run "${features[@]}" --bin run_mlm --
    quick_start plm cargo run "${features[@]}" --bin run_plm --
    # Each token that samples are continued by is a new length, for which kernels are chosen anew.
    length+=(--max_new_tokens 1)
    quick_start clm cargo run "${features[@]}" --bin run_clm --
}

if ! compgen -G '/usr/share/vulkan/icd.d/*' >/dev/null; then
    apt-get update -q && apt-get install -qy --no-install-recommends mesa-vulkan-drivers
fi
# Without it Mesa complains on standard error.
if [[ -z ${XDG_RUNTIME_DIR-} ]]; then
    XDG_RUNTIME_DIR=$(mktemp -d)
    export XDG_RUNTIME_DIR
fi
case "${1-}" in
    "") long ;;
    --short)
        shift
        short "$@"
        ;;
    *) echo "usage: scripts/ci_wgpu.sh [--short [COMMAND ...]]" >&2; exit 2 ;;
esac
printf '\n=== %d s in all\n' "$SECONDS"
