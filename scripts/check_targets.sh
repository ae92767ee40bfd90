#!/usr/bin/env bash
# Whether the code compiles for systems other than this one: clippy for each target, tests included.
#
#     scripts/check_targets.sh [TARGET]...
#
# By default Windows, macOS and Linux on ARM. Nothing is linked or run, so the C and assembler parts of
# crates are not compiled: a stand-in for the compiler writes empty files where they would lie. rustup fetches the standard
# libraries that are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
targets=("$@")
((${#targets[@]})) || targets=(x86_64-pc-windows-gnu aarch64-apple-darwin aarch64-unknown-linux-gnu)

# Their names stay the same, or crates with C parts would be checked anew each time.
tools=$PWD/target/stand_ins
mkdir -p "$tools"
cat >"$tools/compiler" <<'STAND_IN'
#!/bin/sh
# Writes an empty file after -o.
for word; do
    [ "${before-}" != -o ] || : >"$word"
    before=$word
done
STAND_IN
cat >"$tools/archiver" <<'STAND_IN'
#!/bin/sh
# Writes an empty library.
for word; do
    case $word in *.a | *.lib) : >"$word" ;; esac
done
STAND_IN
chmod +x "$tools"/{compiler,archiver}
# What asks Xcode for its folder of headers.
export SDKROOT=$tools

for target in "${targets[@]}"; do
    began=$SECONDS
    rustup target list --installed | grep -qx "$target" || rustup target add "$target"
    for tool in CC CXX; do
        export "${tool}_${target//-/_}=$tools/compiler"
    done
    export "AR_${target//-/_}=$tools/archiver"
    cargo clippy --locked --workspace --all-targets --target "$target" -- -D warnings
    printf '=== %d s: %s\n' $((SECONDS - began)) "$target"
done
