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

/// How the name of a note beside the records begins. Each install has its own: several may share the folder, and who is a
/// stranger to one host is the service of another.
const NOTE: &str = "users.";

/// Largest note: a handful of numbers.
const MAX_NOTE: u64 = 64 * 1024;

/// Those that are known; nobody is a stranger where neither units nor the inventory say who the service is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Users(Option<BTreeSet<u32>>);

/// Those that this process found, by data directory: where they could not be noted, they are the service's all the
/// same.
static FOUND: Mutex<BTreeMap<PathBuf, Users>> = Mutex::new(BTreeMap::new());

impl Users {
    /// Those that were noted for a data directory by every install that uses it, or found since.
    pub(crate) fn known(data_root: &Path) -> Self {
        let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner).get(data_root).cloned();
        let notes = noted(data_root).into_values();
        notes.chain(found).reduce(Self::and).unwrap_or_default()
    }

    /// Those of both; nobody is a stranger to one of whom either knows nothing.
    fn and(self, other: Self) -> Self {
        Self(self.0.zip(other.0).map(|(one, other)| &one | &other))
    }

    /// Those that the units run as now, besides those that they ran as before: what these left may still lie there. Those
    /// of other installs are not among them.
    fn own(config: &Config) -> Self {
        let mut all =
            noted(&config.data_root).remove(&config.install).and_then(|users| users.0).unwrap_or_default();
        all.extend(of_service(&config.profile));
        Self((!all.is_empty()).then_some(all))
    }

    /// The same with those of other installs.
    pub(crate) fn now(config: &Config) -> Self {
        let mut notes = noted(&config.data_root);
        notes.insert(config.install.clone(), Self::own(config));
        notes.into_values().reduce(Self::and).unwrap_or_default()
    }

    /// Notes them. A unit may run as somebody else since, or its processes become another user: it is for whoever is
    /// going to judge records to note them first.
    pub(crate) fn note(config: &Config) -> Result<(), Failure> {
        let own = Self::own(config);
        let ledger = config.data_root.join(LEDGER);
        FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(config.data_root.clone(), own.clone());
        if !ledger.is_dir() || noted(&config.data_root).get(&config.install) == Some(&own) {
            return Ok(());
        }
        let text = serde_json::json!(own.0).to_string();
        fs::write_among_others(&ledger.join(format!("{NOTE}{}", config.install)), text.as_bytes(), 0o644)
    }

    /// The same where it may fail: on a full disk those that were known are.
    pub(crate) fn note_if_possible(config: &Config) {
        let _ = Self::note(config);
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

/// What each install has noted, by its word. Only root's and our own notes count.
fn noted(data_root: &Path) -> BTreeMap<String, Users> {
    let ledger = data_root.join(LEDGER);
    let read = |name: String| {
        let install = name.strip_prefix(NOTE)?.to_owned();
        let bytes = fs::read_of_agents(&ledger.join(&name), MAX_NOTE)?;
        Some((install, Users(serde_json::from_slice(&bytes).ok()?)))
    };
    let names = std::fs::read_dir(&ledger).into_iter().flatten().flatten();
    names.filter_map(|entry| read(entry.file_name().into_string().ok()?)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_a_stranger_to_one_install_may_be_the_service_of_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = folder.path().join(LEDGER);
        std::fs::create_dir(&ledger).expect("a folder");
        let note = |install: &str, text: &str| {
            std::fs::write(ledger.join(format!("{NOTE}{install}")), text).expect("written");
        };
        let known = || Users::known(folder.path());
        assert!(known().is_service(33), "nobody has said anything");
        note("a", "[33]");
        assert!(known().is_service(33) && !known().is_service(1002));
        note("b", "[700]");
        assert!(known().is_service(33) && known().is_service(700) && !known().is_service(1002));
        // One that names nobody takes nobody for a stranger.
        note("c", "null");
        assert!(known().is_service(1002));
    }
}
