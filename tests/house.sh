#!/bin/sh
# House rules that a machine can check.  A line for each, and "N passed, N failed" at the end.
cd "$(dirname "$0")/.." || exit 1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

rule() {  # rule SENTENCE WANT GOT
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
        printf 'ok    %s\n' "$1"
    else
        failed=$((failed + 1))
        printf 'FAIL  %s\n  want: %s\n  got:  %s\n' "$1" "$2" "$3"
    fi
}
room() {  # the text of room $1
    sed -n "/^ \* $1\. [A-Z]/,/^\/\* } $1 \*\//p" nutproxy.c
}
flags="-std=c11 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wvla -Wmissing-prototypes -Wstrict-prototypes"

# The order of the rooms is the dependency graph: nothing is declared before it is defined.
rule "no prototypes" "" "$(ctags --languages=C --kinds-C=p -x --_xformat=%N nutproxy.c)"
rule "the rooms stand in order, and each is closed" "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19" \
    "$(grep -oE '^/\* \} [0-9]+ \*/' nutproxy.c | grep -oE '[0-9]+' | xargs)"

for cc in gcc clang; do
    for define in NUT_NOTHING NUT_POLL NUT_CORE; do
        unused=""
        [ $define = NUT_CORE ] && unused="-Wno-unused-function -Wno-unused-const-variable"
        # shellcheck disable=SC2086
        rule "no warnings: $cc -D$define" "" \
            "$($cc $flags $unused -O2 -D$define -c nutproxy.c -o "$tmp/$cc.o" 2>&1)"
    done
done

# The core needs memory and a few functions on bytes; of the outside world only write, for texts that are printed.
gcc -O0 -w -fno-stack-protector -DNUT_CORE -c nutproxy.c -o "$tmp/core.o"
rule "the wall: what the core takes from outside" \
    "abort free ini_parse_stream malloc memchr memcmp memcpy memmove memrchr memset qsort strchr strchrnul strcmp strlen strnlen write" \
    "$(nm -u "$tmp/core.o" | awk '$2 != "_GLOBAL_OFFSET_TABLE_" { print $2 }' | sort | xargs)"

# Everything that can change at file scope is on this list.
gcc -O0 -fno-pie -w -c nutproxy.c -o "$tmp/all.o"
rule "mutable globals" "logger" \
    "$(nm "$tmp/all.o" | awk '$2 ~ /^[bBdDcC]$/ { sub(/\.[0-9]+$/, "", $3); print $3 }' | sort | xargs)"

rule "WIRE knows no outside" "" \
    "$(room 5 | grep -oE '\b(errno|send|recv|epoll|time|server|pool|log|conn|clock)_?[a-z_]*\(' | xargs)"
rule "CONFIG and YAML open nothing" "" "$( (room 7; room 8) | grep -oE '\b(fopen|open|getaddrinfo|exit)\(' | xargs)"
rule "REQUEST, ANSWER and CLIENT read and write nothing" "" "$( (room 14; room 15; room 16) | grep -oE '\b(read|write|recv|sendmsg|readv)\(' | xargs)"
rule "TOOLS run nothing" "" "$(room 18 | grep -oE '\b(socket|connect|getaddrinfo|address_[a-z]+|pthread_[a-z]+)\(' | xargs)"
rule "a client's password is compared by same_secret, and nothing else compares it" "2" \
    "$(grep -cE 'same_secret\(' nutproxy.c)$(grep -E '\b(memcmp|strn?cmp|bytes_same|same_word|starts_with)\([^;]*(redis_auth|ours|password)' nutproxy.c)"
rule "same_secret looks at every byte" "" \
    "$(sed -n '/^static bool same_secret/,/^}/p' nutproxy.c | grep -E '\b(if|break|goto|while|memcmp)\b|&&|\|\||return [^d]')"
# shellcheck disable=SC2086
rule "the header stands alone" "" "$(gcc $flags -fsyntax-only -x c nutproxy.h 2>&1)"
rule "what is visible outside the file begins with nut_" "" \
    "$(nm "$tmp/all.o" | awk '$2 ~ /^[TRDB]$/ && $3 !~ /^nut_/ && $3 != "main" { print $3 }' | xargs)"
rule "no line over 120 columns" "" \
    "$(awk 'length > 120 { print FILENAME ":" FNR }' nutproxy.c | xargs)"

# What the static binary is.
rule "at most 200 KiB, stripped" "" \
    "$(strip -R .comment -o "$tmp/stripped" nutproxy && find "$tmp/stripped" -size +204800c -printf '%s bytes')"
rule "static: no interpreter, no shared library" "" \
    "$(readelf -ld nutproxy | grep -E 'INTERP|NEEDED')"
rule "position-independent" "DYN" "$(readelf -h nutproxy | awk '/Type:/ { print $2 }')"
rule "the stack is not executable" "RW" "$(readelf -lW nutproxy | awk '/GNU_STACK/ { print $7 }')"
rule "what can be written cannot be run" "" \
    "$(readelf -lW nutproxy | awk '$1 ~ /^(LOAD|TLS|DYNAMIC|GNU_STACK|GNU_RELRO)$/ && / RWE | WE / { print }')"
rule "code stays as it is: no relocations in it" "" "$(readelf -dW nutproxy | grep -E 'TEXTREL')"
rule "no section is both written and run" "" \
    "$(readelf -SW nutproxy | sed 's/^ *\[ *[0-9]*\]//' | awk '$7 ~ /W/ && $7 ~ /X/ { print $1 }' | xargs)"
rule "relocations are read-only, and done at start" "GNU_RELRO NOW" \
    "$(readelf -ldW nutproxy | grep -oE 'GNU_RELRO|Flags: NOW' | sed 's/Flags: //' | sort -u | xargs)"
# Functions with an array of their own, or that give the address of a local, have a guard.
rule "the stack is protected" "yes" \
    "$([ "$(objdump -d nutproxy | grep -c '<__stack_chk_fail>$')" -ge 50 ] && echo yes)"
rule "it runs no other program and loads no code" "" \
    "$(nm nutproxy | awk '$3 ~ /^(dlopen|system|popen|posix_spawn|exec[lv].*|fexecve)$/ { print $3 }' | xargs)"

rule "nutproxy.ini is what --print-config prints" "" "$(./nutproxy --print-config | diff - nutproxy.ini 2>&1)"
if command -v shellcheck >/dev/null; then
    rule "the shell scripts are clean" "" "$(shellcheck -S warning test.sh tests/*.sh tests/fuzz/*.sh tests/clients/*.sh bench/*.sh contrib/*.sh .ci/run 2>&1)"
fi

# Printed for the reader, not enforced.
ctags --languages=C --kinds-C=f --fields=+ne -x --_xformat='%N %n %e' nutproxy.c | awk '{ print $3 - $2 + 1, $1 }' |
    sort -n | awk '{ n[NR] = $1; if ($1 > 60) long = long " " $2 " (" $1 ")" }
        END { printf "functions: %d, median %d lines, nine of ten within %d, longest %d; over 60:%s\n",
              NR, n[int((NR + 1) / 2)], n[int(NR * 0.9)], n[NR], long == "" ? " none" : long }'
awk '/^ *\/\*/ { c = 1 } { n++; if (c || /\/\*/) k++ } /\*\// { c = 0 }
    END { printf "lines: %d, of which %.2f with a comment\n", n, k / n }' nutproxy.c
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
