//! What one install changes: each step is noted before it is done, so that a failure undoes all of
//! it and the receipt tells all of it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use pulpcov_protocol::fleet::{Fleet, Relation};
use pulpcov_protocol::op::Install;
use pulpcov_protocol::version::RECEIPT_FORMAT;

use crate::failure::{During, Failure};
use crate::host::dir_entry::{self, DirEntry};
use crate::host::facts;
use crate::host::fs::{self, Attributes};
use crate::install::preview::Preview;
use crate::install::sharing;
use crate::install::undo::{gone, undo_file};
use crate::receipt;
use crate::receipt::{Config, MAX_REPLACED, Receipt, Replaced, TouchedFile, TouchedFolder, tree_digest};
use crate::recorder::hook;

enum Undo {
    RemoveFile(PathBuf),
    RemoveFolder(PathBuf),
    RemoveTree(PathBuf),
    /// A tree that was moved aside (second) comes back (first).
    MoveBack(PathBuf, PathBuf),
    Rewrite(PathBuf, Vec<u8>, Attributes),
    PutBack(PathBuf, Attributes),
}

/// Makes a folder with a mode.
type MakeFolder = fn(&Path, u32) -> std::io::Result<()>;

/// Times that a folder is tried which somebody else makes at the same moment.
const TRIES: u32 = 3;

pub(crate) struct Changes {
    lib_root: String,
    config: Config,
    /// Whose host it is from now on.
    fleet: Option<Fleet>,
    old: Option<Receipt>,
    folders: Vec<TouchedFolder>,
    files: BTreeMap<PathBuf, TouchedFile>,
    trees: BTreeMap<PathBuf, String>,
    undo: Vec<Undo>,
    touched: Vec<PathBuf>,
    aside: Vec<PathBuf>,
    /// What a person has to know of it.
    pub(crate) remarks: Vec<String>,
    /// Only find out what would change.
    check: bool,
    bake: bool,
    pub(crate) preview: Preview,
}

/// Whose host this will be.
fn owner(args: &Install, old: Option<&Receipt>) -> Option<Fleet> {
    args.fleet.clone().or_else(|| old.and_then(|old| old.fleet.clone()))
}

impl Changes {
    pub(crate) fn new(args: &Install, config: Config, old: Option<Receipt>) -> Self {
        let lib_root = args.lib_root.as_str();
        // Folders stay ours as long as anything is installed.
        let mut folders = old.as_ref().map(|old| old.folders.clone()).unwrap_or_default();
        let is_empty = std::fs::read_dir(lib_root).is_ok_and(|mut entries| entries.next().is_none());
        if old.is_none() && is_empty {
            // All that an install leaves that was killed before it could write its receipt.
            folders.push(TouchedFolder { path: lib_root.into(), before: None });
        }
        Self {
            lib_root: lib_root.to_owned(),
            config,
            fleet: owner(args, old.as_ref()),
            old,
            folders,
            files: BTreeMap::new(),
            trees: BTreeMap::new(),
            undo: Vec::new(),
            touched: Vec::new(),
            aside: Vec::new(),
            remarks: Vec::new(),
            check: args.check,
            bake: args.bake,
            preview: Preview::new(args.diff),
        }
    }

    /// Writes down what is there and what is about to be, before it is: an install that is killed at
    /// any moment can then be undone by `uninstall`, or finished by the next install.
    fn note_intent(&mut self) -> Result<(), Failure> {
        let path = receipt::path_in(&self.lib_root);
        if !Path::new(&self.lib_root).is_dir() {
            return Ok(());
        }
        if Attributes::of(&path)?.is_none() {
            self.undo.push(Undo::RemoveFile(path));
        }
        let mut receipt = self.receipt(self.config.clone(), RECEIPT_FORMAT);
        if let Some(old) = &self.old {
            for (path, file) in &old.files {
                receipt.files.entry(path.clone()).or_insert_with(|| file.clone());
            }
            for (path, digest) in &old.trees {
                receipt.trees.entry(path.clone()).or_insert_with(|| digest.clone());
            }
        }
        receipt.complete = false;
        receipt.save(&self.lib_root)
    }

    /// Whose the host becomes, where it was another fleet's until now, or one without a name.
    pub(crate) fn new_owner(&self) -> Option<String> {
        let before = self.old.as_ref()?.fleet.as_ref()?;
        let now = self.fleet.as_ref()?;
        if before.relation(now) != Relation::Same {
            return Some("this fleet's".to_owned());
        }
        now.name.as_ref().filter(|_| before.name.is_none()).map(|name| format!("the fleet {name}'s"))
    }

    pub(crate) fn old(&self) -> Option<&Receipt> {
        self.old.as_ref()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn touched(&self) -> &[PathBuf] {
        &self.touched
    }

    pub(crate) fn note(&mut self, path: PathBuf) {
        self.touched.push(path);
    }

    /// A folder with that mode, and its parents with the usual one.
    pub(crate) fn folder(&mut self, path: &Path, mode: u32) -> Result<(), Failure> {
        self.folder_by(path, mode, dir_entry::make_folder)
    }

    /// The same for one that several installs have files in: whichever goes last takes it along.
    pub(crate) fn folder_of_installs(&mut self, path: &Path, mode: u32) -> Result<(), Failure> {
        self.folder(path, mode)?;
        let is_known = self.folders.iter().any(|folder| folder.path == path);
        let mut entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let is_ours = entries.all(|entry| entry.file_name().to_string_lossy().contains("pulpcov"));
        if !self.check && !is_known && is_ours {
            self.folders.push(TouchedFolder { path: path.to_owned(), before: None });
            self.note_intent()?;
        }
        Ok(())
    }

    fn folder_by(&mut self, path: &Path, mode: u32, make: MakeFolder) -> Result<(), Failure> {
        // Another container's install may make it at this moment: then it is looked at like any that was there.
        for _ in 0..TRIES {
            if self.try_folder(path, mode, make)? {
                return Ok(());
            }
        }
        Err(Failure::new(format!("somebody makes and removes {} all the time", path.display())))
    }

    /// False where somebody made it between a look and our own try.
    fn try_folder(&mut self, path: &Path, mode: u32, make: MakeFolder) -> Result<bool, Failure> {
        let known = self.folders.iter().any(|folder| folder.path == path);
        match Attributes::of(path)? {
            // What is only told does not come to be: it is told once.
            None if self.check && self.touched.iter().any(|one| one == path) => {}
            None => {
                if let Some(parent) = path.parent()
                    && Attributes::of(parent)?.is_none()
                {
                    self.folder(parent, 0o755)?;
                }
                self.touched.push(path.to_owned());
                self.preview.folder(path, true);
                if self.check {
                    return Ok(true);
                }
                if !known {
                    self.folders.push(TouchedFolder { path: path.to_owned(), before: None });
                    self.note_intent()?;
                }
                match make(path, mode) {
                    Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                        self.folders.retain(|folder| known || folder.path != path);
                        return Ok(false);
                    }
                    made => made.during("make", path.display())?,
                }
                self.undo.push(Undo::RemoveFolder(path.to_owned()));
                fs::restore_labels(&[path]);
            }
            // A site-packages folder may well be a link into lib64; the data directory may not: root reads it.
            Some(_) if !path.is_dir() => {
                return Err(Failure::new(format!("{} is no folder", path.display())));
            }
            Some(before) if mode & 0o1000 != 0 => {
                if fs::look_at(path)?.is_symlink() {
                    return Err(Failure::new(format!("{} is a link", path.display()))
                        .hint("set pulpcov_data_root to the folder itself"));
                }
                if before.mode != mode {
                    self.touched.push(path.to_owned());
                    if self.check {
                        return Ok(true);
                    }
                    if !known {
                        let folder = TouchedFolder { path: path.to_owned(), before: Some(before.clone()) };
                        self.folders.push(folder);
                        self.note_intent()?;
                    }
                    dir_entry::set_mode(path, mode).during("set the mode of", path.display())?;
                    self.undo.push(Undo::PutBack(path.to_owned(), before));
                }
            }
            Some(_) => {}
        }
        Ok(true)
    }

    /// The same for a folder inside of one that others can write to: theirs would give them power
    /// over what we keep in it.
    pub(crate) fn own_folder(&mut self, path: &Path, mode: u32, force: bool) -> Result<(), Failure> {
        let Some(uid) = fs::owned_by_another(path)? else {
            self.folder(path, mode)?;
            // Whoever made it at that moment.
            return match fs::owned_by_another(path)? {
                Some(uid) => Err(Failure::new(format!("{} belongs to user {uid}", path.display()))),
                None => Ok(()),
            };
        };
        let is_empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        if !is_empty && !force {
            return Err(Failure::new(format!("{} belongs to user {uid}", path.display()))
                .hint("look at it, and remove it; --force moves it aside"));
        }
        self.touched.push(path.to_owned());
        self.preview.folder(path, true);
        if self.check {
            return Ok(());
        }
        if !self.folders.iter().any(|folder| folder.path == path) {
            self.folders.push(TouchedFolder { path: path.to_owned(), before: None });
            self.note_intent()?;
        }
        let kept = dir_entry::make_folder_over(path, mode).during("make", path.display())?;
        for aside in kept {
            self.remarks.push(format!(
                "what user {uid} had in {} is in {} now",
                path.display(),
                aside.display()
            ));
            self.undo.push(Undo::MoveBack(path.to_owned(), aside));
        }
        self.undo.push(Undo::RemoveFolder(path.to_owned()));
        fs::restore_labels(&[path]);
        Ok(())
    }

    /// The same for a folder that may be in a user's own: he removes there what he likes.
    pub(crate) fn folder_like_parent(&mut self, path: &Path, mode: u32) -> Result<(), Failure> {
        self.folder_by(path, mode, dir_entry::make_folder_like_parent)
    }

    /// A file with those bytes and that mode. One that is not ours is replaced only with `force`.
    pub(crate) fn file(&mut self, path: &Path, bytes: &[u8], mode: u32, force: bool) -> Result<(), Failure> {
        let sha256 = fs::sha256(bytes);
        let of_old = self.old.as_ref().and_then(|old| old.files.get(path)).cloned();
        let mut before = of_old.as_ref().and_then(|file| file.before.clone());
        let mut is_same = false;
        let mut now = None;
        match Attributes::of(path)? {
            None => self.undo.push(Undo::RemoveFile(path.to_owned())),
            Some(attributes) => {
                let found = of_one_name(path)?;
                is_same = found == bytes && attributes.mode == mode;
                let found_digest = fs::sha256(&found);
                let is_ours = of_old.as_ref().is_some_and(|file| file.sha256.as_ref() == Some(&found_digest))
                    || of_old.is_none() && is_left_behind(path, &found, &self.lib_root);
                if !is_same && !is_ours {
                    if !force {
                        let whose = if of_old.is_some() {
                            "was changed by somebody"
                        } else {
                            "is there and is not ours"
                        };
                        return Err(Failure::new(format!("{} {whose}", path.display()))
                            .hint("look at it, then use --force"));
                    }
                    if of_old.is_none() {
                        before = Some(self.keep(attributes.clone(), &found)?);
                    }
                }
                if !is_same {
                    now = Some(found.clone());
                    self.undo.push(Undo::Rewrite(path.to_owned(), found, attributes));
                }
            }
        }
        self.files.insert(path.to_owned(), TouchedFile { sha256: Some(sha256), mode, before });
        if is_same {
            return Ok(());
        }
        self.touched.push(path.to_owned());
        self.preview.file(path, now.as_deref(), Some(bytes));
        if self.check {
            return Ok(());
        }
        self.note_intent()?;
        fs::write_whole(path, bytes, mode)?;
        fs::restore_labels(&[path]);
        Ok(())
    }

    /// Keeps what is about to be replaced, beside the receipt.
    fn keep(&mut self, attributes: Attributes, bytes: &[u8]) -> Result<Replaced, Failure> {
        let lib_root = PathBuf::from(&self.lib_root);
        if self.check {
            return Ok(Replaced { attributes, sha256: fs::sha256(bytes) });
        }
        self.folder(&Replaced::folder(&lib_root), 0o700)?;
        let replaced = Replaced::keep(&lib_root, attributes, bytes)?;
        self.undo.push(Undo::RemoveFile(replaced.place(&lib_root)));
        Ok(replaced)
    }

    /// A file that Python derives from one of ours.
    pub(crate) fn derived(
        &mut self,
        path: &Path,
        stale: bool,
        make: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.files.insert(path.to_owned(), TouchedFile { sha256: None, mode: 0o644, before: None });
        if stale || !path.exists() {
            self.touched.push(path.to_owned());
            if self.check {
                return Ok(());
            }
            if !path.exists() {
                self.undo.push(Undo::RemoveFile(path.to_owned()));
            }
            self.note_intent()?;
            make()?;
        }
        Ok(())
    }

    /// Whether a tree of ours is there, as it was made.
    pub(crate) fn has_tree(&mut self, path: &Path) -> Result<bool, Failure> {
        let Some(wanted) = self.old.as_ref().and_then(|old| old.trees.get(path)) else {
            return Ok(self.trees.contains_key(path));
        };
        let intact = path.is_dir() && tree_digest(path)? == *wanted;
        if intact {
            self.trees.insert(path.to_owned(), wanted.clone());
        }
        Ok(intact)
    }

    /// Moves a tree out of the way; it comes back where this install fails.
    fn move_aside(&mut self, path: &Path) -> Result<(), Failure> {
        let aside = Path::new(&self.lib_root).join(format!(".aside-{}", facts::random_word()?));
        fs_err::rename(path, &aside)?;
        self.undo.push(Undo::MoveBack(path.to_owned(), aside.clone()));
        self.aside.push(aside);
        Ok(())
    }

    /// A tree of ours, made anew by `make`; what stands there now is kept until all is done.
    pub(crate) fn tree(
        &mut self,
        path: &Path,
        make: impl FnOnce(&Path) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        // No digest is that of a tree which is only meant to be.
        self.trees.insert(path.to_owned(), String::new());
        self.touched.push(path.to_owned());
        self.preview.folder(path, true);
        if self.check {
            return Ok(());
        }
        self.note_intent()?;
        if path.exists() {
            self.move_aside(path)?;
        }
        self.undo.push(Undo::RemoveTree(path.to_owned()));
        make(path)?;
        fs::restore_labels(&[path]);
        self.trees.insert(path.to_owned(), tree_digest(path)?);
        Ok(())
    }

    /// Files and trees of an earlier install that this one has no use for.
    pub(crate) fn remove_what_is_no_longer_wanted(&mut self) -> Result<(), Failure> {
        let Some(old) = self.old.clone() else { return Ok(()) };
        for (path, file) in &old.files {
            if self.files.contains_key(path) {
                continue;
            }
            if let Some(attributes) = Attributes::of(path)? {
                let bytes = of_one_name(path)?;
                self.touched.push(path.clone());
                let lib_root = Path::new(&self.lib_root);
                let before = file.before.as_ref().map(|one| one.bytes(lib_root)).transpose()?;
                self.preview.file(path, Some(&bytes), before.as_deref());
                if !self.check {
                    self.undo.push(Undo::Rewrite(path.clone(), bytes, attributes));
                    undo_file(path, file, lib_root)?;
                }
            }
        }
        for path in old.trees.keys() {
            if !self.trees.contains_key(path) && path.exists() {
                self.touched.push(path.clone());
                self.preview.folder(path, false);
                if !self.check {
                    self.move_aside(path)?;
                }
            }
        }
        Ok(())
    }

    /// All is in place and proven: what was kept in case it were not can go.
    pub(crate) fn finish(&mut self) {
        for path in std::mem::take(&mut self.aside) {
            let _ = fs_err::remove_dir_all(path);
        }
        self.undo.clear();
    }

    pub(crate) fn receipt(&self, config: Config, format: u32) -> Receipt {
        let unchanged_since =
            self.old.as_ref().filter(|old| old.is_whole() && old.config == config && self.touched.is_empty());
        Receipt {
            format,
            complete: true,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            installed_at: unchanged_since.map_or_else(facts::now, |old| old.installed_at),
            config,
            folders: self.folders.clone(),
            files: self.files.clone(),
            trees: self.trees.clone(),
            uninstalled: false,
            baked: self.bake,
            fleet: self.fleet.clone(),
        }
    }

    /// Undoes everything, last change first; the first thing that could not be undone comes back.
    pub(crate) fn roll_back(&mut self) -> Option<String> {
        let mut trouble = None;
        if let Some(old) = &self.old {
            trouble = old.save(&self.lib_root).err().map(|failure| failure.msg);
        }
        for step in std::mem::take(&mut self.undo).into_iter().rev() {
            if self.is_others_by_now(&step) {
                continue;
            }
            let result: Result<(), Failure> = match &step {
                Undo::RemoveFile(path) => gone(dir_entry::remove_file(path), path),
                Undo::RemoveFolder(path) => gone(dir_entry::remove_folder(path), path),
                Undo::RemoveTree(path) => gone(std::fs::remove_dir_all(path), path),
                Undo::MoveBack(path, aside) => fs_err::rename(aside, path).map_err(Failure::from),
                Undo::Rewrite(path, bytes, attributes) => fs::write_back(path, bytes, attributes),
                Undo::PutBack(path, attributes) => attributes.put_back(path),
            };
            if let Err(failure) = result {
                trouble.get_or_insert(failure.msg);
            }
        }
        trouble
    }

    /// Whether a step would take the data folder from others who came meanwhile: what is to become of it is theirs to do,
    /// the last of them.
    fn is_others_by_now(&self, step: &Undo) -> bool {
        let root = &self.config.data_root;
        let (Undo::RemoveFolder(path) | Undo::PutBack(path, _)) = step else { return false };
        if !path.starts_with(root) || sharing::others(root, &self.config.install).is_empty() {
            return false;
        }
        if path == root {
            let _ = sharing::hand_over(root, &self.config.install, &self.folders);
        }
        true
    }
}

/// Whether a file is the gate of an install that was cut off or led astray: of this place, or of one that no receipt tells
/// of. Another install's is its own.
fn is_left_behind(path: &Path, bytes: &[u8], lib_root: &str) -> bool {
    hook::folder_of_gate(path, bytes).is_some_and(|folder| {
        let has_receipt = |place: &Path| place.to_str().is_some_and(|place| receipt::path_in(place).exists());
        folder.starts_with(lib_root) || !folder.ancestors().skip(1).any(has_receipt)
    })
}

/// What a file holds that stands where one of ours goes. Another name of a file that its owner may not read would show
/// it to him.
fn of_one_name(path: &Path) -> Result<Vec<u8>, Failure> {
    let place = DirEntry::of(path).during("read", path.display())?;
    let at = place.path();
    let found = std::fs::symlink_metadata(&at).during("look at", path.display())?;
    if found.is_file() && found.nlink() > 1 {
        return Err(Failure::new(format!("{} has several names (hard links)", path.display()))
            .hint("look at it, and remove it"));
    }
    fs::read_limited(&at, MAX_REPLACED).map_err(|failure| {
        let msg = failure.msg.replace(&*at.to_string_lossy(), &path.to_string_lossy());
        Failure { msg, ..failure }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn changes(lib_root: &Path, data_root: &Path, install: &str) -> Changes {
        let profile = serde_json::json!({"name": "shop", "packages": ["shop"]});
        let args = serde_json::json!({"lib_root": lib_root, "profile": profile});
        let config = serde_json::json!({
            "profile": profile, "data_root": data_root, "host_label": null, "install": install, "interpreters": [],
            "packages": [],
        });
        let args: Install = serde_json::from_value(args).expect("an install");
        Changes::new(&args, serde_json::from_value(config).expect("what is installed"), None)
    }

    /// Who fails leaves the folder to those who came meanwhile, as it was for them.
    #[test]
    fn a_failed_install_takes_no_folder_from_others() {
        let place = tempfile::tempdir().expect("a folder");
        let root = place.path().join("data");
        std::fs::create_dir(&root).expect("a folder");
        let mode = || std::fs::metadata(&root).expect("it is there").permissions().mode() & 0o7777;
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).expect("its own");
        let begun = |install: &str| {
            let mut changes = changes(&place.path().join("lib"), &root, install);
            changes.folder(&root, 0o1777).expect("its mode is set");
            changes.folder(&root.join(".pulpcov"), 0o1777).expect("it is made");
            changes
        };
        let mut alone = begun("a");
        assert_eq!((alone.roll_back(), mode()), (None, 0o755));
        let mut failing = begun("a");
        let mut other = changes(&place.path().join("other"), &root, "b");
        let mark = sharing::mark(other.config());
        let text = br#"{"hostname": "other", "lib_root": "/elsewhere/lib"}"#;
        other.file(&mark, text, 0o644, false).expect("written");
        assert_eq!((failing.roll_back(), mode()), (None, 0o1777));
        // What is to become of it is the last one's to do.
        std::fs::remove_file(&mark).expect("removed");
        let handed = sharing::handed_over(&root);
        sharing::undo(&handed);
        assert_eq!(mode(), 0o755);
    }
}
