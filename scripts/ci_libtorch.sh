#!/usr/bin/env bash
# What must hold of the feature `tch`, too large for .ci/run: sets libtorch up, builds, and checks the backend on the
# processor. Arguments go to scripts/setup_libtorch.sh; without any the set-up of this checkout is used, if there is one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TERM_COLOR=never RUST_BACKTRACE=1

stage() {
    local began=$SECONDS
    printf '\n=== %s\n' "$*"
    "$@"
    printf '=== %d s: %s\n' $((SECONDS - began)) "$*"
}

if (($# > 0)) || ! grep -qs LIBTORCH .cargo/config.toml; then
    stage scripts/setup_libtorch.sh "$@"
fi
stage cargo test --release --workspace --features tch --no-run
export LM_TEST_DEVICE=libtorch:cpu
stage cargo test --release --workspace --features tch --lib -- ops:: device::
stage cargo test --release --workspace --features tch --test run_mlm --test run_clm --test run_plm -- libtorch
stage cargo test --release --workspace --features tch --test reference
stage cargo test --release --workspace --features tch --test aten_calls
for task in mlm clm plm; do
    stage cargo run --release --features tch --bin run_$task -- configs/quickstart_$task.json --device libtorch:cpu \
        --output_dir results/libtorch_$task --report_to none
done
printf '\n=== %d s in all\n' "$SECONDS"
