"""python-memcached as Debian has it (text)."""
import memcache

from transcript import PORT, big, refused, step

client = memcache.Client(["127.0.0.1:%d" % PORT], socket_timeout=8, dead_retry=0, cache_cas=True,
                         server_max_value_length=0)
KEYS = ["%d:key" % i for i in range(200)]


def alive():
    return client.get("alive")


step("set", lambda: client.set("alive", "yes"))
step("get", alive)
step("get none", lambda: client.get("none"))
step("add", lambda: [client.add("new", 1), client.add("new", 2)])
step("replace", lambda: [client.replace("new", 3), client.replace("none", 1)])
step("append", lambda: [client.set("t", "b"), client.append("t", "c"), client.prepend("t", "a"), client.get("t")])
step("incr", lambda: [client.incr("new", 6), client.decr("new", 4), client.incr("none")])
step("cas", lambda: [client.gets("alive"), client.cas("alive", "yes"), client.set("alive", "yes"),
                     client.cas("alive", "no")])
step("touch", lambda: [client.touch("alive", 1000), client.touch("none", 1000)])
step("delete", lambda: [client.delete("new"), client.delete("new")])
step("set_multi", lambda: client.set_multi({k: "value of " + k for k in KEYS}))
step("get_multi", lambda: client.get_multi(KEYS + ["none"]))
step("delete_multi", lambda: client.delete_multi(KEYS))
step("values of all kinds", lambda: [client.set("thing", {"n": [1, 2.5]}), client.get("thing"),
                                     client.set("n", 1 << 40), client.get("n")])
step("900 KiB", lambda: client.set("big", big(900 << 10)))
step("900 KiB back", lambda: client.get("big"))
step("compressed", lambda: [client.set("z", "x" * 100000, min_compress_len=1000), client.get("z")])
step("binary", lambda: [client.set("b", b"\0\r\nEND\r\n\xff"), client.get("b")])
step("stats", lambda: [{b"pid", b"curr_items", b"version"} <= {k if isinstance(k, bytes) else k.encode() for k in s}
                       for _, s in client.get_stats()])
client.disconnect_all()
step("a new connection", alive)
