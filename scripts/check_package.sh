#!/usr/bin/env bash
# Installs the wheel that scripts/package.py made into an empty virtual environment, unpacks the archive, and runs the
# programs of both:
#
#     scripts/check_package.sh [FOLDER [RUNNER]...]
#
# FOLDER is target/package by default. RUNNER starts programs of another processor: qemu-aarch64-static -L /usr/aarch64-linux-gnu
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-target/package}
(($# == 0)) || shift
shopt -s nullglob
wheels=("$folder"/*.whl) archives=("$folder"/*.tar.xz)
((${#wheels[@]} == 1 && ${#archives[@]} == 1)) || {
    echo "check_package: one wheel and one archive are expected in $folder, there are ${#wheels[@]} and ${#archives[@]}" >&2
    exit 1
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python=$(command -v python3 || command -v python)
"$python" -m venv "$scratch/venv"
installed=$scratch/venv/bin
[[ -d $installed ]] || installed=$scratch/venv/Scripts
install=("$installed/python" -m pip install --quiet --no-index --disable-pip-version-check)
if (($#)); then
    # pip refuses what this machine cannot run, unless it is told where it goes and for whom.
    platform=${wheels[0]##*-none-}
    install+=(--target "$scratch/wheel" --platform "${platform%.whl}" --only-binary :all:)
    installed=$scratch/wheel/bin
fi
"${install[@]}" "${wheels[0]}"
"$python" -m tarfile -e "${archives[0]}" "$scratch"
unpacked=("$scratch"/run-lm-*)
head -n 40 samples/train.txt >"$scratch/text.txt"
for bin in "$installed" "${unpacked[0]}"; do
    for program in run_mlm run_clm run_plm; do
        "$@" "$bin/$program" --version
    done
    "$@" "$bin/run_mlm" --model_type bert --train_tokenizer 300 \
        --config_overrides hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32 \
        --train_file "$scratch/text.txt" --max_seq_length 32 --do_train --max_steps 2 --report_to none \
        --output_dir "$scratch/out" --overwrite_output_dir >/dev/null
    test -s "$scratch/out/model.safetensors"
done
for file in LICENSE THIRD_PARTY_LICENSES README.md man/man1/run_clm.1 completions/bash/run_mlm.bash completions/zsh/_run_plm; do
    test -s "${unpacked[0]}/$file"
done
limit=$((15 * 1000 * 1000)) size=$(wc -c <"${archives[0]}")
((size <= limit)) || { echo "check_package: the archive takes $size bytes, more than $limit" >&2; exit 1; }
echo "the wheel and the archive ($size bytes) work"
