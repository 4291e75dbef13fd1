//! The loss table of `tests/loss/README.md`, row by row: `.ci/loss` prints it.

use std::process::Command;

use pulpcov_tests::programs;

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn no_row_of_the_loss_table_loses_what_it_may_not() {
    let output = Command::new("python3")
        .arg(programs::workspace().join("tests/loss/table.py"))
        .arg(programs::agent())
        .output()
        .expect("python3 runs");
    let table = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{table}\n{said}");
    // Each row was run: 21 ways to end, 6 states to be asked in.
    assert_eq!(table.lines().filter(|line| line.starts_with('|')).count(), 27, "{table}");
}
