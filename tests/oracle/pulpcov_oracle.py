"""Each report and each combine of coverage.py is done by pulpcov, too, and both must say the same.

It is imported by a `.pth` of the environment that `.ci/oracle` makes, in which coverage.py's own test suite runs: in the
tests' process, and in each process that they start. A call that cannot be put to pulpcov is counted, with the reason.
"""
import importlib.util
import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

LOG = os.environ["PULPCOV_ORACLE_LOG"]
PULPCOV = os.environ["PULPCOV_ORACLE_PROGRAM"]


reporting = 0       # how many reports are being made: what they ask for is theirs


class Skip(Exception):
    """This call cannot be put to pulpcov."""


def note(call, result, **more):
    """One line of the log; whole, for several processes write it."""
    more.update(call=call, result=result, test=os.environ.get("PYTEST_CURRENT_TEST", "?").split(" ")[0])
    line = json.dumps(more, default=str) + "\n"
    log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(log, line.encode("utf-8", "backslashreplace"))
    finally:
        os.close(log)


def pulpcov(words):
    """Runs it as a user would, whom coverage.py's variables do not concern."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("COVERAGE_", "PYTHON", "PULPCOV_ORACLE"))}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))     # where plugins are
    return subprocess.run([PULPCOV] + words, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)


def toml(value):
    """A value as TOML, in which coverage.py fills variables in once more."""
    if isinstance(value, (list, tuple)):
        return "[%s]" % ", ".join(toml(item) for item in value)
    if isinstance(value, str):
        value = value.replace("$", "$$")
    return json.dumps(value)


def as_list(value):
    return [value] if isinstance(value, str) else value


def configuration(cov, given, path):
    """The configuration of a call: what files, constructor and arguments came to."""
    config = cov.config
    if cov._plugin_override:
        raise Skip("plugins that are objects of the test")
    if config.lcov_line_checksums:
        raise Skip("line checksums, which pulpcov's LCOV has not")
    tables = {
        "run": {"plugins": config.plugins, "relative_files": config.relative_files, "source": as_list(config.source)},
        "report": {
            "exclude_lines": config.exclude_list, "partial_branches": config.partial_list,
            "partial_branches_always": config.partial_always_list, "include": config.report_include,
            "omit": config.report_omit, "contexts": config.report_contexts, "precision": config.precision,
            "ignore_errors": config.ignore_errors, "show_missing": config.show_missing, "sort": config.sort,
            "skip_covered": config.skip_covered, "skip_empty": config.skip_empty, "format": config.format,
        },
        "xml": {"package_depth": config.xml_package_depth},
        "json": {"show_contexts": config.json_show_contexts},
        "paths": dict(config.paths),
    }
    tables.update(config.plugin_options)
    for (table, option), value in given.items():
        if value is not None:
            tables[table][option] = as_list(value) if option in ("include", "omit") else value
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as f:
        for table, options in tables.items():
            f.write("[tool.coverage.%s]\n" % json.dumps(table))
            for option, value in options.items():
                if value is not None:
                    f.write("%s = %s\n" % (json.dumps(option), toml(value)))


def include_of(morfs, data):
    """`morfs` as patterns, where they are files of the data."""
    from coverage.files import canonical_filename
    names = []
    for morf in morfs if isinstance(morfs, (list, tuple)) else [morfs]:
        name = morf if isinstance(morf, str) else getattr(morf, "__file__", "")
        name = canonical_filename(name)
        if name not in data.measured_files() or any(mark in name for mark in "*?[]"):
            raise Skip("files that are not in the data")
        names.append(name)
    return names


def put_data(cov, path):
    from coverage import CoverageData
    data, theirs = CoverageData(basename=path), cov.get_data()
    # To ask for what is nowhere would make the file.
    if theirs._no_disk or os.path.exists(theirs.data_filename()):
        if not cov.config.relative_files and any(not name.startswith("/") for name in theirs.measured_files()):
            raise Skip("relative paths without relative_files, under which coverage.py finds no data")
        data.loads(theirs.dumps())
    data.write()
    data.close()


def tree(element):
    told = {key: value for key, value in element.attrib.items() if key not in ("timestamp", "version")}
    return [element.tag, (element.text or "").strip(), sorted(told.items()), [tree(child) for child in element]]


def comparable(kind, text):
    """What of a report both have to say."""
    if kind == "json":
        report = json.loads(text)
        return {key: report[key] for key in ("files", "totals")}
    if kind == "xml":
        return tree(ElementTree.fromstring(text))
    if kind == "lcov":
        return text.splitlines()
    rows = [row for row in text.splitlines() if row.strip("-| :")]
    return [row.split() for row in rows]


def is_nothing(kind, text):
    told = comparable(kind, text)
    return {"json": lambda: not told["files"], "xml": lambda: "<class" not in text, "lcov": lambda: not told}[kind]()


def difference(ours, theirs, place=""):
    """Where they differ first."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(set(ours) | set(theirs), key=str):
            if ours.get(key) != theirs.get(key):
                return difference(ours.get(key), theirs.get(key), "%s/%s" % (place, key))
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for i, (a, b) in enumerate(zip(ours, theirs)):
            if a != b:
                return difference(a, b, "%s/%d" % (place, i))
    return "%s: ours %.700r, coverage.py's %.700r" % (place, ours, theirs)


OPTIONS = {"ignore_errors": "report", "omit": "report", "include": "report", "contexts": "report", "skip_empty": "report",
           "skip_covered": "report", "show_missing": "report", "precision": "report", "sort": "report",
           "show_contexts": "json"}


def unless_reporting(real):
    """HTML is another: only what it asks for on the way is kept from being compared."""
    def wrapped(*args, **kwargs):
        global reporting
        reporting += 1
        try:
            return real(*args, **kwargs)
        finally:
            reporting -= 1
    return wrapped


def report(kind, cov, morfs, given, result, error):
    """The same by pulpcov, of the same data and configuration. `result` is coverage.py's report."""
    with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
        data, rc, out = (os.path.join(folder, name) for name in (".coverage", "rc.toml", "out"))
        put_data(cov, data)
        options = {(OPTIONS[name], name): value for name, value in given.items() if name in OPTIONS}
        if given.get("output_format"):
            options["report", "format"] = given["output_format"]
        if morfs:
            if given.get("include") or given.get("omit") or cov.config.report_include or cov.config.report_omit:
                raise Skip("files and patterns together")
            options["report", "include"] = include_of(morfs, cov.get_data())
        configuration(cov, options, rc)
        done = pulpcov(["report", "--python", sys.executable, "--rcfile", rc, "--" + kind, out, data])
        said = done.stderr.decode("utf-8", "replace")
        if error is not None:
            note(kind, "equal" if done.returncode else "differs", error=repr(error), words=said)
            return
        if "no data to report" in said and kind != "text" and is_nothing(kind, result):
            raise Skip("a report of nothing, which pulpcov refuses in every form")
        if done.returncode:
            note(kind, "differs", words=said, difference="ours ended with %d" % done.returncode)
            return
        with open(out, encoding="utf-8") as f:
            ours = comparable(kind, f.read())
        theirs = comparable(kind, result)
        if ours == theirs:
            note(kind, "equal")
        else:
            note(kind, "differs", difference=difference(ours, theirs), words=said)


def analysis(cov, morf, theirs):
    """What coverage.py says of one file, outside of any report: most of its tests ask only this."""
    with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
        data, rc, out = (os.path.join(folder, name) for name in (".coverage", "rc.toml", "out"))
        put_data(cov, data)
        [name] = include_of(morf, cov.get_data())
        configuration(cov, {("report", "include"): [name], ("report", "omit"): [], ("report", "sort"): ""}, rc)
        done = pulpcov(["report", "--python", sys.executable, "--rcfile", rc, "--json", out, data])
        said = done.stderr.decode("utf-8", "replace")
        if done.returncode:
            note("analysis", "differs", words=said, difference="ours ended with %d" % done.returncode)
            return
        with open(out, encoding="utf-8") as f:
            [ours] = json.load(f)["files"].values()
    numbers = theirs.numbers
    told = {
        "executed_lines": sorted(theirs.executed), "missing_lines": sorted(theirs.missing),
        "excluded_lines": sorted(theirs.excluded),
    }
    counted = {"num_statements": numbers.n_statements, "missing_lines": numbers.n_missing,
               "excluded_lines": numbers.n_excluded}
    if theirs.has_arcs:
        for key, arcs in (("executed_branches", theirs.executed_branch_arcs()), ("missing_branches", theirs.missing_branch_arcs())):
            told[key] = sorted([a, b] for a, ends in arcs.items() for b in ends)
        counted.update(num_branches=numbers.n_branches, num_partial_branches=numbers.n_partial_branches,
                       missing_branches=numbers.n_missing_branches)
    told["summary"] = counted
    ours = {key: ours.get(key) for key in told}
    ours["summary"] = {key: ours["summary"].get(key) for key in counted}
    for key in ("executed_branches", "missing_branches"):
        if key in ours:
            ours[key] = sorted(ours[key])
    if ours == told:
        note("analysis", "equal")
    else:
        note("analysis", "differs", difference=difference(ours, told), words=said)


def contents(data):
    """All that a data file tells."""
    out = {}
    for name in data.measured_files():
        out[name] = [data.file_tracer(name) or ""]
        for context in sorted(data.measured_contexts()):
            data.set_query_contexts(["^%s$" % re.escape(context)])
            ran = data.arcs(name) if data.has_arcs() else data.lines(name)
            if ran:
                out[name].append([context, sorted(map(list, ran)) if data.has_arcs() else sorted(ran)])
        data.set_query_contexts(None)
    return out


def combine(cov, folder, inputs, error):
    from coverage import CoverageData
    rc, out = os.path.join(folder, "rc.toml"), os.path.join(folder, "out")
    configuration(cov, {}, rc)
    done = pulpcov(["combine", "--rcfile", rc, "-o", out] + inputs)
    said = done.stderr.decode("utf-8", "replace")
    if error is not None:
        if "are combined as lines" in said:
            raise Skip("lines and arcs, which pulpcov combines as lines, with a warning")
        note("combine", "equal" if done.returncode else "differs", error=repr(error), words=said)
        return
    if done.returncode:
        note("combine", "differs", words=said, difference="ours ended with %d" % done.returncode)
        return
    data = CoverageData(basename=out)
    data.read()
    copy = os.path.join(folder, "theirs")
    put_data(cov, copy)
    other = CoverageData(basename=copy)
    other.read()
    ours, theirs = contents(data), contents(other)
    data.close(), other.close()
    if ours == theirs:
        note("combine", "equal")
    else:
        note("combine", "differs", difference=difference(ours, theirs), words=said)


def guarded(kind, compare):
    """What goes wrong here is not the tests' business."""
    try:
        compare()
    except Skip as e:
        note(kind, "skipped", reason=str(e))
    except Exception as e:
        note(kind, "broken", reason="%s: %s" % (type(e).__name__, e))


def wrap_analyze(real):
    def wrapped(self, morf, *args, **kwargs):
        result = real(self, morf, *args, **kwargs)
        if not reporting:
            guarded("analysis", lambda: analysis(self, morf, result))
        return result
    return wrapped


def wrap_report(kind, real):
    shape = inspect.signature(real)

    def wrapped(*args, **kwargs):
        global reporting
        given = dict(shape.bind(*args, **kwargs).arguments)
        cov, morfs, file = given.pop("self"), given.pop("morfs", None), given.get("file")
        buffer, error, total, cwd = io.StringIO(), None, None, os.getcwd()
        if kind == "text":
            given["file"] = buffer
        reporting += 1
        try:
            total = real(cov, morfs, **given)
        except Exception as e:
            error = e
        reporting -= 1

        def compare():
            if os.getcwd() != cwd or sys.modules["coverage.files"].relative_directory() != os.path.join(cwd, ""):
                raise Skip("the working directory changed")
            result = buffer.getvalue()
            if kind != "text" and error is None:
                path = given.get("outfile") or getattr(cov.config, kind + "_output")
                if path == "-":
                    raise Skip("written to stdout")
                with open(path, encoding="utf-8") as f:
                    result = f.read()
            report(kind, cov, morfs, given, result, error)

        guarded(kind, compare)
        if kind == "text":
            print(buffer.getvalue(), end="", file=file or sys.stdout)
        if error is not None:
            raise error
        return total
    return wrapped


def wrap_combine(real):
    def wrapped(self, data_paths=None, strict=False, keep=False):
        from coverage.data import combinable_files
        folder = tempfile.mkdtemp(prefix="oracle-")
        inputs, reason = [], None
        data_paths = list(data_paths) if data_paths is not None else None
        try:
            self._init()
            self._init_data(suffix=None)
            if self.get_data()._have_used:      # what is there is added to
                inputs.append(os.path.join(folder, ".coverage.had"))
                put_data(self, inputs[0])
            for i, path in enumerate(combinable_files(self.get_data().base_filename(), data_paths)):
                copy = os.path.join(folder, ".coverage.%04d" % i)
                shutil.copy(path, copy)
                inputs.append(copy)
        except Exception as e:
            reason = repr(e)
        error = None
        try:
            try:
                real(self, data_paths, strict=strict, keep=keep)
            except Exception as e:
                error = e
            def compare():
                if reason or not inputs:
                    raise Skip(reason or "nothing to combine")
                combine(self, folder, inputs, error)
            guarded("combine", compare)
            if error is not None:
                raise error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return wrapped


def patch(control):
    coverage = control.Coverage
    for kind in ("json", "xml", "lcov"):
        name = kind + "_report"
        setattr(coverage, name, wrap_report(kind, getattr(coverage, name)))
    coverage.report = wrap_report("text", coverage.report)
    coverage.html_report = unless_reporting(coverage.html_report)
    coverage._analyze = wrap_analyze(coverage._analyze)
    coverage.combine = wrap_combine(coverage.combine)


class Finder:
    """Patches coverage.py as soon as somebody imports it, and imports nothing itself."""

    def find_spec(self, name, path=None, target=None):
        if name != "coverage.control":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        real = spec.loader.exec_module

        def exec_module(module):
            real(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


if "coverage.control" in sys.modules:
    patch(sys.modules["coverage.control"])
else:
    sys.meta_path.insert(0, Finder())
