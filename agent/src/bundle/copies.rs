//! Copies of sources for the Python that analyses them: what it sees is what was hashed here, whatever lies at their
//! paths meanwhile.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::failure::{During, Failure};
use crate::host::identity::Identity;
use crate::host::{facts, fs, namespace};
use crate::recorder::data_dir::LEDGER;

/// How the folder begins; the process that made it comes next, and its namespace.
const PREFIX: &str = ".pulpcov-copies-";

/// A folder that only the interpreter can look into. It goes with this.
pub(crate) struct Copies {
    folder: PathBuf,
    count: usize,
    identity: Identity,
}

impl Copies {
    /// In memory where that is root's: on a full disk data is wanted most. Else beside what is installed.
    pub(crate) fn new(lib_root: &str, data_root: &Path, identity: Identity) -> Result<Self, Failure> {
        let name =
            format!("{PREFIX}{}-{}-{}", std::process::id(), namespace::number(), facts::random_word()?);
        let make = |place: &Path| {
            std::fs::DirBuilder::new().mode(0o700).create(place.join(&name)).map(|()| place.join(&name))
        };
        let swept = |place: &Path| {
            sweep(place);
            make(place)
        };
        // What is installed may lie on a volume that nobody writes to.
        let folder = swept(Path::new("/run"))
            .or_else(|_| swept(Path::new(lib_root)))
            .or_else(|_| make(&data_root.join(LEDGER)))
            .during("make a folder in", lib_root)?;
        Ok(Self { folder, count: 0, identity })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes a copy, and says where it is. Its name ends as the source's does: coverage.py goes by that.
    pub(crate) fn take(&mut self, source: &Path, bytes: &[u8]) -> Result<PathBuf, Failure> {
        self.count += 1;
        let mut path = self.folder.join(self.count.to_string());
        if let Some(end) = source.extension() {
            path.set_extension(end);
        }
        fs::write_new(&path, bytes, 0o400).during("write", path.display())?;
        self.identity.give(&path)?;
        Ok(path)
    }

    /// Lets the interpreter in; until then nobody else could change what lies there.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        self.identity.give(&self.folder)
    }
}

/// Removes what agents have left that were killed.
fn sweep(place: &Path) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut words = name.strip_prefix(PREFIX).unwrap_or_default().split('-');
        let (pid, pid_ns) = (words.next().and_then(|word| word.parse::<u32>().ok()), words.next());
        // Those of other containers are theirs to judge.
        let is_ours = pid_ns == Some(&*namespace::number());
        if is_ours && pid.is_some_and(|pid| facts::start_ticks(pid).is_none()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
