//! Run directories of made-up fleets over Django's sources.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::python;

/// A folder with `run`, as `bench/make_run.py` makes it.
///
/// # Panics
/// Where it cannot be made.
#[must_use]
pub fn made_run(words: &[&str]) -> TempDir {
    let work = tempfile::tempdir().expect("a folder");
    made_run_at(&work.path().join("run"), words);
    work
}

/// A run directory at `path`.
///
/// # Panics
/// Where it cannot be made.
pub fn made_run_at(path: &Path, words: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python::reference())
        .arg(root.join("bench/make_run.py"))
        .arg(path)
        .arg(root.join("../agent/data-file/src/analysis.py"))
        .args(words)
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
