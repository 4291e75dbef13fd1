"""Makes a fleet of coverage.py data files over Django's own sources.

    make_fleet.py OUT --hosts 20 --processes 10 --sources 500 [--branch]

Each process ran the start of every source (as an import does) and a random part of the rest.
"""
import argparse
import os
import random

import django
from coverage import CoverageData
from coverage.parser import PythonParser

parser = argparse.ArgumentParser()
parser.add_argument("out")
parser.add_argument("--hosts", type=int, default=20)
parser.add_argument("--processes", type=int, default=10)
parser.add_argument("--sources", type=int, default=500)
parser.add_argument("--lines", type=int, default=60, help="mean number of lines that ran of a source")
parser.add_argument("--branch", action="store_true")
args = parser.parse_args()
rnd = random.Random(1)

paths = []
for folder, folders, names in os.walk(os.path.dirname(django.__file__)):
    folders.sort()
    paths += [os.path.join(folder, n) for n in sorted(names) if n.endswith(".py") and "locale" not in folder and "_template" not in folder]
sources = []
for path in sorted(paths, key=os.path.getsize, reverse=True):
    parsed = PythonParser(filename=path)
    parsed.parse_source()
    if len(parsed.statements) >= 5:
        sources.append((path, sorted(parsed.statements), sorted(parsed.arcs())))
    if len(sources) == args.sources:
        break

os.makedirs(args.out, exist_ok=True)
for host in range(args.hosts):
    for process in range(args.processes):
        data = CoverageData(os.path.join(args.out, "data.host%02d.%d.%06x" % (host, 1000 + process, rnd.randrange(1 << 24))))
        ran = {}
        for path, statements, arcs in sources:
            count = min(len(statements), max(3, int(rnd.gauss(args.lines, args.lines / 3))))
            start, first = statements[: max(2, count // 3)], rnd.randrange(len(statements))
            lines = set(start) | {statements[(first + i) % len(statements)] for i in range(count - len(start))}
            if args.branch:
                ordered = sorted(lines)
                pairs = set(zip(ordered, ordered[1:])) | {(-1, ordered[0]), (ordered[-1], -1)}
                ran[path] = pairs | {(a, b) for a, b in arcs if a in lines and (b in lines or b < 0) and rnd.random() < 0.7}
            else:
                ran[path] = lines
        (data.add_arcs if args.branch else data.add_lines)(ran)
        data.close(force=True)
print("%d files of %d sources" % (args.hosts * args.processes, len(sources)))
