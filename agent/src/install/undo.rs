//! Puts back what an install has made or changed: a file, a folder, what was left half done.

use std::path::Path;

use crate::failure::{During, Failure};
use crate::host::dir_entry;
use crate::host::fs::{self, Attributes};
use crate::host::{child, owners};
use crate::receipt;
use crate::receipt::{MAX_REPLACED, Receipt, TouchedFile, TouchedFolder};

/// How folders begin that a killed install may leave in the lib root; swept by the next op.
const LEFTOVERS: [&str; 4] = [".selftest-", ".unpack-", ".aside-", ".command-"];

/// What is gone already is removed.
pub(super) fn gone(result: std::io::Result<()>, path: &Path) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).during("remove", path.display())
        }
        _ => Ok(()),
    }
}

/// Removes a file of ours, or puts back what it had replaced.
pub(crate) fn undo_file(path: &Path, file: &TouchedFile, lib_root: &Path) -> Result<(), Failure> {
    let folder = owners::follow(path.parent().unwrap_or(Path::new("/"))).ok();
    match (&file.before, folder.and_then(|folder| folder.link_of_another())) {
        (None, Some(uid)) if rustix::process::geteuid().is_root() => child::remove_as(uid, path),
        (None, _) => gone(dir_entry::remove_file(path), path),
        (Some(replaced), _) => {
            let back = fs::read_limited(path, MAX_REPLACED).ok();
            let back = back.filter(|bytes| fs::sha256(bytes) == replaced.sha256);
            if back.is_some() && Attributes::of(path)?.as_ref() == Some(&replaced.attributes) {
                return Ok(());
            }
            // A file of its own: that one may have other names, whose owner it would change.
            let bytes = back.map_or_else(|| replaced.bytes(lib_root), Ok)?;
            fs::write_back(path, &bytes, &replaced.attributes)
        }
    }
}

/// Removes a folder that install made, or puts its mode, owner and label back. A folder that is not
/// empty stays: what is in it is not ours.
pub(crate) fn undo_folder(folder: &TouchedFolder) -> Result<bool, Failure> {
    match &folder.before {
        Some(attributes) => {
            if folder.path.exists() {
                attributes.put_back(&folder.path)?;
            }
            Ok(false)
        }
        None => match dir_entry::remove_folder(&folder.path) {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error).during("remove", folder.path.display()),
        },
    }
}

/// The receipt's own path never counts as a file of the receipt.
pub(crate) fn forget(lib_root: &str) -> Result<(), Failure> {
    let path = receipt::path_in(lib_root);
    gone(std::fs::remove_file(&path), &path)
}

/// Removes what installs that were killed have left: folders in the lib root, and half-written files
/// beside ours.
pub(crate) fn sweep(lib_root: &str, receipt: Option<&Receipt>) {
    let ours = receipt.into_iter().flat_map(|receipt| receipt.files.keys().cloned());
    for path in ours.chain([receipt::path_in(lib_root)]) {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let half_written = format!(".{}.", name.to_string_lossy());
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&half_written) {
                let _ = dir_entry::remove_file(&entry.path());
            }
        }
    }
    for entry in std::fs::read_dir(lib_root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if LEFTOVERS.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            remove_for_good(&entry.path());
        }
    }
}

/// A Python that a killed agent had started may still be writing there; it ends when its folder is
/// gone under it.
fn remove_for_good(folder: &Path) {
    const TRIES: u32 = 60;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
    for _ in 0..TRIES {
        let _ = std::fs::remove_dir_all(folder);
        std::thread::sleep(PAUSE);
        if !folder.exists() {
            return;
        }
    }
}
