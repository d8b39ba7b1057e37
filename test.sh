#!/bin/sh
# test.sh [PART...]: install what is missing (as root), build, test.  Ends with "N passed, N failed".
#
# Parts:  house     rules of the source and of the binary      proofs    the pure core under sanitizers
#         live      real servers and clients, epoll build      beside    nutcracker and nutproxy, side by side
#         poll      as live, poll build                        asan      as live, under sanitizers
#         limits    bounds, time and health of servers         torture   the same load, every 23rd malloc denied
#         chaos     servers that fail in every way, under load tsan      chaos and workers, under the thread sanitizer
#         sim       histories on a simulated kernel            fuzz      targets of tests/fuzz, each so often
#         apps      today's client libraries, tests/clients    count     instructions of a request, against bench/
#
# Two parts run at a time; what a part says is printed when it has ended.  tests/part.sh has what each of them runs.
cd "$(dirname "$0")" || exit 1
all="asan live beside poll limits apps chaos tsan torture sim fuzz proofs count house"
parts=${*:-$all}
for part in $parts; do
    case " $all " in
    *" $part "*) ;;
    *)  echo "there is no part '$part': see the top of test.sh"
        exit 1 ;;
    esac
done
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

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
if ! make -j 2 nutproxy build/poll build/asan build/tsan build/torture build/proofs build/route build/counted \
    >"$tmp/make" 2>&1; then
    cat "$tmp/make"
    echo "0 passed, 1 failed"
    exit 1
fi
grep -E 'warning|stripped' "$tmp/make"

# shellcheck disable=SC2086
printf '%s\n' $parts | xargs -P 2 -I PART sh -c 'sh tests/part.sh PART "$1" >"$1/PART.out" 2>&1; cat "$1/PART.out"' sh "$tmp"

passed=0 failed=0
for part in $parts; do
    # A part that holds to no line of its own has failed.
    line=$(tail -n 1 "$tmp/$part.out" | grep -E '^[0-9]+ passed, [0-9]+ failed$' || echo "0 passed, 1 failed")
    p=${line%% passed*} f=${line##*, }
    f=${f%% failed*}
    [ "$f" -gt 0 ] && echo "part $part: $line"
    passed=$((passed + p)) failed=$((failed + f))
done
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
