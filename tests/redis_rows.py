"""The tables of test_redis.py: what is sent through the proxy and to a server.

{A} {B} {C} {D} stand for hash tags whose keys live on four different servers; words
are quoted as in a shell.  A row beginning with ~ has a reply that chance or the clock
decides: only its kind is compared.
"""
import hashlib

SCRIPT = "return {KEYS[1], ARGV[1]}"
SHA = hashlib.sha1(SCRIPT.encode()).hexdigest()
LIBRARY = """#!lua name=tests
redis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
redis.register_function{function_name='look', flags={'no-writes'},
    callback=function(keys, args) return redis.call('GET', keys[1]) end}
"""


def rows(table):
    return [line.strip() for line in table.strip().splitlines()]


# Every command that works with keys, with true values.
SERVED = {
    "keys": """
        SET {A}s value
        TYPE {A}s
        TYPE {A}none
        EXISTS {A}s {A}none {A}s
        EXPIRE {A}s 1000
        TTL {A}s
        EXPIRE {A}s 2000 NX
        EXPIRE {A}s 2000 GT
        ~PTTL {A}s
        PERSIST {A}s
        TTL {A}s
        PTTL {A}none
        PEXPIRE {A}s 1000000
        EXPIREAT {A}s 4102444800
        EXPIRETIME {A}s
        PEXPIREAT {A}s 4102444800123
        PEXPIRETIME {A}s
        COPY {A}s {A}s2
        COPY {A}s {A}s2
        COPY {A}s {A}s2 DB 0 REPLACE
        RENAME {A}s2 {A}s3
        RENAME {A}none {A}s3
        RENAMENX {A}s3 {A}s
        RENAMENX {A}s3 {A}s4
        DUMP {A}s4
        DUMP {A}none
        TOUCH {A}s {B}s {A}s4 {A}none
        OBJECT ENCODING {A}s
        OBJECT ENCODING {A}none
        OBJECT REFCOUNT {A}s
        ~OBJECT IDLETIME {A}s
        OBJECT FREQ {A}s
        MEMORY USAGE {A}s
        MEMORY USAGE {A}s SAMPLES 5
        MEMORY USAGE {A}none
        UNLINK {A}s {A}none
        DEL {A}s4 {B}none
        SET {A}m x
        MOVE {A}m 1
        MOVE {A}m 1
        RPUSH {A}l 3 1 2
        SORT {A}l
        SORT {A}l DESC LIMIT 0 2 STORE {A}sorted
        SORT {A}l BY nosort GET # STORE {A}sorted2
        SORT_RO {A}l ALPHA
        LRANGE {A}sorted 0 -1
        """,
    "strings": """
        SET {A}a 10
        SET {A}a 11 XX GET EX 1000
        SET {A}a 12 NX
        SET {A}a 12 KEEPTTL
        SETNX {A}b 1
        SETNX {A}b 2
        SETEX {A}c 1000 v
        PSETEX {A}c 1000000 w
        GET {A}c
        GET {A}none
        GETSET {A}c "hello world"
        GETEX {A}c PERSIST
        GETDEL {A}c
        APPEND {A}d Hello
        APPEND {A}d " World"
        STRLEN {A}d
        GETRANGE {A}d -5 -1
        SUBSTR {A}d 0 4
        SETRANGE {A}d 6 Redis
        GET {A}d
        INCR {A}a
        DECR {A}a
        INCRBY {A}a 100
        DECRBY {A}a 7
        INCRBYFLOAT {A}a 0.5
        INCR {A}d
        INCRBY {A}b 9223372036854775807
        MSET {A}x 1 {B}y 2 {C}z 3
        MGET {A}x {B}y {C}z {D}none {A}x
        MSETNX {A}x 1 {A}q 2
        MSETNX {A}p 1 {A}q 2
        SET {A}l1 ohmytext
        SET {A}l2 mynewtext
        LCS {A}l1 {A}l2
        LCS {A}l1 {A}l2 LEN
        LCS {A}l1 {A}l2 IDX MINMATCHLEN 4 WITHMATCHLEN
        GET {B}y extra
        HGET {B}y field
        """,
    "bits": """
        SETBIT {A}a 7 1
        SETBIT {A}a 100 1
        GETBIT {A}a 7
        BITCOUNT {A}a
        BITCOUNT {A}a 0 7 BIT
        BITPOS {A}a 1
        BITPOS {A}a 0 2 -1
        BITFIELD {A}f SET u8 0 200 INCRBY u8 0 100 OVERFLOW FAIL INCRBY u8 0 200
        BITFIELD_RO {A}f GET u8 0 GET i4 4
        SET {A}b abc
        BITOP AND {A}and {A}a {A}b
        BITOP NOT {A}not {A}b
        BITOP XOR {A}xor {A}a {A}b {A}none
        GET {A}xor
        BITOP NOPE {A}x {A}a
        """,
    "hashes": """
        HSET {A}h f1 v1 f2 v2 "f 3" ""
        HSETNX {A}h f1 x
        HMSET {A}h f4 4 f5 5.5
        HGET {A}h f1
        HGET {A}h none
        HMGET {A}h f1 none f4
        HGETALL {A}h
        HKEYS {A}h
        HVALS {A}h
        HLEN {A}h
        HEXISTS {A}h f1
        HSTRLEN {A}h f2
        HINCRBY {A}h f4 38
        HINCRBY {A}h f1 1
        HINCRBYFLOAT {A}h f5 1.25
        HSCAN {A}h 0 MATCH f* COUNT 100
        HDEL {A}h f1 f2 none
        HSET {A}one f v
        HRANDFIELD {A}one
        HRANDFIELD {A}one 5 WITHVALUES
        HRANDFIELD {A}none 5
        HGETALL {A}none
        """,
    "lists": """
        RPUSH {A}l a b c d e
        LPUSH {A}l z
        LPUSHX {A}none x
        RPUSHX {A}l f
        LLEN {A}l
        LINDEX {A}l 0
        LINDEX {A}l 99
        LRANGE {A}l 0 -1
        LRANGE {A}none 0 -1
        LINSERT {A}l BEFORE c bc
        LSET {A}l 0 Z
        LSET {A}l 99 Z
        LPOS {A}l c
        LPOS {A}l c COUNT 0
        LREM {A}l 0 bc
        LTRIM {A}l 0 4
        LPOP {A}l
        LPOP {A}l 2
        LPOP {A}none 2
        RPOP {A}l
        RPUSH {A}l 1 2 3 4 5 6
        RPOPLPUSH {A}l {A}m
        LMOVE {A}l {A}m LEFT RIGHT
        LMPOP 2 {A}none {A}l LEFT COUNT 2
        LMPOP 1 {A}none RIGHT
        """,
    "sets": """
        SADD {A}s 1 2 3 4
        SADD {A}t 3 4 5
        SCARD {A}s
        SISMEMBER {A}s 1
        SMISMEMBER {A}s 1 9 2
        SMEMBERS {A}s
        SMOVE {A}s {A}t 1
        SREM {A}s 2 9
        SSCAN {A}s 0
        SINTER {A}s {A}t
        SUNION {A}s {A}t {A}none
        SDIFF {A}t {A}s
        SINTERSTORE {A}i {A}s {A}t
        SUNIONSTORE {A}u {A}s {A}t
        SDIFFSTORE {A}d {A}t {A}s
        SINTERCARD 2 {A}s {A}t LIMIT 1
        SADD {A}one 7
        SRANDMEMBER {A}one
        SRANDMEMBER {A}one 3
        SRANDMEMBER {A}none 3
        SPOP {A}one
        SPOP {A}none
        SPOP {A}u 100
        """,
    "sorted sets": """
        ZADD {A}z 1 a 2 b 3.5 c inf d
        ZADD {A}z XX CH GT 2.5 a
        ZADD {A}y 10 b 20 c 30 e
        ZINCRBY {A}z 0.1 a
        ZADD {A}z INCR 1 b
        ZCARD {A}z
        ZCOUNT {A}z (1 +inf
        ZSCORE {A}z c
        ZSCORE {A}z none
        ZMSCORE {A}z a none d
        ZRANK {A}z b
        ZRANK {A}z none
        ZREVRANK {A}z b
        ZRANGE {A}z 0 -1 WITHSCORES
        ZRANGE {A}z 0 (5 BYSCORE REV LIMIT 0 1
        ZRANGEBYSCORE {A}z -inf +inf WITHSCORES LIMIT 1 2
        ZREVRANGEBYSCORE {A}z +inf 0
        ZREVRANGE {A}z 0 1
        ZADD {A}lex 0 a 0 b 0 c 0 d
        ZLEXCOUNT {A}lex - +
        ZRANGEBYLEX {A}lex [b (d
        ZREVRANGEBYLEX {A}lex + -
        ZREMRANGEBYLEX {A}lex [c +
        ZSCAN {A}z 0
        ZUNION 2 {A}z {A}y WITHSCORES
        ZINTER 2 {A}z {A}y WEIGHTS 2 3 AGGREGATE MAX WITHSCORES
        ZDIFF 2 {A}z {A}y WITHSCORES
        ZINTERCARD 2 {A}z {A}y LIMIT 1
        ZUNIONSTORE {A}u 2 {A}z {A}y
        ZINTERSTORE {A}i 2 {A}z {A}y AGGREGATE MIN
        ZDIFFSTORE {A}d 2 {A}z {A}y
        ZRANGESTORE {A}r {A}z 0 1
        ZREMRANGEBYRANK {A}u 0 0
        ZREMRANGEBYSCORE {A}u 20 25
        ZREM {A}z a none
        ZPOPMIN {A}y
        ZPOPMAX {A}y 2
        ZPOPMIN {A}none 3
        ZMPOP 2 {A}none {A}z MIN COUNT 2
        ZMPOP 1 {A}none MAX
        ZADD {A}one 1 m
        ZRANDMEMBER {A}one
        ZRANDMEMBER {A}one 3 WITHSCORES
        """,
    "places": """
        GEOADD {A}g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
        GEODIST {A}g Palermo Catania km
        GEODIST {A}g Palermo none
        GEOHASH {A}g Palermo none
        GEOPOS {A}g Palermo none
        GEORADIUS {A}g 15 37 200 km WITHDIST WITHCOORD ASC
        GEORADIUS_RO {A}g 15 37 100 km
        GEORADIUS {A}g 15 37 200 km STORE {A}near
        GEORADIUS {A}g 15 37 200 km ASC STOREDIST {A}far
        GEORADIUSBYMEMBER {A}g Palermo 200 km
        GEORADIUSBYMEMBER {A}g Palermo 200 km STORE {A}near2
        GEORADIUSBYMEMBER_RO {A}g Palermo 100 km
        GEOSEARCH {A}g FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHHASH
        GEOSEARCHSTORE {A}found {A}g FROMMEMBER Palermo BYRADIUS 200 km STOREDIST
        ZRANGE {A}found 0 -1 WITHSCORES
        """,
    "streams": """
        XADD {A}x 1-1 f v
        XADD {A}x 2-1 a 1 b 2
        XADD {A}x 3-1 f w
        XADD {A}x 1-1 f late
        XADD {A}x NOMKSTREAM MAXLEN ~ 1000 4-1 f x
        XLEN {A}x
        XRANGE {A}x - +
        XRANGE {A}x 2 2 COUNT 1
        XREVRANGE {A}x + - COUNT 1
        XREAD COUNT 2 STREAMS {A}x 0
        XREAD STREAMS {A}x {A}none 2-1 0
        XREAD STREAMS {A}x $
        XREAD STREAMS {A}none 0
        XGROUP CREATE {A}x g 0
        XGROUP CREATE {A}x g 0
        XGROUP CREATE {A}new g $ MKSTREAM
        XGROUP CREATECONSUMER {A}x g idle
        XGROUP DELCONSUMER {A}x g idle
        XREADGROUP GROUP g me COUNT 2 STREAMS {A}x >
        XREADGROUP GROUP g me NOACK STREAMS {A}x {A}new > >
        XREADGROUP GROUP none me STREAMS {A}x >
        XPENDING {A}x g
        ~XPENDING {A}x g - + 10
        XACK {A}x g 1-1 9-9
        XCLAIM {A}x g you 0 2-1 JUSTID
        XAUTOCLAIM {A}x g me 0 0 COUNT 10 JUSTID
        XINFO STREAM {A}x
        XINFO GROUPS {A}x
        ~XINFO CONSUMERS {A}x g
        XINFO STREAM {A}none
        XGROUP SETID {A}x g 0
        XGROUP DESTROY {A}x g
        XDEL {A}x 2-1
        XTRIM {A}x MAXLEN 2
        XSETID {A}x 10-0
        """,
    "counts": """
        PFADD {A}p a b c d
        PFADD {A}p a
        PFADD {A}q d e f
        PFCOUNT {A}p
        PFCOUNT {A}p {A}q {A}none
        PFMERGE {A}r {A}p {A}q
        PFCOUNT {A}r
        GET {A}r
        """,
    "scripts": """
        EVAL "return redis.call('set', KEYS[1], ARGV[1])" 1 {A}e v
        EVAL_RO "return redis.call('get', KEYS[1])" 1 {A}e
        EVAL_RO "return redis.call('set', KEYS[1], 1)" 1 {A}e
        EVAL "$SCRIPT" 2 {A}e {A}f x
        EVALSHA $SHA 1 {A}e y
        EVALSHA_RO $SHA 1 {A}e y
        EVALSHA ffffffffffffffffffffffffffffffffffffffff 1 {A}e
        EVAL "return {1, 'two', {3, {}, {4, {5, 'six'}}}, false, 'after'}" 1 {A}e
        EVAL "return {{}, {{}}, {{{}}}, ''}" 1 {A}e
        EVAL "return false" 1 {A}e
        EVAL "return redis.status_reply('FINE')" 1 {A}e
        EVAL "return redis.error_reply('OOM as if')" 1 {A}e
        EVAL "return redis.error_reply('LOADING as if')" 1 {A}e
        EVAL "return redis.error_reply('BUSY as if')" 1 {A}e
        EVAL "return redis.error_reply('MOVED 1 127.0.0.1:1')" 1 {A}e
        EVAL "return {redis.error_reply('ERR inside'), 'and on'}" 1 {A}e
        EVAL "no lua" 1 {A}e
        EVAL "local t = {} for i = 1, 3000 do t[i] = i end return t" 1 {A}e
        FCALL put 1 {A}e w
        FCALL_RO look 1 {A}e
        FCALL none 1 {A}e
        ~LOLWUT VERSION 1
        OBJECT HELP
        XGROUP HELP
        XINFO HELP
        MEMORY HELP
        PUBSUB HELP
        SCRIPT HELP
        FUNCTION HELP
        CLIENT HELP
        CONFIG HELP
        COMMAND HELP
        SLOWLOG HELP
        """.replace("$SCRIPT", SCRIPT).replace("$SHA", SHA),
}

# Answered by the proxy, or passed on by their subcommands: test_today.py.
HERE = {"auth", "client", "command", "config", "dbsize", "echo", "flushall", "flushdb", "function", "hello", "info", "keys",
        "ping", "publish", "pubsub", "quit", "randomkey", "reset", "scan", "script", "select", "slowlog", "spublish",
        "time"}
ELSEWHERE_TESTED = {"restore"}

# Subcommands that test_today.py and test_commands.py ask for, for their replies differ or are merged.
SUBCOMMANDS_ELSEWHERE = set("""
    bless|clear bless|get bless|help bless|set
    client|getname client|getredir client|id client|info client|list client|no-evict client|no-touch client|reply
    client|setinfo client|setname command|count command|docs command|getkeys command|info command|list config|get
    function|delete function|dump function|flush function|list function|load function|restore pubsub|channels
    pubsub|numpat pubsub|numsub pubsub|shardchannels pubsub|shardnumsub script|exists script|flush script|load
    script|show slowlog|len""".split())
REFUSED = set("""
    acl asking bgrewriteaof bgsave blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin
    cluster debug discard exec failover lastsave latency migrate module monitor multi pfdebug pfselftest
    psubscribe psync punsubscribe readonly readwrite replconf replicaof restore-asking role
    save shutdown slaveof ssubscribe subscribe sunsubscribe swapdb sync
    unsubscribe unwatch wait watch""".split())


SETTING = """
    SET {A}s abc
    SET {A}t abd
    SADD {A}set 1 2 3
    SADD {A}set2 2 3
    ZADD {A}z 1 a 2 b
    ZADD {A}z2 1 b 2 c
    RPUSH {A}l 3 1 2
    RPUSH {A}l2 9
    PFADD {A}p a b
    GEOADD {A}g 13.36 38.11 P 15.08 37.50 C 15 37 STORE
    XADD {A}x 1-1 f v
    XADD {A}x2 1-1 f w
    XGROUP CREATE {A}x g 0
    XGROUP CREATE {A}x2 g 0
    XGROUP CREATE {A}x STREAMS 0
    """

# With {A} for {B} these are served; as they stand, their keys are on two servers.
TOGETHER = """
    BITOP AND {A}d {A}s {B}t
    BITOP OR {B}d {A}s {A}t
    COPY {A}s {B}copy
    EVAL "return #KEYS" 2 {A}s {B}t
    EVAL "return #KEYS" 3 {A}s {A}t {B}t {A}arg
    EVALSHA $SHA 2 {A}s {B}t x
    FCALL look 2 {A}s {B}t
    GEORADIUS {A}g 15 37 200 km STORE {B}d
    GEORADIUS {A}g 15 37 200 km ASC COUNT 1 STOREDIST {B}d
    GEORADIUSBYMEMBER {A}g P 200 km STORE {B}d
    GEOSEARCHSTORE {B}d {A}g FROMMEMBER P BYRADIUS 200 km
    LCS {A}s {B}t LEN
    LMOVE {A}l {B}l2 LEFT RIGHT
    LMPOP 2 {A}none {B}l LEFT
    MSETNX {A}new 1 {B}new2 2
    PFCOUNT {A}p {B}p
    PFMERGE {A}pd {A}p {B}p
    RENAME {A}t {B}u
    RENAMENX {A}s {B}v
    RPOPLPUSH {A}l {B}l2
    SDIFF {A}set {B}set2
    SDIFFSTORE {A}d {A}set {B}set2
    SINTER {A}set {A}set2 {B}set2
    SINTERCARD 2 {A}set {B}set2
    SINTERSTORE {B}d {A}set {A}set2
    SMOVE {A}set {B}set2 1
    SORT {A}l STORE {B}d
    SORT {A}l BY nosort LIMIT 0 1 GET # STORE {B}d
    SORT {A}l BY store STORE {B}d
    SUNION {A}set {B}set2
    SUNIONSTORE {B}d {A}set {A}set2
    XREAD STREAMS {A}x {B}x2 0 0
    XREAD COUNT 1 STREAMS {A}x {A}x2 {B}none 0 0 0
    XREADGROUP GROUP g c STREAMS {A}x {B}x2 > >
    ZDIFF 2 {A}z {B}z2 WITHSCORES
    ZDIFFSTORE {B}d 2 {A}z {A}z2
    ZDIFFSTORE {A}d 2 {A}z {B}z2
    ZINTER 2 {A}z {B}z2
    ZINTERCARD 2 {A}z {B}z2
    ZINTERSTORE {A}d 3 {A}z {A}z2 {B}z2
    ZMPOP 2 {A}none {B}z MIN
    ZRANGESTORE {B}d {A}z 0 -1
    ZUNION 2 {A}z {B}z2 WITHSCORES
    ZUNION 3 {A}z {A}z2 {B}z2
    ZUNIONSTORE {A}d 2 {A}z {B}z2 WEIGHTS 1 2
    ZUNIONSTORE {B}d 2 {A}z {A}z2
    """.replace("$SHA", SHA)

# Words that look like keys on other servers, and are none.
NO_KEYS = """
    EVAL "return #ARGV" 1 {A}s {B}x {C}y
    EVAL "return {#KEYS, #ARGV}" 2 {A}s {A}t 3 {B}x
    FCALL put 1 {A}fs {B}w
    SET {A}v {B}v
    MSET {A}v {B}v {C}v {D}v
    HSET {A}h {B}f {C}v
    LINSERT {A}l BEFORE {B}x {C}y
    SADD {A}names {B}x
    SORT {A}l BY {B}w* GET {C}o* GET #
    SORT {A}l BY STORE GET STORE
    SORT {A}l ALPHA GET STORE
    GEORADIUSBYMEMBER {A}g STORE 1000 km
    GEOSEARCH {A}g FROMMEMBER {B}m BYRADIUS 1 km
    XADD {A}x 7-1 STREAMS {B}v
    XREAD COUNT 10 STREAMS {A}x 0
    XREADGROUP GROUP STREAMS STREAMS COUNT 1 STREAMS {A}x >
    XGROUP CREATECONSUMER {A}x g {B}c
    OBJECT ENCODING {A}s
    ZADD {A}z 5 {B}m
    ZUNION 1 {A}z WEIGHTS 2
    LMPOP 1 {A}l LEFT COUNT 1
    BITFIELD {A}bits SET u8 0 1
    MEMORY USAGE {A}s SAMPLES 1
    """

# Numbers of keys that are none, and options that lack what they announce.
BAD_COUNTS = """
    ZUNION 0 {A}z
    ZUNION -1 {A}z
    ZUNION x {A}z
    ZUNION 1.0 {A}z
    ZUNION +1 {A}z
    ZUNION 01 {A}z
    ZUNION "1 " {A}z
    ZUNION " 1" {A}z
    ZUNION "" {A}z
    ZUNION 2 {A}z
    ZUNION 4294967297 {A}z
    ZUNION 18446744073709551617 {A}z
    ZUNION -18446744073709551615 {A}z
    ZUNION 9223372036854775807 {A}z
    ZINTERCARD 0 {A}z
    ZINTERCARD 3 {A}z {A}z
    ZUNIONSTORE {A}d 0 {A}z
    ZUNIONSTORE {A}d 3 {A}z {A}z
    ZUNIONSTORE {A}d 4294967297 {A}z
    ZDIFFSTORE {A}d x {A}z
    LMPOP 0 {A}l LEFT
    LMPOP 2 {A}l LEFT
    LMPOP 4294967297 {A}l LEFT
    ZMPOP -1 {A}z MIN
    SINTERCARD 2 {A}set
    EVAL "return 1" -1 {A}s
    EVAL "return 1" 2 {A}s
    EVAL "return 1" x {A}s
    EVAL "return 1" 4294967297 {A}s
    EVALSHA $SHA 9 {A}s
    FCALL look 4294967298 {A}s {A}s
    XREAD STREAMS {A}x
    XREAD STREAMS {A}x {A}x2 0
    XREAD COUNT 1 {A}x 0
    XREAD COUNT x STREAMS {A}x 0
    XREAD STREAMS STREAMS STREAMS
    XREADGROUP GROUP g c STREAMS {A}x
    XREADGROUP GROUP g c COUNT 1 {A}x >
    XREADGROUP {A}x g STREAMS c {A}x >
    SORT {A}l STORE
    SORT {A}l LIMIT 0
    SORT {A}l GET
    GEORADIUS {A}g 15 37 200 km STORE
    GEORADIUSBYMEMBER {A}g P 200 km STOREDIST
    OBJECT NOPE {A}s
    OBJECT ENCODING
    XINFO NOPE {A}x
    XINFO STREAM
    XGROUP NOPE {A}x
    MEMORY USAGE
    MEMORY NOPE {A}x
    """.replace("$SHA", SHA)

# Inline commands, and what is none.
INLINE = [
    b"PING\r\n", b"PING\n", b"ping\n", b"  PING  \r\n", b"\tPING\t\r\n", b"PING hello\r\n",
    b"SET k v\r\nGET k\r\n", b"SET k v\nGET k\nMGET k none k\n",
    b'SET k "a b"\r\nGET k\r\n', b"SET k 'a b'\r\nGET k\r\n",
    b'SET k ""\r\nGET k\r\n', b"SET k ''\r\nGET k\r\n",
    b'SET k "\\x00\\xff\\x41"\r\nGET k\r\n', b'SET k "\\xZZ\\x4"\r\nGET k\r\n',
    b'SET k "\\n\\r\\t\\b\\a\\q\\\\\\""\r\nGET k\r\n', b"SET k 'it\\'s \\n \\x41'\r\nGET k\r\n",
    b'SET "k k" v\r\nGET "k k"\r\n', b'SET k a"b"\r\nGET k\r\n', b"SET k a'b c'\r\nGET k\r\n",
    b'"SET" "k" "v"\r\nGET k\r\n', b'SET k "a\'b"\r\nGET k\r\n', b"SET k 'a\"b'\r\nGET k\r\n",
    b"\r\nPING\r\n", b"\nPING\n", b"\r\n\r\n\n\nPING\r\n", b"   \r\nPING\r\n", b" \t \n",
    b"*0\r\nPING\r\n", b"*-1\r\nPING\r\n", b"*-5\r\nPING\r\n", b"*0\r\n*0\r\n\r\n*-1\r\n",
    b"GET\r\nPING\r\n", b"SET k\r\nPING\r\n", b"GET a b c\r\nPING\r\n",
    b"MSET a 1 b 2 c 3\r\nMGET a b c d\r\nDEL a b c d\r\n",
    b"SET k v\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\nGET k\r\n*1\r\n$4\r\nPING\r\n",
    b"SET k " + b"x" * 50000 + b"\r\nGET k\r\n", b"EXISTS " + b"k " * 9000 + b"\r\n",
    b"SET k *2\r\nGET k\r\n", b"SET k $-1\r\nGET k\r\n", b"SET k \xff\xfe\r\nGET k\r\n",
    # What is no command line is told, and ends the connection.
    b'SET k "a\r\n', b"SET k 'a\r\n", b'SET k "a"b\r\n', b"SET k 'a'b\r\n", b'"\r\n', b'SET k "a\\"\r\n',
    b"PING\r\nSET k \"\r\nPING\r\n",
]

# Told exactly as a server does.
BROKEN = [
    b"*2\r\n$4294967299\r\n", b"*4294967298\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"*4294967298\r\n",
    b"*2147483648\r\n", b"*18446744073709551617\r\n", b"*99999999999999999999999999\r\n",
    b"*-99999999999999999999\r\n",
    b"*01\r\n$4\r\nPING\r\n", b"*+1\r\n$4\r\nPING\r\n", b"* 1\r\n", b"*1 \r\n", b"*\r\n", b"*x\r\n", b"*1.0\r\n",
    b"*-0\r\n", b"*--1\r\n", b"*-\r\n", b"*0x1\r\n",
    b"*1\r\n$03\r\nGET\r\n", b"*2\r\n$3\r\nGET\r\n$01\r\nk\r\n", b"*1\r\n$-5\r\n", b"*1\r\n$-1\r\n",
    b"*1\r\n$+4\r\nPING\r\n", b"*1\r\n$ 4\r\nPING\r\n", b"*1\r\n$4 \r\nPING\r\n", b"*1\r\n$\r\n\r\n",
    b"*1\r\n$x\r\n", b"*1\r\n$-0\r\n\r\n", b"*1\r\n$4.0\r\nPING\r\n",
    b"*2\r\n$3\r\nGET\r\n$\r\n\r\n", b"*2\r\n$3\r\nGET\r\n$4294967297\r\nk\r\n",
    b"*2\r\n$3\r\nGET\r\n$18446744073709551617\r\nk\r\n", b"*2\r\n$3\r\nGET\r\n$536870913\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1099511627776\r\n",
    b"*2\r\n$3\r\nGET\r\n$-1\r\n", b"*2\r\n$3\r\nGET\r\n$-4294967295\r\nk\r\n",
    b"*1\r\nPING\r\n", b"*1\r\n:4\r\n", b"*1\r\n*1\r\n$4\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n+k\r\n", b"*1\r\n\r\n",
    b"*2\r\n$3\r\nGET\r\nk\r\n",
    b"*1\n$4\r\nPING\r\n", b"*1\r\n$4\nPING\r\n",
]

# A server looks away here and may go on; the proxy may do so too, or say an error.
SLOPPY = [
    b"*1\r\n$4\r\nPINGxx", b"*1\r\n$4\r\nPING\n\r", b"*1\r\n$4\r\nPING\rx", b"*1\rx$4\r\nPING\r\n",
    b"*1\r\n$4\rxPING\r\n", b"*2\r\n$3\r\nGET\r\n$2\r\nk\r\n\r\n", b"*2\r\n$3\r\nGETxx$1\r\nk\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\n\n", b"*1\r\n$2\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\nkkkk\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\nk$1\r\nk\r\n", b"*1\n$4\nPING\n",
]

# Lines that never end.
ENDLESS = [b"x" * 70000, b"*" + b"1" * 70000, b"*1\r\n$" + b"1" * 70000, b"PING\r\nGET " + b"k " * 40000]
