"""Makes the corpora that are checked in: small, real, and of every kind that the readers know.

    make_corpus.py CORPUS       with a Python that has coverage.py
"""
import hashlib
import io
import json
import os
import sqlite3
import struct
import subprocess
import sys
import tarfile

from coverage import CoverageData

HERE = os.path.dirname(os.path.abspath(__file__))
ANALYSIS = os.path.join(HERE, "../agent/data-file/src/analysis.py")
INVENTORIES = os.path.join(HERE, "../tests/fixtures/inventories")
SOURCE = b"""import os


class Shop:
    def price(self, name):
        if name:
            return 1
        with open(os.devnull) as f:
            for line in f:
                print(line)
        return [n for n in range(3)]
"""


def put(corpus, target, name, data):
    folder = os.path.join(corpus, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def record():
    """A process record as the recorder writes it."""
    return json.dumps({
        "recorder": 3, "pid": 7, "parent": 1, "start_ticks": 77, "boot_id": "", "started_at": 1.5, "argv": ["python3", "-m", "shop"],
        "unit": "shop.service", "role": "web", "python": "3.11.2", "prefix": "/usr", "coverage": "7.17.3", "interval": 5.0,
        "data": "data.h1.7.aa", "size": 3, "last_flush": 2.5, "ack": None, "ended": "exit", "error": None,
        "packages": {"shop": "/opt/shop/shop/__init__.py"}, "folders": {"shop": ["/opt/shop/shop"]},
        "sources": "0123456789abcdef", "generation": 1, "label": "tests", "run": "", "continues": "proc.h1.7.bb.json",
        "proof": "00", "seal": "11",
    }).encode()


def many():
    """The record of processes whose data was made one."""
    return json.dumps({
        "data": "data.h1.0.bb", "boot_id": "b", "generation": 1, "label": "tests", "role": "web", "unit": None,
        "python": "3.11.2", "prefix": "/usr", "coverage": "7.17.3", "branch": True, "uid": 0,
        "members": [{"record": "proc.h1.7.aa.json", "pid": 7, "start_ticks": 77}],
        "packages": {"shop": "/opt/shop/shop/__init__.py"}, "folders": {"shop": ["/opt/shop/shop"]}, "sources": "0123456789abcdef",
    }).encode()


def data_file(name, fill):
    """A data file in pages of 512 bytes: what a fuzzer changes is then seldom padding."""
    path = "/dev/shm/pulpcov-corpus"
    data = CoverageData(basename=path)
    fill(data)
    data.write()
    data.close()
    con = sqlite3.connect(path)
    con.executescript("pragma journal_mode = delete; pragma page_size = 512; vacuum")
    con.close()
    with open(path, "rb") as f:
        found = f.read()
    os.unlink(path)
    return found


def with_contexts(data):
    for context in ("", "test_a|run", "test_b"):
        data.set_context(context)
        data.add_lines({"/opt/shop/shop.py": [1, 4, 5], "/opt/shop/b.py": range(1, 400, 7)})


LINES, ARCS = 5, 6          # kinds of records of a map


def process_map(ran):
    """A recorded process's map, with a record of each kind but lines or arcs: see `agent/data-file/src/map.rs`."""
    def padded(data):
        return data + b"\0" * (-len(data) % 8)

    def make(kind, payload, context=0):
        payload = padded(payload)
        return struct.pack("<IHH", 8 + len(payload), kind, context) + payload

    facts = json.dumps({"pid": 7, "start_ticks": 77, "role": "web", "python": "3.12.1", "branch": True}).encode()
    flags = bytes([0, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1]) if ran[0] == LINES else bytes(12)
    path, name = b"/opt/shop/shop/web.py", b"tests/test_web.py::test_price"
    return b"pcovmap1" + b"".join([
        make(1, struct.pack("<II", len(facts), 0) + facts),
        make(2, padded(struct.pack("<II", 12, len(path)) + path) + flags),
        make(7, struct.pack("<II", len(name), 0) + name),
        make(*ran),
        make(3, struct.pack("<II", 0, 4) + b"\1\2\3\4\5\6\7\10"),
        make(4, struct.pack("<IIII", 0, 6, 20, 0)),
    ])


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def analysis_of(path):
    request = {"mode": "analyse", "paths": [path], "options": {}}
    return subprocess.run([sys.executable, ANALYSIS], input=json.dumps(request).encode(), stdout=subprocess.PIPE,
                          check=True).stdout.strip()


def bundle(data, analysis):
    source, about = sha256(SOURCE), json.loads(analysis)
    key = "pulpcov analysis 1\n%s\n%s\n%s\ndefaults\n" % (source, about["coverage"], about["python"])
    key = sha256(key.encode())
    entries = [("data/data.h1.7.abcdefabcdef", data), ("sources/" + source, SOURCE), ("analysis/%s.json" % key, analysis)]
    process = {
        "record": "proc.h1.7.abcdefabcdef.json", "record_sha256": "0" * 64, "pid": 7, "parent": 1, "start_ticks": 1,
        "started_at": 1.0, "argv": ["shop"], "unit": "shop.service", "role": "web", "python": "3.11.2",
        "coverage": "7.17.3", "data": "data.h1.7.abcdefabcdef", "last_flush": 2.0, "state": "live", "error": None,
        "generation": 1, "label": "tests", "run": "",
    }
    manifest = {
        "format": 1, "host": "h1", "hostname": "h1", "boot_id": "b", "agent": "0.1.0", "collected_at": 3.0,
        "data_root": "/srv/pulp_coverage", "profile": "shop", "interval": 2.0, "processes": [process],
        "entries": [{"path": path, "size": len(found), "sha256": sha256(found)} for path, found in entries],
        "sources": [{"path": "/opt/shop/shop.py", "module_path": "shop.py", "sha256": source, "size": len(SOURCE),
                     "analysis": key, "interpreter": "/usr/bin/python3"}],
        "unsourced": [], "warnings": ["w"], "extra": {"data.friend": 1005},
        "replaced": {"paths": ["/opt/shop/shop.py"], "fingerprints": ["0123456789abcdef"],
                     "data": [{"name": "data.h1.7.abcdefabcdef", "paths": [0], "recorded": [0]}]},
    }
    manifest = json.dumps(manifest).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, found in [("manifest.json", manifest)] + entries:
            info = tarfile.TarInfo(name)
            info.size = len(found)
            archive.addfile(info, io.BytesIO(found))
    return manifest, out.getvalue()


def main(corpus):
    path = "/dev/shm/pulpcov-corpus.py"
    with open(path, "wb") as f:
        f.write(SOURCE)
    analysis = analysis_of(path)
    os.unlink(path)
    put(corpus, "analysis", "shop.json", analysis)
    put(corpus, "analysis", "error.json", analysis_of("/nowhere.py"))
    lines = data_file("lines", with_contexts)
    put(corpus, "data_file", "lines", lines)
    put(corpus, "data_file", "arcs", data_file("arcs", lambda data: data.add_arcs(
        {"/opt/shop/shop.py": [(-1, 1), (1, 4), (4, -1)], "/opt/b.py": [(n, n + 1) for n in range(1, 300)]})))
    put(corpus, "data_file", "old.json",
        b'!coverage.py: This is a private format, don\'t read it directly!{"lines":{"/a.py":[3,1]},"file_tracers":{}}')
    put(corpus, "map", "lines", process_map((LINES, struct.pack("<IIIII", 0, 3, 2, 4, 11), 1)))
    put(corpus, "map", "arcs", process_map((ARCS, struct.pack("<IIiiii", 0, 2, -1, 1, 1, -1))))
    manifest, archive = bundle(lines, analysis)
    put(corpus, "manifest", "manifest.json", manifest)
    put(corpus, "bundle", "one.tar", archive)
    put(corpus, "record", "one.json", record())
    put(corpus, "record", "many.json", many())
    put(corpus, "run", "one.tar", archive)
    payloads = [b'{"op":"status"}', b"x" * 70, b""]
    frames = b"".join(struct.pack(">IB", len(p), kind) + p for kind in range(1, 7) for p in payloads)
    put(corpus, "frames", "all", b"\x07" + frames)
    for folder, _, names in os.walk(INVENTORIES):
        for name in names:
            full = os.path.join(folder, name)
            if not name.endswith(".out") and "expected" not in name and os.path.getsize(full) < 3000:
                with open(full, "rb") as f:
                    put(corpus, "inventory", os.path.relpath(full, INVENTORIES).replace("/", "-"), f.read())


main(sys.argv[1])
