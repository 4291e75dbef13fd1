"""A coverage.py plugin as those of template languages are, and one that configures.

`name_page.py` is what `name.page` was rendered to. Lines of a page run two by two, and it is called by another name.
"""
import os

from coverage.plugin import CoveragePlugin, FileReporter, FileTracer


class PageTracer(FileTracer):
    def __init__(self, page):
        self.page = page

    def source_filename(self):
        return self.page

    def line_number_range(self, frame):
        return frame.f_lineno, frame.f_lineno


class PageReporter(FileReporter):
    def relative_filename(self):
        return os.path.basename(self.filename).upper()

    def source(self):
        return super().source().replace("TITLE", "title")

    def lines(self):
        return {n for n, line in enumerate(self.source().splitlines(), 1) if line and not line.startswith("#")}

    def excluded_lines(self):
        return {n for n, line in enumerate(self.source().splitlines(), 1) if "hidden" in line}

    def translate_lines(self, lines):
        return set(lines) | {n + 1 for n in lines if n % 2}

    def arcs(self):
        return {(1, 2), (1, 3), (2, 3), (3, 5), (5, -1)}

    def translate_arcs(self, arcs):
        return {(a, b) for a, b in arcs if a > 0}

    def exit_counts(self):
        return {1: 2, 2: 1, 3: 1, 5: 1}

    def no_branch_lines(self):
        return {5}


class Pages(CoveragePlugin):
    def file_tracer(self, filename):
        if filename.endswith("_page.py"):
            return PageTracer(filename[: -len("_page.py")] + ".page")

    def file_reporter(self, filename):
        return PageReporter(filename)

    def configure(self, config):
        print("a plugin may say something")
        config.set_option("report:omit", ["*/left_out.py", "*/template_plugin.py"])
        config.set_option("report:exclude_lines", ["not wanted"])
        config.set_option("report:precision", 2)


def coverage_init(reg, options):
    pages = Pages()
    reg.add_file_tracer(pages)
    reg.add_configurer(pages)
