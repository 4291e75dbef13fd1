"""Which file each module was loaded from: a file that is replaced while its code runs is not that code's source.

A fingerprint stands for a path and the size, the time and the inode of the file there. The agent makes the same of
what lies there when it collects; `agent/src/fingerprint.rs` must agree with `fingerprint`.
"""
import hashlib
import os
import time

_BEGAN = time.time()
_loaded = {}                    # real path to (size, mtime in ns, inode); None where it was loaded anew after a change


def note_loads(packages):
    """Has Python's own loader note what it loads of the measured packages, at the moment it does.

    The loader asks for size and time of each source just before it reads it. This asks the same, once, and
    raises what that would raise.
    """
    from _frozen_importlib_external import SourceFileLoader
    first = frozenset(package.partition(".")[0] for package in packages)

    def path_stats(self, path):
        info = os.stat(path)
        if self.name.partition(".")[0] in first:
            note(os.path.realpath(path), (info.st_size, info.st_mtime_ns, info.st_ino))
        return {"mtime": info.st_mtime, "size": info.st_size}

    path_stats.__doc__ = SourceFileLoader.path_stats.__doc__
    SourceFileLoader.path_stats = path_stats


def note(path, found):
    _loaded[path] = found if _loaded.get(path, found) == found else None


def look(path):
    """A file that came by another way, a script or an archive: as it is now, if it is what it was at our start."""
    while True:
        try:
            info = os.stat(path)
            break
        except (OSError, IOError):
            # A module in a zip lies below a file.
            above = os.path.dirname(path)
            if above == path:
                return None
            path = above
    is_the_same = os.path.isfile(path) and info.st_ctime < _BEGAN
    return (info.st_size, info.st_mtime_ns, info.st_ino) if is_the_same else None


def fingerprint(path):
    """Of the file that a measured path's code came from; nothing where nobody can know any more."""
    if path not in _loaded:
        note(path, look(path))
    found = _loaded[path]
    if found is None:
        return None
    text = "%s\0%d\0%d\0%d" % ((path,) + found)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
