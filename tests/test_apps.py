"""Today's client libraries, and what applications build on them, through the proxy.

Each script of tests/clients does what applications do and prints a transcript: a line for
each step, what was done and what came back.  It is run against one server and through the
proxy in front of three, both empty, and the transcripts must be equal.  Steps that the proxy
refuses by design say so by themselves: they must fail with its words, and the connection
must go on.

A client that is not installed fails its test: tests/clients/install.sh brings npm's.
"""
import difflib
import os
import re
import shutil
import subprocess
import sys

import pytest

from nut import SLOW, TOP, pool

SCRIPTS = os.path.join(TOP, "tests", "clients")
FROM_NPM = os.path.join(TOP, "build", "clients")

# name: which servers, and which script; PORT and direct|proxy come behind it, then what more stands here.
CLIENTS = {
    "redis-py": ("redis", "redis_py.py"),
    "handshakes": ("redis", "handshakes.py"),
    "node-redis 6, RESP2": ("redis", "node_redis.mjs", "redis", "2"),
    "node-redis 6, RESP3": ("redis", "node_redis.mjs", "redis", "3"),
    "node-redis 5, RESP2": ("redis", "node_redis.mjs", "redis5", "2"),
    "node-redis 5, RESP3": ("redis", "node_redis.mjs", "redis5", "3"),
    "ioredis 6, RESP2": ("redis", "ioredis.mjs", "ioredis", "2"),
    "ioredis 6, RESP3": ("redis", "ioredis.mjs", "ioredis", "3"),
    "ioredis 5": ("redis", "ioredis.mjs", "ioredis5", "2"),
    "hiredis": ("redis", "hiredis.c"),
    "redis-cli -2": ("redis", "redis_cli.sh", "-2"),
    "redis-cli -3": ("redis", "redis_cli.sh", "-3"),
    "phpredis": ("redis", "phpredis.php"),
    "Predis": ("redis", "predis.php"),
    "redis-rb": ("redis", "ruby_redis.rb"),
    "Redis.pm": ("redis", "redis_perl.pl"),
    "express-session and connect-redis": ("redis", "sessions.mjs"),
    "rate-limiter-flexible and bottleneck": ("redis", "limiters.mjs"),
    "redlock": ("redis", "locks.mjs"),
    "ioredis, a new script on many keys": ("redis", "many_scripts.mjs"),
    "passwords, JavaScript": ("locked", "login.mjs"),
    "passwords, PHP": ("locked", "login.php"),
    "passwords, Python": ("locked", "login.py"),
    "passwords, Ruby": ("locked", "login.rb"),
    "pymemcache": ("memcached", "use_pymemcache.py"),
    "pylibmc": ("memcached", "use_pylibmc.py"),
    "memcached of npm": ("memcached", "memcached.mjs"),
    "python-memcached": ("memcached", "python_memcached.py"),
    "Cache::Memcached::Fast": ("memcached", "memcached_perl.pl"),
    "memjs": ("memcached", "memjs.mjs"),
    "memcached of PHP": ("memcached", "phpmemcached.php"),
    "dalli": ("memcached", "ruby_dalli.rb"),
    "meta protocol": ("memcached", "meta.py"),
    "libmemcached's tools": ("memcached", "libmemcached_tools.sh"),
}
RUN = {".py": [sys.executable], ".mjs": ["node"], ".php": ["php"], ".rb": ["ruby"], ".pl": ["perl"], ".sh": ["sh"]}


SECRET = "sesame"


class House:
    """A pool of three servers of each kind behind one proxy, and one of each kind alone."""

    def __init__(self, stage):
        kinds = {"redis": stage.redis, "locked": lambda: stage.redis("--requirepass", SECRET),
                 "memcached": lambda: stage.memcached("-I", "2m")}
        self.alone = {kind: start() for kind, start in kinds.items()}
        self.behind = {kind: [start() for _ in range(3)] for kind, start in kinds.items()}
        keys = {"redis": {}, "locked": {"redis_auth": SECRET}, "memcached": {"protocol": "memcached"}}
        self.proxy = stage.nutproxy(dict({"nutproxy": {"workers": 2}}, **{
            kind: pool(servers, names=["one", "two", "three"], hash="murmur", hash_tag="{}", timeout="30s",
                       **keys[kind])
            for kind, servers in self.behind.items()}))
        self.hiredis = stage.path("hiredis")

    def flush(self):
        for kind, server in self.alone.items():
            for s in [server] + self.behind[kind]:
                (self.empty_cache if kind == "memcached" else self.empty)(s, SECRET if kind == "locked" else None)

    @staticmethod
    def empty(server, password):
        client = server.client(password=password)
        client.flushall()
        client.script_flush()
        client.close()

    @staticmethod
    def empty_cache(server, _):
        from pymemcache.client.base import Client
        client = Client((server.host, server.port), default_noreply=False)
        client.flush_all()
        client.close()

    def start(self, kind, script, more, mode):
        """The script at work, against one server or through the proxy."""
        port = self.alone[kind].port if mode == "direct" else self.proxy.where(kind)[1]
        if script.endswith(".c"):
            argv = [self.built(script)]
        else:
            folder = FROM_NPM if script.endswith(".mjs") else SCRIPTS
            argv = RUN[os.path.splitext(script)[1]] + [os.path.join(folder, script)]
        return subprocess.Popen(argv + [str(port), mode, *more], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, cwd=self.proxy.stage.dir,
                                env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1", NO_COLOR="1"))

    def built(self, script):
        if not os.path.exists(self.hiredis):
            subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-o", self.hiredis, os.path.join(SCRIPTS, script),
                            "-lhiredis"], check=True, timeout=60 * SLOW)
        return self.hiredis


def ended(child):
    """Its exit status and what it printed; it is ended if it does not come to its end."""
    try:
        out, _ = child.communicate(timeout=60 * SLOW)
    except subprocess.TimeoutExpired:
        child.kill()
        out, _ = child.communicate()
        out += b"\nit did not come to its end\n"
    return child.returncode, out.decode(errors="backslashreplace").splitlines()


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """Scripts in JavaScript run beside the packages of npm."""
    os.makedirs(FROM_NPM, exist_ok=True)
    for name in os.listdir(SCRIPTS):
        if name.endswith(".mjs"):
            shutil.copy(os.path.join(SCRIPTS, name), FROM_NPM)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_sees_through_the_proxy_what_a_server_shows_it(house, name):
    kind, script, *more = CLIENTS[name]
    children = [house.start(kind, script, more, mode) for mode in ("direct", "proxy")]
    (status, direct), (through_status, through) = map(ended, children)
    assert status == 0 and len(direct) > 2, "\n".join(direct)
    assert not re.search(r"(?m)^un(handled|caught): |no answer came|ECONNREFUSED", "\n".join(direct)), direct
    difference = [line[:400] for line in difflib.unified_diff(direct, through, "a server", "the proxy", "", "", 0, "")]
    assert not difference, "\n".join(difference)
    assert through_status == 0


def test_clients_empty_all_servers_if_the_pool_allows_it(stage):
    servers = [stage.redis() for _ in range(3)]
    caches = [stage.memcached() for _ in range(3)]
    proxy = stage.nutproxy({"data": pool(servers, allow="flush"),
                            "cache": pool(caches, protocol="memcached", allow="flush")})
    client, cache = proxy.redis("data"), proxy.memcached("cache")
    keys = ["%d:key" % i for i in range(100)]
    for flush in (client.flushall, client.flushdb, lambda: client.flushall(asynchronous=True)):
        client.mset({k: k for k in keys})
        assert flush() is True and client.mget(keys) == [None] * 100 and client.dbsize() == 0
    memcflush = ["memcflush", "--servers=127.0.0.1:%d" % proxy.where("cache")[1]]
    for flush in (cache.flush_all, lambda: subprocess.run(memcflush, timeout=20 * SLOW).returncode == 0):
        assert cache.set_many({k: k for k in keys}) == [] and len(cache.get_many(keys)) == 100
        assert flush() is True and cache.get_many(keys) == {}
