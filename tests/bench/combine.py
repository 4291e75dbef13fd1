"""`pulpcov combine` against `coverage combine`, in turn on the same files; CPU seconds and ratios.

    combine.py PULPCOV [--rounds 5] [--hosts 20] [--processes 10] [--sources 500]

Run it with a Python that has coverage 7.17.3 and Django. Wall time is noisy on shared machines, so
the figure to trust is CPU (user + system) of the whole process, and the ratio of each pair.
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
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--hosts", default="20")
parser.add_argument("--processes", default="10")
parser.add_argument("--sources", default="500")
args = parser.parse_args()
here = os.path.dirname(os.path.abspath(__file__))


def timed(words, cwd):
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(words, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - begun


def peak(words, cwd):
    """Peak resident memory of one run, in MB."""
    script = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    return int(subprocess.run([sys.executable, "-c", script] + words, cwd=cwd, check=True, stdout=subprocess.PIPE).stdout)


def compare(mode):
    work = tempfile.mkdtemp()
    try:
        data = os.path.join(work, "data")
        subprocess.run([sys.executable, os.path.join(here, "make_fleet.py"), data, "--hosts", args.hosts, "--processes", args.processes,
                        "--sources", args.sources] + (["--branch"] if mode == "branch" else []), check=True, stdout=subprocess.DEVNULL)
        files = sorted(os.path.join(data, name) for name in os.listdir(data))
        ours = [os.path.abspath(args.pulpcov), "combine", "-o", "ours", data]
        theirs = [sys.executable, "-m", "coverage", "combine", "--keep", "-q", "--data-file=theirs"] + files
        pairs = []
        for n in range(args.rounds + 1):
            pair = timed(theirs, work), timed(ours, work)
            if n:                       # the first round only warms the caches
                pairs.append(pair)
        check = "from coverage import CoverageData as D; a, b = D('ours'), D('theirs'); a.read(); b.read(); assert a.measured_files() == b.measured_files(); assert all(sorted(a.%s(f)) == sorted(b.%s(f)) for f in a.measured_files())"
        what = "arcs" if mode == "branch" else "lines"
        subprocess.run([sys.executable, "-c", check % (what, what)], cwd=work, check=True)
        median = statistics.median
        print("%-6s %4d files  coverage %6.2f CPU s %6.2f wall s %4d MB   pulpcov %5.3f CPU s %5.3f wall s %4d MB   ratio CPU %.0f wall %.0f" % (
            mode, len(files), median(t[0] for t, _ in pairs), median(t[1] for t, _ in pairs), peak(theirs, work),
            median(o[0] for _, o in pairs), median(o[1] for _, o in pairs), peak(ours, work),
            median(t[0] / o[0] for t, o in pairs), median(t[1] / o[1] for t, o in pairs)))
    finally:
        shutil.rmtree(work)


compare("lines")
compare("branch")
