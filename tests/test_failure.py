"""Servers that fail in every way: what clients are told, and what never happens to them.

Never: a reply for another request, a hang beyond the timeout, a request sent twice, a
request sent after its client was told that it was not.
"""
import collections
import random
import re
import socket
import subprocess
import threading
import time

import pytest

from fake import SECONDS, Gone, bulk, number_server, number_servers, wire
from nut import NUTPROXY, SLOW, free_port, pool, wait_for
from resp import command

NOT_SENT = b": the request was not sent\r\n"
MAYBE = b": the request may have been applied\r\n"
REFUSED, TIMED_OUT = b"Connection refused", b"Connection timed out"
CLOSED, RESET = b"Connection closed by server", b"Connection reset by peer"
NEVER = 1000000000              # failures until a server is given up

# How to say the same things in both protocols.
Tongue = collections.namedtuple("Tongue", "name get set stored many value error ping pong read")
BOTH = (
    Tongue(name="redis",
           get=lambda k: command("GET", k),
           set=lambda k, v: command("SET", k, v),
           stored=b"+OK\r\n",
           many=lambda keys: command("MGET", *keys),
           value=lambda k, v: bulk(v),
           error=b"-ERR ",
           ping=command("PING"),
           pong=b"+PONG\r\n",
           read=lambda w: w.frame()),
    Tongue(name="memcached",
           get=lambda k: b"get %s\r\n" % k,
           set=lambda k, v: b"set %s 0 0 %d\r\n%s\r\n" % (k, len(v), v),
           stored=b"STORED\r\n",
           many=lambda keys: b"get %s\r\n" % b" ".join(keys),
           value=lambda k, v: b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (k, len(v), v),
           error=b"SERVER_ERROR ",
           ping=b"verbosity 1\r\n",
           pong=b"OK\r\n",
           read=lambda w: w.answer()))
both = pytest.mark.parametrize("tongue", BOTH, ids=lambda t: t.name)


def ms(number):
    return int(number * SLOW)


def one_pool(stage, servers, tongue=BOTH[0], **keys):
    """A proxy with one pool, patient unless told otherwise."""
    keys = dict({"timeout": ms(20000), "server_failure_limit": NEVER}, **keys)
    return stage.nutproxy({"alpha": pool(servers, tongue.name, **keys)})


def ask(w, tongue, request):
    w.say(request)
    return tongue.read(w)


def alive(w, tongue):
    """The connection is open and owes nothing: the next reply is the next request's."""
    return ask(w, tongue, tongue.ping) == tongue.pong


def total(proxy, field):
    """A counter of the pool's servers, summed."""
    return sum(s[field] for s in proxy.stats()["alpha"].values() if isinstance(s, dict))


def cpu_seconds(process):
    with open("/proc/%d/stat" % process.pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


# ---- what clients are told

@both
def test_a_server_that_cannot_be_reached_is_told_as_not_sent(stage, tongue):
    rows = {"refused": ("127.0.0.1:%d:1" % free_port(), REFUSED),
            "no_path": (stage.path("nobody.sock") + ":1", b"No such file or directory"),
            "no_name": ("%s.invalid:6379:1" % ("x" * 70), b"Host is down")}
    proxy = stage.nutproxy({name: pool([line], tongue.name, server_failure_limit=NEVER)
                            for name, (line, _) in rows.items()})
    wrong = []
    for name, (_, reason) in rows.items():
        with wire(proxy.where(name)) as w:
            for request in (tongue.get(b"a"), tongue.set(b"a", b"1"),
                            tongue.many([b"a", b"b"])) * 2:
                got = ask(w, tongue, request)
                if got != tongue.error + reason + NOT_SENT:
                    wrong.append((name, request, got))
            assert alive(w, tongue)
    assert not wrong


def die_silently(link):
    link.mute = True


def die_by_fin(link):
    link.close()


def die_by_reset(link):
    link.reset()


def mortal(fake, die):
    """Obeys, but dies of every request for the key `bad`; a link once mute stays so."""
    def answer(link, words):
        if b"bad" in words:
            return die(link)
        return None if getattr(link, "mute", False) else fake.obey(words)
    fake.answer = answer


@both
@pytest.mark.parametrize("die, reason", (
    (die_silently, TIMED_OUT),
    (die_by_fin, CLOSED),
    (die_by_reset, RESET)), ids=lambda x: getattr(x, "__name__", ""))
def test_what_a_dying_server_may_have_done_is_told_and_done_at_most_once(
        stage, fakes, tongue, die, reason):
    fake = fakes(protocol=tongue.name)
    mortal(fake, die)
    # One failure is enough here, so that a mute connection is given up.
    proxy = one_pool(stage, [fake], tongue, timeout=ms(300), server_failure_limit=1,
                     probe_interval=ms(50))
    with wire(proxy.where("alpha")) as w:
        for i in range(3):
            began = time.monotonic()
            assert ask(w, tongue, tongue.set(b"bad", b"%d" % i)) == tongue.error + reason + MAYBE
            if die is die_silently:
                assert time.monotonic() - began > 0.28 * SLOW, "before the deadline"
            key, tries = b"good%d" % i, []

            def works():
                tries.append(ask(w, tongue, tongue.set(key + b".%d" % len(tries), b"v")))
                return tries[-1] == tongue.stored
            wait_for("the server to be taken back", works)
            assert all(t.startswith(tongue.error) and t.endswith(NOT_SENT) for t in tries[:-1])
        assert alive(w, tongue)
    sets = [words[1] for words in fake.asked(b"SET") + fake.asked(b"set")]
    assert sets.count(b"bad") == 3
    good = [key for key in sets if key != b"bad"]
    assert len(good) == 3, "nothing that was told as not sent was sent: %s" % good


@both
def test_of_a_pipeline_cut_in_the_middle_each_request_is_told_the_truth(stage, fakes, tongue):
    fake = fakes(protocol=tongue.name)

    def answer(link, words):
        if link is not fake.links[0] or len(fake.seen) <= 3:
            return fake.obey(words)
        return die_by_fin(link) if len(fake.seen) == 6 else None
    fake.answer = answer
    # More than sockets hold, so that some of it cannot have been written.
    keys = [b"k%d" % i for i in range(600)]
    proxy = one_pool(stage, [fake], tongue)
    with wire(proxy.where("alpha")) as w:
        w.say(*(tongue.set(k, k * 5000) for k in keys))
        told = dict(zip(keys, [tongue.read(w) for _ in keys]))
        assert ask(w, tongue, tongue.set(b"last", b"x")) == tongue.stored
    sent = collections.Counter(words[1] for words in fake.seen)
    lies = [(k, t, sent[k]) for k, t in told.items()
            if not (t == tongue.stored and sent[k] == 1 or t.startswith(tongue.error) and
                    (t.endswith(NOT_SENT) and sent[k] == 0 or t.endswith(MAYBE) and sent[k] <= 1))]
    assert not lies, lies[:5]
    # An RST may have taken the first replies with it, but the next three had none.
    assert all(told[k].endswith(MAYBE) for k in keys[3:6])


HALVES = {
    "redis": [b"$10\r\nabc", b"$10\r\n", b"$1", b"*2\r\n$1\r\na\r\n", b"+O", b":1", b"-ER",
              b"$200000\r\n" + b"x" * 100000],
    "memcached": [b"VALUE bad 0 10\r\nabc", b"VALUE bad 0 3\r\nabc\r\n", b"VALUE ba", b"V", b"EN",
                  b"VALUE bad 0 200000\r\n" + b"x" * 100000],
}


def assert_ended_honestly(w, tongue, half):
    """Either one error comes and the connection goes on, or a beginning of a long reply was
    passed on while it came, and then there is nothing left to do but to close."""
    try:
        w.more()
    except Gone:
        assert len(half) > 8192, "closed, and nothing said"
    if w.held.startswith(tongue.error):
        assert w.line().endswith(MAYBE)
        assert w.held == b"", "half a reply behind the error: %r" % w.held[:99]
        assert alive(w, tongue)
    else:
        assert half.startswith(w.rest()), w.held[:99]


@both
def test_half_a_reply_is_never_completed_with_something_else(stage, fakes, tongue):
    fake = fakes(protocol=tongue.name)
    ends = {"FIN later": lambda link: link.close(), "FIN with it": None,
            "reset": lambda link: link.reset()}
    proxy = one_pool(stage, [fake], tongue)
    with wire(proxy.where("alpha")) as other:
        for half in HALVES[tongue.name]:
            for end, act in ends.items():
                def die(link):
                    if act is None:
                        link.finish(half)
                    else:
                        link.say(half)
                        act(link)
                mortal(fake, die)
                with wire(proxy.where("alpha")) as w:
                    w.say(tongue.get(b"bad"))
                    assert_ended_honestly(w, tongue, half)
                assert ask(other, tongue, tongue.set(b"k", half[:9])) == tongue.stored, (half, end)
                assert ask(other, tongue, tongue.get(b"k")) == tongue.value(b"k", half[:9])
    assert len(fake.asked(b"GET") + fake.asked(b"get")) == 2 * len(ends) * len(HALVES[tongue.name])


@both
def test_a_reply_that_comes_together_with_the_end_is_delivered_and_costs_nothing(
        stage, fakes, tongue):
    pair = [fakes(protocol=tongue.name) for _ in range(2)]
    for fake in pair:
        fake.answer = lambda link, words, fake=fake: link.finish(fake.obey(words))
    proxy = one_pool(stage, pair, tongue, auto_eject_hosts=True, server_failure_limit=1, hash="md5")
    with wire(proxy.where("alpha")) as w:
        for i in range(100):
            key = b"k%d" % i
            assert ask(w, tongue, tongue.set(key, key * 2)) == tongue.stored
            assert ask(w, tongue, tongue.get(key)) == tongue.value(key, key * 2)
    stats = proxy.stats()["alpha"]
    assert (stats["server_ejects"], stats["forward_error"]) == (0, 0)
    assert all(fake.store for fake in pair), "both have a share"


# ---- replies that fit no request

@both
@pytest.mark.parametrize("stray", (b"+OK\r\n", b"$5\r\nSTRAY\r\n", b"STORED\r\n", b"\r\n", b"\0",
                                   b"VALUE k0 0 5\r\nSTRAY\r\nEND\r\n"), ids=repr)
def test_a_reply_too_many_closes_the_connection_and_is_for_nobody(stage, fakes, tongue, stray):
    fake = fakes(protocol=tongue.name)

    def answer(link, words):
        return fake.obey(words) + (stray if words[1:2] == [b"twice"] else b"")
    fake.answer = answer
    proxy = one_pool(stage, [fake], tongue)
    fake.store = {b"k%d" % i: b"v%d" % i for i in range(20)}
    with wire(proxy.where("alpha")) as w:
        # It comes with a reply, then it comes out of the blue.
        assert ask(w, tongue, tongue.set(b"twice", b"x")) == tongue.stored
        assert ask(w, tongue, tongue.get(b"k1")) == tongue.value(b"k1", b"v1")
        fake.links[-1].say(stray)
        assert fake.links[-1].over.wait(SECONDS), "the connection is still used"
        for key, value in fake.store.items():
            assert ask(w, tongue, tongue.get(key)) == tongue.value(key, value)
        assert alive(w, tongue)
    assert fake.links[0].over.wait(SECONDS) and len(fake.links) == 3


def misfits():
    """Protocol, request, a reply that cannot be its reply: not in its form, or not of its
    kind. What only fails to fit the other parts of a split command may be told shorter."""
    redis, memcached = BOTH
    for reply in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\1\2\3\r\n", b"$x\r\n", b"*x\r\n",
                  b"$99999999999999999999999\r\n", b"$-7\r\n", b"hello\r\n"):
        yield redis, redis.get(b"bad"), reply
    many = [b"bad"] + [b"k%d" % i for i in range(30)]       # certainly on two servers
    yield redis, redis.many(many), b"$5\r\nWRONG\r\n"
    yield redis, redis.many(many), b"*1\r\n$5\r\nWRONG\r\n"
    yield redis, command("DEL", *many), b"+OK\r\n"
    wrong_value = b"VALUE other 0 5\r\nWRONG\r\nEND\r\n"
    for reply in (wrong_value, b"STORED\r\n", b"DELETED\r\n", b"VALUE\r\n", b"HELLO\r\n", b"\0\r\n",
                  b"VALUE bad 0 x\r\n", b"VALUE bad 0 3\r\nabcde\r\nEND\r\n",
                  b"VALUE bad 0 99999999999999999999\r\n"):
        yield memcached, memcached.get(b"bad"), reply
    yield memcached, memcached.many(many), wrong_value
    yield memcached, memcached.set(b"bad", b"v"), wrong_value.replace(b"other", b"bad")
    yield memcached, b"delete bad\r\n", wrong_value.replace(b"other", b"bad")
    yield memcached, b"incr bad 1\r\n", wrong_value.replace(b"other", b"bad")
    for reply in (b"VA 5 O2\r\nWRONG\r\n", b"VA 5 O\r\nWRONG\r\n", b"HD O11\r\n", b"EN k O2\r\n", b"MN\r\n", b"STORED\r\n",
                  b"VA 3 O1\r\nabcde\r\n", b"VA x\r\n", b"VA\r\n", b"HDX\r\n", wrong_value, b"END\r\n", b"WRONG\r\n"):
        yield memcached, b"mg bad v O1\r\n", reply
        yield memcached, b"mg bad v O1 q\r\n", reply
    yield memcached, b"md bad\r\n", b"HD O1\r\n"
    yield memcached, b"delete bad\r\n", b"HD\r\n"


def test_a_reply_that_cannot_be_the_requests_is_not_delivered_and_nothing_after_it(stage, fakes):
    proxies, wrong = {}, []
    for tongue in BOTH:
        # Two servers, so that a command of many keys is split and its replies are merged.
        pair = [fakes(protocol=tongue.name) for _ in range(2)]
        proxies[tongue] = pair, one_pool(stage, pair, tongue, hash="md5", timeout=ms(3000))
    for tongue, request, reply in misfits():
        pair, proxy = proxies[tongue]
        split = b"k1" in request
        before = [len(fake.links) for fake in pair]
        for fake in pair:
            fake.store = {b"next": b"RIGHT"}

            def answer(link, words, fake=fake):
                return reply + tongue.value(b"next", b"WRONG") if b"bad" in words \
                    else fake.obey(words)
            fake.answer = answer
        with wire(proxy.where("alpha")) as w:
            w.say(request, tongue.get(b"next"))
            try:
                first, second = tongue.read(w), tongue.read(w)
            except Gone:
                wrong.append((request, reply, "closed the client"))
                continue
            # Values of a healthy part may come before the error.
            text = MAYBE if tongue is BOTH[1] or not split else b"\r\n"
            if b"WRONG" in first or not re.search(rb"%s[^\r\n]*%s$" % (tongue.error, text), first):
                wrong.append((request, reply, first))
            if second != tongue.value(b"next", b"RIGHT") and not second.startswith(tongue.error):
                wrong.append((request, reply, "and then", second))
            if ask(w, tongue, tongue.get(b"next")) != tongue.value(b"next", b"RIGHT"):
                wrong.append((request, reply, "and later"))
        spoilt = [link for fake in pair for link in fake.links
                  if any(b"bad" in words for words in link.seen)]
        if not all(link.over.wait(5 * SLOW) for link in spoilt):
            wrong.append((request, reply, "left the connection open"))
        assert [len(fake.links) for fake in pair] != before
    assert not wrong, "\n".join(map(repr, wrong))


# ---- deadlines

def gated(fake, keys=(b"slow",)):
    """Waits at a gate before it answers requests for these keys, as a slow server does."""
    fake.gate = threading.Event()

    def answer(link, words):
        if any(k in words for k in keys):
            assert fake.gate.wait(SECONDS)
        return fake.obey(words)
    fake.answer = answer
    return fake


@both
def test_a_slow_request_times_out_alone_and_its_late_reply_is_for_nobody(stage, fakes, tongue):
    fake = gated(fakes(protocol=tongue.name))
    fake.store = {b"slow": b"SLOW", b"fast": b"FAST", b"then": b"THEN"}
    proxy = one_pool(stage, [fake], tongue, timeout=ms(1000))
    with wire(proxy.where("alpha")) as a, wire(proxy.where("alpha")) as b:
        began = time.monotonic()
        a.say(tongue.get(b"slow"))
        wait_for("the slow request to arrive", lambda: fake.seen)
        time.sleep(0.5 * SLOW)      # the younger request is younger by this much
        b.say(tongue.get(b"fast"))
        assert tongue.read(a) == tongue.error + TIMED_OUT + MAYBE
        assert time.monotonic() - began > 0.95 * SLOW, "before the deadline"
        fake.gate.set()
        assert tongue.read(b) == tongue.value(b"fast", b"FAST")
        for w in (a, b):
            assert ask(w, tongue, tongue.get(b"then")) == tongue.value(b"then", b"THEN")
            assert alive(w, tongue)
    assert len(fake.links) == 1, "the connection was good all the time"
    assert total(proxy, "server_timedout") >= 1


@both
def test_late_replies_to_a_pipeline_are_swallowed_and_the_next_ones_fit(stage, tongue):
    server = getattr(stage, tongue.name)()
    proxy = one_pool(stage, [server], tongue, timeout=ms(700))
    value = lambda i, c: b"%s%d" % (c, i) * (1 + i % 7 * 300)
    with wire(proxy.where("alpha")) as a, wire(proxy.where("alpha")) as b:
        for c in (b"a", b"b"):
            a.say(*(tongue.set(b"%s%d" % (c, i), value(i, c)) for i in range(40)))
            assert [tongue.read(a) for _ in range(40)] == [tongue.stored] * 40
        server.pause()
        try:
            a.say(*(tongue.get(b"a%d" % i) for i in range(40)))
            told = [tongue.read(a) for _ in range(40)]
            b.say(*(tongue.get(b"b%d" % i) for i in range(20)),
                  tongue.many([b"b%d" % i for i in range(20, 40)]))
            time.sleep(0.1 * SLOW)      # most of them have reached the server's socket
        finally:
            server.resume()
        assert set(told) == {tongue.error + TIMED_OUT + MAYBE}
        got = [tongue.read(b) for _ in range(20)]
        assert got == [tongue.value(b"b%d" % i, value(i, b"b")) for i in range(20)]
        many = tongue.read(b)
        assert all(value(i, b"b") in many for i in range(20, 40)), many[:200]
        assert ask(a, tongue, tongue.get(b"a1")) == tongue.value(b"a1", value(1, b"a"))
        assert alive(a, tongue) and alive(b, tongue)


def test_a_request_without_reply_shifts_nothing_when_it_is_slow_or_lost(stage, fakes):
    tongue = BOTH[1]
    fake = gated(fakes(protocol="memcached"))
    proxy = one_pool(stage, [fake], tongue, timeout=ms(400))
    fake.store = {b"k": b"RIGHT"}
    with wire(proxy.where("alpha")) as w:
        w.say(b"set slow 0 0 1 noreply\r\nx\r\n", tongue.get(b"k"), tongue.ping)
        assert tongue.read(w) == tongue.error + TIMED_OUT + MAYBE
        assert tongue.read(w) == tongue.pong
        fake.gate.set()
        w.say(b"set k 0 0 5 noreply\r\nAGAIN\r\n", tongue.get(b"k"))
        assert tongue.read(w) == tongue.value(b"k", b"AGAIN")
        fake.down()
        w.say(b"set k 0 0 1 noreply\r\nx\r\n" * 3, tongue.ping)
        assert tongue.read(w) == tongue.pong, "no error for a request without reply"
        fake.up()
        wait_for("the server to work again",
                 lambda: ask(w, tongue, tongue.get(b"k")) == tongue.value(b"k", b"AGAIN"))


def test_what_timed_out_during_the_handshake_was_not_sent_and_never_is(stage, fakes):
    fake = gated(fakes(), [b"SELECT"])
    proxy = one_pool(stage, [fake], timeout=ms(400), redis_db=5)
    with wire(proxy.where("alpha")) as w:
        w.say(*(command("INCR", "lost%d" % i) for i in range(5)))
        assert set(w.frames(5)) == {b"-ERR " + TIMED_OUT + NOT_SENT}
        fake.gate.set()
        wait_for("the server to work", lambda: w.ask("INCR", "kept")[:1] == b":")
    assert not [words for words in fake.asked(b"INCR") if words[1].startswith(b"lost")]


@both
def test_what_timed_out_while_connecting_was_not_sent_and_never_is(stage, fakes, tongue):
    fake = fakes(protocol=tongue.name, welcoming=False)
    with socket.create_connection((fake.host, fake.port)):      # now nobody else gets in
        proxy = one_pool(stage, [fake], tongue, timeout=ms(400))
        with wire(proxy.where("alpha")) as w:
            w.say(*(tongue.set(b"lost%d" % i, b"v") for i in range(5)))
            assert {tongue.read(w) for _ in range(5)} == \
                {tongue.error + TIMED_OUT + NOT_SENT}
            fake.open()
            wait_for("the server to be reached",
                     lambda: ask(w, tongue, tongue.set(b"kept", b"v")) == tongue.stored)
    assert not [words for words in fake.seen if words[1:2] and words[1].startswith(b"lost")]


@both
def test_what_timed_out_before_a_full_socket_was_told_the_truth(stage, fakes, tongue):
    fake = gated(fakes(protocol=tongue.name))
    proxy = one_pool(stage, [fake], tongue, timeout=ms(700))
    # More than sockets hold: the last ones wait in the proxy when their time is up.
    keys = [b"slow"] + [b"k%d" % i for i in range(719)]
    wires = [wire(proxy.where("alpha")) for _ in range(12)]
    speakers = [threading.Thread(target=w.say, args=[tongue.set(k, k * 5000) for k in keys[i::12]])
                for i, w in enumerate(wires)]
    for speaker in speakers:
        speaker.start()
    told = {}
    for i in reversed(range(12)):
        for k in keys[i::12]:
            told[k] = tongue.read(wires[i])
            fake.gate.set()                     # from the first error on it reads all that comes
    for speaker in speakers:
        speaker.join(SECONDS)
    wait_for("the server to work again",
             lambda: ask(wires[0], tongue, tongue.set(b"last", b"x")) == tongue.stored)
    for w in wires:
        w.close()
    sent = collections.Counter(words[1] for words in fake.seen)
    assert all(t.startswith(tongue.error) for k, t in told.items() if k == b"slow")
    lies = [(k, t, sent[k]) for k, t in told.items()
            if sent[k] > 1 or t.endswith(NOT_SENT) and sent[k] > 0 or
            t == tongue.stored and sent[k] == 0]
    assert not lies, lies[:5]
    assert {t for t in told.values() if t != tongue.stored} <= \
        {tongue.error + TIMED_OUT + NOT_SENT, tongue.error + TIMED_OUT + MAYBE}


@pytest.mark.parametrize("hangs", (True, False), ids=("the next connection hangs", "the next connection works"))
def test_who_was_told_that_time_is_up_is_not_asked_again_when_the_connection_is_lost(stage, fakes, hangs):
    """Nor is the younger one harmed, that waits behind and is asked again: it has its answer, or its own deadline."""
    gates = {b"slow": threading.Event(), b"SELECT": threading.Event()}

    def answer(link, words):
        if words[0] != b"SELECT" or link is not fake.links[0]:
            for gate in set(words) & set(gates):
                assert gates[gate].wait(SECONDS)
        return fake.obey(words)

    fake = fakes(answer)
    fake.door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    fake.store = {b"young": b"YOUNG"}
    if not hangs:
        gates[b"SELECT"].set()
    proxy = one_pool(stage, [fake], timeout=ms(1000), connect_timeout=ms(20000), redis_db=5)
    slow, half, late, young = wires = [wire(proxy.where("alpha")) for _ in range(4)]
    slow.say(command("GET", "slow"))
    wait_for("it to be asked", lambda: fake.count(b"GET", b"slow"))
    half.say(command("SET", "half", b"v" * 8000000))        # more than sockets hold
    time.sleep(0.2 * SLOW)
    late.say(command("SET", "late", "v"))
    time.sleep(0.5 * SLOW)                  # the younger request is younger by this much
    began = time.monotonic()
    young.say(command("GET", "young"))
    for w in (slow, half, late):
        assert w.frame() == b"-ERR " + TIMED_OUT + MAYBE
    fake.links[0].reset()
    if hangs:
        assert young.frame() == b"-ERR " + TIMED_OUT + NOT_SENT
        assert 0.95 * SLOW < time.monotonic() - began < 1.4 * SLOW, "its own deadline"
        gates[b"SELECT"].set()
    else:
        assert young.frame() == bulk(b"YOUNG")
    wait_for("the server to work", lambda: young.ask("GET", "young") == bulk(b"YOUNG"))
    gates[b"slow"].set()
    assert not fake.asked(b"SET") and fake.count(b"GET", b"slow") == 1
    assert len(fake.links) == 2
    for w in wires:
        assert alive(w, BOTH[0])
        w.close()


def test_without_a_timeout_key_it_is_five_seconds_and_zero_is_for_ever(stage, fakes):
    fake = gated(fakes())
    fake.store = {b"slow": b"SLOW"}
    proxy = stage.nutproxy({"usual": pool([fake]), "patient": pool([fake], timeout=0)})
    with wire(proxy.where("usual")) as usual, wire(proxy.where("patient")) as patient:
        began = time.monotonic()
        usual.say(command("GET", "slow"))
        patient.say(command("GET", "slow"))
        assert usual.frame() == b"-ERR " + TIMED_OUT + MAYBE
        assert 4.9 < time.monotonic() - began < 5 + 5 * SLOW
        fake.gate.set()
        assert patient.frame() == bulk(b"SLOW")


# ---- handshake

def test_every_connection_says_auth_then_select_then_what_clients_ask(stage, fakes):
    fake = fakes()
    proxy = one_pool(stage, [fake], redis_auth="sesame", redis_db=3, server_connections=3)
    for _ in range(2):
        wires = [wire(proxy.where("alpha")) for _ in range(9)]
        for w in wires:
            w.say(command("AUTH", "sesame"), command("SET", "k", "v"), command("GET", "k"))
        for w in wires:
            assert w.frames(3) == [b"+OK\r\n", b"+OK\r\n", bulk(b"v")]
            w.close()
        fake.drop()
        wait_for("the connections to end",
                 lambda: all(link.over.is_set() for link in fake.links))
        wait_for("the proxy to notice", lambda: total(proxy, "server_connections") == 0)
    used = [link.seen for link in fake.links if link.seen]
    assert len(used) >= 2
    for seen in used:
        assert seen[:2] == [[b"AUTH", b"sesame"], [b"SELECT", b"3"]]
        assert {words[0] for words in seen[2:]} <= {b"SET", b"GET"}


@pytest.mark.parametrize("verb, refusal", (
    (b"AUTH", b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
    (b"SELECT", b"-ERR DB index is out of range\r\n")))
def test_a_server_that_refuses_the_handshake_gets_no_request(stage, fakes, verb, refusal):
    fake = fakes()
    willing = threading.Event()

    def answer(link, words):
        return refusal if words[0] == verb and not willing.is_set() else fake.obey(words)
    fake.answer = answer
    proxy = one_pool(stage, [fake], redis_auth="sesame", redis_db=3, probe_interval=ms(50))
    with wire(proxy.where("alpha")) as w:
        assert w.ask("AUTH", "sesame") == b"+OK\r\n"
        for words in (("INCR", "n"), ("MSET", "a", "1", "b", "2"), ("GET", "n")):
            got = w.ask(*words)
            assert got.startswith(b"-") and got.endswith(NOT_SENT), got
        assert {words[0] for words in fake.seen} <= {b"AUTH", b"SELECT", b"PING"}
        willing.set()
        wait_for("the server to be used", lambda: w.ask("INCR", "m")[:1] == b":")
    assert fake.count(b"INCR", b"n") == 0, "it was told as not sent"


# ---- errors that servers tell

@pytest.mark.parametrize("error", (
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL.\r\n",
    b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    b"-READONLY You can't write against a read only replica.\r\n", b"-X\r\n"), ids=repr)
def test_an_error_of_a_server_is_passed_on_word_by_word_and_disturbs_nobody(stage, fakes, error):
    pair = [fakes() for _ in range(2)]
    for fake in pair:
        fake.answer = lambda link, words, fake=fake: error if b"bad" in words else fake.obey(words)
    proxy = one_pool(stage, pair, hash="md5")
    with wire(proxy.where("alpha")) as w, wire(proxy.where("alpha")) as other:
        for i in range(20):
            w.say(command("GET", "bad"))
            other.say(command("SET", "k%d" % i, "v%d" % i), command("GET", "k%d" % i))
            assert w.frame() == error
            assert other.frames(2) == [b"+OK\r\n", bulk(b"v%d" % i)]
        # One part of many fails: the whole does, with the part's text.
        keys = ["k%d" % i for i in range(20)]
        assert w.ask("MGET", "bad", *keys) == error
        assert w.ask("DEL", *keys, "bad") == error
        assert w.ask("MSET", *(x for k in ["bad"] + keys for x in (k, "v"))) == error
        assert w.ask("PING") == b"+PONG\r\n"


def test_a_full_server_fails_its_part_of_mset_in_its_own_words(stage):
    servers = [stage.redis() for _ in range(3)]
    proxy = one_pool(stage, servers, hash="md5")
    keys = ["k%d" % i for i in range(60)]
    full, direct = servers[1], wire(("127.0.0.1", servers[1].port))
    assert direct.ask("CONFIG", "SET", "maxmemory", "1") == b"+OK\r\n"
    refusal = direct.ask("SET", "k", "v")
    assert refusal.startswith(b"-OOM ")
    with wire(proxy.where("alpha")) as w, direct:
        assert w.ask("MSET", *(x for k in keys for x in (k, k + "v"))) == refusal
        held = {s: {k.decode() for k in s.client().keys()} for s in servers}
        assert not held[full] and 10 < sum(map(len, held.values())) < len(keys)
        for k in keys:
            want = bulk(k.encode() + b"v") if any(k in h for h in held.values()) else bulk(None)
            assert w.ask("GET", k) == want
        assert direct.ask("CONFIG", "SET", "maxmemory", "0") == b"+OK\r\n"
        assert w.ask("MSET", *(x for k in keys for x in (k, "new"))) == b"+OK\r\n"
        assert w.ask("MGET", *keys) == b"*60\r\n" + bulk(b"new") * 60


# ---- commands of many parts

def test_when_one_server_is_dead_commands_of_many_keys_fail_whole_and_the_rest_works(stage):
    servers = [stage.redis() for _ in range(4)]
    keys = [b"k%d" % i for i in range(80)]
    number_servers(servers, keys)
    proxy = one_pool(stage, servers, hash="md5")
    with wire(proxy.where("alpha")) as w:
        place = {k: int(w.ask("GET", k)[4:6]) for k in keys}
        dead = [k for k in keys if place[k] == 2]
        mixed, sound = keys, [k for k in keys if place[k] != 2]
        assert dead and len(set(place.values())) == 4
        servers[2].kill()
        refused = b"-ERR " + REFUSED + NOT_SENT
        wait_for("the death to be noticed", lambda: w.ask("GET", dead[0]) == refused)
        half_done = b"-ERR " + REFUSED + b": the request may have been applied\r\n"
        for told, words in (([refused], ["MGET", *mixed]), ([refused], ["EXISTS", *mixed]),
                            ([refused], ["TOUCH", *mixed]),
                            ([half_done], ["MSET", *(x for k in mixed for x in (k, b"new"))]),
                            ([refused], ["MGET", *mixed[::-1]]), ([refused], ["DEL", *dead]),
                            ([refused, half_done], ["UNLINK", b"nosuch", *dead]),       # wherever that one is
                            ([refused, half_done], ["DEL", *dead, b"nosuch"])):
            assert w.ask(*words) in told, words[0]
            # The reply of another kind of command proves that nothing is left over.
            assert w.ask("ECHO", words[0]) == bulk(words[0].encode())
        assert w.ask("MGET", *sound) == b"*%d\r\n" % len(sound) + bulk(b"new") * len(sound), \
            "parts for living servers were done"
        assert w.ask("DEL", *sound) == b":%d\r\n" % len(sound)


def test_when_one_memcached_is_dead_a_get_of_many_ends_with_an_error_not_with_end(stage):
    tongue = BOTH[1]
    servers = [stage.memcached() for _ in range(3)]
    keys = [b"k%d" % i for i in range(60)]
    number_servers(servers, keys, "memcached")
    proxy = one_pool(stage, servers, tongue, hash="md5")
    refused = tongue.error + REFUSED + NOT_SENT
    with wire(proxy.where("alpha")) as w:
        place = {k: int(w.tell(tongue.get(k)).split()[4]) for k in keys}
        assert len(set(place.values())) == 3
        servers[1].kill()
        dead = next(k for k in keys if place[k] == 1)
        wait_for("the death to be noticed", lambda: w.tell(tongue.get(dead)) == refused)
        for request in (tongue.many(keys), tongue.many(keys[::-1]),
                        b"gets %s\r\n" % b" ".join(keys), b"gat 0 %s\r\n" % b" ".join(keys)):
            # Values may come before the error; an END would say that the rest is missing.
            assert w.tell(request).endswith(refused)
            assert alive(w, tongue)
        sound = [k for k in keys if place[k] != 1]
        values = re.findall(rb"VALUE (\S+) 0 2\r\n(\d\d)\r\n", w.tell(tongue.many(sound)))
        assert values == [(k, b"%02d" % place[k]) for k in sound]


@both
def test_a_part_that_is_late_or_lost_fails_the_whole_once_and_is_for_nobody_later(
        stage, fakes, tongue):
    pair = [gated(fakes(protocol=tongue.name), [b"k%d" % i for i in range(40)]) for _ in range(2)]
    proxy = one_pool(stage, pair, tongue, timeout=ms(500), hash="md5")
    keys = [b"k%d" % i for i in range(40)]
    later = [b"n%d" % i for i in range(40)]
    for fake in pair:
        fake.store = {k: b"=" + k for k in keys + later}
    with wire(proxy.where("alpha")) as w:
        pair[0].gate.set()                      # one part is answered, the other is not
        assert ask(w, tongue, tongue.many(keys)).endswith(TIMED_OUT + MAYBE)
        w.say(tongue.many(later), tongue.ping)
        pair[1].gate.set()
        got = tongue.read(w)
        assert [got.find(b"\r\n=%s\r\n" % k) > 0 for k in later] == [True] * 40, got
        assert got.find(b"=k") < 0 and tongue.read(w) == tongue.pong
        for fake in pair:
            mortal(fake, die_by_fin)
        for many in ([b"bad"] + later, later + [b"bad"]):
            assert ask(w, tongue, tongue.many(many)).endswith(CLOSED + MAYBE)
        assert sum(b"bad" in words for fake in pair for words in fake.seen) == 2, "once each"
        assert ask(w, tongue, tongue.get(b"n1")) == tongue.value(b"n1", b"=n1")
        assert alive(w, tongue)


# ---- ejection and return

@both
def test_a_dead_server_is_ejected_at_its_limit_and_taken_back_by_a_probe(stage, tongue):
    servers = [getattr(stage, tongue.name)() for _ in range(4)]
    keys = [b"k%d" % i for i in range(120)]
    number_servers(servers, keys, tongue.name)
    limits, retry = (1, 2, 5), 0.3 * SLOW
    proxy = stage.nutproxy({"limit%d" % n: pool(
        servers, tongue.name, hash="md5", auto_eject_hosts=True, server_failure_limit=n,
        server_retry_timeout=ms(300), probe_interval=ms(100)) for n in limits})
    wires = {n: wire(proxy.where("limit%d" % n)) for n in limits}

    def places(n):
        w = wires[n]
        w.say(*(tongue.get(k) for k in keys))
        return {k: tongue.read(w) for k in keys}

    whole = {n: places(n) for n in limits}
    assert whole[1] == whole[2] == whole[5]
    victim = next(n for n in range(4) if whole[1][keys[0]] == tongue.value(keys[0], b"%02d" % n))
    mine = [k for k in keys if whole[1][k] == tongue.value(k, b"%02d" % victim)]
    servers[victim].kill()
    gone = time.time()
    outside = {}
    for n in limits:
        told = []
        while (got := ask(wires[n], tongue, tongue.get(mine[0]))).startswith(tongue.error):
            told.append(got)
            assert len(told) <= n, told
        # A request waits while connecting is tried again, as often as makes the limit.
        assert told and all(t.endswith((NOT_SENT, MAYBE)) for t in told), told
        outside[n] = places(n)
        for k in keys:
            if k in mine:
                assert outside[n][k] in [tongue.value(k, b"%02d" % s)
                                         for s in range(4) if s != victim]
            else:
                assert outside[n][k] == whole[n][k], "keys of healthy servers stay"
    end = time.monotonic() + 5 * retry          # the probes of several periods fail
    while time.monotonic() < end:
        for n in limits:
            assert places(n) == outside[n], "a client paid for a probe"
    for n in limits:
        stats = proxy.stats()["limit%d" % n]
        ejected_at = [s["server_ejected_at"] for s in stats.values() if isinstance(s, dict)]
        assert stats["server_ejects"] == 1, "ejected once, and not again by each probe"
        assert sum(at > 0 for at in ejected_at) == 1
        assert gone - 1 <= max(ejected_at) / 1e6 <= time.time() + 1
    servers[victim].start()
    number_server(servers[victim], victim, keys, tongue.name)
    for n in limits:
        wait_for("the keys to come home", lambda: places(n) == whole[n])


@both
def test_without_ejection_a_dead_server_fails_fast_and_no_client_is_its_probe(stage, fakes, tongue):
    sick, sound = fakes(protocol=tongue.name), fakes(protocol=tongue.name)
    proxy = one_pool(stage, [sick, sound], tongue, server_failure_limit=2,
                     probe_interval=ms(100), hash="md5")
    keys = [b"k%d" % i for i in range(40)]
    with wire(proxy.where("alpha")) as w:
        for k in keys:
            assert ask(w, tongue, tongue.set(k, b"=" + k)) == tongue.stored
        mine, others = sorted(sick.store), sorted(sound.store)
        assert mine and others and len(mine + others) == len(keys)
        whole = {k: ask(w, tongue, tongue.get(k)) for k in keys}

        def die(link, words):
            link.close()
        sick.answer = die
        sick.seen.clear()
        for _ in range(2):
            assert ask(w, tongue, tongue.get(mine[0])).endswith(CLOSED + MAYBE)
        probe = [b"PING"] if tongue.name == "redis" else [b"version"]
        began = time.monotonic()

        def nobody_asks_it_but_probes(more):
            probes = sick.count(*probe) + more
            while sick.count(*probe) < probes:
                for k in others:
                    assert ask(w, tongue, tongue.get(k)) == whole[k], "the healthy server"
                for k in mine:
                    got = ask(w, tongue, tongue.get(k))
                    assert got.startswith(tongue.error) and got.endswith(NOT_SENT), got
                assert time.monotonic() - began < SECONDS, "no probes: %s" % sick.seen
            assert all(words == probe for words in sick.seen[2:]), sick.seen[:9]
        nobody_asks_it_but_probes(8)
        took = time.monotonic() - began
        assert sick.count(*probe) <= took / (0.1 * SLOW) * 1.5 + 2, "a storm of probes"
        if tongue.name == "redis":
            for refusal in (b"-LOADING Redis is loading the dataset in memory\r\n",
                            b"-MASTERDOWN Link with MASTER is down\r\n"):
                sick.answer = lambda link, words, refusal=refusal: refusal
                nobody_asks_it_but_probes(3)
        sick.answer = lambda link, words: sick.obey(words)
        wait_for("the server to be taken back",
                 lambda: ask(w, tongue, tongue.get(mine[0])) == whole[mine[0]])
        assert {k: ask(w, tongue, tongue.get(k)) for k in keys} == whole
    assert proxy.stats()["alpha"]["server_ejects"] == 0


@both
def test_only_failures_in_a_row_eject_and_a_lost_connection_is_one_failure(stage, fakes, tongue):
    pair = [fakes(protocol=tongue.name) for _ in range(2)]
    for fake in pair:
        mortal(fake, die_by_fin)
    proxy = one_pool(stage, pair, tongue, auto_eject_hosts=True, server_failure_limit=2,
                     hash_tag="{}", hash="md5", server_retry_timeout=ms(300), probe_interval=50)
    # The key `bad` and the key `{bad}` live on the same server.
    good, closed = tongue.get(b"{bad}"), CLOSED + MAYBE
    with wire(proxy.where("alpha")) as w:
        missing = ask(w, tongue, good)
        for _ in range(10):
            assert ask(w, tongue, tongue.get(b"bad")).endswith(closed)
            assert ask(w, tongue, good) == missing
        w.say(tongue.get(b"bad") * 10)
        told = [tongue.read(w) for _ in range(10)]
        assert {t.startswith(tongue.error) for t in told} == {True}
        assert ask(w, tongue, good) == missing
        assert proxy.stats()["alpha"]["server_ejects"] == 0
        assert ask(w, tongue, tongue.get(b"bad")).endswith(closed)
        assert ask(w, tongue, tongue.get(b"bad")).endswith(closed)
        assert proxy.stats()["alpha"]["server_ejects"] == 1


@both
def test_a_pool_of_one_server_is_ejected_and_taken_back_too(stage, tongue):
    server = getattr(stage, tongue.name)()
    proxy = one_pool(stage, [server], tongue, auto_eject_hosts=True, server_failure_limit=2,
                     server_retry_timeout=ms(200), probe_interval=ms(50))
    with wire(proxy.where("alpha")) as w:
        for _ in range(2):
            assert ask(w, tongue, tongue.set(b"k", b"v")) == tongue.stored
            server.kill()
            told = [ask(w, tongue, tongue.get(b"k")) for _ in range(200)]
            assert all(t.startswith(tongue.error) and t.endswith((NOT_SENT, MAYBE)) for t in told)
            assert all(t.endswith(NOT_SENT) for t in told[2:])
            server.start()
            wait_for("the server to be taken back",
                     lambda: ask(w, tongue, tongue.set(b"k", b"v")) == tongue.stored)
    assert proxy.stats()["alpha"]["server_ejects"] == 2


@both
@pytest.mark.parametrize("eject", (True, False), ids=("ejecting", "keeping"))
def test_when_all_servers_are_dead_everything_is_answered_at_once_and_in_order(
        stage, tongue, eject):
    dead = ["127.0.0.1:%d:1" % free_port() for _ in range(3)]
    proxy = one_pool(stage, dead, tongue, auto_eject_hosts=eject, server_failure_limit=2)
    with wire(proxy.where("alpha")) as w:
        keys = [b"k%d" % i for i in range(50)]
        began = time.monotonic()
        for _ in range(3):
            requests = [x for k in keys for x in (tongue.get(k), tongue.ping, tongue.set(k, k),
                                                  tongue.many(keys), tongue.ping)]
            w.say(*requests)
            for request in requests:
                got = tongue.read(w)
                if request == tongue.ping:
                    assert got == tongue.pong
                else:
                    assert got.startswith(tongue.error) and got.endswith(NOT_SENT), got
        assert time.monotonic() - began < 10 * SLOW
        assert alive(w, tongue)
    assert proxy.stats()["alpha"]["forward_error"] >= 3 * 50 * 3


def test_many_servers_that_die_together_do_not_hold_up_another_pool(stage, fakes):
    """Each of them is ejected, but the points of those that are left are not placed anew for each."""
    dead, count = free_port(), 600
    proxy = stage.nutproxy({
        "alpha": pool(["127.77.%d.%d:%d:1" % (i // 200, i % 200 + 1, dead) for i in range(count)],
                      hash="md5", auto_eject_hosts=True, server_failure_limit=1, timeout=ms(5000),
                      server_retry_timeout=ms(60000), probe_interval=ms(60000)),
        "beta": pool([fakes()])})
    told = []

    def flood():
        with wire(proxy.where("alpha")) as w:
            speaker = threading.Thread(target=w.say, args=[command("GET", "k%d" % i) for i in range(8 * count)])
            speaker.start()
            told.extend(w.frame() for _ in range(8 * count))
            speaker.join()

    with wire(proxy.where("beta")) as w:
        assert w.ask("GET", "k") == bulk(None)
        flooder, waits = threading.Thread(target=flood), []
        flooder.start()
        while flooder.is_alive() or len(waits) < 100:
            began = time.monotonic()
            assert w.ask("GET", "k") == bulk(None)
            waits.append(time.monotonic() - began)
            time.sleep(0.005)
    assert len(told) == 8 * count and {reply[:5] for reply in told} == {b"-ERR "}
    assert proxy.stats()["alpha"]["server_ejects"] > count / 2
    assert max(waits) < 1 * SLOW, max(waits)


# ---- closing while idle

@both
def test_a_server_that_closes_idle_connections_costs_nobody_an_error(stage, fakes, tongue):
    pair = [fakes(protocol=tongue.name) for _ in range(2)]
    proxy = one_pool(stage, pair, tongue, auto_eject_hosts=True, server_failure_limit=1, hash="md5")
    with wire(proxy.where("alpha")) as w:
        for i in range(20):
            for n in range(24):
                key = b"k%d" % n
                assert ask(w, tongue, tongue.set(key, b"v%d" % i)) == tongue.stored
                assert ask(w, tongue, tongue.get(key)) == tongue.value(key, b"v%d" % i)
            for fake in pair:
                fake.drop()
            wait_for("the proxy to notice", lambda: total(proxy, "server_connections") == 0)
    stats = proxy.stats()["alpha"]
    assert (stats["server_ejects"], stats["forward_error"]) == (0, 0)
    assert total(proxy, "server_eof") == 40 and total(proxy, "server_err") == 0


@both
def test_a_close_that_crosses_with_a_request_costs_no_error_while_nothing_was_sent(
        stage, fakes, tongue):
    fake = fakes(protocol=tongue.name)
    proxy = one_pool(stage, [fake], tongue, auto_eject_hosts=True, server_failure_limit=1)
    with wire(proxy.where("alpha")) as w, wire(proxy.where("alpha")) as other:
        assert ask(w, tongue, tongue.set(b"k", b"0")) == tongue.stored
        assert alive(other, tongue)

        def crossing(*events):
            """The proxy, stopped meanwhile, hears of all of these at once."""
            proxy.pause()
            for event in events:
                event()
            time.sleep(0.01)
            proxy.resume()

        for i in range(1, 21):
            def say():
                w.say(tongue.set(b"k", b"%d" % i), tongue.get(b"k"))
                other.say(tongue.get(b"k%d" % i))
            crossing(*((say, fake.drop) if i % 2 else (fake.drop, say)))
            assert tongue.read(w) == tongue.stored
            assert tongue.read(w) == tongue.value(b"k", b"%d" % i)
            assert tongue.read(other) == {"redis": b"$-1\r\n"}.get(tongue.name, b"END\r\n")
        stats = proxy.stats()["alpha"]
        assert (stats["server_ejects"], stats["forward_error"]) == (0, 0)
        # Where there is no server any more the error tells that nothing was sent.
        crossing(lambda: w.say(tongue.set(b"lost", b"x")), fake.down)
        assert tongue.read(w) == tongue.error + REFUSED + NOT_SENT
    sent = collections.Counter(tuple(words) for words in fake.seen if words[0].lower() == b"set")
    assert len(sent) == 21 and set(sent.values()) == {1}, sent


@pytest.mark.parametrize("limit", (2, NEVER))
def test_who_waits_for_a_server_that_hangs_up_on_each_greeting_is_told_soon(stage, fakes, limit):
    """Whichever connection finds out, and in whichever worker: all who wait are told, and few connects are made."""
    def hang_up(link, words):
        raise Gone

    fake = fakes(hang_up)
    proxy = stage.nutproxy({"nutproxy": {"workers": 2},
                            "alpha": pool([fake], redis_db=2, server_connections=3, timeout=ms(20000),
                                          server_failure_limit=limit, probe_interval=ms(20000))})
    wires = [wire(proxy.where("alpha")) for _ in range(12)]
    began = time.monotonic()
    for _ in range(3):
        for w in wires:
            w.say(command("GET", "k") * 3)
        assert {reply for w in wires for reply in w.frames(3)} == {BOTH[0].error + CLOSED + NOT_SENT}
    assert time.monotonic() - began < 10 * SLOW
    assert len(fake.links) <= 2 * 3 * 8, "12 clients asked 108 times"
    for w in wires:
        w.close()


@pytest.mark.skipif("asan" in NUTPROXY, reason="strace and the leak check cannot both trace it")
@both
def test_a_connection_that_breaks_before_a_byte_is_written_is_made_anew_after_a_while(stage, fakes, tongue):
    """strace lets the first three writes fail: no client pays, and no storm of connects begins."""
    fake = fakes(protocol=tongue.name)
    proxy = one_pool(stage, [fake], tongue)
    with wire(proxy.where("alpha")) as w:
        tracer = subprocess.Popen(["strace", "-f", "-p", str(proxy.pid), "-o", "/dev/null", "-e", "trace=sendto",
                                   "-e", "inject=sendto:error=EPIPE:when=1..3"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            assert b"attached" in tracer.stderr.readline()
            began = time.monotonic()
            assert ask(w, tongue, tongue.set(b"k", b"v")) == tongue.stored
            assert time.monotonic() - began > 0.2, "50, 100 and 200 ms, less the jitter"
            assert ask(w, tongue, tongue.get(b"k")) == tongue.value(b"k", b"v")
        finally:
            tracer.kill()
            tracer.wait()
            tracer.stderr.close()
    assert len(fake.links) == 4 and len(fake.seen) == 2


def test_a_redis_that_kills_idle_clients_or_restarts_meanwhile_costs_nobody_an_error(stage):
    server, other = stage.redis(), stage.redis()
    proxy = one_pool(stage, [server, other], auto_eject_hosts=True, server_failure_limit=1,
                     hash="md5")
    with wire(proxy.where("alpha")) as w:
        for i in range(4):
            for n in range(24):
                assert w.ask("SET", "k%d" % n, i) == b"+OK\r\n"
            if i % 2:
                server.stop()
                server.start()
            else:
                server.client().execute_command("CLIENT", "KILL", "TYPE", "normal")
            wait_for("the proxy to notice", lambda: total(proxy, "server_connections") == 1)
    stats = proxy.stats()["alpha"]
    assert (stats["server_ejects"], stats["forward_error"]) == (0, 0)


# ---- under load

class Caller(threading.Thread):
    """One client with keys of its own: pipelines of random requests, and every reply is
    held against what the key must be. `rule` says how much is known:
    exact   what was acknowledged is there, what was not sent is not
    ghosts  besides, a write that may have been applied may be so at any later time
    moving  keys may change their servers: a value must only be one of this key's
    """

    def __init__(self, number, address, owners, victim, rule):
        super().__init__(daemon=True)
        self.dice = random.Random(number)
        self.wire = wire(address)
        self.number, self.owners, self.victim, self.rule = number, owners, victim, rule
        self.keys, self.counters = caller_keys(number)
        self.may = {k: {k + b"=0"} for k in self.keys}      # what the key may be
        self.ghosts = {k: set() for k in self.keys}
        self.last = dict.fromkeys(self.counters, 0)         # what was seen last
        self.sure = dict.fromkeys(self.counters, 0)         # increments acknowledged
        self.doubt = dict.fromkeys(self.counters, 0)        # increments perhaps applied
        self.versions = 0
        self.asked, self.errors, self.wrong = 0, [], []
        self.over = threading.Event()

    def run(self):
        try:
            while not self.over.is_set() and not self.wrong:
                self.batch(self.dice.randrange(1, 12))
                time.sleep(self.dice.random() * 0.02)
        except (Gone, AssertionError, ValueError) as e:
            self.wrong.append("%s: %s" % (type(e).__name__, e))

    def batch(self, size):
        requests = [self.invent() for _ in range(size)]
        at = time.monotonic()
        self.wire.say(*(command(*r) for r in requests))
        for r in requests:
            self.check(r, self.wire.frame(), at)
        self.asked += size

    def invent(self):
        lot, key = self.dice.random(), self.dice.choice(self.keys)
        if lot < 0.35:
            self.versions += 1
            # From 8 KiB on values go another way through the proxy.
            size = self.dice.choice((0, 0, 10, 300, 12000))
            return b"SET", key, b"%s=%d" % (key, self.versions) + b"." * size
        if lot < 0.75:
            return b"GET", key
        if lot < 0.9:
            return b"INCR", self.dice.choice(self.counters)
        return (b"MGET", *self.dice.sample(self.keys, 3))

    def check(self, request, reply, at):
        verb, key = request[:2]
        if reply[:1] == b"-":
            self.error(request, reply, at)
        elif verb == b"SET":
            self.expect(reply == b"+OK\r\n", request, reply)
            self.may[key] = {request[2]}
        elif verb == b"GET":
            self.learn(key, reply)
        elif verb == b"INCR":
            self.counted(key, int(reply[1:]), request)
        else:
            head, *values = split_array(reply)
            self.expect(head == len(request) - 1, request, reply)
            for key, value in zip(request[1:], values):
                self.learn(key, value)

    def error(self, request, reply, at):
        verb, key = request[:2]
        self.errors.append((at, reply, request[:2]))
        mine = [self.owners[k] for k in (request[1:] if verb == b"MGET" else [key])]
        self.expect(self.victim in mine, request, reply, "though its server is healthy")
        told = reply.endswith((NOT_SENT, MAYBE)) or reply.startswith(b"-LOADING ")
        self.expect(told, request, reply)
        if reply.endswith(MAYBE) and verb == b"SET":
            self.may[key].add(request[2])
            self.ghosts[key].add(request[2])
        elif reply.endswith(MAYBE) and verb == b"INCR":
            self.doubt[key] += 1

    def learn(self, key, reply):
        value = None if reply == b"$-1\r\n" else reply[reply.index(b"\r\n") + 2:-2]
        if self.rule == "moving":
            self.expect(value is None or value.startswith(key + b"="), ("GET", key), reply)
            return
        known = self.may[key] | (self.ghosts[key] if self.rule == "ghosts" else set())
        self.expect(value in known, ("GET", key), reply, [m[:40] for m in known])
        self.may[key] = {value}

    def counted(self, key, count, request):
        self.sure[key] += 1
        if self.rule != "moving":
            self.expect(count > self.last[key] and
                        self.sure[key] <= count <= self.sure[key] + self.doubt[key],
                        request, count, self.last[key], self.sure[key], self.doubt[key])
        self.last[key] = count

    def expect(self, true, *said):
        if not true:
            self.wrong.append("client %d: %s" % (self.number, repr(said)[:300]))


def split_array(reply):
    """Its length, then its bulk strings."""
    at = reply.index(b"\r\n") + 2
    out = [int(reply[1:at - 2])]
    while at < len(reply):
        end = reply.index(b"\r\n", at) + 2
        size = int(reply[at + 1:end - 2])
        after = end + size + 2 if size >= 0 else end
        out.append(reply[at:after])
        at = after
    return out


def caller_keys(number):
    return ([b"c%d:%d" % (number, i) for i in range(6)],
            [b"c%d:count%d" % (number, i) for i in range(2)])


class Load:
    """Many callers on the pool alpha; at the end all must have been answered rightly."""

    def __init__(self, proxy, servers, count, victim=None, rule="exact"):
        self.proxy = proxy
        with wire(proxy.where("alpha")) as w:
            for n in range(count):
                keys, counters = caller_keys(n)
                w.say(*(command("SET", k, k + b"=0") for k in keys),
                      *(command("SET", k, 0) for k in counters))
                assert set(w.frames(len(keys + counters))) == {b"+OK\r\n"}
        owners = {k: s for s in servers for k in s.client().keys("c*")}
        self.victims = [k for k, s in owners.items() if s is victim]
        self.callers = [Caller(n, proxy.where("alpha"), owners, victim, rule) for n in range(count)]
        for c in self.callers:
            c.start()
        wait_for("some traffic", lambda: self.asked() > 20 * count, 30)

    def asked(self):
        self.look()
        return sum(c.asked for c in self.callers)

    def errors(self):
        self.look()
        return sorted(e for c in self.callers for e in c.errors)

    def look(self):
        wrong = [x for c in self.callers for x in c.wrong]
        assert not wrong, "\n".join(wrong[:10])

    def go_on(self, requests):
        """Let each caller, on average, ask so much more."""
        until = self.asked() + requests * len(self.callers)
        wait_for("traffic to go on", lambda: self.asked() >= until, 30)

    def recovered(self):
        """Every key of the victim can be asked for again."""
        def all_answer():
            with wire(self.proxy.where("alpha")) as w:
                w.say(*(command("STRLEN", k) for k in self.victims))
                return all(r[:1] == b":" for r in w.frames(len(self.victims)))
        wait_for("the server's keys to be served again", all_answer, 20)

    def finish(self):
        """All works again: whatever is asked from here on is answered without error."""
        since = time.monotonic()
        self.go_on(20)
        for c in self.callers:
            c.over.set()
        for c in self.callers:
            c.join(SECONDS)
            assert not c.is_alive(), "client %d hangs" % c.number
        self.look()
        for c in self.callers:
            for k in c.keys:
                c.check((b"GET", k), c.wire.ask("GET", k), time.monotonic())
            c.wire.close()
        late = [e for e in self.errors() if e[0] > since]
        assert not late, late[:5]


def assert_all_is_given_back(proxy, descriptors):
    wait_for("the clients to be gone",
             lambda: proxy.stats()["alpha"]["client_connections"] == 0)
    wait_for("descriptors to return to %d" % descriptors,
             lambda: proxy.descriptors() <= descriptors)


def test_a_server_killed_and_restarted_under_load_loses_and_repeats_nothing(stage):
    # What the victim acknowledged is on disk, so that it can be asked for afterwards.
    victim = stage.redis("--appendonly", "yes", "--appendfsync", "always")
    servers = [victim] + [stage.redis() for _ in range(3)]
    proxy = one_pool(stage, servers, hash="md5", timeout=ms(10000), server_failure_limit=2,
                     probe_interval=ms(100))
    load = Load(proxy, servers, 50, victim)
    descriptors = proxy.descriptors() - 50
    for _ in range(4):
        before = len(load.errors())
        victim.kill()
        wait_for("callers to be told", lambda: len(load.errors()) > before + 50)
        load.go_on(30)
        victim.start()
        load.recovered()
        load.go_on(60)
    load.finish()
    assert_all_is_given_back(proxy, descriptors)


def test_a_server_stopped_and_continued_under_load_mixes_nothing_up(stage):
    servers = [stage.redis() for _ in range(4)]
    victim = servers[2]
    proxy = one_pool(stage, servers, hash="md5", timeout=ms(700), server_failure_limit=3,
                     probe_interval=ms(100))
    load = Load(proxy, servers, 50, victim, "ghosts")
    descriptors = proxy.descriptors() - 50
    for _ in range(2):
        before = len(load.errors())
        victim.pause()
        wait_for("callers to be told", lambda: len(load.errors()) > before + 50)
        victim.resume()
        load.recovered()
    load.finish()
    assert any(b"timed out" in reply for _, reply, _ in load.errors())
    assert_all_is_given_back(proxy, descriptors)


def test_under_load_an_ejected_servers_keys_move_and_return_without_a_further_error(stage):
    servers = [stage.redis() for _ in range(4)]
    victim = servers[1]
    proxy = one_pool(stage, servers, hash="md5", auto_eject_hosts=True, server_failure_limit=2,
                     server_retry_timeout=ms(300), probe_interval=ms(100))
    load = Load(proxy, servers, 30, victim, "moving")
    victim.kill()
    wait_for("the ejection", lambda: proxy.stats()["alpha"]["server_ejects"] == 1)
    since = time.monotonic()
    time.sleep(1.0 * SLOW)              # several periods of retry
    victim.start()
    wait_for("its keys to return", lambda: victim.client().keys("c*"), 20)
    load.finish()
    late = [e for e in load.errors() if e[0] > since]
    assert not late, "after the ejection: %s" % late[:5]
    assert proxy.stats()["alpha"]["server_ejects"] == 1


# ---- clients that leave

def test_clients_that_leave_with_requests_open_disturb_nobody(stage):
    servers = [stage.redis() for _ in range(3)]
    proxy = one_pool(stage, servers, hash="md5", timeout=ms(20000))
    load = Load(proxy, servers, 8)
    descriptors = proxy.descriptors() - 8
    big = ["big%d" % i for i in range(6)]
    with wire(proxy.where("alpha")) as w:
        for k in big:
            assert w.ask("SET", k, k * 20000) == b"+OK\r\n"
    leavings = (
        b"".join(command("GET", k) for k in big) * 4,
        command("MGET", *big),
        command("SET", "gone", "x" * 100000)[:60000],
        b"".join(command("INCR", "gone:%d" % i) for i in range(10)),
        command("MSET", *(x for i in range(20) for x in ("gone:%d" % (100 + i), "v"))),
        b"*2\r\n$3\r\nGET\r\n$2\r\nbi",
        b"")

    def leave(number):
        w = wire(proxy.where("alpha"))
        w.say(leavings[number % len(leavings)])
        return w

    for n in range(560):
        w = leave(n)
        w.close() if n // len(leavings) % 2 else w.reset()
    for server in servers:
        server.pause()
    try:                                # now all are certainly open when they leave
        here = [leave(n) for n in range(35)]
        wait_for("them to be known", lambda: proxy.stats()["alpha"]["client_connections"] >= 43)
        for n, w in enumerate(here):
            w.close() if n % 2 else w.reset()
    finally:
        for server in servers:
            server.resume()
    load.finish()
    assert not load.errors(), load.errors()[:5]
    assert_all_is_given_back(proxy, descriptors)
    for i in range(10):
        counts = [int(s.client().get("gone:%d" % i) or 0) for s in servers]
        assert sum(counts) <= 85, "more often than it was asked for"


@both
def test_a_client_that_stops_sending_gets_what_it_is_owed_and_then_the_end(stage, fakes, tongue):
    pair = [gated(fakes(protocol=tongue.name)) for _ in range(2)]
    keys = [b"k%d" % i for i in range(30)]
    for fake in pair:
        fake.store = {k: b"=" + k for k in keys}
        fake.store[b"slow"] = b"SLOW"
    proxy = one_pool(stage, pair, tongue, hash="md5")
    for last in (tongue.get(b"k1"), tongue.many(keys), tongue.ping, tongue.get(b"slow")):
        for fake in pair:
            fake.gate.clear()
            fake.seen.clear()
        with wire(proxy.where("alpha")) as w:
            w.say(tongue.get(b"slow"), last)
            w.sock.shutdown(socket.SHUT_WR)
            wait_for("the request to arrive", lambda: pair[0].seen or pair[1].seen)
            for fake in pair:
                fake.gate.set()
            assert tongue.read(w) == tongue.value(b"slow", b"SLOW")
            got = tongue.read(w)
            assert w.rest() == b"", "and nothing more"
        with wire(proxy.where("alpha")) as w:
            assert ask(w, tongue, last) == got
    wait_for("them to be gone", lambda: proxy.stats()["alpha"]["client_connections"] == 0)


# ---- what trouble leaves behind

@both
def test_after_all_kinds_of_trouble_no_descriptor_is_left_and_nothing_spins(stage, fakes, tongue):
    fake, other = fakes(protocol=tongue.name), fakes(protocol=tongue.name)
    fallen = getattr(stage, tongue.name)()
    proxy = stage.nutproxy({
        "alpha": pool([fake, other], tongue.name, timeout=ms(300), server_failure_limit=3,
                      probe_interval=20, hash="md5"),
        "beta": pool([fallen], tongue.name, auto_eject_hosts=True, server_failure_limit=1,
                     server_retry_timeout=50, probe_interval=20)})
    with wire(proxy.where("alpha")) as w, wire(proxy.where("beta")) as v:
        for i in range(20):
            assert ask(w, tongue, tongue.set(b"k%d" % i, b"v")) == tongue.stored
        assert ask(v, tongue, tongue.set(b"k", b"v")) == tongue.stored
        assert fake.links and other.links
        descriptors = proxy.descriptors()
        fallen.kill()
        for round, die in enumerate((die_by_fin, die_by_reset, die_silently) * 5):
            for server in (fake, other):
                mortal(server, die)
            with wire(proxy.where("alpha")) as x:
                x.say(tongue.get(b"bad"), tongue.many([b"bad", b"k1", b"k2", b"k3"]))
                if round % 2:
                    x.reset()
                else:
                    tongue.read(x)
                    tongue.read(x)
            ask(v, tongue, tongue.get(b"k"))
            if round % 5 == 4:
                fake.down()
                for i in range(20):
                    ask(w, tongue, tongue.get(b"k%d" % i))
                fake.up()
        for server in (fake, other):
            server.answer = lambda link, words, server=server: server.obey(words)

        def well():
            return all(ask(w, tongue, tongue.get(b"k%d" % i)) == tongue.value(b"k%d" % i, b"v")
                       for i in range(20))
        wait_for("all to be well", well)
        wait_for("descriptors to return to %d" % descriptors,
                 lambda: proxy.descriptors() <= descriptors)
        # One server is dead and probed, clients are connected and silent.
        before = cpu_seconds(proxy)
        time.sleep(1)
        assert cpu_seconds(proxy) - before < 0.4, "something spins"
        assert ask(v, tongue, tongue.get(b"k")).endswith(NOT_SENT)


def test_a_reply_to_what_was_not_written_yet_is_for_nobody(stage):
    """A server that does not read, and answers what it cannot have seen: with all, and with half of it."""
    def serve(door, early):
        first, _ = door.accept()
        time.sleep(0.3 * SLOW)
        first.sendall(b"+OK\r\n" + early)
        second, _ = door.accept()
        data = b""
        while b"$1\r\nk\r\n" not in data:
            data += second.recv(65536) or b"$1\r\nk\r\n"
        second.sendall(b"$5\r\nright\r\n")
        second.recv(1)
        first.close()

    for early in (b"$5\r\nwrong\r\n", b"$5\r\nwro"):
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        door.bind(("127.0.0.1", 0))
        door.listen(9)
        threading.Thread(target=serve, args=(door, early), daemon=True).start()
        proxy = stage.nutproxy({"alpha": pool(["127.0.0.1:%d:1 one" % door.getsockname()[1]], timeout="5s",
                                              server_failure_limit=1000)})
        with wire(proxy.where("alpha")) as big, wire(proxy.where("alpha")) as w:
            big.say(command("SET", "big", b"v" * 8000000))
            time.sleep(0.1 * SLOW)
            assert w.ask("GET", "k") == b"$5\r\nright\r\n"
        assert proxy.stop() == 0
        door.close()


def test_a_split_write_that_was_half_done_is_not_told_as_not_sent(stage):
    server = stage.redis()
    proxy = stage.nutproxy({"alpha": pool([server, "127.0.0.1:%d:1" % free_port()], hash="md5",
                                          server_failure_limit=1000)})
    keys = [b"k%d" % k for k in range(40)]
    with wire(proxy.where("alpha")) as w:
        for words in ([b"MSET"] + [x for k in keys for x in (k, b"v")], [b"DEL"] + keys, [b"UNLINK"] + keys):
            assert w.ask(*words) == b"-ERR Connection refused: the request may have been applied\r\n"
        assert w.ask(b"MGET", *keys) == b"-ERR Connection refused: the request was not sent\r\n"


def test_who_waits_for_a_connection_hears_when_the_server_goes_down(stage, fakes):
    """It would be tried again a moment later, but then the server closes another one, and that was once too often."""
    sick, closed = threading.Event(), threading.Event()

    def answer(link, words):
        if words[0] == b"HELLO":
            if not sick.is_set():
                return b"%1\r\n+proto\r\n:3\r\n"
            link.close()
            closed.set()
        elif words[0] == b"GET" and sick.is_set():
            closed.wait(SECONDS)
            time.sleep(0.005)
            link.close()
        else:
            return fake.obey(words)

    fake = fakes(answer)
    proxy = one_pool(stage, [fake], server_failure_limit=2, probe_interval="20ms")
    with wire(proxy.where("alpha")) as two, wire(proxy.where("alpha")) as three:
        assert two.ask("GET", "k") == bulk(None) and three.ask("HELLO", "3").startswith(b"%")
        sick.set()
        two.say(command("GET", "k"))
        wait_for("it to be asked", lambda: fake.count(b"GET", b"k") == 2)
        three.say(command("GET", "k"))
        assert two.frame() == b"-ERR " + CLOSED + MAYBE
        assert three.frame() == b"-ERR " + CLOSED + NOT_SENT
        sick.clear()
        wait_for("the server to be back", lambda: two.ask("GET", "k") == bulk(None))
        assert three.ask("GET", "k") == bulk(None)              # as the fake says it
