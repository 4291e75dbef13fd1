//! Data files of live processes that a controller has: they stay, for their processes go on writing them, but what
//! nobody has written since is nothing that an uninstall would lose.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pulpcov_protocol::bundle::is_file_name;

use crate::failure::Failure;
use crate::host::fs;
use crate::recorder::data_dir;

/// Largest note: a name and a digest for each live process.
const MAX_NOTE: u64 = 4 * 1024 * 1024;

fn place(lib_root: &Path) -> PathBuf {
    lib_root.join("collected.json")
}

/// Name to SHA-256.
type Digests = BTreeMap<String, String>;

fn read(lib_root: &Path) -> Digests {
    let bytes = fs::read_limited(&place(lib_root), MAX_NOTE).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Adds files that were found to be in a verified bundle; those that are gone are forgotten. On a full disk nothing is
/// noted, and they will be asked for once more.
pub(crate) fn note(lib_root: &Path, data_root: &Path, files: Digests) {
    let before = read(lib_root);
    let mut now = before.clone();
    now.extend(files);
    now.retain(|name, _| data_root.join(name).exists());
    if now != before
        && let Ok(text) = serde_json::to_vec(&now)
    {
        let _ = fs::write_whole(&place(lib_root), &text, 0o600);
    }
}

/// Erases those that still are what was collected, of those that are `own`.
pub(crate) fn erase(lib_root: &Path, data_root: &Path, own: &dyn Fn(&str) -> bool) {
    for (name, sha256) in read(lib_root).into_iter().filter(|(name, _)| is_file_name(name) && own(name)) {
        // One that has changed is to be collected, and one that cannot be erased is left like any other.
        let _ = data_dir::erase_if_same(data_root, &name, &sha256);
    }
}

/// How many data files nobody has collected as they are now, of those that are `own`.
pub(crate) fn open_files(
    lib_root: &Path,
    data_root: &Path,
    own: &dyn Fn(&str) -> bool,
) -> Result<u64, Failure> {
    let known = read(lib_root);
    let mut open = 0;
    data_dir::each(data_root, &mut |name, _| {
        let is_here = known
            .get(name)
            .is_some_and(|sha256| data_dir::digest(&data_root.join(name)).is_ok_and(|now| now == *sha256));
        open += u64::from(!is_here && own(name));
    })?;
    Ok(open)
}

pub(crate) fn forget(lib_root: &Path) {
    let _ = std::fs::remove_file(place(lib_root));
}
