//! A service whose every request runs a function of its own, so that its clients know what was run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many functions it has.
pub const MARKS: usize = 3000;

fn sources() -> PathBuf {
    crate::programs::workspace().join("tests/support/tally")
}

pub fn profile() -> PathBuf {
    sources().join("profile.yml")
}

/// The line that a function's body is on.
pub fn line_of(mark: usize) -> u64 {
    2 + 3 * mark as u64
}

/// Whose body that is.
pub fn mark_at(line: u64) -> Option<usize> {
    (line >= 2 && (line - 2).is_multiple_of(3)).then(|| usize::try_from((line - 2) / 3).unwrap_or(usize::MAX))
}

/// Where a library is in such a folder that shows another time, by the seconds in the file `WRONG_CLOCK`.
pub fn wrong_clock(layer: &Path) -> PathBuf {
    layer.join("opt/tally/clock.so")
}

/// Writes it into a folder that lies over a host's root.
pub fn put_into(layer: &Path) -> std::io::Result<()> {
    let package = layer.join("opt/tally/tally");
    fs::create_dir_all(&package)?;
    for file in ["__init__.py", "web.py"] {
        fs::copy(sources().join("tally").join(file), package.join(file))?;
    }
    let marks: String = (0..MARKS).map(|mark| format!("def m{mark}():\n    return {mark}\n\n")).collect();
    fs::write(package.join("marks.py"), marks)?;
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(wrong_clock(layer))
        .arg(sources().join("clock.c"))
        .status()?;
    assert!(built.success(), "the wrong clock does not build");
    let units = layer.join("etc/systemd/system");
    fs::create_dir_all(units.join("multi-user.target.wants"))?;
    fs::copy(sources().join("tally-web.service"), units.join("tally-web.service"))?;
    symlink("../tally-web.service", units.join("multi-user.target.wants/tally-web.service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_and_its_mark() {
        assert_eq!((mark_at(line_of(7)), mark_at(1), mark_at(3)), (Some(7), None, None));
    }
}
