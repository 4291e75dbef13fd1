"""Makes a run directory of a fleet over Django's own sources, as collect would leave it.

    make_run.py OUT ANALYSIS --hosts 50 --processes 2 --sources 1000 [--branch]

ANALYSIS is the agent's analysis.py. Each host has a role by its number and each process a label by its;
what ran is what make_fleet.py makes up.
"""
import argparse
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile

import coverage
import django
from coverage import CoverageData

parser = argparse.ArgumentParser()
parser.add_argument("out")
parser.add_argument("analysis")
parser.add_argument("--hosts", type=int, default=20)
parser.add_argument("--processes", type=int, default=10)
parser.add_argument("--sources", type=int, default=500)
parser.add_argument("--lines", type=int, default=60, help="mean number of lines that ran of a source")
parser.add_argument("--branch", action="store_true")
parser.add_argument("--other-release", action="store_true", help="the last host has another release of the first source")
args = parser.parse_args()
rnd = random.Random(1)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


root = os.path.dirname(os.path.dirname(django.__file__))
paths = []
for folder, folders, names in os.walk(os.path.dirname(django.__file__)):
    folders.sort()
    paths += [os.path.join(folder, n) for n in sorted(names) if n.endswith(".py") and "locale" not in folder and "_template" not in folder]
paths.sort(key=os.path.getsize, reverse=True)


def analyse(paths):
    request = json.dumps({"mode": "analyse", "paths": paths})
    return subprocess.run([sys.executable, args.analysis], input=request, capture_output=True, text=True, check=True).stdout.splitlines()


def as_source(module, text, analysis):
    digest = sha256(text)
    key = "pulpcov analysis 1\n%s\n%s\n%s\ndefaults\n" % (digest, analysis["coverage"], analysis["python"])
    return {"path": "/srv/app/" + module, "module": module, "text": text, "sha256": digest, "key": sha256(key.encode()),
            "analysis": json.dumps(analysis, separators=(",", ":")).encode(), "statements": analysis["statements"], "arcs": analysis["arcs"]}


answer = analyse(paths)
sources = []
for copy in range(10):
    for path, line in zip(paths, answer):
        analysis = json.loads(line)
        if len(analysis.get("statements", ())) < 5 or len(sources) == args.sources:
            continue
        with open(path, "rb") as f:
            text = f.read()
        module = os.path.relpath(path, root)
        if copy:                    # there are not that many: the same again, under another name
            module, text = module.replace("django", "django%d" % copy, 1), text + b"# %d\n" % copy
            analysis["n_lines"] += 1
        sources.append(as_source(module, text, analysis))
work = tempfile.mkdtemp()
shutil.rmtree(args.out, ignore_errors=True)
other = None
if args.other_release:
    text = b"# A comment on top: every line is one further down.\n" + sources[0]["text"] + b"\nALSO_NEW = 1\n"
    with open(os.path.join(work, "other.py"), "wb") as f:
        f.write(text)
    other = as_source(sources[0]["module"], text, json.loads(analyse([f.name])[0]))
    os.remove(f.name)
groups = {}
for host in range(args.hosts):
    if args.other_release and host == args.hosts - 1:
        sources = [other] + sources[1:]
    name = "host%03d" % host
    role = ("api", "content", "worker", "worker")[host % 4]
    groups.setdefault(role + "s", []).append(name)
    entries, processes = [], []
    for process in range(args.processes):
        data_name = "data.%s.%d.%06x" % (name, 1000 + process, rnd.randrange(1 << 24))
        data_path = os.path.join(work, data_name)
        data = CoverageData(data_path)
        ran = {}
        for source in sources:
            statements = source["statements"]
            count = min(len(statements), max(3, int(rnd.gauss(args.lines, args.lines / 3))))
            first = rnd.randrange(len(statements))
            lines = set(statements[: max(2, count // 3)]) | {statements[(first + i) % len(statements)] for i in range(count - count // 3)}
            if args.branch:
                ordered = sorted(lines)
                pairs = set(zip(ordered, ordered[1:])) | {(-1, ordered[0]), (ordered[-1], -1)}
                ran[source["path"]] = pairs | {(a, b) for a, b in source["arcs"] if a in lines and (b in lines or b < 0) and rnd.random() < 0.7}
            else:
                ran[source["path"]] = lines
        (data.add_arcs if args.branch else data.add_lines)(ran)
        data.close(force=True)
        with open(data_path, "rb") as f:
            entries.append(("data/" + data_name, f.read()))
        os.remove(data_path)
        processes.append({"record": "proc.%d.json" % (1000 + process), "record_sha256": "0" * 64, "pid": 1000 + process, "parent": 1, "start_ticks": 100 + process,
                          "started_at": 1.0, "argv": ["pulpcore-" + role], "unit": role + ".service", "role": role, "python": "3.11", "coverage": coverage.__version__,
                          "data": data_name, "last_flush": 2.0, "state": "live", "error": None, "generation": process % 2, "label": ("startup", "tests")[process % 2]})
    brought = sources if host == 0 else [s for s in sources if s is other]
    entries += [("sources/" + source["sha256"], source["text"]) for source in brought]
    entries += [("analysis/%s.json" % source["key"], source["analysis"]) for source in brought]
    manifest = {"format": 1, "host": name, "hostname": name, "boot_id": "b" + name, "agent": "0", "collected_at": 3.0, "data_root": "/srv/pulp_coverage", "profile": "pulp3",
                "interval": 5.0, "processes": processes, "entries": [{"path": p, "size": len(b), "sha256": sha256(b)} for p, b in entries],
                "sources": [{"path": s["path"], "module_path": s["module"], "sha256": s["sha256"], "size": len(s["text"]), "analysis": s["key"], "interpreter": "/usr/bin/python3"} for s in sources]}
    folder = os.path.join(args.out, "hosts", name)
    os.makedirs(folder)
    with gzip.open(os.path.join(folder, "bundle-0001.tar.gz"), "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for path, data in [("manifest.json", json.dumps(manifest).encode())] + entries:
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
with open(os.path.join(args.out, "run.json"), "w") as f:
    json.dump({"format": 1, "pulpcov": "0.1.0", "created": "2026-01-01T00:00:00Z", "hosts": {"host%03d" % h: None for h in range(args.hosts)}, "groups": groups}, f)
os.rmdir(work)
print("%d hosts, %d processes each, %d sources" % (args.hosts, args.processes, len(sources)))
