"""Where keys go: the same as with Debian's nutcracker, on fresh random pools and keys.

Every server holds every key, with its own number as the value: a get through a proxy
tells which server was asked, and disturbs nothing. NUT_SEED=N replays a failure.
"""
import collections
import functools
import os
import random
import re
import socket
import tempfile
import time

import pytest

from fake import Gone, command, number_server, number_servers, wire
from nut import NUTCRACKER, SLOW, Stage, free_port, pool, wait_for

SEED = int(os.environ.get("NUT_SEED") or time.time_ns() % 10**9)
HASHES = ("one_at_a_time md5 crc16 crc32 crc32a fnv1_64 fnv1a_64 fnv1_32 fnv1a_32 hsieh "
          "murmur jenkins").split()
TAGS = ("{}", "$$", "(]", "<>", "ab", "::")
LENGTHS = (63, 64, 65, 66, 67, 127, 128, 129, 255, 256, 257, 1000, 4000)
HOSTS = ("127.0.0.1", "127.0.0.10", "127.0.0.100")
DISTRIBUTIONS = ("ketama", "modula", "random")
KEYS = {"redis": 10000, "memcached": 1000}
BATCH = {"redis": 2500, "memcached": 500}       # requests in one pipeline
FOREVER = 3600 * 1000

pytestmark = pytest.mark.skipif(not os.path.exists(NUTCRACKER), reason="no nutcracker here")


@pytest.fixture
def dice():
    print("\nNUT_SEED=%d" % SEED)
    return random.Random(SEED)


@pytest.fixture
def stage():
    """Servers and proxies of one test. Their ports and socket paths come from the seed,
    because they are the names by which unnamed servers are placed."""
    with Stage() as s:
        s.known = os.path.join(tempfile.gettempdir(), "nut-seed-%d" % SEED)
        os.symlink(s.dir, s.known)
        try:
            yield s
        finally:
            os.unlink(s.known)


def port_of(dice):
    while True:
        port = dice.randrange(20000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("0.0.0.0", port))
                return port
            except OSError:
                pass


# ---- keys

def redis_keys(dice):
    """Empty, short, long, binary, tagged, numbered."""
    keys = {b""}
    while len(keys) < KEYS["redis"]:
        kind = dice.randrange(6)
        if kind == 0:
            key = b"key:%d" % dice.randrange(100000)
        elif kind == 1:
            key = dice.randbytes(dice.randrange(1, 40))
        elif kind == 2:
            key = bytes(dice.randrange(128, 256) for _ in range(dice.randrange(1, 24)))
        elif kind == 3:
            key = dice.randbytes(dice.randrange(1, 6))
        elif kind == 4:
            key = dice.randbytes(dice.choice(LENGTHS))
        else:
            key = tagged(dice)
        keys.add(key)
    return sorted(keys)


def memcached_keys(dice):
    """1 to 250 bytes, none of them a space, a control or DEL."""
    legal = bytes(b for b in range(256) if b > 32 and b != 127)
    keys = set()
    while len(keys) < KEYS["memcached"]:
        size = dice.choice((1, 2, 3, 4, 7, 20, dice.randrange(1, 250), 249, 250))
        key = bytes(dice.choice(legal) for _ in range(size))
        keys.add(dice.choice((key, b"key:%d" % dice.randrange(100000), tagged(dice))))
    return sorted(keys)


def tagged(dice):
    """Pieces of text between and around the tag characters, closed or not, empty or not."""
    letters = "".join(TAGS)
    pieces = [dice.choice((dice.choice(letters), dice.choice(TAGS), "u%d" % dice.randrange(99)))
              for _ in range(dice.randrange(2, 8))]
    return "".join(pieces).encode()


# ---- pools

def server_list(dice, servers, least=1, doubles=True):
    """Server lines in random order: with names or without, several names on one server,
    spellings of a host that differ in length, unix sockets, weights."""
    chosen = dice.sample(servers, dice.randrange(least, len(servers) + 1))
    named = dice.random() < 0.5
    scale = dice.choice((1, 3, 10, 100, 100000))
    if named and doubles and dice.random() < 0.3:
        # 25, 47 and 50 equal servers have fewer points each than arithmetic says.
        count, scale = dice.choice(((4, scale), (25, 1), (47, 1), (50, 1)))
        chosen = (chosen + dice.choices(servers, k=50))[:max(count, len(chosen))]
    names = set()
    while len(names) < len(chosen):
        names.add(dice.choice(("s%d", "server-%d", "%d", "a:%d", "cache_number_%d.example")) %
                  dice.randrange(1000))
    names = sorted(names)
    dice.shuffle(names)
    lines = []
    for server, name in zip(chosen, names):
        if server.unixsocket and dice.random() < 0.3:
            place = server.unixsocket
        else:
            place = "%s:%d" % (dice.choice(server.hosts), server.port)
        lines.append("%s:%d%s" % (place, dice.randint(1, scale), " " + name if named else ""))
    return lines


def pools(dice, servers, protocol, distributions=DISTRIBUTIONS, rounds=1, least=1,
          doubles=True, **keys):
    """A pool of each hash and distribution, as often as there are rounds."""
    out = {}
    for i in range(rounds):
        for hash in HASHES:
            for distribution in distributions:
                tag = {"hash_tag": dice.choice(TAGS)} if dice.random() < 0.4 else {}
                out["p%d_%s_%s" % (i, hash, distribution)] = pool(
                    server_list(dice, servers, least, doubles), protocol, hash=hash,
                    distribution=distribution, timeout=int(20000 * SLOW), **tag, **keys)
    return out


def members(section, servers):
    """The numbers of the servers of that pool, as they answer them."""
    at = {line.split()[0].rsplit(":", 1)[0] for line in section["servers"]}
    return {"%02d" % number for number, s in enumerate(servers)
            if s.unixsocket in at or at & {"%s:%d" % (host, s.port) for host in s.hosts}}


def start(stage, sections):
    """nutcracker and nutproxy with the same pools."""
    other = {name: dict(keys, listen="127.0.0.1:%d" % free_port())
             for name, keys in sections.items()}
    return stage.nutcracker(other), stage.nutproxy(sections)


# ---- asking

class Keys(list):
    """The keys of a test, and the requests for them, written once for all pools."""

    def __init__(self, protocol, keys):
        super().__init__(keys)
        self.protocol = protocol
        step = BATCH[protocol]
        self.batches = [self[i:i + step] for i in range(0, len(self), step)]

    @functools.cached_property
    def gets(self):
        write = {"redis": lambda k: command("GET", k), "memcached": lambda k: b"get %s\r\n" % k}
        return [b"".join(map(write[self.protocol], batch)) for batch in self.batches]

    @functools.cached_property
    def mgets(self):
        return [command("MGET", *batch) for batch in self.batches]


def redis_places(proxy, name, keys):
    """For each key the number of the server that was asked for it, or the error."""
    out = []
    with wire(proxy.where(name)) as w:
        for batch, text in zip(keys.batches, keys.gets):
            w.say(text)
            out += redis_answers(w, len(batch))
    return out


def redis_answers(w, count):
    text = w.exactly(8 * count)             # no number takes less, no error either
    if found := numbers(text, count):
        return found
    w.held = text + w.held
    return [told(w.frame()) for _ in range(count)]


def numbers(text, count):
    """The values if all are numbers of servers, else nothing."""
    found = re.findall(r"\$2\r\n(\d\d)\r\n", text.decode("latin-1"))
    return found if len(found) == count and len(text) == 8 * count else None


def redis_places_at_once(proxy, name, keys):
    """The same, by MGET."""
    out = []
    with wire(proxy.where(name)) as w:
        for batch, request in zip(keys.batches, keys.mgets):
            w.say(request)
            head = w.line()
            if head == b"*%d\r\n" % len(batch):
                out += redis_answers(w, len(batch))
            else:
                out += [told(head)] * len(batch)
    return out


def told(frame):
    return frame[4:-2].decode() if frame[:2] == b"$2" else frame[:80].decode("latin-1").strip()


def memcached_places(proxy, name, keys):
    out = []
    with wire(proxy.where(name)) as w:
        for batch, text in zip(keys.batches, keys.gets):
            w.say(text)
            out += [place_of(k, w.answer()) for k in batch]
    return out


def place_of(key, text):
    head, tail = b"VALUE %s 0 2\r\n" % key, b"\r\nEND\r\n"
    place = text[len(head):-len(tail)].decode("latin-1")
    return place if text == head + place.encode("latin-1") + tail and re.fullmatch(r"\d\d", place) \
        else text[:80].decode("latin-1").strip()


def memcached_places_at_once(proxy, name, keys):
    """The same, by one get of many keys; values must come in the order of the keys."""
    out = []
    with wire(proxy.where(name)) as w:
        for i in range(0, len(keys), 60):
            batch = keys[i:i + 60]
            text = w.tell(b"get %s\r\n" % b" ".join(batch))
            values = re.findall(rb"VALUE (\S+) 0 2\r\n(\d\d)\r\n", text)
            out += [v.decode() for _, v in values] if [k for k, _ in values] == batch \
                else [text[:80].decode("latin-1")] * len(batch)
    return out


def assert_same(sections, keys, wanted, got, when="", dead=(), servers=()):
    """Fails with all pools whose keys go elsewhere. With the distribution "random" a key has
    no place of its own: there the servers used must be the same, those of the pool that live."""
    out = []
    for name, section in sections.items():
        assert len(wanted[name]) == len(got[name]) == len(keys)
        if section["distribution"] == "random":
            live = members(section, servers) - set(dead)
            bad = set(wanted[name]) ^ live | set(got[name]) ^ live
            bad = [(sorted(live), sorted(set(wanted[name])), sorted(set(got[name])))] if bad else []
            what = "live, nutcracker, nutproxy"
        else:
            bad = [(k[:50], w, g) for k, w, g in zip(keys, wanted[name], got[name]) if w != g]
            what = "key, nutcracker, nutproxy"
        if bad:
            out.append("%s: %d of %d keys; tag %s; servers %s; %s: %s" %
                       (name, len(bad), len(keys), section.get("hash_tag"), section["servers"],
                        what, bad[:3]))
    if out:
        pytest.fail("NUT_SEED=%d: keys go elsewhere %s\n%s" % (SEED, when, "\n".join(out)), False)


def all_places(ask, proxy, sections, keys):
    return {name: ask(proxy, name, keys) for name in sections}


def assert_that_the_test_means_something(sections, places, errors=()):
    """Everything was answered by a server, and more than one server was asked."""
    spread = 0
    for name, found in places.items():
        odd = {p for p in found if not re.fullmatch(r"\d\d", p)} - set(errors)
        assert not odd, "NUT_SEED=%d: nutcracker answered %s in %s" % (SEED, odd, name)
        spread += len(set(found)) > 1
    assert spread > len(sections) // 3, "NUT_SEED=%d: nearly nothing was spread" % SEED


# ---- servers

def redis_servers(stage, dice, count):
    servers = []
    for number in range(count):
        path = os.path.join(stage.known, "redis-%d.sock" % number)
        server = stage.redis("--bind", *HOSTS, "-::1", unixsocket=path, port=port_of(dice))
        server.hosts = HOSTS + ("localhost",)
        servers.append(server)
    return servers


def memcached_servers(stage, dice, count):
    servers = []
    for _ in range(count):
        server = stage.memcached("-l", HOSTS[1], port=port_of(dice))
        server.hosts, server.unixsocket = HOSTS[:2], None
        servers.append(server)
    return servers


SERVERS = {"redis": redis_servers, "memcached": memcached_servers}
PICK = {"redis": redis_keys, "memcached": memcached_keys}
PLACES = {"redis": redis_places, "memcached": memcached_places}
AT_ONCE = {"redis": redis_places_at_once, "memcached": memcached_places_at_once}


def begin(stage, dice, protocol, count):
    """Servers that hold all keys, and the keys."""
    servers, keys = SERVERS[protocol](stage, dice, count), Keys(protocol, PICK[protocol](dice))
    number_servers(servers, keys, protocol)
    return servers, keys


def assert_same_places(stage, sections, servers, keys):
    """Both proxies, before anything has failed; returns where the keys are."""
    nutcracker, nutproxy = start(stage, sections)
    protocol = keys.protocol
    wanted = all_places(PLACES[protocol], nutcracker, sections, keys)
    assert_that_the_test_means_something(sections, wanted)
    assert_same(sections, keys, wanted, all_places(PLACES[protocol], nutproxy, sections, keys),
                servers=servers)
    at_once = all_places(AT_ONCE[protocol], nutproxy, sections, keys)
    for name, section in sections.items():
        if section["distribution"] == "random":     # few picks: not every server has its turn
            assert set(at_once[name]) <= members(section, servers)
            at_once[name] = wanted[name]
    assert_same(sections, keys, wanted, at_once, "when asked for at once", servers=servers)
    for proxy in (nutcracker, nutproxy):
        proxy.stop()
    return wanted


# ---- tests

@pytest.mark.parametrize("protocol, count, rounds", (("redis", 12, 3), ("memcached", 6, 2)))
def test_keys_go_where_nutcracker_sends_them(stage, dice, protocol, count, rounds):
    servers, keys = begin(stage, dice, protocol, count)
    assert_same_places(stage, pools(dice, servers, protocol, rounds=rounds), servers, keys)


def test_an_unnamed_server_on_port_11211_is_known_by_its_host_alone(stage, dice):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", 11211))
        except OSError:
            pytest.skip("port 11211 is in use")
    servers = memcached_servers(stage, dice, 3)
    special = stage.memcached("-l", HOSTS[1], port=11211)
    servers.append(special)
    keys = Keys("memcached", memcached_keys(dice))
    number_servers(servers, keys, "memcached")
    sections = {}
    for i, distribution in enumerate(("ketama", "modula") * 3):
        lines = ["%s:%d:%d" % (dice.choice(HOSTS[:2]), s.port, dice.randint(1, 5)) for s in servers]
        dice.shuffle(lines)
        sections["p%d" % i] = pool(lines, "memcached", hash=dice.choice(HASHES),
                                   distribution=distribution)
    nutcracker, nutproxy = start(stage, sections)
    wanted = all_places(memcached_places, nutcracker, sections, keys)
    assert_that_the_test_means_something(sections, wanted)
    assert any("03" in found for found in wanted.values())
    assert_same(sections, keys, wanted, all_places(memcached_places, nutproxy, sections, keys))


def test_what_one_proxy_writes_the_other_reads_and_one_server_holds_it(stage, dice):
    servers = redis_servers(stage, dice, 6)
    sections = pools(dice, servers, "redis", ("ketama", "modula"), least=3)
    nutcracker, nutproxy = start(stage, sections)
    written = {}                            # on the servers: key -> value
    for i, name in enumerate(sections):
        with wire(nutcracker.where(name)) as a, wire(nutproxy.where(name)) as b:
            singles = [b"%s:%d:%d" % (name.encode(), i, n) for n in range(30)]
            by_mset = [k + b":mset" for k in singles]
            for writer, reader, mark in ((a, b, b"nutcracker"), (b, a, b"nutproxy")):
                mine = {k + mark: k + b" by " + mark for k in singles + by_mset}
                writer.say(*(command("SET", k + mark, mine[k + mark]) for k in singles))
                assert writer.frames(len(singles)) == [b"+OK\r\n"] * len(singles)
                pairs = [x for k in by_mset for x in (k + mark, mine[k + mark])]
                assert writer.ask("MSET", *pairs) == b"+OK\r\n"
                reader.say(*(command("GET", k) for k in mine))
                read = [reader.frame() for _ in mine]
                wrong = [(k, r) for k, r in zip(mine, read)
                         if r != b"$%d\r\n%s\r\n" % (len(mine[k]), mine[k])]
                assert not wrong, "NUT_SEED=%d: %s wrote, the other one did not find: %s in %s" % \
                    (SEED, mark, wrong[:3], sections[name])
                written.update(mine)
    held = [key for s in servers for key in s.client().keys("*")]
    assert sorted(held) == sorted(written), "each key on one server, and nothing else"


def test_the_random_distribution_uses_every_server_whatever_its_weight(stage, dice):
    servers, keys = begin(stage, dice, "redis", 5)
    proxy = stage.nutproxy({"p%d" % i: pool(servers[:i], distribution="random",
                                            weights=[1, 1000, 1, 7, 1][:i])
                            for i in (1, 2, 5)})
    for i in (1, 2, 5):
        found = redis_places(proxy, "p%d" % i, keys)
        shares = {"%02d" % n: found.count("%02d" % n) for n in range(i)}
        assert sum(shares.values()) == len(keys), set(found) - set(shares)
        # Fair shares are len(keys) / i; the bound lies many deviations away.
        assert min(shares.values()) > len(keys) / i / 2, shares
        assert set(redis_places_at_once(proxy, "p%d" % i, keys)) <= set(shares), "by MGET"


def eject(proxy, sections, keys, dead, places):
    """Ask for some keys until the dead server has been ejected from every pool: until no key
    errs. Some of those keys were the dead server's own."""
    for name in sections:
        own = [k for k, place in zip(keys, places[name]) if place == dead]
        some = Keys(keys.protocol, own[:100] + keys[::len(keys) // 200])

        def calm():
            try:
                found = PLACES[keys.protocol](proxy, name, some)
            except Gone:                    # nutcracker hangs up after some failures
                return False
            return all(re.fullmatch(r"\d\d", p) for p in found)
        wait_for("%s to eject server %s from %s" % (proxy.argv[0], dead, name), calm, 20)


@pytest.mark.parametrize("protocol", ("redis", "memcached"))
def test_keys_of_ejected_servers_go_where_nutcracker_sends_them(stage, dice, protocol):
    """Every pool loses a server that has keys, and many lose a second one. One death at a
    time: nutcracker also ejects servers without keys, when their connection closes."""
    servers, keys = begin(stage, dice, protocol, 6)
    # At least three servers each, so that one is left when two are dead.
    rest = pools(dice, servers, protocol, least=3, doubles=False, auto_eject_hosts=True,
                 server_failure_limit=1, server_retry_timeout=FOREVER)
    places = assert_same_places(stage, rest, servers, keys)
    ask, twice = PLACES[protocol], 0
    while rest:
        sections, dead, proxies = rest, [], ()
        while sections and len(dead) < 2:
            uses = collections.Counter(p for name in sections for p in set(places[name]))
            last = uses.most_common(1)[0][0]
            sections = {name: s for name, s in sections.items() if last in places[name]}
            if not dead:
                proxies = start(stage, sections)
                rest = {name: s for name, s in rest.items() if name not in sections}
            else:
                twice += len(sections)
            dead.append(last)
            servers[int(last)].kill()
            found = []
            for proxy in proxies:
                eject(proxy, sections, keys, last, places)
                found.append(all_places(ask, proxy, sections, keys))
            assert_same(sections, keys, *found, "without %s" % dead, dead, servers)
            places = dict(places, **found[0])
        for proxy in proxies:
            proxy.stop()
        for number in map(int, dead):
            servers[number].start()
            number_server(servers[number], number, keys, protocol)
    assert twice >= 3
