//! The loss table of `tests/loss/README.md`, row by row: `.ci/loss` prints it.

use std::process::Command;

use pulpcov_tests::{programs, python};

/// Each row is run: 27 ways to run and to end, 6 states to be asked in.
fn table(columns: &str, words: &[&str]) {
    let output = Command::new("python3")
        .arg(programs::workspace().join("tests/loss/table.py"))
        .arg(programs::agent())
        .args(["--columns", columns])
        .args(words)
        .output()
        .expect("python3 runs");
    let table = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{table}\n{said}");
    assert_eq!(table.lines().filter(|line| line.starts_with('|')).count(), 33, "{table}");
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn no_row_of_the_loss_table_loses_what_it_may_not() {
    table("pulpcov,coverage.py", &[]);
}

/// SIGKILL and a host that ends at once included.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_live_map_loses_nothing_in_any_row() {
    let Some(python) = ["3.12", "3.13"].iter().find_map(|version| python::of_version(version)) else {
        return;
    };
    table("live map", &["--live", &python.to_string_lossy()]);
}
