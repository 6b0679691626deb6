#!/bin/bash
# Unpacks one Debian package below .deps/, without installing it: no root, no change to the
# machine's own packages, lists or dpkg database, and no maintainer script runs.
#
#   deb.sh DEPS SUITE PACKAGE [SHA256]
#
# The tree lands in DEPS/SUITE. With SHA256 the .deb must have exactly that hash (a pinned
# package); without it, apt's check against the suite's signed Release file is what protects us.
# The mirror is the one of this machine's apt sources; it is never spelled out here.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: deb.sh DEPS SUITE PACKAGE [SHA256]" >&2; exit 2; }
mkdir -p "$1"
deps=$(cd "$1" && pwd) suite=$2 package=$3 sha256=${4:-}
root=$deps/$suite have=$deps/$suite/.have/$package

if [ -f "$have" ] && { [ -z "$sha256" ] || [ "$(cut -d' ' -f2 "$have")" = "$sha256" ]; }; then
  exit 0
fi
for tool in apt-get apt-cache dpkg sha256sum; do
  command -v "$tool" > /dev/null || { echo "deb.sh: needs Debian's $tool to fetch $package" >&2; exit 1; }
done

# The first main archive, in the deb822 format (.sources) or the one-line format (sources.list).
mirror=$(sed -n 's/^URIs:[[:space:]]*\([^[:space:]]*\).*/\1/p' /etc/apt/sources.list.d/*.sources 2> /dev/null \
  | grep '/debian/\?$' | head -1 || true)
if [ -z "$mirror" ]; then
  mirror=$(sed -n 's/^deb[[:space:]]\+\(\[[^]]*\][[:space:]]*\)\?\([^[:space:]]*\).*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null | grep '/debian/\?$' | head -1 || true)
fi
[ -n "$mirror" ] || { echo "deb.sh: no Debian mirror in this machine's apt sources" >&2; exit 1; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keyring" ] || { echo "deb.sh: $keyring is missing (package debian-archive-keyring)" >&2; exit 1; }

state=$deps/.apt/$suite
mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/debs" "$root/.have"
echo "deb [signed-by=$keyring] $mirror $suite main" > "$state/sources.list"
touch "$state/status"
options=(
  -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status"
  -o Dir::Cache="$state/cache" -o Dir::Etc::preferences=/dev/null
  -o Dir::Etc::preferencesparts=/dev/null -o APT::Get::List-Cleanup=0
  -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3
  -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
)
if ! find "$state/lists" -maxdepth 1 -name '*Packages*' -mmin -1440 | grep -q .; then
  apt-get "${options[@]}" -qq update
fi
cd "$state/debs"
rm -f "${package}"_*.deb
apt-get "${options[@]}" -qq download "$package"
found=$(sha256sum "${package}"_*.deb | cut -c1-64)
if [ -n "$sha256" ] && [ "$found" != "$sha256" ]; then
  echo "deb.sh: $package of $suite has sha256 $found, pinned is $sha256" >&2
  exit 1
fi
dpkg -x "${package}"_*.deb "$root"
echo "$(dpkg-deb -f "${package}"_*.deb Version) $found" > "$have"
echo "deb.sh: $package $(cat "$have")"
