"""Programs and libraries that people use, going through nutproxy: each checks its
results, and what it stored is looked up on the servers behind."""
import asyncio
import itertools
import os
import re
import shutil
import socket
import subprocess
import threading

import pytest

from nut import SLOW, pool, wait_for
from resp import command

PATIENT = {"timeout": "60s"}


class House:
    """Four redis-servers and four memcacheds behind one proxy, and one of each beside it."""

    def __init__(self, stage):
        self.stage = stage
        self.servers = [stage.redis() for _ in range(4)]
        self.caches = [stage.memcached() for _ in range(4)]
        self.redis_alone, self.memcached_alone = stage.redis(), stage.memcached()
        self.proxy = stage.nutproxy({
            "data": pool(self.servers, hash_tag="{}", **PATIENT),
            "path": dict(pool(self.servers, hash_tag="{}", **PATIENT), listen=stage.path("front.sock")),
            "cache": pool(self.caches, protocol="memcached", **PATIENT)})
        self.direct = [s.client() for s in self.servers]
        self.port = str(self.proxy.where("data")[1])
        self.cache_port = str(self.proxy.where("cache")[1])

    def redis(self, **kw):
        return self.proxy.redis("data", **kw)

    def cached(self, key):
        """What the memcacheds behind hold for this key."""
        found = [self.ask_cache(c, key) for c in self.caches]
        return [value for value in found if value is not None]

    @staticmethod
    def ask_cache(server, key):
        from pymemcache.client.base import Client
        client = Client((server.host, server.port), timeout=20 * SLOW)
        try:
            return client.get(key)
        finally:
            client.close()

    def flush(self):
        from pymemcache.client.base import Client
        for d in self.direct + [self.redis_alone.client()]:
            d.flushall()
        for c in self.caches + [self.memcached_alone]:
            client = Client((c.host, c.port), default_noreply=False)
            client.flush_all()
            client.close()

    def all_keys(self):
        return list(itertools.chain(*(d.keys() for d in self.direct)))


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason="needs " + program)


def run(*argv, stdin=b"", env=None, seconds=60):
    """Exit status and what was said, as bytes."""
    done = subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=seconds * SLOW, env=dict(os.environ, **(env or {})))
    return done.returncode, done.stdout


def together(work, n):
    """Run work(0) ... work(n - 1) in threads; the first mistake is told."""
    wrong = []

    def one(i):
        try:
            work(i)
        except Exception as e:                                    # told below
            wrong.append(e)

    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60 * SLOW)
    assert not wrong, wrong[0]
    assert not any(t.is_alive() for t in threads), "a thread hangs"


# ------------------------------------------------------------------- redis-cli

CLI = [                                         # arguments, standard input
    (["PING"], b""),
    (["SET", "k", "v"], b""),
    (["GET", "k"], b""),
    (["GET", "none"], b""),
    (["--no-raw", "GET", "none"], b""),
    (["--no-raw", "MSET", "0:a:key", "1", "1:b:key", "two words", "2:c:key", "\"quoted\"", "3:d:key", "\\x"], b""),
    (["--no-raw", "MGET", "0:a:key", "1:b:key", "none", "2:c:key", "3:d:key", "0:a:key"], b""),
    (["--csv", "MGET", "0:a:key", "1:b:key", "none"], b""),
    (["-d", "|", "MGET", "0:a:key", "1:b:key", "2:c:key"], b""),
    (["--no-raw", "EXISTS", "0:a:key", "1:b:key", "none"], b""),
    (["-r", "5", "INCR", "counter"], b""),
    (["-r", "3", "-i", "0.01", "APPEND", "letters", "x"], b""),
    (["--quoted-input", "SET", "\"bin\\x00\\xff\\n\"", "\"v\\t\\x01\""], b""),
    (["--quoted-input", "--no-raw", "GET", "\"bin\\x00\\xff\\n\""], b""),
    (["-x", "SET", "big"], b"line\n" * 40000),
    (["STRLEN", "big"], b""),
    (["GET", "big"], b""),
    (["-X", "tag", "MSET", "0:x:key", "tag", "1:x:key", "plain"], b"from input"),
    (["MGET", "0:x:key", "1:x:key"], b""),
    (["-n", "0", "GET", "k"], b""),
    (["-2", "GET", "k"], b""),
    (["-e", "LPUSH", "k", "1"], b""),
    (["-e", "GET", "k", "too", "many"], b""),
    (["--no-raw", "EVAL", "return {1, 'two', {3, {}}, false, {ok='fine'}}", "1", "k"], b""),
    (["--no-raw", "HSET", "h", "f", "1", "g", "2"], b""),
    (["--no-raw", "HGETALL", "h"], b""),
    (["--no-raw", "XADD", "x", "1-1", "f", "v"], b""),
    (["--no-raw", "XREAD", "STREAMS", "x", "0"], b""),
    (["--no-raw", "DEL", "0:a:key", "1:b:key", "2:c:key", "none"], b""),
    ([], b"SET quoted \"a \\\"b\\\" \\x41 'c'\"\nGET quoted\nSET 'single one' 'it\\'s'\nGET \"single one\"\n\n"
         b"3 INCR counter\nMGET quoted none k\nSET k \"unbalanced\nGET k\nPING\n"),
    (["--no-raw"], b"MSET 0:m:key a 1:m:key b 2:m:key c\nMGET 0:m:key 1:m:key 2:m:key\nGET\nHGET k f\n"),
]


@needs("redis-cli")
def test_redis_cli_says_the_same_through_the_proxy(house, tmp_path):
    script = tmp_path / "script.lua"
    script.write_text("return redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2])")
    rows = CLI + [(["--eval", str(script), "evaluated", ",", "a", "b c"], b""), (["GET", "evaluated"], b"")]
    wrong = []
    for arguments, stdin in rows:
        got = run("redis-cli", "-h", "127.0.0.1", "-p", house.port, *arguments, stdin=stdin)
        want = run("redis-cli", "-h", "127.0.0.1", "-p", str(house.redis_alone.port), *arguments, stdin=stdin)
        if got != want:
            wrong.append((arguments, stdin[:60], got[0], got[1][:300], want[0], want[1][:300]))
    assert not wrong, "\n".join(map(repr, wrong))
    want = house.redis_alone.client()
    assert sorted(house.all_keys()) == sorted(want.keys())


@needs("redis-cli")
def test_redis_cli_is_told_what_is_not_served(house):
    for arguments in (["MULTI"], ["SUBSCRIBE", "x"], ["FLUSHALL"], ["-n", "1", "GET", "k"], ["BLPOP", "k", "0"]):
        status, said = run("redis-cli", "-h", "127.0.0.1", "-p", house.port, "-e", *arguments, seconds=20)
        assert b"ERR" in said, (arguments, said)
    status, said = run("redis-cli", "-h", "127.0.0.1", "-p", house.port,
                       stdin=b"SET k v\nMULTI\nSET k other\nNOSUCH\nGET k\n")
    assert re.fullmatch(rb"OK\nERR command 'multi' is not served by this proxy: .*\n+ERR command 'set' was not executed.*\n+"
                        rb"ERR unknown command 'NOSUCH'.*\n+v\n", said), said


@needs("redis-cli")
def test_redis_cli_reaches_a_unix_socket(house):
    path = house.proxy.where("path")
    assert run("redis-cli", "-s", path, "SET", "by path", "v") == (0, b"OK\n")
    assert run("redis-cli", "-h", "127.0.0.1", "-p", house.port, "GET", "by path") == (0, b"v\n")


@needs("redis-cli")
def test_redis_cli_logs_in(stage):
    servers = [stage.redis("--requirepass", "secret") for _ in range(2)]
    proxy = stage.nutproxy({"locked": pool(servers, redis_auth="secret", redis_db=2, **PATIENT)})
    to = ["redis-cli", "-h", "127.0.0.1", "-p", str(proxy.where("locked")[1]), "--no-auth-warning"]
    assert run(*to, "-a", "secret", "SET", "k", "v") == (0, b"OK\n")
    assert run(*to, "GET", "k", env={"REDISCLI_AUTH": "secret"}) == (0, b"v\n")
    assert run(*to, "-a", "secret", "-n", "2", "GET", "k") == (0, b"v\n")
    assert b"NOAUTH" in run(*to, "GET", "k")[1]
    assert b"ERR invalid password" in run(*to, "-a", "wrong", "SET", "k", "stolen")[1]
    assert [s.client(password="secret", db=2).get("k") for s in servers].count(b"v") == 1


@needs("redis-cli")
def test_redis_cli_pipes_ten_thousand_commands(house):
    keys = ["%d:piped:key" % i for i in range(5000)]
    stdin = b"".join(command("SET", k, "value of %s\r\n" % k) for k in keys)
    stdin += b"".join(command("INCR", "%d:count:key" % (i % 10)) for i in range(4000))
    stdin += b"".join(b"SET %d:inline:key '%d'\r\n" % (i, i) for i in range(1000))
    status, said = run("redis-cli", "-h", "127.0.0.1", "-p", house.port, "--pipe", stdin=stdin)
    assert status == 0 and b"errors: 0, replies: 10000" in said, said
    client = house.redis()
    assert client.mget(keys) == [b"value of %s\r\n" % k.encode() for k in keys]
    assert client.mget("%d:count:key" % i for i in range(10)) == [b"400"] * 10
    assert client.mget("%d:inline:key" % i for i in range(1000)) == [b"%d" % i for i in range(1000)]
    assert len(house.all_keys()) == 6010

    four = [("SET", "k", "v"), ("LPUSH", "k", "v"), ("NOSUCH",), ("GET", "k")]
    stdin = b"".join(command(*w) for w in four) * 500
    status, said = run("redis-cli", "-h", "127.0.0.1", "-p", house.port, "--pipe", stdin=stdin)
    assert status == 1 and b"errors: 1000, replies: 2000" in said, said[-500:]


# ------------------------------------------------------------- redis-benchmark

def benchmark(house, *arguments):
    status, said = run("redis-benchmark", "-h", "127.0.0.1", "-p", house.port, "-q", *arguments, seconds=90)
    assert status == 0 and not re.search(rb"(?i)\berr(or)?\b", said), said
    return re.findall(rb"^(?:.*\r)?(.+?): [0-9.]+ requests per second", said, re.M)


@needs("redis-benchmark")
@pytest.mark.parametrize("how", [["-c", "50"], ["-c", "20", "-P", "32"]], ids=["unpipelined", "pipelined"])
def test_redis_benchmark_finds_no_error(house, how):
    ran = benchmark(house, *how, "-n", "3200", "-r", "1000", "-t",
                    "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange,mset")
    assert len(ran) >= 18, ran                  # LRANGE and PING are several tests
    assert {b"key", b"counter", b"mylist", b"myhash"} <= {k.split(b":")[0] for k in house.all_keys()}


@needs("redis-benchmark")
def test_redis_benchmark_with_large_values_finds_no_error(house):
    benchmark(house, "-c", "20", "-P", "8", "-d", "20000", "-n", "3200", "-r", "100",
              "-t", "set,get,lpush,rpop,mset")
    sizes = {len(v) for v in house.redis().mget(k for k in house.all_keys() if k.startswith(b"key:"))}
    assert sizes == {20000}


@needs("redis-benchmark")
def test_redis_benchmark_adds_up(house):
    """What it counts is counted exactly once."""
    benchmark(house, "-c", "20", "-P", "16", "-n", "16000", "-r", "50", "-t", "incr")
    counters = [k for k in house.all_keys() if k.startswith(b"counter:")]
    assert len(counters) == 50
    assert sum(map(int, house.redis().mget(counters))) == 16000
    benchmark(house, "-c", "25", "-n", "5000", "-t", "lpush")
    assert house.redis().llen("mylist") == 5000
    benchmark(house, "-c", "10", "-k", "0", "-n", "300", "INCR", "reconnecting")
    assert house.redis().get("reconnecting") == b"300"
    benchmark(house, "-c", "16", "--threads", "2", "-P", "4", "-n", "8000", "-r", "40",
              "EVAL", "return redis.call('INCR', KEYS[1])", "1", "__rand_int__:evaluated")
    evaluated = [k for k in house.all_keys() if k.endswith(b":evaluated")]
    assert len(evaluated) == 40 and sum(map(int, house.redis().mget(evaluated))) == 8000


# -------------------------------------------------------------------- redis-py

def test_redis_py_pipelines(house):
    pytest.importorskip("redis")
    client = house.redis()
    with client.pipeline(transaction=False) as pipe:
        for i in range(1500):
            pipe.set("%d:py:key" % i, "value %d" % i)
            pipe.get("%d:py:key" % i)
            pipe.incr("%d:py:count" % (i % 7), i)
        got = pipe.execute()
    totals = [0] * 7
    for i in range(1500):
        totals[i % 7] += i
        assert got[3 * i:3 * i + 3] == [True, b"value %d" % i, totals[i % 7]], i
    with client.pipeline(transaction=False) as pipe:
        pipe.set("s", "x").lpush("s", 1).get("s").execute_command("NOSUCH").execute_command("MULTI")
        got = pipe.mget("s", "none").execute(raise_on_error=False)
    assert [type(g).__name__ if isinstance(g, Exception) else g for g in got] == [
        True, "ResponseError", b"x", "ResponseError", "ResponseError", [b"x", None]]


def test_redis_py_keys_of_all_servers(house):
    pytest.importorskip("redis")
    client = house.redis()
    values = {b"%d:\xff\x00\r\n" % i: os.urandom(i * 7) for i in range(1000)}
    assert client.mset(values) is True
    assert client.mget(list(values)) == list(values.values())
    assert client.mget([w for k in values for w in (k, b"none")]) == \
        [w for v in values.values() for w in (v, None)]
    assert sorted(house.all_keys()) == sorted(values)
    assert client.exists(*values) == 1000 and client.touch(*list(values)[:10], b"none") == 10
    assert client.delete(*list(values)[::2]) == 500 and client.unlink(*values) == 500
    assert house.all_keys() == []


def test_redis_py_goes_on_after_errors(house):
    redis = pytest.importorskip("redis")
    client, text = house.redis(), house.redis(decode_responses=True)
    assert text.set("schl\u00fcssel", "w\u00e4hrung \u20ac")
    for refused in (client.flushall, client.save, client.slowlog_get, lambda: client.config_set("save", ""),
                    lambda: client.swapdb(0, 1), lambda: client.blpop("l"),
                    lambda: client.sinter("%d:a:x" % i for i in range(12)),
                    lambda: client.lpush("schl\u00fcssel", 1),
                    lambda: client.pipeline().set("in transaction", 1).execute()):
        with pytest.raises(redis.exceptions.ResponseError):
            refused()
        assert client.ping() and client.echo("x") == b"x"
        assert text.get("schl\u00fcssel") == "w\u00e4hrung \u20ac"


def test_redis_py_collections(house):
    client = house.redis()
    client.hset("hash", mapping={"field %d" % i: i for i in range(3000)})
    assert dict(client.hscan_iter("hash", count=100)) == {b"field %d" % i: b"%d" % i for i in range(3000)}
    assert dict(client.hscan_iter("hash", match="*99")) == {
        b"field %d" % i: b"%d" % i for i in range(99, 3000, 100)}
    assert client.hgetall("hash") == {b"field %d" % i: b"%d" % i for i in range(3000)}
    client.sadd("set", *range(3000))
    assert sorted(map(int, client.sscan_iter("set"))) == list(range(3000)) and client.scard("set") == 3000
    client.zadd("zset", {"member %d" % i: i for i in range(3000)})
    members = [(b"member %d" % i, float(i)) for i in range(3000)]
    assert sorted(client.zscan_iter("zset"), key=lambda p: p[1]) == members
    assert client.zrange("zset", 0, 2, withscores=True) == members[:3]
    client.rpush("list", *range(3000))
    assert client.lrange("list", 0, -1) == [b"%d" % i for i in range(3000)]
    assert client.sort("list", desc=True, start=0, num=3) == [b"2999", b"2998", b"2997"]
    client.xadd("stream", {"f": "v"}, id="1-1")
    client.xgroup_create("stream", "group", 0)
    assert client.xreadgroup("group", "me", {"stream": ">"}) == [[b"stream", [(b"1-1", {b"f": b"v"})]]]
    assert client.eval("return {KEYS[1], ARGV[1]}", 1, "{t}a", "b") == [b"{t}a", b"b"]
    client.zadd("{t}one", {"a": 1, "b": 2})
    client.zadd("{t}two", {"b": 3, "c": 4})
    assert client.zunion(["{t}one", "{t}two"], withscores=True) == [(b"a", 1.0), (b"c", 4.0), (b"b", 5.0)]
    assert client.zinterstore("{t}dest", ["{t}one", "{t}two"]) == 1
    with client.pipeline(transaction=False) as pipe:
        pipe.setbit("bits", 7, 1).bitcount("bits").pfadd("hll", "a", "b").pfcount("hll")
        assert pipe.execute() == [0, 1, 1, 2]


def test_redis_py_threads_share_a_pool_of_connections(house):
    redis = pytest.importorskip("redis")
    host, port = house.proxy.where("data")
    connections = redis.BlockingConnectionPool(host=host, port=port, max_connections=5,
                                               socket_timeout=20 * SLOW, timeout=60 * SLOW)
    client = redis.Redis(connection_pool=connections)

    def work(n):
        keys = ["%d:%d:thread" % (i, n) for i in range(5)]
        for r in range(60):
            values = [b"%s in round %d" % (k.encode(), r) for k in keys]
            assert client.mset(dict(zip(keys, values)))
            assert client.mget(keys) == values
            assert client.get(keys[r % 5]) == values[r % 5]
            client.incr("all threads")
            assert client.echo(values[0]) == values[0]

    together(work, 12)
    assert client.get("all threads") == b"720"
    connections.disconnect()


def test_redis_py_asyncio(house):
    aioredis = pytest.importorskip("redis.asyncio")

    async def work(client, n):
        for r in range(20):
            key = "%d:%d:task" % (r, n)
            assert await client.set(key, key)
            async with client.pipeline(transaction=False) as pipe:
                got = await pipe.get(key).incr("tasks").mget(key, "none").execute()
            assert got[0] == key.encode() and got[2] == [key.encode(), None]

    async def everybody():
        host, port = house.proxy.where("data")
        client = aioredis.Redis(host=host, port=port, socket_timeout=20 * SLOW)
        await asyncio.gather(*(work(client, n) for n in range(40)))
        assert await client.get("tasks") == b"800"
        await client.close()

    asyncio.run(asyncio.wait_for(everybody(), 60 * SLOW))


def test_redis_py_logs_in_and_reaches_a_unix_socket(house, stage):
    redis = pytest.importorskip("redis")
    servers = [stage.redis("--requirepass", "secret") for _ in range(2)]
    proxy = stage.nutproxy({"locked": pool(servers, redis_auth="secret", redis_db=3, **PATIENT)})
    client = redis.Redis.from_url("redis://:secret@127.0.0.1:%d/3" % proxy.where("locked")[1])
    assert client.mset({"%d:url:key" % i: i for i in range(50)})
    assert sum(s.client(password="secret", db=3).dbsize() for s in servers) == 50
    with pytest.raises(redis.exceptions.AuthenticationError):
        proxy.redis("locked").get("k")
    with pytest.raises((redis.exceptions.AuthenticationError, redis.exceptions.ResponseError)):
        proxy.redis("locked", password="wrong").get("k")
    with pytest.raises((redis.exceptions.ConnectionError, redis.exceptions.ResponseError)):
        proxy.redis("locked", password="secret", db=1).get("k")
    by_path = redis.Redis(unix_socket_path=house.proxy.where("path"))
    assert by_path.set("k", "by path") and house.redis().get("k") == b"by path"


# ------------------------------------------------------------------ pymemcache

def test_pymemcache_many_keys(house):
    pytest.importorskip("pymemcache")
    client = house.proxy.memcached("cache")
    values = {"%d:many:key" % i: os.urandom(i * 3) + b"\r\nEND\r\n" for i in range(600)}
    assert client.set_many(values) == []
    assert client.get_many(list(values)) == values
    assert client.get_many(["none%d" % i for i in range(50)] + list(values)[:50]) == \
        dict(list(values.items())[:50])
    assert client.get_many([]) == {} and client.get_many(["none"]) == {}
    assert all(house.cached(k) == [v] for k, v in list(values.items())[::40])
    with_cas = client.gets_many(list(values)[:20])
    assert {k: v for k, (v, _) in with_cas.items()} == dict(list(values.items())[:20])
    assert client.delete_many(list(values)[::2]) is True
    assert client.get_many(list(values)) == dict(list(values.items())[1::2])
    client.close()


def test_pymemcache_every_call(house):
    from pymemcache.exceptions import MemcacheError, MemcacheIllegalInputError
    client = house.proxy.memcached("cache")
    assert client.add("k", "1") and not client.add("k", "2") and client.replace("k", "3")
    assert not client.replace("none", "x") and client.append("k", "4") and client.prepend("k", "2")
    assert client.get("k") == b"234" and client.get("none") is None and client.get("none", b"dflt") == b"dflt"
    assert client.incr("k", 6) == 240 and client.decr("k", 41) == 199 and client.incr("none", 1) is None
    assert client.decr("k", 1000) == 0
    value, cas = client.gets("k")
    assert value == b"0  " and client.cas("k", "new", cas) is True
    assert client.cas("k", "late", cas) is False and client.cas("none", "x", cas) is None
    assert client.gets("none") == (None, None)
    assert client.touch("k", 1000) and not client.touch("none", 1000)
    assert client.set("gone", "x", expire=-1) and client.get("gone") is None
    assert client.delete("k") and not client.delete("k")
    assert re.match(rb"\d+\.\d+", client.version())
    assert client.set("flags", "x", flags=123456) and house.cached("flags") == [b"x"]
    for size in (0, 1, 8191, 8192, 65536, 900000):
        value = os.urandom(size)
        assert client.set("sized", value) and client.get("sized") == value
        assert house.cached("sized") == [value]
    for i in range(200):                                          # nobody answers these
        client.set("quiet", i, noreply=True)
        client.incr("quiet", 1, noreply=True)
    client.delete("none", noreply=True)
    assert client.get("quiet") == b"200"
    assert client.stats()[b"nutproxy_servers_answered"] == len(house.caches)
    for refused in (lambda: client.flush_all(), lambda: client.stats("items"), lambda: client.cache_memlimit(100),
                    lambda: client.incr("flags", 1)):
        with pytest.raises(MemcacheError):
            refused()
        assert client.get("quiet") == b"200"
    with pytest.raises(MemcacheIllegalInputError):
        client.get("k" * 251)
    assert client.set("k" * 250, "long") and client.get("k" * 250) == b"long"
    client.quit()


def test_pymemcache_serialized_values_and_other_clients(house):
    from pymemcache import serde
    from pymemcache.client.base import PooledClient
    from pymemcache.client.hash import HashClient
    where = house.proxy.where("cache")
    things = {"%d:thing" % i: {"n": i, "text": "\u20ac" * i, "list": list(range(i))} for i in range(100)}
    for client in (PooledClient(where, serde=serde.pickle_serde, timeout=20 * SLOW, default_noreply=False),
                   HashClient([where], serde=serde.pickle_serde, timeout=20 * SLOW, default_noreply=False)):
        client.set_many(things)
        assert client.get_many(list(things)) == things
        assert client.get("7:thing") == things["7:thing"]
        client.delete_many(list(things))
        assert client.get_many(list(things)) == {}
        client.close()


def test_pymemcache_threads_count_together(house):
    """With incr, and with gets and cas, where each may lose to another thread."""
    from pymemcache.client.base import PooledClient
    client = PooledClient(house.proxy.where("cache"), max_pool_size=6, timeout=20 * SLOW, default_noreply=False)
    client.set("by-incr", "0")
    client.set("by-cas", "0")

    def work(n):
        for r in range(40):
            client.incr("by-incr", 1)
            mine = {"%d:%d:threads" % (i, n): b"%d by %d" % (r, n) for i in range(6)}
            assert client.set_many(mine) == [] and client.get_many(list(mine)) == mine
            while True:
                value, cas = client.gets("by-cas")
                if client.cas("by-cas", b"%d" % (int(value) + 1), cas):
                    break

    together(work, 6)
    assert (client.get("by-incr"), client.get("by-cas")) == (b"240", b"240")
    client.close()


# --------------------------------------------------------- libmemcached's tools

def tool(house, name, *arguments, **kw):
    return run(name, "--servers=127.0.0.1:" + house.cache_port, *arguments, **kw)


@needs("memccp")
def test_the_tools_of_libmemcached(house, tmp_path):
    contents = {"one": b"hello one", "two": os.urandom(200000), "empty": b"",
                "crlf": b"\r\nEND\r\nVALUE x 0 1\r\n"}
    files = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        files.append(str(tmp_path / name))
    assert tool(house, "memccp", *files) == (0, b"")
    for name, content in contents.items():
        assert house.cached(name) == [content], name
    for how in ("--buffer", "--non-blocking", "--tcp-nodelay", "--replace"):
        assert tool(house, "memccp", how, *files) == (0, b""), how
    assert tool(house, "memccp", "--add", files[0])[0] != 0
    assert house.cached("one") == [b"hello one"]

    assert tool(house, "memccat", "one", "crlf") == (0, b"hello one\n" + contents["crlf"] + b"\n")
    assert tool(house, "memccat", "two") == (0, contents["two"] + b"\n")
    assert tool(house, "memccat", "none")[0] != 0
    assert tool(house, "memcexist", "one", "two", "empty")[0] == 0
    assert tool(house, "memcexist", "one", "none")[0] != 0
    assert tool(house, "memctouch", "--expire=1000", "one", "two")[0] == 0
    assert tool(house, "memctouch", "--expire=1000", "none1")[0] != 0
    assert tool(house, "memcping") == (0, b"")
    assert re.search(rb"\d+\.\d+", tool(house, "memcstat", "--server-version")[1])
    assert tool(house, "memcrm", "one") == (0, b"")
    assert house.cached("one") == []
    assert tool(house, "memcrm", "one")[0] != 0
    # What would concern all servers is refused, and nothing is lost by it.
    assert tool(house, "memcflush")[0] != 0
    for refused in ("memcstat", "memcdump"):
        tool(house, refused)
    assert house.cached("two") == [contents["two"]] and tool(house, "memccat", "empty") == (0, b"\n")


@needs("memcslap")
@pytest.mark.parametrize("how", [["--test=set"], ["--test=set", "--non-blocking"], ["--test=set", "--noreply"],
                                 ["--test=get"], ["--test=mget"]], ids=" ".join)
def test_memcslap_gets_through(house, how):
    """Each thread stores or reads all keys; what it cannot do it says, and it does not end well."""
    before = sum(int(re.search(rb"cmd_set (\d+)", stats(c))[1]) for c in house.caches)
    status, said = tool(house, "memcslap", "--concurrency=8", "--execute-number=300", "--initial-load=300", *how)
    assert status == 0 and not re.search(rb"(?i)error|fail|not found", said), said
    assert re.search(rb"2400 keys by\s+8 threads", said), said
    if "--test=set" in how:
        def stored():
            return sum(int(re.search(rb"cmd_set (\d+)", stats(c))[1]) for c in house.caches) - before

        wait_for("all to be stored", lambda: stored() >= 2400)
        assert stored() in (2400, 2700)         # its initial load may count


def stats(cache):
    with socket.create_connection((cache.host, cache.port), 20 * SLOW) as s:
        s.sendall(b"stats\r\n")
        out = b""
        while not out.endswith(b"END\r\n"):
            got = s.recv(65536)
            assert got
            out += got
        return out


@needs("memcaslap")
@pytest.mark.parametrize("how", [["-d", "1"], ["-d", "20"], ["-d", "5", "-X", "20000", "-w", "1k"]],
                         ids=["one key", "many keys", "large"])
def test_memcaslap_verifies_every_value(house, how):
    status, said = tool(house, "memcaslap", "-T", "2", "-c", "16", "-x", "8000", "-v", "1", *how)
    numbers = dict(re.findall(rb"^(\w+): (\d+)$", said, re.M))
    assert status == 0 and numbers[b"verify_failed"] == b"0" and numbers[b"verify_misses"] == b"0", said
    assert int(numbers[b"cmd_get"]) + int(numbers[b"cmd_set"]) == 8000, said
    assert numbers[b"get_misses"] == b"0", said


ASCII = ["version", "verbosity", "get", "gets", "mget", "stat", "stat noreply"] + [
    verb + quiet for verb in ("set", "add", "replace", "cas", "delete", "incr", "decr", "append", "prepend")
    for quiet in ("", " noreply")]


@needs("memccapable")
def test_memccapable_finds_the_proxy_as_capable_as_a_memcached(house):
    """Its tests of the text protocol that do not need flush_all."""
    wrong = []
    for name in ASCII:
        test = ["-a", "-t", "5", "-T", "ascii " + name]
        direct = run("memccapable", "-h", "127.0.0.1", "-p", str(house.memcached_alone.port), *test)
        through = run("memccapable", "-h", "127.0.0.1", "-p", house.cache_port, *test)
        if b"[pass]" in direct[1] and b"[pass]" not in through[1]:
            wrong.append((name, through))
    assert not wrong, wrong
