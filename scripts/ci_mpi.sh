#!/usr/bin/env bash
# What must hold of the feature `mpi`: installs Open MPI and libclang where they are missing (Debian), builds the programs with
# it and trains with two, three and four processes on this machine. Arguments go to cargo, as --release.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TERM_COLOR=never
(($# > 0)) || set -- --release

stage() {
    local began=$SECONDS
    printf '\n=== %s\n' "$*"
    "$@"
    printf '=== %d s: %s\n' $((SECONDS - began)) "$*"
}

if ! command -v mpicc >/dev/null || ! compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null; then
    apt-get update -q && apt-get install -qy --no-install-recommends libopenmpi-dev openmpi-bin libclang-dev
fi
# Where more than one is installed, the newest.
folders=(/usr/lib/llvm-*/lib)
export LIBCLANG_PATH=${LIBCLANG_PATH-${folders[-1]}}
tests=(--test run_mlm --test run_clm --test run_plm)
stage cargo test "$@" --workspace --features mpi --lib "${tests[@]}" --no-run
stage cargo test "$@" --workspace --features mpi --lib -- dist::
stage cargo test "$@" --workspace --features mpi "${tests[@]}" -- mpi::
printf '\n=== %d s in all\n' "$SECONDS"
