"""`pulpcov report` in five formats against coverage.py's five commands, in turn on the same data.

    report.py PULPCOV [--rounds 3] [--hosts 20] [--processes 10] [--sources 500]

Text, JSON, XML, LCOV and HTML; pulpcov with its cache of analyses empty (cold) and full (warm). Run it
with a Python that has coverage 7.17.3 and Django. CPU (user + system, children too) is the figure to
trust on a shared machine; peak memory is that of the largest process.
"""
import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("pulpcov")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--hosts", default="20")
parser.add_argument("--processes", default="10")
parser.add_argument("--sources", default="500")
args = parser.parse_args()
here = os.path.dirname(os.path.abspath(__file__))
pulpcov = os.path.abspath(args.pulpcov)


def timed(commands, cwd, env):
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for words in commands:
        subprocess.run(words, cwd=cwd, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - begun


def peak(words, cwd, env):
    script = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    return int(subprocess.run([sys.executable, "-c", script] + words, cwd=cwd, env=env, check=True, stdout=subprocess.PIPE).stdout)


def compare(mode):
    work = tempfile.mkdtemp()
    try:
        data = os.path.join(work, "data")
        subprocess.run([sys.executable, os.path.join(here, "make_fleet.py"), data, "--hosts", args.hosts, "--processes", args.processes,
                        "--sources", args.sources] + (["--branch"] if mode == "branch" else []), check=True, stdout=subprocess.DEVNULL)
        env = dict(os.environ, PULPCOV_CACHE_DIR=os.path.join(work, "cache"))
        subprocess.run([pulpcov, "combine", "-o", ".coverage", "data"], cwd=work, check=True, stderr=subprocess.DEVNULL)
        ours = [pulpcov, "report", "--python", sys.executable, ".coverage", "--text", "o.txt", "--json", "o.json", "--xml", "o.xml", "--lcov", "o.lcov", "--html", "o"]
        coverage = [sys.executable, "-m", "coverage"]
        theirs = [coverage + ["report"], coverage + ["json", "-q", "-o", "t.json"], coverage + ["xml", "-q", "-o", "t.xml"],
                  coverage + ["lcov", "-q", "-o", "t.lcov"], coverage + ["html", "-q", "-d", "t"]]
        rows = []
        for _ in range(args.rounds):
            shutil.rmtree(os.path.join(work, "t"), ignore_errors=True)
            reference = timed(theirs, work, env)
            shutil.rmtree(env["PULPCOV_CACHE_DIR"], ignore_errors=True)
            rows.append((reference, timed([ours], work, env), timed([ours], work, env)))
        median = lambda i, j: statistics.median(row[i][j] for row in rows)
        memory = max(peak(words, work, env) for words in theirs), peak(ours, work, env)
        print("%-6s coverage %6.1f CPU s %6.1f wall s %4d MB   pulpcov cold %5.2f CPU s %5.2f wall s, warm %5.2f CPU s %5.2f wall s %4d MB   ratio cold CPU %.1f wall %.1f, warm CPU %.0f wall %.0f" % (
            mode, median(0, 0), median(0, 1), memory[0], median(1, 0), median(1, 1), median(2, 0), median(2, 1), memory[1],
            statistics.median(r[0][0] / r[1][0] for r in rows), statistics.median(r[0][1] / r[1][1] for r in rows),
            statistics.median(r[0][0] / r[2][0] for r in rows), statistics.median(r[0][1] / r[2][1] for r in rows)), flush=True)
    finally:
        shutil.rmtree(work)


for mode in ("line", "branch"):
    compare(mode)
