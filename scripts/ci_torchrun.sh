#!/usr/bin/env bash
# What must hold of the features `gloo` and `nccl`, too large for .ci/run: installs Gloo's headers where they are missing
# (Debian), builds the programs, and trains with several processes of torchrun on this machine's processor. NCCL is built
# against the headers of NVIDIA's wheels and linked; on a machine with a GPU, one process runs it. libtorch must be set up
# (scripts/setup_libtorch.sh) and Python be the one that its wheel is for. Arguments go to cargo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export CARGO_TERM_COLOR=never

stage() {
    local began=$SECONDS
    printf '\n=== %s\n' "$*"
    "$@"
    printf '=== %d s: %s\n' $((SECONDS - began)) "$*"
}

libtorch=$(sed -n 's/^LIBTORCH = "\(.*\)"/\1/p' .cargo/config.toml 2>/dev/null) || true
[[ -n $libtorch ]] || { echo 'ci_torchrun.sh: run scripts/setup_libtorch.sh first' >&2; exit 2; }
[[ -e /usr/include/gloo/context.h ]] || { apt-get update -q && apt-get install -qy --no-install-recommends libgloo-dev; }

# What Python needs to import that torch, and torchrun by its name.
tools=$PWD/target/torchrun
[[ -e $tools/lib/networkx ]] ||
    python3 -m pip install --quiet --disable-pip-version-check --no-compile --root-user-action ignore \
        --target "$tools/lib" filelock typing-extensions sympy networkx jinja2 fsspec numpy
mkdir -p "$tools/bin"
cat >"$tools/bin/torchrun" <<RUN
#!/bin/sh
PYTHONPATH=$libtorch/..:$tools/lib exec python3 -m torch.distributed.run "\$@"
RUN
chmod +x "$tools/bin/torchrun"
export PATH=$tools/bin:$PATH

tests=(--test run_mlm --test run_clm --test run_plm)
stage cargo test "$@" --workspace --features gloo --lib "${tests[@]}" --no-run
stage cargo test "$@" --workspace --features gloo --lib -- dist::
stage cargo test "$@" --workspace --features gloo "${tests[@]}" -- ranks::
stage cargo build "$@" --workspace --features gloo,nccl --bins
if command -v nvidia-smi >/dev/null; then
    stage cargo test "$@" --workspace --features gloo,nccl --lib -- --ignored dist::c10d
fi
printf '\n=== %d s in all\n' "$SECONDS"
