"""What coverage.py knows about sources without running them, as JSON: the host's half of a report.

Runs under the interpreter of the service with its pinned coverage.py, reads one request from stdin:
    {"mode": "list", "coverage_dir": DIR, "roots": {"shop": ["/opt/shop/shop/__init__.py"]},
     "packages": ["shop"]}
    {"mode": "packages", "entry_points": ["pulpcore.plugin"]}
    {"mode": "analyse", "coverage_dir": DIR, "paths": [FILE...], "options": {"exclude_also": [REGEX...]}}
    {"mode": "about", "options": {}}
and answers one JSON object a line. A line is one source file.
"""
import fnmatch
import json
import os
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


def locate(package):
    """The file of a package's or module's own code, found without importing anything."""
    parts = package.split(".")
    for folder in sys.path:
        base = os.path.join(folder or os.curdir, *parts)
        for path in (os.path.join(base, "__init__.py"), base + ".py"):
            if os.path.isfile(path):
                return os.path.abspath(path)
    return None


def files_of(root):
    """The Python files that coverage.py would count for a package or module."""
    if os.path.basename(root) != "__init__.py":
        return [root]
    from coverage.files import find_python_files
    folder = os.path.dirname(root)
    try:
        return sorted(find_python_files(folder, include_namespace_packages=False))
    except TypeError:               # before coverage 6.4
        return sorted(find_python_files(folder))


def import_root(package, path):
    """The folder that the package was imported from."""
    if os.path.basename(path) == "__init__.py":
        path = os.path.dirname(path)
    for _ in package.split("."):
        path = os.path.dirname(path)
    return path


def list_sources(request):
    seen = set()
    for package in request["packages"]:
        found = [p for p in request["roots"].get(package, []) if os.path.isfile(p)]
        if not found:               # no process has imported it: where it would come from
            found = [p for p in (locate(package),) if p]
        if not found:
            yield {"package": package, "missing": True}
        for root in found:
            for path in files_of(root):
                if path not in seen:
                    seen.add(path)
                    module_path = os.path.relpath(path, import_root(package, root))
                    if not any(fnmatch.fnmatch(module_path, pattern) for pattern in request.get("omit", ())):
                        yield {"path": path, "module_path": module_path}


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


def analyse(cov, path):
    from coverage.python import PythonFileReporter
    reporter = PythonFileReporter(path, cov)
    parser = reporter.parser        # parses now: NotPython and NoSource come from here
    multiline = getattr(parser, "multiline_map", None)
    if multiline is None:
        multiline = parser._multiline
    arcs = sorted(reporter.arcs())  # must come before _with_jump_fixers is read: it is made on the way
    exits = {k: v for k, v in reporter.exit_counts().items()}
    branches = {line for line, count in exits.items() if count > 1}
    fixers = getattr(parser, "_with_jump_fixers", None) or {}
    out = {
        "n_lines": len(reporter.source().splitlines()),
        "statements": sorted(parser.statements),
        "excluded": sorted(parser.excluded),
        "multiline": sorted([k, v] for k, v in multiline.items() if k != v),
        "no_branch": sorted(reporter.no_branch_lines()),
        "arcs": arcs,
        "exit_counts": sorted([k, v] for k, v in exits.items()),
        "with_fixers": [[list(k), list(v) if v else None] for k, v in sorted(fixers.items())],
        "descriptions": [describe(reporter, a, b) for a, b in arcs if a in branches],
        "regions": [],
    }
    if hasattr(reporter, "code_regions"):
        out["regions"] = [[r.kind, r.name, r.start, ranges(r.lines)] for r in reporter.code_regions()]
    return out


def configured(options):
    """coverage.py with the exclusions of a configuration; without any, with its own."""
    import re
    import coverage
    cov = coverage.Coverage(data_file=None, config_file=False)
    for name, replaced, added in (("exclude_lines", "exclude", "exclude_also"), ("partial_branches", "partial", "partial_also"),
                                  ("partial_branches_always", "partial_always", None)):
        given = options.get(replaced)
        more = list(options.get(added) or ())
        patterns = list(cov.get_option("report:" + name) if given is None else given) + more
        for i, pattern in enumerate(patterns):
            try:
                re.compile("(?:%s)" % pattern)  # as coverage.py joins them
            except re.error as e:
                sys.exit("[report] %s: invalid regular expression %r: %s" % (added if i >= len(patterns) - len(more) else name, pattern, e))
        cov.set_option("report:" + name, patterns)
    return cov


def about(request):
    import coverage
    configured(request.get("options") or {})
    yield {"coverage": coverage.__version__, "python": "%d.%d" % sys.version_info[:2]}


def analyse_all(request):
    cov = configured(request.get("options") or {})
    made_by = next(about({}))
    for path in request["paths"]:
        try:
            out = analyse(cov, path)
        except Exception as e:
            out = {"error": "%s: %s" % (type(e).__name__, e)}
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
    answers = {"list": list_sources, "packages": list_packages, "analyse": analyse_all, "about": about}[request["mode"]]
    for answer in answers(request):
        sys.stdout.write(json.dumps(answer, separators=(",", ":")) + "\n")


main()
