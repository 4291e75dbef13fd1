//! Whether the file at a measured path is still the one whose code ran: `hook/sources.py` says what ran, this says
//! what lies there now.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::host_fs;

/// Letters of one.
const LETTERS: usize = 16;

/// Those that a process record holds, each for one file that its data tells of.
pub(crate) type Fingerprints = BTreeSet<String>;

/// Of the file at a path; a module in a zip lies below a file. Nothing where there is none.
pub(crate) fn of(path: &str) -> Option<String> {
    let meta = Path::new(path).ancestors().find_map(|above| std::fs::metadata(above).ok())?;
    if !meta.is_file() {
        return None;
    }
    let mtime_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    let text = format!("{path}\0{}\0{mtime_ns}\0{}", meta.size(), meta.ino());
    host_fs::sha256(text.as_bytes()).get(..LETTERS).map(str::to_owned)
}

/// What a record holds as one word; what is no whole fingerprint of it is none.
pub(crate) fn split(word: &str) -> Fingerprints {
    let letters = word.as_bytes().chunks_exact(LETTERS);
    letters.filter_map(|one| String::from_utf8(one.to_vec()).ok()).collect()
}

pub(crate) fn join(all: &Fingerprints) -> String {
    all.iter().map(String::as_str).collect()
}

/// What lies at the measured paths, each looked at once: many processes ran the same files.
#[derive(Debug, Default)]
pub(crate) struct Present(BTreeMap<String, Option<String>>);

impl Present {
    /// Those of `paths` whose code came from a file that is no longer there.
    pub(crate) fn replaced<'p>(
        &mut self,
        paths: impl Iterator<Item = &'p String>,
        recorded: &Fingerprints,
    ) -> Vec<String> {
        let mut is_there = |path: &&String| {
            let now = self.0.entry((*path).clone()).or_insert_with(|| of(path));
            now.as_ref().is_some_and(|now| recorded.contains(now))
        };
        paths.filter(|path| !is_there(path)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_has_another_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.py");
        std::fs::write(&path, "a = 1\n").expect("written");
        let name = path.to_string_lossy().into_owned();
        let recorded = split(&of(&name).expect("a file"));
        assert_eq!((recorded.len(), split(&join(&recorded))), (1, recorded.clone()));
        let replaced = || Present::default().replaced(std::iter::once(&name), &recorded);
        assert_eq!(replaced(), Vec::<String>::new());
        let aside = folder.path().join("y.py");
        std::fs::write(&aside, "a = 2\n").expect("written");
        std::fs::rename(&aside, &path).expect("renamed");
        assert_eq!(replaced(), std::slice::from_ref(&name));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!((of(&name), replaced()), (None, vec![name.clone()]));
    }

    #[test]
    fn a_module_in_an_archive_has_the_archives() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.pyz");
        std::fs::write(&path, "PK").expect("written");
        let inside = |name: &str| of(&path.join(name).to_string_lossy());
        assert!(inside("shop/x.py").is_some() && inside("shop/x.py") != inside("shop/y.py"));
    }
}
