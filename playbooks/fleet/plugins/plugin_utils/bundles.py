# SPDX-License-Identifier: MIT OR Apache-2.0
"""Names of bundles in a run directory."""

from __future__ import annotations

import hashlib
import os


def sha256_of(file):
    """The digest of an open file."""
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


def place(new, folder):
    """Links a whole bundle to the next free name: none ever takes the place of an earlier one."""
    number = 1
    while True:
        path = os.path.join(folder, f"bundle-{number:04}.tar.gz")
        try:
            os.link(new, path)
            break
        except FileExistsError:
            number += 1
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return path
