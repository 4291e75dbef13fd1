"""pulpcov's gate: is this process one of the service's? Everything else leaves here at once.

Every Python of this interpreter runs it at its start, so it imports nothing but os and sys where
nothing is the service's, reads at most three files of /proc, and never raises. The constants were
rendered by `pulpcov-agent install`.
"""
import os
import sys

SWITCH = @SWITCH@
RULES = @RULES@
UNITS = @UNITS@
CHILDREN = @CHILDREN@
COVERAGE = @COVERAGE@
HOOK = @HOOK@
CONFIG = @CONFIG@


def names_of(argv, exe):
    """The script or module that a command line runs; nothing for `python -c` and an empty line."""
    if not os.path.basename(exe).startswith(("python", "pypy", "platform-python")):
        # An embedded interpreter, mod_wsgi or uwsgi; Apache's daemons rename themselves.
        return [os.path.basename(exe)] + [os.path.basename(word) for word in argv[:1]]
    words = iter(argv[1:])
    for word in words:
        if not word.startswith("-"):
            return [os.path.basename(word)]
        if word == "--check-hash-based-pycs":
            next(words, None)
        if word.startswith("--"):
            continue
        for at, letter in enumerate(word[1:], 2):
            rest = word[at:]
            if letter == "c":
                return []
            if letter == "m":
                return [rest or next(words, "")]    # -m, -Im, -mname: a module name
            if letter in "WX":                      # its value is the rest of the word, or the next one
                if not rest:
                    next(words, None)
                break
    return []


def role_of(argv, exe, marker):
    """The role of the first rule that fits, else None."""
    if marker and "-c" in argv[:8] and any("multiprocessing" in word for word in argv[1:]):
        return CHILDREN.get(marker, marker)         # spawn and forkserver children
    names = names_of(argv, exe)
    for role, programs, argument in RULES:
        if any(name in programs for name in names) and (argument is None or any(argument in word for word in argv[1:])):
            return role
    return None


def unit():
    """The systemd unit of this process, by its control group, which a container does not always see."""
    named = os.environ.get("PULPCOV_UNIT")
    if named:
        return named
    try:
        with open("/proc/self/cgroup") as f:
            lines = f.read(65536).splitlines()
    except (OSError, IOError):
        return None
    for line in lines:
        controllers, path = line.split(":", 2)[1:]
        if controllers in ("", "name=systemd"):
            for part in reversed(path.split("/")):
                if part.endswith((".service", ".scope")):
                    return part
    return None


def is_ours(name, pattern):
    """Whether a unit is meant by a name or glob. Only one that may be costs an import."""
    start = pattern.partition("*")[0].partition("?")[0].partition("[")[0]
    if start == pattern or not name.startswith(start):
        return name == pattern
    from fnmatch import fnmatchcase
    return fnmatchcase(name, pattern)


def role_of_unit(name):
    """What a process of a unit of the service is where no rule fits: `worker` of `worker@2.service`."""
    if name is None or not any(is_ours(name, pattern) for pattern in UNITS):
        return None
    stem = name.rpartition(".")[0].partition("@")[0]
    return "".join(c if c.isalnum() or c in "_-." else "_" for c in stem)


def main():
    if SWITCH and os.environ.get(SWITCH) != "1":
        return
    with open("/proc/self/cmdline", "rb") as f:
        raw = f.read(65536)
    argv = [os.fsdecode(word) for word in raw.split(b"\0")[:-1]]
    role = role_of(argv, os.readlink("/proc/self/exe"), os.environ.get("PULPCOV_ROLE"))
    if role is None and UNITS:
        role = role_of_unit(unit())
    if role is None:
        return
    coverage = COVERAGE.get(getattr(sys.implementation, "cache_tag", None))
    if coverage is None:
        return
    sys.path.insert(0, HOOK)
    try:
        import _pulpcov_recorder
        _pulpcov_recorder.start(CONFIG, coverage, role, CHILDREN, argv)
    finally:
        sys.path.remove(HOOK)


try:
    main()
except (Exception, SystemExit):     # whatever it is, it is not the service's business
    pass
