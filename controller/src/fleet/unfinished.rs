//! Runs that were cut off: which hosts a `fleet run` has installed on, kept on disk until it has put them back.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fleet::last_run::{LastRunError, state_folder};
use crate::output::file::write_whole;
use crate::output::stored_path::StoredPath;

/// Largest such note: a million hosts.
const MAX_NOTE: u64 = 64 * 1024 * 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    /// Where the run's data goes.
    output: StoredPath,
    hosts: BTreeSet<String>,
}

/// Where it is noted for an inventory.
#[derive(Debug, Clone)]
pub(crate) struct UnfinishedFile {
    path: PathBuf,
}

/// A run that is under way: as long as this lives, its note is its own.
#[derive(Debug)]
pub(crate) struct Held {
    place: UnfinishedFile,
    output: PathBuf,
    _lock: File,
}

/// What a run left that is no more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) output: PathBuf,
    pub(crate) hosts: BTreeSet<String>,
}

impl UnfinishedFile {
    pub(crate) fn of(folder: Option<&Path>, inventory: &[PathBuf]) -> Result<Self, LastRunError> {
        Ok(Self {
            path: state_folder(folder)?.join(crate::fleet::last_run::file_name("unfinished", inventory).0),
        })
    }

    fn lock(&self) -> std::io::Result<File> {
        fs_err::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
        let lock = self.path.with_extension("lock");
        Ok(fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(lock)?.into_file())
    }

    fn read(&self) -> Option<Note> {
        let size = std::fs::metadata(&self.path).ok()?.len();
        let text = std::fs::read(&self.path).ok().filter(|_| size <= MAX_NOTE)?;
        serde_json::from_slice(&text).ok()
    }

    fn write(&self, note: &Note) -> std::io::Result<()> {
        if note.hosts.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        write_whole(&self.path, &serde_json::to_vec_pretty(note)?)
    }

    /// What a run left that was killed; nothing while one is under way.
    pub(crate) fn left(&self) -> Option<Unfinished> {
        let note = self.read()?;
        self.lock().ok()?.try_lock().ok()?;
        Some(Unfinished { output: note.output.0, hosts: note.hosts })
    }

    /// Hosts that are as they were again, whoever did it.
    pub(crate) fn forget(&self, hosts: &BTreeSet<String>) {
        let Some(mut note) = self.read() else { return };
        note.hosts.retain(|host| !hosts.contains(host));
        // Where this cannot be written, the next command says it once more.
        let _ = self.write(&note);
    }

    /// Notes that a run begins; fails where another one is under way.
    pub(crate) fn begin(&self, output: &Path, hosts: BTreeSet<String>) -> std::io::Result<Held> {
        let lock = self.lock()?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => {
                std::io::Error::other("another run of this inventory is under way")
            }
            std::fs::TryLockError::Error(error) => error,
        })?;
        let held = Held { place: self.clone(), output: output.to_owned(), _lock: lock };
        held.note(hosts)?;
        Ok(held)
    }
}

impl Held {
    /// The hosts that are still to be put back.
    pub(crate) fn note(&self, hosts: BTreeSet<String>) -> std::io::Result<()> {
        self.place.write(&Note { output: StoredPath(self.output.clone()), hosts })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn what_a_dead_run_left_is_told_until_it_is_put_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = UnfinishedFile::of(Some(folder.path()), &["hosts.yml".into()]).expect("a place");
        let hosts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(place.left(), None);
        let run = Path::new(OsStr::from_bytes(b"/run\xff"));
        let held = place.begin(run, hosts(&["a", "b"])).expect("begins");
        assert_eq!(place.left(), None, "it is under way");
        assert!(place.begin(Path::new("/other"), hosts(&["a"])).is_err());
        drop(held);
        let left = place.left().expect("it is dead");
        assert_eq!((left.output.as_path(), left.hosts), (run, hosts(&["a", "b"])));
        place.forget(&hosts(&["a"]));
        assert_eq!(place.left().expect("one is left").hosts, hosts(&["b"]));
        place.forget(&hosts(&["b"]));
        assert_eq!(place.left(), None);
    }
}
