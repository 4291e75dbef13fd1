//! coverage.py in a folder of our own, one for each interpreter generation: never in the service's
//! site-packages.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pulpcov_protocol::outcome::Interpreter;
use pulpcov_protocol::wheel;

use crate::failure::{During, Failure};
use crate::host::python::Start;
use crate::host::{facts, fs, interpreter};
use crate::recorder::wheel_archive;

/// Largest wheel that is taken.
pub(crate) const MAX_WHEEL: u64 = 64 * 1024 * 1024;

/// How the folder of another user's interpreters begins.
pub(crate) const OF_USER: &str = "user-";

/// Where an interpreter's coverage.py is, or will be.
pub(crate) fn path(lib_root: &str, python: &Interpreter) -> PathBuf {
    home(lib_root, python).join(format!("coverage-{}-{}", python.coverage, python.cache_tag))
}

/// Where our code for an interpreter lies: the byte code beside it was made by that very interpreter, so the owner of
/// one has a folder of its own, and root's processes run nothing of it.
pub(crate) fn home(lib_root: &str, python: &Interpreter) -> PathBuf {
    let root = Path::new(lib_root);
    if python.uid == rustix::process::geteuid().as_raw() || python.uid == 0 {
        root.to_owned()
    } else {
        root.join(format!("{OF_USER}{}", python.uid))
    }
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
    let staging = Path::new(lib_root).join(format!(".unpack-{}", facts::random_word()?));
    fs_err::create_dir(&staging)?;
    let result = fill(python, wheels, &staging).and_then(|()| {
        fs_err::rename(staging.join("tree"), target)?;
        fs::sync_folder(Path::new(lib_root));
        Ok(())
    });
    let _ = fs_err::remove_dir_all(&staging);
    result
}

fn fill(python: &Interpreter, wheels: &Wheels<'_>, staging: &Path) -> Result<(), Failure> {
    let wheel = find(python, wheels, staging)?;
    let tree = staging.join("tree");
    fs_err::create_dir(&tree)?;
    let name = wheel.display().to_string();
    wheel_archive::unpack(&fs::read_limited(&wheel, MAX_WHEEL)?, &name, &tree)?;
    if !tree.join("coverage").join("__init__.py").is_file() {
        return Err(Failure::new(format!("{name} holds no coverage.py")));
    }
    // It is to be read by the interpreter, whoever that runs as.
    make_readable(&tree)?;
    fs_err::set_permissions(staging, std::fs::Permissions::from_mode(0o755))?;
    let mut sources = Vec::new();
    sources_in(&tree, &mut sources)?;
    for (source, code) in sources.iter().zip(interpreter::compile(python, &sources)?) {
        let place = interpreter::compiled_path(python, source);
        fs_err::create_dir_all(place.parent().unwrap_or(&tree))?;
        fs::write_new(&place, &code, 0o644).during("write", place.display())?;
    }
    make_readable(&tree)
}

fn sources_in(folder: &Path, sources: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sources_in(&entry.path(), sources)?;
        } else if entry.path().extension().is_some_and(|end| end == "py") {
            sources.push(entry.path());
        }
    }
    Ok(())
}

/// The unpacked files get the umask of whoever runs us; every service user must be able to read.
fn make_readable(folder: &Path) -> Result<(), Failure> {
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
    // Its pip is its owner's: it brings a wheel to a place of its own.
    let brought = staging.join("brought");
    fs_err::create_dir(&brought)?;
    interpreter::identity(python)?.give(&brought)?;
    fs_err::set_permissions(staging, std::fs::Permissions::from_mode(0o755))?;
    let pip = Start::of(python)
        .args(&["-I", "-B", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(&["--no-deps", "--only-binary", ":all:", "--dest"])
        .path_arg(&brought)
        .args(&[&wanted])
        .writes(&brought)
        .with_network();
    pip.answer(b"").map_err(|failure| {
        Failure::new(format!("no wheel of coverage {} for {}: {}", python.coverage, python.path, failure.msg))
            .hint(format!("pip download --no-deps {wanted} into a folder, and give it as --wheelhouse"))
    })?;
    let entries = fs_err::read_dir(&brought)?.collect::<Result<Vec<_>, _>>()?;
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
