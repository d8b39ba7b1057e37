"""It is small: the binary as it is shipped, idle and in 16 MiB."""
import os
import resource

import pytest

from fake import wire
from nut import NUTPROXY, pool
from resp import command

pytestmark = pytest.mark.skipif("asan" in os.path.basename(NUTPROXY), reason="sanitizers take memory of their own")
MIB = 1 << 20


def only(mib):
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (mib * MIB, mib * MIB))


def test_idle_with_one_worker_it_has_less_than_a_mebibyte(stage):
    servers = [stage.redis() for _ in range(4)]
    proxy = stage.nutproxy({"alpha": pool(servers)})
    with wire(proxy.where("alpha")) as w:
        for k in range(50):
            assert w.ask("SET", "k%d" % k, "v") == b"+OK\r\n"
    assert proxy.rss_kib() <= 1024


def test_it_serves_a_hundred_clients_in_16_mebibytes(stage):
    servers, caches = [stage.redis() for _ in range(4)], [stage.memcached() for _ in range(4)]
    proxy = stage.nutproxy({"alpha": pool(servers), "beta": pool(caches, protocol="memcached")}, preexec=only(16))
    value = b"v" * 20000
    links = [wire(proxy.where("alpha")) for _ in range(100)]
    keys = [b"k%d" % k for k in range(20)]
    for key in keys:
        assert links[0].ask("SET", key, value) == b"+OK\r\n"
    whole = b"*20\r\n" + (b"$20000\r\n" + value + b"\r\n") * 20
    for some in (links[i:i + 20] for i in range(0, 100, 20)):
        for link in some:                   # 8 MB of replies, which nobody reads yet, and which must fit
            link.say(command("MGET", *keys), command("PING"))
        for link in some:
            assert link.frame() == whole and link.frame() == b"+PONG\r\n"
    for link in links:
        link.close()
    links = [wire(proxy.where("beta")) for _ in range(100)]
    for n, link in enumerate(links):
        link.say(*(b"set k%d 0 0 5000\r\n%s\r\n" % (k, value[:5000]) for k in range(n, n + 8)))
    for link in links:
        assert [link.line() for _ in range(8)] == [b"STORED\r\n"] * 8
    for link in links:
        link.close()
    assert proxy.stop() == 0 and "were not given back" not in proxy.said()
