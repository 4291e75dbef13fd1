//! How the hosts of an inventory ended the last time, kept on disk for `--rerun failed`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pulpcov_protocol::text::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::output::event::HostResult;
use crate::output::stored_path::StoredPath;

/// Version of the file.
const FORMAT: u32 = 1;

/// Largest such file: a million hosts.
const MAX_FILE: u64 = 64 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LastRun {
    format: u32,
    pub(crate) command: String,
    pub(crate) inventory: Vec<StoredPath>,
    pub(crate) ended: String,
    /// Where a collect has put what it brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<StoredPath>,
    pub(crate) hosts: BTreeMap<String, HostResult>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LastRunError {
    #[error("there is no folder for the state of runs: neither XDG_STATE_HOME nor HOME is set")]
    NoPlace,
    #[error("nothing is known of an earlier {command} of this inventory")]
    None { command: String },
    #[error("cannot read the state of the last run")]
    Read(#[source] std::io::Error),
    #[error("cannot keep the state of this run")]
    Write(#[source] std::io::Error),
    #[error("{path} is damaged")]
    Damaged { path: PathBuf },
}

/// Where the last run of one command on one inventory is kept.
#[derive(Debug, Clone)]
pub(crate) struct LastRunFile {
    path: PathBuf,
    command: String,
    inventory: Vec<PathBuf>,
}

impl LastRunFile {
    /// Below `folder`, or the user's own folder for such things.
    pub(crate) fn of(
        folder: Option<&Path>,
        command: &str,
        inventory: &[PathBuf],
    ) -> Result<Self, LastRunError> {
        Ok(Self::below(&state_folder(folder)?, command, inventory))
    }

    fn below(state: &Path, command: &str, inventory: &[PathBuf]) -> Self {
        let (name, inventory) = file_name(command, inventory);
        Self { path: state.join(name), command: command.to_owned(), inventory }
    }

    pub(crate) fn load(&self) -> Result<LastRun, LastRunError> {
        let damaged = || LastRunError::Damaged { path: self.path.clone() };
        match std::fs::metadata(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(LastRunError::None { command: self.command.clone() });
            }
            Ok(found) if found.len() > MAX_FILE => return Err(damaged()),
            _ => {}
        }
        let text = fs_err::read(&self.path).map_err(LastRunError::Read)?;
        serde_json::from_slice(&text).ok().filter(|run: &LastRun| run.format == FORMAT).ok_or_else(damaged)
    }

    /// Keeps how hosts ended; of a part of the hosts, those that were not asked stay as they were.
    pub(crate) fn keep(
        &self,
        hosts: BTreeMap<String, HostResult>,
        partial: bool,
        run: Option<PathBuf>,
    ) -> Result<(), LastRunError> {
        // Another command may be adding its hosts just now.
        let _lock = lock_beside(&self.path).map_err(LastRunError::Write)?;
        let earlier = if partial { self.load().ok() } else { None };
        let mut all = earlier.map(|run| run.hosts).unwrap_or_default();
        all.extend(hosts);
        let run = LastRun {
            format: FORMAT,
            command: self.command.clone(),
            inventory: self.inventory.iter().cloned().map(StoredPath).collect(),
            ended: jiff::Timestamp::now().to_string(),
            run: run.map(StoredPath),
            hosts: all,
        };
        let text = serde_json::to_vec_pretty(&run).map_err(|error| LastRunError::Write(error.into()))?;
        crate::output::file::write_whole(&self.path, &text).map_err(LastRunError::Write)
    }
}

/// Where states of runs are kept: the folder that a person names, or the user's own for such things.
pub(crate) fn state_folder(named: Option<&Path>) -> Result<PathBuf, LastRunError> {
    if let Some(folder) = named {
        return Ok(folder.to_owned());
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    Ok(state.or_else(home).ok_or(LastRunError::NoPlace)?.join("pulpcov"))
}

/// Makes the folder of a state, and keeps other commands off what is in it.
pub(crate) fn lock_beside(path: &Path) -> std::io::Result<std::fs::File> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let folder = fs_err::File::open(folder)?.into_file();
    folder.lock()?;
    Ok(folder)
}

/// The name of a state about an inventory, and the inventory's sources by their real paths.
pub(crate) fn file_name(prefix: &str, inventory: &[PathBuf]) -> (String, Vec<PathBuf>) {
    // A list of hosts is no path; it stays as it is.
    let inventory: Vec<PathBuf> =
        inventory.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
    let mut digest = Sha256::new();
    for path in &inventory {
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update([0]);
    }
    let digest = hex(digest.finalize());
    (format!("{prefix}-{}.json", digest.get(..16).unwrap_or(&digest)), inventory)
}

impl LastRun {
    /// Whether a host is to be asked again.
    pub(crate) fn failed(&self, host: &str) -> bool {
        self.hosts.get(host).is_some_and(|verdict| verdict.is_bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rerun_changes_only_what_it_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = LastRunFile::below(folder.path(), "install", &["hosts.yml".into()]);
        assert!(matches!(place.load(), Err(LastRunError::None { .. })));
        let hosts =
            |all: &[(&str, HostResult)]| all.iter().map(|(name, end)| ((*name).to_owned(), *end)).collect();
        place
            .keep(
                hosts(&[("a", HostResult::Ok), ("b", HostResult::Failed), ("c", HostResult::Unreachable)]),
                false,
                None,
            )
            .expect("kept");
        place
            .keep(hosts(&[("b", HostResult::Changed), ("c", HostResult::NotStarted)]), true, None)
            .expect("kept");
        let run = place.load().expect("there");
        assert_eq!(["a", "b", "c"].map(|host| run.failed(host)), [false, false, true]);
        place.keep(hosts(&[("a", HostResult::Ok)]), false, None).expect("kept");
        assert!(!place.load().expect("there").hosts.contains_key("c"));
        // Another command or another inventory is another run.
        assert!(LastRunFile::below(folder.path(), "collect", &["hosts.yml".into()]).load().is_err());
        assert!(LastRunFile::below(folder.path(), "install", &["other.yml".into()]).load().is_err());
        std::fs::write(&place.path, "{").expect("written");
        assert!(matches!(place.load(), Err(LastRunError::Damaged { .. })));
    }
}
