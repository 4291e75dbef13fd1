"""coverage.py, started as the recorder needs it: its own flushing off, and a tracer that no signal is lost in."""
import _thread
import atexit
import sys
import threading
import weakref
from functools import partial
from importlib import import_module
from itertools import repeat, starmap
from operator import methodcaller


class Late(type(sys)):
    """A module that is loaded once somebody wants anything of it: coverage.py's data files are written by nobody here."""

    def __getattr__(self, name):
        return getattr(import_module(self.__name__), name)


def make_coverage(config, coverage_dir):
    """A started Coverage from the private directory, which does not stay on sys.path."""
    sys.path.insert(0, coverage_dir)
    sqlite3 = sys.modules.setdefault("sqlite3", Late("sqlite3"))
    try:
        import coverage
        import coverage.collector
    finally:
        sys.path.remove(coverage_dir)
        if isinstance(sqlite3, Late):
            del sys.modules["sqlite3"]
    words = {"data_file": None, "config_file": False, "source_pkgs": config["packages"],
             "omit": config["omit"], "branch": config["branch"], "messages": False}
    if has_module("greenlet"):      # one call stack a greenlet, else gevent gives false lines
        words["concurrency"] = ["thread", "greenlet"]
        trace_greenlets()
    # The tracer calls these two at each call of measured code. As Python methods they cost a tenth of it and
    # more, and swallow signal handlers' lines. There is nothing to lock: the sets are copied, and what is
    # written is taken out of them, by single operations under the GIL.
    coverage.collector.Collector.lock_data = coverage.collector.Collector.unlock_data = int
    try:
        cov = started(coverage, words, "ctrace")
    except AttributeError:          # a subinterpreter has no C tracer
        cov = started(coverage, words, "pytrace")
    if "concurrency" in words:
        keep_one_tracer(cov._collector)
    return coverage, cov


def started(coverage, words, core):
    cov = coverage.Coverage(**words)
    cov._warn_no_data = cov._warn_unimported_source = cov._warn_preimported_source = False
    cov._auto_save = False
    try:
        cov.set_option("run:core", core)
    except Exception:
        pass                        # before 7.9 there was nothing to choose
    cov.start()
    atexit.unregister(cov._atexit)
    return cov


def has_module(name):
    from importlib.util import find_spec
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def trace_greenlets():
    """Has the C tracer find a greenlet's call stack without running Python.

    It asks a WeakKeyDictionary at each call and each return, which is written in Python: a signal that is
    due is handled in there, and the tracer takes what its handler raised for a missing key. A service
    that is told to stop by `sys.exit` in a handler would go on. And its stacks are never given back: a
    kilobyte for each greenlet there ever was.

    A plain dict by the greenlets' addresses does neither: a greenlet that is gone has left its stack
    empty, and the next at its address goes on with it.
    """
    for name in ("coverage.tracer", "coverage.collector", "coverage.core"):     # in any coverage.py since 6.2
        module = sys.modules.get(name)
        if hasattr(module, "CTracer"):
            module.CTracer = with_plain_stacks(module.CTracer)


def keep_one_tracer(collector):
    """Has each thread of the system keep the tracer that it has.

    A `threading.Thread` under gevent is a greenlet of the thread that starts it, and coverage.py would begin a new
    tracer there. That one knows no frame that is under way, in any greenlet of the thread: their later lines were
    lost.
    """
    number = _thread.get_ident      # of the system's thread, whatever gevent makes of `threading` later
    install, make, known = collector._installation_trace, collector._start_tracer, {}

    def start_tracer():
        function = make()
        tracer = sys.gettrace()
        try:
            known[number()] = weakref.ref(tracer)   # it can still be let go of
        except TypeError:
            pass
        return function

    def install_once(frame, event, arg):
        tracer = known.get(number(), int)()
        if not any(tracer is other for other in collector.tracers):
            return install(frame, event, arg)
        sys.settrace(tracer)
        return tracer(frame, event, arg)

    collector._start_tracer = start_tracer
    known[number()] = weakref.ref(collector.tracers[0])
    threading.settrace(install_once)


def with_plain_stacks(base):
    """The class of tracers whose `data_stack_index` is a dict."""
    class CTracer(base):
        def start(self):
            self.concur_id_func = map(id, starmap(self.concur_id_func, repeat(()))).__next__
            # The tracer makes its index at its first event, as weakref's attribute says. All this is one
            # call in C: no other thread, and no signal handler, gets to see the attribute meanwhile.
            real, name = weakref.WeakKeyDictionary, "WeakKeyDictionary"
            steps = (partial(setattr, weakref, name, dict), super().start,
                     partial(self, sys._getframe(), "return", None), partial(setattr, weakref, name, real))
            try:
                return list(map(methodcaller("__call__"), steps))[1]
            finally:
                weakref.WeakKeyDictionary = real

    return CTracer
