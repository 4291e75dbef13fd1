#!/usr/bin/env python3
"""What many short tasks on one host leave behind: files, bytes, and what is lost by compacting them.

    tasks.py AGENT [TASKS]

A worker forks TASKS children (10,000), each runs a function and ends by os._exit. As on a host, the agent
compacts every minute meanwhile. The agent's hook goes into a throw-away environment.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

SERVER = """
import os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tasks
for n in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        getattr(tasks, "f%d" % (n % 100))()
        os._exit(0)
    os.waitpid(pid, 0)
"""


def main():
    agent, count = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    work = tempfile.mkdtemp(prefix="pulpcov-tasks.")
    try:
        measure(agent, count, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def measure(agent, count, work):
    lib, data, python = (os.path.join(work, name) for name in ("lib", "data", "venv/bin/python"))
    subprocess.run([sys.executable, "-m", "venv", os.path.join(work, "venv")], check=True)
    with open(os.path.join(work, "task-server"), "w") as f:
        f.write(SERVER)
    with open(os.path.join(work, "tasks.py"), "w") as f:
        f.write("".join("def f%d():\n    return %d\n" % (n, n) for n in range(100)))

    def ask(verb, **words):
        output = subprocess.run([agent, verb, "--json", "--args", "-"], input=json.dumps(dict(words, lib_root=lib)),
                                capture_output=True, text=True).stdout
        answer = json.loads(output)
        if answer["failed"]:
            raise SystemExit("%s: %s" % (verb, answer["msg"]))
        return answer["pulpcov"]

    def files():
        names = [os.path.join(folder, name) for folder, _, names in os.walk(data) for name in names
                 if not name.startswith(".tmp.")]
        return len(names), sum(os.path.getsize(name) for name in names)

    ask("install", data_root=data, interpreters=[python], profile={
        "name": "tasks", "packages": ["tasks"],
        "processes": [{"role": "worker", "program": ["task-server"], "children": "task"}]})
    begin, most, cpu, compactions = time.time(), (0, 0), 0.0, 0
    server = subprocess.Popen([python, os.path.join(work, "task-server"), str(count)])
    due = begin + 60
    while server.poll() is None:
        time.sleep(1)
        most = max(most, files())
        if time.time() > due:
            before = os.times()
            ask("compact")
            after = os.times()
            cpu += after.children_user + after.children_system - before.children_user - before.children_system
            compactions += 1
            due += 60
    took = time.time() - begin
    time.sleep(11)      # a record rests ten seconds before it is compacted
    ask("compact")
    left, size = files()
    collected = ask("collect", flush_timeout=None)
    print("%d tasks in %.0f s: at most %d files (%.0f MB) at once, %d files (%.2f MB) left"
          % (count, took, most[0], most[1] / 1e6, left, size / 1e6))
    print("%d processes told of, %d data files; %d compactions while it ran, %.2f s CPU each"
          % (collected["processes"], collected["data_files"], compactions, cpu / max(compactions, 1)))
    if collected["processes"] != count + 1 or left > 300:
        raise SystemExit("error: not all processes are told of, or too many files are left")


main()
