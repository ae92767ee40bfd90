#!/usr/bin/env bash
# Writes the man pages of the three programs into a folder: scripts/man_pages.sh [FOLDER], by default target/man.
# PROFILE=dev takes debug builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-target/man}
mkdir -p "$folder"
for program in run_mlm run_clm run_plm; do
    cargo run --quiet --profile "${PROFILE:-release}" --bin "$program" -- --man_page >"$folder/$program.1.part"
    mv "$folder/$program.1.part" "$folder/$program.1"
done
