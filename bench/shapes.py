"""What is measured: the programs, the shapes of load, the targets, and what is made to grow.

A load is a dict; what is not said is 50 clients, one request at a time, one key of 100 bytes:
    c clients   i idle clients beside them   P requests sent at once   K keys in a request
    d bytes of a value   k keys that exist   rate requests a second (an open loop)
    set, mget   write; MGET even of one key
    servers, workers   how the proxy is configured: lines in its list (4), threads (1)
"""
import collections
import os
import shutil

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, "build", "bench")
SUBJECT, PEER, FLOOR = "nutproxy", "nutcracker", "relayN"
DISTURBED = 0.3                 # cores taken by other work, above which a run is done again
BACKLOG = 4096                  # thousands connect at once, and none should have to try again a second later

# --- the programs ------------------------------------------------------------

# What a program is started with.  `servers` are ports, `files` is how many descriptors it may have.
Setup = collections.namedtuple("Setup", "port stats conf proto load servers files")


def request_and_reply(proto, load):
    """How many bytes they have: relayN must be told, as it parses nothing."""
    size, keys = load.get("d", 100), load.get("K", 1)
    bulk = len("$%d\r\n" % size) + size + 2
    if proto == "redis":
        if load.get("set"):
            return len("*3\r\n$3\r\nSET\r\n$12\r\nkey:00000000\r\n") + bulk, len("+OK\r\n")
        if keys == 1 and not load.get("mget"):
            return len("*2\r\n$3\r\nGET\r\n$12\r\nkey:00000000\r\n"), bulk
        return (len("*%d\r\n$4\r\nMGET\r\n" % (keys + 1)) + keys * len("$12\r\nkey:00000000\r\n"),
                len("*%d\r\n" % keys) + keys * bulk)
    if load.get("set"):
        return len("set key:00000000 0 0 %d\r\n" % size) + size + 2, len("STORED\r\n")
    return (len("get\r\n") + keys * len(" key:00000000"),
            keys * (len("VALUE key:00000000 0 %d\r\n" % size) + size + 2) + len("END\r\n"))


def ports(setup):
    return ",".join(str(port) for port in setup.servers)


def relay1(setup):
    return [setup.port, ports(setup)], ""


def relay_n(setup):
    return [setup.port, ports(setup), *request_and_reply(setup.proto, setup.load)], ""


def relay_s(setup):
    return [*relay_n(setup)[0], "spread"], ""


def haproxy(setup):
    lines = ["global", "    nbthread 1", "    maxconn %d" % ((setup.files - 100) // 2),
             "defaults", "    mode tcp", "    timeout connect 5s", "    timeout client 300s", "    timeout server 300s",
             "listen alpha", "    bind 127.0.0.1:%d backlog %d" % (setup.port, BACKLOG), "    balance roundrobin"]
    lines += ["    server s%d 127.0.0.1:%d" % (i, port) for i, port in enumerate(setup.servers)]
    return ["-db", "-f", setup.conf], "\n".join(lines) + "\n"


def nutcracker(setup):
    lines = ["alpha:", "  listen: 127.0.0.1:%d" % setup.port, "  hash: fnv1a_64", "  distribution: ketama",
             "  redis: %s" % ("true" if setup.proto == "redis" else "false"), "  timeout: 10000",
             "  backlog: %d" % BACKLOG, "  servers:"]
    lines += ["   - 127.0.0.1:%d:1 s%d" % (port, i) for i, port in enumerate(setup.servers)]
    arguments = ["-c", setup.conf, "-o", setup.conf + ".log", "-s", setup.stats, "-a", "127.0.0.1", "-v", "0"]
    return arguments, "\n".join(lines) + "\n"


def nutproxy(setup):
    lines = ["[nutproxy]", "stats = 127.0.0.1:%d" % setup.stats, "workers = %d" % setup.load.get("workers", 1),
             "[alpha]", "listen = 127.0.0.1:%d" % setup.port, "hash = fnv1a_64", "distribution = ketama",
             "protocol = %s" % ("redis" if setup.proto == "redis" else "memcached"), "timeout = 10s",
             "backlog = %d" % BACKLOG, "servers ="]
    lines += ["    127.0.0.1:%d:1 s%d" % (port, i) for i, port in enumerate(setup.servers)]
    return ["-c", setup.conf], "\n".join(lines) + "\n"


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


# `arguments` gives the command line and the text of the configuration.  `files` is how many descriptors a
# client costs, `unfit` what a load must not have; `direct` is no program at all.
Program = collections.namedtuple("Program", "what path arguments files unfit", defaults=[()])
PROGRAMS = {
    "direct": Program("no proxy: clients talk to the servers", None, None, 0),
    "relay1": Program("floor: a server connection for each client, nothing parsed",
                      os.path.join(BUILD, "relay1"), relay1, 2),
    "haproxy": Program("haproxy in TCP mode: a server connection for each client", find("haproxy"), haproxy, 2),
    "relayN": Program("floor: one connection to each server, nothing parsed",
                      os.path.join(BUILD, "relayN"), relay_n, 1),
    "relayS": Program("the same floor, and each request goes to the next server; one request at a time",
                      os.path.join(BUILD, "relayN"), relay_s, 1, ("P", "K", "mget")),
    "nutcracker": Program("Debian's nutcracker (twemproxy)", find("nutcracker"), nutcracker, 1),
    "nutproxy": Program("nutproxy", os.environ.get("NUTPROXY", os.path.join(TOP, "nutproxy")), nutproxy, 1),
}

# --- the shapes ----------------------------------------------------------------

# Where a shape is measured.
PLACES = {
    "shared": "nothing is pinned: proxy, load and servers at equal rights on all cores",
    "own": "the proxy on one core, everything else on another",
}
IDLE = 9500                     # haproxy and relay1 need two descriptors for each, of 20,000

Shape = collections.namedtuple("Shape", "what proto place load")
SHAPES = {
    "R1get": Shape("GET", "redis", "shared", dict()),
    "R1set": Shape("SET", "redis", "shared", dict(set=1)),
    "R1rate": Shape("GET, open loop at 15,000/s", "redis", "own", dict(rate=15000)),
    "R2get": Shape("GET, pipeline 16", "redis", "shared", dict(P=16)),
    "R2set": Shape("SET, pipeline 16", "redis", "shared", dict(P=16, set=1)),
    "R3get": Shape("GET, pipeline 64", "redis", "shared", dict(P=64)),
    "R4": Shape("MGET of 10 keys", "redis", "shared", dict(K=10)),
    "R5": Shape("MGET of 100 keys", "redis", "shared", dict(K=100)),
    "R6": Shape("GET of 64 KiB", "redis", "shared", dict(d=65536, k=200)),
    "R7": Shape("GET of 1 MiB, 16 clients", "redis", "shared", dict(c=16, d=1048576, k=16)),
    "R8": Shape("GET, 1000 clients", "redis", "own", dict(c=1000)),
    "R9": Shape("GET, and 9,500 idle clients", "redis", "shared", dict(i=IDLE)),
    "M1": Shape("get", "memcached", "shared", dict()),
    "M1rate": Shape("get, open loop at 15,000/s", "memcached", "own", dict(rate=15000)),
    "M2a": Shape("get of 16 keys", "memcached", "shared", dict(K=16)),
    "M2b": Shape("get of 100 keys", "memcached", "shared", dict(K=100)),
    "M2p": Shape("get, pipeline 16", "memcached", "shared", dict(P=16)),
    "M3": Shape("set", "memcached", "shared", dict(set=1)),
}
SHORT = ("R1get", "R1rate", "R8", "R3get", "R5", "R7", "M1", "M2b")

# --- the targets -------------------------------------------------------------------

# nutproxy's CPU time for a request, as a part of nutcracker's, at most.
CPU = {
    "R1get": 0.70, "R1rate": 0.85, "R8": 0.68, "R2get": 0.45, "R3get": 0.20, "R4": 0.75, "R5": 0.60, "R6": 1.00,
    "R7": 0.95, "M1": 0.72, "M1rate": 0.85, "M3": 0.78, "M2a": 0.65, "M2b": 0.45, "M2p": 1.00,
}

# Of `measure` report.py knows how to get it; `most` tells whether the limit is one above or below.
Target = collections.namedtuple("Target", "what shape measure most limit")
TARGETS = (
    [Target("CPU time for a request / nutcracker's", s, "cpu_ratio", True, limit) for s, limit in CPU.items()] +
    [Target("system calls for a request", s, "calls", True, limit) for s, limit in (("R1get", 3.3), ("R8", 2.6))] +
    [Target("memory for an idle client, KiB", "R9", "idle_kib", True, 0.30)] +
    [Target("peak memory, MiB", s, "peak_mib", True, 16) for s in ("R3get", "M2b")] +
    [Target("p99 / nutcracker's", s, "p99_ratio", True, 1.00) for s in SHAPES] +
    [Target("requests a second / nutcracker's", s, "rps_ratio", False, 1.00)
     for s in SHAPES if "rate" not in SHAPES[s].load])

# What is measured in no shape, at most: CPU time with two workers as a part of that with one, and what static tells.
OTHER = {"workers": 1.05, "stripped_kib": 200, "rss_kib": 1024, "start_ms": 20}

# --- what grows ----------------------------------------------------------------------

# `lines` are what a plot has: a label, the program, and what its load adds.  `log` are the logarithmic axes.
Growth = collections.namedtuple("Growth", "what axis points load lines log")
BOTH = {name: (name, {}) for name in (SUBJECT, PEER)}
THREE = dict(BOTH, **{FLOOR: (FLOOR, {})})
GROWTH = {
    "clients": Growth("GET", "clients", (1, 10, 100, 1000, 10000), lambda x: dict(c=x), THREE, "xy"),
    "pipeline": Growth("GET, 16 clients", "requests that a client sends at once", (1, 4, 16, 64, 256, 1000),
                       lambda x: dict(c=16, P=x), THREE, "xy"),
    "size": Growth("GET, 16 clients", "bytes of a value",
                   (0, 100, 1000, 10000, 100000, 1000000, 4000000),
                   lambda x: dict(c=16, d=x, k=8 if x >= 1000000 else 100), THREE, "xy"),
    # relayN spreads clients, not keys: 50 clients could not use 500 connections.
    "servers": Growth("GET, 50 clients; so many names for 4 servers, each with its connection", "servers in the list",
                      (1, 4, 20, 100, 500), lambda x: dict(servers=x), BOTH, "x"),
    "keys": Growth("MGET, 16 clients", "keys in a request", (1, 10, 100, 1000, 10000),
                   lambda x: dict(c=16, K=x, mget=1), THREE, "xy"),
    "idle": Growth("GET, 50 clients, and idle ones", "idle clients", (0, 100, 1000, 9000), lambda x: dict(i=x),
                   THREE, "x"),
    "workers": Growth("GET", "workers", (1, 2), lambda x: dict(workers=x),
                      {"50 clients": (SUBJECT, dict(c=50)), "1000 clients": (SUBJECT, dict(c=1000))}, ""),
}
