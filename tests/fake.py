"""A server that does what the test's script says, and a plain wire to talk over.

    def answer(link, words):                # called for each request that came whole
        if words[0] == b"GET":
            return link.finish(b"$1\r\nx\r\n")  # the reply and the FIN in one segment
        return fake.obey(words)             # otherwise behave

    fake = Fake(answer)

What an answer returns is sent; None sends nothing. Each connection has a thread of
its own, so an answer that waits holds up the requests behind it, as in a real server.
fake.seen counts what came, whether it was answered or not.
"""
import socket
import struct
import threading

from nut import SLOW, dial
from resp import command

SECONDS = 15 * SLOW     # nothing on a wire may take longer: a hang becomes a failure


class Gone(Exception):
    """The other end has closed or reset the connection."""


class Wire:
    """A socket, read by lines, counts and whole frames."""

    def __init__(self, sock):
        self.sock, self.held = sock, b""
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def say(self, *data):
        try:
            self.sock.sendall(b"".join(data))
        except ConnectionError as e:
            raise Gone(str(e)) from e

    def more(self):
        try:
            got = self.sock.recv(262144)
        except ConnectionError as e:
            raise Gone("%s, after %r" % (e, self.held[:200])) from e
        except socket.timeout as e:
            raise AssertionError("nothing came; so far: %r" % self.held[:200]) from e
        if not got:
            raise Gone("end, after %r" % self.held[:200])
        self.held += got

    def exactly(self, count):
        if len(self.held) < count:
            parts, have = [self.held], len(self.held)
            while have < count:
                self.held = b""
                self.more()
                parts.append(self.held)
                have += len(self.held)
            self.held = b"".join(parts)
        out, self.held = self.held[:count], self.held[count:]
        return out

    def line(self):
        """One line, with its end."""
        while True:
            at = self.held.find(b"\r\n")
            if at >= 0:
                out, self.held = self.held[:at + 2], self.held[at + 2:]
                return out
            self.more()

    def frame(self):
        """One whole RESP value, as it came."""
        line = self.line()
        if line[:1] in b"$=" and line[1:2] != b"-":
            return line + self.exactly(int(line[1:]) + 2)
        if line[:1] in b"*%" and line[1:2] != b"-":
            return line + b"".join(self.frame() for _ in range(int(line[1:]) * (2 if line[:1] == b"%" else 1)))
        if line[:1] not in b"+-:$*_":
            raise AssertionError("not RESP: %r" % line)
        return line

    def frames(self, count):
        return [self.frame() for _ in range(count)]

    def answer(self):
        """One whole reply of memcached's text protocol, as it came."""
        out = b""
        while True:
            line = self.line()
            out += line
            if not line.startswith(b"VALUE "):
                return out
            out += self.exactly(int(line.split()[3]) + 2)

    def ask(self, *words):
        """One Redis command, its reply as it came."""
        self.say(command(*words))
        return self.frame()

    def tell(self, text):
        """One memcached request, its reply as it came."""
        self.say(text)
        return self.answer()

    def rest(self):
        """All that comes until the other end closes."""
        try:
            while True:
                self.more()
        except Gone:
            return self.held

    def close(self):
        self.sock.close()

    def reset(self):
        """Close with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def finish(self, data):
        """Send data and FIN in the same segment."""
        if self.sock.family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        self.say(data)
        self.sock.shutdown(socket.SHUT_WR)
        self.close()


def wire(address, seconds=SECONDS):
    """A wire to that address: (host, port) or the path of a unix socket."""
    return Wire(dial(address, seconds))


def bulk(value):
    """A Redis bulk string; None is the null one."""
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def redis_words(link):
    """The next request of a Redis client."""
    line = link.line()
    assert line[:1] == b"*", "a proxy sends arrays, not %r" % line
    words = []
    for _ in range(int(line[1:])):
        size = link.line()
        assert size[:1] == b"$", "a proxy sends bulk strings, not %r" % size
        words.append(link.exactly(int(size[1:]) + 2)[:-2])
    return [words[0].upper()] + words[1:]


STORES = (b"set", b"add", b"replace", b"append", b"prepend", b"cas")


def memcached_words(link):
    """The next request of a memcached client; the data block is the last word."""
    words = link.line().split()
    if words and words[0] in STORES:
        words.append(link.exactly(int(words[4]) + 2)[:-2])
    return words


class Fake:
    def __init__(self, answer=None, protocol="redis", welcoming=True, host="127.0.0.1", port=0):
        self.answer = answer or (lambda link, words: self.obey(words))
        self.read = {"redis": redis_words, "memcached": memcached_words}[protocol]
        self.obey = {"redis": self.obey_redis, "memcached": self.obey_memcached}[protocol]
        self.seen = []          # every request that came whole, oldest first
        self.links = []         # every connection that was accepted, oldest first
        self.broken = []        # what went wrong in a script: a bug of the test or the proxy
        self.store = {}
        self.host, self.port = host, port
        self.up(welcoming)

    def up(self, welcoming=True):
        """Listen, after down() on the same port. Who is not welcome waits at the door,
        and when one waits, the kernel lets nobody else get that far."""
        self.door = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        self.door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.door.bind((self.host, self.port))
        self.port = self.door.getsockname()[1]
        self.door.listen(128 if welcoming else 0)
        if welcoming:
            self.open()

    def open(self):
        self.door.listen(128)
        threading.Thread(target=self.welcome, args=(self.door,), daemon=True).start()

    def down(self):
        """Refuse, and drop all connections."""
        try:
            self.door.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.door.close()
        self.drop()

    def welcome(self, door):
        while True:
            try:
                sock, _ = door.accept()
            except OSError:
                return
            link = Wire(sock)
            self.links.append(link)
            threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def serve(self, link):
        link.seen, link.over = [], threading.Event()
        try:
            while True:
                words = self.read(link)
                link.seen.append(words)
                self.seen.append(words)
                out = self.answer(link, words)
                if out is not None:
                    link.say(out)
        except (Gone, OSError):
            pass
        except Exception as e:
            self.broken.append(repr(e))
        finally:
            link.close()
            link.over.set()

    def drop(self):
        """End all connections, as a server does with idle clients."""
        for link in list(self.links):
            try:
                link.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass                    # it has ended already

    def count(self, *words):
        """How often that request came."""
        return self.seen.count(list(words))

    def asked(self, verb):
        """The requests of one kind, oldest first."""
        return [words for words in self.seen if words[0] == verb]

    def obey_redis(self, words):
        """What a well-behaved Redis server says, as far as tests need it."""
        verb, args = words[0], words[1:]
        if verb == b"GET":
            return bulk(self.store.get(args[0]))
        if verb == b"SET":
            self.store[args[0]] = args[1]
        elif verb == b"MGET":
            return b"*%d\r\n" % len(args) + b"".join(bulk(self.store.get(k)) for k in args)
        elif verb == b"MSET":
            self.store.update(zip(args[::2], args[1::2]))
        elif verb == b"INCR":
            self.store[args[0]] = b"%d" % (int(self.store.get(args[0], b"0")) + 1)
            return b":%s\r\n" % self.store[args[0]]
        elif verb in (b"DEL", b"UNLINK"):
            return b":%d\r\n" % sum(self.store.pop(k, None) is not None for k in args)
        elif verb == b"PING":
            return b"+PONG\r\n"
        elif verb not in (b"AUTH", b"SELECT"):
            return b"-ERR unknown command '%s'\r\n" % verb
        return b"+OK\r\n"

    def obey_memcached(self, words):
        verb, args = words[0], words[1:]
        if verb in (b"get", b"gets"):
            return b"".join(b"VALUE %s 0 %d%s\r\n%s\r\n" %
                            (k, len(self.store[k]), b" 1" if verb == b"gets" else b"",
                             self.store[k])
                            for k in args if k in self.store) + b"END\r\n"
        if verb in STORES:
            self.store[args[0]] = args[-1]
            return None if b"noreply" in args[:-1] else b"STORED\r\n"
        if verb == b"delete":
            return b"DELETED\r\n" if self.store.pop(args[0], None) is not None \
                else b"NOT_FOUND\r\n"
        if verb == b"incr":
            if args[0] not in self.store:
                return b"NOT_FOUND\r\n"
            self.store[args[0]] = b"%d" % (int(self.store[args[0]]) + int(args[1]))
            return self.store[args[0]] + b"\r\n"
        return b"VERSION 1.6.18\r\n" if verb == b"version" else b"ERROR\r\n"


def number_servers(servers, keys, protocol="redis"):
    """Each server answers its own number, two digits, to a get of any of these keys:
    the answer through a proxy tells where it asked."""
    for number, server in enumerate(servers):
        number_server(server, number, keys, protocol)


def number_server(server, number, keys, protocol="redis"):
    with wire((server.host, server.port)) as w:
        if protocol == "redis":
            assert w.ask("MSET", *(x for k in keys for x in (k, b"%02d" % number))) == b"+OK\r\n"
        else:
            w.say(*(b"set %s 0 0 2\r\n%02d\r\n" % (k, number) for k in keys))
            assert all(w.line() == b"STORED\r\n" for _ in keys)
