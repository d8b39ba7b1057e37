#!/bin/sh
# count.sh [--record]: how many instructions a request takes in nutproxy itself, by shape.
#
# build/instructions runs each shape with 1000 and with 2000 requests under callgrind; the difference, a
# thousand requests, has no start in it.  Fails where a count is more than a tenth above the one recorded
# in instructions.txt; --record renews that.  Counts depend on the compiler: they are of Debian 12's.
cd "$(dirname "$0")/.." || exit 1
if [ $# -gt 1 ] || { [ $# -eq 1 ] && [ "$1" != --record ]; }; then
    echo "count.sh [--record]: see its first lines" >&2
    exit 1
fi
make -s build/instructions || exit 1
recorded=bench/instructions.txt
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

collected() {  # collected SHAPE N: instructions of the whole run
    valgrind --tool=callgrind --callgrind-out-file="$tmp/out" build/instructions "$1" "$2" 2>"$tmp/err" ||
        { cat "$tmp/err" >&2; return 1; }
    awk '$1 == "summary:" || $1 == "totals:" { print $2; exit }' "$tmp/out"
}

for shape in $(build/instructions); do
    few=$(collected "$shape" 1000) && many=$(collected "$shape" 2000) || few='' many=''
    if [ -z "$few" ] || [ -z "$many" ]; then
        printf 'FAIL  %s was not counted\n' "$shape"
        failed=$((failed + 1))
        continue
    fi
    now=$(((many - few) / 1000))
    printf '%-14s %s\n' "$shape" "$now" >>"$tmp/now"
    before=$(awk -v shape="$shape" '$1 == shape { print $2 }' "$recorded" 2>/dev/null)
    if [ "$1" != --record ] && { [ -z "$before" ] || [ $((now * 10)) -gt $((before * 11)) ]; }; then
        printf 'FAIL  %-14s %s instructions a request, recorded: %s\n' "$shape" "$now" "${before:-none}"
        failed=$((failed + 1))
    else
        printf 'ok    %-14s %s instructions a request, recorded: %s\n' "$shape" "$now" "${before:-none}"
        passed=$((passed + 1))
    fi
done
[ "$1" = --record ] && [ "$failed" -eq 0 ] && cp "$tmp/now" "$recorded"
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
