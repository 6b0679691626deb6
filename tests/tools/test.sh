#!/bin/bash
# Runs the required tests and says how long each part took. Nothing is skipped: a part that
# cannot run is red. Later parts run even where an earlier one was red, so that one run tells all.
#
#   test.sh all                 install, build, cargo test, client suite
#   test.sh rust                build, cargo test
#   test.sh clients [PYTEST…]   install, build, client suite (files or options of pytest)
#   test.sh heavy [PYTEST…]     install, build, ignored Rust tests, heavy client tests
#
# Environment: CARGO, CARGO_TARGET_DIR, CLIENT_WORKERS (how many pytest processes; default 2),
# PROGRAM (the program under test; default target/release/mocks3).
set -uo pipefail
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
report=() red=0

part() { # NAME COMMAND...
  local name=$1 start=$SECONDS verdict=passed
  shift
  echo "== $name"
  "$@" || { verdict=RED; red=1; }
  report+=("$(printf '%-28s %5.1f min  %s' "$name" "$(minutes $((SECONDS - start)))" "$verdict")")
  [ "$verdict" = passed ]
}

minutes() { echo "$(($1 / 60)).$(($1 % 60 * 10 / 60))"; }

finish() {
  printf '== minutes per part\n'
  printf '%s\n' "${report[@]}"
  exit "$red"
}

build() { "$cargo" build --release --bins; }
rust() { "$cargo" test --release; }
rust_heavy() { "$cargo" test --release -- --ignored; }

pytest_with() { # FOLDER ARGUMENTS...
  local folder=$1
  shift
  PROGRAM=${PROGRAM:-$(realpath -m "$target")/release/mocks3} PATH=$PWD/.deps/bin:$PWD/.deps/venv/bin:$PATH \
    .deps/venv/bin/python -m pytest --rootdir tests/clients -c tests/clients/pytest.ini \
    "$@" $folder
}

clients() {
  # Files or folders among the arguments replace the whole suite.
  local argument
  for argument in "$@"; do [ -e "${argument%%::*}" ] && { pytest_with "" "$@"; return; }; done
  pytest_with tests/clients -n "${CLIENT_WORKERS:-2}" --dist loadfile "$@"
}

clients_heavy() { pytest_with tests/clients/heavy "$@"; }

what=${1:-all}
shift || true
case $what in
  all)
    part install tests/tools/install.sh clients consul || finish
    part build build || finish
    part "cargo test" rust
    part "client suite" clients
    ;;
  rust)
    part build build || finish
    part "cargo test" rust
    ;;
  clients)
    part install tests/tools/install.sh clients consul || finish
    part build build || finish
    part "client suite" clients "$@"
    ;;
  heavy)
    part install tests/tools/install.sh clients consul || finish
    part build build || finish
    part "cargo test, ignored ones" rust_heavy
    part "heavy client tests" clients_heavy "$@"
    ;;
  *)
    sed -n '2,10p' "$0" >&2
    exit 2
    ;;
esac
finish
