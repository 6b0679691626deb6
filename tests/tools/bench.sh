#!/bin/bash
# Builds the program and the benches, and runs both. Arguments go to the S3 load driver
# (`--help` lists them); with any, the catalog's bench is left out.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
out=$target/bench
mkdir -p "$out"
# The benches first: with them cargo builds the program too, but with the features of the tests.
"$cargo" bench --no-run --bench s3 --bench metadata --bench commits
"$cargo" build --release --bins
cp "$target/release/mocks3" "$out/mocks3"
"$cargo" bench --bench s3 -- --program "$out/mocks3" --weed .deps/venv/bin/weed --out "$out" "$@"
[ $# -gt 0 ] && exit 0
"$cargo" bench --bench metadata -- --out "$out"
"$cargo" bench --bench commits -- --out "$out"
