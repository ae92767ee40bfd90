#!/usr/bin/env bash
# The `unsafe` code of the fast operations under Miri, which finds undefined behaviour: products in blocks, whose result
# several threads write to by pointer, and buffers that are filled before they count as initialised. Blocks are smaller
# there, so that there are several of them. Needs a nightly toolchain with miri, which rustup installs here. 8 minutes on
# a busy machine. The kernels of `gemm`, pages mapped from files and the allocator's option, which are calls into C, are
# beyond it.
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
