"""Proves gate, recorder, flush and data file under one interpreter, before any service relies on them.

    PULPCOV_SELFTEST=DIR python pulpcov-selftest run          the recorded process
    python pulpcov-selftest check DIR COVERAGE_DIR BRANCH LIVE_MAP
                                                              reads what it left; prints one JSON object
"""
import json
import os
import signal
import sys
import time

PARENT = {4, 5, 6, 10, 17, 21}      # lines of canary.py: the definitions, and parent(1)
CHILD = {11, 12, 13, 14}            # child(), in a fork that ends with os._exit
KILLED = {22, 23}                   # killed(), in a fork that ends with SIGKILL
TAKEN = {"exit": {(5, 6)}, "_exit": {(12, 13), (12, 14)}}     # branches of these


def wait_for(what, condition):
    for _ in range(400):
        if condition():
            return
        time.sleep(0.05)
    sys.exit("no " + what)


def ledger(root):
    folder = os.path.join(root, ".pulpcov")
    records = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("proc."):
            with open(os.path.join(folder, name)) as f:
                records.append(json.load(f))
    return records


def run():
    root = os.environ["PULPCOV_SELFTEST"]
    if "_pulpcov_recorder" not in sys.modules:
        sys.exit("the gate did not start the recorder")
    import _pulpcov_canary as canary
    canary.parent(1)
    trigger = os.path.join(root, ".pulpcov", "flush")
    with open(trigger + ".new", "w") as f:
        f.write("selftest")
    os.rename(trigger + ".new", trigger)
    wait_for("answer to a flush request", lambda: any(r["ack"] == "selftest" for r in ledger(root)))
    pid = os.fork()
    if pid == 0:
        canary.child()
        os._exit(0)
    os.waitpid(pid, 0)
    if sys.modules["_pulpcov_recorder"]._state.core.is_live:
        pid = os.fork()
        if pid == 0:
            canary.killed(1)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)


def check(root, coverage_dir, branch, is_live):
    sys.path.insert(0, coverage_dir)
    from coverage import CoverageData
    problems, seen = [], []
    for record in ledger(root):
        if record["error"]:
            problems.append(record["error"])
        if record["core"].startswith("live-map") != is_live:
            problems.append("recorded by %s" % record["core"])
        if not record["data"] or not os.path.exists(os.path.join(root, record["data"])):
            problems.append("a process of the self-test left no data file")
            continue
        data = CoverageData(basename=os.path.join(root, record["data"]))
        data.read()
        if bool(data.has_arcs()) != branch:
            problems.append("branch recording is %s, wanted %s" % (data.has_arcs(), branch))
        # The docstring's line counts on some Pythons and not on others.
        lines = [set(data.lines(f)) - {0, 1} for f in data.measured_files()]
        seen.append((record["ended"], lines))
        arcs = set(arc for f in data.measured_files() for arc in data.arcs(f) or ())
        if branch and (not TAKEN.get(record["ended"], set()) <= arcs or (5, 7) in arcs):
            problems.append("the branches of %s are %r" % (record["ended"], sorted(arcs)))
    # The agent has seen that it is gone when it read its map.
    wanted = [("_exit", [CHILD]), ("exit", [PARENT])] + [("gone", [KILLED])] * is_live
    if sorted(seen, key=lambda s: s[0] or "") != wanted and not problems:
        problems.append("recorded %r, wanted %r" % (
            [(e, [sorted(s) for s in l]) for e, l in seen], [(e, [sorted(s) for s in l]) for e, l in wanted]))
    print(json.dumps({"problems": problems}))


if sys.argv[1] == "run":
    run()
else:
    check(sys.argv[2], sys.argv[3], sys.argv[4] == "true", sys.argv[5] == "true")
