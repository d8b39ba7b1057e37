"""nutproxy route and nutproxy diff: where keys go, and what moves, without a network.

route is held against what was recorded from nutcracker and against a nutcracker that runs;
diff against rings that are built here, count for count. NUT_SEED=N replays a failure.
"""
import hashlib
import math
import os
import random
import re
import resource
import shutil
import struct
import subprocess
import threading
import time
import zlib
from collections import Counter
from fractions import Fraction

import pytest

from fake import number_servers
from nut import NUTCRACKER, NUTPROXY, SLOW, handed_out, ini, pool, wait_for, yml
from test_routing import Keys, all_places, assert_same, eject, pools, redis_keys, redis_places
from test_vectors import pool_of, rows

SEED = int(os.environ.get("NUT_SEED") or time.time_ns() % 10**9)
HERE = os.path.dirname(os.path.abspath(__file__))
SPACE = 2**32
handed_out.add(22222)       # the stats port of a configuration that names none
needs_nutcracker = pytest.mark.skipif(not os.path.exists(NUTCRACKER), reason="no nutcracker here")


@pytest.fixture
def dice():
    print("\nNUT_SEED=%d" % SEED)
    return random.Random(SEED)


def run(*words, stdin=b"", **kw):
    """Run to the end; exit status, stdout and stderr as text."""
    kw.setdefault("stdout", subprocess.PIPE)
    done = subprocess.run([NUTPROXY, *words], input=stdin, stderr=subprocess.PIPE, timeout=60 * SLOW, **kw)
    err = done.stderr.decode(errors="replace")
    assert done.returncode in (0, 1), "exit status %d: %s" % (done.returncode, err)
    assert not re.search("runtime error|Sanitizer|must\\(", err), err
    return done.returncode, (done.stdout or b"").decode("latin-1"), err


def good(*words, **kw):
    """stdout of a run that must succeed, and what it said besides."""
    status, out, err = run(*words, **kw)
    assert status == 0, err
    return out, err


def bad(*words, **kw):
    """stderr of a run that must fail: it says why, and prints nothing."""
    status, out, err = run(*words, **kw)
    assert (status, out) == (1, ""), (words, status, out[:200], err)
    assert err.endswith("\n") and "nutproxy: " in err, err
    return err


def write(folder, text, name="test.ini"):
    path = os.path.join(str(folder), name)
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    return path


def conf(folder, sections, name="test.ini"):
    return write(folder, yml(sections) if name.endswith((".yml", ".yaml")) else ini(sections), name)


def plain(key):
    """The bytes of a percent-encoded key."""
    return re.sub(rb"%(..)", lambda m: bytes([int(m.group(1), 16)]), key.encode())


def name_of(line):
    """The name of a server: its own, or its address with neither weight nor port 11211."""
    if " " in line:
        return line.rsplit(" ", 1)[1]
    address = line.rsplit(":", 1)[0]
    return address + ":" if line.startswith("/") else address.removesuffix(":11211")


def address_of(line):
    address = line.split(" ")[0].rsplit(":", 1)[0]
    if line.startswith("/") or line.startswith("[") or address.count(":") == 1:
        return address
    return "[%s]:%s" % tuple(address.rsplit(":", 1))


def sayable(key):
    """A key can be a line of stdin or an argument, unless it has both a newline and a NUL."""
    return b"\n" not in key or b"\0" not in key


def routes(path, name, keys, *options):
    """What route says of these keys: [hash, server, address] of each. Keys go through stdin,
    those with a newline as arguments."""
    batch = [k for k in keys if b"\n" not in k]
    single = [k for k in keys if b"\n" in k]
    out = good("route", "-c", path, *options, name, stdin=b"".join(k + b"\n" for k in batch))[0] \
        if batch else ""
    out += good("route", "-c", path, *options, name, *single)[0] if single else ""
    found, at = {}, 0
    for key in batch + single:
        text = key.decode("latin-1") + "\t"
        assert out.startswith(text, at), (key[:80], out[at:at + 80])
        end = out.index("\n", at + len(text))
        words = out[at + len(text):end].split("\t")
        assert len(words) == 3 and re.fullmatch("[0-9a-f]{8}", words[0]), words
        found[key], at = words, end + 1
    assert at == len(out), out[at:at + 200]
    return [found[key] for key in keys]


# ---- route: the recorded vectors

def server_lines(path):
    """The servers of each pool of a recorded configuration, in their order."""
    found = {}
    with open(path) as f:
        for line in f:
            if re.match(r"\S+:$", line):
                lines = found.setdefault(line.rstrip()[:-1], [])
            elif line.startswith("   - "):
                lines.append(line.strip()[2:])
    return found


@pytest.mark.parametrize("name,count", [("routing", 9600), ("routing_25equal", 1200), ("routing_ejected", 28800),
                                        ("routing_hashtag", 720), ("routing_port11211", 4800), ("routing_unix", 1200)])
def test_route_says_what_was_recorded_from_nutcracker(name, count):
    path = os.path.join(HERE, "vectors", name + ".yml")
    hashes = {(h, k): value for h, k, value in rows("hash_values")}
    servers, asked, checked, total = server_lines(path), {}, 0, 0
    for hash, spread, variant, key, place in rows(name):
        asked.setdefault(pool_of(hash, spread, variant), []).append((hash, key, int(place)))
    for (where, out), table in asked.items():
        lines = servers[where]
        downs = [w for place in out.split(",") if out != "-" for w in ("--down", name_of(lines[int(place)]))]
        total += len(table)
        table = [row for row in table if sayable(plain(row[1]))]
        said = routes(path, where, [plain(key) for _, key, _ in table], *downs)
        for (hash, key, place), answer in zip(table, said):
            assert answer[1:] == [name_of(lines[place]), address_of(lines[place])], (where, out, key, answer)
            if name != "routing_hashtag" and (hash, key) in hashes:
                assert answer[0] == hashes[hash, key], (where, key, answer)
                checked += 1
    assert total == count and (checked > count // 2 or name == "routing_hashtag"), (total, checked)


def test_route_prints_the_hash_values_that_were_recorded():
    path, asked = os.path.join(HERE, "vectors", "routing.yml"), {}
    for hash, key, value in rows("hash_values"):
        if sayable(plain(key)):
            asked.setdefault(hash, {})[plain(key)] = value
    assert len(asked) == 12 and sum(map(len, asked.values())) > 2300
    for hash, wanted in asked.items():
        said = routes(path, hash + ".ketama.named", list(wanted))
        assert [s[0] for s in said] == list(wanted.values()), hash


# ---- route: its form

ONE = {"alpha": pool(["127.0.0.1:6379:1 solo"], hash="crc32a")}
CRC = "352441c2"                                            # of "abc", by zlib


def test_each_key_gets_a_line_with_tabs_between(tmp_path):
    path = conf(tmp_path, ONE)
    assert good("route", "-c", path, "--", "abc", "", "-x") == (
        "abc\t%s\tsolo\t127.0.0.1:6379\n\t00000000\tsolo\t127.0.0.1:6379\n-x\t%08x\tsolo\t127.0.0.1:6379\n" %
        (CRC, zlib.crc32(b"-x")), "")


@pytest.mark.parametrize("line,name,address", [
    ("127.0.0.1:6379:1", "127.0.0.1:6379", "127.0.0.1:6379"),
    ("127.0.0.1:11211:1", "127.0.0.1", "127.0.0.1:11211"),
    ("127.0.0.1:11211:1 a:b", "a:b", "127.0.0.1:11211"),
    ("no.such.host.invalid:80:7", "no.such.host.invalid:80", "no.such.host.invalid:80"),
    ("::1:6379:1", "::1:6379", "[::1]:6379"),
    ("[::1]:6379:1", "[::1]:6379", "[::1]:6379"),
    ("[fe80::1%eth0]:65535:1 six", "six", "[fe80::1%eth0]:65535"),
    ("[::1]:11211:1", "[::1]", "[::1]:11211"),
    ("/run/redis.sock:1", "/run/redis.sock:", "/run/redis.sock"),
    ("/run/redis.sock:1 s", "s", "/run/redis.sock"),
    ("/a:b/c.sock:3", "/a:b/c.sock:", "/a:b/c.sock"),
    ("/a b/c.sock:1 s", "s", "/a b/c.sock"),
    ("/" + "p" * 106 + ":1", "/" + "p" * 106 + ":", "/" + "p" * 106),
])
def test_a_server_is_shown_by_its_name_and_its_address(tmp_path, line, name, address):
    path = conf(tmp_path, {"alpha": pool([line], hash="crc32a")})
    assert good("route", "-c", path, "abc")[0] == "abc\t%s\t%s\t%s\n" % (CRC, name, address)


def test_a_name_has_no_space_so_the_last_word_is_the_name(tmp_path):
    path = conf(tmp_path, {"alpha": pool(["127.0.0.1:6379:1 two words"])})
    assert path + ":" in bad("route", "-c", path, "k")


def test_lines_of_stdin_are_keys_as_they_are(tmp_path):
    path = conf(tmp_path, ONE)
    keys = [b"abc", b"", b" a b ", b"a\tb", b"\0", b"\xff\x80\0x", b"alpha", b"--down", b"k\r", b"", b"last"]
    out, err = good("route", "-c", path, stdin=b"\n".join(keys))
    assert [line.rsplit("\t", 3)[0].encode("latin-1") for line in out.split("\n")[:-1]] == keys
    assert err.count("\n") == 1 and "carriage return" in err
    assert good("route", "-c", path, "alpha", stdin=b"\n".join(keys) + b"\n")[0] == out
    assert good("route", "-c", path, stdin=b"") == ("", "")


@pytest.mark.parametrize("hash", ["md5", "fnv1a_64", "crc32a", "murmur"])
def test_long_keys_are_whole(tmp_path, dice, hash):
    path = conf(tmp_path, {"alpha": pool(["h:1:1 a", "h:2:1 b"], hash=hash)})
    key = bytes(dice.choice(b"abcdefgh\x80\xff\t ") for _ in range(100 * 1024))
    other = key[:-1] + b"!"
    by_word, by_line = good("route", "-c", path, "alpha", key, other)[0], routes(path, "alpha", [key, other])
    assert by_word == "".join("%s\t%s\n" % (k.decode("latin-1"), "\t".join(w)) for k, w in
                              zip((key, other), by_line))
    assert by_line[0][0] != by_line[1][0]
    if hash == "md5":
        huge = key * 100
        assert routes(path, "alpha", [huge])[0][0] == "%08x" % struct.unpack("<I", hashlib.md5(huge).digest()[:4])


def test_millions_of_keys_need_no_more_memory_than_a_few(tmp_path):
    path = conf(tmp_path, {"alpha": pool(["h:%d:1" % (p + 1) for p in range(50)], hash="murmur")})
    child = subprocess.Popen([NUTPROXY, "route", "-c", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    seen = Counter()

    def count():
        while text := os.read(child.stdout.fileno(), 1 << 20):
            seen["lines"] += text.count(b"\n")

    def memory():
        with open("/proc/%d/status" % child.pid) as f:
            return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))
    reader = threading.Thread(target=count)
    reader.start()
    try:
        at = []
        for part in range(20):
            child.stdin.write(b"".join(b"key:%d\n" % i for i in range(part * 100000, part * 100000 + 100000)))
            child.stdin.flush()
            if part in (0, 19):                         # all but what is in a buffer
                wait_for("the answers", lambda: seen["lines"] > part * 100000 + 90000, 20)
                at.append(memory())
        child.stdin.close()
        assert child.wait(20 * SLOW) == 0
    finally:
        child.kill()
        child.wait()
        reader.join()
        child.stdout.close()
    assert seen["lines"] == 2000000
    assert at[1] - at[0] < 1024, "%d KiB, then %d" % tuple(at)


# ---- route: no network

def calls(*words, stdin=b""):
    """The network calls of a program."""
    done = subprocess.run(["strace", "-f", "-qq", "-e", "trace=network", "-e", "signal=none", *words],
                          input=stdin, capture_output=True, timeout=60 * SLOW,
                          env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
    if b"ptrace" in done.stderr and done.returncode != 0:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    return re.findall(rb"^(?:\[pid +\d+\] )?(\w+)\(", done.stderr, re.M)


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace here")
def test_neither_tool_touches_the_network(tmp_path):
    servers = ["no.such.host.invalid:6379:1 a", "localhost:6379:1 b", "127.0.0.1:1:1", "/run/none.sock:1"]
    old = conf(tmp_path, {"alpha": pool(servers)})
    new = conf(tmp_path, {"alpha": pool(servers[1:])}, "new.ini")
    keys = b"".join(b"%d\n" % i for i in range(1000))
    assert b"socket" in calls("/usr/bin/python3", "-c", "import socket; socket.socket()")
    assert calls(NUTPROXY, "route", "-c", old, "--down", "b", stdin=keys) == []
    assert calls(NUTPROXY, "diff", old, new) == []
    assert calls(NUTPROXY, "diff", "--keys", "-", old, new, stdin=keys) == []


# ---- route: pools

TWO = {"alpha": pool(["h:1:1 one"]), "beta": pool(["h:2:1 two"])}


def test_the_pool_is_the_one_named_or_the_only_one(tmp_path):
    one, two = conf(tmp_path, ONE), conf(tmp_path, TWO, "two.ini")

    def said(path, *words, stdin=b""):
        return [(line.split("\t")[0], line.split("\t")[2]) for line in
                good("route", "-c", path, *words, stdin=stdin)[0].split("\n")[:-1]]
    assert said(one, "k") == said(one, "alpha", "k") == said(one, "--", "k") == [("k", "solo")]
    assert said(one, "alpha", "alpha") == said(one, "alpha", stdin=b"alpha\n") == [("alpha", "solo")]
    assert said(one, "k", "alpha") == [("k", "solo"), ("alpha", "solo")]
    assert said(one, "beta") == [("beta", "solo")]
    assert said(two, "beta", "k", "alpha", "beta") == [("k", "two"), ("alpha", "two"), ("beta", "two")]
    assert said(two, "alpha", stdin=b"beta\n") == [("beta", "one")]
    assert said(two, "--", "alpha", "--down", "-c") == [("--down", "one"), ("-c", "one")]
    assert good("route", "k", "-c", one) == good("route", "-c", one, "k"), "options stand where they like"


def test_a_pool_that_is_not_clear_is_asked_for(tmp_path):
    path = conf(tmp_path, TWO)
    assert re.search(r"has several, name one of them: (alpha beta|beta alpha)\n", bad("route", "-c", path))
    for words in (["gamma"], ["k", "alpha"], [""], ["Alpha", "k"]):
        err = bad("route", "-c", path, *words)
        assert "'%s'" % words[0] in err and "alpha" in err and "beta" in err


def test_a_random_pool_has_no_places(tmp_path):
    path = conf(tmp_path, {"alpha": pool(["h:1:1", "h:2:1"], distribution="random"), "beta": pool(["h:1:1"])})
    assert "'alpha'" in bad("route", "-c", path, "alpha", "k")
    assert good("route", "-c", path, "beta", "k")[0].endswith("\th:1\th:1\n")


# ---- route: servers that are down

THREE = {"alpha": pool(["h:1:1 one", "h:2:2 two", "h:3:3 three"], auto_eject_hosts=True, hash="md5")}


@pytest.mark.parametrize("distribution", ["ketama", "modula"])
def test_keys_of_a_server_that_is_down_go_to_the_others(tmp_path, distribution):
    path = conf(tmp_path, {"alpha": dict(THREE["alpha"], distribution=distribution)})
    keys = [b"%d" % i for i in range(500)]
    lines = THREE["alpha"]["servers"]
    for out in ([], ["two"], ["two", "three"], ["one"], ["three", "three"]):
        downs = [w for name in out for w in ("--down", name)]
        ring = Ring([l for l in lines if name_of(l) not in out], distribution)
        wanted = [[name_of(ring.server(md5(k))), address_of(ring.server(md5(k)))] for k in keys]
        assert [r[1:] for r in routes(path, "alpha", keys, *downs)] == wanted, out


def test_without_any_server_left_there_is_a_dash(tmp_path):
    downs = ["--down", "one", "--down=two", "--down", "three"]
    assert good("route", "-c", conf(tmp_path, THREE), *downs, "abc", "") == (
        "abc\t%08x\t-\t-\n\t00000000\t-\t-\n" % md5(b"abc"), "")
    assert good("route", "-c", conf(tmp_path, ONE), "--down", "solo", "abc")[0] == "abc\t%s\t-\t-\n" % CRC


def test_a_pool_that_ejects_nobody_is_pointed_out(tmp_path):
    sections = {"alpha": dict(THREE["alpha"], auto_eject_hosts=False)}
    out, err = good("route", "-c", conf(tmp_path, sections), "--down", "one", "k")
    assert "auto_eject_hosts" in err and out.startswith("k\t")


def test_a_single_server_has_all_keys(tmp_path):
    keys = [b"", b"a", b"\xff" * 300, b"{a}b"]
    for distribution in ("ketama", "modula"):
        path = conf(tmp_path, {"alpha": pool(["h:1:2147483647"], distribution=distribution, hash_tag="{}")})
        assert {tuple(r[1:]) for r in routes(path, "alpha", keys)} == {("h:1", "h:1")}


# ---- route: errors

def test_wrong_options_are_told_with_the_usage(tmp_path):
    path = conf(tmp_path, THREE)
    for words in ([], ["alpha", "k"], ["-c"], ["--down"], ["-z", "-c", path], ["--bogus", "-c", path],
                  ["-c", path, "--down"], ["-c", path, "alpha", "-k"]):
        err = bad("route", *words)
        assert "Usage: nutproxy route -c FILE" in err, words


def test_help_is_no_error():
    for tool in ("route", "diff", "convert"):
        for option in ("-h", "--help"):
            assert "Usage: nutproxy " + tool in good(tool, option)[1]


def test_a_word_that_is_no_tool_starts_nothing(tmp_path):
    status, out, err = run("rout", "-c", conf(tmp_path, ONE))
    assert (status, out) == (1, "") and "'rout' is no tool (convert, diff, route)" in err


def test_stdin_is_read_once(tmp_path):
    path = conf(tmp_path, ONE)
    assert "stdin cannot be both" in bad("route", "-c", "-", stdin=open(path, "rb").read())
    for words in (["-", "-"], ["--keys", "-", "-", path], ["--keys", "-", path, "-"]):
        assert "only one of them can be stdin" in bad("diff", *words)


def test_an_unknown_server_is_told(tmp_path):
    for name in ("four", "h:1", "", "ONE", "one "):
        assert "'alpha' has no server '%s'" % name in bad("route", "-c", conf(tmp_path, THREE), "--down", name, "k")


@pytest.mark.parametrize("tool", ["route", "diff"])
def test_a_file_that_cannot_be_had_or_used_is_told(tmp_path, tool):
    fine = conf(tmp_path, ONE)
    for path in ("/nonexistent/x.ini", str(tmp_path),
                 write(tmp_path, "", "empty.ini"), write(tmp_path, "", "empty.yml"),
                 write(tmp_path, "[alpha]\nlisten = 127.0.0.1:1\nservers =\n    h:1\n", "wrong.ini"),
                 write(tmp_path, "alpha:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1\n", "wrong.yml"),
                 write(tmp_path, b"#" * (17 << 20), "large.ini")):
        for words in ([["-c", path, "k"]] if tool == "route" else [[path, fine], [fine, path], [path, path]]):
            assert path in bad(tool, *words)


# ---- the output of both

def test_output_that_cannot_be_written_is_an_error(tmp_path):
    path = conf(tmp_path, THREE)
    for words, keys in ((["route", "-c", path, "k"], 0), (["route", "-c", path], 1), (["route", "-c", path], 100000),
                        (["diff", path, path], 0), (["diff", "--keys", "-", path, path], 10)):
        with open("/dev/full", "wb") as f:
            status, _, err = run(*words, stdin=b"k\n" * keys, stdout=f)
        assert status == 1 and "nutproxy: the output cannot be written: No space left" in err, words


def endless(path, **kw):
    """route with a stdin that never ends, after its reader has gone: it must not go on."""
    child = subprocess.Popen([NUTPROXY, "route", "-c", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, **kw)
    try:
        child.stdin.write(b"k\n" * 100)
        child.stdout.close()
        end = time.monotonic() + 2 * SLOW
        while child.poll() is None and time.monotonic() < end:
            child.stdin.write(b"k\n" * 50000)
            child.stdin.flush()
    except BrokenPipeError:
        child.wait(5 * SLOW)
    finally:
        ended = child.poll()
        child.kill()
        child.wait()
        try:
            child.stdin.close()
        except BrokenPipeError:
            pass
    return ended


def test_a_reader_that_goes_away_ends_it(tmp_path):
    assert endless(conf(tmp_path, THREE)) in (-13, 1)


def test_a_reader_that_goes_away_ends_it_where_the_signal_is_ignored(tmp_path):
    assert endless(conf(tmp_path, THREE), restore_signals=False) == 1       # Python ignores SIGPIPE


def test_keys_that_cannot_be_read_are_an_error_of_diff(tmp_path):
    path = conf(tmp_path, THREE)
    assert "Is a directory" in bad("diff", "--keys", str(tmp_path), path, path)


def test_keys_that_cannot_be_read_are_an_error_of_route(tmp_path):
    folder = os.open(str(tmp_path), os.O_RDONLY)
    try:
        done = subprocess.run([NUTPROXY, "route", "-c", conf(tmp_path, THREE)], stdin=folder, capture_output=True)
    finally:
        os.close(folder)
    assert (done.returncode, done.stdout) == (1, b"") and b"Is a directory" in done.stderr


@pytest.mark.skipif("asan" in NUTPROXY, reason="sanitizers need more address space")
def test_a_key_that_does_not_fit_into_memory_is_an_error(tmp_path):
    def poor():
        resource.setrlimit(resource.RLIMIT_AS, (40 << 20, 40 << 20))
    keys = b"k\n" + b"k" * (60 << 20) + b"\n"
    status, _, err = run("route", "-c", conf(tmp_path, THREE), stdin=keys, preexec_fn=poor)
    assert status == 1 and "nutproxy: " in err


# ---- route: a nutcracker that runs

def by_route(path, sections, keys, servers, dead=()):
    """The number of the server of each key, as redis_places says it, in each pool."""
    ports = {str(s.port): "%02d" % i for i, s in enumerate(servers)}
    found = {}
    for name, section in sections.items():
        number = {name_of(l): ports[l.split(" ")[0].split(":")[1]] for l in section["servers"]}
        downs = [w for n, place in number.items() if place in dead for w in ("--down", n)]
        found[name] = [number[r[1]] for r in routes(path, name, keys, *downs)]
    return found


@needs_nutcracker
def test_route_agrees_with_a_running_nutcracker(stage, dice):
    servers = [stage.redis() for _ in range(4)]
    for s in servers:
        s.hosts, s.unixsocket = ("127.0.0.1", "localhost"), None
    keys = Keys("redis", [k for k in redis_keys(dice) if sayable(k)][:400])
    number_servers(servers, keys)
    sections = pools(dice, servers, "redis", ("ketama", "modula"), least=3, doubles=False, auto_eject_hosts=True,
                     server_failure_limit=1, server_retry_timeout=3600 * 1000)
    nutcracker = stage.nutcracker(sections)
    path = conf(stage.dir, sections)
    before = all_places(redis_places, nutcracker, sections, keys)
    assert_same(sections, keys, before, by_route(path, sections, keys, servers))
    assert_same(sections, keys, before, by_route(nutcracker.conf, sections, keys, servers), "by the YAML")
    number = dice.randrange(4)
    dead = "%02d" % number
    servers[number].kill()
    there = {name: s for name, s in sections.items() if dead in before[name]}
    assert len(there) >= 3
    eject(nutcracker, there, keys, dead, before)
    assert_same(there, keys, all_places(redis_places, nutcracker, there, keys),
                by_route(path, there, keys, servers, (dead,)), "without server " + dead)


# ---- rings, built here

def md5(key):
    return struct.unpack("<I", hashlib.md5(key).digest()[:4])[0]


def single(x):
    """Rounded to a float of 32 bits."""
    return struct.unpack("f", struct.pack("f", x))[0]


class Ring:
    """What twemproxy makes of server lines."""

    def __init__(self, lines, distribution="ketama"):
        self.lines = sorted(lines, key=lambda l: (len(name_of(l)), name_of(l)))
        self.ketama = distribution == "ketama"
        weights = [int(l.split(" ")[0].rsplit(":", 1)[1]) for l in self.lines]
        self.slots = sum(weights)
        self.starts = [sum(weights[:i]) for i in range(len(weights))]
        self.weights = weights
        self.points = []
        for s, line in enumerate(self.lines if self.ketama else ()):
            share = single(single(weights[s]) / single(self.slots))
            amount = single(single(single(single(share * 160) / 4) * len(lines)) + 1e-10)
            for i in range(math.floor(amount)):
                text = (name_of(line).encode() + b"-%d" % i)[:272]
                self.points += [(v, s) for v in struct.unpack("<4I", hashlib.md5(text).digest())]
        self.points.sort(key=lambda p: p[0])

    def arcs(self, space=SPACE):
        """(first value behind it, server) of all arcs below `space`."""
        for at, s in self.points:
            if at + 1 >= space:
                break
            yield at + 1, s
        behind = [s for at, s in self.points if at + 1 >= space] or [self.points[0][1]]
        yield space, behind[0]

    def runs(self, space):
        """The same for slots."""
        at = 0
        while True:
            for s, w in enumerate(self.weights):
                at += w
                yield min(at, space), s
                if at >= space:
                    return

    def below(self, s, value):
        """How many values below that have server s, by slots."""
        return value // self.slots * self.weights[s] + \
            min(max(value % self.slots - self.starts[s], 0), self.weights[s])

    def place(self, value):
        if self.ketama:
            return next((s for at, s in self.points if at >= value), self.points[0][1])
        return max(s for s, start in enumerate(self.starts) if start <= value % self.slots)

    def server(self, value):
        return self.lines[self.place(value)]


def pairs(old, new, space=SPACE):
    """How many values have server x in the old ring and y in the new one."""
    if not old.ketama and new.ketama:
        return Counter({(x, y): n for (y, x), n in pairs(new, old, space).items()})
    count, at = Counter(), 0
    if old.ketama and new.ketama:
        left, right = old.arcs(space), new.arcs(space)
        (a, x), (b, y) = next(left), next(right)
        while at < space:
            end = min(a, b)
            count[x, y] += end - at
            at = end
            if at < space and a == at:
                a, x = next(left)
            if at < space and b == at:
                b, y = next(right)
        return +count

    def slots_against(pieces, times):
        start = 0
        for end, x in pieces:
            for y in range(len(new.lines)):
                count[x, y] += times * (new.below(y, end) - new.below(y, start))
            start = end
    if old.ketama:
        slots_against(old.arcs(space), 1)
        return +count
    if old.slots < new.slots:                   # fewer pieces the other way round
        return Counter({(x, y): n for (y, x), n in pairs(new, old, space).items()})
    period = math.lcm(old.slots, new.slots)
    if space // period:
        slots_against(old.runs(period), space // period)
    if space % period:
        slots_against(old.runs(space % period), 1)
    return +count


def told(name, old, new, count, every, what="key space"):
    """What diff prints of a pool."""
    moves = sorted((-n, x, y) for (x, y), n in count.items() if address_of(old.lines[x]) != address_of(new.lines[y]))
    moved = -sum(n for n, _, _ in moves)
    percent = 100.0 / every if every else 0
    out = "%s: %.6f %% of the %s moves (%d of %d)\n" % (name, percent * moved, what, moved, every)
    for n, x, y in moves:
        a, b = old.lines[x], new.lines[y]
        out += "  %s (%s) -> %s (%s)  %.6f %% (%d)\n" % (name_of(a), address_of(a), name_of(b), address_of(b),
                                                         percent * -n, -n)
    return out


def test_the_rings_of_this_file_are_the_recorded_ones():
    servers = server_lines(os.path.join(HERE, "vectors", "routing.yml"))
    for variant in ("unnamed", "named"):
        ring = Ring(servers["md5.ketama." + variant])
        assert ["%08x %s" % (at, name_of(ring.lines[s])) for at, s in ring.points] == \
            ["%s %s" % (row[0], row[2]) for row in rows("continuum_" + variant)]


def test_the_counting_of_this_file_is_right(dice):
    for _ in range(20):
        rings = [Ring(some_servers(dice, 4, (1, 5)), d) for d in ("modula", "modula", "ketama")]
        for old in rings:
            for new in rings:
                space = dice.randrange(1, 3000)
                assert pairs(old, new, space) == Counter((old.place(v), new.place(v)) for v in range(space))


# ---- diff: exact

def some_servers(dice, most=12, scales=(1, 3, 10, 100, 100000)):
    named, scale = dice.random() < 0.6, dice.choice(scales)
    hosts = dice.sample(range(250), dice.randint(1, most))
    return ["10.0.0.%d:%d:%d%s" % (h, dice.choice((6379, 11211)), dice.randint(1, scale),
                                   " s%d" % (h * 7) if named else "") for h in hosts]


def changed(dice, lines):
    """The same servers after some changes: added, removed, renamed, moved, of other weights."""
    lines = list(lines)
    for _ in range(dice.randint(1, 3)):
        i = dice.randrange(len(lines))
        address, _, name = lines[i].partition(" ")
        host, port, weight = address.split(":")
        kind = dice.randrange(6)
        if kind == 0:
            lines.append("10.1.%d.%d:6379:%d" % (dice.randrange(250), dice.randrange(250), dice.randint(1, 5)) +
                         (" n%d" % dice.randrange(10**6) if name else ""))
        elif kind == 1 and len(lines) > 1:
            del lines[i]
        elif kind == 2:
            lines[i] = address + " r%d" % dice.randrange(10**6)
        elif kind == 3:
            lines[i] = "%s:%s:%d" % (host, port, int(weight) * 2 + 1) + (" " + name if name else "")
        elif kind == 4:
            lines[i] = "10.2.%d.%d:%s:%s %s" % (dice.randrange(250), dice.randrange(250), port, weight,
                                              name or name_of(lines[i]))
        else:
            dice.shuffle(lines)
    return lines


def compared(dice, tmp_path, rounds, distributions, hash="md5", space=SPACE, **lists):
    """diff of random pools, all in one pair of files, byte for byte against the rings here."""
    old, new, wanted = {}, {}, {}
    for i in range(rounds):
        before = some_servers(dice, **lists)
        after = changed(dice, before) if dice.random() < 0.8 else some_servers(dice, **lists)
        d = [dice.choice(x) for x in distributions]
        name = "p%d" % i
        old[name] = pool(before, distribution=d[0], hash=hash)
        new[name] = pool(after, distribution=d[1], hash=hash)
        a, b = Ring(before, d[0]), Ring(after, d[1])
        count = pairs(a, b, space)
        assert sum(count.values()) == space
        wanted[name] = told(name, a, b, count, space)
    out, err = good("diff", conf(tmp_path, old, "old.ini"), conf(tmp_path, new, "new.ini"))
    assert err == ""
    said = {name: text for text, name in re.findall(r"^((\w+):.*\n(?:  .*\n)*)", out, re.M)}
    for name in wanted:
        assert said[name] == wanted[name], "NUT_SEED=%d\n%s\n%s" % (SEED, old[name]["servers"], new[name]["servers"])
    assert sum(map(len, wanted.values())) == len(out)


def test_between_ketama_rings_every_count_is_exact(tmp_path, dice):
    compared(dice, tmp_path, 60, (["ketama"], ["ketama"]))


def test_between_modula_slots_every_count_is_exact(tmp_path, dice):
    compared(dice, tmp_path, 30, (["modula"], ["modula"]), scales=(1, 3, 10), most=6)


def test_between_ketama_and_modula_every_count_is_exact(tmp_path, dice):
    compared(dice, tmp_path, 20, (["ketama"], ["modula"]), most=8)
    compared(dice, tmp_path, 20, (["modula"], ["ketama"]), most=8)


def test_crc32_has_few_hash_values_and_only_they_are_counted(tmp_path, dice):
    both = ["ketama", "modula"]
    compared(dice, tmp_path, 40, (both, both), hash="crc32", space=1 << 15)


@pytest.mark.parametrize("old,new", [
    ([100000], [100000, 100000]), ([100000, 99999], [1, 1, 1]), ([1, 1], [100000, 1]),
    ([99991, 99989], [100000, 1, 7]), ([2147483647], [2147483646, 1]), ([2147483647, 2147483647], [2147483647]),
    ([3], [2, 5]), ([100000] * 10, [100000] * 11), ([1, 100000], [1, 99999])])
def test_large_weights_and_few_slots_are_exact(tmp_path, old, new):
    before = ["h:%d:%d a%d" % (i + 1, w, i) for i, w in enumerate(old)]
    after = ["h:%d:%d b%d" % (i + 1, w, i) for i, w in enumerate(new)]
    for d in (("modula", "modula"), ("ketama", "modula"), ("modula", "ketama"), ("ketama", "ketama")):
        files = [conf(tmp_path, {"p": pool(lines, distribution=x)}, n)
                 for lines, x, n in ((before, d[0], "old.ini"), (after, d[1], "new.ini"))]
        a, b = Ring(before, d[0]), Ring(after, d[1])
        assert good("diff", *files)[0] == told("p", a, b, pairs(a, b), SPACE), d


@pytest.mark.parametrize("old,new", [("ketama", "ketama"), ("ketama", "modula"), ("modula", "modula")])
def test_hundreds_of_servers_are_exact(tmp_path, old, new):
    before = ["10.0.0.%d:6379:1" % i for i in range(200)]
    after = before[:-1] if old == new == "ketama" else before[:13]
    files = [conf(tmp_path, {"p": pool(lines, distribution=x)}, n)
             for lines, x, n in ((before, old, "old.ini"), (after, new, "new.ini"))]
    a, b = Ring(before, old), Ring(after, new)
    assert good("diff", *files)[0] == told("p", a, b, pairs(a, b), SPACE)


def test_a_name_of_300_bytes_is_cut_on_the_ring_as_by_twemproxy(tmp_path):
    before = ["h:1:1 " + "n" * 300, "h:2:1 " + "n" * 270 + "zz", "h:3:1 short"]
    files = [conf(tmp_path, {"p": pool(lines)}, n) for lines, n in ((before, "old.yml"), (before[1:], "new.yml"))]
    a, b = Ring(before), Ring(before[1:])
    assert good("diff", *files)[0] == told("p", a, b, pairs(a, b), SPACE)


# ---- diff: what counts as a move

def differ(tmp_path, old, new, *options, names=("old.ini", "new.ini"), stdin=b""):
    """What diff says of two lists of pools, pool by pool; remarks are told apart."""
    out, err = good("diff", *options, conf(tmp_path, old, names[0]), conf(tmp_path, new, names[1]), stdin=stdin)
    found = {}
    for text in re.findall(r"^\w+: .*\n(?:  .*\n)*", out, re.M):
        name, head = text.split("\n")[0].split(": ", 1)
        assert name not in found
        found[name] = (head, [l.strip() for l in text.split("\n")[1:-1]])
    assert sum(len(n) + len(h) + 3 + sum(len(l) + 3 for l in ls) for n, (h, ls) in found.items()) == len(out), out
    return found


NONE = ("0.000000 % of the key space moves (0 of 4294967296)", [])
LINES = ["h:1:1 a", "h:2:2 b", "/s:3 c", "::1:4:4 d"]


def test_nothing_moves_within_one_file(tmp_path, dice):
    sections = {"%s_%s" % (h, d): pool(LINES, hash=h, distribution=d) for d in ("ketama", "modula")
                for h in ("md5", "fnv1a_64", "crc16", "crc32")}
    path = conf(tmp_path, sections)
    out, err = good("diff", path, path)
    assert err == "" and out.count("\n") == 8
    for name in sections:
        space = 32768 if name.startswith("crc32") else SPACE
        assert "%s: 0.000000 %% of the key space moves (0 of %d)\n" % (name, space) in out
    other = {"p": pool(dice.sample(LINES, len(LINES)))}
    assert differ(tmp_path, {"p": pool(LINES)}, other) == {"p": NONE}, "the order means nothing"


def test_ini_and_yaml_of_the_same_pools_are_the_same(tmp_path, dice):
    sections = {"p%d" % i: pool(some_servers(dice), hash=dice.choice(("md5", "murmur", "hsieh")),
                                distribution=dice.choice(("ketama", "modula")), hash_tag="{}") for i in range(10)}
    for names in (("old.ini", "new.yml"), ("old.yml", "new.ini"), ("old.yml", "new.yaml")):
        assert differ(tmp_path, sections, sections, names=names) == {name: NONE for name in sections}
    keys = b"".join(b"{k%d}x\n" % i for i in range(100))
    for name in sections:
        assert good("route", "-c", os.path.join(str(tmp_path), "old.ini"), name, stdin=keys) == \
            good("route", "-c", os.path.join(str(tmp_path), "new.yml"), name, stdin=keys)


def test_another_name_of_the_same_address_is_no_move(tmp_path):
    for d in ("ketama", "modula"):
        old, new = ({"p": pool(["h:1:1 " + n], distribution=d)} for n in "ab")
        assert differ(tmp_path, old, new) == {"p": NONE}
    # With two a name decides the arcs: only what leaves an address counts.
    old, new = ["h:1:1 a", "h:2:1 b"], ["h:1:1 b", "h:2:1 a"]
    a, b = Ring(old), Ring(new)
    found = differ(tmp_path, {"p": pool(old)}, {"p": pool(new)})
    assert found["p"][0].startswith("100.000000 %"), "exchanged names exchange all keys"
    assert good("diff", os.path.join(str(tmp_path), "old.ini"), os.path.join(str(tmp_path), "new.ini"))[0] == \
        told("p", a, b, pairs(a, b), SPACE)


@pytest.mark.parametrize("there", ["h:2:1 a", "g:1:1 a", "/h:1 a"])
def test_another_address_under_the_same_name_is_a_move(tmp_path, there):
    found = differ(tmp_path, {"p": pool(["h:1:1 a"])}, {"p": pool([there])})
    assert found == {"p": ("100.000000 % of the key space moves (4294967296 of 4294967296)",
                           ["a (h:1) -> a (%s)  100.000000 %% (4294967296)" % address_of(there)])}


def test_pools_that_only_one_file_has_are_told(tmp_path):
    one, two, three = (pool(["h:1:1"]) for _ in range(3))
    assert differ(tmp_path, {"one": one, "two": two}, {"two": two, "three": three}) == {
        "one": ("is gone", []), "two": NONE, "three": ("is new", [])}
    assert differ(tmp_path, {"one": one}, {"two": two}, "--keys", "-") == {
        "one": ("is gone", []), "two": ("is new", [])}


def test_random_pools_are_not_compared(tmp_path):
    fixed, loose = ([pool(["h:1:1", "h:2:1"], distribution=d) for _ in range(3)] for d in ("ketama", "random"))
    for options in ([], ["--keys", "-"]):
        found = differ(tmp_path, {"a": loose[0], "b": fixed[1], "c": loose[2]},
                       {"a": loose[0], "b": loose[1], "c": fixed[2]}, *options, stdin=b"k\n")
        assert {name: (h.split(":")[0], l) for name, (h, l) in found.items()} == dict.fromkeys("abc", ("is random", []))


def test_another_hash_function_is_counted_by_shares(tmp_path, dice):
    for _ in range(10):
        d = [dice.choice(("ketama", "modula")) for _ in range(2)]
        h = dice.sample(("md5", "crc32", "crc16", "murmur"), 2)
        before, after = some_servers(dice, 6), some_servers(dice, 6)
        head, lines = differ(tmp_path, {"p": pool(before, hash=h[0], distribution=d[0])},
                             {"p": pool(after, hash=h[1], distribution=d[1])})["p"]
        rings = [Ring(before, d[0]), Ring(after, d[1])]
        one = Ring(["h:1:1"])
        spaces = [32768 if x == "crc32" else SPACE for x in h]
        share = [{r.lines[x]: Fraction(n, space) for (x, _), n in pairs(r, one, space).items()}
                 for r, space in zip(rings, spaces)]
        wanted = {"%s (%s) -> %s (%s)" % (name_of(x), address_of(x), name_of(y), address_of(y)): p * q * SPACE
                  for x, p in share[0].items() for y, q in share[1].items() if address_of(x) != address_of(y)}
        assert head.endswith(", as is to be expected: the hash changes from %s to %s" % tuple(h))
        found = {l.split("  ")[0]: int(re.search(r"\((\d+)\)$", l).group(1)) for l in lines}
        assert set(found) <= set(wanted)
        for move, value in wanted.items():
            assert abs(found.get(move, 0) - value) <= 1, "NUT_SEED=%d: %s" % (SEED, move)
        moved, every = map(int, re.search(r"\((\d+) of (\d+)\)", head).groups())
        assert every == SPACE and moved == sum(found.values()), head


def test_another_hash_tag_is_pointed_out_and_counted_by_keys(tmp_path):
    old, new = pool(LINES, hash="md5"), pool(LINES, hash="md5", hash_tag="{}")
    for a, b in ((old, new), (new, old), (new, dict(new, hash_tag="$$"))):
        head, lines = differ(tmp_path, {"p": a}, {"p": b})["p"]
        assert head.startswith(NONE[0] + ", BUT the hash_tag changes") and not lines
    keys = [b"plain%d" % i for i in range(50)] + [b"{%d}" % i for i in range(50)]
    head, lines = differ(tmp_path, {"p": old}, {"p": new}, "--keys", "-", stdin=b"".join(k + b"\n" for k in keys))["p"]
    ring = Ring(LINES)
    moved = sum(ring.place(md5(k)) != ring.place(md5(k.strip(b"{}"))) for k in keys)
    assert moved > 0 and "(%d of 100)" % moved in head


def test_another_protocol_is_pointed_out(tmp_path):
    head, lines = differ(tmp_path, {"p": pool(LINES)}, {"p": pool(LINES, protocol="memcached")})["p"]
    assert head == NONE[0] + ", BUT the protocol changes" and not lines


def test_another_database_is_pointed_out(tmp_path):
    head, lines = differ(tmp_path, {"p": pool(LINES)}, {"p": pool(LINES, redis_db=5)})["p"]
    assert head == NONE[0] + ", BUT redis_db changes from 0 to 5" and not lines


# ---- diff: by keys

def test_keys_are_counted_as_two_routes_say(tmp_path, dice):
    old, new = {}, {}
    for i in range(8):
        before = some_servers(dice)
        hashes = [dice.choice(("md5", "murmur", "crc32", "fnv1a_64")) for _ in range(2)]
        old["p%d" % i] = pool(before, hash=hashes[0], distribution=dice.choice(("ketama", "modula")))
        new["p%d" % i] = pool(changed(dice, before), hash=dice.choice(hashes), hash_tag=dice.choice(("{}", "$$")),
                              distribution=dice.choice(("ketama", "modula")))
    keys = [b"", b"\r", b"\0\xff", b"a\tb", b"x" * 100000] + [b"k%d" % i for i in range(500)] * 2 + \
        [b"{u%d}.$%d$" % (i % 20, i) for i in range(500)] + [dice.randbytes(9).replace(b"\n", b"") for _ in range(500)]
    text = b"\n".join(keys) + dice.choice((b"\n", b""))
    path = write(tmp_path, text, "keys")
    found = differ(tmp_path, old, new, "--keys", path)
    assert differ(tmp_path, old, new, "--keys=-", stdin=text) == found
    for name in old:
        a, b = (routes(os.path.join(str(tmp_path), f), name, keys) for f in ("old.ini", "new.ini"))
        moves = Counter(("%s (%s)" % tuple(x[1:]), "%s (%s)" % tuple(y[1:])) for x, y in zip(a, b) if x[2] != y[2])
        head, lines = found[name]
        moved = sum(moves.values())
        assert re.fullmatch(r"%.6f %% of the keys moves? \(%d of %d\)" %
                            (100 * moved / len(keys), moved, len(keys)), head)
        said = {tuple(l.split("  ")[0].split(" -> ")): int(re.search(r"\((\d+)\)$", l).group(1))
                for l in lines if " -> " in l}
        assert said == dict(moves), "NUT_SEED=%d: %s" % (SEED, name)
        counts = [int(re.search(r"\((\d+)\)$", l).group(1)) for l in lines if " -> " in l]
        assert counts == sorted(counts, reverse=True)


def test_no_keys_are_no_moves(tmp_path):
    found = differ(tmp_path, {"p": pool(LINES)}, {"p": pool(LINES[:1])}, "--keys", "/dev/null")
    assert found["p"][0] == "no keys were given"


def test_wrong_words_for_diff_are_told_with_the_usage(tmp_path):
    path = conf(tmp_path, ONE)
    for words in ([], [path], [path, path, path], ["-x", path, path], ["--bogus", path, path], ["--keys"],
                  [path, path, "--keys"], ["--keys", path, path]):
        assert "Usage: nutproxy diff" in bad("diff", *words), words
    assert "/nonexistent" in bad("diff", "--keys", "/nonexistent", path, path)


# ---- damage

def test_random_bytes_are_no_configuration(tmp_path, dice):
    fine = conf(tmp_path, ONE)
    for i in range(30):
        text = dice.randbytes(dice.choice((1, 7, 100, 3000))) if i % 2 else \
            bytes(dice.choice(b"[]=;#:- \t\n\r\"'&*?|>%@`{},a1\0\xff") for _ in range(dice.randrange(1, 300)))
        for name in ("x.ini", "x.yml"):
            path = write(tmp_path, text, name)
            for words in (["route", "-c", path, "k"], ["diff", path, fine], ["diff", fine, path]):
                assert path in bad(*words), "NUT_SEED=%d: %r" % (SEED, text)


@pytest.mark.parametrize("kind", ["ini", "yml"])
def test_a_file_that_was_cut_or_hit_is_told_or_taken(tmp_path, dice, kind):
    """What is left may be a configuration; if not, the reason is told, and nothing is printed."""
    sections = {"alpha": pool(LINES, hash="md5", hash_tag="{}", auto_eject_hosts=True), "beta": pool(LINES[:2])}
    fine = conf(tmp_path, sections, "fine." + kind)
    with open(fine, "rb") as f:
        text = f.read()
    seen = Counter()
    for i in range(60):
        hurt = bytearray(text)
        if i % 2:
            del hurt[dice.randrange(len(hurt)):]
        else:
            for _ in range(dice.choice((1, 1, 5))):
                hurt[dice.randrange(len(hurt))] = dice.choice((0, 9, 10, 255, 58, 32, dice.randrange(256)))
        path = write(tmp_path, bytes(hurt), "hurt." + kind)
        for words in (["route", "-c", path, "alpha", "k"], ["diff", fine, path]):
            status, out, err = run(*words)
            seen[status] += 1
            if status == 1:
                assert out == "" and "nutproxy: " in err, "NUT_SEED=%d: %r" % (SEED, bytes(hurt))
    assert seen[0] and seen[1], seen
