"""What the benchmarks have in common: their options, their data, and how a command is measured."""
import argparse
import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
QUIET = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def compare_each(compare, description, rounds):
    """Has `compare` print its figures for a fleet's data of each kind."""
    args = options(description, rounds)
    for kind in [args.kind] if args.kind else ["lines", "branches"]:
        with fleet(args, kind) as work:
            compare(args, kind, work)


def options(description, rounds):
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("pulpcov", type=os.path.abspath)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--hosts", default="20")
    parser.add_argument("--processes", default="10")
    parser.add_argument("--sources", default="500")
    parser.add_argument("--kind", choices=["lines", "branches"], help="only data of this kind")
    return parser.parse_args()


@contextlib.contextmanager
def fleet(args, kind):
    """A folder with a fleet's data files in `data`; gone afterwards."""
    with tempfile.TemporaryDirectory() as work:
        words = [sys.executable, os.path.join(HERE, "make_fleet.py"), os.path.join(work, "data"), "--hosts", args.hosts,
                 "--processes", args.processes, "--sources", args.sources]
        subprocess.run(words + ["--branch"] * (kind == "branches"), **QUIET)
        yield work


def timed(commands, cwd, env=None):
    """CPU seconds (user + system, children too) and wall seconds of commands one after the other."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for words in commands:
        subprocess.run(words, cwd=cwd, env=env, **QUIET)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - begun


def peak(words, cwd, env=None):
    """Peak resident memory of one run, in MB."""
    script = ("import resource, subprocess, sys; d = subprocess.DEVNULL;"
              "subprocess.run(sys.argv[1:], check=True, stdout=d, stderr=d);"
              "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)")
    run = subprocess.run([sys.executable, "-c", script] + words, cwd=cwd, env=env, check=True, stdout=subprocess.PIPE)
    return int(run.stdout)


def coverage(*words):
    return [sys.executable, "-m", "coverage"] + list(words)


def removed(*paths):
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
