//! The live map against coverage.py's own tracer: lines and branches of random programs, on every Python that has one.

use std::fs;
use std::path::Path;
use std::process::Command;

use pulpcov_tests::{programs, python};
use serde_json::{Value, json};

use crate::{Place, agent};

/// Pythons that have `sys.monitoring`.
pub(crate) const LIVE: [&str; 3] = ["3.12", "3.13", "3.14"];

/// So many programs have their branches compared, under each Python; of lines a part of them does.
const PROGRAMS: usize = 1000;
const OF_LINES: usize = 300;

fn runs(command: &mut Command) {
    let output = command.output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A module for each program, imported one after the other.
fn write_programs(place: &Place, first: u32, count: usize) {
    let app = place.work.path().join("app");
    fs::create_dir_all(app.join("gen")).expect("a folder");
    fs::write(app.join("gen/__init__.py"), "").expect("written");
    let script = programs::workspace().join("tests/hook/exact/programs.py");
    let numbers = [first.to_string(), count.to_string()];
    runs(Command::new(&place.python).arg(script).arg(app.join("gen")).args(numbers));
    let server = "import os, sys\nsys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\nsys.dont_write_bytecode = True\nsys.setrecursionlimit(5000)\nfor number in range(int(sys.argv[1])):\n    __import__('gen.m%d' % number)\n";
    fs::write(app.join("thing-server"), server).expect("written");
}

/// What coverage.py's JSON report says of a data file, by file: executed lines, and executed branches.
fn told(place: &Place, coverage: &Path, data: &Path) -> Value {
    let json = data.with_extension("json");
    let mut command = Command::new(&place.python);
    command.args(["-m", "coverage", "json", "-q"]).env("PYTHONPATH", coverage);
    runs(command.arg("--data-file").arg(data).arg("-o").arg(&json));
    let report: Value = serde_json::from_slice(&fs::read(json).expect("a report")).expect("JSON");
    report["files"].clone()
}

/// Installs a live map for the package `gen`, with the native callbacks or without.
pub(crate) fn install(place: &Place, branch: bool, is_native: bool) {
    let mut words = place.install_words(branch);
    words["profile"]["packages"] = json!(["gen"]);
    words["profile"]["recorder"] = json!("live-map");
    let installed = agent("install", &words);
    assert_eq!(installed["failed"], false, "{installed}");
    if !is_native {
        fs::remove_file(place.work.path().join("lib/hook/_pulpcov_native.abi3.so")).expect("removed");
    }
}

fn compare(version: &str, branch: bool, is_native: bool) {
    let Some(python) = python::of_version(version) else { return };
    let place = Place::new(&python);
    let count = if branch { PROGRAMS } else { OF_LINES };
    write_programs(&place, if branch { 0 } else { 100_000 }, count);
    let server = place.work.path().join("app/thing-server");
    install(&place, branch, is_native);
    runs(Command::new(&place.python).args(["-W", "ignore"]).arg(&server).arg(count.to_string()));
    let status = place.collect();
    let process = &status["processes"][0];
    assert_eq!(process["core"], if is_native { "live-map" } else { "live-map-python" }, "{version}");
    assert_eq!(process["error"], Value::Null, "{version}");
    let data = place.work.path().join("data").join(process["data"].as_str().expect("a data file"));

    // Nothing is recorded but by coverage.py from here on.
    fs::remove_file(python::site_folder(&place.work.path().join("venv")).join("pulpcov.pth"))
        .expect("removed");
    let coverage = fs::read_dir(place.work.path().join("lib")).expect("lists").flatten();
    let coverage =
        coverage.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("coverage-"));
    let coverage = coverage.expect("a private coverage.py");
    let peer = place.work.path().join("peer.db");
    let settings = place.work.path().join("peer.rc");
    fs::write(&settings, format!("[run]\ncore = ctrace\nbranch = {branch}\nsource_pkgs = gen\n"))
        .expect("written");
    let mut command = Command::new(&place.python);
    command.args(["-W", "ignore", "-m", "coverage", "run"]).env("PYTHONPATH", &coverage);
    command.arg(format!("--rcfile={}", settings.display())).arg(format!("--data-file={}", peer.display()));
    runs(command.arg(server).arg(count.to_string()));

    let (ours, theirs) = (told(&place, &coverage, &data), told(&place, &coverage, &peer));
    let theirs = theirs.as_object().expect("files");
    assert!(theirs.len() > count, "{version}: {} files", theirs.len());
    for (file, of_peer) in theirs {
        for what in ["executed_lines", "executed_branches"] {
            assert_eq!(ours[file][what], of_peer[what], "{version}, native {is_native}: {what} of {file}");
        }
    }
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn lines_are_those_that_the_tracer_sees() {
    for version in LIVE {
        compare(version, false, true);
        compare(version, false, false);
    }
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn branches_are_those_that_the_tracer_sees() {
    for version in LIVE {
        compare(version, true, true);
    }
}
