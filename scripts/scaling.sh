#!/usr/bin/env bash
# How speed and memory grow with the length of a sequence, the batch and the threads, and what tokenizing costs: two
# markdown tables, printed and written to RESULTS/scaling.md. About half an hour on 2 cores.
set -euo pipefail

usage() {
    cat <<'TEXT'
scripts/scaling.sh [options]

  --model FOLDER     checkpoint with tokenizer (default: a new BERT of 6 layers of width 384, its tokenizer trained on the text)
  --train_file FILE  the text (samples/train.txt)
  --seqs "N N"       lengths of a sequence ("32 64 128 256 512 1024")
  --batches "N N"    sequences per batch ("1 8 64")
  --threads "N N"    threads ("1 2")
  --megabytes "N N"  sizes of the text to tokenize ("1 10 100")
  --steps N          steps per run (4), the first of which is left out
  --results DIR      logs, models and scaling.md (results/scaling)
  --program FILE     our binary (default: built from this checkout with cargo build --release)
TEXT
}

fail() { echo "scaling: $1" >&2; exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program= results=$root/results/scaling
pass=(--train_file "$root/samples/train.txt")
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --*) (($# > 1)) || fail "$1 needs a value" ;;
        *) fail "unexpected argument $1 (see --help)" ;;
    esac
    case $1 in
        --program) program=$2 ;;
        --results) results=$2 ;;
        --model | --train_file | --steps) pass+=("$1" "$2") ;;
        --seqs | --batches | --threads | --megabytes)
            read -ra numbers <<<"$2"
            pass+=("$1" "${numbers[@]}")
            ;;
        *) fail "unknown option $1 (see --help)" ;;
    esac
    shift 2
done
if [[ -z $program ]]; then
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --bin run_mlm
    program=${CARGO_TARGET_DIR:-$root/target}/release/run_mlm
fi
export HF_HUB_OFFLINE=1
exec python3 "$root/scripts/compare/scaling.py" --program "$program" --results "$results" "${pass[@]}"
