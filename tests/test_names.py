"""Servers that are given by name: who answers, who does not, what changes, and who must not notice.

A scripted name server stands behind an /etc/resolv.conf and an /etc/hosts of the proxy's own.
"""
import random
import re
import signal
import socket
import threading
import time

import pytest

import dns
from dns import (NXDOMAIN, REFUSED, SERVFAIL, Dns, Etc, addresses, after, alias, by_type, fails, late,
                 rotating, silence, truncated)
from fake import Fake, Gone, bulk, wire
from nut import SLOW, dial, free_port, ini, pool, wait_for

pytestmark = pytest.mark.skipif(not dns.can_unshare(), reason="an /etc of one's own needs root")

KEYS = [b"key:%d" % i for i in range(40)]
LOST = {"it does not exist": fails(NXDOMAIN), "its servers fail": fails(SERVFAIL), "it is refused": fails(REFUSED),
        "nobody answers": silence, "it has no address": addresses()}
lost = pytest.mark.parametrize("how", LOST)


def ms(number):
    return int(number * SLOW)


class Town:
    """Servers on loopback addresses of their own, all with the same port, and who knows their names."""

    def __init__(self, stage, server):
        self.stage, self.dns, self.zone, self.fakes = stage, server, server.zone, []
        self.net = "127.%d.%d." % (random.randrange(1, 255), random.randrange(1, 255))
        self.port = free_port()

    def host(self, number):
        return self.net + str(number)

    def server(self, number, says=None, **how):
        """The server there; it answers each GET with `says`, its number unless given."""
        says = bulk(b"%d" % number if says is None else says)

        def answer(link, words):
            return says if words[0] == b"GET" else fake.obey(words)
        fake = Fake(how.pop("answer", answer), host=how.pop("host", self.host(number)), port=self.port, **how)
        self.fakes.append(fake)
        return fake

    def pool(self, *names, **keys):
        keys = dict({"hash": "md5", "timeout": ms(2000), "connect_timeout": ms(500), "resolve_interval": ms(150),
                     "probe_interval": ms(100), "server_retry_timeout": ms(100), "server_failure_limit": 3,
                     "health_rise": 1}, **keys)
        return pool(["%s:%d:1" % (name, self.port) for name in names],
                    names=["n%d" % i for i in range(len(names))], **keys)

    def proxy(self, pools, etc=None, workers=1):
        etc = etc or Etc(self.stage, self.dns)
        return self.stage.nutproxy(dict({"nutproxy": {"workers": workers}}, **pools), preexec=etc.enter)

    def one(self, *names, etc=None, workers=1, **keys):
        return self.proxy({"alpha": self.pool(*names, **keys)}, etc, workers)

    def asked_again(self, *names, times=2):
        """Wait until the proxy has asked for them so often from here on."""
        before = {name: self.dns.times(name) for name in names}
        for name in names:
            wait_for("%s to be looked up again" % name, lambda: self.dns.times(name) >= before[name] + times)


@pytest.fixture
def town(stage):
    with Dns() as server:
        t = Town(stage, server)
        yield t
        for p in stage.processes:
            assert p.child.poll() is None, "it died: %s" % p.said()[-3000:]
            assert p.stop() == 0, p.said()[-3000:]
        for fake in t.fakes:
            fake.down()
        assert not [x for fake in t.fakes for x in fake.broken]


def get(proxy, key=b"k", name="alpha"):
    with wire(proxy.where(name)) as w:
        return w.ask("GET", key)


def serves(proxy, says, key=b"k", name="alpha", seconds=10.0):
    wait_for("%r from %s" % (says, name), lambda: get(proxy, key, name) == bulk(says), seconds)


def whereabouts(proxy, name="alpha"):
    """Which server answers for each key."""
    with wire(proxy.where(name)) as w:
        return {key: w.ask("GET", key) for key in KEYS}


class Traffic:
    """Clients that ask for the same keys all the time. Every answer must be the first one of its key."""

    def __init__(self, proxy, clients=4):
        self.right, self.wrong, self.over, self.count = whereabouts(proxy), [], threading.Event(), 0
        self.wires = [wire(proxy.where("alpha")) for _ in range(clients)]
        self.threads = [threading.Thread(target=self.client, args=(w,), daemon=True) for w in self.wires]

    def client(self, w):
        try:
            while not self.over.is_set():
                for key in KEYS:
                    got = w.ask("GET", key)
                    self.count += 1
                    if got != self.right[key]:
                        self.wrong.append((key, got))
                time.sleep(0.002)
        except (Gone, AssertionError) as e:
            self.wrong.append(e)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        for t in self.threads:
            t.join()
        for w in self.wires:
            w.close()
        assert not self.wrong, self.wrong[:3]
        assert self.count >= len(self.wires) * len(KEYS)


# ---- the start

@lost
def test_a_name_that_is_not_there_yet_holds_up_neither_the_start_nor_other_pools(town, how):
    town.server(1)
    town.zone["later.test"] = LOST[how]
    began = time.monotonic()
    proxy = town.proxy({"alpha": town.pool("later.test", timeout=ms(1000)), "beta": town.pool(town.host(1))})
    assert time.monotonic() - began < 1.5 * SLOW
    with wire(proxy.where("beta")) as w:
        assert w.ask("GET", "k") == bulk(b"1")
    for _ in range(2):
        began = time.monotonic()
        told = get(proxy)
        assert told[:5] == b"-ERR " and told.endswith(b": the request was not sent\r\n"), told
        assert time.monotonic() - began < 1.5 * SLOW
    town.zone["later.test"] = addresses(town.host(1))
    serves(proxy, b"1")


def test_a_name_that_is_never_there_is_told_but_not_with_every_lookup(town):
    proxy = town.one("never.test", resolve_interval=ms(50))

    def told():
        return [line for line in proxy.said().splitlines() if "'never.test' is not resolved" in line]
    for _ in range(5):
        assert get(proxy)[:5] == b"-ERR "
    before = told()
    assert 1 <= len(before) <= 6, "with failures until it is down: %s" % before
    town.asked_again("never.test", times=6)
    assert told() == before


def test_a_check_of_the_configuration_asks_nobody_for_servers(town):
    town.zone["hangs.test"] = silence
    etc = Etc(town.stage, town.dns)
    proxy = town.one(town.host(1), etc=etc)
    path = town.stage.path("check.ini")
    with open(path, "w") as f:
        f.write(ini({"alpha": town.pool("hangs.test", "never.test")}))
    began = time.monotonic()
    check = town.stage.process([proxy.argv[0], "-t", "-c", path], name="check", preexec=etc.enter)
    assert check.child.wait(20) == 0, check.said()
    assert time.monotonic() - began < 1 * SLOW and not town.dns.asked
    town.stage.processes.remove(check)


def test_addresses_are_never_looked_up(town):
    town.server(1)
    path = town.stage.path("sock")
    proxy = town.proxy({"alpha": town.pool(town.host(1)), "beta": town.pool("[::1]"),
                        "gamma": dict(town.pool("x"), servers=[path + ":1 s"])})
    serves(proxy, b"1")
    for name in ("beta", "gamma"):
        assert get(proxy, name=name)[:5] == b"-ERR "
    assert not town.dns.asked


def test_a_hundred_names_are_looked_up_at_the_same_time(town):
    town.server(1)
    names = ["n%d.test" % i for i in range(100)]
    for name in names:
        town.zone[name] = late(0.3, addresses(town.host(1)))
    proxy = town.one(*names, preconnect=True, timeout=ms(5000), connect_timeout=ms(5000))
    began = time.monotonic()
    assert set(whereabouts(proxy).values()) == {bulk(b"1")}
    assert time.monotonic() - began < 3 * SLOW


# ---- changes

@pytest.mark.parametrize("workers", [1, 2])
def test_a_name_that_changes_takes_its_connections_along_and_nobody_notices(town, workers):
    names = ["a.test", "b.test", "c.test"]
    for i, name in enumerate(names):
        town.server(i + 1)
        town.zone[name] = addresses(town.host(i + 1))
    proxy = town.one(*names, workers=workers)
    new = town.server(9, says=b"2")
    with Traffic(proxy, clients=4) as traffic:
        assert len(set(traffic.right.values())) == 3
        town.zone["b.test"] = addresses(town.host(9))
        old = town.fakes[1]
        wait_for("the connections to move", lambda: len(new.links) >= workers and
                 all(link.over.is_set() for link in old.links))
        before = len(new.seen)
        wait_for("requests there", lambda: len(new.seen) > before + 50)
        seen = len(old.seen)
        town.asked_again("b.test")
        assert len(old.seen) == seen
    assert proxy.stats()["alpha"]["server_ejects"] == 0


def test_what_the_old_address_owes_is_still_answered_and_asked_once(town):
    go = threading.Event()

    def slow(link, words):
        if words[0] == b"GET" and words[1] == b"slow":
            assert go.wait(20)
        return bulk(b"old")
    old = town.server(1, answer=slow)
    new = town.server(2, says=b"new")
    town.zone["a.test"] = addresses(town.host(1))
    proxy = town.one("a.test", timeout=ms(15000))
    with wire(proxy.where("alpha")) as w:
        w.say(b"*2\r\n$3\r\nGET\r\n$4\r\nslow\r\n")
        wait_for("the question", lambda: old.asked(b"GET"))
        town.zone["a.test"] = addresses(town.host(2))
        town.asked_again("a.test", times=3)
        go.set()
        assert w.frame() == bulk(b"old")
    serves(proxy, b"new")
    assert not [words for words in new.seen if words[1:2] == [b"slow"]]


def test_a_connection_moves_though_its_server_never_read_the_rest_of_what_it_refused(town):
    """memcached says that a value is too large before it has read it: it owes nothing more, but not all is written."""
    full, over = threading.Event(), threading.Event()

    def refuse(link, words):
        full.wait(20)
        link.say(b"SERVER_ERROR object too large for cache\r\n")
        over.wait(30)
    old = town.server(1, answer=refuse, protocol="memcached")
    old.read = lambda link: link.line().split()             # and not the data behind it
    old.door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    new = town.server(2, protocol="memcached")
    new.store[b"k"] = b"new"
    town.zone["a.test"] = addresses(town.host(1))
    proxy = town.one("a.test", protocol="memcached")
    with wire(proxy.where("alpha")) as w:
        w.say(b"set big 0 0 8000000\r\n", b"v" * 8000000, b"\r\n")
        wait_for("the request", lambda: old.seen)
        time.sleep(0.2 * SLOW)                              # until it can be written no further
        full.set()
        assert w.answer() == b"SERVER_ERROR object too large for cache\r\n"
        town.zone["a.test"] = addresses(town.host(2))
        wait_for("it to be known", lambda: "is at another address" in proxy.said())
        assert w.tell(b"get k\r\n") == b"VALUE k 0 3\r\nnew\r\nEND\r\n"
    over.set()
    assert len(old.links) == 1 and len(old.seen) == 1 and new.seen == [[b"get", b"k"]]


def test_keys_follow_the_names_when_two_of_them_swap_addresses(town):
    town.server(1), town.server(2)
    town.zone["a.test"], town.zone["b.test"] = addresses(town.host(1)), addresses(town.host(2))
    proxy = town.one("a.test", "b.test")
    before = whereabouts(proxy)
    assert set(before.values()) == {bulk(b"1"), bulk(b"2")}
    town.zone["a.test"], town.zone["b.test"] = town.zone["b.test"], town.zone["a.test"]
    other = {bulk(b"1"): bulk(b"2"), bulk(b"2"): bulk(b"1")}
    wait_for("all keys to follow", lambda: whereabouts(proxy) == {k: other[v] for k, v in before.items()})


def test_an_order_that_changes_moves_nobody(town):
    for i in (1, 2, 3):
        town.server(i, says=b"x")
    town.zone["many.test"] = rotating(*map(town.host, (1, 2, 3)))
    proxy = town.one("many.test", resolve_interval=ms(50))
    with Traffic(proxy):
        town.asked_again("many.test", times=8)
    assert sum(len(fake.links) for fake in town.fakes) == 1


def test_an_address_that_stays_among_others_keeps_its_connections(town):
    town.server(1, says=b"x"), town.server(2, says=b"x")
    town.zone["a.test"] = addresses(town.host(1))
    proxy = town.one("a.test")
    with Traffic(proxy):
        town.zone["a.test"] = addresses(town.host(2), town.host(1))
        town.asked_again("a.test", times=3)
        assert len(town.fakes[0].links) == 1 and not town.fakes[1].links
        town.zone["a.test"] = addresses(town.host(2))
        wait_for("the other one", lambda: town.fakes[1].links)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_name_that_moved_is_looked_up_when_its_server_is_gone(town, workers):
    """With no interval: the request that finds the old one gone is answered by the new one."""
    old = town.server(1)
    town.zone["a.test"] = addresses(town.host(1))
    proxy = town.one("a.test", workers=workers, resolve_interval=0, server_failure_limit=20)
    wires = [wire(proxy.where("alpha")) for _ in range(6)]
    assert {w.ask("GET", "k") for w in wires} == {bulk(b"1")}
    asked = town.dns.times("a.test")
    time.sleep(0.5)
    assert town.dns.times("a.test") == asked, "nobody looks without a reason"
    town.zone["a.test"] = addresses(town.host(2))
    town.server(2)
    old.down()
    assert [w.ask("GET", "k") for w in wires] == [bulk(b"2")] * len(wires)
    for w in wires:
        w.close()


def test_a_server_that_is_down_is_looked_up_again(town):
    old = town.server(1)
    town.zone["a.test"], town.zone["b.test"] = addresses(town.host(1)), addresses(town.host(3))
    town.server(3)
    proxy = town.one("a.test", "b.test", resolve_interval=0, server_failure_limit=1, auto_eject_hosts=True)
    right = whereabouts(proxy)
    old.down()
    wait_for("it to be ejected", lambda: set(whereabouts(proxy).values()) == {bulk(b"3")})
    town.server(2, says=b"1")
    town.zone["a.test"] = addresses(town.host(2))
    wait_for("it to be back", lambda: whereabouts(proxy) == right)


def test_a_server_that_does_not_answer_any_more_is_looked_up_too(town):
    stuck = threading.Event()

    def answer(link, words):
        if stuck.is_set():
            town.dns.over.wait(30)
        return bulk(b"1")
    town.server(1, answer=answer)
    town.server(2)
    town.zone["a.test"] = addresses(town.host(1))
    proxy = town.one("a.test", resolve_interval=0, timeout=ms(400))
    serves(proxy, b"1")
    stuck.set()
    town.zone["a.test"] = addresses(town.host(2))
    serves(proxy, b"2")


# ---- the last good answer

@lost
def test_the_last_good_answer_stays_when_a_lookup_fails(town, how):
    fake = town.server(1)
    town.zone["a.test"] = addresses(town.host(1))
    proxy = town.one("a.test", server_failure_limit=50)
    with Traffic(proxy):
        town.zone["a.test"] = LOST[how]
        town.asked_again("a.test", times=3)
    fake.down()
    fake.up()
    with Traffic(proxy):
        assert len(fake.links) == 2
    fake.down()
    wait_for("an error", lambda: get(proxy) != bulk(b"1"))
    fake.up()
    serves(proxy, b"1")
    town.server(2)
    town.zone["a.test"] = addresses(town.host(2))
    serves(proxy, b"2")


# ---- several addresses

@pytest.mark.parametrize("order", [(8, 1), (1, 8), (7, 8, 1)])
def test_when_one_address_refuses_the_next_is_tried(town, order):
    town.server(1)
    town.zone["many.test"] = addresses(*map(town.host, order))
    proxy = town.one("many.test", server_failure_limit=4)
    began = time.monotonic()
    assert get(proxy) == bulk(b"1")
    assert time.monotonic() - began < 1.5 * SLOW


def test_when_one_address_does_not_answer_the_next_is_tried(town):
    closed = town.server(7, welcoming=False)
    with dial((closed.host, closed.port), 5):           # now nobody else gets in
        town.server(1)
        town.zone["many.test"] = addresses(town.host(7), town.host(1))
        proxy = town.one("many.test", timeout=ms(6000), connect_timeout=ms(400))
        serves(proxy, b"1", seconds=4)


def test_when_one_address_does_not_answer_all_connections_try_the_next_and_the_server_did_not_fail(town):
    """Those that waited for the first one too are no failures of the second."""
    closed = town.server(7, welcoming=False)
    with dial((closed.host, closed.port), 5):           # now nobody else gets in
        good = town.server(1)
        town.zone["many.test"] = addresses(town.host(7), town.host(1))
        proxy = town.one("many.test", timeout=ms(6000), connect_timeout=ms(400), server_connections=2,
                         server_failure_limit=1, probe_interval=ms(20000))
        wires = [wire(proxy.where("alpha")) for _ in range(6)]
        for w in wires:
            w.say(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
            time.sleep(0.02 * SLOW)                     # so that the connections do not end in the same moment
        for _ in range(3):
            assert [w.frame() for w in wires] == [bulk(b"1")] * len(wires)
            for w in wires:
                w.say(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        for w in wires:
            w.close()
        assert len(good.links) == 2
        assert proxy.stats()["alpha"]["forward_error"] == 0 and " is down" not in proxy.said()


def test_when_the_address_in_use_dies_another_takes_over(town):
    one, two = town.server(1, says=b"x"), town.server(2, says=b"x")
    town.zone["many.test"] = addresses(town.host(1), town.host(2))
    proxy = town.one("many.test", server_failure_limit=10)
    for dies, lives in ((one, two), (two, one), (one, two)):
        serves(proxy, b"x")
        dies.down()
        with Traffic(proxy):
            wait_for("the other one", lambda: any(not link.over.is_set() for link in lives.links))
        dies.up()


@pytest.mark.parametrize("place", [0, 7, 12])
def test_of_fifty_addresses_the_one_that_works_is_found(town, place):
    """Eight of a kind are tried; servers of names have another one first each time."""
    town.server(1)
    hosts = [town.host(100 + i) for i in range(50)]
    hosts[place] = town.host(1)
    town.zone["many.test"] = addresses(*hosts) if place < 8 else rotating(*hosts)
    serves(town.one("many.test"), b"1")


def test_an_answer_that_is_cut_is_enough(town):
    town.server(1)
    town.zone["many.test"] = truncated(20, town.host(100), town.host(1), *(town.host(101 + i) for i in range(48)))
    serves(town.one("many.test"), b"1")


@pytest.mark.parametrize("lives", ["127.0.0.1", "::1"])
def test_of_ipv4_and_ipv6_the_one_with_a_server_is_used(town, lives):
    town.server(1, host=lives)
    town.zone["both.test"] = addresses("127.0.0.1", "::1")
    etc = Etc(town.stage, town.dns, hosts="127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n")
    proxy = town.proxy({"alpha": town.pool("localhost"), "beta": town.pool("both.test")}, etc)
    for name in ("alpha", "beta"):
        began = time.monotonic()
        assert get(proxy, name=name) == bulk(b"1")
        assert time.monotonic() - began < 1.5 * SLOW
    assert not town.dns.times("localhost")


def test_a_name_with_an_ipv6_address_only(town):
    town.server(1, host="::1")
    town.zone["six.test"] = addresses("::1")
    assert get(town.one("six.test")) == bulk(b"1")


@lost
def test_who_has_ipv4_needs_no_answer_for_ipv6(town, how):
    town.server(1)
    town.zone["four.test"] = by_type(a=addresses(town.host(1)), aaaa=LOST[how])
    serves(town.one("four.test", timeout=ms(4000), connect_timeout=ms(4000)), b"1")


# ---- how names are found

def test_aliases_are_followed(town):
    for i in (1, 2):
        town.server(i)
    town.zone["one.test"] = alias("two.test", of=[town.host(1)])
    town.zone["long.test"] = alias(*("step%d.sub.test" % i for i in range(8)), of=[town.host(2)])
    proxy = town.one("one.test", "long.test")
    wait_for("both", lambda: set(whereabouts(proxy).values()) == {bulk(b"1"), bulk(b"2")})


HOSTS = """# the machines
%(net)s1\tone.test one   # the first
  %(net)s2   two.test two
%(net)s3 Three.Test\tTHREE
999.1.2.3 four.test
nonsense
%(net)s4 four.test
#%(net)s5 one.test
%(net)s6 five.test.more onemore xone.test"""


def test_the_file_of_hosts_comes_first_and_its_changes_are_seen(town):
    for i in range(1, 7):
        town.server(i)
    etc = Etc(town.stage, town.dns, hosts=HOSTS % {"net": town.net})
    for name in ("one.test", "two", "four.test"):
        town.zone[name] = addresses(town.host(6))
    names = ["one.test", "one", "two.test", "two", "three.test", "Three", "four.test"]
    proxy = town.proxy({name.replace(".", "_"): town.pool(name) for name in names}, etc)
    assert [get(proxy, name=name.replace(".", "_")) for name in names] == \
        [bulk(b"%d" % n) for n in (1, 1, 2, 2, 3, 3, 4)]
    assert not town.dns.asked
    etc.hosts("%s one.test\n" % town.host(5))
    serves(proxy, b"5", name="one_test")
    serves(proxy, b"6", name="two")                 # only the name server knows it by now
    serves(proxy, b"2", name="two_test")            # nobody does: the last good one


def test_a_file_of_hosts_that_is_missing_or_odd_harms_nobody(town):
    town.server(1)
    town.zone["a.test"] = addresses(town.host(1))
    for hosts in ("", "\0\0\0", "127.0.0.1", "127.0.0.1 " + "x" * 100000, "a.test\n" * 3000 + "::1%",
                  "127.0.0.1 \n" * 500, "\xff" * 3000):
        serves(town.one("a.test", etc=Etc(town.stage, town.dns, hosts=hosts)), b"1")
    assert town.dns.times("a.test") >= 7


@pytest.mark.parametrize("resolv, name, found", [
    ("search lab.test corp.test\n", "redis", "redis.corp.test"),
    ("search corp.test\n", "redis.sub", "redis.sub"),
    ("search corp.test\noptions ndots:2\n", "redis.sub", "redis.sub.corp.test"),
    ("search corp.test\noptions ndots:2\n", "redis.sub", "redis.sub"),
    ("search corp.test\noptions rotate ndots:5 timeout:1 edns0 trust-ad\n", "a.b.c.d", "a.b.c.d.corp.test"),
    ("search\tcorp.test   lab.test \n", "redis", "redis.lab.test"),
    ("search nowhere.test\nsearch corp.test\n", "redis", "redis.corp.test"),
    ("domain corp.test\n", "redis", "redis.corp.test"),
    ("", "redis", "redis"),
    ("search corp.test\noptions ndots:0\n", "redis", "redis"),
    ("search corp.test\n", "redis.sub.", "redis.sub"),
])
def test_short_names_are_completed_as_the_system_does(town, resolv, name, found):
    town.server(1)
    town.zone[found] = addresses(town.host(1))
    etc = Etc(town.stage, town.dns, more=resolv + "options timeout:1\n")
    assert get(town.one(name, etc=etc)) == bulk(b"1")


@pytest.mark.parametrize("first", [silence, fails(SERVFAIL), fails(REFUSED)], ids=["silent", "failing", "refusing"])
def test_when_one_name_server_does_not_help_another_is_asked(town, first):
    town.server(1)
    town.zone["a.test"] = late(0.1, addresses(town.host(1)))
    with Dns() as useless:
        useless.zone["a.test"] = first
        etc = Etc(town.stage, useless, town.dns)
        assert get(town.one("a.test", etc=etc, timeout=ms(4000), connect_timeout=ms(4000))) == bulk(b"1")
        wait_for("it to be asked, too", lambda: useless.asked)


def test_the_third_name_server_is_asked_when_nobody_is_where_the_others_should_be(town):
    town.server(1)
    town.zone["a.test"] = addresses(town.host(1))
    etc = Etc(town.stage, more="nameserver 127.255.0.1\nnameserver ::1\nnameserver %s\nnameserver 127.0.0.9\n"
              "options timeout:1 attempts:2\n" % town.dns.host)
    serves(town.one("a.test", etc=etc, timeout=ms(6000), connect_timeout=ms(6000)), b"1")


def test_a_question_that_is_lost_is_asked_again(town):
    town.server(1)
    town.zone["a.test"] = after(1, silence, addresses(town.host(1)))
    proxy = town.one("a.test", timeout=ms(4000), connect_timeout=ms(4000), server_failure_limit=1)
    assert get(proxy) == bulk(b"1")
    assert town.dns.times("a.test") >= 2


def test_another_name_server_in_resolv_conf_is_found(town):
    town.server(1), town.server(2)
    etc = Etc(town.stage, town.dns)
    town.zone["a.test"] = addresses(town.host(1))
    proxy = town.one("a.test", etc=etc)
    serves(proxy, b"1")
    with Dns() as other:
        other.zone["a.test"] = addresses(town.host(2))
        etc.resolv("nameserver %s\n" % other.host)
        serves(proxy, b"2")


@pytest.mark.parametrize("resolv", [
    "", "nameserver\n", "nameserver nonsense\nnameserver 1.2.3\n", "options timeout:99999999999 ndots:-1 attempts:x\n",
    "search " + " ".join("d%d.test" % i for i in range(300)) + "\n", "search " + "x" * 3000 + "\n", "\0\xff\n\r\n;#",
    "options\n" * 2000, "search a..b.test .\n", "nameserver 127.0.0.1"],
    ids=["empty", "bare", "no addresses", "wild numbers", "300 domains", "a long domain", "rubbish", "2000 lines",
         "odd domains", "no line end"])
def test_an_odd_resolv_conf_harms_nobody(town, resolv):
    """A good line behind it counts, where the odd one does not name another server first."""
    town.server(1)
    town.zone["a.test"] = addresses(town.host(1))
    etc = Etc(town.stage, more=resolv + "\nnameserver %s\noptions timeout:1 attempts:2\n" % town.dns.host)
    serves(town.one("a.test", etc=etc, timeout=ms(4000), connect_timeout=ms(4000)), b"1")


def test_without_a_resolv_conf_hosts_are_found_all_the_same(town):
    town.server(1)
    etc = Etc(town.stage, more="", hosts="%s a.test\n" % town.host(1))
    proxy = town.proxy({"alpha": town.pool("a.test"), "beta": town.pool("b.test", timeout=ms(400))}, etc)
    assert get(proxy) == bulk(b"1")
    assert get(proxy, name="beta")[:5] == b"-ERR "


# ---- nobody waits

def test_names_that_hang_delay_nobody(town):
    """Neither other names, nor the requests of other pools."""
    town.server(1), town.server(2)
    town.zone["quick.test"] = addresses(town.host(1))
    hang = ["hang%d.test" % i for i in range(20)]
    for name in hang:
        town.zone[name] = silence
    etc = Etc(town.stage, town.dns, more="options timeout:5 attempts:2\n")
    proxy = town.proxy({"slow": town.pool(*hang, timeout=ms(700)), "quick": town.pool("quick.test"),
                        "alpha": town.pool(town.host(1))}, etc)
    with wire(proxy.where("slow")) as slow, wire(proxy.where("alpha")) as w:
        slow.say(*(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(k), k) for k in KEYS))
        wait_for("the lookups", lambda: {q.name for q in list(town.dns.asked)} & set(hang))
        began = time.monotonic()
        assert get(proxy, name="quick") == bulk(b"1")
        assert time.monotonic() - began < 1 * SLOW
        worst = 0
        for _ in range(300):
            at = time.monotonic()
            assert w.ask("GET", "k") == bulk(b"1")
            worst = max(worst, time.monotonic() - at)
        assert worst < 0.25 * SLOW, worst
        town.zone["quick.test"] = addresses(town.host(2))
        serves(proxy, b"2", name="quick", seconds=2)
        assert {frame[:5] for frame in slow.frames(len(KEYS))} == {b"-ERR "}


@pytest.mark.parametrize("answers", [True, False], ids=["answers come", "nobody answers"])
def test_it_stops_at_once_while_names_are_looked_up(town, answers):
    """Which goes on while everything is given back: with answers all the time, and questions asked again."""
    names = ["n%d.test" % i for i in range(300)]
    for i, name in enumerate(names):
        town.zone[name] = late(0.001 + 0.002 * (i % 100), addresses(town.host(1))) if answers else silence
    etc = Etc(town.stage, town.dns, more="options timeout:1 attempts:9\n")
    proxy = town.one(*names, etc=etc, preconnect=True, workers=2)
    wait_for("the lookups", lambda: town.dns.times(names[40]))
    began = time.monotonic()
    assert proxy.stop() == 0
    assert time.monotonic() - began < 1.5 * SLOW
    town.stage.processes.remove(proxy)


def test_it_stops_soon_though_a_reload_looks_up_where_to_listen(town):
    """Nobody answers, and resolv.conf says to wait for two minutes: it is not waited for so long."""
    town.server(1)
    town.zone["listen.test"] = silence
    alpha = town.pool(town.host(1))
    proxy = town.one(town.host(1), etc=Etc(town.stage, town.dns, more="options timeout:60 attempts:2\n"))
    serves(proxy, b"1")
    with open(proxy.conf, "w") as f:
        f.write(ini({"alpha": dict(alpha, listen="listen.test:%d" % free_port())}))
    proxy.signal(signal.SIGUSR1)
    wait_for("the lookup", lambda: town.dns.times("listen.test"))
    began = time.monotonic()
    assert proxy.stop() == 0
    assert time.monotonic() - began < 7 * SLOW
    town.stage.processes.remove(proxy)


# ---- the configuration changes

def reload(proxy, pools):
    proxy.sections = dict({"nutproxy": proxy.sections["nutproxy"]}, **pools)
    with open(proxy.conf, "w") as f:
        f.write(ini(proxy.sections))
    before = len(proxy.said())
    proxy.signal(signal.SIGUSR1)
    wait_for("the reload", lambda: re.search("was read again|is not taken over", proxy.said()[before:]))
    assert "was read again" in proxy.said()[before:], proxy.said()[before:]


@pytest.mark.parametrize("workers", [1, 2])
def test_names_come_and_go_with_the_configuration(town, workers):
    for i in (1, 2, 3):
        town.server(i)
    town.zone.update({"a.test": addresses(town.host(1)), "hang.test": silence})
    alpha = town.pool("a.test")
    proxy = town.proxy({"alpha": alpha, "beta": town.pool("hang.test")}, workers=workers)
    with Traffic(proxy):
        waiting = wire(proxy.where("beta"))
        waiting.say(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        gamma = town.pool("never.test", timeout=ms(500))
        for beta in (town.pool("hang.test", timeout=ms(1500)), town.pool("b.test"), town.pool("hang.test")):
            reload(proxy, {"alpha": alpha, "beta": beta, "gamma": gamma})
        assert waiting.frame()[:5] == b"-ERR "
        waiting.close()
        assert get(proxy, name="gamma")[:5] == b"-ERR "
        town.zone.update({"never.test": addresses(town.host(2)), "hang.test": addresses(town.host(3))})
        serves(proxy, b"2", name="gamma")
        serves(proxy, b"3", name="beta")
        reload(proxy, {"alpha": alpha})
    town.asked_again("a.test")
    asked = [town.dns.times(name) for name in ("never.test", "hang.test", "b.test")]
    town.asked_again("a.test", times=3)
    assert [town.dns.times(name) for name in ("never.test", "hang.test", "b.test")] == asked, "names that are gone"


def test_what_was_found_is_known_after_the_configuration_changed(town):
    town.server(1)
    town.zone["a.test"] = addresses(town.host(1))
    alpha = town.pool("a.test")
    proxy = town.proxy({"alpha": alpha})
    serves(proxy, b"1")
    town.zone["a.test"] = silence
    reload(proxy, {"alpha": dict(alpha, timeout=ms(3000))})
    began = time.monotonic()
    assert get(proxy) == bulk(b"1")
    assert time.monotonic() - began < 1 * SLOW


# ---- who means harm

def test_forged_replies_are_not_believed_and_the_true_one_counts(town):
    """Each comes before the true reply: who forges one must be quicker."""
    evil = town.server(66)
    for i in (1, 2):
        town.server(i)
    forged = dns.forged(town.host(66))
    names = {"f%d.test" % i: what for i, what in enumerate(forged)}
    true = late(0.2, addresses(town.host(1)))
    for name, what in names.items():
        town.zone[name] = lambda q, what=what: forged[what](q) + true(q)
    pools = {"p%d" % i: town.pool(name) for i, name in enumerate(names)}
    proxy = town.proxy(pools)
    for name, what in zip(pools, forged):
        wait_for("an answer after: " + what, lambda: get(proxy, name=name) in (bulk(b"1"), bulk(b"66")))
    town.asked_again(*names)
    for name in names:
        town.zone[name] = addresses(town.host(2))
    for name, what in zip(pools, forged):
        wait_for("a change after: " + what, lambda: get(proxy, name=name) == bulk(b"2"))
    assert not evil.links, "somebody was believed: %d" % len(evil.links)


def test_malformed_replies_change_nothing_and_harm_nobody(town):
    evil = town.server(66)
    for i in (1, 2):
        town.server(i)
    malformed = dns.malformed(town.host(1), town.host(66))
    names = {"m%d.test" % i: what for i, what in enumerate(malformed)}
    for name in names:
        town.zone[name] = addresses(town.host(1))
    pools = {"p%d" % i: town.pool(name) for i, name in enumerate(names)}
    proxy = town.proxy(pools)
    for name in pools:
        serves(proxy, b"1", name=name)
    for name, what in names.items():
        town.zone[name] = malformed[what]
    town.asked_again(*names)
    for fake in town.fakes:
        fake.drop()
    for name, what in zip(pools, malformed):
        wait_for("the last good one after: " + what, lambda: get(proxy, name=name) == bulk(b"1"))
    for name in names:
        town.zone[name] = addresses(town.host(2))
    for name, what in zip(pools, malformed):
        wait_for("a change after: " + what, lambda: get(proxy, name=name) == bulk(b"2"))
    assert not evil.links


def test_nobody_can_guess_the_next_question(town):
    for i in range(60):
        town.zone["q%d.test" % i] = fails(NXDOMAIN)
    proxy = town.one(*("q%d.test" % i for i in range(60)), preconnect=True)
    whereabouts(proxy)
    wait_for("many questions", lambda: len(town.dns.asked) >= 120)
    ids = [q.id for q in town.dns.asked[:120]]
    assert len(set(ids)) >= 100
    steps = [b - a for a, b in zip(ids, ids[1:])]
    assert max(map(steps.count, steps)) <= 20, "they count"
