//! Who can change what a path leads to. A path is opened part by part, each link by itself, so that nobody changes it
//! underneath: what was judged is what is read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};

use crate::failure::{During, Failure};
use crate::host::dir_entry;

/// Most links of a path that are followed, as Linux has it.
const MAX_LINKS: u32 = 40;

/// Where a path leads.
pub(crate) struct Way {
    end: OwnedFd,
    /// Users but root who own a part of it, or are in a group that can write to one.
    pub(crate) writers: BTreeSet<u32>,
    /// Whether everybody can write to a part of it.
    is_open: bool,
    /// Owners of links on it.
    links: BTreeSet<u32>,
    is_file: bool,
}

/// Follows a path to its end. Fails where there is nothing, or where everybody can write to a part of it.
pub(crate) fn walk(path: &Path) -> Result<Way, Failure> {
    follow(path).during("find", path.display())?.of_somebody(path)
}

/// The same to the first file on it: a module in an archive lies below a file.
pub(crate) fn walk_to_file(path: &Path) -> Result<Way, Failure> {
    follow_to(path, End::AtTheFirstFile).during("find", path.display())?.of_somebody(path)
}

/// Follows a path to its end, whoever can write to it.
pub(crate) fn follow(path: &Path) -> io::Result<Way> {
    follow_to(path, End::Nowhere)
}

/// Follows a path as far as it goes: who can write to its last folder can put there what is missing.
pub(crate) fn walk_as_far(path: &Path) -> Result<Way, Failure> {
    follow_to(path, End::WhereItIsMissing).during("find", path.display())?.of_somebody(path)
}

/// Who can change which names there are in a folder: modules are found by their names, and a sticky bit keeps nobody
/// from adding one.
pub(crate) fn writers_of_names(path: &Path) -> Result<BTreeSet<u32>, Failure> {
    let mut way = follow_to(path, End::WhereItIsMissing).during("find", path.display())?;
    way.note_names().during("look at", path.display())?;
    Ok(way.of_somebody(path)?.writers)
}

/// Who can change what lies in a folder that was judged already; nobody where there is nothing.
pub(crate) fn writers_inside(path: &Path) -> Result<BTreeSet<u32>, Failure> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(BTreeSet::new()) };
    if meta.is_symlink() {
        return Ok(walk_as_far(path)?.writers);
    }
    let mut seen = PathOwners::default();
    seen.note_part(meta.uid(), meta.gid(), meta.mode());
    if seen.is_open {
        return Err(Failure::new(format!("everybody can write to {}", path.display())));
    }
    seen.writers.remove(&0);
    Ok(seen.writers)
}

/// Where a path may end before its last part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Nowhere,
    AtTheFirstFile,
    WhereItIsMissing,
}

fn follow_to(path: &Path, may_end: End) -> io::Result<Way> {
    if !path.is_absolute() {
        return Err(io::Error::other("no absolute path"));
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
    let mut seen = PathOwners::default();
    seen.note(&rustix::fs::fstat(&root)?);
    let mut folders = vec![root];
    let mut left = parts(path);
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            folders.truncate(folders.len().saturating_sub(1).max(1));
            continue;
        }
        let Some(from) = folders.last() else { break };
        let end = match rustix::fs::openat(from, &name, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NAMETOOLONG)
                if may_end == End::WhereItIsMissing =>
            {
                // A sticky bit keeps what is there, and nobody from what is not.
                let stat = rustix::fs::fstat(from)?;
                seen.note_writers(stat.st_gid, stat.st_mode);
                break;
            }
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&end)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Symlink {
            links += 1;
            seen.links.insert(stat.st_uid);
            if links > MAX_LINKS {
                if may_end == End::WhereItIsMissing {
                    break;
                }
                return Err(rustix::io::Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&end, "", Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                folders.truncate(1);
            }
            let rest = std::mem::replace(&mut left, parts(&target));
            left.extend(rest);
            continue;
        }
        seen.note(&stat);
        let is_file = kind == FileType::RegularFile;
        let ends_here = match may_end {
            End::Nowhere => false,
            End::AtTheFirstFile => is_file,
            End::WhereItIsMissing => kind != FileType::Directory,
        };
        if left.is_empty() || ends_here {
            return Ok(seen.end(end, is_file));
        }
        if kind != FileType::Directory {
            return Err(rustix::io::Errno::NOTDIR.into());
        }
        folders.push(end);
    }
    let end = folders.pop().ok_or(rustix::io::Errno::NOENT)?;
    Ok(seen.end(end, false))
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

/// What the parts of a path were.
#[derive(Default)]
struct PathOwners {
    writers: BTreeSet<u32>,
    links: BTreeSet<u32>,
    is_open: bool,
}

impl PathOwners {
    /// Notes who can write to a part. In a sticky folder nobody moves what is another's, and each part that lies there
    /// has its own owner.
    fn note(&mut self, stat: &Stat) {
        self.note_part(stat.st_uid, stat.st_gid, stat.st_mode);
    }

    fn note_part(&mut self, uid: u32, gid: u32, mode: u32) {
        self.writers.insert(uid);
        let is_folder = FileType::from_raw_mode(mode) == FileType::Directory;
        if is_folder && mode & 0o1000 != 0 {
            return;
        }
        self.note_writers(gid, mode);
    }

    fn note_writers(&mut self, gid: u32, mode: u32) {
        self.is_open |= mode & 0o002 != 0;
        if mode & 0o020 != 0 && gid != 0 {
            self.writers.extend(Accounts::of_host().members(gid));
        }
    }

    fn end(self, end: OwnedFd, is_file: bool) -> Way {
        let Self { mut writers, links, is_open } = self;
        writers.extend(&links);
        writers.remove(&0);
        Way { end, writers, is_open, links, is_file }
    }
}

impl Way {
    fn of_somebody(self, path: &Path) -> Result<Self, Failure> {
        if self.is_open {
            let words = format!("everybody can write to {} or a folder above it", path.display());
            return Err(Failure::new(words));
        }
        Ok(self)
    }

    /// Notes who can add a name to the folder at its end, whatever keeps what is there.
    fn note_names(&mut self) -> io::Result<()> {
        let stat = rustix::fs::fstat(&self.end)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let mut seen = PathOwners::default();
            seen.note_writers(stat.st_gid, stat.st_mode);
            self.writers.extend(seen.writers);
            self.is_open |= seen.is_open;
        }
        Ok(())
    }

    pub(crate) const fn fd(&self) -> &OwnedFd {
        &self.end
    }

    /// Who but root and whoever runs the agent has made a link on it.
    pub(crate) fn link_of_another(&self) -> Option<u32> {
        let own = rustix::process::geteuid().as_raw();
        self.links.iter().copied().find(|&uid| uid != 0 && uid != own)
    }

    pub(crate) const fn is_file(&self) -> bool {
        self.is_file
    }

    /// What a file holds: the very one that was found, by that path.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
        let path = path.display();
        if !self.is_file {
            return Err(Failure::new(format!("{path} is no regular file")));
        }
        let file = dir_entry::reopen(&self.end).during("open", &path)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).during("read", &path)?;
        if bytes.len() as u64 > limit {
            return Err(Failure::new(format!("{path} is larger than {limit} bytes")));
        }
        Ok(bytes)
    }
}

/// Groups of the host and who is in them, and the first group of each user.
pub(crate) struct Accounts {
    members: BTreeMap<u32, BTreeSet<u32>>,
    first: BTreeMap<u32, u32>,
}

impl Accounts {
    pub(crate) fn of_host() -> &'static Self {
        static ACCOUNTS: OnceLock<Accounts> = OnceLock::new();
        ACCOUNTS.get_or_init(|| {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            Self::of(&read("/etc/passwd"), &read("/etc/group"))
        })
    }

    fn of(passwd: &str, group: &str) -> Self {
        let (mut numbers, mut first) = (BTreeMap::new(), BTreeMap::new());
        let mut members: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for line in passwd.lines() {
            let mut fields = line.split(':');
            let (name, uid, gid) = (fields.next(), fields.nth(1), fields.next());
            let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
            if let (Some(name), Some(uid), Some(gid)) = (name, number(uid), number(gid)) {
                numbers.insert(name.to_owned(), uid);
                first.entry(uid).or_insert(gid);
                members.entry(gid).or_default().insert(uid);
            }
        }
        for line in group.lines() {
            let mut fields = line.split(':').skip(2);
            let (Some(gid), Some(names)) = (fields.next().and_then(|gid| gid.parse().ok()), fields.next())
            else {
                continue;
            };
            let found = names.split(',').filter_map(|name| numbers.get(name.trim()));
            members.entry(gid).or_default().extend(found);
        }
        Self { members, first }
    }

    /// The first group of a user, and all others.
    pub(crate) fn groups_of(&self, uid: u32) -> (Option<u32>, Vec<u32>) {
        let others = self.members.iter().filter(|(_, members)| members.contains(&uid));
        (self.first.get(&uid).copied(), others.map(|(gid, _)| *gid).collect())
    }

    fn members(&self, gid: u32) -> impl Iterator<Item = u32> {
        self.members.get(&gid).into_iter().flatten().copied().filter(|&uid| uid != 0)
    }
}

/// Users whose word counts about where code lies: who can write there can have anything analysed in its place.
#[derive(Debug, Clone)]
pub(crate) struct Trusted(BTreeSet<u32>);

impl Trusted {
    /// Root, whoever runs the agent, and these.
    pub(crate) fn new(users: impl IntoIterator<Item = u32>) -> Self {
        let own = [0, rustix::process::geteuid().as_raw()];
        Self(own.into_iter().chain(users).collect())
    }

    pub(crate) fn accept(&self, way: &Way) -> Result<(), Failure> {
        match way.writers.difference(&self.0).next() {
            Some(uid) => Err(Failure::new(format!(
                "user {uid} can change it, who is none of the service's (pulpcov_users names more of those)"
            ))),
            None => Ok(()),
        }
    }

    /// Whether nobody else can change what a path leads to.
    pub(crate) fn is_sure(&self, path: &Path) -> bool {
        walk(path).is_ok_and(|way| self.accept(&way).is_ok())
    }

    /// Why what is at a path does not count; nothing where there is none.
    pub(crate) fn distrusts(&self, path: &Path) -> Option<String> {
        let way = follow(path).ok()?.of_somebody(path);
        way.and_then(|way| self.accept(&way)).err().map(|failure| failure.msg)
    }

    /// Reads a source file that nobody else can have changed, or put in another's place.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
        let way = walk(path)?;
        self.accept(&way)?;
        way.read(path, limit)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn members_of_groups_are_found() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1001:50::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n";
        let group = "root:x:0:\nstaff:x:50:bob,nobody-here\nempty:x:51:\nbad\n";
        let accounts = Accounts::of(passwd, group);
        let members = |gid| accounts.members(gid).collect::<Vec<_>>();
        assert_eq!((members(50), members(51), members(0)), (vec![1001, 1002], vec![], vec![]));
    }

    #[test]
    fn a_way_tells_of_every_part_and_leads_to_what_was_judged() {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let base = folder.path();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
        };
        set(base, 0o755);
        std::fs::create_dir(base.join("a")).expect("a folder");
        std::fs::write(base.join("a/x.py"), "x = 1\n").expect("written");
        symlink("../a", base.join("a/self")).expect("a link");
        symlink(base.join("a/self/x.py"), base.join("link.py")).expect("a link");
        let trusted = Trusted::new([]);
        for path in ["a/x.py", "link.py", "a/../a/./self/x.py"] {
            assert_eq!(trusted.read(&base.join(path), 9).expect(path), b"x = 1\n");
        }
        assert!(trusted.read(&base.join("a/x.py"), 3).is_err(), "too large");
        assert!(trusted.read(&base.join("a"), 9).is_err() && trusted.read(&base.join("b"), 9).is_err());
        assert!(walk(&base.join("a/x.py/shop/y.py")).is_err());
        assert!(walk_to_file(&base.join("a/x.py/shop/y.py")).expect("an archive").is_file);
        set(&base.join("a"), 0o777);
        assert!(!trusted.is_sure(&base.join("a/x.py")) && trusted.distrusts(&base.join("link.py")).is_some());
        set(&base.join("a"), 0o1777);
        assert!(trusted.is_sure(&base.join("a/x.py")), "nobody moves what is ours");
        symlink("loop", base.join("loop")).expect("a link");
        assert!(walk(&base.join("loop")).is_err(), "it leads nowhere");
        assert!(walk_as_far(&base.join("loop")).is_ok(), "it is missing");
        assert_eq!(trusted.distrusts(&base.join("a/nothing.py")), None);
        // What is missing is whose who can put it there.
        assert!(walk_as_far(&base.join("b/c/x.py")).is_ok() && walk_as_far(&base.join("a/x.py/y")).is_ok());
        assert!(walk_as_far(&base.join("a/b/x.py")).is_err(), "of all");
    }

    #[test]
    fn another_users_part_is_another_users_word() {
        assert!(rustix::process::geteuid().is_root(), "gives files away, which needs root");
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("set");
        let path = folder.path().join("shop");
        std::fs::create_dir(&path).expect("a folder");
        std::fs::write(path.join("x.py"), "x = 1\n").expect("written");
        std::os::unix::fs::chown(&path, Some(4711), None).expect("given away");
        assert_eq!(walk(&path.join("x.py")).expect("a way").writers, BTreeSet::from([4711]));
        assert!(Trusted::new([]).read(&path.join("x.py"), 9).is_err());
        assert!(Trusted::new([4711]).read(&path.join("x.py"), 9).is_ok());
    }
}
