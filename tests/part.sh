#!/bin/sh
# part.sh PART TMP: run one part of the tests, of what ./test.sh has built.  Ends with "N passed, N failed".
cd "$(dirname "$0")/.." || exit 1
part=$1 tmp=$2
passed=0 failed=0

tally() {  # tally FILE: add up the line "N passed, N failed" that ends FILE
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$1" | tail -n 1)
    p=${line%% passed*} f=${line##*, }
    f=${f%% failed*}
    if [ -z "$line" ]; then
        p=0 f=1
        echo "$part: did not come to its end"
    fi
    passed=$((passed + p)) failed=$((failed + f))
}
run() {  # run COMMAND...
    "$@" >"$tmp/$part.run" 2>&1
    cat "$tmp/$part.run"
    tally "$tmp/$part.run"
}
pytests() {  # pytests NUTPROXY SLOW NAME...: run tests/test_NAME.py, and tell the outcome in our own words
    program=$1 slow=$2 files=""
    shift 2
    for name; do
        files="$files tests/test_$name.py"
    done
    # shellcheck disable=SC2086
    NUTPROXY=$PWD/$program NUT_SLOW=$slow /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider --tb=short \
        --junitxml="$tmp/$part.xml" $files
    /usr/bin/python3 - "$tmp/$part.xml" <<'PY'
import sys, xml.etree.ElementTree as tree
total = bad = skipped = 0
for suite in tree.parse(sys.argv[1]).iter("testsuite"):
    total += int(suite.get("tests"))
    bad += int(suite.get("failures")) + int(suite.get("errors"))
    skipped += int(suite.get("skipped"))
print("%d passed, %d failed" % (total - bad - skipped, bad))
PY
}
reports() {  # reports FILE: each FILE.* is a report of a sanitizer, and a failure, whatever the test saw of it
    for report in "$1".*; do
        [ -e "$report" ] || continue
        cat "$report"
        failed=$((failed + 1))
    done
}

export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS="log_path=$tmp/race halt_on_error=1 exitcode=66"
printf '\n== %s\n' "$part"
case $part in
house)   run sh tests/house.sh ;;
proofs)  run build/proofs
         run pytests nutproxy 1 vectors ;;
fuzz)    run sh tests/fuzz/run.sh ;;
sim)     run sh tests/sim/run.sh ;;
count)   run sh bench/count.sh ;;
live)    run pytests nutproxy 1 redis memcached failure process logs reload clients steady commands flow tools \
             workers small today names security ;;
limits)  run pytests nutproxy 1 limits health ;;
chaos)   run pytests nutproxy 1 chaos ;;
apps)    sh tests/clients/install.sh
         run pytests nutproxy 1 apps ;;
beside)  run pytests nutproxy 1 routing beside consumers convert ;;
poll)    run pytests build/poll 1 redis memcached failure process reload flow workers today health ;;
asan)    run pytests build/asan 3 redis memcached failure process reload flow convert workers today names security \
             health chaos ;;
tsan)    run pytests build/tsan 4 chaos workers
         reports "$tmp/race" ;;
torture) run pytests build/torture 3 torture ;;
esac
printf '%d passed, %d failed\n' "$passed" "$failed"
