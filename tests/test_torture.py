"""Real traffic through a build whose every 23rd request for memory is denied.

Every answer must be the right one, or an error that says what is missing, or the end of the
connection; nothing may hang, reach another client, or be lost after it was acknowledged; and all
memory must have come back at the end."""
import random
import threading

from fake import Gone, wire
from nut import pool, wait_for
from resp import command

CLIENTS, ROUNDS = 12, 500


def value_of(key, size):
    return (key * (size // len(key) + 1))[:size]


class Caller(threading.Thread):
    """Asks again and again over connections of its own, and checks what comes."""

    def __init__(self, number, address):
        super().__init__(daemon=True)
        self.random, self.address, self.number = random.Random(number), address, number
        self.right = self.errors = self.ends = 0
        self.wrong = []
        self.link = None

    def run(self):
        try:
            for _ in range(ROUNDS):
                self.once()
        except Exception as e:              # an assertion of the wire: silence, or nonsense
            self.wrong.append(repr(e)[:300])
        if self.link is not None:
            self.link.close()

    def once(self):
        try:
            if self.link is None:
                self.link = wire(self.address)
            self.round(self.link)
        except (Gone, ConnectionError):
            self.ends += 1
            self.link = None

    def judge(self, what, got, wanted, error):
        if got == wanted:
            self.right += 1
        elif got.startswith(error):
            self.errors += 1
        else:
            self.wrong.append("%r: %r" % (what, got[:200]))


class RedisCaller(Caller):
    def round(self, link):
        size = self.random.choice([0, 1, 100, 3000, 9000, 70000])
        keys = [b"%d:%d:%d" % (self.number, size, i) for i in range(6)]
        values = [value_of(k, size) for k in keys]
        mset = [w for pair in zip(keys, values) for w in pair]
        link.say(command("MSET", *mset), command("MGET", *keys), command("GET", keys[0]), command("EXISTS", *keys),
                 command("PING"))
        stored = link.frame()
        self.judge("MSET", stored, b"+OK\r\n", b"-ERR ")
        known = stored == b"+OK\r\n"
        wanted = b"*6\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(v), v) for v in values)
        got = link.frame()
        if known:
            self.judge("MGET", got, wanted, b"-ERR ")
        got = link.frame()
        if known:
            self.judge("GET", got, b"$%d\r\n%s\r\n" % (size, values[0]), b"-ERR ")
        got = link.frame()
        if known:
            self.judge("EXISTS", got, b":6\r\n", b"-ERR ")
        self.judge("PING", link.frame(), b"+PONG\r\n", b"-ERR ")


class TodayCaller(Caller):
    """What clients begin with, what all servers are asked, and both protocols in turn."""

    def round(self, link):
        three = self.random.choice([True, False])
        key, name = b"today:%d" % self.number, b"caller-%d" % self.number
        asked = [((b"HELLO", b"3" if three else b"2", b"SETNAME", name), b"%7\r\n" if three else b"*14\r\n"),
                 ((b"CLIENT", b"GETNAME"), b"$%d\r\n%s\r\n" % (len(name), name)),
                 ((b"DBSIZE",), b":"), ((b"SCAN", b"0"), b"*2\r\n$"), ((b"KEYS", b"none*"), b"*0\r\n"),
                 ((b"SCRIPT", b"EXISTS", b"f" * 40), b"*1\r\n:0\r\n"), ((b"TIME",), b"*2\r\n$10"),
                 ((b"COMMAND", b"COUNT"), b":"), ((b"RANDOMKEY",), (b"$", b"_"))]
        for words, wanted in asked:
            link.say(command(*words))
            got = link.frame()
            self.judge(words, wanted if got.startswith(wanted) else got, wanted, b"-ERR ")
            if words[0] == b"HELLO" and got.startswith(b"-"):
                return                      # and it is not known which protocol is spoken
            if words[0] == b"HELLO":
                link.say(command(b"HSET", key, b"f", b"v"), command(b"HGETALL", key), command(b"MGET", key + b"1", key + b"2"))
                if not link.frame().startswith(b"-"):
                    self.judge("HGETALL", link.frame(), b"%s$1\r\nf\r\n$1\r\nv\r\n" % (b"%1\r\n" if three else b"*2\r\n"),
                               b"-ERR ")
                else:
                    link.frame()
                null = b"_\r\n" if three else b"$-1\r\n"
                self.judge("MGET", link.frame(), b"*2\r\n" + 2 * null, b"-ERR ")


class MemcachedCaller(Caller):
    def round(self, link):
        size = self.random.choice([0, 1, 100, 3000, 9000, 70000])
        keys = [b"%d:%d:%d" % (self.number, size, i) for i in range(4)]
        values = [value_of(k, size) for k in keys]
        link.say(*(b"set %s 0 0 %d\r\n%s\r\n" % (k, size, v) for k, v in zip(keys, values)))
        stored = [link.line() for _ in keys]
        for got in stored:
            self.judge("set", got, b"STORED\r\n", b"SERVER_ERROR ")
        link.say(b"get %s\r\n" % b" ".join(keys))
        got, line = b"", b""
        while line != b"END\r\n" and not line.startswith(b"SERVER_ERROR "):
            line = link.line()
            got += line
            if line.startswith(b"VALUE "):
                got += link.exactly(size + 2)
        wanted = b"".join(b"VALUE %s 0 %d\r\n%s\r\n" % (k, size, v) for k, v in zip(keys, values)) + b"END\r\n"
        if stored == [b"STORED\r\n"] * 4:
            self.judge("get", got, wanted, b"SERVER_ERROR ")


class MetaCaller(Caller):
    """Quiet meta commands, which are told by what does not come, and stats. As MN may be an error, too, what
    ends a round is the end of the connection."""

    def round(self, link):
        size = self.random.choice([0, 1, 100, 9000, 70000])
        key, number = b"meta:%d:%d" % (self.number, size), b"meta:n:%d" % self.number
        value = value_of(key, size)
        link.say(b"ms %s %d q\r\n%s\r\n" % (key, size, value), b"mg %s v q O1\r\n" % key, b"mg none q k\r\n",
                 b"ms %s 1 q\r\n5\r\n" % number, b"ma %s q\r\n" % number, b"mn\r\n", b"stats\r\n", b"quit\r\n")
        said = []
        try:
            while True:
                said.append(link.line())
                if said[-1].startswith(b"VA "):
                    said[-1] += link.exactly(size + 2)
        except Gone:
            link.close()
            self.link = None
        errors = [s for s in said if s.startswith(b"SERVER_ERROR ")]
        self.errors += len(errors)
        stats = [s for s in said if s.startswith(b"STAT ")]
        rest = [s for s in said if s not in errors + stats]
        wanted = [b"VA %d O1\r\n%s\r\n" % (size, value), b"MN\r\n", b"END\r\n"]
        if not errors and said[-1:] == wanted[-1:]:
            self.judge("meta", b"".join(rest), b"".join(wanted), b"SERVER_ERROR ")
            self.judge("stats", stats[-2], b"STAT nutproxy_servers 4\r\n", b"SERVER_ERROR ")
        elif [s for s in rest if s not in wanted + [b"NF\r\n"]] or sorted(rest, key=lambda s: b"VNME".find(s[:1])) != rest:
            self.wrong.append("meta: %r" % [s[:99] for s in said])
        else:
            self.ends += 1


def torture(stage, servers, protocol, kind):
    proxy = stage.nutproxy({"alpha": pool(servers, protocol=protocol, hash="md5")})
    callers = [kind(n, proxy.where("alpha")) for n in range(CLIENTS)]
    for c in callers:
        c.start()
    for c in callers:
        c.join(240)
        assert not c.is_alive(), "a client hangs"
    wrong = [w for c in callers for w in c.wrong]
    assert not wrong, "\n".join(wrong[:10])
    assert sum(c.right for c in callers) > CLIENTS * ROUNDS / 4
    assert sum(c.errors + c.ends for c in callers) > CLIENTS, "memory was never denied: this proves nothing"
    wait_for("all clients to be forgotten",
             lambda: proxy.stats()["alpha"]["client_connections"] == 0)
    assert proxy.stop() == 0, proxy.said()[-3000:]
    assert "not given back" not in proxy.said()


def test_redis_traffic_is_right_or_refused_without_memory(stage):
    torture(stage, [stage.redis() for _ in range(4)], "redis", RedisCaller)


def test_memcached_traffic_is_right_or_refused_without_memory(stage):
    torture(stage, [stage.memcached() for _ in range(4)], "memcached", MemcachedCaller)


def test_meta_commands_and_stats_are_right_or_refused_without_memory(stage):
    torture(stage, [stage.memcached() for _ in range(4)], "memcached", MetaCaller)


def test_what_clients_of_today_ask_is_right_or_refused_without_memory(stage):
    torture(stage, [stage.redis() for _ in range(3)], "redis", TodayCaller)
