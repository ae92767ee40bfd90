#!/usr/bin/env bash
# Tokenize and group many copies of a text with Python's `datasets` and with our program, in paired, alternating runs with
# a cold cache, and print the seconds of both processes.
set -euo pipefail

usage() {
    cat <<'TEXT'
scripts/compare_tokenizing.sh --venv DIR --model FOLDER --train_file FILE [options]

  --venv DIR      Python environment with scripts/compare/requirements.txt
  --copies N      copies of FILE (100)
  --rounds N      pairs of runs (3)
  --block N       tokens per block (128)
  --program FILE  our run_clm (default: built from this checkout with cargo build --release)
TEXT
}

fail() { echo "compare_tokenizing: $1" >&2; exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv= model= train_file= copies=100 rounds=3 block=128 program=
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --venv | --model | --train_file | --copies | --rounds | --block | --program)
            (($# > 1)) || fail "$1 needs a value"
            declare "${1#--}=$2"
            shift 2
            ;;
        *) fail "unknown option $1 (see --help)" ;;
    esac
done
[[ -x $venv/bin/python ]] || fail "--venv: there is no $venv/bin/python"
[[ -d $model ]] || fail "--model: there is no folder $model"
[[ -f $train_file ]] || fail "--train_file: there is no file $train_file"
if [[ -z $program ]]; then
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --bin run_clm
    program=${CARGO_TARGET_DIR:-$root/target}/release/run_clm
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
workers=$(nproc)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for ((copy = 0; copy < copies; copy++)); do cat "$train_file"; done >"$scratch/text.txt"

# seconds COMMAND…: what it takes, its output going to a file.
seconds() {
    local began=$EPOCHREALTIME
    "$@" >"$scratch/said" 2>&1 || { cat "$scratch/said" >&2; fail "this command failed: $*"; }
    awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }'
}
python() {
    seconds "$venv/bin/python" "$root/scripts/compare/tokenizing.py" --model "$model" --train_file "$scratch/text.txt" \
        --block "$block" --workers "$workers"
}
ours() {
    seconds env TOKENIZERS_PARALLELISM=true "$program" --tokenizer_name "$model" --train_file "$scratch/text.txt" \
        --block_size "$block" --preview 1 --overwrite_cache --data_cache_dir "$scratch/cache"
}

echo "$copies copies of $train_file, $(du -m "$scratch/text.txt" | cut -f1) MB, blocks of $block, $workers workers"
for ((round = 1; round <= rounds; round++)); do
    if ((round % 2)); then p=$(python); o=$(ours); else o=$(ours); p=$(python); fi
    echo "$p $o" >>"$scratch/figures"
    awk -v r="$round" '{ line = $0 } END { split(line, s); printf "round %d: Python %s s, ours %s s, %.1f times as fast\n", r, s[1], s[2], s[1] / s[2] }' \
        "$scratch/figures"
done
awk '{ print $1 / $2 }' "$scratch/figures" | sort -n |
    awk '{ r[NR] = $1 } END { printf "median: %.1f times as fast\n", NR % 2 ? r[(NR + 1) / 2] : (r[NR / 2] + r[NR / 2 + 1]) / 2 }'
