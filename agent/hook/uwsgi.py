"""uWSGI forks its workers in C, starts their threads there, and ends them there: of each it tells Python by functions that
anybody may have put in their place."""
import sys
import threading
from functools import partial
from operator import methodcaller


class Watch(object):
    """Waits on `sys.meta_path` for uWSGI's own module, which it makes before it loads the first program, and forks
    after that. Finds nothing, and stays: whoever calls it is going through that very list."""

    def __init__(self, wrappers):
        self.wrappers = wrappers

    def find_spec(self, _name, _path=None, _target=None):
        module = sys.modules.get("uwsgi")
        if module is not None and self.wrappers is not None:
            wrappers, self.wrappers = self.wrappers, None
            try:
                stand_before(module, wrappers)
            except Exception:
                pass


def stand_before(module, wrappers):
    """Has uWSGI call what a wrapper makes of each of these names, whatever the service puts there, now or later."""
    class Telling(type(module)):
        def __setattr__(self, name, value):
            super().__setattr__(name, wrappers[name](value) if name in wrappers else value)

        def __delattr__(self, name):
            if name in wrappers:
                super().__setattr__(name, wrappers[name](None))
            else:
                super().__delattr__(name)

    theirs = dict((name, getattr(module, name, None)) for name in wrappers)
    module.__class__ = Telling
    for name, function in theirs.items():
        setattr(module, name, function)


def tell_of_forks(after_fork):
    """In each worker that uWSGI has forked we are called, besides whom the service wants to be called."""
    def wrap(theirs):
        def post_fork_hook():
            after_fork()
            if theirs is not None:
                theirs()
        return post_fork_hook
    return wrap


def end_tracing(theirs):
    """What a worker runs while it ends is not traced: `exit` has taken greenlet's memory away by then, which the tracer
    asks at each call. So this is a function of C's."""
    steps = [partial(sys.settrace, None)] + [theirs] * (theirs is not None)

    class Steps(object):
        __iter__ = staticmethod(partial(map, methodcaller("__call__"), steps))

    return partial(list, Steps())   # which iterates anew each time: the service may call it, too


def tell_of_threads(begin):
    """uWSGI asks `threading` which one the current thread is, in each that it has made: there it gets a name, and a
    tracer."""
    real = threading._DummyThread.__init__

    def __init__(self):
        real(self)
        try:
            begin()
        except Exception:
            pass

    threading._DummyThread.__init__ = __init__


def hook_uwsgi(after_fork, begin_thread):
    """`begin_thread` starts the tracer in a thread; None where there is no tracer."""
    wrappers = {"post_fork_hook": tell_of_forks(after_fork)}
    if begin_thread is not None:
        tell_of_threads(begin_thread)
        if "greenlet" in sys.modules:
            wrappers["atexit"] = end_tracing
    sys.meta_path.insert(0, Watch(wrappers))
