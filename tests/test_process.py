"""The program as an operator meets it: options, configuration, signals, files, stats."""
import json
import os
import random
import re
import signal
import socket
import stat
import subprocess
import time

import pytest

from fake import Fake, wire
from nut import (NUTCRACKER, NUTPROXY, SLOW, TOP, can_connect, free_port, ini, pool, wait_for)
from resp import bulk, command

SEED = int(os.environ.get("NUT_SEED") or time.time_ns() % 10**9)


needs_nutcracker = pytest.mark.skipif(not os.path.exists(NUTCRACKER), reason="no nutcracker here")


def run(*options, program=NUTPROXY, cwd=None):
    """Run to the end; exit status, stdout, stderr."""
    done = subprocess.run([program, *options], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=20 * SLOW, cwd=cwd)
    out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    assert done.returncode >= 0, "killed by signal %d: %s" % (-done.returncode, err)
    assert not re.search("runtime error|Sanitizer", err), err
    return done.returncode, out, err


def write(folder, text, name="test.ini"):
    path = os.path.join(folder, name)
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    return path


def check(folder, text):
    """What -t says of a configuration: exit status, the lines it complains of with what it
    says, and all of stderr."""
    path = write(folder, text)
    status, out, err = run("-t", "-c", path)
    assert out == ""
    told = {}
    for line, words in re.findall("^%s:([0-9]+): (.*)$" % re.escape(path), err, re.M):
        told.setdefault(int(line), []).append(words)
    assert status in (0, 1), status
    if status == 0:
        assert err == "nutproxy: configuration file '%s' syntax is ok\n" % path
    else:
        assert path in err and "is ok" not in err, err
    return status, told, err


GOOD_SERVERS = "servers =\n    127.0.0.1:6379:1\n"


def good(**keys):
    """A configuration with one pool."""
    return ini({"alpha": pool(["127.0.0.1:6379:1"], **keys)})


# ---- options

LONG = {"h": "help", "V": "version", "t": "test-conf", "d": "daemonize", "D": "describe-stats",
        "v": "verbose", "o": "output", "c": "conf-file", "s": "stats-port", "a": "stats-addr",
        "i": "stats-interval", "p": "pid-file", "m": "mbuf-size"}


def test_help_version_and_description_go_to_stderr_and_exit_with_0():
    for letter in "hVD":
        status, out, err = run("-" + letter)
        assert (status, out) == (0, "")
        assert re.match(r"This is nutproxy-\d+\.\d+", err), err
        assert run("--" + LONG[letter]) == (status, out, err)
    _, _, usage = run("-h")
    missing = [(s, l) for s, l in LONG.items() if "-%s, --%s" % (s, l) not in usage]
    assert not missing and "--print-config" in usage


@needs_nutcracker
def test_the_description_has_the_fields_that_nutcracker_describes():
    def fields(text):
        return re.findall(r"^(?:(\w+ stats):|  (\w+) +\".*\")$", text.replace("\r", ""), re.M)
    theirs = fields(run("-D", program=NUTCRACKER)[2])
    assert len(theirs) == 2 + 6 + 13
    assert fields(run("-D")[2]) == theirs


OPTION_ERRORS = (
    (["-v", "x"], "option -v requires a number"),
    (["-v"], "option -v requires a number"),
    (["-o"], "option -o requires a file name"),
    (["-c"], "option -c requires a file name"),
    (["--conf-file"], "option -c requires a file name"),
    (["-s", "x"], "option -s requires a number"),
    (["-s", "0"], "option -s value 0 is not a valid port"),
    (["-s", "65536"], "option -s value 65536 is not a valid port"),
    (["-s", "-1"], "option -s requires a number"),
    (["-s", "4294989518"], "option -s"),        # 22222 after a wrap
    (["-a"], "option -a requires a string"),
    (["-i", "x"], "option -i requires a number"),
    (["-p"], "option -p requires a file name"),
    (["-m", "0"], "option -m requires a non-zero number"),
    (["-m", "100"], "mbuf chunk size must be between 512 and 16777216 bytes"),
    (["-m", "16777217"], "mbuf chunk size must be between 512 and 16777216 bytes"),
    (["-x"], "invalid option -- 'x'"),
    (["--bogus"], "invalid option"),
)


def test_option_mistakes_are_told_on_stderr_with_the_usage_and_exit_with_1(tmp_path):
    path = write(tmp_path, good())
    wrong = []
    for options, message in OPTION_ERRORS:
        # Options are all looked at before anything is done.
        status, out, err = run("-t", "-c", path, *options)
        if status != 1 or out or not err.startswith("nutproxy: " + message) or "Usage" not in err:
            wrong.append((options, status, out, err[:200]))
    assert not wrong


def test_options_are_understood_as_getopt_does_and_ranked_as_in_nutcracker(tmp_path):
    path = write(tmp_path, good())
    ok = (0, "", "nutproxy: configuration file '%s' syntax is ok\n" % path)
    for options in (["-t", "-c", path], ["-tc" + path], ["--test-conf", "--conf-file=" + path],
                    ["--test", "--conf", path], ["-c", path, "-t", "-v", "11"],
                    ["-t", "-v99", "-c", path, "-i", "1000", "-m", "512", "-s", "1", "-a", "::1"],
                    ["-c", "/nonexistent", "-c", path, "-t"]):
        assert run(*options) == ok, options
    version = run("-V")
    assert run("-t", "-V") == version and run("-V", "-c", "/nonexistent") == version
    assert run("-V", "-s", "99999")[0] == 1


def test_the_printed_configuration_is_the_one_of_the_repository_and_is_good(tmp_path):
    status, out, err = run("--print-config")
    assert (status, err) == (0, "")
    with open(os.path.join(TOP, "nutproxy.ini")) as f:
        assert out == f.read()
    assert check(tmp_path, out)[:2] == (0, {})
    keys = """workers stats log log_level pid_file listen protocol redis hash hash_tag distribution
        timeout backlog client_connections tcpkeepalive reuseport preconnect redis_auth redis_db
        server_connections auto_eject_hosts server_retry_timeout server_failure_limit
        probe_interval client_output_limit servers""".split()
    assert not [k for k in keys if not re.search(r"^[;# ]*%s =" % k, out, re.M)]


# ---- configuration

# Lines of a pool, the mistaken one marked; what must be said of it. Listen and servers
# are added where they are absent.
MISTAKES = (
    ("!timeout = soon", "timeout"),
    ("!timeout = -1", "timeout"),
    ("!timeout = 5 parsecs", "timeout"),
    ("!timeout = 99999999999999999999", "timeout"),
    ("!timeout =", "timeout"),
    ("!backlog = many", "backlog"),
    ("!backlog = 4294967297", "backlog"),
    ("!backlog = -1", "backlog"),
    ("!backlog = 0x10", "backlog"),
    ("!backlog = 1 2", "backlog"),
    ("!client_connections = 1k5", "client_connections"),
    ("!client_output_limit = big", "client_output_limit"),
    ("!client_output_limit = 99999999999g", "client_output_limit"),
    ("!hash = sha1", "hash"),
    ("!hash =", "hash"),
    ("!distribution = ring", "distribution"),
    ("!hash_tag = {", "hash_tag"),
    ("!hash_tag = {{}", "hash_tag"),
    ("!protocol = http", "protocol"),
    ("!redis = maybe", "redis"),
    ("!auto_eject_hosts = maybe", "auto_eject_hosts"),
    ("!tcpkeepalive = 2", "tcpkeepalive"),
    ("!reuseport = tru", "reuseport"),
    ("!preconnect = truefalse", "preconnect"),
    ("!server_connections = 0", "server_connections"),
    ("!server_failure_limit = -1", "server_failure_limit"),
    ("!server_failure_limit = two", "server_failure_limit"),
    ("!server_retry_timeout = x", "server_retry_timeout"),
    ("!probe_interval = often", "probe_interval"),
    ("!redis_db = -1", "redis_db"),
    ("!redis_db = one", "redis_db"),
    ("protocol = memcached\n!redis_auth = secret", "redis_auth"),
    ("!listen = 127.0.0.1", "listen"),
    ("!listen = 127.0.0.1:0", "listen"),
    ("!listen = 127.0.0.1:65536", "listen"),
    ("!listen = 127.0.0.1:4294989518", "listen"),
    ("!listen = 127.0.0.1:22x", "listen"),
    ("!listen = :22122", "listen"),
    ("!listen = /%s" % ("x" * 150), "listen"),
    ("!listen = /tmp/x 9999", "listen"),
    ("!listen = /tmp/x 01777", "listen"),
    ("servers =\n    good:1:1\n!    127.0.0.1:6379", ""),
    ("servers =\n    good:1:1\n!    127.0.0.1", ""),
    ("servers =\n    good:1:1\n!    127.0.0.1:6379:0", ""),
    ("servers =\n    good:1:1\n!    127.0.0.1:6379:x", ""),
    ("servers =\n    good:1:1\n!    127.0.0.1:6379:-1", ""),
    ("servers =\n    good:1:1\n!    127.0.0.1:6379:4294967297", ""),
    ("servers =\n    good:1:1\n!    127.0.0.1:0:1", ""),
    ("servers =\n    good:1:1\n!    127.0.0.1:65536:1", ""),
    ("servers =\n    good:1:1\n!    127.0.0.1:x:1", ""),
    ("servers =\n    good:1:1\n!    127.0.0.1:6379:1 two words", ""),
    ("servers =\n    good:1:1\n!    :6379:1", ""),
    ("!    /%s:1" % ("x" * 150), ""),
    ("servers =\n!    127.0.0.1:6380\n    127.0.0.1:6379:1", ""),
    ("servers =\n    127.0.0.1:1:1 twin\n    127.0.0.1:2:1\n!    127.0.0.1:3:1 twin", "twin"),
    ("servers =\n    127.0.0.1:1:1\n!    127.0.0.1:1:2", "127.0.0.1:1"),
    ("servers =\n    127.0.0.1:11211:1\n!    127.0.0.1:2:1 127.0.0.1", "127.0.0.1"),
    ("timeout = 5\n!timeout = 6", "timeout"),
    ("hash = md5\nhash_tag = {}\n!hash = md5", "hash"),
    ("timeout = 5\n!    6", "timeout"),
    ("!just words", ""),
    ("!timeuot = 5", "did you mean 'timeout'"),
    ("!hash_tags = {}", "did you mean 'hash_tag'"),
    ("!server = 127.0.0.1:1:1", "did you mean 'servers'"),
    ("!listn = 127.0.0.1:1", "did you mean 'listen'"),
    ("!auto_eject_host = true", "did you mean 'auto_eject_hosts'"),
    ("!Distribution = modula", "did you mean 'distribution'"),
    ("!zzzzzzzzzzzzzzzz = 1", "zzzzzzzzzzzzzzzz"),
)
PROCESS_MISTAKES = (
    ("!workers = 0", "workers"),
    ("!workers = 1000000", "workers"),
    ("!worker = 2", "did you mean 'workers'"),
    ("!log_level = loud", "log_level"),
    ("!stats = 127.0.0.1:99999", "is not host:port, a path, or off: '127.0.0.1:99999'"),
    ("!pidfile = /x", "did you mean 'pid_file'"),
    ("!timeout = 5", "timeout"),
    ("!listen = 127.0.0.1:1", "listen"),
)


def marked(name, row, port=None):
    """The section's lines; those with a mistake have a mark."""
    text = "[%s]\n%s\n" % (name, row)
    if port and not re.search("^!?listen ", row, re.M):
        text += "listen = 127.0.0.1:%d\n" % port
    if port and not re.search("^!?servers ", row, re.M):
        text += GOOD_SERVERS
    return text


def unmarked(text):
    """The text without its marks, and the numbers of the lines that had one."""
    lines = text.split("\n")
    return ("\n".join(line.removeprefix("!") for line in lines),
            [n for n, line in enumerate(lines, 1) if line.startswith("!")])


def test_each_mistake_is_told_with_its_line(tmp_path):
    wrong = []
    sections = [(marked("alpha", row, 22121), words) for row, words in MISTAKES] + \
        [(marked("nutproxy", row) + marked("alpha", "", 22121), words)
         for row, words in PROCESS_MISTAKES]
    sections.append(("!stray = 1\n" + marked("alpha", "", 22121), "stray"))
    sections.append((marked("alpha", "", 22121) + "![unclosed\n", ""))
    for text, words in sections:
        text, lines = unmarked("; a comment\n\n" + text)
        status, told, err = check(tmp_path, text)
        said = [x for n in told for x in told[n]]
        if status != 1 or list(told) != lines or not any(words in x for x in said):
            wrong.append((text, words, status, err))
    assert not wrong, "\n".join("%s\n%s\n%s %s" % row for row in wrong)


def test_all_mistakes_are_told_at_once(tmp_path):
    text, wanted = "", []
    for i, (row, words) in enumerate(MISTAKES):
        text += marked("p%d" % i, row, 20000 + i)
        wanted.append(words)
    text, lines = unmarked("[nutproxy]\n!workers = 0\n" + text)
    status, told, err = check(tmp_path, text)
    assert status == 1
    assert sorted(told) == lines, (set(told) ^ set(lines), err)
    missing = [w for n, w in zip(lines, ["workers"] + wanted) if not any(w in x for x in told[n])]
    assert not missing
    # Without -t it is the same, and nothing is started.
    path = write(tmp_path, text)
    status, out, again = run("-c", path)
    assert status == 1 and {x for x in err.split("\n") if ".ini:" in x} <= set(again.split("\n"))


def test_what_is_missing_or_there_twice_is_told_by_name(tmp_path):
    one = marked("alpha", "", 22121)
    rows = (
        ("[alpha]\n" + GOOD_SERVERS, ("listen", "alpha")),
        ("[alpha]\nlisten = 127.0.0.1:22121\n", ("servers", "alpha")),
        ("[alpha]\nlisten = 127.0.0.1:22121\nservers =\n", ("servers", "alpha")),
        ("[alpha]\n", ("listen", "servers", "alpha")),
        (one + marked("beta", "", 22122) + marked("alpha", "", 22123), ("alpha",)),
        (one + marked("beta", "", 22121), ("alpha", "beta")),
        ("", ()), ("[nutproxy]\nworkers = 1\n", ()), ("; nothing\n\n", ()),
    )
    wrong = []
    for text, words in rows:
        status, _, err = check(tmp_path, text)
        if status != 1 or not all(w in err for w in words):
            wrong.append((text, status, err))
    assert not wrong
    status, told, _ = check(tmp_path, rows[4][0])
    assert list(told) == [rows[4][0].split("\n").index("[alpha]", 3) + 1], "where it stands again"


def test_every_way_to_write_a_good_value_is_taken(tmp_path):
    ways = [("timeout", x) for x in ("0", "400", "500ms", "2s", "1m", "00400")]
    ways += [("client_output_limit", x) for x in ("65536", "64k", "1m", "2g")]
    ways += [("auto_eject_hosts", x) for x in ("true", "false", "on", "off", "yes", "no")]
    ways += [("redis", x) for x in ("true", "false")]
    ways += [("protocol", x) for x in ("redis", "memcached")]
    ways += [("distribution", x) for x in ("ketama", "modula", "random")]
    ways += [("hash", x) for x in """one_at_a_time md5 crc16 crc32 crc32a fnv1_64 fnv1a_64 fnv1_32
             fnv1a_32 hsieh murmur jenkins""".split()]
    ways += [("hash_tag", x) for x in ("{}", "$$", "(]")]
    ways += [("backlog", "0"), ("redis_db", "15"), ("client_connections", "1000"),
             ("server_connections", "4"), ("server_failure_limit", "0"), ("timeout ", " 5s  "),
             ("timeout", "5s ; and why"), ("server_retry_timeout", "0"), ("probe_interval", "1s")]
    ways += [("listen", x) for x in ("127.0.0.1:1", "localhost:2", "0.0.0.0:3", "::1:4", "[::1]:5",
                                     "*:6", "/tmp/a.sock", "/tmp/b.sock 0600", "[::]:65535")]
    servers = ("127.0.0.1:6379:1", "127.0.0.1:6380:1 name", "localhost:6381:100000", "::1:6382:1",
               "[::1]:6383:2 six", "/tmp/redis.sock:1", "/tmp/other.sock:1 a:b", "h:11211:1",
               "; no server", "very-long-name.example.com:6379:7 " + "n" * 100)
    text = "\ufeff; comment\n# comment\n\n[nutproxy]\nlog_level = info\nstats = off\n"
    for i, (key, value) in enumerate(ways):
        text += marked("pool-%d.x_y" % i, "%s = %s" % (key, value), 20000 + i)
    text += "[all]\nlisten=127.0.0.1:19999\nservers =\n\n" + "".join("\t%s\n" % s for s in servers)
    assert check(tmp_path, text)[:2] == (0, {}), check(tmp_path, text)[2]
    assert check(tmp_path, text.replace("\n", "\r\n"))[:2] == (0, {})
    assert check(tmp_path, text.rstrip("\n"))[:2] == (0, {}), "no newline at the end"
    for level in ("0", "11", "emerg", "error", "warn", "notice", "debug"):
        assert check(tmp_path, "[nutproxy]\nlog_level = %s\n" % level + good())[0] == 0


def test_a_long_line_is_told_or_taken_whole_never_cut(tmp_path):
    for size in (190, 201, 300, 1024, 5000, 70000):
        name = "n" * size
        text = "; one\n" + marked("alpha", "servers =\n    127.0.0.1:1:1 %sa\n"
                                  "    127.0.0.1:2:1 %sb\n    127.0.0.1:3:1" % (name, name), 22121)
        status, told, err = check(tmp_path, text)
        # Cut short, the names would be equal, or the rest would be a line of its own.
        assert "same name" not in err and set(told) <= {4, 5}, (size, err)
        assert status == (1 if told else 0)
        if size >= 5000:
            assert status == 1, "a name of %d bytes" % size
        status, told, err = check(tmp_path, "; %s\n%s" % (name, good()))
        assert set(told) <= {1}, (size, err)
        status, told, err = check(tmp_path, marked("alpha", "timeout = %s7" % ("0" * size), 22121))
        assert set(told) <= {2}, (size, err)
        status, told, err = check(tmp_path, marked("alpha", "%s = 1" % name, 22121))
        assert status == 1 and list(told) == [2], (size, err)


def test_many_pools_and_servers_are_no_problem(tmp_path):
    text = ini({"p%d" % i: dict(pool(["127.0.0.1:%d:%d" % (1 + n, 1 + n) for n in range(20)]),
                                listen="127.0.0.1:%d" % (1000 + i)) for i in range(300)})
    assert check(tmp_path, text)[:2] == (0, {})


def test_rubbish_for_a_configuration_is_refused_and_breaks_nothing(tmp_path):
    print("\nNUT_SEED=%d" % SEED)
    dice = random.Random(SEED)
    for size in (1, 2, 3, 10, 100, 1000, 65536):
        for _ in range(4):
            assert check(tmp_path, dice.randbytes(size))[0] == 1
    for text in (b"\0" * 5000, b"\n" * 5000, b"[" * 5000, b"=" * 5000, b"a=b\n" * 5000, b"[]\n=\n",
                 b"[a]\n" * 5000, b"\xff\xfe[\0a\0]\0", b" x\n", b"[a]\nlisten\0 = 1:1\n",
                 good().encode().replace(b"6379", b"63\x0079")):
        assert check(tmp_path, text)[0] == 1, text[:50]


def test_a_damaged_configuration_is_judged_without_a_crash(tmp_path):
    print("\nNUT_SEED=%d" % SEED)
    dice = random.Random(SEED)
    with open(os.path.join(TOP, "nutproxy.ini"), "rb") as f:
        # Without most of the comments, so that damage hits what matters.
        whole = re.sub(rb"(?m)^; (?!\w+ =).*\n", b"", f.read()).replace(b"; ", b"")
    refused = 0
    for _ in range(150):
        text = bytearray(whole)
        for _ in range(dice.randrange(1, 6)):
            at = dice.randrange(len(text))
            how = dice.randrange(4)
            if how == 0:
                text[at] = dice.randrange(256)
            elif how == 1:
                del text[at:at + dice.randrange(1, 40)]
            elif how == 2:
                text[at:at] = dice.choice((b"\n", b"=", b"[", b"]", b" ", b":", b";", b"9" * 30))
            else:
                text[at:at] = text[dice.randrange(len(text)):][:dice.randrange(200)]
        refused += check(tmp_path, bytes(text))[0]
    assert refused > 50


def test_a_configuration_that_cannot_be_read_is_told_by_its_name(tmp_path):
    for path in (str(tmp_path), str(tmp_path / "missing.ini"), "/dev/null", ""):
        for options in (["-t"], []):
            status, out, err = run(*options, "-c", path)
            assert (status, out) == (1, "") and path in err and err.strip(), (path, err)


def test_a_check_finds_addresses_that_do_not_exist_as_nutcrackers_does(tmp_path):
    path = write(tmp_path, good(listen="no.such.host.invalid:22121"))
    status, out, err = run("-t", "-c", path)
    assert (status, out) == (1, "") and "%s:2: pool 'alpha': address 'no.such.host.invalid'" % path in err, err
    assert "syntax is invalid" in err and "is ok" not in err


def test_a_check_touches_neither_ports_nor_files(stage, tmp_path):
    server, other = stage.redis(), stage.redis()
    taken, stats = "127.0.0.1:%d" % server.port, "127.0.0.1:%d" % other.port
    path = write(tmp_path, ini({
        "nutproxy": {"stats": stats, "log": "%s/log" % tmp_path, "pid_file": "%s/pid" % tmp_path},
        "alpha": pool([server], listen=taken), "beta": pool([server], listen="%s/s" % tmp_path)}))
    assert run("-t", "-c", path, "-o", str(tmp_path / "o"), "-p", str(tmp_path / "p"))[0] == 0
    assert os.listdir(tmp_path) == ["test.ini"]


# ---- what a configuration does

def test_times_are_milliseconds_unless_they_say_otherwise(stage):
    fake = Fake(lambda link, words: None)
    times = {"300": 0.3, "400ms": 0.4, "1s": 1.0, "1m": None, "0": None}
    proxy = stage.nutproxy({"t" + text: pool([fake], timeout=text) for text in times})
    wires = {text: wire(proxy.where("t" + text)) for text in times}
    began = time.monotonic()
    for w in wires.values():
        w.say(command("GET", "k"))
    for text, seconds in times.items():
        if seconds is not None:
            assert b"timed out" in wires[text].frame()
            assert seconds * 0.95 < time.monotonic() - began < seconds + 3 * SLOW, text
        else:
            wires[text].sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                wires[text].sock.recv(1)
    fake.down()


def test_pools_listen_wherever_they_are_told_to(stage):
    server = stage.redis()
    ports = [free_port() for _ in range(5)]
    path, shut = stage.path("a.sock"), stage.path("b.sock")
    with socket.socket(socket.AF_UNIX) as s:        # what a crash leaves behind
        s.bind(path)
    places = {"127.0.0.1:%d" % ports[0]: ("127.0.0.1", ports[0]),
              "localhost:%d" % ports[1]: ("localhost", ports[1]),
              "0.0.0.0:%d" % ports[2]: ("127.0.0.9", ports[2]),
              path: path, shut + " 0600": shut}
    if os.path.exists("/proc/net/if_inet6") and can_connect(("::1", server.port)):
        places["::1:%d" % ports[3]] = ("::1", ports[3])
        places["[::1]:%d" % ports[4]] = ("::1", ports[4])
    stage.nutproxy({"p%d" % i: pool([server], listen=listen) for i, listen in enumerate(places)})
    for listen, address in places.items():
        with wire(address) as w:
            assert w.ask("PING") == b"+PONG\r\n", listen
            assert w.ask("SET", "k", listen) == b"+OK\r\n"
    assert stat.S_IMODE(os.stat(shut).st_mode) == 0o600


def test_preconnect_connects_before_anybody_asks_and_a_dead_server_does_no_harm(stage):
    fake = Fake()
    servers = ["%s:%d:1" % (fake.host, fake.port), "127.0.0.1:%d:1" % free_port()]
    proxy = stage.nutproxy({"early": pool(servers, preconnect=True), "late": pool(servers)})
    wait_for("the connection", lambda: fake.links)
    with wire(proxy.where("late")) as w:
        assert w.ask("PING") == b"+PONG\r\n"
    assert len(fake.links) == 1, "only the pool that was told to"
    fake.down()


# ---- starting and stopping

def test_an_address_in_use_is_told_and_ends_the_start_with_1(stage, tmp_path):
    server = stage.redis()
    taken = "127.0.0.1:%d" % server.port
    free = "127.0.0.1:%d" % free_port()
    pid = str(tmp_path / "pid")
    for stats, listen in ((free, taken), (taken, free)):
        path = write(tmp_path, ini({"nutproxy": {"stats": stats, "pid_file": pid},
                                    "alpha": pool([server]),
                                    "beta": pool([server], listen=listen)}))
        status, out, err = run("-c", path)
        assert (status, out) == (1, "")
        assert str(server.port) in err and "in use" in err, err
        assert not os.path.exists(pid), "a pid file of nobody"
    # A failed start changes nothing for the one that runs.
    with wire(("127.0.0.1", server.port)) as w:
        assert w.ask("PING") == b"+PONG\r\n"


def test_files_that_cannot_be_written_and_wrong_addresses_end_the_start_with_1(tmp_path):
    nowhere = str(tmp_path / "no" / "such" / "file")
    for keys in ({"log": nowhere}, {"pid_file": nowhere}, {"stats": "nowhere"},
                 {"stats": "127.0.0.1:99999"}):
        path = write(tmp_path, ini({"nutproxy": dict({"stats": "off"}, **keys)}) + good())
        status, _, err = run("-c", path)
        assert status == 1 and list(keys.values())[0] in err, (keys, err)
    path = write(tmp_path, ini({"nutproxy": {"stats": "off"}}) + good())
    for option in ("-o", "-p"):
        status, _, err = run("-c", path, option, nowhere)
        assert status == 1 and nowhere in err, err


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM), ids=lambda n: n.name)
def test_a_signal_stops_it_cleanly_and_nothing_is_left_behind(stage, number):
    server = stage.redis()
    pid, path, stats = stage.path("pid"), stage.path("a.sock"), stage.path("stats.sock")
    proxy = stage.nutproxy({
        "nutproxy": {"pid_file": pid, "stats": stats, "workers": 2},
        "alpha": pool([server], listen=path), "beta": pool([server])})
    wait_for("the pid file", lambda: os.path.exists(pid) and os.path.getsize(pid))
    with open(pid) as f:
        assert int(f.read()) == proxy.pid
    assert os.path.exists(path) and os.path.exists(stats)
    with wire(path) as a, wire(proxy.where("beta")) as b:
        assert a.ask("SET", "k", "v") == b"+OK\r\n"
        b.say(command("SET", "half", "x" * 1000)[:500])
        server.pause()                      # nobody answers the last request any more
        a.say(command("GET", "k"))
        proxy.signal(number)
        assert proxy.child.wait(20 * SLOW) == 0, proxy.said()
        a.rest(), b.rest()
    left = [x for x in (pid, path, stats) if os.path.exists(x)]
    assert not left
    server.resume()


def test_what_was_asked_before_the_end_is_answered_while_it_stops_or_closed(stage):
    server = stage.redis()
    proxy = stage.nutproxy({"alpha": pool([server])})
    with wire(proxy.where("alpha")) as w:
        w.say(*(command("INCR", "n") for _ in range(2000)))
        first = w.frame()
        proxy.signal(signal.SIGTERM)
        text = first + w.rest()
        assert proxy.child.wait(20 * SLOW) == 0
    # However many replies still came: in order, and none from nowhere.
    replies = text.split(b"\r\n")[:-1]
    assert replies == [b":%d" % (i + 1) for i in range(len(replies))]


def test_option_p_names_the_pid_file(stage):
    server = stage.redis()
    pid = stage.path("other.pid")
    proxy = stage.nutproxy({"nutproxy": {"pid_file": stage.path("pid")}, "alpha": pool([server])},
                           "-p", pid)
    wait_for("the pid file", lambda: os.path.exists(pid) and os.path.getsize(pid))
    assert not os.path.exists(stage.path("pid")), "the option goes before the key"
    assert proxy.stop() == 0 and not os.path.exists(pid)


@pytest.mark.parametrize("way", ("-o", "log"))
def test_sighup_reopens_the_log_after_a_rename_and_disturbs_nobody(stage, way):
    server = stage.redis()
    log = stage.path("the.log")
    keys, options = ({"log": log}, []) if way == "log" else ({}, ["-o", log])
    proxy = stage.nutproxy({"nutproxy": keys, "alpha": pool([server])}, *options)
    with wire(proxy.where("alpha")) as w:
        for i in range(3):
            wait_for("something in the log", lambda: os.path.getsize(log) > 0)
            old = "%s.%d" % (log, i)
            os.rename(log, old)
            proxy.signal(signal.SIGHUP)
            wait_for("a new log", lambda: os.path.exists(log))
            size = os.path.getsize(old)
            proxy.signal(signal.SIGTTIN)            # something to write about
            wait_for("something in the new log", lambda: os.path.getsize(log) > 0)
            assert os.path.getsize(old) == size
            assert w.ask("INCR", "n") == b":%d\r\n" % (i + 1)
    assert proxy.stop() == 0


def test_signals_that_nutcracker_survives_are_survived(stage):
    server = stage.redis()
    proxy = stage.nutproxy({"alpha": pool([server])})
    with wire(proxy.where("alpha")) as w:
        for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE,
                       signal.SIGUSR1, signal.SIGUSR2):
            for _ in range(3):
                proxy.signal(number)
                assert w.ask("SET", "k", number.name) == b"+OK\r\n"
        for _ in range(20):                         # to the ends of the levels, and on
            proxy.signal(signal.SIGTTIN)
        for _ in range(20):
            proxy.signal(signal.SIGTTOU)
        assert w.ask("GET", "k") == bulk(b"SIGUSR2")
    assert proxy.stop() == 0


def test_as_a_daemon_it_detaches_and_is_stopped_by_its_pid_file(stage):
    server = stage.redis()
    keys = {"stats": "127.0.0.1:%d" % free_port(), "pid_file": "d.pid", "log": "d.log"}
    sections = {"nutproxy": keys, "alpha": pool([server]), "beta": pool([server], listen=stage.path("d.sock"))}
    write(stage.dir, ini(sections), "d.ini")
    status, out, err = run("-d", "-c", "d.ini", cwd=stage.dir)      # all paths are relative
    assert (status, out) == (0, ""), err
    path = stage.path("d.pid")
    wait_for("the pid file", lambda: os.path.exists(path) and os.path.getsize(path))
    with open(path) as f:
        pid = int(f.read())
    try:
        host, port = sections["alpha"]["listen"].rsplit(":", 1)
        wait_for("the daemon to listen", lambda: can_connect((host, int(port))))
        with wire((host, int(port))) as w:
            assert w.ask("SET", "k", "v") == b"+OK\r\n"
        with open("/proc/%d/stat" % pid) as f:
            parent, _, session = map(int, f.read().rsplit(")", 1)[1].split()[1:4])
        assert session != os.getsid(0) and parent != os.getpid()
        assert {os.readlink("/proc/%d/fd/%d" % (pid, n)) for n in range(3)} == {"/dev/null"}
        wait_for("it to log", lambda: os.path.getsize(stage.path("d.log")))      # clients may be served before
        # As nutcracker's daemon: with no permissions given its sockets are for everybody.
        assert stat.S_IMODE(os.stat(stage.path("d.sock")).st_mode) == 0o777
        os.kill(pid, signal.SIGTERM)
        wait_for("the daemon to end", lambda: not running(pid))
        assert not os.path.exists(path)
    finally:
        if running(pid):
            os.kill(pid, signal.SIGKILL)


def running(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_daemon_with_a_bad_configuration_says_so_and_exits_with_1(tmp_path):
    path = write(tmp_path, good().replace("6379", "x"))
    status, _, err = run("-d", "-c", path)
    assert status == 1 and path in err


# ---- the stats port

def listening(pid):
    """Addresses on which the process listens: (host, port)."""
    mine = set()
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            mine.add(os.readlink("/proc/%d/fd/%s" % (pid, fd)))
        except FileNotFoundError:
            pass
    out = set()
    for name in ("tcp", "tcp6"):
        with open("/proc/net/" + name) as f:
            for fields in map(str.split, f.readlines()[1:]):
                if fields[3] == "0A" and "socket:[%s]" % fields[9] in mine:
                    host, port = fields[1].split(":")
                    out.add((host, int(port, 16)))
    return out


LOOPBACK, ANY = "0100007F", "00000000"


def read_stats(address):
    with wire(address) as w:
        return json.loads(w.rest())


def test_the_stats_are_where_they_are_told_to_be(stage):
    server = stage.redis()
    ports = [free_port() for _ in range(4)]
    path = stage.path("stats.sock")
    rows = (
        ({"stats": "127.0.0.1:%d" % ports[0]}, [], (LOOPBACK, ports[0])),
        ({"stats": "0.0.0.0:%d" % ports[1]}, [], (ANY, ports[1])),
        ({"stats": "off"}, [], None),
        ({"stats": "off"}, ["-s", str(ports[2])], (LOOPBACK, ports[2])),
        ({"stats": "127.0.0.1:1"}, ["-s", str(ports[3]), "-a", "0.0.0.0"], (ANY, ports[3])),
        ({"stats": path}, [], path),
        ({}, ["-a", path + "2"], path + "2"),
    )
    for keys, options, place in rows:
        sections = {"nutproxy": keys, "alpha": pool([server])}
        conf = write(stage.dir, ini(sections))
        host, port = sections["alpha"]["listen"].split(":")
        proxy = stage.process([NUTPROXY, "-c", conf, *options], (host, int(port)))
        wanted = {(LOOPBACK, int(port))}
        if isinstance(place, tuple):
            wanted.add(place)
        assert listening(proxy.pid) == wanted, (keys, options)
        if place is not None:
            stats = read_stats(place if isinstance(place, str) else ("127.0.0.1", place[1]))
            assert "alpha" in stats, (keys, options)
        assert proxy.stop() == 0


def test_unless_told_otherwise_the_stats_are_on_port_22222_of_loopback(stage):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", 22222))
        except OSError:
            pytest.skip("port 22222 is in use")
    server = stage.redis()
    sections = {"alpha": pool([server])}
    host, port = sections["alpha"]["listen"].split(":")
    proxy = stage.process([NUTPROXY, "-c", write(stage.dir, ini(sections))], (host, int(port)))
    assert listening(proxy.pid) == {(LOOPBACK, 22222), (LOOPBACK, int(port))}
    assert "alpha" in read_stats(("127.0.0.1", 22222))


@needs_nutcracker
def test_the_stats_have_the_form_of_nutcrackers_own(stage):
    sections = {
        "zeta": pool(["127.0.0.1:6379:1 b", "127.0.0.1:6380:2 aa", "127.0.0.1:6381:1 a"]),
        "alpha": pool(["127.0.0.10:6379:1", "127.0.0.9:6379:1", "127.0.0.1:11211:1",
                       "localhost:11211:1", "/tmp/nobody.sock:1", "127.0.0.1:637:1 x:y-z.1"],
                      "memcached"),
        "b": pool(["127.0.0.1:6379:3"], distribution="modula"),
        "omega_2": pool(["127.0.0.1:%d:1" % (7000 + i) for i in range(12)], distribution="random"),
    }
    theirs = stage.nutcracker({n: dict(p, listen="127.0.0.1:%d" % free_port())
                               for n, p in sections.items()})
    theirs = wait_for("nutcracker's stats", lambda: stats_text_of(theirs))
    ours = stage.nutproxy(sections).stats_text()

    def shape(text):
        """Names in their order, nested as they are, and the kind of each value."""
        return json.loads(text, object_pairs_hook=lambda pairs: [
            (k, v if isinstance(v, list) else type(v).__name__) for k, v in pairs])
    assert shape(ours) == shape(theirs)

    def punctuation(text):
        text = re.sub(r'"version":"[^"]*"', '"version":""', text)
        return re.sub(r'":-?\d+', '":0', text)
    assert punctuation(ours) == punctuation(theirs)
    got = json.loads(ours)
    assert got["source"] == socket.gethostname()
    assert abs(got["timestamp"] - time.time()) < 10 and 0 <= got["uptime"] < 60 * SLOW


def stats_text_of(proxy):
    try:
        return proxy.stats_text()
    except OSError:                                 # its thread is not there yet
        return None


class Books:
    """What the counters of a pool must be, kept beside the traffic."""

    def __init__(self, proxy, name, places):
        self.proxy, self.name, self.places = proxy, name, places
        self.want = {server: dict.fromkeys(
            ("requests", "request_bytes", "responses", "response_bytes"), 0)
            for server in set(places.values())}

    def enter(self, key, request, reply):
        row = self.want[self.places[key]]
        row["requests"] += 1
        row["responses"] += 1
        row["request_bytes"] += len(request)
        row["response_bytes"] += len(reply)

    def check(self):
        stats = self.proxy.stats()[self.name]
        got = {s: {f: stats[s][f] for f in row} for s, row in self.want.items()}
        assert got == self.want
        for s in self.want:
            assert {stats[s][f] for f in ("in_queue", "in_queue_bytes",
                                          "out_queue", "out_queue_bytes")} == {0}


@pytest.mark.parametrize("workers", (1, 3))
def test_requests_and_replies_are_counted_by_server_and_fresh_when_asked(stage, workers):
    servers = [stage.redis() for _ in range(3)]
    proxy = stage.nutproxy({"nutproxy": {"workers": workers},
                            "alpha": pool(servers, names=["s0", "s1", "s2"], hash="md5")})
    keys = [b"key%d" % i for i in range(40)]
    wires = [wire(proxy.where("alpha")) for _ in range(6)]
    requests = [(k, command("SET", k, k * i)) for i, k in enumerate(keys)]
    for i, (k, request) in enumerate(requests):
        wires[i % 6].say(request)
        assert wires[i % 6].frame() == b"+OK\r\n"
    books = Books(proxy, "alpha", {k: "s%d" % n for n, s in enumerate(servers)
                                   for k in s.client().keys()})
    assert len(books.want) == 3
    for k, request in requests:
        books.enter(k, request, b"+OK\r\n")
    books.check()
    for i, k in enumerate(keys):                    # each time at once, and exactly
        for request, reply in ((command("GET", k), bulk(k * i)), (command("STRLEN", k),
                               b":%d\r\n" % (len(k) * i)), (command("INCR", k), None)):
            w = wires[i % 6]
            w.say(request)
            got = w.frame()
            assert reply is None or got == reply
            books.enter(k, request, got)
        if i % 10 == 0:
            books.check()
    for w in wires:                                 # what the proxy answers is no server's
        assert w.ask("PING") == b"+PONG\r\n" and w.ask("NOSUCH")[:1] == b"-"
    books.check()
    # A command of many keys counts once at each of its servers.
    for words in (["MGET", *keys], ["EXISTS", *keys], ["DEL", *keys]):
        assert wires[0].ask(*words)[:1] in b"*:"
    for row in books.want.values():
        row["requests"] += 3
        row["responses"] += 3
    stats = proxy.stats()["alpha"]
    assert stats["fragments"] == 9
    for s, row in books.want.items():
        assert (stats[s]["requests"], stats[s]["responses"]) == (row["requests"], row["responses"])
    assert stats["forward_error"] == 0
    for w in wires:
        w.close()


def test_memcached_requests_and_replies_are_counted_too(stage):
    servers = [stage.memcached() for _ in range(2)]
    proxy = stage.nutproxy({"alpha": pool(servers, "memcached", names=["s0", "s1"], hash="md5")})
    want = {"requests": 0, "request_bytes": 0, "responses": 0, "response_bytes": 0}
    with wire(proxy.where("alpha")) as w:
        for i in range(30):
            k = b"key%d" % i
            for request in (b"set %s 0 0 5\r\nhello\r\n" % k, b"get %s\r\n" % k,
                            b"touch %s 0\r\n" % k, b"get nosuch%d\r\n" % i,
                            b"incr %s 1\r\n" % k, b"delete %s\r\n" % k):
                reply = w.tell(request)
                for field, n in zip(want, (1, len(request), 1, len(reply))):
                    want[field] += n
        stats = proxy.stats()["alpha"]
        assert {f: stats["s0"][f] + stats["s1"][f] for f in want} == want
        assert stats["s0"]["requests"] and stats["s1"]["requests"]
        w.tell(b"get %s\r\n" % b" ".join(b"key%d" % i for i in range(30)))
        assert proxy.stats()["alpha"]["fragments"] == 2


def test_connections_are_counted_as_they_come_and_go(stage):
    servers = [stage.redis() for _ in range(2)]
    proxy = stage.nutproxy({"alpha": pool(servers, names=["s0", "s1"], hash="md5"),
                            "beta": pool(servers)})
    # The first client only saw whether anybody listens.
    wait_for("it to be gone", lambda: proxy.stats()["alpha"]["client_eof"] == 1)
    first = proxy.stats()
    assert first["curr_connections"] == 2, "the listeners"

    def now():
        stats = proxy.stats()
        a = stats["alpha"]
        backs = sum(stats[p][s]["server_connections"] for p in ("alpha", "beta")
                    for s in stats[p] if isinstance(stats[p][s], dict))
        return {"clients": a["client_connections"],
                "eof": a["client_eof"] - 1, "err": a["client_err"], "backs": backs,
                "now": stats["curr_connections"],
                "ever": stats["total_connections"] - first["total_connections"]}

    def becomes(**want):
        want["now"] = 2 + want["clients"] + want["backs"]
        try:
            wait_for("the numbers", lambda: now() == want)
        except AssertionError as e:
            raise AssertionError("%s are not %s" % (now(), want)) from e

    wires = [wire(proxy.where("alpha")) for _ in range(5)]
    becomes(clients=5, eof=0, err=0, backs=0, ever=5)
    wires[0].say(*(command("SET", "k%d" % i, "v") for i in range(40)))
    wires[0].frames(40)
    becomes(clients=5, eof=0, err=0, backs=2, ever=7)
    wires[1].close()
    becomes(clients=4, eof=1, err=0, backs=2, ever=7)
    assert wires[2].ask("QUIT") == b"+OK\r\n"
    becomes(clients=3, eof=2, err=0, backs=2, ever=7)
    wires[3].say(b"*x\r\n")
    assert wires[3].rest().startswith(b"-ERR Protocol error")
    becomes(clients=2, eof=2, err=1, backs=2, ever=7)
    wires[4].reset()
    becomes(clients=1, eof=2, err=2, backs=2, ever=7)
    for s in servers:
        s.client().execute_command("CLIENT", "KILL", "TYPE", "normal")
    becomes(clients=1, eof=2, err=2, backs=0, ever=7)
    stats = proxy.stats()["alpha"]
    assert [(stats[s]["server_eof"], stats[s]["server_err"]) for s in ("s0", "s1")] == [(1, 0)] * 2
    wires[0].ask("MGET", *("k%d" % i for i in range(40)))
    becomes(clients=1, eof=2, err=2, backs=2, ever=9)
    wires[0].close()
    becomes(clients=0, eof=3, err=2, backs=2, ever=9)


def test_failures_and_what_is_open_are_counted(stage):
    server, dead = stage.redis(), free_port()
    proxy = stage.nutproxy({
        "alpha": pool([server], names=["s"], timeout=int(1000 * SLOW), server_failure_limit=1000),
        "beta": pool(["127.0.0.1:%d:1 s" % dead], server_failure_limit=1000)})
    with wire(proxy.where("alpha")) as w, wire(proxy.where("beta")) as v:
        for n in range(1, 6):
            assert v.ask("GET", "k")[:1] == b"-"
            beta = proxy.stats()["beta"]
            # It is connected to now and then only, not for each request.
            assert beta["forward_error"] == n and beta["s"]["server_err"] > 0
            assert beta["s"]["responses"] == beta["s"]["server_connections"] == 0
        assert w.ask("SET", "k", "v") == b"+OK\r\n"
        server.pause()
        w.say(command("GET", "k") * 7)
        open_now = {"in_queue": 0, "in_queue_bytes": 0, "out_queue": 7,
                    "out_queue_bytes": 7 * len(command("GET", "k"))}

        def queues():
            s = proxy.stats()["alpha"]["s"]
            return {f: s[f] for f in open_now}
        wait_for("seven to be open", lambda: queues() == open_now)
        assert {x[:4] for x in w.frames(7)} == {b"-ERR"}
        alpha = proxy.stats()["alpha"]
        assert alpha["forward_error"] == 7 and alpha["s"]["server_timedout"] >= 1
        server.resume()
        wait_for("the server to work again", lambda: w.ask("GET", "k") == bulk(b"v"))
        wait_for("the queues to be empty", lambda: set(queues().values()) == {0})


def test_fifty_readers_at_once_and_some_that_never_read_disturb_nobody(stage):
    server = stage.redis()
    # Long enough that the kernel does not take it all for one who does not read.
    crowd = ["127.0.0.1:%d:1 %s-%d" % (1000 + i, "name" * 20, i) for i in range(1500)]
    proxy = stage.nutproxy({"alpha": pool([server]), "crowd": pool(crowd)})
    whole = len(proxy.stats_text())
    assert whole > 400000
    address = ("127.0.0.1", proxy.stats_port)

    def narrow():
        """A connection that takes little at a time."""
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.settimeout(20 * SLOW)
        s.connect(address)
        return s

    with wire(proxy.where("alpha")) as w:
        assert w.ask("SET", "k", "v") == b"+OK\r\n"
        descriptors = proxy.descriptors()
        lazy = [narrow() for _ in range(20)]
        for round in range(2):
            readers = [wire(address) for _ in range(50)]
            assert w.ask("SET", "k", round) == b"+OK\r\n"
            for r in readers:
                stats = json.loads(r.rest())
                assert len(stats["crowd"]) == len(crowd) + 6
                r.close()
            assert w.ask("GET", "k") == bulk(b"%d" % round)
        with narrow() as s:                         # who reads in small bites gets it all
            text = b""
            while piece := s.recv(1500):
                text += piece
            assert len(json.loads(text)["crowd"]) == len(crowd) + 6
        for s in lazy:
            s.close()
        wait_for("descriptors to return", lambda: proxy.descriptors() <= descriptors)
        assert "crowd" in proxy.stats() and w.ask("GET", "k") == bulk(b"1")
