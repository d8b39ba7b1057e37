"""nutcracker and nutproxy beside each other: the same pools over equal servers, every request written down.

    with Hub() as hub, Stage() as stage:
        world = World(stage, hub)
        there, here = world.try_on(Case("a name", "redis", b"PING\\r\\n"))      # two Observations
"""
import collections
import re
import select

from nut import SLOW, dial, pool, wait_for
from recorder import REPLY, Raw, Recorder, cut
from resp import brief, bulk, command

NAMES = ("ash", "oak", "elm")
PASSWORD = "sesame"
OPEN, CLOSED, WAITS, STUCK = "open", "closed", "waits", "stuck"
FOREVER = 1000000
UNIQUE = re.compile(rb"^(VALUE \S+ \d+ \d+) \d+\r\n", re.M)      # only its own server knows it

# What the client saw, how its connection was left, and what each server was asked.
Observation = collections.namedtuple("Observation", "replies end servers")

# One thing to try: its pool, the bytes, the requests in them if they are whole (else None),
# and the servers that are sick meanwhile.
Case = collections.namedtuple("Case", "name pool data requests sick note", defaults=(None, (), ""))

POOLS = {
    "redis": dict(),
    "tags": dict(hash_tag="{}"),
    "brittle": dict(server_failure_limit=FOREVER),
    "slow": dict(server_failure_limit=FOREVER, timeout=int(300 * SLOW)),
    "ejecting": dict(auto_eject_hosts=True, server_failure_limit=3, server_retry_timeout=1000),
    "failing": dict(server_failure_limit=2),
    "locked": dict(redis_auth=PASSWORD, redis_db=2),
    "memcached": dict(),
    "mbrittle": dict(server_failure_limit=FOREVER),
    "mslow": dict(server_failure_limit=FOREVER, timeout=int(300 * SLOW)),
    "mfailing": dict(server_failure_limit=2),
    "mejecting": dict(auto_eject_hosts=True, server_failure_limit=3, server_retry_timeout=1000),
}


def protocol(name):
    return "memcached" if name.startswith("m") else "redis"


class Side:
    """One proxy, its servers, and the relays of each pool."""

    def __init__(self, stage, hub, product):
        self.servers = {p: {n: start() for n in NAMES} for p, start in (
            ("redis", stage.redis), ("memcached", lambda: stage.memcached("-t", "1")))}
        self.guarded = stage.redis("--requirepass", PASSWORD)
        self.product, self.recorders, self.fences, sections = product, {}, {}, {}
        for name, keys in POOLS.items():
            servers = {NAMES[0]: self.guarded} if name == "locked" else self.servers[protocol(name)]
            self.recorders[name] = {n: Recorder(hub, s, protocol(name)) for n, s in servers.items()}
            sections[name] = pool(list(self.recorders[name].values()), protocol(name), list(servers),
                                  **dict(dict(timeout=20000), **keys))
        if product == "nutproxy":
            for keys in sections.values():
                keys["probe_interval"] = 100
        self.proxy = getattr(stage, product)(sections)
        self.direct = {p: {n: dial(("127.0.0.1", s.port), 20 * SLOW) for n, s in servers.items()}
                       for p, servers in self.servers.items()}
        self.dirty = True

    def connect(self, name):
        return self.proxy.connect(name)

    def cut_off(self, name, names=NAMES):
        """End the connections between this pool and these servers."""
        for n in names:
            if n in self.recorders[name]:
                self.recorders[name][n].cut_off()
        self.settle(name)

    def settle(self, name):
        """Return when the proxy has looked at all that happened to its sockets before."""
        for _ in range(2):                  # the first round may be that of the events themselves
            with self.connect(name) as sock:
                sock.sendall(command("QUIT") if protocol(name) == "redis" else b"quit\r\n")
                while sock.recv(1024):
                    pass

    def asked(self, name):
        """What each server of this pool was asked since the last time."""
        return {n: r.take() for n, r in self.recorders[name].items()}


def replies_of(sock, speech, count):
    """So many replies from a server itself."""
    held = b""
    while True:
        found = cut(held, REPLY[speech])
        if len(found) >= count and not isinstance(found[-1], Raw):
            return found
        more = sock.recv(1 << 18)
        assert more, "a server closed its connection"
        held += more


def get(keys, speech):
    return b"".join(command("GET", k) if speech == "redis" else b"get %s\r\n" % k for k in keys)


class World:
    def __init__(self, stage, hub):
        self.hub = hub
        self.sides = [Side(stage, hub, product) for product in ("nutcracker", "nutproxy")]
        self.homes, self.fences, self.settings = {}, {}, {}
        for speech, name in (("redis", "redis"), ("memcached", "memcached")):
            self.learn(speech, name)

    # ---- where keys live, and what is there at the start

    def learn(self, speech, name):
        keys = [b"%d:fence" % i for i in range(60)]
        homes = self.homes_of(name, keys)
        self.fences[speech] = {n: next(k for k in keys if homes[k] == n) for n in NAMES}    # on each server one
        for side in self.sides:
            side.fences = self.fences

    def homes_of(self, name, keys):
        """Which server nutcracker asks for which key; nutproxy must ask the same."""
        speech, found = protocol(name), []
        for side in self.sides:
            with side.connect(name) as sock:
                sock.sendall(get(keys, speech))
                replies_of(sock, speech, len(keys))
            asked = side.asked(name)
            words = {n: [r[1] if speech == "redis" else r.split()[1] for r in rs] for n, rs in asked.items()}
            found.append({k: n for n in NAMES for k in words[n]})
        assert found[0] == found[1], "the two find keys on different servers"
        return found[0]

    def home(self, name, key):
        """The server of this key."""
        if (name, key) not in self.homes:
            self.homes[name, key] = self.homes_of(name, [key])[key]
        return self.homes[name, key]

    def keys(self, name, shape, count=1, most=400):
        """`count` keys of this shape ("%d:key") on each server."""
        keys = [(shape % i).encode() for i in range(most)]
        homes = self.homes_of(name, keys)
        return {n: [k for k in keys if homes[k] == n][:count] for n in NAMES}

    def set_up(self, speech, requests):
        """Make these, of each server, the data that every case begins with."""
        begin = self.settings[speech] = {}
        for n, key in self.fences[speech].items():
            begin[n] = [command("FLUSHALL"), command("SET", key, key)] if speech == "redis" else \
                [b"flush_all\r\n", b"set %s 0 0 %d\r\n%s\r\n" % (key, len(key), key)]
            begin[n] += requests[n]
        self.reset(speech)

    def reset(self, speech):
        for side in self.sides:
            for n, sock in side.direct[speech].items():
                sock.sendall(b"".join(self.settings[speech][n]))
        for side in self.sides:
            for n, sock in side.direct[speech].items():
                got = replies_of(sock, speech, len(self.settings[speech][n]))
                assert not any(r[:1] in b"-EC" for r in got), "the setting is of no use: %s" % got
            side.dirty = False

    # ---- a case

    def try_on(self, case, fresh=True, sick=None, heal=True):
        """What came of it on each side. `sick` is what is wrong with the servers case.sick."""
        speech = protocol(case.pool)
        if fresh and case.pool != "locked" and any(side.dirty for side in self.sides):
            self.reset(speech)
        for side in self.sides:
            for n in case.sick:
                side.recorders[case.pool][n].fall_sick(sick)
            if sick == "down":
                side.settle(case.pool)
        clients = [Client(side, case) for side in self.sides]
        for client in clients:
            client.send()
        seen = [client.observe() for client in clients]
        if case.sick and heal:
            self.heal(case)
        return seen

    def heal(self, case):
        for side in self.sides:
            for n in case.sick:
                side.recorders[case.pool][n].recover()
            side.cut_off(case.pool, case.sick)
        for side in self.sides:
            wait_for("the servers of %s to be reached again" % side.product,
                     Client(side, case._replace(sick=())).another)
            side.asked(case.pool)
            side.dirty = True

    def catch_up(self, case, seen):
        """Do with the servers of each side what only those of the other were asked to do."""
        speech = protocol(case.pool)
        for side, mine, others in zip(self.sides, seen, reversed(seen)):
            for n, requests in others.servers.items():
                if requests and not mine.servers[n]:
                    side.direct[speech][n].sendall(b"".join(command(*r) for r in requests))
                    replies_of(side.direct[speech][n], speech, len(requests))


class Client:
    """A connection that says one case and then a fence: a get on each server that is well.
    When the fence is answered, all before it is over; if it never is, another client's is."""

    def __init__(self, side, case):
        self.side, self.case, self.speech = side, case, protocol(case.pool)
        self.keys = [] if case.pool == "locked" else \
            [k for n, k in side.fences[self.speech].items() if n not in case.sick]
        self.fence = [bulk(k) if self.speech == "redis" else
                      b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (k, len(k), k) for k in self.keys]
        self.sock, self.held = side.connect(case.pool), b""

    def send(self):
        after = b"" if self.case.name == "cut" else get(self.keys, self.speech)
        if not self.keys and self.speech == "redis":
            after = command("PING")
        try:
            self.sock.sendall(self.case.data + after)
        except ConnectionError:
            pass                            # the reading tells

    def read(self, seconds):
        """How the connection is after all was read, or so many seconds of silence."""
        fenced = b"".join(self.fence)
        while not (fenced and self.held.endswith(fenced)):
            patience = seconds
            if not self.keys:
                replies = cut(self.held, REPLY[self.speech])
                lacking = len(self.case.requests) + (self.speech == "redis") - len(replies)
                if lacking <= 0 and self.speech == "redis":
                    self.held = b"".join(replies[:-1])
                    return OPEN
                patience = seconds if lacking > 0 else 0.05 * SLOW
            if not select.select([self.sock], [], [], patience)[0]:
                return OPEN if patience < seconds else WAITS
            try:
                more = self.sock.recv(1 << 18)
            except ConnectionError:
                more = b""
            if not more:
                return CLOSED
            self.held += more
        self.held = self.held[:-len(fenced)]
        return OPEN

    def observe(self):
        end = self.read((2 if self.case.sick else 0.03) * SLOW)
        if end != OPEN and self.keys:
            if not (self.another() or self.another()):
                end = STUCK                 # other clients get no answers either
                self.side.cut_off(self.case.pool)
                wait_for("%s to go on after %s" % (self.side.product, brief(self.case.data)), self.another)
            elif end == WAITS:
                end = self.read(0.03 * SLOW)
        self.sock.close()
        asked = self.side.asked(self.case.pool)
        servers = {n: [r for r in rs if not self.of_fence(r)] for n, rs in asked.items()}
        self.side.dirty |= any(servers.values())
        replies = [UNIQUE.sub(rb"\1 ?\r\n", r) for r in cut(self.held, REPLY[self.speech])]
        if self.case.name.startswith("~"):
            replies = [r[:1] for r in replies]          # chance or the clock decides
        if end != OPEN:
            replies = [r for r in replies if r not in self.fence]
        return Observation(replies, end, servers)

    def another(self):
        """Whether another client's fence is answered, even if its keys are lost."""
        with self.side.connect(self.case.pool) as sock:
            sock.sendall(get(self.keys, self.speech))
            held = b""
            while len(cut(held, REPLY[self.speech])) < len(self.keys):
                if not select.select([sock], [], [], 0.4 * SLOW)[0]:
                    return False
                more = sock.recv(1 << 18)
                if not more:
                    return False
                held += more
            return not re.search(rb"^(-|SERVER_ERROR)", held, re.M)

    def of_fence(self, request):
        words = request if isinstance(request, tuple) else tuple(request.split())
        return len(words) == 2 and words[1] in self.keys
