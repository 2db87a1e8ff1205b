#!/bin/sh
# Fuzzes the parsers for the given number of seconds (60 by default); needs dtc and a C++ compiler.
set -eu
cd "$(dirname "$0")"
mkdir -p corpus
for dts in ../*.dts; do
	dtc -q -q -I dts -O dtb -o "corpus/$(basename "$dts" .dts).dtb" "$dts"
done
# The instrumentation that cargo-fuzz would ask for; every part of it works on stable.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing" \
	cargo build --release --target "$(rustc -vV | sed -n 's/^host: //p')"
exec target/"$(rustc -vV | sed -n 's/^host: //p')"/release/bulkhead-manifests-fuzz -max_total_time="${1:-60}" -max_len=8192 corpus
