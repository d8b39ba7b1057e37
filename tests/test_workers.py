"""Several workers: clients spread over them, and what one finds out, or counts, holds for all."""
import os
import signal
import subprocess
import threading
import time

import pytest

from fake import Gone, wire
from nut import NUTPROXY, SLOW, ini, pool, wait_for
from resp import command


def watched(proxy):
    """For each worker's loop, how many clients it waits for: sockets whose local port is the pool's."""
    folder = "/proc/%d/fd/" % proxy.pid
    doors = {}
    with open("/proc/%d/net/tcp" % proxy.pid) as f:
        for row in f.read().splitlines()[1:]:
            words = row.split()
            if words[3] == "01" and int(words[1].split(":")[1], 16) == proxy.where("alpha")[1]:
                doors["socket:[%s]" % words[9]] = True
    clients = {fd for fd in os.listdir(folder) if os.readlink(folder + fd) in doors}
    counts = []
    for fd in os.listdir(folder):
        if os.readlink(folder + fd) == "anon_inode:[eventpoll]":
            with open("/proc/%d/fdinfo/%s" % (proxy.pid, fd)) as f:
                fds = [line.split()[1] for line in f if line.startswith("tfd:")]
            counts.append(sum(n in clients for n in fds))
    return sorted(counts)[1:]               # the control thread has a loop as well, and no clients


def threads(proxy):
    return len(os.listdir("/proc/%d/task" % proxy.pid))


def nobody_is_left(proxy):
    """Nor is who looked whether the proxy listens."""
    wait_for("all clients to be gone", lambda: proxy.stats()["alpha"]["client_connections"] == 0)


def polls():
    return "poll" in os.path.basename(os.environ.get("NUTPROXY", ""))


@pytest.mark.parametrize("workers", (2, 4))
@pytest.mark.skipif(polls(), reason="poll() has no list of what is waited for that could be read")
def test_fifty_clients_are_spread_evenly_however_the_kernel_deals_them_out(stage, workers):
    server = stage.redis()
    proxy = stage.nutproxy({"nutproxy": {"workers": workers}, "alpha": pool([server])})
    nobody_is_left(proxy)
    links = [wire(proxy.where("alpha")) for _ in range(50)]
    for link in links:
        assert link.ask("PING") == b"+PONG\r\n"
    counts = watched(proxy)
    assert len(counts) == workers and sum(counts) == 50, counts
    assert max(counts) < 2 * min(counts), counts
    assert max(counts) - min(counts) <= 2, counts
    # Those who leave make room where they were.
    for link in links[::2]:
        link.close()
    wait_for("half of them to be gone", lambda: sum(watched(proxy)) == 25)
    links = links[1::2] + [wire(proxy.where("alpha")) for _ in range(25)]
    for link in links:
        assert link.ask("SET", "k", "v") == b"+OK\r\n"
    counts = watched(proxy)
    assert sum(counts) == 50 and max(counts) - min(counts) <= 2, counts
    for link in links:
        link.close()
    assert proxy.stop() == 0 and "were not given back" not in proxy.said()


def test_auto_is_a_worker_for_each_core_that_we_may_use(stage):
    server, cores = stage.redis(), sorted(os.sched_getaffinity(0))
    counts = {}
    for number in (1, len(cores)):
        proxy = stage.nutproxy({"nutproxy": {"workers": "auto"}, "alpha": pool([server])},
                               preexec=lambda n=number: os.sched_setaffinity(0, cores[:n]))
        with wire(proxy.where("alpha")) as w:
            assert w.ask("SET", "k", "v") == b"+OK\r\n"
        counts[number] = threads(proxy)
        assert proxy.stop() == 0
    others = counts[1] - 1                  # the control thread, and the resolver
    assert counts[len(cores)] == len(cores) + others, counts


@pytest.mark.parametrize("workers", (1, 3))
def test_client_connections_is_a_limit_of_all_workers_together(stage, workers):
    server = stage.redis()
    proxy = stage.nutproxy({"nutproxy": {"workers": workers}, "alpha": pool([server], client_connections=10),
                            "beta": pool([server])})
    nobody_is_left(proxy)
    for _ in range(3):
        links, refused = [], 0
        for _ in range(30):
            link = wire(proxy.where("alpha"))
            try:
                assert link.ask("SET", "k", "v") in (b"+OK\r\n", b"-ERR max number of clients reached\r\n")
                links.append(link) if link.ask("PING") == b"+PONG\r\n" else None
            except (Gone, ConnectionError):
                refused += 1
                link.close()
        assert (len(links), refused) == (10, 20)
        with wire(proxy.where("beta")) as w:
            assert w.ask("PING") == b"+PONG\r\n", "the limit is alpha's"
        for link in links:
            link.close()
        nobody_is_left(proxy)


def test_the_limit_goes_on_through_a_reload(stage):
    server = stage.redis()
    alpha = pool([server], client_connections=6)
    proxy = stage.nutproxy({"nutproxy": {"workers": 3}, "alpha": alpha})
    nobody_is_left(proxy)
    links = [wire(proxy.where("alpha")) for _ in range(6)]
    for n, changed in enumerate((dict(alpha, timeout="7s"), dict(alpha, timeout="7s", client_connections=8), alpha)):
        for link in links:
            assert link.ask("PING") == b"+PONG\r\n"
        proxy.sections["alpha"] = changed
        with open(proxy.conf, "w") as f:
            f.write(ini(proxy.sections))
        proxy.signal(signal.SIGUSR1)
        wait_for("the reload", lambda n=n: proxy.said().count("was read again") == n + 1)
        more = [wire(proxy.where("alpha")) for _ in range(4)]
        heard = []
        for link in more:
            try:
                heard.append(link.ask("PING"))
            except (Gone, ConnectionError):
                heard.append(b"")
        welcome = changed["client_connections"] - 6
        assert heard.count(b"+PONG\r\n") == max(0, welcome), (n, heard)
        for link in more:
            link.close()
        wait_for("them to be gone", lambda: proxy.stats()["alpha"]["client_connections"] == 6)


def test_a_server_that_one_worker_ejects_is_ejected_by_all_and_counted_once(stage):
    servers = [stage.redis() for _ in range(3)]
    proxy = stage.nutproxy({"nutproxy": {"workers": 4}, "alpha": pool(
        servers, names=["one", "two", "three"], auto_eject_hosts=True, server_failure_limit=1,
        server_retry_timeout="300ms", timeout="2s", probe_interval="100ms")})
    links = [wire(proxy.where("alpha")) for _ in range(12)]
    for link in links:
        for k in range(20):
            assert link.ask("SET", "k%d" % k, "v") == b"+OK\r\n"

    for round_ in (1, 2):
        servers[1].kill()
        # One client finds out.
        heard = [links[0].ask("SET", "k%d" % k, "v") for k in range(20)]
        assert any(h.startswith(b"-ERR ") for h in heard)
        wait_for("it to be ejected", lambda: proxy.stats()["alpha"]["server_ejects"] == round_)
        # Nobody else does, whichever worker serves them.
        for link in links[1:]:
            for k in range(20):
                assert link.ask("SET", "k%d" % k, "v") == b"+OK\r\n"
        assert proxy.stats()["alpha"]["server_ejects"] == round_
        servers[1].start()
        wait_for("it to be back for all", lambda: all(
            asked(link) and servers[1].client().dbsize() > 0 for link in links))
        assert proxy.said().count("is down and ejected") == round_
        assert proxy.stats()["alpha"]["server_ejects"] == round_
    for link in links:
        link.close()
    assert proxy.stop() == 0 and "were not given back" not in proxy.said()


def asked(link):
    return all(link.ask("SET", "k%d" % k, "v") == b"+OK\r\n" for k in range(20))


def test_clients_who_come_while_the_configuration_changes_are_all_served(stage):
    server = stage.redis()
    alpha = pool([server])
    proxy = stage.nutproxy({"nutproxy": {"workers": 4}, "alpha": alpha})
    wrong, over, served = [], threading.Event(), [0] * 6

    def come_and_go(n):
        while not over.is_set():
            try:
                with wire(proxy.where("alpha")) as link:
                    if link.ask("SET", "k", "v") != b"+OK\r\n":
                        wrong.append("another reply")
                served[n] += 1
            except Exception as e:
                wrong.append(repr(e))
                return
    callers = [threading.Thread(target=come_and_go, args=(n,), daemon=True) for n in range(len(served))]
    for caller in callers:
        caller.start()
    end = time.monotonic() + 2 * SLOW
    reloads = 0
    while time.monotonic() < end and not wrong:
        proxy.sections["alpha"] = dict(alpha, timeout="%ds" % (5 + reloads % 7))
        with open(proxy.conf + ".new", "w") as f:
            f.write(ini(proxy.sections))
        os.rename(proxy.conf + ".new", proxy.conf)
        proxy.signal(signal.SIGUSR1)
        reloads += 1
        time.sleep(0.02)
    over.set()
    for caller in callers:
        caller.join(20)
    assert not wrong, wrong[:3]
    assert min(served) > 10 and reloads > 5, (served, reloads)
    assert proxy.stop() == 0 and "were not given back" not in proxy.said(), proxy.said()[-300:]


def test_a_server_whose_silence_all_workers_notice_at_once_is_counted_once(stage):
    servers = [stage.redis() for _ in range(3)]
    proxy = stage.nutproxy({"nutproxy": {"workers": 4}, "alpha": pool(
        servers, names=["one", "two", "three"], auto_eject_hosts=True, server_failure_limit=1, timeout="300ms",
        server_retry_timeout="200ms", probe_interval="100ms")})
    links = [wire(proxy.where("alpha")) for _ in range(20)]
    for round_ in (1, 2, 3):
        for link in links:
            assert asked(link)
        servers[1].pause()
        for link in links:
            link.say(*(command("SET", "k%d" % k, "v") for k in range(20)))
        heard = [link.frames(20) for link in links]
        assert all(any(b" timed out" in h for h in one) for one in heard)
        wait_for("it to be ejected", lambda: proxy.said().count("is down and ejected") == round_)
        for link in links:
            assert asked(link)
        servers[1].resume()
        wait_for("it to be back", lambda: proxy.said().count("is up, after") == round_)
        time.sleep(0.2)
        assert proxy.stats()["alpha"]["server_ejects"] == round_
        assert proxy.said().count("is down and ejected") == proxy.said().count("is up, after") == round_


def test_a_port_is_for_the_workers_of_one_process_only(stage):
    alpha = pool([stage.redis()])
    path = stage.path("second.ini")
    for shared in (False, True):
        alpha["reuseport"] = shared
        with open(path, "w") as f:
            f.write(ini({"nutproxy": {"workers": 3, "stats": "off"}, "alpha": alpha}))
        proxy = stage.nutproxy({"nutproxy": {"workers": 3}, "alpha": alpha})
        second = subprocess.Popen([NUTPROXY, "-c", path], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            said = second.stderr.readline() if shared else second.stderr.read()
            assert (b"started on pid" in said) == shared, said
            assert (b"alpha: cannot listen on '127.0.0.1' port '%d': " % proxy.where("alpha")[1] in said) != shared, said
        finally:
            second.terminate()
            assert second.wait(10) == (0 if shared else 1)
            second.stderr.close()
        assert proxy.stop() == 0
