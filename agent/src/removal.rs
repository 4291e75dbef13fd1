//! Removes folders that others may be filling at this moment, however deep they are.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::host;
use crate::place::Place;

/// Longest work on one of them: who makes folders in it without end fails it, and blocks nothing.
const PATIENCE: Duration = Duration::from_mins(1);

/// Removes a folder with all that is in it. Each folder in it is first taken from whoever owns it, so that nothing comes
/// after; what lies in it comes to the top, so that none is ever deep.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let place = Place::of(path)?;
    let deadline = Instant::now() + PATIENCE;
    let top = take(CWD.as_fd(), &CString::new(place.path().into_os_string().into_encoded_bytes())?)?;
    let mut is_empty = false;
    while !is_empty {
        is_empty = each_name(&top, &mut |name| {
            if Instant::now() > deadline {
                return Err(io::Error::other("somebody goes on filling it"));
            }
            match rustix::fs::unlinkat(&top, name, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => remove_level(&top, name),
                result => gone(result),
            }
        })?;
    }
    std::fs::remove_dir(place.path())
}

/// Removes a folder in `top`; folders in it come to `top` itself.
fn remove_level(top: &OwnedFd, name: &CStr) -> io::Result<()> {
    let folder = match take(top.as_fd(), name) {
        // It is gone, or is no folder any more: that is seen the next time.
        Err(error)
            if matches!(Errno::from_io_error(&error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) =>
        {
            return Ok(());
        }
        folder => folder?,
    };
    let mut is_empty = false;
    while !is_empty {
        is_empty =
            each_name(&folder, &mut |child| match rustix::fs::unlinkat(&folder, child, AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => {
                    let word = host::random_word().map_err(|failure| io::Error::other(failure.msg))?;
                    gone(rustix::fs::renameat(&folder, child, top, format!(".{word}")))
                }
                result => gone(result),
            })?;
    }
    match rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR) {
        // Only root could have put something there meanwhile, which goes the next time.
        Err(Errno::NOTEMPTY) => Ok(()),
        result => gone(result),
    }
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

/// Does something with each name in a folder; whether there was none.
fn each_name(folder: &OwnedFd, act: &mut dyn FnMut(&CStr) -> io::Result<()>) -> io::Result<bool> {
    let mut is_empty = true;
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            is_empty = false;
            act(entry.file_name())?;
        }
    }
    Ok(is_empty)
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
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

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
        remove_tree(&top).expect("removed");
        assert!(!top.exists() && kept.exists());
        assert!(remove_tree(&kept).is_err(), "no folder");
    }
}
