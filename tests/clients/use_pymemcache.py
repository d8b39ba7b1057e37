"""pymemcache as Debian has it (text)."""
from pymemcache import serde
from pymemcache.client.base import Client, PooledClient

from transcript import PORT, big, refused, step

client = Client(("127.0.0.1", PORT), timeout=8, default_noreply=False)
KEYS = ["%d:key" % i for i in range(200)]


def alive():
    return client.get("alive")


step("version", lambda: client.version() != b"")
step("set", lambda: client.set("alive", "yes"))
step("get", alive)
step("get none", lambda: client.get("none"))
step("add", lambda: [client.add("new", "1"), client.add("new", "2")])
step("replace", lambda: [client.replace("new", "3"), client.replace("none", "x")])
step("append and prepend", lambda: [client.append("new", "4"), client.prepend("new", "2"), client.get("new")])
step("append to none", lambda: client.append("none", "x"))
step("incr and decr", lambda: [client.incr("new", 6), client.decr("new", 41), client.incr("none", 1)])
step("cas", lambda: [client.cas("alive", "yes", client.gets("alive")[1]), client.cas("alive", "no", b"1"),
                     client.cas("none", "x", b"1")])
step("gets none", lambda: client.gets("none"))
step("touch", lambda: [client.touch("alive", 1000), client.touch("none", 1000)])
step("expired", lambda: [client.set("gone", "x", expire=-1), client.get("gone")])
step("delete", lambda: [client.delete("new"), client.delete("new")])
step("flags", lambda: [client.set("flags", "x", flags=123456), client.get("flags")])
step("set many", lambda: client.set_many({k: "value of " + k for k in KEYS}))
step("get many", lambda: client.get_many(KEYS + ["none"]))
step("gets many", lambda: {k: v for k, (v, _) in client.gets_many(KEYS[:20] + ["none"]).items()})
step("delete many", lambda: client.delete_many(KEYS))
step("nothing left", lambda: client.get_many(KEYS))
step("noreply", lambda: [client.set("n", str(i), noreply=True) for i in range(100)][-1:] + [client.get("n")])
step("noreply delete", lambda: [client.delete("n", noreply=True), client.get("n")])
step("900 KiB", lambda: client.set("big", big(900 << 10)))
step("900 KiB back", lambda: client.get("big"))
step("binary", lambda: [client.set("b", b"\0\r\nEND\r\n\xff"), client.get("b"), client.set("e", ""), client.get("e")])
step("incr of text", lambda: client.incr("alive", 1))
step("key too long", lambda: client.get("k" * 251))
step("longest key", lambda: [client.set("k" * 250, "long"), client.get("k" * 250)])
step("after an error", alive)
step("stats", lambda: {b"pid", b"curr_items", b"cmd_get", b"version"} <= set(client.stats()))
pooled = PooledClient(("127.0.0.1", PORT), serde=serde.pickle_serde, timeout=8, default_noreply=False)
step("pickled", lambda: [pooled.set("thing", {"n": [1, 2]}), pooled.get("thing"), pooled.get_many(["thing", "none"])])
refused("flush_all", client.flush_all, alive)
step("quit", client.quit)
