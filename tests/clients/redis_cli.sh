#!/bin/sh
# redis-cli, with RESP2 or RESP3: redis_cli.sh PORT direct|proxy -2|-3
# Prints each command and its reply, as a person would see it: see transcript.py.
port=$1 mode=$2 protocol=$3

cli() {
    redis-cli "$protocol" --no-raw -h 127.0.0.1 -p "$port" "$@" 2>&1
}
kind() {  # of an error only its first words
    sed 's/^\((error) [^ ]* [^ ]* [^ ]*\).*/\1/'
}

cli <<'END' | kind
PING
ECHO hello
SELECT 0
CLIENT SETNAME app
CLIENT GETNAME
SET alive yes
GET alive
GET none
SET alive yes EX 1000 GET
TTL none
PERSIST alive
INCRBY counter 41
INCRBYFLOAT counter 0.5
GETDEL counter
HSET hash a 1 b 2
HGETALL hash
HRANDFIELD none 2 WITHVALUES
RPUSH list a b c
LRANGE list 0 -1
LPOP list 2
SADD set x
SMEMBERS set
SISMEMBER set x
ZADD zset 1.5 a 2 b
ZRANGE zset 0 -1 WITHSCORES
ZSCORE zset a
ZADD zset INCR 0.25 a
ZMSCORE zset a none
ZRANK zset none
GEOADD geo 13.4 52.5 b
GEOPOS geo b none
XADD stream 1-1 field value
XRANGE stream - +
XREAD STREAMS stream 0
XGROUP CREATE stream group 0
XREADGROUP GROUP group me COUNT 1 STREAMS stream >
XINFO GROUPS stream
XACK stream group 1-1
EVAL "return {KEYS[1], ARGV[1], 7, false, {ok='fine'}}" 1 k v
EVAL "redis.setresp(3); return {double=1.5}" 1 k
EVAL "redis.setresp(3); return redis.call('hgetall', KEYS[1])" 1 hash
EVALSHA 0000000000000000000000000000000000000000 1 k
SCRIPT LOAD "return ARGV[1]"
EVALSHA 098e0f0d1448c0a81dafe820f66d460eb09263da 1 k1 a
EVALSHA 098e0f0d1448c0a81dafe820f66d460eb09263da 1 k2 b
SCRIPT EXISTS 098e0f0d1448c0a81dafe820f66d460eb09263da 0000000000000000000000000000000000000000
MSET a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8
MGET a b c d e f g h none
EXISTS a b c d none
DBSIZE
DEL a b c d e f g none
TOUCH h none
OBJECT ENCODING h
INCR list
GET
NOSUCHCOMMAND x
INCR alive
GET alive
END

for words in MULTI 'BLPOP empty 1' 'WATCH alive' 'XREAD BLOCK 1 STREAMS stream $'; do
    said=refused
    if [ "$mode" = proxy ]; then
        # shellcheck disable=SC2086
        said=$(cli $words | sed 's/.*not served by this proxy.*/refused/')
    fi
    printf '%s: %s\n' "$words" "$said"
done
if [ "$mode" = proxy ]; then    # on a server, it would wait for messages
    timeout 5 redis-cli "$protocol" -p "$port" SUBSCRIBE channel 2>&1 |
        sed 's/.*not served by this proxy.*/SUBSCRIBE: refused/' | head -n 1
else
    echo 'SUBSCRIBE: refused'
fi
cli GET alive

# keys of all servers, however the replies are cut
i=0
while [ $i -lt 150 ]; do
    echo "SET key:$i value"
    i=$((i + 1))
done | redis-cli "$protocol" -p "$port" | sort | uniq -c
redis-cli "$protocol" -p "$port" --scan --pattern 'key:*' | sort -u | sha1sum
redis-cli "$protocol" -p "$port" --scan | sort -u | sha1sum
redis-cli "$protocol" -p "$port" KEYS 'key:1*' | sort | tr '\n' ' '
redis-cli "$protocol" -p "$port" INFO server | grep -c '^redis_version:'
seq 1 150000 | redis-cli "$protocol" -p "$port" -x SET big
redis-cli "$protocol" -p "$port" GET big | sha1sum
i=0
while [ $i -lt 100 ]; do
    printf '*3\r\n$3\r\nSET\r\n$%d\r\npipe:%d\r\n$1\r\nx\r\n' $((5 + ${#i})) $i
    i=$((i + 1))
done | redis-cli "$protocol" -p "$port" --pipe 2>&1 | tail -n 1
