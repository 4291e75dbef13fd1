//! The receipt: every path that install touched, and how it was before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pulpcov_protocol::fleet::{Fleet, Relation};
use pulpcov_protocol::outcome::Interpreter;
use pulpcov_protocol::profile::{Profile, RecorderChoice};
use pulpcov_protocol::version::RECEIPT_FORMAT;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::host::fs::{self, Attributes};
use crate::host::interpreter;

/// Folder below the lib root with what `--force` replaced, by digest.
const REPLACED: &str = "replaced";

/// Largest receipt, written or read: it has a few kilobytes.
const MAX_RECEIPT: u64 = 8 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) format: u32,
    /// False while an install is under way: then it tells what is meant to be, done or not.
    pub(crate) complete: bool,
    pub(crate) agent: String,
    pub(crate) installed_at: f64,
    pub(crate) config: Config,
    /// In the order in which they were made; undone backwards.
    pub(crate) folders: Vec<TouchedFolder>,
    pub(crate) files: BTreeMap<PathBuf, TouchedFile>,
    /// Whole folders of ours, by the digest of what is in them.
    pub(crate) trees: BTreeMap<PathBuf, String>,
    /// True from an uninstall on that has left data which nobody has collected: what is listed here is what it takes
    /// to collect it, and goes with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) uninstalled: bool,
    /// It came with an image or a volume: nothing of it is this host's to change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) baked: bool,
    /// Who installed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fleet: Option<Fleet>,
}

/// What was installed: later ops act on it without being told again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) profile: Profile,
    pub(crate) data_root: PathBuf,
    pub(crate) host_label: Option<String>,
    /// A word that tells this install from all others: processes say which one their hook is from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) install: String,
    /// It lies on a volume, which other containers may have as well: then it says nothing of where a process is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) shared: bool,
    pub(crate) interpreters: Vec<Interpreter>,
    /// Packages of the profile and of its entry points.
    pub(crate) packages: Vec<String>,
    /// Interpreters, by path, whose live map was not proven, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) without_live_map: BTreeMap<String, String>,
}

impl Config {
    /// Whether an interpreter records into a live map.
    pub(crate) fn has_live_map(&self, python: &Interpreter) -> bool {
        self.profile.recorder != RecorderChoice::Coverage
            && interpreter::has_monitoring(python)
            && !self.without_live_map.contains_key(&python.path)
    }

    /// The image that the service's Pythons and sources are in, where it runs in containers of this host.
    pub(crate) fn image(&self) -> Option<&str> {
        self.interpreters.iter().find_map(|python| python.image.as_deref())
    }

    /// Whether there is one.
    pub(crate) fn is_contained(&self) -> bool {
        self.image().is_some()
    }

    /// The install's word, where it is of one host or container alone; else nothing.
    pub(crate) fn own_install(&self) -> &str {
        if self.shared { "" } else { &self.install }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TouchedFolder {
    pub(crate) path: PathBuf,
    /// `None`: install made it.
    pub(crate) before: Option<Attributes>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TouchedFile {
    /// What install wrote; `None` for byte code, which Python may write again at any time.
    pub(crate) sha256: Option<String>,
    pub(crate) mode: u32,
    /// What was there, where `--force` replaced something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<Replaced>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replaced {
    pub(crate) attributes: Attributes,
    /// Its bytes lie beside the receipt, under this name.
    pub(crate) sha256: String,
}

impl Replaced {
    /// Keeps the bytes of a file that is about to be replaced.
    pub(crate) fn keep(lib_root: &Path, attributes: Attributes, bytes: &[u8]) -> Result<Self, Failure> {
        let replaced = Self { attributes, sha256: fs::sha256(bytes) };
        fs::write_whole(&replaced.place(lib_root), bytes, 0o600)?;
        Ok(replaced)
    }

    pub(crate) fn folder(lib_root: &Path) -> PathBuf {
        lib_root.join(REPLACED)
    }

    pub(crate) fn place(&self, lib_root: &Path) -> PathBuf {
        Self::folder(lib_root).join(&self.sha256)
    }

    /// What was kept, if it still is what it was.
    pub(crate) fn bytes(&self, lib_root: &Path) -> Result<Vec<u8>, Failure> {
        let place = self.place(lib_root);
        let bytes = fs::read_limited(&place, MAX_REPLACED)?;
        if fs::sha256(&bytes) == self.sha256 {
            return Ok(bytes);
        }
        Err(Failure::new(format!("{} is damaged: it was kept to be put back", place.display())))
    }
}

/// Largest file that is replaced and kept in case it has to come back: the agent's own program.
pub(crate) const MAX_REPLACED: u64 = 16 * 1024 * 1024;

pub(crate) fn path_in(lib_root: &str) -> PathBuf {
    Path::new(lib_root).join("receipt.json")
}

/// The receipt under `lib_root`; `None` where nothing is installed.
pub(crate) fn load(lib_root: &str) -> Result<Option<Receipt>, Failure> {
    let path = path_in(lib_root);
    if Attributes::of(&path)?.is_none() {
        return Ok(None);
    }
    let bytes = fs::read_limited(&path, MAX_RECEIPT)?;
    let receipt: Receipt = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(format!("{} is damaged: {error}", path.display()))
            .hint("pulpcov fleet uninstall takes away what it finds without it; then install again")
    })?;
    if receipt.format != RECEIPT_FORMAT {
        return Err(Failure::new(format!(
            "{} has format {}, this agent reads {RECEIPT_FORMAT}",
            path.display(),
            receipt.format
        ))
        .hint("use the pulpcov that installed it"));
    }
    Ok(Some(receipt))
}

/// Whether the receipt is no receipt of any version: cut, damaged, or larger than one can be.
pub(crate) fn is_unreadable(lib_root: &str) -> bool {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let known = fs::read_limited(&path_in(lib_root), MAX_RECEIPT)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Format>(&bytes).ok());
    known.is_none_or(|found| found.format == RECEIPT_FORMAT)
}

/// The receipt of what is installed, or the failure that an op gives where nothing is.
pub(crate) fn required(lib_root: &str) -> Result<Receipt, Failure> {
    load(lib_root)?.filter(|receipt| !receipt.uninstalled).ok_or_else(not_installed)
}

/// The same for ops on data, which an uninstall may have left.
pub(crate) fn of_data(lib_root: &str) -> Result<Receipt, Failure> {
    load(lib_root)?.ok_or_else(not_installed)
}

fn not_installed() -> Failure {
    Failure::new("pulpcov is not installed on this host").hint("run pulpcov fleet install first")
}

impl Receipt {
    pub(crate) fn save(&self, lib_root: &str) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::new(format!("cannot write the receipt: {error}")))?;
        if text.len() as u64 > MAX_RECEIPT {
            return Err(Failure::new(format!("the receipt would be larger than {MAX_RECEIPT} bytes")));
        }
        fs::write_whole(&path_in(lib_root), &text, 0o644)
    }

    /// Whether it tells of an install that came to its end.
    pub(crate) fn is_whole(&self) -> bool {
        self.complete && !self.uninstalled
    }

    /// Refuses whoever is of another fleet, by the name of this one.
    pub(crate) fn check_fleet(&self, asking: Option<&Fleet>) -> Result<(), Failure> {
        let Some(own) = &self.fleet else { return Ok(()) };
        let relation = match asking {
            Some(asking) => own.relation(asking),
            // Whoever does not say who asks has no name.
            None if own.name.is_some() => Relation::OtherName,
            None => Relation::Same,
        };
        let owner = own.title();
        match relation {
            Relation::Same => Ok(()),
            Relation::OtherInventory => Err(self.other_inventory(&owner)),
            Relation::OtherName => Err(Failure::new(format!("this host belongs to {owner}")).hint(
                "pulpcov_fleet in the inventory says which fleet this is; `install --take-over` makes the host this one's",
            )),
        }
    }

    /// The refusal of another inventory, by the first's name.
    fn other_inventory(&self, owner: &str) -> Failure {
        let recorded = &self.config.profile.name;
        if self.uninstalled {
            let root = self.config.data_root.display();
            return Failure::new(format!(
                "{root} holds data of {recorded} that {owner} has still to collect"
            ))
            .hint(
                "collect it from there, or with pulpcov_fleet_of naming it; or erase it: uninstall --erase-data \
                     --force; install --take-over has it mixed",
            );
        }
        Failure::new(format!(
            "this host records {recorded} for {owner}, and this is another inventory"
        ))
        .hint(
            "use that one; pulpcov_fleet_of names it in one that is a part or a copy of it. `install --take-over` makes \
                 the host this one's; `uninstall --force` frees it",
        )
    }

    /// Paths of ours that are gone.
    pub(crate) fn missing(&self) -> Vec<&Path> {
        let paths = self.files.iter().filter(|(_, file)| file.sha256.is_some()).map(|(path, _)| path);
        paths.chain(self.trees.keys()).map(PathBuf::as_path).filter(|path| !path.exists()).collect()
    }

    /// Paths of ours that no longer hold what install wrote.
    pub(crate) fn changed_since(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut changed = Vec::new();
        for (path, file) in &self.files {
            let Some(wanted) = file.sha256.as_ref().filter(|_| self.complete) else { continue };
            if matches!(Attributes::of(path), Ok(None)) {
                continue;
            }
            // What can no longer be looked at has been changed as well.
            let same = fs::read_limited(path, MAX_REPLACED).is_ok_and(|bytes| {
                let digest = fs::sha256(&bytes);
                // What it had replaced is there again: an uninstall was cut off.
                digest == *wanted || file.before.as_ref().is_some_and(|before| before.sha256 == digest)
            });
            if !same {
                changed.push(path.clone());
            }
        }
        for (path, wanted) in &self.trees {
            // A digest that was never taken is of a tree that a killed install left half made.
            if !wanted.is_empty() && path.exists() && tree_digest(path)? != *wanted {
                changed.push(path.clone());
            }
        }
        Ok(changed)
    }
}

/// Digest of the names and bytes below a folder; byte code does not count.
pub(crate) fn tree_digest(root: &Path) -> Result<String, Failure> {
    fn walk(root: &Path, folder: &Path, text: &mut String) -> Result<(), Failure> {
        let mut entries = fs_err::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs_err::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if path.file_name().is_some_and(|name| name != "__pycache__") {
                    walk(root, &path, text)?;
                }
                continue;
            }
            let digest = match fs::open_regular(&path)? {
                Some(mut regular) => fs::digest_of(&mut regular.file)?.0,
                None => "no regular file".to_owned(),
            };
            let name = path.strip_prefix(root).unwrap_or(&path);
            text.push_str(&format!("{digest} {}\n", name.display()));
        }
        Ok(())
    }
    let mut text = String::new();
    walk(root, root, &mut text)?;
    Ok(fs::sha256(text.as_bytes()))
}
