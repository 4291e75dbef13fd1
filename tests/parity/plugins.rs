//! Plugins of coverage.py: files that are no Python, reported as the plugin says, and configurations that one changes.

use std::fs;
use std::process::Command;

use pulpcov_tests::{programs, python};

use super::{assert_equal, coverage, pulpcov, recorded, table_fields};

const PLUGIN: &str = include_str!("template_plugin.py");
const MAIN: &str = "import hello_page\nimport left_out\nif not left_out:  # not wanted\n    1 / 0\n";

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn plugins_report_their_files_and_configure() {
    let files = [
        ("template_plugin.py", PLUGIN),
        (".coveragerc", "[run]\nplugins = template_plugin\n"),
        ("main.py", MAIN),
        ("left_out.py", "a = 1\n"),
        ("hello_page.py", "x = 1\nif x:\n    y = 2\nz = 3\n"),
        ("hello.page", "<h1>TITLE</h1>\ntwo {x}\nthree\n# four\nfive\nhidden\n"),
    ];
    let python = python::reference().to_string_lossy().into_owned();
    for branch in [false, true] {
        let work = recorded(&files, &[&["main.py"], &["main.py"]], branch);
        assert_equal(work.path());
        pulpcov(work.path(), &["report", "--python", &python, "--html", "html", "."]);
        let ours = pulpcov(work.path(), &["report", "--python", &python, "-m", "."]);
        assert!(ours.contains("HELLO.PAGE"), "{ours}");
        let theirs = coverage(work.path(), &["report", "-m"]).replace("a plugin may say something\n", "");
        assert_eq!(table_fields(&ours), table_fields(&theirs));
        let pages = fs::read_dir(work.path().join("html")).expect("HTML").flatten();
        let text: String = pages.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect();
        assert!(
            text.contains("<code>&lt;h1&gt;title&lt;/h1&gt;</code>"),
            "no page shows the plugin's source"
        );

        for (rc, words) in [
            ("", "plugin 'template_plugin.Pages' measured it, which [run] plugins does not name"),
            (
                "[run]\nplugins = nowhere\n",
                "[run] plugins of .coveragerc: ModuleNotFoundError: No module named 'nowhere'",
            ),
        ] {
            fs::write(work.path().join(".coveragerc"), rc).expect("written");
            let mut report = Command::new(programs::pulpcov());
            report.args(["report", "--python", &python, "."]).current_dir(work.path());
            let output = report.output().expect("pulpcov runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(2) && said.contains(words), "{said}");
        }
    }
}

/// A plugin whose file is nowhere on disk: coverage.py asks for its text in HTML and JSON alone.
const TEXTLESS: &str = r#"
import os
from coverage.plugin import CoveragePlugin, FileReporter, FileTracer

class Tracer(FileTracer):
    def source_filename(self):
        return os.path.abspath("rendered.page")

class Reporter(FileReporter):
    def lines(self):
        return {1, 2, 3, 4}

class Plugin(CoveragePlugin):
    def file_tracer(self, filename):
        if filename.endswith("_page.py"):
            return Tracer()

    def file_reporter(self, filename):
        return Reporter(filename)

def coverage_init(reg, options):
    reg.add_file_tracer(Plugin())
"#;

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn a_plugins_file_without_text_is_reported() {
    let files = [
        ("textless.py", TEXTLESS),
        (".coveragerc", "[run]\nplugins = textless\n[report]\nomit = */textless.py\n"),
        ("main.py", "import hello_page\n"),
        ("hello_page.py", "x = 1\nif x:\n    y = 2\n"),
    ];
    let python = python::reference().to_string_lossy().into_owned();
    for branch in [false, true] {
        let work = recorded(&files, &[&["main.py"], &["main.py"]], branch);
        pulpcov(work.path(), &["report", "--python", &python, "--lcov", "ours.lcov", "."]);
        coverage(work.path(), &["combine", "--keep", "-q"]);
        coverage(work.path(), &["lcov", "-q", "-o", "reference.lcov"]);
        let text = |name: &str| fs::read_to_string(work.path().join(name)).expect("a report");
        assert!(text("ours.lcov").contains("SF:rendered.page"), "{}", text("ours.lcov"));
        assert_eq!(text("ours.lcov"), text("reference.lcov"));
        let table = pulpcov(work.path(), &["report", "--python", &python, "-m", "."]);
        assert_eq!(table_fields(&table), table_fields(&coverage(work.path(), &["report", "-m"])));
    }
}
