"""coverage.py as the recorder's core: what ran is in sets that only grow, and copies of them are written.

`save()` is never called: it loses lines that run meanwhile. The live sets are never cleared while the process runs; when
a new generation begins, exactly what the old one has on disk is taken out of them.
"""
import copy
import os
import signal
import sys

from _pulpcov_system import close_and_put, owner, remove, sync_folder, temporary
from _pulpcov_tracer import close_data, make_coverage

_getpid, _signal = os.getpid, signal.signal     # before the service gives them another meaning
ALONE = 2                   # references to what only a list and the call that asks hold
APACHE = ("apache2", "httpd")
CORES = {"CTracer": "ctrace", "PyTracer": "pytrace"}    # as `run:core` names them


class Traced(object):
    """A started coverage.py, and what of its data is written."""

    is_live = False
    period = None           # the profile's interval

    def __init__(self, config, coverage_dir, root):
        coverage, cov = make_coverage(config, coverage_dir)
        self.root, self.collector, self.data_class = root, cov._collector, coverage.CoverageData
        self.version = coverage.__version__
        self.name = CORES.get(cov._collector.tracer_name(), "")
        self.shim = make_shim(cov._collector)
        self.start_again()

    def start_again(self):
        """Nothing of it is written."""
        self.written = 0        # sum of the sets at the last flush: they only grow, so it tells all
        self.data_user = None   # whose a file is that this process wrote

    def size(self):
        return self.written

    def trouble(self):
        return None

    def has_news(self, data_name):
        """Whether anything ran since the last flush."""
        size = sum(len(lines) for lines in list(self.collector.data.values()))
        # What was written may be fetched since, and a stranger's file stand in its place.
        return size and (size != self.written or owner(os.path.join(self.root, data_name)) != self.data_user)

    def copy(self):
        """What ran until now, by file."""
        return dict((name, lines.copy()) for name, lines in list(self.collector.data.items()))

    def write(self, live, data_name, other_name, ease):
        """Writes the data file, whole or not at all; returns the name that it has got."""
        tmp = temporary(self.root)
        try:
            out = self.data_class(basename=tmp)
            self.shim.data, self.shim.covdata = dict(live), out
            try:
                self.shim.flush_data()
            finally:
                self.shim.data, self.shim.covdata = {}, None
                close_data(out)
            ease()              # SQLite's locks are free; a slow disk is no reason for a fork to wait
            data_name, self.data_user = close_and_put(tmp, self.root, data_name, other_name)
        except BaseException:
            remove(tmp)
            raise
        sync_folder(self.root)
        self.written = sum(len(lines) for lines in live.values())
        return data_name

    def take_out(self, live):
        """What is written under the old label is no more the new one's."""
        for name, lines in live.items():
            self.collector.data[name].difference_update(lines)

    def clear(self):
        for lines in list(self.collector.data.values()):
            lines.clear()

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


def is_apache():
    try:
        return os.path.basename(os.readlink("/proc/self/exe")) in APACHE
    except OSError:
        return False


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
