"""What the log tells: a line for each event that matters, none for a request; as text, as JSON,
with priorities for systemd's journal."""
import json
import re
import signal
import time

import pytest

from fake import Fake, wire
from nut import NUTPROXY, SLOW, free_port, pool, wait_for

LINE = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] (.*)")


def texts(proxy):
    """The lines of the log, without the time."""
    return [LINE.fullmatch(line).group(1) for line in proxy.said().splitlines()]


def lines(proxy, pattern):
    return [text for text in texts(proxy) if re.fullmatch(pattern, text)]


def records(proxy):
    return [json.loads(line) for line in proxy.said().splitlines()]


def ask_until(w, good, *words):
    wait_for("%r to be %s" % (words, "answered" if good else "refused"),
             lambda: w.ask(*words).startswith(b"-") != good)


def let_in(proxy, name):
    """A wire to a pool that has room for one client: the one that waited for it to listen leaves."""
    def try_one():
        link = wire(proxy.where(name))
        if link.ask("PING") == b"+PONG\r\n":
            return link
        link.close()
        return None
    return wait_for("a client to be let in", try_one)


def test_each_event_has_one_line_and_requests_have_none(stage):
    server = stage.redis()
    proxy = stage.nutproxy({"alpha": pool([server], names=["one"], timeout="2s", probe_interval="50ms",
                                          server_failure_limit=1)})
    with wire(proxy.where("alpha")) as w:
        for n in range(500):
            assert w.ask("SET", "k%d" % n, "v") == b"+OK\r\n"
        assert w.ask("NOSUCH").startswith(b"-ERR") and w.ask("LPUSH", "k1", "x").startswith(b"-WRONGTYPE")
        assert len(texts(proxy)) == 3, texts(proxy)
        server.kill()
        ask_until(w, False, "GET", "k1")
        wait_for("the server to be down", lambda: lines(proxy, ".* is down: .*"))
        for _ in range(300):
            assert w.ask("GET", "k1").startswith(b"-ERR")
        server.start()
        ask_until(w, True, "GET", "k1")
    proxy.signal(signal.SIGUSR2)
    wait_for("the signal to be told", lambda: lines(proxy, r"signal 12 \(SIGUSR2\) received.*"))
    assert proxy.stop() == 0
    said = texts(proxy)
    wanted = [r"nutproxy-\S+ built for .* started on pid %d, workers: 1" % proxy.pid,
              r"pool 'alpha': listens on 127\.0\.0\.1:\d+, servers: 1", r"stats: listens on 127\.0\.0\.1:%d" % proxy.stats_port,
              r"pool 'alpha': server 'one' \(127\.0\.0\.1:%d\) lost: .*" % server.port,
              r"pool 'alpha': server 'one' \(\S+\) is down: .*",
              r"pool 'alpha': server 'one' \(\S+\) is up, after \d+\.\d s", r"signal 12 \(SIGUSR2\) received.*",
              r"signal 15 \(SIGTERM\) received.*", "done"]
    assert len(said) == len(wanted) and all(map(re.fullmatch, wanted, said)), said


def test_an_ejected_server_is_told_with_its_reason(stage):
    servers = [stage.redis(), stage.redis()]
    proxy = stage.nutproxy({"alpha": pool(servers, names=["one", "two"], hash="md5", auto_eject_hosts=True, server_failure_limit=1,
                                          server_retry_timeout="50ms", probe_interval="50ms")})
    servers[0].kill()
    with wire(proxy.where("alpha")) as w:
        for n in range(20):
            w.ask("GET", "key%d" % n)
    assert lines(proxy, "pool 'alpha': server 'one' .* lost: .*")
    assert lines(proxy, "pool 'alpha': server 'one' .* is down and ejected: .*")
    servers[0].start()
    wait_for("it to be told that it is up", lambda: lines(proxy, "pool 'alpha': server 'one' .* is up, after .* s"))
    assert not [t for t in texts(proxy) if "'two'" in t]


def test_a_server_that_is_lost_on_many_connections_is_told_once(stage):
    fake = Fake()
    proxy = stage.nutproxy({"alpha": pool([fake], names=["one"], server_connections=20, preconnect=True,
                                          server_failure_limit=100)})
    wait_for("all connections", lambda: len(fake.links) == 20)
    fake.answer = lambda link, words: None
    links = [wire(proxy.where("alpha")) for _ in range(20)]
    for link in links:
        link.say(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
    wait_for("all to be asked", lambda: len(fake.seen) == 20)
    proxy.pause()                           # so that all the ends come in one turn
    fake.down()
    proxy.resume()
    for link in links:
        assert link.frame().startswith(b"-ERR")
        link.close()
    assert len(lines(proxy, "pool 'alpha': server 'one' .* lost: .*")) <= 2


@pytest.mark.parametrize("why", ["client_connections", "descriptors"])
def test_a_client_that_is_refused_is_told_with_its_address(stage, why):
    server = stage.redis()
    keys = {"client_connections": 1} if why == "client_connections" else {}
    proxy = stage.nutproxy({"alpha": pool([server], **keys)},
                           **({} if keys else {"preexec": few_descriptors}))
    kept = [let_in(proxy, "alpha")]
    while True:
        link = wire(proxy.where("alpha"))
        kept.append(link)
        answer = link.ask("PING")
        if answer != b"+PONG\r\n":
            break
        assert len(kept) < 100
    assert answer == b"-ERR max number of clients reached\r\n"
    host, port = link.sock.getsockname()
    assert lines(proxy, r"pool 'alpha': client %s:%d was refused: .*" % (re.escape(host), port))
    for link in kept:
        link.close()


def few_descriptors():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))


def test_a_flood_of_one_event_is_cut_counted_and_hides_no_other(stage):
    server = stage.redis()
    proxy = stage.nutproxy({"alpha": pool([server], names=["one"], client_connections=1, timeout="2s",
                                          server_failure_limit=1, probe_interval="50ms")})
    with let_in(proxy, "alpha") as w:
        def flood():
            for _ in range(200):
                with wire(proxy.where("alpha")) as other:
                    assert b"max number of clients" in other.rest()
        start = time.monotonic()
        flood()
        server.kill()
        ask_until(w, False, "GET", "k")
        took = time.monotonic() - start
        wait_for("the server to be told among all the clients", lambda: lines(proxy, ".*'one' .* is down: .*"))
        assert len(lines(proxy, ".*was refused.*")) <= 50 * (int(took) + 2)
        wait_for("a line that says how many were not written",
                 lambda: flood() or lines(proxy, r"\(\d+ lines like this were not written\) .*was refused.*"), 20)


def test_levels_decide_what_is_told(stage):
    def told(level, *options):
        server = stage.redis()
        proxy = stage.nutproxy({"nutproxy": {"log_level": level}, "alpha": pool([server], names=["one"],
                                                                                server_failure_limit=1)}, *options)
        with wire(proxy.where("alpha")) as w:
            assert w.ask("SET", "k", "v") == b"+OK\r\n"
            assert server.client().execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") >= 1
            ask_until(w, True, "GET", "k")
            server.kill()
            ask_until(w, False, "GET", "k")
        assert proxy.stop() == 0
        return {word for word in ("listens", "lost: Connection closed", "lost: Connection refused", "is down", "started")
                if any(word in t for t in texts(proxy))}
    everything = {"listens", "lost: Connection closed", "lost: Connection refused", "is down", "started"}
    assert told("emerg") == {"started"} and told("0") == {"started"}
    assert told("error") == {"started", "is down"}
    assert told("warn") == {"started", "is down", "lost: Connection refused"}
    assert told("info") == everything and told("info", "-v", "4") == told("warn")
    assert told("error", "-v", "11") == everything


def test_as_json_each_line_is_an_object_with_the_event(stage):
    servers = [stage.redis(), stage.redis()]
    proxy = stage.nutproxy({"nutproxy": {"log_format": "json", "log_level": "info"},
                            "al\"pha\\ é \xff".encode("latin-1").decode("latin-1"): pool(
                                servers, names=["on\"e", "two"], hash="md5", auto_eject_hosts=True, server_failure_limit=1,
                                client_connections=1, server_retry_timeout="50ms", probe_interval="50ms")})
    name = [n for n in proxy.sections if n != "nutproxy"][0]
    servers[0].kill()
    with let_in(proxy, name) as w:
        for n in range(200):
            w.ask("GET", "key%d" % n)
        with wire(proxy.where(name)) as other:
            other.rest()
        servers[0].start()
        wait_for("it to be up", lambda: [r for r in records(proxy) if r["event"] == "server_up"])
    assert proxy.stop() == 0
    told = {}
    for record in records(proxy):
        assert set(record) <= {"time", "level", "event", "pool", "server", "address", "text"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
        told.setdefault(record["event"], []).append(record)
    assert set(told) == {"started", "listening", "server_lost", "server_ejected", "server_up", "client_refused",
                         "signal", "stopped"}
    ejected = told["server_ejected"][0]
    assert (ejected["pool"], ejected["server"], ejected["level"]) == (name, "on\"e", "error")
    assert ejected["address"] == "127.0.0.1:%d" % servers[0].port
    assert "is down and ejected" in ejected["text"]
    assert told["server_lost"][0]["level"] == "warn" and "server" not in told["listening"][0]


def test_systemds_journal_gets_priorities_and_no_time(stage):
    server = stage.redis()
    path = stage.path("journal")
    shell = "exec 2>%s; export JOURNAL_STREAM=$(stat -Lc %%d:%%i /dev/fd/2); exec %s \"$@\"" % (path, NUTPROXY)
    port, stats = free_port(), free_port()
    conf = stage.path("journal.ini")
    with open(conf, "w") as f:
        f.write("[a]\nlisten = 127.0.0.1:%d\nprotocol = redis\nserver_failure_limit = 1\nservers = 127.0.0.1:%d:1 one\n"
                % (port, server.port))
    proxy = stage.process(["sh", "-c", shell, "sh", "-c", conf, "-s", str(stats)], ("127.0.0.1", port), "shell")
    server.kill()
    with wire(("127.0.0.1", port)) as w:
        ask_until(w, False, "GET", "k")
    assert proxy.stop() == 0
    with open(path) as f:
        said = f.read().splitlines()
    priorities = {"started on pid": "<5>", "listens on": "<5>", ") lost": "<4>", "is down": "<3>", "done": "<5>"}
    for words, priority in priorities.items():
        found = [line for line in said if words in line]
        assert found and all(line.startswith(priority) and "[20" not in line for line in found), (words, said)


def test_a_log_that_goes_elsewhere_than_the_journal_has_the_time(stage):
    proxy = stage.nutproxy({"alpha": pool([stage.redis()])}, env={"JOURNAL_STREAM": "1:2"})
    wait_for("it to be told where it listens", lambda: len(texts(proxy)) == 3)


def test_what_names_and_servers_say_cannot_forge_a_line(stage):
    fake = Fake(lambda link, words: b"-NO\x1b[31m\x07 \xff\r\n" if words[0] == b"AUTH" else b"+OK\r\n")
    for form in ("text", "json"):
        proxy = stage.nutproxy({"nutproxy": {"log_format": form},
                                "al\tpha": pool([fake], names=["one"], redis_auth="x", timeout=int(1000 * SLOW))})
        with wire(proxy.where("al\tpha")) as w:
            assert w.ask("AUTH", "x") == b"+OK\r\n"
            assert w.ask("GET", "k").startswith(b"-ERR")
        with open(proxy.log, "rb") as f:
            said = f.read()
        assert b"refuses us" in said and not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", said), said
        if form == "json":
            assert {r["event"] for r in records(proxy)} >= {"server_refused"}
