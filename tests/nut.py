"""Real servers, real proxies, free ports: what every live test stands on.

    with Stage() as stage:
        servers = [stage.redis() for _ in range(4)]
        proxy = stage.nutproxy({"alpha": pool(servers, protocol="redis")})
        proxy.redis("alpha").set("k", "v")

A Stage ends, by process id, everything that it started, whatever happened.
NUTPROXY names the program under test (default: ./nutproxy beside this folder).
"""
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NUTPROXY = os.environ.get("NUTPROXY", os.path.join(TOP, "nutproxy"))
NUTCRACKER = "/usr/sbin/nutcracker"

# A build under sanitizers is slower; waits below are scaled, never the loads.
SLOW = float(os.environ.get("NUT_SLOW", "1"))


handed_out = {22222}         # where the stats are unless told otherwise


def free_port():
    """A port that nobody has: never the same twice, and below those that the kernel gives
    to outgoing connections, so that a server can be stopped and started on it again."""
    while True:
        port = random.SystemRandom().randrange(12000, 32000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("0.0.0.0", port))
            except OSError:
                continue
        if port not in handed_out:
            handed_out.add(port)
            return port


def wait_for(what, condition, seconds=10.0):
    """Wait until condition() is true; AssertionError naming `what` if it never is."""
    end = time.monotonic() + seconds * SLOW
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError("waited %gs for %s" % (seconds * SLOW, what))
        time.sleep(0.01)


def listening_ports():
    """The TCP ports that somebody on this machine listens on."""
    ports = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(path):
            with open(path) as f:
                rows = [line.split() for line in f]
            ports |= {int(row[1].rsplit(":", 1)[1], 16) for row in rows if row[3] == "0A"}
    return ports


def can_connect(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    if not isinstance(address, str) and ":" in address[0]:
        family = socket.AF_INET6
    with socket.socket(family) as s:
        s.settimeout(1)
        try:
            s.connect(address)
            return True
        except OSError:
            return False


def dial(address, seconds):
    """A socket to (host, port) or the path of a unix socket; small writes go out at once."""
    if isinstance(address, str):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(seconds)
        s.connect(address)
    else:
        s = socket.create_connection(address, seconds)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


class Process:
    def __init__(self, stage, argv, log, address=None, env=None, preexec=None):
        self.argv, self.address, self.log = argv, address, log
        self.env = dict(os.environ, **(env or {}))
        self.preexec = preexec
        self.stage = stage
        self.start()

    def start(self):
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=out, env=self.env, cwd=self.stage.dir,
                                          preexec_fn=self.preexec)
        if self.address is not None:
            wait_for("%s to listen; it said: %s" % (self.argv[0], self.said()[-2000:]), self.listens)
        return self

    def listens(self):
        if self.child.poll() is not None:
            raise AssertionError("%s exited with %d: %s" %
                                 (" ".join(self.argv), self.child.returncode, self.said()))
        return can_connect(self.address)

    @property
    def pid(self):
        return self.child.pid

    def said(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def signal(self, number):
        self.child.send_signal(number)

    def pause(self):
        """Stop it; on return all its threads stand still."""
        self.signal(signal.SIGSTOP)
        wait_for("all threads to stand still", lambda: set(self.states()) == {"T"})

    def states(self):
        """What each of its threads does: R, S, T ..."""
        for thread in os.listdir("/proc/%d/task" % self.pid):
            with open("/proc/%d/task/%s/stat" % (self.pid, thread)) as f:
                yield f.read().rsplit(")", 1)[1].split()[0]

    def resume(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        """End it at once, as a crash would."""
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()

    def stop(self, seconds=10):
        """Ask it to stop and return its exit status."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.terminate()
            try:
                self.child.wait(seconds * SLOW)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        return self.child.returncode

    def rss_kib(self):
        with open("/proc/%d/status" % self.pid) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))


class Redis(Process):
    def __init__(self, stage, port=None, *extra, unixsocket=None):
        self.port = port or free_port()
        self.unixsocket = unixsocket
        self.host = "127.0.0.1"
        folder = tempfile.mkdtemp(dir=stage.dir)
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "-::1", "--save", "",
                "--appendonly", "no", "--dir", folder, "--enable-debug-command", "yes"]
        if unixsocket:
            argv += ["--unixsocket", unixsocket]
        super().__init__(stage, argv + list(extra), os.path.join(folder, "log"),
                         ("127.0.0.1", self.port))

    def client(self, **kw):
        import redis
        return redis.Redis("127.0.0.1", self.port, **kw)


class Memcached(Process):
    def __init__(self, stage, port=None, *extra):
        self.port = port or free_port()
        self.host = "127.0.0.1"
        folder = tempfile.mkdtemp(dir=stage.dir)
        argv = ["memcached", "-p", str(self.port), "-U", "0", "-l", "127.0.0.1", "-u", "nobody",
                "-m", "256", "-I", "128m"]
        super().__init__(stage, argv + list(extra), os.path.join(folder, "log"),
                         ("127.0.0.1", self.port))


def pool(servers, protocol="redis", names=None, weights=None, **keys):
    """A pool section as a dict; `listen` is picked unless given. `servers` are
    processes with host and port, or whole server lines."""
    lines = []
    for i, s in enumerate(servers):
        line = s if isinstance(s, str) else "%s:%d:%d" % (s.host, s.port,
                                                        weights[i] if weights else 1)
        lines.append(line + (" " + names[i] if names else ""))
    return dict({"listen": "127.0.0.1:%d" % free_port(), "protocol": protocol}, **keys,
                servers=lines)


def ini(sections):
    out = []
    for name, keys in sections.items():
        out.append("[%s]" % name)
        for key, value in keys.items():
            if key == "servers":
                out.append("servers =")
                out.extend("    " + line for line in value)
            else:
                value = {True: "true", False: "false"}.get(value, value) \
                    if isinstance(value, bool) else value
                out.append("%s = %s" % (key, value))
        out.append("")
    return "\n".join(out)


def yml(sections):
    """The same pools for nutcracker."""
    out = []
    for name, keys in sections.items():
        out.append("%s:" % name)
        for key, value in keys.items():
            if key == "protocol":
                out.append("  redis: %s" % ("true" if value == "redis" else "false"))
            elif key == "servers":
                out.append("  servers:")
                out.extend("   - " + line for line in value)
            else:
                value = {True: "true", False: "false"}[value] if isinstance(value, bool) else value
                quoted = '"%s"' % value if key == "hash_tag" else value
                out.append("  %s: %s" % (key, quoted))
    return "\n".join(out) + "\n"


class Proxy(Process):
    def __init__(self, stage, sections, argv, log, **kw):
        self.sections = sections
        super().__init__(stage, argv, log, self.where(next(n for n in sections if n != "nutproxy")),
                         **kw)

    def listens(self):
        """On all its ports: on the first one it does so before it has the others."""
        places = [self.where(name) for name in self.sections if name != "nutproxy"]
        return super().listens() and {p[1] for p in places if not isinstance(p, str)} <= listening_ports()

    def where(self, name):
        listen = self.sections[name]["listen"]
        if listen.startswith("/"):
            return listen.split(" ")[0]
        host, port = listen.rsplit(":", 1)
        return (host.strip("[]"), int(port))

    def connect(self, name, timeout=10):
        """A raw socket to that pool."""
        return dial(self.where(name), timeout * SLOW)

    def redis(self, name, **kw):
        import redis
        host, port = self.where(name)
        kw.setdefault("socket_timeout", 20 * SLOW)
        return redis.Redis(host, port, **kw)

    def memcached(self, name, **kw):
        from pymemcache.client.base import Client
        kw.setdefault("timeout", 20 * SLOW)
        kw.setdefault("default_noreply", False)
        return Client(self.where(name), **kw)

    def stats_text(self):
        with socket.create_connection(("127.0.0.1", self.stats_port), 10 * SLOW) as s:
            out = b""
            while True:
                got = s.recv(65536)
                if not got:
                    return out.decode()
                out += got

    def stats(self):
        return json.loads(self.stats_text())


class Stage:
    """A folder and the processes that live in it."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="nut-")
        os.chmod(self.dir, 0o755)
        self.processes = []
        return self

    def __exit__(self, *exc):
        for p in reversed(self.processes):
            p.child.send_signal(signal.SIGCONT) if p.child.poll() is None else None
            p.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def keep(self, process):
        self.processes.append(process)
        return process

    def redis(self, *extra, **kw):
        return self.keep(Redis(self, kw.pop("port", None), *extra, **kw))

    def memcached(self, *extra, **kw):
        return self.keep(Memcached(self, kw.pop("port", None), *extra, **kw))

    def process(self, argv, address=None, name="process", **kw):
        return self.keep(Process(self, argv, self.path(name + ".log"), address, **kw))

    def nutproxy(self, sections, *options, **kw):
        """Start nutproxy with these sections; stats go to a free port unless
        [nutproxy] says otherwise."""
        stats = free_port()
        sections = dict({"nutproxy": {}}, **sections)
        sections["nutproxy"] = dict({"stats": "127.0.0.1:%d" % stats}, **sections["nutproxy"])
        conf = self.path("nutproxy-%d.ini" % stats)
        with open(conf, "w") as f:
            f.write(ini(sections))
        proxy = self.keep(Proxy(self, sections, [NUTPROXY, "-c", conf, *options],
                                self.path("nutproxy-%d.log" % stats), **kw))
        proxy.stats_port, proxy.conf = stats, conf
        return proxy

    def nutcracker(self, sections, *options):
        stats = free_port()
        conf = self.path("nutcracker-%d.yml" % stats)
        with open(conf, "w") as f:
            f.write(yml(sections))
        proxy = self.keep(Proxy(self, sections,
                                [NUTCRACKER, "-c", conf, "-s", str(stats), "-a", "127.0.0.1",
                                 "-o", self.path("nutcracker-%d.out" % stats), *options],
                                self.path("nutcracker-%d.log" % stats)))
        proxy.stats_port, proxy.conf = stats, conf
        return proxy
