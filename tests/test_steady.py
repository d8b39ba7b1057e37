"""What a steady load costs in calls: nothing allocated for a request, no watch changed, no read in vain,
one write to a server for all that a turn has for it.  And what an idle client costs: no buffer.

Two runs that differ only in their length are compared, so that starting and ending cancel out."""
import json
import os
import subprocess

import pytest

import nut
from nut import pool, wait_for
from resp import command
from fake import wire

COUNTED = os.environ.get("NUT_COUNTED", os.path.join(nut.TOP, "build", "counted"))


def counts(stage, servers, protocol, load, rounds):
    """The calls that `rounds` of a load cost, from the start of the program to its end."""
    was, nut.NUTPROXY = nut.NUTPROXY, COUNTED
    try:
        proxy = stage.nutproxy({"alpha": pool(servers, protocol=protocol, hash="md5")})
    finally:
        nut.NUTPROXY = was
    load(proxy, rounds)
    wait_for("all clients to be gone", lambda: proxy.stats()["alpha"]["client_connections"] == 0)
    assert proxy.stop() == 0
    return json.loads(proxy.said().strip().splitlines()[-1])


def gets(pipeline):
    def load(proxy, rounds):
        done = subprocess.run(["redis-benchmark", "-p", str(proxy.where("alpha")[1]), "-c", "50", "-P", str(pipeline),
                               "-n", str(rounds), "-r", "1000", "-q", "-t", "set,get,mset"],
                              capture_output=True, timeout=120)
        assert done.returncode == 0
    return load


def memcached_gets(proxy, rounds):
    with wire(proxy.where("alpha")) as w:
        keys = [b"%d:key" % i for i in range(40)]
        for _ in range(rounds // 100):
            w.say(*(b"set %s 0 0 5\r\nhello\r\n" % k for k in keys))
            assert [w.line() for _ in keys] == [b"STORED\r\n"] * 40
            assert w.tell(b"get %s\r\n" % b" ".join(keys)).count(b"VALUE") == 40


# name: protocol, load, how many requests 20,000 rounds more are
LOADS = {"50 clients": ("redis", gets(1), 60000), "50 clients, pipeline of 16": ("redis", gets(16), 60000),
         "memcached, sets and gets of 40 keys": ("memcached", memcached_gets, 200 * 41)}


@pytest.mark.parametrize("name", LOADS)
def test_a_steady_load_allocates_nothing_changes_no_watch_and_reads_nothing_in_vain(stage, name):
    protocol, load, requests = LOADS[name]
    servers = [stage.redis() if protocol == "redis" else stage.memcached() for _ in range(4)]
    short = counts(stage, servers, protocol, load, 4000)
    long = counts(stage, servers, protocol, load, 24000)
    more = {k: long[k] - short[k] for k in long}
    assert more["reads"] > 1000 and more["writes"] > 1000, more
    # Shelves fill at the start of each kind of load, and are tidied each second.
    assert more["mallocs"] < requests / 10, more
    assert more["watches"] < 50, more
    assert more["empty_reads"] == 0, more


def test_requests_of_one_turn_share_one_write_for_each_server(stage):
    servers = [stage.redis() for _ in range(4)]

    def load(proxy, rounds):
        with wire(proxy.where("alpha")) as w:
            for _ in range(rounds):
                w.say(*(command("GET", "%d:key" % i) for i in range(100)))
                assert w.frames(100) == [b"$-1\r\n"] * 100

    short = counts(stage, servers, "redis", load, 10)
    long = counts(stage, servers, "redis", load, 210)
    # 200 rounds of 100 requests: 4 servers and the client, a few more where replies come apart
    assert long["writes"] - short["writes"] < 200 * 10


def test_an_idle_client_holds_no_buffer(stage):
    proxy = stage.nutproxy({"alpha": pool([stage.redis()])})
    idle = []
    try:
        for _ in range(200):
            idle.append(wire(proxy.where("alpha")))
            assert idle[-1].ask("SET", "k", "x" * 5000) == b"+OK\r\n"
        before = proxy.rss_kib()
        for _ in range(600):
            idle.append(wire(proxy.where("alpha")))
            assert idle[-1].ask("GET", "k") == b"$5000\r\n" + b"x" * 5000 + b"\r\n"
        wait_for("spares to be given back", lambda: proxy.rss_kib() - before < 600)     # 1 KiB each, and no more
    finally:
        for w in idle:
            w.close()
