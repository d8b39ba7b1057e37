#!/bin/sh
# The tools of libmemcached (text, and binary, which is refused): libmemcached_tools.sh PORT direct|proxy
# Prints a line for each step, what was done and what came back: see transcript.py.
port=$1 mode=$2
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

step() {  # step TOOL ARGUMENTS...: its exit status, and what it said; big things as a checksum
    tool=$1
    shift
    "$tool" --servers="127.0.0.1:$port" "$@" >out 2>&1
    status=$?
    if [ "$(wc -c <out)" -gt 200 ]; then
        said="$(wc -c <out) bytes, $(sha1sum <out)"
    else
        said=$(sed "s/127.0.0.1:$port/SERVER/g; s/(0x[0-9a-f]*)//g; s/libmemcached.*cc:[0-9]*//" out | tr '\n' ' ')
    fi
    printf '%s %s: %s, %s\n' "$tool" "$*" "$status" "$said"
}
alive() {
    step memccat alive
}
refused() {  # refused TOOL ARGUMENTS...: it must fail, and in time; a server alone is not asked
    if [ "$mode" = proxy ]; then
        timeout 5 "$1" --servers="127.0.0.1:$port" $2 $3 >out 2>&1
        status=$?
        if [ $status = 0 ] || [ $status = 124 ]; then
            printf '%s: NOT REFUSED, %s: %s\n' "$*" "$status" "$(head -c 300 out)"
            return
        fi
    fi
    printf '%s: refused\n' "$*"
    alive
}

printf 'yes' >alive
printf '\r\nEND\r\nVALUE x 0 1\r\n' >crlf
: >empty
i=0
while [ $i -lt 45000 ]; do
    echo "line number $i ..."
    i=$((i + 1))
done >big

step memcping
step memccp alive crlf empty
step memccp big
alive
step memccat crlf
step memccat empty
step memccat big
step memccat none
step memccat alive crlf none
step memcexist alive
step memcexist none
step memctouch --expire=1000 alive
step memctouch --expire=1000 none
step memccp --add alive
step memccp --replace alive
step memccp --buffer alive
step memccp --non-blocking alive
step memcrm crlf
step memcrm crlf
step memccat crlf
step memcstat --server-version
refused memcflush
refused memcping --binary
refused memccp --binary alive
