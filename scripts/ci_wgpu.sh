#!/usr/bin/env bash
# What must hold of the feature `wgpu`, on Mesa's software Vulkan, which stands in for a GPU: builds, and checks the
# reference numbers, training, saving and resuming there, and moving between it and the processor. --short, which .ci/run
# uses, builds without the processor's backend, without what keeps tuned kernels and with less optimisation, checks the
# reference numbers of a masked and a causal architecture and trains a step of run_mlm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
packages=(--workspace) features=(--release --features wgpu) tests=(reference run_mlm run_clm run_plm) families=() tasks=(mlm clm plm)
length=(--max_steps 20 --max_eval_samples 64)
case "${1-}" in
    "") ;;
    --short)
        packages=(-p lm-train) tests=(reference) families=(bert llama) tasks=(mlm)
        features=(--release --config scripts/quick_wgpu.toml --no-default-features --features lm-train/wgpu)
        # Batches of one size, since each has kernels of its own chosen.
        length=(--max_steps 1 --per_device_train_batch_size 8 --per_device_eval_batch_size 8 --max_eval_samples 8)
        ;;
    *) echo "usage: scripts/ci_wgpu.sh [--short]" >&2; exit 2 ;;
esac
export CARGO_TERM_COLOR=never RUST_BACKTRACE=1

stage() {
    local began=$SECONDS
    printf '\n=== %s\n' "$*"
    "$@"
    printf '=== %d s: %s\n' $((SECONDS - began)) "$*"
}

if ! compgen -G '/usr/share/vulkan/icd.d/*' >/dev/null; then
    apt-get update -q && apt-get install -qy --no-install-recommends mesa-vulkan-drivers
fi
# Without it Mesa complains on standard error.
if [[ -z ${XDG_RUNTIME_DIR-} ]]; then
    XDG_RUNTIME_DIR=$(mktemp -d)
    export XDG_RUNTIME_DIR
fi
stage cargo test "${packages[@]}" "${features[@]}" "${tests[@]/#/--test=}" --no-run
for name in "${tests[@]}"; do
    words=(wgpu)
    [[ $name != reference ]] || words=("${families[@]}")
    LM_TEST_DEVICE=wgpu stage cargo test "${packages[@]}" "${features[@]}" --test "$name" -- "${words[@]}"
done
for task in "${tasks[@]}"; do
    # Each token that samples are continued by is a new length, for which kernels are chosen anew.
    samples=()
    [[ $task != clm ]] || samples=(--max_new_tokens 1)
    stage cargo run "${features[@]}" --bin run_$task -- configs/quickstart_$task.json --device wgpu "${length[@]}" \
        "${samples[@]}" --output_dir results/wgpu_$task --overwrite_output_dir
done
printf '\n=== %d s in all\n' "$SECONDS"
