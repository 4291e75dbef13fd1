//! Every read and write of files that matter: whole or not at all, and no link is followed where
//! somebody else can write.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use pulpcov_protocol::bundle::is_file_name;
use pulpcov_protocol::text::hex;
use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::failure::{During, Failure};
use crate::host::budget::Candidate;
use crate::host::dir_entry::{self, DirEntry};
use crate::host::{namespace, removal};

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// A regular file, opened without following a link and without waiting on a pipe.
pub(crate) struct Regular {
    pub(crate) file: std::fs::File,
    pub(crate) size: u64,
    pub(crate) uid: u32,
    /// Names that it has.
    pub(crate) links: u64,
}

/// `Ok(None)`: there is something, but it is no regular file.
pub(crate) fn open_regular(path: &Path) -> Result<Option<Regular>, std::io::Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let file = std::fs::File::from(fd);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Ok(None);
    }
    Ok(Some(Regular { file, size: meta.len(), uid: meta.uid(), links: meta.nlink() }))
}

/// What there is in a folder, without looking into any of it: the regular files of one name each, and how many names
/// each of the others has.
pub(crate) struct Names {
    pub(crate) files: Vec<Candidate>,
    /// Files of several names: whoever made those can have as many as he likes of one.
    pub(crate) linked: Vec<String>,
    /// What is no file.
    pub(crate) others: Vec<String>,
}

/// The names in a folder that `is_meant` takes.
pub(crate) fn names_in(folder: &Path, is_meant: &dyn Fn(&std::ffi::OsStr) -> bool) -> std::io::Result<Names> {
    let mut names = Names { files: Vec::new(), linked: Vec::new(), others: Vec::new() };
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let raw = entry.file_name();
        if !is_meant(&raw) {
            continue;
        }
        // One that is gone meanwhile is none.
        let Ok(meta) = entry.metadata() else { continue };
        match raw.to_str().filter(|name| is_file_name(name)) {
            Some(name) if meta.is_file() && meta.nlink() == 1 => {
                names.files.push(Candidate { name: name.to_owned(), uid: meta.uid(), size: meta.len() });
            }
            Some(name) if meta.is_file() => names.linked.push(name.to_owned()),
            _ => names.others.push(format!("{:?}", raw.to_string_lossy())),
        }
    }
    names.linked.sort();
    names.others.sort();
    Ok(names)
}

/// The first bytes of a file, behind links as well: at most `limit`, and without waiting for any.
pub(crate) fn read_head(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    // Not even opened before it is known to be a file: to open a device may do something.
    let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .during("open", path.display())?;
    let stat = rustix::fs::fstat(&found).during("look at", path.display())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Failure::new(format!("{} is not a regular file", path.display())));
    }
    let file = dir_entry::reopen(&found).during("open", path.display())?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).during("read", path.display())?;
    Ok(bytes)
}

/// Reads a regular file of at most `limit` bytes.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    Ok(read_owned(path, limit)?.0)
}

/// The same, and whose it is: of the very file that was read.
pub(crate) fn read_owned(path: &Path, limit: u64) -> Result<(Vec<u8>, u32), Failure> {
    let regular = open_regular(path)
        .during("open", path.display())?
        .ok_or_else(|| Failure::new(format!("{} is not a regular file", path.display())))?;
    let mut bytes = Vec::new();
    (&regular.file).take(limit + 1).read_to_end(&mut bytes).during("read", path.display())?;
    if bytes.len() as u64 > limit {
        return Err(Failure::new(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok((bytes, regular.uid))
}

/// Whether a path of a container lies on a volume: whatever becomes of the container, that stays.
pub(crate) fn is_on_a_volume(path: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    let there = path.ancestors().find(|path| path.exists());
    !namespace::is_first() && there.and_then(device) != device(Path::new("/"))
}

/// What a file holds that root or this user wrote; nothing of anybody else's, however large theirs is.
pub(crate) fn read_of_agents(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let regular = open_regular(path).ok().flatten()?;
    let is_ours = regular.uid == 0 || regular.uid == rustix::process::geteuid().as_raw();
    let mut bytes = Vec::new();
    (&regular.file).take(if is_ours { limit + 1 } else { 0 }).read_to_end(&mut bytes).ok()?;
    (is_ours && bytes.len() as u64 <= limit).then_some(bytes)
}

/// What there is at a path; a link is itself.
pub(crate) fn look_at(path: &Path) -> Result<std::fs::Metadata, Failure> {
    std::fs::symlink_metadata(path).during("look at", path.display())
}

/// Who has something at a path, where that is neither root nor whoever runs the agent.
pub(crate) fn owned_by_another(path: &Path) -> Result<Option<u32>, Failure> {
    let me = rustix::process::geteuid().as_raw();
    Ok(Attributes::of(path)?.map(|found| found.uid).filter(|&uid| uid != me && uid != 0))
}

/// Digest and size of what an open file holds, read from its beginning.
pub(crate) fn digest_of(file: &mut std::fs::File) -> std::io::Result<(String, u64)> {
    std::io::Seek::rewind(file)?;
    let mut hasher = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        size += n as u64;
    }
    std::io::Seek::rewind(file)?;
    Ok((hex(hasher.finalize()), size))
}

/// Writes a file that is not there yet, in a folder of our own.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(bytes)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// Writes a file whole or not at all: temporary file beside it, fsync, rename, fsync of the folder.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    write_with(path, bytes, mode, None, &|tmp, path| std::fs::rename(tmp, path))
}

/// The same in a folder that everybody can write to: what somebody has put in the way gives way, whatever it is.
pub(crate) fn write_among_others(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    write_with(path, bytes, mode, None, &|tmp, path| {
        for theirs in dir_entry::take_name(tmp, path)? {
            // What cannot be removed is in nobody's way there.
            let _ = removal::remove_tree(&theirs, removal::SHORT_PATIENCE);
        }
        Ok(())
    })
}

/// The same with its owner and label from the first moment on.
pub(crate) fn write_back(path: &Path, bytes: &[u8], attributes: &Attributes) -> Result<(), Failure> {
    write_with(path, bytes, attributes.mode, Some(attributes), &|tmp, path| std::fs::rename(tmp, path))
}

/// Gives what is written its name.
type GiveName<'a> = &'a dyn Fn(&Path, &Path) -> std::io::Result<()>;

fn write_with(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    attributes: Option<&Attributes>,
    give_name: GiveName<'_>,
) -> Result<(), Failure> {
    let place = DirEntry::of(path).during("write", path.display())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let tmp = place.beside(format!(".{name}.{}", crate::host::facts::random_word()?));
    let result = (|| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&tmp, flags, Mode::from_raw_mode(0o600)).during("write", path.display())?;
        let mut file = std::fs::File::from(fd);
        file.write_all(bytes).during("write", path.display())?;
        if let Some(Attributes { uid, gid, label, .. }) = attributes {
            std::os::unix::fs::fchown(&file, Some(*uid), Some(*gid))
                .during("set the owner of", path.display())?;
            if let Some(label) = label.as_ref().filter(|label| self::label(&tmp).as_ref() != Some(label)) {
                rustix::fs::fsetxattr(&file, LABEL, label.as_bytes(), rustix::fs::XattrFlags::empty())
                    .during("set the label of", path.display())?;
            }
        }
        file.set_permissions(std::fs::Permissions::from_mode(mode))
            .during("set the mode of", path.display())?;
        file.sync_all().during("write", path.display())?;
        give_name(&tmp, &place.path()).during("write", path.display())
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&tmp);
    }
    result?;
    sync_folder(&place.folder());
    Ok(())
}

/// Makes a rename or an unlink in `folder` survive a power loss, where the file system can.
pub(crate) fn sync_folder(folder: &Path) {
    if let Ok(file) = std::fs::File::open(folder) {
        let _ = file.sync_all();
    }
}

/// Mode, owner and SELinux label of a path, to be put back later.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
}

impl Attributes {
    /// `None` where there is nothing at that path.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>, Failure> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(Self {
                mode: meta.permissions().mode() & 0o7777,
                uid: meta.uid(),
                gid: meta.gid(),
                label: label(path),
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).during("look at", path.display()),
        }
    }

    pub(crate) fn put_back(&self, path: &Path) -> Result<(), Failure> {
        if Self::of(path)?.as_ref() == Some(self) {
            return Ok(());
        }
        if look_at(path)?.is_symlink() {
            return Err(Failure::new(format!("{} has become a link", path.display())));
        }
        dir_entry::set_owner(path, self.uid, self.gid, self.mode)
            .during("set the owner of", path.display())?;
        if let Some(label) = &self.label {
            let place = DirEntry::of(path).during("set the label of", path.display())?;
            rustix::fs::lsetxattr(place.path(), LABEL, label.as_bytes(), rustix::fs::XattrFlags::empty())
                .during("set the label of", path.display())?;
        }
        Ok(())
    }
}

const LABEL: &str = "security.selinux";

fn label(path: &Path) -> Option<String> {
    let mut buffer = [0u8; 1024];
    let len = rustix::fs::lgetxattr(path, LABEL, &mut buffer).ok()?;
    String::from_utf8(buffer.get(..len)?.to_vec()).ok()
}

/// Gives new files the labels that the host's policy has for their places.
pub(crate) fn restore_labels(paths: &[&Path]) {
    if Path::new("/sys/fs/selinux/enforce").exists() {
        let _ = std::process::Command::new("restorecon").arg("-R").args(paths).output();
    }
}
