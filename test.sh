#!/bin/sh
# test.sh [PART...]: install what is missing (as root), build, test.  Ends with "N passed, N failed".
#
# Parts:  house     rules of the source and of the binary      proofs    the pure core under sanitizers
#         live      real servers and clients, epoll build      beside    nutcracker and nutproxy, side by side
#         poll      as live, poll build                        asan      as live, under sanitizers
#         torture   the same load, every 23rd malloc denied     apps      today's client libraries, tests/clients
#         fuzz      targets of tests/fuzz, each so often
#         count     instructions of a request, against bench/instructions.txt
cd "$(dirname "$0")" || exit 1
parts=${*:-house proofs fuzz count live apps beside poll asan torture}
for part in $parts; do
    case $part in
    house | proofs | fuzz | count | live | apps | beside | poll | asan | torture) ;;
    *)  echo "there is no part '$part': see the top of test.sh"
        exit 1 ;;
    esac
done
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

tally() {  # tally PART FILE: add up the line "N passed, N failed" that ends FILE
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$2" | tail -n 1)
    p=${line%% passed*} f=${line##*, }
    f=${f%% failed*}
    if [ -z "$line" ]; then
        p=0 f=1
        echo "$1: did not come to its end"
    fi
    passed=$((passed + p)) failed=$((failed + f))
}
run() {  # run PART COMMAND...
    part=$1
    shift
    printf '\n== %s\n' "$part"
    "$@" >"$tmp/out" 2>&1
    cat "$tmp/out"
    tally "$part" "$tmp/out"
}
pytests() {  # pytests NUTPROXY SLOW FILE...: run them, and tell the outcome in our own words
    program=$1 slow=$2
    shift 2
    NUTPROXY=$PWD/$program NUT_SLOW=$slow /usr/bin/python3 -m pytest -q -rs -p no:cacheprovider --tb=short \
        --junitxml="$tmp/junit.xml" "$@"
    /usr/bin/python3 - "$tmp/junit.xml" <<'PY'
import sys, xml.etree.ElementTree as tree
total = bad = skipped = 0
for suite in tree.parse(sys.argv[1]).iter("testsuite"):
    total += int(suite.get("tests"))
    bad += int(suite.get("failures")) + int(suite.get("errors"))
    skipped += int(suite.get("skipped"))
print("%d passed, %d failed" % (total - bad - skipped, bad))
PY
}

# Client libraries, for apps only.  Who has a node and an npm of another origin keeps them.
apps=""
case " $parts " in
*" apps "*)
    apps="python3-pylibmc python3-memcache libhiredis-dev php-cli php-redis php-predis php-memcached
        ruby ruby-redis ruby-dalli perl libredis-perl libcache-memcached-fast-perl"
    command -v node >/dev/null || apps="$apps nodejs"
    command -v npm >/dev/null || apps="$apps npm"
    ;;
esac
# shellcheck disable=SC2086
sh tests/install.sh gcc libc6-dev make musl-tools libinih-dev clang libclang-rt-14-dev binutils universal-ctags \
    shellcheck strace valgrind redis-server redis-tools memcached libmemcached-tools nutcracker procps curl \
    python3 python3-pytest python3-redis python3-pymemcache $apps || exit 1
if ! make nutproxy build/poll build/asan build/torture build/proofs build/route build/counted >"$tmp/make" 2>&1; then
    cat "$tmp/make"
    echo "0 passed, 1 failed"
    exit 1
fi
grep -E 'warning|stripped' "$tmp/make"

export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
for part in $parts; do
    case $part in
    house)   run house sh tests/house.sh ;;
    proofs)  run proofs build/proofs
             run vectors pytests nutproxy 1 tests/test_vectors.py ;;
    fuzz)    run fuzz sh tests/fuzz/run.sh ;;
    count)   run count sh bench/count.sh ;;
    live)    run live pytests nutproxy 1 tests/test_redis.py tests/test_memcached.py tests/test_failure.py \
                 tests/test_process.py tests/test_logs.py tests/test_reload.py tests/test_clients.py \
                 tests/test_steady.py tests/test_commands.py tests/test_flow.py tests/test_tools.py \
                 tests/test_workers.py tests/test_small.py tests/test_today.py tests/test_names.py \
                 tests/test_security.py ;;
    apps)    sh tests/clients/install.sh
             run apps pytests nutproxy 1 tests/test_apps.py ;;
    beside)  run beside pytests nutproxy 1 tests/test_routing.py tests/test_beside.py tests/test_consumers.py \
                 tests/test_convert.py ;;
    poll)    run poll pytests build/poll 1 tests/test_redis.py tests/test_memcached.py tests/test_failure.py \
                 tests/test_process.py tests/test_reload.py tests/test_flow.py tests/test_workers.py tests/test_today.py ;;
    asan)    run asan pytests build/asan 3 tests/test_redis.py tests/test_memcached.py tests/test_failure.py \
                 tests/test_process.py tests/test_reload.py tests/test_flow.py tests/test_convert.py \
                 tests/test_workers.py tests/test_today.py tests/test_names.py tests/test_security.py ;;
    torture) run torture pytests build/torture 3 tests/test_torture.py ;;
    esac
done
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
