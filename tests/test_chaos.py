"""Chaos: real servers that are killed, stopped, slowed down, cut off and talk nonsense, under clients who notice every
wrong value.  What is allowed, and how it is judged, stands at the top of judge.py."""
import asyncio
import collections
import os
import random
import signal
import time

import pytest

from callers import BEGAN, CLIENTS, LEFT, MAYBE, SLACK, TIMEOUT, Client, MemcachedTongue, RedisTongue, now
from chaos import BREAKS, NAMES, REFUSED, Farm, farms, routes, tracks
from fake import wire
from judge import BLUR, REACH, TICK, Fault, Judge, Ring, read_log
from nut import SLOW, pool, wait_for
from resp import command

FAULTS = 5 if SLOW == 1 else 4          # seconds of them
SEED = os.environ.get("NUT_SEED", "1")  # another one draws other faults
RETRY, PROBE = 0.2, 0.05
MEMORY = 2048                           # KiB that may remain as holes in the heap: 32 bytes for each request are more


def ms(seconds):
    return "%dms" % (seconds * 1000)


class Crowd:
    """Clients in a loop of their own, and how late that was."""

    def __init__(self, clients):
        self.clients, self.late = clients, []

    async def watch(self):
        """Who hears nothing is noticed, and so is a machine that stands still."""
        last = now()
        while True:
            await asyncio.sleep(0.02)
            if now() - last > 0.2:
                self.late.append((last, now()))
            last = now()
            for c in self.clients:
                c.look(self.excused)

    async def run(self, script):
        """Let them ask while `script` runs; then they leave."""
        watch = asyncio.create_task(self.watch())
        lives = [asyncio.create_task(c.live()) for c in self.clients]
        try:
            await script
        finally:
            for c in self.clients:
                c.closing = True
            done, open_ = await asyncio.wait(lives, timeout=20 * TIMEOUT + SLACK)
            watch.cancel()
        assert not open_, "%d clients do not come to an end" % len(open_)
        for task in done:
            task.result()

    def excused(self, at, waited):
        """How long of this time the machine stood still, as far as one can see from here."""
        return sum(max(0, min(b, at) - max(a, at - waited)) for a, b in self.late)

    def wrong(self):
        return ["client %s %d: %s" % (c.tongue.protocol, c.number, w) for c in self.clients for w in c.wrong] + [
            "client %s %d was answered after %.3f s: %s" % (c.tongue.protocol, c.number, waited, op)
            for c in self.clients for at, waited, op in c.slow if waited - self.excused(at, waited) > TIMEOUT + SLACK]


def nobody_is_left(proxy, pools):
    wait_for("all clients to be gone", lambda: all(proxy.stats()[p]["client_connections"] == 0 for p in pools))


def most_descriptors(proxy, workers, pools):
    """How many a proxy that has served nobody yet may have later on, without clients: what it has, and for each worker
    a connection to each server, with Redis for each of both protocols."""
    nobody_is_left(proxy, pools)
    time.sleep(0.1)                         # who asked for the stats is gone by then
    has = proxy.descriptors()
    return has + workers * len(NAMES) * sum(2 if p == "redis" else 1 for p in pools)


def no_alarm(proxy):
    said = proxy.said()
    assert "must(" not in said and "Sanitizer" not in said and "not given back" not in said, said[-3000:]
    assert not [line for line in read_log(said) if line["level"] in ("emerg", "alert", "crit")]


class Scene:
    """Both protocols behind one proxy, servers behind relays, and clients; some say a byte at a time, some vanish."""

    def __init__(self, stage, workers, ejects, seed):
        self.ejects, self.seed, self.failed, self.calm_since = ejects, seed, [], None
        self.farms = farms(stage, seed)
        self.pools = [farm.tongue.protocol for farm in self.farms]
        keys = {"hash": "md5", "timeout": ms(TIMEOUT), "auto_eject_hosts": ejects, "server_retry_timeout": ms(RETRY),
                "probe_interval": ms(PROBE), "health_rise": 1}
        self.proxy = stage.nutproxy({"nutproxy": {"workers": workers, "log_format": "json"}, **{
            name: pool(farm.lines(), name, **keys) for name, farm in zip(self.pools, self.farms)}})
        self.clock = time.monotonic() - time.time()
        self.descriptors = most_descriptors(self.proxy, workers, self.pools)
        self.crowd = Crowd([
            Client(farm.tongue(n % 3 == 0), n, self.proxy.where(name), one_by_one=n < 2, vanishes=n > 39)
            for name, farm in zip(self.pools, self.farms) for n in range(CLIENTS)])

    def up(self):
        """All servers are, as the proxy's own tables tell it."""
        with wire(self.proxy.where("redis")) as w:
            redis = w.ask("INFO", "nutproxy").count(b":state=up,")
        with wire(self.proxy.where("memcached")) as w:
            w.say(b"stats servers\r\n")
            lines = []
            while lines[-1:] != [b"END\r\n"]:
                lines.append(w.line())
        return redis == len(NAMES) and sum(b" up " in line for line in lines) == len(NAMES)

    def warm_up(self):
        """A second without trouble, so that what comes behind it has nothing to get used to."""
        asyncio.run(self.crowd.run(asyncio.sleep(1)))
        nobody_is_left(self.proxy, self.pools)
        assert not self.crowd.wrong() and self.up(), self.crowd.wrong()[:9]
        time.sleep(1.5 if SLOW == 1 else 0)         # until spares are given back
        self.memory = self.proxy.rss_kib()

    async def trouble(self):
        threads = tracks(self.farms, FAULTS, 2, self.failed)
        while any(t.is_alive() for t in threads):
            await asyncio.sleep(0.1)
        await asyncio.get_running_loop().run_in_executor(None, wait_for, "all servers to be up", self.up)
        await asyncio.sleep(REACH)
        self.calm_since = now()
        await asyncio.sleep(1)

    def all_is_given_back(self):
        assert self.up()
        nobody_is_left(self.proxy, self.pools)
        wait_for("descriptors to be closed, but for %d" % self.descriptors,
                 lambda: self.proxy.descriptors() <= self.descriptors)
        if SLOW == 1:                               # sanitizers keep what is freed, and count it at the end
            wait_for("memory to be given back", lambda: self.proxy.rss_kib() < self.memory + MEMORY)

    def waits(self):
        """How long those had waited who were told that time is up, but for the machine: three of four of them
        no longer than the second number."""
        waits = sorted(w for c in self.crowd.clients for at, w in c.timed_out if self.crowd.excused(at, w) == 0)
        return (waits[0], waits[len(waits) * 3 // 4]) if waits else (0, 0)

    def verdict(self):
        """What is wrong, and some figures."""
        log, wrong, figures = read_log(self.proxy.said()), self.crowd.wrong() + self.failed, []
        machine = [Fault(None, "machine", a, b, {"Connection timed out"}) for a, b in self.crowd.late]
        for name, farm in zip(self.pools, self.farms):
            ring = Ring(log, name, NAMES, self.ejects, routes(self.proxy, name, NAMES, self.ejects), self.clock)
            judge = Judge(ring, farm.faults + machine, farm.kills)
            clients = [c for c in self.crowd.clients if c.tongue.protocol == name]
            for c in clients:
                judge.judge(c)
                wrong += ["an error when all was well again: %s" % op for op in c.record
                          if op.error and op.error != LEFT and op.issued > self.calm_since and
                          not self.crowd.excused(op.ended, op.ended - self.calm_since)]
            wrong += ["%s: %s" % (name, w) for w in judge.wrong]
            figures.append("%s: %d requests, %d values read, %d faults, %d changes of the ring, %s" % (
                name, sum(len(c.record) for c in clients), judge.reads, len(farm.faults), len(ring.times),
                dict(judge.errors)))
        if self.waits()[1] > 1.5 * TIMEOUT:
            wrong.append("one of four who were told that time is up had waited for %.3f s" % self.waits()[1])
        figures.append("%d of %d descriptors, %d KiB, then %d, timeouts after %.3f to %.3f s, machine late %d times" % (
            self.proxy.descriptors(), self.descriptors, self.memory, self.proxy.rss_kib(), *self.waits(),
            len(self.crowd.late)))
        if wrong:
            print("\n".join("%.3f %s" % (line["at"] + self.clock - BEGAN, line["text"]) for line in log))
        return wrong, "\n".join(figures)


@pytest.mark.parametrize("ejects", (False, True), ids=("keeping", "ejecting"))
@pytest.mark.parametrize("workers", (1, 2) if SLOW == 1 else (2,))
def test_nothing_is_wrong_whatever_befalls_the_servers(stage, workers, ejects):
    seed = "%s, %d, %s" % (SEED, workers, ejects)
    scene = Scene(stage, workers, ejects, seed)
    scene.warm_up()
    asyncio.run(scene.crowd.run(scene.trouble()))
    no_alarm(scene.proxy)
    scene.all_is_given_back()
    wrong, figures = scene.verdict()
    print(figures)
    assert not wrong, "%d things are wrong; seed '%s'\n%s\n%s" % (
        len(wrong), seed, "\n".join(farm.told() for farm in scene.farms), "\n".join(wrong[:12]))
    assert scene.proxy.stop() == 0, scene.proxy.said()[-3000:]
    no_alarm(scene.proxy)


# ---- what a restart may cost, exactly

def steady(farm, proxy):
    """20 clients with one request at a time, and hardly a pause."""
    name = farm.tongue.protocol
    return Crowd([Client(farm.tongue(n % 3 == 0), n, proxy.where(name), depths=(1,), pause=0.002, big=0)
                  for n in range(20)])


both = pytest.mark.parametrize("tongue", (RedisTongue, MemcachedTongue), ids=lambda t: t.protocol)


def judged(crowd, farm, proxy, ejects, clock):
    """What is wrong in their records, and how it was with the ring."""
    name, names = farm.tongue.protocol, NAMES[:len(farm.servers)]
    ring = Ring(read_log(proxy.said()), name, names, ejects, routes(proxy, name, names, ejects), clock)
    judge = Judge(ring, farm.faults, farm.kills)
    for c in crowd.clients:
        judge.judge(c)
    return crowd.wrong() + judge.wrong, ring


@both
@pytest.mark.parametrize("servers", (1, 4))
def test_a_restart_costs_what_was_in_flight_and_no_more(stage, tongue, servers):
    name = tongue.protocol
    farm = Farm(tongue, [stage.redis() if name == "redis" else stage.memcached() for _ in NAMES[:servers]])
    proxy = stage.nutproxy({"nutproxy": {"log_format": "json"}, name: pool(
        farm.lines(), name, hash="md5", server_failure_limit=10)})
    crowd = steady(farm, proxy)

    async def script():
        await asyncio.sleep(0.5)
        begin = now()
        farm.servers[servers - 1].signal(signal.SIGSTOP)    # so that it is busy when it is killed
        await asyncio.sleep(0.1)
        await asyncio.get_running_loop().run_in_executor(None, farm.killed, servers - 1)
        farm.faults.append(Fault(servers - 1, "killed", begin, now(), BREAKS))
        await asyncio.sleep(1 + SLACK / 2)

    asyncio.run(crowd.run(script()))
    (dying, dead), up = farm.kills[servers - 1][0], farm.faults[0].end
    errors = [[op for op in c.record if op.error] for c in crowd.clients]
    slowest = max(op.ended - max(dead, op.issued) for c in crowd.clients for op in c.record if op.ended > dying)
    print("%s, %d: %d errors, up after %.3f s, slowest answer %.3f s" % (
        name, servers, sum(map(len, errors)), up - dead, slowest))
    wrong, _ = judged(crowd, farm, proxy, False, 0)
    assert not wrong, "\n".join(wrong[:9])
    assert sum(len(e) for e in errors) > 5, "it was not busy: this proves nothing"
    for e in errors:
        assert all(op.fate == MAYBE for op in e), "\n".join(map(str, e))
        # A server that dies may take one more connection, and what is sent after its end may still be written
        # before the proxy hears of it.
        assert len({op.issued for op in e if not dying <= op.issued <= dead}) <= 1, "\n".join(map(str, e))
        assert all(op.issued < dead + BLUR for op in e), "\n".join(map(str, e))
    assert slowest < up - dead + 1 + SLACK / 2, slowest     # a second is the longest pause between two attempts
    assert proxy.stop() == 0, proxy.said()[-3000:]
    no_alarm(proxy)


@both
def test_nobody_notices_that_a_dead_server_is_probed(stage, tongue):
    name, retry, probe, rise = tongue.protocol, 0.3, 0.1, 2
    farm = Farm(tongue, [stage.redis() if name == "redis" else stage.memcached() for _ in NAMES])
    proxy = stage.nutproxy({"nutproxy": {"log_format": "json"}, name: pool(
        farm.lines(), name, hash="md5", auto_eject_hosts=True, server_retry_timeout=ms(retry),
        probe_interval=ms(probe))})
    crowd, clock = steady(farm, proxy), time.monotonic() - time.time()

    async def script():
        await asyncio.sleep(0.3)
        begin = now()
        farm.end(1)
        await asyncio.sleep(2)
        await asyncio.get_running_loop().run_in_executor(None, farm.servers[1].start)
        farm.faults.append(Fault(1, "dead", begin, now(), BREAKS | REFUSED))
        await asyncio.sleep(retry + probe * rise + SLACK)

    asyncio.run(crowd.run(script()))
    wrong, ring = judged(crowd, farm, proxy, True, clock)
    assert not wrong, "\n".join(wrong[:9])
    assert ring.changes == [(1, True), (1, False)], proxy.said()
    (out, back), started = ring.times, farm.faults[0].end
    errors = [op for c in crowd.clients for op in c.record if op.error]
    print("%s: %d errors, out after %.3f s, back %.3f s after the start" % (
        name, len(errors), out - farm.kills[1][0][0], back - started))
    behind = [str(op) for op in errors if op.issued > out + TICK]
    assert errors and not behind, behind
    assert back - started < retry + probe * rise + SLACK / 2
    assert proxy.stop() == 0, proxy.said()[-3000:]
    no_alarm(proxy)


# ---- clients who are no help

Say = collections.namedtuple("Say", "get set stored nothing")
SAY = {"redis": Say(lambda k: command("GET", k), lambda k, v: command("SET", k, v), b"+OK\r\n", b"$-1\r\n"),
       "memcached": Say(lambda k: b"get %s\r\n" % k, lambda k, v: b"set %s 0 0 %d\r\n%s\r\n" % (k, len(v), v),
                        b"STORED\r\n", b"END\r\n")}

@both
def test_rude_clients_harm_nobody(stage, tongue):
    """Some vanish in the middle of a request, some say a byte at a time, some never read: the others hear no error and
    wait for nothing, and all that was held for the rude ones is given back."""
    name = tongue.protocol
    farm = Farm(tongue, [stage.redis() if name == "redis" else stage.memcached() for _ in NAMES])
    proxy = stage.nutproxy({"nutproxy": {"log_format": "json", "workers": 2}, name: pool(
        farm.lines(), name, hash="md5", client_output_limit="1m")})
    crowd = Crowd([Client(tongue(n % 3 == 0), n, proxy.where(name), one_by_one=n % 4 == 0, big=0.01)
                   for n in range(16)])
    say, big, rng = SAY[name], b"x" * 3000000, random.Random(name)
    halves = []

    def vanish():
        """Some SETs, half of one, and then the end."""
        keys = [b"rude:%d:%d" % (len(halves), i) for i in range(rng.randint(1, 4))]
        sets = [say.set(k, b"v" * rng.choice((10, 3000, 70000))) for k in keys]
        w = wire(proxy.where(name))
        w.say(say.get(b"rude") * rng.randint(0, 9), *sets[:-1], sets[-1][:rng.randint(1, len(sets[-1]) - 1)])
        time.sleep(rng.uniform(0, 0.02))
        (w.reset if rng.random() < 0.5 else w.close)()
        halves.append(keys[-1])

    def never_read(seconds):
        """What nobody reads fills the kernel's buffers, then the proxy's, up to the limit."""
        w = wire(proxy.where(name), seconds)
        w.say(say.get(b"big") * 8)
        return w

    def trouble():
        with wire(proxy.where(name)) as w:
            w.say(say.set(b"big", big))
            assert w.line() == say.stored
        deaf = [never_read(10 * SLOW) for _ in range(4)]
        end = now() + 2
        while now() < end:
            vanish()
        wait_for("those to be closed who never read",
                 lambda: sum(line["event"] == "client_closed" for line in read_log(proxy.said())) == len(deaf))
        for w in deaf:
            assert len(w.rest()) < 8 * len(big)
            w.close()
        with wire(proxy.where(name)) as w:
            for key in halves:
                w.say(say.get(key))
                assert w.line() == say.nothing, key

    async def script():
        await asyncio.get_running_loop().run_in_executor(None, trouble)

    descriptors = most_descriptors(proxy, 2, [name])
    asyncio.run(crowd.run(script()))
    nobody_is_left(proxy, [name])
    wrong, _ = judged(crowd, farm, proxy, False, 0)
    wrong += ["an error: %s" % op for c in crowd.clients for op in c.record if op.error]
    assert not wrong, "\n".join(wrong[:9])
    assert len(halves) > 20
    wait_for("descriptors to be closed, but for %d" % descriptors, lambda: proxy.descriptors() <= descriptors)
    assert proxy.stop() == 0, proxy.said()[-3000:]
    no_alarm(proxy)
