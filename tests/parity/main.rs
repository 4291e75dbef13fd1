//! Equality with coverage.py 7.17.3: the same data files, its own `combine` and `json`, field by field.

mod config;
mod odd_words;
mod plugins;
mod random;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pulpcov_tests::{programs, python};
use serde_json::Value;
use tempfile::TempDir;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let words =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {words}");
    words
}

fn coverage(work: &Path, words: &[&str]) -> String {
    run(Command::new(python::reference()).args(["-m", "coverage"]).args(words).current_dir(work))
}

fn pulpcov(work: &Path, words: &[&str]) -> String {
    run(Command::new(programs::pulpcov()).args(words).current_dir(work))
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a report")).expect("JSON")
}

/// Runs `script` `times` in a folder with its files, each run a data file of its own.
fn recorded(files: &[(&str, &str)], runs: &[&[&str]], branch: bool) -> TempDir {
    let work = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = work.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("written");
    }
    for words in runs {
        let mut all = vec!["run", "--parallel-mode", "--source=."];
        if branch {
            all.push("--branch");
        }
        all.extend(*words);
        coverage(work.path(), &all);
    }
    work
}

/// `coverage combine` and `coverage json` on one side, `pulpcov report` and `pulpcov combine` on the other.
fn assert_equal(work: &Path) {
    let python = python::reference().to_string_lossy().into_owned();
    pulpcov(work, &["report", "--python", &python, "--json", "ours.json", "."]);
    pulpcov(work, &["combine", "-o", "ours.data", "."]);
    coverage(work, &["combine", "--keep", "-q"]);
    coverage(work, &["json", "-q", "-o", "reference.json"]);
    pulpcov(work, &["report", "--python", &python, "--xml", "ours.xml", "--lcov", "ours.lcov", ".coverage"]);
    coverage(work, &["xml", "-q", "-o", "reference.xml"]);
    coverage(work, &["lcov", "-q", "-o", "reference.lcov"]);
    assert_equal_files(work);
    let reference = json(work.join("reference.json"));
    // coverage.py reads what `pulpcov combine` wrote, and says the same of it.
    coverage(work, &["json", "-q", "--data-file=ours.data", "-o", "combined.json"]);
    assert_eq!(json(work.join("combined.json"))["files"], reference["files"]);
    // And `pulpcov report` of what coverage.py combined is the same again.
    pulpcov(work, &["report", "--python", &python, "--json", "again.json", ".coverage"]);
    assert_eq!(json(work.join("again.json"))["files"], reference["files"]);
}

/// `ours.json`, `.xml` and `.lcov` and `reference.*`: every field, element, attribute and record.
fn assert_equal_files(work: &Path) {
    let (ours, reference) = (json(work.join("ours.json")), json(work.join("reference.json")));
    let (our_files, their_files) =
        (ours["files"].as_object().expect("files"), reference["files"].as_object().expect("files"));
    for (name, file) in their_files {
        assert_eq!(our_files.get(name), Some(file), "{name}");
    }
    assert_eq!(our_files.len(), their_files.len());
    assert_eq!(ours["totals"], reference["totals"]);
    assert_eq!(ours["meta"]["branch_coverage"], reference["meta"]["branch_coverage"]);
    let text = |name: &str| fs::read_to_string(work.join(name)).expect("a report");
    for (ours, theirs) in text("ours.lcov").lines().zip(text("reference.lcov").lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(text("ours.lcov").len(), text("reference.lcov").len());
    // Who wrote it and when differs, and nothing else: not even the order.
    let rows = |name: &str| -> Vec<Vec<String>> {
        let text = text(name);
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("<!--"));
        lines.map(attributes).collect()
    };
    let (ours, theirs) = (rows("ours.xml"), rows("reference.xml"));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}

/// The words of an XML line, for attributes have no order; without the time.
fn attributes(line: &str) -> Vec<String> {
    let mut words: Vec<String> =
        line.split(' ').filter(|word| !word.starts_with("timestamp=")).map(str::to_owned).collect();
    words.sort();
    words
}

/// The words of each row of a table: how they are lined up is our own.
fn table_fields(text: &str) -> Vec<Vec<String>> {
    let rows = text.lines().filter(|line| !line.starts_with("--"));
    rows.map(|row| row.split_whitespace().map(str::to_owned).collect()).collect()
}

/// `coverage report` with each of its options: every row and field, but for our own way to line them up.
fn assert_equal_text(work: &Path) {
    let python = python::reference().to_string_lossy().into_owned();
    for words in [
        &["--show-missing"][..],
        &["--sort=cover", "--precision=2"],
        &["--sort=-miss", "--skip-covered", "--show-missing"],
        &["--sort=stmts", "--skip-empty"],
        &["--skip-covered", "--skip-empty", "--precision=1"],
    ] {
        let ours: Vec<&str> =
            ["report", "--python", &python, ".coverage"].iter().chain(words).copied().collect();
        let theirs: Vec<&str> = ["report"].iter().chain(words).copied().collect();
        assert_eq!(table_fields(&pulpcov(work, &ours)), table_fields(&coverage(work, &theirs)), "{words:?}");
    }
}

/// Every kind of statement that has ever made line and branch numbers differ.
const TORTURE: &str = include_str!("torture.py");

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn torture_in_lines_and_branches() {
    for branch in [false, true] {
        let work = recorded(
            &[("torture.py", TORTURE), ("pkg/__init__.py", ""), ("pkg/never.py", "def f():\n    return 1\n")],
            &[&["torture.py"], &["torture.py", "more"], &["torture.py", "raise"]],
            branch,
        );
        assert_equal(work.path());
        assert_equal_text(work.path());
    }
}

/// Requests of many kinds to a server of its own.
const REQUESTS: &str = r#"
import http.server, sys, threading
import requests
from requests.auth import HTTPDigestAuth

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "/here")
        elif self.path == "/secret" and "Authorization" not in self.headers:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Digest realm="r", nonce="n", qop="auth"')
        else:
            self.send_response(500 if self.path == "/broken" else 200)
            self.send_header("Set-Cookie", "a=b; Path=/")
        self.send_header("Content-Length", "13")
        self.end_headers()
        self.wfile.write(b'{"say":"\xc3\xa4y"}'.ljust(13)[:13])

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *words):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = "http://127.0.0.1:%d" % server.server_port
with requests.Session() as session:
    session.trust_env = False
    session.get(url + "/away").json()
    session.post(url, json={"a": [1]}, params={"q": "1"})
    session.post(url, files={"f": ("n.txt", b"text")}, data={"x": "y"})
    if len(sys.argv) > 1:
        list(session.get(url, stream=True).iter_lines())
        session.get(url + "/secret", auth=HTTPDigestAuth("u", "p"))
        for bad in ("/broken", None):
            try:
                session.get(url + bad if bad else "nonsense://x").raise_for_status()
            except requests.RequestException:
                pass
server.shutdown()
"#;

/// Django starts, renders, serves a request and fails one: 400 files of real code.
const DJANGO: &str = r#"
import sys, django
from django.conf import settings
settings.configure(SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}])
django.setup()
from django.http import HttpResponse
from django.urls import path
from django.template import engines
from django.test import Client
def index(request):
    return HttpResponse(engines["django"].from_string("{% for x in xs %}{{ x|upper }}{% endfor %}").render({"xs": ["a", "b"]}))
urlpatterns = [path("", index)]
from django.core.management import call_command
call_command("migrate", verbosity=0)
client = Client(raise_request_exception=False)
assert client.get("/").status_code == 200
if len(sys.argv) > 1:
    assert client.get("/nowhere").status_code == 404
    from django.contrib.auth.models import User
    User.objects.create_user("a", password="b")
"#;

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn django_in_lines_and_branches() {
    assert_equal_library("django", DJANGO, 500);
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn requests_in_lines_and_branches() {
    assert_equal_library("requests", REQUESTS, 15);
}

/// A library that a script uses, twice, the second time with one word more.
fn assert_equal_library(package: &str, script: &str, at_least: usize) {
    let find = format!("import {package}, os; print(os.path.dirname({package}.__file__))");
    let folder = run(Command::new(python::reference()).args(["-c", &find]));
    for branch in [false, true] {
        let work = tempfile::tempdir().expect("a folder");
        fs::write(work.path().join("use_it.py"), script).expect("written");
        for words in [&["use_it.py"][..], &["use_it.py", "more"]] {
            let source = format!("--source={}", folder.trim());
            let mut all = vec!["run", "--parallel-mode", &source];
            if branch {
                all.push("--branch");
            }
            all.extend(words);
            coverage(work.path(), &all);
        }
        assert_equal(work.path());
        let files = json(work.path().join("ours.json"))["files"].as_object().expect("files").len();
        assert!(files >= at_least, "{files} files");
    }
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn hosts_become_contexts_when_asked() {
    let work = recorded(
        &[("a.py", "import sys\nif len(sys.argv) > 1:\n    print('more')\n")],
        &[&["a.py"], &["a.py", "more"]],
        false,
    );
    let mut files: Vec<PathBuf> = fs::read_dir(work.path())
        .expect("lists")
        .map(|e| e.expect("entry").path())
        .filter(|p| p.to_string_lossy().contains(".coverage."))
        .collect();
    files.sort();
    for (i, file) in files.iter().enumerate() {
        fs::rename(file, work.path().join(format!("data.host{i}.example.77.abc{i}"))).expect("renamed");
    }
    pulpcov(work.path(), &["combine", "--host-contexts", "-o", ".coverage", "."]);
    let script = "from coverage import CoverageData; d = CoverageData('.coverage'); d.read(); print(sorted(d.measured_contexts()))";
    let contexts = run(Command::new(python::reference()).args(["-c", script]).current_dir(work.path()));
    assert_eq!(contexts.trim(), "['host0.example', 'host1.example']");
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn line_and_branch_data_meet_as_lines_with_a_warning_that_names_them() {
    let work = recorded(&[("a.py", "x = 1\nif x:\n    y = 2\n")], &[&["a.py"]], false);
    let of = |name: &str| work.path().join(name);
    let lines = fs::read_dir(work.path()).expect("lists").map(|e| e.expect("entry").path());
    let lines = lines.into_iter().find(|p| p.to_string_lossy().contains("/.coverage.")).expect("data");
    fs::rename(lines, of("data.host1.7.a")).expect("renamed");
    coverage(work.path(), &["run", "--branch", "--data-file=data.host2.8.b", "a.py"]);
    let before =
        (fs::read(of("data.host1.7.a")).expect("data"), fs::read(of("data.host2.8.b")).expect("data"));
    let said = pulpcov(work.path(), &["combine", "-o", "out", "data.host1.7.a", "data.host2.8.b"]);
    assert!(
        said.contains("warning: line data of host1 and branch data of host2 are combined as lines"),
        "{said}"
    );
    assert_eq!(
        before,
        (fs::read(of("data.host1.7.a")).expect("data"), fs::read(of("data.host2.8.b")).expect("data"))
    );
    coverage(work.path(), &["json", "-q", "--data-file=out", "-o", "out.json"]);
    let report = json(of("out.json"));
    assert_eq!(report["meta"]["branch_coverage"], false);
    assert_eq!(report["files"]["a.py"]["executed_lines"], serde_json::json!([1, 2, 3]));
}
