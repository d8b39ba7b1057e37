"""A name server that does what the test's script says, and an /etc of its own for the proxy.

    with Dns() as dns:
        dns.zone["one.test"] = addresses("127.0.0.2", "::1")
        dns.zone["www.test"] = alias("one.test")
        dns.zone["no.test"] = silence
        etc = Etc(stage, dns, hosts="127.0.0.1 localhost")
        stage.nutproxy(sections, preexec=etc.enter)

It listens on port 53, UDP and TCP, of a loopback address that nobody else has. What stands in
the zone is called with each Query and returns the datagrams to send: bytes, (seconds, bytes)
for later, Astray(bytes) from a port where nobody was asked. What is not in the zone does not exist.
dns.asked has all queries, oldest first. Etc stands in the place of /etc/resolv.conf and
/etc/hosts, in a mount namespace of the proxy's, so root is needed.
"""
import ctypes
import ipaddress
import os
import random
import select
import socket
import struct
import threading
import time

A, CNAME, AAAA = 1, 5, 28
SERVFAIL, NXDOMAIN, REFUSED = 2, 3, 5
ANSWER = 0x8180             # a reply of a server that recurses
CUT = 0x0200                # truncated


class Astray(bytes):
    """A datagram that does not come from where the question went."""


def name_bytes(name):
    return b"".join(bytes([len(label)]) + label for label in name.encode().split(b".") if label) + b"\0"


def record(kind, data, name=b"\xc0\x0c", ttl=60, size=None, net=1):
    """A resource record; its name is the question's unless given."""
    return name + struct.pack(">HHIH", kind, net, ttl, len(data) if size is None else size) + data


class Query:
    def __init__(self, raw, tcp=False):
        self.raw, self.tcp, self.at = raw, tcp, time.monotonic()
        self.id, _, asked, _, _, _ = struct.unpack(">HHHHHH", raw[:12])
        assert asked == 1, "one question, not %d" % asked
        at, labels = 12, []
        while raw[at]:
            assert raw[at] < 64, "a question with a pointer"
            labels.append(raw[at + 1:at + 1 + raw[at]].decode())
            at += 1 + raw[at]
        self.name = ".".join(labels).lower()
        self.type, net = struct.unpack(">HH", raw[at + 1:at + 5])
        assert net == 1
        self.question = raw[12:at + 5]

    def reply(self, records=(), code=0, flags=ANSWER, id=None, question=None, count=None):
        question = self.question if question is None else question
        return struct.pack(">HHHHHH", self.id if id is None else id, flags | code, 1 if question else 0,
                           len(records) if count is None else count, 0, 0) + question + b"".join(records)

    def records(self, texts, **how):
        """The addresses of the type asked for."""
        version = {A: 4, AAAA: 6}.get(self.type)
        return [record(self.type, ip.packed, **how) for ip in map(ipaddress.ip_address, texts)
                if ip.version == version]


# ---- what can stand in a zone

def addresses(*texts):
    return lambda q: [q.reply(q.records(texts))]


def rotating(*texts):
    """As many servers answer: another one is the first each time."""
    texts = list(texts)

    def answer(q):
        texts.append(texts.pop(0))
        return [q.reply(q.records(texts))]
    return answer


def alias(*names, of):
    """A chain of CNAMEs, and the addresses of the last one."""
    def answer(q):
        chain = [q.name, *names]
        records = [record(CNAME, name_bytes(b), name=name_bytes(a)) for a, b in zip(chain, chain[1:])]
        return [q.reply(records + q.records(of, name=name_bytes(chain[-1])))]
    return answer


def fails(code):
    return lambda q: [q.reply(code=code)]


def silence(q):
    return []


def late(seconds, entry):
    return lambda q: [(seconds, datagram) for datagram in entry(q)]


def truncated(most, *texts):
    """Over UDP only so many of the addresses."""
    return lambda q: [q.reply(q.records(texts if q.tcp else texts[:most]), flags=ANSWER | (0 if q.tcp else CUT))]


def by_type(a, aaaa):
    """Another answer to the question for IPv6."""
    return lambda q: (aaaa if q.type == AAAA else a)(q)


def after(count, first, then):
    """`first` to so many queries of each type, and then another."""
    had = {}

    def answer(q):
        had[q.type] = had.get(q.type, 0) + 1
        return (first if had[q.type] <= count else then)(q)
    return answer


# ---- replies of those who mean harm

def forged(evil):
    """By name: replies that would have the proxy go to `evil`, and that nobody may believe."""
    pack = ipaddress.ip_address(evil).packed

    def one(q, **how):
        return q.reply([record(A, pack)], **how)

    return only_for_a({
        "another id": lambda q: [one(q, id=q.id ^ 1)],
        "300 other ids": lambda q: [one(q, id=i) for i in random.sample(range(65536), 300) if i != q.id],
        "another question": lambda q: [one(q, question=name_bytes("other.test") + q.question[-4:])],
        "another type asked": lambda q: [one(q, question=q.question[:-4] + struct.pack(">HH", 16, 1))],
        "no question": lambda q: [q.reply([record(A, pack, name=name_bytes(q.name))], question=b"")],
        "another port": lambda q: [Astray(one(q))],
    })


def malformed(good, evil):
    """By name: replies that are broken. Whether an address counts that one holds does not matter:
    it is `good`, what the name had before. What is no address at all would be `evil`."""
    pack, bad = ipaddress.ip_address(good).packed, ipaddress.ip_address(evil).packed

    def one(q, data=pack, **how):
        return [q.reply([record(A, data, **how)])]

    def header(q, *counts):
        return struct.pack(">HHHHHH", q.id, ANSWER, *counts)

    def here(q, further=0):
        """A pointer to the first record's name, or behind it."""
        return struct.pack(">H", 0xc000 + 12 + len(q.question) + further)

    return only_for_a({
        "an address of 3 bytes": lambda q: one(q, bad[:3]),
        "an address of 16 bytes": lambda q: one(q, bad * 4),
        "an address longer than the reply": lambda q: one(q, bad, size=4000),
        "an address behind a record of 65535 bytes": lambda q: [
            q.reply([record(16, b"", size=65535), record(A, bad)])],
        "an address cut off, behind a whole one with another id": lambda q: [
            q.reply([record(A, bad)], id=q.id ^ 1), one(q, bad)[0][:-1]],
        "another name's record": lambda q: one(q, name=name_bytes("other.test")),
        "a record of another net": lambda q: one(q, net=3),
        "a name that points at itself": lambda q: one(q, name=here(q)),
        "names that point at each other": lambda q: one(q, name=here(q, 2) + here(q)),
        "a name that points behind the end": lambda q: one(q, name=b"\xff\xff"),
        "a name that points into the header": lambda q: one(q, name=b"\xc0\x00"),
        "a name without an end": lambda q: [header(q, 1, 1, 0, 0) + q.question + b"\x3f" + b"a" * 20],
        "half a pointer": lambda q: [header(q, 1, 1, 0, 0) + q.question + b"\xc0"],
        "a name of 4000 bytes": lambda q: one(q, name=(b"\x3f" + b"a" * 63) * 62 + b"\0"),
        "a label of a kind that there is not": lambda q: one(q, name=b"\x80\x40aa\0"),
        "an alias of itself": lambda q: [q.reply([record(CNAME, name_bytes(q.name))])],
        "aliases of each other": lambda q: [q.reply([
            record(CNAME, name_bytes("other.test")),
            record(CNAME, name_bytes(q.name), name=name_bytes("other.test"))] * 20)],
        "an alias that points at itself": lambda q: [q.reply([record(CNAME, here(q, 12))])],
        "an alias longer than its record": lambda q: [q.reply([record(CNAME, name_bytes("a" * 50), size=3)])],
        "more records told than there": lambda q: [q.reply(count=65535)],
        "more questions told than there": lambda q: [header(q, 65535, 1, 0, 0) + q.question],
        "all counts are 65535": lambda q: [header(q, 65535, 65535, 65535, 65535)],
        "half a header": lambda q: [q.raw[:7], b"", b"\0"],
        "a header alone": lambda q: [header(q, 1, 1, 0, 0)],
        "half a question": lambda q: [header(q, 1, 1, 0, 0) + q.question[:5]],
        "its own question back": lambda q: [q.raw],
        "noise": lambda q: [os.urandom(random.randrange(1, 600)) for _ in range(30)],
        "noise behind the right id": lambda q: [q.raw[:2] + os.urandom(200) for _ in range(30)],
        "noise behind a good header": lambda q: [header(q, 1, 3, 0, 0) + q.question + os.urandom(100)],
        "60000 bytes": lambda q: [q.reply([record(16, b"x" * 200)] * 280)],
        "a good reply cut anywhere": lambda q: [one(q)[0][:n] for n in range(len(one(q)[0]))],
    })


def only_for_a(table):
    """Nothing is wrong with the answer for IPv6: there is no such address."""
    return {what: by_type(entry, addresses()) for what, entry in table.items()}


# ---- the server

class Dns:
    def __init__(self):
        self.zone, self.asked, self.broken = {}, [], []
        self.over = threading.Event()
        while True:
            self.host = "127.%d.%d.%d" % tuple(random.SystemRandom().randrange(1, 255) for _ in range(3))
            self.udp, self.tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
            try:
                self.udp.bind((self.host, 53))
                self.tcp.bind((self.host, 53))
                break
            except OSError as e:
                self.udp.close()
                self.tcp.close()
                if isinstance(e, PermissionError):
                    raise
        self.astray = socket.socket(type=socket.SOCK_DGRAM)
        self.astray.bind((self.host, 0))
        self.tcp.listen(16)
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        self.thread.join()
        for s in (self.udp, self.tcp, self.astray):
            s.close()
        assert not self.broken, self.broken

    def run(self):
        while not self.over.is_set():
            for s in select.select([self.udp, self.tcp], [], [], 0.05)[0]:
                try:
                    self.by_udp() if s is self.udp else self.by_tcp()
                except Exception as e:
                    self.broken.append(repr(e))

    def answer(self, q):
        self.asked.append(q)
        return self.zone.get(q.name, fails(NXDOMAIN))(q)

    def by_udp(self):
        raw, who = self.udp.recvfrom(4096)
        for datagram in self.answer(Query(raw)):
            seconds, datagram = datagram if isinstance(datagram, tuple) else (0, datagram)
            if seconds:
                timer = threading.Timer(seconds, self.send, (datagram, who))
                timer.daemon = True
                timer.start()
            else:
                self.send(datagram, who)

    def send(self, datagram, who):
        try:
            (self.astray if isinstance(datagram, Astray) else self.udp).sendto(datagram, who)
        except OSError:
            pass                    # who asked is gone, or the server itself

    def by_tcp(self):
        with self.tcp.accept()[0] as s:
            s.settimeout(2)
            f = s.makefile("rb")
            raw = f.read(struct.unpack(">H", f.read(2))[0])
            for datagram in self.answer(Query(raw, tcp=True)):
                s.sendall(struct.pack(">H", len(datagram)) + datagram)

    def times(self, name, kind=A):
        """How often that name was asked for."""
        return sum(q.name == name and q.type == kind for q in list(self.asked))


# ---- what the proxy finds in /etc

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000


def system(outcome):
    if outcome != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Etc:
    def __init__(self, stage, *servers, more="options timeout:1 attempts:2\n", hosts=""):
        self.paths = {name: stage.path(name) for name in ("resolv.conf", "hosts")}
        self.resolv("".join("nameserver %s\n" % getattr(s, "host", s) for s in servers) + more)
        self.hosts(hosts)

    def write(self, name, text):
        with open(self.paths[name], "w") as f:      # the same file: it is mounted already perhaps
            f.write(text)

    def resolv(self, text):
        self.write("resolv.conf", text)

    def hosts(self, text):
        self.write("hosts", text)

    def enter(self):
        """In the child, before it becomes the proxy."""
        system(libc.unshare(CLONE_NEWNS))
        system(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
        for name, path in self.paths.items():
            system(libc.mount(path.encode(), b"/etc/" + name.encode(), None, MS_BIND, None))


def can_unshare():
    """Whether this user may have a mount namespace."""
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.unshare(CLONE_NEWNS) == 0 and
                 libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0
