#!/usr/bin/python3
"""Measures nutproxy beside nutcracker, haproxy and two programs that do the least a proxy can do.

    run.py short                   a short table, 3 to 4 minutes             (make bench)
    run.py full                    everything, then RESULTS.md and plots,
                                   about 20 minutes                          (make bench-full)
    run.py bench -s R1get,R8 -p nutcracker,nutproxy -r 5       some shapes of load
    run.py grow -s clients -x 1,100                            how cost grows, or a part of it
    run.py static                  size, idle memory, time to start
    run.py report [FILE...]        RESULTS.md and plots from the records of runs

Every run writes its records, a line of JSON each, to build/bench/COMMAND.jsonl; report reads full.jsonl unless
told otherwise.  What is measured is told in shapes.py, how it is told in report.py.  A round is one run of each
program, one after the other, so that what changes on the machine changes for all.

Everything listens on 127.0.0.1, on ports that are free.  Only processes started here are ended, by their id.
NUTPROXY names the program under test (default: ./nutproxy).
"""
import argparse
import json
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import report
from shapes import BUILD, DISTURBED, FLOOR, GROWTH, PEER, PROGRAMS, SHAPES, SHORT, SUBJECT, TOP, Setup

HERE = os.path.dirname(os.path.abspath(__file__))
TRACEFS = "/sys/kernel/tracing"
HZ = os.sysconf("SC_CLK_TCK")
# What ends a run early; what we were told to ignore, as by nohup, does not.
STOPS = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]

# What lg takes of a load.
LG = {"c": "-c", "i": "-i", "P": "-P", "K": "-K", "d": "-d", "k": "-k", "rate": "-r", "set": "--set", "mget": "--mget"}


def own_session():
    """Measure in a session of our own.  The scheduler shares the cores among sessions, and ours is preferred, so
    other work on the machine disturbs less.  A terminal no longer reaches us there: the parent hands on its signals."""
    child = os.fork()
    if child:
        for number in STOPS:
            signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.exit(code if code >= 0 else 128 - code)
    os.setsid()
    for number in STOPS:
        signal.signal(number, lambda *_: sys.exit(143))
    try:
        with open("/proc/self/autogroup", "w") as f:
            f.write("-15")
    except OSError:
        pass


def build():
    """The load generator and the floors, if they are older than their source."""
    os.makedirs(BUILD, exist_ok=True)
    for name in ("lg", "relay1", "relayN", "syscost"):
        source, program = os.path.join(HERE, name + ".c"), os.path.join(BUILD, name)
        if not os.path.exists(program) or os.path.getmtime(program) < os.path.getmtime(source):
            subprocess.run(["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def status_kib(pid, field):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field))


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        with open("/proc/%d/stat" % pid) as f:
            total += sum(int(x) for x in f.read().rsplit(")", 1)[1].split()[11:13])
    return total / HZ


def machine_seconds():
    """How long all cores together were busy, with what the hypervisor took."""
    with open("/proc/stat") as f:
        x = [int(v) for v in f.readline().split()[1:9]]
    return (sum(x) - x[3] - x[4]) / HZ


class Trouble(Exception):
    """A run that failed; it is recorded, and the others go on."""


class Stage:
    """The processes of a run, and the file that its records go to."""

    def __init__(self, command):
        self.out = open(os.path.join(BUILD, command + ".jsonl"), "w")
        self.dir = tempfile.mkdtemp(prefix="nutbench-")
        self.processes = []
        self.servers = {}               # protocol: [(port, process)]
        self.filled = {}
        self.cores = sorted(os.sched_getaffinity(0))
        self.files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        self.again = 40                 # how many disturbed runs may be done again, all in all
        self.mounted = False
        self.results = report.Results()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
        for process in list(self.processes):
            self.stop(process)
        if self.mounted:
            subprocess.run(["umount", TRACEFS], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)
        self.out.close()

    def record(self, **record):
        self.out.write(json.dumps(record) + "\n")
        self.out.flush()
        self.results.add(record)

    def say(self, text):
        print(text, flush=True)

    # --- processes ---------------------------------------------------------------

    def cores_for(self, place, proxy):
        if place == "shared":
            return self.cores
        return self.cores[:1] if proxy else self.cores[1:2]

    def spawn(self, argv, cores=None, log="log", **kw):
        def prepare():
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, self.files))
            os.sched_setaffinity(0, cores or self.cores)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

        # A signal waits until the process is on the list.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            with open(os.path.join(self.dir, log), "wb") as out:
                kw = dict(dict(stdout=out, stderr=out), **kw)
                process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, cwd=self.dir,
                                           preexec_fn=prepare, **kw)
            self.processes.append(process)
        except FileNotFoundError:
            raise Trouble("%s is not installed" % argv[0])
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        return process

    def stop(self, process):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.remove(process)

    def wait_for_port(self, port, process, name):
        end = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.005)
        raise Trouble("%s did not start: %s" % (name, self.said(name)))

    def said(self, name):
        with open(os.path.join(self.dir, name), errors="replace") as f:
            return " ".join(f.read()[-300:].split())

    def start_servers(self, proto):
        if proto in self.servers:
            return self.servers[proto]
        self.servers[proto] = []
        for port in free_ports(4):
            name = "%s-%d" % (proto, port)
            if proto == "redis":
                argv = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                        "--dir", self.dir]
            else:
                argv = ["memcached", "-p", port, "-U", "0", "-l", "127.0.0.1", "-u", "nobody", "-t", "1", "-m", "256"]
            process = self.spawn(argv, log=name)
            self.wait_for_port(port, process, name)
            self.servers[proto].append((port, process))
        return self.servers[proto]

    def place_servers(self, proto, place):
        for _, process in self.start_servers(proto):
            for thread in os.listdir("/proc/%d/task" % process.pid):
                os.sched_setaffinity(int(thread), self.cores_for(place, False))

    def start_proxy(self, name, proto, load, place):
        """The process and its port."""
        real = [port for port, _ in self.start_servers(proto)]
        servers = [real[i % len(real)] for i in range(load.get("servers", len(real)))]
        port, stats = free_ports(2)
        conf = os.path.join(self.dir, name + ".conf")
        arguments, text = PROGRAMS[name].arguments(Setup(port, stats, conf, proto, load, servers, self.files))
        with open(conf, "w") as f:
            f.write(text)
        return self.spawn([PROGRAMS[name].path, *arguments], self.cores_for(place, True), name), port

    # --- loads ----------------------------------------------------------------------

    def lg(self, arguments, cores, pids):
        """Runs the load generator; adds to what it tells how many cores were taken by others meanwhile."""
        busy, ours = machine_seconds(), cpu_seconds(pids)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.monotonic()
        process = self.spawn([os.path.join(BUILD, "lg"), *arguments], cores, "lg", stdout=subprocess.PIPE)
        try:
            text = process.communicate()[0].decode()    # it ends by itself, whatever hangs
        finally:
            self.stop(process)
        took = time.monotonic() - start
        try:
            result = json.loads(text)
        except ValueError:
            raise Trouble("the load generator ended with %s: %s" % (process.returncode, self.said("lg")))
        if "error" in result:
            raise Trouble(result["error"])
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours = cpu_seconds(pids) - ours + now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
        result["foreign"] = round((machine_seconds() - busy - ours) / took, 3)
        return result

    def lg_arguments(self, proto, load, port):
        out = ["-p", port] + (["--mc"] if proto == "memcached" else [])
        for key, flag in LG.items():
            if key in load:
                out += [flag] if flag.startswith("--") else [flag, load[key]]
        return out

    def fill(self, proto, load):
        """Every key to every server, so it does not matter where a proxy looks for it."""
        want = load.get("d", 100), load.get("k", 10000)
        if self.filled.get(proto) == want:
            return
        ports = ",".join(str(port) for port, _ in self.start_servers(proto))
        self.lg(self.lg_arguments(proto, {"d": want[0], "k": want[1]}, ports) + ["--fill"], self.cores, ())
        self.filled[proto] = want

    def measure(self, name, proto, place, load, seconds, warm, count_calls=False):
        """One run of one program: what was measured, or the error that it ended with."""
        servers = self.start_servers(proto)
        pids = [process.pid for _, process in servers]
        options = ["-t", seconds, "-w", warm]
        proxy, result = None, {}
        try:
            if name == "direct":
                port = ",".join(str(port) for port, _ in servers)
            else:
                proxy, port = self.start_proxy(name, proto, load, place)
                self.wait_for_port(port, proxy, name)
                time.sleep(0.1)
                result["rss_before_kib"] = status_kib(proxy.pid, "VmRSS")
                options += ["--pid", "proxy:%d" % proxy.pid]
                pids.append(proxy.pid)
            for i, (_, process) in enumerate(servers):
                options += ["--pid", "server%d:%d" % (i, process.pid)]
            told = self.lg(self.lg_arguments(proto, load, port) + options + (["--calls"] if count_calls else []),
                           self.cores_for(place, False), pids)
            if proxy and proxy.poll() is not None:
                raise Trouble("the load was done")
        except Trouble as e:
            died = proxy and proxy.poll() is not None
            return {"error": str(e) + (", and it had exited with %d" % proxy.returncode if died else "")}
        finally:
            if proxy:
                self.stop(proxy)
        procs = told.pop("procs")
        if proxy:
            p = procs.pop("proxy")
            result.update(cpu_us=p["cpu_us"], cores=p["cores"], peak_kib=p["hwm_kb"], rss_kib=p["rss_kb"])
        result["others"] = round(sum(p["cores"] for p in procs.values()), 4)
        result.update(told)
        return result

    def run(self, name, shape, line, x, number, proto, place, load, seconds, warm):
        """As measure, recorded; done again if other work disturbed it."""
        result = self.measure(name, proto, place, load, seconds, warm)
        tries = 2
        while result.get("foreign", 0) > DISTURBED and tries > 0 and self.again > 0:
            tries, self.again = tries - 1, self.again - 1
            time.sleep(1)
            result = self.measure(name, proto, place, load, seconds, warm)
        if result.get("foreign", 0) > DISTURBED:
            result["disturbed"] = True
        self.record(kind="run", shape=shape, line=line, x=x, round=number, load=load, **result)

    # --- what can be had here -------------------------------------------------------

    def leave_out(self, what, why):
        self.record(kind="left out", what=what, why=why)
        self.say("left out: %s: %s" % (what, why))

    def have(self, names):
        """Of these programs those that are here."""
        missing = [n for n in names if n != "direct" and not os.access(PROGRAMS[n].path or "", os.X_OK)]
        if SUBJECT in missing:
            raise Trouble("there is no %s: `make` builds it" % PROGRAMS[SUBJECT].path)
        for name in missing:
            self.leave_out(name, "it is not installed")
        return [n for n in names if n not in missing]

    def fits(self, what, name, place, load):
        """Whether the program takes such a load, and this machine has the descriptors and the cores for it."""
        if any(key in load for key in PROGRAMS[name].unfit):
            return False
        files = 100 + load.get("servers", 4) + (load.get("c", 50) + load.get("i", 0)) * max(1, PROGRAMS[name].files)
        if files > self.files:
            self.leave_out("%s, %s" % (what, name),
                           "it takes %d open files, a process may have %d" % (files, self.files))
        elif place == "own" and len(self.cores) < 2:
            self.leave_out("%s, %s" % (what, name), "it takes two cores")
        else:
            return True
        return False

    def trace(self):
        """System calls are counted by tracepoints; only root can make them readable."""
        if not os.path.isdir(TRACEFS + "/events") and os.geteuid() == 0 and os.path.isdir(TRACEFS):
            self.mounted = subprocess.run(["mount", "-t", "tracefs", "nodev", TRACEFS],
                                          stderr=subprocess.DEVNULL).returncode == 0

    def machine(self, command):
        def first_line(*argv):
            try:
                out = subprocess.run(argv, capture_output=True, text=True)
            except OSError:
                return None
            text = (out.stdout + out.stderr).strip().split("\n")[0].removeprefix("This is ").split(" - ")[0]
            return text if out.returncode == 0 else None

        with open("/proc/cpuinfo") as f:
            cpu = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")),
                       platform.machine())
        versions = {
            SUBJECT: first_line(PROGRAMS[SUBJECT].path, "-V"),
            "its commit": first_line("git", "-C", TOP, "describe", "--always", "--dirty"),
            PEER: PROGRAMS[PEER].path and first_line(PROGRAMS[PEER].path, "-V"),
            "haproxy": PROGRAMS["haproxy"].path and first_line(PROGRAMS["haproxy"].path, "-v"),
            "redis-server": first_line("redis-server", "--version"),
            "memcached": first_line("memcached", "-V"), "C compiler": first_line("cc", "--version"),
            "Python": platform.python_version()}
        self.record(
            kind="machine", command=command, date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), cpu=cpu,
            cores=len(self.cores), kernel="%s %s %s" % (platform.system(), platform.release(), platform.machine()),
            memory_gib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, files=self.files,
            versions={k: v or "unknown" for k, v in versions.items()},
            syscost=json.loads(subprocess.run([os.path.join(BUILD, "syscost")], capture_output=True, text=True,
                                              check=True).stdout))

    # --- what is measured ---------------------------------------------------------------

    def shapes(self, names, programs, counted, rounds, seconds, warm):
        for line in report.short_head(programs):
            self.say(line)
        for name in names:
            s = SHAPES[name]
            here = [p for p in programs if self.fits(name, p, s.place, s.load)]
            if not here:
                continue
            self.fill(s.proto, s.load)
            self.place_servers(s.proto, s.place)
            for p in here:
                if p != "direct" and p in counted:
                    result = self.measure(p, s.proto, s.place, s.load, min(seconds, 1), warm, True)
                    self.record(kind="calls", shape=name, line=p, x=None, **result)
            for number in range(rounds):
                # The order turns around, so that a machine that grows slower is slower for all.
                for p in here if number % 2 == 0 else reversed(here):
                    if len(self.results.failed(name, p)) < 2:
                        self.run(p, name, p, None, number, s.proto, s.place, s.load, seconds, warm)
            self.say(report.short_row(self.results, name, programs))

    def grow(self, names, points, programs, rounds, seconds, warm):
        for name in names:
            g = GROWTH[name]
            lines = {line: x for line, x in g.lines.items() if x[0] in programs}
            for x in points or g.points:
                loads = {line: (p, dict(g.load(x), **extra)) for line, (p, extra) in lines.items()}
                here = [line for line, (p, load) in loads.items()
                        if self.fits("%s at %s" % (name, report.brief(x)), p, "shared", load)]
                for line in here:
                    self.fill("redis", loads[line][1])
                self.place_servers("redis", "shared")
                for number in range(rounds):
                    for line in here if number % 2 == 0 else reversed(here):
                        p, load = loads[line]
                        self.run(p, name, line, x, number, "redis", "shared", load, seconds,
                                 warm + load.get("c", 50) / 10000)
                self.say("%-9s %7s  %s  (CPU us a request)" % (name, report.brief(x), "  ".join(
                    "%s %s" % (line, report.number(self.results.median("cpu", name, line, x))) for line in lines)))

    def static(self, programs, rounds):
        for name in programs:
            try:
                size, rss = self.stripped_kib(name), self.idle_kib(name)
                times = [self.time_to_answer(name) for _ in range(rounds)]
            except Trouble as e:
                self.leave_out("%s standing still" % name, str(e))
                continue
            self.record(kind="static", line=name, stripped_kib=size, rss_kib=rss, start_ms=times)
            self.say("%-12s stripped %s KiB, idle RSS %d KiB, first answer after %.2f ms" % (
                name, report.number(size, 0), rss, report.median(times)))

    def stripped_kib(self, name):
        to, strip = os.path.join(self.dir, "stripped"), shutil.which("strip")
        if strip and subprocess.run([strip, "-o", to, PROGRAMS[name].path]).returncode == 0:
            return os.path.getsize(to) / 1024
        return None

    def idle_kib(self, name):
        proxy, port = self.start_proxy(name, "redis", {}, "shared")
        try:
            self.wait_for_port(port, proxy, name)
            time.sleep(0.5)
            return status_kib(proxy.pid, "VmRSS")
        finally:
            self.stop(proxy)

    def time_to_answer(self, name):
        """Milliseconds from the start of a proxy to the answer to the first request; the servers run already."""
        start = time.monotonic()
        proxy, port = self.start_proxy(name, "redis", {}, "shared")
        try:
            while time.monotonic() < start + 10:
                try:
                    with socket.create_connection(("127.0.0.1", port), 10) as s:
                        s.sendall(b"*2\r\n$3\r\nGET\r\n$12\r\nkey:00000000\r\n")
                        if s.recv(1) == b"$":
                            return (time.monotonic() - start) * 1000
                        raise Trouble("%s answered the first request with an error" % name)
                except OSError:
                    time.sleep(0.0002)
            raise Trouble("%s did not start: %s" % (name, self.said(name)))
        finally:
            self.stop(proxy)


def options():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = ap.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def names(known):
        def parse(text):
            unknown = [n for n in text.split(",") if n not in known]
            if unknown:
                raise argparse.ArgumentTypeError("no %s; there are: %s" % (", ".join(unknown), " ".join(known)))
            return text.split(",")
        return parse

    def command(name, what, rounds=None, seconds=None, warm=None):
        c = commands.add_parser(name, help=what)
        if rounds:
            c.add_argument("-r", "--rounds", type=int, default=rounds, help="(default: %(default)s)")
        if seconds:
            c.add_argument("-t", "--seconds", type=float, default=seconds, help="of a run (default: %(default)s)")
            c.add_argument("-w", "--warm", type=float, default=warm, help="seconds before it (default: %(default)s)")
        return c

    command("short", "a short table")
    command("full", "everything, then the report")
    c = command("bench", "shapes of load", 5, 1.5, 0.3)
    c.add_argument("-s", "--shapes", type=names(SHAPES), default=list(SHAPES), help=" ".join(SHAPES))
    c.add_argument("-p", "--programs", type=names(PROGRAMS), default=list(PROGRAMS), help=" ".join(PROGRAMS))
    c = command("grow", "how cost grows", 2, 1.0, 0.4)
    c.add_argument("-s", "--series", type=names(GROWTH), default=list(GROWTH), help=" ".join(GROWTH))
    c.add_argument("-x", "--points", type=lambda text: [int(x) for x in text.split(",")],
                   help="some points of the series instead of all")
    c.add_argument("-p", "--programs", type=names((SUBJECT, PEER, FLOOR)), default=[SUBJECT, PEER, FLOOR],
                   help=" ".join((SUBJECT, PEER, FLOOR)))
    c = command("static", "size, idle memory, time to start", 9)
    c = command("report", "RESULTS.md and plots")
    c.add_argument("files", nargs="*", default=[os.path.join(BUILD, "full.jsonl")])
    return ap.parse_args()


def main():
    args = options()
    if args.command == "report":
        try:
            report.write(report.Results(args.files))
        except OSError as e:
            sys.exit("run.py: %s" % e)
        return
    build()
    own_session()
    start = time.monotonic()
    with Stage(args.command) as stage:
        stage.trace()
        try:
            stage.machine("bench/run.py " + " ".join(sys.argv[1:]))
            programs = stage.have(args.programs if "programs" in args else list(PROGRAMS))
            still = [p for p in (PEER, SUBJECT) if p in programs]
            if args.command == "short":
                stage.shapes(SHORT, programs, [SUBJECT], 3, 0.7, 0.2)
            elif args.command == "full":
                stage.shapes(list(SHAPES), programs, programs, 5, 0.8, 0.3)
                stage.grow([name for name in GROWTH if name != "workers"], None, programs, 2, 0.8, 0.4)
                stage.grow(["workers"], None, programs, 6, 0.8, 0.4)
                stage.static(still, 9)
            elif args.command == "bench":
                stage.shapes(args.shapes, programs, programs, args.rounds, args.seconds, args.warm)
            elif args.command == "grow":
                stage.grow(args.series, args.points, programs, args.rounds, args.seconds, args.warm)
            else:
                stage.static(still, args.rounds)
        except Trouble as e:
            sys.exit("run.py: %s" % e)
        stage.record(kind="took", seconds=time.monotonic() - start)
        if args.command in ("short", "full", "bench"):
            stage.say("\nsystem calls: " + stage.results.source_of_calls())
            stage.say("records: " + os.path.relpath(stage.out.name, TOP))
        for line in report.troubles(stage.results):
            stage.say(line)
    if args.command == "full":
        report.write(report.Results([os.path.join(BUILD, "full.jsonl")]))


if __name__ == "__main__":
    main()
