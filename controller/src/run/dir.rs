//! A run directory: the tarballs as pulled, and who was asked. It is all that a report needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::output::file::write_whole;

/// Version of `run.json`.
const FORMAT: u32 = 1;

const RUN_FILE: &str = "run.json";

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunDirError {
    #[error("cannot make a run directory")]
    Make(#[source] std::io::Error),
    #[error("cannot read a run directory")]
    Read(#[source] std::io::Error),
    #[error("{path} is damaged: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("{path} has format {found}, this pulpcov reads {FORMAT}")]
    Format { path: PathBuf, found: u32 },
}

/// Who was asked, and how it went the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunFile {
    format: u32,
    pub(crate) pulpcov: String,
    pub(crate) created: String,
    /// Host to what is wrong with it; nothing where its data is here.
    pub(crate) hosts: BTreeMap<String, Option<String>>,
    /// Groups of the inventory to their hosts; `all` and `ungrouped` say nothing and are left out.
    #[serde(default)]
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    pub(crate) path: PathBuf,
}

impl RunDir {
    /// The run directory at `path`: made where there is none, added to where there is one.
    pub(crate) fn at(path: &Path) -> Result<Self, RunDirError> {
        let run = Self { path: path.to_owned() };
        fs_err::create_dir_all(path.join("hosts")).map_err(RunDirError::Make)?;
        let _lock = run.lock()?;
        if !path.join(RUN_FILE).exists() {
            let file = RunFile {
                format: FORMAT,
                pulpcov: env!("CARGO_PKG_VERSION").to_owned(),
                created: jiff::Timestamp::now().to_string(),
                ..RunFile::default()
            };
            run.write_file(&file)?;
        }
        Ok(run)
    }

    /// A new run directory below `runs/`.
    pub(crate) fn new_in(runs: &Path) -> Result<Self, RunDirError> {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
        fs_err::create_dir_all(runs).map_err(RunDirError::Make)?;
        let mut name = now.clone();
        let mut n = 1;
        // Whoever makes the folder has it: another collect may begin in the same second.
        while let Err(error) = fs_err::create_dir(runs.join(&name)) {
            if error.kind() != std::io::ErrorKind::AlreadyExists {
                return Err(RunDirError::Make(error));
            }
            n += 1;
            name = format!("{now}-{n}");
        }
        Self::at(&runs.join(&name))
    }

    /// Held while the run's file is read, changed and written: several collects may go into one run.
    fn lock(&self) -> Result<std::fs::File, RunDirError> {
        let folder = fs_err::File::open(&self.path).map_err(RunDirError::Make)?.into_file();
        folder.lock().map_err(RunDirError::Make)?;
        Ok(folder)
    }

    /// Points `latest`, beside it, at this run: it brought something.
    pub(crate) fn becomes_latest(&self) {
        let (Some(runs), Some(name)) = (self.path.parent(), self.path.file_name()) else { return };
        let link = runs.join(".latest.new");
        let _ = std::fs::remove_file(&link);
        // A runs/latest that somebody made a real folder of stays; it is a convenience.
        let _ = std::os::unix::fs::symlink(name, &link)
            .and_then(|()| std::fs::rename(&link, runs.join("latest")));
    }

    pub(crate) fn is_one(path: &Path) -> bool {
        path.join(RUN_FILE).is_file()
    }

    /// The folder of a host's bundles. Host names are plain file names: the inventory saw to it.
    pub(crate) fn host_folder(&self, host: &str) -> Result<PathBuf, RunDirError> {
        let folder = self.path.join("hosts").join(host);
        fs_err::create_dir_all(&folder).map_err(RunDirError::Make)?;
        Ok(folder)
    }

    pub(crate) fn read_file(&self) -> Result<RunFile, RunDirError> {
        let path = self.path.join(RUN_FILE);
        let text = fs_err::read(&path).map_err(RunDirError::Read)?;
        let file: RunFile = serde_json::from_slice(&text)
            .map_err(|error| RunDirError::Damaged { path: path.clone(), reason: error.to_string() })?;
        if file.format != FORMAT {
            return Err(RunDirError::Format { path, found: file.format });
        }
        Ok(file)
    }

    /// Notes how hosts went; hosts of earlier collects into this run stay noted.
    pub(crate) fn note(
        &self,
        hosts: BTreeMap<String, Option<String>>,
        groups: BTreeMap<String, BTreeSet<String>>,
    ) -> Result<(), RunDirError> {
        let _lock = self.lock()?;
        let mut file = self.read_file()?;
        // Who was asked again is in the groups that the inventory has now.
        for members in file.groups.values_mut() {
            members.retain(|host| !hosts.contains_key(host));
        }
        for (group, members) in groups {
            file.groups.entry(group).or_default().extend(members);
        }
        file.hosts.extend(hosts);
        self.write_file(&file)
    }

    fn write_file(&self, file: &RunFile) -> Result<(), RunDirError> {
        let text = serde_json::to_vec_pretty(file).map_err(|error| RunDirError::Make(error.into()))?;
        write_whole(&self.path.join(RUN_FILE), &text).map_err(RunDirError::Make)
    }

    /// Every bundle, in the order of hosts and numbers.
    pub(crate) fn bundles(&self) -> Result<Vec<PathBuf>, RunDirError> {
        let mut bundles = Vec::new();
        for host in fs_err::read_dir(self.path.join("hosts")).map_err(RunDirError::Read)? {
            let host = host.map_err(RunDirError::Read)?;
            if host.path().is_dir() {
                bundles.extend(bundles_in(&host.path()).map_err(RunDirError::Read)?);
            } else if host.path().is_symlink() {
                // To where an archive was: it cannot be read, and whoever reads it says so.
                bundles.push(host.path());
            }
        }
        bundles.sort();
        Ok(bundles)
    }
}

/// The bundles of one folder, by their names: one that is no file, or a link that leads nowhere, is read as a damaged
/// one.
pub(crate) fn bundles_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut bundles = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".tar.gz") && !name.starts_with('.') && !path.is_dir() {
            bundles.push(path.clone());
        }
    }
    bundles.sort();
    Ok(bundles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_second_have_folders_of_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let runs: BTreeSet<PathBuf> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| RunDir::new_in(&folder.path().join("runs")).expect("made").path))
                .collect();
            workers.into_iter().map(|worker| worker.join().expect("ends")).collect()
        });
        assert_eq!(runs.len(), 8, "{runs:?}");
    }

    #[test]
    fn collects_into_one_run_at_once_lose_no_host() {
        let folder = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let path = folder.path().join("run");
                scope.spawn(move || {
                    let run = RunDir::at(&path).expect("made");
                    for i in 0..10 {
                        let host = format!("h{worker}-{i}");
                        run.note(BTreeMap::from([(host, None)]), BTreeMap::new()).expect("noted");
                    }
                });
            }
        });
        let run = RunDir { path: folder.path().join("run") };
        assert_eq!(run.read_file().expect("there").hosts.len(), 40);
    }
}
