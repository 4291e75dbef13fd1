"""coverage.py as the recorder's core: what ran is in sets that only grow, and what is new in them goes to the map.

`save()` is never called: it loses lines that run meanwhile. The live sets are never cleared while the process runs; when
a new generation begins, exactly what the old one has in its map is taken out of them.
"""
import copy
import os
import signal
import sys

from _pulpcov_map_file import ARCS, LINES, MapFile
from _pulpcov_tracer import make_coverage

_getpid, _signal = os.getpid, signal.signal     # before the service gives them another meaning
ALONE = 2                   # references to what only a list and the call that asks hold
APACHE = ("apache2", "httpd")
CORES = {"CTracer": "ctrace", "PyTracer": "pytrace"}    # as `run:core` names them


class Traced(object):
    """A started coverage.py, and what of its data is written."""

    is_live = False
    period = None           # the profile's interval

    def __init__(self, config, coverage_dir):
        coverage, cov = make_coverage(config, coverage_dir)
        self.collector = cov._collector
        self.version = coverage.__version__
        self.name = CORES.get(cov._collector.tracer_name(), "")
        self.shim = make_shim(cov._collector)
        self.map, self.written, self.news, self.told, self.count = None, {}, {}, set(), 0

    def begin(self, path, facts):
        """What is not written yet goes to a new map."""
        self.map, self.told = MapFile(path, facts), set()

    def leave_map(self):
        """Nothing more goes to the map that there was; returns what `return_to` takes."""
        left = self.map, self.told
        self.map, self.told, self.written, self.news, self.count = None, set(), {}, {}, 0
        return left

    def return_to(self, left):
        """The next map cannot be had: the one before goes on."""
        self.map, self.told = left

    def start_again(self):
        """What was written is told of; what ran for the first time since then stays, and is the next map's."""
        written = self.written
        left = self.leave_map()
        for name, lines in written.items():
            self.collector.data[name].difference_update(lines)
        return left

    def clear(self):
        """What ran so far is another's to tell."""
        if self.map is not None:
            self.map.close()        # in a child: that of the flusher, which was at it in the parent
        self.leave_map()
        for lines in list(self.collector.data.values()):
            lines.clear()

    def has_own_map(self):
        """Whether there is one to write to. Of one that somebody has removed everything is written again."""
        if self.map is not None and self.map.is_gone():
            self.leave_map()
        return self.map is not None

    def pause(self):
        """Nothing is written until the next beginning, which clears what runs meanwhile."""

    def size(self):
        """How much has run, as far as anybody has looked."""
        return self.count

    def trouble(self):
        return None

    def has_news(self):
        """Whether anything ran that is not written."""
        self.count = sum(map(len, list(self.collector.data.values())))
        return self.count != sum(map(len, self.written.values()))

    def new_files(self):
        """Has a look at what is not written; returns files that were not told of yet."""
        self.news = {}
        for name, lines in list(self.collector.data.items()):
            before = self.written.get(name, ())
            if len(lines) != len(before):
                self.news[name] = before, lines.difference(before)
        new = [name for name in self.news if name not in self.told]
        self.told.update(new)
        return new

    def keep(self):
        """Writes what was looked at, whole or not at all. A signal's handler may do the same meanwhile, and more."""
        told, news = Told(), self.news
        self.shim.data = dict((name, new) for name, (_, new) in news.items())
        self.shim.covdata = told
        try:
            self.shim.flush_data()
        finally:
            self.shim.data, self.shim.covdata = {}, None
        self.map.append(told.kind, told.by_path)
        for name, (before, new) in news.items():
            if self.written.get(name, ()) is before:
                # A list: eight bytes for each, of numbers that the set holds anyway.
                self.written[name] = list(before) + list(new)

    def tidy(self):
        """coverage.py keeps one tracer a thread for ever; those that nobody else holds can go.

        A tracer that is freed ends the tracing of the thread that frees it: so it is done here, in a thread that
        is not traced, and not for one that a frame of its dead thread still holds, in the traceback of an
        exception for one. Whoever lets go of that frame would be traced no more.
        """
        tracers = self.collector.tracers
        for place in range(len(tracers) - 1, 0, -1):
            if sys.getrefcount(tracers[place]) == ALONE:
                del tracers[place]

    def trace_this_thread(self):
        """Starts the tracer in a thread that Python did not make; 4 us, once a thread."""
        if sys.gettrace() is None:
            self.collector._start_tracer()


class Told(object):
    """Has what coverage.py would have saved, unpacked, under the names that it saves it by."""

    kind, by_path = LINES, {}

    def add_lines(self, by_path):
        self.kind, self.by_path = LINES, by_path

    def add_arcs(self, by_path):
        self.kind, self.by_path = ARCS, by_path

    def add_file_tracers(self, by_path):
        """There are none without plugins."""


def make_shim(collector):
    """A collector that unpacks what it is given and clears nothing."""
    shim = copy.copy(collector)
    shim._activity, shim._clear_data, shim.file_tracers = (lambda: True), (lambda: None), {}
    shim.data, shim.covdata = {}, None
    return shim


def hook_mod_wsgi(core):
    """mod_wsgi's request threads are made in C. Its own event, before each request, starts the tracer
    in them; it can be had once mod_wsgi loads the first script, which passes `_fix_up_module`."""
    import _frozen_importlib_external as bootstrap
    real, subscribed = bootstrap._fix_up_module, []

    def on_event(name, **_):
        if name == "request_started":
            core.trace_this_thread()

    def _fix_up_module(namespace, name, *args):
        real(namespace, name, *args)
        try:
            if name.startswith("_mod_wsgi_"):
                core.trace_this_thread()
                mod_wsgi = sys.modules.get("mod_wsgi")
                if not subscribed and hasattr(mod_wsgi, "subscribe_events"):
                    subscribed.append(mod_wsgi)
                    mod_wsgi.subscribe_events(on_event)
        except Exception:
            pass

    bootstrap._fix_up_module = _fix_up_module


def hook_sigterm(flush, state):
    """A process that leaves SIGTERM to the kernel dies of it without atexit: flush before that.

    One that has a handler of its own, now or later, is left alone: its handler ends the usual way. To the
    service ours is SIG_DFL, whether it asks for it, gets it back, or sets it again.
    """
    getsignal = signal.getsignal

    def on_sigterm(_number, _frame):
        try:
            flush(ended="SIGTERM")
        finally:
            _signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(_getpid(), signal.SIGTERM)

    def hold(held):
        """A child forgets the signals that come before its Python has begun: of SIG_DFL it would have died."""
        if getsignal(signal.SIGTERM) is on_sigterm:
            held.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))

    def let(held):
        if held and signal.SIGTERM not in held[0]:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))

    def shown(handler):
        return signal.SIG_DFL if handler is on_sigterm else handler

    def set_handler(signalnum, handler):
        if signalnum == signal.SIGTERM and not callable(handler) and handler == signal.SIG_DFL:
            handler = on_sigterm
        return shown(_signal(signalnum, handler))

    def get_handler(signalnum):
        return shown(getsignal(signalnum))

    try:
        if getsignal(signal.SIGTERM) is signal.SIG_DFL:
            _signal(signal.SIGTERM, on_sigterm)
    except ValueError:
        return                          # not the main thread
    state.hold_sigterm, state.let_sigterm = hold, let
    for ours, theirs in ((set_handler, _signal), (get_handler, getsignal)):
        ours.__name__, ours.__doc__ = theirs.__name__, theirs.__doc__
    signal.signal, signal.getsignal = set_handler, get_handler
