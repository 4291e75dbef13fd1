"""`pulpcov report` in five formats against coverage.py's five commands, in turn on the same data.

    report.py PULPCOV [--rounds 3] [--hosts 20] [--processes 10] [--sources 500] [--kind lines]

Text, JSON, XML, LCOV and HTML; pulpcov with its cache of analyses empty (cold) and full (warm). Run it
with a Python that has coverage 7.17.3 and Django. CPU (user + system, children too) is the figure to
trust on a shared machine; peak memory is that of the largest process.
"""
import os
import subprocess
import sys
from statistics import median

from measure import QUIET, compare_each, coverage, peak, removed, timed


def compare(args, kind, work):
    env = dict(os.environ, PULPCOV_CACHE_DIR=os.path.join(work, "cache"))
    subprocess.run([args.pulpcov, "combine", "-o", ".coverage", "data"], cwd=work, **QUIET)
    ours = [args.pulpcov, "report", "--python", sys.executable, ".coverage", "--text", "o.txt", "--json", "o.json",
            "--xml", "o.xml", "--lcov", "o.lcov", "--html", "o"]
    theirs = [coverage("report"), coverage("json", "-q", "-o", "t.json"), coverage("xml", "-q", "-o", "t.xml"),
              coverage("lcov", "-q", "-o", "t.lcov"), coverage("html", "-q", "-d", "t")]
    rows = []
    for _ in range(args.rounds):
        removed(os.path.join(work, "t"), env["PULPCOV_CACHE_DIR"])
        rows.append((timed(theirs, work, env), timed([ours], work, env), timed([ours], work, env)))

    def middle(who, what):
        return median(row[who][what] for row in rows)

    def ratio(who, what):
        return median(row[0][what] / row[who][what] for row in rows)

    memory = max(peak(words, work, env) for words in theirs), peak(ours, work, env)
    print("%-8s coverage %6.1f CPU s %6.1f wall s %4d MB   pulpcov cold %5.2f CPU s %5.2f wall s, warm %5.2f CPU s "
          "%5.2f wall s %4d MB   ratio cold CPU %.1f wall %.1f, warm CPU %.0f wall %.0f" % (
              kind, middle(0, 0), middle(0, 1), memory[0], middle(1, 0), middle(1, 1), middle(2, 0), middle(2, 1),
              memory[1], ratio(1, 0), ratio(1, 1), ratio(2, 0), ratio(2, 1)), flush=True)


compare_each(compare, __doc__, rounds=3)
