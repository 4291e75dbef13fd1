"""uWSGI forks its workers in C, and starts their threads there: of both it tells Python by functions that anybody may
have put in their place."""
import sys
import threading


class Watch(object):
    """Waits on `sys.meta_path` for uWSGI's own module, which it makes before it loads the first program, and forks
    after that. Finds nothing, and stays: whoever calls it is going through that very list."""

    def __init__(self, after_fork):
        self.after_fork = after_fork

    def find_spec(self, _name, _path=None, _target=None):
        module = sys.modules.get("uwsgi")
        if module is not None and self.after_fork is not None:
            after_fork, self.after_fork = self.after_fork, None
            try:
                tell_of_forks(module, after_fork)
            except Exception:
                pass


def tell_of_forks(module, after_fork):
    """Has uWSGI call us in each worker that it has forked, besides whom the service wants to be called."""
    def wrap(theirs):
        def post_fork_hook():
            after_fork()
            if theirs is not None:
                theirs()
        return post_fork_hook

    class Telling(type(module)):
        def __setattr__(self, name, value):
            super().__setattr__(name, wrap(value) if name == "post_fork_hook" else value)

        def __delattr__(self, name):
            if name == "post_fork_hook":
                super().__setattr__(name, wrap(None))
            else:
                super().__delattr__(name)

    theirs = getattr(module, "post_fork_hook", None)
    module.__class__ = Telling
    module.post_fork_hook = theirs


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
    sys.meta_path.insert(0, Watch(after_fork))
    if begin_thread is not None:
        tell_of_threads(begin_thread)
