#!/bin/sh
# The real programs that the end-to-end tests run: installed where that is allowed, else named.
# With CI=true a missing one is a failure; otherwise the tests that need it are skipped and say so.
set -eu
missing=""
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }
have prometheus || missing="$missing prometheus"
have amtool || missing="$missing prometheus-alertmanager"
have nginx || missing="$missing nginx-light"
have systemd-analyze || missing="$missing systemd"
have strace || missing="$missing strace"
have git || missing="$missing git"
have ip || missing="$missing iproute2"
have faketime || missing="$missing faketime"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing$missing"
    apt-get update -qq
    # Services are not wanted, only programs: a policy that refuses to start them.
    policy=/usr/sbin/policy-rc.d
    made=""
    if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"; made=yes; fi
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null || status=$?
    [ -z "$made" ] || rm -f "$policy"
    exit "${status:-0}"
fi
echo "not installed:$missing (sudo apt-get install$missing)" >&2
[ "${CI:-}" != true ]
