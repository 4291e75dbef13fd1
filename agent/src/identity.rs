//! Whom an interpreter is run as. Its code is whoever's who can write to it: it never runs as root where that is
//! anybody else.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid};

use crate::failure::Failure;
use crate::host_fs;
use crate::owners::{self, Accounts};

/// Largest `.pth` file and `pyvenv.cfg` that is looked into.
const MAX_PTH: u64 = 256 * 1024;

/// A user with all of its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    groups: Vec<u32>,
}

impl Identity {
    /// Whoever runs the agent.
    fn own() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { uid, gid, groups: Vec::new() }
    }

    /// A user of the host.
    fn of_user(uid: u32) -> Self {
        let (gid, groups) = Accounts::of_host().groups_of(uid);
        // One that the host's files do not know is in a group of its own number, and in no other.
        Self { uid, gid: gid.unwrap_or(uid), groups }
    }

    /// Whom the interpreter at `path` is run as: root only where nobody else can change what it runs. Whom it should be
    /// run as where several can, nobody can tell.
    pub(crate) fn of_interpreter(path: &Path) -> Result<Self, Failure> {
        let own = Self::own();
        if own.uid != 0 {
            return Ok(own);
        }
        let writers = writers(path)?;
        let mut users = writers.iter().copied();
        match (users.next(), users.next()) {
            (None, _) => Ok(own),
            (Some(uid), None) => Ok(Self::of_user(uid)),
            _ => {
                let users: Vec<String> = writers.iter().map(u32::to_string).collect();
                Err(Failure::new(format!(
                    "{}: users {} can each change what it runs, so it is run as none of them",
                    path.display(),
                    users.join(" and ")
                ))
                .hint("give the environment, and what its .pth files name, one owner"))
            }
        }
    }

    pub(crate) const fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// As a word of a command line.
    pub(crate) fn to_word(&self) -> String {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        format!("{}:{}:{}", self.uid, self.gid, groups.join(","))
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        let mut parts = word.splitn(3, ':');
        let (uid, gid) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let groups = parts.next()?.split(',').filter(|group| !group.is_empty());
        Some(Self { uid, gid, groups: groups.map(str::parse).collect::<Result<_, _>>().ok()? })
    }

    /// Becomes this user, for good.
    pub(crate) fn assume(&self) -> Result<(), rustix::io::Errno> {
        if *self == Self::own() || (self.uid == Self::own().uid && self.groups.is_empty()) {
            return Ok(());
        }
        let groups: Vec<Gid> = self.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_thread_groups(&groups)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)
    }

    /// Gives an open file or folder to this user.
    pub(crate) fn give(&self, path: &Path) -> Result<(), Failure> {
        if !self.is_root() && Self::own().is_root() {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }
}

/// Users but root who can change what an interpreter runs when it starts.
fn writers(path: &Path) -> Result<BTreeSet<u32>, Failure> {
    let mut writers = owners::walk(path)?.writers;
    let mut add = |path: &Path| {
        if path.exists() {
            writers.extend(owners::walk(path)?.writers);
        }
        Ok::<(), Failure>(())
    };
    let mut children = BTreeSet::new();
    for prefix in prefixes(path) {
        add(&prefix)?;
        for folder in folders(&prefix) {
            add(&folder)?;
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                // What lies in a folder of root's may have been given away.
                children.extend(entry.metadata().ok().map(|meta| meta.uid()));
                if entry.path().extension().is_some_and(|end| end == "pth") {
                    for target in targets(&folder, &entry.path()) {
                        add(&target)?;
                    }
                }
            }
        }
    }
    writers.extend(children.into_iter().filter(|&uid| uid != 0));
    Ok(writers)
}

/// `sys.prefix` of an interpreter, and of those that it is made of: of the file behind its name, and of the one that its
/// environment was made with.
fn prefixes(path: &Path) -> BTreeSet<PathBuf> {
    let of_binary = |path: &Path| Some(path.parent()?.parent()?.to_owned());
    let real = std::fs::canonicalize(path).ok();
    let mut found: BTreeSet<PathBuf> =
        [Some(path.to_owned()), real].into_iter().flatten().filter_map(|path| of_binary(&path)).collect();
    for prefix in found.clone() {
        let text = host_fs::read_limited(&prefix.join("pyvenv.cfg"), MAX_PTH).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let home =
            text.lines().find_map(|line| line.trim().strip_prefix("home")?.trim_start().strip_prefix('='));
        found.extend(home.and_then(|home| Some(Path::new(home.trim()).parent()?.to_owned())));
    }
    if found.contains(Path::new("/usr")) {
        found.insert("/usr/local".into());
    }
    found
}

/// The library of each Python below a prefix, and its site folders.
fn folders(prefix: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for lib in ["lib", "lib64", "local/lib"] {
        for entry in std::fs::read_dir(prefix.join(lib)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("python") {
                let library = entry.path();
                found.extend(["site-packages", "dist-packages"].map(|name| library.join(name)));
                found.insert(library);
            }
        }
    }
    found.retain(|folder| folder.is_dir());
    found
}

/// Folders that a `.pth` file puts on the path.
fn targets(folder: &Path, pth: &Path) -> Vec<PathBuf> {
    let text = host_fs::read_limited(pth, MAX_PTH).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().map(str::trim).filter(|line| {
        !line.is_empty()
            && !line.starts_with('#')
            && !line.starts_with("import ")
            && !line.starts_with("import\t")
    });
    lines.map(|line| folder.join(line)).collect()
}

/// Whether a folder is one in which the interpreter at `path` has its packages, whatever it says itself.
pub(crate) fn has_packages_in(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = std::fs::canonicalize(folder) else { return false };
    let all = prefixes(path).into_iter().flat_map(|prefix| folders(&prefix));
    all.filter_map(|known| std::fs::canonicalize(known).ok()).any(|known| known == folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn an_identity_is_a_word() {
        for word in ["0:0:", "1001:50:50,27"] {
            assert_eq!(Identity::parse(word).expect("one").to_word(), word);
        }
        for word in ["", "1:2", "a:1:", "1:1:x", "-1:0:"] {
            assert_eq!(Identity::parse(word), None, "{word}");
        }
    }

    /// A virtual environment of the host's Python.
    fn environment(base: &Path) -> PathBuf {
        std::fs::set_permissions(base, PermissionsExt::from_mode(0o755)).expect("set");
        let site = base.join("venv/lib/python3.11/site-packages");
        std::fs::create_dir_all(&site).expect("folders");
        std::fs::create_dir(base.join("venv/bin")).expect("a folder");
        std::fs::write(base.join("venv/pyvenv.cfg"), "home = /usr/bin\n").expect("written");
        symlink("/bin/sh", base.join("venv/bin/python3")).expect("a link");
        site
    }

    #[test]
    fn whoever_can_change_what_runs_is_who_it_runs_as() {
        assert!(rustix::process::geteuid().is_root(), "gives files away, which needs root");
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let base = folder.path();
        let site = environment(base);
        let python = base.join("venv/bin/python3");
        let uid = || Identity::of_interpreter(&python).map(|identity| identity.uid);
        assert_eq!(uid().expect("root's"), 0);
        assert!(has_packages_in(&python, &site) && !has_packages_in(&python, Path::new("/etc")));
        let code = base.join("code");
        std::fs::create_dir(&code).expect("a folder");
        std::fs::write(site.join("shop.pth"), format!("import os\n# x\n{}\n", code.display()))
            .expect("written");
        for part in ["venv", "venv/bin", "venv/lib/python3.11", "code"] {
            chown(base.join(part), Some(4711), None).expect("given away");
            assert_eq!(uid().expect("his"), 4711, "{part}");
            chown(base.join(part), Some(0), None).expect("taken back");
        }
        std::fs::write(site.join("sitecustomize.py"), "").expect("written");
        chown(site.join("sitecustomize.py"), Some(4711), None).expect("given away");
        assert_eq!(uid().expect("his"), 4711);
        chown(&code, Some(4712), None).expect("given away");
        assert!(uid().expect_err("of two").msg.contains("users 4711 and 4712"));
        chown(&code, Some(4711), None).expect("given away");
        std::fs::set_permissions(&site, PermissionsExt::from_mode(0o777)).expect("set");
        assert!(uid().expect_err("of all").msg.contains("everybody can write"));
    }
}
