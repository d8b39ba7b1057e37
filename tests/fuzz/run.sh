#!/bin/sh
# run.sh [SECONDS [TARGET...]]: build the targets that stand here, and run them.
#
# Without SECONDS it is a test: each runs on its seeds and on what once broke it (vectors), and then so often as
# stands below, always alike.  A line for each, and "N passed, N failed" at the end.
# With SECONDS each is run so long.  What it learns stays in build/corpus, and what breaks it in build/crashes.
cd "$(dirname "$0")/../.." || exit 1
seconds=$1
[ $# -gt 0 ] && shift
targets=$*
if [ -z "$targets" ]; then
    for file in tests/fuzz/*.c; do
        targets="$targets $(basename "$file" .c)"
    done
fi
programs=""
for name in $targets; do
    programs="$programs build/fuzz-$name"
done
# shellcheck disable=SC2086
make -s -j2 $programs || { echo "0 passed, 1 failed"; exit 1; }
export ASAN_OPTIONS="abort_on_error=1:detect_leaks=1:quarantine_size_mb=16" UBSAN_OPTIONS=print_stacktrace=1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

runs() {  # how often target $1 is run: a few seconds
    case $1 in
    resp_reply | mc_reply) echo 100000 ;;
    merge | mc_request)    echo 25000 ;;
    resp_request)          echo 10000 ;;
    stats | yaml | dns)    echo 5000 ;;
    ini)                   echo 2500 ;;
    conversation)          echo 1000 ;;
    *)                     echo 2000 ;;
    esac
}
options() {  # what all runs of target $1 have in common
    printf '%s' "-timeout=60 -rss_limit_mb=2048 -artifact_prefix=$artifacts"
    [ ! -f "tests/fuzz/$1.dict" ] || printf ' %s' "-dict=tests/fuzz/$1.dict"
}
corpora() {  # the folders of inputs that target $1 begins with
    for folder in "tests/fuzz/seeds/$1" "tests/fuzz/vectors/$1"; do
        [ ! -d "$folder" ] || printf '%s ' "$folder"
    done
}
outcome() {  # outcome GOOD TARGET WHAT: count it, and tell it; if it is bad, with the end of the output
    if [ "$1" -eq 1 ]; then
        passed=$((passed + 1))
        printf 'ok    %s: %s\n' "$2" "$3"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s: %s\n' "$2" "$3"
        grep -vE '^#[0-9]+.*(NEW|REDUCE|pulse)' "$tmp/out" | tail -n 60
        for input in "$artifacts"*; do
            [ ! -f "$input" ] || printf 'the input, in base64: %s\n' "$(base64 -w 0 "$input")"
        done
    fi
}
coverage() {  # how much of the code was seen: edges, and features
    grep -oE 'cov: [0-9]+ ft: [0-9]+' "$tmp/out" | tail -n 1
}
known_inputs() {  # target $1 on its seeds and vectors, if there can be any
    [ -n "$(corpora "$1")" ] || return
    files=$(find "tests/fuzz/seeds/$1" "tests/fuzz/vectors/$1" -type f 2>/dev/null | sort)
    count=$(printf '%s\n' "$files" | grep -c .)
    good=0
    # shellcheck disable=SC2046,SC2086
    build/fuzz-$1 $(options "$1") $files >"$tmp/out" 2>&1 && [ "$count" -gt 0 ] && good=1
    outcome $good "$1" "$count seeds and vectors"
}
fixed_runs() {  # target $1 so often, always alike
    many=$(runs "$1") good=0
    mkdir -p "$tmp/corpus"
    # shellcheck disable=SC2046
    "build/fuzz-$1" $(options "$1") -seed=1 -runs="$many" "$tmp/corpus" $(corpora "$1") >"$tmp/out" 2>&1 &&
        grep -q "^Done $many runs" "$tmp/out" && good=1
    outcome $good "$1" "$many executions, $(coverage)"
    rm -rf "$tmp/corpus"
}
long_run() {  # target $1 for so many seconds
    good=0
    mkdir -p "build/corpus/$1"
    # shellcheck disable=SC2046
    "build/fuzz-$1" $(options "$1") -max_total_time="$seconds" "build/corpus/$1" $(corpora "$1") >"$tmp/out" 2>&1 &&
        grep -q '^Done [0-9]* runs' "$tmp/out" && good=1
    done=$(sed -n 's/^Done \([0-9]*\) runs in \([0-9]*\) second.*/\1 executions in \2 s/p' "$tmp/out")
    outcome $good "$1" "$done, $(coverage)"
    for input in "$artifacts"*; do
        [ ! -f "$input" ] || echo "      it breaks on $input: build/fuzz-$1 $input"
    done
}

for name in $targets; do
    if [ -n "$seconds" ]; then
        mkdir -p "build/crashes/$name"
        artifacts=build/crashes/$name/
        long_run "$name"
    else
        mkdir -p "$tmp/crashes"
        artifacts=$tmp/crashes/
        known_inputs "$name"
        fixed_runs "$name"
        rm -rf "$tmp/crashes"
    fi
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
