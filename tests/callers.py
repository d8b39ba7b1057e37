"""Clients with values that prove themselves, who keep a record of all that they asked and were told.

What a value must be is looked at when it comes: it is of the key that was asked for, whole, and of a version that
was written once.  Whether it may be that version is for the judge, when all is over."""
import asyncio
import random
import re
import socket
import struct
import time
import zlib

from nut import SLOW
from resp import HEAD3, Splitter, command

TIMEOUT = 0.5 * min(SLOW, 1.5)  # the pools' patience with a server
SLACK = 1.0 * min(SLOW, 2)      # what this machine may be late
CLIENTS = 50                    # of one pool, at most
LOST, WRONG, LEFT = "connection lost", "no reply to this", "the client left"
ACKED, MAYBE, NEVER = "acknowledged", "may have been applied", "was not applied"
DELETED = 0                     # the version of a key that was deleted: never one of a value

now = time.monotonic
BEGAN = now()                   # what moments are told from

# ---- values that prove themselves

FILLER = random.Random(0).randbytes(1 << 19)


def make_value(key, version, size):
    """key, its version, and bytes that belong to both, as many as `size` asks for, with a checksum."""
    head = b"%s %d %d " % (key, version, size)
    at = zlib.crc32(head) % (len(FILLER) // 2)
    body = head + FILLER[at:at + size]
    return body + b" %08x" % zlib.crc32(body)


def read_value(key, value):
    """The version of a value, or AssertionError: it is none of this key's, or it is damaged."""
    words = bytes(value[:99]).split(b" ", 3)
    assert len(words) == 4 and words[1].isdigit() and words[2].isdigit(), "no value: %r" % value[:99]
    assert words[0] == key, "a value of %r where %r was asked for" % (words[0], key)
    version, size = int(words[1]), int(words[2])
    assert value == make_value(key, version, size), "the value of %r, version %d, is damaged" % (key, version)
    return version


# ---- what is asked

class Op:
    """One request: what it asks and writes, when, and what came of it."""
    __slots__ = ("verb", "keys", "writes", "text", "issued", "ended", "error", "fate", "seen", "count", "unique",
                 "known", "client")

    def __init__(self, verb, keys, text, writes=()):
        self.verb, self.keys, self.text, self.writes = verb, keys, text, writes
        self.issued = self.ended = self.error = self.count = self.unique = self.known = self.client = None
        self.fate, self.seen = None, []

    def __str__(self):
        words = [self.verb] + [k.decode() for k in self.keys] + ["v%d" % v for _, v in self.writes]
        ended = "open" if self.ended is None else "%.3f" % (self.ended - BEGAN)
        found = self.count if self.count is not None else self.seen or ""
        return "%s (%.3f to %s): %s %s" % (" ".join(words), self.issued - BEGAN, ended, self.error or self.fate, found)


class RedisTongue:
    protocol = "redis"
    error = re.compile(rb"-ERR ([A-Z][A-Za-z /]*): the request (was not sent|may have been applied)\r\n")

    def __init__(self, resp3):
        self.resp3 = resp3
        self.null = (b"_\r\n",) if resp3 else (b"$-1\r\n",)

    def splitter(self):
        s = Splitter()
        if self.resp3:
            s.form = HEAD3
        return s

    def greeting(self):
        return [Op("HELLO", [], command("HELLO", "3"))] if self.resp3 else []

    def ops(self, client, rng):
        roll = rng.random()
        if roll < 0.30:
            k = rng.choice(client.keys)
            return [Op("GET", [k], command("GET", k))]
        if roll < 0.55:
            k = rng.choice(client.keys)
            v, value = client.value(k)
            return [Op("SET", [k], command("SET", k, value), [(k, v)])]
        if roll < 0.67:
            ks = rng.sample(client.keys, rng.randint(2, 5))
            return [Op("MGET", ks, command("MGET", *ks))]
        if roll < 0.76:
            ks = rng.sample(client.keys, rng.randint(2, 4))
            pairs = [(k, *client.value(k)) for k in ks]
            return [Op("MSET", ks, command("MSET", *(w for k, _, value in pairs for w in (k, value))),
                       [(k, v) for k, v, _ in pairs])]
        if roll < 0.82:
            ks = rng.sample(client.keys, rng.randint(1, 3))
            return [Op("DEL", ks, command("DEL", *ks), [(k, DELETED) for k in ks])]
        k = rng.choice(client.counters)
        if roll < 0.95:
            return [Op("INCR", [k], command("INCR", k), [(k, 1)])]
        return [Op("COUNT", [k], command("GET", k))]

    def bulk(self, reply):
        """The value of a bulk string, None for a null one."""
        if reply in self.null:
            return None
        assert reply[:1] == b"$", "no value: %r" % reply[:99]
        head, value = reply.split(b"\r\n", 1)
        assert int(head[1:]) == len(value) - 2
        return value[:-2]

    def take(self, op, reply):
        """Note what a reply that is no error tells."""
        verb = op.verb
        if verb in ("GET", "COUNT"):
            value = self.bulk(reply)
            if verb == "GET":
                op.seen.append((op.keys[0], None if value is None else read_value(op.keys[0], value)))
            else:
                op.count = 0 if value is None else int(value)
        elif verb == "MGET":
            head, rest = reply.split(b"\r\n", 1)
            assert head == b"*%d" % len(op.keys), head
            split = self.splitter()
            values = split.feed(rest)
            assert len(values) == len(op.keys) and not split.held
            for k, value in zip(op.keys, values):
                value = self.bulk(value)
                op.seen.append((k, None if value is None else read_value(k, value)))
        elif verb in ("SET", "MSET"):
            assert reply == b"+OK\r\n", reply[:99]
        elif verb == "HELLO":
            assert reply[:1] == b"%", reply[:99]
        else:
            assert reply[:1] == b":" and reply[1:-2].isdigit(), reply[:99]
            op.count = int(reply[1:-2])
            assert verb == "INCR" or op.count <= len(op.keys), "%d of %d keys deleted" % (op.count, len(op.keys))


class LineSplitter:
    """Cuts what memcached says into whole replies: values and what ends them, or a line."""

    def __init__(self):
        self.held, self.at = bytearray(), 0

    def feed(self, data):
        self.held += data
        whole = []
        while True:
            end = self.held.find(b"\r\n", self.at)
            if end < 0:
                return whole
            words = bytes(self.held[self.at:end]).split()
            size = int(words[3]) if words and words[0] == b"VALUE" else \
                int(words[1]) if words and words[0] == b"VA" else None
            end += 2
            if size is not None:
                if len(self.held) < end + size + 2:
                    return whole
                end += size + 2
                assert self.held[end - 2:end] == b"\r\n", "a value is longer or shorter than it was told"
            self.at = end
            if size is None or words[0] == b"VA":
                whole.append(bytes(self.held[:end]))
                del self.held[:end]
                self.at = 0


class MemcachedTongue:
    protocol = "memcached"
    error = re.compile(rb"SERVER_ERROR ([A-Z][A-Za-z /]*): the request (was not sent|may have been applied)\r\n")

    def __init__(self, resp3):
        pass

    def splitter(self):
        return LineSplitter()

    def greeting(self):
        return []

    def ops(self, client, rng):
        roll = rng.random()
        k = rng.choice(client.keys)
        if roll < 0.18:
            return [Op("get", [k], b"get %s\r\n" % k)]
        if roll < 0.28:
            return [Op("gets", [k], b"gets %s\r\n" % k)]
        if roll < 0.34:
            return [Op("mg", [k], b"mg %s v\r\n" % k)]
        if roll < 0.44:
            ks = rng.sample(client.keys, rng.randint(2, 5))
            return [Op("get", ks, b"get %s\r\n" % b" ".join(ks))]
        if roll < 0.62 or (roll < 0.75 and not client.known):
            v, value = client.value(k)
            return [Op("set", [k], b"set %s 0 0 %d\r\n%s\r\n" % (k, len(value), value), [(k, v)])]
        if roll < 0.68:
            v, value = client.value(k)
            return [Op("ms", [k], b"ms %s %d\r\n%s\r\n" % (k, len(value), value), [(k, v)])]
        if roll < 0.75:
            k, gets = client.known.popitem()
            v, value = client.value(k)
            op = Op("cas", [k], b"cas %s 0 0 %d %d\r\n%s\r\n" % (k, len(value), gets.unique, value), [(k, v)])
            op.known = gets
            return [op]
        if roll < 0.80:
            return [Op("delete", [k], b"delete %s\r\n" % k, [(k, DELETED)])]
        k = rng.choice(client.counters)
        if roll < 0.95:
            return [Op("add", [k], b"add %s 0 0 1\r\n0\r\n" % k, [(k, 0)]),
                    Op("incr", [k], b"incr %s 1\r\n" % k, [(k, 1)])]
        return [Op("count", [k], b"get %s\r\n" % k)]

    def values(self, op, reply):
        """The values of a get, by key."""
        found, at = {}, 0
        while not reply.startswith(b"END\r\n", at):
            end = reply.index(b"\r\n", at)
            words = reply[at:end].split()
            assert words[0] == b"VALUE" and words[1] in op.keys and words[1] not in found, reply[at:at + 99]
            found[words[1]] = reply[end + 2:end + 2 + int(words[3])]
            if op.verb == "gets":
                op.unique = int(words[4])
            at = end + int(words[3]) + 4
        assert at + 5 == len(reply)
        assert list(found) == [k for k in op.keys if k in found], "not in the order of the keys"
        return found

    def take(self, op, reply):
        verb = op.verb
        if verb in ("get", "gets"):
            found = self.values(op, reply)
            for k in op.keys:
                op.seen.append((k, read_value(k, found[k]) if k in found else None))
            if verb == "gets":
                op.client.known.pop(op.keys[0], None)
                if op.unique is not None:
                    op.client.known[op.keys[0]] = op
        elif verb == "mg":
            if reply == b"EN\r\n":
                op.seen.append((op.keys[0], None))
            else:
                head, value = reply.split(b"\r\n", 1)
                assert head == b"VA %d" % (len(value) - 2), head
                op.seen.append((op.keys[0], read_value(op.keys[0], value[:-2])))
        elif verb == "count":
            op.count = int(self.values(op, reply).get(op.keys[0], 0))
        elif verb in ("set", "ms"):
            assert reply == (b"STORED\r\n" if verb == "set" else b"HD\r\n"), reply[:99]
        elif verb == "add":
            assert reply in (b"STORED\r\n", b"NOT_STORED\r\n"), reply[:99]
            op.count = 0 if reply == b"STORED\r\n" else None
        elif verb == "cas":
            assert reply in (b"STORED\r\n", b"EXISTS\r\n", b"NOT_FOUND\r\n"), reply[:99]
            if reply != b"STORED\r\n":
                op.fate = NEVER
                op.seen.append((op.keys[0], None if reply == b"NOT_FOUND\r\n" else -1))
        elif verb == "delete":
            assert reply in (b"DELETED\r\n", b"NOT_FOUND\r\n"), reply[:99]
        elif reply == b"NOT_FOUND\r\n":     # incr
            op.fate = NEVER
            op.count = 0
        else:
            assert reply[:-2].isdigit(), reply[:99]
            op.count = int(reply[:-2])


# ---- clients

def keys_of(number):
    return [b"%d:key:%d" % (number, i) for i in range(6)]


def counters_of(number):
    return [b"%d:counter:%d" % (number, i) for i in range(2)]


class Client(asyncio.Protocol):
    """Sends pipelines of random depth, the next one when the last is answered.

    The oldest request that is open has `timeout` from the moment its predecessor was answered, so that is how long
    a client may hear nothing."""

    def __init__(self, tongue, number, where, one_by_one=False, vanishes=False, depths=(1, 1, 1, 2, 4, 8, 16),
                 pause=0.03, big=0.03):
        self.tongue, self.where, self.number = tongue, where, number
        self.one_by_one, self.vanishes, self.depths, self.pause, self.big = one_by_one, vanishes, depths, pause, big
        self.random = random.Random("%s %d" % (tongue.protocol, number))
        self.keys, self.counters = keys_of(number), counters_of(number)
        self.version, self.known = 0, {}
        self.record, self.wrong = [], []
        self.slow = []                      # answers that took too long, or it was the machine: when, how long, what
        self.timed_out = []                 # when somebody was told so, and how long he had waited
        self.waiting, self.heard = [], 0.0
        self.transport, self.splitter, self.closing, self.gone = None, None, False, None

    def value(self, key):
        """The next version, and a value: mostly small, sometimes handed over, sometimes longer than what flows."""
        self.version += 1
        roll = self.random.random()
        size = int(10 ** self.random.uniform(0, 3.5)) if roll > self.big else \
            self.random.randint(8000, 20000) if roll > self.big / 3 else self.random.randint(66000, 180000)
        return self.version, make_value(key, self.version, size)

    async def live(self):
        """Ask until told to close; who is closed comes again."""
        self.closing = False
        while not self.closing:
            self.gone = asyncio.get_running_loop().create_future()
            self.splitter, self.waiting = self.tongue.splitter(), []
            await asyncio.get_running_loop().create_connection(lambda: self, *self.where)
            await self.gone

    def connection_made(self, transport):
        self.transport = transport
        self.ask(self.tongue.greeting())

    def next(self):
        if self.transport is None or self.waiting:
            return
        if self.closing:
            self.transport.close()
            return
        self.ask([op for _ in range(self.random.choice(self.depths)) for op in self.tongue.ops(self, self.random)])

    def later(self):
        asyncio.get_running_loop().call_later(self.random.expovariate(1 / self.pause), self.next)

    def ask(self, ops):
        text, issued = b"".join(op.text for op in ops), now()
        for op in ops:
            op.client, op.issued, op.text = self, issued, None
        self.record += ops
        self.waiting = ops[::-1]
        if not ops:
            self.later()
        elif self.one_by_one:
            self.drip(self.transport, text, 0)
        else:
            self.transport.write(text)
            if self.vanishes and self.random.random() < 0.2:
                asyncio.get_running_loop().call_later(self.random.uniform(0, 0.05), self.vanish, self.transport)

    def vanish(self, transport):
        """Leave in the middle of a write, which must never be read, whatever is open."""
        if transport is not self.transport or self.closing:
            return
        half = next(op.text for op in iter(lambda: self.tongue.ops(self, self.random)[0], None) if op.writes)
        transport.write(half[:self.random.randint(1, len(half) - 1)])
        if self.random.random() < 0.5:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end(LEFT)
        self.transport = None
        transport.abort()

    def end(self, error):
        """Nothing more is heard of what is open: it may have been applied."""
        for op in self.waiting:
            op.ended, op.error, op.fate = now(), error, MAYBE
        self.waiting = []

    def drip(self, transport, text, at):
        """One byte at a time; the proxy's patience begins with the last."""
        if transport is not self.transport:
            return
        transport.write(text[at:at + 1])
        self.heard = now()
        if at + 1 < len(text):
            asyncio.get_running_loop().call_soon(self.drip, transport, text, at + 1)

    def waited(self):
        return now() - max(self.waiting[-1].issued, self.heard)

    def look(self, excused):
        """Called now and then: silence is told when it lasts, not when it ends.  `excused` tells how long of it was
        the machine's."""
        if self.waiting and self.waited() - excused(now(), self.waited()) > TIMEOUT + SLACK:
            self.wrong.append("silence for %.3f s: %s" % (self.waited(), self.waiting[-1]))
            self.transport.abort()

    def data_received(self, data):
        try:
            for reply in self.splitter.feed(data):
                self.answered(reply)
        except Exception as e:              # nothing behind it can be understood
            self.wrong.append("%r instead of a reply to %s" % (e, self.waiting[-1] if self.waiting else "nothing"))
            self.transport.abort()
            return
        if not self.waiting:
            if self.splitter.held:
                self.wrong.append("more than was asked for: %r" % bytes(self.splitter.held[:99]))
            self.later()

    def answered(self, reply):
        assert self.waiting, "a reply to nothing: %r" % reply[:99]
        waited, op = self.waited(), self.waiting.pop()
        op.ended = self.heard = now()
        if waited > TIMEOUT + SLACK:
            self.slow.append((op.ended, waited, op))
        error = self.tongue.error.fullmatch(reply)
        if error:
            op.error = error[1].decode()
            op.fate = NEVER if error[2] == b"was not sent" else MAYBE
            if op.error == "Connection timed out" and waited > TIMEOUT / 2:     # not behind another of them
                self.timed_out.append((op.ended, waited))
            return
        op.fate = ACKED
        try:
            self.tongue.take(op, reply)
        except Exception as e:
            self.wrong.append("%r is no reply to %s: %r" % (reply[:99], op, e))
            op.error, op.fate = WRONG, MAYBE

    def connection_lost(self, error):
        left, self.transport = self.transport is None, None
        if self.waiting:
            # Half of a long reply was passed on when its server failed: there is no other reason to close.
            if not self.splitter.held:
                self.wrong.append("closed instead of answered (%r): %s" % (error, self.waiting[-1]))
            self.waiting[-1].count = len(self.splitter.held)
            self.end(LOST)
        elif not self.closing and not left:
            self.wrong.append("closed (%r), and nothing was under way" % error)
        self.gone.set_result(None)
