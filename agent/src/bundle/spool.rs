//! Copies of data files for one bundle, in a file without a name: anybody may change a data file in place between
//! its digest and its sending.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pulpcov_protocol::text::hex;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::failure::{During, Failure};
use crate::host::facts;
use crate::host::fs::Regular;

/// Times that a file is copied anew because it changed meanwhile.
const TRIES: u32 = 3;

pub(crate) struct Spool {
    file: File,
    end: u64,
}

/// Bytes that no longer change.
pub(crate) enum Held {
    Copied {
        at: u64,
        size: u64,
    },
    /// There was no room for a copy; the file itself is held open.
    Open(File),
}

/// Why a file is not held.
pub(crate) enum NotHeld {
    KeepsChanging,
    Failed(std::io::Error),
}

impl Spool {
    pub(crate) fn new(folder: &Path) -> Result<Self, Failure> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = match rustix::fs::open(folder, flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => fd.into(),
            // overlayfs of older kernels, NFS.
            Err(_) => named(folder)?,
        };
        Ok(Self { file, end: 0 })
    }

    /// Holds what `regular` has now; its digest and size with it.
    pub(crate) fn hold(&mut self, mut regular: Regular) -> Result<(Held, String, u64), NotHeld> {
        for _ in 0..TRIES {
            let before = version(&regular.file).map_err(NotHeld::Failed)?;
            let (sha256, size) = match self.copy(&mut regular.file) {
                Ok(copied) => copied,
                Err(error) if is_no_room(&error) => {
                    let found = crate::host::fs::digest_of(&mut regular.file);
                    let (sha256, size) = found.map_err(NotHeld::Failed)?;
                    return Ok((Held::Open(regular.file), sha256, size));
                }
                Err(error) => return Err(NotHeld::Failed(error)),
            };
            if version(&regular.file).map_err(NotHeld::Failed)? == before {
                let at = self.end;
                self.end += size;
                return Ok((Held::Copied { at, size }, sha256, size));
            }
        }
        Err(NotHeld::KeepsChanging)
    }

    fn copy(&mut self, from: &mut File) -> std::io::Result<(String, u64)> {
        from.rewind()?;
        self.file.seek(SeekFrom::Start(self.end))?;
        let (mut hasher, mut size) = (Sha256::new(), 0);
        let mut buffer = vec![0; 64 * 1024];
        // No further than it was when it was opened and measured: it may grow without end.
        let mut from = from.take(pulpcov_protocol::bundle::MAX_DATA_BYTES);
        loop {
            let read = from.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            hasher.update(bytes);
            self.file.write_all(bytes)?;
            size += read as u64;
        }
        Ok((hex(hasher.finalize()), size))
    }

    /// What is held, to be read from its beginning.
    pub(crate) fn read(&mut self, held: &mut Held) -> std::io::Result<Box<dyn Read + '_>> {
        match held {
            Held::Copied { at, size } => {
                self.file.seek(SeekFrom::Start(*at))?;
                Ok(Box::new((&mut self.file).take(*size)))
            }
            Held::Open(file) => {
                file.rewind()?;
                Ok(Box::new(file.try_clone()?))
            }
        }
    }
}

fn named(folder: &Path) -> Result<File, Failure> {
    let path = folder.join(format!(".spool-{}", facts::random_word()?));
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).during("make", path.display())?;
    fs_err::remove_file(&path)?;
    Ok(fd.into())
}

/// What changes where a file is written to.
fn version(file: &File) -> std::io::Result<(u64, i64, i64)> {
    let meta = file.metadata()?;
    Ok((meta.len(), meta.mtime(), meta.mtime_nsec()))
}

fn is_no_room(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fs;

    fn regular(path: &Path) -> Regular {
        fs::open_regular(path).expect("opens").expect("a file")
    }

    #[test]
    fn what_is_held_no_longer_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::new(folder.path()).expect("a spool");
        let mut all = Vec::new();
        for name in ["a", "b"] {
            let path = folder.path().join(name);
            std::fs::write(&path, name.repeat(100_000)).expect("written");
            let held = spool.hold(regular(&path)).map_err(|_| "not held").expect("held");
            assert_eq!(held.1, fs::sha256(name.repeat(100_000).as_bytes()));
            // In place, as the recorder never does.
            std::fs::write(&path, "other").expect("written");
            all.push((name, held.0));
        }
        for (name, held) in &mut all {
            let mut text = String::new();
            spool.read(held).expect("there").read_to_string(&mut text).expect("reads");
            assert_eq!(text, name.repeat(100_000));
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 2, "the spool has no name");
    }
}
