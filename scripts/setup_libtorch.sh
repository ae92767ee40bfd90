#!/usr/bin/env bash
# Installs libtorch for the feature `tch` and tells cargo where it is. Nothing outside the folder is touched, except
# .cargo/config.toml of this checkout, which git ignores.
#
#   scripts/setup_libtorch.sh [--cuda | --cpu] [FOLDER]     PyTorch's wheel into FOLDER, .libtorch by default
#   scripts/setup_libtorch.sh --existing FOLDER             a PyTorch that is installed: its virtual environment,
#                                                           site-packages, or the folder `torch` itself
#
# --cuda (the default on Linux) takes the wheel from PyPI, which computes on the processor too and needs about 7 GB.
# --cpu takes the small one from download.pytorch.org. Both need python3 with pip; --existing does not.
# TORCH_VERSION chooses another version than 2.9.1.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${TORCH_VERSION:-2.9.1}
variant=cuda
existing=
folder=
fail() { echo "setup_libtorch.sh: $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
    --cuda) variant=cuda ;;
    --cpu) variant=cpu ;;
    --existing) [ $# -gt 1 ] || fail "--existing needs a folder"; shift; existing=$1 ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) fail "unknown option $1; --help lists them" ;;
    *) [ -z "$folder" ] || fail "one folder, not $folder and $1"; folder=$1 ;;
    esac
    shift
done

if [ -n "$existing" ]; then
    [ -z "$folder" ] || fail "--existing takes the folder, $folder is one too many"
    torch=
    for candidate in "$existing" "$existing"/torch "$existing"/lib/python3*/site-packages/torch; do
        if compgen -G "$candidate/lib/libtorch_cpu.*" >/dev/null; then torch=$candidate; break; fi
    done
    [ -n "$torch" ] || fail "no lib/libtorch_cpu.so below $existing"
else
    folder=${folder:-.libtorch}
    command -v python3 >/dev/null || fail "python3 is needed to fetch the wheel; or give an installed one: --existing FOLDER"
    python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip: python3 -m ensurepip, or your system's python3-pip"
    export PIP_ROOT_USER_ACTION=ignore
    pip() { python3 -m pip install --quiet --disable-pip-version-check --no-compile --upgrade --target "$folder" "$@"; }
    if [ "$variant" = cpu ]; then
        pip --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==$version" ||
            fail "the small wheel could not be fetched from download.pytorch.org; --cuda takes the one from PyPI, which computes on the processor too"
    else
        pip --no-deps "torch==$version"
        # The libraries that the wheel is linked with, by themselves (2.9) or through NVIDIA's cuda-toolkit (2.11); the
        # rest of what it names is Python. All in one call: pip replaces the folder `nvidia` that they share.
        metadata=$folder/torch-$version.dist-info/METADATA
        mapfile -t libraries < <(sed -n 's/^Requires-Dist: \(nvidia-[^;]*\|cuda-toolkit[^;]*\).*/\1/p' "$metadata" | tr -d ' ()')
        # Two more have headers that the feature `nccl` is built with.
        case " ${libraries[*]} " in *-cu12*) libraries+=(nvidia-cuda-nvcc-cu12 nvidia-cuda-cccl-cu12) ;; esac
        [ ${#libraries[@]} -eq 0 ] || [ "$(uname -s)" != Linux ] || pip "${libraries[@]}"
    fi
    torch=$folder/torch
fi
torch=$(cd "$torch" && pwd)
[ -d "$torch/include/torch" ] || fail "$torch has the library and no headers: it is no complete PyTorch"
if command -v ldd >/dev/null && [ -e "$torch/lib/libtorch_cpu.so" ]; then
    missing=$(ldd "$torch/lib/libtorch_cpu.so" | awk '/not found/ { print $1 }' | sort -u | paste -sd ' ') || true
    [ -z "$missing" ] || fail "$torch does not load without $missing: install the packages that torch asks for beside it"
fi
found=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" "$torch/version.py" 2>/dev/null || cat "$torch/build-version" 2>/dev/null || echo unknown)

config=.cargo/config.toml
mark="# Written by scripts/setup_libtorch.sh."
lines="[env]
LIBTORCH = \"$torch\"
# tch 0.22 asks for 2.9.0 exactly; docs/backends.md lists the versions that work.
LIBTORCH_BYPASS_VERSION_CHECK = \"1\""
if [ -e $config ] && [ "$(head -1 $config)" != "$mark" ]; then
    echo "setup_libtorch.sh: $config is not ours; add these lines to it:" >&2
    echo "$lines"
    exit 1
fi
mkdir -p .cargo
printf '%s\n%s\n' "$mark" "$lines" >$config
echo "libtorch $found in $torch"
echo "cargo build --release --features tch"
