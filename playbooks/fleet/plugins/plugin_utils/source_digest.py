# SPDX-License-Identifier: MIT OR Apache-2.0
"""By which bytes an inventory is known at another place: the rule of `pulpcov fleet`."""

from __future__ import annotations

import hashlib
import os
import stat

# Most files, and most bytes of all, that are read for it.
MOST_FILES = 4096
MOST_BYTES = 64 * 1024 * 1024


def digest_of_sources(sources):
    """SHA-256 of what `sha256sum` would say of all files of the sources, by their path below the source. None where
    a source is no file and no folder, cannot be read, or is too large."""
    whole, files, size = hashlib.sha256(), 0, 0
    try:
        for source in sources:
            for name in files_of(os.fsencode(source)):
                path = os.path.join(os.fsencode(source), name) if name else os.fsencode(source)
                files, size = files + 1, size + os.stat(path).st_size
                if files > MOST_FILES or size > MOST_BYTES:
                    return None
                with open(path, "rb") as file:
                    whole.update(hashlib.sha256(file.read()).hexdigest().encode() + b"  " + name + b"\n")
    except (OSError, ValueError):
        return None
    return whole.hexdigest()


def files_of(source):
    """The regular files of a source, in the order of their names' bytes; none that is hidden, none behind a link to a
    folder. A file is known by an empty name."""
    mode = os.stat(source).st_mode
    if not stat.S_ISDIR(mode):
        if not stat.S_ISREG(mode):
            raise ValueError("neither a file nor a folder")
        return [b""]
    found = []
    for folder, folders, names in os.walk(source, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(b".")]
        paths = [os.path.join(folder, name) for name in names if not name.startswith(b".")]
        found += [os.path.relpath(path, source) for path in paths if os.path.isfile(path)]
    return sorted(found)


def fail(error):
    raise error
