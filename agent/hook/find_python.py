"""Answers which Pythons run programs of an image, by the first lines of each and by what a shell wrapper starts; where
none says so, its own."""
import json
import re
import shutil
import sys

MAX_PROGRAM = 16384         # most of a program that is looked into
MAX_WRAPPERS = 4


def python_of(name, depth=MAX_WRAPPERS):
    path = shutil.which(name)
    try:
        with open(path or "", "rb") as f:
            text = f.read(MAX_PROGRAM).decode("utf-8", "replace")
    except OSError:
        return None
    lines = text.splitlines() or [""]
    if not lines[0].startswith("#!"):
        return path if re.match(r"python[\d.]*$", path.rpartition("/")[2]) else None
    words = lines[0][2:].split()
    if words and words[0].endswith("/env"):
        words = [shutil.which(words[-1]) or ""]
    program = words[0] if words else ""
    if program.rpartition("/")[2].startswith("python"):
        return program
    if program.rpartition("/")[2] not in ("sh", "bash", "dash") or not depth:
        return None
    long = re.match("'{3}exec'\\s+\"?([^\"\\s]+)", "".join(lines[1:2]))
    if long:
        return long.group(1)
    for line in reversed(lines):
        if line.strip().startswith("exec "):
            for word in line.split()[1:]:
                found = python_of(word.strip("\"'"), depth - 1)
                if found:
                    return found
    return None


found = [python_of(name) for name in json.load(sys.stdin)]
print(json.dumps(sorted({python for python in found if python}) or [sys.executable]))
