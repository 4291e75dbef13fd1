//! Data files for `combine` and `report` without a fleet: found, read in parallel, combined.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use pulpcov_data_file::combine::Combiner;
use pulpcov_data_file::data::{CombineError, CoverageData, Kind};
use pulpcov_data_file::data_file::{self, ReadError};
use pulpcov_protocol::bundle::EntryPath;
use pulpcov_protocol::text::error_chain;
use rayon::prelude::*;

use crate::report::from_runs;
use crate::run::bundle::BundleError;
use crate::run::bundle_reader::read_bundle;
use crate::run::homes::Homes;

#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot read {path}")]
    List { path: PathBuf, source: std::io::Error },
    #[error("{path} has no data files: {base}, {base}.* and data.HOST.PID.* are taken for some")]
    Nothing { path: PathBuf, base: String },
    #[error("none of {inputs} data files is usable")]
    NoneUsable { inputs: usize, source: Box<Self> },
    #[error("{path}")]
    Read { path: PathBuf, source: ReadError },
    #[error("{path}")]
    Bundle { path: PathBuf, source: BundleError },
    #[error("{path}")]
    Combine { path: PathBuf, source: CombineError },
    #[error(transparent)]
    Fleet(#[from] from_runs::FleetReportError),
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
    /// How many data files and bundles there were.
    pub(crate) inputs: usize,
    /// How many of them, and of the data files of bundles, are not in it.
    pub(crate) left_out: usize,
    pub(crate) warnings: Vec<String>,
}

/// How inputs are found and taken.
#[derive(Debug, Clone)]
pub(crate) struct InputOptions {
    pub(crate) contexts: Contexts,
    /// One that is not usable is an error.
    pub(crate) strict: bool,
    /// Name of coverage.py's data files, before what it adds for each process.
    pub(crate) base: String,
    /// A file that no folder gives, because it will be written.
    pub(crate) output: Option<PathBuf>,
}

/// coverage.py's own name for a data file.
const BASE: &str = ".coverage";

/// What `[run] data_file` of a configuration says of names.
pub(crate) fn base_of(data_file: Option<&str>) -> String {
    let name = data_file.and_then(|path| Path::new(path).file_name()).map(|name| name.to_string_lossy());
    name.filter(|name| !name.is_empty()).map_or_else(|| BASE.to_owned(), std::borrow::Cow::into_owned)
}

/// Line data and branch data, apart until all is read, each with the inputs that it came from.
#[derive(Default)]
struct ByKind {
    lines: Combiner,
    arcs: Combiner,
    of_lines: BTreeSet<String>,
    of_arcs: BTreeSet<String>,
}

impl ByKind {
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

/// An input, and the data file in it, where it is a bundle.
type InputId = (usize, Option<String>);

/// Combines everything that `paths` name: data files, folders of them, bundles, run directories. What is not usable
/// adds nothing, and is named; the inputs stay as they are.
pub(crate) fn combine(paths: &[PathBuf], how: &InputOptions) -> Result<Combined, InputError> {
    let (inputs, mut warnings) = find(paths, how)?;
    let homes = Homes::of(inputs.iter().filter_map(|input| match input {
        Input::Bundle(path) => Some(path.as_path()),
        Input::DataFile(_) => None,
    }));
    let mut left_out: BTreeMap<InputId, String> = BTreeMap::new();
    // A file that turns out to be damaged may have added some of itself: all is begun anew without it. That is rare,
    // and costs nothing where it does not happen.
    let both = loop {
        let (both, failed) = round(paths, &inputs, how.contexts, &left_out, &homes)?;
        let (places, errors): (Vec<InputId>, Vec<InputError>) = failed.into_iter().unzip();
        let reasons: Vec<String> = errors.iter().map(|error| error_chain(error)).collect();
        let Some(first) = errors.into_iter().next() else { break both };
        if how.strict {
            return Err(first);
        }
        left_out.extend(places.into_iter().zip(reasons));
        if left_out.keys().filter(|(_, entry)| entry.is_none()).count() == inputs.len() {
            return Err(InputError::NoneUsable { inputs: inputs.len(), source: Box::new(first) });
        }
    };
    warnings.extend(left_out.values().map(|reason| format!("left out: {reason}")));
    let path = paths.first().cloned().unwrap_or_default();
    let (data, warning) = both.finish().map_err(|source| InputError::Combine { path, source })?;
    warnings.extend(warning);
    Ok(Combined { data, inputs: inputs.len(), left_out: left_out.len(), warnings })
}

/// Reads all inputs but those that are left out; tells which failed.
fn round(
    paths: &[PathBuf],
    inputs: &[Input],
    contexts: Contexts,
    left_out: &BTreeMap<InputId, String>,
    homes: &Homes,
) -> Result<(ByKind, Vec<(InputId, InputError)>), InputError> {
    // As many sums as there are workers, each taking the next input: memory follows the union and not the
    // number of files.
    let next = AtomicUsize::new(0);
    let (both, mut failed) = (0..rayon::current_num_threads())
        .into_par_iter()
        .with_max_len(1)
        .map(|_| {
            let (mut all, mut failed) = (ByKind::default(), Vec::new());
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(input) = inputs.get(at) else { break };
                read(at, input, contexts, (left_out, homes), &mut all, &mut failed);
            }
            Ok::<_, InputError>((all, failed))
        })
        .try_reduce(Default::default, |(mut a, mut failed), (b, more)| {
            let path = paths.first().cloned().unwrap_or_default();
            a.merge(b).map_err(|source| InputError::Combine { path, source })?;
            failed.extend(more);
            Ok((a, failed))
        })?;
    failed.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok((both, failed))
}

/// The inputs, and what is said of files that are none.
fn find(paths: &[PathBuf], how: &InputOptions) -> Result<(Vec<Input>, Vec<String>), InputError> {
    let (mut inputs, mut warnings) = (Vec::new(), Vec::new());
    for path in paths {
        let before = inputs.len();
        if path.is_dir() || path.to_string_lossy().ends_with(".tar.gz") {
            if let Some(bundles) = from_runs::bundles_of(path)? {
                inputs.extend(bundles.into_iter().map(Input::Bundle));
            } else {
                let (files, stale) = data_files_in(path, how)?;
                inputs.extend(files.into_iter().map(Input::DataFile));
                warnings.extend(stale.map(|stale| {
                    format!("{} is not taken: data files of processes lie beside it", stale.display())
                }));
            }
            if inputs.len() == before {
                return Err(InputError::Nothing { path: path.clone(), base: how.base.clone() });
            }
        } else {
            inputs.push(Input::DataFile(path.clone()));
        }
    }
    Ok((inputs, warnings))
}

/// The files of a folder that coverage.py or our recorder named; and the one without a suffix, where there are others:
/// that is an earlier combine's, which coverage.py does not read again either.
fn data_files_in(folder: &Path, how: &InputOptions) -> Result<(Vec<PathBuf>, Option<PathBuf>), InputError> {
    let list = |source| InputError::List { path: folder.to_owned(), source };
    let output = how.output.as_ref().and_then(|path| std::fs::canonicalize(path).ok());
    let (mut files, mut whole) = (Vec::new(), None);
    for entry in fs_err::read_dir(folder).map_err(list)? {
        let path = entry.map_err(list)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What is no file, or a link that leads nowhere, is left out by whoever reads it, with its name.
        if path.is_dir() || output.is_some() && std::fs::canonicalize(&path).ok() == output {
            continue;
        }
        if name == how.base {
            whole = Some(path.clone());
        } else if is_of_a_process(&name, &how.base) {
            files.push(path.clone());
        }
    }
    files.sort();
    if files.is_empty() {
        return Ok((whole.into_iter().collect(), None));
    }
    Ok((files, whole))
}

/// Whether a file's name is one of coverage.py's or our recorder's for the data of a process; SQLite's own files beside
/// them are none.
fn is_of_a_process(name: &str, base: &str) -> bool {
    if ["-journal", "-wal", "-shm"].iter().any(|end| name.ends_with(end)) {
        return false;
    }
    let of_coverage = name.strip_prefix(base).and_then(|rest| rest.strip_prefix('.'));
    of_coverage.is_some_and(|rest| !rest.is_empty()) || is_of_recorder(name)
}

/// `data.<host>.<pid>.<random>`, where the last part may be two with a dash, and not `data.shop.2.json`.
fn is_of_recorder(name: &str) -> bool {
    let is_hex =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    name.starts_with("data.") && host_of_name(name).is_some() && name.rsplit('.').next().is_some_and(is_hex)
}

/// Adds the data of an input, under the name of the host that it is of, or of its file.
fn read(
    at: usize,
    input: &Input,
    contexts: Contexts,
    (left_out, homes): (&BTreeMap<InputId, String>, &Homes),
    all: &mut ByKind,
    failed: &mut Vec<(InputId, InputError)>,
) {
    if left_out.contains_key(&(at, None)) {
        return;
    }
    match input {
        Input::DataFile(path) => {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let host = host_of_name(&file);
            let name = host.clone().unwrap_or_else(|| path.display().to_string());
            let added = data_file::bytes_of(path)
                .and_then(|bytes| all.add(&name, &bytes, contexts.of(host.as_deref())));
            if let Err(source) = added {
                failed.push(((at, None), InputError::Read { path: path.clone(), source }));
            }
        }
        Input::Bundle(path) => {
            let mut of_others = None;
            let result = read_bundle(path, |manifest, entry, bytes| {
                let EntryPath::Data(name) = entry else { return Ok(()) };
                let place = (at, Some(name.clone()));
                let of_others = of_others.get_or_insert_with(|| homes.data_of_others(manifest));
                if left_out.contains_key(&place) {
                    return Ok(());
                }
                let host = of_others.get(name).unwrap_or(&manifest.host).as_str();
                if let Err(source) = all.add(host, &bytes, contexts.of(Some(host))) {
                    failed.push((place, InputError::Read { path: path.join(name), source }));
                }
                Ok(())
            });
            if let Err(source) = result {
                failed.push(((at, None), InputError::Bundle { path: path.clone(), source }));
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
    use super::{base_of, host_of_name, is_of_a_process};

    #[test]
    fn names_of_data_files_and_of_what_lies_beside_them() {
        for name in [
            ".coverage.host.pid7.XabcH",
            ".coverage.x",
            "data.w1.4711.0a1b2c",
            "data.w1.0.0a1-11",
            "data.w1.0.0a1b2c",
        ] {
            assert!(is_of_a_process(name, ".coverage"), "{name}");
        }
        for name in [
            ".coverage",
            ".coveragerc",
            ".coverage.x-wal",
            ".coverage.x-journal",
            "data.json",
            "data.py",
            "data.a.b.c",
            "data.shop.2.json",
        ] {
            assert!(!is_of_a_process(name, ".coverage"), "{name}");
        }
        assert!(is_of_a_process("unit.cov.host.pid7.XabcH", "unit.cov"));
        assert_eq!(base_of(Some("build/unit.cov")), "unit.cov");
        assert_eq!((base_of(None), base_of(Some(""))), (".coverage".to_owned(), ".coverage".to_owned()));
    }

    #[test]
    fn hosts_are_read_from_every_form_of_name() {
        assert_eq!(host_of_name("data.w1.example.org.4711.0a1b2c").as_deref(), Some("w1.example.org"));
        assert_eq!(
            host_of_name(".coverage.w1_example_org.pid77.Xabcdefx.Hcafeh").as_deref(),
            Some("w1_example_org")
        );
        assert_eq!(host_of_name("data.w1.4711.457a08757529-694576751").as_deref(), Some("w1"));
        assert_eq!(host_of_name("data.odd"), None);
        assert_eq!(host_of_name(".coverage"), None);
    }
}
