//! Which number a found container has among those of its entry, kept on disk: a number stays with its container as long
//! as that runs, and goes to another afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fleet::last_run::{LastRunError, file_name, lock_beside, state_folder};
use crate::output::file::write_whole;

/// Version of the file.
const FORMAT: u32 = 1;

/// Largest such file: ten thousand pods.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Number to name, by entry.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Numbers {
    format: u32,
    entries: BTreeMap<String, BTreeMap<u32, String>>,
}

/// Those of an entry, and those that had a number and are gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) here: BTreeMap<u32, String>,
    pub(super) gone: BTreeMap<u32, String>,
}

impl Numbers {
    /// Gives what was found of an entry, oldest first, its numbers: its own to who has one, the lowest free one to others.
    pub(super) fn settle(&mut self, entry: &str, found: &[String]) -> Settled {
        let (mut here, gone): (BTreeMap<u32, String>, BTreeMap<u32, String>) = self
            .entries
            .remove(entry)
            .unwrap_or_default()
            .into_iter()
            .partition(|(_, name)| found.contains(name));
        let known: BTreeSet<String> = here.values().cloned().collect();
        for name in found.iter().filter(|name| !known.contains(*name)) {
            let free = (1..=u32::MAX).find(|number| !here.contains_key(number)).unwrap_or(u32::MAX);
            here.insert(free, name.clone());
        }
        if !here.is_empty() {
            self.entries.insert(entry.to_owned(), here.clone());
        }
        Settled { here, gone }
    }
}

/// Where the numbers of an inventory are kept.
pub(super) struct NumbersFile {
    path: PathBuf,
}

impl NumbersFile {
    pub(super) fn of(folder: Option<&Path>, inventory: &[PathBuf]) -> Result<Self, LastRunError> {
        Ok(Self { path: state_folder(folder)?.join(file_name("containers", inventory).0) })
    }

    /// Changes the numbers. What cannot be read is forgotten, as what was never written.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Numbers) -> T) -> std::io::Result<T> {
        let _lock = lock_beside(&self.path)?;
        let mut numbers = self.read().unwrap_or_default();
        let before = serde_json::to_vec_pretty(&numbers)?;
        let result = change(&mut numbers);
        numbers.format = FORMAT;
        let after = serde_json::to_vec_pretty(&numbers)?;
        if before != after {
            write_whole(&self.path, &after)?;
        }
        Ok(result)
    }

    fn read(&self) -> Option<Numbers> {
        let size = std::fs::metadata(&self.path).ok()?.len();
        let text = std::fs::read(&self.path).ok().filter(|_| size <= MAX_FILE)?;
        serde_json::from_slice(&text).ok().filter(|numbers: &Numbers| numbers.format == FORMAT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|&name| name.to_owned()).collect()
    }

    fn numbered(all: &[(u32, &str)]) -> BTreeMap<u32, String> {
        all.iter().map(|&(number, name)| (number, name.to_owned())).collect()
    }

    #[test]
    fn a_number_stays_with_its_container_and_is_given_again_afterwards() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = NumbersFile::of(Some(folder.path()), &["hosts.yml".into()]).expect("a place");
        let settle = |entry: &'static str, found: &[&str]| {
            let found = names(found);
            place.change(|numbers| numbers.settle(entry, &found)).expect("kept")
        };
        assert_eq!(settle("workers", &["b", "a"]).here, numbered(&[(1, "b"), (2, "a")]));
        assert_eq!(settle("api", &["x"]).here, numbered(&[(1, "x")]));
        // Whoever is older, and whoever else is there.
        let found = settle("workers", &["a", "c", "d"]);
        assert_eq!(found.here, numbered(&[(1, "c"), (2, "a"), (3, "d")]));
        assert_eq!(found.gone, numbered(&[(1, "b")]));
        assert_eq!(settle("workers", &[]).gone.len(), 3);
        assert_eq!(settle("workers", &["a"]).here, numbered(&[(1, "a")]));
        assert_eq!(settle("api", &["x"]), Settled { here: numbered(&[(1, "x")]), gone: BTreeMap::new() });
        // Damaged, it is begun anew.
        std::fs::write(&place.path, "{").expect("written");
        assert_eq!(settle("workers", &["z", "a"]).here, numbered(&[(1, "z"), (2, "a")]));
    }
}
