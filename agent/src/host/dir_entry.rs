//! A name in a folder that was opened part by part: whoever owns a folder above it may put another in its place at any
//! moment, and root would write there.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Dir, Mode, OFlags, RenameFlags};

use crate::host::facts;
use crate::host::owners::{self, Way};

/// Where something is written, or removed.
pub(crate) struct DirEntry {
    folder: Way,
    name: OsString,
}

impl DirEntry {
    /// The place of a path. Its last part may be anything, or nothing; of the folders above it, none is behind a link of
    /// anybody's but root and whoever runs the agent.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?.to_owned();
        let folder = owners::follow(path.parent().unwrap_or(Path::new("/")))?;
        if let Some(uid) = folder.link_of_another() {
            return Err(io::Error::other(format!("a folder above it is a link of user {uid}")));
        }
        Ok(Self { folder, name })
    }

    /// The path of another name in the same folder, by which the kernel goes there and nowhere else.
    pub(crate) fn beside(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder().join(name)
    }

    /// Its own.
    pub(crate) fn path(&self) -> PathBuf {
        self.beside(&self.name)
    }

    /// The folder's.
    pub(crate) fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.folder.fd().as_raw_fd()))
    }

    /// The folder that is there, opened: not what it links to, and no file, which somebody may have put there to be
    /// opened to all.
    fn open_folder(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::open(self.path(), flags, Mode::empty())?.into())
    }

    /// Makes a folder, and opens that very one.
    fn make_folder(&self) -> io::Result<File> {
        rustix::fs::mkdir(self.path(), Mode::RWXU)?;
        let made = self.open_folder()?;
        let is_ours = made.metadata()?.uid() == rustix::process::geteuid().as_raw();
        let mut names = Dir::read_from(&made)?;
        let is_empty = names.all(|name| name.is_ok_and(|name| [c".", c".."].contains(&name.file_name())));
        if is_ours && is_empty {
            Ok(made)
        } else {
            Err(io::Error::other("somebody has put another in its place"))
        }
    }
}

/// A file that was found, to be read: an fd of a path alone cannot be, and this leads to the same file and to no other.
pub(crate) fn reopen(found: &OwnedFd) -> io::Result<File> {
    let itself = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(itself, flags, Mode::empty())?.into())
}

/// Tries to take a name from somebody who makes and removes folders of that name as fast as he can.
const TRIES: u32 = 10_000;

/// Gives a file or folder its name in a sticky folder that others write to. What they have put there is exchanged for it
/// at one stroke: once the name is ours, nobody takes it back. Returns where theirs is now.
pub(crate) fn take_name(ours: &Path, name: &Path) -> io::Result<Vec<PathBuf>> {
    use rustix::io::Errno;
    let mut theirs = Vec::new();
    for _ in 0..TRIES {
        match rustix::fs::rename(ours, name) {
            Err(Errno::ISDIR | Errno::NOTDIR | Errno::EXIST | Errno::NOTEMPTY) => {}
            result => return Ok(result.map(|()| theirs)?),
        }
        match rustix::fs::renameat_with(CWD, ours, CWD, name, RenameFlags::EXCHANGE) {
            Ok(()) => {
                theirs.push(ours.to_owned());
                return Ok(theirs);
            }
            Err(Errno::NOENT) => {}
            // A file system that cannot, as NFS.
            Err(Errno::INVAL | Errno::NOSYS) => {
                let word = facts::random_word().map_err(|failure| io::Error::other(failure.msg))?;
                let aside = name.with_file_name(format!(".aside.{word}"));
                if rustix::fs::rename(name, &aside).is_ok() {
                    theirs.push(aside);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("somebody else takes its name again and again"))
}

/// Makes a folder where somebody else has put one. What he has in his is kept, beside it: returns where.
pub(crate) fn make_folder_over(path: &Path, mode: u32) -> io::Result<Vec<PathBuf>> {
    let place = DirEntry::of(path)?;
    let word = facts::random_word().map_err(|failure| io::Error::other(failure.msg))?;
    let beside = format!("{}.aside.{word}", place.name.to_string_lossy());
    let ours = place.beside(&beside);
    make_folder(&ours, mode)?;
    let theirs = take_name(&ours, &place.path()).inspect_err(|_| drop(std::fs::remove_dir(&ours)))?;
    let kept = theirs.into_iter().filter(|theirs| std::fs::remove_dir(theirs).is_err());
    Ok(kept.map(|theirs| path.with_file_name(theirs.file_name().unwrap_or_default())).collect())
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    std::fs::remove_file(DirEntry::of(path)?.path())
}

pub(crate) fn remove_folder(path: &Path) -> io::Result<()> {
    std::fs::remove_dir(DirEntry::of(path)?.path())
}

pub(crate) fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    DirEntry::of(path)?.make_folder()?.set_permissions(Permissions::from_mode(mode))
}

/// Makes a folder in one that may be a user's, and that he is to remove as he likes: it has the owner of that one.
pub(crate) fn make_folder_like_parent(path: &Path, mode: u32) -> io::Result<()> {
    let place = DirEntry::of(path)?;
    let made = place.make_folder()?;
    if rustix::process::geteuid().is_root() {
        let parent = rustix::fs::fstat(place.folder.fd())?;
        fchown(&made, Some(parent.st_uid), Some(parent.st_gid))?;
    }
    made.set_permissions(Permissions::from_mode(mode))
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    DirEntry::of(path)?.open_folder()?.set_permissions(Permissions::from_mode(mode))
}

/// Gives a folder its owner and mode.
pub(crate) fn set_owner(path: &Path, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
    let folder = DirEntry::of(path)?.open_folder()?;
    fchown(&folder, Some(uid), Some(gid))?;
    folder.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn nothing_is_written_behind_a_link_of_somebody_else() {
        assert!(rustix::process::geteuid().is_root(), "gives files away, which needs root");
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let base = folder.path();
        for name in ["real", "site"] {
            std::fs::create_dir(base.join(name)).expect("a folder");
        }
        let link = base.join("swapped");
        symlink(base.join("real"), &link).expect("a link");
        make_folder(&link.join("ours"), 0o750).expect("root's links are followed");
        lchown(&link, Some(4711), None).expect("given away");
        let said = make_folder(&link.join("theirs"), 0o755).expect_err("his are not").to_string();
        assert!(said.contains("link of user 4711"), "{said}");
        for act in [remove_file, remove_folder] {
            assert!(act(&link.join("ours")).is_err());
        }
        assert_eq!(std::fs::metadata(base.join("real/ours")).expect("there").mode() & 0o7777, 0o750);
        // The last part is never followed.
        std::fs::write(base.join("secret"), "x").expect("written");
        std::fs::set_permissions(base.join("secret"), Permissions::from_mode(0o600)).expect("set");
        symlink(base.join("secret"), base.join("site/gate")).expect("a link");
        assert!(set_mode(&base.join("site/gate"), 0o644).is_err());
        assert!(set_owner(&base.join("site/gate"), 4711, 4711, 0o644).is_err());
        assert_eq!(std::fs::metadata(base.join("secret")).expect("there").mode() & 0o777, 0o600);
        remove_file(&base.join("site/gate")).expect("the link itself goes");
        assert!(base.join("secret").exists());
    }

    /// A folder that is swapped after it was opened is still the one that was opened.
    #[test]
    fn who_swaps_a_folder_changes_nothing_that_was_begun() {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let base = folder.path();
        for name in ["site", "elsewhere"] {
            std::fs::create_dir(base.join(name)).expect("a folder");
        }
        let place = DirEntry::of(&base.join("site/gate.py")).expect("a place");
        std::fs::rename(base.join("site"), base.join("moved")).expect("moved");
        symlink(base.join("elsewhere"), base.join("site")).expect("a link");
        std::fs::write(place.path(), "x").expect("written");
        assert!(base.join("moved/gate.py").exists() && !base.join("elsewhere/gate.py").exists());
    }
}
