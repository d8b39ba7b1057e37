"""redis-py as Debian has it (RESP2), and its asyncio half."""
import asyncio

import redis
import redis.asyncio

from transcript import PORT, big, refused, step

client = redis.Redis("127.0.0.1", PORT, client_name="app", socket_timeout=8)
KEYS = ["%d:key" % i for i in range(200)]


def alive():
    return client.get("alive")


step("ping", client.ping)
step("echo", lambda: client.echo("hello"))
step("select", lambda: client.execute_command("SELECT", 0))
step("name", client.client_getname)
step("info", lambda: {"redis_version", "used_memory", "connected_clients"} <= set(client.info()))
step("info server", lambda: "redis_version" in client.info("server"))

# strings, counters, expiry
step("set", lambda: client.set("alive", "yes"))
step("get", alive)
step("get none", lambda: client.get("none"))
step("set nx", lambda: client.set("alive", "no", nx=True))
step("set ex get", lambda: client.set("alive", "yes", ex=1000, get=True))
step("ttl", lambda: client.ttl("alive") > 900)
step("persist", lambda: client.persist("alive"))
step("incr", lambda: client.incr("counter", 41))
step("incrbyfloat", lambda: client.incrbyfloat("counter", 0.5))
step("getdel", lambda: client.getdel("counter"))
step("text", lambda: client.set("schl\u00fcssel", "w\u00e4hrung \u20ac"))

# collections
step("hset", lambda: client.hset("hash", mapping={"a": 1, "b": 2}))
step("hgetall", lambda: client.hgetall("hash"))
step("hmget", lambda: client.hmget("hash", "b", "none"))
step("hscan", lambda: dict(client.hscan_iter("hash")))
step("rpush", lambda: client.rpush("list", "a", "b", "c"))
step("lrange", lambda: client.lrange("list", 0, -1))
step("sadd", lambda: client.sadd("set", "x", "y"))
step("smembers", lambda: client.smembers("set"))
step("zadd", lambda: client.zadd("zset", {"a": 1.5, "b": 2}))
step("zrange", lambda: client.zrange("zset", 0, -1, withscores=True))
step("zpopmin", lambda: client.zpopmin("zset"))

# streams
step("xadd", lambda: client.xadd("stream", {"field": "value"}, id="1-1"))
step("xrange", lambda: client.xrange("stream"))
step("xread", lambda: client.xread({"stream": 0}))
step("xgroup", lambda: client.xgroup_create("stream", "group", 0))
step("xreadgroup", lambda: client.xreadgroup("group", "me", {"stream": ">"}, count=1))
step("xack", lambda: client.xack("stream", "group", "1-1"))
step("xpending", lambda: client.xpending("stream", "group"))

# scripts
step("eval", lambda: client.eval("return {KEYS[1], ARGV[1], 7}", 1, "k", "v"))
step("evalsha of none", lambda: client.evalsha("0" * 40, 1, "k"))
shout = client.register_script("return redis.call('GET', KEYS[1]) .. ARGV[1]")
step("script object", lambda: shout(keys=["alive"], args=["!"]))
step("the same on other keys", lambda: [client.set("s%d" % i, i) and shout(["s%d" % i], ["?"]) for i in range(20)])
sha = step("script load", lambda: client.script_load("return ARGV[1]"))
step("evalsha", lambda: [client.evalsha(sha, 1, "k%d" % i, i) for i in range(8)])
step("script exists", lambda: client.script_exists(sha, "0" * 40))


def script_in_pipeline():
    """It asks SCRIPT EXISTS, and loads what is missing, before the pipeline goes out."""
    late = client.register_script("return ARGV[1] .. '!'")
    with client.pipeline(transaction=False) as pipe:
        late(keys=["a"], args=["x"], client=pipe)
        late(keys=["b"], args=["y"], client=pipe)
        return pipe.get("alive").execute()


step("script object in a pipeline", script_in_pipeline)


# pipelines, many keys
def pipeline():
    with client.pipeline(transaction=False) as pipe:
        for k in KEYS:
            pipe.set(k, "value of " + k)
        return pipe.incr("n").lrange("list", 0, -1).execute()


step("pipeline", pipeline)
step("mget", lambda: client.mget(KEYS + ["none"]))
step("mset", lambda: client.mset({k: k for k in KEYS}))
step("exists", lambda: client.exists(*KEYS, "none"))
step("scan", lambda: set(client.scan_iter(count=17)))
step("scan match", lambda: set(client.scan_iter(match="1*:key", _type="string")))
step("keys", lambda: set(client.keys()))
step("dbsize", client.dbsize)
step("delete", lambda: client.delete(*KEYS, "none"))
step("dbsize less", client.dbsize)

# sizes and bytes
step("1 MiB", lambda: client.set("big", big(1 << 20)))
step("1 MiB back", lambda: client.get("big"))
step("binary", lambda: client.set(b"\0\r\n\xff", b"\0\r\n\xfe"))
step("binary back", lambda: client.get(b"\0\r\n\xff"))

# errors
step("wrongtype", lambda: client.incr("list"))
step("wrong arity", lambda: client.execute_command("GET"))
step("unknown", lambda: client.execute_command("NOSUCHCOMMAND", "x"))
step("not an integer", lambda: client.incr("alive"))
step("errors of a pipeline",
     lambda: client.pipeline(transaction=False).incr("list").get("alive").execute(raise_on_error=False))

# refused by design, for now
refused("transaction", lambda: client.pipeline().set("t", 1).get("t").execute(), alive)
refused("watch", lambda: client.pipeline().watch("alive"), alive)
refused("blpop", lambda: client.blpop("empty list", 1), alive)
refused("xread block", lambda: client.xread({"stream": "$"}, block=1), alive)


def subscription():
    listener = client.pubsub()
    try:
        listener.subscribe("channel")
        return listener.get_message(timeout=2)
    finally:
        listener.close()


refused("subscribe", subscription, alive)

# what stands upon it
step("lock", lambda: (lambda lock: [lock.acquire(), lock.owned(), lock.release()])(client.lock("lock", timeout=60)))


async def awaited():
    other = redis.asyncio.Redis(host="127.0.0.1", port=PORT, client_name="app", socket_timeout=8)
    got = [await other.ping(), await other.get("alive"), await other.mget("alive", "none"),
           {key async for key in other.scan_iter(match="s1*")}]
    await other.close()
    return got


step("asyncio", lambda: asyncio.run(awaited()))
step("a second connection", lambda: redis.Redis.from_url("redis://127.0.0.1:%d/0" % PORT).get("alive"))
step("quit", lambda: client.execute_command("QUIT"))
