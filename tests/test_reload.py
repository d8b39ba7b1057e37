"""The configuration is read anew on SIGUSR1: nobody is dropped, and what is bad changes nothing."""
import os
import re
import signal
import socket
import threading
import time
import zlib

import pytest

from fake import Fake, Gone, command, number_servers, wire
from nut import SLOW, can_connect, free_port, ini, pool, wait_for
from resp import bulk

RELOADED = r"'[^']*' was read again: (\d+) pools, (\d+) of them as before"


def reload(proxy, sections=None, text=None):
    """Write a configuration and have it read; what the log says of it."""
    if sections is not None:
        proxy.sections = dict({"nutproxy": proxy.sections["nutproxy"]}, **sections)
    with open(proxy.conf + ".new", "w") as f:
        f.write(text if text is not None else ini(proxy.sections))
    os.rename(proxy.conf + ".new", proxy.conf)
    before = len(proxy.said())
    proxy.signal(signal.SIGUSR1)
    wait_for("the reload", lambda: re.search(RELOADED + r"|is not taken over", proxy.said()[before:]))
    return proxy.said()[before:]


def counts(said):
    """How many pools there are, how many are as before, how many are new, changed, gone."""
    return tuple(map(int, re.search(RELOADED, said).groups())) + tuple(
        len(re.findall(r"pool '\w+': " + what, said)) for what in ("is new, listens on ", "has changed, listens on ", "is gone"))


def test_a_configuration_that_did_not_change_touches_nothing(stage):
    fake = Fake()
    proxy = stage.nutproxy({"alpha": pool([fake]), "beta": pool(["localhost:%d:1 b" % fake.port])})
    with wire(proxy.where("alpha")) as a, wire(proxy.where("beta")) as b:
        for _ in range(3):
            assert a.ask("SET", "k", "v") == b.ask("SET", "k", "v") == b"+OK\r\n"
            assert counts(reload(proxy)) == (2, 2, 0, 0, 0)
        assert len(fake.links) == 2, "connections to servers stay"
        wait_for("the client to be counted", lambda: proxy.stats()["alpha"]["client_connections"] == 1)


@pytest.mark.parametrize("workers", [1, 3])
def test_clients_stay_and_read_what_they_wrote_while_the_configuration_changes(stage, workers):
    servers = [stage.redis(), stage.redis(), stage.redis()]
    names = ["one", "two", "three"]
    alpha = pool(servers, names=names)
    proxy = stage.nutproxy({"nutproxy": {"workers": workers}, "alpha": alpha})
    stop, wrong, done = threading.Event(), [], []

    def client(number):
        n = 0
        try:
            with wire(proxy.where("alpha")) as w:
                while not stop.is_set():
                    keys = [b"%d:%d" % (number, n + i) for i in range(16)]
                    w.say(*(command("SET", k, b"v" + k) + command("GET", k) for k in keys))
                    got = w.frames(32)
                    if got != [x for k in keys for x in (b"+OK\r\n", bulk(b"v" + k))]:
                        wrong.append(got)
                    assert w.ask("MGET", *keys) == b"*16\r\n" + b"".join(bulk(b"v" + k) for k in keys)
                    n += 16
        except (AssertionError, Gone) as e:
            wrong.append(repr(e))
        done.append(n)
    threads = [threading.Thread(target=client, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    for timeout in range(20):
        said = reload(proxy, {"alpha": dict(alpha, timeout="%ds" % (20 + timeout), server_connections=1 + timeout % 3)})
        assert counts(said) == (1, 0, 0, 1, 0)
    stop.set()
    for t in threads:
        t.join()
    assert not wrong, wrong[:3]
    assert len(done) == 20 and min(done) > 0
    stats = proxy.stats()["alpha"]
    assert stats["client_err"] == 0 and stats["forward_error"] == 0
    # What is left is freed, connections and counters pass on to the newest pool.
    wait_for("old connections to be closed", lambda: sum(
        s.client().info("clients")["connected_clients"] - 1 for s in servers) <= 3 * 3 * workers)
    requests = sum(stats[n]["requests"] for n in names)
    assert requests >= sum(done) * 2 and requests == sum(stats[n]["responses"] for n in names)


def test_a_request_under_way_is_answered_by_the_server_that_was_asked(stage):
    held = threading.Event()

    def slow(link, words):
        held.wait(20 * SLOW)
        return bulk(b"from the old one")
    old, new = Fake(slow), Fake()
    new.store[b"k"] = b"from the new one"
    proxy = stage.nutproxy({"alpha": pool([old], names=["one"], timeout="30s")})
    with wire(proxy.where("alpha")) as w:
        w.say(command("GET", "k"))
        wait_for("the question to arrive", lambda: old.seen)
        w.say(command("GET", "k"), command("PING"))
        wait_for("both to arrive", lambda: len(old.seen) == 1 and proxy.stats()["alpha"]["one"]["requests"] == 2)
        reload(proxy, {"alpha": dict(proxy.sections["alpha"], servers=["127.0.0.1:%d:1 one" % new.port])})
        w.say(command("GET", "k"))          # waits for the replies before it
        with wire(proxy.where("alpha")) as other:
            assert other.ask("GET", "k") == bulk(b"from the new one")
        held.set()
        assert w.frames(4) == [bulk(b"from the old one")] * 2 + [b"+PONG\r\n", bulk(b"from the new one")]
    wait_for("the old server to be left", lambda: all(link.over.is_set() for link in old.links))


def test_half_a_request_is_finished_by_the_new_pool(stage):
    servers = [Fake(), Fake()]
    proxy = stage.nutproxy({"alpha": pool(servers[:1], names=["one"])})
    with wire(proxy.where("alpha")) as w:
        whole = command("SET", "key", "x" * 100000)
        w.say(whole[:50000])
        wait_for("the client to be seen", lambda: proxy.stats()["alpha"]["client_connections"] == 1)
        reload(proxy, {"alpha": dict(proxy.sections["alpha"], servers=["127.0.0.1:%d:1 one" % servers[1].port])})
        w.say(whole[50000:])
        assert w.frame() == b"+OK\r\n" and servers[1].store[b"key"] == b"x" * 100000 and not servers[0].seen


def test_pools_come_and_go_and_move(stage):
    fake, path = Fake(), stage.path("gone.sock")
    stays, moves, gone = (pool([fake], names=["one"]) for _ in range(3))
    gone["listen"] = path
    proxy = stage.nutproxy({"stays": stays, "moves": moves, "gone": gone})
    with wire(proxy.where("stays")) as a, wire(proxy.where("moves")) as b, wire(path) as c:
        for w in (a, b, c):
            assert w.ask("SET", "k", "v") == b"+OK\r\n"
        was = proxy.where("moves")
        new = pool([fake], names=["one"])
        moved = dict(moves, listen="127.0.0.1:%d" % free_port())
        assert counts(reload(proxy, {"stays": stays, "moves": moved, "new": new})) == (3, 1, 1, 1, 1)
        assert a.ask("GET", "k") == b.ask("GET", "k") == bulk(b"v"), "clients go along with the name"
        assert c.rest() == b"", "the pool is gone"
        assert not os.path.exists(path) and not can_connect(was)
        for name in ("stays", "moves", "new"):
            with wire(proxy.where(name)) as w:
                assert w.ask("GET", "k") == bulk(b"v")
        assert [n for n, v in proxy.stats().items() if isinstance(v, dict)] == ["new", "moves", "stays"]
    # And back.
    assert counts(reload(proxy, {"stays": stays, "moves": moves, "gone": gone})) == (3, 1, 1, 1, 1)
    with wire(path) as w:
        assert w.ask("GET", "k") == bulk(b"v")
    assert proxy.stop() == 0 and not os.path.exists(path)


def test_what_is_bad_is_told_in_the_log_and_changes_nothing(stage):
    fake = Fake()
    alpha = pool([fake], names=["one"])
    proxy = stage.nutproxy({"alpha": alpha})
    with socket.socket() as taken, wire(proxy.where("alpha")) as w:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = pool([fake], names=["one"], listen="127.0.0.1:%d" % port)
        fresh = pool([fake], names=["one"])
        rows = (("[alpha]\nlisten = x\ntimeuot = 5\n", ("did you mean 'timeout'", "listen", "servers")),
                ("", ("has no pools",)),
                (ini({"alpha": alpha, "fresh": fresh, "other": other}), ("other: cannot listen on '127.0.0.1", )),
                (ini({"alpha": dict(alpha, listen="no.such.host.invalid:1")}), ("cannot be resolved",)))
        for text, words in rows:
            said = reload(proxy, text=text)
            assert "is not taken over: all stays as it is" in said, said
            assert not [x for x in words if x not in said], said
            assert w.ask("SET", "k", "v") == b"+OK\r\n"
            assert not can_connect(("127.0.0.1", int(fresh["listen"].split(":")[1])))
        os.unlink(proxy.conf)
        proxy.signal(signal.SIGUSR1)
        wait_for("the missing file to be told", lambda: "cannot be read: No such file" in proxy.said())
        assert w.ask("GET", "k") == bulk(b"v")
        assert len(fake.links) == 1
    assert counts(reload(proxy, {"alpha": alpha})) == (1, 1, 0, 0, 0)


def test_a_server_that_is_down_stays_down_for_those_who_come_after(stage):
    servers = [stage.redis(), stage.redis()]
    keys = dict(names=["one", "two"], hash="md5", auto_eject_hosts=True, server_failure_limit=1,
                server_retry_timeout="60m")
    proxy = stage.nutproxy({"alpha": pool(servers, **keys)})
    with wire(proxy.where("alpha")) as w:
        servers[0].kill()
        asked = [w.ask("GET", "key%d" % n)[:1] for n in range(50)]
        assert asked.count(b"-") == 1
        reload(proxy, {"alpha": dict(proxy.sections["alpha"], timeout="3s")})
        assert {w.ask("GET", "key%d" % n) for n in range(50)} == {b"$-1\r\n"}
        stats = proxy.stats()["alpha"]
        assert stats["server_ejects"] == 1 and stats["one"]["server_ejected_at"] > 0
        # Where another server has the name, it is a new one.
        other = stage.redis()
        reload(proxy, {"alpha": dict(proxy.sections["alpha"],
                                     servers=["127.0.0.1:%d:1 one" % other.port, proxy.sections["alpha"]["servers"][1]])})
        for n in range(50):
            assert w.ask("SET", "key%d" % n, "v") == b"+OK\r\n"
        assert other.client().dbsize() > 0


def test_who_was_ejected_first_stays_so_where_eject_limit_lets_no_more_go(stage, fakes):
    servers, names, keys = [fakes() for _ in range(4)], list("abcd"), [b"k%d" % i for i in range(100)]
    number_servers(servers, keys)
    proxy = stage.nutproxy({"alpha": pool(servers, names=names, hash="md5", auto_eject_hosts=True, eject_limit=25,
                                          server_failure_limit=1, server_retry_timeout="60m", probe_interval="60m")})
    with wire(proxy.where("alpha")) as w:
        def failing():
            w.say(*(command("GET", k) for k in keys))
            return {k for k, reply in zip(keys, w.frames(len(keys))) if reply[:1] == b"-"}

        home = {k: int(w.ask("GET", k)[-4:]) for k in keys}
        for down, n in enumerate((2, 0), 1):
            servers[n].down()
            failing()
            wait_for("it to be down", lambda: proxy.said().count(" is down") == down)
        before = failing()
        assert {k for k in keys if home[k] == 0} <= before and not any(home[k] in (1, 3) for k in before)
        assert any(home[k] == 2 and k not in before for k in keys), "what was at c is somewhere else"
        for backlog in (100, 101):
            reload(proxy, {"alpha": dict(proxy.sections["alpha"], backlog=backlog)})
            assert failing() == before
        assert proxy.stats()["alpha"]["server_ejects"] == 1


def test_clients_of_a_pool_that_speaks_another_language_now_are_closed_when_answered(stage):
    fake, cache = Fake(), Fake(protocol="memcached")
    proxy = stage.nutproxy({"alpha": pool([fake])})
    with wire(proxy.where("alpha")) as w:
        assert w.ask("SET", "k", "v") == b"+OK\r\n"
        reload(proxy, {"alpha": dict(proxy.sections["alpha"], protocol="memcached",
                                     servers=["127.0.0.1:%d:1" % cache.port])})
        assert w.rest() == b""
    with wire(proxy.where("alpha")) as w:
        assert w.tell(b"get k\r\n") == b"END\r\n"


def test_the_log_follows_and_what_only_a_start_changes_is_told(stage):
    fake = Fake()
    proxy = stage.nutproxy({"alpha": pool([fake])})
    log = stage.path("other.log")
    proxy.sections["nutproxy"].update(log=log, log_format="json", workers=2)
    with open(proxy.conf, "w") as f:
        f.write(ini(proxy.sections))
    proxy.signal(signal.SIGUSR1)

    def said():
        return open(log).read() if os.path.exists(log) else ""
    wait_for("it to be told in the new log", lambda: "'workers' changes with a new start only" in said())
    assert '"event":"reloaded"' in said()
    assert proxy.stop() == 0 and '"event":"stopped"' in said()


def test_many_reloads_leave_nothing_behind(stage):
    servers = [stage.redis(), stage.redis()]
    alpha = pool(servers, preconnect=True, server_connections=4)
    proxy = stage.nutproxy({"nutproxy": {"workers": 2}, "alpha": alpha, "beta": pool(servers)})
    beta = proxy.sections["beta"]
    with wire(proxy.where("alpha")) as a, wire(proxy.where("beta")) as b:
        def turn(n):
            changed = dict(alpha, timeout="%dms" % (9000 + n))
            names = {"alpha": changed, "beta": beta} if n % 2 else {"beta": beta, "gamma": changed}
            reload(proxy, names)
            assert a.ask("SET", "k", "v") == b.ask("SET", "k", "v") == b"+OK\r\n"
        for n in range(8):
            turn(n)
        wait_for("old connections to be closed", lambda: proxy.stats()["curr_connections"] <= 4 + 2 + 16 + 4)
        before, memory = proxy.descriptors(), proxy.rss_kib()
        for n in range(8, 44):
            turn(n)
        wait_for("all descriptors to be given back", lambda: proxy.descriptors() <= before + 1)
        if SLOW == 1:                       # sanitizers keep what was freed
            assert proxy.rss_kib() < memory + 512
    assert proxy.stop() == 0
    assert "were not given back" not in proxy.said(), proxy.said()[-500:]


def test_signals_one_upon_the_other_are_all_obeyed(stage):
    fake = Fake()
    proxy = stage.nutproxy({"nutproxy": {"workers": 3}, "alpha": pool([fake])})
    with wire(proxy.where("alpha")) as w:
        for n in range(50):
            proxy.sections["alpha"]["timeout"] = "%ds" % (5 + n)
            with open(proxy.conf + ".new", "w") as f:
                f.write(ini(proxy.sections))
            os.rename(proxy.conf + ".new", proxy.conf)
            proxy.signal(signal.SIGUSR1)
            if n % 10 == 0:
                assert proxy.stats()["alpha"]["client_connections"] >= 1
        assert w.ask("SET", "k", "v") == b"+OK\r\n"
        proxy.signal(signal.SIGUSR1)
        assert proxy.stop() == 0
    assert "were not given back" not in proxy.said()


def test_twemproxys_file_is_read_anew_too(stage):
    server, port = stage.redis(), free_port()
    path = stage.path("nutcracker.yml")
    text = "a:\n  listen: 127.0.0.1:%d\n  redis: true\n%s  servers:\n  - 127.0.0.1:%d:1\n"
    with open(path, "w") as f:
        f.write(text % (port, "", server.port))
    proxy = stage.process([stage.nutproxy({"x": pool([server])}).argv[0], "-c", path, "-s", str(free_port())],
                          ("127.0.0.1", port), "yaml")
    with wire(("127.0.0.1", port)) as w:
        assert w.ask("SET", "k", "v") == b"+OK\r\n"
        with open(path, "w") as f:
            f.write(text % (port, "  timeout: 400\n", server.port))
        proxy.signal(signal.SIGUSR1)
        wait_for("the reload", lambda: re.search(RELOADED, proxy.said()))
        assert w.ask("GET", "k") == bulk(b"v")


def test_a_retired_pool_probes_nobody_and_is_freed(stage):
    """Its servers fail and answer while it goes: with many pools, in the turn that frees it, too."""
    held = {"a": [], "b": []}
    a = Fake(lambda link, words: held["a"].append(link))
    b = Fake(lambda link, words: held["b"].append(link))
    lines = ["127.0.0.1:%d:1 a" % a.port, "127.0.0.1:%d:1 b" % b.port]

    def new():
        return pool(lines, distribution="modula", hash="crc32a", probe_interval="10ms", server_failure_limit=1, timeout=0)
    keys = [next(str(n) for n in range(99) if zlib.crc32(b"%d" % n) % 2 == side) for side in (0, 1)]
    stays = pool([Fake()])
    proxy = stage.nutproxy({"stays": stays})
    for _ in range(4):
        pools = {"p%d" % n: new() for n in range(20)}
        reload(proxy, dict(pools, stays=stays))
        wires = [wire(proxy.where(n)) for n in pools for _ in range(2)]
        for i, w in enumerate(wires):
            w.say(command("GET", keys[i % 2]))
        wait_for("all to be asked", lambda: len(held["a"]) == len(held["b"]) == 20)
        reload(proxy, {"stays": stays})
        a.down()
        a.links.clear()
        for w in wires[::2]:                # whose server was a: the pools know that it is down
            assert b"Connection" in w.rest()
        a.up()
        time.sleep(0.1 * SLOW)              # ten times the interval of probes
        assert not a.links
        for link in held["b"]:
            link.say(bulk(b"x"))
        for w in wires:
            w.rest()
            w.close()
        held["a"].clear(), held["b"].clear()
    wait_for("the pools to be gone", lambda: proxy.stats()["curr_connections"] <= 2)
    assert proxy.stop() == 0


def test_a_reload_without_memory_changes_nothing(stage):
    fake = Fake()
    alpha, beta = pool([fake], names=["one"]), pool([fake], names=["one"])
    proxy = stage.nutproxy({"nutproxy": {"workers": 2, "max_memory": "2m"}, "alpha": alpha})
    big = pool(["127.0.0.1:%d:1 s%d" % (fake.port, n) for n in range(4000)])
    with wire(proxy.where("alpha")) as w:
        for _ in range(3):
            said = reload(proxy, {"beta": beta, "big": big})
            assert "memory is short" in said and "is not taken over: all stays as it is" in said
            assert w.ask("SET", "k", "v") == b"+OK\r\n"
            assert not can_connect(proxy.where("big")) and not can_connect(proxy.where("beta"))
        assert proxy.stats()["alpha"]["one"]["requests"] == 3
        assert counts(reload(proxy, {"alpha": alpha, "beta": beta})) == (2, 1, 1, 0, 0)
        assert w.ask("GET", "k") == bulk(b"v")
    assert counts(reload(proxy, {"beta": beta})) == (1, 1, 0, 0, 1)
    assert not can_connect(tuple(["127.0.0.1", int(alpha["listen"].split(":")[1])])), "nobody is let in to wait for ever"
    assert proxy.stop() == 0 and "were not given back" not in proxy.said()


def test_who_was_trusted_stays_trusted_and_who_needs_no_password_gives_none(stage):
    fake = Fake()
    closed = pool([fake], redis_auth="secret")
    opened = {k: v for k, v in closed.items() if k != "redis_auth"}
    proxy = stage.nutproxy({"alpha": closed})
    with wire(proxy.where("alpha")) as stranger, wire(proxy.where("alpha")) as known:
        assert known.ask("AUTH", "secret") == b"+OK\r\n" and stranger.ask("GET", "k").startswith(b"-NOAUTH")
        reload(proxy, {"alpha": dict(closed, redis_auth="other")})
        assert known.ask("GET", "k") == b"$-1\r\n" and stranger.ask("GET", "k").startswith(b"-NOAUTH")
        assert stranger.ask("AUTH", "secret").startswith(b"-ERR invalid password")
        reload(proxy, {"alpha": opened})
        assert known.ask("GET", "k") == stranger.ask("GET", "k") == b"$-1\r\n"
        reload(proxy, {"alpha": closed})
        assert known.ask("GET", "k") == b"$-1\r\n"
    with wire(proxy.where("alpha")) as w:
        assert w.ask("GET", "k").startswith(b"-NOAUTH")


def test_paths_have_the_permissions_of_the_newest_and_are_taken_away_by_their_owner_only(stage):
    fake, path = Fake(), stage.path("door.sock")
    alpha = pool([fake], listen=path + " 0600")
    proxy = stage.nutproxy({"alpha": alpha})

    def mode():
        return os.stat(path).st_mode & 0o777
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = reload(proxy, {"alpha": dict(alpha, listen=path + " 0666"),
                              "zulu": pool([fake], listen="127.0.0.1:%d" % taken.getsockname()[1])})
        assert "all stays as it is" in said and mode() == 0o600
    reload(proxy, {"alpha": dict(alpha, listen=path + " 0666")})
    assert mode() == 0o666
    os.unlink(path)
    reload(proxy, {"alpha": dict(alpha, timeout="9s")})
    with wire(path) as w:
        assert w.ask("GET", "k") == b"$-1\r\n" and mode() == 0o600, "it is made again"
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        assert proxy.stop() == 0 and os.path.exists(path), "it is somebody else's"


def test_counters_stay_with_their_names_and_never_fall(stage):
    fake = Fake()
    a, b = pool([fake], names=["one"]), pool([fake], names=["one"])
    proxy = stage.nutproxy({"a": a, "b": b})
    with wire(proxy.where("a")) as w:
        for _ in range(5):
            assert w.ask("GET", "k") == b"$-1\r\n"
        before = proxy.stats()
        reload(proxy, {"a": dict(a, listen=b["listen"]), "b": dict(b, listen=a["listen"])})
        after = proxy.stats()
        assert (after["a"]["one"]["requests"], after["b"]["one"]["requests"]) == (5, 0)
        assert w.ask("GET", "k") == b"$-1\r\n" and proxy.stats()["b"]["one"]["requests"] == 1, "it listens there now"
        reload(proxy, {"a": a})
        assert before["total_connections"] <= after["total_connections"] <= proxy.stats()["total_connections"]


def test_clients_that_wait_in_a_retired_pool_count(stage):
    fake = Fake(lambda link, words: None)
    alpha = pool([fake], names=["one"], client_connections=3, timeout=0)
    proxy = stage.nutproxy({"alpha": alpha})
    wires = []
    for n in range(3):
        wait_for("the port to be free of others", lambda: proxy.stats()["alpha"]["client_connections"] == n)
        wires.append(wire(proxy.where("alpha")))
        wires[-1].say(command("GET", "k"))
        wait_for("it to be asked", lambda: len(fake.seen) == n + 1)
    for n in range(2):
        reload(proxy, {"alpha": dict(alpha, backlog=100 + n)})
        assert proxy.stats()["alpha"]["client_connections"] == 3
        with wire(proxy.where("alpha")) as other:
            assert other.rest() == b"-ERR max number of clients reached\r\n"
    for link in fake.links:
        link.say(bulk(b"v") * 3)
    for w in wires:
        assert w.frame() == bulk(b"v")
        w.close()


def test_a_pipe_for_a_configuration_keeps_nobody_waiting(stage):
    fake = Fake()
    proxy = stage.nutproxy({"alpha": pool([fake])})
    os.unlink(proxy.conf)
    os.mkfifo(proxy.conf)
    proxy.signal(signal.SIGUSR1)
    wait_for("it to be told", lambda: "is no regular file" in proxy.said())
    wait_for("nobody to be left", lambda: proxy.stats()["alpha"]["client_connections"] == 0)
    assert proxy.stop() == 0


def test_a_level_that_a_signal_has_set_stays_unless_the_configuration_changes_it(stage):
    fake = Fake()
    proxy = stage.nutproxy({"alpha": pool([fake])})
    proxy.signal(signal.SIGTTIN)
    wait_for("the level to rise", lambda: "up log level to 6" in proxy.said())
    reload(proxy, {"alpha": pool([fake])})
    proxy.signal(signal.SIGTTIN)
    wait_for("the level to rise from there", lambda: "up log level to 7" in proxy.said())


def test_reloads_while_servers_die_and_return_cross_no_replies(stage):
    """Each value names its key; probes, ejections, reloads and deaths come in any order."""
    def answer(link, words):
        return {b"GET": bulk(b"of " + words[-1]), b"PING": b"+PONG\r\n"}[words[0]]
    fakes = [Fake(answer) for _ in range(3)]
    keys = dict(names=["a", "b", "c"], hash="md5", probe_interval="10ms", server_failure_limit=1,
                server_retry_timeout="10ms", timeout=int(1000 * SLOW))
    pools = {"one": pool(fakes, auto_eject_hosts=True, **keys), "two": pool(fakes, server_connections=2, **keys)}
    proxy = stage.nutproxy({"nutproxy": {"workers": 2}, **pools})
    stop, wrong, right = threading.Event(), [], [0]

    def client(name):
        with wire(proxy.where(name)) as w:
            n = 0
            while not stop.is_set():
                asked = [b"key%d" % (n + i) for i in range(8)]
                w.say(*(command("GET", k) for k in asked))
                for k in asked:
                    got = w.frame()
                    right[0] += got == bulk(b"of " + k)
                    if got != bulk(b"of " + k) and not got.startswith(b"-ERR "):
                        wrong.append((k, got))
                n += 8
    threads = [threading.Thread(target=client, args=(name,)) for name in ("one", "two") * 4]
    for t in threads:
        t.start()
    for n in range(60):
        fakes[n % 3].down()
        fakes[n % 3].links.clear()
        reload(proxy, {name: dict(p, backlog=100 + n) if n % 4 else p for name, p in pools.items()})
        fakes[n % 3].up()
    stop.set()
    for t in threads:
        t.join()
    assert not wrong and right[0] > 500, (wrong[:3], right)
    assert proxy.stop() == 0 and "were not given back" not in proxy.said()


def test_a_log_that_was_rotated_is_opened_anew_whatever_the_configuration_says(stage):
    fake, log = Fake(), stage.path("rotated.log")
    proxy = stage.nutproxy({"nutproxy": {"log": log}, "alpha": pool([fake])})
    for n, text in enumerate((None, "rubbish\n")):
        os.rename(log, "%s.%d" % (log, n))
        if text is not None:
            with open(proxy.conf, "w") as f:
                f.write(text)
        proxy.signal(signal.SIGUSR1)
        wait_for("a new log", lambda: os.path.exists(log) and
                 re.search(RELOADED if text is None else "is not taken over", open(log).read()))
