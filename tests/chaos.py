"""Servers behind relays, and what befalls them: faults drawn from a seed, each with its record."""
import os
import random
import subprocess
import threading
import time

import nut
from callers import BEGAN, CLIENTS, MemcachedTongue, RedisTongue, TIMEOUT, counters_of, keys_of, now
from judge import Fault
from nut import SLOW, dial, free_port

NAMES = ["one", "two", "three", "four"]
BREAKS = {"Connection closed by server", "Connection reset by peer", "Broken pipe"}
REFUSED, LATE, NONSENSE = {"Connection refused"}, {"Connection timed out"}, {"Invalid argument"}


class Relays:
    """The process with the relays of some servers."""

    def __init__(self, stage, servers):
        self.ports = [free_port() for _ in servers]
        address = ("127.0.0.1", free_port())
        argv = ["/usr/bin/python3", os.path.join(nut.TOP, "tests", "relay.py"), str(address[1])]
        argv += ["%d:%d" % (port, s.port) for port, s in zip(self.ports, servers)]
        self.process = stage.process(argv, address, "relays")
        self.lock, self.link = threading.Lock(), dial(address, 20 * SLOW)

    def set(self, number, *words):
        with self.lock:
            self.link.sendall(("%d %s\n" % (number, " ".join(map(str, words)))).encode())
            assert self.link.recv(100) == b"ok\n", self.process.said()


class Farm:
    """Four servers of one pool, and the record of what was done to them."""

    def __init__(self, tongue, servers, relays=None, first=0, seed=""):
        self.tongue, self.servers, self.relays, self.first = tongue, servers, relays, first
        self.random = random.Random(seed)
        self.faults, self.kills, self.bag, self.busy = [], [[] for _ in servers], [], set()
        self.lock = threading.Lock()

    def lines(self):
        """The server lines of the pool."""
        if self.relays is None:
            return ["127.0.0.1:%d:1 %s" % (s.port, name) for s, name in zip(self.servers, NAMES)]
        return ["127.0.0.1:%d:1 %s" % (self.relays.ports[self.first + i], NAMES[i]) for i in range(len(self.servers))]

    def relay(self, number, *words):
        self.relays.set(self.first + number, *words)

    # -- what can befall a server: each is a function that does it, and the errors that it explains

    def end(self, number):
        begin = now()
        self.servers[number].kill()
        self.kills[number].append((begin, now()))

    def killed(self, number):
        """Killed, and started again at once, empty."""
        self.end(number)
        self.servers[number].start()

    def dead(self, number):
        """Killed, and its machine with it; after a while it is back, empty."""
        self.end(number)
        self.relay(number, "refuse")
        time.sleep(self.random.uniform(0.2, 0.8))
        self.servers[number].start()
        self.relay(number, "pass")

    def stopped(self, number):
        self.stand(number, self.random.uniform(1.2, 2.5) * TIMEOUT)

    def stumbles(self, number):
        self.stand(number, self.random.uniform(0.1, 0.6) * TIMEOUT)

    def stand(self, number, seconds):
        self.servers[number].pause()
        time.sleep(seconds)
        self.servers[number].resume()

    def breaks(self, number, how):
        for _ in range(self.random.randint(1, 6)):
            self.relay(number, how)
            time.sleep(self.random.uniform(0.01, 0.1))

    def mode(self, number, seconds, *words):
        self.relay(number, *words)
        time.sleep(seconds)
        self.relay(number, "pass")

    def swallows(self, number):
        """Requests arrive, replies do not; then they come, or the connections are reset."""
        self.relay(number, "swallow")
        time.sleep(self.random.uniform(0.2, 2.5) * TIMEOUT)
        if self.random.random() < 0.6:
            self.relay(number, "reset")
        self.relay(number, "pass")

    def throttled(self, number):
        self.mode(number, self.random.uniform(0.4, 1.2), "throttle", self.random.choice((300, 3000, 30000)))

    def in_pieces(self, number):
        self.mode(number, self.random.uniform(0.3, 0.8), "pieces")

    def stalled(self, number):
        self.mode(number, self.random.uniform(0.5, 2.5) * TIMEOUT, "stall")

    def closes(self, number):
        self.breaks(number, "close")

    def resets(self, number):
        self.breaks(number, "reset")

    def half(self, number):
        self.mode(number, self.random.uniform(0.05, 0.3), "half")

    def garbage(self, number):
        self.mode(number, self.random.uniform(0.05, 0.3), "garbage")

    def refuses(self, number):
        self.mode(number, self.random.uniform(0.1, 0.8), "refuse")

    KINDS = {killed: BREAKS | REFUSED | LATE, dead: BREAKS | REFUSED | LATE, stopped: LATE, stumbles: LATE,
             throttled: LATE, in_pieces: LATE, stalled: LATE, swallows: LATE | BREAKS, closes: BREAKS, resets: BREAKS,
             half: BREAKS, garbage: NONSENSE, refuses: BREAKS | REFUSED}

    def draw(self):
        """The next fault, and a server that has none: all kinds come before one comes again."""
        with self.lock:
            if not self.bag:
                self.bag = list(self.KINDS)
                self.random.shuffle(self.bag)
            number = self.random.choice([n for n in range(len(self.servers)) if n not in self.busy])
            self.busy.add(number)
            return self.bag.pop(), number

    def trouble(self, until, failed):
        """Do one after the other, on one server at a time, until then."""
        try:
            while now() < until:
                act, number = self.draw()
                begin = now()
                act(self, number)
                with self.lock:
                    self.faults.append(Fault(number, act.__name__, begin, now(), self.KINDS[act]))
                    self.busy.discard(number)
                time.sleep(self.random.uniform(0.02, 0.2))
        except Exception as e:
            failed.append("%s: %r" % (self.tongue.protocol, e))

    def told(self):
        return "\n".join("    %s %s: %s, %.3f to %.3f" % (
            self.tongue.protocol, NAMES[f.server], f.name, f.begin - BEGAN, f.end - BEGAN) for f in self.faults)


def farms(stage, seed):
    """Four redis-servers and four memcacheds, behind relays."""
    redis, memcached = [stage.redis() for _ in NAMES], [stage.memcached() for _ in NAMES]
    relays = Relays(stage, redis + memcached)
    return [Farm(RedisTongue, redis, relays, 0, "%s redis" % seed),
            Farm(MemcachedTongue, memcached, relays, len(redis), "%s memcached" % seed)]


def routes(proxy, pool, names, ejects, cache={}):
    """For each set of servers that may be out, by number, where each key of all clients goes."""
    keys = [k for number in range(CLIENTS) for k in keys_of(number) + counters_of(number)]
    for bits in range((1 << len(names)) - 1 if ejects else 1):
        out = frozenset(i for i in range(len(names)) if bits >> i & 1)
        if (len(names), out) in cache:
            continue
        downs = [w for i in sorted(out) for w in ("--down", names[i])]
        told = subprocess.run([nut.NUTPROXY, "route", "-c", proxy.conf, *downs, pool], input=b"\n".join(keys) + b"\n",
                              capture_output=True, check=True, timeout=60 * SLOW).stdout
        rows = [line.split(b"\t") for line in told.splitlines()]
        cache[len(names), out] = {row[0]: names.index(row[2].decode()) for row in rows}
        assert set(cache[len(names), out]) == set(keys)
    return {out: homes for (count, out), homes in cache.items() if count == len(names)}


def tracks(farms, seconds, each, failed):
    """Threads that trouble the farms for so long, `each` on every one of them."""
    threads = [threading.Thread(target=farm.trouble, args=(now() + seconds, failed), daemon=True)
               for farm in farms for _ in range(each)]
    for t in threads:
        t.start()
    return threads
