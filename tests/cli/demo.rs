//! The demo, as a new user runs it, and beside another one.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use pulpcov_tests::programs;

#[test]
#[ignore = "needs a package index: coverage.py"]
fn two_demos_at_once_know_nothing_of_each_other() {
    let work = tempfile::tempdir().expect("a folder");
    let demos = ["one", "two"].map(|name| {
        Command::new(programs::pulpcov())
            .args(["demo", "--output", name])
            .current_dir(work.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts")
    });
    for (demo, name) in demos.into_iter().zip(["one", "two"]) {
        let Output { status, stdout, stderr } = demo.wait_with_output().expect("it ends");
        let said = format!("{}{}", String::from_utf8_lossy(&stderr), String::from_utf8_lossy(&stdout));
        assert!(status.success(), "{said}");
        // No process of the other's, nor of the other hosts of its own; nothing that needs an explanation.
        assert!(said.contains("3 processes recorded now, 0 not recorded"), "{said}");
        assert!(!said.contains("warning:") && !said.contains("left no record"), "{said}");
        let last = said.lines().rfind(|line| line.ends_with("index.html")).expect("a path");
        assert!(Path::new(last).is_file() && last.contains(name), "{said}");
    }
    // Another one into the same folder ends before it begins.
    let mut again = Command::new(programs::pulpcov());
    let output = again.args(["demo", "--output", "one"]).current_dir(work.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("one/run is there already"), "{said}");
    assert!(!said.contains("three hosts"), "{said}");
}
