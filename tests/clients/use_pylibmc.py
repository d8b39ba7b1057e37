"""pylibmc as Debian has it: libmemcached, with the text protocol, and with the binary one, which is refused."""
import time

import pylibmc

from transcript import PORT, THROUGH, big, refused, step, tell

client = pylibmc.Client(["127.0.0.1:%d" % PORT], binary=False,
                        behaviors={"cas": True, "tcp_nodelay": True, "receive_timeout": 8000000})
KEYS = ["%d:key" % i for i in range(200)]


def alive():
    return client.get("alive")


step("set", lambda: client.set("alive", "yes"))
step("get", alive)
step("get none", lambda: client.get("none"))
step("add", lambda: [client.add("new", 1), client.add("new", 2)])
step("replace", lambda: [client.replace("new", 3), client.replace("none", "x")])
step("append and prepend", lambda: [client.set("t", "b"), client.append("t", "c"), client.prepend("t", "a"),
                                    client.get("t")])
step("incr and decr", lambda: [client.incr("new", 6), client.decr("new", 4), client.get("new")])
step("incr of none", lambda: client.incr("none"))
step("cas", lambda: [client.cas("alive", "yes", client.gets("alive")[1]), client.cas("alive", "no", 1)])
step("touch", lambda: [client.touch("alive", 1000), client.touch("none", 1000)])
step("delete", lambda: [client.delete("new"), client.delete("new")])
step("set_multi", lambda: client.set_multi({k: "value of " + k for k in KEYS}))
step("get_multi", lambda: client.get_multi(KEYS + ["none"]))
step("delete_multi", lambda: client.delete_multi(KEYS))
step("nothing left", lambda: client.get_multi(KEYS))
step("values of all kinds", lambda: [client.set("thing", {"n": [1, 2.5, None]}), client.get("thing"),
                                     client.set("long", 1 << 40), client.get("long")])
step("900 KiB", lambda: client.set("big", big(900 << 10)))
step("900 KiB back", lambda: client.get("big"))
step("compressed", lambda: [client.set("z", b"x" * 100000, min_compress_len=1000), client.get("z")])
step("binary", lambda: [client.set("b", b"\0\r\nEND\r\n\xff"), client.get("b")])
step("incr of text", lambda: client.incr("alive"))
step("key too long", lambda: client.get("k" * 251))
step("after an error", alive)
step("stats", lambda: [sorted({"pid", "curr_items", "cmd_get", "version"} & set(s)) for _, s in client.get_stats()])
refused("flush_all", client.flush_all, alive)
binary = pylibmc.Client(["127.0.0.1:%d" % PORT], binary=True, behaviors={"receive_timeout": 8000000})
began = time.monotonic()
refused("binary protocol", lambda: binary.set("binary", "x"), alive, why=".")
tell("in time", time.monotonic() - began < 2 or not THROUGH)
