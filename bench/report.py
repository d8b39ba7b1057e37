"""Tables and plots from what run.py wrote: RESULTS.md, plots/*.svg, and the short table of a terminal."""
import json
import os
import shutil
import statistics
import subprocess

from shapes import CPU, DISTURBED, FLOOR, GROWTH, OTHER, PEER, PLACES, PROGRAMS, SHAPES, SUBJECT, TARGETS

HERE = os.path.dirname(os.path.abspath(__file__))

# What can be asked of one run.
OF_A_RUN = {
    "rps": lambda r: r["rps"],
    "cpu": lambda r: r.get("cpu_us"),
    "cores": lambda r: r.get("cores"),
    "others": lambda r: r["others"],
    "p50": lambda r: r["lat_us"]["p50"],
    "p99": lambda r: r["lat_us"]["p99"],
    "p999": lambda r: r["lat_us"]["p999"],
    "peak_mib": lambda r: r["peak_kib"] / 1024 if "peak_kib" in r else None,
    "idle_kib": lambda r: (r["rss_kib"] - r["rss_before_kib"]) / r["load"]["i"],
}


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


class Results:
    """The records of one file or several.  A run is of a shape, and x is None, or of a series at x."""

    def __init__(self, files=()):
        self.machines, self.runs, self.counts, self.static, self.left_out = [], [], [], [], []
        self.seconds = 0
        for number, name in enumerate(files):
            with open(name) as f:
                for line in f:
                    self.add(json.loads(line), number)

    def add(self, record, number=0):
        kind = record["kind"]
        if kind == "run":
            record["round"] = (number, record["round"])
        if kind == "took":
            self.seconds += record["seconds"]
        else:
            {"machine": self.machines, "run": self.runs, "calls": self.counts, "static": self.static,
             "left out": self.left_out}[kind].append(record)

    def of(self, shape, line, x=None):
        return [r for r in self.runs if r["shape"] == shape and r["line"] == line and r["x"] == x]

    def good(self, shape, line, x=None):
        return [r for r in self.of(shape, line, x) if "error" not in r]

    def failed(self, shape, line, x=None):
        return [r for r in self.of(shape, line, x) if "error" in r]

    def points(self, series):
        return sorted({r["x"] for r in self.runs if r["shape"] == series and "error" not in r})

    def median(self, what, shape, line, x=None):
        return median(OF_A_RUN[what](r) for r in self.good(shape, line, x))

    def ratio(self, what, shape, line, base, x=None):
        """Taken within each round, and then the median: what disturbs a round disturbs both."""
        get = OF_A_RUN[what]
        below = {r["round"]: get(r) for r in self.good(shape, base, x)}
        return median(get(r) / below[r["round"]] for r in self.good(shape, line, x)
                      if below.get(r["round"]) and get(r) is not None)

    def calls(self, shape, line):
        return median(r["calls"] for r in self.counts
                      if r["shape"] == shape and r["line"] == line and "calls" in r)

    def source_of_calls(self):
        if any("calls" in r for r in self.counts):
            return "counted by the kernel's tracepoint raw_syscalls:sys_enter (perf_event_open)"
        why = {r["uncounted"] for r in self.counts if "uncounted" in r}
        return "- (not counted: %s)" % ("; ".join(sorted(why)) or "nothing asked for them")

    def measured(self, target):
        ratios = {"cpu_ratio": "cpu", "p99_ratio": "p99", "rps_ratio": "rps"}
        if target.measure in ratios:
            return self.ratio(ratios[target.measure], target.shape, SUBJECT, PEER)
        if target.measure == "calls":
            return self.calls(target.shape, SUBJECT)
        return self.median(target.measure, target.shape, SUBJECT)

    def verdict(self, target):
        """A shape in which nutproxy failed even once meets nothing."""
        failed = [r for r in self.runs + self.counts
                  if r["shape"] == target.shape and r["line"] == SUBJECT and "error" in r]
        value = self.measured(target)
        if failed:
            return "**not met**: runs failed, %d of them" % len(failed)
        if value is None:
            return "not measured"
        met = value <= target.limit if target.most else value >= target.limit
        return "met" if met else "**not met**"


def number(value, places=2):
    if value is None:
        return "-"
    return "{:,.0f}".format(value) if abs(value) >= 1000 else "%.*f" % (places, value)


def table(head, rows, text=1):
    """The first columns are text, the others are numbers."""
    lines = [head, ["---"] * text + ["--:"] * (len(head) - text)] + rows
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def brief(n):
    for unit, name in ((1000000, "M"), (1000, "k")):
        if n >= unit and n % unit == 0:
            return "%d%s" % (n // unit, name)
    return str(n)


# --- the short table --------------------------------------------------------------


# One row of it: the shape, a cell for each program, and how nutproxy compares.
def short_line(shape, place, cells, compared):
    return "%-29s %-6s %s  %5s %7s %6s %5s %5s %5s" % (
        shape, place, " ".join("%11s" % cell for cell in cells), *compared)


def short_head(programs):
    return ["%-11s %s" % (name, PROGRAMS[name].what) for name in programs] + [
            "",
            "%-11s %s" % ("shared", PLACES["shared"]), "%-11s %s" % ("own", PLACES["own"]),
            "",
            "In each cell: requests a second, and the proxy's CPU time for each in microseconds; medians of the rounds.",
            "In the last columns nutproxy: its CPU time as a part of nutcracker's (! where that is above the project's",
            "target, `at most`), and as a multiple of relayN's; its p99 and requests a second as parts of nutcracker's;",
            "and system calls for a request.  Ratios are taken within a round, and then their median.",
            "",
            short_line("shape", "place", programs, ("CPU", "at most", "relayN", "p99", "req/s", "calls"))]


def short_row(results, shape, programs):
    def cell(program):
        rps, cpu = (results.median(what, shape, program) for what in ("rps", "cpu"))
        if rps is None:
            return "FAILED" if results.failed(shape, program) else "-"
        rate = "%.0fk" % (rps / 1000) if rps >= 10000 else "%.1fk" % (rps / 1000)
        return rate if cpu is None else "%s %s" % (rate, number(cpu))

    def ratio(what, base):
        return number(results.ratio(what, shape, SUBJECT, base))

    s, part = SHAPES[shape], results.ratio("cpu", shape, SUBJECT, PEER)
    missed = "!" if part is not None and part > CPU.get(shape, part) else ""
    return short_line(("mc " if s.proto == "memcached" else "") + s.what, s.place, [cell(p) for p in programs],
                      (ratio("cpu", PEER) + missed, number(CPU.get(shape)), ratio("cpu", FLOOR), ratio("p99", PEER),
                       ratio("rps", PEER), number(results.calls(shape, SUBJECT))))


def troubles(results):
    lines = ["left out: %s: %s" % (r["what"], r["why"]) for r in results.left_out]
    for r in results.runs + results.counts:
        if "error" in r:
            lines.append("failed: %s%s, %s: %s" % (r["shape"], "" if r["x"] is None else " at " + brief(r["x"]),
                                                   r["line"], r["error"]))
    lines = list(dict.fromkeys(lines))
    disturbed = [r for r in results.runs if r.get("disturbed")]
    if disturbed:
        lines.append("%d of %d runs were kept although other work took more than %.1f cores meanwhile: %s" % (
            len(disturbed), len(results.runs), DISTURBED, " ".join(dict.fromkeys(r["shape"] for r in disturbed))))
    return lines


# --- RESULTS.md ---------------------------------------------------------------------


def about(results):
    lines = ["# What nutproxy costs", ""]
    if not results.machines:
        return lines
    m = results.machines[0]
    lines += ["`make bench-full` measures all this anew and writes this file. Here it was written from what these "
              "commands measured, in %d minutes:" % round(results.seconds / 60), "",
              *["* `%s`, %s" % (x["command"], x["date"]) for x in results.machines], ""]
    lines += table(["machine", ""], [
        ["processor", m["cpu"]], ["cores", str(m["cores"])], ["memory", "%.1f GiB" % m["memory_gib"]],
        ["kernel", m["kernel"]], ["open files of a process, at most", "{:,}".format(m["files"])],
        *[[name, text] for name, text in m["versions"].items()]], 2)
    lines += table(["what a system call costs here", "us"],
                   [[name, "%.2f" % us] for name, us in m["syscost"].items()])
    return lines


def method(results):
    return [
        "## How it is measured", "",
        "* In front of four servers on the same machine stand, one after the other, round by round:",
        *["  * %s: %s" % (name, p.what) for name, p in PROGRAMS.items()],
        "* Places: %s." % "; ".join("*%s*: %s" % (name, what) for name, what in PLACES.items()),
        "* Unless a shape says otherwise: 50 clients, each with one request at a time, 10,000 keys, values of 100 "
        "bytes. Every reply is checked.",
        "* CPU time is user and system time of all threads of the proxy, for each request that was answered. "
        "`cores` is how many cores the proxy kept busy, `others` the same of servers and load together.",
        "* Where a target is not met, [PROFILE.md](PROFILE.md) shows where the time goes.",
        "* Numbers are medians over the rounds. Ratios are taken within a round, and then their median.",
        "* relayN is told how long requests and replies are. It gives a client's requests, with all their keys, "
        "to one server. Of values of a megabyte it has to keep what a client has not taken yet: there it is "
        "no floor.",
        "* In an open loop time counts from when a request was due.",
        "* System calls, in a run of their own: %s." % results.source_of_calls(),
        "* Peak memory is VmHWM. Memory for an idle client is RSS with all clients less RSS after the start, "
        "for each idle one: so the busy ones and everything touched since are in it.", ""]


def other_values(results):
    """Targets that are of no shape: what, place, the value and its limit."""
    for line in GROWTH["workers"].lines:
        one = {r["round"]: r["cpu_us"] for r in results.good("workers", line, 1)}
        yield ("CPU time for a request with 2 workers / with 1: redis GET, " + line, "shared",
               median(r["cpu_us"] / one[r["round"]] for r in results.good("workers", line, 2) if r["round"] in one),
               OTHER["workers"])
    for r in results.static:
        if r["line"] == SUBJECT:
            yield "stripped size, KiB", "", r["stripped_kib"], OTHER["stripped_kib"]
            yield "idle memory (RSS), KiB", "", r["rss_kib"], OTHER["rss_kib"]
            yield "from the start to the first answer, ms", "", median(r["start_ms"]), OTHER["start_ms"]


def targets(results):
    rows = [[t.what + ": " + SHAPES[t.shape].proto + " " + SHAPES[t.shape].what, t.shape, SHAPES[t.shape].place,
             ("at most " if t.most else "at least ") + "%.2f" % t.limit,
             "-" if results.measured(t) is None else "%.3f" % results.measured(t), results.verdict(t)]
            for t in TARGETS]
    for what, place, value, limit in other_values(results):
        verdict = "not measured" if value is None else "met" if value <= limit else "**not met**"
        rows.append([what, "", place, "at most %.2f" % limit, "-" if value is None else "%.3f" % value, verdict])
    met = sum(r[-1] == "met" for r in rows)
    return ["## Targets", "", "%d of %d are met." % (met, len(rows)), "",
            *table(["what", "shape", "place", "target", "measured", ""], rows, 3)]


def shape_table(results, shape):
    head = ["program", "req/s", "ratio", "CPU us", "ratio", "to relayN", "cores", "others", "p50 us", "p99 us",
            "ratio", "p99.9 us", "calls", "peak MiB"]
    rows = []
    for program in PROGRAMS:
        if not results.good(shape, program):
            if results.failed(shape, program):
                rows.append([program, "failed"] + ["-"] * 12)
            continue

        def mid(what, places=2):
            return number(results.median(what, shape, program), places)

        def ratio(what, base):
            return number(results.ratio(what, shape, program, base))

        rows.append([program, mid("rps", 0), ratio("rps", PEER), mid("cpu"), ratio("cpu", PEER), ratio("cpu", FLOOR),
                     mid("cores"), mid("others"), mid("p50", 0), mid("p99", 0), ratio("p99", PEER), mid("p999", 0),
                     number(results.calls(shape, program)), mid("peak_mib", 1)])
    return table(head, rows)


def shapes(results):
    lines = ["## Shapes", "",
             "A `ratio` is that of the column before it to nutcracker's; `to relayN` is the CPU time's to that floor.",
             ""]
    for name, s in SHAPES.items():
        rounds = max((len(results.good(name, p)) for p in PROGRAMS), default=0)
        if rounds:
            lines += ["### %s: %s %s" % (name, s.proto, s.what), "",
                      "Place: %s. Rounds: %d." % (s.place, rounds), ""] + shape_table(results, name)
    return lines if len(lines) > 4 else []


def growth_table(results, name):
    g = GROWTH[name]
    paired = SUBJECT in g.lines and PEER in g.lines
    head = [g.axis] + ["%s us" % line for line in g.lines] + (["nutproxy / nutcracker"] if paired else [])
    head += ["%s req/s" % line for line in g.lines] + ["%s peak MiB" % line for line in g.lines]
    rows = []
    for x in results.points(name):
        row = ["{:,}".format(x)]
        row += [number(results.median("cpu", name, line, x)) for line in g.lines]
        if paired:
            row.append(number(results.ratio("cpu", name, SUBJECT, PEER, x)))
        row += [number(results.median("rps", name, line, x), 0) for line in g.lines]
        row += [number(results.median("peak_mib", name, line, x), 1) for line in g.lines]
        rows.append(row)
    return table(head, rows)


def plot(results, name, path):
    """An SVG by gnuplot.  A logarithmic axis has no zero: it stands a step before the next point."""
    g = GROWTH[name]
    zero = min((x for x in results.points(name) if x > 0), default=10) / 10
    where = {x: x if x > 0 or "x" not in g.log else zero for x in results.points(name)}
    lines = {line: [(at, results.median("cpu", name, line, x)) for x, at in where.items()
                    if results.good(name, line, x)] for line in g.lines}
    lines = {line: points for line, points in lines.items() if points}
    least, most = min(where.values()), max(where.values())
    script = ["set encoding utf8", "set terminal svg size 560,340 font 'sans-serif,11' background 'white'",
              "set output '%s'" % path, "set key outside top center horizontal", "set grid",
              "set style data linespoints",
              "set xlabel '%s'" % g.axis, "set ylabel 'CPU time of the proxy, µs a request'",
              "set xtics (%s)" % ", ".join("'%s' %g" % (brief(x), at) for x, at in where.items())]
    if "x" in g.log:
        script += ["set logscale x", "set xrange [%g:%g]" % (least / 1.5, most * 1.5)]
    else:
        script += ["set xrange [%g:%g]" % (least - 0.5, most + 0.5)]
    script += ["set logscale y"] if "y" in g.log else ["set yrange [0:*]"]
    for i, points in enumerate(lines.values()):
        script += ["$line%d << END" % i, *["%g %g" % point for point in points], "END"]
    script.append("plot " + ", ".join("$line%d using 1:2 lw 2 title '%s'" % (i, line) for i, line in enumerate(lines)))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    subprocess.run(["gnuplot"], input="\n".join(script) + "\n", text=True, check=True)


def growth(results):
    lines = ["## How cost grows", ""]
    shutil.rmtree(os.path.join(HERE, "plots"), ignore_errors=True)
    if not shutil.which("gnuplot"):
        lines += ["There are no plots: gnuplot is missing.", ""]
    for name, g in GROWTH.items():
        if not results.points(name):
            continue
        lines += ["### %s" % name, "", "%s. Place: shared." % g.what, ""]
        if shutil.which("gnuplot"):
            plot(results, name, os.path.join(HERE, "plots", name + ".svg"))
            lines += ["![CPU time for a request against %s](plots/%s.svg)" % (g.axis, name), ""]
        lines += growth_table(results, name)
        lines += ["Left out: %s: %s.\n" % (r["what"], r["why"]) for r in results.left_out
                  if r["what"].startswith(name + " at ")]
    return lines if len(lines) > 2 else []


def static(results):
    if not results.static:
        return []
    rows = [[r["line"], number(r["stripped_kib"], 0), number(r["rss_kib"], 0), number(median(r["start_ms"])),
             number(min(r["start_ms"], default=None))] for r in results.static]
    return ["## Standing still", "",
            "The start is until the first request is answered, the median of %d. nutproxy is static; "
            "nutcracker's shared libraries are not in its size." % max(len(r["start_ms"]) for r in results.static), "",
            *table(["program", "stripped KiB", "idle RSS KiB", "start ms", "fastest ms"], rows)]


def write(results):
    lines = about(results) + method(results) + targets(results) + shapes(results) + growth(results) + static(results)
    lines += ["## What went wrong", "", *["* " + line for line in troubles(results) or ["nothing"]]]
    with open(os.path.join(HERE, "RESULTS.md"), "w") as f:
        f.write("\n".join(lines) + "\n")
