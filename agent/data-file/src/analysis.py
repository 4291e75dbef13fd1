"""What coverage.py knows about sources without running them, as JSON: the host's half of a report.

Runs under the interpreter of the service with its pinned coverage.py, reads one request from stdin:
    {"mode": "list", "coverage_dir": DIR, "roots": {"shop": ["/opt/shop/shop/__init__.py"]},
     "folders": {"shop": ["/opt/shop/shop"]}, "packages": ["shop"], "measured": [FILE...],
     "path": [FOLDER...]}           the site folders of another Python, which no longer runs
    {"mode": "archived", "coverage_dir": DIR, "paths": [FILE...]}
    {"mode": "texts", "coverage_dir": DIR, "paths": [FILE...], "digests": [FILE...], "most": BYTES, "total": BYTES}
    {"mode": "packages", "entry_points": ["pulpcore.plugin"]}
    {"mode": "analyse", "coverage_dir": DIR, "paths": [FILE...], "options": {"exclude_also": [REGEX...]},
     "names": {FILE: NAME},             what errors call a file that is a copy
     "traced": {FILE: {"plugin": NAME, "lines": [LINE...], "arcs": [[LINE, LINE]...]}}}
    {"mode": "about", "options": {}}
    {"mode": "configure", "options": {"config_file": FILE}, "wanted": [OPTION...]}
and answers one JSON object a line. A line is one source file.
"""
import binascii
import fnmatch
import hashlib
import json
import os
import re
import sys


def packages_of_entry_points(groups):
    """Top-level packages behind entry point groups, without importing them."""
    try:
        from importlib.metadata import entry_points
    except ImportError:             # Python 3.6 and 3.7
        import pkg_resources
        found = [e.module_name for g in groups for e in pkg_resources.iter_entry_points(g)]
    else:
        points = entry_points()
        if hasattr(points, "select"):
            found = [e.value for g in groups for e in points.select(group=g)]
        else:
            found = [e.value for g in groups for e in points.get(g, [])]
    return sorted({value.split(":")[0].split(".")[0] for value in found})


SOURCE = re.compile(r"^[^.#~!$@%^&*()+=,]+\.pyw?$")     # as coverage.py has it: editors leave others behind


def with_pth(folders):
    """Site folders, and what the plain lines of their `.pth` files add, as `site` has it."""
    for folder in folders:
        yield folder
        for name in sorted(os.listdir(folder) if os.path.isdir(folder) else ()):
            if not name.endswith(".pth"):
                continue
            try:
                with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
                    lines = [line.strip() for line in f]
            except OSError:
                continue
            for line in lines:
                if line and not line.startswith(("#", "import ", "import\t")):
                    yield os.path.join(folder, line)


def locate(package, path):
    """Where a package's or module's own code is, found without importing anything: a file, a folder with an
    `__init__.py`, or all portions of a namespace."""
    parts = package.split(".")
    portions = []
    for folder in path:
        base = os.path.abspath(os.path.join(folder or os.curdir, *parts))
        if os.path.isfile(os.path.join(base, "__init__.py")):
            return [base]
        if os.path.isfile(base + ".py"):
            return [base + ".py"]
        if os.path.isdir(base):
            portions.append(base)
    return [base for base in portions if any(True for _ in files_of(base, ()))]


def files_of(root, measured):
    """The Python files of a package or module. In a regular package, a folder without an `__init__.py` is part of
    it once anything in it was measured; a namespace has no other."""
    if not os.path.isdir(root):
        yield root
        return
    is_regular = os.path.isfile(os.path.join(root, "__init__.py"))
    for folder, folders, names in os.walk(root):
        def belongs(name):
            path = os.path.join(folder, name)
            if name == "__pycache__" or not name.isidentifier():
                return False
            return not is_regular or os.path.isfile(os.path.join(path, "__init__.py")) or os.path.realpath(path) in measured
        folders[:] = sorted(name for name in folders if belongs(name))
        for name in sorted(names):
            if SOURCE.match(name):
                yield os.path.join(folder, name)


def folders_above(paths):
    """All folders that lead to one of the paths."""
    above = set()
    for path in paths:
        folder = os.path.dirname(path)
        while folder not in above and len(folder) > 1:
            above.add(folder)
            folder = os.path.dirname(folder)
    return above


def roots_of(package, request):
    """Files and folders of a package: where processes imported it from, else where it would come from."""
    found = []
    for path in request["roots"].get(package, []):
        if os.path.isfile(path):
            found.append(os.path.dirname(path) if os.path.basename(path) == "__init__.py" else path)
    found += [path for path in request["folders"].get(package, []) if os.path.isdir(path)]
    path = request.get("path")
    return sorted(set(found)) or locate(package, sys.path if path is None else with_pth(path))


def list_sources(request):
    seen, measured = set(), folders_above(request["measured"])
    for package in request["packages"]:
        found = roots_of(package, request)
        if not found:
            yield {"package": package, "missing": True}
        for root in found:
            name = os.path.join(*package.split("."))
            for path in files_of(root, measured):
                real = os.path.realpath(path)
                if real not in seen:
                    seen.add(real)
                    module_path = os.path.join(name, os.path.relpath(path, root)) if path != root else name + ".py"
                    if not any(fnmatch.fnmatch(module_path, pattern) for pattern in request.get("omit", ())):
                        yield {"path": path, "module_path": module_path}


def list_archived(request):
    """The text, in hexadecimal digits, of sources that lie in an archive from which Python imports."""
    from coverage.python import get_zip_bytes
    for path in request["paths"]:
        try:
            found = get_zip_bytes(path)
        except Exception:
            found = None
        yield {"path": path, "text": None if found is None else binascii.hexlify(found).decode()}


def list_texts(request):
    """What is at each path, in hexadecimal digits or as its SHA-256, and where links lead: of files that whoever asks
    cannot open, as those of an image. What lies in an archive stands for that archive's size, time and inode. Once the
    texts have so many bytes in all, the rest is to be asked for again."""
    total = 0
    texts = set(request["paths"])
    for path in request["paths"] + request["digests"]:
        told = {"path": path, "real": path, "text": None, "sha256": None, "archive": None}
        try:
            told["real"] = os.path.realpath(path)
            if os.path.isfile(path) and os.path.getsize(path) <= request["most"]:
                with open(path, "rb") as f:
                    found = f.read(request["most"])
                told["sha256"] = hashlib.sha256(found).hexdigest()
                if path in texts:
                    total += len(found)
                    told["text"] = binascii.hexlify(found).decode()
            elif os.path.isabs(path):
                told.update(text_in_archive(path))
        except (OSError, ValueError):
            pass
        yield told
        if total > request["total"]:
            return


def text_in_archive(path):
    archive = os.path.dirname(path)
    while not os.path.exists(archive):
        archive = os.path.dirname(archive)
    if not os.path.isfile(archive):
        return {}
    info = os.stat(archive)
    found = next(list_archived({"paths": [path]}))
    return {"text": found["text"], "archive": "%d %d %d" % (info.st_size, info.st_mtime_ns, info.st_ino)}


def list_packages(request):
    return packages_of_entry_points(request["entry_points"])


def ranges(numbers):
    out = []
    for n in sorted(numbers):
        if out and out[-1][1] == n - 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return out


def describe(reporter, a, b):
    """coverage.py's words for a branch that was not taken, and for the branch itself."""
    try:
        missing = reporter.missing_arc_description(a, b)
    except TypeError:
        missing = reporter.missing_arc_description(a, b, [])
    taken = reporter.arc_description(a, b) if hasattr(reporter, "arc_description") else None
    return [a, b, missing, taken]


def arcs_of(reporter, parser):
    """Arcs, exits and fixers of `with`; and why there are none, where coverage.py cannot tell. Lines need none."""
    try:
        arcs = sorted(reporter.arcs())      # before _with_jump_fixers is read: it is made on the way
        exits = dict(reporter.exit_counts().items())
        return arcs, exits, getattr(parser, "_with_jump_fixers", None) or {}, None
    except RuntimeError as e:               # RecursionError: some hundred elifs
        return [], {}, {}, "%s: %s" % (type(e).__name__, e)


def analyse(cov, path, traced):
    from coverage.python import PythonFileReporter
    reporter = reporter_of_plugin(cov, path, traced["plugin"]) if traced else None
    if reporter is not None:
        return analyse_by_plugin(reporter, traced)
    reporter = PythonFileReporter(path, cov)
    parser = reporter.parser        # parses now: NotPython and NoSource come from here
    multiline = getattr(parser, "multiline_map", None)
    if multiline is None:
        multiline = parser._multiline
    arcs, exits, fixers, arcs_error = arcs_of(reporter, parser)
    out = describe_file(reporter, reporter.source(), parser.statements, parser.excluded, arcs, exits)
    out["multiline"] = sorted([k, v] for k, v in multiline.items() if k != v)
    out["with_fixers"] = [[list(k), list(v) if v else None] for k, v in sorted(fixers.items())]
    if arcs_error:
        out["arcs_error"] = arcs_error
    return out


KINDS = "function", "class"         # of regions; a plugin may have others


def describe_file(reporter, source, statements, excluded, arcs, exits):
    """What any reporter of coverage.py tells of its file."""
    branches = {line for line, count in exits.items() if count > 1}
    regions = reporter.code_regions() if hasattr(reporter, "code_regions") else ()
    regions = [region for region in regions if region.kind in KINDS]
    return {
        "n_lines": len(source.splitlines()),
        "statements": sorted(statements),
        "excluded": sorted(excluded),
        "no_branch": sorted(reporter.no_branch_lines()),
        "arcs": arcs,
        "exit_counts": sorted([k, v] for k, v in exits.items()),
        "descriptions": [describe(reporter, a, b) for a, b in arcs if a in branches],
        "regions": [[r.kind, r.name, r.start, ranges(r.lines)] for r in regions],
    }


def reporter_of_plugin(cov, path, name):
    """The plugin's own reporter; None where it leaves the file to coverage.py's for Python."""
    try:
        plugin = cov._plugins.get(name)
    except KeyError:
        raise LookupError("plugin %r measured it, which [run] plugins does not name" % name)
    reporter = plugin.file_reporter(path)
    if reporter is None:
        raise LookupError("plugin %r did not provide a file reporter for it" % name)
    return None if reporter == "python" else reporter


def analyse_by_plugin(reporter, traced):
    """A plugin also translates what ran, by whatever rule it has."""
    try:
        source = reporter.source()
    except (OSError, IOError):
        source = ""                     # its file need not be one: only HTML and JSON of coverage.py ask for its text
    arcs = sorted(reporter.arcs())
    out = describe_file(reporter, source, reporter.lines(), reporter.excluded_lines(), arcs, reporter.exit_counts())
    ways = {}
    for a, b in arcs:
        ways.setdefault(a, []).append(b)
    ran = set()
    for a, b in reporter.translate_arcs([tuple(arc) for arc in traced["arcs"]]):
        if a != b:
            ran.add((a, b))
        elif len(ways.get(a, ())) == 1:         # the line ran: so did its only way out
            ran.add((a, ways[a][0]))
    kinds = reporter.code_region_kinds() if hasattr(reporter, "code_region_kinds") else ()
    out["translated"] = {
        "name": reporter.relative_filename(), "source": source,
        "lines": sorted(reporter.translate_lines(traced["lines"])), "arcs": sorted(reporter.translate_arcs(ran)),
        "kinds": [kind for kind, _ in kinds if kind in KINDS],
    }
    return out


def with_plugins(config_file):
    """coverage.py as it is configured, with its plugins, which may lie in the working directory."""
    import coverage
    sys.path.insert(0, "")
    try:
        cov = coverage.Coverage(data_file=None, config_file=config_file)
        cov._init()
    except Exception as e:
        sys.exit("[run] plugins of %s: %s: %s" % (config_file, type(e).__name__, e))
    return cov


def configured(options):
    """coverage.py with the exclusions of a configuration; without any, with its own."""
    import coverage
    if options.get("config_file"):
        cov = with_plugins(options["config_file"])
    else:
        cov = coverage.Coverage(data_file=None, config_file=False)
        cov._init()                 # coverage 6.2 knows its exclusions only then
    for name, replaced, added in (("exclude_lines", "exclude", "exclude_also"), ("partial_branches", "partial", "partial_also"),
                                  ("partial_branches_always", "partial_always", None)):
        given = options.get(replaced)
        more = list(options.get(added) or ())
        patterns = list(cov.get_option("report:" + name) if given is None else given) + more
        for i, pattern in enumerate(patterns):
            try:
                # As coverage.py joins them: only one that stands alone may begin with a flag.
                re.compile(pattern if len(patterns) == 1 else "(?:%s)" % pattern)
            except re.error as e:
                sys.exit("[report] %s: invalid regular expression %r: %s" % (added if i >= len(patterns) - len(more) else name, pattern, e))
        cov.set_option("report:" + name, patterns)
    return cov


def about(request):
    import coverage
    if request:
        configured(request.get("options") or {})
    yield {"coverage": coverage.__version__, "python": "%d.%d" % sys.version_info[:2]}


def configure(request):
    """A configuration as its plugins leave it: of the options asked for, those that this coverage.py has."""
    cov = with_plugins(request["options"]["config_file"])
    found = {}
    for name in request["wanted"]:
        try:
            value = cov.get_option(name)
        except Exception:
            continue
        if value is not None:
            section, _, option = name.partition(":")
            found.setdefault(section, {})[option] = value
    found["paths"] = cov.config.paths
    yield found


def analyse_all(request):
    cov = configured(request.get("options") or {})
    made_by = next(about({}))
    for path in request["paths"]:
        try:
            out = analyse(cov, path, request.get("traced", {}).get(path))
        except Exception as e:
            words = "%s: %s" % (type(e).__name__, e)
            out = {"error": words.replace(path, request.get("names", {}).get(path, path))}
        out.update(made_by)
        yield out


def main():
    request = json.load(sys.stdin)
    if "__file__" in globals():    # run as a file: its own folder is no place for the service's packages
        sys.path = [f for f in sys.path if f != os.path.dirname(os.path.abspath(__file__))]
    if request.get("coverage_dir"):
        sys.path.insert(0, request["coverage_dir"])
    try:
        import coverage             # noqa: F401
    except ImportError as e:
        sys.exit("%s cannot import coverage: %s" % (sys.executable, e))
    answers = {"list": list_sources, "archived": list_archived, "texts": list_texts, "packages": list_packages, "analyse": analyse_all,
               "about": about, "configure": configure}[request["mode"]]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)                   # a plugin may print what it likes
    for answer in answers(request):
        out.write(json.dumps(answer, separators=(",", ":")) + "\n")
    out.flush()


main()
