"""Time and health: how long anybody waits and for what, how often a dead server is tried, when a server is
down, and when it is up again.  What clients are told of servers that fail is in test_failure.py.

That a server which was up for a minute is taken back as soon as at first is not tested: it takes a minute.
"""
import ctypes
import os
import re
import select
import socket
import subprocess
import threading
import time

import pytest

from fake import SECONDS, Gone, bulk, number_servers, wire
from nut import NUTPROXY, SLOW, free_port, pool, wait_for
from resp import command
from test_failure import (BOTH, CLOSED, MAYBE, NEVER, NOT_SENT, REFUSED, TIMED_OUT, alive, ask, die_by_fin,
                          gated, mortal, ms, one_pool, total)

# Sanitizers are slow, and test_failure shows them both protocols.
tongues = BOTH[:1] if "asan" in os.path.basename(NUTPROXY) else BOTH
both = pytest.mark.parametrize("tongue", tongues, ids=lambda t: t.name)
SLACK = 0.4 * SLOW                      # what this machine may be late


def took(began):
    return time.monotonic() - began


def changes(proxy):
    """Of each server of the pool alpha, by its name: how often it went down, and came back."""
    protocol = proxy.sections["alpha"]["protocol"]
    with wire(proxy.where("alpha")) as w:
        if protocol == "memcached":
            w.say(b"stats servers\r\n")
            lines = iter(w.line, b"END\r\n")
            return {words[1].decode(): (int(words[4]), int(words[5])) for words in map(bytes.split, lines)}
        if "redis_auth" in proxy.sections["alpha"]:
            assert w.ask("AUTH", proxy.sections["alpha"]["redis_auth"]) == b"+OK\r\n"
        rows = re.findall(r"server\d+:state=\w+,downs=(\d+),ups=(\d+),name=(\S+)", w.ask("INFO", "nutproxy").decode())
        assert rows
        return {name: (int(downs), int(ups)) for downs, ups, name in rows}


# ---- connections take time

@both
@pytest.mark.parametrize("keys", ({"connect_timeout": ms(300), "timeout": ms(20000)},
                                  {"connect_timeout": ms(20000), "timeout": ms(300)}), ids=("connect", "request"))
def test_nobody_waits_for_a_connection_longer_than_connect_timeout_or_timeout(stage, fakes, tongue, keys):
    fake = fakes(protocol=tongue.name, welcoming=False)
    with socket.create_connection((fake.host, fake.port)):      # now nobody else gets in
        proxy = one_pool(stage, [fake], tongue, **keys)
        with wire(proxy.where("alpha")) as w, wire(proxy.where("alpha")) as later:
            began = time.monotonic()
            # As many as are read of a client of whom nothing is known.
            w.say(*(tongue.set(b"lost%d" % i, b"v") for i in range(4)))
            time.sleep(0.1 * SLOW)              # the other one comes so much later
            later.say(tongue.set(b"lost", b"v"))
            assert {tongue.read(w) for _ in range(4)} == {tongue.error + TIMED_OUT + NOT_SENT}
            assert 0.28 * SLOW <= took(began) < 0.3 * SLOW + SLACK
            assert tongue.read(later) == tongue.error + TIMED_OUT + NOT_SENT
            assert took(began) < 0.4 * SLOW + SLACK
            fake.open()
            wait_for("the server to be reached",
                     lambda: ask(w, tongue, tongue.set(b"kept", b"v")) == tongue.stored)
    assert not [words for words in fake.seen if words[1:2] and words[1].startswith(b"lost")]


@both
def test_a_server_that_is_reached_late_costs_no_error(stage, fakes, tongue):
    """The kernel asks again after a second, and by then the server is there."""
    fake = fakes(protocol=tongue.name, welcoming=False)
    with socket.create_connection((fake.host, fake.port)):
        proxy = one_pool(stage, [fake], tongue, connect_timeout=ms(10000))
        with wire(proxy.where("alpha")) as w:
            w.say(*(tongue.set(b"k%d" % i, b"v") for i in range(5)))
            time.sleep(0.1)                     # by then it has asked once
            fake.open()
            assert [tongue.read(w) for _ in range(5)] == [tongue.stored] * 5
    assert sum(words[0].lower() == b"set" for words in fake.seen) == 5


@both
def test_requests_wait_while_a_server_restarts(stage, fakes, tongue):
    """It refuses for a moment: the connection is tried again, and nobody is told."""
    fake = fakes(protocol=tongue.name)
    proxy = one_pool(stage, [fake], tongue, connect_timeout=ms(5000))
    with wire(proxy.where("alpha")) as w, wire(proxy.where("alpha")) as other:
        for round in range(3):
            assert ask(w, tongue, tongue.set(b"before", b"v")) == tongue.stored
            fake.down()
            wait_for("the connection to be lost", lambda: total(proxy, "server_connections") == 0)
            for c in (w, other):
                c.say(*(tongue.set(b"k%d" % i, b"v") for i in range(5)))
            time.sleep(0.25)                    # so long it is away
            fake.up()
            began = time.monotonic()
            for c in (w, other):
                assert [tongue.read(c) for _ in range(5)] == [tongue.stored] * 5
            assert took(began) < 1 + SLACK, "the longest wait between two tries is a second"
    assert proxy.stats()["alpha"]["forward_error"] == 0
    assert sum(words[1] != b"before" for words in fake.seen if words[0].lower() == b"set") == 30


class Connects:
    """The connects to one port that a process begins meanwhile, as strace sees them: their times."""

    def __init__(self, stage, proxy, port):
        self.stage, self.proxy, self.port, self.file = stage, proxy, port, stage.path("connects-%d" % port)

    def __enter__(self):
        self.tracer = subprocess.Popen(["strace", "-f", "-ttt", "-p", str(self.proxy.pid), "-o", self.file,
                                        "-e", "trace=connect"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert b"attached" in self.tracer.stderr.readline()
        return self

    def __exit__(self, *exc):
        self.tracer.terminate()
        self.tracer.wait()
        self.tracer.stderr.close()
        with open(self.file) as f:
            self.at = [float(line.split()[1]) for line in f
                       if "connect(" in line and "htons(%d)" % self.port in line]


@both
def test_a_server_that_refuses_costs_no_connect_per_request(stage, tongue):
    """A thousand requests, over two seconds: the first tries follow each other quickly, the others do not."""
    port = free_port()
    proxy = one_pool(stage, ["127.0.0.1:%d:1" % port], tongue, server_failure_limit=NEVER, connect_timeout=ms(300))
    wires = [wire(proxy.where("alpha")) for _ in range(20)]
    with Connects(stage, proxy, port) as connects:
        began = time.monotonic()
        for round in range(50):
            wires[round % 20].say(tongue.get(b"k") * 20)
            time.sleep(0.04)
        for n, w in enumerate(wires):
            for _ in range(20 * (3 if n < 10 else 2)):
                got = tongue.read(w)
                assert got.startswith(tongue.error) and got.endswith(NOT_SENT), got
        seconds = took(began)
    at = connects.at
    assert 4 <= len(at) <= 7 + 4.6 * seconds, "%d connects in %.1fs" % (len(at), seconds)
    gaps = [b - a for a, b in zip(at, at[1:])]
    assert all(gap <= 0.25 + SLACK for gap in gaps), gaps
    assert gaps[0] <= 0.05 + SLACK and max(gaps[3:]) > 2 * gaps[0], gaps
    for w in wires:
        w.close()


@both
@pytest.mark.parametrize("limit", (1, 3), ids=str)
def test_who_waits_for_a_server_that_refuses_is_told_when_it_is_down(stage, tongue, limit):
    """Each try is one failure of the server, however many wait and on however many connections."""
    port = free_port()
    proxy = one_pool(stage, ["127.0.0.1:%d:1 one" % port], tongue, server_failure_limit=limit, server_connections=4,
                     connect_timeout=ms(5000), probe_interval=ms(60000))
    wires = [wire(proxy.where("alpha")) for _ in range(12)]
    with Connects(stage, proxy, port) as connects:
        began = time.monotonic()
        for w in wires:
            w.say(tongue.get(b"k") * 3)
        for w in wires:
            assert [tongue.read(w) for _ in range(3)] == [tongue.error + REFUSED + NOT_SENT] * 3
        assert took(began) < (0 if limit == 1 else 0.15) + SLACK
        for _ in range(100):                    # and now all are told at once
            assert ask(wires[0], tongue, tongue.get(b"k")) == tongue.error + REFUSED + NOT_SENT
    assert len(connects.at) <= 4 * limit + 1, "each connection tries as often as the limit says; and the probe"
    assert changes(proxy)["one"] == (1, 0)
    for w in wires:
        w.close()


@both
def test_a_server_that_drops_who_connects_is_tried_by_probes_alone(stage, tongue):
    """It accepts, and resets: 1,000 requests fail, and it sees as many connections as failures take it down, and
    those of the probes."""
    door, accepted, over = socket.create_server(("127.0.0.1", 0)), [], threading.Event()

    def welcome():
        while not over.is_set():
            try:
                s, _ = door.accept()
            except OSError:
                return
            accepted.append(time.monotonic())
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()

    thread = threading.Thread(target=welcome, daemon=True)
    thread.start()
    interval, limit = 0.2 * SLOW, 2
    proxy = one_pool(stage, ["127.0.0.1:%d:1 one" % door.getsockname()[1]], tongue, server_failure_limit=limit,
                     probe_interval=int(interval * 1000))
    try:
        began = time.monotonic()
        with wire(proxy.where("alpha")) as w:
            for _ in range(1000):
                got = ask(w, tongue, tongue.get(b"k"))
                assert got.startswith(tongue.error) and got.endswith((NOT_SENT, MAYBE)), got
                time.sleep(0.001)
        # The first probes come sooner than the interval says.
        assert len(accepted) <= limit + 8 + 2 * took(began) / interval, len(accepted)
        assert changes(proxy)["one"] == (1, 0)
    finally:
        over.set()
        door.shutdown(socket.SHUT_RDWR)
        door.close()


# ---- requests take time

@both
def test_each_client_of_a_connection_is_told_at_its_own_deadline(stage, fakes, tongue):
    fake = gated(fakes(protocol=tongue.name))
    fake.store = {b"slow": b"SLOW", b"k": b"RIGHT"}
    timeout, step, callers = 0.6 * SLOW, 0.15 * SLOW, 5
    proxy = one_pool(stage, [fake], tongue, timeout=int(timeout * 1000))
    wires, said = [wire(proxy.where("alpha")) for _ in range(callers)], []
    told = {}

    def listen(n):
        got = tongue.read(wires[n])
        told[n] = got, took(said[n])

    readers = []
    for n, w in enumerate(wires):
        said.append(time.monotonic())
        w.say(tongue.get(b"slow" if n == 0 else b"k"))
        readers.append(threading.Thread(target=listen, args=(n,), daemon=True))
        readers[-1].start()
        time.sleep(step)
    # The first two are told, each in its turn; then the server answers, and the others have what they asked for.
    wait_for("the second to be told", lambda: 1 in told)
    fake.gate.set()
    for r in readers:
        r.join(SECONDS)
    for n, (got, after) in sorted(told.items()):
        if n < 2 or got != tongue.value(b"k", b"RIGHT"):
            # If this machine was late it was too late for others, too; and never too early.
            assert got == tongue.error + TIMED_OUT + MAYBE, n
            assert timeout - 0.02 <= after < timeout + SLACK, "%d: told after %.3fs" % (n, after)
    assert told[callers - 1][0] == tongue.value(b"k", b"RIGHT"), told
    assert len(told) == callers and len(fake.links) == 1, "and the connection is the same"
    for w in wires:
        assert ask(w, tongue, tongue.get(b"k")) == tongue.value(b"k", b"RIGHT")
        w.close()


@both
def test_the_deadline_is_for_the_whole_reply(stage, fakes, tongue):
    """Bytes that come one by one do not put it off."""
    fake = fakes(protocol=tongue.name)
    whole = tongue.value(b"slow", b"v" * 100)

    def answer(link, words):
        if b"slow" not in words:
            return fake.obey(words)
        for i in range(len(whole)):
            link.say(whole[i:i + 1])
            time.sleep(0.01 * SLOW)
    fake.answer = answer
    fake.store = {b"k": b"v"}
    proxy = one_pool(stage, [fake], tongue, timeout=ms(300))
    with wire(proxy.where("alpha")) as w:
        began = time.monotonic()
        assert ask(w, tongue, tongue.get(b"slow")) == tongue.error + TIMED_OUT + MAYBE
        assert 0.28 * SLOW <= took(began) < 0.3 * SLOW + SLACK
        wait_for("the server to be asked again",
                 lambda: ask(w, tongue, tongue.get(b"k")) == tongue.value(b"k", b"v"))


# ---- clients take time

@both
def test_a_client_that_is_idle_is_closed_and_who_waits_or_asks_is_not(stage, fakes, tongue):
    fake = gated(fakes(protocol=tongue.name))
    fake.store = {b"slow": b"SLOW", b"k": b"v"}
    idle = 0.7 * SLOW
    proxy = stage.nutproxy({
        "alpha": pool([fake], tongue.name, timeout=ms(20000), client_idle_timeout=int(idle * 1000)),
        "beta": pool([fake], tongue.name, timeout=ms(20000))})
    half = tongue.set(b"k", b"value")[:-4]
    idlers = {"silent": b"", "answered": tongue.ping, "half a request": half, "half a line": tongue.get(b"k")[:5],
              "a request and a half": tongue.ping + half}
    here = {name: wire(proxy.where("alpha")) for name in idlers}
    ends, began = {}, time.monotonic()
    waiting, asking, spared = (wire(proxy.where(name)) for name in ("alpha", "alpha", "beta"))
    for name, w in here.items():
        w.say(idlers[name])
    for w in (waiting, spared):
        w.say(tongue.ping)
    assert tongue.read(waiting) == tongue.read(spared) == tongue.pong
    waiting.say(tongue.get(b"slow"))
    while len(ends) < len(here) and took(began) < 4 * idle:
        for name, w in here.items():
            if name not in ends and select.select([w.sock], [], [], 0)[0]:
                try:
                    w.more()
                except Gone:
                    ends[name] = took(began)
        assert alive(asking, tongue), "who asks now and then is not idle"
        time.sleep(0.02)
    late = {name: t for name, t in ends.items() if not idle - 0.05 <= t <= 1.5 * idle + SLACK}
    assert len(ends) == len(here) and not late, (ends, late)
    while took(began) < 2.5 * idle:
        assert alive(asking, tongue)
        time.sleep(0.02)
    fake.gate.set()
    answered = time.monotonic()
    assert tongue.read(waiting) == tongue.value(b"slow", b"SLOW"), "who waits for a server is not idle"
    assert waiting.rest() == b"", "but afterwards it is"
    assert idle - 0.05 <= took(answered) <= 1.5 * idle + SLACK
    assert alive(spared, tongue), "in a pool without the key nobody is closed"
    for w in (asking, spared, *here.values()):
        w.close()


def test_a_client_that_takes_a_long_reply_slowly_is_not_idle(stage, fakes):
    """So slowly that it takes longer than the timeout, and so quickly that it moves within each."""
    fake = fakes()
    fake.store = {b"big": b"v" * 16000000}
    proxy = one_pool(stage, [fake], client_idle_timeout=ms(300))
    with wire(proxy.where("alpha")) as w:
        w.say(command("GET", "big"))
        began, got, whole = time.monotonic(), 0, len(bulk(fake.store[b"big"]))
        while got < whole:
            w.more()
            got += len(w.held)
            w.held = b""
            time.sleep(max(0, got / whole * 0.8 * SLOW - took(began)))
        assert took(began) > 0.7 * SLOW


# ---- what the kernel is told

libc = ctypes.CDLL(None, use_errno=True)
PIDFD_GETFD = 438


def sockets(proxy):
    """Copies of the connected TCP sockets that a process has."""
    pidfd, out = os.pidfd_open(proxy.pid), []
    try:
        for fd in os.listdir("/proc/%d/fd" % proxy.pid):
            if not os.readlink("/proc/%d/fd/%s" % (proxy.pid, fd)).startswith("socket:"):
                continue
            copy = libc.syscall(PIDFD_GETFD, pidfd, int(fd), 0)
            assert copy >= 0, os.strerror(ctypes.get_errno())
            s = socket.socket(fileno=copy)
            try:
                assert s.family == socket.AF_INET
                s.getpeername()
                out.append(s)
            except (OSError, AssertionError):
                s.close()
    finally:
        os.close(pidfd)
    return out


@pytest.mark.parametrize("keys, user_timeout, keepalive", (
    ({}, 30000, 1), ({"tcp_user_timeout": "7s", "tcpkeepalive": True}, 7000, 1),
    ({"tcp_user_timeout": 0, "tcpkeepalive": False}, 0, 0)), ids=("preset", "set", "off"))
def test_the_kernel_is_told_how_long_a_peer_may_be_gone_on_both_sides(stage, keys, user_timeout, keepalive):
    server = stage.redis()
    proxy = stage.nutproxy({"alpha": pool([server], **keys), "beta": dict(pool([server], **keys),
                                                                         listen=stage.path("s.sock"))})
    with wire(proxy.where("alpha")) as w, wire(proxy.where("beta")) as unix:
        assert w.ask("GET", "k") == unix.ask("GET", "k") == bulk(None)
        seen = set()
        for s in sockets(proxy):
            with s:
                side = "server" if s.getpeername()[1] == server.port else "client"
                seen.add(side)
                get = lambda level, option: s.getsockopt(level, option)
                assert get(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == user_timeout, side
                assert get(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == keepalive, side
                if keepalive:           # the kernel's own would be after two hours
                    asks = [get(socket.IPPROTO_TCP, option) for option in
                            (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]
                    assert asks[0] + asks[1] * asks[2] <= 180, "seconds until a peer that is gone is missed"
                assert get(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1, side
        assert seen == {"server", "client"}


def test_no_patience_is_endless_unless_it_is_said(stage):
    """The presets, as they are printed."""
    proxy = stage.nutproxy({"alpha": pool([stage.redis()])})
    said = subprocess.run([NUTPROXY, "--print-config", "-c", proxy.conf], capture_output=True, text=True, check=True)
    keys = dict(re.findall(r"^;? ?(\w+) = (\S+)$", said.stdout, re.M))
    presets = {"connect_timeout": "2000ms", "timeout": "5000ms", "client_idle_timeout": "0ms",
               "tcp_user_timeout": "30000ms", "health_rise": "2", "eject_limit": "100", "max_queued": "65536",
               "tcpkeepalive": "true"}
    assert {k: keys.get(k) for k in presets} == presets


# ---- down

@both
def test_connections_that_fail_in_the_same_moment_are_one_failure(stage, fakes, tongue):
    fake = gated(fakes(protocol=tongue.name))
    proxy = stage.nutproxy({"alpha": pool([fake], tongue.name, names=["one"], timeout=ms(20000), server_connections=4,
                                          server_failure_limit=3, probe_interval=ms(60000))})
    fake.store = {b"slow": b"SLOW"}
    wires = [wire(proxy.where("alpha")) for _ in range(12)]

    def all_fail():
        """All connections have requests under way, and end at once."""
        before = fake.count(b"GET", b"slow") + fake.count(b"get", b"slow")
        links = len(fake.links)
        for w in wires:
            w.say(tongue.get(b"slow"))
        wait_for("them to ask", lambda: len(fake.links) - links == 4 and fake.count(b"GET", b"slow") +
                 fake.count(b"get", b"slow") >= before + 4)
        proxy.pause()
        fake.drop()
        time.sleep(0.01)
        proxy.resume()
        told = [tongue.read(w) for w in wires]
        assert all(t.startswith(tongue.error) for t in told), told

    for failures in (1, 2, 3):
        assert proxy.said().count("is down") == 0, failures
        all_fail()
    assert proxy.said().count("is down") == 1 and changes(proxy)["one"] == (1, 0)
    for w in wires:
        w.close()


PACE = 0.05                             # what fails so soon after other trouble is the same trouble: see server_failed

UNWELL = (b"-LOADING Redis is loading the dataset in memory\r\n",
          b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
          b"-NOAUTH Authentication required.\r\n")
WELL = (b"-BUSY Redis is busy running a script.\r\n", b"-OOM command not allowed\r\n",
        b"-READONLY You can't write against a read only replica.\r\n", b"-ERR no\r\n",
        b"-WRONGTYPE Operation against a key\r\n")


@pytest.mark.parametrize("reply", UNWELL, ids=lambda r: r.split()[0].decode())
def test_a_server_that_says_that_it_is_not_well_is_passed_on_and_then_down(stage, fakes, reply):
    fake, rise, limit = fakes(), 3, 4
    sick = threading.Event()

    def answer(link, words):
        return reply if sick.is_set() else fake.obey(words)
    fake.answer = answer
    fake.store = {b"k": b"v"}
    proxy = one_pool(stage, [fake], server_failure_limit=limit, health_rise=rise, probe_interval=ms(50))
    with wire(proxy.where("alpha")) as w:
        assert w.ask("GET", "k") == bulk(b"v")
        sick.set()
        for _ in range(limit - 1):
            assert w.ask("GET", "k") == reply
            time.sleep(PACE)
        sick.clear()
        assert w.ask("GET", "k") == bulk(b"v"), "only those in a row count"
        sick.set()
        for _ in range(limit):
            assert w.ask("GET", "k") == reply
            time.sleep(PACE)
        asked = len(fake.asked(b"GET"))
        probes = fake.count(b"PING")

        def down():
            got = w.ask("GET", "k")
            assert got.startswith(b"-") and got.endswith(NOT_SENT), got
            return fake.count(b"PING") >= probes + 6
        wait_for("probes, whose bad answers keep it down", down)
        assert len(fake.asked(b"GET")) == asked, "it was asked"
        sick.clear()
        wait_for("it to be back", lambda: w.ask("GET", "k") == bulk(b"v"))
    assert list(changes(proxy).values()) == [(1, 1)]


def test_other_errors_of_a_server_say_nothing_of_its_health(stage, fakes):
    fake = fakes()
    error = [b""]
    fake.answer = lambda link, words: error[0]
    proxy = one_pool(stage, [fake], server_failure_limit=1, server_connections=1)
    with wire(proxy.where("alpha")) as w:
        for error[0] in WELL:
            for _ in range(5):
                assert w.ask("GET", "k") == error[0]
    assert list(changes(proxy).values()) == [(0, 0)] and len(fake.links) == 1


def goes_down_and_comes_back(stage, server, other, fall, rise, refusal):
    """Of two real servers one says that it is not well: it is ejected, the other has its keys, and then it is back
    with them.  Nobody is told anything but what the server said until it was down."""
    proxy = stage.nutproxy({"alpha": pool([server, other], names=["one", "two"], hash="md5", auto_eject_hosts=True,
                                          server_failure_limit=2, server_retry_timeout=ms(50),
                                          probe_interval=ms(100), health_rise=2)})
    keys = [b"k%d" % i for i in range(40)]
    with wire(proxy.where("alpha")) as w:
        def places():
            return {k: w.ask("GET", k) for k in keys}
        number_servers([server, other], keys)
        whole = places()
        assert set(whole.values()) == {bulk(b"00"), bulk(b"01")}
        fall()
        told, tries = [], 0
        while (got := set(places().values())) != {bulk(b"01")}:
            told += [v for v in got if v[:1] == b"-"]
            tries += 1
            assert tries < 10, "it is not ejected: %s" % told
            time.sleep(PACE)
        assert any(v.startswith(refusal) for v in told), told
        assert proxy.stats()["alpha"]["server_ejects"] == 1 and changes(proxy) == {"one": (1, 0), "two": (0, 0)}
        told = []
        rise()
        began = time.monotonic()

        def home():
            got = places()
            told.extend(v for v in got.values() if v[:1] == b"-")
            return got == whole
        wait_for("the keys to be home", home)
        back = took(began)
    assert not told, "an error while it came back: %s" % told[:3]
    assert changes(proxy) == {"one": (1, 1), "two": (0, 0)}
    return back


def test_a_redis_that_loads_its_data_is_down_until_it_is_done(stage):
    server = stage.redis("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    direct = server.client()

    def fall():
        direct.execute_command("DEBUG", "POPULATE", "1200", "filler", "100")
        direct.save()
        server.kill()
        server.start()

    def rise():
        wait_for("it to have loaded", lambda: b"loading:0" in ask_info(server), 30)

    goes_down_and_comes_back(stage, server, stage.redis(), fall, rise, b"-LOADING ")


def ask_info(server):
    with wire((server.host, server.port)) as w:
        return w.ask("INFO", "persistence")


def test_a_redis_replica_without_its_master_is_down_while_it_serves_nothing(stage):
    server = stage.redis("--replica-serve-stale-data", "no")
    direct = wire((server.host, server.port))
    with direct:
        back = goes_down_and_comes_back(
            stage, server, stage.redis(),
            lambda: direct.ask("REPLICAOF", "127.0.0.1", free_port()),
            lambda: direct.ask("REPLICAOF", "NO", "ONE"), b"-MASTERDOWN ")
    assert back <= 0.1 * SLOW * 2 + SLACK, "probe_interval times health_rise"


def test_a_redis_that_asks_for_a_password_is_down_until_it_takes_ours(stage):
    server = stage.redis()
    direct = wire((server.host, server.port))
    with direct:
        def fall():                             # who is connected already stays logged in
            assert direct.ask("CONFIG", "SET", "requirepass", "sesame") == b"+OK\r\n"
            assert direct.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")[:1] == b":"
            wait_for("the proxy to have noticed", lambda: b"connected_clients:1\r\n" in direct.ask("INFO", "clients"))
        back = goes_down_and_comes_back(
            stage, server, stage.redis(), fall,
            lambda: direct.ask("CONFIG", "SET", "requirepass", ""), b"-NOAUTH ")
    assert back <= 0.1 * SLOW * 2 + SLACK, "probe_interval times health_rise"


# ---- up

def probe_of(tongue):
    return [b"PING"] if tongue.name == "redis" else [b"version"]


@both
@pytest.mark.parametrize("rise", (1, 3), ids=str)
@pytest.mark.parametrize("eject", (True, False), ids=("ejecting", "keeping"))
def test_a_server_is_back_after_as_many_good_probes_in_a_row_as_health_rise_says(stage, fakes, tongue, rise, eject):
    fake = fakes(protocol=tongue.name)
    script, served_after = [], []

    def answer(link, words):
        if words != probe_of(tongue):
            served_after.append(len(probed))
            return fake.obey(words) if healthy.is_set() else link.close()
        probed.append(time.monotonic())
        good = healthy.is_set() or (script and script.pop(0))
        return fake.obey(words) if good else link.close()
    probed, healthy = [], threading.Event()
    fake.answer = answer
    interval = 0.06 * SLOW
    proxy = one_pool(stage, [fake], tongue, server_failure_limit=1, auto_eject_hosts=eject, health_rise=rise,
                     server_retry_timeout=ms(50), probe_interval=int(interval * 1000))
    with wire(proxy.where("alpha")) as w:
        assert ask(w, tongue, tongue.get(b"k")).endswith(MAYBE)
        # Good ones that a bad one follows are for nothing.
        script[:] = ([True] * (rise - 1) + [False]) * 2
        wait_for("them to be asked for", lambda: not script)
        wait_for("one more", lambda n=len(probed): len(probed) > n)
        assert list(changes(proxy).values()) == [(1, 0)]
        assert ask(w, tongue, tongue.get(b"k")).endswith(NOT_SENT)
        healthy.set()
        since, before, served_after[:] = time.monotonic(), len(probed), []
        wait_for("it to be back", lambda: not ask(w, tongue, tongue.get(b"k")).startswith(tongue.error))
        assert took(since) <= interval * rise + SLACK, "probe_interval times health_rise"
        # One may have been on its way.
        assert rise <= served_after[0] - before <= rise + 1, (before, served_after)
        assert all(b - a <= interval + SLACK for a, b in zip(probed, probed[1:])), "it was not probed often enough"
    assert list(changes(proxy).values()) == [(1, 1)]


@both
def test_a_server_that_flaps_is_taken_back_later_and_later(stage, fakes, tongue):
    """It answers each probe and fails each request: twice as many probes each time, at most sixteen times."""
    fake = fakes(protocol=tongue.name)

    def answer(link, words):
        return fake.obey(words) if words == probe_of(tongue) else link.close()
    fake.answer = answer
    rise = 2
    proxy = one_pool(stage, [fake], tongue, server_failure_limit=1, health_rise=rise, probe_interval=15)
    with wire(proxy.where("alpha")) as w:
        for ups in range(1, 7):
            assert ask(w, tongue, tongue.get(b"k")).endswith(MAYBE)
            wait_for("it to be back", lambda: proxy.said().count(" is up") == ups, 20)
    probes = "".join("p" if words == probe_of(tongue) else "|" for words in fake.seen).split("|")[1:]
    assert [len(p) for p in probes] == [rise * n for n in (1, 2, 4, 8, 16, 16)]


def test_a_probe_begins_as_every_connection_does(stage, fakes):
    fake = fakes()
    mortal(fake, die_by_fin)
    proxy = one_pool(stage, [fake], redis_auth="sesame", redis_db=3, server_failure_limit=1, probe_interval=ms(50),
                     health_rise=3)
    with wire(proxy.where("alpha")) as w:
        assert w.ask("AUTH", "sesame") == b"+OK\r\n"
        assert w.ask("GET", "bad").endswith(CLOSED + MAYBE)
        wait_for("it to be back", lambda: w.ask("GET", "k") == bulk(None))
    probes = [link.seen for link in fake.links if [b"PING"] in link.seen]
    assert sum(seen.count([b"PING"]) for seen in probes) == 3
    assert all(seen[:2] == [[b"AUTH", b"sesame"], [b"SELECT", b"3"]] for seen in probes), probes


# ---- how many are out, and what is told

@pytest.mark.parametrize("limit, most", ((0, 0), (25, 1), (50, 2), (74, 2), (100, 4)), ids=str)
def test_no_more_servers_are_ejected_at_once_than_eject_limit_says(stage, limit, most):
    servers = [stage.redis() for _ in range(4)]
    keys = [b"k%d" % i for i in range(200)]
    number_servers(servers, keys)
    names = ["one", "two", "three", "four"]
    proxy = stage.nutproxy({"alpha": pool(servers, names=names, hash="md5", auto_eject_hosts=True, eject_limit=limit,
                                          server_failure_limit=1, server_retry_timeout=ms(50),
                                          probe_interval=ms(100), health_rise=1)})
    with wire(proxy.where("alpha")) as w:
        def places():
            w.say(*(command("GET", k) for k in keys))
            return {k: w.frame() for k in keys}

        whole, dead = places(), []
        for n in range(3):
            before = places()
            servers[n].kill()
            dead.append(n)
            mine = [k for k in keys if before[k] == bulk(b"%02d" % n)]
            wait_for("it to be down", lambda: (w.ask("GET", mine[0]), changes(proxy)[names[n]] == (1, 0))[1])
            began, after = time.monotonic(), places()
            assert took(began) < SLACK, "who is down is not waited for"
            for k in keys:
                if k not in mine:
                    assert after[k] == before[k], "the keys of others stay"
                elif n < most:
                    assert after[k] in [bulk(b"%02d" % s) for s in range(4) if s not in dead], after[k]
                else:
                    assert after[k].startswith(b"-") and after[k].endswith(NOT_SENT), after[k]
        assert proxy.stats()["alpha"]["server_ejects"] == min(3, most)
        assert [changes(proxy)[name] for name in names] == [(1, 0)] * 3 + [(0, 0)]
        assert proxy.said().count("and ejected") == min(3, most) and proxy.said().count(" is down") == 3
        for n in range(3):
            servers[n].start()
        number_servers(servers, keys)
        wait_for("all keys to come home", lambda: places() == whole)
        assert [changes(proxy)[name] for name in names] == [(1, 1)] * 3 + [(0, 0)]


def test_all_workers_eject_the_same_of_servers_that_go_down_in_the_same_moment(stage, fakes):
    """However many pools find it out, and in whichever order their workers do."""
    servers, keys, names = [fakes() for _ in range(4)], [b"k%d" % i for i in range(60)], ["p%d" % i for i in range(8)]
    number_servers(servers, keys)
    proxy = stage.nutproxy(dict({"nutproxy": {"workers": 3}}, **{
        name: pool(servers, names=list("abcd"), hash="md5", auto_eject_hosts=True, eject_limit=25,
                   server_failure_limit=1, server_retry_timeout="60m", probe_interval="60m") for name in names}))
    wires = {name: [wire(proxy.where(name)) for _ in range(9)] for name in names}
    everybody = [w for name in names for w in wires[name]]

    def replies(w):
        w.say(*(command("GET", k) for k in keys))
        return w.frames(len(keys))

    assert len({tuple(replies(w)) for w in everybody}) == 1
    a, c = (keys[replies(everybody[0]).index(bulk(b"%02d" % n))] for n in (0, 2))
    proxy.pause()
    servers[0].down(), servers[2].down()
    for i, w in enumerate(everybody):
        w.say(*(command("GET", k) for k in ((a, c) if i % 2 else (c, a))))
    proxy.resume()
    for w in everybody:
        w.frames(2)
    wait_for("all to be down", lambda: proxy.said().count(" is down") == 2 * len(names))

    def agreed(name):
        seen = {tuple(reply[:1] == b"-" for reply in replies(w)) for w in wires[name]}
        return len(seen) == 1 and any(seen.pop())
    for name in names:
        wait_for("the workers to agree", lambda: agreed(name))
        assert proxy.stats()[name]["server_ejects"] == 1
    for w in everybody:
        w.close()


@pytest.mark.parametrize("workers", (1, 3), ids=str)
@both
def test_each_change_is_one_line_of_the_log_and_one_count_however_many_workers_find_out(stage, fakes, tongue, workers):
    fake, sound = fakes(protocol=tongue.name), fakes(protocol=tongue.name)
    proxy = stage.nutproxy({"nutproxy": {"workers": workers},
                            "alpha": pool([fake, sound], tongue.name, names=["one", "two"], hash="md5",
                                          server_failure_limit=2, probe_interval=ms(30), health_rise=1,
                                          connect_timeout=ms(2000))})
    keys = [b"k%d" % i for i in range(30)]
    wires = [wire(proxy.where("alpha")) for _ in range(9)]
    mortal(sound, die_by_fin)

    def all_ask():
        for w in wires:
            w.say(*(tongue.get(k) for k in keys))
        return [tongue.read(w) for w in wires for _ in keys]

    for round in range(1, 4):
        assert not [got for got in all_ask() if got.startswith(tongue.error)]
        fake.down()
        wait_for("it to be down", lambda: (all_ask(), changes(proxy)["one"])[1] == (round, round - 1))
        for _ in range(3):
            all_ask()
        fake.up()
        wait_for("it to be up", lambda: changes(proxy)["one"] == (round, round))
        wait_for("all to know it", lambda: not [x for x in all_ask() if x.startswith(tongue.error)])
        said = proxy.said()
        assert (said.count(" is down"), said.count(" is up")) == (round, round), said[-2000:]
    for _ in range(3 * workers):                # whichever worker is asked
        assert changes(proxy) == {"one": (3, 3), "two": (0, 0)}
    for w in wires:
        w.close()
