"""The live map: what runs is written into a mapped file before it runs. For Python 3.12 and later.

`sys.monitoring` calls for each line once, and for each way of a branch; the call stores it in memory that is a file's.
So nothing has to be flushed, and whatever ends the process, what it ran is there. The form of the file is described in
`agent/data-file/src/map.rs`.
"""
import os
import sys
from binascii import crc32

from _pulpcov_system import high, identity_of, is_same, map_head, map_record

NAME = "pulpcov"
TOOLS = (4, 3)              # of sys.monitoring; the numbers that have a name there are others'
STATE = 8


class Unavailable(Exception):
    """Why there is no live map in this process."""


def callbacks(branch):
    """The module that has the callbacks, and what to call it: the native one where it can be loaded."""
    try:
        import _pulpcov_native
        return _pulpcov_native, "live-map"
    except ImportError as e:
        if branch and not hasattr(sys.monitoring.events, "BRANCH_LEFT"):
            raise Unavailable("branches need the native callbacks: %s" % e)
    import _pulpcov_callbacks
    return _pulpcov_callbacks, "live-map-python"


def free_tool(wanted=None):
    """A number that nobody has, nor wants."""
    for tool in TOOLS:
        if tool != wanted and sys.monitoring.get_tool(tool) is None:
            return tool
    raise Unavailable("all tool numbers of sys.monitoring that pulpcov uses are taken")


def canonical(name):
    """The path of a file whose code does not have it, as coverage.py finds it; None where that cannot be."""
    try:
        if not os.path.isabs(name):
            for folder in [os.curdir] + sys.path:
                if os.path.exists(os.path.join(folder, name)):
                    name = os.path.join(folder, name)
                    break
        return os.path.abspath(os.path.realpath(name))
    except (OSError, ValueError, TypeError):
        return None


def forget_local_events(tool):
    """`free_tool_id` leaves what was asked for of single code objects, which whoever comes next would be called for."""
    import gc
    todo, seen = [], set()
    for thing in gc.get_objects():
        code = getattr(thing, "__code__", None) if type(thing).__name__ == "function" else None
        todo += [code] if code is not None else []
    for frame in sys._current_frames().values():
        while frame is not None:
            todo.append(frame.f_code)
            frame = frame.f_back
    while todo:
        code = todo.pop()
        if id(code) not in seen:
            seen.add(id(code))
            if sys.monitoring.get_local_events(tool, code):
                sys.monitoring.set_local_events(tool, code, 0)
            todo += [part for part in code.co_consts if type(part) is type(code)]


class LiveMap(object):
    """A process's recording: its maps, one after the other, and the tool that fills them."""

    is_live = True
    version = ""                # of coverage.py, which has no part in it
    period = 0.5                # seconds between two looks at what is new, to keep it over a loss of power

    def __init__(self, config, reborn):
        self.calls, self.name = callbacks(config["branch"])
        self.config, self.reborn, self.tool = config, reborn, None
        self.opened = self.lost = None      # descriptor and identity of the map's file; why what it had is lost
        self.omit = omitted(config["omit"])
        self.kept, self.told = self.calls.state(), 0
        self.base = 0               # how often something was stored before the map that is written now

    def start(self):
        """Begins to record; nothing is written before the first `begin`."""
        self.take(free_tool())
        self.give_way()

    def take(self, tool):
        monitoring, events, calls = sys.monitoring, sys.monitoring.events, self.calls
        local = {events.LINE: calls.line}
        if self.config["branch"]:
            if hasattr(events, "BRANCH_LEFT"):
                local.update({events.BRANCH_LEFT: calls.branch_side, events.BRANCH_RIGHT: calls.branch_side})
            else:
                local[events.BRANCH] = calls.branch
        calls.setup(tuple(self.config["packages"]), self.omit, canonical,
                    (monitoring.DISABLE, monitoring.set_local_events, tool, sum(local),
                     self.config["branch"]), crc32, self.reborn)
        monitoring.use_tool_id(tool, NAME)
        self.tool = tool
        monitoring.register_callback(tool, events.PY_START, calls.start)
        for event, callback in local.items():
            monitoring.register_callback(tool, event, callback)
        monitoring.set_events(tool, events.PY_START)

    def give_way(self):
        """The service's own tools come first: whoever asks for our number gets it, and we take another one."""
        real = sys.monitoring.use_tool_id

        def use_tool_id(tool_id, name):
            if tool_id == self.tool and name != NAME:
                self.leave()
                try:
                    self.take(free_tool(tool_id))
                except Exception:
                    self.tool = None
            return real(tool_id, name)

        use_tool_id.__doc__ = real.__doc__
        sys.monitoring.use_tool_id = use_tool_id

    def leave(self):
        """Gives the number back, with all that was asked for under it."""
        if self.tool is None:
            return
        sys.monitoring.set_events(self.tool, 0)
        forget_local_events(self.tool)
        for event in (1 << bit for bit in range(17)):
            try:
                sys.monitoring.register_callback(self.tool, event, None)
            except ValueError:
                pass
        sys.monitoring.free_tool_id(self.tool)
        self.tool = None

    def begin(self, path, facts):
        """What runs from now on goes to a new map, from zero."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fd = high(fd)
            os.fchmod(fd, 0o644)    # whatever the service's umask is, the agent must be able to read
            head = map_head(facts)
            failed = self.calls.begin(fd, os.fsencode(path), head + map_record(STATE, bytes(8)), len(head) + 8)
            if failed:
                raise OSError(failed, os.strerror(failed))
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise
        self.close()
        self.opened, self.told = (fd, identity_of(os.fstat(fd))), 0
        sys.monitoring.restart_events()

    def close(self):
        """Closes the descriptor of the map before."""
        if self.opened and is_same(*self.opened):
            os.close(self.opened[0])

    def has_own_map(self):
        """Whether this process has a map where it can be found; else it has forked, or somebody has removed it."""
        fd = self.calls.descriptor()
        if fd < 0:
            return False
        if os.fstat(fd).st_nlink:
            return True
        self.lost = "its map was removed by somebody: what it ran before that is lost"
        return False

    def pause(self):
        """Nothing is recorded until the next beginning."""
        self.calls.pause()

    def clear(self):
        """What ran so far is nobody's: a map begins with nothing, and with what runs from then on."""

    def has_news(self):
        """Whether anything was stored that a loss of power would take back."""
        return self.calls.state() != self.kept

    def tidy(self):
        """Nothing is kept that anybody would not need."""

    def size(self):
        """How often something was stored that was not there."""
        return (self.calls.state() >> 16) - self.base & 0x7FFFFFFF

    def start_again(self):
        """Nothing of what was stored until now is the next map's. Returns what `return_to` takes."""
        left, self.base = self.base, self.calls.state() >> 16
        return left

    def return_to(self, left):
        """The next map cannot be had: the one before goes on."""
        self.base = left

    def trouble(self):
        """Why nothing more is recorded, where that is so."""
        reason = self.calls.state() & 0xFFFF
        if self.lost:
            return self.lost
        if reason:
            return "recording has ended: %s" % os.strerror(reason)
        if self.tool is None:
            return "recording has ended: other tools have taken all numbers of sys.monitoring that pulpcov uses"
        return None

    def new_files(self):
        """Measured files that were not told of yet."""
        found = self.calls.files(self.told)
        self.told += len(found)
        return found

    def keep(self):
        """Has what was stored until now outlive a loss of power."""
        seen = self.calls.state()
        fd = self.calls.descriptor()
        if fd >= 0:
            os.fdatasync(fd)
            self.kept = seen


def omitted(patterns):
    """What tells whether a path is left out, by coverage.py's rules of `omit`; None where nothing is."""
    if not patterns:
        return None
    import re
    words = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}

    def expression(pattern):
        if "/" not in pattern:
            pattern = "**/" + pattern
        head = re.match(r"\*+/", pattern)
        tail = re.search(r"/\*+$", pattern)
        begin, end = head.end() if head else 0, tail.start() if tail else len(pattern)
        parts = re.findall(r"\*\*/|\*|\?|\[.*?\]|.", pattern[begin:end], re.DOTALL)
        middle = "".join(words.get(p, p if len(p) > 1 and p[0] == "[" else re.escape(p)) for p in parts)
        return ("(?:.*/)?" if head else "") + middle + ("/.*" if tail else "")

    return re.compile("(?:%s)\\Z" % "|".join(map(expression, patterns))).match
