//! Configuration, contexts, paths and old formats: the same files and words to both tools.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use pulpcov_tests::{programs, python};
use serde_json::Value;
use tempfile::TempDir;

use super::{coverage, json, pulpcov, recorded, run, table_fields};

const MODULE: &str =
    "import sys\n\n\ndef f(x):\n    if x:\n        return 1\n    return 2\n\n\nprint(f(len(sys.argv) > 1))\n";

fn python() -> String {
    python::reference().to_string_lossy().into_owned()
}

/// `files` of both tools' JSON reports.
fn both(work: &Path, words: &[&str], theirs: &[&str]) -> (Value, Value) {
    let python = python();
    let ours: Vec<&str> =
        ["report", "--python", &python, "--json", "ours.json", "."].iter().chain(words).copied().collect();
    pulpcov(work, &ours);
    let theirs: Vec<&str> = ["json", "-q", "-o", "theirs.json"].iter().chain(theirs).copied().collect();
    coverage(work, &theirs);
    (json(work.join("ours.json"))["files"].clone(), json(work.join("theirs.json"))["files"].clone())
}

fn sorted(mut files: Value) -> Value {
    let mut lists: Vec<&mut Value> = vec![&mut files];
    while let Some(value) = lists.pop() {
        match value {
            Value::Array(items) => items.sort_by_key(ToString::to_string),
            Value::Object(map) => lists.extend(map.values_mut()),
            _ => {}
        }
    }
    files
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn contexts_of_each_line_and_only_some_contexts() {
    for branch in [false, true] {
        let work = recorded(
            &[("m.py", MODULE)],
            &[&["--context=tier one", "m.py"], &["--context=two", "m.py", "x"]],
            branch,
        );
        coverage(work.path(), &["combine", "-q"]);
        let (ours, theirs) = both(work.path(), &["--show-contexts"], &["--show-contexts"]);
        assert!(ours["m.py"]["contexts"]["6"].is_array(), "{ours}");
        assert_eq!(sorted(ours), sorted(theirs));
        let (ours, theirs) = both(
            work.path(),
            &["--show-contexts", "--contexts", "^tier,nothing"],
            &["--show-contexts", "--contexts=^tier,nothing"],
        );
        assert_eq!(sorted(ours), sorted(theirs));
    }
}

/// The same tree recorded at two places, and a configuration that says so.
fn at_two_places(rcfile: (&str, &str), relative: bool) -> TempDir {
    let work = tempfile::tempdir().expect("a folder");
    for place in ["here/src/app", "ci/7/lib/app"] {
        let folder = work.path().join(place);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("m.py"), MODULE).expect("written");
        let rc = work.path().join("rc");
        fs::write(
            &rc,
            format!(
                "[run]\nrelative_files = {relative}\nparallel = true\ndata_file = {}\n",
                work.path().join("here/.coverage").display()
            ),
        )
        .expect("written");
        let words = if place.starts_with("ci") { vec!["app/m.py", "x"] } else { vec!["app/m.py"] };
        run(Command::new(python::reference())
            .args(["-m", "coverage", "run", "--rcfile"])
            .arg(&rc)
            .args(words)
            .current_dir(folder.parent().expect("a parent")));
    }
    fs::write(work.path().join("here").join(rcfile.0), rcfile.1).expect("written");
    work
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn paths_lead_to_one_tree_whatever_file_says_so() {
    for (rcfile, relative) in [
        ((".coveragerc", "[paths]\napp =\n    src\n    */lib\n"), false),
        (("setup.cfg", "[coverage:paths]\napp =\n    src\n    */lib\n"), false),
        (("pyproject.toml", "[tool.coverage.paths]\napp = ['src', '*/lib']\n"), false),
        ((".coveragerc", "[run]\nrelative_files = true\n"), true),
    ] {
        let work = at_two_places(rcfile, relative);
        let here = if relative { work.path().join("here/src") } else { work.path().join("here") };
        if relative {
            fs::copy(work.path().join("here/.coveragerc"), here.join(".coveragerc")).expect("copied");
        }
        let data = work.path().join("here").to_string_lossy().into_owned();
        let combined = here.join("combined").to_string_lossy().into_owned();
        pulpcov(&here, &["combine", "-o", "ours.data", &data]);
        let file = format!("--data-file={combined}");
        let folder = fs::read_dir(&data).expect("lists").map(|entry| entry.expect("entry").path());
        let mut files: Vec<String> = folder.map(|path| path.to_string_lossy().into_owned()).collect();
        files.retain(|path| path.contains("/.coverage."));
        let words: Vec<&str> =
            ["combine", "--keep", "-q", &file].into_iter().chain(files.iter().map(String::as_str)).collect();
        coverage(&here, &words);
        coverage(&here, &["json", "-q", &file, "-o", "theirs.json"]);
        coverage(&here, &["json", "-q", "--data-file=ours.data", "-o", "ours.json"]);
        let (ours, theirs) = (json(here.join("ours.json")), json(here.join("theirs.json")));
        assert_eq!(theirs["files"].as_object().map(serde_json::Map::len), Some(1), "{rcfile:?}: {theirs}");
        assert_eq!(ours["files"], theirs["files"], "{rcfile:?}");
        pulpcov(&here, &["report", "--python", &python(), "--json", "report.json", &data]);
        assert_eq!(json(here.join("report.json"))["files"], theirs["files"], "{rcfile:?}");
    }
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn gates_and_forms_come_from_the_configuration() {
    let work = recorded(&[("m.py", MODULE), ("other.py", "x = 1\n")], &[&["m.py"]], false);
    coverage(work.path(), &["combine", "-q"]);
    for (rc, wanted) in [
        ("[report]\nfail_under = 99\n", 3),
        ("[report]\nfail_under = 10\nformat = total\n", 0),
        ("[report]\nprecision = 3\nformat = markdown\nomit = other*\n", 0),
        ("[report]\nfail_under = 101\n", 2),
        ("[report]\nfail_under = a lot\n", 2),
        ("[report]\ninclude = nothing*\n", 1),
        ("[report]\nexclude_also = (\n", 2),
    ] {
        fs::write(work.path().join(".coveragerc"), rc).expect("written");
        let run = |program: &mut Command| program.current_dir(work.path()).output().expect("runs");
        let ours =
            run(Command::new(programs::pulpcov()).args(["report", "--python", &python(), ".coverage"]));
        let theirs = run(Command::new(python::reference()).args(["-m", "coverage", "report"]));
        let said = String::from_utf8_lossy(&ours.stderr).into_owned();
        assert_eq!(ours.status.code(), Some(wanted), "{rc}: {said}");
        assert_eq!(ours.status.success(), theirs.status.success(), "{rc}");
        let is_error = [1, 2].contains(&wanted);
        assert!(!is_error || said.starts_with("error: "), "{rc}: {said}");
        if !is_error {
            let text = |output: &[u8]| String::from_utf8_lossy(output).into_owned();
            // coverage.py says below the table why the gate is not met.
            let theirs = text(&theirs.stdout).replace("Coverage failure: ", "\u{0}");
            let theirs = theirs.split('\u{0}').next().unwrap_or_default();
            assert_eq!(table_fields(&text(&ours.stdout)), table_fields(theirs), "{rc}");
        }
    }
}

/// Coverage 4.x wrote JSON, 3.x a pickle.
#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn data_of_coverage_4_is_combined_and_of_3_is_refused() {
    let Some(old) = python::with_coverage("3.7", "4.5.4") else {
        writeln!(std::io::stderr(), "skipped: coverage 4.x, for which this machine has no Python")
            .expect("written");
        return;
    };
    let work = tempfile::tempdir().expect("a folder");
    fs::write(work.path().join("m.py"), MODULE).expect("written");
    for branch in [false, true] {
        let mut words = vec!["-m", "coverage", "run"];
        if branch {
            words.push("--branch");
        }
        words.push("m.py");
        run(Command::new(&old).args(&words).current_dir(work.path()));
        assert!(fs::read(work.path().join(".coverage")).expect("data").starts_with(b"!coverage.py"));
        run(Command::new(&old).args(["-m", "coverage", "xml", "-o", "theirs.xml"]).current_dir(work.path()));
        pulpcov(work.path(), &["report", "--python", &python(), ".coverage", "--xml", "ours.xml"]);
        let hits = |name: &str| -> Vec<String> {
            let text = fs::read_to_string(work.path().join(name)).expect("a report");
            let lines = text.lines().map(str::trim).filter(|line| line.starts_with("<line "));
            let word = |line: &str, name: &str| {
                let found = line.split(' ').find(|word| word.starts_with(name)).unwrap_or_default();
                found.trim_end_matches("/>").to_owned()
            };
            lines.map(|line| format!("{} {}", word(line, "number="), word(line, "hits="))).collect()
        };
        assert_eq!(hits("ours.xml"), hits("theirs.xml"));
    }
    fs::write(work.path().join("data.old.1.abc"), b"\x80\x02}q\x01(U\tcollectorq\x02").expect("written");
    let output = Command::new(programs::pulpcov())
        .args(["combine", "-o", "out", "data.old.1.abc"])
        .current_dir(work.path())
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && said.contains("data.old.1.abc: data of coverage 3.x"),
        "{said}"
    );
    assert!(!work.path().join("out").exists());
}

/// Jumps out of `with` and back, which coverage.py has told in three ways over time.
const WITHS: &str = "import contextlib as c\n\n\ndef f(x):\n    with c.suppress(Exception):\n        if x:\n            return 1\n    \
    for i in range(3):\n        with c.nullcontext(), c.suppress(ValueError):\n            with c.nullcontext():\n                if i == x:\n                    \
    continue\n                if i == 2:\n                    break\n    while x:\n        with c.nullcontext():\n            x -= 1\n            \
    try:\n                y = 1 // x\n            except ZeroDivisionError:\n                return 3\n            finally:\n                y = 2\n    return 2\n\n\nf(0)\nf(1)\nf(2)\n";

/// Analyses of older coverage.py on older Pythons: what that coverage.py itself reports.
#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn older_coverage_on_older_pythons() {
    for (version, coverage) in [("3.10", "7.16.2"), ("3.9", "7.10.7"), ("3.8", "7.6.1")] {
        let Some(old) = python::with_coverage(version, coverage) else {
            writeln!(
                std::io::stderr(),
                "skipped: coverage {coverage} on Python {version}, which this machine has not"
            )
            .expect("written");
            continue;
        };
        for branch in [false, true] {
            let work = tempfile::tempdir().expect("a folder");
            fs::write(work.path().join("m.py"), WITHS).expect("written");
            let mut words = vec!["-m", "coverage", "run"];
            words.extend(branch.then_some("--branch"));
            words.push("m.py");
            run(Command::new(&old).args(&words).current_dir(work.path()));
            run(Command::new(&old)
                .args(["-m", "coverage", "json", "-q", "-o", "theirs.json"])
                .current_dir(work.path()));
            let old = old.to_string_lossy().into_owned();
            let said =
                pulpcov(work.path(), &["report", "--python", &old, "--json", "ours.json", ".coverage"]);
            assert_eq!(said.contains("not comparable"), branch && version == "3.8", "{version}: {said}");
            let of = |name: &str| json(work.path().join(name))["files"]["m.py"].clone();
            let (ours, theirs) = (of("ours.json"), of("theirs.json"));
            // Before 7.13.1 docstrings were listed as executed, though they are no statements.
            assert_eq!(ours["missing_lines"], theirs["missing_lines"], "{version}");
            assert_eq!(ours["summary"]["num_statements"], theirs["summary"]["num_statements"], "{version}");
            assert_eq!(ours["summary"]["covered_lines"], theirs["summary"]["covered_lines"], "{version}");
            if branch && version != "3.8" {
                for key in ["executed_branches", "missing_branches"] {
                    assert_eq!(sorted(ours[key].clone()), sorted(theirs[key].clone()), "{version} {key}");
                }
                for key in ["num_branches", "covered_branches", "num_partial_branches"] {
                    assert_eq!(ours["summary"][key], theirs["summary"][key], "{version} {key}");
                }
            }
        }
    }
}

/// Names of the files that an HTML index lists, and what it says of those that it does not.
fn listed(index: &Path) -> (Vec<String>, bool, bool) {
    let text = fs::read_to_string(index).expect("an index");
    let links = text.split("</a>").filter_map(|before| before.rsplit_once('>'));
    let names = links.map(|(_, name)| name.to_owned()).filter(|name| name.ends_with(".py")).collect();
    let says = |words: &str| text.contains(words);
    (names, says("1 file skipped due to complete coverage."), says("1 empty file skipped."))
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn html_leaves_out_what_the_configuration_says() {
    let work = recorded(
        &[("whole.py", "import part, empty\n"), ("part.py", "if 0:\n    x = 1\ny = 2\n"), ("empty.py", "")],
        &[&["whole.py"]],
        false,
    );
    let python = python();
    coverage(work.path(), &["combine", "--keep", "-q"]);
    for (rc, words) in [
        ("[html]\nskip_covered = true\n", &[][..]),
        ("[html]\nskip_empty = true\n", &[]),
        ("[report]\nskip_covered = true\nskip_empty = true\n", &[]),
        ("[report]\nskip_covered = true\n[html]\nskip_covered = false\n", &[]),
        ("[html]\nskip_covered = false\n", &["--skip-covered"]),
    ] {
        fs::write(work.path().join(".coveragerc"), rc).expect("written");
        coverage(work.path(), &[&["html", "-q", "-d", "theirs"], words].concat());
        pulpcov(
            work.path(),
            &[&["report", "--python", &python, "--html", "ours", ".coverage"], words].concat(),
        );
        let theirs = listed(&work.path().join("theirs/index.html"));
        assert_eq!(listed(&work.path().join("ours/index.html")), theirs, "{rc} {words:?}");
        let pages = fs::read_dir(work.path().join("ours")).expect("lists").flatten();
        let pages = pages.filter(|page| page.file_name().to_string_lossy().contains(".py.")).count();
        assert_eq!(pages, theirs.0.len(), "{rc} {words:?}");
        fs::remove_dir_all(work.path().join("theirs")).expect("removed");
    }
}

/// What the pages of a folder say between two words, sorted.
fn between(folder: &Path, begin: &str, end: &str) -> Vec<String> {
    let pages = fs::read_dir(folder).expect("lists").flatten();
    let pages = pages.filter(|page| page.file_name().to_string_lossy().contains("branches_py"));
    let text: String = pages.map(|page| fs::read_to_string(page.path()).expect("a page")).collect();
    let parts = text.split(begin).skip(1).filter_map(|part| Some(part.split_once(end)?.0.to_owned()));
    let mut all: Vec<String> = parts.collect();
    all.sort();
    all
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn html_tells_of_branches_in_coverage_pys_words() {
    const BRANCHES: &str = "def f(n):\n    if n:\n        return 1\n    for i in range(n, 9):\n        if i > 20:\n            break\n\nf(0)\n[i for i in range(3) if i > 5]\n";
    let work = recorded(&[("branches_py.py", BRANCHES)], &[&["branches_py.py"]], true);
    coverage(work.path(), &["combine", "--keep", "-q"]);
    coverage(work.path(), &["html", "-q", "-d", "theirs"]);
    pulpcov(work.path(), &["report", "--python", &python(), "--html", "ours", ".coverage"]);
    let theirs = between(&work.path().join("theirs"), "<span class=\"annotate long\">", "</span>");
    assert_eq!(theirs.len(), 2, "{theirs:?}");
    let ours: Vec<String> = between(&work.path().join("ours"), "<p>line", "<");
    let ours: Vec<String> = ours.into_iter().map(|words| format!("line{words}")).collect();
    assert_eq!(ours, theirs);
}
