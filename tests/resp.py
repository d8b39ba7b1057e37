"""RESP from outside: words go out, whole raw replies come back.

    with Resp(proxy.where("alpha")) as c:
        c.ask("SET", "k", b"\\x00")            # b"+OK\\r\\n"
        c.pipeline([("GET", "k"), ("PING",)])   # [b"$1\\r\\n\\x00\\r\\n", b"+PONG\\r\\n"]
        c.in_step()                             # every reply so far was one of ours

A reply stays the bytes that came, so that two servers can be compared byte by
byte.  What is not RESP2 to the letter is a failure, and so is silence.  With
`resp3` the connection begins with HELLO 3, and replies are RESP3.
"""
import collections
import itertools
import re
import select
import socket

from nut import SLOW, dial

HEAD = re.compile(rb"\+[^\r\n]*|-[^\r\n]+|:(0|-?[1-9][0-9]*)|[$*](-1|0|[1-9][0-9]*)")
HEAD3 = re.compile(HEAD.pattern + rb"|_|#[tf]|,[^\r\n]+|\(-?[0-9]+|[=!~%|>](0|[1-9][0-9]*)")


class Closed(AssertionError):
    """The other side closed the connection while replies were owed."""


class Silence(AssertionError):
    """Nothing came for too long."""


def word(w):
    return w if isinstance(w, bytes) else str(w).encode()


def command(*words):
    """One request as an array of bulk strings."""
    out = [b"*%d\r\n" % len(words)]
    for w in map(word, words):
        out += (b"$%d\r\n" % len(w), w, b"\r\n")
    return b"".join(out)


def bulk(value):
    """The reply that carries this value."""
    return b"$%d\r\n%s\r\n" % (len(word(value)), word(value))


def array(*replies):
    return b"*%d\r\n%s" % (len(replies), b"".join(replies))


def brief(data, most=160):
    """Bytes as a failure can show them."""
    if data is None or len(data) <= most:
        return repr(data)
    return "%r ... %r (%d bytes)" % (bytes(data[:most // 2]), bytes(data[-most // 4:]), len(data))


def pieces(rng, most=14):
    """Sizes for writes: 1 byte up to 2**most, small ones as likely as large ones."""
    while True:
        yield int(2 ** rng.uniform(0, most))


class Splitter:
    """Cuts a stream into whole replies."""

    def __init__(self):
        self.held = bytearray()     # from the start of the reply that is not whole yet
        self.at = 0                 # how far it was looked at
        self.open = 1               # values that it still lacks
        self.form = HEAD

    def feed(self, data):
        self.held += data
        whole, start = [], 0
        while self.step():
            if self.open == 0:
                whole.append(bytes(memoryview(self.held)[start:self.at]))
                start, self.open = self.at, 1
        del self.held[:start]
        self.at -= start
        return whole

    def step(self):
        """Pass one value, or only the head of an array; False: more bytes are needed."""
        end = self.held.find(b"\r\n", self.at)
        if end < 0:
            assert len(self.held) - self.at < 100000, \
                "a reply line without end: %s" % brief(self.held[self.at:])
            return False
        head = bytes(self.held[self.at:end])
        assert self.form.fullmatch(head), "not RESP: %s" % brief(head)
        kind, after, more = head[:1], end + 2, 0
        if kind in b"$=!" and head != b"$-1":
            after += int(head[1:]) + 2
            if len(self.held) < after:
                return False
            assert self.held[after - 2:after] == b"\r\n", "%r and no CR LF after the value" % head
        elif kind in b"*~>":
            more = max(int(head[1:]), 0)
        elif kind in b"%|":
            more = 2 * int(head[1:]) + (kind == b"|")       # an attribute is no value
        self.at = after
        self.open += more - 1
        return True


class Resp:
    """A connection.  `where` is (host, port) or the path of a unix socket."""
    tokens = itertools.count(1)

    def __init__(self, where, timeout=20, resp3=False):
        self.timeout = timeout * SLOW
        self.sock = dial(where, self.timeout)
        self.splitter = Splitter()
        self.got = collections.deque()      # replies that nobody asked for yet
        if resp3:
            self.splitter.form = HEAD3
            self.hello = self.ask("HELLO", "3")
            assert self.hello.startswith(b"%"), self.hello

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def write(self, data):
        self.sock.sendall(data)
        return self

    def exchange(self, data, count, sizes=None):
        """Send these bytes, in writes of these sizes, and read `count` replies
        while they come: neither side ever waits for the other to read."""
        sizes = sizes or itertools.repeat(1 << 18)
        view, sent = memoryview(data), 0
        poll = select.poll()
        while sent < len(view) or len(self.got) < count:
            poll.register(self.sock, select.POLLIN | (select.POLLOUT if sent < len(view) else 0))
            ready = dict(poll.poll(self.timeout * 1000)).get(self.sock.fileno(), 0)
            if not ready:
                raise Silence("silence for %gs after %d of %d bytes and %d of %d replies, begun: %s" % (
                    self.timeout, sent, len(view), len(self.got), count, brief(self.splitter.held)))
            if ready & ~select.POLLOUT:
                self.read()
            elif ready & select.POLLOUT:
                try:
                    sent += self.sock.send(view[sent:sent + next(sizes)], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass
        return [self.got.popleft() for _ in range(count)]

    def read(self):
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed("closed; replies at hand: %d, begun: %s" %
                         (len(self.got), brief(self.splitter.held)))
        self.got.extend(self.splitter.feed(data))

    def pipeline(self, commands, sizes=None):
        return self.exchange(b"".join(command(*c) for c in commands), len(commands), sizes)

    def send(self, *words):
        return self.write(command(*words))

    def reply(self):
        return self.exchange(b"", 1)[0]

    def ask(self, *words):
        return self.exchange(command(*words), 1)[0]

    def answers(self, data, sizes=None):
        """What these bytes are answered with: a list of replies, and None at its
        end if the connection was closed after them."""
        token = bulk("end-%d" % next(self.tokens))
        replies, self.timeout = [], 5 * SLOW
        try:
            self.exchange(data + b"*2\r\n$4\r\nECHO\r\n" + token, 0, sizes)
            while not replies or replies[-1] != token:
                replies.append(self.reply())
            return replies[:-1]
        except (Closed, ConnectionResetError, BrokenPipeError):
            return replies + self.rest() + [None]
        except Silence:
            return replies + [b"(silence)"]

    def in_step(self):
        """Nothing was owed, nothing is too much: the next reply is the next request's."""
        token = "step-%d" % next(self.tokens)
        got = self.ask("ECHO", token)
        assert got == bulk(token) and not self.got, "out of step: %s" % brief(got)
        return self

    def rest(self):
        """Every reply until the other side closes."""
        try:
            while True:
                self.read()
        except Closed:
            assert not self.splitter.held, "closed in the middle of %s" % brief(self.splitter.held)
            return [self.got.popleft() for _ in range(len(self.got))]
