"""A map that is written by plain writes: what a recorder keeps in memory, too, and tells of when it is asked or due.

The form of the file is described in `agent/data-file/src/map.rs`.
"""
import os
import sys
from array import array

from _pulpcov_system import high, identity_of, is_same, map_head, map_record, remove

FILE, LINES, ARCS = 2, 5, 6
MAX_LINE = 1024 * 1024      # a line beyond it is nobody's
_pread, _pwrite, _fdatasync = os.pread, os.pwrite, os.fdatasync     # before the service gives them another meaning


def numbers(values):
    """These as 32 bits each."""
    found = array("i", values)
    if sys.byteorder != "little":
        found.byteswap()
    return found.tobytes()


def put_at(fd, offset, data):
    while data:
        count = _pwrite(fd, data, offset)
        data, offset = data[count:], offset + count


class MapFile(object):
    """The map of one process, made once there is anything to tell.

    A signal's handler may raise anywhere in here. So what is known of the file changes in one step, and whatever was
    committed and not noted is passed over. A handler may append itself, too, in the middle: then what was under way is
    given up, for what is told there has it all.
    """

    def __init__(self, path, facts):
        self.path, self.facts = path, facts
        self.identity = self.fd = None
        self.known = 0, 0, {}   # where the next record begins, how many files were told of, and their numbers

    def is_gone(self):
        """Whether somebody has removed what was written."""
        try:
            return self.identity is not None and identity_of(os.lstat(self.path)) != self.identity
        except OSError:
            return True

    def append(self, kind, told):
        """Adds lines or arcs, by path; durable once it returns."""
        self.give_up()
        fd = self.fd = self.opened()
        try:
            end, count, known = self.passed(fd)
            known, records = dict(known), []
            for path, values in told.items():
                if path not in known:
                    known[path], count = count, count + 1
                    name = os.fsencode(path)
                    # Which bytes were loaded the process's record says.
                    records.append(map_record(FILE, numbers([0, len(name)]) + bytes(24) + name))
                flat = lines_of(values) if kind == LINES else ends_of(values)
                told_of = len(flat) if kind == LINES else len(flat) // 2
                records.append(map_record(kind, numbers([known[path], told_of]) + numbers(flat)))
            data = b"".join(records)
            put_at(fd, end + 4, data[4:])
            put_at(fd, end, data[:4])       # the size of the first commits all of them
            if self.fd == fd:
                self.known = end + len(data), count, known
                _fdatasync(fd)
        except OSError:
            if self.fd == fd:           # else it was given up
                raise
        finally:
            if self.fd == fd:
                self.fd = None
            os.close(fd)

    def give_up(self):
        """Has an append that this one interrupts write to nowhere from here on."""
        if self.has_open():
            nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nowhere, self.fd, False)
            os.close(nowhere)

    def close(self):
        """Closes what an append has open that was under way in the parent."""
        if self.has_open():
            os.close(self.fd)
        self.fd = None

    def has_open(self):
        return self.fd is not None and is_same(self.fd, self.identity)

    def opened(self):
        """Not kept open: a program may close every file that it does not know, and have its own under that number."""
        if self.identity is not None:
            fd = high(os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))
            if is_same(fd, self.identity):
                return fd
            os.close(fd)
            raise OSError("its map was replaced")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self.path, flags, 0o644)
        except FileExistsError:
            if os.lstat(self.path).st_size > len(map_head(self.facts)):
                raise
            os.unlink(self.path)        # of an attempt that was cut off
            fd = os.open(self.path, flags, 0o644)
        fd = high(fd)
        try:
            os.fchmod(fd, 0o644)        # whatever the service's umask is, the agent must be able to read
            head = map_head(self.facts)
            put_at(fd, 0, head)
            self.known, self.identity = (len(head), 0, {}), identity_of(os.fstat(fd))
        except BaseException:
            os.close(fd)
            remove(self.path)
            raise
        return fd

    def passed(self, fd):
        """What is known of the file, once records that were committed and not noted are passed over."""
        end, count, known = self.known
        while True:
            head = _pread(fd, 6, end)
            size = int.from_bytes(head[:4], "little") if len(head) == 6 else 0
            if not size:
                return end, count, known
            count += int.from_bytes(head[4:6], "little") == FILE
            end += size


def lines_of(values):
    return [line for line in values if 0 <= line < MAX_LINE]


def ends_of(arcs):
    return [end for arc in arcs if max(map(abs, arc)) < MAX_LINE for end in arc]
