"""nutcracker and nutproxy beside each other, live: the same pools over equal servers, the same traffic.

What each server was asked and what the client saw must be the same, or a difference that
stands on the list in intended.py. The traffic is in beside_cases.py; beside.py sends it.
"""
import os

import pytest

from beside import CLOSED, NAMES, OPEN, Case, World, protocol, replies_of
from beside_cases import (KINDS, MSICK, SICK, flow, flows, locked, memcached_cases, memcached_setting,
                          memcached_sick_cases, plain, raw_cases, row_cases, row_setting, served_families, setting,
                          sick_cases)
from intended import ALL, ERROR, Judge
from nut import NUTCRACKER, TOP, Stage, wait_for
from recorder import Hub
from redis_rows import LIBRARY, SCRIPT
from resp import brief, command

pytestmark = pytest.mark.skipif(not os.path.exists(NUTCRACKER), reason="no nutcracker here")


class Together:
    """The two, the data that they begin with, and what was found so far."""

    def __init__(self, stage, hub):
        w = self.world = World(stage, hub)
        self.judge, self.cases, self.equal = Judge(w.home), 0, []
        self.keys = {kind: w.keys("redis", "%d:" + kind, 3) for kind in KINDS}
        self.memcached_keys = w.keys("memcached", "%d:mem", 3)
        tags = {n: [k.decode()[1:-1] for k in ks] for n, ks in w.keys("tags", "{%d-tag}", 3).items()}
        self.tags = dict(zip("ABCD", [tags[n][0] for n in NAMES] + [tags["ash"][1]]))
        self.other_tags = dict(zip("ABCD", [tags[n][2] for n in NAMES] + [tags["ash"][1]]))
        begin = setting(self.keys), row_setting(self.tags)
        w.set_up("redis", {n: begin[0][n] + begin[1][n] for n in NAMES})
        w.set_up("memcached", memcached_setting(self.memcached_keys))
        for side in w.sides:
            for sock in side.direct["redis"].values():
                sock.sendall(command("FUNCTION", "LOAD", LIBRARY) + command("SCRIPT", "LOAD", SCRIPT))
                replies_of(sock, "redis", 2)

    def compare(self, case, catch_up=False, **kw):
        """The difference as text, or None if there is none, or it is meant."""
        there, here = self.world.try_on(case, **kw)
        self.cases += 1
        if catch_up:
            self.world.catch_up(case, (there, here))
        if there == here:
            self.equal.append((case, there, here))
        elif not self.judge.explained(case, there, here):
            return "%s %s%s\n    nutcracker: %s\n    nutproxy:   %s" % (
                case.pool, brief(case.data), ", %s %s" % (" ".join(case.sick), case.note) if case.sick else "",
                told(there), told(here))
        return None

    def agree(self, cases, **kw):
        fail(filter(None, [self.compare(case, **kw) for case in cases]))


def told(seen):
    return "%s, %s; servers got %s" % (
        ", ".join(map(brief, seen.replies)) or "no reply", seen.end,
        "; ".join("%s: %s" % (n, brief(repr(rs).encode(), 300).strip('b"'))
                  for n, rs in seen.servers.items() if rs) or "nothing")


def fail(differences):
    differences = list(differences)
    assert not differences, "%d differences that nobody wants:\n%s" % (len(differences), "\n".join(differences[:12]))


@pytest.fixture(scope="module")
def all_together():
    with Hub() as hub, Stage() as stage:
        yield Together(stage, hub)


@pytest.fixture
def both(all_together):
    yield all_together
    for side in all_together.world.sides:
        assert side.proxy.child.poll() is None, "%s died: %s" % (side.product, side.proxy.said()[-3000:])
    assert not all_together.world.hub.broken


# ---- Redis

def test_every_command_with_nothing_or_up_to_seven_arguments(both):
    both.agree(plain(both.keys))


def test_every_data_command_with_true_values(both):
    for _, cases in served_families(both.other_tags):
        both.world.reset("redis")
        both.agree(cases, fresh=False, catch_up=True)


def test_keys_on_one_server_on_several_and_none(both):
    both.agree(row_cases(both.tags))


def test_inline_commands_and_what_is_not_the_protocol(both):
    both.agree(raw_cases())


def test_pipelines_of_redis(both):
    both.agree(flows(both.keys))


def test_a_password_and_a_database(both):
    both.agree(locked())


def test_redis_servers_that_fail(both):
    fail(filter(None, [both.compare(case, sick=SICK[case.note]) for case in sick_cases(both.keys)]))


# ---- memcached

def test_every_memcached_command_valid_and_invalid(both):
    both.agree(memcached_cases(both.memcached_keys))


def test_memcacheds_that_fail(both):
    fail(filter(None, [both.compare(case, sick=MSICK[case.note])
                       for case in memcached_sick_cases(both.memcached_keys)]))


# ---- servers that are down for longer

def lines_of(keys, pool):
    """Each key is asked for by itself, and then all in one."""
    if protocol(pool) == "memcached":
        requests = [b"get %s\r\n" % k for k in keys] + [b"get %s\r\n" % b" ".join(keys)]
        return [Case("down", pool, r, [r]) for r in requests]
    keys = [k.decode() for k in keys]
    return [flow(line, pool=pool) for line in ["GET " + k for k in keys] + ["MGET " + " ".join(keys)]]


@pytest.mark.parametrize("pool", ("ejecting", "mejecting", "failing", "mfailing"))
def test_a_server_that_stays_down_and_comes_back(both, pool):
    """Ejected, its keys go to the same others; else they get errors; afterwards all is as before."""
    of = both.memcached_keys if protocol(pool) == "memcached" else both.keys["string"]
    cases = lines_of([k for n in NAMES for k in of[n]], pool)
    both.agree(cases)
    stay_down(both, cases[:2], ("ash",), "first failures")
    stay_down(both, cases, ("ash",), "refuses")
    come_back(both, cases, ("ash",))
    both.agree(cases)


@pytest.mark.parametrize("pool", ("ejecting", "mejecting"))
def test_all_servers_stay_down_and_come_back(both, pool):
    of = both.memcached_keys if protocol(pool) == "memcached" else both.keys["string"]
    cases = lines_of([of[n][0] for n in NAMES], pool)
    both.agree(cases)
    stay_down(both, cases[:3] * 2, NAMES, "refuses")
    stay_down(both, cases, NAMES, "refuses")
    come_back(both, cases, NAMES)
    both.agree(cases)


def stay_down(both, cases, sick, note):
    fail(filter(None, [both.compare(case._replace(sick=sick, note=note), sick="down", heal=False) for case in cases]))


def come_back(both, cases, sick):
    both.world.heal(cases[0]._replace(sick=sick))
    for side in both.world.sides:
        wait_for("%s to ask all servers again" % side.product,
                 lambda s=side: all(asked_for(s, cases[-1]).values()))


PROBES = ((b"PING",), b"version\r\n")


def asked_for(side, case):
    """What each server got of it; a probe that is answered does not yet bring a server back."""
    with side.connect(case.pool) as sock:
        sock.sendall(case.data)
        sock.recv(1 << 18)
    return {n: [r for r in rs if r not in PROBES] for n, rs in side.asked(case.pool).items()}


# ---- the list itself

def test_a_difference_that_is_not_on_the_list_is_told(both):
    """Where both did the same, anything else that nutproxy could have done is an unexplained difference."""
    if not both.equal:
        pytest.skip("runs after the others")
    judge, wrong = Judge(both.world.home), []
    for case, there, here in both.equal:
        n = next((n for n in NAMES if here.servers.get(n)), None)
        other = [here._replace(replies=here.replies + [b"+OK\r\n"]),
                 here._replace(replies=[r.replace(b"\r\n", b"x\r\n", 1) for r in here.replies] or [b"$-1\r\n"]),
                 here._replace(end=CLOSED if here.end != CLOSED else OPEN)]
        if n:
            failed = all(ERROR.fullmatch(r) for r in here.replies)      # it may be told without asking
            to = NAMES[NAMES.index(n) - 1]
            lost, moved, again = (dict(here.servers) for _ in range(3))
            lost[n] = here.servers[n][1:]
            moved[n], moved[to] = [], here.servers[n] + here.servers.get(to, [])
            again[n] = here.servers[n] + here.servers[n][-1:]
            other += [here._replace(servers=s) for s in (moved, again) + (() if failed else (lost,))]
        wrong += ["%s as if %s" % (brief(case.data), told(o)) for o in other
                  if o != here and judge.explained(case, there, o)]
    fail(wrong)


def test_the_readme_tells_what_the_list_says_it_tells():
    with open(os.path.join(TOP, "README.md")) as f:
        told_there = " ".join(f.read().split())
    assert not [row for row in ALL if not row.readme or row.readme not in told_there]


def test_every_row_of_the_list_was_needed(both, request):
    ran = {item.originalname for item in request.session.items if item.module is request.module}
    if len(ran) < sum(name.startswith("test_") for name in vars(request.module)):
        pytest.skip("only after a whole run")
    print("%d cases, %d of them equal" % (both.cases, len(both.equal)))
    for row in ALL:
        print("%5d  %s" % (both.judge.used[row.name], row.name))
    unused = [row.name for row in ALL if not both.judge.used[row.name]]
    assert not unused, "rows that explain nothing: %s" % unused
