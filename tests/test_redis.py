"""Redis pools: four redis-servers behind nutproxy, and a fifth beside it that gets
the same commands directly.  What the fifth answers is what the proxy must answer.

What is sent stands in the tables of redis_rows.py.
"""
import asyncio
import contextlib
import itertools
import os
import random
import re
import select
import shlex
import socket
import struct
import threading

import pytest

from nut import NUTCRACKER, SLOW, Stage, can_connect, free_port, pool, wait_for
from redis_rows import (BAD_COUNTS, BROKEN, ELSEWHERE_TESTED, ENDLESS, HERE, INLINE, LIBRARY, NO_KEYS,
                        REFUSED, SCRIPT, SERVED, SETTING, SHA, SLOPPY, SUBCOMMANDS_ELSEWHERE, TOGETHER, rows)
from resp import Resp, array, brief, bulk, command, pieces, word

MIB = 1 << 20
OK = b"+OK\r\n"
NIL = b"$-1\r\n"
PATIENT = {"timeout": "60s"}        # what is measured here is right or wrong, not fast


def address(server):
    return (server.host, server.port)


def texts(reply):
    """The values in a flat array of bulk strings."""
    out, at = [], reply.index(b"\r\n") + 2
    while at < len(reply):
        end = reply.index(b"\r\n", at)
        size = int(reply[at + 1:end])
        out.append(reply[end + 2:end + 2 + size])
        at = end + 2 + size + 2
    return out


def same(commands, got, want):
    """Fail with the first rows whose replies differ."""
    assert len(got) == len(want) == len(commands)
    differ = ["%d. %s\n      proxy:  %s\n      server: %s" %
              (i, brief(b" ".join(map(word, c))), brief(g), brief(w))
              for i, (c, g, w) in enumerate(zip(commands, got, want)) if g != w]
    assert not differ, "%d of %d replies differ:\n%s" % (len(differ), len(commands), "\n".join(differ[:8]))


def listed(wrong):
    """Rows of (bytes sent, answers of the proxy, answers of the server)."""
    return "".join("\n%s\n      proxy:  %s\n      server: %s" %
                   (brief(raw), [brief(g) for g in got], [brief(w) for w in want])
                   for raw, got, want in wrong)


def keys_of(kind, n):
    """Names that spread: FNV hardly mixes the last bytes of a key."""
    return [b"%d:%s:key" % (i, kind.encode()) for i in range(n)]


def payload(size, seed=0):
    """Bytes of all values, of which no part looks like another."""
    return random.Random("%d %d" % (size, seed)).randbytes(size)


def of_servers(proxy, name, *fields):
    """The sum of these counters over the servers of a pool."""
    return sum(server[field] for server in proxy.stats()[name].values() if isinstance(server, dict)
               for field in fields)


def trouble(proxy, name):
    """How often a connection to a server was lost, for whatever reason."""
    return of_servers(proxy, name, "server_eof", "server_err", "server_timedout")


class House:
    """Four servers behind the proxy, one alone, and open connections to all five."""

    def __init__(self, stage):
        self.servers = [stage.redis() for _ in range(4)]
        self.alone = stage.redis()
        self.proxy = stage.nutproxy({
            "alpha": pool(self.servers, hash_tag="{}", **PATIENT),
            "four": pool(self.servers, hash_tag="{}", server_connections=4, **PATIENT)})
        self.direct = [Resp(address(s)) for s in self.servers]
        self.one = Resp(address(self.alone))
        self.one3 = Resp(address(self.alone), resp3=True)
        self.tags = self.find_tags()
        for d in self.direct + [self.one]:
            assert d.ask("FUNCTION", "LOAD", LIBRARY) == bulk("tests")
            assert d.ask("SCRIPT", "LOAD", SCRIPT) == bulk(SHA)

    def client(self, name="alpha", **kw):
        return Resp(self.proxy.where(name), **kw)

    def find_tags(self):
        """A hash tag for each server."""
        found = {}
        with self.client() as c:
            for i in range(200):
                tag = "%d-tag" % i
                assert c.ask("SET", "{%s}" % tag, "x") == OK
                found.setdefault(self.homes("{%s}" % tag)[0], tag)
        assert len(found) == 4, "200 keys reached the servers %s only" % sorted(found)
        return [found[i] for i in range(4)]

    def words(self, line, tags=None):
        """A row of a table as words; `tags` are those for {A} {B} {C} {D}."""
        where = dict(zip("ABCD", tags or self.tags))
        line = re.sub(r"\{([ABCD])\}", lambda m: "{%s}" % where[m[1]], line)
        return [w.encode("latin-1") for w in shlex.split(line)]

    def homes(self, key):
        """The servers that hold this key."""
        return [i for i, d in enumerate(self.direct) if d.ask("EXISTS", key) == b":1\r\n"]

    def flush(self):
        for d in self.direct + [self.one]:
            assert d.ask("FLUSHALL") == OK

    def both(self, commands, client, sizes=None):
        """The same pipeline through the proxy and to the lone server."""
        same(commands, client.pipeline(commands, sizes), self.one.pipeline(commands))

    def holds_the_same(self):
        """Each key stands on one server, with the value that the lone server has."""
        want = sorted(texts(self.one.ask("KEYS", "*")))
        by_server = [texts(d.ask("KEYS", "*")) for d in self.direct]
        got = sorted(itertools.chain(*by_server))
        assert got == want, "lost: %s, too much or twice: %s" % (
            sorted(set(want) - set(got))[:5],
            [k for k in sorted(set(got)) if got.count(k) > want.count(k)][:5])
        digest = {k: d for d, keys in zip(self.direct, by_server) for k, d in
                  zip(keys, d.pipeline([("DEBUG", "DIGEST-VALUE", k) for k in keys]))}
        commands = [("DEBUG", "DIGEST-VALUE", k) for k in want]
        same(commands, [digest[k] for k in want], self.one.pipeline(commands))

    def arities(self):
        """The commands of the server and how many words each takes."""
        found = {}
        for name in texts(self.one.ask("COMMAND", "LIST")):
            reply = self.one.ask("COMMAND", "INFO", name)
            if b"|" not in name:                                  # no subcommand
                found[name.decode()] = int(re.match(
                    rb"\*1\r\n\*\d+\r\n\$\d+\r\n\S+\r\n:(-?\d+)", reply)[1])
        return found

    def state(self):
        """All data of the four servers, as one comparable thing."""
        return [d.ask("DEBUG", "DIGEST") for d in self.direct]

    def server_trouble(self):
        return trouble(self.proxy, "alpha") + trouble(self.proxy, "four")


class Traffic(threading.Thread):
    """Another client, which goes on reading and writing on all servers and believes
    nothing; leaving the `with` fails if anything was ever not as it must be."""

    def __init__(self, where, tags, name="traffic"):
        super().__init__(daemon=True)
        self.where, self.tags, self.tag = where, tags, name
        self.rounds, self.wrong, self.ended = 0, None, threading.Event()

    def run(self):
        try:
            with Resp(self.where) as c:
                while not self.ended.is_set():
                    self.round(c)
                    self.rounds += 1
        except Exception as e:                                    # told by __exit__
            self.wrong = e

    def round(self, c):
        keys = ["{%s}%s" % (t, self.tag) for t in self.tags]
        values = ["%s in round %d" % (k, self.rounds) for k in keys]
        commands = ([("SET", k, v) for k, v in zip(keys, values)] + [("MGET", *keys), ("ECHO", values[0])] +
                    [("GET", k) for k in keys] + [("EXISTS", *keys)])
        want = [OK] * 4 + [array(*map(bulk, values)), bulk(values[0])] + list(map(bulk, values)) + [b":4\r\n"]
        same(commands, c.pipeline(commands), want)

    def further(self, rounds, seconds=30):
        """Wait until it has gone on for so many rounds."""
        goal = self.rounds + rounds
        wait_for("other traffic to go on", lambda: self.wrong or self.rounds >= goal, seconds)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *exc):
        self.ended.set()
        self.join(60 * SLOW)
        if kind is None:
            assert self.wrong is None, "other traffic was disturbed: %s" % self.wrong
            assert not self.is_alive() and self.rounds > 0


# ------------------------------------------------------------- the data commands

@pytest.mark.parametrize("resp3", (False, True), ids=("RESP2", "RESP3"))
@pytest.mark.parametrize("family", SERVED)
def test_every_data_command_answers_as_one_server_does(house, family, resp3):
    house.flush()
    lines = rows(SERVED[family])
    commands = [house.words(line.lstrip("~")) for line in lines]
    one = house.one3 if resp3 else house.one
    with house.client(resp3=resp3) as c:
        got = [c.ask(*w) for w in commands]
        want = [one.ask(*w) for w in commands]
        for i, line in enumerate(lines):
            if line.startswith("~"):
                got[i], want[i] = got[i][:1], want[i][:1]
        same(commands, got, want)
        assert sum(w.startswith(b"-") for w in want) < len(want) / 2, "the table is of no use"
        c.in_step()
    house.holds_the_same()
    for tag in house.tags[1:]:                  # once more, in one pipeline, on the other servers
        house.flush()
        commands = [house.words(line, [tag] + house.tags[1:]) for line in lines if line[0] != "~"]
        with house.client(resp3=resp3) as c:
            same(commands, c.pipeline(commands), one.pipeline(commands))
            c.in_step()
        house.holds_the_same()


def test_the_tables_of_this_file_name_every_command_of_the_server(house):
    names = {n.decode() for n in texts(house.one.ask("COMMAND", "LIST")) if b"|" not in n}
    served = {line.lstrip("~").split()[0].lower() for t in SERVED.values() for line in rows(t)}
    if b"redis_version:7.0" not in house.one.ask("INFO", "server"):
        pytest.skip("the tables are those of Redis 7.0")
    assert (served | HERE | ELSEWHERE_TESTED | REFUSED) == names
    assert not served & REFUSED


def test_the_tables_name_every_subcommand_that_is_served(house):
    told = set()
    with house.client() as c:
        for word in set(re.findall(rb"\$\d+\r\n([a-z-]+\|[a-z-]+)\r\n", c.ask("COMMAND"))):
            told.add(word.decode())
    asked = {"|".join(line.lstrip("~").lower().split()[:2]) for t in SERVED.values() for line in rows(t)}
    assert len(told) > 40 and told == (told & asked) | SUBCOMMANDS_ELSEWHERE, told ^ SUBCOMMANDS_ELSEWHERE - asked


def test_a_dumped_value_can_be_restored(house):
    with house.client() as c:
        for key, make in (("{A}s", "SET {A}s value"), ("{B}h", "HSET {B}h f v"), ("{C}l", "RPUSH {C}l 1 2")):
            house.both([house.words(make)], c)
            key = house.words(key)[0]
            dump = texts(b"*1\r\n" + house.one.ask("DUMP", key))[0]
            house.both([("DUMP", key), ("RESTORE", key, 0, dump), ("RESTORE", key, 0, dump, "REPLACE"),
                        ("RESTORE", key, 0, dump[:-1] + b"x", "REPLACE")], c)
        c.in_step()
    house.holds_the_same()


def test_names_of_commands_are_told_in_any_case_and_always_with_their_arity(house):
    """Every command that is served, with no argument where it needs some and with one
    too many where that is one."""
    commands = []
    for name, arity in sorted(house.arities().items()):
        if name in REFUSED | HERE:
            continue
        mixed = "".join(ch.upper() if i % 2 else ch for i, ch in enumerate(name))
        if abs(arity) > 1:
            commands += [(name,), (mixed,)]
            commands.append((name.upper(), *["x"] * (abs(arity) - 2)))
        if arity > 0:
            commands.append((mixed, *["x"] * arity))
    assert len(commands) > 400
    with house.client() as c:
        house.both(commands, c)
        c.in_step()
    house.holds_the_same()


# ------------------------------------- keys at unusual places, and on two servers

def test_keys_at_unusual_places_are_found_when_one_server_has_them_all(house):
    for tag in house.tags:                      # no server is the right one by luck
        house.flush()
        with house.client() as c:
            for line in rows(SETTING) + rows(TOGETHER):
                house.both([house.words(line, [tag, tag])], c)
            c.in_step()
        house.holds_the_same()


def test_words_that_look_like_keys_do_not_matter(house):
    for tags in itertools.permutations(house.tags):
        house.flush()
        with house.client() as c:
            commands = [house.words(line, tags) for line in rows(SETTING) + rows(NO_KEYS)]
            house.both(commands, c)
            c.in_step()
        house.holds_the_same()


def test_keys_on_two_servers_are_refused_and_nothing_is_done(house):
    with house.client() as c:
        for tag in house.tags:
            c.pipeline([house.words(line, [tag]) for line in rows(SETTING)])
        before = house.state()
        for tags in itertools.permutations(house.tags, 2):
            commands = [house.words(line, tags) for line in rows(TOGETHER)]
            got = c.pipeline(commands)
            wrong = [(line, brief(g)) for line, g in zip(rows(TOGETHER), got)
                     if not re.fullmatch(rb"-CROSSSLOT .+\r\n", g)]
            assert not wrong, wrong
            c.in_step()
        assert house.state() == before


def test_numbers_of_keys_that_are_no_numbers_are_errors(house):
    """Where the server says an error the proxy says one, and is in step after it."""
    with house.client() as c:
        house.both([house.words(line) for line in rows(SETTING)], c)
        for line in rows(BAD_COUNTS):
            want, got = house.one.ask(*house.words(line)), c.ask(*house.words(line))
            assert want[:1] == got[:1] == b"-", "%s: %s" % (line, brief(got))
            c.in_step()
    house.holds_the_same()


def test_a_script_without_keys_always_goes_to_the_same_server(house):
    with house.client() as c, house.client() as other:
        incr = ("EVAL", "return redis.call('INCR', 'counter')", 0)
        assert c.pipeline([incr] * 20) == [b":%d\r\n" % i for i in range(1, 21)]
        assert other.ask(*incr) == b":21\r\n"
        assert c.ask("FCALL", "put", 0).startswith(b"-")
        c.in_step()


# --------------------------------------------------------------- split commands

def test_split_commands_answer_as_one_server_does(house):
    """Duplicates, missing keys and other types among the keys of all servers."""
    rng = random.Random(2)
    keys = keys_of("split", 60)
    with house.client() as c:
        for turn in range(40):
            pick = lambda most: [rng.choice(keys) for _ in range(rng.randrange(1, most))]  # noqa: E731
            house.both([
                ("MSET", *itertools.chain(*((k, b"%s in turn %d" % (k, i)) for i, k in enumerate(pick(12))))),
                ("HSET", "h%d" % turn, "f", "v"),
                ("MGET", *pick(20)),
                ("MGET", *pick(5), "h%d" % turn, "none", *pick(5)),
                ("EXISTS", *pick(20), "h%d" % turn, "h%d" % turn),
                ("TOUCH", *pick(20)),
                ("DEL", *pick(3)),
                ("UNLINK", *pick(3), "none"),
                ("MGET", *keys),
            ], c)
        house.both([(name, rng.choice(keys)) for name in ("MGET", "EXISTS", "TOUCH", "DEL", "UNLINK")
                    for _ in range(5)] + [("MSET", k, "alone") for k in keys[:5]], c)
        house.both([("MSET", "k1", 1, "k1", 2, "k2", 3, "k1", 4), ("MGET", "k1", "k1", "k2")], c)
        for many in (keys, keys[:7]):
            house.both([("DEL", *many, *many), ("EXISTS", *many)], c)
        c.in_step()
    house.holds_the_same()


def test_a_pair_without_its_value_sets_nothing(house):
    with house.client() as c:
        house.both([("MSET", "a", 1, "b"), ("MSET", "a"), ("MSET",), ("MSET", "a", 1, "b", 2, "c"),
                    ("MGET",), ("DEL",), ("EXISTS",), ("MSETNX", "{x}a", 1, "{x}b"),
                    ("EXISTS", "a", "b", "c")], c)
        c.in_step()
    house.holds_the_same()


def test_split_commands_of_ten_thousand_keys(house):
    keys = [k + b"x" * (i % 30) for i, k in enumerate(keys_of("many", 10000))]
    pairs = list(itertools.chain(*((k, b"value of " + k) for k in keys)))
    with house.client() as c:
        before = of_servers(house.proxy, "alpha", "requests")
        house.both([("MSET", *pairs), ("MGET", *keys)], c)
        asked = of_servers(house.proxy, "alpha", "requests") - before
        assert asked == 8, "2 commands on 4 servers became %d requests" % asked
        house.both([("MGET", *keys), ("EXISTS", *keys), ("TOUCH", *keys[::3], *keys[::2]),
                    ("MGET", *reversed(keys), *keys[:5])], c)
        house.holds_the_same()
        for d in house.direct:
            assert int(d.ask("DBSIZE")[1:]) > 500, "keys are not spread"
        # The same keys one by one are where the split command put them.
        house.both([("GET", k) for k in keys[::7]], c, pieces(random.Random(4)))
        house.both([("DEL", *keys[::2], *keys[::4]), ("UNLINK", *keys[1::3], "none"), ("MGET", *keys)], c)
        c.in_step()
    house.holds_the_same()


def test_an_error_of_one_part_is_passed_on_with_its_text(house):
    keys = house.words("{A}k {B}k {C}k {D}k")
    commands = [("MSET", *itertools.chain(*((k, "v") for k in keys))), ("MGET", *keys), ("EXISTS", *keys),
                ("TOUCH", *keys), ("UNLINK", *keys), ("DEL", *keys)]
    for denied in range(4):
        server = house.direct[denied]
        assert server.ask("ACL", "SETUSER", "default", *("-" + c[0].lower() for c in commands)) == OK
        try:
            with house.client() as c:
                between = list(itertools.chain(*((w, ("GET", "x"), ("PING",)) for w in commands)))
                got = c.pipeline(between)
                for w, reply in zip(commands, got[::3]):
                    assert re.match(rb"-NOPERM .*'%s'" % w[0].lower().encode(), reply), (denied, w[0], reply)
                assert got[1::3] == [NIL] * 6 and got[2::3] == [b"+PONG\r\n"] * 6
                others = keys[:denied] + keys[denied + 1:]
                assert c.ask("MSET", others[0], 1, others[1], 2, others[2], 3) == OK
                assert c.ask("DEL", *others) == b":3\r\n"
                c.in_step()
        finally:
            server.ask("ACL", "SETUSER", "default", "+@all")


# ---------------------------------------------------------------------- inline

@pytest.mark.parametrize("sizes", [None, 1, 7], ids=["whole", "byte by byte", "in sevens"])
def test_inline_commands_mean_what_they_mean_to_a_server(house, sizes):
    wrong = []
    for raw in INLINE:
        if sizes and len(raw) > 2000:
            continue
        with house.client() as c, Resp(address(house.alone)) as one:
            got = c.answers(raw, itertools.repeat(sizes) if sizes else None)
            want = one.answers(raw)
            if got != want:
                wrong.append((raw, got, want))
    assert not wrong, listed(wrong)
    house.holds_the_same()


# ------------------------------------------------------------------- pipelines

class Mix:
    """Commands of all kinds on keys that are used again and again, each with what
    its reply is compared with: None (the lone server) or a pattern."""

    def __init__(self, rng, tags):
        self.rng, self.tags, self.stream = rng, tags, 0
        self.kinds = [getattr(self, name) for name in dir(self) if name.startswith("do_")]

    def __call__(self, n):
        return [self.rng.choice(self.kinds)() for _ in range(n)]

    def key(self, kind):
        if self.rng.random() < 0.03:                              # of another type
            kind = self.rng.choice(["s", "n", "h", "l", "i", "z"])
        return "%d:%s:mixed" % (self.rng.randrange(25), kind)

    def keys(self, most=12):
        return [self.key(self.rng.choice("snhl")) for _ in range(self.rng.randrange(1, most))]

    def value(self):
        r = self.rng.random()
        size = self.rng.randrange(40) if r < 0.95 else self.rng.choice([8191, 8192, 8193, 16384, 20000])
        return b"" if r < 0.02 else b"<%d>" % self.rng.getrandbits(40) + self.rng.randbytes(size)

    def small(self):
        return "f%d" % self.rng.randrange(9)

    def number(self):
        return self.rng.randrange(-20, 20)

    def pick(self, *commands):
        return self.rng.choice(commands), None

    def do_strings(self):
        k = self.key("s")
        return self.pick(("SET", k, self.value()), ("SET", k, self.value(), "EX", 1000), ("GET", k),
                         ("GET", k), ("APPEND", k, self.value()), ("STRLEN", k), ("GETSET", k, self.value()),
                         ("GETRANGE", k, self.number(), self.number()), ("SETRANGE", k, 5, "range"),
                         ("SETNX", k, self.value()), ("GETDEL", k), ("SETBIT", k, 77, 1), ("BITCOUNT", k),
                         ("GETBIT", k, 7), ("SET", k, "x", "NX", "GET"))

    do_strings_too = do_strings

    def do_numbers(self):
        k = self.key("n")
        return self.pick(("INCR", k), ("DECRBY", k, self.number()), ("INCRBYFLOAT", k, "0.25"), ("GET", k),
                         ("SET", k, self.number()))

    def do_split(self):
        ks = self.keys()
        return self.pick(("MGET", *ks), ("MGET", *ks, *ks[:2]), ("EXISTS", *ks), ("TOUCH", *ks, ks[0]),
                         ("MSET", *itertools.chain(*((k, self.value()) for k in ks))))

    do_split_too = do_split

    def do_remove(self):
        ks = self.keys(4)
        return self.pick(("DEL", *ks), ("UNLINK", *ks, *ks), ("EXISTS", *ks), ("TYPE", ks[0]))

    def do_hashes(self):
        k, f = self.key("h"), self.small()
        return self.pick(("HSET", k, f, self.number(), self.small(), "v"), ("HGET", k, f), ("HGETALL", k),
                         ("HMGET", k, f, "none", self.small()), ("HDEL", k, f), ("HINCRBY", k, f, 2),
                         ("HLEN", k))

    def do_lists(self):
        k = self.key("l")
        return self.pick(("RPUSH", k, self.value(), self.number()), ("LPUSH", k, self.value()), ("LPOP", k),
                         ("LRANGE", k, 0, 5), ("LLEN", k), ("LINDEX", k, self.number()), ("LPOP", k, 2),
                         ("LTRIM", k, 0, 20))

    def do_sets(self):
        k = self.key("i")
        return self.pick(("SADD", k, self.number(), self.number()), ("SREM", k, self.number()),
                         ("SMEMBERS", k), ("SISMEMBER", k, self.number()), ("SCARD", k),
                         ("SMISMEMBER", k, 1, 2, 3))

    def do_sorted(self):
        k, f = self.key("z"), self.small()
        return self.pick(("ZADD", k, self.number(), f), ("ZRANGE", k, 0, -1, "WITHSCORES"), ("ZSCORE", k, f),
                         ("ZINCRBY", k, "1.5", f), ("ZREM", k, f), ("ZRANK", k, f), ("ZPOPMIN", k),
                         ("ZCARD", k))

    def do_others(self):
        self.stream += 1
        return self.pick(("XADD", "x:mixed", "%d-1" % self.stream, "f", self.value()), ("XLEN", "x:mixed"),
                         ("XRANGE", "x:mixed", "-", "+", "COUNT", 3), ("PFADD", "p:mixed", self.number()),
                         ("PFCOUNT", "p:mixed"), ("XREAD", "COUNT", 2, "STREAMS", "x:mixed", 0))

    def do_together(self):
        t = "{%s}" % self.rng.choice(self.tags)
        script = "return {1, {KEYS[1], 'x'}, redis.call('EXISTS', KEYS[2])}"
        return self.pick(("SADD", t + "i1", self.number()), ("SADD", t + "i2", self.number()),
                         ("SUNION", t + "i1", t + "i2"), ("SINTERSTORE", t + "i3", t + "i1", t + "i2"),
                         ("ZADD", t + "z1", self.number(), self.small()), ("ZUNION", 2, t + "z1", t + "z1"),
                         ("ZUNIONSTORE", t + "z2", 2, t + "z1", t + "z2"), ("COPY", t + "i1", t + "i4"),
                         ("EVAL", script, 2, t + "i1", t + "i9"),
                         ("LMOVE", t + "l1", t + "l2", "LEFT", "RIGHT"), ("RPUSH", t + "l1", self.value()))

    def do_here(self):
        return self.pick(("PING",), ("PING", self.value()), ("ECHO", self.value()), ("SELECT", 0))

    def do_wrong(self):
        k = self.key("s")
        return self.pick(("GET",), ("GET", k, k), ("SET", k), ("MSET", k, 1, "odd"), ("ECHO",),
                         ("LPUSH", "1:h:mixed", 1), ("INCR", "1:l:mixed"), ("SET", k, "v", "NOPE"),
                         ("HINCRBY", "1:h:mixed", "f", "nan"),
                         ("EVAL", "return redis.error_reply('MY error')", 1, k))

    def do_refused(self):
        a, b = self.rng.sample(self.tags, 2)
        return self.rng.choice([
            (("NOSUCH", self.value()), rb"-ERR unknown command 'NOSUCH'.*\r\n"),
            (("WATCH", "k"), rb"-ERR command 'watch' is not served by this proxy: .+\r\n"),
            (("BLPOP", "1:l:mixed", 0), rb"-ERR command 'blpop' is not served by this proxy: .+\r\n"),
            (("SUBSCRIBE", "c"), rb"-ERR command 'subscribe' is not served by this proxy: .+\r\n"),
            (("SINTER", "{%s}i1" % a, "{%s}i1" % b), rb"-CROSSSLOT .+\r\n")])


@pytest.mark.parametrize("seed, where, cut", [(1, "alpha", 14), (2, "alpha", 5), (3, "four", 11)])
def test_a_pipeline_of_ten_thousand_mixed_commands_answers_as_one_server_does(house, seed, where, cut):
    rng = random.Random(seed)
    work = Mix(rng, house.tags)(10000)
    commands = [c for c, _ in work]
    with house.client(where) as c:
        got = c.pipeline(commands, pieces(rng, cut))
        c.in_step()
    compared = [i for i, (_, pattern) in enumerate(work) if pattern is None]
    same([commands[i] for i in compared], [got[i] for i in compared],
         house.one.pipeline([commands[i] for i in compared]))
    wrong = [(i, command, brief(reply)) for i, ((command, pattern), reply) in enumerate(zip(work, got))
             if pattern and not re.fullmatch(pattern, reply, re.S)]
    assert not wrong, wrong[:5]
    house.holds_the_same()


def test_a_pipeline_that_comes_byte_by_byte(house):
    work = [c for c, pattern in Mix(random.Random(5), house.tags)(400) if pattern is None]
    work = [c for c in work if len(command(*c)) < 300]
    assert len(work) > 200
    with house.client() as c:
        house.both(work, c, itertools.repeat(1))
        c.in_step()
    house.holds_the_same()


class Chopper(threading.Thread):
    """Stands before a server and hands its replies on in small pieces."""

    def __init__(self, server, seed):
        super().__init__(daemon=True)
        self.server, self.sizes = server, pieces(random.Random(seed), 9)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self.listener.getsockname()
        self.start()

    def run(self):
        proxy, _ = self.listener.accept()
        with proxy, self.listener, socket.create_connection(address(self.server)) as server:
            proxy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.requests, args=(proxy, server), daemon=True).start()
            while data := memoryview(server.recv(1 << 16)):
                at = 0
                while at < len(data):
                    size = next(self.sizes)
                    proxy.sendall(data[at:at + size])
                    at += size

    @staticmethod
    def requests(proxy, server):
        with contextlib.suppress(OSError):
            while data := proxy.recv(1 << 16):
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)


def test_replies_that_come_in_small_pieces_are_put_together(house):
    work = [c for c, pattern in Mix(random.Random(9), house.tags)(3000) if pattern is None]
    keys = keys_of("pieces", 12)
    values = [payload(size) for size in (0, 1, 2, 100, 8191, 8192, 8193, 16384, 30000, 65535, 65536, 65537)]
    work += [("MSET", *itertools.chain(*zip(keys, values))), ("MGET", *keys, "none", *keys),
             ("RPUSH", "l", *values), ("LRANGE", "l", 0, -1), ("EXISTS", *keys),
             ("EVAL", "return {1, {ARGV[1], {{}, false}}, ARGV}", 1, "x", *values),
             *(("GET", k) for k in keys), ("DEL", *keys)]
    with Stage() as stage:
        choppers = [Chopper(s, i) for i, s in enumerate(house.servers)]
        names = ["%d-server" % i for i in range(4)]
        proxy = stage.nutproxy({"alpha": pool(choppers, hash_tag="{}", names=names, **PATIENT)})
        with Resp(proxy.where("alpha")) as c:
            for commands in (work[:500], work[500:]):
                house.both(commands, c)
            c.in_step()
        assert trouble(proxy, "alpha") == 0


def test_a_client_that_closes_its_sending_side_still_gets_its_replies(house):
    with house.client() as c:
        keys = keys_of("half", 100)
        commands = [("SET", k, payload(3000, i)) for i, k in enumerate(keys)] + [("MGET", *keys)]
        c.write(b"".join(command(*w) for w in commands) + b"*2\r\n$3\r\nGET\r\n$2\r\nk")
        c.sock.shutdown(socket.SHUT_WR)
        same(commands, c.rest(), house.one.pipeline(commands))
    house.holds_the_same()


# ---------------------------------------------------------------------- errors

def test_what_the_proxy_answers_itself_is_what_a_server_answers(house):
    everything = bytes(range(256))
    with house.client() as c:
        house.both([("PING",), ("PING", "x"), ("PING", ""), ("PING", everything), ("PING", "a", "b"),
                    ("ECHO", "x"), ("ECHO", ""), ("ECHO", everything), ("ECHO", payload(MIB)), ("ECHO",),
                    ("ECHO", "a", "b"), ("SELECT", 0), ("SELECT",), ("SELECT", 0, 0)], c)
        for db in (1, 15, 16, -1, "x", "", "00", "0x0", "4294967296", "0 "):
            assert c.ask("SELECT", db).startswith(b"-"), db
        assert c.ask("AUTH", "secret").startswith(b"-ERR Client sent AUTH, but no password is set")
        assert c.ask("COMMAND").startswith(b"*")
        for line in ("COUNT", "DOCS", "DOCS get", "INFO get set", "NOPE"):
            c.ask("COMMAND", *line.split())
            c.in_step()


def test_quit_is_answered_after_all_before_it_and_ends_the_connection(house):
    big = payload(300000)
    with house.client() as c:
        c.write(b"".join(command(*w) for w in [("SET", "before", big), ("GET", "before"), ("QUIT",),
                                               ("SET", "after", "x"), ("PING",)]))
        assert c.rest() == [OK, bulk(big), OK]
    with house.client() as c:
        c.write(b"QUIT\r\n")
        assert c.rest() == [OK]
        assert house.one.ask("PING") == b"+PONG\r\n"
    assert house.homes("after") == []


def test_commands_that_are_not_served_are_refused_and_the_connection_goes_on(house):
    """All of them, alone and in one pipeline between commands that are served."""
    arity = house.arities()
    commands = [(name, *["x"] * (abs(arity[name]) - 1)) for name in sorted(REFUSED)]
    commands += [line.split() for line in (
        "CLIENT PAUSE 10000", "CLIENT KILL TYPE normal", "CLIENT TRACKING ON", "CLIENT NO-TOUCH on",
        "DEBUG SLEEP 30", "DEBUG SEGFAULT", "SHUTDOWN NOSAVE", "FLUSHALL ASYNC", "FLUSHDB", "CONFIG SET maxmemory 1",
        "CONFIG REWRITE", "SCRIPT KILL", "SCRIPT DEBUG YES", "FUNCTION KILL", "SLOWLOG GET", "SLOWLOG RESET",
        "MEMORY DOCTOR", "COMMAND GETKEYSANDFLAGS GET a",
        "BLPOP none 0", "BRPOP a b c 0", "BLMOVE a b LEFT RIGHT 0", "BZPOPMIN a 0", "BLMPOP 0 1 a LEFT",
        "WAIT 1 0", "XREAD BLOCK 0 STREAMS none $", "XREAD COUNT 1 BLOCK 0 STREAMS none $",
        "xread block 1 streams none $", "XREADGROUP GROUP g c BLOCK 0 STREAMS none >",
        "XREADGROUP GROUP g c COUNT 1 NOACK BLOCK 0 STREAMS none >", "SUBSCRIBE a b c", "PSUBSCRIBE *",
        "SSUBSCRIBE a", "UNSUBSCRIBE", "REPLICAOF NO ONE", "CLUSTER INFO", "SWAPDB 0 1", "MULTI", "EXEC",
        "WATCH a")]
    with house.client() as c:
        house.both([("SET", k, "kept") for k in keys_of("kept", 50)], c)
        before, trouble = house.state(), house.server_trouble()
        got = c.pipeline(list(itertools.chain(*((w, ("ECHO", i)) for i, w in enumerate(commands)))))
        wrong = []
        for i, w in enumerate(commands):
            name = "|".join(w[:2]) if w[0] in ("CLIENT", "CONFIG", "SCRIPT", "FUNCTION", "SLOWLOG", "MEMORY", "COMMAND") else w[0]
            expected = b"-ERR command '%s' is not served by this proxy: " % name.lower().encode()
            if w[0].lower().startswith("xread"):                  # served, but for BLOCK
                expected = b"-ERR "
            if w[0] == "EXEC" and commands[i - 1] == ["MULTI"]:
                expected = b"-EXECABORT Transaction discarded: "
            if not re.fullmatch(re.escape(expected) + rb"\S.*\r\n", got[2 * i]) or got[2 * i + 1] != bulk(i):
                wrong.append((b" ".join(x.encode() for x in w), got[2 * i:2 * i + 2], [expected]))
        assert not wrong, listed(wrong)
        for w in commands:
            assert c.ask(*w).startswith((b"-ERR ", b"-EXECABORT ")), w
            c.in_step()
        assert house.state() == before and house.server_trouble() == trouble


def test_nothing_behind_a_refused_multi_is_carried_out(house):
    with house.client() as c:
        assert c.ask("SET", "n", "1") == b"+OK\r\n"
        got = c.pipeline([("MULTI",), ("INCR", "n"), ("GET", "n"), ("EVAL", "return redis.call('INCR', KEYS[1])", 1, "n"),
                          ("MSET", "n", "9", "m", "9"), ("PING",), ("EXEC",), ("INCR", "n")])
        refused = rb"-ERR command '\w+' was not executed: it stands behind a MULTI, which is not served by this proxy\r\n"
        assert got[0].startswith(b"-ERR command 'multi' is not served") and got[2] == bulk(b"1")
        assert all(re.fullmatch(refused, got[i]) for i in (1, 3, 4)), got
        assert got[5] == b"+PONG\r\n" and got[6].startswith(b"-EXECABORT ") and got[7] == b":2\r\n"
        # DISCARD ends it, too, and so does time: a client that has seen the refusal is served on.
        got = c.pipeline([("MULTI",), ("INCR", "n"), ("DISCARD",), ("INCR", "n")])
        assert re.fullmatch(refused, got[1]) and got[3] == b":3\r\n"
        c.ask("MULTI")
        wait_for("writes to be served again", lambda: c.ask("INCR", "n") == b":4\r\n")
    import redis
    with house.proxy.redis("alpha") as r, pytest.raises(redis.ResponseError):
        r.pipeline().incr("n").execute()
    with house.client() as c:
        assert c.ask("GET", "n") == bulk(b"4")


def test_commands_that_nobody_knows_are_told_so_and_the_connection_goes_on(house):
    names = [b"foo", b"FOO", b"ge", b"gett", b"get ", b" get", b"", b"x" * 100, b"x" * 100000, b"\0",
             b"get\0", b"g\xe9t", bytes(range(256)), b"foo\r\n+OK", b"foo\n-ERR", b"%s%n%d", b"'", b"zzzz",
             b"restore-", b"getget", b"mgetmget", b"_", b"0", b"JSON", b"JSON.", b"client|", b"|id"]
    with house.client() as c:
        for argument in ((), ("a",), ("a", payload(20000)), ("a",) * 3000):
            for name in names:
                got = c.ask(name, *argument)
                assert got.startswith(b"-ERR unknown command '"), (name, brief(got))
                assert len(got) < 1000, "an error of %d bytes for a name of %d" % (len(got), len(name))
                c.in_step()
        assert c.ask("foo", "a").startswith(b"-ERR unknown command 'foo'")
        commands = list(itertools.chain(*((("SET", "k", i), (name, "x"), ("GET", "k"))
                                          for i, name in enumerate(names))))
        got = c.pipeline(commands, pieces(random.Random(6)))
        assert got[0::3] == [OK] * len(names) and got[2::3] == [bulk(i) for i in range(len(names))]
        assert all(g.startswith(b"-ERR unknown command '") for g in got[1::3])


# ------------------------------------------------------- what is not the protocol

EARLIER = [("SET", "k", "v"), ("GET", "k"),
           ("MSET", "0:k:x", 1, "1:k:x", 2, "2:k:x", 3, "3:k:x", 4, "4:k:x", 5),
           ("NOSUCH", "x"), ("MGET", "0:k:x", "1:k:x", "2:k:x", "3:k:x", "4:k:x", "k"), ("INCR", "k"),
           ("SET", "big", payload(100000)), ("GET", "big"), ("PING",), ("EXISTS", "0:k:x", "none", "4:k:x")]
LATER = [("SET", "later", "x"), ("GET", "k"), ("PING",)]


def answers_of_both(house, data, sizes=None):
    """What the proxy and the lone server say to these bytes; the server also lists
    the arguments of a command that it does not know."""
    with house.client() as c, Resp(address(house.alone)) as one:
        return [[r and re.sub(rb"^(-ERR unknown command '.*'), with args .*\r\n$", rb"\1\r\n", r)
                 for r in side.answers(data, sizes)] for side in (c, one)]


def test_what_is_not_the_protocol_gets_earlier_replies_one_error_and_the_end(house):
    """And another client, which shares every connection to a server, notices nothing."""
    wrong = []
    with Traffic(house.proxy.where("alpha"), house.tags) as traffic:
        traffic.further(3)
        trouble = house.server_trouble()
        before, behind = (b"".join(command(*w) for w in part) for part in (EARLIER, LATER))
        for raw in BROKEN:
            for data in (raw, before + raw + behind):
                got, want = answers_of_both(house, data)
                assert want[-1] is None and want[-2].startswith(b"-ERR Protocol error: "), raw
                if got != want:
                    wrong.append((data, got, want))
        for raw in SLOPPY:
            got, want = answers_of_both(house, before + raw)
            n = len(EARLIER)
            error = got[n:-1] and got[n].startswith(b"-ERR Protocol error: ") and got[n + 1:] == [None]
            if got[:n] != want[:n] or not (error or got == want):
                wrong.append((raw, got, want))
        assert house.server_trouble() == trouble, "a server was sent what it hung up on"
        traffic.further(3)
    assert not wrong, listed(wrong)
    assert house.homes("later") == [], "what stood behind the mistake was done"


@pytest.mark.parametrize("sizes", [1, 3])
def test_what_is_not_the_protocol_is_seen_however_it_is_cut(house, sizes):
    wrong = []
    for raw in BROKEN:
        got, want = answers_of_both(house, raw, itertools.repeat(sizes))
        if got != want:
            wrong.append((raw, got, want))
    assert not wrong, listed(wrong)


def test_lines_that_never_end_are_ended(house):
    for raw in ENDLESS:
        with house.client() as c, Resp(address(house.alone)) as one:
            for side in (c, one):
                side.write(raw)
            got, want = c.rest(), one.rest()
            assert got[:-1] == want[:-1], (brief(raw), got, want)
            assert got[-1].startswith(b"-ERR Protocol error: "), (brief(raw), got)


def test_sizes_that_are_only_announced_cost_nothing(house):
    with house.client() as c:
        before = house.proxy.rss_kib()
        liars = []
        try:
            for i in range(100):
                liars.append(house.client())
                liars[-1].write([b"*1048576\r\n", b"*2\r\n$3\r\nGET\r\n$536870912\r\nx",
                                 b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nabc",
                                 b"*1000000\r\n$4\r\nMGET\r\n$1\r\nk\r\n"][i % 4])
            for _ in range(50):
                c.in_step()
            house.both([("SET", "k", "v"), ("GET", "k")], c)
            grown = house.proxy.rss_kib() - before
            assert grown < 50 * 1024, "%d KiB for 100 clients that sent nothing" % grown
        finally:
            for liar in liars:
                liar.close()
        c.in_step()
        house.both([("GET", "k")], c)


# ---------------------------------------------------------------------- values

SIZES = [0, 1, 2, 8191, 8192, 8193, 16383, 16384, 16385, 65535, 65536, 65537, MIB - 1, MIB, MIB + 1]


@pytest.mark.parametrize("cut", [None, 16], ids=["whole", "cut"])
def test_values_of_all_sizes_come_back_as_they_went(house, cut):
    sizes = cut and pieces(random.Random(7), cut)
    keys = keys_of("sized", len(SIZES))
    values = [payload(size) for size in SIZES]
    pairs = list(zip(keys, values))
    with house.client() as c:
        house.both([w for k, v in pairs for w in (("SET", k, v), ("GET", k), ("STRLEN", k))], c, sizes)
        house.both([("GET", k) for k in keys + keys[::-1]], c)
        house.both([("MGET", *keys, "none", *keys), ("PING",)], c)
        house.both([("DEL", *keys), ("MSET", *itertools.chain(*pairs)), ("MGET", *keys)], c, sizes)
        house.both([w for k, v in zip(keys, values[::-1]) for w in (
            ("APPEND", k, v), ("GETRANGE", k, 1, -2), ("GETRANGE", k, -70000, -1))], c, sizes)
        house.both([("RPUSH", "l", *values), ("LRANGE", "l", 0, -1), ("HSET", "h", *values[:14]),
                    ("HGET", "h", values[0]), ("EVAL", "return ARGV", 1, "x", *values), ("ECHO", values[-1]),
                    ("GETSET", keys[5], values[6])], c, sizes)
        c.in_step()
    house.holds_the_same()


def test_keys_may_be_any_bytes(house):
    keys = [bytes([i]) for i in range(256)] + [
        bytes(range(256)), b"", b"\r\n", b"a\r\n$3\r\nGET\r\n", b"*1\r\n$4\r\nPING\r\n", b"a b", b"\0\0",
        b"{}", b"}{", b"{}x", b"x{}", b"{\0}x", payload(8191), payload(8192), payload(16384), payload(65536),
        payload(65537), payload(MIB)]
    assert len(set(keys)) == len(keys)
    with house.client() as c:
        house.both([("SET", k, b"value of " + k[:100]) for k in keys], c)
        house.both([("GET", k) for k in keys], c, pieces(random.Random(8)))
        house.both([("MGET", *keys, *keys[:3]), ("EXISTS", *keys, b"")], c)
        house.holds_the_same()
        house.both([("DEL", *keys[::2]), ("MGET", *keys), ("MSET", *itertools.chain(*((k, k) for k in keys))),
                    ("MGET", *keys)], c)
        c.in_step()
    house.holds_the_same()


def test_values_of_64_mib(house):
    big, parts = payload(64 * MIB), [payload(16 * MIB + i, i) for i in range(4)]
    keys = house.words("{A}p {B}p {C}p {D}p")
    with house.client(timeout=60) as c, Traffic(house.proxy.where("alpha"), house.tags) as traffic:
        assert c.ask("SET", "big", big) == OK
        assert c.ask("GET", "big") == bulk(big)
        assert house.direct[house.homes("big")[0]].ask("GET", "big") == bulk(big)
        traffic.further(2)
        assert c.pipeline([("APPEND", "big", "end"), ("STRLEN", "big"), ("GETRANGE", "big", 33 * MIB, -1),
                           ("GETRANGE", "big", -3, -1)]) == [
            b":%d\r\n" % (64 * MIB + 3)] * 2 + [bulk(big[33 * MIB:] + b"end"), bulk("end")]
        assert c.ask("MSET", *itertools.chain(*zip(keys, parts))) == OK
        assert c.ask("MGET", *keys, "none", keys[0]) == array(*map(bulk, parts), NIL, bulk(parts[0]))
        for d, k, part in zip(house.direct, keys, parts):
            assert d.ask("GET", k) == bulk(part)
        assert c.ask("DEL", "big", *keys) == b":5\r\n"
        c.in_step()
        traffic.further(2)
    if SLOW == 1:                               # a sanitizer keeps what was freed
        wait_for("the memory of big values to be given back", lambda: house.proxy.rss_kib() < 128 * 1024)


# ---------------------------------------------------------------- many clients

class Honest:
    """A client that knows the bytes of every reply it must get.  Its keys are its own
    and its values name it, so that nothing of another client can pass for its own."""

    def __init__(self, where, number):
        self.where, self.number, self.rng = where, number, random.Random(number)
        self.keys = [b"%d:%d:key of one" % (i, number) for i in range(8)]
        self.has = {}

    async def run(self, rounds):
        reader, writer = await asyncio.open_connection(*self.where)
        try:
            for r in range(rounds):
                ask, want = zip(*(self.request(r, i) for i in range(self.rng.randrange(1, 25))))
                writer.write(b"".join(command(*a) for a in ask))
                await self.expect(reader, b"".join(want), r)
        finally:
            writer.close()

    async def expect(self, reader, want, r):
        at = 0
        while at < len(want):
            got = await asyncio.wait_for(reader.read(1 << 18), 30 * SLOW)
            assert got and want[at:at + len(got)] == got, "client %d in round %d: %s instead of %s" % (
                self.number, r, brief(got), brief(want[at:at + len(got) + 40]))
            at += len(got)

    def value(self, r, i, key):
        mark = b"<%s by %d in round %d, request %d>" % (key, self.number, r, i)
        return mark * (self.rng.randrange(150, 500) if self.rng.random() < 0.04 else self.rng.randrange(1, 8))

    def request(self, r, i):
        """A request, and its reply."""
        kind, keys = self.rng.randrange(9), self.rng.sample(self.keys, self.rng.randrange(1, 6))
        k = keys[0]
        if kind <= 1:
            self.has[k] = self.value(r, i, k)
            return ("SET", k, self.has[k]), OK
        if kind == 2:
            self.has.update((k, self.value(r, i, k)) for k in keys)
            return ("MSET", *itertools.chain(*((k, self.has[k]) for k in keys))), OK
        if kind == 3:
            gone = sum(self.has.pop(k, None) is not None for k in keys[:2])
            return ("DEL", *keys[:2]), b":%d\r\n" % gone
        if kind == 4:
            more = self.value(r, i, k)
            self.has[k] = self.has.get(k, b"") + more
            return ("APPEND", k, more), b":%d\r\n" % len(self.has[k])
        if kind == 5:
            return ("EXISTS", *keys, k), b":%d\r\n" % (sum(q in self.has for q in keys) + (k in self.has))
        if kind == 6:
            token = b"%d-%d-%d" % (self.number, r, i)
            return ("ECHO", token), bulk(token)
        if kind == 7:
            return ("GET", k), bulk(self.has[k]) if k in self.has else NIL
        common = [b"%d:common:key" % self.rng.randrange(20) for _ in range(2)]
        mine = [bulk(self.has[q]) if q in self.has else NIL for q in keys]
        return ("MGET", common[0], *keys, common[1]), array(bulk(common[0] * 9), *mine, bulk(common[1] * 9))


async def rude(where, number):
    """A client that leaves when it should not, in one of many ways."""
    rng = random.Random(number)
    _, writer = await asyncio.open_connection(*where)
    big = b"*3\r\n$3\r\nSET\r\n$10\r\nhalf:%05d\r\n$300000\r\n" % number
    get = command("GET", "%d:large:key" % (number % 8))
    mget = command("MGET", *("%d:large:key" % i for i in range(8)))
    mset = command("MSET", "half:%05d" % number, 1)[:-5]
    left = command("SET", "left:%d" % number, "z" * 20000)
    writer.write(rng.choice([
        b"", b"*", b"*3\r\n$3\r\nSE", b"SET half:%05d" % number, big, big + b"x" * rng.randrange(299999),
        get * 30, mget * 5, mget * 20 + big + b"y" * 1000, get + b"*2\r\n$x\r\n", mget + b"QUIT\r\n" + get,
        left * 10 + mget * 3, get * 3 + mset]))
    if rng.random() < 0.7:
        try:
            await asyncio.wait_for(writer.drain(), 10 * SLOW)
            await asyncio.sleep(rng.random() * 0.05)
        except OSError:
            pass
    if rng.random() < 0.5:                                        # with a reset
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_two_hundred_clients_at_once_each_get_their_own_replies(house, workers):
    """Every byte is known beforehand, while others leave in the middle of requests and
    with replies outstanding; half of the clients have a connection that few share."""
    with Stage() as stage:
        proxy = house.proxy if workers == 1 else stage.nutproxy({
            "nutproxy": {"workers": workers}, "alpha": pool(house.servers, **PATIENT),
            "four": pool(house.servers, server_connections=4, **PATIENT)})
        wheres = [proxy.where("alpha"), proxy.where("four")]
        with Resp(wheres[0]) as c:
            common, large = keys_of("common", 20), keys_of("large", 8)
            assert c.ask("MSET", *itertools.chain(*((k, k * 9) for k in common))) == OK
            assert c.ask("MSET", *itertools.chain(*((k, payload(60000)) for k in large))) == OK

        async def leavers():
            for batch in range(15):
                await asyncio.gather(*(rude(wheres[i % 2], batch * 20 + i) for i in range(20)))

        async def everybody():
            all_of_them = asyncio.gather(leavers(), *(Honest(wheres[i % 2], i).run(25) for i in range(200)),
                                         return_exceptions=True)
            return await asyncio.wait_for(all_of_them, 120 * SLOW)

        lost = [trouble(proxy, name) for name in ("alpha", "four")]
        wrong = [e for e in asyncio.run(everybody()) if e is not None]
        assert not wrong, "%d of 200 clients: %r" % (len(wrong), wrong[:3])
        wait_for("all clients to be forgotten", lambda: all(
            proxy.stats()[name]["client_connections"] == 0 for name in ("alpha", "four")))
        for name in ("alpha", "four"):
            assert of_servers(proxy, name, "in_queue", "out_queue") == 0
        assert [trouble(proxy, name) for name in ("alpha", "four")] == lost, "lost connections to servers"
        for d in house.direct:
            assert not [k for k in texts(d.ask("KEYS", "half:*"))], "half a request was done"
        with Resp(wheres[0]) as a, Resp(wheres[1]) as b:
            for c in (a, b):
                assert c.ask("MGET", *common) == array(*(bulk(k * 9) for k in common))
                c.in_step()


def test_a_client_with_many_connections_to_servers_reads_what_it_wrote(house):
    """1,000 times SET and GET in one pipeline, by several clients at once."""
    with Stage() as stage:
        proxy = stage.nutproxy({"four": pool(house.servers, server_connections=4, **PATIENT)})
        clients = [Resp(proxy.where("four")) for _ in range(8)]
        for n, c in enumerate(clients):
            mine = "%d:own counter" % n
            commands = [w for i in range(1000) for w in (("SET", mine, i), ("GET", mine))]
            commands.append(("INCRBY", "%d:common to four" % (n % 2), 1000))
            c.write(b"".join(command(*w) for w in commands))
        for c in clients:
            got = c.exchange(b"", 2001)
            assert got[0:2000:2] == [OK] * 1000
            assert got[1:2000:2] == [bulk(i) for i in range(1000)]
            c.in_step()
        assert c.ask("MGET", "0:common to four", "1:common to four") == array(bulk(4000), bulk(4000))
        used = [s["server_connections"] for s in proxy.stats()["four"].values() if isinstance(s, dict)]
        assert 2 <= max(used) <= 4, "connections to the servers: %s" % used
        for c in clients:
            c.close()


# ---------------------------------------------------------- passwords, databases

SECRET = "open sesame"


def in_databases(server, password=None):
    """How many keys each database of a server holds."""
    with Resp(address(server)) as c:
        if password:
            assert c.ask("AUTH", password) == OK
        return {int(db): int(n) for db, n in re.findall(rb"db(\d+):keys=(\d+)", c.ask("INFO", "keyspace"))}


def test_data_lands_in_the_database_of_the_pool_behind_its_password(stage):
    servers = [stage.redis("--requirepass", SECRET) for _ in range(3)]
    proxy = stage.nutproxy({
        "locked": pool(servers, redis_auth=SECRET, redis_db=3, server_connections=2, preconnect=True,
                       **PATIENT),
        "zero": pool(servers, redis_auth=SECRET, **PATIENT)})
    keys = keys_of("behind", 60)
    locked, zero = proxy.where("locked"), proxy.where("zero")
    with Resp(locked) as c, Resp(locked) as d, Resp(zero) as zero:
        assert c.pipeline([("AUTH", SECRET), *(("SET", k, k) for k in keys), ("MGET", *keys)]) == \
            [OK] * 61 + [array(*map(bulk, keys))]
        assert d.pipeline([("AUTH", SECRET), *(("GET", k) for k in keys)]) == [OK] + list(map(bulk, keys))
        assert [set(in_databases(s, SECRET)) for s in servers] == [{3}] * 3
        assert sum(in_databases(s, SECRET)[3] for s in servers) == 60
        assert zero.pipeline([("AUTH", SECRET), ("EXISTS", *keys), ("SET", keys[0], "zero")]) == \
            [OK, b":0\r\n", OK]
        assert c.ask("GET", keys[0]) == bulk(keys[0])

        assert c.ask("SELECT", 3) == OK
        for db in (0, 4, 16, "x"):
            assert c.ask("SELECT", db).startswith(b"-"), db
        assert zero.pipeline([("SELECT", 0), ("SELECT", 3), ("GET", keys[0])])[::2] == [OK, bulk("zero")]
        assert c.ask("SET", keys[1], "after SELECT") == OK
        assert sum(in_databases(s, SECRET).get(0, 0) for s in servers) == 1

        # New connections to the servers log in and select again.
        for s in servers:
            with Resp(address(s)) as direct:
                direct.pipeline([("AUTH", SECRET), ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")])
        for k in keys:
            wait_for("the servers to be back", lambda: c.ask("SET", k, "again") == OK)
        again = array(*[bulk("again")] * 60)
        wait_for("them to be back for another client", lambda: d.ask("MGET", *keys) == again)
        assert sum(in_databases(s, SECRET)[3] for s in servers) == 60
        assert sum(in_databases(s, SECRET).get(0, 0) for s in servers) == 1


def test_who_does_not_give_the_password_gets_nothing(stage):
    servers = [stage.redis("--requirepass", SECRET) for _ in range(2)]
    proxy = stage.nutproxy({"locked": pool(servers, redis_auth=SECRET, **PATIENT)})
    refused = rb"-NOAUTH Authentication required\.?\r\n"
    commands = [("GET", "k"), ("SET", "k", "stolen"), ("MGET", "a", "b", "c"), ("PING",), ("ECHO", "x"),
                ("EVAL", "return 1", 0), ("SELECT", 0), ("COMMAND",), ("MSET", "a", 1, "b", 2)]
    with Resp(proxy.where("locked")) as c, Resp(proxy.where("locked")) as inside:
        assert inside.pipeline([("AUTH", SECRET), ("SET", "k", "mine")]) == [OK, OK]

        def locked_out():
            for w in commands:
                got = c.ask(*w)
                assert re.fullmatch(refused, got), (w, got)
            for w in (("nosuch",), ("MULTI",), ("GET",), ("FLUSHALL",), ("CONFIG", "GET", "requirepass")):
                assert c.ask(*w).startswith(b"-"), w

        locked_out()
        for wrong in (SECRET[:-1], SECRET + "x", SECRET.upper(), "", SECRET + "\0", "\0", " " + SECRET,
                      "x" * 16000):
            assert c.ask("AUTH", wrong).startswith(b"-ERR invalid password"), wrong
            assert re.fullmatch(refused, c.ask("GET", "k")), wrong
        # Who has not given it keeps no memory here: as with a server.
        for large in (command("AUTH", "x" * 20000), command("ECHO", "x" * 400000)[:100], command("MSET", *range(12))[:20]):
            with Resp(proxy.where("locked")) as stranger:
                got = stranger.write(large).rest()
            with Resp(("127.0.0.1", servers[0].port)) as stranger:
                assert got == stranger.write(large).rest(), large[:40]
        for wrong in (("AUTH",), ("AUTH", "default", "wrong"), ("AUTH", "nobody", SECRET + "x"),
                      ("AUTH", SECRET, "x", "y")):
            assert c.ask(*wrong).startswith(b"-"), wrong
        locked_out()
        got = c.pipeline([("GET", "k"), ("AUTH", "no"), ("GET", "k"), ("AUTH", SECRET), ("GET", "k"),
                          ("AUTH", "no"), ("GET", "k")])
        assert [g[:7] for g in got] == [b"-NOAUTH", b"-ERR in", b"-NOAUTH", OK, bulk("mine")[:7],
                                        b"-ERR in", b"-NOAUTH"]
        locked_out()
        c.write(b"AUTH '" + SECRET.encode() + b"'\r\nGET k\r\n")
        assert [c.reply(), c.reply()] == [OK, bulk("mine")]
        assert inside.ask("GET", "k") == bulk("mine")


@pytest.mark.parametrize("name, servers_have, keys, why", [
    ("another password", ["--requirepass", "not " + SECRET], {"redis_auth": SECRET}, rb"pass|auth"),
    ("no such database", ["--databases", "4"], {"redis_db": 9}, rb"db|database|select"),
    ("both", ["--requirepass", "not " + SECRET], {"redis_auth": SECRET, "redis_db": 2}, rb"pass|auth"),
    ("a password and no login", ["--requirepass", SECRET], {}, rb"pass|auth"),
])
def test_servers_that_do_not_let_the_proxy_in_are_told_and_get_nothing(stage, name, servers_have, keys, why):
    servers = [stage.redis(*servers_have) for _ in range(2)]
    proxy = stage.nutproxy({"alpha": pool(servers, timeout="5s", **keys)})
    with Resp(proxy.where("alpha")) as c:
        if "redis_auth" in keys:
            assert c.ask("AUTH", keys["redis_auth"]) == OK
        first = c.ask("SET", "k", "v")
        assert re.match(rb"-[A-Z]+ .*(%s)" % why, first, re.I), first
        for k in keys_of("nowhere", 10):
            for w in (("SET", k, "v"), ("GET", k), ("MSET", k, 1, k + b"x", 2), ("MGET", k, k + b"x")):
                assert c.ask(*w).startswith(b"-"), w
        c.in_step()
    password = servers_have[1] if servers_have[0] == "--requirepass" else None
    assert [in_databases(s, password) for s in servers] == [{}, {}]


# ------------------------------------------------------------ addresses and names

def test_unix_sockets_and_both_kinds_of_ip_on_both_sides(stage):
    paths = [stage.path("redis-%d.sock" % i) for i in range(2)]
    servers = [stage.redis(unixsocket=p) for p in paths] + [stage.redis(), stage.redis()]
    six = can_connect(("::1", servers[3].port))
    lines = ["%s:1 one" % paths[0], "%s:1" % paths[1], "127.0.0.1:%d:1 three" % servers[2].port,
             "%s:%d:1 four" % ("::1" if six else "localhost", servers[3].port)]
    listens = {"plain": {}, "path": {"listen": stage.path("front.sock") + " 0600"}}
    if six:
        listens["six"] = {"listen": "[::1]:%d" % free_port()}
    proxy = stage.nutproxy({name: pool(lines, redis_db=2, **listen, **PATIENT)
                            for name, listen in listens.items()})
    assert os.stat(stage.path("front.sock")).st_mode & 0o777 == 0o600
    keys = keys_of("anywhere", 80)
    for name in listens:
        with Resp(proxy.where(name)) as c:
            value = payload(MIB, len(name))
            assert c.ask("MSET", *itertools.chain(*((k, name) for k in keys)), "big", value) == OK
            for other in listens:
                with Resp(proxy.where(other)) as o:
                    assert o.ask("MGET", *keys) == array(*[bulk(name)] * len(keys))
                    assert o.pipeline([("GET", "big")] * 5 + [("GET", k) for k in keys]) == \
                        [bulk(value)] * 5 + [bulk(name)] * len(keys)
                    o.in_step()
    counts = [in_databases(s) for s in servers]
    assert all(set(c) == {2} and c[2] > 3 for c in counts) and sum(c[2] for c in counts) == 81, counts
    assert proxy.stop() == 0
    assert not os.path.exists(stage.path("front.sock"))


RINGS = {
    "plain": ({}, None, None),
    "names and weights": ({}, ["delta", "b", "charlie-with-a-long-name", "a"], [1, 5, 2, 10]),
    "braces": ({"hash_tag": "{}"}, None, None),
    "one character twice": ({"hash_tag": "$$", "hash": "murmur", "distribution": "modula"},
                            ["a", "b", "c", "d"], [3, 1, 1, 2]),
}


@pytest.mark.skipif(not os.path.exists(NUTCRACKER), reason="needs nutcracker")
@pytest.mark.parametrize("ring", RINGS)
def test_keys_land_where_nutcracker_looks_for_them(house, ring):
    """Each key that one of the two writes, the other one reads."""
    extra, names, weights = RINGS[ring]
    keys = keys_of("plain", 150) + ["key%d" % i for i in range(150)]
    for a, b in ("{}", "$$", "}{"):
        for i in range(25):
            keys += ["%d:x%s%d:tag%srest" % (i, a, i % 5, b), "%s%s%d" % (a, b, i), "%d%s%d" % (i, a, i),
                     "%d%s%d" % (i, b, i),
                     "%s%d:in%s%d%s%d%s" % (a, i % 5, b, i, a, i, b), "%s%s%d:twice%s%s" % (a, a, i, b, b)]
    keys += ["", "{}", "$$", "{", "x", "\0", "k" * 300]
    keys += [os.fsdecode(bytes([i, 255 - i, 128])) for i in range(60)]
    keys = list(dict.fromkeys(os.fsencode(k) for k in keys))
    with Stage() as stage:
        conf = pool(house.servers, names=names, weights=weights, **extra)
        proxy = stage.nutproxy({"alpha": dict(conf, **PATIENT)})
        old = stage.nutcracker({"alpha": dict(conf, listen="127.0.0.1:%d" % free_port())})
        with Resp(proxy.where("alpha")) as new, Resp(old.where("alpha")) as cracker:
            for writer, reader in ((new, cracker), (cracker, new)):
                values = [b"%s by %d" % (k, writer is new) for k in keys]
                commands = [("SET", k, v) for k, v in zip(keys, values)]
                assert set(writer.pipeline(commands)) == {OK}
                commands = [("GET", k) for k in keys]
                same(commands, reader.pipeline(commands), list(map(bulk, values)))
            assert new.ask("MGET", *keys) == array(*map(bulk, values))
            assert new.ask("EXISTS", *keys) == b":%d\r\n" % len(keys)
        counts = [int(d.ask("DBSIZE")[1:]) for d in house.direct]
        assert sum(counts) == len(keys) and min(counts) > 10, counts


def test_a_name_and_not_an_address_decides_which_keys_a_server_has(house):
    names = ["one", "two", "three", "four"]
    keys = keys_of("named", 120)
    seen = []
    with Stage() as stage:
        for turn in range(2):
            house.flush()
            order = house.servers[turn:] + house.servers[:turn]
            proxy = stage.nutproxy({"alpha": pool(order, names=names, **PATIENT)})
            with Resp(proxy.where("alpha")) as c:
                assert c.ask("MSET", *itertools.chain(*((k, k) for k in keys))) == OK
            direct = house.direct[turn:] + house.direct[:turn]
            seen.append([sorted(texts(d.ask("KEYS", "*"))) for d in direct])
            servers = [n for n, v in proxy.stats()["alpha"].items() if isinstance(v, dict)]
            assert sorted(servers) == sorted(names)
    assert seen[0] == seen[1] and all(seen[0])


# ----------------------------------------------------------------- slow readers

def room(mib):
    """A bound for memory; a sanitizer keeps a shadow of it and what was freed."""
    return mib * 1024 * (1 if SLOW == 1 else 4)


class Slow:
    """A client that sends without reading, then reads and knows each byte."""

    def __init__(self, where, request, replies):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self.sock.connect(where)
        self.sock.setblocking(False)
        self.unsent, self.replies = memoryview(request), replies

    def push(self):
        """Send what is taken without reading; False when that is all or nothing is taken."""
        try:
            n = self.sock.send(self.unsent[:1 << 18]) if self.unsent else 0
        except OSError:                         # full, or closed: read() will tell
            n = 0
        self.unsent = self.unsent[n:]
        return n > 0

    def read(self):
        """How many replies came whole before the end or the close.  Every byte is checked."""
        for whole, want in enumerate(self.replies):
            at = 0
            while at < len(want):
                seen = self.receive(len(want) - at)
                if not seen:
                    return whole
                assert want[at:at + len(seen)] == seen, "reply %d at byte %d: %s instead of %s" % (
                    whole, at, brief(seen), brief(want[at:at + 80]))
                at += len(seen)
        return whole + 1

    def receive(self, most):
        while True:
            poll = select.poll()
            poll.register(self.sock, select.POLLIN | (select.POLLOUT if self.unsent else 0))
            ready = dict(poll.poll(30000 * SLOW)).get(self.sock.fileno())
            assert ready, "nothing came for a reader that reads again"
            if ready & ~select.POLLOUT:
                try:
                    return self.sock.recv(min(most, 1 << 20))
                except ConnectionResetError:
                    return b""
            self.push()


def watched(house, proxy, traffic, slow, most):
    """Let it go on until it stands: nobody takes the slow client's bytes, the servers
    send no more than others ask for, and those were served all the while."""
    goal, before, still = traffic.rounds + 100, 0, 0

    def settled():
        nonlocal before, still
        taken = any([slow.push() for _ in range(16)])
        used = proxy.rss_kib()
        assert used < most, "%d MiB for a slow reader" % (used // 1024)
        assert traffic.wrong is None, traffic.wrong
        sent = sum(int(re.search(rb"total_net_output_bytes:(\d+)", d.ask("INFO", "stats"))[1])
                   for d in house.direct)
        still = still + 1 if sent - before < MIB // 2 and not taken else 0
        before = sent
        return still > 20 and traffic.rounds >= goal

    wait_for("a slow reader's replies to stand still", settled, 60)


def limited(stage, house, limit):
    extra = {"client_output_limit": limit} if limit else {}
    return stage.nutproxy({"alpha": pool(house.servers, hash_tag="{}", **extra, **PATIENT)})


@pytest.mark.parametrize("limit, most", [("64m", 200), (None, 420)], ids=["limit of 64m", "default limit"])
def test_a_slow_reader_of_a_gigabyte_harms_nobody(house, limit, most):
    """1,000 values of 1 MiB asked for and nothing read."""
    keys = house.words("{A}1 {B}1 {C}1 {D}1 {A}2 {B}2 {C}2 {D}2")
    values = [payload(MIB, i) for i in range(8)]
    with Stage() as stage:
        proxy = limited(stage, house, limit)
        with Resp(proxy.where("alpha")) as c:
            assert c.ask("MSET", *itertools.chain(*zip(keys, values))) == OK
        with Traffic(proxy.where("alpha"), house.tags) as traffic:
            slow = Slow(proxy.where("alpha"), b"".join(command("GET", keys[i % 8]) for i in range(1000)),
                        (bulk(values[i % 8]) for i in range(1000)))
            watched(house, proxy, traffic, slow, room(most))
            whole = slow.read()                 # right to the last byte, all of it or cut short
            assert whole <= 1000
            traffic.further(20)
        with Resp(proxy.where("alpha")) as c:
            assert c.ask("MGET", *keys) == array(*map(bulk, values))
            c.in_step()
        slow.sock.close()
        wait_for("the clients to be gone", lambda: proxy.stats()["alpha"]["client_connections"] == 0)


def test_a_reader_that_is_slow_within_the_limit_gets_everything(house):
    keys = house.words("{A}1 {B}1 {C}1 {D}1")
    values = [payload(MIB, i) for i in range(4)]
    with Stage() as stage:
        proxy = limited(stage, house, "64m")
        with Resp(proxy.where("alpha")) as c:
            assert c.ask("MSET", *itertools.chain(*zip(keys, values))) == OK
        with Traffic(proxy.where("alpha"), house.tags) as traffic:
            request = b"".join(command("GET", keys[i % 4]) for i in range(48)) + command("PING")
            slow = Slow(proxy.where("alpha"), request,
                        itertools.chain((bulk(values[i % 4]) for i in range(48)), [b"+PONG\r\n"]))
            while slow.push():
                pass
            traffic.further(100)
            assert slow.read() == 49
        slow.sock.close()


def test_a_client_that_never_reads_cannot_fill_the_memory_with_what_the_proxy_answers(house):
    """256 MiB of ECHO, whose replies no server sends."""
    values = [payload(65536, i) for i in range(16)]
    request = b"".join(command("ECHO", values[i % 16]) for i in range(4096))
    with Stage() as stage:
        proxy = limited(stage, house, "64m")
        with Traffic(proxy.where("alpha"), house.tags) as traffic:
            slow = Slow(proxy.where("alpha"), request, (bulk(values[i % 16]) for i in range(4096)))
            watched(house, proxy, traffic, slow, room(200))
            slow.read()
            traffic.further(20)
        slow.sock.close()


def test_a_client_that_writes_faster_than_a_server_reads_cannot_fill_the_memory(house):
    """256 MiB of SET for a server that stands still, then goes on."""
    values = [payload(65536, i) for i in range(16)]
    keys = ["{%s}%d" % (house.tags[0], i) for i in range(64)]
    request = b"".join(command("SET", keys[i % 64], values[i % 16]) for i in range(4096))
    with Stage() as stage:
        server = stage.redis()
        proxy = stage.nutproxy({"alpha": pool([server], **PATIENT),
                                "beta": pool(house.servers, hash_tag="{}", **PATIENT)})
        with Traffic(proxy.where("beta"), house.tags) as traffic:
            server.pause()
            slow = Slow(proxy.where("alpha"), request, itertools.repeat(OK, 4096))
            watched(house, proxy, traffic, slow, room(200))
            server.resume()
            assert slow.read() == 4096
        with Resp(address(server)) as direct:
            for i, k in enumerate(keys):
                assert direct.ask("GET", k) == bulk(values[i % 16])
        slow.sock.close()
