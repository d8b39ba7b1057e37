"""Pressure: long queues, slow readers, half-closed clients, little memory.  What is owed still comes, and
who is greedy pays for it alone."""
import socket
import threading
import time

import pytest

from fake import wire
from nut import SLOW, pool, wait_for
from resp import bulk, command


def read_all(s, pause=0.0, at_most=None):
    """All bytes until the other end closes, a mebibyte at a time."""
    got = 0
    while at_most is None or got < at_most:
        more = s.recv(1 << 20)
        if not more:
            break
        got += len(more)
        if pause:
            time.sleep(pause)
    return got


def test_a_memcached_that_must_write_before_it_reads_on_is_read(stage):
    """Large gets and sets in both directions at once: memcached stops reading while it cannot write."""
    proxy = stage.nutproxy({"alpha": pool([stage.memcached()], protocol="memcached", timeout=30000)})
    value = b"v" * 200000
    with wire(proxy.where("alpha")) as w:
        w.say(b"set a 0 0 %d\r\n%s\r\n" % (len(value), value))
        assert w.line() == b"STORED\r\n"
    answer = b"VALUE a 0 %d\r\n%s\r\nEND\r\n" % (len(value), value)
    wrong = []

    def client():
        with wire(proxy.where("alpha")) as w:
            sender = threading.Thread(target=w.say, daemon=True,
                                      args=(b"get a\r\nget a\r\nset a 0 0 %d\r\n%s\r\n" % (len(value), value),) * 10)
            sender.start()
            for _ in range(10):
                got = [w.exactly(len(answer)), w.exactly(len(answer)), w.line()]
                if got != [answer, answer, b"STORED\r\n"]:
                    wrong.append([g[:80] for g in got])
            sender.join()

    clients = [threading.Thread(target=client, daemon=True) for _ in range(30)]
    for c in clients:
        c.start()
    for c in clients:
        c.join(60 * SLOW)
    assert not wrong and not any(c.is_alive() for c in clients), wrong[:3]


@pytest.mark.parametrize("protocol", ["redis", "memcached"])
def test_a_client_that_half_closes_and_reads_late_gets_every_reply(stage, protocol):
    server = stage.redis() if protocol == "redis" else stage.memcached()
    proxy = stage.nutproxy({"alpha": pool([server], protocol=protocol)})
    value = b"v" * 100000
    with wire(proxy.where("alpha")) as w:
        if protocol == "redis":
            assert w.ask("SET", "big", value) == b"+OK\r\n"
            get, answer = command("GET", "big"), bulk(value)
        else:
            w.say(b"set big 0 0 100000\r\n%s\r\n" % value)
            assert w.line() == b"STORED\r\n"
            get, answer = b"get big\r\n", b"VALUE big 0 100000\r\n%s\r\nEND\r\n" % value
    for pause in (0.02, 0.3):
        with proxy.connect("alpha", 60) as s:
            s.sendall(get * 300)
            s.shutdown(socket.SHUT_WR)
            time.sleep(pause)               # it is the lateness that is tested
            assert read_all(s) == 300 * len(answer)


def test_a_reader_of_ordinary_speed_gets_a_gigabyte_of_large_values(stage):
    server = stage.redis()
    proxy = stage.nutproxy({"alpha": pool([server], timeout=0)})
    server.client().set("big", b"v" * 50_000_000)
    length = 20 * len(bulk(b"v" * 50_000_000))
    with proxy.connect("alpha", 60) as s:
        s.sendall(command("GET", "big") * 20)
        assert read_all(s, pause=0.002, at_most=length) == length
    assert proxy.rss_kib() < 300 * 1024 * (1 if SLOW == 1 else 3)


def test_clients_that_use_up_the_memory_cost_the_others_nothing(stage):
    server = stage.redis()
    proxy = stage.nutproxy({"nutproxy": {"max_memory": "16m"}, "alpha": pool([server])})
    server.client().set("big", b"v" * 1_000_000)
    with wire(proxy.where("alpha")) as w:
        assert w.ask("SET", "small", "value") == b"+OK\r\n"
        hogs = []
        try:
            for _ in range(60):
                hogs.append(proxy.connect("alpha"))
                hogs[-1].sendall(command("GET", "big") * 5)
                answers = [w.ask("GET", "small") for _ in range(20)]
                assert answers == [bulk(b"value")] * 20, set(answers)
        finally:
            for h in hogs:
                h.close()
        wait_for("the hogs to be gone", lambda: proxy.stats()["alpha"]["client_connections"] == 1)
        assert w.ask("GET", "big") == bulk(b"v" * 1_000_000)
    assert proxy.stats()["alpha"]["%s:%d" % (server.host, server.port)]["server_err"] == 0


def test_one_slow_request_does_not_take_its_server_down(stage):
    server = stage.redis()
    proxy = stage.nutproxy({"alpha": pool([server], timeout=int(300 * SLOW), auto_eject_hosts=True)})
    with wire(proxy.where("alpha")) as w:
        assert w.ask("SET", "k", "v") == b"+OK\r\n"
        server.pause()
        try:
            assert b"Connection timed out" in w.ask("GET", "k")
            name = "%s:%d" % (server.host, server.port)
            wait_for("the lane to be given up", lambda: proxy.stats()["alpha"][name]["server_connections"] == 0)
        finally:
            server.resume()
        assert w.ask("GET", "k") == bulk(b"v")
    stats = proxy.stats()["alpha"]
    assert stats["server_ejects"] == 0 and stats[name]["server_timedout"] == 1


def test_a_server_that_hangs_counts_as_often_as_it_lets_someone_wait(stage):
    """As many timeouts as server_failure_limit says, one after the other, take it down."""
    for limit in (1, 2, 3):
        server = stage.redis()
        proxy = stage.nutproxy({"alpha": pool([server], names=["one"], timeout=int(200 * SLOW), auto_eject_hosts=True,
                                              server_failure_limit=limit, server_retry_timeout="60m")})
        with wire(proxy.where("alpha")) as w:
            assert w.ask("SET", "k", "v") == b"+OK\r\n"
            server.pause()
            try:
                for _ in range(limit):
                    assert proxy.stats()["alpha"]["server_ejects"] == 0
                    assert b"Connection timed out" in w.ask("GET", "k")
                assert proxy.stats()["alpha"]["server_ejects"] == 1, limit
            finally:
                server.resume()


def test_a_server_that_stood_still_is_back_when_it_moves(stage):
    """The probe waits longer than a timeout for its answer: no interval passes in between."""
    server = stage.redis()
    proxy = stage.nutproxy({"alpha": pool([server], timeout=int(200 * SLOW), server_failure_limit=1,
                                          probe_interval="16s")})
    with wire(proxy.where("alpha")) as w:
        assert w.ask("SET", "k", "v") == b"+OK\r\n"
        server.pause()
        try:
            assert b"Connection timed out" in w.ask("GET", "k")
            wait_for("the old connection to be closed", lambda: not probing(server))
            # The first probe comes a sixteenth of the interval after that.
            wait_for("the probe", lambda: probing(server))
        finally:
            server.resume()
        wait_for("the server to be back", lambda: w.ask("GET", "k") == bulk(b"v"), 1)


def probing(server):
    """Whether somebody has a connection to that server."""
    with open("/proc/net/tcp") as f:
        remote = "0100007F:%04X 01 " % server.port
        return any(remote in line for line in f)


def test_servers_can_be_reached_when_clients_have_taken_all_descriptors(stage):
    import resource
    servers = [stage.redis() for _ in range(2)]
    proxy = stage.nutproxy({"alpha": pool(servers, hash="md5")},
                           preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    crowd = [proxy.connect("alpha") for _ in range(100)]
    try:
        served = refused = 0
        for s in crowd:
            try:
                s.sendall(command("SET", "k", "v") + command("SET", "l", "v"))
                got = s.recv(100)
            except ConnectionError:
                got = b""
            if got.startswith(b"+OK\r\n"):
                served += 1
            else:
                assert got in (b"", b"-ERR max number of clients reached\r\n"), got
                refused += 1
        assert served >= 10 and refused >= 10, (served, refused)
    finally:
        for s in crowd:
            s.close()
    wait_for("room", lambda: proxy.stats()["alpha"]["client_connections"] == 0)
    with wire(proxy.where("alpha")) as w:
        assert w.ask("GET", "k") == bulk(b"v")
