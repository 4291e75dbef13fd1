"""pulpcov's recorder: a core records what runs, this module makes sure that nothing of it is lost.

A process writes a map, which lies beside its record. Where the core is the live map, what ran is in it before it ran.
Elsewhere coverage.py keeps it in memory, and a thread of this module's writes what is new twice a second, when somebody
asks, at exit, before `os._exit` and before `exec`.

Nothing here may raise into the service, block it, or print.
"""
import _thread
import atexit
import os
import sys
import time

from _pulpcov_gate import unit
from _pulpcov_sources import fingerprint, note_loads, package_files, package_folders, sealed
from _pulpcov_system import (
    boot_id, pid_ns, program, read_small, start_ticks, word, write_file)
from _pulpcov_words import dumps, loads

# Captured before any gevent or eventlet patching: the flusher is a real thread with real locks.
_allocate, _allocate_owned, _start_thread = _thread.allocate_lock, _thread.RLock, _thread.start_new_thread
_sleep = time.sleep
_CLOCKS = (time.monotonic, time.time)     # in a tuple: freezegun swaps attributes of modules
_getpid, _os_exit = os.getpid, os._exit

RECORDER = 3                # version of the process record
LEDGER = ".pulpcov"         # folder of records, of the trigger and of the session, in the data directory
POLL = 0.5                  # seconds between two looks at the trigger: 0.6 ms CPU a second when idle
PATIENCE = 5.0              # longest wait for a flush that is under way, at exit and before a fork
EASE = 0.1                  # the same where all that is left of it is the disk's to do
MAX_ARGV = 64

_state = None


class Session(object):
    """What is recorded into: the agent writes it, each process reads it at its start and when it is asked to flush.

    Where it says that nothing is recorded, the processes write what they have, and then are still.
    """

    def __init__(self, generation, label, run, recording):
        self.generation, self.label, self.run, self.recording = generation, label, run, recording

    def __eq__(self, other):
        return vars(self) == vars(other)

    def __ne__(self, other):
        return not self == other


class State(object):
    """All that the recorder knows about its process."""

    # Until, and unless, SIGTERM is ours.
    hold_sigterm = let_sigterm = staticmethod(lambda held: None)

    def __init__(self, config, role, children, argv):
        self.config, self.role, self.children = config, role, children
        self.root = config["data_root"]
        self.ledger = os.path.join(self.root, LEDGER)
        self.trigger = os.path.join(self.ledger, "flush")
        self.newborn = False        # forked, and not yet itself
        # It has no thread yet: uWSGI forks in C, and a child would wait for ever for what a thread holds at that moment.
        self.still = program().startswith("uwsgi")
        self.host = (config["host"] or os.uname()[1]).replace("/", "_")
        self.argv = argv[:MAX_ARGV]
        self.core = None
        self.seen = None            # the last flush request that the flusher looked at
        self.became(os.getppid())

    def became(self, parent):
        """Names, locks and counters of a process that has just begun."""
        # These know their thread, which may take them twice: a signal handler may raise, fork or end the
        # process while they are held.
        self.lock, self.fork_lock, self.forks = _allocate_owned(), _allocate_owned(), set()
        self.stop = self.gate = self.done = None
        self.at_ease = False        # what is left of a flush under way is nothing that a fork could spoil
        self.started_at = _CLOCKS[1]()
        self.due = _CLOCKS[0]() + self.interval()   # whatever stops and starts the flusher meanwhile
        self.error = None
        # Where no file can be opened it stays its parent until the next flush.
        self.start_ticks, self.unit, self.pid_ns = start_ticks(), unit(), pid_ns()
        self.pid, self.parent = _getpid(), parent
        self.user, self.continues, self.proof = os.geteuid(), None, None
        self.begin(self.read_session())

    def interval(self):
        """Seconds between two flushes."""
        return self.core and self.core.period or self.config["interval"]

    def begin(self, session):
        """A generation of this process: a map and a record of its own. Returns what the core has left behind."""
        self.session = self.wanted = session
        suffix = "%s.%d.%s" % (self.host, self.pid, word(6))
        self.record_name, self.map_name = "proc." + suffix + ".json", "map." + suffix
        self.data_name = "data." + suffix       # which the agent makes of the map
        self.secret = word(16)
        self.seal = sealed(self.secret)     # told at once; the secret only by whatever goes on from this record
        self.seen_files, self.sources = set(), set()
        left = self.core.start_again() if self.core else None
        self.last_flush = self.ack = self.ended = None
        return left

    def became_other_user(self):
        """In a sticky folder nobody replaces what another user wrote: new files, for what runs from now on."""
        old, secret, wanted = self.record_name, self.secret, self.wanted
        self.begin(self.session)
        self.user, self.continues, self.proof, self.wanted = os.geteuid(), old, secret, wanted
        begin_map()

    def read_session(self):
        """What is recorded from now on, as the agent wrote it."""
        try:
            found = loads(read_small(os.path.join(self.ledger, "session")))
            return Session(int(found["generation"]), str(found["label"]), str(found.get("run") or ""),
                           bool(found.get("recording", True)))
        except Exception:
            return Session(0, self.config.get("label", ""), "", True)


def write_record(durable=False):
    s = _state
    if not s.session.recording:
        return
    record = {
        "recorder": RECORDER, "pid": s.pid, "parent": s.parent, "start_ticks": s.start_ticks,
        "boot_id": boot_id(), "pid_ns": s.pid_ns, "install": s.config.get("install", ""),
        "hostname": s.config.get("on") or os.uname()[1],
        "started_at": s.started_at, "argv": s.argv, "unit": s.unit, "role": s.role,
        "python": "%d.%d.%d" % sys.version_info[:3], "prefix": sys.prefix,
        "coverage": s.core.version if s.core else "", "core": s.core.name if s.core else "",
        "interval": s.config["interval"], "map": s.map_name if s.core else None,
        "data": s.data_name if s.core else None, "size": s.core.size() if s.core else 0,
        "last_flush": s.last_flush,
        "ack": s.ack, "ended": s.ended, "error": s.error, "still": s.still,
        "packages": package_files(s.config["packages"]), "folders": package_folders(s.config["packages"]),
        "sources": "".join(sorted(s.sources)),
        "generation": s.session.generation, "label": s.session.label, "run": s.session.run,
        "continues": s.continues, "proof": s.proof, "seal": s.seal,
    }
    write_file(s.ledger, s.record_name, dumps(record).encode("utf-8", "backslashreplace"), durable)


def map_facts():
    """What a map tells of its process where nothing else does."""
    s = _state
    return {"pid": s.pid, "start_ticks": s.start_ticks, "boot_id": boot_id(), "pid_ns": s.pid_ns,
            "install": s.config.get("install", ""), "hostname": s.config.get("on") or os.uname()[1],
            "generation": s.session.generation, "label": s.session.label, "run": s.session.run, "role": s.role,
            "core": s.core.name, "prefix": sys.prefix,
            "python": "%d.%d.%d" % sys.version_info[:3], "branch": s.config["branch"],
            "optimize": sys.flags.optimize}


def begin_map():
    """A map for what runs from now on; its record comes first: a map that nobody tells of is nobody's."""
    s = _state
    if not s.session.recording:
        s.core.pause()
        return
    write_record()
    s.core.begin(os.path.join(s.ledger, s.map_name), map_facts())


def note_sources(files, durable=False):
    """Fingerprints of the files that ran, in the record before the data is there: data without one is doubted."""
    s = _state
    new = [path for path in files if path not in s.seen_files]
    if new:
        s.sources.update(mark for mark in map(fingerprint, new) if mark)
        s.seen_files.update(new)
        write_record(durable)


def save_news():
    """Has what ran until now outlive whatever comes."""
    s = _state
    # A map that outlives a loss of power without its record would be nobody's.
    note_sources(s.core.new_files(), durable=True)
    if s.core.has_news():
        s.core.keep()
        s.last_flush = _CLOCKS[1]()


def flush(ack=None, ended=None, lives_on=False, patience=PATIENCE, ease=lambda: None):
    """Writes what there is to write. Never raises; what went wrong stands in the record.

    `ease` is called once a fork may come, before a slow disk is waited for. Returns False where another flush is under
    way after `patience` seconds.
    """
    s = _state
    if s.lock._is_owned() and not ended:    # a signal handler came in the middle of this thread's own flush
        return
    if not os.path.isdir(s.ledger):     # uninstalled meanwhile: nobody would ever fetch it
        return
    try:
        if s.pid != _getpid():      # a fork that Python knew nothing of: the old name is the parent's
            s.role = s.children.get(s.role, s.role)
            s.became(s.pid)
            begin_map()
        if not s.lock.acquire(True, patience):
            return False
        if not is_recording(ended):
            return
        if s.user != os.geteuid():
            s.became_other_user()
        if not s.core.has_own_map():
            begin_map()             # it has forked and could not, or somebody has taken it away
        ease()
        failed = None
        begins = s.wanted != s.session and not ended
        try:
            if s.core.has_news() or begins:
                save_news()
        except Exception as e:
            failed, begins = "%s: %s" % (type(e).__name__, e), False
        error = failed or s.core.trouble()      # what a live map could not take it has not in memory either
        changed = ack or ended or lives_on or error != s.error
        s.error = error
        if begins:
            next_generation(ack)
        if ack and not failed:
            s.ack = ack
        if ended:
            s.ended = ended
        if changed or begins:
            write_record(durable=True)
    except Exception:
        pass                        # a full disk, most likely: the next flush tries again
    finally:
        # Here and not in a function: a signal handler may raise wherever one begins.
        try:
            s.lock.release()
        except RuntimeError:
            pass                    # not taken in time


def is_recording(ended):
    """Whether there is anything to write: a process that was told to end may be told to begin anew, from zero."""
    s = _state
    if s.session.recording:
        return True
    if ended or not s.wanted.recording:
        return False
    s.core.clear()                  # it ran while nobody recorded
    s.begin(s.wanted)
    begin_map()
    return True


def next_generation(ack):
    """What ran so far stays under the old label; from here on this process counts from zero, or no more."""
    s = _state
    s.ended = "reset"
    if not s.wanted.recording:
        # There is no next record that could say it.
        s.ended, s.ack = "finished", ack
    try:
        write_record(durable=True)
    except Exception:
        s.ended = None
        raise
    before = dict(vars(s))
    left = s.begin(s.wanted)
    try:
        begin_map()
    except Exception:               # a full disk: the old map goes on, until the next flush tries again
        s.core.return_to(left)
        vars(s).update(before, ended=None)
        raise


def trigger_seen():
    """What tells one request from the next, and its name; (None, None) without one."""
    try:
        info = os.stat(_state.trigger)
        return (info.st_mtime_ns, info.st_ino)
    except OSError:
        return None


def trigger_name():
    try:
        return read_small(_state.trigger)[:200].strip()
    except (OSError, IOError, ValueError):
        return None


def run_flusher(stop, gate, done):
    """The flusher thread: on time and on request, until told to stop.

    Each fork stops it, and it is another one that goes on. What is due it does at once: a process that forks all the
    time would never flush.
    """
    s = _state
    try:
        while s.stop is stop:       # else it was told to stop, or its start was interrupted and another one has started
            flush_if_due(gate)
            if stop.acquire(True, min(POLL, s.interval())):
                break
    except Exception:
        pass
    finally:
        done.release()


def flush_if_due(gate):
    s = _state
    seen, current = s.seen, trigger_seen()
    asked = current is not None and current != seen
    if not asked and _CLOCKS[0]() < s.due:
        s.seen = current
        return
    if not gate.acquire(False):     # a fork has come first: the next flusher does it
        return
    held = [gate]

    def ease():
        if held:
            s.at_ease = True
            held.pop().release()

    try:
        # What was seen is remembered over a fork: a request that comes meanwhile is still answered, by the parent
        # and by the child.
        s.seen = current
        if asked:
            s.wanted = s.read_session()
        s.core.tidy()
        if flush(trigger_name() if asked else None, patience=0, ease=ease) is False:
            s.seen = seen           # another thread is at it, and may have begun before that request
        else:
            s.due = _CLOCKS[0]() + s.interval()
    finally:
        ease()
        s.at_ease = False


def start_flusher():
    s = _state
    if s.still:
        return
    stop, gate, done = _allocate(), _allocate(), _allocate()
    stop.acquire()
    done.acquire()
    s.stop, s.gate, s.done = stop, gate, done
    try:
        _start_thread(run_flusher, (stop, gate, done))
    except Exception:               # no more threads here: the next fork tries again
        s.stop = None
    except BaseException:           # a signal handler raised: a thread that did start sees that it is not the one
        s.stop = None
        raise


def end_flusher():
    """The interpreter ends: it may be one of several, which must not end with a thread in it."""
    s = _state
    try:
        stop, s.stop = s.stop, None
        if stop is None:
            return
        before = _thread._count()
        stop.release()
        if s.done.acquire(True, EASE if s.at_ease else PATIENCE):
            for _ in range(100):        # done with ours, it has some way to go
                if _thread._count() < before:
                    break
                _sleep(0.001)
    except Exception:
        pass


def before_fork(token):
    """No flusher thread at the moment of the fork, but for one that waits for the disk.

    Threads may fork at the same time: the first stops the flusher, the last starts a new one.
    """
    s = _state
    try:
        s.fork_lock.acquire(True, PATIENCE)
        s.forks.add(token)
        if s.stop is not None:
            stop, s.stop = s.stop, None
            stop.release()
            s.gate.acquire(True, PATIENCE)
            s.done.acquire(True, EASE if s.at_ease else PATIENCE)
    except Exception:
        pass
    finally:
        try:
            s.fork_lock.release()
        except RuntimeError:
            pass


def after_fork(token):
    """In parent and child, and where there was no fork after all. May be interrupted, and called again."""
    s = _state
    try:
        if s.pid != _getpid() or s.newborn:
            after_in_child()
        elif token in s.forks:
            after_in_parent(token)
    except Exception:
        s.newborn = False


def after_fork_in_c():
    """uWSGI has forked this process, or goes on in it where it forks none."""
    s = _state
    if s.still and s.pid == _getpid():
        s.still = False
        start_flusher()
    else:
        after_fork(None)


def after_in_parent(token):
    s = _state
    try:
        s.fork_lock.acquire(True, PATIENCE)
        if len(s.forks) == 1 and s.stop is None:
            start_flusher()
        s.forks.discard(token)
    finally:
        try:
            s.fork_lock.release()
        except RuntimeError:
            pass


def after_in_child():
    """A forked child is a process of its own: own name, own record, and only its own lines."""
    s = _state
    # A parent that is still tells of nothing, nor is it told of its end.
    tells_of_parent = s.still and s.read_session() == s.session
    if not s.newborn:
        s.newborn, s.stop = True, None
        s.role = s.children.get(s.role, s.role)
    s.still = False
    if s.stop is None:
        os.environ["PULPCOV_ROLE"] = s.role
        try:
            if not tells_of_parent:
                s.core.clear()      # what ran before the fork is the parent's to tell
            s.became(s.pid if s.pid != _getpid() else s.parent)
            begin_map()             # where a live map cannot be had, its parent's holds what is told there
        except Exception:
            pass                    # the first flush tries again
        start_flusher()
    s.newborn = False


def hook_forks():
    """Every fork of Python's own passes through the functions above.

    Wrapped, and not only registered with `os.register_at_fork`: that would swallow what a signal handler raises
    meanwhile, and it runs for `subprocess` too, whose children become another program at once.
    """
    def wrap(real):
        def fork():
            token, held = object(), []
            try:
                before_fork(token)
                _state.hold_sigterm(held)
                return real()
            finally:                # also where a handler raises: the service is being cancelled
                try:
                    after_fork(token)
                except BaseException:
                    after_fork(token)
                    raise
                finally:
                    _state.let_sigterm(held)
        fork.__name__, fork.__doc__ = real.__name__, real.__doc__
        return fork

    def told_in_child():
        """A program in C that runs Python has forked, and says so. Below Python's own forks there is a frame."""
        if sys._getframe().f_back is None:
            after_fork(None)

    os.fork, os.forkpty = wrap(os.fork), wrap(os.forkpty)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=told_in_child)


def at_exit():
    """The last of all exit functions, for it was registered first."""
    try:
        flush(ended="exit")
    finally:
        end_flusher()
        if not _state.core.is_live:
            # What runs from here on is saved by nobody, and a tracer that outlives the modules it calls
            # prints errors while the interpreter is taken down.
            sys.settrace(None)


def wrap_exits():
    """`os._exit` and `exec*` leave without atexit: flush before them."""
    def _exit(status):
        try:
            flush(ended="_exit")
        except BaseException:       # a signal handler raised in the middle: once more, and the exit stands
            flush(ended="_exit")
        finally:
            _os_exit(status)

    def wrap(real):
        def leave(*args, **kwargs):
            try:
                flush(ended="exec")
                return real(*args, **kwargs)
            finally:                # it came back: the exec failed and the process lives on
                _state.ended = None
                flush(ack=_state.ack, lives_on=True)
        leave.__name__, leave.__doc__ = real.__name__, real.__doc__
        return leave

    _exit.__doc__ = _os_exit.__doc__
    os._exit = _exit
    os.execv, os.execve = wrap(os.execv), wrap(os.execve)
    atexit.register(at_exit)


def make_core(config, coverage_dir):
    """The live map where this interpreter's was proven, and can be had; else coverage.py."""
    s = _state
    if sys.implementation.cache_tag in config["live_map"]:
        try:
            from _pulpcov_live_map import LiveMap
            s.core = LiveMap(config, lambda: after_fork(None))
            s.core.start()
            begin_map()
            return
        except Exception:
            if s.core is not None:
                s.core.leave()
    from _pulpcov_coverage_core import Traced
    s.core = Traced(config, coverage_dir)
    try:
        begin_map()
    except Exception:               # a full disk, most likely: the first flush tries again
        pass


def start(config, coverage_dir, role, children, argv):
    """Begins to record this process. Raises only before anything of the process was changed."""
    global _state
    if _state is not None:
        return
    if role == "pulpcov-selftest":
        config = dict(config, data_root=os.environ["PULPCOV_SELFTEST"], packages=["_pulpcov_canary"])
    _state = s = State(config, role, children, argv)
    try:
        make_core(config, coverage_dir)
        s.due = _CLOCKS[0]() + s.interval()
    except (Exception, SystemExit) as e:
        s.core, s.error, s.ended = None, "cannot start coverage: %s: %s" % (type(e).__name__, e), "not started"
        write_record()
        return
    s.seen = trigger_seen()
    os.environ["PULPCOV_ROLE"] = role
    note_loads(config["packages"])
    hook_forks()
    wrap_exits()
    name = program()
    if s.still:
        from _pulpcov_uwsgi import hook_uwsgi
        hook_uwsgi(after_fork_in_c, None if s.core.is_live else s.core.trace_this_thread)
    if not s.core.is_live:
        from _pulpcov_coverage_core import APACHE, hook_mod_wsgi, hook_sigterm
        if name in APACHE:
            hook_mod_wsgi(s.core)
        else:
            hook_sigterm(flush, s)
    start_flusher()
