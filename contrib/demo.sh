#!/bin/bash
# demo.sh: real servers on loopback, nutproxy in front of them with nutproxy.ini, a few commands going
# through it, and then it stays until Ctrl-C.  Run by `make run`.
cd "$(dirname "$0")/.." || exit 1
proxy=""
children=""
tmp=$(mktemp -d) || exit 1

leave() {
    trap - INT TERM EXIT
    # shellcheck disable=SC2086
    [ -n "$proxy$children" ] && kill $proxy $children 2>/dev/null
    wait
    rm -rf "$tmp"
    echo "stopped, with all that was started"
}
trap leave EXIT
trap 'exit 0' INT TERM

ports() {  # the ports of the servers of pool $1 in nutproxy.ini
    sed -n "/^\[$1\]/,/^\[/p" nutproxy.ini | sed -n 's/^    127\.0\.0\.1:\([0-9]*\):.*/\1/p'
}
answers() {  # whether somebody listens on port $1
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}
await() {  # wait until port $1 listens; $2 is who should
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        answers "$1" && return 0
        sleep 0.1
    done
    echo "$2 does not listen on port $1"
    cat "$tmp"/*.log 2>/dev/null
    exit 1
}

for port in $(ports alpha) $(ports beta) 22121 22122 22222; do
    if answers "$port"; then
        echo "port $port is in use: is a demonstration running already?"
        exit 1
    fi
done
for port in $(ports alpha); do
    redis-server --port "$port" --bind 127.0.0.1 --save "" --dir "$tmp" >"$tmp/redis-$port.log" 2>&1 &
    children="$children $!"
done
for port in $(ports beta); do
    memcached -l 127.0.0.1 -p "$port" -U 0 -u nobody >"$tmp/memcached-$port.log" 2>&1 &
    children="$children $!"
done
for port in $(ports alpha); do await "$port" redis-server; done
for port in $(ports beta); do await "$port" memcached; done
./nutproxy -c nutproxy.ini &
proxy=$!
await 22121 nutproxy

say() {  # a command, shown as it can be typed, and run
    printf '\n$ %s\n' "$1"
    eval "$1"
}
mc() {  # say $2 to a memcached server on port $1, and print the answer
    exec 3<>"/dev/tcp/127.0.0.1/$1"
    printf '%b' "$2quit\r\n" >&3
    tr -d '\r' <&3
    exec 3<&-
}
printf '\nRedis clients talk to port 22121, as if it were one server:\n'
say "redis-cli -p 22121 SET greeting 'hello from four servers'"
say 'redis-cli -p 22121 GET greeting'
say 'redis-cli -p 22121 MSET apple 1 banana 2 cherry 3 date 4 elder 5 fig 6 grape 7 hazel 8'
say 'redis-cli -p 22121 MGET apple banana cherry date elder fig grape hazel'
say 'redis-cli -p 22121 EXISTS apple hazel nosuch'
printf '\nand the keys are here:\n'
for port in $(ports alpha); do
    printf '  127.0.0.1:%s  %s\n' "$port" "$(redis-cli -p "$port" --raw KEYS '*' | sort | xargs)"
done
printf '\nmemcached clients talk to port 22122:\n'
for line in 'set colour 0 0 5\r\ngreen\r\n' 'set shape 0 0 6\r\nsquare\r\n' 'get colour shape size\r\n'; do
    printf '\n> %s\n' "${line//\\r\\n/  }"
    mc 22122 "$line"
done
printf '\nand the keys are here:\n'
for port in $(ports beta); do
    printf '  127.0.0.1:%s  %s\n' "$port" "$(mc "$port" 'get colour shape\r\n' | grep -oE 'colour|shape' | xargs)"
done
printf '\nThe counters are on port 22222. nutproxy stays until you press Ctrl-C.\n'
wait "$proxy"
