"""The live map's callbacks in Python, where those in `native/` cannot be loaded: the same functions, the same bytes.

What a signal's handler runs for the first time while one of these is called is not seen: Python calls none within
another. Of branches only those are seen that can be disabled one way at a time.
"""
import os
import sys
from _thread import RLock
from binascii import crc32
from mmap import MAP_SHARED, PROT_READ, PROT_WRITE, mmap

from _pulpcov_system import identity_of, is_same

FIRST, MOST, PAGE = 16 * 1024, 128 * 1024, 4096
HEAD, FILLER, FILE, CODE, EDGE = 8, 0, 2, 3, 4
ENTERED = 0xFFFFFFFF        # the offset of no branch
SLACK = 256                 # how much further than a line that was not foreseen a file's bytes go
MAX_LINES = 1024 * 1024
EINVAL, ESTALE = 22, 116
_getpid = os.getpid         # the service may give it another meaning


def eights(size):
    return (size + 7) & ~7


def numbers(*values):
    return b"".join(value.to_bytes(4, "little") for value in values)


class Map(object):
    """The mapped file: records are appended, and committed by their size, which is written last.

    No mapping ever moves. Blocks are allocated before they are mapped: a full disk is an error here, and not a signal
    where something is stored.
    """

    def __init__(self, fd, path, head, state_at):
        self.fd, self.path, self.state_at, self.pid = fd, path, state_at, _getpid()
        self.identity = identity_of(os.fstat(fd))
        self.used = self.length = self.end = 0
        self.grow(len(head))
        self.first = self.view
        self.view[8:len(head)] = head[8:]
        self.view[:8] = head[:8]        # last: from here on it is a map
        self.used = eights(len(head))

    def descriptor(self):
        """The file's: a program may close every one that it does not know, and then has ours for its own."""
        if is_same(self.fd, self.identity):
            return self.fd
        fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not is_same(fd, self.identity):
            os.close(fd)
            raise OSError(ESTALE, "")
        self.fd = fd
        return fd

    def grow(self, wanted):
        fd = self.descriptor()
        length = max(wanted, min(max(self.length * 2, FIRST), MOST))
        length = (length + PAGE - 1) & ~(PAGE - 1)
        os.posix_fallocate(fd, self.end, length)
        self.view = memoryview(mmap(fd, length, MAP_SHARED, PROT_READ | PROT_WRITE, offset=self.end))
        self.length, self.used = length, 0
        self.end += length

    def append(self, kind, payload, zeros=0):
        """Appends a record with so many zeros behind its payload; returns a view of these."""
        if self.pid != _getpid():       # its parent's: two that append would undo each other
            raise OSError(ESTALE, "")
        said = eights(HEAD + len(payload))
        size = said + eights(zeros)
        if self.length - self.used < size:
            if self.length - self.used >= HEAD:
                self.commit(FILLER, self.length - self.used)
            self.grow(size)
        at = self.used
        self.view[at + HEAD:at + HEAD + len(payload)] = payload
        self.commit(kind, size)
        self.used += size
        return self.view[at + said:at + said + zeros]

    def commit(self, kind, size):
        at = self.used
        self.view[at + 4:at + 6] = kind.to_bytes(2, "little")
        self.view[at:at + 4] = numbers(size)

    def stop(self, reason):
        if self.pid == _getpid():       # else it is its parent's, which goes on
            self.first[self.state_at:self.state_at + 4] = numbers(reason)


_map = None
_lock = RLock()
_known = {}                 # co_filename to its path, None where it is not measured
_views = {}                 # co_filename to the bytes of its lines in this map
_lines = {}                 # path to how many bytes there should be
_loaded = {}                # path to size, time and inode of its file, as they were when its code was loaded
_files = []                 # paths by number in this map
_codes = {}                 # code object to its number in this map
_seen = set()               # edges
_news = _stopped = 0
_reborn = _packages = _omit = _canonical = _disable = _set_local_events = _tool = _events = _branch = None


def setup(packages, omit, canonical, monitoring, _crc32, on_reborn):
    global _reborn, _packages, _omit, _canonical, _disable, _set_local_events, _tool, _events, _branch
    _reborn, _packages, _omit, _canonical = on_reborn, packages, omit, canonical
    _disable, _set_local_events, _tool, _events, _branch = monitoring


def reborn():
    """A child of whose fork Python was not told begins a map of its own, before it would append to its parent's."""
    if _map is not None and _map.pid != _getpid():
        _reborn()


def begin(fd, path, head, state_at):
    """What is recorded goes to this file from now on, from zero. Returns why not, or 0."""
    global _lock, _map, _stopped
    if _map is not None and _map.pid != _getpid():
        _lock = RLock()         # a thread of the parent's may hold the other one
    with _lock:
        try:
            made = Map(fd, path, head, state_at)
        except OSError as e:
            return e.errno or EINVAL
        _map = None
        forget()
        _map, _stopped = made, 0
    return 0


def descriptor():
    """That of the map of this very process, or -1."""
    try:
        return _map.descriptor() if _map is not None and _map.pid == _getpid() else -1
    except OSError:
        return -1


def pause():
    """Nothing is recorded until the next beginning."""
    global _map
    with _lock:
        _map = None
        forget()


def forget():
    _views.clear()
    _codes.clear()
    _seen.clear()
    del _files[:]


def files(since):
    return _files[since:]


def state():
    """How often something new was stored, and why recording stopped, or 0, in one number."""
    return _news << 16 | _stopped & 0xFFFF


def stop(reason):
    """No file or branch that is new is told of any more, for this reason; lines of known files still are."""
    global _stopped
    _stopped = reason
    if _map is not None:
        _map.stop(reason)


def fail(error):
    """Recording ends for what went wrong here; what a signal's handler raised meanwhile is the service's."""
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    if place.tb_frame.f_globals is not globals():
        raise error
    stop(getattr(error, "errno", None) or EINVAL)


def start(code, _offset):
    if _map is not None and not _stopped:
        name = code.co_filename
        if name not in _known:
            decide(code, sys._getframe(1))
        if _known[name] is not None:
            _set_local_events(_tool, code, _events)
            entered(code)
    return _disable


def entered(code):
    """The start of a function or class whose body may be on the line of its definition: only that tells whether more
    than the definition ran. Decorators lie before that line, and count as the first one."""
    if _branch and not code.co_name.startswith("<"):
        if len(set(line for _, _, line in code.co_lines()) - {None, code.co_firstlineno}) <= 1:
            branch_side(code, ENTERED, 0)


def line(code, number):
    global _news
    try:
        _views[code.co_filename][number] = 1
    except (KeyError, IndexError):
        if _map is None or _stopped:
            return _disable
        try:
            reborn()
            view = view_for(code, number)
            if view is not None:
                view[number] = 1
        except BaseException as e:
            fail(e)
    _news += 1
    return _disable


def branch_side(code, offset, destination):
    global _news
    edge = code, offset, destination
    if edge not in _seen and _map is not None and not _stopped:
        try:
            reborn()
            with _lock:
                number = code_number(code)
                if number is not None:
                    _map.append(EDGE, numbers(number, offset, destination))
                    _seen.add(edge)
        except BaseException as e:
            fail(e)
        _news += 1
    return _disable


def view_for(code, number):
    """The bytes of a code object's file, more of them than `number`; the file is told of where it is not, or is too
    short in this map."""
    name = code.co_filename
    with _lock:
        view, path = _views.get(name), _known.get(name)
        if path is None or number >= MAX_LINES:
            return None
        if view is None or number >= len(view):
            lines = _lines.get(path, 0)
            if number >= lines:
                lines = _lines[path] = min(max(last_line(code), number) + SLACK, MAX_LINES)
            encoded = os.fsencode(path)
            loaded = b"".join(part.to_bytes(8, "little") for part in _loaded.get(path, (0, 0, 0)))
            view = _map.append(FILE, numbers(lines, len(encoded)) + loaded + encoded, lines)
            _files.append(path)
            _views[name] = view
        return view


def code_number(code):
    number = _codes.get(code)
    if number is None:
        if view_for(code, 0) is None:
            return None
        # The last record of a path is the one with the most lines.
        place = len(_files) - 1 - _files[::-1].index(_known[code.co_filename])
        # Not the table itself: that has columns, too, or has none.
        lines = b"".join(numbers(begin, end, line or 0) for begin, end, line in code.co_lines())
        _map.append(CODE, numbers(place, code.co_firstlineno, crc32(code.co_code), crc32(lines)))
        number = _codes[code] = len(_codes)
    return number


def decide(code, frame):
    """Whether a file is measured, as coverage.py decides it by `source_pkgs` and `omit`, and under which path."""
    name = code.co_filename
    with _lock:
        path = measured_path(name, frame.f_globals)
        if path is not None:
            _lines[path] = min(max(_lines.get(path, 0), last_line(code) + 1), MAX_LINES)
            try:
                info = os.stat(path)
                _loaded.setdefault(path, (info.st_size, info.st_mtime_ns, info.st_ino))
            except (OSError, ValueError):
                pass
        _known[name] = path


def measured_path(name, names):
    if not name or name.startswith(("<", "memory:")) or not is_of_package(module_name(name, names)):
        return None
    loaded = names.get("__file__")
    if isinstance(loaded, str) and os.path.basename(loaded) == os.path.basename(name):
        name = loaded           # byte code was moved after it was made
    path = _canonical(name)
    return path if _omit is None or _omit(path) is None else None


def module_name(file, names):
    name = names.get("__name__")
    if isinstance(name, str) and name != "__main__":
        return name
    name = getattr(names.get("__spec__"), "name", None)
    if isinstance(name, str) and name != "__main__":
        return name             # `python -m`
    return os.path.basename(file).partition(".py")[0]


def is_of_package(module):
    return any(module == package or module.startswith(package + ".") for package in _packages)


def last_line(code):
    """The last line of a code object and of those in it: of these only the last one can go further."""
    last, todo = 0, code
    while todo is not None:
        last = max([last] + [line for _, _, line in todo.co_lines() if line is not None])
        inner = [part for part in todo.co_consts if type(part) is type(code)]
        todo = max(inner, key=lambda part: part.co_firstlineno, default=None)
    return last
