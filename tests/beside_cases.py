"""What is sent to nutcracker and nutproxy alike."""
import os
import re
import shlex

from beside import NAMES, Case
from nut import TOP
from recorder import CLOSE, RESET, SILENT
from redis_rows import BAD_COUNTS, BROKEN, ENDLESS, INLINE, NO_KEYS, SERVED, SETTING, SLOPPY, TOGETHER, rows
from resp import command, word

# How many arguments twemproxy takes; the first is the key.
TWEMPROXY = {
    (1, 1): """DECR DUMP GET GETDEL HGETALL HKEYS HLEN HVALS INCR LLEN PERSIST PTTL SCARD SMEMBERS STRLEN TTL
        TYPE ZCARD AUTH""",
    (2, 2): """APPEND DECRBY EXPIRE EXPIREAT GETBIT GETSET HEXISTS HGET HSTRLEN INCRBY INCRBYFLOAT LINDEX PEXPIRE
        PEXPIREAT RPOPLPUSH SETNX SISMEMBER ZRANK ZREVRANK ZSCORE""",
    (3, 3): """GETRANGE HINCRBY HINCRBYFLOAT HSETNX LRANGE LREM LSET LTRIM PSETEX SETBIT SETEX SETRANGE SMOVE ZCOUNT
        ZINCRBY ZLEXCOUNT ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE""",
    (4, 4): "LINSERT LMOVE",
    (1, None): """BITCOUNT BITFIELD BITPOS COPY EXISTS GEOADD GEODIST GEOHASH GEOPOS GEORADIUS GEORADIUSBYMEMBER
        GEOSEARCH GEOSEARCHSTORE GETEX HDEL HMGET HMSET HRANDFIELD HSCAN HSET LPOP LPOS LPUSH LPUSHX PFADD PFCOUNT
        PFMERGE RESTORE RPOP RPUSH RPUSHX SADD SDIFF SDIFFSTORE SET SINTER SINTERSTORE SMISMEMBER SORT SPOP
        SRANDMEMBER SREM SSCAN SUNION SUNIONSTORE ZADD ZDIFF ZDIFFSTORE ZINTER ZINTERSTORE ZMSCORE ZPOPMAX ZPOPMIN
        ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANGESTORE ZREM ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE
        ZSCAN ZUNION ZUNIONSTORE MGET DEL UNLINK TOUCH""",
    (2, None): "MSET",
    (3, None): "EVAL EVALSHA",
    (0, None): "LOLWUT",
    (0, 0): "PING QUIT COMMAND",
}
TAKES = {name.encode(): sizes for sizes, names in TWEMPROXY.items() for name in names.split()}


def twemproxy_takes(words):
    """Whether twemproxy has this command, with so many arguments."""
    name, count = words[0].upper(), len(words) - 1
    if name not in TAKES:
        return False
    least, most = TAKES[name]
    if name == b"MSET" and count % 2:
        return False
    if name in (b"EVAL", b"EVALSHA") and not (count >= 3 and re.fullmatch(rb"0*[1-9]\d*", words[2])):
        return False
    return least <= count and (most is None or count <= most)


def key_of(words):
    """The key by which a command that nutproxy serves finds its server, as in twemproxy if it has none."""
    name, at = words[0].upper(), 1
    if name in (b"EVAL_RO", b"EVALSHA_RO", b"EVAL", b"EVALSHA", b"FCALL", b"FCALL_RO"):
        at = 3 if words[2] != b"0" else len(words)
    elif name in (b"LMPOP", b"ZMPOP", b"SINTERCARD", b"ZINTERCARD", b"ZUNION", b"ZINTER", b"ZDIFF"):
        at = 2 if words[1] != b"0" else len(words)
    elif name in (b"BITOP", b"OBJECT", b"MEMORY", b"XINFO", b"XGROUP"):
        at = 2
    elif name in (b"XREAD", b"XREADGROUP"):
        at = words.index(b"STREAMS", 1 if name == b"XREAD" else 4) + 1
    return words[at] if at < len(words) else b"placeholder"


def our_commands():
    """The names in nutproxy's table."""
    with open(os.path.join(TOP, "nutproxy.h")) as f:
        return re.findall(r'^    _\( "([A-Z_-]+)",', f.read(), re.M)


# ---- the data at the start: each of these on each server

KINDS = {
    "string": [("SET", "10")],
    "hash": [("HSET", "1", "one")],
    "list": [("RPUSH", "1", "2", "3")],
    "set": [("SADD", "1")],
    "zset": [("ZADD", "1", "1")],
    "geo": [("GEOADD", "13.36", "38.11", "1")],
    "pf": [("PFADD", "1", "2")],
    "stream": [("XADD", "1-1", "f", "v"), ("XGROUP CREATE", "g", "0")],
}
FAMILY = [("GEO", "geo"), ("PF", "pf"), ("H", "hash"), ("X", "stream"), ("Z", "zset"), ("S[ACDIMPRSU]", "set"),
          ("SET|SETBIT|SETEX|SETNX|SETRANGE|STRLEN|SORT", "string"), ("[LR](INDEX|INSERT|LEN|P|M|R|S|T)", "list")]


def kind_of(name):
    if name in ("SETNX", "SETEX", "RESTORE", "RENAME", "RENAMENX"):
        return "string"
    if name == "SORT" or name == "SORT_RO":
        return "list"
    return next((kind for pattern, kind in FAMILY if re.match(pattern, name)), "string")


def setting(keys):
    """The requests that make it, for each server; keys[kind][server] is a list of keys."""
    out = {n: [] for n in NAMES}
    for kind, starts in KINDS.items():
        for n in NAMES:
            for key in keys[kind][n]:
                out[n] += [command(*verb.split(), key, *args) for verb, *args in starts]
    return out


def one(name, *words, **kw):
    requests = [tuple(map(word, words))]
    return Case(name, kw.pop("pool", "redis"), command(*words), requests, **kw)


def plain(keys):
    """Every command with nothing, keys on several servers, keys on one server, or numbers."""
    names = sorted(set(our_commands()) | {n.decode() for n in TAKES} | {"NOSUCH", "GETT", "GE"})
    for name in names:
        of = keys[kind_of(name)]
        apart = [of[n][i] for i in range(3) for n in NAMES]
        together = of["oak"]
        shapes = [apart[:7], (together * 3)[:7], apart[2:3] + [b"1", b"1", b"2", b"3", b"4", b"5"]]
        if name.startswith(("EVAL", "FCALL")):
            shapes.append([b"return 1", b"1"] + together[:3] + [b"1", b"2"])
            shapes.append([b"return 1", b"2"] + apart[:5])
        elif re.match("Z(UNION|INTER|DIFF)|SINTERCARD|[LZ]MPOP|B[LZ]MPOP", name):
            shapes.append([b"2"] + together[:2] + [b"LEFT" if name[0] == "L" else b"MIN", b"1"])
            shapes.append([b"2"] + apart[:2] + [b"LEFT" if name[0] == "L" else b"MIN", b"1"])
            shapes.append(together[:1] + [b"2"] + together[:2] + [b"LEFT"])
        elif name in ("OBJECT", "MEMORY", "XINFO", "XGROUP"):
            shapes.append([{"OBJECT": b"ENCODING", "MEMORY": b"USAGE", "XINFO": b"STREAM"}.get(name, b"DESTROY")]
                          + apart[:2])
        seen = set()
        for shape in shapes:
            for count in range(len(shape) + 1):
                words = (name.encode(), *shape[:count])
                if words not in seen:
                    seen.add(words)
                    yield one("plain", *words)


# ---- rows of words, as in redis_rows.py

def said(tags, line):
    """A row with {A} {B} {C} {D} as words."""
    line = re.sub(r"\{([ABCD])\}", lambda m: "{%s}" % tags[m[1]], line.lstrip("~"))
    return [w.encode("latin-1") for w in shlex.split(line)]


def row_setting(tags):
    """SETTING on the servers of {A} and {B}."""
    out = {n: [] for n in NAMES}
    homes = dict(A="ash", B="oak")
    for line in rows(SETTING):
        for tag, n in homes.items():
            out[n].append(command(*said(tags, line.replace("{A}", "{%s}" % tag))))
    return out


def row_cases(tags):
    for table in (TOGETHER, TOGETHER.replace("{B}", "{A}"), NO_KEYS, BAD_COUNTS):
        for line in rows(table):
            yield one("rows", *said(tags, line), pool="tags")
    for verb in "get Get gEt GET hGETall zrange".split():
        yield one("names in any case", verb, *said(tags, "{A}z 0 -1" if verb == "zrange" else "{A}s"), pool="tags")
    for key in (b"", b"\0", b"\r\n", b"{}", b"{}x", b"{x", b"x}", b"a{b}c{d}", b"\xff" * 300, b" ", b"k" * 16000):
        yield one("odd keys", "GET", key, pool="tags")
        yield one("odd keys", "MGET", key, b"x", key, pool="tags")
        yield one("odd keys", "SET", key, key, pool="tags")
    for size in (16335, 16336, 100000):
        yield one("odd keys", "GET", b"k" * size)
    yield one("big values", "SET", b"k", b"v" * 300000)


def served_families(tags):
    for family, table in SERVED.items():
        yield family, [one("~" + family if line[0] == "~" else family, *said(tags, line), pool="tags")
                       for line in rows(table)]


def raw_cases():
    for name, table in (("inline", INLINE), ("broken", BROKEN), ("sloppy", SLOPPY), ("endless", ENDLESS)):
        for data in table:
            yield Case(name, "redis", data)
    for data in BROKEN:
        yield Case("broken", "redis", command("SET", "k", "v") + data)
    get_k = command("GET", "k")
    for at in range(1, len(get_k)):
        yield Case("cut", "redis", get_k[:at])
    for at in range(len(get_k)):
        yield Case("one byte wrong", "redis", get_k[:at] + b"x" + get_k[at + 1:])


def flow(*rows, pool="redis", sick=(), note=""):
    """Several Redis requests in one write."""
    requests = [tuple(w.encode("latin-1") for w in shlex.split(row)) for row in rows]
    return Case("sick" if sick else "pipeline", pool, b"".join(command(*r) for r in requests), requests, sick, note)


def flows(keys):
    a, b, c = (keys["string"][n][0].decode() for n in NAMES)
    many = "%s %s %s" % (a, b, c)
    yield flow("PING", "GET " + a, "PING", "GET " + b, "PING")
    yield flow("SET %s 1" % a, "INCR " + a, "GET " + a, "INCR " + b, "MGET " + many, "DEL " + many, "MGET " + many)
    yield flow("MSET %s 1 %s 2 %s 3" % (a, b, c), "GET " + c, "GET " + b, "GET " + a, "TOUCH " + many)
    yield flow(*["INCR " + k for k in (a, b, c) * 30])
    yield flow(*["GET nokey%d" % i for i in range(100)])
    yield flow("LPUSH %s 1" % a, "GET " + b, "HGET %s x" % c, "APPEND %s x" % a, "GET " + b)
    yield flow("GET " + a, "QUIT", "GET " + b)
    yield flow("QUIT", "GET " + b)
    yield flow("MGET " + many, "quit", "DEL " + many)
    yield flow("GET " + a, "NOSUCH", "GET " + b)
    yield flow("SET %s 1" % a, "GET", "GET " + a)
    yield flow("INCR " + a, "MULTI", "INCR " + a, "EXEC")
    yield flow("SET %s 1" % a, "GET " + a, "RENAME x y", "GET " + a)
    yield flow("NOSUCH", "SET %s 1" % a)
    yield flow("PING", "SELECT 0", "PING")
    yield flow("AUTH x", "PING", "AUTH", "PING")
    yield flow("MGET " + many, "MSET a 1 b", "DEL " + many)


def locked():
    """With redis_auth; the first case is the first request on the connection to the server."""
    right = "AUTH sesame"
    yield flow(right, "SET k v", "GET k", pool="locked", note="handshake")
    for lines in ((right, "GET k"), (right, right, "GET k"), ("AUTH wrong", "GET k"), ("auth sesame", "PING"),
                  ("AUTH SESAME", "PING"), ("AUTH ''", "PING"), ("PING",), ("GET k",), ("MGET a b",),
                  ("DEL a b", "PING"), (right, "AUTH wrong", "GET k"), ("GET k", right, "GET k"),
                  (right, "MGET a b", "MSET a 1 b 2"), ("AUTH default sesame", "PING"),
                  ("AUTH default wrong", "PING"), ("AUTH bob sesame", "PING"), ("AUTH a b c", "PING"),
                  ("AUTH", "PING"), ("ECHO x",), ("NOSUCH",), ("GET",), ("SELECT 2",), ("COMMAND",), ("QUIT",),
                  (right, "QUIT"), (right, "SELECT 2"), (right, "SELECT 0"), ("HELLO 2 AUTH default sesame",),
                  ("LOLWUT",), ("EVAL 'return 1' 0",)):
        yield flow(*lines, pool="locked")


# ---- servers that fail, Redis

SICK = {
    "refuses": "down",
    "closes": CLOSE,
    "resets": RESET,
    "half a reply": (b"$10\r\nabc", CLOSE),
    "OOM": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
    "BUSY": b"-BUSY Redis is busy running a script.\r\n",
    "READONLY": b"-READONLY You can't write against a read only replica.\r\n",
    "MOVED": b"-MOVED 1 127.0.0.1:1\r\n",
    "RESP3": b"_\r\n",
    "garbage": b"hello\r\n",
    "a bad number": b":+5\r\n",
    "silent": SILENT,
}

SLOW_SICK = ("silent", "half a reply")          # twemproxy sees these by its timeout only


def sick_cases(keys):
    a, b, c = (keys["string"][n][0].decode() for n in NAMES)
    a2 = keys["string"]["ash"][1].decode()
    many = "%s %s %s" % (b, a, c)
    sets = "%s 1 %s 2 %s 3" % (b, a, c)
    for note in SICK:
        pool = "slow" if note in SLOW_SICK else "brittle"
        for lines in (("GET " + a,), ("GET " + b,), ("MGET " + many,), ("DEL " + many,), ("MSET " + sets,),
                      ("GET " + b, "GET " + a, "GET " + c), ("MGET %s %s" % (a, a2),), ("SET %s v" % a,),
                      ("EXISTS " + many,), ("MGET %s %s" % (b, c),), ("GET " + a, "GET " + a2), ("GET " + a, "PING"),
                      ("MGET " + many, "GET " + b), ("DEL " + many, "GET " + b),
                      ("EVAL 'return 1' 1 " + a,))[:7 if note in SLOW_SICK else None]:
            yield flow(*lines, pool=pool, sick=("ash",), note=note)
    for note in ("refuses", "closes"):
        for lines in (("GET " + b,), ("MGET " + many,), ("DEL " + many,), ("GET " + b, "PING")):
            yield flow(*lines, pool="brittle", sick=NAMES, note=note)


# ---- memcached

def store(verb, key, value, tail=b"", flags=b"0", exptime=b"0", size=None):
    return b"%s %s %s %s %s%s\r\n%s\r\n" % (verb, key, flags, exptime, size or b"%d" % len(value),
                                          tail and b" " + tail, value)


def lines(*parts, pool="memcached", sick=(), note=""):
    """Several memcached requests in one write."""
    requests = [p + b"\r\n" for p in parts]
    return Case("sick" if sick else "pipeline", pool, b"".join(requests), requests, sick, note)


def memcached_setting(keys):
    return {n: [store(b"set", k, b"10", flags=b"5") for k in keys[n]] for n in NAMES}


def memcached_cases(keys):
    a, b, c = (keys[n][0] for n in NAMES)
    a2, x = keys["ash"][1], b"nokey"
    long, full = b"q" * 251, b"q" * 250

    def case(data, count=None):
        requests = [data] if count is None else None
        return Case("memcached", "memcached", data, requests)

    for verb in (b"get", b"gets"):
        for ks in ((a,), (x,), (a, b), (a, b, c), (a, a2), (b, a, b, a), (a, x, c), (x, x), (c, b, a, a2, x), (x, b, c), ()):
            for text in (b" ".join(ks), b"  ".join(ks) + b" "):
                yield case(b"%s %s\r\n" % (verb, text))
        yield case(b"%s %s\r\n" % (verb, b" ".join(keys["ash"] + keys["oak"] + keys["elm"])))
        for key in (full, long, b"k" * 3000):
            yield case(b"%s %s\r\n" % (verb, key))
            yield case(b"%s %s %s\r\n" % (verb, a, key))
    for verb in (b"set", b"add", b"replace", b"append", b"prepend", b"cas"):
        unique = b"7" if verb == b"cas" else b""
        mute = b"7 noreply" if verb == b"cas" else b"noreply"
        for key in (a, b, x, full):
            yield case(store(verb, key, b"abc", unique))
            yield case(store(verb, key, b"abc", mute) + b"get %s\r\n" % key, 2)
        for value in (b"", b"\r\n", b"END\r\n", b"v" * 40000):
            yield case(store(verb, a, value, unique))
        for odd in (b"-1", b"x", b"1x", b"4294967296", b"01"):
            yield case(store(verb, a, b"abc", unique, flags=odd))
            yield case(store(verb, a, b"abc", unique, exptime=odd))
        for size in (b"-1", b"x", b"3x", b"2", b"03") + ((b"4294967299",) if verb == b"set" else ()):
            yield case(store(verb, a, b"abc", unique, size=size), 0)
        for tail in (b"norepl", b"7 7 7", b"x noreply", b"NOREPLY"):
            yield case(store(verb, a, b"abc", tail), 0)
        yield case(store(verb, long, b"abc", unique), 0)
        yield case(store(verb, b"a\nb", b"abc", unique), 0)
        yield case(b"%s\r\n" % verb)
        yield case(b"%s %s\r\n" % (verb, a))
        yield case(b"%s %s 0 0\r\n" % (verb, a))
        yield case(b"%s %s 0 0 3 %s\r\nabcXX" % (verb, a, unique), 0)
    for verb in (b"incr", b"decr"):
        for n in (b"1", b"0", b"100", b"-1", b"x", b"1x", b"", b"18446744073709551615", b"18446744073709551616", b"01",
                  b"1 noreply", b"1 norepl", b"1 2", b"x noreply"):
            for key in (a, x):
                yield case(b"%s %s %s\r\n" % (verb, key, n))
        yield case(b"%s\r\n" % verb)
        yield case(b"%s %s 1\r\n" % (verb, long))
    for tail in (b"", b" noreply", b" 0", b" 0 noreply", b" 5", b" x", b" norepl", b" noreply x"):
        for key in (a, x):
            yield case(b"delete %s%s\r\n" % (key, tail))
    for tail in (b" 0", b" 100", b" -1", b" x", b"", b" 0 noreply", b" 0 norepl", b" 99999999999999999999"):
        for key in (a, x):
            yield case(b"touch %s%s\r\n" % (key, tail))
    for verb in (b"delete", b"touch", b"gat", b"gats"):
        yield case(b"%s\r\n" % verb)
        yield case(b"%s %s\r\n" % (verb, long))
    for verb in (b"gat", b"gats"):
        for text in (b"0 %s" % a, b"0 %s %s" % (a, b), b"100 %s %s %s" % (a, b, x), b"-1 %s" % a, b"x %s" % a, b"0"):
            yield case(b"%s %s\r\n" % (verb, text))
    for line in (b"version", b"version x", b"  version", b"verbosity 0", b"verbosity", b"verbosity 0 noreply", b"quit",
                 b"quit x", b"flush_all", b"flush_all 0", b"flush_all noreply", b"stats", b"stats items", b"mn",
                 b"mg %s v" % a, b"md %s" % a, b"me %s" % a, b"ma %s" % a, b"ms x 1\r\n9", b"watch", b"slabs",
                 b"shutdown", b"lru_crawler x", b"cache_memlimit 64", b"foo", b"foo bar", b"", b" ", b"GET %s" % a,
                 b"Get %s" % a, b"SET x 0 0 1", b"getx %s" % a, b"get\t%s" % a, b"get %s\t" % a, b"get a\x01b",
                 b"get a\x7fb", b"get a\0b", b"set a\x01b 0 0 1\r\n1", b"delete a\x01b", b"get \xd0\xba\xd0\xbb"):
        yield case(line + b"\r\n")
    for data in (b"get %s\n" % a, b"version\n", b"set x 0 0 1\n1\r\n", b"get a\nflush_all\r\n",
                 b"delete a\nflush_all\r\n", b"\x80\x0b" + b"\0" * 22, b"x" * 70000, b"get " + b"k " * 40000 + b"\r\n",
                 b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        yield case(data, 0)
    whole = store(b"set", x, b"abc") + b"get %s\r\n" % a
    for at in range(1, len(whole), 2):
        yield case(whole[:at], 0)._replace(name="cut")
    for parts in ((b"get " + a, b"get " + b, b"get %s %s %s" % (a, b, c), b"version"),
                  (b"incr %s 1" % a, b"incr %s 1" % b, b"decr %s 1" % a, b"get %s %s" % (a, b)),
                  (b"delete %s noreply" % a, b"get " + a, b"incr %s 1 noreply" % b, b"get " + b),
                  (b"touch %s 0 noreply" % a, b"get %s %s" % (a, b), b"delete " + a, b"gets %s %s" % (b, a)),
                  (b"get " + a, b"foo", b"get " + b), (b"incr %s 1" % a, b"gat 0 " + a, b"get " + a),
                  (b"get " + a, b"quit", b"delete " + a), (b"quit", b"delete " + a),
                  (b"get %s %s" % (a, b), b"GET " + a, b"delete " + a)):
        yield lines(*parts)


MSICK = {
    "refuses": "down",
    "closes": CLOSE,
    "resets": RESET,
    "half a reply": (b"VALU", CLOSE),
    "an error": b"SERVER_ERROR out of memory storing object\r\n",
    "ERROR": b"ERROR\r\n",
    "garbage": b"hello\r\n",
    "OK": b"OK\r\n",
    "silent": SILENT,
}


def memcached_sick_cases(keys):
    a, b, c = (keys[n][0] for n in NAMES)
    for note in MSICK:
        pool = "mslow" if note in SLOW_SICK else "mbrittle"
        for parts in ((b"get " + a,), (b"get " + b,), (b"get %s %s %s" % (b, a, c),), (store(b"set", a, b"1")[:-2],),
                      (b"get " + b, b"get " + a, b"get " + c), (b"delete " + a,), (b"incr %s 1" % a,),
                      (b"touch %s 0" % a,), (b"gets %s %s" % (a, b),), (b"get %s %s" % (b, c),),
                      (b"get " + a, b"get " + a), (b"get %s %s" % (a, b), b"get " + b),
                      (b"delete %s noreply" % a, b"get " + b))[:5 if note in SLOW_SICK else None]:
            yield lines(*parts, pool=pool, sick=("ash",), note=note)
    for note in ("refuses", "closes"):
        for parts in ((b"get " + b,), (b"get %s %s" % (a, b),), (b"get %s %s" % (a, b), b"get " + b)):
            yield lines(*parts, pool="mbrittle", sick=NAMES, note=note)
