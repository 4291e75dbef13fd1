"""A host that lies: sshd runs this instead of any command. The real agent does the work; what it answers is changed.

    proxy.py MODE       with the command in SSH_ORIGINAL_COMMAND
"""
import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import threading
import time

OP, PROGRESS, DATA, DATA_END, OUTCOME = 2, 3, 4, 5, 6
MODE = sys.argv[1]
OUT = sys.stdout.buffer
CLAIMS = {"newer": ("99.0.0", "3.11"), "python": ("7.17.3", "3.99")}     # who made its analyses, as it says
MEGABYTES = {"sources": 17, "huge": 500}     # of sources that nobody lists


def send(kind, payload):
    OUT.write(struct.pack(">IB", len(payload), kind) + payload)
    OUT.flush()


def send_bundle(bundle):
    for at in range(0, len(bundle), 65536):
        send(DATA, bundle[at:at + 65536])
    send(DATA_END, json.dumps({"bytes": len(bundle), "sha256": digest(bundle)}).encode())


def digest(data):
    return hashlib.sha256(data).hexdigest()


def key(sha256, coverage, python):
    return digest(("pulpcov analysis 1\n%s\n%s\n%s\ndefaults\n" % (sha256, coverage, python)).encode())


def unpack(bundle):
    tar = tarfile.open(fileobj=io.BytesIO(gzip.decompress(bundle)))
    return [(member.name, tar.extractfile(member).read()) for member in tar]


def pack(manifest, entries):
    manifest["entries"] = [{"path": name, "size": len(data), "sha256": digest(data)} for name, data in entries]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in [("manifest.json", json.dumps(manifest).encode())] + entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), 1)


def one_statement(text, **more):
    """Of all that could run, the first line is left: it ran when the module was imported."""
    analysis = json.loads(text)
    analysis.update(statements=analysis["statements"][:1], arcs=[], exit_counts=[], regions=[], descriptions=[], **more)
    return json.dumps(analysis).encode()


def no_branch(text, **more):
    """All lines as they are, and of each the one exit that was taken."""
    analysis = json.loads(text)
    analysis.update(exit_counts=[[line, min(exits, 1)] for line, exits in analysis["exit_counts"]], **more)
    return json.dumps(analysis).encode()


def change_sources(sources):
    """What the host says that it has."""
    if MODE in CLAIMS:
        for source in sources:
            source["analysis"] = key(source["sha256"], *CLAIMS[MODE])
    if MODE == "relabel":
        smallest = min(sources, key=lambda source: source["size"])
        for source in sources:
            source["analysis"] = smallest["analysis"]


REAL = {}


def change_bundle(bundle):
    entries = unpack(bundle)
    manifest, entries = json.loads(entries[0][1]), entries[1:]
    old = {source["analysis"]: source["sha256"] for source in manifest["sources"]}
    change_sources(manifest["sources"])
    is_analysis = lambda name: name.startswith("analysis/")
    if MODE == "drop":
        entries = [entry for entry in entries if not is_analysis(entry[0])]
    if MODE == "false":
        entries = [(name, one_statement(data) if is_analysis(name) else data) for name, data in entries]
    if MODE == "exits":
        entries = [(name, no_branch(data) if is_analysis(name) else data) for name, data in entries]
    if MODE in CLAIMS:
        coverage, python = CLAIMS[MODE]
        lie = one_statement if MODE == "newer" else no_branch
        entries = [("analysis/%s.json" % key(old[name[9:-5]], coverage, python), lie(data, coverage=coverage, python=python))
                   if is_analysis(name) else (name, data) for name, data in entries]
    if MODE == "relabel":
        kept = {source["analysis"] for source in manifest["sources"]}
        entries = [entry for entry in entries if not is_analysis(entry[0]) or entry[0][9:-5] in kept]
    if MODE in MEGABYTES:
        more = [b"%d" % n + b"x" * (MEGABYTES[MODE] << 20) for n in range(6)]
        entries += [("sources/" + digest(data), data) for data in more]
    return pack(manifest, entries)


def real_names(op):
    """The real agent knows none of the names that were made up."""
    want = op.get("want", {}).get("only") if isinstance(op.get("want"), dict) else None
    if want and MODE in CLAIMS:
        known = {key(source["sha256"], *CLAIMS[MODE]): source["analysis"] for source in REAL["sources"]}
        want["analyses"] = [known.get(name, name) for name in want["analyses"]]
    return op


def forward_ops(agent):
    while True:
        head = sys.stdin.buffer.read(5)
        if len(head) < 5:
            agent.stdin.close()
            return
        length, kind = struct.unpack(">IB", head)
        payload = sys.stdin.buffer.read(length)
        if kind == OP:
            payload = json.dumps(real_names(json.loads(payload))).encode()
        agent.stdin.write(struct.pack(">IB", len(payload), kind) + payload)
        agent.stdin.flush()


def serve(agent):
    bundle = b""
    while True:
        head = agent.stdout.read(5)
        if len(head) < 5:
            return
        length, kind = struct.unpack(">IB", head)
        payload = agent.stdout.read(length)
        if kind == DATA:
            bundle += payload
        elif kind == DATA_END:
            send_bundle(change_bundle(bundle))
            bundle = b""
        elif kind == OUTCOME:
            outcome = json.loads(payload)
            detail = outcome.get("pulpcov", {})
            if detail.get("kind") == "collect":
                REAL["sources"] = json.loads(json.dumps(detail["sources"]))
                change_sources(detail["sources"])
                if MODE in ("heartbeat", "flood"):
                    beat()
            send(OUTCOME, json.dumps(outcome).encode())
        else:
            send(kind, payload)


def beat():
    """Signs of life without end."""
    while True:
        send(PROGRESS, json.dumps({"step": "" if MODE == "heartbeat" else "still at it"}).encode())
        if MODE == "heartbeat":
            time.sleep(0.5)


def main():
    agent = subprocess.Popen(["/bin/sh", "-c", os.environ["SSH_ORIGINAL_COMMAND"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    line = b""
    while line != b"PCOV1 RUN\n":
        line = agent.stdout.readline()
        if not line:
            return
        OUT.write(line)
        OUT.flush()
        if line.startswith(b"PCOV1 NEED"):
            sys.exit("the test installs first: the agent is there")
    answers = threading.Thread(target=serve, args=(agent,))
    answers.start()
    forward_ops(agent)
    answers.join()


main()
