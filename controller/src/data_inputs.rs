//! Data files for `combine` and `report` without a fleet: found, read in parallel, combined.

use std::path::{Path, PathBuf};

use pulpcov_coverage::data::{CombineError, CoverageData};
use pulpcov_coverage::data_file::{self, ReadError};
use pulpcov_protocol::bundle::EntryPath;
use rayon::prelude::*;

use crate::bundle_store::{BundleError, read_bundle};
use crate::fleet_report;

#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot read {path}")]
    List { path: PathBuf, source: std::io::Error },
    #[error("{path} has no data files")]
    Nothing { path: PathBuf },
    #[error("{path}")]
    Read { path: PathBuf, source: ReadError },
    #[error("{path}")]
    Bundle { path: PathBuf, source: BundleError },
    #[error("{path}")]
    Mixed { path: PathBuf, source: CombineError },
    #[error(transparent)]
    Fleet(#[from] fleet_report::FleetReportError),
}

enum Input {
    DataFile(PathBuf),
    Bundle(PathBuf),
}

/// Combines everything that `paths` name: data files, folders of them, bundles, run directories.
/// All of it or nothing; the inputs stay as they are.
pub(crate) fn combine(paths: &[PathBuf], host_as_context: bool) -> Result<(CoverageData, usize), InputError> {
    let inputs = find(paths)?;
    let count = inputs.len();
    // Parallel over inputs, each worker folding into one set: memory follows the union, not the files.
    let combined = inputs
        .par_iter()
        .try_fold(CoverageData::default, |mut all, input| {
            let path = input.path();
            for data in read(input, host_as_context)? {
                all.merge(data).map_err(|source| InputError::Mixed { path: path.to_owned(), source })?;
            }
            Ok::<_, InputError>(all)
        })
        .try_reduce(CoverageData::default, |mut a, b| {
            let path = paths.first().cloned().unwrap_or_default();
            a.merge(b).map_err(|source| InputError::Mixed { path, source })?;
            Ok(a)
        })?;
    Ok((combined, count))
}

impl Input {
    fn path(&self) -> &Path {
        match self {
            Self::DataFile(path) | Self::Bundle(path) => path,
        }
    }
}

fn find(paths: &[PathBuf]) -> Result<Vec<Input>, InputError> {
    let mut inputs = Vec::new();
    for path in paths {
        let before = inputs.len();
        if path.is_dir() || path.to_string_lossy().ends_with(".tar.gz") {
            if let Some(bundles) = fleet_report::bundles_of(path)? {
                inputs.extend(bundles.into_iter().map(Input::Bundle));
            } else {
                inputs.extend(data_files_in(path)?.into_iter().map(Input::DataFile));
            }
            if inputs.len() == before {
                return Err(InputError::Nothing { path: path.clone() });
            }
        } else {
            inputs.push(Input::DataFile(path.clone()));
        }
    }
    Ok(inputs)
}

/// The files of a folder that coverage.py or our recorder named; SQLite's own side files are none.
fn data_files_in(folder: &Path) -> Result<Vec<PathBuf>, InputError> {
    let list = |source| InputError::List { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(list)? {
        let path = entry.map_err(list)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_data = name == ".coverage" || name.starts_with(".coverage.") || name.starts_with("data.");
        if is_data && !name.ends_with("-journal") && name != ".coveragerc" && path.is_file() {
            files.push(path.clone());
        }
    }
    files.sort();
    Ok(files)
}

fn read(input: &Input, host_as_context: bool) -> Result<Vec<CoverageData>, InputError> {
    match input {
        Input::DataFile(path) => {
            let data = data_file::read_path(path)
                .map_err(|source| InputError::Read { path: path.clone(), source })?;
            let host = host_of_name(&path.file_name().unwrap_or_default().to_string_lossy());
            Ok(vec![match host {
                Some(host) if host_as_context => data.in_context(&host),
                _ => data,
            }])
        }
        Input::Bundle(path) => {
            let mut found = Vec::new();
            let mut trouble = None;
            let result = read_bundle(path, |manifest, entry, bytes| {
                if let EntryPath::Data(_) = entry {
                    match data_file::read(&bytes) {
                        Ok(data) if host_as_context => found.push(data.in_context(&manifest.host)),
                        Ok(data) => found.push(data),
                        Err(source) => trouble = Some(source),
                    }
                }
                Ok(())
            });
            result.map_err(|source| InputError::Bundle { path: path.clone(), source })?;
            match trouble {
                Some(source) => Err(InputError::Read { path: path.clone(), source }),
                None => Ok(found),
            }
        }
    }
}

/// The host in `data.<host>.<pid>.<random>` and `.coverage.<host>.pid<pid>.<random>...`.
fn host_of_name(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("data.") {
        let (rest, _random) = rest.rsplit_once('.')?;
        let (host, pid) = rest.rsplit_once('.')?;
        return pid.bytes().all(|b| b.is_ascii_digit()).then(|| host.to_owned());
    }
    let rest = name.strip_prefix(".coverage.")?;
    rest.split('.').next().filter(|host| !host.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::host_of_name;

    #[test]
    fn hosts_are_read_from_every_form_of_name() {
        assert_eq!(host_of_name("data.w1.example.org.4711.0a1b2c").as_deref(), Some("w1.example.org"));
        assert_eq!(
            host_of_name(".coverage.w1_example_org.pid77.Xabcdefx.Hcafeh").as_deref(),
            Some("w1_example_org")
        );
        assert_eq!(host_of_name("data.odd"), None);
        assert_eq!(host_of_name(".coverage"), None);
    }
}
