//! Whom an interpreter is run as. Its code is whoever's who can write to it: it never runs as root where that is
//! anybody else.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Gid, Uid};

use crate::failure::Failure;
use crate::host::fs;
use crate::host::owners::{self, Accounts};

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
    pub(crate) fn own() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { uid, gid, groups: Vec::new() }
    }

    /// A user of the host.
    pub(crate) fn of_user(uid: u32) -> Self {
        let (gid, groups) = Accounts::of_host().groups_of(uid);
        // One that the host's files do not know is in a group of its own number, and in no other.
        Self { uid, gid: gid.unwrap_or(uid), groups }
    }

    /// Whom the interpreter at `path` is run as: root only where nobody else can change what it runs. Whom it should be
    /// run as where several can, nobody can tell.
    pub(crate) fn of_interpreter(path: &Path) -> Result<Self, Failure> {
        // Where only root can change it, nobody else has since; where a user can, it is never root's again.
        static FOUND: Mutex<BTreeMap<PathBuf, Identity>> = Mutex::new(BTreeMap::new());
        let own = Self::own();
        if own.uid != 0 {
            return Ok(own);
        }
        let known = || FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(path).cloned() {
            return Ok(found);
        }
        let found = Self::judge(path, own)?;
        known().insert(path.to_owned(), found.clone());
        Ok(found)
    }

    fn judge(path: &Path, own: Self) -> Result<Self, Failure> {
        let writers = writers(path).map_err(|failure| {
            Failure::new(format!("{} is not run: {}", path.display(), failure.msg)).hint(ONE_OWNER)
        })?;
        let mut users = writers.keys().copied();
        match (users.next(), users.next()) {
            (None, _) => Ok(own),
            (Some(uid), None) => Ok(Self::of_user(uid)),
            _ => {
                let each = |(uid, place): (&u32, &PathBuf)| format!("user {uid} {}", place.display());
                let all: Vec<String> = writers.iter().map(each).collect();
                Err(Failure::new(format!(
                    "{} is run as nobody, for several can change what it runs: {}",
                    path.display(),
                    all.join(", ")
                ))
                .hint(ONE_OWNER))
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

    /// Gives what is at a path to this user, if root can.
    pub(crate) fn give(&self, path: &Path) -> Result<(), Failure> {
        if !self.is_root() && Self::own().is_root() {
            std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }
}

/// What lets an interpreter be run.
const ONE_OWNER: &str =
    "give the environment, and what its .pth files name, one owner, and no group that can write";

/// Users but root who can change what an interpreter runs when it starts, each with a place where.
fn writers(path: &Path) -> Result<BTreeMap<u32, PathBuf>, Failure> {
    let mut writers = BTreeMap::new();
    let mut add = |path: &Path, of_path: BTreeSet<u32>| {
        for uid in of_path {
            writers.entry(uid).or_insert_with(|| path.to_owned());
        }
    };
    add(path, owners::walk(path)?.writers);
    for prefix in prefixes(path) {
        let config = prefix.join("pyvenv.cfg");
        add(&prefix, owners::writers_of_names(&prefix)?);
        add(&config, owners::writers_inside(&config)?);
        for lib in LIBRARIES.map(|lib| prefix.join(lib)) {
            // `python311.zip` comes first on the path, whether it is there or not.
            add(&lib, owners::writers_of_names(&lib)?);
            for entry in std::fs::read_dir(&lib).into_iter().flatten().flatten() {
                if entry.path().extension().is_some_and(|end| end == "zip") {
                    add(&entry.path(), owners::writers_inside(&entry.path())?);
                }
            }
        }
        for folder in folders(&prefix) {
            add(&folder, owners::writers_of_names(&folder)?);
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if !is_importable(&path) {
                    continue;
                }
                add(&path, owners::writers_inside(&path)?);
                if path.extension().is_some_and(|end| end == "pth") {
                    for target in targets(&folder, &path) {
                        let named = |failure: Failure| {
                            Failure::new(format!(
                                "{} names {}: {}",
                                path.display(),
                                target.display(),
                                failure.msg
                            ))
                        };
                        add(&target, owners::writers_of_names(&target).map_err(named)?);
                    }
                } else {
                    let package = path.join("__init__.py");
                    add(&package, owners::writers_inside(&package)?);
                }
            }
        }
    }
    Ok(writers)
}

/// `sys.prefix` of an interpreter, and of those that it is made of: of the file behind its name, and of the one that its
/// environment was made with.
fn prefixes(path: &Path) -> BTreeSet<PathBuf> {
    let real = std::fs::canonicalize(path).ok();
    let mut found: BTreeSet<PathBuf> =
        [Some(path.to_owned()), real].into_iter().flatten().filter_map(|path| prefix_of(&path)).collect();
    for prefix in found.clone() {
        let text = fs::read_limited(&prefix.join("pyvenv.cfg"), MAX_PTH).unwrap_or_default();
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

/// Where the libraries of Pythons lie below a prefix.
const LIBRARIES: [&str; 3] = ["lib", "lib64", "local/lib"];

/// The library of each Python below a prefix, and its site folders.
fn folders(prefix: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for lib in LIBRARIES {
        for entry in std::fs::read_dir(prefix.join(lib)).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("python") {
                let library = entry.path();
                found
                    .extend(["site-packages", "dist-packages", "lib-dynload"].map(|name| library.join(name)));
                found.insert(library);
            }
        }
    }
    found.retain(|folder| folder.is_dir());
    found
}

/// Whether a name in a folder of modules is one that a Python finds there.
fn is_importable(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match path.extension() {
        Some(end) => ["py", "pyc", "so", "pth"].iter().any(|known| end == *known),
        None => name.chars().all(|letter| letter == '_' || letter.is_alphanumeric()),
    }
}

/// Places that a `.pth` file puts on the path, and those that its lines of code name.
fn targets(folder: &Path, pth: &Path) -> Vec<PathBuf> {
    let text = fs::read_limited(pth, MAX_PTH).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with("import ") || line.starts_with("import\t") {
            let literals = line.split(['"', '\'']).skip(1).step_by(2);
            found.extend(literals.filter(|text| text.starts_with('/')).map(PathBuf::from));
        } else {
            found.push(folder.join(line));
        }
    }
    found.retain(|path| is_found_by_python(path));
    found
}

/// Whether a name can be one of code. What there is now says little, since whoever has put it there can put something
/// else there; only a device of root's stays one.
fn is_found_by_python(path: &Path) -> bool {
    let can_be = |part: &OsStr| part.len() <= MAX_NAME && !part.as_encoded_bytes().contains(&0);
    let is_device = std::fs::symlink_metadata(path).is_ok_and(|found| {
        let kind = found.file_type();
        (kind.is_char_device() || kind.is_block_device()) && found.uid() == 0
    });
    let is_roots =
        || path.parent().is_some_and(|folder| owners::walk(folder).is_ok_and(|way| way.writers.is_empty()));
    path.iter().all(can_be) && !(is_device && is_roots())
}

/// Longest name in a folder, as Linux has it.
const MAX_NAME: usize = 255;

/// The folder into which the packages of a Python go that is not root's, which says so itself: root is going to write
/// there. It counts where that user could write there without us. What is on the path of a Python of root's, by a `.pth`
/// file of root's, runs in all of its processes already, so that one's own folder counts too.
pub(crate) fn packages_folder(python: &Path, uid: u32, told: &str) -> Result<PathBuf, Failure> {
    let refused = || {
        Failure::new(format!(
            "{} says that its packages lie in {told}, which is not for user {uid} to say",
            python.display()
        ))
    };
    // The folder itself: nobody can then lead elsewhere what is written there.
    let folder = std::fs::canonicalize(told).map_err(|_| refused())?;
    let known = |prefix: &Path| {
        folders(prefix)
            .iter()
            .filter_map(|known| std::fs::canonicalize(known).ok())
            .any(|known| known == folder)
    };
    let writers = owners::walk(&folder)?.writers;
    let is_his = writers.contains(&uid) && prefixes(python).iter().any(|prefix| known(prefix));
    if is_his || (is_roots_own(python, &folder)? && prefix_of(python).is_some_and(|prefix| known(&prefix))) {
        return Ok(folder);
    }
    Err(refused())
}

/// Whether a Python but for what is put on its path is root's alone, and a folder is the one that it has for packages.
fn is_roots_own(python: &Path, folder: &Path) -> Result<bool, Failure> {
    let Some(prefix) = prefix_of(python) else { return Ok(false) };
    let mut all = owners::walk(python)?.writers;
    all.extend(owners::walk_as_far(&prefix.join("pyvenv.cfg"))?.writers);
    all.extend(owners::walk(folder)?.writers);
    // `python3.11`, or the `platform-python3.6` of RHEL; Debian's packages are in a `python3` of all versions.
    let version = |path: &Path| {
        let name = path.file_name().and_then(OsStr::to_str)?;
        Some(name.rsplit_once("python")?.1.to_owned())
    };
    let Some(of_python) = std::fs::canonicalize(python).ok().and_then(|path| version(&path)) else {
        return Ok(false);
    };
    let Some(of_folder) = folder.parent().and_then(version) else { return Ok(false) };
    let is_of_all = || of_python.strip_prefix(&*of_folder).is_some_and(|minor| minor.starts_with('.'));
    // That of all is other Pythons', too: only where there is none of its own.
    let has_own = || {
        let known = folders(&prefix);
        let own = known
            .iter()
            .filter(|folder| folder.ends_with("site-packages") || folder.ends_with("dist-packages"));
        own.filter_map(|folder| version(folder.parent()?)).any(|known| known == of_python)
    };
    Ok(all.is_empty() && (of_python == of_folder || (is_of_all() && !has_own())))
}

fn prefix_of(python: &Path) -> Option<PathBuf> {
    Some(python.parent()?.parent()?.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

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
        let uid = || Identity::judge(&python, Identity::own()).map(|identity| identity.uid);
        assert_eq!(uid().expect("root's"), 0);
        let code = base.join("code");
        std::fs::create_dir(&code).expect("a folder");
        std::fs::write(site.join("shop.pth"), format!("import os\n# x\n{}\n", code.display()))
            .expect("written");
        for part in ["venv", "venv/bin", "venv/lib/python3.11", "code"] {
            chown(base.join(part), Some(4711), None).expect("given away");
            assert_eq!(uid().expect("his"), 4711, "{part}");
            chown(base.join(part), Some(0), None).expect("taken back");
        }
        // What is not there yet is whose who can put it there; a line of code names places as well.
        chown(base.join("venv/bin"), Some(0), None).expect("taken back");
        let line = format!("import sys; sys.path.insert(0, '{}/gone/src')\n", code.display());
        for text in [line, format!("{}/gone/src\n", code.display())] {
            std::fs::write(site.join("shop.pth"), &text).expect("written");
            assert_eq!(uid().expect("root's"), 0, "{text}");
            chown(&code, Some(4711), None).expect("given away");
            assert_eq!(uid().expect("his"), 4711, "{text}");
            chown(&code, Some(0), None).expect("taken back");
        }
        symlink(code.join("custom.py"), site.join("sitecustomize.py")).expect("a link");
        chown(&code, Some(4711), None).expect("given away");
        assert_eq!(uid().expect("his"), 4711, "a link into his folder");
        chown(&code, Some(0), None).expect("taken back");
        std::fs::remove_file(site.join("sitecustomize.py")).expect("removed");
        std::fs::create_dir(site.join("sitecustomize")).expect("a folder");
        std::fs::write(site.join("sitecustomize/__init__.py"), "").expect("written");
        let inside = |mode| {
            let path = site.join("sitecustomize/__init__.py");
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
        };
        inside(0o666);
        assert!(uid().expect_err("of all").msg.contains("everybody can write"));
        inside(0o644);
        assert_eq!(uid().expect("root's"), 0);
        std::fs::write(site.join("sitecustomize.py"), "").expect("written");
        chown(site.join("sitecustomize.py"), Some(4711), None).expect("given away");
        assert_eq!(uid().expect("his"), 4711);
        chown(&code, Some(4712), None).expect("given away");
        let said = uid().expect_err("of two").msg;
        assert!(said.contains("user 4711 /") && said.contains("user 4712 /"), "{said}");
        chown(&code, Some(4711), None).expect("given away");
        for mode in [0o777, 0o1777] {
            std::fs::set_permissions(&site, PermissionsExt::from_mode(mode)).expect("set");
            let said = uid().expect_err("of all").msg;
            assert!(said.contains("everybody can write") && said.contains("python3 is not run"), "{said}");
        }
    }

    #[test]
    fn what_no_python_imports_keeps_nobody_from_running_it() {
        assert!(rustix::process::geteuid().is_root(), "else it is run as whoever runs this");
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let base = folder.path();
        let site = environment(base);
        let uid = || Identity::judge(&base.join("venv/bin/python3"), Identity::own()).map(|found| found.uid);
        for name in ["README.txt", "shop-1.0.dist-info"] {
            std::fs::write(site.join(name), "").expect("written");
            std::fs::set_permissions(site.join(name), PermissionsExt::from_mode(0o666)).expect("set");
        }
        symlink("loop.py", site.join("loop.py")).expect("a link");
        for line in ["x".repeat(300), "a\0b".to_owned(), "import sys; open('/dev/null')".to_owned()] {
            std::fs::write(site.join("shop.pth"), &line).expect("written");
            assert_eq!(uid().expect("root's"), 0, "{line:?}");
        }
        // What is no folder now may become one: its name is whose who can put it there.
        let dynload = base.join("venv/lib/python3.11/lib-dynload");
        std::fs::create_dir(&dynload).expect("a folder");
        std::fs::set_permissions(&dynload, PermissionsExt::from_mode(0o777)).expect("set");
        assert!(uid().expect_err("everybody's").msg.contains("lib-dynload"));
        std::fs::remove_dir(&dynload).expect("removed");
        for (name, make) in [("fifo", "mkfifo"), ("long", "ln -s $(printf x%.0s $(seq 300))")] {
            std::fs::create_dir_all(base.join("his")).expect("a folder");
            chown(base.join("his"), Some(4711), None).expect("given away");
            let target = base.join("his").join(name);
            let made = std::process::Command::new("bash")
                .args(["-c", &format!("{make} {}", target.display())])
                .status();
            assert!(made.is_ok_and(|status| status.success()));
            std::fs::write(site.join("shop.pth"), target.display().to_string()).expect("written");
            assert_eq!(uid().expect("his"), 4711, "{name}");
        }
        for line in ["/var/tmp", "import os; os.environ.setdefault('SHOP', '/var/tmp/nothing/there')"] {
            std::fs::write(site.join("shop.pth"), line).expect("written");
            let said = uid().expect_err("everybody's").msg;
            assert!(said.contains("shop.pth names /var/tmp"), "{said}");
        }
    }

    #[test]
    fn packages_go_where_a_user_can_write_and_nowhere_else() {
        assert!(rustix::process::geteuid().is_root(), "gives files away, which needs root");
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let base = folder.path();
        let site = environment(base);
        let python = base.join("venv/bin/python3");
        let of = |told: &Path| packages_folder(&python, 4711, &told.to_string_lossy());
        assert!(of(&site).is_err(), "root's");
        chown(&site, Some(4711), None).expect("given away");
        assert_eq!(of(&site).expect("his"), site);
        chown(base.join("venv"), Some(4711), None).expect("given away");
        for elsewhere in ["/etc", "/usr/local/lib", "/nowhere"] {
            assert!(of(Path::new(elsewhere)).is_err(), "{elsewhere}");
        }
        // The base's packages are not for him to name, whether he names them or leads to them.
        let roots = base.join("base/lib/python3.11/site-packages");
        std::fs::create_dir_all(&roots).expect("folders");
        std::fs::write(base.join("venv/pyvenv.cfg"), format!("home = {}/base/bin\n", base.display()))
            .expect("written");
        assert!(of(&roots).is_err(), "the base's");
        std::fs::remove_dir(&site).expect("removed");
        symlink(&roots, &site).expect("a link");
        assert!(of(&site).is_err(), "behind a link");
        // Root's own Python, with a place of his on its path by a file of root's.
        let system = base.join("base/bin/python3");
        std::fs::create_dir_all(base.join("base/bin")).expect("folders");
        std::fs::write(base.join("base/bin/python3.11"), "").expect("written");
        symlink("python3.11", &system).expect("a link");
        assert_eq!(packages_folder(&system, 4711, &roots.to_string_lossy()).expect("its own"), roots);
        let older = base.join("base/lib/python3.9/site-packages");
        std::fs::create_dir_all(&older).expect("folders");
        assert!(packages_folder(&system, 4711, &older.to_string_lossy()).is_err(), "another Python's");
        let of_all = base.join("base/lib/python3/dist-packages");
        std::fs::create_dir_all(&of_all).expect("folders");
        assert!(packages_folder(&system, 4711, &of_all.to_string_lossy()).is_err(), "it has one of its own");
        std::fs::remove_dir(&roots).expect("removed");
        assert_eq!(packages_folder(&system, 4711, &of_all.to_string_lossy()).expect("Debian's"), of_all);
    }
}
