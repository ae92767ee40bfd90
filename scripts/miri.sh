#!/usr/bin/env bash
# The `unsafe` code of the fast operations under Miri, which finds undefined behaviour: raw results of products, buffers
# that are filled before they count as initialised. Needs a nightly toolchain with miri, which rustup installs here. Long:
# the products were stopped after seven minutes, the panels after two, without a finding. Pages mapped from files and the allocator's option
# are calls into C, which Miri can't follow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rustup toolchain install nightly --profile minimal --component miri,rust-src

# Rayon's threads never end, and its deques keep pointers as integers and are written for tree borrows.
export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-tree-borrows -Zmiri-permissive-provenance" RAYON_NUM_THREADS=2
tests=(ops::fast::matmul ops::fast::buffer ops::fast::panels)
# The instructions are declared, since Miri finds none by itself.
if [[ $(uname -m) == x86_64 ]]; then
    export RUSTFLAGS="-Ctarget-feature=+avx2,+fma,+bmi2"
fi
cargo +nightly miri test -p lm-models --lib -- "${tests[@]}"
