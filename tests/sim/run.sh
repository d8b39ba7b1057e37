#!/bin/sh
# run.sh [N [FROM]]: play N histories (1500), from seed FROM (1) on: see sim.c.  "N passed, N failed" at the end.
cd "$(dirname "$0")/../.." || exit 1
if ! make -s build/sim; then
    echo "0 passed, 1 failed"
    exit 1
fi
build/sim -n "${1:-1500}" -from "${2:-1}"
