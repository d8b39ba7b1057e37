#!/bin/sh
# install.sh: the npm packages of package-lock.json, and the scripts that use them, into build/clients.
# Nothing is fetched if they are there already.
cd "$(dirname "$0")" || exit 1
to=../../build/clients
mkdir -p $to || exit 1
cp ./*.mjs $to || exit 1                # they stand beside node_modules: import looks nowhere else
cmp -s package-lock.json $to/installed && exit 0
cp package.json package-lock.json $to || exit 1
echo "installing npm packages" >&2
log=$(mktemp)
if ! (cd $to && npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1; then
    grep -v 'WARN' "$log" | tail -n 20 >&2
    echo "the npm packages of tests/clients/package.json could not be installed" >&2
    rm -f "$log"
    exit 1
fi
rm -f "$log"
cp package-lock.json $to/installed
