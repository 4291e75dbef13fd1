//! Whether the source of a measured path is still the one whose code ran: `hook/sources.py` says what ran, this says
//! what lies there now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pulpcov_protocol::bundle::MAX_SOURCE_BYTES;
use pulpcov_protocol::manifest::{FINGERPRINT_LETTERS, fingerprint_text};

use crate::host::fs;
use crate::host::owners::{self, Trusted, Way};

/// Those that a process record holds, each for one file that its data tells of.
pub(crate) type Fingerprints = BTreeSet<String>;

/// Of the file at a path that has these bytes.
pub(crate) fn of_source(path: &str, sha256: &str) -> String {
    let mut digest = fs::sha256(fingerprint_text(path, sha256).as_bytes());
    digest.truncate(FINGERPRINT_LETTERS);
    digest
}

/// Of the file at a path. Nothing where there is none, or where somebody else can have put one.
pub(crate) fn of(path: &str, trusted: &Trusted) -> Option<String> {
    let bytes = trusted.read(Path::new(path), MAX_SOURCE_BYTES).ok();
    bytes.map(|bytes| of_source(path, &fs::sha256(&bytes))).or_else(|| of_archived(path, trusted))
}

/// Of a module in a zip, which lies below a file: the archive stands for it, if nobody else can have put it there.
pub(crate) fn of_archived(path: &str, trusted: &Trusted) -> Option<String> {
    let way = owners::walk_to_file(Path::new(path).parent()?).ok().filter(Way::is_file)?;
    trusted.accept(&way).ok()?;
    let stat = rustix::fs::fstat(way.fd()).ok()?;
    let mtime_ns = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Some(of_source(path, &format!("{} {mtime_ns} {}", stat.st_size, stat.st_ino)))
}

/// What a record holds as one word; what is no whole fingerprint of it is none.
pub(crate) fn split(word: &str) -> Fingerprints {
    let letters = word.as_bytes().chunks_exact(FINGERPRINT_LETTERS);
    letters.filter_map(|one| String::from_utf8(one.to_vec()).ok()).collect()
}

pub(crate) fn join(all: &Fingerprints) -> String {
    all.iter().map(String::as_str).collect()
}

/// What lies at measured paths, each looked at once: many processes ran the same files.
#[derive(Debug)]
pub(crate) struct Present<'t> {
    found: BTreeMap<String, Option<String>>,
    trusted: &'t Trusted,
}

impl<'t> Present<'t> {
    pub(crate) const fn new(trusted: &'t Trusted) -> Self {
        Self { found: BTreeMap::new(), trusted }
    }

    /// Those of `paths` whose code came from a file that is no longer there.
    pub(crate) fn replaced<'p>(
        &mut self,
        paths: impl Iterator<Item = &'p String>,
        recorded: &Fingerprints,
    ) -> Vec<String> {
        let mut is_there = |path: &&String| {
            let now = self.found.entry((*path).clone()).or_insert_with(|| of(path, self.trusted));
            now.as_ref().is_some_and(|now| recorded.contains(now))
        };
        paths.filter(|path| !is_there(path)).cloned().collect()
    }

    /// What was listed just now, and what lies in archives.
    pub(crate) fn add(&mut self, path: &str, fingerprint: Option<String>) {
        self.found.insert(path.to_owned(), fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_other_bytes_has_another_one_and_an_equal_one_has_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.py");
        let name = path.to_string_lossy().into_owned();
        let write = |text: &str| {
            std::fs::write(folder.path().join("new"), text).expect("written");
            std::fs::rename(folder.path().join("new"), &path).expect("renamed");
            of(&name, &Trusted::new([])).expect("a file")
        };
        let recorded = split(&write("a = 1\n"));
        assert_eq!((recorded.len(), split(&join(&recorded))), (1, recorded.clone()));
        assert!(recorded.contains(&write("a = 1\n")) && !recorded.contains(&write("a = 2\n")));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(of(&name, &Trusted::new([])), None);
    }

    #[test]
    fn a_module_in_an_archive_has_the_archives() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.pyz");
        std::fs::write(&path, "PK").expect("written");
        let inside = |name: &str| of(&path.join(name).to_string_lossy(), &Trusted::new([]));
        assert!(inside("shop/x.py").is_some() && inside("shop/x.py") != inside("shop/y.py"));
        let set = |mode| {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("set");
        };
        set(0o666);
        assert_eq!(inside("shop/x.py"), None, "anybody's words");
        set(0o644);
        assert!(inside("shop/x.py").is_some());
    }
}
