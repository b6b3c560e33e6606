#!/bin/sh
# Debian ships Python without venv: install it where that is allowed, else say how.
set -eu
minor=$("${bin:-python3}" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing python3-venv"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "python$minor-venv" >/dev/null
else
    echo "Python's venv module is missing. Install it with: sudo apt-get install python$minor-venv" >&2
    exit 1
fi
