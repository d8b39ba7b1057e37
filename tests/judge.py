"""The judge: reads what clients have recorded, what was done to the servers, and the log, when all is over.  Was every
value one that this history allows, and every error one that a fault explains?

Each key has one writer, a client that writes it in the order of its versions, so all that can
be read is known from the client's own record:

  * A write that was acknowledged was applied once, between its being sent and its reply.  One that was answered "the
    request was not sent" is never applied.  One that "may have been applied", or whose client lost its connection,
    is applied once, or never, at any time until LATE seconds after its client was told: it may stand in the buffers of
    a relay, or of a server that was stopped.
  * Where a key lives at a moment follows from which servers were ejected then, which the log tells, and from
    `nutproxy route --down`.  While that changes a request may have gone to either place.  Each server has a
    history of the key of its own.
  * The base of a read, on one server, is the last write before it that is surely there: acknowledged, and sent when
    the key could live nowhere else.  A read finds the base; or a later write, unless that is one that was not sent;
    or one from before it that may have been applied, if it was told less than LATE before the base was sent.
    Nothing is found if there is no base, or the server was killed since it was sent.  What was there before
    a server was killed is never found after it.
  * INCR is the same: it finds the number that the base told, and one more for itself, and at most one more for each
    write that may have come between.
  * A server is killed between two moments that are known.  Whatever overlaps with them may be before or after."""
import bisect
import calendar
import collections
import itertools
import json

from callers import ACKED, DELETED, LEFT, LOST, MAYBE, NEVER, SLACK, TIMEOUT, WRONG
from nut import SLOW

LATE = 6 * TIMEOUT + SLACK      # a fault takes up to 2.5 TIMEOUT, and what was not written may be for two more
REACH = TIMEOUT + SLACK         # so long after a fault may a request end that has met it
BLUR = 0.1 * SLOW               # from a change of the ring, with the first worker, to its line in the log
TICK = 0.02                     # what two clocks, and a line on its way to the file, may differ

# What was done to a server (a number), when, and which errors that explains.
Fault = collections.namedtuple("Fault", "server name begin end reasons")


class Ring:
    """Which servers were down when, as the log tells, and so where keys lived."""

    def __init__(self, log, pool, names, ejects, routes, clock):
        """`routes` tells for each set of ejected servers where each key goes; `clock` is what to add to the log's."""
        self.names, self.ejects, self.routes = names, ejects, routes
        self.times, self.changes = [], []
        for line in log:
            if line.get("pool") == pool and line["event"] in ("server_down", "server_ejected", "server_up"):
                self.times.append(line["at"] + clock)
                self.changes.append((names.index(line["server"]), line["event"] != "server_up"))
        self.after = [(False,) * len(names)]
        for server, down in self.changes:
            state = list(self.after[-1])
            state[server] = down
            self.after.append(tuple(state))

    def downs(self, begin, end):
        """For each server, whether it was down between these moments: a set of one or two answers."""
        first, last = bisect.bisect_left(self.times, begin - TICK), bisect.bisect_right(self.times, end + BLUR)
        downs = [{down} for down in self.after[first]]
        for server, down in self.changes[first:last]:
            downs[server].add(down)
        return downs

    def down_since(self, server, before):
        """When it last went down before that."""
        for at, change in reversed(list(zip(self.times, self.changes))):
            if at <= before + BLUR and change == (server, True):
                return at
        return before

    def homes(self, key, begin, end):
        """The servers, by number, where a request of that time may have found the key."""
        if not self.ejects:
            return frozenset([self.routes[frozenset()][key]])
        homes = set()
        for downs in itertools.product(*self.downs(begin, end)):
            out = frozenset(s for s, down in enumerate(downs) if down)
            if len(out) < len(self.names):
                homes.add(self.routes[out][key])
        return frozenset(homes)


class Write:
    """One write to one key."""
    __slots__ = ("op", "version", "homes")

    def __init__(self, op, version, homes):
        self.op, self.version, self.homes = op, version, homes

    def dead(self):
        return self.version == DELETED

    def may_come_until(self):
        return self.op.ended + (LATE if self.op.fate == MAYBE else 0)


class Judge:
    def __init__(self, ring, faults, kills):
        self.ring, self.faults, self.kills = ring, faults, kills    # kills: of each server (from, to)
        self.wrong, self.reads, self.errors = [], 0, collections.Counter()

    def judge(self, client):
        """Go through a client's record in the order in which it asked."""
        writes = collections.defaultdict(list)
        places = {}
        for place, op in enumerate(client.record):
            places[op] = place
            # What a client has left behind may be read, and find its server, a little later.
            ended = op.ended + (LATE if op.error == LEFT else 0)
            homes = {k: self.ring.homes(k, op.issued, ended) for k in op.keys}
            if op.error:
                self.explain(op, homes)
            elif op.verb == "cas":
                self.judge_cas(op, homes, writes[op.keys[0]], places)
            elif op.verb in ("INCR", "COUNT", "incr", "count", "add"):
                self.judge_count(op, homes[op.keys[0]], writes[op.keys[0]])
            for key, version in op.seen if op.verb != "cas" else ():
                self.reads += 1
                if not any(self.may_find(s, op, version, writes[key]) for s in homes[key]):
                    found = "v%d" % version if version else "nothing"
                    self.blame("found %s of %s, on server %s, which its history does not allow" % (
                        found, key.decode(), self.names(homes[key])), op, writes[key])
            for key, version in op.writes:
                if op.fate != NEVER:
                    writes[key].append(Write(op, version, homes[key]))

    def names(self, homes):
        return " or ".join(self.ring.names[s] for s in sorted(homes))

    def blame(self, text, op, writes=()):
        self.wrong.append("%s: %s%s" % (text, op, "".join("\n        %s, on %s" % (w.op, self.names(w.homes))
                                                          for w in writes[-6:])))

    # -- values

    def base(self, server, writes):
        """The last write that is surely on this server, and what else may be: those behind it, and those before it
        that may have come later."""
        for i in range(len(writes) - 1, -1, -1):
            w = writes[i]
            if w.op.fate == ACKED and w.homes == {server}:
                late = [v for v in writes[:i]
                        if server in v.homes and v.op.fate == MAYBE and v.may_come_until() > w.op.issued]
                return w, [v for v in writes[i + 1:] if server in v.homes] + late
        return None, [w for w in writes if server in w.homes]

    def killed(self, server, after, before):
        """It was surely killed between these moments."""
        return any(begin > after and end < before for begin, end in self.kills[server])

    def may_be_wiped(self, server, base, op):
        return base is None or any(end >= base.op.issued and begin <= op.ended for begin, end in self.kills[server])

    def may_find(self, server, op, version, writes):
        base, others = self.base(server, writes)
        left = [w for w in others + ([base] if base else []) if not self.killed(server, w.may_come_until(), op.issued)]
        if version is None:
            return self.may_be_wiped(server, base, op) or any(w.dead() for w in left)
        return any(w.version == version for w in left)

    def judge_cas(self, op, homes, writes, places):
        """EXISTS and NOT_FOUND need a reason, too."""
        if op.fate != NEVER:
            return
        key, found = op.keys[0], op.seen[0][1]
        if found is None:
            fine = any(self.may_find(s, op, None, writes) for s in homes[key])
        else:
            before = self.ring.homes(key, op.known.issued, op.known.ended)
            between = [w for w in writes if places[w.op] > places[op.known] or
                       (w.op.fate == MAYBE and w.may_come_until() > op.known.issued)]
            fine = between or len(homes[key] | before) > 1 or \
                any(self.may_be_wiped(s, Write(op.known, 0, before), op) for s in homes[key])
        if not fine:
            self.blame("refused without a reason", op, writes)

    # -- numbers

    def judge_count(self, op, homes, writes):
        if op.verb == "add" and op.count is None:
            return                          # NOT_STORED: it is there
        if not any(self.may_count(s, op, writes) for s in homes):
            self.blame("found %d, on server %s, which its history does not allow" % (op.count, self.names(homes)),
                       op, writes)

    def may_count(self, server, op, writes):
        here = [w for w in writes if server in w.homes]
        more = 1 if op.verb in ("INCR", "incr") and op.fate == ACKED else 0
        known = [w for w in here if not (w.op.verb == "add" and w.op.count is None)]    # those that tell a number
        base, others = self.base(server, known)
        there, _ = self.base(server, here)
        if op.verb == "add" or (op.verb == "incr" and not more):        # it was missing
            return self.may_be_wiped(server, there, op)
        count = op.count - more
        if base is not None and not self.killed(server, base.op.ended, op.issued) and \
                base.op.count <= count <= base.op.count + sum(w.version for w in others):
            return True
        # Or it began anew: behind a kill, of those that may be the last one before it was counted.
        since = base.op.issued if base is not None else 0
        kills = [(begin, end) for begin, end in self.kills[server] if end >= since and begin <= op.ended]
        anew = [begin for begin, end in kills if end >= op.issued] + \
            [begin for begin, end in kills if end < op.issued][-1:]
        if base is None and not self.killed(server, 0, op.issued):
            anew.append(0)
        return any(0 <= count <= sum(w.version for w in here if w.may_come_until() >= begin) for begin in anew)

    # -- errors

    def explain(self, op, homes):
        """An error is right where a fault of one of its servers has such errors, and was at work then.  A server that
        is down goes on to answer with the trouble that made it so."""
        self.errors[op.error] += 1
        if op.error in (WRONG, LEFT):
            return                          # the client has told, or does not know
        if op.error == LOST:
            if op.count is not None and not (op.count and op.verb in ("GET", "MGET", "get", "gets", "mg")):
                self.blame("half of it was passed on, and can be no long reply", op)
            if op.count is None:
                return                      # it stood behind another
        servers = {s for h in homes.values() for s in h} or set(range(len(self.ring.names)))
        downs = self.ring.downs(op.issued, op.ended)
        for server in servers:
            since = min(op.issued, self.ring.down_since(server, op.ended)) if True in downs[server] else op.issued
            for fault in self.faults:
                if fault.server in (server, None) and fault.begin <= op.ended and fault.end + REACH >= since and \
                        (op.error in fault.reasons or op.error == LOST):
                    return
        self.blame("an error that no fault explains, of server %s" % self.names(servers), op)


def read_log(text):
    """The lines of a log in JSON, each with the second of its time of day that it was written at."""
    lines = []
    for line in text.splitlines():
        assert line.startswith("{"), "a line that is no event: %s" % line
        said = json.loads(line)
        said["at"] = calendar.timegm(tuple(int(said["time"][a:b]) for a, b in
                                           ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))) + (0, 0, 0)) + \
            float("0" + said["time"][19:-1])
        lines.append(said)
    return lines
