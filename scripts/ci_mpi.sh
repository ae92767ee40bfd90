#!/usr/bin/env bash
# What must hold of the feature `mpi`: installs Open MPI and libclang where they are missing (Debian), builds the programs with
# it and trains with two, three and four processes on this machine. --short, which .ci/run uses, builds with less optimisation
# and runs all tests with run_mlm, and of those with the others the ones that compare figures. Other arguments go to cargo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TERM_COLOR=never
others=(ranks::)
short=false
if [[ ${1-} == --short ]]; then
    shift
    short=true
    set -- --config scripts/quick_mpi.toml "$@"
    others=(ranks::two_ranks ranks::an_evaluation)
fi
set -- --release "$@"

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
stage cargo test "$@" --workspace --features mpi --lib --test run_mlm --test run_clm --test run_plm --no-run
stage cargo test "$@" --workspace --features mpi --lib -- dist::
stage cargo test "$@" --workspace --features mpi --test run_mlm -- ranks::
stage cargo test "$@" --workspace --features mpi --test run_clm --test run_plm -- "${others[@]}"
$short || stage cargo test "$@" --workspace --features mpi --test run_mlm --test run_clm --test run_plm -- --ignored ranks::
printf '\n=== %d s in all\n' "$SECONDS"
