#!/bin/sh
# install.sh PACKAGE...: install with apt what is not installed yet.  Needs root only if something is missing.
# Services that packages would start are not: the tests and the demonstration start their own.
missing=""
for p in "$@"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
echo "installing:$missing" >&2
if [ "$(id -u)" -ne 0 ]; then
    echo "as root: apt-get install$missing" >&2
    exit 1
fi
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy && chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086
if ! apt-get install -y --no-install-recommends $missing >"$log" 2>&1; then
    # The lists of packages may be missing or old.
    if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "these packages could not be installed:$missing" >&2
        rm -f "$log"
        exit 1
    fi
fi
rm -f "$log"
