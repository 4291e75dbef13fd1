//! From bundles to a report: offline, from the run directories alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pulpcov_coverage::analysis::SourceAnalysis;
use pulpcov_coverage::data_file;
use pulpcov_coverage::fleet::{FleetCoverage, SourceId};
use pulpcov_coverage::report::Report;
use pulpcov_protocol::bundle::EntryPath;
use pulpcov_protocol::manifest::Manifest;
use pulpcov_protocol::text::error_chain;

use crate::bundle_store::{BundleError, read_bundle};
use crate::ledger::Ledger;
use crate::run_dir::{RunDir, RunDirError, bundles_in};

#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetReportError {
    #[error(transparent)]
    Run(#[from] RunDirError),
    #[error("cannot list {path}")]
    List { path: PathBuf, source: std::io::Error },
    #[error("{path}")]
    Bundle { path: PathBuf, source: BundleError },
    #[error("host {host}: data file {name}")]
    Fleet { host: String, name: String, source: pulpcov_coverage::fleet::FleetError },
    #[error("cannot make the report")]
    Report(#[source] pulpcov_coverage::fleet::FleetError),
    #[error("no bundles in {0}")]
    Nothing(String),
}

/// A report, what it is based on, and what a reader must know besides.
pub(crate) struct FleetReport {
    pub(crate) report: Report,
    pub(crate) ledger: Ledger,
    pub(crate) warnings: Vec<String>,
}

/// Where a path's bundles are; `None` where it is no run and no bundle.
pub(crate) fn bundles_of(path: &Path) -> Result<Option<Vec<PathBuf>>, FleetReportError> {
    if RunDir::is_one(path) {
        return Ok(Some(RunDir { path: path.to_owned() }.bundles()?));
    }
    if path.is_file() {
        return Ok(path.to_string_lossy().ends_with(".tar.gz").then(|| vec![path.to_owned()]));
    }
    // A folder of tarballs, as Ansible's fetch leaves them.
    let bundles =
        bundles_in(path).map_err(|source| FleetReportError::List { path: path.to_owned(), source })?;
    Ok(Some(bundles).filter(|bundles| !bundles.is_empty()))
}

/// The report of all bundles of `paths`.
pub(crate) fn make(paths: &[PathBuf]) -> Result<FleetReport, FleetReportError> {
    let mut gathered = Gathered::default();
    for path in paths {
        if RunDir::is_one(path) {
            gathered.ledger.note_run(&RunDir { path: path.clone() }.read_file()?);
        }
        for bundle in bundles_of(path)?.unwrap_or_default() {
            gathered.add(&bundle)?;
        }
    }
    if gathered.ledger.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(FleetReportError::Nothing(names.join(", ")));
    }
    gathered.finish()
}

#[derive(Default)]
struct Gathered {
    fleet: FleetCoverage,
    analyses: BTreeMap<String, Arc<SourceAnalysis>>,
    ledger: Ledger,
    warnings: BTreeSet<String>,
}

impl Gathered {
    fn add(&mut self, path: &Path) -> Result<(), FleetReportError> {
        let mut context: Option<(String, BTreeMap<String, SourceId>)> = None;
        let mut trouble = None;
        let Self { fleet, analyses, warnings, .. } = self;
        let result = read_bundle(path, |manifest, entry, bytes| {
            let (host, sources) = context.get_or_insert_with(|| begin(manifest, fleet));
            match entry {
                EntryPath::Data(name) => match data_file::read(&bytes) {
                    Ok(data) => {
                        if let Err(source) = fleet.add_data(host, data, sources) {
                            trouble = Some(FleetReportError::Fleet {
                                host: host.clone(),
                                name: name.clone(),
                                source,
                            });
                            return Err(BundleError::Damaged("stopped".to_owned()));
                        }
                    }
                    Err(error) => {
                        warnings.insert(format!(
                            "host {host}: data file {name} is left out: {}",
                            error_chain(&error)
                        ));
                    }
                },
                EntryPath::Analysis(key) => match SourceAnalysis::from_json(&bytes) {
                    Ok(analysis) => {
                        analyses.insert(key.clone(), Arc::new(analysis));
                    }
                    Err(error) => {
                        let of = manifest.sources.iter().find(|source| source.analysis == *key);
                        let name = of.map_or(key.as_str(), |source| source.module_path.as_str());
                        warnings.insert(format!("host {host}: {name}: {}", error_chain(&error)));
                    }
                },
                EntryPath::Source(_) => {}
            }
            Ok(())
        });
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        let manifest = result.map_err(|source| FleetReportError::Bundle { path: path.to_owned(), source })?;
        if context.is_none() {
            begin(&manifest, fleet);
        }
        self.ledger.add(&manifest);
        Ok(())
    }

    fn finish(self) -> Result<FleetReport, FleetReportError> {
        let Self { fleet, analyses, mut ledger, mut warnings } = self;
        let (report, missing) =
            fleet.report(&|key| analyses.get(key).cloned()).map_err(FleetReportError::Report)?;
        if !missing.is_empty() {
            warnings.insert(format!("not in the report, for want of an analysis: {}", missing.join(", ")));
        }
        for (host, paths) in fleet.unknown() {
            let some: Vec<&str> = paths.iter().take(3).map(String::as_str).collect();
            warnings.insert(format!(
                "host {host}: {} measured files have no source, such as {}",
                paths.len(),
                some.join(", ")
            ));
        }
        for (path, variants) in fleet.variant_hosts() {
            let parts: Vec<String> = variants
                .iter()
                .map(|(sha256, hosts)| {
                    format!(
                        "{} on {}",
                        sha256.get(..8).unwrap_or(sha256),
                        hosts.iter().cloned().collect::<Vec<_>>().join(", ")
                    )
                })
                .collect();
            warnings.insert(format!("{path} differs between hosts: {}", parts.join("; ")));
        }
        ledger.settle();
        Ok(FleetReport { report, ledger, warnings: warnings.into_iter().collect() })
    }
}

/// Tells the fleet of a host and its sources; returns what its data files need.
fn begin(manifest: &Manifest, fleet: &mut FleetCoverage) -> (String, BTreeMap<String, SourceId>) {
    fleet.add_host(&manifest.host);
    let sources = manifest
        .sources
        .iter()
        .map(|source| {
            let id = SourceId { module_path: source.module_path.clone(), sha256: source.sha256.clone() };
            fleet.add_source(&manifest.host, id.clone(), &source.analysis);
            (source.path.clone(), id)
        })
        .collect();
    (manifest.host.clone(), sources)
}
