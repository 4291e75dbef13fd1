//! Files that people and programs find whole, or not at all.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Writes what the user named: a file whole or not at all, with the mode that it had; a link's target, and
/// not the link; a pipe or device as it is.
pub(crate) fn write_output(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let place = output_place(path)?;
    match std::fs::metadata(&place) {
        Ok(found) if !found.is_file() => {
            std::fs::OpenOptions::new().write(true).open(&place)?.write_all(bytes)
        }
        Ok(found) => {
            write_whole(&place, bytes)?;
            std::fs::set_permissions(&place, found.permissions())
        }
        Err(_) => write_whole(&place, bytes),
    }
}

/// Where an output goes: the end of its links, where it is one.
pub(crate) fn output_place(path: &Path) -> std::io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Ok(place) => Ok(place),
        Err(_) if path.is_symlink() => Err(std::io::Error::other("it is a link that leads nowhere")),
        Err(_) => Ok(path.to_owned()),
    }
}

/// Writes a file whole or not at all, with the mode that the user's umask gives: temporary file beside it, fsync,
/// rename, fsync of the folder.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_with_mode(path, bytes, 0o666)
}

/// The same for secrets: nobody else reads it at any time.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_with_mode(path, bytes, 0o600)
}

/// The same for what can be made again at any time: whole or not at all, and not forced to the disk.
pub(crate) fn write_cache(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = temporary(folder_of(path), 0o666, bytes)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let file = temporary(folder_of(path), mode, bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(path);
    Ok(())
}

/// Puts a file in the place of another on the same file system, and to the disk.
pub(crate) fn move_whole(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::File::open(from)?.sync_all()?;
    std::fs::rename(from, to)?;
    sync_folder(to);
    Ok(())
}

fn temporary(folder: &Path, mode: u32, bytes: &[u8]) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".pulpcov-")
        .permissions(std::fs::Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(without_temporary_name)?;
    file.write_all(bytes)?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where a file system cannot sync a folder, a rename is as safe as it gets.
fn sync_folder(path: &Path) {
    let _ = std::fs::File::open(folder_of(path)).and_then(|folder| folder.sync_all());
}

/// The error alone: a name that nobody gave would only puzzle.
fn without_temporary_name(error: std::io::Error) -> std::io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((reason, _)) => std::io::Error::new(error.kind(), reason.to_owned()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_private_and_links_stay_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let mode = |name: &str| std::fs::metadata(path(name)).expect("there").permissions().mode() & 0o777;
        write_private(&path("key"), b"secret").expect("written");
        write_whole(&path("report"), b"text").expect("written");
        assert_eq!((mode("key"), mode("report") & 0o600), (0o600, 0o600));
        std::os::unix::fs::symlink("report", path("link")).expect("a link");
        std::fs::set_permissions(path("report"), std::fs::Permissions::from_mode(0o640)).expect("a mode");
        write_output(&path("link"), b"more").expect("written");
        assert!(path("link").is_symlink());
        assert_eq!((std::fs::read(path("report")).expect("read"), mode("report")), (b"more".to_vec(), 0o640));
        std::os::unix::fs::symlink("nowhere", path("lost")).expect("a link");
        assert!(write_output(&path("lost"), b"x").is_err());
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
        assert_eq!(left.len(), 4, "no temporary file is left: {left:?}");
    }
}
