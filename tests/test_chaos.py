"""Chaos: real servers that are killed, stopped, slowed down, cut off and talk nonsense, under clients who notice every
wrong value.  What is allowed, and how it is judged, stands at the top of judge.py."""
import asyncio
import random
import time

import pytest

from callers import BEGAN, LOST, SLACK, TIMEOUT, Client, MemcachedTongue, RedisTongue, now
from chaos import NAMES, farms, routes, tracks
from fake import Gone, wire
from judge import REACH, Fault, Judge, Ring, read_log
from nut import SLOW, pool, wait_for
from resp import command

CLIENTS = 50
FAULTS = 8 if SLOW == 1 else 4          # seconds of them
RETRY, PROBE = 0.2, 0.05


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
                c.look()

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

    def wrong(self):
        return ["client %s %d: %s" % (c.tongue.protocol, c.number, w) for c in self.clients for w in c.wrong]


def nobody_is_left(proxy, pools):
    wait_for("all clients to be gone", lambda: all(proxy.stats()[p]["client_connections"] == 0 for p in pools))


def all_are_up(proxy):
    """As the proxy's own tables tell it, of both pools."""
    with wire(proxy.where("redis")) as w:
        redis = w.ask("INFO", "nutproxy").count(b":state=up,")
    with wire(proxy.where("memcached")) as w:
        w.say(b"stats servers\r\n")
        lines = []
        while lines[-1:] != [b"END\r\n"]:
            lines.append(w.line())
    return redis == len(NAMES) and sum(line.endswith(b" up\r\n") for line in lines) == len(NAMES)


def no_alarm(proxy):
    said = proxy.said()
    assert "must(" not in said and "Sanitizer" not in said, said[-3000:]
    assert not [line for line in read_log(said) if line["level"] in ("emerg", "alert", "crit")]


@pytest.mark.parametrize("ejects", (False, True), ids=("keeping", "ejecting"))
@pytest.mark.parametrize("workers", (1, 2))
def test_nothing_is_wrong_whatever_befalls_the_servers(stage, workers, ejects):
    seed = "%d %s" % (workers, ejects)
    both = farms(stage, seed)
    proxy = stage.nutproxy({"nutproxy": {"workers": workers, "log_format": "json"}, **{
        farm.tongue.protocol: pool(farm.lines(), farm.tongue.protocol, hash="md5", timeout=ms(TIMEOUT), auto_eject_hosts=ejects,
                                   server_retry_timeout=ms(RETRY), probe_interval=ms(PROBE)) for farm in both}})
    pools = [farm.tongue.protocol for farm in both]
    crowd = Crowd([Client(farm.tongue(n % 3 == 0), n, proxy.where(farm.tongue.protocol), one_by_one=n < 2)
                   for farm in both for n in range(CLIENTS)])
    clock, failed, calm = time.monotonic() - time.time(), [], []

    asyncio.run(crowd.run(asyncio.sleep(1)))
    nobody_is_left(proxy, pools)
    assert not crowd.wrong() and all_are_up(proxy)
    time.sleep(1.5)
    descriptors, memory = proxy.descriptors(), proxy.rss_kib()

    async def script():
        threads = tracks(both, FAULTS, 2, failed)
        while any(t.is_alive() for t in threads):
            await asyncio.sleep(0.1)
        await asyncio.sleep(REACH)
        calm.append(now())
        await asyncio.sleep(1)

    asyncio.run(crowd.run(script()))
    wait_for("all servers to be up", lambda: all_are_up(proxy))
    nobody_is_left(proxy, pools)
    no_alarm(proxy)

    log, wrong, figures = read_log(proxy.said()), crowd.wrong() + failed, []
    for farm in both:
        name = farm.tongue.protocol
        clients = [c for c in crowd.clients if c.tongue.protocol == name]
        ring = Ring(log, name, NAMES, ejects, routes(proxy, name, [k for c in clients for k in c.keys + c.counters]), clock)
        machine = [Fault(None, "machine", a, b, {"Connection timed out"}) for a, b in crowd.late]
        judge = Judge(ring, farm.faults + machine, farm.kills)
        for c in clients:
            judge.judge(c)
            wrong += ["an error when all was well again: %s" % op for op in c.record if op.error and op.issued > calm[0]]
        wrong += ["%s: %s" % (name, w) for w in judge.wrong]
        figures.append("%s: %d requests, %d values read, %d faults, %d changes, errors %s" % (
            name, sum(len(c.record) for c in clients), judge.reads, len(farm.faults), len(ring.times), dict(judge.errors)))
    print("\n".join(figures), "late", len(crowd.late), "max", max([b - a for a, b in crowd.late], default=0))
    print("fds", descriptors, proxy.descriptors(), "rss", memory, proxy.rss_kib())
    import os
    if wrong and os.environ.get("KEEP"):
        open(os.environ["KEEP"], "w").write("\n".join("%.3f %s" % (l["at"] + clock - BEGAN, l["text"]) for l in log) + "\n" + "\n".join(wrong) + "\n" + "\n".join(farm.told() for farm in both))
    assert not wrong, "%d things are wrong; seed '%s'\n%s\n%s\n%s" % (
        len(wrong), seed, "\n".join(farm.told() for farm in both), "\n".join(wrong[:12]), "\n".join(figures))
