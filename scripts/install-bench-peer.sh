#!/bin/sh
# The exporter that `make bench` measures beside ours, unpacked into a cache folder and never installed:
# Debian unstable's, else that of this machine's own release. apt finds the mirror, checks its signature and the
# package's digest; its state here is private, so the machine's own lists stay as they are.
set -eu
package=prometheus-blackbox-exporter
cache=${WATCHBILL_BENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/watchbill-bench}
[ ! -x "$cache/root/usr/bin/$package" ] || exit 0
for program in apt-get dpkg-deb; do
    command -v $program >/dev/null 2>&1 || { echo "no $program: put $package into PATH to measure beside it" >&2; exit 0; }
done
mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN)' 'Created-By: Packages' |
    awk '($2 == "Debian" || $1 ~ /\/debian\/?$/) && $1 !~ /security/ { print $1; exit }')
[ -n "$mirror" ] || { echo "apt knows no Debian mirror: put $package into PATH to measure beside it" >&2; exit 0; }
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
release=$(. /etc/os-release; echo "${VERSION_CODENAME:-stable}")

# With $1 the release; the package ends up in $cache/root.
unpack() {
    apt=$cache/apt-$1
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
    echo "deb [signed-by=$keyring] $mirror $1 main" > "$apt/sources.list"
    set -- -qq -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State=$apt/state" \
        -o "Dir::State::status=/var/lib/dpkg/status" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User= \
        -o Acquire::Languages=none
    (cd "$apt" && apt-get "$@" update && apt-get "$@" download $package) || return 1
    dpkg-deb -x "$apt"/${package}_*.deb "$cache/root.new" && mv "$cache/root.new" "$cache/root"
}

unpack unstable || unpack "$release" || { echo "$package could not be fetched: only Watchbill is measured" >&2; exit 0; }
rm -rf "$cache"/apt-*
"$cache/root/usr/bin/$package" --version 2>&1 | head -n 1
