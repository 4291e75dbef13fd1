//! Removes folders that others may be filling at this moment, however deep they are.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::host::dir_entry::DirEntry;
use crate::host::facts;

/// Longest work on a folder that is to go, and on one that is only out of the way: who makes folders in it without end,
/// or has millions of names in it, blocks nothing.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_millis(200);

/// Removes a folder with all that is in it. Each folder in it is first taken from whoever owns it, so that nothing comes
/// after; what lies in it comes to the top, so that none is ever deep.
pub(crate) fn remove_tree(path: &Path, patience: Duration) -> io::Result<()> {
    let place = DirEntry::of(path)?;
    let deadline = Instant::now() + patience;
    let top = take(CWD.as_fd(), &CString::new(place.path().into_os_string().into_encoded_bytes())?)?;
    empty(&top, deadline, &mut |name| remove_level(&top, name, deadline))?;
    std::fs::remove_dir(place.path())
}

/// Removes a folder in `top`; folders in it come to `top` itself.
fn remove_level(top: &OwnedFd, name: &CStr, deadline: Instant) -> io::Result<()> {
    let folder = match take(top.as_fd(), name) {
        // It is gone, or is no folder any more: that is seen the next time.
        Err(error)
            if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) =>
        {
            return Ok(());
        }
        folder => folder?,
    };
    empty(&folder, deadline, &mut |child| {
        let word = facts::random_word().map_err(|failure| io::Error::other(failure.msg))?;
        gone(rustix::fs::renameat(&folder, child, top, format!(".{word}")))
    })?;
    match rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR) {
        // Only root could have put something there meanwhile, which goes the next time.
        Err(Errno::NOTEMPTY) => Ok(()),
        result => gone(result),
    }
}

/// Removes each name in a folder; what becomes of folders in it is for the caller to say.
fn empty(
    folder: &OwnedFd,
    deadline: Instant,
    inner: &mut dyn FnMut(&CStr) -> io::Result<()>,
) -> io::Result<()> {
    let mut is_empty = false;
    while !is_empty {
        is_empty = true;
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("there is too much in it, or somebody goes on filling it"));
            }
            is_empty = false;
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => inner(name)?,
                result => gone(result)?,
            }
        }
    }
    Ok(())
}

/// Opens a folder in which nobody else makes anything from now on.
fn take(from: rustix::fd::BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(from, name, flags, Mode::empty())?;
    if rustix::process::geteuid().is_root() {
        rustix::fs::fchown(&folder, Some(Uid::ROOT), Some(Gid::ROOT))?;
        rustix::fs::fchmod(&folder, Mode::RWXU)?;
    }
    Ok(folder)
}

/// What is gone already needs no removing.
fn gone(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_goes_however_deep_it_is() {
        let base = tempfile::tempdir_in("/var/tmp").expect("a folder");
        std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o755)).expect("set");
        let kept = base.path().join("kept");
        std::fs::write(&kept, "x").expect("written");
        let top = base.path().join("top");
        std::fs::create_dir(&top).expect("a folder");
        // Deeper than a path may be long, and than files may be open.
        let mut deep = rustix::fs::open(&top, OFlags::DIRECTORY, Mode::empty()).expect("opened");
        for _ in 0..5_000 {
            rustix::fs::mkdirat(&deep, "d", Mode::from_raw_mode(0o777)).expect("made");
            deep = rustix::fs::openat(&deep, "d", OFlags::DIRECTORY, Mode::empty()).expect("opened");
        }
        symlink(&kept, top.join("link")).expect("a link");
        remove_tree(&top, PATIENCE).expect("removed");
        assert!(!top.exists() && kept.exists());
        assert!(remove_tree(&kept, PATIENCE).is_err(), "no folder");
    }
}
