//! The data directory. It is world-writable, so everything in it is taken for hostile: regular files
//! only, no link is followed, sizes are bounded.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pulpcov_protocol::bundle::MAX_DATA_BYTES;
use pulpcov_protocol::op::DEFAULT_DATA_ROOT;
use rustix::fs::{CWD, RenameFlags};

use crate::failure::Failure;
use crate::host::budget::{self, Candidate, Remarks, Share};
use crate::host::facts;
use crate::host::fs::{self, Regular};
use crate::recorder::users::Users;

/// Folder of process records and of the flush trigger.
pub(crate) const LEDGER: &str = ".pulpcov";

/// What a coverage.py data file begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// A data file has 50 kB and more.
const SMALLEST: u64 = 50 * 1024;

/// So much of a file tells what it is: SQLite's schema stands on its first pages.
const HEAD: u64 = 64 * 1024;

/// Where data goes: what the caller says, what Pulp's own variable says, the default.
pub(crate) fn resolve(asked: Option<&str>) -> Result<PathBuf, Failure> {
    let root = asked
        .map(str::to_owned)
        .or_else(crate::host::facts::pulp_coverage_root)
        .unwrap_or_else(|| DEFAULT_DATA_ROOT.to_owned());
    let path = PathBuf::from(&root);
    let plain = path.is_absolute()
        && !root.contains("/../")
        && !root.ends_with("/..")
        && !root.chars().any(char::is_control);
    if !plain || path.parent().is_none() {
        return Err(Failure::new(format!("data directory {root:?} is not an absolute path below /")));
    }
    Ok(path)
}

/// Most data files that are looked at, and bytes in them.
const ALL_DATA: Share = Share { files: 2_000_000, bytes: 1024 * 1024 * 1024 * 1024 };

/// The share of a user who is none of the service's: people put a few files there.
const STRANGERS_DATA: Share = Share { files: 2_000, bytes: 256 * 1024 * 1024 };

/// Most bytes of data in one bundle.
const MAX_ROUND_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// A data file that is there to be fetched.
pub(crate) struct DataFile {
    pub(crate) name: String,
    pub(crate) regular: Regular,
}

impl DataFile {
    /// One that is in no folder.
    pub(crate) fn in_memory(name: String, bytes: &[u8], uid: u32) -> Result<Self, Failure> {
        let fd = rustix::fs::memfd_create("pulpcov-data", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(std::io::Error::from)?;
        let mut file = std::fs::File::from(fd);
        std::io::Write::write_all(&mut file, bytes)?;
        std::io::Seek::rewind(&mut file)?;
        Ok(Self { name, regular: Regular { file, size: bytes.len() as u64, uid, links: 1 } })
    }
}

pub(crate) struct Listing {
    pub(crate) files: Vec<DataFile>,
    /// Data files beyond `max`.
    pub(crate) remaining: u64,
    /// Data files that were not wanted.
    pub(crate) others: u64,
    /// What lies there and is no data file.
    pub(crate) warnings: Vec<String>,
}

/// What a host says that has a receipt, and no data directory.
pub(crate) fn missing(root: &Path) -> String {
    format!(
        "the data directory {} is not there: an install was not finished, or somebody has removed it",
        root.display()
    )
}

fn unreadable(root: &Path, error: std::io::Error) -> Failure {
    if error.kind() != std::io::ErrorKind::NotFound {
        return error.into();
    }
    gone(root)
}

/// What an op fails with that needs the data directory.
pub(crate) fn gone(root: &Path) -> Failure {
    Failure::new(missing(root)).hint("run pulpcov fleet install again, or pulpcov fleet uninstall")
}

/// Data files in the order of their names, of those that `wanted` takes, behind the name `after`, at most `max`.
/// Each is held open: the recorder replaces files by renaming, so an open one keeps the bytes that were listed.
pub(crate) fn list(
    root: &Path,
    after: Option<&str>,
    max: usize,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Listing, Failure> {
    let (mut names, mut remarks) = names(root)?;
    names.sort_by(|a, b| a.name.cmp(&b.name));
    let mut files = Vec::new();
    let (mut remaining, mut others, mut bytes) = (0, 0, 0);
    for Candidate { name, .. } in names {
        match open_data(&root.join(&name)) {
            Ok(_) if !wanted(&name) => others += 1,
            Ok(regular) => {
                if after.is_some_and(|after| name.as_str() <= after) {
                    continue;
                }
                bytes += regular.size;
                // One at least, whatever its size: else the rounds had no end.
                if files.len() < max && (bytes <= MAX_ROUND_BYTES || files.is_empty()) {
                    files.push(DataFile { name, regular });
                } else {
                    remaining += 1;
                }
            }
            Err(reason) => remarks.add(reason, name),
        }
    }
    Ok(Listing { files, remaining, others, warnings: remarks.lines("is left alone", "are left alone") })
}

/// Names of what may be data files, each owner's within its share, the service's first; and what is said of others.
fn names(root: &Path) -> Result<(Vec<Candidate>, Remarks), Failure> {
    // Unfinished files of the recorder; a crash leaves them, nobody reads them.
    let is_meant = |name: &OsStr| {
        // Nor what lay in the ledger's place, and was moved aside.
        let is_aside = name.as_bytes().starts_with(b".pulpcov.aside.");
        name != LEDGER && !is_aside && !name.as_bytes().starts_with(b".tmp.")
    };
    let found = fs::names_in(root, &is_meant).map_err(|error| unreadable(root, error))?;
    let mut remarks = Remarks::default();
    for name in found.linked {
        remarks.add("it has several names (hard links)", name);
    }
    for name in found.others {
        remarks.add("no regular file, or no plain name", name);
    }
    let users = Users::known(root);
    let (names, beyond) = budget::select(found.files, &|uid| users.is_service(uid), ALL_DATA, STRANGERS_DATA);
    remarks.add_beyond(beyond);
    Ok((names, remarks))
}

/// A data file, or why it is none.
pub(crate) fn open_data(path: &Path) -> Result<Regular, String> {
    let mut regular = match fs::open_regular(path) {
        Ok(Some(regular)) => regular,
        Ok(None) => return Err("no regular file".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    if regular.links > 1 {
        return Err("it has several names (hard links)".to_owned());
    }
    if regular.size > MAX_DATA_BYTES {
        return Err(format!("{} bytes, the limit is {MAX_DATA_BYTES}", regular.size));
    }
    let mut head = Vec::new();
    let read = (&mut regular.file).take(HEAD).read_to_end(&mut head);
    let is_data =
        read.is_ok() && head.starts_with(SQLITE) && (is_named_as_data(path) || tells_of_coverage(&head));
    std::io::Seek::rewind(&mut regular.file).map_err(|error| error.to_string())?;
    if is_data { Ok(regular) } else { Err("no coverage.py data file".to_owned()) }
}

/// Named as the recorder and coverage.py name theirs: such a file is one, damaged or not.
fn is_named_as_data(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.starts_with(b"data.") || name == b".coverage" || name.starts_with(b".coverage.")
}

/// Under any name, a database of coverage.py has this table; any other database is somebody's own.
fn tells_of_coverage(head: &[u8]) -> bool {
    const TABLE: &[u8] = b"CREATE TABLE coverage_schema";
    head.windows(TABLE.len()).any(|bytes| bytes == TABLE)
}

const CHANGED: &str = "it changed after it was fetched";

/// SHA-256 of a regular file, or why it has none.
pub(crate) fn digest(path: &Path) -> Result<String, String> {
    let regular = fs::open_regular(path).map_err(|error| error.to_string())?;
    let mut regular = regular.ok_or("no regular file")?;
    Ok(fs::digest_of(&mut regular.file).map_err(|error| error.to_string())?.0)
}

/// Erases a file that has that digest; false where it is gone already, as another agent's collect erases it in a folder
/// that several share. Moves it aside first, so that what is compared is what is erased: a newer
/// version may be renamed to its name at any moment.
pub(crate) fn erase_if_same(root: &Path, name: &str, sha256: &str) -> Result<bool, String> {
    let path = root.join(name);
    let is_gone =
        || std::fs::symlink_metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    match digest(&path) {
        Ok(now) if now == sha256 => {}
        Ok(_) => return Err(CHANGED.to_owned()),
        Err(_) if is_gone() => return Ok(false),
        Err(reason) => return Err(reason),
    }
    let word = crate::host::facts::random_word().map_err(|failure| failure.msg)?;
    let aside = root.join(LEDGER).join(format!(".erase.{word}"));
    match fs_err::rename(&path, &aside) {
        Ok(()) => {}
        Err(_) if is_gone() => return Ok(false),
        Err(error) => return Err(error.to_string()),
    }
    if digest(&aside).is_ok_and(|now| now == sha256) {
        return fs_err::remove_file(&aside).map(|()| true).map_err(|error| error.to_string());
    }
    // It was replaced between the two looks. Back it goes, unless a still newer one is there: that
    // one holds all that this one held.
    let back = rustix::fs::renameat_with(CWD, &aside, CWD, &path, RenameFlags::NOREPLACE);
    if back.is_err() {
        fs_err::rename(&aside, root.join(format!("{name}.{word}"))).map_err(|error| error.to_string())?;
    }
    Err(CHANGED.to_owned())
}

/// Why nobody can write anything new below a folder, where that can be told by looking.
pub(crate) fn obstacle(root: &Path) -> Option<String> {
    let existing = root.ancestors().find(|folder| folder.is_dir())?;
    let space = rustix::fs::statvfs(existing).ok()?;
    if space.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Some(format!("{} is read-only", root.display()));
    }
    if space.f_bavail.saturating_mul(space.f_frsize) < SMALLEST {
        return Some(format!("the disk of {} is full", root.display()));
    }
    if space.f_files > 0 && space.f_favail == 0 {
        return Some(format!("the disk of {} has no inodes left", root.display()));
    }
    None
}

/// What is wrong with the modes of the data directory and of the ledger's folder in it, where not everybody can write and
/// keep what he wrote.
pub(crate) fn wrong_mode(root: &Path) -> Option<String> {
    let mode = fs::Attributes::of(root).ok()??.mode;
    let what = match mode & 0o1777 {
        mode if mode & 0o001 == 0 => "not everybody can get in: what others run is not written",
        mode if mode & 0o1002 == 0o002 => "everybody can remove what others wrote",
        _ => return wrong_mode_of(&root.join(LEDGER)),
    };
    Some(words_of_mode(root, mode, what))
}

/// The same of a folder that everybody writes to.
fn wrong_mode_of(folder: &Path) -> Option<String> {
    let mode = fs::Attributes::of(folder).ok()??.mode;
    let what = match mode & 0o1777 {
        0o1777 => return None,
        mode if mode & 0o1002 == 0o1002 => "not everybody can see what is there",
        _ if mode & 0o002 != 0 => "everybody can remove what others wrote",
        _ if mode & 0o020 != 0 => "only its owner and its group can write: what others run is not written",
        _ => "only its owner can write: what others run is not written",
    };
    Some(words_of_mode(folder, mode, what))
}

fn words_of_mode(folder: &Path, mode: u32, what: &str) -> String {
    format!("{} has mode {mode:o}, so that {what}; install makes it 1777", folder.display())
}

/// Why a process cannot write there, by the modes of the data directory, into which it has to get, and of the ledger's
/// folder, in which its record and its map are.
pub(crate) fn obstacle_of(root: &Path, pid: u32) -> Option<String> {
    let user = facts::User::of(pid)?;
    let may = |folder: &Path, bit: u32| {
        let Ok(Some(found)) = fs::Attributes::of(folder) else { return true };
        let shift = if user.uid == found.uid {
            6
        } else if user.groups.contains(&found.gid) {
            3
        } else {
            0
        };
        user.uid == 0 || found.mode & (bit << shift) != 0
    };
    if may(root, 0o1) && may(&root.join(LEDGER), 0o2) { None } else { wrong_mode(root) }
}

/// Looks at every data file: its name, and the file.
pub(crate) fn each(root: &Path, look: &mut dyn FnMut(&str, &Regular)) -> Result<(), Failure> {
    if !root.is_dir() {
        return Ok(());
    }
    for Candidate { name, .. } in names(root)?.0 {
        if let Ok(regular) = open_data(&root.join(&name)) {
            look(&name, &regular);
        }
    }
    Ok(())
}

/// Number and bytes of the data files, for status and uninstall.
pub(crate) fn measure(root: &Path) -> Result<(u64, u64), Failure> {
    let (mut count, mut bytes) = (0, 0);
    each(root, &mut |_, regular| {
        count += 1;
        bytes += regular.size;
    })?;
    Ok((count, bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_mode_is_told_by_what_it_keeps_from_people() {
        let folder = tempfile::tempdir().expect("a folder");
        for (mode, wanted) in [
            (0o1777, None),
            (0o777, Some("everybody can remove what others wrote")),
            (0o1733, Some("not everybody can see what is there")),
            (0o1775, Some("only its owner and its group can write")),
            (0o755, Some("only its owner can write")),
        ] {
            std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).expect("set");
            let said = wrong_mode_of(folder.path());
            match wanted {
                None => assert_eq!(said, None),
                Some(words) => {
                    assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{mode:o}: {said:?}");
                }
            }
        }
    }
}
