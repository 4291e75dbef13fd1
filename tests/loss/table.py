#!/usr/bin/env python3
"""The loss table: what is recorded of a service, and what is not, for each way to end; and who answers a
flush, in each way to be busy.

    table.py AGENT [--rows WORD] [--live PYTHON] [--columns NAMES] [--markdown FILE]

Every function of the service says itself that it ran (one write to a file), so the truth does not
depend on any recorder. The same runs are recorded by pulpcov's hook, which AGENT installs into a
throw-away environment, and by coverage.py 7.17.3 with `patch = subprocess, fork, _exit` and
`sigterm = true`. Where there is a Python with a live map (3.12 and later), they are recorded by that,
too, with branches. Exit code 1 where pulpcov lost what it may not; of a live map that is anything.
"""
import argparse
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
FUNCTIONS = 12000
ALL = "all"
LIVE = "live-map"       # as profiles name it
INTERVAL = 0.5          # seconds between two flushes of pulpcov's recorder
LEEWAY = 1.5            # a flush on a busy machine is late, and takes its time
PACKAGES = ["coverage==7.17.3", "gunicorn==23.0.0", "gevent==25.9.1", "eventlet==0.40.3", "uwsgi==2.0.31", "setuptools"]
LINES = 4               # lines of each generated function, from its `def` to the next


def generated():
    """Module of functions whose two body lines are at known places."""
    text = ["import truth\n", "\n"]
    for n in range(FUNCTIONS):
        text += ["def f%d():\n" % n, "    truth.say('f%d')\n" % n, "    return %d\n" % n, "\n"]
    return "".join(text)


def body(name):
    first = 3 + LINES * int(name[1:])
    return {first + 1, first + 2}


class Broken(Exception):
    """The recorder changed what the service does."""


class Run:
    """One scenario under one recorder."""

    def __init__(self, bench, env):
        self.bench = bench
        self.work = tempfile.mkdtemp(dir=bench.work)
        self.truth = os.path.join(self.work, "truth")
        open(self.truth, "w").close()
        self.env = dict(os.environ, LOSS_TRUTH=self.truth, **env)
        self.ended = None       # when the processes were killed
        self.port = None

    def start(self, *words):
        log = open(os.path.join(self.work, "log"), "wb")
        return subprocess.Popen(words, env=self.env, cwd=self.bench.app, stdout=log, stderr=log,
                                start_new_session=True)

    def server(self, scenario, prefix=()):
        return self.start(*prefix, self.bench.python, os.path.join(self.bench.app, "loss-server"), scenario)

    def gunicorn(self, *words):
        self.pidfile = os.path.join(self.work, "pid")
        words = ("--workers", "2", "--pid", self.pidfile) + words + ("lossweb:app",)
        return self.web([self.bench.python, self.bench.program("gunicorn")], "--bind", *words)

    def uwsgi(self):
        return self.web([self.bench.program("uwsgi"), "--virtualenv", self.bench.venv, "--master", "--processes", "2",
                         "--die-on-term", "--module", "lossweb:app"], "--http-socket")

    def web(self, program, address, *words):
        """A server that answers."""
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        process = self.start(*program, address, "127.0.0.1:%d" % self.port, *words)
        for _ in range(200):
            try:
                self.get(0)
                return process
            except OSError:
                time.sleep(0.1)
        raise SystemExit("no server answers: " + self.words())

    def get(self, n):
        urllib.request.urlopen("http://127.0.0.1:%d/%d" % (self.port, n), timeout=10).read()

    def words(self):
        with open(os.path.join(self.work, "log")) as f:
            return f.read()[-2000:]

    def wait_for(self, count):
        """Until so many functions ran."""
        for _ in range(600):
            with open(self.truth) as f:
                if sum(1 for _ in f) >= count:
                    return
            time.sleep(0.05)
        raise SystemExit("the service does nothing: " + self.words())

    def ran(self):
        with open(self.truth) as f:
            return dict((line.split()[0], float(line.split()[1])) for line in f)


def end(process, number, timeout=90):
    process.send_signal(number)
    process.wait(timeout)


# The rows: each drives one service from its start to its end.

def ended_by(number, scenario):
    def row(run):
        process = run.server(scenario)
        run.wait_for(150)
        end(process, number)
    return row


def sigterm_chained(run):
    process = run.server("chain")
    run.wait_for(50)
    end(process, signal.SIGTERM)
    if process.returncode != 0:
        raise Broken("ends with %d, not in its own time" % process.returncode)


def killed(scenario):
    def row(run):
        process = run.server(scenario)
        run.wait_for(450)
        run.ended = time.time()
        end(process, signal.SIGKILL)
    return row


def power_off(run):
    """Every process of a PID namespace at once, its PID 1 first: nobody is told."""
    process = run.server("pace", prefix=["unshare", "--fork", "--pid", "--kill-child", "--mount-proc"])
    run.wait_for(450)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    run.ended = time.time()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    process.wait(30)


def web_ended_by(number, server):
    def row(run):
        process = server(run)
        for n in range(1, 60):
            run.get(n)
        end(process, number)
    return row


def recycling(run):
    process = run.gunicorn("--max-requests", "5")
    for n in range(1, 60):
        for _ in range(20):
            try:
                run.get(n)
                break
            except OSError:
                time.sleep(0.05)
    end(process, signal.SIGTERM)


def usr2(run):
    process = run.gunicorn()
    for n in range(1, 30):
        run.get(n)
    process.send_signal(signal.SIGUSR2)
    for _ in range(100):
        if os.path.exists(run.pidfile + ".2"):
            break
        time.sleep(0.1)
    with open(run.pidfile + ".2") as f:
        new = int(f.read())
    time.sleep(2)
    end(process, signal.SIGTERM)
    for n in range(30, 60):
        run.get(n)
    os.kill(new, signal.SIGTERM)
    for _ in range(200):
        if not os.path.exists("/proc/%d" % new):
            return
        time.sleep(0.05)


def to_its_end(scenario):
    def row(run):
        process = run.server(scenario)
        if process.wait(120) != 0:
            raise Broken(run.words().strip().splitlines()[-1])
    return row


under_gevent = to_its_end("gevent_threads")
under_gevent.config = "concurrency = gevent\n"
under_greenlet = to_its_end("greenlets")
under_greenlet.config = "concurrency = thread, greenlet\n"

ROWS = [
    # name, driver, may a tracer lose (the last interval; where it never records: ALL), flush interval
    ("SIGTERM, no handler of its own", ended_by(signal.SIGTERM, "pace"), False, INTERVAL),
    ("SIGTERM, gunicorn with two workers", web_ended_by(signal.SIGTERM, Run.gunicorn), False, INTERVAL),
    ("SIGTERM, a handler that calls the one before it", sigterm_chained, False, INTERVAL),
    ("SIGTERM, a handler that was taken back", ended_by(signal.SIGTERM, "taken_back"), False, INTERVAL),
    ("SIGINT", ended_by(signal.SIGINT, "pace"), False, INTERVAL),
    ("SIGINT, gunicorn", web_ended_by(signal.SIGINT, Run.gunicorn), False, INTERVAL),
    ("SIGKILL", killed("pace"), True, INTERVAL),
    ("SIGKILL of a process that forks five times a second", killed("tasks"), True, INTERVAL),
    ("all processes of a host at once, as when it is powered off", power_off, True, INTERVAL),
    ("SIGTERM, uWSGI with two workers, which it forks in C", web_ended_by(signal.SIGTERM, Run.uwsgi), False, INTERVAL),
    ("worker recycling (`--max-requests 5`)", recycling, False, INTERVAL),
    ("task children (`os._exit`)", to_its_end("fork"), False, INTERVAL),
    ("cancelled tasks (SIGUSR1, `sys.exit`)", to_its_end("cancelled"), False, INTERVAL),
    ("tasks cancelled while they fork, flushes every 50 ms", to_its_end("cancelled_while_forking"), False, 0.05),
    ("root that becomes another user", to_its_end("drop_privileges"), False, INTERVAL),
    ("gunicorn re-exec (USR2), old one ended", usr2, False, INTERVAL),
    ("`exec*`, also a failing one", to_its_end("exec"), False, INTERVAL),
    ("spawn and forkserver children", to_its_end("spawn"), False, INTERVAL),
    ("threads that live through flushes", to_its_end("threads"), False, INTERVAL),
    ("forks while flushes come every 50 ms", to_its_end("forks_under_flush"), False, 0.05),
    ("gevent, requests that start threads (coverage.py: `concurrency = gevent`)", under_gevent, False, 0.05),
    ("greenlets that switch by themselves in two threads (coverage.py: `concurrency = thread, greenlet`)", under_greenlet, False, 0.05),
    ("asyncio: tasks, executor, callbacks, a subprocess", to_its_end("loops"), False, INTERVAL),
    ("threads made in C, as by Apache", to_its_end("c_threads"), ALL, INTERVAL),
    ("subinterpreters", to_its_end("subinterpreters"), ALL, INTERVAL),
    ("`chroot` to where nothing is", to_its_end("chroot"), ALL, INTERVAL),
    ("12,000 functions in 8 threads, flushes every 50 ms", to_its_end("stress"), False, 0.05),
]


# What a process is doing when it is asked to flush, and whether it can answer.
STATES = [
    ("asleep", "sleeping", 1, True),
    ("in an idle asyncio loop", "idle_loop", 1, True),
    ("in a C call that releases the GIL", "busy_c", 1, True),
    ("in a C call that keeps the GIL", "busy_gil", 1, False),
    ("gevent, patched before a fork", "gevent", 2, True),
    ("eventlet, patched before a fork", "eventlet", 2, True),
]
ANSWER_WITHIN = 2.0


class Bench:
    """An environment of one Python, in which one of pulpcov's recorders is installed again and again."""

    def __init__(self, agent, python, recorder):
        self.agent, self.recorder = agent, recorder
        self.work = tempfile.mkdtemp(prefix="pulpcov-loss.")
        os.chmod(self.work, 0o755)      # also for a service that becomes another user
        self.venv = os.path.join(self.work, "venv")
        self.python = self.program("python")
        self.app = os.path.join(self.work, "app")
        self.lib, self.data = os.path.join(self.work, "lib"), os.path.join(self.work, "data")
        shutil.copytree(os.path.join(HERE, "app"), self.app)
        with open(os.path.join(self.app, "losswork.py"), "w") as f:
            f.write(generated())
        subprocess.run([python, "-m", "venv", self.venv], check=True)
        pip = [self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run(pip + PACKAGES, check=True)

    def program(self, name):
        return os.path.join(self.venv, "bin", name)

    def ask(self, verb, **words):
        words = dict(words, lib_root=self.lib)
        output = subprocess.run([self.agent, verb, "--json", "--args", "-"], input=json.dumps(words),
                                capture_output=True, text=True).stdout
        answer = json.loads(output)
        if answer["failed"]:
            raise SystemExit("%s: %s" % (verb, answer["msg"]))
        return answer["pulpcov"]

    def install(self, interval):
        self.ask("install", data_root=self.data, interpreters=[self.python], profile={
            "name": "loss", "packages": ["losswork"], "interval": interval, "recorder": self.recorder,
            "branch": self.recorder == LIVE, "processes": [
                {"role": "server", "program": ["loss-server"], "children": "child"},
                {"role": "web", "program": ["gunicorn"], "argument": "lossweb"},
                {"role": "web", "program": ["uwsgi"], "children": "web-worker"},
            ]})

    def uninstall(self):
        self.ask("uninstall", erase_data=True)

    def with_pulpcov(self, row, interval):
        self.install(interval)
        run = Run(self, {})
        row(run)
        self.ask("status")      # what is in a map becomes a data file when somebody looks
        lines = self.lines(self.data)
        self.uninstall()
        return run, lines

    def answers(self, scenario, processes):
        """Seconds until all processes have answered a flush, how many did, and whether their data is there."""
        self.install(60)
        run = Run(self, {})
        process = run.server(scenario)
        try:
            run.wait_for(10 * processes)
            time.sleep(0.3)
            begin = time.time()
            flush = self.ask("flush", timeout=ANSWER_WITHIN)
            took = time.time() - begin
            self.ask("status")
            lost_now, _ = lost(run, self.lines(self.data))
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.uninstall()
        return took, flush, lost_now

    def with_coverage(self, row):
        data = tempfile.mkdtemp(dir=self.work)
        os.chmod(data, 0o1777)
        rc = os.path.join(data, "rc")
        with open(rc, "w") as f:
            f.write("[run]\nparallel = true\nsource_pkgs = losswork\ndata_file = %s/.coverage\n"
                    "patch = subprocess, fork, _exit\nsigterm = true\n%s" % (data, getattr(row, "config", "")))
        run = Run(self, {"COVERAGE_PROCESS_START": rc})
        row(run)
        return run, self.lines(data)

    def lines(self, folder):
        """Lines of the measured module in all data files of a folder, as coverage.py reads them."""
        names = [os.path.join(folder, name) for name in os.listdir(folder)
                 if name.startswith(("data.", ".coverage."))]
        script = ("import json, sys\nfrom coverage import CoverageData\nlines = set()\n"
                  "for name in json.load(sys.stdin):\n    d = CoverageData(name); d.read()\n"
                  "    for f in d.measured_files():\n"
                  "        lines.update(d.lines(f) if f.endswith('losswork.py') else ())\n"
                  "print(json.dumps(sorted(lines)))\n")
        output = subprocess.run([self.python, "-c", script], input=json.dumps(names), text=True,
                                capture_output=True, check=True).stdout
        return set(json.loads(output))


    def close(self):
        shutil.rmtree(self.work, ignore_errors=True)


def live_python():
    """A Python of this machine that has a live map."""
    for version in ("3.14", "3.13", "3.12"):
        found = glob.glob(os.path.expanduser("~/.pyenv/versions/%s.*/bin/python" % version))
        found += filter(None, [shutil.which("python" + version)])
        for python in found:        # a shim of pyenv's is there for versions that are not switched on
            if subprocess.run([python, "-c", "import venv"], stderr=subprocess.DEVNULL).returncode == 0:
                return python
    return None


def cell_of(bench, name, row, may_lose, interval, bad):
    """What one of pulpcov's recorders lost, and how many functions ran."""
    ours, our_lines = bench.with_pulpcov(row, interval)
    count, age = lost(ours, our_lines)
    total = len(ours.ran())
    cell = "0" if not count else "%d" % count
    if count and age is not None:
        cell += " (ran in the last %.1f s; interval %g s)" % (age, interval)
    may_lose = None if bench.recorder == LIVE else may_lose
    is_known = may_lose == ALL or may_lose and age is not None and age <= interval + LEEWAY
    if count and not is_known:
        bad.append("%s: %d of %d lost by %s" % (name, count, total, bench.recorder))
    return cell, total


def cell_of_peer(bench, row):
    try:
        theirs, their_lines = bench.with_coverage(row)
    except Broken as e:
        return "the service is broken: %s" % e
    count, _ = lost(theirs, their_lines)
    return "%d of %d" % (count, len(theirs.ran())) if count else "0"


def lost(run, lines):
    """Functions that ran and are not recorded, and how long before the end the first of them ran."""
    missing = dict((name, when) for name, when in run.ran().items() if not body(name) <= lines)
    age = run.ended - min(missing.values()) if missing and run.ended else None
    return len(missing), age


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("agent", help="pulpcov-agent")
    parser.add_argument("--rows", default="", help="only rows whose name has this word")
    parser.add_argument("--live", default=live_python(), metavar="PYTHON", help="a Python with a live map")
    parser.add_argument("--columns", default="pulpcov,live map,coverage.py", help="recorders, with commas between")
    parser.add_argument("--markdown", help="write the table to this file, too")
    args = parser.parse_args()
    # A shell's background jobs ignore SIGINT, and hand that down; the services must not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    columns = args.columns.split(",")
    if not args.live and "live map" in columns:
        columns.remove("live map")
        print("skipped: the live map, for which this machine has no Python (3.12 or later)", file=sys.stderr)
    agent = os.path.abspath(args.agent)
    tracer = Bench(agent, sys.executable, "coverage") if set(columns) & {"pulpcov", "coverage.py"} else None
    live = Bench(agent, args.live, LIVE) if "live map" in columns else None
    states = ["| a process that is | answers a flush |", "|---|---|"]
    table = ["| what happened | functions that ran | %s |" % " | ".join(c + " lost" for c in columns),
             "|---|---" + "|---" * len(columns) + "|"]
    bad = []
    try:
        for name, row, may_lose, interval in ROWS:
            if args.rows not in name:
                continue
            cells, total = [], 0
            for column in columns:
                if column == "coverage.py":
                    cells.append(cell_of_peer(tracer, row))
                else:
                    cell, ran = cell_of(tracer if column == "pulpcov" else live, name, row, may_lose, interval, bad)
                    cells.append(cell)
                    total = total or ran
            table.append("| %s | %d | %s |" % (name, total, " | ".join(cells)))
            print(table[-1], flush=True)
        for name, scenario, processes, can_answer in STATES:
            if args.rows not in name:
                continue
            took, flush, lost_now = (tracer or live).answers(scenario, processes)
            acked, silent = len(flush["acked"]), len(flush["silent"])
            if can_answer:
                states.append("| %s | in %.1f s |" % (name, took))
                if acked < processes or silent or lost_now or flush.get("bad"):
                    bad.append("%s: %d answered, %d silent, %d lost" % (name, acked, silent, lost_now))
            else:
                states.append("| %s | not within %g s; it is named as silent |" % (name, ANSWER_WITHIN))
                if silent != processes:
                    bad.append("%s: %d silent" % (name, silent))
            print(states[-1], flush=True)
    finally:
        for bench in filter(None, (tracer, live)):
            bench.close()
    if args.markdown:
        with open(args.markdown, "w") as f:
            f.write("\n".join(table + [""] + states) + "\n")
    if bad:
        raise SystemExit("lost: " + "; ".join(bad))


if __name__ == "__main__":
    main()
