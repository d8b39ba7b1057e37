"""memcached pools: four real memcacheds behind nutproxy answer as one memcached does.

Most tests send the same bytes to the proxy and to one server, and compare what comes
back. Where the proxy has to differ, the row says what it must answer and why. Uniques
of cas differ from server to server and are masked, or checked with the key's own
server. After each row comes the fence, a get of four keys that live on four servers:
a reply too many or too few on any connection behind the proxy shows there at once.

NUT_SEED=N replays a failure.
"""
import base64
import collections
import concurrent.futures
import itertools
import os
import random
import re
import select
import socket
import struct
import threading
import time

import pytest

from nut import SLOW, dial, free_port, pool, wait_for

SEED = int(os.environ.get("NUT_SEED") or time.time_ns() % 10**9)
MIB = 1 << 20
WHOLE, BYTEWISE = (1 << 18,), (1,)      # how much goes into one write
ERROR = re.compile(rb"(ERROR|CLIENT_ERROR [^\r\n]+|SERVER_ERROR [^\r\n]+)\r\n")
ROOM = 80 << 10 if SLOW == 1 else 700 << 10     # KiB of growth; a sanitizer keeps what was freed
BAD_LINE = b"CLIENT_ERROR bad command line format\r\n"


# ---- a connection

class Closed(AssertionError):
    """The other side closed the connection while replies were owed."""


class Silence(AssertionError):
    """Nothing came although something was owed."""


class Link:
    """A connection that speaks memcached's text protocol. A reply is the bytes of one
    request's answer: the line, or the VALUEs with their END."""

    def __init__(self, where, seconds=20):
        self.seconds = seconds * SLOW
        self.sock = dial(where, self.seconds)
        self.held, self.at = bytearray(), 0     # from the start of the reply that is not whole
        self.got = collections.deque()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def reset(self):
        """Leave with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def write(self, data):
        self.sock.sendall(data)
        return self

    def cut(self):
        """Move the whole replies from what is held to what was got."""
        start = 0
        while True:
            end = self.held.find(b"\r\n", self.at)
            if end < 0:
                assert len(self.held) - self.at < 4096, "no line: %s" % brief(self.held[self.at:])
                break
            after = end + 2
            if self.held.startswith(b"VALUE ", self.at):
                after += int(self.held[self.at:end].split()[3]) + 2
                if len(self.held) < after:
                    break
                assert self.held[after - 2:after] == b"\r\n", \
                    "no CR LF after the value of %s" % brief(self.held[self.at:end])
            elif self.held.startswith(b"VA ", self.at):
                after += int(self.held[self.at:end].split()[1]) + 2
                if len(self.held) < after:
                    break
                self.got.append(bytes(memoryview(self.held)[start:after]))
                start = after
            else:
                self.got.append(bytes(memoryview(self.held)[start:after]))
                start = after
            self.at = after
        del self.held[:start]
        self.at -= start

    def read(self):
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed("closed; replies at hand: %d, begun: %s" % (len(self.got), brief(self.held)))
        self.held += data
        self.cut()

    def exchange(self, data, count, sizes=WHOLE):
        """Send these bytes, in writes of these sizes, and read `count` replies while
        they come: neither side ever waits for the other to read."""
        sizes, view, sent = itertools.cycle(sizes), memoryview(data), 0
        poll = select.poll()
        while sent < len(view) or len(self.got) < count:
            poll.register(self.sock, select.POLLIN | (select.POLLOUT if sent < len(view) else 0))
            ready = dict(poll.poll(self.seconds * 1000)).get(self.sock.fileno(), 0)
            if not ready:
                raise Silence("silence for %gs after %d of %d bytes and %d of %d replies, begun: %s" % (
                    self.seconds, sent, len(view), len(self.got), count, brief(self.held)))
            if ready & ~select.POLLOUT:
                self.read()
            elif ready & select.POLLOUT:
                try:
                    sent += self.sock.send(view[sent:sent + next(sizes)], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass
                except (BrokenPipeError, ConnectionResetError):
                    sent = len(view)        # the read tells what came before the end
        return [self.got.popleft() for _ in range(count)]

    def ask(self, data):
        return self.exchange(data, 1)[0]

    def pipeline(self, requests, sizes=WHOLE):
        return self.exchange(b"".join(requests), len(requests), sizes)

    def until(self, last):
        """The replies before this one. If it never comes they are in `got`."""
        replies = []
        try:
            while not replies or replies[-1] != last:
                replies += self.exchange(b"", 1)
        except AssertionError:
            self.got.extendleft(reversed(replies))
            raise
        return replies[:-1]

    def rest(self):
        """Every reply until the other side closes."""
        end = time.monotonic() + self.seconds
        try:
            while time.monotonic() < end:
                self.read()
            raise Silence("not closed after %gs" % self.seconds)
        except socket.timeout:
            raise Silence("not closed after %gs; begun: %s" % (self.seconds, brief(self.held))) from None
        except Closed:
            return [self.got.popleft() for _ in range(len(self.got))]


def brief(data, most=160):
    """Bytes as a failure can show them."""
    data = bytes(data)
    if len(data) <= most:
        return repr(data)
    return "%r ... %r (%d bytes)" % (data[:most // 2], data[-most // 4:], len(data))


def put(verb, key, value, flags=0, exptime=0, tail=b""):
    """A storage request; `tail` is the unique, noreply or both."""
    assert b"@" not in key or not re.search(rb"@|\{(n|cas)\}", value), "the marks of a row stand in its value"
    return b"%s %s %d %d %d%s\r\n%s\r\n" % (verb, key, flags, exptime, len(value),
                                          b" " + tail if tail else b"", value)


def mute(verb, key, value):
    return put(verb, key, value, tail=b"noreply")


def get(keys, verb=b"get"):
    return b"%s %s\r\n" % (verb, b" ".join(keys))


def blocks(reply):
    """A get's reply as a list of (key, flags, unique or None, value)."""
    at, out = 0, []
    while reply.startswith(b"VALUE ", at):
        end = reply.index(b"\r\n", at)
        _, key, flags, size, *unique = reply[at:end].split(b" ")
        after = end + 2 + int(size)
        out.append((key, flags, unique[0] if unique else None, reply[end + 2:after]))
        at = after + 2
    return out


def value_of(key, value, flags=0):
    return b"VALUE %s %d %d\r\n%s\r\n" % (key, flags, len(value), value)


def hits(found):
    """A get's reply of these (key, value) or (key, value, flags)."""
    return b"".join(value_of(*f) for f in found) + b"END\r\n"


def masked(reply):
    """The reply without the uniques that only its own server knows, and the seconds of ME."""
    if not reply or not reply.startswith(b"VALUE "):
        return reply and re.sub(rb"\A(?:HD|VA \d+|ME)[^\r]*", lambda line: re.sub(
            rb" (c|cas=|la=)\d+", rb" \1?", line[0]), reply)
    found, at, out = blocks(reply), 0, []
    for key, flags, unique, value in found:
        unseen = b" ?" if unique else b""
        out.append(b"VALUE %s %s %d%s\r\n%s\r\n" % (key, flags, len(value), unseen, value))
        at += len(out[-1]) + (len(unique) - 1 if unique else 0)
    return b"".join(out) + reply[at:]


def pieces(dice, count=500):
    """Sizes for writes: 1 byte up to 16 KiB, small ones as likely as large ones."""
    return [int(2 ** dice.uniform(0, 14)) for _ in range(count)]


# ---- the servers and the proxy

class World:
    """Four servers behind a pool, one server alone; a pair of the same with small items."""
    FENCE = [b"fence%d" % i for i in range(64)]

    def __init__(self, stage):
        self.servers = [stage.memcached() for _ in range(4)]
        self.single = stage.memcached()
        self.small, self.small_single = stage.memcached("-I", "1m"), stage.memcached("-I", "1m")
        names = ["north", "east", "south", "west"]
        # the default hash puts keys that differ in their last letters all on one server
        four = dict(servers=self.servers, protocol="memcached", names=names, hash="md5", timeout="60s")
        self.proxy = stage.nutproxy({"alpha": pool(**four),
                                     "narrow": pool(client_output_limit="4m", **four),
                                     "small": pool([self.small], "memcached", timeout="60s")})
        self.doors = {"alpha": self.proxy.where("alpha"), "small": self.proxy.where("small"),
                      "single": ("127.0.0.1", self.single.port),
                      "small_single": ("127.0.0.1", self.small_single.port)}
        with self.link("alpha") as link:
            link.pipeline([put(b"set", key, key) for key in self.FENCE])
        homes = self.homes(self.FENCE)
        self.fence_keys = [next(k for k in self.FENCE if homes[k] == i) for i in range(4)]
        self.fence = get(self.fence_keys)
        self.fenced = hits((k, k) for k in self.fence_keys)
        for door in self.doors:
            with self.link(door) as link:
                link.pipeline([put(b"set", key, key) for key in self.fence_keys])

    def link(self, door, seconds=20):
        return Link(self.doors.get(door) or self.proxy.where(door), seconds)

    def at(self, i):
        """A connection to one of the four servers itself."""
        return Link(("127.0.0.1", self.servers[i].port))

    def homes(self, keys):
        """Which server holds which key; each must be held by one only."""
        homes = {}
        for i in range(4):
            with self.at(i) as link:
                for key in keys_in(link.ask(get(keys))):
                    assert key not in homes, "%r is on two servers" % key
                    homes[key] = i
        return homes

    def meta(self, keys, flags):
        """What the servers themselves say of these keys: `mg key flags`, hits only."""
        said = {}
        for i in range(4):
            with self.at(i) as link:
                replies = link.pipeline([b"mg %s %s\r\n" % (k, flags) for k in keys])
                said.update((k, r) for k, r in zip(keys, replies) if r != b"EN\r\n")
        return said

    def counters(self):
        """What the four servers have counted, summed."""
        total = collections.Counter()
        for i in range(4):
            with self.at(i) as link:
                for line in link.write(b"stats\r\n").until(b"END\r\n"):
                    _, name, value = line.split(None, 2)
                    if re.match(rb"(cmd|get|delete|incr|decr|cas|touch|store)_|\w+_items|bytes_read", name):
                        total[name.decode()] += int(value)
        return total


def keys_in(reply):
    return [key for key, *_ in blocks(reply)]


@pytest.fixture(scope="module")
def cast(shared):
    return World(shared)


@pytest.fixture
def world(cast):
    if cast.proxy.child.poll() is not None:
        cast.proxy.start()
    yield cast
    assert cast.proxy.child.poll() is None, "nutproxy died: %s" % cast.proxy.said()[-3000:]


@pytest.fixture
def dice():
    print("\nNUT_SEED=%d" % SEED)
    return random.Random(SEED)


# ---- the same row to the proxy and to one server

class Side:
    """One door that rows are tried on; opened again where a row closed it."""

    def __init__(self, world, door):
        self.world, self.door, self.link, self.silences = world, door, None, 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        if self.link is not None:
            self.link.sock.close()
            self.link = None

    def say(self, step, sizes):
        """The replies to a step; the last is None if it closed the connection."""
        if self.link is None:
            self.link = self.world.link(self.door, seconds=5)
        try:
            self.link.exchange(step + self.world.fence, 0, sizes)
            return self.link.until(self.world.fenced)
        except Closed:
            begun = [bytes(self.link.held)] if self.link.held else []
            replies = list(self.link.got) + begun + [None]
        except Silence as e:
            self.silences += 1
            assert self.silences < 4, "rows fall silent again and again: %s, after %s" % (e, brief(step))
            replies = list(self.link.got) + [b"... and then silence"]
        self.close()
        return replies

    def run(self, steps, sizes=WHOLE):
        """What each step is answered with. {cas} in a step is the unique seen last."""
        said, unique = [], b"0"
        for step in steps:
            replies = self.say(step.replace(b"{cas}", unique), sizes)
            for reply in replies:
                found = blocks(reply) if reply else []
                unique = found[-1][2] or unique if found else unique
                meta = re.match(rb"(?:HD|VA \d+)[^\r]* c(\d+)", reply or b"")
                unique = meta[1] if meta else unique
            said.append([masked(r) for r in replies])
        return said


tags = itertools.count(1)


def new_tag():
    return b"%06d." % next(tags)


def tagged(steps, tag):
    """The steps with keys that no other row has: @ becomes the tag. {n} is the size of EVIL."""
    size = len(EVIL.replace(b"@", tag))
    return [s.replace(b"{n}", b"%d" % size).replace(b"@", tag) for s in steps]


def differing(world, rows, sizes=WHOLE, door="alpha", other="single"):
    """The rows (name, steps for the proxy, steps for the server, or None for the same)
    that the two answer differently."""
    bad = []
    with Side(world, door) as here, Side(world, other) as there:
        for name, steps, theirs in rows:
            tag = new_tag()
            said = here.run(tagged(steps, tag), sizes)
            want = there.run(tagged(theirs or steps, tag))
            if said != want:
                step, got, wanted = next((s, a, b) for s, a, b in zip(steps, said, want) if a != b)
                bad.append((name, step, got, wanted))
    return bad


def agree(bad):
    """Fail with all rows that differ."""
    told = ["%s: %s\n     got %s\n  wanted %s" % (name, brief(step), told_of(got), told_of(wanted))
            for name, step, got, wanted in bad[:15]]
    assert not bad, "%d rows differ\n%s" % (len(bad), "\n".join(told))


def told_of(replies):
    return ", ".join("closed" if r is None else brief(r) for r in replies) or "nothing"


# ---- every command with true values

HELLO = put(b"set", b"@a", b"hello", 5)
LOOK = b"gets @a @b\r\n"
NUMBER = put(b"set", b"@a", b"10", 7)

CONVERSATIONS = {
    "set": [put(b"set", b"@a", b"one"), LOOK, put(b"set", b"@a", b"two", 3, 1000), LOOK],
    "set noreply": [put(b"set", b"@a", b"one", 1, 0, b"noreply"), LOOK],
    "add": [put(b"add", b"@a", b"one"), put(b"add", b"@a", b"two"), LOOK],
    "add noreply": [mute(b"add", b"@a", b"1"), mute(b"add", b"@a", b"2"), LOOK],
    "replace": [put(b"replace", b"@a", b"one"), HELLO, put(b"replace", b"@a", b"two", 9), LOOK],
    "replace noreply": [mute(b"replace", b"@a", b"1"), HELLO, mute(b"replace", b"@a", b"2"), LOOK],
    "append": [put(b"append", b"@a", b"one"), HELLO, put(b"append", b"@a", b" world\r\n", 77, 5), LOOK],
    "append noreply": [mute(b"append", b"@a", b"1"), HELLO, mute(b"append", b"@a", b"2"), LOOK],
    "prepend": [put(b"prepend", b"@a", b"one"), HELLO, put(b"prepend", b"@a", b"\r\n"), LOOK],
    "prepend noreply": [mute(b"prepend", b"@a", b"1"), HELLO, mute(b"prepend", b"@a", b"2"), LOOK],
    "cas": [put(b"cas", b"@a", b"x", 0, 0, b"1"), HELLO, LOOK, put(b"cas", b"@a", b"won", 4, 0, b"{cas}"),
            put(b"cas", b"@a", b"late", 0, 0, b"{cas}"), LOOK,
            put(b"cas", b"@a", b"won too", 0, -1, b"{cas}"), LOOK],
    "cas of the largest unique": [HELLO, put(b"cas", b"@a", b"x", 0, 0, b"18446744073709551615"), LOOK],
    "cas noreply": [put(b"cas", b"@a", b"x", 0, 0, b"1 noreply"), HELLO, LOOK,
                    put(b"cas", b"@a", b"won", 0, 0, b"{cas} noreply"), LOOK,
                    put(b"cas", b"@a", b"late", 0, 0, b"1 noreply"), LOOK],
    "cas after gats": [HELLO, b"gats 0 @a\r\n", put(b"cas", b"@a", b"won", 0, 0, b"{cas}"), LOOK],
    "cas after another's write": [HELLO, LOOK, HELLO, put(b"cas", b"@a", b"late", 0, 0, b"{cas}"), LOOK],
    "incr": [b"incr @a 1\r\n", NUMBER, b"incr @a 1\r\n", b"incr @a 18446744073709551604\r\n",
             b"incr @a 18446744073709551616\r\n", LOOK],
    "incr noreply": [b"incr @a 1 noreply\r\n", NUMBER, b"incr @a 5 noreply\r\n", LOOK],
    "incr of no number": [HELLO, b"incr @a 1\r\n", b"incr @a 1 noreply\r\n", b"decr @a 1\r\n", LOOK],
    "decr": [b"decr @a 1\r\n", NUMBER, b"decr @a 1\r\n", LOOK, b"decr @a 100\r\n", LOOK],
    "decr noreply": [b"decr @a 1 noreply\r\n", NUMBER, b"decr @a 5 noreply\r\n", LOOK],
    "incr and decr by zero": [NUMBER, b"incr @a 0\r\n", b"decr @a 0\r\n", LOOK],
    "delete": [b"delete @a\r\n", HELLO, b"delete @a\r\n", LOOK, HELLO, b"delete @a 0\r\n", LOOK],
    "delete noreply": [b"delete @a noreply\r\n", HELLO, b"delete @a noreply\r\n", LOOK,
                       HELLO, b"delete @a 0 noreply\r\n", LOOK],
    "touch": [b"touch @a 0\r\n", HELLO, b"touch @a 1000\r\n", LOOK, b"touch @a -1\r\n", LOOK],
    "touch noreply": [b"touch @a 0 noreply\r\n", HELLO, b"touch @a -1 noreply\r\n", LOOK],
    "gat": [b"gat 0 @a\r\n", HELLO, b"gat 1000 @a\r\n", b"gat -1 @a @b\r\n", b"gat 0 @a\r\n", LOOK],
    "gats": [b"gats 0 @a\r\n", HELLO, b"gats 1000 @a\r\n", b"gats -1 @a @b\r\n", b"gats 0 @a\r\n", LOOK],
    "get and gets of what is not there": [b"get @a\r\n", b"gets @a\r\n", b"get @a @b @a\r\n",
                                          b"gets @b @a\r\n"],
    "a negative exptime": [HELLO, put(b"set", b"@a", b"gone", 0, -1), LOOK, put(b"add", b"@a", b"new"), LOOK,
                           put(b"replace", b"@a", b"gone", 0, -2147483648), LOOK,
                           put(b"append", b"@a", b"x")],
    "an exptime far away": [put(b"set", b"@a", b"x", 0, 2147483647), put(b"set", b"@b", b"x", 0, 2592000), LOOK,
                            put(b"set", b"@b", b"long ago", 0, 2592001), LOOK],
    "flags": list(itertools.chain(*((put(b"set", b"@a", b"f", f), LOOK)
                                    for f in (0, 1, 65536, 2**31, 2**32 - 1)))),
    "version": [b"version\r\n", b"version extra\r\n", b" version \r\n"],
    "verbosity": [b"verbosity 0\r\n", b"verbosity 0 noreply\r\n", b"verbosity noreply\r\n",
                  b"verbosity 0 1\r\n"],
    "a pipeline": [HELLO + NUMBER + b"incr @a 1\r\nget @a\r\n" + mute(b"append", b"@a", b"7")
                   + b"get @a @b @a\r\ndelete @a noreply\r\nget @a\r\nversion\r\ntouch @a 1\r\n"],
    "keys of 1 and of 250 bytes": [put(b"set", b"~", b"short"), put(b"set", b"L" * 250, b"long"),
                                   b"get ~ %s ~\r\n" % (b"L" * 250), b"incr %s 1\r\n" % (b"L" * 250),
                                   b"touch %s 0\r\n" % (b"L" * 250), b"gat 0 %s\r\n" % (b"L" * 250),
                                   b"delete %s\r\ndelete ~\r\n" % (b"L" * 250)],
    "keys of high bytes and punctuation": [
        put(b"set", key, b"it") + get([key, b"@none", key]) + b"delete %s\r\n" % key
        for key in ("ключ@".encode(), b"@\x80\xff\xfe", b"@{}$[]:/%*\"'\\", b"@noreply", b"@0")],
    "keys that are words of the protocol": [
        put(b"set", b"noreply", b"1"), mute(b"set", b"noreply", b"2"), b"get noreply get END\r\n",
        b"incr noreply 1\r\n", b"touch noreply 0\r\n", b"delete noreply noreply\r\n", b"delete noreply\r\n",
        put(b"set", b"0", b"zero"), b"delete 0\r\ndelete 0 0\r\nget VALUE END 0\r\n"],
    "values that are words of the protocol": [
        put(b"set", b"@a", v) + mute(b"set", b"@b", v) + b"get @a @b\r\ngets @b @a\r\n" for v in (
         b"", b"\r\n", b"\n", b"\r", b"END\r\n", b"\r\nEND\r\n", b"END\r\nVALUE x 0 1\r\n1\r\nEND\r\n",
         b"ERROR\r\n", b"STORED\r\n", b"get x\r\ndelete x\r\nflush_all\r\n", b"quit\r\n", b"set x 0 0 100\r\n",
         b"SERVER_ERROR \r\n", bytes(range(256)).replace(b"@", b""), b"\0" * 300, b"noreply\r\nnoreply")],
    "spaces": [b"  set  @a  0  0  2  \r\nok\r\n", b"get   @a  \r\n", b" gets @a   @b @a \r\n",
               b"set @a 0 0 2  noreply \r\nno\r\n", b"  incr  @a  1  \r\n", b" delete   @a  noreply  \r\n",
               b"  gat  0   @a  \r\n", b" touch  @a  0 \r\n", LOOK],
    "lines that end with LF alone": [b"set @a 0 0 2\nok\r\nget @a\ngets @a @b\nversion\nincr @a 1\n"
                                     b"delete @a\nget @a\n"],
}


@pytest.mark.parametrize("sizes", (WHOLE, BYTEWISE), ids=("whole", "bytewise"))
def test_every_command_answers_as_one_server_does(world, sizes):
    rows = [(name, steps, None) for name, steps in CONVERSATIONS.items() for _ in range(3)]
    agree(differing(world, rows, sizes))


def test_values_of_all_sizes_come_back_as_they_went(world, dice):
    rows = []
    for size in (0, 1, 2, 8189, 8190, 8191, 8192, 8193, 16384, 65536, 262143, MIB):
        value = dice.randbytes(size).replace(b"@", b"\n").replace(b"{", b"\r")
        rows.append(("%d bytes" % size, [
            put(b"set", b"@a", value, 9), b"get @a\r\n", b"gets @a\r\n", b"gat 0 @a\r\n",
            mute(b"append", b"@a", value) + b"get @a\r\n" + put(b"prepend", b"@a", value),
            b"get @a @b @a\r\n", put(b"replace", b"@a", value) + b"gets @a\r\n",
            put(b"cas", b"@a", value[::-1], 0, 0, b"{cas}") + b"get @a\r\n",
            put(b"add", b"@b", value) + mute(b"set", b"@c", value) + b"get @c @b\r\n",
            b"delete @a\r\ndelete @b\r\ndelete @c\r\n",
        ], None))
    agree(differing(world, rows))
    agree(differing(world, [(name, steps[:2], None) for name, steps, _ in rows], pieces(dice)))


def test_a_value_of_64_mib_passes_both_ways(world, dice):
    value = dice.randbytes(MIB) * 64
    with world.link("alpha") as link:
        assert link.ask(put(b"set", b"huge", value, 2**32 - 1)) == b"STORED\r\n"
        replies = link.exchange(b"get huge\r\n" + world.fence + b"get nothing huge\r\n", 3)
        assert link.ask(b"delete huge\r\n") == b"DELETED\r\n"
    whole = hits([(b"huge", value, 2**32 - 1)])
    assert [len(r) for r in replies] == [len(whole), len(world.fenced), len(whole)]
    assert replies[0] == whole and replies[1] == world.fenced and replies[2] == whole


# ---- many keys

def planted(world, prefix, count, dice, biggest=300):
    """Store keys through the proxy and on the single server: {key: (value, flags)}."""
    def value(key):
        return key + b":" + dice.randbytes(int(2 ** dice.uniform(0, 1) * biggest) - biggest)

    names = [b"%s%d" % (prefix, i) for i in range(count)]
    held = {key: (value(key), dice.randrange(2**32)) for key in names}
    sets = [put(b"set", k, v, f) for k, (v, f) in held.items()]
    for door in ("alpha", "single"):
        with world.link(door) as link:
            assert set(link.pipeline(sets)) == {b"STORED\r\n"}
    homes = world.homes(list(held))
    assert len(homes) == count and len(set(homes.values())) == 4, "the keys are not on four servers"
    return held, homes


GETS = (b"get", b"gets", b"gat 0", b"gats 0")


@pytest.mark.parametrize("verb", GETS, ids=("get", "gets", "gat", "gats"))
def test_many_keys_come_in_the_order_asked_with_one_end(world, dice, verb):
    held, homes = planted(world, b"many%d." % next(tags), 700, dice)
    known, unknown = list(held), [b"miss%d" % i for i in range(150)]
    uniques = {k: r.split(b"c")[1].strip() for k, r in world.meta(known, b"c").items()}
    requests, wanted = [], []
    for count in (1, 2, 2, 2, 3, 5, 100, 500, 2, 5000, 1):
        keys = [dice.choice(known if dice.random() < 0.8 else unknown) for _ in range(count)]
        requests.append(get(keys, verb))
        wanted.append([k for k in keys if k in held])
    far = next(k for k in known if homes[k] != homes[known[0]])
    for keys in ((known[0], far), (far, known[0], far), (known[0],) * 2, (b"miss1", known[0]),
                 (known[0], b"miss1"), (b"miss1", b"miss2")):
        requests.append(get(keys, verb))
        wanted.append([k for k in keys if k in held])
    with world.link("single") as link:      # get takes lines of any length, gat does not
        truth = link.pipeline([re.sub(rb"^\S+( 0)? ", b"get ", r) for r in requests])
    sizes = pieces(dice, 2000)
    for how in (WHOLE, sizes):
        with world.link("alpha") as link:
            replies = link.exchange(b"".join(requests), len(requests), how)
            link.write(world.fence)
            assert link.until(world.fenced) == []
        for request, reply, keys, true in zip(requests, replies, wanted, truth):
            assert keys_in(reply) == keys, "%s: the keys differ from those asked" % brief(request)
            plain = b"".join(b"VALUE %s %s %d\r\n%s\r\n" % (k, f, len(v), v) for k, f, _, v in blocks(reply)) + b"END\r\n"
            assert plain == true, brief(request)
            seen = {(k, u) for k, _, u, _ in blocks(reply)}
            true = {(k, uniques[k] if verb.startswith((b"gets", b"gats")) else None) for k in keys}
            assert seen == true, "%s: not the uniques of the servers" % brief(request)


def test_a_unique_of_a_split_gets_is_good_for_cas(world, dice):
    held, _ = planted(world, b"unique%d." % next(tags), 60, dice)
    with world.link("alpha") as link:
        for verb in (b"gets", b"gats 0"):
            found = blocks(link.ask(get(held, verb)))
            assert [k for k, *_ in found] == list(held)
            wins = [put(b"cas", k, b"won " + k, 0, 0, u) for k, _, u, _ in found]
            assert set(link.pipeline(wins)) == {b"STORED\r\n"}
            assert set(link.pipeline(wins)) == {b"EXISTS\r\n"}
        assert link.ask(get(held)) == hits((k, b"won " + k) for k in held)


def test_many_keys_of_250_bytes_come_in_the_order_asked(world):
    keys = [b"%0250d" % i for i in range(600)]
    with world.link("alpha") as link:
        assert set(link.pipeline([put(b"set", k, k[-5:]) for k in keys[::2]])) == {b"STORED\r\n"}
        for verb in GETS:
            reply = masked(link.ask(get(keys, verb)))
            assert reply.replace(b" ?\r\n", b"\r\n") == hits((k, k[-5:]) for k in keys[::2]), verb
        assert link.ask(world.fence) == world.fenced


def test_big_values_of_many_servers_merge_in_order(world, dice):
    held, _ = planted(world, b"big%d." % next(tags), 48, dice, biggest=200000)
    keys = list(held) * 3
    dice.shuffle(keys)
    want = hits((k, *held[k]) for k in keys)
    with world.link("alpha") as link:
        first, fence, second = link.pipeline([get(keys), world.fence, get(keys, b"gat 0")])
        assert first == want and fence == world.fenced and second == want
        link.pipeline([b"delete %s\r\n" % k for k in held])


@pytest.mark.parametrize("verb", (b"gat", b"gats"), ids=("gat", "gats"))
@pytest.mark.parametrize("count", (1, 2, 100, 900))
def test_gat_touches_the_keys_it_names_and_no_others(world, dice, verb, count):
    held, _ = planted(world, b"life%d." % next(tags), 1000, dice, biggest=20)
    asked = dice.sample(list(held), count)
    with world.link("alpha") as link:
        reply = link.ask(b"%s 7000 %s absent\r\n" % (verb, b" ".join(asked)))
    assert keys_in(reply) == asked
    left = {k: int(r[4:]) for k, r in world.meta(list(held), b"t").items()}
    assert set(left) == set(held)
    wrong = {k: t for k, t in left.items() if not (6000 < t <= 7000 if k in asked else t == -1)}
    assert not wrong, "%d keys have another time to live: %r" % (len(wrong), list(wrong.items())[:5])


# ---- requests that are refused

K, T = b"set @k 0 0 1\r\n5\r\n", b"set @t 3 0 3\r\nabc\r\n"
SEE = b"get @k @t @x @y\r\n"
Q = b"q" * 251
EVIL = b"set @y 0 0 1\r\n6\r\ndelete @t"       # a data block that must stay data
STORAGE = (b"set", b"add", b"replace", b"append", b"prepend")


def lines(text):
    """Requests in words, parted by bars, as lines of the protocol."""
    return [line.strip().encode() + b"\r\n" for line in text.replace("\n", " ").split("|")]


# Answered by the proxy exactly as by memcached, and the connection in the same state.
MALFORMED = lines("""
    foo | foo bar baz | foo noreply | a | GET @k | Get @k | ge | gett @k | getsx @k | versions | quitx |
    mx | mgg @k | setx @x 0 0 3 | get | gets | gat | gats | gat 0 | gats 0 | gat @k | gat @k @k |
    gats @k @t | gat x @k | gat 0x1 @k | gat 1.5 @k | gat 1k @k | gat - @k |
    gats 9223372036854775808 @k | gat 99999999999999999999 @k | get @k noreply @t | gat 0 @k noreply |
    delete | delete @k 5 | delete @k -1 | delete @k 00 | delete @k x | delete @k norepl |
    delete @k 0 0 | delete @k 0 norepl | delete @k noreply 0 | delete @k 5 noreply |
    delete @k x noreply | delete @k noreply noreply | delete @k 0 noreply x |
    delete @k noreply noreply x | delete @k a b c | delete @k a b c d | incr | incr @k | incr @k x |
    incr @k x noreply | incr @k -1 | incr @k 0x1 | incr @k 1x | incr @k 1.0 | incr @k + |
    incr @k noreply | incr @k 1 norepl | incr @k 1 NOREPLY | incr @k 1 2 | incr @k 1 noreply x |
    incr @k 1 2 3 | incr @k 18446744073709551615 | incr @k 18446744073709551616 |
    incr @k 99999999999999999999999999 | incr @k -18446744073709551616 | incr @none x | incr @t 1 |
    incr @t 1 noreply | decr | decr @k | decr @k x | decr @k -1 | decr @k noreply |
    decr @k 18446744073709551616 | decr @k 1 norepl | decr @k 1 2 3 | touch | touch @k | touch @k x |
    touch @k x noreply | touch @k 0x1 | touch @k 1x | touch @k - | touch @k noreply |
    touch @k 0 norepl | touch @k 0 noreply x | touch @k 9223372036854775808 |
    touch @k 99999999999999999999 | verbosity | verbosity 0 1 2 | verbosity 0 noreply x |
    version noreply | set | set @x | set @x 0 | set @x 0 0 | cas | cas @x 0 0
""") + [
    b"\r\n", b"\n", b" \r\n", b"   \r\n", b"\r\n\r\n", b"\r\r\n", b"foo\n", b"\n\n",
    b"get\t@k\r\n", b"\tget @k\r\n", b"version\r\r\n", b"set @x\t0 0 3\r\n",
] + [b"%s %s\r\n" % (verb, Q) for verb in (b"get", b"gets", b"gat 0", b"gats 0", b"gat x", b"delete")] + [
    b"get @k %s\r\n" % Q, b"get %s @k\r\n" % Q, b"gets @k %s @t\r\n" % Q, b"gat 100 @k %s\r\n" % Q,
    b"get %s%s @t\r\n" % (b"@k " * 40, Q), b"get " + b"k" * 2500 + b"\r\n", b"gets " + b"k" * 9000 + b"\r\n",
    b"delete %s noreply\r\n" % Q, b"delete %s 5\r\n" % Q, b"incr %s 1\r\n" % Q, b"incr %s x\r\n" % Q,
    b"decr %s 1 noreply\r\n" % Q,
    b"touch %s 0\r\n" % Q, b"touch %s x\r\n" % Q, b"touch %s 0 noreply\r\n" % Q,
] + [
    # a word that is not noreply stands in its place: ignored, and answered
    *(b"%s @k 0 0 3 %s\r\nabc\r\n" % (verb, word) for verb in STORAGE
      for word in (b"norepl", b"NOREPLY", b"7", b"noreplyy")),
    b"cas @k 0 0 3 1 norepl\r\nabc\r\n", b"cas @x 0 0 3 1 2\r\nabc\r\n",
    # no readable length: what follows is read as commands
    b"set @x 0 0 noreply\r\nabc\r\n", b"set @x 0 0\r\nabc\r\n", b"SET @x 0 0 3\r\nabc\r\n",
    b"setx @x 0 0 3\r\nget @k\r\n",
    *(b"%s @k 0 0 %s\r\nget @t\r\n" % (verb, n) for verb in STORAGE for n in (b"-1", b"x")),
    *(b"set @x 0 0 %s\r\nget @k\r\n" % n for n in (
        b"-2", b"-3", b"3x", b"0x3", b"3.0", b"+", b"-", b"-2147483648")),
    b"set @x 0 0 -1 noreply\r\nget @k\r\n", b"set @x 0 0 x noreply\r\nget @k\r\n",
    b"cas @x 0 0 -1 1\r\nget @k\r\n", b"cas @x 0 0 noreply 5\r\nget @k\r\n",
    # data that is not as long as announced
    *(b"%s @k 0 0 3%s\r\nabcXX" % (verb, tail) for verb in STORAGE for tail in (b"", b" noreply")),
    b"cas @k 0 0 3 1\r\nabcXX", b"cas @k 0 0 3 1 noreply\r\nabcXX",
    b"set @x 0 0 3\r\nabcd\r\n", b"set @x 0 0 3\r\nabcdefg\r\n", b"set @x 0 0 3\r\nab\r\nget @k\r\n",
    b"set @x 0 0 3\r\nabc\rX\r\n",
    b"set @x 0 0 3\r\nabcX\n\r\n", b"set @x 0 0 3\r\nabc\n\r\n", b"set @x 0 0 0\r\nX\r\n",
    b"set @x 0 0 0\r\nXX\r\n",
    b"set @x 0 0 3 noreply\r\nabcd\r\n", b"set @x 0 0 3 noreply\r\nabcXXget @k\r\n", b"set @k 0 0 3\r\nabcXX",
    b"set @x 0 0 9000\r\n" + b"z" * 9000 + b"XX",
    b"set @x 0 0 3\nabc\n\n",
    # closed by both; what follows a quit is not read
    b"quit\r\n", b" quit \r\n", b"quit extra\r\n", b"quit noreply\r\n", b"get @k\r\nquit\r\nget @t\r\n",
    b"get @k\nquit\nget @t\n",
    b"foo\r\nquit\r\n", b"set @x 0 0 3 noreply\r\nabc\r\nget @x @k\r\nquit\r\ndelete @k\r\n",
    b"quit\r\nflush_all\r\n",
]

# A refused storage command whose length is readable: memcached answers the line, and then takes the
# data for commands; the proxy answers the same and swallows the data.
SWALLOWED = [
    *(b"%s %s 0 0 {n}%s\r\n" % (verb, Q, tail) for verb in STORAGE for tail in (b"", b" noreply")),
    b"cas %s 0 0 {n} 1\r\n" % Q, b"cas %s 0 0 {n} 1 noreply\r\n" % Q, b"set %s 0 0 {n}\r\n" % (b"k" * 1500),
    *(b"%s @k %s 0 {n}\r\n" % (verb, flags) for verb in STORAGE for flags in (b"-1", b"x")),
    *(b"%s @k x 0 {n} noreply\r\n" % verb for verb in STORAGE),
    *(b"set @k %s 0 {n}\r\n" % n for n in (b"0x1", b"1x", b"1.5", b"-", b"+", b"18446744073709551616",
                                           b"99999999999999999999", b"-2147483648")),
    *(b"set @k 0 %s {n}\r\n" % n for n in (b"x", b"0x1", b"1x", b"1.5", b"-", b"9223372036854775808",
                                           b"99999999999999999999", b"noreply")),
    b"set @k 0 x {n} noreply\r\n", b"append @k 0 x {n}\r\n", b"cas @k x 0 {n} 1\r\n",
    *(b"cas @k 0 0 {n} %s\r\n" % n for n in (b"x", b"-1", b"0x1", b"18446744073709551616", b"x noreply",
                                             b"noreply 5")),
    # too many or too few words, and yet the length stands in its place
    b"set @k 0 0 {n} 1 noreply\r\n", b"set @k 0 0 {n} noreply noreply\r\n", b"add @x 0 0 {n} a b c d e f\r\n",
    b"cas @k 0 0 {n} 1 noreply x\r\n", b"cas @k 0 0 {n}\r\n", b"cas @k 0 0 {n} noreply\r\n",
]

# Lengths that no item can have. memcached refuses the first and reads on behind the line; the others it
# takes modulo 2**32, and stores three bytes or none. The proxy refuses them all, and reads on as memcached
# does or closes: it can not know what follows.
IMPOSSIBLE = (b"2147483646", b"2147483647", b"2147483648", b"4294967295", b"9223372036854775807",
              b"9223372036854775808", b"18446744073709551615", b"99999999999999999999",
              b"4294967296", b"4294967299", b"8589934595", b"-4294967293", b"18446744073709551619")

# Answered by memcached, and by the proxy with one error line; a data block is swallowed, the connection
# stays.
REFUSED = {
    "flush_all would empty servers that others share": lines("""
        flush_all | flush_all 0 | flush_all 10 | flush_all -1 | flush_all x | flush_all 0 1 |
        flush_all 0 1 2 | flush_all noreply x"""),
    "these are about one server, or turn the connection into something else": lines("""
        stats items | stats reset | stats detail on | stats cachedump 1 1 | stats server | stats server none |
        stats server north reset | stats server north detail on | stats server north foo | stats servers x |
        stats noreply | stats server north items x | watch | watch fetchers |
        lru_crawler metadump all | lru_crawler crawl all | lru tune 10 25 0.1 2.0 | slabs reassign 1 2 |
        slabs automove 0 | cache_memlimit 64 | shutdown | shutdown graceful | misbehave | debugtime p |
        refresh_certs | extstore item_size 5"""),
}

# Memcached's own answer, or a refusal that changes nothing: numbers in a form that clients do not send.
EITHER_WAY = [
    *(b"set @x %s 0 3\r\nabc\r\n" % n for n in (b"+1", b"01", b"-0", b"4294967296", b"18446744073709551615",
                                                b"\t1", b"1\t")),
    *(b"set @x 0 %s 3\r\nabc\r\n" % n for n in (b"+0", b"01000", b"-0", b"2147483648", b"4294967295",
                                                b"-2147483649", b"\t0")),
    *(b"set @x 0 0 %s\r\nabc\r\n" % n for n in (b"+3", b"03", b"0" * 30 + b"3", b"3\t", b"\x0b3")),
    b"set @x 0 0 -0\r\n\r\n", b"set @x 0 0 3\r\r\nabc\r\n", b"set @x 0 0 3 noreply\t\r\nabc\r\n",
    b"set @x 0 0 3 \tnoreply\r\nabc\r\n",
    b"cas @x 0 0 3 +1\r\nabc\r\n", b"cas @x 0 0 3 01\r\nabc\r\n",
    b"incr @k +1\r\n", b"incr @k 01\r\n", b"incr @k \t1\r\n", b"incr @k 1\r\r\n", b"decr @k 01\r\n",
    b"touch @k +0\r\n", b"touch @k 01000\r\n", b"touch @k 4294967296\r\n", b"touch @k 0\r\r\n",
    b"touch @k -9223372036854775808\r\n",
    b"gat +0 @k\r\n", b"gat 01000 @k\r\n", b"gats 4294967296 @k\r\n", b"gat -2147483649 @t\r\n",
    b"verbosity x\r\n", b"verbosity -1\r\n", b"verbosity 99999999999999999999\r\n", b"verbosity 4294967296\r\n",
]


def around(requests):
    """Each request between two stored keys and a look at what it did to them."""
    return [(brief(r, 60), [K + T, r, SEE], None) for r in requests]


def with_data(line):
    """The request with EVIL as its data."""
    if b"{n}" in line and b"{evil}" not in line:
        return line + EVIL + b"\r\n"
    return line.replace(b"{evil}", EVIL)


@pytest.mark.parametrize("sizes", (WHOLE, BYTEWISE), ids=("whole", "bytewise"))
def test_malformed_requests_are_answered_as_one_server_does(world, sizes):
    agree(differing(world, around(MALFORMED), sizes))


@pytest.mark.parametrize("sizes", (WHOLE, BYTEWISE), ids=("whole", "bytewise"))
def test_the_data_of_a_refused_storage_command_is_never_executed(world, sizes):
    rows = [(brief(line, 60), [K + T, with_data(line), SEE], [K + T, line, SEE]) for line in SWALLOWED]
    agree(differing(world, rows, sizes))


def test_a_length_that_no_item_can_have_is_refused_and_nothing_stored(world):
    bad = []
    rows = [b"set @k 0 0 {}\r\nabc\r\n", b"append @k 0 0 {}\r\nabc\r\n", b"cas @k 0 0 {} 1\r\nabc\r\n",
            b"set @k 0 0 {} noreply\r\nabc\r\n", b"cas @k 0 0 {} 1 noreply\r\nabc\r\n"]
    with Side(world, "alpha") as here, Side(world, "single") as there:
        for length, row in itertools.product(IMPOSSIBLE, rows):
            tag = new_tag()
            _, said, seen = here.run(tagged([K + T, row.replace(b"{}", length), SEE], tag))
            _, want = there.run(tagged([K + T, row.replace(b"{}", b"2147483647")], tag))
            closed = said == [None] or said[-1:] == [None] and one_error(row, said[:-1])
            if not (closed or said == want) or seen != [untouched(tag)]:
                bad.append((length.decode(), row, said + seen, want))
    agree(bad)


def untouched(tag):
    return hits([(tag + b"k", b"5"), (tag + b"t", b"abc", 3)])


def misbehaved(world, requests, good):
    """The requests whose replies are not good(request, replies), or that changed anything."""
    bad = []
    with Side(world, "alpha") as here:
        for request in requests:
            tag = new_tag()
            _, said, seen = here.run(tagged([K + T, request, SEE], tag))
            if not good(request, said) or seen != [untouched(tag)]:
                wanted = [b"an error, and then", untouched(tag)]
                bad.append((brief(request, 60), request, said + seen, wanted))
    return bad


def one_error(request, said):
    return len(said) == 1 and only_errors(request, said)


def only_errors(request, said):
    return all(r is not None and ERROR.fullmatch(r) for r in said)


def test_what_concerns_all_servers_or_is_not_served_gets_one_error_and_nothing_happens(world):
    requests = [with_data(r) for rows in REFUSED.values() for r in rows]
    agree(misbehaved(world, requests, one_error))


def test_flush_all_with_noreply_is_refused_in_silence(world):
    requests = lines("flush_all noreply | flush_all 0 noreply | flush_all   5  noreply | flush_all x noreply")
    agree(misbehaved(world, requests, lambda request, said: said == []))


def test_numbers_in_odd_forms_are_taken_as_one_server_does_or_refused(world):
    bad = []
    with Side(world, "alpha") as here, Side(world, "single") as there:
        for request in EITHER_WAY:
            tag = new_tag()
            steps = tagged([K + T, request, SEE], tag)
            said, want = here.run(steps), there.run(steps)
            refused = said[1] and only_errors(request, said[1]) and said[2] == [untouched(tag)]
            verbose = request.startswith(b"verbosity") and said[1] == [b"OK\r\n"]
            if said != want and not refused and not verbose:
                bad.append((brief(request, 60), request, sum(said[1:], []), sum(want[1:], [])))
    agree(bad)


# ---- meta commands

def ms(key, value, flags=b""):
    return b"ms %s %d %s\r\n%s\r\n" % (key, len(value), flags, value)


NUM = ms(b"@a", b"10")
TELL = b"mg @a s v t f k O7 c h\r\n"     # not l: seconds pass
B64 = [base64.b64encode(key) for key in (b"plain", b"with a space", b"\r\n\0\x7f", b"\xff" * 7, b"x" * 186, b"END")]

META = {
    "mg of nothing": [b"mg @a\r\n", b"mg @a v\r\n", b"mg @a v k O1 s t f c\r\n", b"mg @a O\r\n"],
    "mg": [ms(b"@a", b"hello", b"F5 T0"), b"mg @a\r\n", b"mg @a v\r\n", TELL, TELL, b"mg @a k f s t v c h u\r\n",
           b"mg @a vxyz kk sfoo\r\n", b"mg @a P1 L2 Lx\r\n", b"mg @a Ppath/ Lx v\r\n",
           b"mg @a O%s v\r\n" % (b"o" * 31)],
    "mg T": [ms(b"@a", b"x"), b"mg @a T0 v\r\n", b"mg @a t\r\n", b"mg @a T-1 v\r\n", b"mg @a v\r\n"],
    "mg N": [b"mg @a N0 s v c\r\n", b"mg @a N0 s v c\r\n", b"mg @a v\r\n", ms(b"@a", b"x"), b"mg @a N0 v\r\n"],
    "mg R": [ms(b"@a", b"x", b"T100"), b"mg @a R30 v\r\n", b"mg @a R200 v\r\n", b"mg @a R200 v\r\n"],
    "ms": [ms(b"@a", b"one", b"T0 F9 k O5 c"), TELL, ms(b"@a", b""), TELL, ms(b"@a", b"x", b"F4294967295"), TELL,
           ms(b"@a", b"x", b"T-1"), TELL, ms(b"@a", b"+", b"F+5 T+0"), TELL, b"ms @a 03 T000\r\nabc\r\n", TELL],
    "ms M": [ms(b"@a", b"x", flags) + ms(b"@a", b"y", flags) + b"mg @a v\r\n" for flags in (
        b"MA", b"MP", b"MR", b"ME", b"MA", b"MP", b"MR", b"MS", b"ME")],
    "ms C": [ms(b"@a", b"x", b"C5"), ms(b"@a", b"one", b"c"), ms(b"@a", b"two", b"C{cas}"), ms(b"@a", b"three", b"C1 k"),
             b"mg @a v c\r\n", ms(b"@a", b"4", b"MA C{cas}"), b"mg @a v\r\n", ms(b"@a", b"5", b"MR C1")],
    "ms C I": [ms(b"@a", b"one", b"c"), ms(b"@a", b"two"), ms(b"@a", b"three", b"C1 I"), b"mg @a v\r\n", b"mg @a v\r\n"],
    "md": [b"md @a\r\n", b"md @a k O1\r\n", NUM, b"md @a k O1\r\n", b"md @a\r\n"],
    "md C": [NUM, b"md @a C1\r\n", b"mg @a c\r\n", b"md @a C{cas} k\r\n", b"mg @a\r\n"],
    "md I": [NUM, b"md @a I T30\r\n", b"mg @a v\r\n", b"mg @a v\r\n", NUM, b"mg @a v\r\n", b"md @a I\r\n",
             b"mg @a t\r\n"],
    "ma": [b"ma @a\r\n", b"ma @a v k O1\r\n", NUM, b"ma @a\r\n", b"ma @a v\r\n", b"ma @a v t k O1 c\r\n",
           b"ma @a D5 v\r\n", b"ma @a MD v\r\n", b"ma @a M- D3 v\r\n", b"ma @a M+ v\r\n", b"ma @a MI v\r\n",
           b"ma @a MD D100 v\r\n", b"ma @a D18446744073709551615 v\r\n", b"ma @a T0 v\r\n", b"ma @a C1\r\n",
           b"mg @a c\r\n", b"ma @a C{cas} v\r\n", b"get @a\r\n"],
    "ma N": [b"ma @a N0 v\r\n", b"ma @a N0 v\r\n", b"ma @b N0 J13 v t c\r\n", b"ma @b N0 J13 v\r\n", b"ma @c N0\r\n"],
    "ma of no number": [ms(b"@a", b"x"), b"ma @a\r\n", b"ma @a q v\r\n"],
    "me": [b"me @a\r\n", NUM, b"me @a\r\n", b"me @a v\r\n", b"me @a q\r\n", b"me\r\n"],
    "mn": [b"mn\r\n", b"mn mn\r\n", b"mn\r\nmn\r\nmg @a\r\nmn\r\n"],
    "quiet": [b"mg @a q v\r\nmn\r\n", ms(b"@a", b"1", b"q") + b"mn\r\n", b"mg @a q\r\nmg @a v q k\r\nmn\r\n",
              ms(b"@a", b"1", b"q ME O1") + b"mn\r\n", ms(b"@b", b"1", b"q MR") + b"mn\r\n",
              ms(b"@b", b"1", b"q C1") + ms(b"@a", b"1", b"quiet C1") + b"mn\r\n",
              b"ma @a q\r\nma @a v q\r\nma @b q O1\r\nma @a q C1\r\nmn\r\n", b"md @a q k\r\nmd @a q k\r\nmn\r\n",
              ms(b"@a", b"x", b"q") + b"ma @a q\r\nmd @a C1 q\r\nmd @a I q\r\nmg @a q\r\nmn\r\n"],
    "quiet errors": [b"mg @a q Tx\r\nmn\r\n", b"mg @a q X\r\nmn\r\n", b"md @a q q\r\nmn\r\n", ms(b"@a", b"x", b"q Mx")
                     + b"mn\r\n", b"ma @a q MS\r\nmn\r\n", b"ms @a 3 q\r\nabcXXmn\r\n"],
    "mixed with the classic ones": [
        put(b"set", b"@a", b"10", 7) + b"mg @a v f\r\nma @a v\r\nget @a\r\nmd @a\r\nget @a\r\n" + ms(b"@a", b"x", b"q")
        + mute(b"append", b"@a", b"y") + b"gets @a\r\nmn\r\ndelete @a noreply\r\nmg @a q\r\nget @a @b\r\n"],
    "values": [ms(b"@a", v) + b"mg @a v\r\n" for v in (
        b"", b"\r\n", b"EN\r\n", b"HD\r\nVA 1\r\nx\r\n", b"mn\r\n", b"\0" * 9, b"x" * 9000, b"y\r\n" * 90000)],
    "refused lines": [line + b"\r\n" for line in (
        b"mg", b"md", b"ma", b"ms", b"ms @a", b"mx @a", b"MG @a", b"mg @a S", b"mg @a Z1", b"mg @a 1", b"mg @a v v", b"mg @a O1 O2",
        b"mg @a T", b"mg @a Tx", b"mg @a T1x", b"mg @a N", b"mg @a Rx", b"mg @a C-1", b"mg @a C18446744073709551616", b"mg @a F-1",
        b"mg @a Fx", b"mg @a M", b"mg @a MSS", b"md @a X", b"md @a k k", b"md @a Tx", b"ma @a X",
        b"ma @a Dx", b"ma @a J", b"ma @a MX", b"ma @a MD MD", b"mg @a O%s" % (b"o" * 32), b"mg @b O%s" % (b"o" * 32),
        b"md @a O%s" % (b"o" * 32), b"mg %s v" % Q, b"md %s" % Q, b"ma %s" % Q, b"me %s" % Q, b"mg \xff\xfe X",
        b"mg Zm9 b", b"mg Z b", b"mg ==== b", b"mg @a v k s t f c h l u q O1 N0 R1 T1 P1 L1 I F1 b")],
    "refused sets": [b"ms @a %s\r\nabc\r\nmg @a v\r\n" % line for line in (
        b"3 X", b"3 k k", b"3 Tx", b"3 F-1", b"3 Mx", b"3 MSS", b"3 C1x", b"3 O%s" % (b"o" * 32), b"3 I c x=", b"3 q Zz")]
    + [b"ms Zm9 3 b\r\nabc\r\n"],
    "data that is not as long as announced": [
        b"ms @a 3\r\nabcXX", b"ms @a 3 q\r\nabcd\r\n", b"ms @a 3 k O1\r\nab\r\nmg @a v\r\n", b"ms @a 0\r\nX\r\n"],
    "keys in base64": [
        b"".join(b"md %s b q\r\n" % k for k in B64)] + [
        b"mg %s b v k\r\n" % k + ms(k, b"it", b"b k c") + b"mg %s b v k O1\r\nmg %s k b\r\nma %s b\r\nme %s b\r\n" % (k, k, k, k)
        + b"md %s b k\r\n" % k for k in B64] + [
        ms(B64[0], b"5", b"b") + b"get plain\r\nmg plain v k\r\nmg %s v b k\r\nincr plain 1\r\nma %s b v\r\n" % (B64[0], B64[0]),
        put(b"set", b"plain", b"6") + b"mg %s b v k\r\ndelete plain\r\nmg %s b q\r\nmn\r\n" % (B64[0], B64[0])],
}
LONGER = {b"ms %s {n}\r\n" % Q, b"ms @k {n} v k s t f c h l u q O1 N0 R1 T1 P1 L1 I\r\n"}   # memcached executes this data


@pytest.mark.parametrize("sizes", (WHOLE, BYTEWISE), ids=("whole", "bytewise"))
def test_meta_commands_answer_as_one_server_does(world, sizes):
    agree(differing(world, [(name, steps, None) for name, steps in META.items()], sizes))


def test_the_data_of_a_refused_meta_set_is_never_executed(world):
    agree(misbehaved(world, [with_data(line) for line in LONGER], one_error))


def test_flags_that_only_newer_servers_know_reach_the_server(world):
    with world.link("alpha") as link:
        for request in (b"mg new x\r\n", b"md new E5\r\n", b"ma new E5\r\n", ms(b"new", b"get x\r\n", b"E5")):
            assert re.fullmatch(rb"CLIENT_ERROR invalid (or duplicate )?flag\r\n", link.ask(request)), request
        assert link.ask(world.fence) == world.fenced


def test_a_quiet_ma_that_makes_the_number_is_quiet(world):
    """1.6.18 tells HD then, newer ones do not."""
    with world.link("alpha") as link:
        assert link.write(b"md made q\r\nma made N0 J4 q\r\nma made v\r\nmn\r\n").until(b"MN\r\n")[-1:] == [b"VA 1\r\n5\r\n"]
        assert link.write(b"md made q\r\nma made N0 q\r\nmn\r\n").until(b"MN\r\n") == []


def test_a_key_in_base64_is_on_the_server_of_its_bytes(world):
    keys = [b"b64.%d" % i for i in range(200)]
    with world.link("alpha") as link:
        link.pipeline([ms(base64.b64encode(k), k, b"b") for k in keys])
        assert link.ask(get(keys)) == hits((k, k) for k in keys)
    homes = world.homes(keys)
    assert len(homes) == 200 and set(homes.values()) == {0, 1, 2, 3}


def test_a_meta_value_of_a_mebibyte_passes_both_ways_loud_and_quiet(world, dice):
    value = dice.randbytes(MIB - 300)
    with world.link("alpha") as link:
        for quiet in (b"", b" q"):
            assert link.ask(ms(b"mib", value, b"k")) == b"HD kmib\r\n"
            said = link.write(b"mg mib v s%s\r\nmg mib q t\r\nmn\r\n" % quiet).until(b"MN\r\n")
            assert said[:1] == [b"VA %d s%d\r\n%s\r\n" % (len(value), len(value), value)] and len(said) == 2
            assert link.write(ms(b"mib", value, b"q") + b"mn\r\n").until(b"MN\r\n") == []


def test_the_time_to_live_is_told(world):
    with world.link("alpha") as link:
        link.ask(ms(b"ttl", b"x", b"T1000"))
        assert 990 <= int(re.fullmatch(rb"HD t(\d+)\r\n", link.ask(b"mg ttl t\r\n"))[1]) <= 1000
        assert re.fullmatch(rb"HD l\d\r\n", link.ask(b"mg ttl l\r\n"))


def meta_mix(dice, count):
    """Requests of every kind over few keys, many of them quiet, most with an opaque of their own. Only
    numbers are counted: of other values memcached reads what stands behind them, by chance."""
    tag = new_tag()
    keys = [tag + b"%d" % i for i in range(40)]         # the even ones are numbers
    out = []
    for i in range(count):
        key = dice.choice(keys)
        number = int(key[len(tag):]) % 2 == 0
        coded = dice.random() < 0.2
        name = base64.b64encode(key) if coded else key
        flags = [b"b"] * coded + [b"q"] * (dice.random() < 0.5) + [b"O%d" % i] * (dice.random() < 0.7) + \
            [b"k"] * (dice.random() < 0.3)
        verb = dice.choice((b"mg", b"mg", b"ms", b"ms", b"md", b"ma" if number else b"mg", b"get", b"set", b"mn"))
        value = b"%d" % i
        if verb == b"ms" and not number:
            value = dice.choice((b"EN\r\n", b"", dice.randbytes(int(2 ** dice.uniform(0, 15)))))
            flags += dice.sample((b"MA", b"MP", b"MR", b"ME", b"F7"), dice.randrange(2))
        elif verb == b"mg":
            flags += dice.sample((b"v", b"s", b"f"), 2)
        elif verb == b"ma":
            flags += dice.sample((b"v", b"MD", b"D7", b"N0"), dice.randrange(2))
        dice.shuffle(flags)
        if b"q" in flags and b"N0" in flags:
            flags.remove(b"q")                          # see the test of a quiet ma that makes the number
        out.append(b"mn\r\n" if verb == b"mn" else
                   get(dice.sample(keys, dice.randrange(1, 9))) if verb == b"get" else
                   put(b"set", key, value, i, 0, dice.choice((b"", b"noreply"))) if verb == b"set" else
                   ms(name, value, b" ".join(flags)) if verb == b"ms" else
                   b"%s %s %s\r\n" % (verb, name, b" ".join(flags)))
    return out


@pytest.mark.parametrize("turn", range(3))
def test_a_pipeline_of_meta_and_classic_commands_answers_as_one_server_does(world, dice, turn):
    requests = meta_mix(dice, int(3000 / SLOW)) + [b"mg end Oend\r\n"]
    said = []
    for door in ("alpha", "single"):
        with world.link(door, seconds=30) as link:
            link.exchange(b"".join(requests), 0, pieces(dice))
            # whether a number remembers that its key came in base64 depends on who reads it meanwhile
            said.append([re.sub(rb"\A[^\r]* k(\w+=*) b[ \r]", lambda m: m[0].replace(m[1] + b" b", base64.b64decode(m[1])), r)
                         for r in link.until(b"EN Oend\r\n")])
    assert len(said[0]) > len(requests) // 3
    assert said[0] == said[1]


# ---- stats, and what else is for all servers

def told(link, request):
    """The (name, value) of each STAT, by name."""
    out = {}
    for line in link.write(request).until(b"END\r\n"):
        stat, name, value = line.rstrip(b"\r\n").split(b" ", 2)
        assert stat == b"STAT" and name not in out
        out[name.decode()] = value.decode()
    return out


def test_stats_are_the_servers_added_up(world):
    with world.link("alpha") as link:
        got = told(link, b"stats\r\n")
        each = []
        for i in range(4):
            with world.at(i) as one:
                each.append(told(one, b"stats\r\n"))
        assert (got.pop("nutproxy_servers"), got.pop("nutproxy_servers_answered")) == ("4", "4")
        assert set(got) == set(each[0]), "every name, and no other"
        for name in ("curr_items", "bytes", "cmd_get", "cmd_set", "get_hits", "limit_maxbytes", "threads", "total_items"):
            assert int(got[name]) == sum(int(e[name]) for e in each), name
        for name in ("version", "libevent", "pointer_size", "pid"):
            assert got[name] == each[0][name] or name == "pid" and got[name] in [e[name] for e in each], name
        assert int(got["max_connections"]) == int(each[0]["max_connections"])
        assert int(got["uptime"]) <= min(int(e["uptime"]) for e in each)
        assert abs(float(got["rusage_user"]) - sum(float(e["rusage_user"]) for e in each)) < 1
        assert link.ask(world.fence) == world.fenced


def test_stats_of_one_server_are_its_own(world):
    with world.link("alpha") as link:
        for i, name in enumerate((b"north", b"east", b"south", b"west")):
            with world.at(i) as one:
                assert told(link, b"stats server %s\r\n" % name)["pid"] == told(one, b"stats\r\n")["pid"]
                for word in (b"items", b"slabs", b"settings", b"sizes"):
                    mine, its = told(link, b"stats server %s %s\r\n" % (name, word)), told(one, b"stats %s\r\n" % word)
                    assert mine.keys() == its.keys() and its
            assert told(link, b"stats server %s conns\r\n" % name)
        assert told(link, b"stats servers\r\n") == {
            name: "127.0.0.1:%d up 0 0" % server.port
            for name, server in zip(("north", "east", "south", "west"), world.servers)}


def test_stats_keep_their_place_in_the_pipeline(world):
    with world.link("alpha") as link:
        link.write(b"mg end O1\r\nstats\r\nmg end O2\r\nstats servers\r\nmg end O3\r\n")
        assert link.until(b"EN O1\r\n") == []
        assert link.until(b"EN O2\r\n")[-1] == b"END\r\n"
        assert len(link.until(b"EN O3\r\n")) == 5


def test_stats_add_up_those_who_answer(stage):
    servers = [stage.memcached() for _ in range(3)]
    proxy = stage.nutproxy({"alpha": pool(servers, "memcached", timeout="1s", server_failure_limit=1, names=["a", "b", "c"])})
    with Link(proxy.where("alpha")) as link:
        before = told(link, b"stats\r\n")
        servers[1].stop()
        wait_for("it to be noticed", lambda: told(link, b"stats\r\n")["nutproxy_servers_answered"] == "2")
        after = told(link, b"stats\r\n")
        assert after["nutproxy_servers"] == "3" and after.keys() == before.keys()
        assert int(after["threads"]) * 3 == int(before["threads"]) * 2
        wait_for("it to be down", lambda: told(link, b"stats servers\r\n")["b"].endswith(" down 1 0"))
        assert told(link, b"stats servers\r\n")["a"].endswith(" up 0 0")
        assert ERROR.fullmatch(link.ask(b"stats server b\r\n"))
        for server in (servers[0], servers[2]):
            server.stop()
        wait_for("all to be gone", lambda: told(link, b"stats\r\n")["nutproxy_servers_answered"] == "0")
        assert told(link, b"stats\r\n") == {"nutproxy_servers": "3", "nutproxy_servers_answered": "0"}


FLUSHES = lines("""
    flush_all | flush_all 0 | flush_all -1 | flush_all 0 1 | flush_all +0 | flush_all x | flush_all 1x | flush_all noreply |
    flush_all 0 noreply | flush_all x noreply | flush_all noreply x | flush_all 0 1 noreply | flush_all 0 1 2 |
    flush_all 1000""")


def test_flush_all_empties_all_servers_where_the_pool_allows_it(stage):
    servers = [stage.memcached() for _ in range(4)]
    proxy = stage.nutproxy({"alpha": pool(servers[:3], "memcached", hash="md5", allow="flush", timeout="1s")})
    keys = [b"k%d" % i for i in range(60)]
    with Link(proxy.where("alpha")) as here, Link(("127.0.0.1", servers[3].port)) as there:
        for request in FLUSHES:
            said = []
            for link in (here, there):
                link.pipeline([put(b"set", k, k) for k in keys])
                # memcached hides what was stored in the second of the flush, and before
                said.append(link.write(request + b"mn\r\n").until(b"MN\r\n") + [link.ask(get(keys))])
            assert said[0] == said[1], request
        servers[1].stop()
        assert re.fullmatch(rb"SERVER_ERROR [^\r]* may have been applied\r\n", here.ask(b"flush_all\r\n"))
        assert here.write(b"flush_all noreply\r\nmn\r\n").until(b"MN\r\n") == []


# ---- what must never reach a server

CONTROLS = [bytes([c]) for c in (*range(10), *range(11, 32), 127)]     # LF ends a line, space a word


def with_control_bytes():
    """Every verb with every control byte at the start, in the middle and at the end of a key."""
    shapes = itertools.cycle((b"%s", b"a%sb", b"@k%s", b"%s@k", b"a%sflush_all"))
    for c in CONTROLS:
        key = next(shapes) % c
        yield from (b"%s %s\r\n" % (verb, key) for verb in (*GETS, b"delete"))
        yield from (b"get @k %s\r\n" % key, b"gets %s @t\r\n" % key, b"gat -1 @k %s @t\r\n" % key)
        yield from (b"incr %s 1\r\n" % key, b"decr %s 1\r\n" % key, b"touch %s 0\r\n" % key)
        yield from (with_data(b"%s %s 0 0 {n}\r\n" % (verb, key)) for verb in STORAGE)
        yield with_data(b"cas %s 0 0 {n} 1\r\n" % key)


def test_keys_with_control_bytes_get_one_client_error_and_nothing_happens(world):
    def good(request, said):
        return one_error(request, said) and said[0].startswith(b"CLIENT_ERROR ")
    agree(misbehaved(world, list(with_control_bytes()), good))


def test_control_bytes_with_noreply_change_nothing_and_leave_the_connection_in_step(world):
    requests = [r for c in CONTROLS for r in (
        b"delete @k%s noreply\r\n" % c, b"incr %s@k 1 noreply\r\n" % c, b"touch @k%s -1 noreply\r\n" % c,
        with_data(b"set @k%s 0 0 {n} noreply\r\n" % c), with_data(b"append %s 0 0 {n} noreply\r\n" % c))]
    agree(misbehaved(world, requests, lambda request, said: said == [] or one_error(request, said)))


def test_a_nul_hides_nothing_from_the_proxy(world):
    """memcached takes NUL for the end of the line; a proxy that does not would wait for a reply that never
    comes, or get one that it does not expect."""
    requests = [b"get @k\0 @t\r\n", b"set @x 0 0 3\0 noreply\r\nabc\r\n", b"incr @k 1\0noreply\r\n",
                b"incr @k 1\0\r\n", b"delete @k \0noreply\r\n", b"touch @k -1\0\r\n", b"delete\0 @k\r\n",
                b"\0delete @k\r\n", b"\0\r\n", b"get\0@k\r\n"]
    agree(misbehaved(world, requests, only_errors))
    with Side(world, "alpha") as here:      # to memcached this is noreply, and it answers nothing
        for request, done in ((b"set @x 0 0 3 noreply\0\r\nabc\r\n", b"STORED\r\n"),
                              (b"touch @k 0 noreply\0\r\n", b"TOUCHED\r\n"),
                              (b"incr @k 1 noreply\0\r\n", b"6\r\n")):
            _, said = here.run(tagged([K + T, request], new_tag()))
            assert said in ([], [done]) or one_error(request, said), "%s: %s" % (brief(request), told_of(said))


def test_nothing_refused_ever_reaches_a_server(world):
    requests = [*map(with_data, (*SWALLOWED, *itertools.chain(*REFUSED.values()))), *with_control_bytes(),
                b"get %s\r\n" % Q, b"gat 0 a %s b\r\n" % Q, b"flush_all noreply\r\n"]
    with world.link("alpha") as link:
        link.write(world.fence).until(world.fenced)     # every server is connected
        before = world.counters()
        link.exchange(b"".join(tagged(requests, new_tag())) + world.fence, 0)
        replies = link.until(world.fenced)
        after = world.counters()
    assert len(replies) > 500 and not [r for r in replies if not ERROR.fullmatch(r)]
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert grown.pop("bytes_read") < 500, "refused requests were sent on"
    assert grown == {"cmd_get": 4, "get_hits": 4}, "refused requests did something"


def test_a_refused_get_takes_no_reply_of_the_pipeline_with_it(world):
    """memcached itself drops the replies before a get with a key too long; the proxy owes them."""
    with world.link("alpha") as link:
        assert link.ask(put(b"set", b"count", b"1")) == b"STORED\r\n"
        replies = link.pipeline([b"incr count 1\r\n", b"incr count 1\r\n", get([Q]), b"incr count 1\r\n",
                                 get([b"a", Q], b"gat 0"), b"version\r\n", get([b"count"]),
                                 get([b"count", Q, b"fence1"]), world.fence])
    assert replies == [b"2\r\n", b"3\r\n", BAD_LINE, b"4\r\n", BAD_LINE, version(world),
                       hits([(b"count", b"4")]), BAD_LINE, world.fenced]


def version(world):
    with world.link("single") as link:
        return link.ask(b"version\r\n")


OVERLONG = [
    b"a" * 5000, b"GET " + b"k " * 3000, b"delete " + b"k" * 3000, b"incr " + b"k" * 30000 + b" 1",
    b"touch k" + b" " * 5000 + b"1",
    b"set " + b"k" * 5000 + b" 0 0 3\r\nabc", b"version" + b" " * 70000, b" " * 5000, b"\0" * 5000,
    b"\x80" * 5000, b"get\t" + b"k" * 5000,
    b"gat 0 " + b"k" * 5000, b"quit" + b"x" * 5000, b"noreply " * 1000,
]


@pytest.mark.parametrize("sizes", (WHOLE, (999,)), ids=("whole", "pieces"))
def test_an_overlong_line_is_refused_or_closes_its_own_connection_only(world, sizes):
    """memcached does the one or the other, as the line happens to arrive."""
    fine = re.compile(ERROR.pattern + rb"|END\r\n|NOT_FOUND\r\n|VERSION [^\r\n]+\r\n")
    with world.link("alpha") as other:
        for line in OVERLONG:
            with Side(world, "alpha") as here:
                _, said = here.run([b"get none\r\n", b"get none\r\n" + line + b"\r\n"], sizes)
            odd = [r for r in said if r is not None and not fine.fullmatch(r)]
            assert said[0] == b"END\r\n" and len(said) > 1 and not odd, "%s: %s" % (brief(line), told_of(said))
            assert other.ask(world.fence) == world.fenced


@pytest.mark.parametrize("verb", (b"a", b"get ", b"gat 0 ", b"get k "), ids=("none", "get", "gat", "keys"))
def test_a_line_without_end_takes_no_memory_without_end(world, verb):
    before, most = world.proxy.rss_kib(), 0
    with world.link("alpha", seconds=2) as link, world.link("alpha") as other:
        assert link.ask(b"get none\r\n" + verb) == b"END\r\n"
        try:
            for _ in range(96):
                link.write((b"a" * 249 + b" " if verb == b"get k " else b"a" * 256) * (MIB // 256))
                most = max(most, world.proxy.rss_kib() - before)
        except (ConnectionError, socket.timeout):
            pass        # closed, or no longer read: both are good
        assert other.ask(world.fence) == world.fenced
        assert max(most, world.proxy.rss_kib() - before) < ROOM
    with world.link("alpha") as link:
        assert link.ask(world.fence) == world.fenced


def packet(opcode, opaque, extras=b"", key=b"", value=b""):
    """A request of the binary protocol."""
    body = extras + key + value
    return struct.pack(">BBHBBHI4sQ", 0x80, opcode, len(key), len(extras), 0, 0, len(body), opaque, 0) + body


def test_the_binary_protocol_is_refused_in_its_own_words_and_closed_soon(world):
    said = b"the binary protocol is not served by this proxy"
    asked = [(0x0b, b"vers"), (0x01, b"set1"), (0x0d, b"getk"), (0x0a, b"noop")]
    bodies = {0x01: (b"\0" * 8, b"k", b"\r\nget k\r\n" * 1000), 0x0d: (b"", b"k")}
    data = b"".join(packet(opcode, opaque, *bodies.get(opcode, ())) for opcode, opaque in asked)
    answers = b"".join(struct.pack(">BBHBBHI4sQ", 0x81, opcode, 0, 0, 0, 0x81, len(said), opaque, 0) + said
                       for opcode, opaque in asked)
    for sizes in ((len(data),), (1,), (23, 1, 7, 24)):
        with socket.create_connection(world.proxy.where("alpha"), 20 * SLOW) as s:
            began, at, got = time.monotonic(), 0, b""
            for size in itertools.cycle(sizes):
                if at >= min(len(data), 60 if size == 1 else len(data)):
                    break
                s.sendall(data[at:at + size])
                at += size
            s.sendall(data[at:])
            while more := s.recv(65536):
                got += more
            assert got == answers and 0.5 < time.monotonic() - began < 5 * SLOW
    with socket.create_connection(world.proxy.where("alpha"), 20 * SLOW) as s:
        s.sendall(b"get none\r\n" + packet(0x0a, b"noop") + b"get none\r\n")
        got = b""
        while more := s.recv(65536):
            got += more
        assert got.startswith(b"END\r\n\x81\x0a") and got.endswith(said + b"END\r\n")


def test_binary_packets_without_end_are_closed_at_once(world):
    for noise in (b"\x80" * 24, packet(0x01, b"huge")[:8] + b"\x7f\xff\xff\xff" + b"\0" * 12):
        with world.link("alpha") as link:
            began = time.monotonic()
            link.write(noise)
            assert not [r for r in link.rest() if not ERROR.fullmatch(r)], "answered as if it were text"
            assert time.monotonic() - began < 2 * SLOW, "such a client must not wait for the rest of a frame"
    with world.link("alpha") as link:
        assert link.ask(world.fence) == world.fenced


# ---- pipelines

def mixed(dice, count):
    """A pipeline of all commands over the same few keys: [(request, is it answered)]. Each key is used all
    over the pipeline, so that an answer is right only if everything before it was done, in order. Numbers
    stay below 2**63: above, memcached looks for a minus sign behind the value, and answers by chance."""
    tag = new_tag()
    texts, numbers = ([tag + b"%s%d" % (kind, i) for i in range(150)] for kind in (b"t", b"n"))

    def value():
        kind = dice.random()
        if kind < 0.15:
            return dice.choice((b"", b"\r\n", b"END\r\n", b"\r\nERROR\r\n", b"noreply", b"quit\r\n",
                                b"VALUE a 0 1\r\nx\r\nEND\r\n"))
        return dice.randbytes(int(2 ** dice.uniform(0, 6 if kind < 0.9 else 14.5)))

    def keys():
        return [dice.choice(texts if dice.random() < 0.7 else numbers)
                for _ in range(int(2 ** dice.uniform(0, 4.5)))]

    out = []
    while len(out) < count:
        kind, silent = dice.randrange(100), dice.random() < 0.15
        tail = b" noreply" if silent else b""
        key, number = dice.choice(texts), dice.choice(numbers)
        life = dice.choice((b"0", b"0", b"0", b"1000", b"-1", b"2147483647"))
        if kind < 22:
            flags = dice.choice((0, 0, 1, dice.randrange(2**32)))
            out.append((put(b"set", key, value(), flags, 0, tail[1:]), not silent))
        elif kind < 34:
            verb = dice.choice((b"add", b"replace", b"append", b"prepend"))
            out.append((put(verb, key, value()[:200], 0, int(life), tail[1:]), not silent))
        elif kind < 38:     # a unique that no server gives
            unique = b"%d%s" % (2**64 - 1 - dice.randrange(100), tail)
            out.append((put(b"cas", key, value(), 0, 0, unique), not silent))
        elif kind < 46:
            out.append((put(b"set", number, b"%d" % int(2 ** dice.uniform(0, 62)), 0, 0, tail[1:]), not silent))
        elif kind < 58:
            delta = b"%d" % int(2 ** dice.uniform(0, 48)) if dice.random() < 0.9 else b"x"
            verb = dice.choice((b"incr", b"decr"))
            out.append((b"%s %s %s%s\r\n" % (verb, number, delta, tail), not silent))
        elif kind < 64:
            out.append((b"delete %s%s\r\n" % (key, tail), not silent))
        elif kind < 68:
            out.append((b"touch %s %s%s\r\n" % (key, life, tail), not silent))
        elif kind < 92:
            out.append((get(keys(), dice.choice((b"get", b"get", b"gets"))), True))
        elif kind < 96:
            out.append((get(keys(), dice.choice((b"gat ", b"gats ")) + life), True))
        elif kind < 97:
            out.append((b"version\r\n", True))
        else:
            broken = (b"foo\r\n", b"\r\n", b"GET %s\r\n", b"get\r\n", b"incr %s\r\n", b"delete %s 5\r\n",
                      b"gat x %s\r\n", b"set %s 0 0 2\r\nxxYY", b"touch %s x\r\n")
            out.append((dice.choice(broken).replace(b"%s", key), True))
    return out


def settled(reply):
    """The reply without uniques, and without the spaces with which memcached pads a number that got shorter
    unless a reply under way still holds the old one."""
    if not reply.startswith(b"VALUE "):
        return reply
    return [(key, flags, unique and b"?", re.sub(rb"^(\d+) *$", rb"\1", value))
            for key, flags, unique, value in blocks(reply)] + [reply[-5:]]


@pytest.mark.parametrize("turn", range(4))
def test_a_pipeline_of_mixed_commands_answers_as_one_server_does(world, dice, turn):
    dice.seed("%d %d" % (SEED, turn))
    requests = mixed(dice, 10000)
    stream, asked = b"".join(r for r, _ in requests), [r for r, answered in requests if answered]
    sizes = pieces(dice, 5000)
    replies = {}
    for door, how in (("alpha", sizes), ("single", WHOLE)):
        with world.link(door) as link:
            link.exchange(stream + world.fence, 0, how)
            replies[door] = link.until(world.fenced)
    assert len(replies["single"]) == len(asked), "the test miscounts"
    for i, (got, want) in enumerate(zip(replies["alpha"], replies["single"])):
        assert settled(got) == settled(want), "reply %d, to %s: got %s, wanted %s" % (
            i, brief(asked[i]), brief(got), brief(want))
    assert len(replies["alpha"]) == len(asked)


def test_a_pipeline_longer_than_all_buffers_flows_to_its_end(world, dice):
    """A client that is no longer read because too much is owed to it is read again later."""
    tag = new_tag()
    held = {tag + b"%d" % i: dice.randbytes(1000) for i in range(50)}
    asked = dice.choices(list(held), k=60000)
    with world.link("alpha") as link, world.link("alpha") as other:
        link.pipeline([put(b"set", k, v) for k, v in held.items()])
        replies = link.pipeline([b"get %s\r\n" % k for k in asked])
        wrong = [i for i, k in enumerate(asked) if replies[i] != hits([(k, held[k])])]
        assert not wrong, "%d replies are wrong, the first is number %d" % (len(wrong), wrong[0])
        quiet = [mute(b"set", k, b"%s %d" % (k, i)) for i, k in enumerate(asked)]
        assert link.ask(b"".join(quiet) + world.fence) == world.fenced
        last = {k: b"%s %d" % (k, i) for i, k in enumerate(asked)}
        assert other.ask(get(last)) == hits(last.items())


def test_pipelines_of_many_clients_at_once_answer_as_one_server_does(world, dice):
    """Each has its own keys, so that one server says what each must get, however they mix."""
    batches = [mixed(dice, 1000) for _ in range(12)]
    links = [world.link("alpha") for _ in batches]

    def run(link, requests, sizes):
        link.exchange(b"".join(r for r, _ in requests) + world.fence, 0, sizes)
        return link.until(world.fenced)

    sizes = [pieces(dice) for _ in batches]
    with concurrent.futures.ThreadPoolExecutor(len(batches)) as crowd:
        said = list(crowd.map(run, links, batches, sizes))
    for link in links:
        link.sock.close()
    for i, requests in enumerate(batches):
        with world.link("single") as link:
            want = run(link, requests, WHOLE)
        asked = [r for r, answered in requests if answered]
        wrong = [(r, a, b) for r, a, b in zip(asked, said[i], want) if settled(a) != settled(b)]
        assert not wrong, "client %d: to %s, got %s, wanted %s" % (i, *map(brief, wrong[0]))
        assert len(said[i]) == len(want) == len(asked)


# ---- noreply

def test_a_thousand_noreply_sets_are_seen_by_the_gets_behind_them(world, dice):
    tag = new_tag()
    held = {tag + b"%d" % i: dice.randbytes(dice.choice((0, 5, 100, 9000))) for i in range(1000)}
    keys = list(held)
    stream = b"".join(put(b"set", k, b"first") + mute(b"set", k, v) for k, v in held.items())
    with world.link("alpha") as link:
        replies = link.exchange(stream + b"".join(b"get %s\r\n" % k for k in keys), 2000)
        assert replies[:1000] == [b"STORED\r\n"] * 1000
        assert replies[1000:] == [hits([(k, held[k])]) for k in keys]
        verbs = (b"delete %s noreply\r\n", b"touch %s -1 noreply\r\n", b"set %s 0 -1 1 noreply\r\nx\r\n",
                 b"append %s 0 0 1 noreply\r\n!\r\n", b"prepend %s 0 0 1 noreply\r\n!\r\n")
        stream = b"".join(verbs[i % 5] % k for i, k in enumerate(keys))
        assert link.ask(stream + get(keys)) == hits((k, held[k] + b"!" if i % 5 == 3 else b"!" + held[k])
                                                    for i, k in enumerate(keys) if i % 5 > 2)


def test_noreply_sets_are_kept_although_their_client_has_left(world):
    for leave in ("close", "quit"):
        tag = new_tag()
        keys = [tag + b"%d" % i for i in range(300)]
        with world.link("alpha") as link:
            link.write(b"".join(mute(b"set", k, k) for k in keys))
            if leave == "quit":
                link.write(b"quit\r\n")
                assert link.rest() == []
        with world.link("alpha") as link:
            whole = hits((k, k) for k in keys)
            wait_for("the sets before the %s" % leave, lambda: link.ask(get(keys)) == whole)


BIG = b"z" * (2 * MIB)

REFUSED_BY_THE_SERVER = {
    "too large": [HELLO, put(b"set", b"@a", BIG), LOOK, HELLO, put(b"add", b"@b", BIG),
                  put(b"append", b"@a", BIG),
                  put(b"replace", b"@a", BIG), LOOK, put(b"cas", b"@a", BIG, 0, 0, b"{cas}"), LOOK],
    "too large, noreply": [HELLO, mute(b"set", b"@a", BIG), LOOK, HELLO, mute(b"add", b"@b", BIG),
                           mute(b"append", b"@a", BIG), LOOK,
                           put(b"cas", b"@a", BIG, 0, 0, b"{cas} noreply"), LOOK],
    "too large by appending": [put(b"set", b"@a", BIG[:1048000]), put(b"append", b"@a", BIG[:1000]),
                               mute(b"append", b"@a", BIG[:1000]), b"get @a\r\ndelete @a\r\n"],
    "no number": [HELLO, b"incr @a 1\r\n", b"incr @a 1 noreply\r\nget @a\r\ndecr @a 1 noreply\r\n", LOOK],
}


def test_what_the_server_refuses_is_told_or_kept_silent_as_one_server_does(world):
    rows = [(name, steps, None) for name, steps in REFUSED_BY_THE_SERVER.items()]
    agree(differing(world, rows, WHOLE, "small", "small_single"))
    agree(differing(world, rows[:2], (100000, 1, 7), "small", "small_single"))


def test_refused_noreply_requests_shift_nobodys_replies(world, dice):
    """Both clients are on one connection to one server; what it says to the first is not for the second."""
    stop = threading.Event()
    keys = [b"mine%d" % i for i in range(50)]

    def reader():
        rounds = 0
        with world.link("small") as link:
            link.pipeline([put(b"set", k, b"of " + k) for k in keys])
            while not stop.is_set() or rounds < 20:
                asked = random.Random(rounds).choices(keys, k=40)
                replies = link.pipeline([b"get %s\r\n" % k for k in asked])
                assert replies == [hits([(k, b"of " + k)]) for k in asked]
                rounds += 1
        return rounds

    noise = lines("""
        incr text 1 noreply | decr text 1 noreply | incr none 1 noreply | delete none noreply |
        touch none 0 noreply | touch text x noreply | incr text x noreply""") + [
            mute(b"set", b"big", BIG), mute(b"append", b"big", BIG),
            put(b"cas", b"text", b"x", 0, 0, b"1 noreply"),
            mute(b"add", b"text", b"x"), mute(b"replace", b"none", b"x"),
            mute(b"set", b"text", b"!")[:-2] + b"XX"]
    with concurrent.futures.ThreadPoolExecutor(1) as one, world.link("small") as link:
        assert link.ask(put(b"set", b"text", b"abc")) == b"STORED\r\n"
        reading = one.submit(reader)
        try:
            for _ in range(12):
                dice.shuffle(noise)
                asked = dice.choices(keys, k=len(noise))
                reply = link.ask(b"".join(noise) + b"get text big none\r\n")
                assert reply == hits([(b"text", b"abc")])
                replies = link.pipeline([n + b"get %s text\r\n" % k for n, k in zip(noise, asked)])
                assert [keys_in(r)[-1] for r in replies] == [b"text"] * len(noise)
        finally:
            stop.set()
        assert reading.result(60 * SLOW) >= 20


# ---- many clients, leaving clients, slow clients

def prove(world, number, start, seed):
    """One client of many, which checks every reply against what the key must hold. Returns how many."""
    dice = random.Random(seed)
    name = b"client%d." % number
    held, counts, checked = {}, {name + b"n": 0}, 0
    start.wait()
    with world.link("alpha", seconds=40) as link:
        assert link.ask(put(b"set", name + b"n", b"0")) == b"STORED\r\n"
        for serial in range(30):
            requests, wanted = [], []
            for step in range(dice.randrange(1, 14)):
                key, kind = name + b"%d" % dice.randrange(6), dice.randrange(10)
                if kind < 4:
                    noise = dice.randbytes(int(2 ** dice.uniform(0, 13.5)))
                    held[key] = b"%s %d.%d %s" % (key, serial, step, noise)
                    requests.append(put(b"set", key, held[key], number, 0, b"noreply" if kind == 0 else b""))
                    wanted += [] if kind == 0 else [b"STORED\r\n"]
                elif kind < 7:
                    keys = dice.choices([name + b"%d" % i for i in range(6)], k=dice.randrange(1, 8))
                    shared = world.fence_keys[number % 4]
                    requests.append(get([*keys, shared]))
                    wanted.append(hits([*((k, held[k], number) for k in keys if k in held), (shared, shared)]))
                elif kind < 8:
                    requests.append(b"delete %s\r\n" % key)
                    wanted.append(b"DELETED\r\n" if held.pop(key, None) else b"NOT_FOUND\r\n")
                elif kind < 9:
                    counts[name + b"n"] += number
                    requests.append(b"incr %sn %d\r\n" % (name, number))
                    wanted.append(b"%d\r\n" % counts[name + b"n"])
                else:
                    requests.append(world.fence)
                    wanted.append(world.fenced)
            replies = link.exchange(b"".join(requests), len(wanted), pieces(dice, 40))
            for i, (got, want) in enumerate(zip(replies, wanted)):
                assert got == want, "client %d, round %d, reply %d: got %s, wanted %s" % (
                    number, serial, i, brief(got), brief(want))
            checked += len(wanted)
        assert link.ask(world.fence) == world.fenced
    return checked


def leave(world, number, start, seed):
    """One that comes again and again and goes at a bad moment. Returns the keys that must not exist."""
    dice = random.Random(seed)
    start.wait()
    never = []
    for visit in range(12):
        key = b"leaver%d.%d" % (number, visit)
        link = world.link("alpha", seconds=40)
        if visit % 4 == 0:      # with replies outstanding
            link.write(world.fence * 50 + b"get nothing\r\n" * 50 + b"version\r\n" * 10)
        elif visit % 4 == 1:    # in the middle of a value
            never.append(key)
            link.write(put(b"set", key, b"x" * 20000)[:dice.randrange(20, 20000)])
        elif visit % 4 == 2:    # in the middle of a line, with replies outstanding
            link.write(world.fence * 5 + b"delete " + world.fence_keys[0])
        else:                   # in the middle of a line's end, of a value's end
            never.append(key)
            link.write(world.fence + put(b"set", key, b"x" * 100)[:-dice.randrange(1, 3)])
        if dice.random() < 0.5:
            link.reset()
        else:
            link.sock.close()
    return never


def test_two_hundred_clients_at_once_get_what_is_theirs(world):
    with world.link("alpha") as link:
        assert link.ask(world.fence) == world.fenced
    print("\nNUT_SEED=%d" % SEED)
    open_before = world.proxy.descriptors()
    start = threading.Barrier(200)
    with concurrent.futures.ThreadPoolExecutor(200) as crowd:
        jobs = [crowd.submit(prove if i % 5 else leave, world, i, start, "%d %d" % (SEED, i))
                for i in range(200)]
        done = [job.result(120 * SLOW) for job in jobs]
    assert sum(d for i, d in enumerate(done) if i % 5) > 160 * 30
    never = [key for i, keys in enumerate(done) if i % 5 == 0 for key in keys]
    with world.link("alpha") as link:
        assert link.ask(get(never)) == b"END\r\n", "what never came whole was executed"
        assert link.ask(world.fence) == world.fenced
    wait_for("the descriptors of 200 clients to be closed",
             lambda: world.proxy.descriptors() <= open_before + 2)


def test_a_stalled_request_holds_up_nobody_else(world):
    """A request goes to its server when it is whole: until then the connection is free for others."""
    halves, value = [], b"v" * MIB
    keys = [b"stalled" + key for key in world.fence_keys]
    for key in keys:
        whole = put(b"set", key, value)
        for at in (3, len(whole) - MIB - 2, len(whole) // 2, len(whole) - 2, len(whole) - 1):
            halves.append((world.link("alpha").write(whole[:at]), whole[at:]))
    with world.link("alpha") as other:
        for _ in range(20):
            assert other.ask(world.fence) == world.fenced
            assert other.ask(get(keys)) == b"END\r\n"
        for link, rest in halves:
            assert link.ask(rest) == b"STORED\r\n"
            link.sock.close()
        assert other.ask(get(keys)) == hits((k, value) for k in keys)
        other.pipeline([b"delete %s\r\n" % k for k in keys])


def test_an_announced_length_alone_takes_no_memory(world):
    before = world.proxy.rss_kib()
    links = [world.link("alpha").write(b"set huge%d 0 0 2147483645\r\nbegin" % i) for i in range(50)]
    with world.link("alpha") as other:
        for _ in range(10):
            assert other.ask(world.fence) == world.fenced
        assert world.proxy.rss_kib() - before < ROOM
        for link in links:
            link.sock.close()
        assert other.ask(b"get huge0 huge1\r\n") == b"END\r\n"
        assert other.ask(world.fence) == world.fenced


def test_a_slow_reader_gets_everything_and_nobody_waits_for_him(world, dice):
    held = {b"slow%d" % i: b"%d." % i + dice.randbytes(MIB) for i in range(8)}
    with world.link("alpha", seconds=40) as slow, world.link("alpha") as quick:
        assert set(slow.pipeline([put(b"set", k, v) for k, v in held.items()])) == {b"STORED\r\n"}
        asked = dice.choices(list(held), k=160)
        slow.write(b"".join(b"get %s\r\n" % k for k in asked))
        for _ in range(100):
            assert quick.ask(world.fence) == world.fenced
        for i, key in enumerate(asked):
            reply = slow.exchange(b"", 1)[0]
            assert reply == hits([(key, held[key])]), "reply %d: %s" % (i, brief(reply))
            if i % 20 == 0:
                assert quick.ask(world.fence) == world.fenced
        assert slow.ask(world.fence) == world.fenced
        slow.pipeline([b"delete %s\r\n" % k for k in held])


def test_a_reader_past_the_output_limit_costs_only_himself(world, dice):
    key, value = b"heavy", dice.randbytes(MIB)
    with world.link("narrow") as quick:
        assert quick.ask(put(b"set", key, value)) == b"STORED\r\n"
        before, most = world.proxy.rss_kib(), 0
        with world.link("narrow") as slow:
            slow.write(b"get heavy\r\n" * 300)
            for _ in range(200):
                assert quick.ask(world.fence) == world.fenced
                most = max(most, world.proxy.rss_kib() - before)
            assert most < 2 * ROOM, "the unread replies took %d KiB" % most
            whole, got = hits([(key, value)]), 0
            try:
                while got < 300:
                    assert slow.exchange(b"", 1)[0] == whole, "reply %d is not what was asked for" % got
                    got += 1
            except Closed:
                assert whole.startswith(bytes(slow.held)), "the last reply is not the start of the value"
        assert quick.ask(world.fence) == world.fenced
        assert quick.ask(b"delete heavy\r\n") == b"DELETED\r\n"


# ---- version, quit, the end of a connection

def test_version_is_the_servers_and_keeps_its_place_in_the_pipeline(world):
    with world.link("alpha") as link:
        replies = link.pipeline([world.fence, b"version\r\n", b"get none\r\n", b"version\r\n", world.fence])
    assert replies == [world.fenced, version(world), b"END\r\n", version(world), world.fenced]


def last_words(world, dice, end):
    """A pipeline of big and small replies, and `end` in the same write: all replies come, then the close."""
    tag = new_tag()
    held = {tag + b"%d" % i: dice.randbytes(dice.choice((10, 20000, 200000))) for i in range(40)}
    with world.link("alpha") as link:
        link.pipeline([put(b"set", k, v) for k, v in held.items()])
        requests = [get([k]) for k in held] + [put(b"set", tag + b"last", b"kept"), world.fence]
        end(link, b"".join(requests), tag)
        time.sleep(0.1)     # the replies are there, or stuck, before the first is read
        replies = link.rest()
        want = [hits([kv]) for kv in held.items()] + [b"STORED\r\n", world.fenced]
        assert [brief(r, 40) for r in replies] == [brief(w, 40) for w in want]
        assert replies == want and not link.held
    with world.link("alpha") as link:
        assert link.ask(get([tag + b"last", tag + b"after"])) == hits([(tag + b"last", b"kept")])
        link.pipeline([b"delete %s\r\n" % k for k in held])


def test_quit_closes_after_the_replies_before_it_were_sent(world, dice):
    last_words(world, dice, lambda link, requests, tag: link.write(requests + b"quit\r\n"))


def test_nothing_behind_a_quit_is_executed(world, dice):
    def end(link, requests, tag):
        link.write(requests + b"quit\r\n" + put(b"set", tag + b"after", b"late"))
    last_words(world, dice, end)


def test_a_client_that_only_stops_sending_still_gets_its_replies(world, dice):
    def end(link, requests, tag):
        link.write(requests + b"set %safter 0 0 4\r\nla" % tag)
        link.sock.shutdown(socket.SHUT_WR)
    last_words(world, dice, end)


# ---- other families

@pytest.fixture(scope="module")
def families(shared):
    """Servers on a unix socket, on IPv6 and on IPv4, and over them a pool on a unix socket and one on IPv6."""
    path, port, four = shared.path("mc.sock"), free_port(), shared.memcached().port
    shared.process(["memcached", "-s", path, "-a", "777", "-u", "root", "-m", "64"], path, "mc-unix")
    shared.process(["memcached", "-l", "::1", "-p", str(port), "-U", "0", "-u", "nobody", "-m", "64"],
                   ("::1", port), "mc-ipv6")
    servers = ["%s:1 local" % path, "::1:%d:1 six" % port, "127.0.0.1:%d:1 four" % four]
    return shared.nutproxy({
        "local": pool(servers, "memcached", hash="md5", listen=shared.path("nut.sock") + " 0600"),
        "six": pool(servers, "memcached", hash="md5", listen="::1:%d" % free_port()),
    }), [path, ("::1", port), ("127.0.0.1", four)]


@pytest.mark.parametrize("family", ("local", "six"))
def test_unix_sockets_and_ipv6_carry_the_same_on_both_sides(families, dice, family):
    proxy, servers = families
    tag = new_tag()
    held = {tag + b"%d" % i: dice.randbytes(dice.choice((3, 300, 100000))) for i in range(90)}
    with Link(proxy.where(family)) as link:
        assert set(link.pipeline([put(b"set", k, v) for k, v in held.items()])) == {b"STORED\r\n"}
        keys = list(held)
        dice.shuffle(keys)
        assert link.ask(get(keys)) == hits((k, held[k]) for k in keys)
        replies = link.pipeline([get([k]) for k in keys], pieces(dice, 100))
        assert replies == [hits([(k, held[k])]) for k in keys]
        assert link.ask(b"foo\r\n") == b"ERROR\r\n"
    there = collections.Counter()
    for where in servers:
        with Link(where) as link:
            found = keys_in(link.ask(get(held)))
            assert found, "no key went to %r" % (where,)
            there.update(found)
    assert there == collections.Counter(list(held)), "keys on two servers, or on none"


def test_a_unix_socket_has_the_permissions_asked_for(families):
    proxy, _ = families
    assert os.stat(proxy.where("local")).st_mode & 0o777 == 0o600
