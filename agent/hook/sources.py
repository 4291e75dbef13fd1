"""Where measured packages came from, and which bytes each module was loaded from.

A file that is replaced while its code runs is not that code's source.

A fingerprint stands for a path and the bytes of the file there. The agent makes the same of what lies there when it
collects; `agent/src/fingerprint.rs` must agree with `fingerprint`.
"""
import os
import sys
import time

from _pulpcov_words import sha256

MAX_SOURCE = 16 * 1024 * 1024
MAX_FOLDERS = 16                # of one package

_BEGAN = time.time()
_loaded = {}                    # real path to (size, mtime in ns, inode); None where it was loaded anew after a change
_known = {}                     # path to its fingerprint


def package_files(packages):
    """Where the measured packages really came from in this process."""
    found = {}
    for name in packages:
        path = getattr(sys.modules.get(name), "__file__", None)
        if path:
            found[name] = os.path.abspath(path)
    return found


def package_folders(packages):
    """All folders of the measured packages: a namespace and an extended path have several."""
    found = {}
    for name in packages:
        try:
            folders = [os.path.abspath(folder) for folder in sys.modules[name].__path__]
        except Exception:           # no package, or one that is not imported
            continue
        found[name] = folders[:MAX_FOLDERS]
    return found


def note_loads(packages):
    """Has Python's own loader note what it loads of the measured packages, at the moment it does."""
    from _frozen_importlib_external import SourceFileLoader
    first = frozenset(package.partition(".")[0] for package in packages)
    real = SourceFileLoader.path_stats

    def path_stats(self, path):
        stats = real(self, path)        # asked just before the source is read
        name = getattr(self, "name", None)
        if type(name) is str and name.partition(".")[0] in first:
            note(path)
        return stats

    path_stats.__doc__ = real.__doc__
    SourceFileLoader.path_stats = path_stats


def note(path):
    try:
        path = os.path.realpath(path)
        found = identity(os.stat(path))
    except (OSError, ValueError, TypeError):
        return
    _loaded[path] = found if _loaded.get(path, found) == found else None


def identity(info):
    return info.st_size, info.st_mtime_ns, info.st_ino


def fingerprint(path):
    """Of the bytes that a measured path's code came from; nothing where nobody can know them any more."""
    if path not in _known:
        try:
            _known[path] = digest(path)
        except (OSError, ValueError):
            _known[path] = None
    return _known[path] if _loaded.get(path, path) is not None else None


def digest(path):
    place = os.path.dirname(path)
    while not os.path.isfile(path) and place != os.path.dirname(place):
        if os.path.isfile(place):       # a module in a zip lies below a file
            return sign(path, "%d %d %d" % identity(os.stat(place))) if is_of_our_start(os.stat(place)) else None
        place = os.path.dirname(place)
    with open(path, "rb") as f:
        info = os.fstat(f.fileno())
        # What came by another way than the loader's is as it is now, if it is what it was at our start.
        is_the_same = identity(info) == _loaded[path] if path in _loaded else is_of_our_start(info)
        if not is_the_same or info.st_size > MAX_SOURCE:
            return None
        body = f.read(MAX_SOURCE + 1)
        after = os.fstat(f.fileno())
    return sign(path, sha256(body).hexdigest()) if identity(after) == identity(info) else None


def is_of_our_start(info):
    return info.st_ctime < _BEGAN


def sealed(secret):
    """What may be told of a secret before it is told."""
    return sha256(secret.encode()).hexdigest()


def sign(path, what):
    text = "%s\0%s" % (path, what)
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
