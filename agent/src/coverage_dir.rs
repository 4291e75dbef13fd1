//! coverage.py in a folder of our own, one for each interpreter generation: never in the service's
//! site-packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use pulpcov_protocol::outcome::Interpreter;
use pulpcov_protocol::wheel;

use crate::failure::Failure;
use crate::{host, host_fs, interpreter};

/// Where an interpreter's coverage.py is, or will be.
pub(crate) fn path(lib_root: &str, python: &Interpreter) -> PathBuf {
    Path::new(lib_root).join(format!("coverage-{}-{}", python.coverage, python.cache_tag))
}

/// Wheels at hand, in the order in which they are asked.
pub(crate) struct Wheels<'a> {
    /// Pushed by the controller, spooled to files of these names.
    pub(crate) pushed: &'a [PathBuf],
    pub(crate) wheelhouse: Option<&'a str>,
}

impl Wheels<'_> {
    /// The wheel for `python` that was pushed, or that lies in the folder on this host.
    pub(crate) fn at_hand(&self, python: &Interpreter) -> Result<Option<PathBuf>, Failure> {
        if let Some(path) = choose(self.pushed.to_vec(), python) {
            return Ok(Some(path));
        }
        let Some(folder) = self.wheelhouse else { return Ok(None) };
        let entries = fs_err::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        Ok(choose(entries.iter().map(fs_err::DirEntry::path).collect(), python))
    }
}

/// Unpacks the pinned wheel for `python` into `target`, which does not exist yet.
pub(crate) fn unpack(
    lib_root: &str,
    python: &Interpreter,
    wheels: &Wheels<'_>,
    target: &Path,
) -> Result<(), Failure> {
    let staging = Path::new(lib_root).join(format!(".unpack-{}", host::random_word()?));
    fs_err::create_dir(&staging)?;
    let result = fill(python, wheels, &staging).and_then(|()| {
        fs_err::rename(staging.join("tree"), target)?;
        host_fs::sync_folder(Path::new(lib_root));
        Ok(())
    });
    let _ = fs_err::remove_dir_all(&staging);
    result
}

fn fill(python: &Interpreter, wheels: &Wheels<'_>, staging: &Path) -> Result<(), Failure> {
    let wheel = find(python, wheels, staging)?;
    let tree = staging.join("tree");
    fs_err::create_dir(&tree)?;
    // A wheel is a zip, and every Python unpacks one: no pip is needed on the host.
    let unzip = ["-I", "-B", "-m", "zipfile", "-e"];
    interpreter::run(Command::new(&python.path).args(unzip).arg(&wheel).arg(&tree), b"")?;
    if !tree.join("coverage").join("__init__.py").is_file() {
        return Err(Failure::new(format!("{} holds no coverage.py", wheel.display())));
    }
    interpreter::run(Command::new(&python.path).args(["-I", "-m", "compileall", "-q"]).arg(&tree), b"")?;
    make_readable(&tree)
}

/// The unpacked files get the umask of whoever runs us; every service user must be able to read.
fn make_readable(folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_readable(&entry.path())?;
        } else {
            fs_err::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

fn find(python: &Interpreter, wheels: &Wheels<'_>, staging: &Path) -> Result<PathBuf, Failure> {
    if let Some(path) = wheels.at_hand(python)? {
        return Ok(path);
    }
    let wanted = format!("coverage=={}", python.coverage);
    let mut pip = Command::new(&python.path);
    pip.args(["-B", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-deps", "--only-binary", ":all:", "--dest"])
        .arg(staging)
        .arg(&wanted);
    interpreter::run(&mut pip, b"").map_err(|failure| {
        Failure::new(format!("no wheel of coverage {} for {}: {}", python.coverage, python.path, failure.msg))
            .hint(format!("pip download --no-deps {wanted} into a folder, and give it as --wheelhouse"))
    })?;
    let entries = fs_err::read_dir(staging)?.collect::<Result<Vec<_>, _>>()?;
    choose(entries.iter().map(fs_err::DirEntry::path).collect(), python).ok_or_else(|| {
        Failure::new(format!("pip brought no binary wheel of {wanted} that fits {}", python.path))
    })
}

fn choose(paths: Vec<PathBuf>, python: &Interpreter) -> Option<PathBuf> {
    let names: Vec<String> =
        paths.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    let name = wheel::choose(&names, python)?;
    paths.into_iter().find(|path| path.file_name().is_some_and(|found| found == name))
}
