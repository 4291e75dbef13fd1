//! From bundles to a report: offline, from the run directories alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pulpcov_coverage::analysis::{SourceAnalysis, should_be_python};
use pulpcov_coverage::choice::Doubt;
use pulpcov_coverage::fleet::{CheckedReport, FleetCoverage, ReportError, SourceId, Unanalysed};
use pulpcov_coverage::glob::Globs;
use pulpcov_coverage::origin::Origin;
use pulpcov_coverage::releases::{self, Carried};
use pulpcov_coverage::report::Report;
use pulpcov_coverage::selection::Selection;
use pulpcov_coverage::source_text;
use pulpcov_data_file::data::{CoverageData, Kind};
use pulpcov_protocol::manifest::Manifest;
use pulpcov_protocol::text::{counted, error_chain};

use crate::report::analyser::{Analyser, AnalyserError, Source};
use crate::report::analyses::{Analyses, Lack};
use crate::report::replaced::{Index, OfReplaced};
use crate::report::staged::{ManifestIndex, Room, Staged};
use crate::run::bundle::BundleError;
use crate::run::bundle_reader::read_bundle;
use crate::run::dir::{RunDir, RunDirError, bundles_in};
use crate::run::homes::Homes;
use crate::run::ledger::{Adopted, Ledger, some};

#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetReportError {
    #[error("{0} is no regular file")]
    NoFile(PathBuf),
    #[error(transparent)]
    Run(#[from] RunDirError),
    #[error("cannot list {path}")]
    List { path: PathBuf, source: std::io::Error },
    #[error("cannot make the report")]
    Report(#[from] ReportError),
    #[error("cannot write sources for their analysis")]
    Scratch(#[source] std::io::Error),
    #[error(transparent)]
    Analyser(#[from] AnalyserError),
    #[error("what is selected takes nothing of the run")]
    NothingSelected,
    #[error("no source of the report has an analysis: the bundle that had them is missing or damaged{}", told(.0))]
    NoAnalysis(BTreeSet<String>),
    #[error("no data to report: include and omit leave nothing")]
    AllLeftOut,
    #[error("no bundles in {0}")]
    Nothing(String),
}

/// A report, what it is based on, and what a reader must know besides.
pub(crate) struct FleetReport {
    pub(crate) report: Report,
    /// Digest to bytes; empty where nobody asked for them.
    pub(crate) sources: BTreeMap<String, Vec<u8>>,
    /// Where hosts have each source.
    pub(crate) places: BTreeMap<SourceId, BTreeSet<String>>,
    pub(crate) ledger: Ledger,
    pub(crate) warnings: Vec<String>,
}

impl FleetReport {
    /// A report of nothing lacks all that ran.
    pub(crate) fn is_complete(&self) -> bool {
        self.ledger.is_complete() && !self.report.is_nothing()
    }
}

/// Where a path's bundles are; `None` where it is no run and no bundle.
pub(crate) fn bundles_of(path: &Path) -> Result<Option<Vec<PathBuf>>, FleetReportError> {
    if RunDir::is_one(path) {
        return Ok(Some(RunDir { path: path.to_owned() }.bundles()?));
    }
    if path.exists() && !path.is_dir() {
        let is_bundle = path.to_string_lossy().ends_with(".tar.gz");
        if is_bundle && !path.is_file() {
            return Err(FleetReportError::NoFile(path.to_owned()));
        }
        return Ok(is_bundle.then(|| vec![path.to_owned()]));
    }
    // A folder of tarballs, as Ansible's fetch leaves them.
    let bundles =
        bundles_in(path).map_err(|source| FleetReportError::List { path: path.to_owned(), source })?;
    Ok(Some(bundles).filter(|bundles| !bundles.is_empty()))
}

/// What of the runs is reported, and what is wanted besides.
pub(crate) struct ReportRequest<'a> {
    pub(crate) selection: &'a Selection,
    /// Patterns of module paths, each behind a slash.
    pub(crate) include: Globs,
    pub(crate) omit: Globs,
    /// Whether the bytes of the sources are.
    pub(crate) sources: bool,
    /// Whether releases of one file are made one.
    pub(crate) map_releases: bool,
    /// Analyses the sources again, instead of what their hosts made of them.
    pub(crate) analyser: Option<&'a Analyser>,
}

/// The report of all bundles of `paths`.
pub(crate) fn make(paths: &[PathBuf], wanted: &ReportRequest<'_>) -> Result<FleetReport, FleetReportError> {
    let with_sources = wanted.sources || wanted.analyser.is_some() || wanted.map_releases;
    let mut gathered = Gathered { with_sources, ..Gathered::default() };
    let mut runs = Vec::new();
    for path in paths.iter().filter(|path| RunDir::is_one(path)) {
        runs.push(RunDir { path: path.clone() }.read_file()?);
    }
    // A later run makes up for an earlier one, whichever was named first.
    runs.sort_by(|a, b| a.created.cmp(&b.created));
    for run in &runs {
        gathered.ledger.note_run(run);
        for (group, hosts) in &run.groups {
            for host in hosts {
                gathered.fleet.add_to_group(group, host);
            }
        }
    }
    let mut bundles = Vec::new();
    for path in paths {
        bundles.extend(bundles_of(path)?.unwrap_or_default());
    }
    let homes = Homes::of(bundles.iter().map(PathBuf::as_path));
    for bundle in bundles {
        // A bundle that cannot be read is a result of its host, and no end of the others'.
        if let Err(error) = gathered.add(&bundle, &homes) {
            let host = host_of(&bundle);
            let reason = format!("{}: {}", bundle.display(), error_chain(&error));
            gathered.warnings.insert(format!("host {host}: {reason}"));
            gathered.ledger.note_damaged(&host, reason);
        }
    }
    gathered.ledger.adopt(std::mem::take(&mut gathered.adopted));
    gathered.give_to_replaced();
    if gathered.ledger.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(FleetReportError::Nothing(names.join(", ")));
    }
    if let Some(analyser) = wanted.analyser {
        gathered.analyse_again(analyser)?;
    }
    if wanted.map_releases {
        gathered.map_releases()?;
    }
    gathered.finish(wanted)
}

#[derive(Default)]
struct Gathered {
    fleet: FleetCoverage,
    analyses: Analyses,
    with_sources: bool,
    sources: BTreeMap<String, Vec<u8>>,
    source_bytes: u64,
    ledger: Ledger,
    /// Host to its measured files that have no source, and why.
    unsourced: BTreeMap<String, BTreeMap<String, String>>,
    /// What ran of sources that were replaced since.
    replaced: Vec<OfReplaced>,
    /// Host and path to the sources that were there.
    by_path: BTreeMap<(String, String), BTreeSet<SourceId>>,
    /// What bundles tell of other hosts' processes.
    adopted: Vec<Adopted>,
    warnings: BTreeSet<String>,
}

/// Most bytes of sources that a report holds.
const MAX_SOURCES: u64 = 512 * 1024 * 1024;

/// Why what ran of a path has no source: its lines would be put on bytes that never ran.
const NO_LONGER_THERE: &str = "replaced since it ran, and no bundle has what ran";

/// Whether a path of a bundle's data is of the measured packages: data that a person puts there may tell of more.
fn ours<'a>(manifest: &'a Manifest, sources: &'a BTreeMap<String, SourceId>) -> impl Fn(&str) -> bool + 'a {
    let unsourced: Option<BTreeSet<&str>> =
        manifest.unsourced.as_ref().map(|all| all.iter().map(|one| one.path.as_str()).collect());
    move |path| sources.contains_key(path) || unsourced.as_ref().is_none_or(|all| all.contains(path))
}

fn with_reason(path: &str, reasons: Option<&BTreeMap<String, String>>) -> String {
    match reasons.and_then(|reasons| reasons.get(path)) {
        // Most reasons name the path themselves.
        Some(reason) if reason.contains(path) => reason.clone(),
        Some(reason) => format!("{path} ({reason})"),
        None => path.to_owned(),
    }
}

/// What else was found, which explains an error.
fn told(warnings: &BTreeSet<String>) -> String {
    warnings.iter().take(5).map(|warning| format!("; {warning}")).collect()
}

impl Gathered {
    fn add(&mut self, path: &Path, homes: &Homes) -> Result<(), BundleError> {
        let mut staged = Staged::default();
        let mut told = None;
        let room = if self.with_sources { Room::Left(MAX_SOURCES - self.source_bytes) } else { Room::None };
        let mut manifest = read_bundle(path, |manifest, entry, bytes| {
            let index = told.get_or_insert_with(|| ManifestIndex::of(manifest, homes));
            staged.take(index, entry.clone(), bytes, room)
        })?;
        check_host(path, &manifest)?;
        let moved = homes.take_out(&mut manifest);
        for (key, brought) in staged.analyses {
            let too_much = |limit| BundleError::TooMuch { what: "analyses for a report".to_owned(), limit };
            self.analyses.add(key, brought).map_err(too_much)?;
        }
        let sources = self.begin(&manifest);
        let is_ours = ours(&manifest, &sources);
        let data = staged.data.into_iter();
        let mut data: Vec<(Origin, CoverageData)> = data
            .flat_map(|(origin, all)| all.into_iter().map(move |one| (origin.clone(), one.into_data())))
            .collect();
        let replaced = Index::of(&manifest.replaced);
        for (name, origin, mut whole) in staged.of_replaced {
            self.replaced.extend(replaced.take_out(&name, &origin, &mut whole));
            data.push((origin, whole));
        }
        for (origin, mut data) in data {
            data.files.retain(|path, _| is_ours(path));
            self.add_data(&origin, data, &sources);
        }
        for (sha256, lines) in staged.lines {
            self.analyses.note_lines(sha256, lines);
        }
        for (sha256, text) in staged.texts {
            let bytes = text.len() as u64;
            if self.sources.insert(sha256, text).is_none() {
                self.source_bytes += bytes;
            }
        }
        self.warnings.extend(staged.warnings);
        for (uid, count) in owners_of_extra(&manifest) {
            let files = counted(count, "data file");
            let host = &manifest.host;
            self.warnings
                .insert(format!("host {host}: no process of the service tells of {files} of user {uid}"));
        }
        for one in manifest.unsourced.iter().flatten() {
            let of_host = self.unsourced.entry(manifest.host.clone()).or_default();
            of_host.insert(one.path.clone(), one.reason.clone());
        }
        for one in moved {
            let data = one.data().filter(|data| staged.read.contains(*data)).cloned();
            if let Some(data) = &data {
                staged.read.remove(data);
            }
            self.adopted.push(Adopted { boot_id: manifest.boot_id.clone(), moved: one, data });
        }
        self.ledger.add(&manifest, staged.read);
        Ok(())
    }

    fn add_data(&mut self, origin: &Origin, data: CoverageData, sources: &BTreeMap<String, SourceId>) {
        if let Err(error) = self.fleet.add_data(origin, data, sources) {
            self.warnings.insert(format!("host {}: data is left out: {error}", origin.host));
        }
    }

    /// Gives what ran of replaced sources to the very sources that it ran of, where a bundle has them: an earlier one of
    /// the host, which may be read later, or one of a host that still has them. The host itself has noted what bytes
    /// they were.
    fn give_to_replaced(&mut self) {
        let mut everywhere: BTreeMap<String, BTreeSet<SourceId>> = BTreeMap::new();
        if !self.replaced.is_empty() {
            for ((_, path), ids) in &self.by_path {
                everywhere.entry(path.clone()).or_default().extend(ids.iter().cloned());
            }
        }
        for replaced in std::mem::take(&mut self.replaced) {
            let mut sources = BTreeMap::new();
            for path in replaced.data.files.keys() {
                let mut of_path = everywhere.get(path).into_iter().flatten();
                if let Some(id) = of_path.find(|id| replaced.ran(path, &id.sha256)) {
                    sources.insert(path.clone(), id.clone());
                } else {
                    let of_host = self.unsourced.entry(replaced.origin.host.clone()).or_default();
                    of_host.entry(path.clone()).or_insert_with(|| NO_LONGER_THERE.to_owned());
                }
            }
            self.add_data(&replaced.origin, replaced.data, &sources);
        }
    }

    /// Tells the fleet of a host and its sources; returns which source each path of the host is.
    fn begin(&mut self, manifest: &Manifest) -> BTreeMap<String, SourceId> {
        let host = &manifest.host;
        self.fleet.add_host(host);
        let mut sources = BTreeMap::new();
        for source in &manifest.sources {
            if !is_module_path(&source.module_path) {
                self.warnings.insert(format!(
                    "host {host}: {:?} is no module's path, and is left out",
                    source.module_path
                ));
                continue;
            }
            let id = SourceId { module_path: source.module_path.clone(), sha256: source.sha256.clone() };
            self.fleet.add_source(host, id.clone(), &source.analysis);
            self.by_path.entry((host.clone(), source.path.clone())).or_default().insert(id.clone());
            sources.insert(source.path.clone(), id);
        }
        sources
    }

    /// Puts analyses of this machine in the place of the hosts'.
    fn analyse_again(&mut self, analyser: &Analyser) -> Result<(), FleetReportError> {
        let folder = tempfile::tempdir().map_err(FleetReportError::Scratch)?;
        let mut files = Vec::new();
        for (sha256, bytes) in &self.sources {
            let path = folder.path().join(format!("{sha256}.py"));
            fs_err::write(&path, bytes).map_err(FleetReportError::Scratch)?;
            files.push((sha256.clone(), path, bytes.clone()));
        }
        let asked: Vec<_> = files
            .iter()
            .map(|(_, path, bytes)| Source { path, bytes: Some(bytes.clone()), traced: None })
            .collect();
        let answers = analyser.analyse(&asked)?;
        let of_sources = files.iter().map(|(sha256, _, _)| sha256.clone());
        self.analyses.replace(of_sources.zip(answers.iter().map(Vec::as_slice)));
        Ok(())
    }

    /// Carries what did not change over to the release that most hosts have.
    fn map_releases(&mut self) -> Result<(), FleetReportError> {
        let Self { fleet, sources, .. } = self;
        let text = |sha256: &str| Some(source_text::decode(sources.get(sha256)?));
        let map = |from: &str, to: &str| releases::line_map(&text(from)?, &text(to)?);
        for Carried { module_path, from, to, hosts, carried, lost } in
            fleet.map_releases(&map).map_err(ReportError::from)?
        {
            let short = |sha256: &str| sha256.get(..8).unwrap_or(sha256).to_owned();
            let hosts: Vec<String> = hosts.into_iter().collect();
            self.warnings.insert(format!(
                "{module_path}: of {} on {}, {carried} lines that ran are carried over to {}, {lost} are not in it and count nowhere",
                short(&from),
                hosts.join(", "),
                short(&to)
            ));
        }
        Ok(())
    }

    fn finish(self, wanted: &ReportRequest<'_>) -> Result<FleetReport, FleetReportError> {
        let Self { fleet, analyses, sources, unsourced, mut ledger, by_path, mut warnings, .. } = self;
        let branches = fleet.kind() == Kind::Arcs;
        let usable = |found: &Arc<SourceAnalysis>| !(branches && found.arcs_error.is_some());
        let made = fleet.report(wanted.selection, &|id, key| analyses.find(id, key).filter(usable))?;
        let CheckedReport { mut report, unanalysed, doubted } = made;
        let missing = lacking(&fleet, &analyses, unanalysed, &mut warnings);
        ledger.note_doubted(doubts(&fleet, &analyses, doubted, &mut warnings));
        if report.origins.is_empty() && *wanted.selection != Selection::All {
            return Err(FleetReportError::NothingSelected);
        }
        if report.files.is_empty() && !missing.is_empty() {
            return Err(FleetReportError::NoAnalysis(warnings));
        }
        if *wanted.selection != Selection::All {
            ledger.note_labels(report.origins.iter().map(|origin| origin.label.clone()).collect());
        }
        let had = report.files.len();
        report.files.retain(|file| {
            let path = format!("/{}", file.module_path());
            (wanted.include.is_empty() || wanted.include.fits(&path)) && !wanted.omit.fits(&path)
        });
        if report.files.is_empty() && had > 0 {
            return Err(FleetReportError::AllLeftOut);
        }
        ledger.note_unanalysed(missing.len());
        warnings.extend(report.inexact_branches());
        if !missing.is_empty() {
            warnings.insert(format!("not in the report, for want of an analysis: {}", missing.join(", ")));
        }
        for (host, paths) in fleet.unknown() {
            let some: Vec<String> =
                paths.keys().take(3).map(|path| with_reason(path, unsourced.get(host))).collect();
            warnings.insert(format!(
                "host {host}: {} without a source, such as {}",
                counted(paths.len() as u64, "measured file"),
                some.join(", ")
            ));
        }
        let unknown = || fleet.unknown().values().flatten();
        report.lacks_sources = unknown().next().is_some();
        ledger.note_unsourced(unknown().count(), unknown().map(|(_, lines)| lines.iter().count()).sum());
        if let Some((lines, arcs)) = fleet.mixed() {
            ledger.note_without_branches(lines.len());
            let names = |hosts: &BTreeSet<String>| hosts.iter().cloned().collect::<Vec<_>>().join(", ");
            warnings.insert(format!(
                "line data of {} and branch data of {} are reported as lines",
                names(lines),
                names(arcs)
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
            let hosts: BTreeSet<&String> = variants.values().flat_map(|hosts| hosts.iter()).collect();
            let differs = if hosts.len() > 1 { "differs between hosts" } else { "was replaced" };
            warnings.insert(format!("{path} {differs}: {}", parts.join("; ")));
        }
        let mut places: BTreeMap<SourceId, BTreeSet<String>> = BTreeMap::new();
        for ((_, path), ids) in by_path {
            for id in ids {
                places.entry(id).or_default().insert(path.clone());
            }
        }
        Ok(FleetReport { report, sources, places, ledger, warnings: warnings.into_iter().collect() })
    }
}

/// How many data files each user has left that no process of the service tells of.
fn owners_of_extra(manifest: &Manifest) -> BTreeMap<u32, u64> {
    let mut owners = BTreeMap::new();
    for uid in manifest.extra.values() {
        *owners.entry(*uid).or_default() += 1;
    }
    owners
}

/// Names of the sources that have no analysis, with a warning where there is a reason. Files that are no Python and do
/// not say that they are, as templates, are none: coverage.py leaves them out, too.
fn lacking(
    fleet: &FleetCoverage,
    analyses: &Analyses,
    unanalysed: Vec<Unanalysed>,
    warnings: &mut BTreeSet<String>,
) -> Vec<String> {
    let mut missing = Vec::new();
    for Unanalysed { name, id } in unanalysed {
        let offers = fleet.offers(&id);
        match analyses.lack(&id, offers.keys().map(String::as_str)) {
            Lack::NotPython if !should_be_python(&id.module_path) => continue,
            Lack::NotPython => drop(warnings.insert(format!("{name}: no Python"))),
            Lack::Because(Some(words)) => {
                let hosts: BTreeSet<String> = offers.values().flatten().cloned().collect();
                warnings.insert(format!("{name} of {}: {words}", some(&hosts)));
            }
            Lack::Because(None) => {}
        }
        missing.push(name);
    }
    missing
}

/// How many sources there are of which hosts say different things; each is named with its hosts.
fn doubts(
    fleet: &FleetCoverage,
    analyses: &Analyses,
    mut doubted: BTreeMap<String, Doubt>,
    warnings: &mut BTreeSet<String>,
) -> usize {
    for (name, id, offers) in fleet.all_offers() {
        let disputed = offers.keys().find_map(|key| analyses.disputed(id, key));
        doubted.extend(disputed.map(|doubt| (name, doubt)));
    }
    let mut by_hosts: BTreeMap<&Doubt, Vec<&str>> = BTreeMap::new();
    for (name, doubt) in &doubted {
        by_hosts.entry(doubt).or_default().push(name);
    }
    for ((these, those), names) in by_hosts {
        let (these, those, files) = (some(these), some(those), counted(names.len() as u64, "file"));
        let such = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        warnings.insert(format!(
            "{these} and {those} say different things of {files}, such as {such}, reported as {these} has it; \
             report --python analyses all here"
        ));
    }
    doubted.len()
}

/// The host that a bundle belongs to by its place: `hosts/NAME/bundle-0001.tar.gz`, or its own name.
fn host_of(bundle: &Path) -> String {
    host_folder(bundle)
        .unwrap_or_else(|| bundle.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// The host whose folder of a run directory a bundle lies in. Any other folder may be called `hosts`.
fn host_folder(bundle: &Path) -> Option<String> {
    let folder = bundle.parent()?;
    folder.parent().filter(|up| up.ends_with("hosts") && up.parent().is_some_and(RunDir::is_one))?;
    Some(folder.file_name()?.to_string_lossy().into_owned())
}

/// A bundle counts for the host in whose folder it lies; a host's word for another one does not.
fn check_host(bundle: &Path, manifest: &Manifest) -> Result<(), BundleError> {
    let says = &manifest.host;
    let is_plain = !says.is_empty() && !says.contains('/') && !says.contains(char::is_control);
    let place = host_folder(bundle);
    if !is_plain || place.as_ref().is_some_and(|place| place != says) {
        return Err(BundleError::Host { says: says.clone(), place: place.unwrap_or_default() });
    }
    Ok(())
}

/// What tools look for below a checkout: a path that leads nowhere else.
fn is_module_path(path: &str) -> bool {
    path.split('/').all(|part| !["", ".", ".."].contains(&part)) && !path.contains(char::is_control)
}
