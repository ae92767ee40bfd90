#!/usr/bin/env bash
# What must hold of the feature `wgpu`, on Mesa's software Vulkan, which stands in for a GPU: builds, and checks the
# reference numbers, training, saving and resuming there, and moving between it and the processor. With --short, which
# .ci/run uses, saving and resuming are left out and training is a few steps. 7 and 30 minutes after the build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
steps=20 tests=(reference resume wgpu)
case "${1-}" in
    "") ;;
    --short) steps=3 tests=(reference wgpu) ;;
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
stage cargo test --workspace --features wgpu --no-run
for name in "${tests[@]}"; do
    LM_TEST_DEVICE=wgpu stage cargo test --workspace --features wgpu --test "$name" $([[ $name == reference ]] || echo -- wgpu)
done
for task in mlm clm plm; do
    stage cargo run --features wgpu --bin run_$task -- configs/quickstart_$task.json --device wgpu --max_steps $steps \
        --max_eval_samples 64 --output_dir results/wgpu_$task --overwrite_output_dir
done
printf '\n=== %d s in all\n' "$SECONDS"
