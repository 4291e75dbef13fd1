//! A data folder that several installs share, as containers do with one volume: each marks itself there, and who leaves
//! takes nothing that the others still need. What has to become of the folder is for the last one to do.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::host::{facts, fs, namespace};
use crate::install::undo::undo_folder;
use crate::receipt::{self, Config, TouchedFolder};
use crate::recorder::data_dir::LEDGER;

/// How the names begin of what each install leaves in the ledger, and of what those that left had made of the folder.
const MARK: &str = "install.";
const FOLDER: &str = "folder.";

/// Largest of either.
const MAX_BYTES: u64 = 64 * 1024;

/// The mark of an install.
pub(crate) fn mark(config: &Config) -> PathBuf {
    config.data_root.join(LEDGER).join(format!("{MARK}{}", config.install))
}

/// Whose a mark is.
#[derive(Serialize, Deserialize)]
struct Mark {
    hostname: String,
    lib_root: String,
    /// A container may have its host's name.
    #[serde(default)]
    is_first: bool,
}

/// What stands in the mark of an install.
pub(crate) fn mark_text(lib_root: &str) -> Result<Vec<u8>, Failure> {
    let mark =
        Mark { hostname: facts::hostname(), lib_root: lib_root.to_owned(), is_first: namespace::is_first() };
    serde_json::to_vec(&mark).map_err(|error| Failure::new(error.to_string()))
}

impl Mark {
    /// Whether its install is no longer there, as far as that can be seen: a host sees its own. Of containers that are
    /// gone nobody knows whether they come again.
    fn is_stale(&self, install: &str) -> bool {
        let is_here = self.is_first && namespace::is_first() && self.hostname == facts::hostname();
        is_here
            && !matches!(receipt::load(&self.lib_root), Ok(Some(found)) if found.config.install == install)
    }
}

/// The hosts of the other installs.
pub(crate) fn others(data_root: &Path, install: &str) -> Vec<String> {
    let own = format!("{MARK}{install}");
    let marks = ours(data_root, MARK).into_iter().filter(|(name, _)| *name != own);
    marks
        .filter_map(|(name, text)| {
            let mark: Mark = serde_json::from_slice(&text).ok()?;
            let is_stale = mark.is_stale(name.strip_prefix(MARK).unwrap_or_default());
            (!is_stale).then(|| mark.hostname.chars().filter(|c| !c.is_control()).take(100).collect())
        })
        .collect()
}

/// Leaves to the others what was to become of the data folder, of which an install knows `folders`.
pub(crate) fn hand_over(data_root: &Path, install: &str, folders: &[TouchedFolder]) -> Result<(), Failure> {
    let Some(of_root) = folders.iter().find(|folder| folder.path == data_root) else { return Ok(()) };
    let text = serde_json::to_vec(of_root).map_err(|error| Failure::new(error.to_string()))?;
    fs::write_among_others(&data_root.join(LEDGER).join(format!("{FOLDER}{install}")), &text, 0o600)
}

/// What those that left handed over, before the ledger goes.
pub(crate) fn handed_over(data_root: &Path) -> Vec<TouchedFolder> {
    let found = ours(data_root, FOLDER).into_iter();
    // Where they had the volume is not where we have it.
    let read = |(_, text): (String, Vec<u8>)| -> Option<TouchedFolder> {
        let folder: TouchedFolder = serde_json::from_slice(&text).ok()?;
        Some(TouchedFolder { path: data_root.to_owned(), ..folder })
    };
    found.filter_map(read).collect()
}

/// Does what was handed over. Whoever made the folder came first; a volume's top stays where it is mounted.
pub(crate) fn undo(folders: &[TouchedFolder]) {
    let made = folders.iter().find(|folder| folder.before.is_none());
    if let Some(folder) = made.or(folders.first()) {
        let _ = undo_folder(folder);
    }
}

/// Files of the ledger that an agent wrote: names and texts. Anybody may put some there.
fn ours(data_root: &Path, begin: &str) -> Vec<(String, Vec<u8>)> {
    let ledger = data_root.join(LEDGER);
    let is_meant = |name: &OsStr| name.to_string_lossy().starts_with(begin);
    let names = fs::names_in(&ledger, &is_meant).map(|names| names.files).unwrap_or_default();
    let read = |name: String| fs::read_of_agents(&ledger.join(&name), MAX_BYTES).map(|text| (name, text));
    names.into_iter().filter_map(|candidate| read(candidate.name)).collect()
}
