"""What the clients of today begin with, and what they ask of all servers: HELLO and RESP3, CLIENT, INFO, CONFIG GET,
SCAN, and a pool's own list of commands.  Four redis-servers behind nutproxy, and one alone to compare with."""
import hashlib
import random
import re
import signal
import subprocess
import time

import pytest

from fake import Fake
from nut import NUTPROXY, free_port, ini, pool, wait_for
from resp import HEAD3, Resp, array, bulk, command, pieces

OK = b"+OK\r\n"
REFUSED = re.compile(rb"-ERR command '[a-z|-]+' is not served by this proxy: \S.*\r\n")


@pytest.fixture(scope="module")
def house(shared):
    servers = [shared.redis() for _ in range(4)]
    alone = shared.redis()
    proxy = shared.nutproxy({"alpha": pool(servers, hash_tag="{}", server_connections=2),
                             "secret": pool(servers, redis_auth="sesame"),
                             "flushes": pool(servers, allow="flush")})
    return servers, alone, proxy


def where(server):
    return (server.host, server.port)


def values(reply):
    """A RESP reply as a value: maps become dicts, sets sets, nulls None."""
    def take(at):
        end = reply.index(b"\r\n", at)
        kind, head, at = reply[at:at + 1], reply[at + 1:end], end + 2
        if kind in b"$=!" and head != b"-1":
            return reply[at:at + int(head)], at + int(head) + 2
        if kind in b"*~%" and head != b"-1":
            out = []
            for _ in range(int(head) * (2 if kind == b"%" else 1)):
                value, at = take(at)
                out.append(value)
            return (dict(zip(out[::2], out[1::2])) if kind == b"%" else out), at
        return {b":": lambda: int(head), b"_": lambda: None, b",": lambda: float(head), b"#": lambda: head == b"t",
                b"(": lambda: int(head)}.get(kind, lambda: None if head == b"-1" else head)(), at
    return take(0)[0]


# ------------------------------------------------------------------ HELLO and RESP3

def hello(c, *words):
    return values(c.ask("HELLO", *words))


def test_hello_tells_what_a_server_tells_in_both_protocols(house):
    servers, alone, proxy = house
    with Resp(proxy.where("alpha"), resp3=True) as c, Resp(where(alone), resp3=True) as direct:
        for words in ((), ("3",), ("2",), (), ("3",)):
            ours, real = hello(c, *words), hello(direct, *words)
            if isinstance(ours, list):
                ours, real = dict(zip(ours[::2], ours[1::2])), dict(zip(real[::2], real[1::2]))
            assert list(ours) == list(real)
            assert ours.pop(b"id") > 0 and real.pop(b"id") > 0
            assert ours == real
        c.in_step()


def test_errors_of_hello_are_those_of_a_server(house):
    servers, alone, proxy = house
    lines = ["HELLO 1", "HELLO 4", "HELLO x", "HELLO 3 FOO", "HELLO 3 AUTH default", "HELLO 3 SETNAME", "HELLO 99999999999",
             "HELLO 3 SETNAME a AUTH", "HELLO 3 AUTH nobody x"]
    with Resp(proxy.where("alpha"), resp3=True) as c, Resp(where(alone), resp3=True) as direct:
        for line in lines:
            assert c.ask(*line.split()) == direct.ask(*line.split()), line
        assert c.ask("HELLO", "3", "SETNAME", "a b") == direct.ask("HELLO", "3", "SETNAME", "a b")
        assert c.ask("CLIENT", "GETNAME") == b"_\r\n"
        # Nothing of it took hold, and without a password any is good for the default user, as with a server.
        assert hello(c, "3", "AUTH", "default", "x", "SETNAME", "me")[b"proto"] == 3
        assert c.ask("CLIENT", "GETNAME") == bulk("me")


def test_a_password_is_given_with_hello_or_auth(house):
    proxy = house[2]
    with Resp(proxy.where("secret")) as c:
        assert c.ask("HELLO", "3").startswith(b"-NOAUTH HELLO must be called with the client already authenticated")
        assert c.ask("GET", "a").startswith(b"-NOAUTH ") and c.ask("CLIENT", "ID").startswith(b"-NOAUTH ")
        assert c.ask("HELLO", "3", "AUTH", "default", "wrong").startswith(b"-WRONGPASS ")
        assert c.ask("HELLO", "3", "AUTH", "other", "sesame").startswith(b"-WRONGPASS ")
        assert c.ask("AUTH", "default", "wrong").startswith(b"-WRONGPASS ")
        assert c.ask("AUTH", "wrong") == b"-ERR invalid password\r\n"
        assert c.ask("GET", "a").startswith(b"-NOAUTH ")
        assert c.ask("AUTH", "default", "sesame") == OK and c.ask("CLIENT", "ID").startswith(b":")
        assert c.ask("RESET") == b"+RESET\r\n" and c.ask("GET", "a").startswith(b"-NOAUTH ")
    with Resp(proxy.where("secret")) as c:
        c.splitter.form = HEAD3
        # Servers without a password refuse ours: HELLO is answered all the same, by what is known.
        assert hello(c, "3", "AUTH", "default", "sesame")[b"proto"] == 3


def test_a_password_goes_to_the_servers_before_anything_else_in_resp3_too(shared):
    servers = [shared.redis("--requirepass", "sesame", "--databases", "16") for _ in range(2)]
    proxy = shared.nutproxy({"alpha": pool(servers, redis_auth="sesame", redis_db=3)})
    with Resp(proxy.where("alpha")) as c:
        c.splitter.form = HEAD3
        assert hello(c, "3", "AUTH", "default", "sesame")[b"proto"] == 3
        for i in range(20):
            assert c.ask("SET", "key %d" % i, i) == OK
        assert c.ask("DBSIZE") == b":20\r\n" and c.ask("SELECT", "3") == OK and c.ask("SELECT", "0").startswith(b"-ERR ")
        assert sum(s.client(password="sesame", db=3).dbsize() for s in servers) == 20
        assert b"db3:keys=20,expires=0" in c.ask("INFO", "keyspace")


def test_both_protocols_on_one_port_at_once_and_one_client_changing_between_them(house):
    servers, alone, proxy = house
    with Resp(proxy.where("alpha")) as two, Resp(proxy.where("alpha"), resp3=True) as three:
        assert two.ask("HSET", "h", "f", "v") == b":1\r\n"
        for _ in range(50):
            assert two.ask("HGETALL", "h") == array(bulk("f"), bulk("v"))
            assert three.ask("HGETALL", "h") == b"%1\r\n" + bulk("f") + bulk("v")
        assert two.ask("MGET", "none", "h2") == b"*2\r\n$-1\r\n$-1\r\n"
        assert three.ask("MGET", "none", "h2") == b"*2\r\n_\r\n_\r\n"
    with Resp(proxy.where("alpha")) as c:
        c.splitter.form = HEAD3
        # What was written before HELLO is read behind it, though on another connection to the server.
        commands, want = [], []
        for i in range(300):
            commands += [("HSET", "turn", "n", i), ("HELLO", "3"), ("HGETALL", "turn"), ("GET", "none"), ("HELLO", "2"),
                         ("HGETALL", "turn"), ("GET", "none")]
            want += [None, None, b"%1\r\n" + bulk("n") + bulk(str(i)), b"_\r\n", None, array(bulk("n"), bulk(str(i))), b"$-1\r\n"]
        got = c.pipeline(commands)
        assert [g for g, w in zip(got, want) if w] == [w for w in want if w]


def test_resp3_connections_are_made_when_first_asked_for(shared):
    server = shared.redis()
    proxy = shared.nutproxy({"alpha": pool([server])})

    def protocols():
        return sorted(c["resp"] for c in server.client().client_list() if c["cmd"] != "client|list")

    with Resp(proxy.where("alpha")) as c:
        c.ask("GET", "a")
        assert protocols() == ["2"]
        c.splitter.form = HEAD3
        c.ask("HELLO", "3")
        c.ask("GET", "a")
        assert protocols() == ["2", "3"]


def test_pushes_and_attributes_do_not_disturb_the_matching_of_replies(shared):
    push = b">3\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n_\r\n"
    attribute = b"|1\r\n+ttl\r\n:3600\r\n"

    def answer(link, words):
        if words[0] == b"HELLO":
            return push + b"%1\r\n+server\r\n+fake\r\n"
        if words[0] == b"INFO":
            return bulk("redis_version:7.2.0\r\n")
        if words[0] == b"MGET":
            return (push + attribute + b"*%d\r\n" % (len(words) - 1) +
                    b"".join(attribute + bulk(w) for w in words[1:]) + push)
        return push + push + attribute + bulk(words[1]) + push

    proxy = shared.nutproxy({"alpha": pool([Fake(answer), Fake(answer)])})
    with Resp(proxy.where("alpha"), resp3=True) as c:
        for i in range(200):
            key = "key %d" % i
            assert c.ask("GET", key) == attribute + bulk(key)
            keys = ["%d of %d" % (n, i) for n in range(7)]
            got = c.ask("MGET", *keys)
            split = array(*[attribute + bulk(k) for k in keys])
            assert got in (split, attribute + split), got       # all on one server: as it comes
        c.in_step()
    assert sum(s["server_err"] for s in proxy.stats()["alpha"].values() if isinstance(s, dict)) == 0


def test_what_is_no_resp3_and_resp3_on_a_resp2_connection_end_that_connection_only(shared):
    def answer(link, words):
        if words[0] == b"HELLO":
            return b"%0\r\n"
        if words[0] == b"INFO":
            return bulk("redis_version:7.2.0\r\n")
        return {b"push": b"*1\r\n>1\r\n+x\r\n", b"null": b"_\r\n"}.get(words[1], bulk(words[1]))

    proxy = shared.nutproxy({"alpha": pool([Fake(answer)], server_failure_limit=100)})
    with Resp(proxy.where("alpha")) as two, Resp(proxy.where("alpha"), resp3=True) as three:
        assert three.ask("GET", "null") == b"_\r\n" and three.ask("GET", "push").startswith(b"-ERR ")
        assert two.ask("GET", "null").startswith(b"-ERR ") and two.ask("GET", "a") == bulk("a")
        assert three.ask("GET", "b") == bulk("b")


def test_servers_without_resp3_are_not_offered_as_such(shared):
    def answer(link, words):
        if words[0] == b"INFO":
            return bulk("# Server\r\nredis_version:5.0.14\r\n")
        return b"-ERR unknown command `HELLO`\r\n" if words[0] == b"HELLO" else bulk("x")

    proxy = shared.nutproxy({"alpha": pool([Fake(answer)])})
    with Resp(proxy.where("alpha")) as c:
        assert c.ask("HELLO", "3") == b"-NOPROTO unsupported protocol version\r\n"
        assert b"5.0.14" in c.ask("HELLO", "2") and c.ask("GET", "a") == bulk("x")
        c.in_step()


def test_a_server_that_refuses_resp3_is_not_down_for_others(shared):
    """It does not even tell its version."""
    proxy = shared.nutproxy({"alpha": pool([Fake(lambda link, words: bulk("x") if words[0] == b"GET" else b"-ERR no\r\n")])})
    with Resp(proxy.where("alpha")) as two, Resp(proxy.where("alpha"), resp3=True) as three:
        for _ in range(20):
            assert three.ask("GET", "a").startswith(b"-ERR Server does not speak RESP3")
            assert two.ask("GET", "a") == bulk("x")
    with Resp(proxy.where("alpha")) as c:   # and who comes now is told so
        assert c.ask("HELLO", "3") == b"-NOPROTO unsupported protocol version\r\n" and c.ask("HELLO", "2").startswith(b"*14")


def test_hello_and_info_are_answered_when_no_server_is(shared):
    proxy = shared.nutproxy({"alpha": pool(["127.0.0.1:%d:1" % free_port(), "127.0.0.1:%d:1" % free_port()])})
    with Resp(proxy.where("alpha"), resp3=True) as c:
        assert values(c.hello)[b"version"] == b"7.0.0"
        info = c.ask("INFO")
        assert b"servers:2\r\n" in info and b"servers_answered:0\r\n" in info and b"loading:0\r\n" in info
        assert c.ask("DBSIZE").startswith(b"-ERR Connection refused: ")
        assert c.ask("SCAN", "0").startswith(b"-ERR Connection refused: ")
        c.in_step()


def test_one_server_down_fails_what_needs_all_and_hello_and_info_not(shared):
    servers = [shared.redis() for _ in range(3)]
    proxy = shared.nutproxy({"alpha": pool(servers)})
    with Resp(proxy.where("alpha")) as c:
        for i in range(60):
            assert c.ask("SET", "k%d" % i, "v") == OK
        assert c.ask("DBSIZE") == b":60\r\n"
        servers[1].kill()
        assert c.ask("DBSIZE").startswith(b"-ERR ") and c.ask("KEYS", "*").startswith(b"-ERR ")
        assert c.ask("SCRIPT", "LOAD", "return 1").startswith(b"-ERR ")
        assert b"redis_version:7" in c.ask("INFO") and c.ask("HELLO", "2").startswith(b"*14\r\n")
        servers[1].start()
        wait_for("all servers to be back", lambda: c.ask("DBSIZE").startswith(b":"))


def test_who_is_ejected_has_no_part_in_reads_of_all_and_fails_writes_of_all(shared):
    servers = [shared.redis() for _ in range(3)]
    proxy = shared.nutproxy({"alpha": pool(servers, auto_eject_hosts=True, server_failure_limit=1,
                                           server_retry_timeout="60s", allow="flush")})
    with Resp(proxy.where("alpha")) as c:
        for i in range(60):
            assert c.ask("SET", "k%d" % i, "v") == OK
        rest = 60 - servers[2].client().dbsize()
        servers[2].kill()
        wait_for("it to be ejected", lambda: c.ask("DBSIZE") == b":%d\r\n" % rest)
        assert len(values(c.ask("KEYS", "*"))) == rest and len(set(scan(c))) == rest
        assert c.ask("FLUSHALL").startswith(b"-ERR ")           # it would come back with its keys
        assert c.ask("SCRIPT", "LOAD", "return 1").startswith(b"-ERR ")


def test_large_values_flow_in_resp3_however_they_are_cut(house):
    proxy, rng = house[2], random.Random(5)
    with Resp(proxy.where("alpha"), resp3=True) as c:
        values = {b"%d:large" % i: rng.randbytes(rng.choice((0, 1, 100, 9000, 70000, 1 << 20))) for i in range(24)}
        commands = [("SET", k, v) for k, v in values.items()] + [("GET", k) for k in values] * 2 + [("MGET", *values)]
        got = c.pipeline(commands, pieces(rng, 16))
        whole = [bulk(v) for v in values.values()]
        assert got == [OK] * len(values) + whole * 2 + [array(*whole)]
        c.in_step()


# ------------------------------------------------------------------ CLIENT and the like

def test_a_client_tells_of_itself_and_is_listed(house):
    servers, alone, proxy = house
    with Resp(proxy.where("alpha")) as c, Resp(proxy.where("alpha"), resp3=True) as other, Resp(where(alone)) as direct:
        for line in ("CLIENT GETNAME", "CLIENT SETNAME one", "CLIENT GETNAME", "CLIENT SETNAME",
                     "CLIENT NO-EVICT on", "CLIENT NO-EVICT off", "CLIENT NO-EVICT maybe", "CLIENT REPLY ON", "CLIENT REPLY maybe",
                     "CLIENT GETREDIR", "CLIENT NOPE", "CLIENT", "CLIENT ID x"):
            assert c.ask(*line.split()) == direct.ask(*line.split()), line
        assert c.ask("CLIENT", "SETNAME", "a b") == direct.ask("CLIENT", "SETNAME", "a b")
        assert c.ask("CLIENT", "SETNAME", "") == direct.ask("CLIENT", "SETNAME", "") and c.ask("CLIENT", "GETNAME") == b"$-1\r\n"
        assert c.ask("CLIENT", "SETNAME", "x" * 1025).startswith(b"-ERR ")
        for words in (("LIB-NAME", "redis-py"), ("lib-ver", "5.0.1")):
            assert c.ask("CLIENT", "SETINFO", *words) == OK
        assert c.ask("CLIENT", "SETINFO", "lib-name", "a b").startswith(b"-ERR lib-name cannot contain spaces")
        assert c.ask("CLIENT", "SETINFO", "nope", "x").startswith(b"-ERR Unrecognized option 'nope'")
        assert c.ask("CLIENT", "SETNAME", "two") == OK and c.ask("CLIENT", "NO-TOUCH", "off") == OK
        mine = c.ask("CLIENT", "ID")
        assert mine.startswith(b":") and mine != other.ask("CLIENT", "ID")
        assert (b" name=two lib-name=redis-py lib-ver=5.0.1 db=0 " in c.ask("CLIENT", "INFO")
                and c.ask("CLIENT", "INFO").rstrip().endswith(b"resp=2"))
        listed = other.ask("CLIENT", "LIST")
        assert listed.startswith(b"=") and b"txt:" in listed and b"name=two" in listed and b"resp=3" in listed
        for line in ("CLIENT KILL ID 1", "CLIENT TRACKING on", "CLIENT PAUSE 1", "CLIENT NO-TOUCH on", "CLIENT UNBLOCK 1",
                     "CLIENT CACHING YES"):
            assert REFUSED.fullmatch(c.ask(*line.split())), line
        assert c.ask("RESET") == b"+RESET\r\n" and c.ask("CLIENT", "GETNAME") == b"$-1\r\n"
        c.in_step()


def test_replies_can_be_switched_off_and_skipped(house):
    servers, alone, proxy = house
    words = [("CLIENT", "REPLY", "SKIP"), ("SET", "a", "1"), ("GET", "a"), ("CLIENT", "REPLY", "OFF"), ("SET", "a", "2"),
             ("GET", "a"), ("MGET", "a", "b", "c"), ("NOSUCH",), ("DBSIZE",), ("INFO",), ("PING",), ("CLIENT", "REPLY", "ON"),
             ("GET", "a"), ("CLIENT", "REPLY", "SKIP"), ("CLIENT", "REPLY", "SKIP"), ("PING",), ("ECHO", "end")]
    for address in (proxy.where("alpha"), where(alone)):
        with Resp(address) as c:
            assert c.exchange(b"".join(command(*w) for w in words), 4) == [bulk("1"), OK, bulk("2"), bulk("end")]
            c.in_step()


def test_time_is_told_and_config_for_what_clients_ask(house):
    servers, alone, proxy = house
    with Resp(proxy.where("alpha"), resp3=True) as c, Resp(where(alone), resp3=True) as direct:
        ours, real = values(c.ask("TIME")), values(direct.ask("TIME"))
        assert abs(int(ours[0]) - int(real[0])) <= 2 and 0 <= int(ours[1]) < 1000000
        for name in ("save", "appendonly", "maxmemory", "maxmemory-policy", "timeout", "proto-max-bulk-len",
                     "notify-keyspace-events", "maxclients", "no-such-key"):
            assert c.ask("CONFIG", "GET", name) == direct.ask("CONFIG", "GET", name), name
        assert len(values(c.ask("CONFIG", "GET", "*"))) > 8
        for s in servers:
            s.client().config_set("maxmemory-policy", "allkeys-lfu")
        assert values(c.ask("CONFIG", "GET", "MAXMEMORY-policy")) == {b"maxmemory-policy": b"allkeys-lfu"}
        assert b"maxmemory_policy:allkeys-lfu\r\n" in c.ask("INFO", "memory")
        assert set(values(c.ask("CONFIG", "GET", "max*", "SAVE"))) == {b"maxclients", b"maxmemory", b"maxmemory-policy", b"save"}
        assert set(values(c.ask("CONFIG", "GET", "?ave"))) == {b"save"}
        assert b"requirepass" not in c.ask("CONFIG", "GET", "*")
        assert c.ask("CONFIG").startswith(b"-ERR wrong number") and c.ask("CONFIG", "GET").startswith(b"-ERR wrong number")
        assert c.ask("PUBSUB", "NUMPAT") == b":0\r\n" and c.ask("SLOWLOG", "LEN").startswith(b":")


# ------------------------------------------------------------------ all servers

def scan(c, *options, count=None):
    """Every key that SCAN tells, until the cursor is 0 again."""
    cursor, keys, rounds = b"0", [], 0
    while True:
        cursor, some = values(c.ask("SCAN", cursor, *options, *(("COUNT", count) if count else ())))
        keys += some
        rounds += 1
        assert rounds < 100000
        if cursor == b"0":
            return keys


def test_scan_sees_every_key_that_is_there_throughout(house):
    servers, alone, proxy = house
    with Resp(proxy.where("flushes")) as c, Resp(proxy.where("flushes"), resp3=True) as other:
        assert c.ask("FLUSHALL") == OK and scan(c) == []
        stay = {b"stay:%d" % i for i in range(3000)}
        c.pipeline([("SET", k, "x") for k in stay])
        assert set(scan(c, count=7)) == stay and sorted(scan(other)) == sorted(stay)
        assert set(scan(c, "MATCH", "stay:1*")) == {k for k in stay if k.startswith(b"stay:1")}
        assert scan(c, "TYPE", "list") == []
        # Others come and go, and tables grow and shrink, while it goes on.
        cursor, seen, turn = b"0", set(), 0
        while True:
            other.pipeline([("SET", "come:%d:%d" % (turn, i), "x") for i in range(200)] +
                           [("DEL", *["come:%d:%d" % (turn - 2, i) for i in range(200)])])
            cursor, some = values(c.ask("SCAN", cursor, "COUNT", 50))
            seen |= set(some)
            turn += 1
            if cursor == b"0":
                break
        assert stay <= seen
        for cursor in ("x", "", "-1", "18446744073709551616"):
            assert c.ask("SCAN", cursor) == b"-ERR invalid cursor\r\n"
        assert c.ask("SCAN", "0", "NOPE").startswith(b"-ERR syntax error")
        assert c.ask("SCAN", str(2 ** 64 - 1)).startswith((b"*2\r\n", b"-ERR "))
        c.in_step()
        assert c.ask("FLUSHDB", "ASYNC") == OK


def test_what_concerns_all_servers_is_asked_of_all(house):
    servers, alone, proxy = house
    direct = [Resp(where(s)) for s in servers]
    for resp3 in (False, True):
        with Resp(proxy.where("flushes"), resp3=resp3) as c:
            assert c.ask("FLUSHALL") == OK and c.ask("RANDOMKEY") == (b"_\r\n" if resp3 else b"$-1\r\n")
            assert c.ask("DBSIZE") == b":0\r\n" and c.ask("KEYS", "*") == b"*0\r\n"
            keys = [b"%d key" % i for i in range(100)]
            c.pipeline([("SET", k, "x") for k in keys])
            assert all(int(d.ask("DBSIZE")[1:]) > 0 for d in direct)
            assert c.ask("DBSIZE") == b":100\r\n" and sorted(values(c.ask("KEYS", "*"))) == sorted(keys)
            assert sorted(values(c.ask("KEYS", "1* key"))) == sorted(k for k in keys if k.startswith(b"1"))
            found = {values(c.ask("RANDOMKEY")) for _ in range(60)}
            assert found <= set(keys) and len(found) > 5
            assert c.ask("SET", "other", "x") == OK and c.ask("DEL", *keys) == b":100\r\n"
            assert {c.ask("RANDOMKEY") for _ in range(20)} == {bulk("other")}
            # Scripts and functions are there wherever their keys are.
            sha = values(c.ask("SCRIPT", "LOAD", "return KEYS[1]"))
            assert values(c.ask("SCRIPT", "EXISTS", sha, "f" * 40)) == [1, 0]
            assert all(c.ask("EVALSHA", sha, 1, k) == bulk(k) for k in keys)
            direct[2].ask("SCRIPT", "FLUSH")
            assert values(c.ask("SCRIPT", "EXISTS", sha, "f" * 40)) == [0, 0]
            assert c.ask("SCRIPT", "LOAD", "return (").startswith(b"-ERR ") and c.ask("SCRIPT", "FLUSH") == OK
            library = "#!lua name=l%d\nredis.register_function('f%d', function(keys) return keys[1] end)" % (resp3, resp3)
            assert c.ask("FUNCTION", "LOAD", library) == bulk("l%d" % resp3)
            assert all(c.ask("FCALL", "f%d" % resp3, 1, k) == bulk(k) for k in keys)
            assert c.ask("FUNCTION", "LOAD", library).startswith(b"-ERR Library ")
            dump = values(c.ask("FUNCTION", "DUMP"))
            assert b"l%d" % resp3 in c.ask("FUNCTION", "LIST")
            assert c.ask("FUNCTION", "DELETE", "l%d" % resp3) == OK and c.ask("FUNCTION", "RESTORE", dump) == OK
            assert c.ask("FUNCTION", "FLUSH") == OK
            c.in_step()


def test_a_script_that_eval_brings_is_known_to_all_servers(shared):
    """As ioredis does it: EVAL once, and EVALSHA for other keys right behind it."""
    servers = [shared.redis() for _ in range(4)]
    proxy = shared.nutproxy({"alpha": pool(servers, hash="md5")})

    def shared_of(script, keys, c):
        sha = hashlib.sha1(script.encode()).hexdigest()
        got = c.pipeline([("EVAL", script, 1, keys[0])] + [("EVALSHA", sha, 1, k) for k in keys])
        assert got == [bulk(k) for k in keys[:1] + keys], got

    def loads():
        return sum(s.client().info("commandstats").get("cmdstat_script|load", {"calls": 0})["calls"] for s in servers)

    keys = ["key %d" % i for i in range(50)]
    for resp3 in (False, True):
        with Resp(proxy.where("alpha"), resp3=resp3) as c:
            before = loads()
            for n in range(20):
                shared_of("return KEYS[1] -- %d %d" % (resp3, n), keys, c)
            assert loads() - before <= 20 * 4 + 8
            before = loads()
            shared_of("return KEYS[1] -- %d %d" % (resp3, 3), keys, c)
            assert loads() == before                # it was there
            assert c.ask("SCRIPT", "FLUSH") == OK
            shared_of("return KEYS[1] -- %d %d" % (resp3, 3), keys, c)
            # Scripts that are gone behind our back are given again when a server misses one.
            for s in servers:
                s.client().script_flush()
            script = "return KEYS[1] -- %d %d" % (resp3, 3)
            sha = hashlib.sha1(script.encode()).hexdigest()
            assert all(c.ask("EVALSHA", sha, 1, k).startswith(b"-NOSCRIPT") for k in keys)
            again = [("EVAL", script, 1, keys[0])] + [("EVALSHA", sha, 1, k) for k in keys]
            wait_for("that it misses one to be believed, as it is once a second",
                     lambda: c.pipeline(again) == [bulk(k) for k in keys[:1] + keys])
            big = "return KEYS[1] -- " + "x" * 60000
            shared_of(big, keys, c)
            huge = "return KEYS[1] -- " + "x" * 70000       # too large to be given to all
            assert c.ask("EVAL", huge, 1, keys[0]) == bulk(keys[0])
            assert any(c.ask("EVALSHA", hashlib.sha1(huge.encode()).hexdigest(), 1, k).startswith(b"-NOSCRIPT") for k in keys)
            for n in range(100):                    # scripts without end are not for all
                assert c.ask("EVAL", "return %d" % n, 1, "a") == b":%d\r\n" % n
            assert loads() - before < 70 * 4
            assert c.ask("SCRIPT", "FLUSH") == OK
            assert c.ask("EVAL", "return (", 1, "a").startswith(b"-ERR Error compiling script")
            # A server that has started anew is given it again.
            servers[2].kill()
            servers[2].start()
            wait_for("it to be back", lambda: not any(r.startswith(b"-") for r in c.pipeline([("GET", k) for k in keys])))
            shared_of("return KEYS[1] -- %d %d" % (resp3, 3), keys, c)
            # One that is down costs the others nothing.
            servers[2].kill()
            assert c.ask("EVAL", "return 77", 0) == b":77\r\n" or c.ask("EVAL", "return 77", 0).startswith(b"-ERR")
            servers[2].start()
            wait_for("it to be back", lambda: not any(r.startswith(b"-") for r in c.pipeline([("GET", k) for k in keys])))
            c.in_step()


def test_a_message_goes_to_the_server_of_its_channel(house):
    servers, alone, proxy = house
    subscribed = [s.client().pubsub() for s in servers]
    for s in subscribed:
        s.subscribe("news")
        s.get_message(timeout=5)
    with Resp(proxy.where("alpha")) as c:
        assert values(c.ask("PUBSUB", "CHANNELS")) == [b"news"] * 4
        assert values(c.ask("PUBSUB", "NUMSUB", "news")) == [b"news", 1]
        for i in range(10):
            assert c.ask("PUBLISH", "news", "hello %d" % i) == b":1\r\n"
        assert c.ask("SPUBLISH", "news", "x") == b":0\r\n" and c.ask("PUBSUB", "SHARDCHANNELS") == b"*0\r\n"
        assert c.ask("PUBSUB", "SHARDNUMSUB", "news") == array(bulk("news"), b":0\r\n")
        assert c.ask("PUBSUB", "NUMSUB") == b"*0\r\n"
    got = [s.get_message(timeout=0.2) for s in subscribed]
    assert sum(m is not None for m in got) == 1
    for s in subscribed:
        s.close()


def test_info_adds_up_what_the_servers_say(house):
    servers, alone, proxy = house
    r = proxy.redis("flushes")
    r.flushall()
    for i in range(40):
        r.set("k%d" % i, "v", ex=1000 if i < 10 else None)
    info = r.info()
    assert info["redis_version"] == servers[0].client().info()["redis_version"]
    assert info["db0"] == {"keys": 40, "expires": 10, "avg_ttl": 0} and info["role"] == "master" and info["loading"] == 0
    assert all(info["server%d" % i]["state"] == "up" for i in range(4))
    assert info["pool"] == "flushes" and info["servers"] == info["servers_up"] == info["servers_answered"] == 4
    assert info["used_memory"] > 4 * 500000 and info["connected_clients"] == 1
    assert set(r.info("keyspace")) == {"db0"} and "redis_version" in r.info("server") and r.info("nosuch") == {}
    assert set(r.execute_command("INFO", "keyspace", "CLUSTER")) == {"db0", "cluster_enabled"}
    with Resp(proxy.where("flushes"), resp3=True) as c:
        assert c.ask("INFO", "cluster") == b"=%d\r\ntxt:# Cluster\r\ncluster_enabled:0\r\n\r\n" % (4 + 30)


# ------------------------------------------------------------------ a pool's own commands

def test_commands_are_denied_renamed_and_added_per_pool(shared):
    server = shared.redis("--rename-command", "GET", "fetch", "--rename-command", "CONFIG", "conf2")
    conf = pool([server], deny="KEYS, script|flush DEBUG", command_rename="GET fetch\n  CONFIG conf2",
                command="nosuch.put -3 1 1 1\n  nosuch.ping 1 0 0 0")
    proxy = shared.nutproxy({"alpha": conf, "other": pool([server])})
    with Resp(proxy.where("alpha")) as c, Resp(proxy.where("other")) as other:
        assert c.ask("SET", "a", "1") == OK and c.ask("FETCH", "a") == bulk("1")
        assert c.ask("GET", "a") == b"-ERR unknown command 'GET'\r\n"
        assert c.ask("conf2", "GET", "save") == array(bulk("save"), bulk(""))
        assert REFUSED.fullmatch(c.ask("conf2", "SET", "a", "b"))
        for words in (("KEYS", "*"), ("SCRIPT", "FLUSH"), ("DEBUG", "JMAP")):
            assert b"is not served by this proxy: its configuration denies it" in c.ask(*words), words
        assert c.ask("SCRIPT", "EXISTS", "a") == b"*1\r\n:0\r\n"
        assert b"unknown command 'nosuch.put'" in c.ask("nosuch.put", "k", "v")          # from the server
        assert c.ask("nosuch.put", "k") == b"-ERR wrong number of arguments for 'nosuch.put' command\r\n"
        assert b"unknown command 'NOSUCH.PING'" in c.ask("NOSUCH.PING")
        assert b"fetch" in c.ask("COMMAND", "LIST") and b"$4\r\nkeys\r\n" not in c.ask("COMMAND", "LIST")
        assert c.ask("COMMAND", "INFO", "fetch").startswith(b"*1\r\n*10\r\n$5\r\nfetch\r\n:2\r\n")
        assert other.ask("FETCH", "a") == b"-ERR unknown command 'FETCH'\r\n" and other.ask("KEYS", "*").startswith(b"*")


@pytest.mark.parametrize("key, value, told", [
    ("allow", "everything", "knows one word: flush"),
    ("deny", "KEYS NOSUCH", "names a command that there is not"),
    ("command_rename", "GET", "takes a command and its new name"),
    ("command_rename", "GET a b", "takes a command and its new name"),
    ("command_rename", "NOSUCH a", "names a command that there is not"),
    ("command_rename", "GET set", "gives a name that another command has"),
    ("command", "GET 2 1 1 1", "is a command already"),
    ("deny", "KEYS keys", "has a command twice"),
    ("command", "a.b 2 1 1", "takes a name and four numbers"),
    ("command", "a.b 0 1 1 1", "takes a name and four numbers"),
    ("command", "a.b 2 1 2 1", "has keys where there are no words"),
    ("command", "a.b -2 1 -2 1", "has keys where there are no words"),
    ("command", "a.b 2 1 1 0", "has keys where there are no words"),
    ("command", "%s 2 1 1 1" % ("x" * 32), "names of 1 to 31 characters"),
    ("command", "\n".join("  x%d 2 1 1 1" % i for i in range(257)).strip(), "has too many commands"),
])
def test_mistakes_in_lists_of_commands_are_told(shared, key, value, told):
    path = shared.path("mistake-%d.ini" % random.randrange(10 ** 9))
    with open(path, "w") as f:
        f.write(ini({"alpha": pool(["127.0.0.1:6379:1"], **{key: value})}))
    got = subprocess.run([NUTPROXY, "-t", "-c", path], capture_output=True, text=True)
    assert got.returncode == 1 and told in got.stdout + got.stderr and (":4: " in got.stdout + got.stderr or "\n" in value)


MANY = """APPEND BITCOUNT BITOP BITPOS DECR DEL DUMP ECHO EXISTS EXPIRE GET GETBIT GETDEL GETEX GETSET HDEL HGET HLEN HSET
    INCR KEYS LLEN LPOP LPUSH LSET MGET MOVE MSET PERSIST"""


def test_all_lists_of_commands_together_have_an_end(shared):
    path = shared.path("many.ini")
    added = "\n".join("  x%d 2 1 1 1" % i for i in range(200)).strip()
    for command, rename, good in ((added, "GET z", True), (added, "\n".join(
            "  %s z%d" % (n, i) for i, n in enumerate(MANY.split())).strip(), False)):
        with open(path, "w") as f:
            f.write(ini({"alpha": pool(["127.0.0.1:6379:1"], command=command, command_rename=rename)}))
        got = subprocess.run([NUTPROXY, "-t", "-c", path], capture_output=True, text=True, timeout=20)
        assert (got.returncode == 0) == good, got.stderr


def test_commands_of_a_pool_change_with_a_reload(shared):
    server = shared.redis()
    proxy = shared.nutproxy({"alpha": pool([server])})
    with Resp(proxy.where("alpha")) as c:
        assert REFUSED.fullmatch(c.ask("FLUSHALL")) and c.ask("KEYS", "*").startswith(b"*")
        proxy.sections["alpha"].update(allow="flush", deny="KEYS")
        with open(proxy.conf, "w") as f:
            f.write(ini(proxy.sections))
        proxy.signal(signal.SIGUSR1)
        wait_for("the reload", lambda: c.ask("FLUSHALL") == OK)
        assert b"denies it" in c.ask("KEYS", "*")


# ------------------------------------------------------------------ what attackers would try

def test_replies_of_the_proxys_own_count_for_the_output_limit(shared):
    server = shared.redis()
    proxy = shared.nutproxy({"alpha": pool([server], client_output_limit="1m")})
    with Resp(proxy.where("alpha")) as c, Resp(proxy.where("alpha")) as other:
        assert c.ask("COMMAND", "INFO", *["client"] * 2000).startswith(b"-ERR too many names")
        assert c.ask("CONFIG", "GET", *["*"] * 2000).startswith(b"-ERR too many names")
        before = proxy.rss_kib()
        c.write(command("COMMAND", "INFO", *["client"] * 1000) * 200)     # 1.5 MB each, and nobody reads
        wait_for("the client to be closed", lambda: proxy.said().count("client_output_limit") == 1)
        many = [Resp(proxy.where("alpha")) for _ in range(200)]
        for n in many:
            assert n.ask("CLIENT", "SETNAME", "x" * 256) == OK
        many[0].write(command("CLIENT", "LIST") * 2000)                  # 130 KB each
        wait_for("the client to be closed", lambda: proxy.said().count("client_output_limit") == 2)
        for n in many:
            n.close()
        assert proxy.rss_kib() - before < 16384 and other.ask("PING") == b"+PONG\r\n"


def test_a_multi_that_was_refused_holds_though_reading_stood_still(shared):
    servers = [shared.redis() for _ in range(2)]
    proxy = shared.nutproxy({"alpha": pool(servers, hash="md5", timeout="1500ms", server_failure_limit=1000),
                             "renamed": pool(servers, hash="md5", command_rename="MULTI mm\n  EXEC ee")})
    with Resp(proxy.where("alpha")) as c:
        keys = ["%d:key" % i for i in range(20)]
        for k in keys:
            c.ask("SET", k, "kept")
        hung = next(k for k in keys if servers[0].client().exists(k))
        fine = next(k for k in keys if servers[1].client().exists(k))
        servers[0].pause()
        c.splitter.form = HEAD3
        got = c.pipeline([("MULTI",), ("GET", hung), ("HELLO", "3"), ("SET", fine, "CHANGED"), ("EXEC",)])
        servers[0].resume()
        assert got[0].startswith(b"-ERR command 'multi'") and got[1].startswith(b"-ERR Connection timed out")
        assert got[3].startswith(b"-ERR command 'set' was not executed") and got[4].startswith(b"-EXECABORT ")
        assert c.ask("GET", fine) == bulk("kept")
    with Resp(proxy.where("renamed")) as c:
        got = c.pipeline([("mm",), ("SET", fine, "CHANGED"), ("ee",), ("GET", fine)])
        assert got[1].startswith(b"-ERR command 'set' was not executed") and got[2].startswith(b"-EXECABORT ")
        assert got[3] == bulk("kept")


def test_what_the_proxy_asks_by_itself_has_the_names_of_the_servers(shared):
    names = {"PING": "pong1", "INFO": "info1", "SCRIPT": "script1", "AUTH": "auth1", "SELECT": "select1", "HELLO": "hello1"}
    options = [w for name, other in names.items() for w in ("--rename-command", name, other)]
    servers = [shared.redis("--requirepass", "sesame", *options) for _ in range(2)]
    conf = pool(servers, redis_auth="sesame", redis_db=1, auto_eject_hosts=True, server_failure_limit=1,
                server_retry_timeout="200ms", probe_interval="100ms", hash="md5",
                command_rename="\n".join("  %s %s" % pair for pair in names.items()).strip())
    proxy = shared.nutproxy({"alpha": conf})
    with Resp(proxy.where("alpha")) as c:
        c.splitter.form = HEAD3
        assert c.ask("auth1", "sesame") == OK and b"7.0.15" in c.ask("hello1", "3") and c.ask("SET", "a", "1") == OK
        assert b"redis_version:7.0.15" in c.ask("info1") and b"db1:keys=1" in c.ask("info1", "keyspace")
        script, keys = "return KEYS[1]", ["%d:key" % i for i in range(20)]
        assert c.ask("EVAL", script, 1, keys[0]) == bulk(keys[0])
        sha = hashlib.sha1(script.encode()).hexdigest()
        assert all(c.ask("EVALSHA", sha, 1, k) == bulk(k) for k in keys)
        servers[1].kill()
        wait_for("it to be ejected", lambda: "is down and ejected" in proxy.said() or not c.ask("MGET", *keys))
        servers[1].start()
        wait_for("it to be back", lambda: "is up" in proxy.said())


def test_scan_reads_what_the_client_has_just_written(shared):
    servers = [shared.redis() for _ in range(2)]
    for i in range(20):
        proxy = shared.nutproxy({"alpha": pool(servers, hash="md5")})
        key = "fresh %d" % i
        with Resp(proxy.where("alpha"), resp3=i % 2 == 0) as c:
            got = c.pipeline([("SET", key, "1"), ("SCAN", "0", "MATCH", key, "COUNT", 1000), ("SCAN", "1", "MATCH", key, "COUNT", 1000)])
            assert any(bulk(key) in g for g in got[1:]), got
        proxy.stop()


def test_a_hung_server_holds_up_no_handshake_and_hidden_scripts_have_an_end(shared):
    servers = [shared.redis() for _ in range(2)]
    proxy = shared.nutproxy({"alpha": pool(servers, hash="md5", timeout="20s")})
    with Resp(proxy.where("alpha")) as c:
        keys = ["%d:key" % i for i in range(20)]
        for k in keys:
            c.ask("SET", k, "x")
        assert b"7.0.15" in c.ask("HELLO", "2")
        fine = next(k for k in keys if servers[1].client().exists(k))
        servers[0].pause()
        assert c.ask("EVALSHA", "0" * 40, 1, fine).startswith(b"-NOSCRIPT")
        before, began = proxy.rss_kib(), time.monotonic()
        for i in range(20):
            with Resp(proxy.where("alpha")) as other:
                assert b"7.0.15" in other.ask("HELLO", "2")
        for i in range(300):
            script = "return %d --%s" % (i, "x" * 60000)
            assert c.ask("EVAL", script, 1, fine) == b":%d\r\n" % i
            if i % 20 == 0:
                assert c.ask("EVALSHA", "0" * 40, 1, fine).startswith(b"-NOSCRIPT")
        assert time.monotonic() - began < 8 and proxy.rss_kib() - before < 16384
        servers[0].resume()


def test_a_cursor_that_is_none_and_answers_of_another_kind_are_not_passed_on(shared):
    said = {"reply": b""}

    def answer(link, words):
        return said["reply"] if words[0] in (b"SCAN", b"RANDOMKEY", b"SCRIPT") else bulk("x")

    proxy = shared.nutproxy({"alpha": pool([Fake(answer)], server_failure_limit=1000000)})
    with Resp(proxy.where("alpha")) as c:
        for reply in (b"*2\r\n$3\r\n5xy\r\n*0\r\n", b"*2\r\n$1\r\nx\r\n*0\r\n", b"*2\r\n$0\r\n\r\n*0\r\n", b"+OK\r\n", b"*0\r\n",
                      b"*2\r\n:5\r\n*0\r\n", b"*2\r\n$21\r\n999999999999999999999\r\n*0\r\n"):
            said["reply"] = reply
            assert c.ask("SCAN", "0").startswith(b"-ERR "), reply
            c.in_step()
        for reply in (b":5\r\n", b"*1\r\n:1\r\n", b"+OK\r\n"):
            said["reply"] = reply
            assert c.ask("RANDOMKEY").startswith(b"-ERR ") and c.ask("SCRIPT", "LOAD", "x").startswith(b"-ERR ")
            c.in_step()
