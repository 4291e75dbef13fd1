//! Where an interpreter's hook lies: among its packages, or, of one in an image, in a folder of ours that is mounted there;
//! and the byte code beside it.

use std::path::{Path, PathBuf};

use pulpcov_protocol::outcome::Interpreter;

use crate::failure::Failure;
use crate::host::python::Start;
use crate::host::{fs, interpreter};
use crate::install::changes::Changes;
use crate::recorder::hook::{GATE_FILE, PTH};

/// Where the files of a hook are that is mounted: for all interpreters the same.
pub(crate) fn mounted(lib_root: &Path) -> PathBuf {
    lib_root.join("site")
}

/// Where an interpreter's hook is written.
pub(crate) fn site(lib_root: &str, python: &Interpreter) -> PathBuf {
    if python.image.is_some() { mounted(Path::new(lib_root)) } else { PathBuf::from(&python.purelib) }
}

/// What of a hook is mounted, and where, read-only.
pub(crate) fn mounts(lib_root: &str, python: &Interpreter) -> Vec<(PathBuf, PathBuf)> {
    let folder = mounted(Path::new(lib_root));
    let files = [PTH, GATE_FILE].map(|name| (folder.join(name), Path::new(&python.purelib).join(name)));
    [(lib_root.into(), lib_root.into())].into_iter().chain(files).collect()
}

/// A start of an interpreter with its hook, as the service has it.
pub(crate) fn hooked<'a>(lib_root: &str, python: &'a Interpreter) -> Start<'a> {
    mounts(lib_root, python).iter().fold(Start::of(python), |start, (path, name)| start.sees_as(path, name))
}

/// Byte code beside files of ours: service users could not write it themselves, and would compile
/// at every start.
pub(crate) fn byte_compiled(
    changes: &mut Changes,
    python: &Interpreter,
    sources: &[PathBuf],
) -> Result<(), Failure> {
    // All at once where one is wanted: to start a Python takes longer than to compile.
    let mut compiled = None;
    for (index, source) in sources.iter().enumerate() {
        let target = interpreter::compiled_path(python, source);
        changes.folder_like_parent(target.parent().unwrap_or(Path::new("/")), 0o755)?;
        let stale = changes.touched().contains(source);
        changes.derived(&target, stale, || {
            if compiled.is_none() {
                compiled = Some(interpreter::compile(python, sources)?);
            }
            let code = compiled.as_ref().and_then(|all| all.get(index));
            fs::write_whole(&target, code.map(Vec::as_slice).unwrap_or_default(), 0o644)
        })?;
    }
    Ok(())
}
