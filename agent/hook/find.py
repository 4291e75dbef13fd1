"""Answers where packages lie: on the path of this interpreter, or in a folder that units and processes name.

It runs as whoever this interpreter is run as, and so looks only where that user may. Nothing is imported: a package's own
code runs in nobody's name here.
"""
import importlib.util
import json
import os
import re
import stat
import sys
from importlib.machinery import PathFinder

MAX_SCRIPT = 64 * 1024      # largest file that is looked into: one that starts a service is short
MAX_INSIDE = 200            # most folders in one that are looked into


def paths_in(text):
    """Absolute paths in a text."""
    return [part for part in re.split(r"[\s=:,;\"'()\[\]]", text) if part.startswith("/") and len(part) > 1]


def folders_of(path):
    """A folder itself, and of a file its folder and the one above: `bin/shop` beside `shop`; each with the folders in
    it, for `src` and `lib` that a script or `--chdir` names from there. One to which everybody can write is nobody's
    code."""
    try:
        if os.path.isdir(path):
            around = [path]
        elif os.path.isfile(path):
            around = [os.path.dirname(path), os.path.dirname(os.path.dirname(path))]
        else:
            return
    except ValueError:      # before Python 3.8: what no file system has a name for
        return
    for folder in around:
        try:
            if folder == "/" or os.stat(folder).st_mode & stat.S_IWOTH:
                continue
            inside = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        yield folder
        yield from inside[:MAX_INSIDE]


def script(path):
    """The text of a small file; of anything else nothing."""
    try:
        if not os.path.isfile(path):
            return ""
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            is_small = stat.S_ISREG(found.st_mode) and found.st_size <= MAX_SCRIPT
            return file.read(MAX_SCRIPT).decode() if is_small else ""
    except (OSError, ValueError):
        return ""


def folders_named(texts, paths):
    """Folders that texts and paths name, those of the files that they name, and those that such a file names, where it
    is a script: many put their code on the path themselves."""
    found = set()
    for path in paths:
        found.update(folders_of(path))
    for path in {path for text in texts for path in paths_in(text)}:
        found.update(folders_of(path))
        for named in paths_in(script(path)):
            found.update(folders_of(named))
    return sorted(found)


def places(name, folders):
    """Where a package lies, or a module."""
    first, *rest = name.split(".")
    specs = [PathFinder.find_spec(first, folders)]
    try:
        specs.append(importlib.util.find_spec(first))
    except Exception:
        pass
    found = []
    for spec in specs:
        for part in rest:
            inside = spec and spec.submodule_search_locations
            spec = PathFinder.find_spec(part, list(inside)) if inside else None
        if spec:
            found += list(spec.submodule_search_locations or [spec.origin or ""])
    return [place for place in found if is_text(place)]


def is_text(place):
    """Whether a path can be told of."""
    try:
        place.encode("utf-8")
        return True
    except UnicodeEncodeError:
        return False


asked = json.loads(sys.stdin.buffer.read().decode("utf-8"))
folders = folders_named(asked["texts"], asked["paths"])
print(json.dumps({name: places(name, folders) for name in asked["packages"]}))
