"""Stats consumers work unchanged: those written for twemproxy read nutproxy, and get the
same numbers as from Debian's nutcracker for the same traffic over equal servers.

Each kind of traffic has proxies of its own, so what differs can be told exactly: see
DIFFERENCES. Whatever is not there must be equal, and whatever is there must occur.
"""
import collections
import json
import os
import re
import socket
import time
import types

import pytest

import consumers
from consumers import CLOCKS, CONSUMERS, POOL, PROCESS, SERVER, everything
from fake import Fake, bulk, command, wire
from nut import NUTCRACKER, SLOW, can_connect, free_port, pool, wait_for

pytestmark = pytest.mark.skipif(not os.path.exists(NUTCRACKER), reason="no nutcracker here")

KEYS = [b"key%d" % i for i in range(40)]
FOREVER = 3600 * 1000
NIL, OK = b"$-1\r\n", b"+OK\r\n"


# ---- traffic

KINDS = {}


def kind(count=1, protocol="redis", options=(), unix=False, fake=False, ours={}, **keys):
    """What the decorated function needs: servers, and keys of their pool "alpha", `ours` in
    nutproxy's only."""
    def keep(traffic):
        KINDS[traffic.__name__] = types.SimpleNamespace(
            traffic=traffic, count=count, protocol=protocol, options=options, unix=unix, fake=fake,
            ours=ours, keys=dict({"hash": "md5", "timeout": int(20000 * SLOW)}, **keys))
        return traffic
    return keep


class Side:
    """One of the proxies, its servers, and what the traffic tells of itself."""

    def __init__(self, stage, which, kind):
        self.notes = collections.Counter()
        self.names = ["s%d" % i for i in range(kind.count)]
        if kind.fake:
            self.servers = [Fake(welcoming=False) for _ in self.names]
        else:
            self.servers = [
                stage.redis(*kind.options, unixsocket=stage.path("%s-%s.sock" % (which, n)))
                if kind.protocol == "redis" else stage.memcached(*kind.options) for n in self.names]
        places = ["%s:1" % s.unixsocket for s in self.servers] if kind.unix else self.servers
        keys = dict(kind.keys, **(kind.ours if which == "nutproxy" else {}))
        sections = {"alpha": pool(places, kind.protocol, self.names, **keys),
                    "quiet": pool(["127.0.0.1:1:1 one", "127.0.0.1:2:1 two"], "memcached")}
        self.proxy = stage.nutcracker(sections, "-i", "100") if which == "nutcracker" \
            else stage.nutproxy(sections)
        self.door = ("127.0.0.1", self.proxy.stats_port)
        self.wires = []

    def close(self):
        for w in self.wires:
            w.close()
        for server in self.servers:
            if isinstance(server, Fake):
                server.down()

    def wire(self):
        """A client that stays until all has been compared."""
        self.wires.append(wire(self.proxy.where("alpha")))
        return self.wires[-1]

    def number(self, *path):
        return everything(self.door)[("alpha",) + path]

    def becomes(self, wanted, *path):
        wait_for("%s of %s to be %d" % (path, self.proxy.argv[0], wanted),
                 lambda: self.number(*path) == wanted)

    def owners(self, keys):
        """{key: name of the server that has it}."""
        return {k: name for name, server in zip(self.names, self.servers)
                for k in keys if server.client().exists(k)}


@kind(3)
def single_commands(side):
    w = side.wire()
    for k in KEYS:
        assert w.ask("SET", k, k * 3) == OK and w.ask("GET", k) == bulk(k * 3)
    assert w.ask("INCR", "n") == b":1\r\n" and w.ask("GET", "nosuch") == NIL
    assert w.ask("PING") == b"+PONG\r\n"
    for words in (("INCR", KEYS[0]), ("HGET", KEYS[1], "f"), ("EVAL", "x", 1, "k")):
        assert w.ask(*words)[:1] == b"-"
    assert w.ask("SET", "large", "v" * 100000) == OK and len(w.ask("GET", "large")) > 100000
    w.say(*(command("GET", k) for k in KEYS))
    assert w.frames(len(KEYS)) == [bulk(k * 3) for k in KEYS]
    assert w.ask("RPUSH", "list", *KEYS) == b":40\r\n"
    assert w.ask("LRANGE", "list", 0, -1)[:5] == b"*40\r\n"


@kind(3)
def split_commands(side):
    w = side.wire()
    for k in KEYS:
        assert w.ask("SET", k, k) == OK
    assert len(set(side.owners(KEYS).values())) == 3
    for words in (("MGET", *KEYS), ("TOUCH", *KEYS), ("DEL", *KEYS), ("UNLINK", *KEYS)):
        assert w.ask(*words)[:1] in b"*:"
        side.notes["fragments"] += 3
    assert w.ask("MGET", KEYS[0]) == b"*1\r\n" + NIL        # nothing to split
    assert w.ask("DEL", KEYS[0], KEYS[0]) == b":0\r\n"


@kind(3)
def exists_of_many(side):
    w = side.wire()
    for k in KEYS:
        assert w.ask("SET", k, k) == OK
    owners, first = side.owners(KEYS), side.owners(KEYS[:1])[KEYS[0]]
    assert w.ask("EXISTS", *KEYS)[:1] == b":"
    side.notes["fragments"] = 3
    side.notes["bytes", first] = -len(command("EXISTS", *KEYS))
    for name in side.names:
        own = [k for k in KEYS if owners[k] == name]
        side.notes["bytes", name] += len(command("EXISTS", *own))
        side.notes["more", name] = int(name != first)
        side.notes["replies", name] = len(b":%d\r\n" % len(own)) * (name != first)


@kind(2)
def mset(side):
    w = side.wire()
    values = {k: b"value of " + k for k in KEYS}
    assert w.ask("MSET", *(x for pair in values.items() for x in pair)) == OK
    side.notes["fragments"] += 2
    owners = side.owners(KEYS)
    for k in KEYS[:-1]:
        side.notes["values", owners[k]] += len(bulk(values[k]))


@kind()
def clients_come_and_go(side):
    stays = side.wire()
    assert stays.ask("GET", "k") == NIL
    for asks in (True, False):
        for leave in ("close", "reset"):
            w = wire(side.proxy.where("alpha"))
            if asks:
                assert w.ask("GET", "k") == NIL
            getattr(w, leave)()
    for last in (command("QUIT"), command("GET", "k") + command("QUIT"), b"*x\r\n"):
        w = wire(side.proxy.where("alpha"))
        w.say(last)
        w.rest()
    w = wire(side.proxy.where("alpha"))
    w.say(command("GET", "k") * 2)
    w.sock.shutdown(socket.SHUT_WR)
    assert w.rest() == NIL * 2
    side.becomes(1, "client_connections")


@kind(2, "memcached")
def memcached_commands(side):
    w = side.wire()
    for k in KEYS:
        for request in (b"set %s 0 0 5\r\nhello\r\n", b"get %s\r\n", b"gets %s\r\n",
                        b"touch %s 0\r\n", b"incr %s 1\r\n", b"append %s 0 0 1\r\n!\r\n",
                        b"add %s 0 0 1\r\nx\r\n", b"delete %s\r\n", b"get %s\r\n"):
            w.tell(request % k)
    assert w.tell(b"version\r\n")[:8] == b"VERSION "
    w.say(*(b"get %s\r\n" % k for k in KEYS))
    assert [w.answer() for _ in KEYS] == [b"END\r\n"] * len(KEYS)
    v = wire(side.proxy.where("alpha"))
    v.say(b"quit\r\n")
    assert v.rest() == b""


@kind(2, "memcached")
def memcached_gets_of_many(side):
    w = side.wire()
    for k in KEYS:
        assert w.tell(b"set %s 0 0 5\r\nhello\r\n" % k) == b"STORED\r\n"
    for verb in (b"get", b"gets"):
        assert w.tell(b"%s %s\r\n" % (verb, b" ".join(KEYS))).count(b"VALUE") == len(KEYS)
        side.notes["fragments"] += 2
    for name in side.names:
        side.notes["spaces", name] = 2


@kind(2, "memcached")
def memcached_noreply(side):
    w = side.wire()
    for k in KEYS:
        w.say(b"set %s 0 0 5 noreply\r\nhello\r\n" % k)
    w.say(b"delete %s noreply\r\n" % KEYS[0])
    for k in KEYS:
        assert w.tell(b"get %s\r\n" % k)[-5:] == b"END\r\n"
    for name, server in zip(side.names, side.servers):
        with wire((server.host, server.port)) as direct:
            for k in KEYS[1:]:
                side.notes["stored", name] += direct.tell(b"get %s\r\n" % k) != b"END\r\n"
    first = w.tell(b"set %s 0 0 1\r\nx\r\n" % KEYS[0])
    assert first == b"STORED\r\n"
    for name, server in zip(side.names, side.servers):
        with wire((server.host, server.port)) as direct:
            side.notes["deleted", name] += direct.tell(b"get %s\r\n" % KEYS[0]) != b"END\r\n"
        side.notes["stored", name] += side.notes["deleted", name]


def until_it_is_tried_again():
    """What could not be connected to is left alone for a while: at most 100 ms after the second time."""
    time.sleep(0.15)


@kind(server_failure_limit=1000, ours={"connect_timeout": 40})      # nobody waits longer: one connect, one error
def killed_and_restarted(side):
    w, (server,) = side.wire(), side.servers
    assert w.ask("GET", "k") == NIL
    server.kill()                                           # with nothing to do
    side.becomes(0, "s0", "server_connections")
    assert w.ask("GET", "k")[:4] == b"-ERR"
    until_it_is_tried_again()
    w.say(command("GET", "k") * 5)
    assert {reply[:4] for reply in w.frames(5)} == {b"-ERR"}
    server.start()
    until_it_is_tried_again()
    assert w.ask("GET", "k") == NIL
    server.pause()
    w.say(command("GET", "k") * 3)
    side.becomes(3, "s0", "out_queue")
    server.kill()                                           # with three requests to do
    assert {reply[:4] for reply in w.frames(3)} == {b"-ERR"}
    server.start()
    assert w.ask("GET", "k") == NIL


@kind(timeout=int(1000 * SLOW))
def timeouts(side):
    w, (server,) = side.wire(), side.servers
    assert w.ask("GET", "k") == NIL
    for count in (1, 3):
        server.pause()
        w.say(command("GET", "k") * count)
        assert {reply[:24] for reply in w.frames(count)} == {b"-ERR Connection timed out"[:24]}
        server.resume()
        assert w.ask("GET", "k") == NIL
        side.notes["closed"] += 1


@kind(2, auto_eject_hosts=True, server_failure_limit=2, server_retry_timeout=FOREVER)
def ejected_from_the_start(side):
    side.servers[0].kill()
    w = side.wire()
    failed = [w.ask("SET", k, "v")[:1] for k in KEYS[10:]].count(b"-")
    assert failed == (2 if side.proxy.argv[0] == NUTCRACKER else 1)
    side.notes["bytes"] = len(command("SET", KEYS[10], "v"))        # they are all as long


@kind(2, auto_eject_hosts=True, server_failure_limit=2, server_retry_timeout=FOREVER)
def ejected_after_a_close(side):
    w = side.wire()
    for k in KEYS:
        assert w.ask("SET", k, "v") == OK
    own = [k for k, name in side.owners(KEYS).items() if name == "s0"]
    side.servers[0].kill()
    side.becomes(1, "s0", "server_eof")
    replies = [w.ask("GET", own[0]) for _ in range(5)]
    assert replies[0][:4] == b"-ERR" and replies[1:] == [NIL] * 4


@kind(1, auto_eject_hosts=True, server_failure_limit=2, server_retry_timeout=FOREVER)
def all_ejected(side):
    side.servers[0].kill()
    w = side.wire()
    assert {w.ask("GET", "k")[:4] for _ in range(10)} == {b"-ERR"}


@kind(auto_eject_hosts=True, server_failure_limit=2, server_retry_timeout=int(1000 * SLOW))
def ejected_and_back(side):
    w, (server,) = side.wire(), side.servers
    server.kill()
    assert {w.ask("GET", "k")[:4] for _ in range(5)} == {b"-ERR"}
    server.start()                                          # before anybody looks again
    side.becomes(1, "server_ejects")
    back_at = side.number("s0", "server_ejected_at") / 1e6 + 1.2 * SLOW
    wait_for("the time to try it again", lambda: time.time() > back_at)
    if side.proxy.argv[0] != NUTCRACKER:
        wait_for("the probe to succeed", lambda: re.search("'s0' .* is up", side.proxy.said()))
    assert w.ask("GET", "k") == NIL


@kind(server_failure_limit=2, ours={"probe_interval": FOREVER})
def down_and_not_ejected(side):
    side.servers[0].kill()
    w = side.wire()
    assert {w.ask("GET", "k")[:4] for _ in range(10)} == {b"-ERR"}
    side.notes["untold"], side.notes["unasked"] = 8, 9


@kind(unix=True)
def unix_sockets(side):
    w = side.wire()
    assert w.ask("GET", "k") == NIL
    side.servers[0].client().execute_command("CLIENT", "KILL", "TYPE", "normal")
    side.becomes(1, "s0", "server_eof")
    assert w.ask("GET", "k") == NIL
    side.notes["connections"] = 2


@kind()
def unknown_commands(side):
    w = side.wire()
    w.say(command("NOSUCH", "k"))
    if side.proxy.argv[0] == NUTCRACKER:
        assert w.rest() == b""
    else:
        assert w.frame()[:4] == b"-ERR"
    w.close()


@kind(2)
def a_part_of_a_split_command_fails(side):
    side.servers[0].kill()
    w = side.wire()
    assert w.ask("DEL", *KEYS)[:4] == b"-ERR"
    wait_for("the counter", lambda: side.number("s0", "request_bytes"))
    side.notes["bytes"] = side.number("s0", "request_bytes") + len("MGET") - len("DEL")
    w.say(command("MGET", *KEYS))
    if side.proxy.argv[0] == NUTCRACKER:
        w.rest()                                            # an error, or nothing
    else:
        assert w.frame()[:4] == b"-ERR"
    w.close()
    side.notes["fragments"] = 4


@kind()
def a_client_goes_before_its_replies(side):
    w, stays = wire(side.proxy.where("alpha")), side.wire()
    side.servers[0].pause()
    w.say(command("GET", "k") * 3)
    side.becomes(3, "s0", "out_queue")
    w.reset()
    side.becomes(1, "client_connections")
    side.servers[0].resume()
    assert stays.ask("GET", "k") == NIL


@kind(server_connections=3)
def one_client_and_three_connections(side):
    w = side.wire()
    w.say(command("GET", "k") * 10)
    assert w.frames(10) == [NIL] * 10


@kind(server_connections=3)
def six_clients_and_three_connections(side):
    for w in [side.wire() for _ in range(6)]:
        assert w.ask("GET", "k") == NIL


@kind(options=("--requirepass", "pass"), redis_auth="pass", redis_db=2, preconnect=True)
def passwords_and_databases(side):
    side.becomes(1, "s0", "server_connections")
    w = side.wire()
    assert w.ask("GET", "k")[:7] == b"-NOAUTH"
    assert w.ask("AUTH", "wrong")[:1] == b"-" and w.ask("AUTH", "pass") == OK
    assert w.ask("SET", "k", "v") == OK and w.ask("GET", "k") == bulk(b"v")


@kind()
def requests_that_wait_for_replies(side):
    w = side.wire()
    assert w.ask("GET", "k") == NIL
    side.servers[0].pause()
    w.say(command("GET", "k") * 3)
    side.becomes(3, "s0", "out_queue")


@kind(fake=True)
def requests_that_wait_for_a_connection(side):
    side.wires.append(wire(("127.0.0.1", side.servers[0].port)))    # now nobody else gets in
    w = side.wire()
    w.say(command("GET", "k") * 3)
    side.becomes(3, "s0", "in_queue")


# ---- what may differ: kind of traffic, field, nutproxy's number less nutcracker's, and why

NEVER = "nutcracker never counts fragments"
SPLIT = "EXISTS is split; nutcracker asks the server of the first key for all"
ONCE = "nutcracker counts the values of an MSET twice, but for the last one"
SPACE = "nutcracker ends each fragment of a get with a space"
TAKEN_OUT = "noreply is taken out towards servers"
STAYS = "a timeout answers one request; nutcracker closes the connection"
IDLE = "a close of an idle connection is no failure: it takes one connect more to eject"
WAITS = "a request waits while connecting fails, and is tried again until the server is down; there, each tries and fails"
DOWN = "a server that is down is not asked, so nothing of it is counted but errors of clients"
NEGATIVE = "nutcracker does not count connections to unix sockets, but their ends"
OPEN = "an error is answered; nutcracker closes the client"
LANES = "a client stays on one connection; nutcracker opens all that it may"
A_TIME = "a time, not a count"
MOMENT = object()           # both are of just now

DIFFERENCES = (
    ("split_commands", "fragments", lambda n, s: n["fragments"], NEVER),
    ("exists_of_many", "fragments", lambda n, s: n["fragments"], NEVER),
    ("exists_of_many", "requests", lambda n, s: n["more", s], SPLIT),
    ("exists_of_many", "request_bytes", lambda n, s: n["bytes", s], SPLIT),
    ("exists_of_many", "responses", lambda n, s: n["more", s], SPLIT),
    ("exists_of_many", "response_bytes", lambda n, s: n["replies", s], SPLIT),
    ("mset", "fragments", lambda n, s: n["fragments"], NEVER),
    ("mset", "request_bytes", lambda n, s: -n["values", s], ONCE),
    ("memcached_gets_of_many", "fragments", lambda n, s: n["fragments"], NEVER),
    ("memcached_gets_of_many", "request_bytes", lambda n, s: -n["spaces", s], SPACE),
    ("memcached_noreply", "request_bytes",
     lambda n, s: -len(" noreply") * (n["stored", s] + n["deleted", s]), TAKEN_OUT),
    ("timeouts", "total_connections", lambda n, s: -n["closed"], STAYS),
    ("ejected_from_the_start", "server_ejected_at", MOMENT, A_TIME),
    ("ejected_from_the_start", "forward_error", lambda n, s: -1, WAITS),
    ("ejected_from_the_start", "requests", lambda n, s: {"s0": -1, "s1": 1}[s], WAITS),
    ("ejected_from_the_start", "request_bytes", lambda n, s: {"s0": -n["bytes"], "s1": n["bytes"]}[s], WAITS),
    ("ejected_from_the_start", "responses", lambda n, s: {"s0": 0, "s1": 1}[s], WAITS),
    ("ejected_from_the_start", "response_bytes", lambda n, s: {"s0": 0, "s1": len(OK)}[s], WAITS),
    ("all_ejected", "server_ejected_at", MOMENT, A_TIME),
    ("all_ejected", "requests", lambda n, s: -1, WAITS),
    ("all_ejected", "request_bytes", lambda n, s: -len(command("GET", "k")), WAITS),
    ("ejected_after_a_close", "server_ejected_at", MOMENT, A_TIME),
    ("ejected_after_a_close", "total_connections", lambda n, s: 1, IDLE),
    ("ejected_after_a_close", "server_err", lambda n, s: {"s0": 1, "s1": 0}[s], IDLE),
    ("ejected_and_back", "server_ejected_at", MOMENT, A_TIME),
    ("ejected_and_back", "requests", lambda n, s: -1, WAITS),
    ("ejected_and_back", "request_bytes", lambda n, s: -len(command("GET", "k")), WAITS),
    ("down_and_not_ejected", "total_connections", lambda n, s: -n["untold"], DOWN),
    ("down_and_not_ejected", "server_err", lambda n, s: -n["untold"], DOWN),
    ("down_and_not_ejected", "requests", lambda n, s: -n["unasked"], WAITS),
    ("down_and_not_ejected", "request_bytes",
     lambda n, s: -n["unasked"] * len(command("GET", "k")), WAITS),
    ("unix_sockets", "server_connections", lambda n, s: n["connections"], NEGATIVE),
    ("unknown_commands", "client_err", lambda n, s: -1, OPEN),
    ("unknown_commands", "client_eof", lambda n, s: 1, OPEN),
    ("a_part_of_a_split_command_fails", "fragments", lambda n, s: n["fragments"], NEVER),
    ("a_part_of_a_split_command_fails", "requests", lambda n, s: {"s0": -1, "s1": 0}[s], WAITS),
    ("a_part_of_a_split_command_fails", "request_bytes", lambda n, s: {"s0": -n["bytes"], "s1": 0}[s], WAITS),
    ("a_part_of_a_split_command_fails", "client_err", lambda n, s: -1, OPEN),
    ("a_part_of_a_split_command_fails", "client_eof", lambda n, s: 1, OPEN),
    ("one_client_and_three_connections", "server_connections", lambda n, s: -2, LANES),
    ("one_client_and_three_connections", "curr_connections", lambda n, s: -2, LANES),
    ("one_client_and_three_connections", "total_connections", lambda n, s: -2, LANES),
)


def intended(name, side):
    """{path: by how much nutproxy's number differs} for that kind of traffic."""
    out = {}
    for row, field, by, why in DIFFERENCES:
        if row != name:
            continue
        if by is MOMENT:
            found = {("alpha", "s0", field): by}
        elif field in SERVER:
            found = {("alpha", s, field): by(side.notes, s) for s in side.names}
        else:
            found = {("alpha", field) if field in POOL else (field,): by(side.notes, None)}
        assert any(found.values()), "never occurs: %s %s, %s" % (name, field, why)
        out.update(found)
    return out


def disagreements(theirs, ours, wanted):
    """The paths whose numbers are not as far apart as they should be, with both numbers."""
    out = [(path, "nutcracker only") for path in theirs if path not in ours]
    out += [(path, "nutproxy only") for path in ours if path not in theirs]
    for path in theirs.keys() & ours.keys():
        by = wanted.get(path, 0)
        if path in CLOCKS:
            fine = abs(theirs[path] - ours[path]) < 60 * SLOW
        elif by is MOMENT:
            fine = all(0 <= time.time() - n[path] / 1e6 < 60 * SLOW for n in (theirs, ours))
        else:
            fine = ours[path] - theirs[path] == by
        if not fine:
            out.append((path, theirs[path], ours[path], by))
    return out


def settle(nutcracker, nutproxy, wanted):
    """Wait until the numbers agree and stay so for some of nutcracker's intervals."""
    since, last = None, []

    def agree():
        nonlocal since
        last[:] = disagreements(everything(nutcracker.door), everything(nutproxy.door), wanted)
        since = None if last else since or time.monotonic()
        return since and time.monotonic() - since > 0.4
    try:
        wait_for("the numbers to agree", agree, 5)
    except AssertionError:
        pytest.fail("path, nutcracker, nutproxy, intended difference:\n%s" %
                    "\n".join(map(str, sorted(last))), False)


# ---- tests

seen = collections.defaultdict(set)         # kind of traffic -> fields that were not 0


@pytest.mark.parametrize("name", KINDS)
def test_every_consumer_gets_nutcrackers_numbers_for(stage, name):
    sides = [Side(stage, which, KINDS[name]) for which in ("nutcracker", "nutproxy")]
    nutcracker, nutproxy = sides
    for side in sides:
        KINDS[name].traffic(side)
    assert nutcracker.notes == nutproxy.notes
    wanted = intended(name, nutproxy)
    settle(nutcracker, nutproxy, wanted)
    for consumer in CONSUMERS:
        theirs, ours = consumer(nutcracker.door), consumer(nutproxy.door)
        assert len(ours) >= 2 * 6 + 13 and any(path[0] == "alpha" for path in ours)
        assert disagreements(theirs, ours, wanted) == [], consumer.__name__
    for side in sides:
        side.close()
    seen[name] = {path[-1] for path, n in ours.items() if n and path[0] == "alpha"}


def test_every_counter_was_compared_when_it_was_not_0():
    if set(seen) != set(KINDS):
        pytest.skip("not all kinds of traffic were run, or not all passed")
    assert set.union(*seen.values()) == set(POOL + SERVER)


def test_every_intended_difference_is_of_a_kind_of_traffic_and_listed_once():
    rows = [row[:2] for row in DIFFERENCES]
    assert len(rows) == len(set(rows)) and {row[0] for row in rows} <= set(KINDS)
    assert {row[1] for row in rows} <= set(PROCESS + POOL + SERVER)


def tricky_pools(stage):
    """Names with dots, colons and slashes, servers with and without names; and a server."""
    server = stage.redis(unixsocket=stage.path("redis.sock"))
    lines = ["127.0.0.1:%d:1" % server.port, "localhost:%d:2" % server.port,
             "%s:1" % server.unixsocket, "%s:1 by-socket" % server.unixsocket, "127.0.0.1:11211:1",
             "127.0.0.1:%d:1 a/b.c:d" % server.port, "127.0.0.1:%d:1 requests" % server.port,
             "127.0.0.1:%d:1 x@y#z[0]" % server.port]
    names = ("cache.eu", "cache:2", "/cache/3", "a-b_c", "a@b#c", "Z", "zz.z", "uptime2")
    return {name: pool(lines[i:] + lines[:i], hash="md5") for i, name in enumerate(names)}


def both(stage, sections):
    """nutcracker and nutproxy with the same pools, and the addresses of their stats."""
    proxies = [stage.nutcracker({n: dict(p, listen="127.0.0.1:%d" % free_port())
                                 for n, p in sections.items()}, "-i", "100"),
               stage.nutproxy(sections)]
    doors = [("127.0.0.1", proxy.stats_port) for proxy in proxies]
    wait_for("nutcracker's stats", lambda: can_connect(doors[0]))
    return proxies, doors


def test_many_pools_and_tricky_names_are_walked_as_nutcrackers_are(stage):
    sections = tricky_pools(stage)
    proxies, doors = both(stage, sections)
    for proxy in proxies:
        for name in sections:
            with wire(proxy.where(name)) as w:      # 11211 refuses, and some keys may go there
                w.say(*(command("SET", k, name) for k in KEYS))
                assert {reply[:1] for reply in w.frames(len(KEYS))} <= {b"+", b"-"}
    busy = [p for p, n in everything(doors[1]).items() if p[-1] == "requests" and n]
    assert len({p[0] for p in busy}) == len(sections) and len({p[1] for p in busy}) == 8
    for consumer in CONSUMERS:
        if consumer is consumers.once:              # more than it reads
            continue
        theirs, ours = consumer(doors[0]), consumer(doors[1])
        assert sorted(theirs) == sorted(ours), consumer.__name__
        assert len({path[:1] for path in ours if len(path) == 3}) == len(sections)
    one = consumers.telegraf(doors[1], ["cache.eu"])
    assert one.keys() == consumers.telegraf(doors[0], ["cache.eu"]).keys()
    assert {path[0] for path in one if len(path) > 1} == {"cache.eu"}
    theirs, ours = (re.sub(r'"(source|version)":"[^"]*"', r'"\1":""',
                           re.sub(r'":-?\d+', '":0', consumers.pieces(door))) for door in doors)
    assert theirs == ours


def test_names_with_quotes_are_json_here_and_need_no_mending(stage):
    """nutcracker writes them as they are; one exporter mends that, and must not spoil ours."""
    sections = {"alpha": pool(['127.0.0.1:1:1 "one"', "127.0.0.1:2:1 two"])}
    _, (theirs, ours) = both(stage, sections)
    with pytest.raises(ValueError):
        everything(theirs)
    assert {p[1] for p in consumers.unquoted(theirs) if len(p) == 3} == {"one", "two"}
    for consumer in CONSUMERS:
        if consumer is not consumers.by_lines:      # a shell script reads no escapes
            names = {p[1] for p in consumer(ours) if len(p) == 3}
            assert names == {'"one"', "two"}, consumer.__name__


def test_who_reads_once_or_says_something_first_gets_it_all(stage):
    sections = {"alpha": pool(["127.0.0.1:%d:1 server-%d" % (i, i) for i in range(1, 25)])}
    _, doors = both(stage, sections)
    for door in doors:
        for _ in range(30):
            text = consumers.one_piece(door)
            assert len(text) > 6000 and len(consumers.walk(json.loads(text))) == 4 + 6 + 24 * 13
    for _ in range(30):                             # of nutcracker's, some are lost to a reset
        assert len(consumers.by_http(doors[1])) == 4 + 6 + 24 * 13
        assert len(consumers.by_lines(doors[1])) == 4 + 6 + 24 * 13
