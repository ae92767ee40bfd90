#!/usr/bin/env bash
# Train one checkpoint on one file with Python's transformers and with our program, in paired, alternating runs, and
# print speed, memory and losses side by side; then load our output folder in Python and compare the logits.
set -euo pipefail

usage() {
    cat <<'TEXT'
scripts/compare_with_python.sh --task mlm|clm|plm --model FOLDER --train_file FILE [options] [-- ARGUMENTS FOR OUR PROGRAM]

  --setup_venv DIR   make a Python environment in DIR with scripts/compare/requirements.txt (7 GB), and use it
  --venv DIR         use an environment that exists
  --steps N          steps per run (20), of which --warmup N (5) are left out of the medians
  --rounds N         pairs of runs (3)
  --seq N --batch N  shape of a batch (128, 8)
  --line_by_line     one example per line (mlm)
  --results DIR      logs, models and summary.json (results/compare_TASK)
  --program FILE     our binary (default: built from this checkout with cargo build --release)
TEXT
}

fail() { echo "compare_with_python: $1" >&2; exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
task= venv= setup= program= results=
pass=() extra=()
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --line_by_line) pass+=("$1"); shift; continue ;;
        --) shift; extra=(-- "$@"); break ;;
        --*) (($# > 1)) || fail "$1 needs a value" ;;
        *) fail "unexpected argument $1 (see --help)" ;;
    esac
    case $1 in
        --task) task=$2 ;;
        --venv) venv=$2 ;;
        --setup_venv) setup=$2 ;;
        --program) program=$2 ;;
        --results) results=$2 ;;
        --model | --train_file | --steps | --warmup | --rounds | --seq | --batch) pass+=("$1" "$2") ;;
        *) fail "unknown option $1 (see --help)" ;;
    esac
    shift 2
done
[[ $task =~ ^(mlm|clm|plm)$ ]] || fail "--task must be mlm, clm or plm"

if [[ -n $setup ]]; then
    python3 -m venv "$setup"
    "$setup/bin/pip" install --quiet -r "$root/scripts/compare/requirements.txt"
    venv=$setup
fi
[[ -n $venv ]] || fail "say which Python to use: --venv DIR, or --setup_venv DIR to make one"
python=$venv/bin/python
[[ -x $python ]] || fail "there is no $python: make it with --setup_venv $venv"

if [[ -z $program ]]; then
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --bin "run_$task"
    program=${CARGO_TARGET_DIR:-$root/target}/release/run_$task
fi
results=${results:-$root/results/compare_$task}

export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true
python3 "$root/scripts/compare/compare.py" --task "$task" --python "$python" --program "$program" --results "$results" \
    "${pass[@]}" "${extra[@]}"

echo
cargo run --quiet --release --manifest-path "$root/Cargo.toml" -p lm-train --example logits -- \
    "$results/ours" "$results/ours.logits.safetensors"
"$python" "$root/scripts/compare/logits.py" --task "$task" "$results/ours" "$results/ours.logits.safetensors"
