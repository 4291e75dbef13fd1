//! The users that the service runs as, by what root and the kernel say: what others leave in the data directory is
//! not the service's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use pulpcov_protocol::profile::Profile;

use crate::failure::Failure;
use crate::host::facts::User;
use crate::host::{fs, systemd};
use crate::receipt::Config;
use crate::recorder::data_dir::LEDGER;

/// Root's note beside the records.
const FILE: &str = "users";

/// Largest note: a handful of numbers.
const MAX_NOTE: u64 = 64 * 1024;

/// Those that are known; nobody is a stranger where neither units nor the inventory say who the service is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Users(Option<BTreeSet<u32>>);

/// Those that this process found, by data directory: where they could not be noted, they are the service's all the
/// same.
static FOUND: Mutex<BTreeMap<PathBuf, BTreeSet<u32>>> = Mutex::new(BTreeMap::new());

impl Users {
    /// Those that were noted for a data directory, or found since.
    pub(crate) fn known(data_root: &Path) -> Self {
        let mut known = Self::noted(data_root);
        let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = found.get(data_root) {
            known.0.get_or_insert_default().extend(found);
        }
        known
    }

    fn noted(data_root: &Path) -> Self {
        let path = data_root.join(LEDGER).join(FILE);
        let me = rustix::process::geteuid().as_raw();
        let owner = fs::Attributes::of(&path).ok().flatten().map(|found| found.uid);
        if owner.is_none_or(|owner| owner != me && owner != 0) {
            return Self::default();
        }
        let noted = fs::read_limited(&path, MAX_NOTE).ok();
        Self(noted.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Those that the units run as now, besides those that they ran as before: what these left may still lie there.
    pub(crate) fn now(data_root: &Path, profile: &Profile) -> Self {
        let mut all = Self::known(data_root).0.unwrap_or_default();
        all.extend(of_service(profile));
        Self((!all.is_empty()).then_some(all))
    }

    /// Notes them. A unit may run as somebody else since, or its processes become another user: it is for whoever is
    /// going to judge records to note them first.
    pub(crate) fn note(data_root: &Path, profile: &Profile) -> Result<(), Failure> {
        let now = Self::now(data_root, profile);
        let Some(users) = &now.0 else { return Ok(()) };
        let found = || FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        found().insert(data_root.to_owned(), users.clone());
        if !data_root.join(LEDGER).is_dir() || now == Self::noted(data_root) {
            return Ok(());
        }
        let text = serde_json::json!(now.0).to_string();
        fs::write_among_others(&data_root.join(LEDGER).join(FILE), text.as_bytes(), 0o644)
    }

    /// The same where it may fail: on a full disk those that were known are.
    pub(crate) fn note_if_possible(config: &Config) {
        let _ = Self::note(&config.data_root, &config.profile);
    }

    /// Those that are known.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flatten().copied()
    }

    /// Whether a file of this user can be the service's: root's is, and so is that of whoever runs the agent.
    pub(crate) fn is_service(&self, uid: u32) -> bool {
        let Some(known) = &self.0 else { return true };
        uid == 0 || uid == rustix::process::geteuid().as_raw() || known.contains(&uid)
    }
}

/// Users of the units' processes, those that they will start as, and those that are named.
pub(crate) fn of_service(profile: &Profile) -> BTreeSet<u32> {
    let mut users: BTreeSet<u32> = profile.users.iter().filter_map(|name| number_of(name)).collect();
    if !systemd::is_here() {
        return users;
    }
    let units = systemd::units(&profile.units, &["User", "UID", "ControlGroup"]).unwrap_or_default();
    let names: BTreeSet<&str> = units.iter().map(|unit| unit.property("User")).collect();
    users
        .extend(names.into_iter().filter_map(|name| if name.is_empty() { Some(0) } else { number_of(name) }));
    for unit in &units {
        users.extend(unit.property("UID").parse::<u32>().ok().filter(|uid| *uid != u32::MAX));
        users.extend(unit.pids().into_iter().filter_map(User::of).map(|user| user.uid));
    }
    users
}

/// Users that are named and that the host does not know, as a warning: nothing of theirs is the service's here.
pub(crate) fn unknown(profile: &Profile) -> Option<String> {
    let unknown: Vec<&str> =
        profile.users.iter().filter(|name| number_of(name).is_none()).map(String::as_str).collect();
    (!unknown.is_empty())
        .then(|| format!("pulpcov_users names whom this host does not know: {}", unknown.join(", ")))
}

/// The number of a user, wherever the host knows it from.
fn number_of(name: &str) -> Option<u32> {
    let of_host = || {
        let output = Command::new("id").args(["-u", "--", name]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    name.parse().ok().or_else(of_host)
}
