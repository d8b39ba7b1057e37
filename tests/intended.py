"""The differences between nutcracker and nutproxy that are meant, and nothing else.

A Row tells what differs and why, and fits only that. Three kinds, tried in this order:
    WRITTEN   a request reaches the server in other bytes with the same meaning
    WHOLE     one row explains all that differs in a case
    SINGLE    each reply, and the end of the connection, is explained by itself
`readme` is how README.md says it.
"""
import collections
import re

from beside import CLOSED, OPEN, WAITS, protocol
from beside_cases import MSICK, SICK, key_of, twemproxy_takes
from recorder import Raw

Row = collections.namedtuple("Row", "name reason readme fits")

SPLIT = (b"MGET", b"DEL", b"UNLINK", b"TOUCH", b"MSET")
MERGED = SPLIT[:1] + (b"get", b"gets")
SEVERAL = set(b"""
    BITOP COPY EVAL EVAL_RO EVALSHA EVALSHA_RO FCALL FCALL_RO GEORADIUS GEORADIUSBYMEMBER GEOSEARCHSTORE LCS LMOVE
    LMPOP MSETNX PFCOUNT PFMERGE RENAME RENAMENX RPOPLPUSH SDIFF SDIFFSTORE SINTER SINTERCARD SINTERSTORE SMOVE SORT
    SUNION SUNIONSTORE XREAD XREADGROUP ZDIFF ZDIFFSTORE ZINTER ZINTERCARD ZINTERSTORE ZMPOP ZRANGESTORE ZUNION
    ZUNIONSTORE""".split())
COUNTED = set(b"EVAL EVALSHA ZUNION ZINTER ZDIFF ZUNIONSTORE ZINTERSTORE ZDIFFSTORE".split())
ERROR = re.compile(rb"-[A-Z]+ [^\r\n]+\r\n|ERROR\r\n|(CLIENT|SERVER)_ERROR [^\r\n]+\r\n")
LONGEST_KEY = 16335


class Pair:
    """A case and what came of it on both sides."""

    def __init__(self, case, there, here, home):
        self.case, self.there, self.here = case, there, here
        self.home = lambda key: home(case.pool, key)
        self.redis = protocol(case.pool) == "redis"
        self.one = case.requests[0] if case.requests and len(case.requests) == 1 else None
        self.verbs = [self.verb_of(r) for r in case.requests or ()]
        self.verb = self.verbs[0] if self.one else b""

    def verb_of(self, request):
        return request[0].upper() if self.redis else (request.split() or [b""])[0]

    def hung_up(self):
        """twemproxy closed without a word, and no server heard of it."""
        return self.there.end == CLOSED and not self.there.replies and not any(self.there.servers.values())

    def quiet(self):
        """nutproxy asked no server."""
        return not any(self.here.servers.values())

    def sent(self, side):
        """All requests, whatever the server."""
        return [r for rs in side.servers.values() for r in rs]

    def answer(self):
        """nutproxy's only reply, if the connection stayed."""
        return self.here.replies[0] if self.here.end == OPEN and len(self.here.replies) == 1 else b""

    def error(self):
        return bool(ERROR.fullmatch(self.answer()))

    def asked_one(self):
        """twemproxy passed the request on as it was, to one server, and its reply back."""
        return self.one and self.there.end == OPEN and len(self.there.replies) == 1 and \
            self.sent(self.there) == [self.one]

    def prefix(self):
        """Each server got from twemproxy the beginning of what it got from nutproxy."""
        return all(self.here.servers[n][:len(rs)] == rs for n, rs in self.there.servers.items())

    def taken(self):
        return bool(self.case.requests) and all(map(twemproxy_takes, self.case.requests))


# ---- requests in other bytes

def lower_case(words):
    return (words[0].upper(), *words[1:]) if words[0].upper() in SPLIT else words


def spaced(request):
    line, end, rest = request.partition(b"\r\n")
    return re.sub(rb" +", b" ", line).strip(b" ") + end + rest


def zeroed(request):
    line, end, rest = request.partition(b"\r\n")
    head, *words = line.split(b" ")
    return b" ".join([head] + words[:1] + [re.sub(rb"^0+(?=\d)", b"", w) for w in words[1:]]) + end + rest


def unmuted(request):
    return re.sub(rb" +noreply *\r\n", b"\r\n", request, count=1)


WRITTEN = [
    Row("spelling of parts",
        "twemproxy writes the command of a part in lower case, nutproxy as the table has it",
        "parts keep the spelling of the command", lower_case),
    Row("spaces",
        "memcached lines are written anew with single spaces; twemproxy ends a split get with one",
        "single spaces, no leading zeros, no space behind a split get", spaced),
    Row("noreply",
        "noreply is taken out towards servers, and their answer dropped, so that an unexpected error shifts "
        "nobody's replies",
        "are taken out towards servers, and what they hide is dropped", unmuted),
    Row("leading zeros",
        "numbers of memcached lines are written anew",
        "single spaces, no leading zeros, no space behind a split get", zeroed),
]


# ---- whole cases

def refused(p):
    return p.redis and p.hung_up() and p.quiet() and p.error() and not p.taken() and \
        (p.case.requests is None or p.one)


def broken(p):
    last = p.here.replies[-1:] or [b""]
    return p.redis and p.there.end == CLOSED and not p.there.replies and p.here.end == CLOSED and \
        p.case.requests is None and last[0].startswith(b"-ERR Protocol error: ") and p.here.servers == p.there.servers


def inline(p):
    return p.redis and p.case.requests is None and p.hung_up() and \
        not re.match(rb"\*[1-9]", p.case.data) and (p.here.end == OPEN or b"Protocol error" in p.here.replies[-1])


def pipeline_goes_on(p):
    if not p.case.requests or len(p.case.requests) < 2 or p.there.end != CLOSED or p.there.replies or p.case.sick:
        return False
    refuses = not all(map(twemproxy_takes, p.case.requests)) if p.redis else \
        any(v in (b"foo", b"gat", b"GET") for v in p.verbs)
    return refuses and p.here.end == OPEN and len(p.here.replies) == len(p.case.requests) and p.prefix()


def farewell(p):
    return p.redis and b"QUIT" in p.verbs and \
        p.there.end == p.here.end == CLOSED and p.here.replies == p.there.replies + [b"+OK\r\n"] and \
        p.here.servers == p.there.servers


def more_commands(p):
    return p.redis and p.one and p.hung_up() and not twemproxy_takes(p.one) and p.sent(p.here) == [p.one] and \
        p.answer() != b"" and p.here.servers[p.home(key_of(p.one))] == [p.one]


def answered_here(p):
    return p.redis and p.one and p.hung_up() and not twemproxy_takes(p.one) and p.quiet() and \
        p.verb in (b"PING", b"ECHO", b"SELECT", b"COMMAND", b"AUTH", b"CLIENT", b"CONFIG", b"HELLO", b"RESET", b"TIME") and \
        p.answer() != b"" and not p.error()


def all_servers(p):
    """Asked of all servers, or, for a version or the next keys, of one."""
    if p.redis and p.one and len(p.one) == 2 and p.one[1] == b"HELP" and p.hung_up():
        return p.sent(p.here) == [p.one] and not p.error()
    asked = {b"DBSIZE", b"FUNCTION", b"HELLO", b"INFO", b"KEYS", b"PUBSUB", b"RANDOMKEY", b"SCAN", b"SCRIPT", b"SLOWLOG"}
    return p.redis and p.one and p.hung_up() and not twemproxy_takes(p.one) and p.verb in asked and \
        p.answer() != b"" and not p.error() and all(r[0].upper() in (p.verb, b"INFO") for r in p.sent(p.here))


def command_table(p):
    return p.verb == b"COMMAND" and p.asked_one() and p.quiet() and p.answer().startswith(b"*")


def told_here(p):
    return p.redis and p.asked_one() and p.quiet() and p.error() and p.there.replies == p.here.replies and \
        p.answer().startswith((b"-ERR wrong number of arguments for ", b"-ERR Number of keys can't be greater"))


def bad_count(p):
    return p.redis and p.asked_one() and p.verb in COUNTED and p.quiet() and \
        p.there.replies[0].startswith((b"-ERR ", b"-NOSCRIPT ")) and \
        p.answer().startswith((b"-ERR numkeys is not a number of keys", b"-ERR Number of keys can't be greater",
                               b"-ERR syntax error"))


def crossslot(p):
    return p.redis and p.asked_one() and p.verb in SEVERAL and p.quiet() and p.answer().startswith(b"-CROSSSLOT ")


def exists(p):
    asked = {n: rs for n, rs in p.here.servers.items() if rs}
    parts = [r for rs in asked.values() for r in rs]
    if p.verb != b"EXISTS" or not p.asked_one() or len(parts) != len(asked) or \
            not all(r[0] == b"EXISTS" for r in parts):
        return False
    keys = sorted(k for n, rs in asked.items() for k in rs[0][1:] if p.home(k) == n)
    return p.error() if p.case.sick else keys == sorted(p.one[1:]) and len(parts) > 1 and \
        int(p.answer()[1:]) >= int(p.there.replies[0][1:])


def counted_keys(p):
    return p.verb in (b"ZUNION", b"ZINTER", b"ZDIFF") and p.asked_one() and p.answer() != b"" and \
        p.here.servers[p.home(key_of(p.one))] == [p.one] == p.there.servers[p.home(p.one[1])] and \
        p.sent(p.here) == [p.one] and p.home(p.one[1]) != p.home(key_of(p.one))


def nonsense_passed_on(p):
    return p.redis and p.case.requests is None and p.here.end == CLOSED and \
        any(b"Protocol error" in r for r in p.there.replies) and p.here.replies[-1].startswith(b"-ERR Protocol error: ")


def zero_count(p):
    return p.redis and p.case.data.endswith(b"*01\r\n$4\r\nPING\r\n") and p.there.replies[-1:] == [b"+PONG\r\n"] and \
        p.here.replies[-1].startswith(b"-ERR Protocol error: ") and p.here.servers == p.there.servers


def long_key(p):
    return p.redis and p.hung_up() and p.one and max(map(len, p.one)) > LONGEST_KEY and p.sent(p.here) == [p.one]


def own_failure(p):
    return p.redis and p.one and p.there.end == WAITS and p.there.replies[:1] == [b"-ERR Invalid argument\r\n"] and \
        re.match(rb"-(OOM|LOADING|BUSY) ", p.answer()) and p.sent(p.here) == p.sent(p.there) == [p.one]


def auth_first(p):
    a, b = p.there.servers["ash"], p.here.servers["ash"]
    return p.case.note == "handshake" and p.there.replies == p.here.replies and a[2:] == b[2:] and \
        a[:2] == b[1::-1] == [(b"SELECT", b"2"), (b"AUTH", b"sesame")]


def line_refused(p):
    """One error for the line; what is behind it, if it can not be its data, is lines again."""
    return not p.redis and p.hung_up() and p.quiet() and p.here.replies and p.here.end in (OPEN, CLOSED) and \
        all(map(ERROR.fullmatch, p.here.replies)) and \
        (p.here.end == OPEN or p.case.data[:1] == b"\x80" or len(p.case.data) > 2048) and \
        (len(p.here.replies) == 1 or p.case.data.count(b"\n") >= len(p.here.replies))


def refused_in_silence(p):
    return not p.redis and p.hung_up() and p.quiet() and p.here.end == OPEN and not p.here.replies and \
        re.search(rb" noreply *\r\n", p.case.data)


def get_and_touch(p):
    return not p.redis and p.one and p.hung_up() and p.verb in (b"gat", b"gats") and \
        all(r.startswith(p.verb + b" ") for r in p.sent(p.here)) and p.answer().endswith(b"END\r\n")


def verbosity(p):
    return p.verb == b"verbosity" and p.hung_up() and p.quiet() and p.answer() == b"OK\r\n"


def meta(p):
    """Passed on as it came, or answered here, in the words of meta commands."""
    return not p.redis and p.hung_up() and p.here.end == OPEN and p.verb in (b"mg", b"ms", b"md", b"ma", b"me", b"mn") and \
        (p.sent(p.here) == ([p.one] if p.verb != b"mn" else []) or b"".join(p.sent(p.here)) == p.one) and \
        re.match(rb"(VA \d+|HD|EN|NF|NS|EX|ME|MN)[ \r]", p.here.replies[0])


def stats(p):
    """The servers' stats, added up: all are asked, and nothing but their stats."""
    return not p.redis and p.hung_up() and p.case.data == b"stats\r\n" and set(p.sent(p.here)) == {p.case.data} and \
        re.fullmatch(rb"(STAT \S+ [^\r]*\r\n)+STAT nutproxy_servers \d+\r\nSTAT nutproxy_servers_answered \d+\r\nEND\r\n",
                     b"".join(p.here.replies))


def as_memcached_does(p):
    """A negative exptime, `delete k 0`, a word that is not noreply in its place, `version x`."""
    return not p.redis and p.hung_up() and p.here.end == OPEN and len(p.sent(p.here)) == 1 and \
        p.sent(p.here)[0].split()[0] == p.case.data.split()[0] and \
        re.match(rb"\w+ \S+ \d+ -1 |delete \S+ 0( noreply)?\r\n|.* (norepl|NOREPLY|2)\r\n|version x\r\n",
                 p.case.data) and \
        len(p.here.replies) == (0 if b" noreply\r\n" in p.case.data else 1) and not p.error()


def number_told_here(p):
    return not p.redis and p.asked_one() and p.quiet() and p.error() and p.here.replies == p.there.replies


def number_too_big(p):
    return not p.redis and p.asked_one() and p.quiet() and p.error() and re.search(rb" 4294967296 ", p.case.data)


def endless_length(p):
    return not p.redis and p.quiet() and p.here.replies and \
        p.here.replies[0].startswith(b"SERVER_ERROR object too large") and \
        re.search(rb" 4294967299\r\n", p.case.data)


def order_of_values(p):
    mine, others = (sorted(re.findall(rb"VALUE [^\r]+\r\n[^\r]*\r\n", r)) for r in
                    (b"".join(p.there.replies), p.answer()))
    return not p.redis and p.verb in (b"get", b"gets") and p.there.end == OPEN and len(p.there.replies) == 1 and \
        mine == others != [] and p.answer().endswith(b"END\r\n") and p.there.servers == p.here.servers


def waited(p):
    """The request before waited until the server was down: this one goes elsewhere. There, it is refused as well."""
    return p.case.note == "first failures" and "ejecting" in p.case.pool and p.one and p.there.end == OPEN and \
        not any(p.there.servers.values()) and len(p.there.replies) == 1 and \
        p.there.replies[0].endswith(b" Connection refused\r\n") and p.answer() in (b"$-1\r\n", b"END\r\n") and \
        p.sent(p.here) == [p.one] and not p.here.servers[p.case.sick[0]]


def http(p):
    """Redis says so to an inline command, see above."""
    return not p.redis and p.hung_up() and p.quiet() and p.here.end == CLOSED and \
        re.search(rb" HTTP/1\.[01]\r\n", p.case.data) and p.here.replies == [b"CLIENT_ERROR HTTP is not spoken here\r\n"]


def binary_refused(p):
    return not p.redis and p.hung_up() and p.quiet() and p.case.data[:1] == b"\x80" and \
        len(p.here.replies) == 1 and p.here.replies[0].startswith(b"\x81" + p.case.data[1:2] + bytes(5) + b"\x81")


def control_bytes(p):
    return not p.redis and p.asked_one() and p.quiet() and p.error() and re.search(rb"[\x00-\x08\t\x7f]", p.one)


def line_feed(p):
    return not p.redis and re.search(rb"[^\r]\n", p.case.data) and p.here.end == OPEN and \
        (p.hung_up() or any(re.search(rb"[^\r]\n", r) for r in p.sent(p.there))) and \
        all(b"flush_all" not in r for r in p.sent(p.here))


WHOLE = [
    Row("an error, not the end",
        "an unknown, malformed or unserved command gets an error and the connection stays: clients survive a typo",
        "unknown or malformed commands get an error", refused),
    Row("an error before the end",
        "what is no protocol gets the earlier replies and an error before the end",
        "bytes that are no protocol get the earlier replies, an error, and then the end", broken),
    Row("inline commands",
        "commands without RESP are served as Redis does",
        "every data command of Redis 7.0 and newer, inline commands,", inline),
    Row("the pipeline goes on",
        "a refused command costs no reply of those before and behind it",
        "get an error, and the pipeline goes on", pipeline_goes_on),
    Row("QUIT",
        "QUIT is answered OK, as Redis does",
        "`QUIT` is answered `+OK`", farewell),
    Row("more commands",
        "every data command of Redis 7.0 whose keys are on one server is passed on",
        "every data command of Redis 7.0", more_commands),
    Row("answered here",
        "PING x, ECHO, SELECT, AUTH user password and COMMAND x are answered by the proxy",
        "`HELLO CLIENT INFO PING x ECHO SELECT`, `AUTH user password`", answered_here),
    Row("all servers",
        "what concerns all servers is asked of them, and their replies merged; INFO tells versions",
        "what asks all servers", all_servers),
    Row("COMMAND",
        "COMMAND tells what the proxy serves, not what some server has",
        "`COMMAND` tells what the proxy serves", command_table),
    Row("arity",
        "a wrong number of arguments is told in the server's words without asking it",
        "a wrong number of arguments, or of keys, is told without asking a server", told_here),
    Row("numbers of keys",
        "a number of keys that is none is told without asking a server",
        "a wrong number of arguments, or of keys, is told without asking a server", bad_count),
    Row("CROSSSLOT",
        "keys on several servers are refused: no silently wrong answers",
        "`SUNION a b` over two servers is refused", crossslot),
    Row("EXISTS",
        "EXISTS is split: no silently wrong answers",
        "`EXISTS` is split", exists),
    Row("ZUNION 2 a b",
        "ZUNION, ZINTER and ZDIFF go where their keys are",
        "`ZUNION 2 a b` finds its keys", counted_keys),
    Row("nonsense is not passed on",
        "a length that Redis refuses is refused here, and costs no shared connection",
        "lengths and counts that Redis refuses", nonsense_passed_on),
    Row("*01",
        "a count with leading zeros is refused, as Redis does",
        "(`$01`, `*01`, `*4294967298`) are refused", zero_count),
    Row("long keys",
        "a key may be longer than a buffer",
        "keys of Redis longer than 16335 bytes are served", long_key),
    Row("one error, one request",
        "-OOM, -LOADING and -BUSY of one request end no connection that others share",
        "they end no connection that others share", own_failure),
    Row("AUTH first",
        "AUTH comes before SELECT: data in the right database",
        "AUTH comes before SELECT", auth_first),
    Row("binary protocol",
        "a packet of the binary protocol is answered with one that says that the command is unknown",
        "each packet is answered with its error 0x81 (unknown command)", binary_refused),
    Row("a line refused",
        "malformed and unserved memcached lines get memcached's errors, and the connection stays",
        "a refused line gets memcached's own error", line_refused),
    Row("refused in silence",
        "what is refused with noreply is not answered",
        "(nothing with `noreply`)", refused_in_silence),
    Row("gat",
        "gat and gats are served",
        "`gat`, `gats`, `verbosity`, meta commands", get_and_touch),
    Row("verbosity",
        "verbosity is answered OK and changes nothing",
        "`gat`, `gats`, `verbosity`", verbosity),
    Row("meta commands",
        "meta commands are served",
        "`gat`, `gats`, `verbosity`, meta commands", meta),
    Row("stats",
        "stats are those of all servers, added up",
        "`stats` are the servers' added up,", stats),
    Row("as memcached does",
        "what memcached takes is taken: negative exptime, delete k 0, words in noreply's place",
        "a negative exptime, `delete k 0`, any word in `noreply`'s place", as_memcached_does),
    Row("numbers told here",
        "a number that memcached refuses is refused in its words without asking it",
        "numbers that memcached refuses", number_told_here),
    Row("numbers too big",
        "flags and times beyond 32 bits, which memcached truncates, are refused",
        "(flags and times beyond 32 bits)", number_too_big),
    Row("lengths too big",
        "a length that no item can have is refused, not taken modulo 2**32",
        "lengths that no item has are refused without asking it", endless_length),
    Row("order of values",
        "values of a split get come in the order of the keys asked, misses or not",
        "values of a split get come in the order of the keys asked", order_of_values),
    Row("a request waits",
        "connecting is tried again while a request waits, so the first one finds out that the server is down",
        "a request waits while connecting to its server fails, and is tried again", waited),
    Row("HTTP",
        "a request of HTTP is told that it is at the wrong door, before the end",
        "a request of HTTP gets an error", http),
    Row("control bytes",
        "memcached keys hold no control bytes: no command injection",
        "memcached keys hold no control bytes", control_bytes),
    Row("LF",
        "LF ends a memcached line and is no part of a key: no command injection",
        "LF ends a line", line_feed),
]


# ---- single replies, with servers failing

def told_whether_sent(p, a, b):
    """The same reason, and whether the server can have seen the request."""
    m = re.fullmatch(rb"(-ERR |SERVER_ERROR )([^\r\n]+): the request (was not sent|may have been applied)\r\n", b)
    if not m:
        return False
    reason = {b"Connection closed by server": b"unknown"}.get(m[2], m[2])
    unsent, refused = m[3] == b"was not sent", p.case.note in ("refuses", "first failures")
    half = not unsent and any(v in SPLIT[1:] for v in p.verbs)      # another server may have done its part
    return a == m[1] + reason + b"\r\n" and (unsent == refused or half)


def passed_on(p, a, b):
    """An error of a server, where twemproxy has its own."""
    own = (SICK if p.redis else MSICK).get(p.case.note)
    return a in (b"-ERR Invalid argument\r\n", b"SERVER_ERROR Invalid argument\r\n") and b == own and \
        b[:1] in b"-SE" and (p.case.note in ("OOM", "LOADING", "BUSY") or any(v in SPLIT + MERGED for v in p.verbs))


def half_seen(p, a, b):
    # The end is the server's; or its half is none of what the command is answered with.
    return p.case.note == "half a reply" and b" Connection timed out\r\n" in a and any(
        why + b": the request may have been applied" in b for why in (b"Connection closed by server", b"Invalid argument"))


SINGLE = [
    Row("was it sent?",
        "error texts tell whether the server can have seen the request",
        "error texts end in `: the request was not sent` or `: the request may have been applied`", told_whether_sent),
    Row("a server's error is passed on",
        "an error of a part, and -OOM, -LOADING and -BUSY, are passed on with their reason",
        "an error of a part is passed on, and so are `-OOM`, `-LOADING` and `-BUSY`", passed_on),
    Row("half a reply",
        "a reply cut short is noticed at once, not by the timeout",
        "half a reply and its end are noticed at once", half_seen),
]

# These two are about the end of the connection.
FAILED_GET = Row("a failed part of MGET",
                 "a failed part of MGET or get is an error reply, and the connection stays",
                 "a failed part of `MGET` is an error reply", None)
NEVER_ANSWERED = Row("never answered",
                     "twemproxy says nothing when all parts fail at once",
                     "the client is closed, or gets no answer", None)

# This one is about what servers get beside a request.
SHARED = Row("scripts for all",
             "a script that EVAL brings is loaded on all servers, so that EVALSHA finds it wherever its keys are",
             "a script that `EVAL` brings is loaded on all servers", None)


# ---- the judge

class Judge:
    def __init__(self, home):
        """`home` tells the server of a pool's key."""
        self.home, self.used = home, collections.Counter()

    def explained(self, case, there, here):
        """Whether all that differs is meant; counts the rows that were needed."""
        here, shared = self.unshared(case, here)
        there, rows = self.rewritten(there, here)
        rows += [SHARED] * shared
        if there != here:
            p = Pair(case, there, here, self.home)
            row = next((r for r in WHOLE if r.fits(p)), None)
            more = [row] if row else self.singly(p)
            if not more:
                return False
            rows += more
        self.used.update(row.name for row in rows)
        return True

    def unshared(self, case, here):
        """What our servers got but for scripts that others brought; whether there were any."""
        loads = [(b"SCRIPT", b"LOAD", r[1]) for r in case.requests or ()
                 if isinstance(r, tuple) and len(r) > 1 and r[0].upper() in (b"EVAL", b"EVAL_RO")]
        servers = {n: [r for r in rs if r not in loads] for n, rs in here.servers.items()}
        return here._replace(servers=servers), servers != here.servers

    def rewritten(self, there, here):
        """What twemproxy's servers got, in nutproxy's words where that makes them equal."""
        servers, used = {}, {}
        for n, requests in there.servers.items():
            servers[n] = list(requests)
            others = here.servers.get(n, [])
            for i, (mine, other) in enumerate(zip(requests, others)):
                row_used = []
                for row in () if isinstance(mine, Raw) else WRITTEN[:1] if isinstance(mine, tuple) else WRITTEN[1:]:
                    if mine == other:
                        break
                    again = row.fits(mine)
                    if again != mine:
                        row_used.append(row)
                        mine = again
                if mine == other and row_used:
                    servers[n][i] = mine
                    used.update((row.name, row) for row in row_used)
        return there._replace(servers=servers), list(used.values())

    def singly(self, p):
        """The rows for each reply and the end, or none if anything is left."""
        there, here, rows = p.there, p.here, []
        if there.servers != here.servers or here.end != OPEN or len(here.replies) != len(p.case.requests or ()):
            return []
        gets = any(v in MERGED for v in p.verbs)
        if there.end != OPEN:
            if there.end != CLOSED or not gets or not p.case.sick:
                return []
            rows.append(FAILED_GET)
        elif len(there.replies) != len(here.replies):
            return []
        if not there.replies:
            rows.append(NEVER_ANSWERED)
        for a, b in zip(there.replies, here.replies):
            if a != b:
                row = next((r for r in SINGLE if r.fits(p, a, b)), None)
                if row is None:
                    return []
                rows.append(row)
        return rows


ALL = WRITTEN + WHOLE + SINGLE + [FAILED_GET, NEVER_ANSWERED, SHARED]
