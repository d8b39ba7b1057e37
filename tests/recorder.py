"""Relays that stand between a proxy and its servers, and write down what was asked.

    with Hub() as hub:
        recorder = Recorder(hub, redis, "redis")    # listens where a pool's server can be
        recorder.seen                               # every request that came whole, oldest first

Bytes pass both ways unchanged, unless `script` says otherwise: called with a request, it
returns what the relay does in the server's place, or None to pass it on. down() refuses
connections. A Redis request is a tuple of words, as they came; a memcached request is its
line, with the data block behind it; what is neither is kept as Raw.
"""
import re
import selectors
import socket
import struct
import threading

CLOSE, RESET, SILENT = "close", "reset", "silent"      # what a script can return besides bytes
STORES = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")


class Raw(bytes):
    """Bytes that are no request."""


# ---- cutting streams; each returns where the first whole thing ends, or -1

def number(digits):
    if not re.fullmatch(rb"-?\d{1,9}", digits):
        raise ValueError(digits)
    return int(digits)


def line_end(data, at):
    end = data.find(b"\r\n", at)
    return end + 2 if end >= 0 else -1


def redis_reply(data, at=0):
    """The end of one RESP2 value."""
    end = line_end(data, at)
    if end < 0:
        return -1
    kind, rest = data[at:at + 1], data[at + 1:end - 2]
    if kind not in (b"+", b"-", b":", b"$", b"*"):
        raise ValueError("not RESP2")
    if kind == b"$" and number(rest) >= 0:
        after = end + number(rest) + 2
        return after if len(data) >= after else -1
    if kind == b"*":
        for _ in range(number(rest)):
            end = redis_reply(data, end)
            if end < 0:
                return -1
    return end


def memcached_reply(data, at=0):
    """The end of one reply: a line, or the VALUEs up to their END."""
    while True:
        end = line_end(data, at)
        if end < 0 or not data.startswith(b"VALUE ", at):
            return end
        at = end + number(data[at:end - 2].split()[3]) + 2


def redis_request(data):
    """(words, how long they are), or None: not whole yet."""
    end = line_end(data, 0)
    if end < 0:
        return None
    if data[:1] != b"*":
        raise ValueError("no array")
    words = []
    for _ in range(number(data[1:end - 2])):
        head = end
        end = line_end(data, head)
        if end < 0:
            return None
        if data[head:head + 1] != b"$":
            raise ValueError("no bulk string")
        size = number(data[head + 1:end - 2])
        if len(data) < end + size + 2:
            return None
        words.append(data[end:end + size])
        end += size + 2
    return tuple(words), end


def memcached_request(data):
    """(line and data, how long they are), as memcached reads them; None: not whole yet."""
    end = data.find(b"\n") + 1
    if not end:
        return None
    words = data[:end].split()
    size = 4 if words[:1] and words[0] in STORES else 2 if words[:1] == [b"ms"] else len(words)
    if len(words) > size and words[size].isdigit():
        end += int(words[size]) + 2
        if len(data) < end:
            return None
    return data[:end], end


def cut(data, reply):
    """All replies in these bytes; what is none, or not whole, is the last one, as Raw."""
    out, at = [], 0
    while at < len(data):
        try:
            end = reply(data, at)
        except (ValueError, IndexError):
            end = -1
        if end < 0:
            return out + [Raw(data[at:])]
        out.append(data[at:end])
        at = end
    return out


REQUEST = {"redis": redis_request, "memcached": memcached_request}
REPLY = {"redis": redis_reply, "memcached": memcached_reply}


# ---- the relays

class Hub(threading.Thread):
    """The one thread in which all relays live. Whoever changes a relay holds the lock."""

    def __init__(self):
        super().__init__(daemon=True)
        self.selector, self.lock, self.over = selectors.DefaultSelector(), threading.RLock(), False
        self.broken = []            # what went wrong in a script or a relay: a bug of the test

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.over = True
        self.join()
        with self.lock:
            for key in list(self.selector.get_map().values()):
                key.fileobj.close()
            self.selector.close()

    def run(self):
        while not self.over:
            ready = self.selector.select(0.05)
            with self.lock:
                for key, _ in ready:
                    if key.fileobj.fileno() >= 0:           # not closed by one before it
                        try:
                            key.data()
                        except Exception as e:
                            self.broken.append(repr(e))
                            self.drop(key.fileobj)

    def watch(self, sock, what):
        self.selector.register(sock, selectors.EVENT_READ, what)

    def drop(self, sock):
        if sock.fileno() >= 0:
            self.selector.unregister(sock)
            sock.close()


class Recorder:
    host = "127.0.0.1"

    def __init__(self, hub, server, protocol):
        self.hub, self.server, self.protocol = hub, server, protocol
        self.seen, self.probes, self.links, self.script, self.port = [], 0, [], None, 0
        self.up()

    def up(self):
        """Listen, after down() on the same port."""
        with self.hub.lock:
            self.door = socket.socket()
            self.door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.door.bind((self.host, self.port))
            self.port = self.door.getsockname()[1]
            self.door.listen(64)
            self.hub.watch(self.door, self.accept)

    def down(self):
        """Refuse, and drop all connections."""
        with self.hub.lock:
            self.hub.drop(self.door)
            self.cut_off()

    def cut_off(self):
        with self.hub.lock:
            for link in list(self.links):
                link.close(RESET)

    def accept(self):
        Link(self, self.door.accept()[0])

    def take(self):
        """What was seen since the last time."""
        with self.hub.lock:
            seen, self.seen = self.seen, []
        return seen

    def fall_sick(self, how):
        """"down", or what is done with every request."""
        with self.hub.lock:
            if how == "down":
                self.down()
            else:
                self.script = lambda request: how

    def recover(self):
        with self.hub.lock:
            self.script = None
            if self.door.fileno() < 0:
                self.up()


class Link:
    """One connection of the proxy and the one to the server that belongs to it."""

    def __init__(self, recorder, near):
        self.recorder, self.near, self.held, self.lost = recorder, near, b"", False
        self.far = socket.create_connection((recorder.server.host, recorder.server.port), 10)
        for sock in (self.near, self.far):
            sock.setblocking(True)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        recorder.hub.watch(self.near, self.from_proxy)
        recorder.hub.watch(self.far, self.from_server)
        recorder.links.append(self)

    def close(self, how=CLOSE):
        if how == RESET and self.near.fileno() >= 0:
            self.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for sock in (self.near, self.far):
            self.recorder.hub.drop(sock)
        if self in self.recorder.links:
            self.recorder.links.remove(self)

    def pass_on(self, source, target):
        try:
            data = source.recv(1 << 18)
            target.sendall(data)
        except ConnectionError:
            data = b""
        if not data:
            self.close()
        return data

    def from_server(self):
        self.pass_on(self.far, self.near)

    def from_proxy(self):
        """Write down what is whole, and pass it on or obey the script."""
        try:
            data = self.near.recv(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            if self.held:
                self.recorder.seen.append(Raw(self.held))
            return self.close()
        self.held += data
        while self.held and self.near.fileno() >= 0:
            request, size = self.next()
            if request is None:
                break
            sent, self.held = self.held[:size], self.held[size:]
            if request == (b"PING",):
                self.recorder.probes += 1       # no proxy passes on a client's
            else:
                self.recorder.seen.append(request)
            self.obey(self.recorder.script and self.recorder.script(request), sent)

    def next(self):
        """The next request and its size; after bytes that are none everything is Raw."""
        if not self.lost:
            try:
                return REQUEST[self.recorder.protocol](self.held) or (None, 0)
            except ValueError:
                self.lost = True
        return Raw(self.held), len(self.held)

    def obey(self, order, sent):
        """Bytes are said in the place of the server; of a pair the second is done after the first."""
        try:
            if isinstance(order, tuple):            # all in one segment
                self.near.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                for one in order:
                    self.obey(one, sent)
            elif order in (CLOSE, RESET):
                self.close(order)
            elif isinstance(order, bytes):
                self.near.sendall(order)
            elif order is None:
                self.far.sendall(sent)
        except ConnectionError:
            self.close()
