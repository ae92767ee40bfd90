#!/usr/bin/env bash
# What must hold of the feature `wgpu`, on Mesa's software Vulkan, which stands in for a GPU: builds, and checks the
# reference numbers, training, saving and resuming there, and moving between it and the processor.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
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
LM_TEST_DEVICE=wgpu stage cargo test --workspace --features wgpu --test reference
stage cargo test --workspace --features wgpu --test resume --test wgpu -- wgpu
for task in mlm clm plm; do
    stage cargo run --features wgpu --bin run_$task -- configs/quickstart_$task.json --device wgpu \
        --max_steps 20 --output_dir results/wgpu_$task --overwrite_output_dir
done
printf '\n=== %d s in all\n' "$SECONDS"
