"""Those who read a twemproxy's stats port, each in the way of a public one.

Every consumer takes an address and returns {path: number}: the path is (field,) for the
process, (pool, field), or (pool, server, field). All raise when something is not what
their models rely on. What those do differs in how they read (pieces until the end, one
line, one piece), how they tell pools from globals and servers from counters (by kind, by
name, by depth), and what they need to be there.
"""
import json
import re
import socket

from nut import SLOW, dial

PROCESS = ("uptime", "timestamp", "total_connections", "curr_connections")
TEXTS = ("service", "source", "version")
POOL = ("client_eof", "client_err", "client_connections", "server_ejects", "forward_error",
        "fragments")
SERVER = ("server_eof", "server_err", "server_timedout", "server_connections",
          "server_ejected_at", "requests", "request_bytes", "responses", "response_bytes",
          "in_queue", "in_queue_bytes", "out_queue", "out_queue_bytes")
CLOCKS = {("uptime",), ("timestamp",)}      # the two that never stand still


# ---- how they read

def pieces(address, size=1024, before=b"", half=False):
    """All until the end, in small pieces; some say something first, or end their half."""
    with dial(address, 10 * SLOW) as s:
        if before:
            s.sendall(before)
        if half:
            s.shutdown(socket.SHUT_WR)
        out = b""
        while piece := s.recv(size):
            out += piece
    return out.decode("ascii")


def one_line(address):
    with dial(address, 10 * SLOW) as s, s.makefile("r", encoding="ascii") as f:
        line = f.readline()
    assert line.endswith("}\n")
    return line


def one_piece(address, size=8192):
    """Some read once and hope that it is all."""
    with dial(address, 10 * SLOW) as s:
        return s.recv(size).decode("ascii")


# ---- how they walk

def number(value):
    """JSON's number, whole; true and false are none."""
    assert type(value) is int, value
    return value


def datadog(address):
    """Pools and servers are what is an object; every server needs its counters, whereas
    what is not known is passed over. It does not look at server_ejected_at."""
    out = {}
    for key, value in json.loads(pieces(address)).items():
        if isinstance(value, dict):
            for name, inner in value.items():
                if isinstance(inner, dict):
                    out.update({(key, name, f): number(inner[f]) for f in SERVER
                                if f != "server_ejected_at"})
                elif name in POOL:
                    out[key, name] = number(inner)
        elif key in ("curr_connections", "total_connections"):
            out[key,] = number(value)
    return out


def typed(address):
    """The exporter in Go: takes the known names out, each of its type; all that is left of
    the process must be pools, and all that is left of a pool must be servers."""
    data = json.loads(pieces(address, 4096))
    assert all(isinstance(data.pop(f), str) for f in TEXTS)
    out = {(f,): number(data.pop(f)) for f in PROCESS}
    for pool, inner in data.items():
        assert isinstance(inner, dict), pool
        out.update({(pool, f): number(inner.pop(f)) for f in POOL})
        for server, counters in inner.items():
            assert isinstance(counters, dict), server
            out.update({(pool, server, f): number(counters[f]) for f in SERVER})
    return out


def once(address):
    """The exporter in Python that reads once; otherwise as above."""
    data = json.loads(one_piece(address))
    out = {(f,): data[f] for f in ("total_connections", "curr_connections")}
    for pool in [k for k in data if k not in PROCESS + TEXTS]:
        out.update({(pool, f): data[pool][f] for f in POOL})
        for server in [k for k in data[pool] if k not in POOL]:
            out.update({(pool, server, f): data[pool][server][f] for f in SERVER})
    return out


def unquoted(address):
    """The exporter in Ruby: mends names that stand in two pairs of quotes before it parses,
    and names its metrics by the source."""
    data = json.loads(re.sub(r'"("[^"]+")"', r"\1", pieces(address, 65536)))
    assert data["source"] == socket.gethostname()
    out = {(f,): data[f] for f in PROCESS if f != "timestamp"}
    for pool, inner in data.items():
        if isinstance(inner, dict):
            out.update({(pool, f): inner[f] for f in POOL})
            for server, counters in inner.items():
                if isinstance(counters, dict):
                    out.update({(pool, server, f): counters[f] for f in SERVER})
    return out


def telegraf(address, pools=None):
    """Is told the names of the pools; takes every number of a server, whatever its name."""
    data = json.loads(pieces(address, 512))
    out = {(f,): number(data[f]) for f in PROCESS if f != "uptime"}
    for pool in pools or [k for k in data if isinstance(data[k], dict)]:
        for key, value in data[pool].items():
            if key in POOL:
                out[pool, key] = number(value)
            elif isinstance(value, dict):
                out.update({(pool, key, f): number(n) for f, n in value.items()})
    return out


def diamond(address):
    """Takes all that is there; a dot would be a level of its names."""
    out = {}
    for key, value in json.loads(pieces(address)).items():
        if isinstance(value, dict):
            for name, inner in value.items():
                for f, n in inner.items() if isinstance(inner, dict) else ():
                    out[key.replace(".", "_"), name.replace(".", "_"), f] = int(n)
                if not isinstance(inner, dict):
                    out[key.replace(".", "_"), name] = int(inner)
        elif key not in TEXTS + ("timestamp",):
            out[key,] = int(value)
    return out


def munin(address):
    """Reads a line; looks for fields of a pool by name, and for servers among the rest."""
    data = json.loads(one_line(address))
    out = {}
    for pool in [k for k, v in data.items() if k not in PROCESS + TEXTS]:
        out.update({(pool, f): int(data[pool][f]) for f in POOL})
        for server in set(data[pool]) - set(POOL):
            out.update({(pool, server, f): int(data[pool][server][f]) for f in SERVER})
    return out


def by_lines(address):
    """The shell script: lets json.tool break the lines, counts braces, and takes numbers."""
    text = json.dumps(json.loads(pieces(address, half=True)), indent=4)
    out, names = {}, []
    for line in text.split("\n"):
        if found := re.fullmatch(r' *"(.*)": \{', line):
            names.append(found.group(1))
        elif re.fullmatch(r" *\},?", line):
            names = names[:-1]
        elif found := re.fullmatch(r' *"(\w+)": (-?\d+),?', line):
            out[(*names, found.group(1))] = int(found.group(2))
    return out


def by_http(address):
    """curl --http0.9: says a request that nobody reads, and takes what comes."""
    data = json.loads(pieces(address, before=b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"))
    return walk(data)


def walk(data, path=()):
    out = {}
    for key, value in data.items():
        if isinstance(value, dict):
            out.update(walk(value, path + (key,)))
        elif path + (key,) not in {(f,) for f in TEXTS}:
            out[path + (key,)] = value
    return out


def everything(address):
    return walk(json.loads(pieces(address)))


CONSUMERS = (everything, datadog, typed, once, unquoted, telegraf, diamond, munin, by_lines)
