"""twemproxy's configurations: what `nutproxy convert` makes of them, and what runs with them
as they are, beside nutcracker with the same file.

Every server holds every key, with its own number as the value (and another in database 3):
a get through a proxy tells where it looked.  NUT_SEED=N replays a failure.
"""
import json
import os
import random
import re
import stat
import subprocess
import time

import pytest

from fake import command, number_server, wire
from nut import NUTCRACKER, NUTPROXY, SLOW, Stage, can_connect, free_port, wait_for
from yaml_rows import BAD, GOOD, REFUSED

SEED = int(os.environ.get("NUT_SEED") or time.time_ns() % 10**9)
PASSWORD = "pa ss#1"
KEYS = [b"key:%d" % n for n in range(30)] + [b"{user%d}.name" % n for n in range(8)] + \
    [b"$a%d$x" % n for n in range(8)] + [b"[t%d]x" % n for n in range(4)] + [b"'x%d.y" % n for n in range(4)]

pytestmark = pytest.mark.skipif(not os.path.exists(NUTCRACKER), reason="no nutcracker here")


class Servers:
    """Numbered servers, and the words that stand for them in the rows."""

    def __init__(self, stage):
        self.stage, self.words = stage, {"d": stage.dir}
        for n in range(4):
            path = stage.path("redis-%d.sock" % n)
            self.number("r%d" % n, stage.redis(unixsocket=path), n)
            self.words["u%d" % n] = path
        for n in range(3):
            server = stage.memcached()
            number_server(server, n, KEYS, "memcached")
            self.words["m%d" % n] = server.port
        for n in range(2):
            self.number("a%d" % n, stage.redis("--requirepass", PASSWORD), 50 + n, PASSWORD)

    def number(self, word, server, number, password=None):
        with wire((server.host, server.port)) as w:
            if password:
                assert w.ask("AUTH", password) == b"+OK\r\n"
            for db, base in ((0, 0), (3, 30)):
                assert w.ask("SELECT", str(db)) == b"+OK\r\n"
                assert w.ask("MSET", *(x for k in KEYS for x in (k, b"%02d" % (base + number)))) == b"+OK\r\n"
        self.words[word] = server.port


@pytest.fixture(scope="module")
def servers():
    with Stage() as stage:
        yield Servers(stage)


def written(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    return path


def convert(path):
    """Exit status, the INI, what was said."""
    done = subprocess.run([NUTPROXY, "convert", path], capture_output=True, timeout=20 * SLOW)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")


def takes(program, path):
    """Whether the program takes this configuration."""
    done = subprocess.run([program, "-t", "-c", path], capture_output=True, timeout=20 * SLOW)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


# ---- what a proxy does with a configuration

def values(link, protocol):
    """What a get of each key finds."""
    if protocol == "m":
        link.say(*(b"get %s\r\n" % k for k in KEYS))
        return [link.answer() for _ in KEYS]
    if protocol == "a":
        assert link.ask("GET", "x") == b"-NOAUTH Authentication required\r\n"
        assert link.ask("AUTH", PASSWORD) == b"+OK\r\n"
    link.say(*(command("GET", k) for k in KEYS))
    return link.frames(len(KEYS))


def doors(words):
    """Every place where a row may listen."""
    for n in range(4):
        for host in ("127.0.0.1", "::1"):
            yield n, (host, words["p%d" % n])
    for name in ("alpha.sock", "al pha.sock"):
        yield 0, os.path.join(words["d"], name)


def seen(stage, words, protocols, argv):
    """Start it, look at all that can be seen from outside, stop it."""
    def open_doors():
        found = [(n, door) for n, door in doors(words) if can_connect(door)]
        return found if len(found) >= len(protocols) else None

    stats = free_port()
    proxy = stage.process([*argv, "-s", str(stats), "-a", "127.0.0.1"], ("127.0.0.1", stats), "proxy")
    out = {}
    try:
        for n, door in wait_for("all pools to listen", open_doors):
            mode = stat.S_IMODE(os.stat(door).st_mode) if isinstance(door, str) else None
            with wire(door) as link:
                out[door] = mode, values(link, protocols[n])
        with wire(("127.0.0.1", stats)) as link:
            text = link.rest().decode()
    finally:
        proxy.kill()
        stage.processes.remove(proxy)
    tree = json.loads(text)
    names = [(pool, [s for s, v in keys.items() if isinstance(v, dict)])
             for pool, keys in tree.items() if isinstance(keys, dict)]
    for path in ("alpha.sock", "al pha.sock"):
        if os.path.exists(os.path.join(words["d"], path)):
            os.unlink(os.path.join(words["d"], path))       # nutcracker leaves it
    return out, names


@pytest.mark.parametrize("name,protocols,text", GOOD, ids=[row[0] for row in GOOD])
def test_it_does_the_same_as_nutcracker_with_the_file_as_it_is_and_converted(servers, tmp_path, name, protocols, text):
    words = dict(servers.words, **{"p%d" % n: free_port() for n in range(4)})
    path = written(tmp_path, "nutcracker.yml", text.format(**words))
    status, ini, said = convert(path)
    assert status == 0, said
    converted = written(tmp_path, "nutproxy.ini", ini)
    assert takes(NUTCRACKER, path) and takes(NUTPROXY, path) and takes(NUTPROXY, converted), ini
    wanted = seen(servers.stage, words, protocols, [NUTCRACKER, "-c", path, "-o", os.devnull])
    assert seen(servers.stage, words, protocols, [NUTPROXY, "-c", converted]) == wanted, ini
    assert seen(servers.stage, words, protocols, [NUTPROXY, "-c", path]) == wanted
    comments = re.findall(r"(?m)(?:^|\s)#(.*?)\r?$", text) if "comments" in name else ()
    assert not [c for c in comments if ";" + c not in ini], ini


@pytest.mark.parametrize("text,line", BAD, ids=range(len(BAD)))
def test_what_nutcracker_refuses_is_refused_with_its_line(tmp_path, text, line):
    path = written(tmp_path, "bad.yml", text)
    status, ini, said = convert(path)
    assert (status, ini) == (1, "") and not takes(NUTCRACKER, path) and not takes(NUTPROXY, path)
    told = [int(n) for n in re.findall(r"^%s:([0-9]+): " % re.escape(path), said, re.M)]
    assert line in told or (line == 0 and said.startswith(path + ": ")), said


@pytest.mark.parametrize("text,line,words", REFUSED, ids=[row[2] for row in REFUSED])
def test_what_we_do_not_take_is_told_with_its_line(tmp_path, text, line, words):
    path = written(tmp_path, "refused.yml", text)
    status, ini, said = convert(path)
    assert (status, ini) == (1, "") and takes(NUTCRACKER, path)
    assert "%s:%d: " % (path, line) in said and words in said, said


# ---- what convert writes and says

SILENT = "a:\n  listen: 127.0.0.1:1\n  servers:\n   - h:1:1\n"


def test_where_the_file_is_silent_twemproxys_defaults_are_written_out(tmp_path):
    _, ini, _ = convert(written(tmp_path, "n.yml", SILENT))
    settings = re.findall(r"(?m)^(\w+) = (\S+)", ini)
    assert settings == [("stats", "0.0.0.0:22222"), ("max_memory", "0"),
                        ("timeout", "0"), ("connect_timeout", "0"), ("tcp_user_timeout", "0"),
                        ("client_output_limit", "0"), ("max_queued", "0"), ("tcpkeepalive", "false"),
                        ("resolve_interval", "0"), ("listen", "127.0.0.1:1")]
    _, ini, _ = convert(written(tmp_path, "n.yml", SILENT.replace("listen", "timeout: 7\n  listen")))
    assert re.findall(r"(?m)^timeout = (\S+)", ini) == ["7"]


def test_what_means_something_else_here_is_said_with_its_line(tmp_path):
    rows = (("client_connections: 5", "enforced"), ("tcpkeepalive: true", "to servers"),
            ("server_connections: 2", "each client stays on one"), ("auto_eject_hosts: true", "probe"),
            ("redis: true\n  redis_auth: x\n  redis_db: 2", "redis_db becomes 0"))
    for setting, words in rows:
        path = written(tmp_path, "n.yml", SILENT + "  " + setting + "\n")
        line = 5 + setting.count("\n")
        _, _, said = convert(path)
        assert re.search(r"(?m)^%s:%d: note: pool 'a': .*%s" % (re.escape(path), line, words), said), said
    path = written(tmp_path, "n.yml", SILENT.replace("127.0.0.1", '"*').replace(":1\n", ':1"\n', 1))
    assert "%s:2: note: pool 'a': * becomes [::1]" % path in convert(path)[2]
    path = written(tmp_path, "n.yml", SILENT + "  auto_eject_hosts: true\n  hash: md5\n")
    assert len(convert(path)[2].splitlines()) == 1, "nothing else is said"


def test_convert_reads_stdin_and_tells_what_it_wants(tmp_path):
    done = subprocess.run([NUTPROXY, "convert", "-"], input=SILENT, capture_output=True, text=True)
    assert done.returncode == 0 and "[a]" in done.stdout
    for argv in ([], ["a", "b"], ["--what"], [str(tmp_path)], [str(tmp_path / "none.yml")]):
        done = subprocess.run([NUTPROXY, "convert", *argv], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.startswith("nutproxy: ") and not done.stdout, argv
    path = written(tmp_path, "n.yml", SILENT)
    with open("/dev/full", "w") as full:
        done = subprocess.run([NUTPROXY, "convert", path], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "cannot be written" in done.stderr


# ---- damage

PIECES = ("\n", " ", "  ", "\t", ":", ": ", "#", " #", "- ", "-", '"', "'", "\\", "\r\n", "\r", "[", "]", "{", "}", ",",
          "&", "*", "!", ">", "%", "@", "`", "--- ", "---\n", "...\n", "\n\n", "x", "é", "a: b", "servers:", "listen: ",
          '""', "''", "\\n", "\\x41", "  - z:9:1\n", "    ", "\n  ", "\n   - h:7:1", "\x07", "0")
INTENDED = ("block scalars", "? key", "out of range", "permission", "has an invalid address", "empty name", "a NUL")


def test_a_damaged_file_is_judged_as_nutcracker_judges_it(tmp_path):
    print("\nNUT_SEED=%d" % SEED)
    dice = random.Random(SEED)
    texts = [row[2].format(**{w + str(n): "/x" if w in "du" else 1000 + n for w in "rmaup" for n in range(4)}, d="/x")
             .replace("0.0.0.0", "127.0.0.1") for row in GOOD[:15]]
    counts = {True: 0, False: 0}
    for _ in range(int(500 / SLOW)):
        text = dice.choice(texts)
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            at, piece = dice.randrange(len(text) + 1), dice.choice(PIECES)
            text = text[:at] + dice.choice((piece, piece, "")) + text[at + dice.randrange(3):]
        path = written(tmp_path, "d.yml", text)
        wanted, (status, ini, said) = takes(NUTCRACKER, path), convert(path)
        counts[wanted] += 1
        if status == 0:                     # convert asks for no addresses, -t does
            assert takes(NUTPROXY, written(tmp_path, "d.ini", ini)) == takes(NUTPROXY, path), (text, ini)
        if takes(NUTPROXY, path) != wanted and not any(words in said for words in INTENDED):
            written(tmp_path, "differs.yml", text)
            pytest.fail("NUT_SEED=%d: nutcracker says %s to\n%s\nand we say %s" % (SEED, wanted, text, said), False)
    assert min(counts.values()) > 20, counts


@pytest.mark.parametrize("address,good", [
    ("127.0.01", True), ("127.1", True), ("0x7f.1", True), ("0X7F.0.0.1", True), ("0177.0.0.1", True),
    ("2130706433", True), ("0x7f000001", True), ("00", True), ("08.0.0.1", False), ("0x.0.0.1", False),
    ("127.0.0.256", False), ("127.0.0x100.1", False), ("127.0.65536", False), ("127.0.0.1.", False),
    ("4294967296", False), ("0x100000000", False), ("127.0.0.0.1", False), ("0x7g.0.0.1", False)])
def test_addresses_are_numbers_as_c_writes_them(tmp_path, address, good):
    path = written(tmp_path, "n.yml", SILENT.replace("127.0.0.1:1", address + ":1000").replace("h:1:1", "127.0.0.1:1:1"))
    assert takes(NUTCRACKER, path) == takes(NUTPROXY, path) == good


def test_rubbish_is_refused_and_breaks_nothing(tmp_path):
    print("\nNUT_SEED=%d" % SEED)
    dice = random.Random(SEED)
    rubbish = [dice.randbytes(size) for size in (1, 2, 3, 10, 100, 1000, 65536) for _ in range(4)]
    rubbish += [b"\0", b"'" * 5000, b'"' + b"\\" * 5000, b"- " * 5000, b"a:\n " * 5000, b"a: b: " * 1000, b"\xff\xfea\0",
                b"a" * 70000, b"#" * 70000, b"\n" * 70000, b'"\\U00110000": 1', b'"\\ud800": 1', b"\xef\xbb\xbf"]
    for text in rubbish:
        status, ini, said = convert(written(tmp_path, "rubbish.yml", text))
        assert (status, ini) == (1, "") and "rubbish.yml" in said, text[:50]
