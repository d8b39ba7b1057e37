"""What clients say in memcached's meta protocol, word for word, from what their makers publish: no Debian
package speaks it.  Played, request by request and in pipelines that end with `mn`."""
import base64
import re
import socket

from transcript import PORT, THROUGH, big, show, tell

ODD = base64.b64encode("k\u00e4y \u20ac".encode()).decode()


class Connection:
    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", PORT), 8)
        self.file = self.socket.makefile("rb")

    def answer(self):
        """A line, and the value behind it if it brings one; a cas is whatever the server counts, and time passes."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the connection was closed")
        line = line[:-2]
        got = re.sub(r" ([ct])\d+", r" \1N", line.decode("latin-1"))
        if line.startswith(b"VA "):
            return got, self.file.read(int(line.split()[1]) + 2)[:-2]
        if line.startswith(b"VERSION "):
            return "VERSION"
        if line.startswith(b"STAT "):
            return self.answer() if got.split()[1] not in ("pid", "version") else (got.split()[1], self.answer())
        return " ".join(got.split()[:3]) if "ERROR" in got else got

    def ask(self, line, value=None):
        self.socket.sendall(line.encode() + b"\r\n" + (value + b"\r\n" if value is not None else b""))
        return self.answer()

    def cas(self, key):
        self.socket.sendall(b"mg %s v c\r\n" % key.encode())
        head = self.file.readline()
        self.file.read(int(head.split()[1]) + 2)
        return re.search(rb" c(\d+)", head)[1].decode()

    def step(self, line, value=None, name=None):
        tell(name or line, show(self.ask(line, value)))

    def until_noop(self, name, requests):
        """Quiet requests, and a `mn` behind them: what comes before its MN."""
        self.socket.sendall(b"".join(requests) + b"mn\r\n")
        got = []
        while True:
            answer = self.answer()
            if answer == "MN":
                break
            got.append(answer)
        tell(name, show(sorted(got, key=str)))


def dalli(c):
    c.step("version")
    c.step("ms k 3 c F0 T0 MS", b"yes")
    c.step("mg k v f")
    c.step("mg k v f c")
    c.step("mg none v f")
    c.step("ms new 1 c F0 T0 ME", b"1")
    c.step("ms new 1 c F0 T0 ME", b"2")
    c.step("ms new 2 c F0 T0 MR", b"10")
    c.step("ms none 1 c F0 T0 MR", b"x")
    c.step("ms k 1 F0 MA", b"!")
    c.step("ms k 1 F0 MP", b"?")
    c.step("mg k v f T1000")
    c.step("ma new v D6 MI")
    c.step("ma new v D4 MD")
    c.step("ma counter v D1 J5 N0 MI")
    c.step("ma counter v D1 J5 N0 MI")
    c.step("ma none v D1 MI")
    cas = c.cas("k")
    c.step("ms k 3 c F0 C%s T0 MS" % cas, b"yes", "with its cas")
    c.step("ms k 3 c F0 C%s T0 MS" % cas, b"old", "with a cas of before")
    c.step("md new")
    c.step("md new")
    c.step("ms %s 1 c b F4 T0 MS" % ODD, b"x")
    c.step("mg %s v f b" % ODD)
    c.step("md %s b" % ODD)
    keys = ["%d:key" % i for i in range(200)]
    c.until_noop("set without answers", [b"ms %s 2 c F0 T0 MS q\r\nxy\r\n" % k.encode() for k in keys])
    c.until_noop("get_multi", [b"mg %s v f k q s\r\n" % k.encode() for k in keys + ["none"]])
    c.until_noop("delete without answers", [b"md %s q\r\n" % k.encode() for k in keys])
    c.until_noop("get_multi of none", [b"mg %s v f k q s\r\n" % k.encode() for k in keys])
    c.step("ms big %d c F0 T0 MS" % (900 << 10), big(900 << 10))
    c.step("mg big v f")
    c.step("stats")
    if THROUGH:
        refusal = c.ask("flush_all")
        tell("flush_all", "refused" if refusal.startswith("CLIENT_ERROR") else refusal)
    else:
        tell("flush_all", "refused")
    c.step("mg k v f", name="after flush_all")


def other_clients(c):
    """Flags of caches that fight stampedes, opaques, sizes, and what is wrong."""
    c.step("ms k 3 T100 F7 I O123", b"yes")
    c.step("mg k s f k O7")
    c.step("mg k t v R30")
    c.step("mg lease v N30 t f")
    c.step("mg lease v N30 t f")
    c.step("mg k h v")
    c.step("mg k")
    c.step("mg none")
    c.until_noop("mg none q", [b"mg none q\r\n"])
    c.step("md k I T30")
    c.step("mg k v")
    c.until_noop("md k q", [b"md k q\r\n"])
    c.step("mg " + "k" * 251)
    c.step("mg")
    c.step("ms k x")
    c.step("version", name="after errors")


for play in (dalli, other_clients):
    try:
        play(Connection())
    except (OSError, EOFError, ValueError, TypeError) as e:
        tell(play.__name__, "%s: %s" % (type(e).__name__, e))
