//! Data files for `combine` and `report` without a fleet: found, read in parallel, combined.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use pulpcov_coverage::combine::Combiner;
use pulpcov_coverage::data::{CombineError, CoverageData, Kind};
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
    Combine { path: PathBuf, source: CombineError },
    #[error(transparent)]
    Fleet(#[from] fleet_report::FleetReportError),
}

enum Input {
    DataFile(PathBuf),
    Bundle(PathBuf),
}

/// What becomes of the contexts of data files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contexts {
    Keep,
    /// All that a host ran is in a context of the host's name.
    Hosts,
    /// Nobody asks for them, and there may be a million.
    Drop,
}

impl Contexts {
    /// The one context that what `host` ran goes into; nothing where it keeps its own.
    fn of(self, host: Option<&str>) -> Option<&str> {
        match self {
            Self::Keep => None,
            Self::Hosts => host,
            Self::Drop => Some(""),
        }
    }
}

/// What many inputs come to.
pub(crate) struct Combined {
    pub(crate) data: CoverageData,
    pub(crate) inputs: usize,
    pub(crate) warnings: Vec<String>,
}

/// Line data and branch data, apart until all is read, each with the inputs that it came from.
#[derive(Default)]
struct Both {
    lines: Combiner,
    arcs: Combiner,
    of_lines: BTreeSet<String>,
    of_arcs: BTreeSet<String>,
}

impl Both {
    fn add(&mut self, name: &str, bytes: &[u8], in_context: Option<&str>) -> Result<(), ReadError> {
        let opened = data_file::open(bytes)?;
        let kind = opened.kind();
        let (all, names) = match kind {
            Some(Kind::Arcs) => (&mut self.arcs, &mut self.of_arcs),
            Some(Kind::Lines) | None => (&mut self.lines, &mut self.of_lines),
        };
        // Most inputs come in many files: a name is copied once.
        if kind.is_some() && !names.contains(name) {
            names.insert(name.to_owned());
        }
        opened.combine(all, in_context)
    }

    fn merge(&mut self, other: Self) -> Result<(), CombineError> {
        self.lines.merge(other.lines)?;
        self.arcs.merge(other.arcs)?;
        self.of_lines.extend(other.of_lines);
        self.of_arcs.extend(other.of_arcs);
        Ok(())
    }

    /// All of it: as lines, where there are both.
    fn finish(self) -> Result<(CoverageData, Option<String>), CombineError> {
        let (mut lines, mut arcs) = (self.lines.into_data(), self.arcs.into_data());
        if self.of_lines.is_empty() {
            arcs.merge(lines)?;
            return Ok((arcs, None));
        }
        if self.of_arcs.is_empty() {
            lines.merge(arcs)?;
            return Ok((lines, None));
        }
        lines.merge(arcs.to_lines())?;
        let warning = format!(
            "line data of {} and branch data of {} are combined as lines",
            some(&self.of_lines),
            some(&self.of_arcs)
        );
        Ok((lines, Some(warning)))
    }
}

/// A few names, and how many more there are.
fn some(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Combines everything that `paths` name: data files, folders of them, bundles, run directories.
/// All of it or nothing; the inputs stay as they are.
pub(crate) fn combine(paths: &[PathBuf], contexts: Contexts) -> Result<Combined, InputError> {
    let inputs = find(paths)?;
    // As many sums as there are workers, each taking the next input: memory follows the union and not the
    // number of files.
    let next = AtomicUsize::new(0);
    let both = (0..rayon::current_num_threads())
        .into_par_iter()
        .with_max_len(1)
        .map(|_| {
            let mut all = Both::default();
            while let Some(input) = inputs.get(next.fetch_add(1, Ordering::Relaxed)) {
                read(input, contexts, &mut all)?;
            }
            Ok::<_, InputError>(all)
        })
        .try_reduce(Both::default, |mut a, b| {
            let path = paths.first().cloned().unwrap_or_default();
            a.merge(b).map_err(|source| InputError::Combine { path, source })?;
            Ok(a)
        })?;
    let path = paths.first().cloned().unwrap_or_default();
    let (data, warning) = both.finish().map_err(|source| InputError::Combine { path, source })?;
    Ok(Combined { data, inputs: inputs.len(), warnings: warning.into_iter().collect() })
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

/// Adds the data of an input, under the name of the host that it is of, or of its file.
fn read(input: &Input, contexts: Contexts, all: &mut Both) -> Result<(), InputError> {
    match input {
        Input::DataFile(path) => {
            let failed = |source| InputError::Read { path: path.clone(), source };
            let bytes = data_file::bytes_of(path).map_err(failed)?;
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let host = host_of_name(&file);
            let name = host.clone().unwrap_or_else(|| path.display().to_string());
            all.add(&name, &bytes, contexts.of(host.as_deref())).map_err(failed)
        }
        Input::Bundle(path) => {
            let mut trouble = None;
            let result = read_bundle(path, |manifest, entry, bytes| {
                if let (EntryPath::Data(_), None) = (entry, &trouble) {
                    let host = manifest.host.as_str();
                    trouble = all.add(host, &bytes, contexts.of(Some(host))).err();
                }
                Ok(())
            });
            result.map_err(|source| InputError::Bundle { path: path.clone(), source })?;
            trouble.map_or(Ok(()), |source| Err(InputError::Read { path: path.clone(), source }))
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
