"""Every growth has an end: memory, queues, requests, replies, clients, descriptors.  Each limit is driven to
its end and beyond; what the process holds then is compared with the bound that it tells of itself, and
whoever asks for little is served all the while.

ENFILE and the other errors of accept are strace's: they come in the place of the system call.
"""
import os
import random
import re
import resource
import select
import socket
import struct
import subprocess
import threading
import time

import pytest

from fake import SECONDS, Gone, bulk, wire
from nut import NUTPROXY, SLOW, pool, wait_for
from resp import command

KIB, MIB = 1 << 10, 1 << 20
SANITIZED = "asan" in os.path.basename(NUTPROXY)
FEWER = 5 if SANITIZED else 1           # sanitizers: so many times fewer connections and bytes
SETTLE_KIB = 1536                       # what may stay of a peak: half used pages, shelves of those who stay

SIZES = ((64, 1), (128, 2))[:1 if SANITIZED else 2]         # max_memory in MiB, workers
sizes = pytest.mark.parametrize("mib, workers", SIZES, ids=lambda x: str(x))
both = pytest.mark.parametrize("protocol", ("redis", "memcached"))


# ---- the bound

def bound_kib(proxy):
    """What the process may have at most, as it says itself."""
    said = subprocess.run([NUTPROXY, "--print-config", "-c", proxy.conf], capture_output=True, text=True, check=True)
    return int(re.search(r"^; memory: at most (\d+) bytes", said.stdout, re.M).group(1)) // KIB


def peak_kib(proxy):
    with open("/proc/%d/status" % proxy.pid) as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))


class Watched:
    """Around what is done to a proxy: what it held meanwhile is within the bound; it falls back when all is
    over, if it is to rest; and all was given back at its end."""

    def __init__(self, proxy, rests=False):
        self.proxy, self.rests = proxy, rests
        self.idle, self.began = proxy.rss_kib(), time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        if kind is not None:
            return
        proxy = self.proxy
        peak, bound, over = peak_kib(proxy), bound_kib(proxy), time.monotonic()
        print("%.1fs; KiB: idle %d, peak %d, bound %d" % (over - self.began, self.idle, peak, bound))
        if not SANITIZED:               # they take memory of their own
            assert peak <= bound, "%d KiB, and it says that it takes at most %d" % (peak, bound)
        for name in proxy.sections:
            if name != "nutproxy":
                wait_for("all clients of %s to be gone" % name,
                         lambda name=name: proxy.stats()[name]["client_connections"] == 0)
        if self.rests and not SANITIZED:
            wait_for("%d KiB to be given back to the system, down to %d" % (peak, self.idle + SETTLE_KIB),
                     lambda: proxy.rss_kib() <= self.idle + SETTLE_KIB, 12)
            print("%.1fs later: %d KiB" % (time.monotonic() - over, proxy.rss_kib()))
        assert proxy.stop() == 0 and "were not given back" not in proxy.said(), proxy.said()[-3000:]


def limited(stage, servers, protocol="redis", mib=64, workers=1, **keys):
    """A proxy with that much memory and a pool alpha, patient unless told otherwise."""
    keys = dict({"timeout": int(20000 * SLOW)}, **keys)
    return stage.nutproxy({"nutproxy": {"max_memory": "%dm" % mib, "workers": workers},
                           "alpha": pool(servers, protocol, **keys)})


# ---- clients

class Witness(threading.Thread):
    """Somebody who asks for little, one thing after the other, and must never see an error."""

    def __init__(self, proxy, protocol="redis", key=b"small"):
        super().__init__(daemon=True)
        self.wire, self.wrong, self.asked, self.slowest = wire(proxy.where("alpha"), 60 * SLOW), [], 0, 0.0
        redis = protocol == "redis"
        self.turns = ((command("SET", key, "value"), b"+OK\r\n"), (command("GET", key), bulk(b"value"))) if redis else \
            ((b"set %s 0 0 5\r\nvalue\r\n" % key, b"STORED\r\n"),
             (b"get %s\r\n" % key, b"VALUE %s 0 5\r\nvalue\r\nEND\r\n" % key))
        self.over = threading.Event()

    def __enter__(self):
        self.turn()
        self.start()
        return self

    def __exit__(self, kind, *rest):
        self.over.set()
        self.join(60 * SLOW)
        self.wire.close()
        if kind is None:
            assert not self.is_alive() and not self.wrong, "a client that asked for little: %s" % self.wrong[:3]

    def turn(self):
        for question, answer in self.turns:
            began = time.monotonic()
            self.wire.say(question)
            got = self.wire.exactly(len(answer))
            self.slowest = max(self.slowest, time.monotonic() - began)
            if got != answer:
                self.wrong.append((got, self.wire.held[:200]))
        self.asked += 1

    def run(self):
        try:
            while not self.over.is_set() and not self.wrong:
                self.turn()
                time.sleep(0.002)
        except (Gone, AssertionError) as e:
            self.wrong.append(repr(e))

    def goes_on(self):
        """It is answered now, whatever others do."""
        until = self.asked + 2
        wait_for("one who asks for little to be answered", lambda: self.wrong or self.asked >= until, 20)
        assert not self.wrong, self.wrong[:3]


class Talker:
    """A client that sends `asks` and holds what comes against `replies`, byte by byte.  An error may stand in the
    place of a reply, where `unit` says how long each is; and the connection may end between them."""

    def __init__(self, address, asks, replies, unit=0, receive=None):
        self.sock = socket.socket(socket.AF_INET)
        if receive:                     # before it connects: the window is told then
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.sock.settimeout(SECONDS)
        self.sock.connect(address)
        self.sock.setblocking(False)
        self.errors, self.line, self.ended, self.wrong = [], b"", False, None
        self.begin(asks, replies, unit)

    def begin(self, asks, replies, unit=0):
        self.asks, self.replies, self.unit = memoryview(asks), replies, unit
        self.sent = self.at = 0

    @property
    def done(self):
        return self.ended or self.at >= len(self.replies)

    def wants(self, reading):
        return (select.POLLOUT if self.sent < len(self.asks) else 0) | (select.POLLIN if reading else 0)

    def send(self):
        try:
            self.sent += self.sock.send(self.asks[self.sent:self.sent + 262144])
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = True

    def read(self, most):
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.ended = True
            return
        while data:
            data = self.hold(data)

    def hold(self, data):
        """Hold the front of `data` against what must come next; the rest."""
        if self.line or (self.unit and self.at % self.unit == 0 and data[:1] in (b"-", b"S")):
            self.line += data
            end = self.line.find(b"\r\n") + 2
            if end < 2:
                return b""
            rest, self.line = self.line[end:], self.line[:end]
            self.errors.append(self.line)
            self.line = b""
            self.at += self.unit
            return rest
        # Up to the end of a reply: what follows may be an error.
        n = min(len(data), self.unit - self.at % self.unit if self.unit else len(self.replies) - self.at)
        want = self.replies[self.at:self.at + n]
        if n == 0 or want != data[:n]:
            i = next((i for i in range(n) if want[i] != data[i]), 0)
            self.wrong = "at %d: %r, not %r" % (self.at + i, data[i:i + 60], want[i:i + 60])
            self.ended = True
            return b""
        self.at += n
        return data[n:]


def converse(talkers, seconds, reading=True, most=262144, pause=0.0, until=None):
    """Let them all send, and read if they are `reading`, until all are done, or `until` says so; False: when
    nothing moves any more."""
    end = time.monotonic() + seconds * SLOW
    poll, mask = select.poll(), {}
    by = {t.sock.fileno(): t for t in talkers}
    still = time.monotonic()
    while not all(t.done for t in talkers) and not (until and until()):
        for fd, t in by.items():
            want = t.wants(reading)
            if t.done and mask.pop(fd, None) is not None:
                poll.unregister(fd)
            elif not t.done and mask.get(fd) != want:
                poll.register(fd, want)
                mask[fd] = want
        ready = poll.poll(50)
        for fd, bits in ready:
            if bits & select.POLLOUT:
                by[fd].send()
            if bits & ~select.POLLOUT and reading:
                by[fd].read(most)
            elif bits & (select.POLLHUP | select.POLLERR):
                by[fd].ended = True
        if ready:
            still = time.monotonic()
        if not reading and time.monotonic() > still + 0.3 * SLOW:
            return False
        assert time.monotonic() < end, "not done: %s" % [(t.sent, t.at, len(t.replies)) for t in talkers
                                                        if not t.done][:5]
        time.sleep(pause)
    wrong = [t.wrong for t in talkers if t.wrong]
    assert not wrong, wrong[:3]
    return True


def part(talkers):
    for t in talkers:
        t.sock.close()


# ---- slow readers, long pipelines

@sizes
def test_slow_readers_of_a_gigabyte_stay_within_the_bound(stage, mib, workers):
    server = stage.redis()
    proxy = limited(stage, [server], mib=mib, workers=workers)
    readers, each, size = 50, 20 // FEWER, MIB
    direct = server.client()
    for n in range(readers):
        direct.set("big%d" % n, b"%02d" % n * (size // 2))
    with Watched(proxy, rests=workers == 1), Witness(proxy) as small:
        talkers = []
        for n in range(readers):
            unit = bulk(b"%02d" % n * (size // 2))
            talkers.append(Talker(proxy.where("alpha"), command("GET", "big%d" % n) * each, unit * each, len(unit),
                                  receive=65536))
        converse(talkers, 30, reading=False)
        small.goes_on()
        converse(talkers, 60, most=65536, pause=0.001)
        small.goes_on()
        told = [e for t in talkers for e in t.errors]
        assert set(told) <= {b"-ERR proxy is out of memory\r\n"}, set(told)
        whole = [t for t in talkers if not t.ended and not t.errors]
        part(talkers)
    assert len(whole) >= readers // 10, "%d of %d have got all" % (len(whole), readers)


@sizes
def test_two_hundred_clients_with_five_thousand_requests_each_are_all_answered_in_order(stage, mib, workers):
    """None of them reads before nobody can send any more; then all come, without error, and in order."""
    servers = [stage.redis() for _ in range(2)]
    proxy = limited(stage, servers, mib=mib, workers=workers, hash="md5")
    clients, count = 200, 5000 // FEWER
    with wire(proxy.where("alpha")) as w:
        w.say(*(command("SET", "value:%d" % n, b"<%04d>" % n * 170) for n in range(clients)))
        assert set(w.frames(clients)) == {b"+OK\r\n"}
    with Watched(proxy):
        talkers = []
        for n in range(clients):
            ask, own = command("INCR", "count:%d" % n), command("GET", "value:%d" % n)
            value = bulk(b"<%04d>" % n * 170)
            talkers.append(Talker(proxy.where("alpha"), (ask * 9 + own) * (count // 10),
                                  b"".join(value if i % 10 == 0 else b":%d\r\n" % (i - i // 10)
                                           for i in range(1, count + 1)), receive=65536))
        converse(talkers, 60, reading=False)
        converse(talkers, 60)
        assert not [t for t in talkers if t.ended], "closed before all was answered"
        part(talkers)


def test_reading_pauses_above_the_mark_and_goes_on_below_it(stage, fakes):
    """A server that does not answer: its clients can send no more than the marks and the kernel's buffers take."""
    gate = threading.Event()
    fake = fakes()

    def answer(link, words):
        assert gate.wait(SECONDS)
        return fake.obey(words)
    fake.answer = answer
    proxy = limited(stage, [fake], mib=256)
    total, value = 96 * MIB, b"v" * 16000
    count = total // len(value)
    with Watched(proxy):
        gate.set()                              # until it is known that its replies are short
        t = Talker(proxy.where("alpha"), command("SET", "k", "v") * 500, b"+OK\r\n" * 500)
        converse([t], 30)
        gate.clear()
        t.begin(command("SET", "k", value) * count, b"+OK\r\n" * count)
        before = proxy.rss_kib()
        converse([t], 30, reading=False)
        assert t.sent < total / 2, "%d bytes, and nobody has taken them" % t.sent
        if not SANITIZED:
            assert proxy.rss_kib() - before < 12 * KIB, "questions of one client, far above its mark"
        gate.set()
        converse([t], 60)
        assert not t.ended
        part([t])


@both
def test_a_client_that_does_not_take_its_replies_is_closed_at_its_limit_and_only_it(stage, protocol):
    server = getattr(stage, protocol)()
    proxy = limited(stage, [server], protocol, client_output_limit="4m")
    value = b"v" * 1000000
    if protocol == "redis":
        store, get, got = command("SET", "big", value), command("GET", "big"), bulk(value)
    else:
        store, get = b"set big 0 0 1000000\r\n%s\r\n" % value, b"get big\r\n"
        got = b"VALUE big 0 1000000\r\n%s\r\nEND\r\n" % value
    with Watched(proxy), Witness(proxy, protocol):
        with wire(proxy.where("alpha")) as w:
            w.say(store)
            w.line()
            w.say(get * 8)                  # more than the limit, but it reads
            assert w.exactly(8 * len(got)) == 8 * got
        # Many keys in one reply, which is held until it is whole: no mark can stop that.
        many = command("MGET", *["big"] * 20) if protocol == "redis" else b"get%s\r\n" % (b" big" * 20)
        with wire(proxy.where("alpha")) as w:
            w.say(many)
            wait_for("it to be closed", lambda: proxy.said().count("client_output_limit") == 1)
            w.rest()
        with wire(proxy.where("alpha")) as w:
            w.say(get)
            assert w.exactly(len(got)) == got


# ---- requests without end

ENDLESS = {
    # What comes first, and then without end; what it is answered with, if it is.
    "redis": (
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$600000000\r\n", b"v" * 65536, b"-ERR Protocol error: "),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n", b"v" * 65536, b"-ERR Protocol error: request is too large"),
        (b"PING ", b"v" * 65536, b"-ERR Protocol error: too big inline request"),
        (b"*1048576\r\n$4\r\nMGET\r\n", b"$6\r\nsomany\r\n" * 5000, b"-ERR Protocol error: request is too large"),
        (b"*1048577\r\n", b"$6\r\nsomany\r\n" * 5000, b"-ERR Protocol error: invalid multibulk length"),
        (b"*2\r\n$", b"1" * 65536, b"-ERR Protocol error: "),
    ),
    "memcached": (
        (b"set k 0 0 500000000\r\n", b"v" * 65536, b"SERVER_ERROR "),
        (b"set k 0 0 2147483645\r\n", b"v" * 65536, b"SERVER_ERROR "),
        (b"set k 0 0 99999999999999999999\r\n", b"v" * 65536, b"CLIENT_ERROR "),
        (b"get", b" somany" * 9000, b""),
        (b"set k 0 0 ", b"1" * 65536, b""),
        (b"nosuchverb", b"v" * 65536, b""),
    )}


def pour(proxy, first, more, most):
    """Send without end, or `most` bytes, or until nobody takes more or an answer comes: how many were taken, and
    what came."""
    got, sent = b"", 0
    with wire(proxy.where("alpha")) as w:
        w.sock.settimeout(0.5 * SLOW)
        try:
            w.sock.sendall(first)
            while sent < most and not select.select([w.sock], [], [], 0)[0]:
                sent += w.sock.send(more)
            while True:                         # the answer, and then the end
                data = w.sock.recv(65536)
                if not data:
                    break
                got += data
        except (ConnectionError, socket.timeout):
            pass
    return sent, got


@both
def test_a_request_without_end_is_refused_at_max_request(stage, protocol):
    proxy = limited(stage, [getattr(stage, protocol)()], protocol, max_request="1m")
    with Watched(proxy), Witness(proxy, protocol) as small:
        for first, more, told in ENDLESS[protocol]:
            sent, got = pour(proxy, first, more, 100 * MIB)
            assert sent < 50 * MIB, "%r: %d bytes were taken" % (first, sent)
            assert got.startswith(told), (first, got[:200])
            small.goes_on()
        value = b"v" * (MIB - 100)              # and what is not too large passes
        with wire(proxy.where("alpha")) as w:
            if protocol == "redis":
                assert w.ask("SET", "k", value) == b"+OK\r\n" and w.ask("GET", "k") == bulk(value)
            else:
                assert w.tell(b"set k 0 0 %d\r\n%s\r\n" % (len(value), value)) == b"STORED\r\n"


@both
@sizes
def test_requests_without_end_from_many_clients_stay_within_the_bound(stage, mib, workers, protocol):
    """As large as may be, and together more than there is: some are closed, and nobody else notices."""
    proxy = limited(stage, [getattr(stage, protocol)()], protocol, mib=mib, workers=workers)
    with Watched(proxy), Witness(proxy, protocol) as small:
        threads, took = [], []
        for first, more, _ in ENDLESS[protocol] * 2:
            def client(first=first, more=more):
                took.append(pour(proxy, first, more, mib * MIB // 3))
            threads.append(threading.Thread(target=client, daemon=True))
        for t in threads:
            t.start()
        small.goes_on()
        for t in threads:
            t.join(30 * SLOW)
        assert len(took) == len(threads), "one hangs"
        small.goes_on()


@sizes
def test_a_million_words_that_come_slowly_from_many_clients_stay_within_the_bound(stage, mib, workers):
    """Words without bytes: what is noted for each is more than what came."""
    proxy = limited(stage, [stage.redis()], mib=mib, workers=workers)
    words = b"$0\r\n\r\n" * 20000
    with Watched(proxy), Witness(proxy) as small:
        talkers = [Talker(proxy.where("alpha"), b"*1048576\r\n$4\r\nMGET\r\n" + words * 50, b"x") for _ in range(12)]
        converse(talkers, 60, reading=False, pause=0.002)
        small.goes_on()
        part(talkers)


def test_half_sent_values_of_fifty_megabytes_cost_nobody_else_anything(stage):
    proxy = limited(stage, [stage.redis()], mib=128)
    size = 50 * 1000 * 1000
    head, half = b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % size, b"v" * (size // 2 // FEWER)
    with Watched(proxy), Witness(proxy) as small:
        halves = [Talker(proxy.where("alpha"), head + half, b"x") for _ in range(20)]
        converse(halves, 60, reading=False)
        small.goes_on()
        assert any(t.sent == len(t.asks) for t in halves), "there is room for some"
        part(halves)
        wait_for("them to be gone", lambda: proxy.stats()["alpha"]["client_connections"] == 1)
        with wire(proxy.where("alpha"), 60 * SLOW) as w:
            assert w.ask("SET", "big", b"v" * size) == b"+OK\r\n", "there is room again for a whole one"
            assert w.ask("STRLEN", "big") == b":%d\r\n" % size


# ---- replies without end

def without_end(first, more):
    """A reply that begins, and goes on for ever."""
    def reply(link):
        link.say(first)
        while True:
            link.say(more)
    return reply


NEVER_DONE = {
    "redis": {
        "a bulk of a terabyte": without_end(b"$1099511627776\r\n", b"v" * 262144),
        "an array that never ends": without_end(b"*1099511627776\r\n", b"$5\r\nvalue\r\n" * 20000),
        "nested arrays": without_end(b"", b"*2\r\n" * 50000),
        "a line that never ends": without_end(b"+", b"v" * 262144),
        "an error that never ends": without_end(b"-ERR ", b"v" * 262144),
        "a number that never ends": without_end(b":", b"1" * 262144),
        "an array in an array": without_end(b"*1\r\n*1099511627776\r\n", b":1\r\n" * 50000),
        "a long bulk in an array": without_end(b"*1\r\n$1099511627776\r\n", b"v" * 262144)},
    "memcached": {
        "a value of a terabyte": without_end(b"VALUE endless 0 1099511627776\r\n", b"v" * 262144),
        "a value of two gigabytes": without_end(b"VALUE endless 0 2147483645\r\n", b"v" * 262144),
        "values that never end": without_end(b"", b"VALUE endless 0 5\r\nvalue\r\n" * 20000),
        "a line that never ends": without_end(b"VALUE ", b"v" * 262144),
        "an error that never ends": without_end(b"SERVER_ERROR ", b"v" * 262144)}}


@both
def test_a_reply_without_end_ends_at_its_deadline_or_limit_and_costs_only_its_client(stage, fakes, protocol):
    fake, sound = fakes(protocol=protocol), fakes(protocol=protocol)
    proxy = limited(stage, [fake, sound], protocol, hash="md5", timeout=int(300 * SLOW), probe_interval=20,
                    server_failure_limit=1000000, client_output_limit="16m", connect_timeout=int(2000 * SLOW))
    for f in (fake, sound):
        f.store = {b"k%d" % i: b"value" for i in range(40)}
        f.endless = None

        def answer(link, words, f=f):
            return f.endless(link) if any(w.startswith(b"endless") for w in words) else f.obey(words)
        f.answer = answer
    redis = protocol == "redis"
    keys = [b"endless"] + [b"k%d" % i for i in range(40)]
    one = command("GET", "endless") if redis else b"get endless\r\n"
    many = command("MGET", *keys) if redis else b"get %s\r\n" % b" ".join(keys)
    error = b"-ERR " if redis else b"SERVER_ERROR "
    with Watched(proxy), wire(proxy.where("alpha")) as w:
        for name, reply in NEVER_DONE[protocol].items():
            fake.endless = sound.endless = reply
            for question, takes in ((one, True), (one, False), (many, True), (many, False)):
                began = time.monotonic()
                with wire(proxy.where("alpha")) as c:
                    c.say(question)
                    got, size = b"", 0
                    try:
                        if not takes:               # until it is told, or closed
                            wait_for("%s to end" % name, lambda: proxy.stats()["alpha"]["client_connections"] == 1 or
                                     proxy.stats()["alpha"]["forward_error"] > 0, 10)
                        while not got.endswith(b"\r\n") or error not in got:
                            c.more()
                            size, got, c.held = size + len(c.held), (got + c.held)[-300:], b""
                    except Gone:
                        pass
                    seconds = time.monotonic() - began
                    assert seconds < 6 * SLOW, "%s: told after %.1fs" % (name, seconds)
                    # An error whole, or the beginning of the reply and then the end of the connection.
                    assert size > 300 or got == b"" or got.startswith((error, b"VALUE")), (name, got[:100])
            # Both servers are asked again as soon as they behave.
            for f in (fake, sound):
                f.endless = None

            def well():
                w.say(command("MGET", *keys[1:]) if redis else b"get %s\r\n" % b" ".join(keys[1:]))
                got = w.frame() if redis else w.answer()
                return got.count(b"value\r\n") == 40
            wait_for("both servers to be asked after %s" % name, well)


# ---- queues

@both
def test_when_max_queued_requests_wait_for_a_server_the_next_are_told_at_once(stage, protocol):
    server, other = (getattr(stage, protocol)() for _ in range(2))
    most, crowd = 40, 100
    proxy = limited(stage, [server, other], protocol, hash="md5", max_queued=most)
    redis = protocol == "redis"
    asks = (lambda k: command("SET", k, "v")) if redis else (lambda k: b"set %s 0 0 1\r\nv\r\n" % k)
    stored = b"+OK\r\n" if redis else b"STORED\r\n"
    full = (b"-ERR " if redis else b"SERVER_ERROR ") + b"Server queue is full: the request was not sent\r\n"
    with Watched(proxy):
        with wire(proxy.where("alpha")) as w:
            keys = [b"k%d" % i for i in range(400)]
            w.say(*(asks(k) for k in keys))
            assert {w.line() for _ in keys} == {stored}
        mine = keys_of(server, protocol, keys)
        here = [wire(proxy.where("alpha")) for _ in range(crowd)]
        server.pause()
        try:
            for w, k in zip(here, mine):
                w.say(asks(k))
            wait_for("those who are too many to be told", lambda: len(answered(here)) >= crowd - most)
            time.sleep(0.1 * SLOW)              # and nobody else is
            told = answered(here)
            waiting = [w for w in here if w not in told]
            assert {w.line() for w in told} == {full} and len(waiting) == most, (len(told), len(waiting))
            with wire(proxy.where("alpha")) as w:           # the other server is asked as ever
                for k in sorted(set(keys) - set(mine))[:50]:
                    w.say(asks(k))
                    assert w.line() == stored
        finally:
            server.resume()
        assert {w.line() for w in waiting} == {stored}, "who waits is answered"
        for w in here:
            w.say(*(asks(k) for k in mine[:5]))
            assert {w.line() for _ in range(5)} == {stored}, "and all are served again"
            w.close()
    assert stored_count(server, protocol, mine) == len(mine)


def answered(wires):
    """Those who have something to read."""
    ready = select.select([w.sock for w in wires], [], [], 0)[0]
    return [w for w in wires if w.sock in ready]


def keys_of(server, protocol, keys):
    """Those of these keys that this server has."""
    with wire((server.host, server.port)) as w:
        if protocol == "redis":
            w.say(*(command("EXISTS", k) for k in keys))
            return [k for k in keys if w.frame() == b":1\r\n"]
        got = w.tell(b"get %s\r\n" % b" ".join(keys))
        return [k for k in keys if b"VALUE %s " % k in got]


def stored_count(server, protocol, keys):
    return len(keys_of(server, protocol, keys))


@both
def test_a_pipeline_longer_than_max_queued_is_slower_and_sees_no_error(stage, protocol):
    """Above half of it clients with requests open are not read: they are answered when the server goes on."""
    server = getattr(stage, protocol)()
    proxy = limited(stage, [server], protocol, max_queued=100)
    redis = protocol == "redis"
    count = 5000
    asks = (command("INCR", "n%d") if redis else b"incr n%d 1\r\n").replace(b"$3\r\nn%d", b"$2\r\nn%d")
    with Watched(proxy):
        with wire(proxy.where("alpha")) as w:
            for n in range(5):
                w.say(command("SET", "n%d" % n, "0") if redis else b"set n%d 0 0 1\r\n0\r\n" % n)
                w.line()
        line = b":%d\r\n" if redis else b"%d\r\n"

        def replies(first):
            return b"".join(line % i for i in range(first, first + count))
        talkers = [Talker(proxy.where("alpha"), (asks % n) * count, replies(1)) for n in range(5)]
        converse(talkers, 30)                   # it is known by now that their replies are short
        name = "%s:%d" % (server.host, server.port)
        before = proxy.stats()["alpha"][name]["requests"]
        for n, t in enumerate(talkers):
            t.begin((asks % n) * count, replies(count + 1))
        server.pause()
        try:
            converse(talkers, 30, reading=False)
            assert not any(t.ended for t in talkers)
            waits = proxy.stats()["alpha"][name]["requests"] - before
            assert 50 <= waits <= 100, "%d requests wait" % waits
        finally:
            server.resume()
        converse(talkers, 30)
        assert not any(t.ended for t in talkers)
        part(talkers)


# ---- clients and descriptors

def texts(protocol):
    return (b"-ERR max number of clients reached\r\n", command("PING"), b"+PONG\r\n") if protocol == "redis" else \
        (b"SERVER_ERROR too many open connections\r\n", b"verbosity 1\r\n", b"OK\r\n")


def served(w, protocol):
    """True: it is answered; False: it was told that it is one too many, and then closed."""
    refusal, ask, answer = texts(protocol)
    try:
        w.say(ask)
        got = w.line()
    except Gone as e:
        got = refusal if repr(refusal)[2:-1] in str(e) else None
        assert got is not None, "closed without a word: %s" % e
    assert got in (answer, refusal), got
    return got == answer


@pytest.mark.parametrize("workers", (1, 2), ids=str)
def test_max_clients_counts_the_clients_of_all_pools_and_workers(stage, workers):
    most = 20
    proxy = stage.nutproxy({"nutproxy": {"workers": workers, "max_clients": most},
                            "alpha": pool([stage.redis()]), "beta": pool([stage.memcached()], "memcached")})
    pools = (("alpha", "redis"), ("beta", "memcached"))
    wait_for("who looked whether it listens to be gone", lambda: clients(proxy) == 0)
    for round in range(3):
        here = []
        for i in range(most + 10):
            name, protocol = pools[i % 2]
            w = wire(proxy.where(name))
            assert served(w, protocol) == (i < most), "number %d" % i
            here.append(w)
        assert clients(proxy) == most and proxy.stats()["alpha"]["client_connections"] > 0, "the stats port is open"
        for n in range(5):                      # one goes, one comes
            here.pop(0).close()
            wait_for("a place", lambda: clients(proxy) == most - 1)
            name, protocol = pools[n % 2]
            here.append(wire(proxy.where(name)))
            assert served(here[-1], protocol)
        for w in here:
            w.close()
        wait_for("all to be gone", lambda: clients(proxy) == 0)


def clients(proxy):
    return sum(s["client_connections"] for s in proxy.stats().values() if isinstance(s, dict))


def cpu_seconds(process):
    with open("/proc/%d/stat" % process.pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.parametrize("workers", (1, 2), ids=str)
@both
def test_without_descriptors_newcomers_are_told_or_wait_and_are_served_when_others_leave(stage, protocol, workers):
    """The limit falls while the process runs, so that accept itself fails."""
    proxy = stage.nutproxy({"nutproxy": {"workers": workers}, "alpha": pool([getattr(stage, protocol)()], protocol,
                                                                            preconnect=True)})
    wait_for("who looked whether it listens to be gone", lambda: clients(proxy) == 0)
    before = settled_descriptors(proxy)
    room = 12
    soft, hard = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
    inside = []
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (before + room, hard))
    try:
        crowd = [wire(proxy.where("alpha")) for _ in range(40)]
        for w in crowd:
            w.say(texts(protocol)[1])
        told, inside, waiting = sort_out(crowd, protocol)
        assert len(told) >= 1, "nobody was told"
        # The spare one that a worker gives up for a moment may go to a client of another worker.
        assert room - 4 * workers <= len(inside) < room + workers, len(inside)
        began = cpu_seconds(proxy)
        time.sleep(0.5)                         # it is idleness that is measured
        assert cpu_seconds(proxy) - began < 0.3, "it spins"
        assert all(served(w, protocol) for w in inside), "who is inside is served"
        newcomers = waiting + [wire(proxy.where("alpha")) for _ in range(4)]
        while newcomers:
            # Who waits, or comes now, is told or served as soon as some have left.
            for w in inside[:6]:
                w.close()
            inside = inside[6:]
            for w in newcomers:
                w.say(texts(protocol)[1])
            refused, welcome, newcomers = sort_out(newcomers, protocol)
            inside += welcome
            told += refused
            assert welcome or refused, "nobody moves: %d wait" % len(newcomers)
        for w in inside:
            w.close()
        wait_for("all to be gone", lambda: proxy.descriptors() <= before)
        began = time.monotonic()
        with wire(proxy.where("alpha")) as w:
            assert served(w, protocol)
        assert time.monotonic() - began < 1 * SLOW, "the door was not open"
    finally:
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (soft, hard))
    wait_for("all to be gone", lambda: proxy.descriptors() <= before)


def settled_descriptors(proxy):
    """How many it has when those who asked for the stats are gone."""
    counts = [proxy.descriptors()]
    wait_for("descriptors to settle", lambda: (counts.append(proxy.descriptors()), time.sleep(0.02),
                                               len(set(counts[-5:])) == 1 and len(counts) > 5)[-1])
    return counts[-1]


def sort_out(crowd, protocol):
    """Those who were told that there is no room, those who were served, and those who wait."""
    refusal, _, answer = texts(protocol)
    told, inside, waiting = [], [], []
    time.sleep(0.4 * SLOW)                      # all who can be answered are by then
    for w in crowd:
        if not select.select([w.sock], [], [], 0)[0]:
            waiting.append(w)
            continue
        try:
            got = w.line()
        except Gone as e:
            assert repr(refusal)[2:-1] in str(e), "closed without a word: %s" % e
            got = refusal
        assert got in (refusal, answer), got
        (told if got == refusal else inside).append(w)
    return told, inside, waiting


ACCEPT_ERRORS = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EPROTO", "EPERM", "ENETDOWN", "EINTR",
                 "EHOSTUNREACH", "ETIMEDOUT", "ENOPROTOOPT")
AT_ONCE = ("ECONNABORTED", "EINTR")     # after these it is tried again at once


def test_no_error_of_accept_closes_the_door(stage):
    """strace lets accept fail in each way; clients wait meanwhile, and come in when it is over."""
    proxy = stage.nutproxy({"alpha": pool([stage.redis()])})
    calls = stage.path("accepts")
    for name in ACCEPT_ERRORS:
        tracer = subprocess.Popen(["strace", "-f", "-p", str(proxy.pid), "-o", calls, "-e", "trace=accept4",
                                   "-e", "inject=accept4:error=%s:when=1+" % name],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            assert b"attached" in tracer.stderr.readline()
            with wire(proxy.where("alpha")) as w:
                w.say(command("PING"))
                assert not select.select([w.sock], [], [], 0.25 * SLOW)[0], name
                tracer.terminate()
                tracer.wait()
                assert proxy.child.poll() is None, name
                with open(calls) as f:
                    asked = f.read().count("accept4(")
                assert 1 <= asked <= 20 * SLOW or name in AT_ONCE, "%s: it spins, %d calls" % (name, asked)
                assert w.frame() == b"+PONG\r\n", name
        finally:
            tracer.kill()
            tracer.wait()
            tracer.stderr.close()


VISITS = 100000 // FEWER // FEWER


def test_a_hundred_thousand_connections_come_and_go_and_leave_nothing(stage):
    path = stage.path("nut.sock")
    proxy = stage.nutproxy({"nutproxy": {"workers": 2}, "alpha": pool([stage.redis()], preconnect=True),
                            "beta": dict(pool([stage.memcached()], "memcached", preconnect=True), listen=path)})
    tcp, wrong, done = proxy.where("alpha"), [], []

    def come_and_go(number, count):
        dice = random.Random(number)
        try:
            for i in range(count):
                visit(dice, i)
        except (OSError, AssertionError) as e:
            wrong.append(repr(e))
        done.append(number)

    def visit(dice, i):
        # The orderly end of a TCP connection keeps its port for a minute: nearly all of them are reset.
        unix = i % 2
        s = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        with s:
            s.settimeout(SECONDS)
            s.connect(path if unix else tcp)
            if not unix and i % 100:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            kind = dice.randrange(8)
            if kind == 0:
                s.sendall(b"set k 0 0 10\r\nabc" if unix else b"*2\r\n$3\r\nGET\r\n$10\r\nabc")
            elif kind == 1:
                s.sendall(b"get nosuch\r\n" if unix else command("GET", "nosuch"))
                assert s.recv(100) == (b"END\r\n" if unix else b"$-1\r\n")
            elif kind == 2:
                s.sendall(b"get nosuch\r\n" if unix else command("GET", "nosuch"))

    come_and_go(0, 400)                         # what the first ones need stays
    wait_for("them to be gone", lambda: clients(proxy) == 0)
    descriptors, memory = settled_descriptors(proxy), proxy.rss_kib()
    began = time.monotonic()
    threads = [threading.Thread(target=come_and_go, args=(n, VISITS // 4), daemon=True) for n in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120 * SLOW)
    assert not wrong and len(done) == 5, wrong[:5]
    wait_for("them to be gone", lambda: clients(proxy) == 0)
    wait_for("descriptors to return to %d" % descriptors, lambda: proxy.descriptors() <= descriptors)
    print("%d visits in %.1fs" % (VISITS, time.monotonic() - began))
    if not SANITIZED:
        wait_for("the memory to return to %d KiB" % memory, lambda: proxy.rss_kib() <= memory + 256)
    with wire(tcp) as w:
        assert w.ask("PING") == b"+PONG\r\n"
    assert proxy.stop() == 0 and "were not given back" not in proxy.said()
