"""What nobody can do: speak to servers in another's name, learn the password, have more rights than are needed.

What clients send is trusted in nothing. The configuration is, and so are the servers.
"""
import http.client
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

from fake import SECONDS, Fake, Gone, bulk, wire
from nut import NUTPROXY, SLOW, Stage, can_connect, free_port, ini, pool, wait_for
from recorder import Hub, Raw, Recorder
from resp import HEAD3, Resp

CANARY = b"injected"            # no client of these tests asks to write this key
NOAUTH = b"-NOAUTH"


def ms(number):
    return int(number * SLOW)


class House:
    """Pools of both protocols before real servers, and relays between that write down what is asked."""

    def __init__(self, stage, hub):
        self.redis = [stage.redis() for _ in range(2)]
        self.memcached = [stage.memcached() for _ in range(2)]
        self.relays = {"redis": [Recorder(hub, s, "redis") for s in self.redis],
                       "memcached": [Recorder(hub, s, "memcached") for s in self.memcached]}
        self.proxy = stage.nutproxy({
            "nutproxy": {"log_level": 11},
            **{name: pool(relays, name, hash="md5", timeout=ms(10000)) for name, relays in self.relays.items()}})
        self.hub = hub

    def where(self, name):
        return self.proxy.where(name)

    def seen(self, name):
        """What servers were asked since the last time."""
        return [request for relay in self.relays[name] for request in relay.take()]

    def untouched(self):
        """Nobody has written the key that nobody may write, and nothing but requests has come to a server."""
        written = []
        for server in self.redis + self.memcached:
            with wire((server.host, server.port)) as w:
                if server in self.redis:
                    written.append(w.ask("DEL", CANARY) != b":0\r\n")
                else:
                    written.append(w.tell(b"delete " + CANARY + b"\r\n") != b"NOT_FOUND\r\n")
        assert not any(written)
        for name in self.relays:
            for request in self.seen(name):
                assert not isinstance(request, Raw), request
                assert CANARY not in (request if name == "redis" else request.split(b"\n")[0].split()), request
        for line in self.proxy.said().splitlines():
            assert re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] ", line), "a line of its own: " + line


@pytest.fixture(scope="module")
def built_once():
    with Stage() as stage, Hub() as hub:
        yield House(stage, hub)
        assert not hub.broken, hub.broken


@pytest.fixture
def house(built_once):
    for name in built_once.relays:
        built_once.seen(name)
    yield built_once
    assert built_once.proxy.child.poll() is None, built_once.proxy.said()[-3000:]
    built_once.untouched()


# ---- what stands in keys and words

BITS = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\x1b[2J", b"\x7f", b"\xff\xfe", b"'", b'"', b"\\r\\n", b"%0d%0a",
        b"*0\r\n", b"$-1\r\n", b"\r\nSET injected 1\r\n", b"\nset injected 0 0 1\n1\n",
        b"\r\n*3\r\n$3\r\nSET\r\n$8\r\ninjected\r\n$1\r\n1\r\n",
        b"\r\n+OK\r\n", b"\0\r\nEND\r\n"]
WORDS = [shape.replace(b"@", bit) for bit in BITS for shape in (b"@", b"k@", b"@k", b"k@k")]

# The word, W, in every place that a command has for one.
PLACES = [line.encode().split() for line in """
    SET W v|SET k W|SET k v W|SET k v EX W|GET W|GETDEL W|APPEND W W|STRLEN W|MGET W a W|MSET W v a W|DEL W a|
    EXISTS W a|TOUCH W b|HSET W W W|HGET h W|HGETALL W|LPUSH W W|SADD s W|ZADD z 1 W|ZADD z W m|ZUNION W a|
    ZUNION 1 W|XADD W * f W|XRANGE x W +|SORT W|SORT l BY W|OBJECT ENCODING W|OBJECT W k|EXPIRE k W|INCRBY k W|
    SETEX W 100 W|RENAME W W|COPY W W|EVAL W 1 k|EVAL return W k|EVAL return 1 W|EVALSHA W 1 k|FCALL W 1 k|
    SCRIPT LOAD W|SCRIPT EXISTS W|SCRIPT W|FUNCTION LIST LIBRARYNAME W|PUBLISH W W|PUBSUB NUMSUB W|KEYS W|SCAN W|
    SCAN 0 MATCH W|SCAN 0 W 1|DBSIZE W|RANDOMKEY W|W|W k|W k v|GET W W|PING W|ECHO W|SELECT W|AUTH W|AUTH default W|
    AUTH W W|HELLO W|HELLO 2 SETNAME W|HELLO 2 AUTH W W|CLIENT W|CLIENT SETNAME W|CLIENT SETINFO LIB-NAME W|
    CLIENT SETINFO W v|CLIENT LIST ID W|CLIENT REPLY W|INFO W|COMMAND W|COMMAND INFO W|COMMAND DOCS W|
    COMMAND GETKEYS GET W|COMMAND LIST FILTERBY PATTERN W|CONFIG GET W|CONFIG W|SUBSCRIBE W|MULTI W|
    MIGRATE W 1 k 0 1|BLPOP W 1|GEOSEARCH W W|LCS W W|BITOP W W W|TIME W|RESET W|LATENCY W
    """.replace("\n", "").split("|")]

# What the proxy asks of its own, whatever the words: it has read them, and asks all servers.
OWN = set(b"INFO server SCRIPT LOAD EXISTS SCAN COUNT 0 MATCH PING HELLO 3 2".split())


def test_a_word_of_redis_is_one_word_wherever_it_stands(house):
    """Each request has one reply, and servers see the words of the request and no others."""
    passed_on = 0
    for version in (2, 3):
        with Resp(house.where("redis"), resp3=version == 3) as c:
            for place in PLACES:
                requests = [[word if w == b"W" else w for w in place] for word in WORDS]
                c.pipeline(requests)
                c.in_step()
                allowed = {w for request in requests for w in request} | OWN
                for request in house.seen("redis"):
                    passed_on += 1
                    assert isinstance(request, tuple), request
                    assert set(request) <= allowed, (place, request)
    assert passed_on > 20 * len(WORDS), passed_on


def test_every_byte_of_keys_and_values_arrives(house):
    with Resp(house.where("redis")) as c:
        for word in WORDS + [bytes([b]) for b in range(256)]:
            key = b"key" + word
            assert c.pipeline([("SET", key, word), ("GET", key), ("DEL", b"no" + word, key)]) == \
                [b"+OK\r\n", bulk(word), b":1\r\n"]
            assert {(b"SET", key, word), (b"GET", key)} <= set(house.seen("redis"))


def test_quoted_words_of_inline_commands_are_words_too(house):
    with Resp(house.where("redis")) as c:
        for word in WORDS:
            quoted = b'"' + b"".join(b"\\x%02x" % b for b in word) + b'"'
            assert c.write(b"SET " + quoted + b" " + quoted + b"\r\nGET " + quoted + b"\n").reply() == b"+OK\r\n"
            assert c.reply() == bulk(word)
            assert {(b"SET", word, word), (b"GET", word)} <= set(house.seen("redis"))


LISTED = re.compile(rb"id=\d+ addr=127\.0\.0\.1:\d+ [ -~]*\r?$|\r$")


def test_what_a_client_calls_itself_adds_no_line_to_the_list(house):
    with Resp(house.where("redis")) as c, Resp(house.where("redis")) as other:
        for word in WORDS:
            for request in (("CLIENT", "SETNAME", word), ("CLIENT", "SETINFO", "LIB-NAME", word),
                            ("CLIENT", "SETINFO", "LIB-VER", word), ("HELLO", "2", "SETNAME", word)):
                c.ask(*request)
                lines = other.ask("CLIENT", "LIST").split(b"\n")[1:-1]
                assert len(lines) == 3 and all(map(LISTED.match, lines)), lines


# The same for memcached: C is a control byte, in words of all kinds.
LINES = [line.encode() for line in """
    get C|get aC|get Cb k|get k aCb|gets aCb|gat 0 aCb|gat C k|delete aCb|delete k C|incr aCb 1|incr k C|incr k 1C|
    decr Cb 1|touch aCb 0|touch k C|set aCb 0 0 2|set k C 0 2|set k 0 C 2|set k 0 0 2C|set k 0 0 2 C|
    set k 0 0 2 noreplyC|add Cb 0 0 2|cas aCb 0 0 2 1|cas k 0 0 2 C|append aC 0 0 2|mg aCb v|mg k vC|mg k OaCb v|mg C|
    mg YWJjZA== b OCb|md aCb|md k OC|md k qC|ma aCb|ma k NC|ma k DC|me aCb|ms aCb 2|ms k 2 TC|ms k 2 OaC|ms k 2C|mnC|
    versionC|version C|C|Cget k|getCk|get kC|verbosity C|stats C|stats server C|stats server aCb items|flush_all C|
    flush_allC|lruC|watch C""".replace("\n    ", "").split("|")]
CONTROLS = [bytes([b]) for b in (*range(10), *range(11, 32), 127)] + [b"\x80", b"\xff", b"\r\r", b"\0\r", b"\r\0"]


def until_mn(w):
    lines = []
    while not lines or lines[-1] != b"MN\r\n":
        lines.append(w.line())
    return lines[:-1]


def test_a_control_byte_in_a_memcached_line_reaches_no_server(house):
    """Or it has another meaning here, and is not there any more."""
    with wire(house.where("memcached")) as w:
        for line in LINES:
            stores = line.split()[0] in (b"set", b"add", b"cas", b"append", b"ms")
            for byte in CONTROLS:
                if line[:1] == b"C" and byte == b"\x80":
                    continue            # so begins a packet of the binary protocol
                w.say(line.replace(b"C", byte), b"\r\nzz\r\n" if stores else b"\r\n", b"mn\r\n")
                said = until_mn(w)
                assert len(said) <= 3 or line.startswith(b"stats"), (line, byte, said)
            for request in house.seen("memcached"):
                assert isinstance(request, bytes) and not isinstance(request, Raw), request
                head, _, data = request.partition(b"\r\n")
                assert re.fullmatch(rb"[!-~\x80-\xff]+( [!-~\x80-\xff]+)*", head), (line, request)
                assert data in (b"", b"zz\r\n"), request


def test_memcached_data_is_data_whatever_it_says(house):
    with wire(house.where("memcached")) as w:
        for n, word in enumerate(WORDS):
            for store in (b"set v%d 0 0 %d\r\n%s\r\n", b"ms v%d %d\r\n%s\r\n"):
                w.say(store % (n, len(word), word))
                assert w.line() in (b"STORED\r\n", b"HD\r\n")
                assert w.tell(b"get v%d\r\n" % n) == b"VALUE v%d 0 %d\r\n%s\r\nEND\r\n" % (n, len(word), word)


SMUGGLED = b"set smuggled 0 0 1\r\n1\r\n"


@pytest.mark.parametrize("line", [
    b"set k 0 0 3\r\nab%s", b"set k 0 0 1\r\nabc\r\n%s", b"set k 0 0 30\r\n%s0123456\r\n", b"set k 0 0 -1\r\n%s",
    b"set k 0 0 18446744073709551617\r\n%s", b"set k 0 0 2 noreply\r\nabc%s", b"set k 0 0\r\n%s", b"ms k 3\r\nab%s",
    b"ms k x\r\n%s", b"cas k 0 0 1\r\n%s", b"set " + b"k" * 251 + b" 0 0 23\r\n%s\r\n",
    b"ms " + b"k" * 251 + b" 23\r\n%s\r\n", b"add k 0 0 1x\r\n%s", b"set k 0 0 010\r\n%s",
    b"set k x 0 23\r\n%s\r\n", b"set k 0 0 23 \r\n%s\r\n"])
def test_wrong_lengths_of_memcached_data_hide_no_command_from_whom_a_server_would_not(house, line):
    """What comes behind the data is a command where memcached itself would take it for one, and only there."""
    alone, outcome = house.memcached[0], []
    for where in (house.where("memcached"), (alone.host, alone.port)):
        for server in house.memcached:
            with wire((server.host, server.port)) as w:
                w.tell(b"delete smuggled\r\n")
        with wire(where) as w:
            w.say(line % SMUGGLED, b"\r\nmn\r\n")
            try:
                until_mn(w)
            except Gone:
                pass
        found = []
        for server in house.memcached:
            with wire((server.host, server.port)) as w:
                found.append(w.tell(b"get smuggled\r\n") != b"END\r\n")
        outcome.append(any(found))
    here, there = outcome
    assert here <= there, "the proxy has run what a server takes for data"


# ---- other protocols: what a browser can be made to send

BODY = (b"SET injected 1\r\nset injected 0 0 1\r\n1\r\n*3\r\n$3\r\nSET\r\n$8\r\ninjected\r\n$1\r\n1\r\n"
        b"EVAL \"redis.call('set','injected',1)\" 0\r\n")
HEADERS = (b"Host: 127.0.0.1:6379\r\nUser-Agent: Mozilla/5.0\r\nContent-Type: text/plain;charset=UTF-8\r\n"
           b"Content-Length: %d\r\n\r\n" % len(BODY))
STARTS = [b"POST / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"PUT /SET/injected/1 HTTP/1.1\r\n",
          b"OPTIONS * HTTP/1.1\r\n", b"DELETE /injected HTTP/1.1\r\n", b"PATCH /a?b=c HTTP/1.1\r\n",
          b"CONNECT 127.0.0.1:6379 HTTP/1.1\r\n", b"post / http/1.1\r\n", b"GET / HTTP/1.1\n", b"POST /\r\n",
          b"Host: a\r\n",
          b"TRACE / HTTP/1.1\r\n", b"X / HTTP/1.1\r\n", b"GET  /  HTTP/1.1\r\n"]
both = pytest.mark.parametrize("name", ["redis", "memcached"])
ERROR = {"redis": rb"-ERR [^\r\n]+\r\n", "memcached": rb"(ERROR|(CLIENT|SERVER)_ERROR [^\r\n]+)\r\n"}


def all_said(where, *pieces):
    """What comes back until the end, which comes soon."""
    with wire(where) as w:
        try:
            for piece in pieces:
                w.say(piece)
        except Gone:
            pass
        began = time.monotonic()
        w.sock.settimeout(SECONDS)
        said = w.rest()
        assert time.monotonic() - began < 5 * SLOW
        return said


@both
def test_http_gets_one_error_and_the_end_and_none_of_it_is_run(house, name):
    for start in STARTS:
        slowly = [bytes([b]) for b in start]
        for pieces in ([start + HEADERS + BODY], [start, HEADERS, BODY], slowly + [HEADERS + BODY]):
            assert re.fullmatch(ERROR[name], all_said(house.where(name), *pieces)), start
    assert not house.seen(name)
    told = [line for line in house.proxy.said().splitlines() if "HTTP" in line]
    assert told and all("pool '%s'" % name in line or "127.0.0.1" in line for line in told[-1:]), told[-3:]


@both
def test_what_was_asked_before_http_is_answered_and_nothing_behind_it(house, name):
    first = {"redis": b"SET before 1\r\nPING\r\n", "memcached": b"set before 0 0 1\r\n1\r\nmn\r\n"}[name]
    answers = {"redis": b"\\+OK\r\n\\+PONG\r\n", "memcached": b"STORED\r\nMN\r\n"}[name]
    assert re.fullmatch(answers + ERROR[name], all_said(house.where(name), first + STARTS[0] + HEADERS + BODY))
    assert len(house.seen(name)) == 1


@both
def test_a_line_of_http_that_memcached_knows_is_the_last_one(house, name):
    """A get of two keys may be meant; the header behind it cannot."""
    for start in (b"get / HTTP/1.1\r\n", b"gets /a HTTP/1.1\n", b"delete /a HTTP/1.1\r\n", b"touch /a HTTP/1.1\r\n"):
        said = all_said(house.where(name), start + HEADERS + BODY)
        if name == "memcached":
            assert re.fullmatch(b"(END|[A-Z]+_[A-Z]+ [^\r]*|ERROR)\r\n" + ERROR[name], said), (start, said)
        else:
            assert re.fullmatch(ERROR[name], said), (start, said)


@both
def test_a_large_post_hangs_nobody(house, name):
    said = all_said(house.where(name), STARTS[0] + HEADERS, *[BODY * 400] * 20)
    assert re.fullmatch(b"(%s)?" % ERROR[name], said)


def test_a_greeting_of_tls_is_the_last_thing_said(house):
    """What a client may put into it, such as the id of a session, is not run."""
    hello = b"\x16\x03\x01\x01\x00\x01\x00\xfc\x03\x03" + b"r" * 32 + b"\x20\r\n" + BODY
    assert re.fullmatch(ERROR["redis"], all_said(house.where("redis"), hello))


@both
def test_http_clients_see_no_answer(house, name):
    host, port = house.where(name)
    for method, body in (("GET", None), ("POST", BODY), ("PUT", BODY), ("DELETE", None)):
        c = http.client.HTTPConnection(host, port, timeout=SECONDS)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            c.request(method, "/SET/injected/1", body)
            c.getresponse()
        c.close()
    for options in ([], ["-I"], ["--data-binary", "@-"], ["--http2-prior-knowledge"], ["-X", "SET"], ["-F", "a=<-"]):
        done = subprocess.run(["curl", "-s", "-m", "5", *options, "http://%s:%d/" % (host, port)], input=BODY,
                              capture_output=True, timeout=SECONDS)
        assert done.returncode != 0 and not done.stdout, done


@both
def test_values_may_speak_of_http(house, name):
    text = STARTS[0] + HEADERS
    with wire(house.where(name)) as w:
        if name == "redis":
            assert w.ask("SET", text, text) == b"+OK\r\n" and w.ask("GET", text) == bulk(text)
            assert w.ask("SET", "k", "HTTP/1.1") == b"+OK\r\n" and w.ask("GET", "k") == bulk(b"HTTP/1.1")
        else:
            w.say(b"set k 0 0 %d\r\n%s\r\n" % (len(text), text))
            assert w.line() == b"STORED\r\n"
            assert w.tell(b"get k\r\n") == b"VALUE k 0 %d\r\n%s\r\nEND\r\n" % (len(text), text)
            assert w.tell(b"get POST Host:\r\n") == b"END\r\n"


def test_the_stats_port_takes_no_orders(house):
    where = ("127.0.0.1", house.proxy.stats_port)
    for start in STARTS[:2]:
        assert all_said(where, start + HEADERS + BODY).startswith(b'{"service":')


# ---- the password

SECRET = b"Zq7!vW-hidden-4kLm"


def written(stage, name, data, mode=0o600):
    path = stage.path(name)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)
    return path


def fits(proxy, password, name="alpha"):
    """Whether that is the password."""
    with wire(proxy.where(name)) as w:
        told = w.ask("AUTH", password)
        assert told == b"+OK\r\n" or told[:1] == b"-", told
        assert (w.ask("GET", "k")[:7] == NOAUTH) == (told != b"+OK\r\n")
        return told == b"+OK\r\n"


def test_only_the_whole_password_fits(stage):
    fake = Fake()
    proxy = stage.nutproxy({"alpha": pool([fake], redis_auth=SECRET.decode())})
    assert fits(proxy, SECRET)
    wrong = {SECRET[:n] for n in range(len(SECRET))} | {SECRET[n:] for n in range(1, len(SECRET))}
    for n in range(len(SECRET)):
        wrong |= {SECRET[:n] + bytes([SECRET[n] ^ bit]) + SECRET[n + 1:] for bit in (1, 32, 128)}
    wrong |= {SECRET + end for end in (b"\0", b"x", b"\n", b"\0" * len(SECRET), SECRET, b"x" * 8000)}
    wrong |= {b"\0" * len(SECRET), b"x" * len(SECRET), SECRET[::-1], SECRET.swapcase(), b"", b"\0"}
    with Resp(proxy.where("alpha")) as c:
        for word in sorted(wrong):
            assert c.ask("AUTH", word)[:1] == b"-", word
            assert c.ask("AUTH", "default", word)[:1] == b"-", word
            assert c.ask("HELLO", "2", "AUTH", "default", word)[:1] == b"-", word
            assert c.ask("GET", "k")[:7] == NOAUTH
        assert c.ask("AUTH", "nobody", SECRET)[:1] == b"-"
        assert c.ask("AUTH", "default", SECRET) == b"+OK\r\n" and c.ask("GET", "k") == b"$-1\r\n"
    assert {words[1] for words in fake.asked(b"AUTH")} == {SECRET}


@pytest.mark.parametrize("content, password", [
    (SECRET, SECRET), (SECRET + b"\n", SECRET), (SECRET + b"\nsecond line\n", SECRET),
    (SECRET + b"\r\nsecond line\r\n", SECRET), (b" ;\"#'\\ =[x] \n", b" ;\"#'\\ =[x] "),
    (b"p\xc3\xa4ss\xff\x80\n", b"p\xc3\xa4ss\xff\x80"), (b"x" * 512 + b"\r\n", b"x" * 512)],
    ids=["bare", "line", "lines", "CR LF", "signs", "bytes", "long"])
def test_a_password_is_read_from_the_first_line_of_its_file(stage, content, password):
    fake = Fake()
    proxy = stage.nutproxy({"alpha": pool([fake], redis_auth_file=written(stage, "secret", content))})
    assert fits(proxy, password) and not fits(proxy, password[:-1]) and not fits(proxy, content + b"\n")
    assert {words[1] for words in fake.asked(b"AUTH")} == {password}


def run(*options, **how):
    done = subprocess.run([NUTPROXY, *options], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=5 * SLOW, **how)
    assert done.returncode in (0, 1), done
    return done.returncode, done.stdout, done.stderr


def mistake(stage, sections, word="redis_auth_file", text=None):
    """What -t and the start say of it; the line is the one that has the word, unless it is 0."""
    text = text if text is not None else ini(sections)
    path = written(stage, "wrong.ini", text.encode())
    line = next(n for n, line in enumerate(text.split("\n"), 1) if line.lstrip().startswith(word))
    told = [run("-t", "-c", path), run("-c", path)]
    for status, out, err in told:
        assert status == 1 and out == b"", err
        assert b"%s:%d: " % (path.encode(), line) in err, err
    return told[0][2]


WRONG_FILES = {"missing": None, "empty": b"", "an empty line": b"\n" + SECRET + b"\n",
               "CR LF alone": b"\r\n" + SECRET, "too long": b"x" * 513, "much too long": b"x" * 100000,
               "a NUL": SECRET + b"\0" + SECRET}


@pytest.mark.parametrize("what", WRONG_FILES)
def test_a_file_that_holds_no_password_is_told_with_its_line(stage, what):
    path = stage.path("secret")
    if WRONG_FILES[what] is not None:
        written(stage, "secret", WRONG_FILES[what])
    told = mistake(stage, {"alpha": pool([Fake()], redis_auth_file=path)})
    assert SECRET not in told


def test_files_that_are_none_are_told_and_hold_nobody_up(stage):
    os.mkfifo(stage.path("pipe"))
    for path in (stage.dir, "/dev/zero", stage.path("pipe"), stage.path("no/such"), "/dev/null", "x" * 150):
        began = time.monotonic()
        mistake(stage, {"alpha": pool([Fake()], redis_auth_file=path)})
        assert time.monotonic() - began < 2 * SLOW


def test_a_password_is_given_once_and_for_redis_only(stage):
    path = written(stage, "secret", SECRET)
    assert SECRET not in mistake(stage, {"alpha": pool([Fake()], redis_auth=SECRET.decode(), redis_auth_file=path)})
    mistake(stage, {"alpha": pool([Fake(protocol="memcached")], "memcached", redis_auth_file=path)})


def reload(proxy, taken=True):
    before = len(proxy.said())
    proxy.signal(signal.SIGUSR1)
    wait_for("the reload", lambda: re.search("was read again|is not taken over", proxy.said()[before:]))
    said = proxy.said()[before:]
    assert ("is not taken over" not in said) == taken, said
    return said


def test_another_password_in_the_file_counts_after_a_reload(stage):
    fake = Fake()
    path = written(stage, "secret", b"first\n")
    proxy = stage.nutproxy({"alpha": pool([fake], redis_auth_file=path)})
    with wire(proxy.where("alpha")) as w:
        assert w.ask("AUTH", "first") == b"+OK\r\n" and w.ask("SET", "k", "v") == b"+OK\r\n"
        reload(proxy)
        assert len(fake.links) == 1, "the same password: nothing is touched"
        written(stage, "secret", b"second\n")
        assert fits(proxy, b"first") and not fits(proxy, b"second"), "read when it is told to"
        reload(proxy)
        assert fits(proxy, b"second") and not fits(proxy, b"first")
        assert w.ask("GET", "k") == bulk(b"v"), "who was trusted stays trusted"
        for content in (b"", b"x" * 100000, None):
            written(stage, "secret", content) if content is not None else os.unlink(path)
            assert "%s" % path in reload(proxy, taken=False) or "redis_auth_file" in proxy.said()
            assert fits(proxy, b"second")
    assert [words[1] for words in fake.asked(b"AUTH")][-1] == b"second"


# ---- nothing that is printed has it

def nowhere(outputs, *secrets):
    for what, data in outputs.items():
        for secret in secrets:
            assert secret not in data, "%s has it: %r" % (what, data[max(0, data.find(secret) - 100):][:300])


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("by_file", [False, True], ids=["in the configuration", "in a file"])
def test_the_password_is_told_to_servers_and_to_nobody_else(stage, form, by_file):
    """One server takes it, one refuses it, and one has another name for AUTH and tells the words back."""
    refuses = Fake(lambda link, words: b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
    tells = stage.redis("--rename-command", "AUTH", "hidden")
    good = Fake()
    key = {"redis_auth_file": written(stage, "secret", SECRET + b"\n")} if by_file else {"redis_auth": SECRET.decode()}
    keys = dict(key, server_failure_limit=2, probe_interval=ms(50), timeout=ms(1000))
    guess = b"Mistyped-" + SECRET[:5] + b"-guess"
    proxy = stage.nutproxy({"nutproxy": {"log_level": 11, "log_format": form},
                            "alpha": pool([good], **keys), "beta": pool([refuses], **keys),
                            "gamma": pool([tells], **keys)})
    outputs = {}
    for name in ("alpha", "beta", "gamma"):
        with Resp(proxy.where(name)) as c:
            c.splitter.form = HEAD3
            out = [c.ask("AUTH", guess), c.ask("AUTH", "default", guess), c.ask("AUTH", guess, guess),
                   c.ask("HELLO", "3", "AUTH", "default", guess), c.ask("GET", guess), c.ask("AUTH", guess, "a", "b")]
            out += [c.ask("AUTH", SECRET)] + [c.ask(*words.split()) for words in (
                "GET k", "SET k v", "MGET a b", "INFO", "INFO everything", "CONFIG GET *", "CONFIG GET requirepass",
                "CLIENT LIST", "CLIENT INFO", "COMMAND INFO auth", "ACL WHOAMI", "ACL LIST", "DBSIZE", "SCAN 0",
                "nonsense", "HELLO 2")]
            outputs["replies of " + name] = b"".join(out)
    wait_for("the log", lambda: re.search("gamma.*refuses us: -ERR unknown command", proxy.said()))
    outputs["the stats"] = proxy.stats_text().encode()
    outputs["a reload"] = reload(proxy).encode()
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU):
        proxy.signal(number)
    # The same, and the file is worse each time.
    text = ini(proxy.sections)
    for number, line in enumerate(MISTAKES if not by_file else []):
        with open(proxy.conf, "w") as f:
            f.write(spoilt(text, line))
        outputs["a bad reload %d" % number] = reload(proxy, taken=False).encode()
    with open(proxy.conf, "w") as f:
        f.write(text)
    for what in ("cmdline", "environ", "comm"):
        with open("/proc/%d/%s" % (proxy.pid, what), "rb") as f:
            outputs[what] = f.read()
    for options in (["-t", "-c", proxy.conf], ["--print-config", "-c", proxy.conf], ["-D"], ["-V"], ["-h"],
                    ["route", "-c", proxy.conf, "alpha", "k"], ["diff", proxy.conf, proxy.conf],
                    ["convert", proxy.conf], ["-c", proxy.conf]):
        status, out, err = run(*options)
        outputs[" ".join(options)] = out + err
        if options[0] == "--print-config":
            assert status == 0 and out.count(b"redis_auth_file = " if by_file else b"redis_auth = ") >= 3, out
            assert b"127.0.0.1:%d" % good.port in out
    assert proxy.stop() == 0
    outputs["the log"] = proxy.said().encode()
    nowhere(outputs, SECRET, SECRET[4:], guess)
    assert SECRET in b"".join(w for words in good.seen for w in words)


MISTAKES = [
    'redis_auth = "SECRET', 'redis_auth SECRET', 'redis_aut = SECRET', 'auth = SECRET', 'redis_password = SECRET',
    'redis_auth = SECRET\nredis_auth = SECRET', 'redis_auth = SECRET\n    SECRET', 'redis_auth = "SECRET" SECRET',
    'redis_auth =\n    SECRET\n    SECRET', 'redis_auth = SECRET' + "x" * 300, 'redis_auth = "SECRET\\x00"',
    'redis_auth = SECRET\n[nutproxy]\nredis_auth = SECRET', 'redis_auth = SECRET\nprotocol = memcached',
    'redis_auth = SECRET\nredis_auth_file = /no/such', '"redis_auth" = SECRET', 'REDIS_AUTH = SECRET']
UNUSUAL = ['redis_auth: SECRET x', 'redis_auth == "SECRET" x', 'redis_auth = "SECRET\\q"',
           'redis_auth = "SECRET' + "x" * 3000 + '"']
YML = """alpha:
  listen: 127.0.0.1:%d
  redis: true
  redis_auth = SECRET
  servers:
   - 127.0.0.1:6379:1
"""
YML_MISTAKES = [
    "redis_auth: 'SECRET", 'redis_auth: "SECRET', "redis_auth: [SECRET]", "redis_auth: {a: SECRET}",
    "redis_aut: SECRET", "redis_auth SECRET", "redis_auth: SECRET\n  redis_auth: SECRET", "redis_auth: SECRET: x",
    'redis_auth: "SECRET\\q"',
    "redis_auth: &a SECRET", "redis_auth: |\n    SECRET", "redis_auth: SECRET\n  redis: false",
    "redis_auth:\n   - SECRET"]


def spoilt(text, line):
    """The configuration with that line where the password was."""
    return re.sub(r"redis_auth = \S+", lambda m: line, text, count=1).replace("SECRET", SECRET.decode())


def test_mistakes_in_the_line_of_the_password_do_not_show_it(stage):
    outputs, before = {}, ini({"alpha": pool([Fake()], redis_auth=SECRET.decode())})
    cases = [("ini", spoilt(before, line)) for line in MISTAKES + UNUSUAL]
    cases += [("yml", spoilt(YML % free_port(), line)) for line in YML_MISTAKES + ["redis_auth: SECRET"]]
    cases += [(form, before.replace("\n", end)) for form in ("ini", "yml") for end in ("\r", "\n\0", "\n\t", "\n ")]
    for form, text in cases:
        path = written(stage, "wrong." + form, text.encode())
        good = run("-t", "-c", path)[0] == 0        # YAML has more ways to write it
        assert not good or form == "yml" or any(text == spoilt(before, line) for line in UNUSUAL), text
        for options in (["-t", "-c", path], ["--print-config", "-c", path], ["diff", path, path],
                        ["-c", path, "-o", stage.path("log")]):
            if not good or options[0] != "-c":
                status, out, err = run(*options)
                outputs["%s of %r" % (" ".join(options), text)] = out + err
                assert good or status == 1, (options, text, out, err)
    if os.path.exists(stage.path("log")):
        with open(stage.path("log"), "rb") as f:
            outputs["the log"] = f.read()
    nowhere(outputs, SECRET, SECRET[:9], SECRET[-9:])


def test_the_printed_configuration_in_effect_says_everything_but_the_password(stage):
    sections = {"nutproxy": {"workers": 2, "max_memory": "64m", "stats": "127.0.0.1:%d" % free_port()},
                "alpha": pool([Fake()], redis_auth=SECRET.decode(), timeout=1234, hash="md5", names=["one"]),
                "beta": pool([Fake(protocol="memcached")], "memcached", auto_eject_hosts=True)}
    path = written(stage, "good.ini", ini(sections).encode())
    status, out, err = run("--print-config", "-c", path)
    assert status == 0 and SECRET not in out + err
    again = written(stage, "again.ini", out)
    assert run("-t", "-c", again)[0] == 0, run("-t", "-c", again)
    text = out.decode()
    for line in ("workers = 2", "hash = md5", "auto_eject_hosts = true", r"; redis_auth = \*{8}$"):
        assert re.search("^" + line, text, re.M), line
    assert re.search("^timeout = 1234", text, re.M) and "[alpha]" in text and "[beta]" in text
    status, twice, err = run("--print-config", "-c", again)
    assert status == 0 and [line for line in twice.splitlines() if not line.startswith(b";")] == \
        [line for line in out.splitlines() if not line.startswith(b";")]


# ---- whose rights it has

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give up rights")
NOBODY = 65534


def rights(proxy):
    """Of all its threads, which must be alike."""
    found = set()
    for thread in os.listdir("/proc/%d/task" % proxy.pid):
        with open("/proc/%d/task/%s/status" % (proxy.pid, thread)) as f:
            fields = dict(line.rstrip("\n").split(":", 1) for line in f)
        found.add(tuple(" ".join(fields.get(name, "").split()) for name in
                        ("Uid", "Gid", "Groups", "NoNewPrivs", "CapEff", "CapPrm", "CapInh", "CapAmb")))
    assert len(found) == 1, found
    uid, gid, groups, new, *caps = found.pop()
    return uid, gid, groups, new, [int(cap or "0", 16) for cap in caps]


def low_port():
    """A port that only root can listen on."""
    for port in random.sample(range(600, 1024), 300):
        if not can_connect(("127.0.0.1", port)):
            with socket.socket() as s:
                try:
                    s.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    pass
    raise AssertionError("no port below 1024 is free")


def with_groups():
    os.setgroups([0, 4, 27, NOBODY])


def test_it_never_gets_new_privileges(stage):
    proxy = stage.nutproxy({"nutproxy": {"workers": 2}, "alpha": pool([Fake()])})
    assert rights(proxy)[3] == "1"


@needs_root
@pytest.mark.parametrize("keys, uid, gid", [
    ({"user": "nobody"}, NOBODY, NOBODY), ({"user": "nobody", "group": "nogroup"}, NOBODY, NOBODY),
    ({"user": NOBODY, "group": NOBODY}, NOBODY, NOBODY), ({"user": "nobody", "group": "daemon"}, NOBODY, 1),
    ({"user": "daemon", "group": 4711}, 1, 4711), ({"user": 4711, "group": 4712}, 4711, 4712),
    ({"user": NOBODY}, NOBODY, NOBODY)], ids=str)
def test_rights_are_given_up_when_it_listens(stage, keys, uid, gid):
    fake = Fake()
    alpha = dict(pool([fake]), listen="127.0.0.1:%d" % low_port())
    proxy = stage.nutproxy({"nutproxy": dict(keys, workers=2), "alpha": alpha}, preexec=with_groups)
    uids, gids, groups, new, caps = rights(proxy)
    assert uids == " ".join([str(uid)] * 4) and gids == " ".join([str(gid)] * 4)
    assert set(groups.split()) <= {str(gid)}
    assert new == "1" and caps == [0, 0, 0, 0]
    with wire(proxy.where("alpha")) as w:
        assert w.ask("SET", "k", "v") == b"+OK\r\n"
    assert proxy.stats()["alpha"]["client_connections"] >= 0
    assert proxy.stop() == 0


@needs_root
def test_a_group_alone_is_told(stage):
    """It would leave the rights of root where they are."""
    mistake(stage, {"nutproxy": {"group": "nogroup"}, "alpha": pool([Fake()])}, "group")


@needs_root
def test_a_number_that_is_nobodys_does_not_keep_the_group_of_root(stage):
    conf = written(stage, "n.ini", ini({"nutproxy": {"user": 4711, "stats": "off"}, "alpha": pool([Fake()])}).encode())
    child = stage.process([NUTPROXY, "-c", conf], preexec=with_groups)
    wait_for("it to start, or to refuse", lambda: child.child.poll() is not None or "listens on" in child.said())
    if child.child.poll() is None:
        uids, gids, groups, new, caps = rights(child)
        assert "0" not in gids.split() + groups.split() + uids.split()
    else:
        assert child.child.returncode == 1 and "group" in child.said()


@needs_root
@pytest.mark.parametrize("keys", [
    {"user": "nosuchuser"}, {"user": "nobody", "group": "nosuchgroup"}, {"user": "4294967296"}, {"user": "-1"},
    {"user": "4294967295"}, {"user": "nobody", "group": "4294967295"}, {"user": "0x10"}, {"user": "nobody:nogroup"}],
    ids=str)
def test_a_user_that_there_is_not_ends_the_start(stage, keys):
    port = free_port()
    alpha = dict(pool([Fake()]), listen="127.0.0.1:%d" % port)
    conf = written(stage, "u.ini", ini({"nutproxy": dict(keys, stats="off"), "alpha": alpha}).encode())
    status, out, err = run("-c", conf)
    bad = list(keys.values())[-1]
    assert status == 1 and bad.encode() in err, err
    assert not can_connect(("127.0.0.1", port))


@needs_root
def test_who_is_not_root_cannot_become_another(stage):
    shutil.copy(NUTPROXY, stage.path("nutproxy"))
    os.chmod(stage.path("nutproxy"), 0o755)
    text = ini({"nutproxy": {"user": "daemon", "stats": "off"}, "alpha": pool([Fake()])})
    conf = written(stage, "u.ini", text.encode(), 0o644)

    def become_nobody():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    done = subprocess.run([stage.path("nutproxy"), "-c", conf], preexec_fn=become_nobody, capture_output=True,
                          timeout=5 * SLOW)
    assert done.returncode == 1 and b"daemon" in done.stderr, done


def owned(stage, name, uid=NOBODY):
    path = stage.path(name)
    os.mkdir(path)
    os.chown(path, uid, uid)
    return path


@needs_root
@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
def test_files_and_paths_are_there_and_gone_again(stage, daemon):
    """In a folder of that user: the log is opened anew, and what was made is taken away at the end."""
    home = owned(stage, "run")
    sock, log, pid = (os.path.join(home, name) for name in ("sock", "log", "pid"))
    fake = Fake()
    path = written(stage, "p.ini", ini({
        "nutproxy": {"user": "nobody", "log": log, "pid_file": pid, "stats": os.path.join(home, "stats")},
        "alpha": dict(pool([fake]), listen=sock + " 0666")}).encode(), 0o644)
    stage.process([NUTPROXY, "-c", path] + (["-d"] if daemon else []))
    wait_for("it to listen", lambda: can_connect(sock) and os.path.exists(pid))
    with open(pid) as f:
        number = int(f.read())
    try:
        with open("/proc/%d/status" % number) as f:
            assert re.search(r"Uid:\s+65534\s+65534\s+65534\s+65534\n", f.read())
        assert stat.S_IMODE(os.stat(sock).st_mode) == 0o666
        with wire(sock) as w:
            assert w.ask("SET", "k", "v") == b"+OK\r\n"
        assert can_connect(os.path.join(home, "stats"))
        for signal_number in (signal.SIGHUP, signal.SIGUSR1):
            os.rename(log, log + ".1")
            os.kill(number, signal_number)
            wait_for("another log", lambda: os.path.exists(log))
    finally:
        os.kill(number, signal.SIGTERM)
    wait_for("the end", lambda: not os.path.exists(pid))
    assert sorted(os.listdir(home)) == ["log", "log.1"]


@needs_root
def test_where_that_user_may_not_write_it_serves_and_stops_all_the_same(stage):
    """The folder is root's: what was made there stays, the next start takes it over."""
    log = stage.path("log")
    sections = {"nutproxy": {"user": "nobody", "log": log, "pid_file": stage.path("pid"), "workers": 2},
                "alpha": dict(pool([Fake()]), listen=stage.path("sock"))}
    for _ in range(2):
        proxy = stage.nutproxy(sections)
        with wire(stage.path("sock")) as w:
            assert w.ask("PING") == b"+PONG\r\n"
            size = os.path.getsize(log)
            proxy.signal(signal.SIGHUP)
            wait_for("the log to go on", lambda: os.path.getsize(log) > size)
            assert os.stat(log).st_uid == NOBODY, "or it could not be opened again"
            assert w.ask("PING") == b"+PONG\r\n"
        assert proxy.stop() == 0


@needs_root
def test_the_configuration_is_read_anew_as_that_user(stage):
    fake, home = Fake(), owned(stage, "run")
    alpha = dict(pool([fake]), listen="127.0.0.1:%d" % low_port())
    proxy = stage.nutproxy({"nutproxy": {"user": "nobody"}, "alpha": alpha})

    def change(mode=0o644, taken=True, **sections):
        proxy.sections = {"nutproxy": proxy.sections["nutproxy"], "alpha": alpha, **sections}
        with open(proxy.conf, "w") as f:
            f.write(ini(proxy.sections))
        os.chmod(proxy.conf, mode)
        return reload(proxy, taken)
    with wire(proxy.where("alpha")) as w:
        assert w.ask("SET", "k", "v") == b"+OK\r\n"
        change(beta=pool([fake]), gamma=dict(pool([fake]), listen=os.path.join(home, "sock")))
        for name in ("beta", "gamma"):
            with wire(proxy.where(name)) as other:
                assert other.ask("GET", "k") == bulk(b"v")
        for sections in ({"delta": dict(pool([fake]), listen="127.0.0.1:%d" % low_port())},
                         {"delta": dict(pool([fake]), listen=stage.path("sock"))},
                         {"delta": pool([fake], redis_auth_file=written(stage, "secret", SECRET))}):
            assert re.search("ermission denied", change(taken=False, **sections)), sections
        assert re.search("ermission denied", change(mode=0o600, taken=False))
        assert w.ask("GET", "k") == bulk(b"v")
        change(beta=pool([fake], redis_auth_file=written(stage, "secret", SECRET, 0o644)))
        assert fits(proxy, SECRET, "beta")
        change()
        assert w.ask("GET", "k") == bulk(b"v")
    assert rights(proxy)[:2] == (" ".join([str(NOBODY)] * 4),) * 2
    assert not os.path.exists(os.path.join(home, "sock"))
