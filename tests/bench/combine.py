"""`pulpcov combine` against `coverage combine`, in turn on the same files; CPU seconds and ratios.

    combine.py PULPCOV [--rounds 5] [--hosts 20] [--processes 10] [--sources 500] [--kind lines]

Run it with a Python that has coverage 7.17.3 and Django. Wall time is noisy on shared machines, so
the figure to trust is CPU of the whole process, and the ratio of each pair.
"""
import os
import subprocess
import sys
from statistics import median

from measure import compare_each, coverage, peak, timed

EQUAL = """
import sys
from coverage import CoverageData
ours, theirs = CoverageData("ours"), CoverageData("theirs")
ours.read(), theirs.read()
assert ours.measured_files() == theirs.measured_files()
for name in ours.measured_files():
    assert sorted(ours.lines(name)) == sorted(theirs.lines(name)), name
    assert sorted(ours.arcs(name) or ()) == sorted(theirs.arcs(name) or ()), name
"""


def compare(args, kind, work):
    data = os.path.join(work, "data")
    files = sorted(os.path.join(data, name) for name in os.listdir(data))
    ours = [args.pulpcov, "combine", "-o", "ours", data]
    theirs = coverage("combine", "--keep", "-q", "--data-file=theirs", *files)
    timed([theirs], work), timed([ours], work)      # only warms the caches
    pairs = [(timed([theirs], work), timed([ours], work)) for _ in range(args.rounds)]
    subprocess.run([sys.executable, "-c", EQUAL], cwd=work, check=True)
    print("%-8s %4d files  coverage %6.2f CPU s %6.2f wall s %4d MB   pulpcov %5.3f CPU s %5.3f wall s %4d MB   ratio CPU %.0f wall %.0f" % (
        kind, len(files), median(t[0] for t, _ in pairs), median(t[1] for t, _ in pairs), peak(theirs, work),
        median(o[0] for _, o in pairs), median(o[1] for _, o in pairs), peak(ours, work),
        median(t[0] / o[0] for t, o in pairs), median(t[1] / o[1] for t, o in pairs)), flush=True)


compare_each(compare, __doc__, rounds=5)
