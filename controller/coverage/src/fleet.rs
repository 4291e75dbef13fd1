//! What ran, on which host: the data of a fleet by source file.
//!
//! A source file is its module path and the digest of its bytes (not its path on a host): equal
//! bytes are one file wherever they lie, different bytes are different files whatever they are
//! called.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pulpcov_data_file::data::{CombineError, CoverageData, Kind, Measured};
use pulpcov_data_file::lines::LineSet;
use rayon::prelude::*;

use crate::analysis::SourceAnalysis;
use crate::choice::{self, Doubt, OfferedAnalysis};
use crate::origin::{Groups, Origin};
use crate::releases::{self, Carried};
use crate::report::{FileReport, Report, report_file};
use crate::selection::{Selection, SelectionError};

/// Identity of a source file in a fleet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    pub module_path: String,
    pub sha256: String,
}

#[derive(Debug, Default)]
struct FleetFile {
    /// Origin, as its place in the fleet's list, to what ran there.
    by_origin: BTreeMap<usize, Measured>,
    /// Hosts that have this source, run or not.
    on: BTreeSet<String>,
    /// Keys of its analyses, one for each coverage.py and Python in the fleet, with the hosts that make them.
    analyses: BTreeMap<String, BTreeSet<String>>,
}

/// The data of all hosts.
#[derive(Debug, Default)]
pub struct FleetCoverage {
    /// Hosts by what they recorded. Where there are both, lines are what they have in common.
    kinds: BTreeMap<&'static str, BTreeSet<String>>,
    files: BTreeMap<SourceId, FleetFile>,
    hosts: BTreeSet<String>,
    origins: Vec<Origin>,
    places: BTreeMap<Origin, usize>,
    groups: Groups,
    /// Measured files that no host has a source of, by host, and their lines that ran.
    unknown: BTreeMap<String, BTreeMap<String, LineSet>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Combine(#[from] CombineError),
    #[error(transparent)]
    Selection(#[from] SelectionError),
}

/// Finds the analysis of a source by its key.
pub type FindAnalysis<'a> = &'a (dyn Fn(&SourceId, &str) -> Option<Arc<SourceAnalysis>> + Sync);

/// A source that no host's analysis can be had of, by its name in the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanalysed {
    pub name: String,
    pub id: SourceId,
}

/// A report, and what is wrong with the analyses behind it.
#[derive(Debug)]
pub struct CheckedReport {
    pub report: Report,
    /// Their numbers are missing from the report.
    pub unanalysed: Vec<Unanalysed>,
    /// Files of which hosts see other statements than others, each with those of the report and others.
    pub doubted: BTreeMap<String, Doubt>,
}

/// Finds which lines of one source, by digest, are which lines of another.
pub type MapLines<'a> = &'a dyn Fn(&str, &str) -> Option<BTreeMap<u32, u32>>;

impl FleetCoverage {
    pub fn add_host(&mut self, host: &str) {
        self.hosts.insert(host.to_owned());
    }

    /// Puts a host into a group of the inventory.
    pub fn add_to_group(&mut self, group: &str, host: &str) {
        self.groups.entry(group.to_owned()).or_default().insert(host.to_owned());
    }

    /// A source of a host, run or not.
    pub fn add_source(&mut self, host: &str, id: SourceId, analysis: &str) {
        let file = self.files.entry(id).or_default();
        file.on.insert(host.to_owned());
        file.analyses.entry(analysis.to_owned()).or_default().insert(host.to_owned());
    }

    fn place_of(&mut self, origin: &Origin) -> usize {
        if let Some(place) = self.places.get(origin) {
            return *place;
        }
        let place = self.origins.len();
        self.origins.push(origin.clone());
        self.places.insert(origin.clone(), place);
        place
    }

    /// A data file of an origin. `sources` tells which source each path of that host is.
    pub fn add_data(
        &mut self,
        origin: &Origin,
        data: CoverageData,
        sources: &BTreeMap<String, SourceId>,
    ) -> Result<(), CombineError> {
        let Some(kind) = data.kind() else { return Ok(()) };
        let host = &origin.host;
        self.kinds.entry(kind_name(kind)).or_default().insert(host.clone());
        let place = self.place_of(origin);
        for (path, file) in data.files {
            let Some(id) = sources.get(&path) else {
                let lines = self.unknown.entry(host.clone()).or_default().entry(path).or_default();
                if let Measured::Lines(ran) = file.all(kind).to_lines() {
                    lines.union_with(ran.as_numbits());
                }
                continue;
            };
            let measured = file.all(kind);
            let by_origin = &mut self.files.entry(id.clone()).or_default().by_origin;
            add_to(by_origin, place, measured)?;
        }
        Ok(())
    }

    /// Hosts with line data and hosts with branch data, where the fleet has both: the report is then
    /// one of lines, and that must be said.
    pub fn mixed(&self) -> Option<(&BTreeSet<String>, &BTreeSet<String>)> {
        Some((self.kinds.get(kind_name(Kind::Lines))?, self.kinds.get(kind_name(Kind::Arcs))?))
    }

    /// Paths that were measured on a host, but whose source no bundle has, with their lines that ran.
    pub fn unknown(&self) -> &BTreeMap<String, BTreeMap<String, LineSet>> {
        &self.unknown
    }

    /// What it is reported as: branches only where all hosts recorded them.
    pub fn kind(&self) -> Kind {
        let only_arcs = self.mixed().is_none() && self.kinds.contains_key(kind_name(Kind::Arcs));
        if only_arcs { Kind::Arcs } else { Kind::Lines }
    }

    /// The report of what `selection` takes.
    pub fn report(
        &self,
        selection: &Selection,
        analysis: FindAnalysis<'_>,
    ) -> Result<CheckedReport, ReportError> {
        selection.check(&self.origins, &self.groups)?;
        let all = *selection == Selection::All;
        let taken: BTreeMap<usize, usize> = self
            .places
            .iter()
            .filter(|(origin, _)| selection.takes(origin, &self.groups))
            .zip(0..)
            .map(|((_, place), new)| (*place, new))
            .collect();
        let mut origins: Vec<(usize, &Origin)> =
            taken.iter().filter_map(|(place, new)| Some((*new, self.origins.get(*place)?))).collect();
        origins.sort_unstable_by_key(|(new, _)| *new);
        let of_origins = || origins.iter().map(|(_, origin)| origin.host.as_str());
        let hosts: BTreeSet<&str> = if all {
            self.hosts.iter().map(String::as_str).chain(of_origins()).collect()
        } else {
            of_origins().collect()
        };
        let kind = self.kind();
        let variants = self.variants();
        let wanted: Vec<(&SourceId, &FleetFile)> = self
            .files
            .iter()
            .filter(|(_, file)| all || file.on.iter().any(|host| hosts.contains(host.as_str())))
            .collect();
        let files: Vec<_> = wanted
            .into_par_iter()
            .map(|(id, file)| {
                let name = name_of(id, &variants);
                let made = file.report(name.clone(), id, kind, &taken, analysis)?;
                Ok((name, id, made))
            })
            .collect::<Result<_, CombineError>>()?;
        let mut report = Report {
            branches: kind == Kind::Arcs,
            groups: self.groups_of(&hosts),
            hosts: hosts.into_iter().map(str::to_owned).collect(),
            origins: origins.into_iter().map(|(_, origin)| origin.clone()).collect(),
            ..Report::default()
        };
        let (mut unanalysed, mut doubted) = (Vec::new(), BTreeMap::new());
        for (name, id, file) in files {
            let Some((file, doubt)) = file else {
                unanalysed.push(Unanalysed { name, id: id.clone() });
                continue;
            };
            report.coverage_versions.insert(file.source.coverage.clone());
            report.files.push(file);
            doubted.extend(doubt.map(|doubt| (name, doubt)));
        }
        report.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(CheckedReport { report, unanalysed, doubted })
    }

    /// Makes one of files that hosts have in several releases: of each the one that most hosts have stays,
    /// and what ran of the others is carried over, line by line, as far as `map` (from digest, to
    /// digest) knows how.
    pub fn map_releases(&mut self, map: MapLines<'_>) -> Result<Vec<Carried>, CombineError> {
        let counts = self.variants();
        let several: Vec<String> =
            counts.into_iter().filter(|(_, count)| *count > 1).map(|(path, _)| path.to_owned()).collect();
        let mut all = Vec::new();
        for module_path in several {
            let of_path = self.files.iter().filter(|(id, _)| id.module_path == module_path);
            let by_hosts = of_path.map(|(id, file)| (file.on.len(), id.sha256.clone()));
            let mut digests: Vec<(usize, String)> = by_hosts.collect();
            digests.sort();
            let Some((_, to)) = digests.pop() else { continue };
            for (_, from) in digests {
                let Some(lines) = map(&from, &to) else { continue };
                all.push(self.carry(&module_path, &from, &to, &lines)?);
            }
        }
        Ok(all)
    }

    fn carry(
        &mut self,
        module_path: &str,
        from: &str,
        to: &str,
        lines: &BTreeMap<u32, u32>,
    ) -> Result<Carried, CombineError> {
        let id = |sha256: &str| SourceId { module_path: module_path.to_owned(), sha256: sha256.to_owned() };
        let old = self.files.remove(&id(from)).unwrap_or_default();
        let target = self.files.entry(id(to)).or_default();
        let mut carried = Carried {
            module_path: module_path.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            hosts: old.on.clone(),
            carried: 0,
            lost: 0,
        };
        // A line that several origins ran is one line.
        let mut ran = LineSet::default();
        for (place, measured) in old.by_origin {
            if let Measured::Lines(lines) = measured.to_lines() {
                ran.union_with(lines.as_numbits());
            }
            let (measured, _, _) = releases::carry(&measured, lines);
            add_to(&mut target.by_origin, place, measured)?;
        }
        (_, carried.carried, carried.lost) = releases::carry(&Measured::Lines(ran), lines);
        target.on.extend(old.on);
        Ok(carried)
    }

    fn groups_of(&self, hosts: &BTreeSet<&str>) -> Groups {
        let narrowed = self.groups.iter().map(|(name, all)| {
            let of_report = all.iter().filter(|host| hosts.contains(host.as_str())).cloned();
            (name.clone(), of_report.collect::<BTreeSet<_>>())
        });
        narrowed.filter(|(_, hosts)| !hosts.is_empty()).collect()
    }

    /// Keys of a source's analyses, each with the hosts that make it.
    pub fn offers(&self, id: &SourceId) -> BTreeMap<String, BTreeSet<String>> {
        self.files.get(id).map(|file| file.analyses.clone()).unwrap_or_default()
    }

    /// The same of every source, by its name in a report.
    pub fn all_offers(
        &self,
    ) -> impl Iterator<Item = (String, &SourceId, &BTreeMap<String, BTreeSet<String>>)> {
        let variants = self.variants();
        self.files.iter().map(move |(id, file)| (name_of(id, &variants), id, &file.analyses))
    }

    /// How many different sources each module path has.
    fn variants(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for id in self.files.keys() {
            *counts.entry(id.module_path.as_str()).or_default() += 1;
        }
        counts
    }

    /// Module paths with more than one source, each source with the hosts that have it.
    pub fn variant_hosts(&self) -> BTreeMap<&str, BTreeMap<&str, &BTreeSet<String>>> {
        let counts = self.variants();
        let mut variants: BTreeMap<&str, BTreeMap<&str, &BTreeSet<String>>> = BTreeMap::new();
        for (id, file) in &self.files {
            if counts.get(id.module_path.as_str()).is_some_and(|&count| count > 1) {
                variants.entry(&id.module_path).or_default().insert(&id.sha256, &file.on);
            }
        }
        variants
    }
}

impl FleetFile {
    /// The report of this file, of the origins in `taken` (old place to new); nothing without an analysis.
    fn report(
        &self,
        name: String,
        id: &SourceId,
        kind: Kind,
        taken: &BTreeMap<usize, usize>,
        analysis: FindAnalysis<'_>,
    ) -> Result<Option<(FileReport, Option<Doubt>)>, CombineError> {
        let found = self.analyses.iter().filter_map(|(key, hosts)| {
            Some(OfferedAnalysis { key: key.as_str(), hosts, analysis: analysis(id, key)? })
        });
        let Some((source, doubt)) = choice::choose(&found.collect::<Vec<_>>(), kind) else { return Ok(None) };
        let mut all = Measured::none(kind);
        let mut by_origin: Vec<(usize, Measured)> = Vec::new();
        for (place, measured) in &self.by_origin {
            let Some(new) = taken.get(place) else { continue };
            let measured = if kind == Kind::Arcs { measured.clone() } else { measured.to_lines() };
            all.union_with(&measured)?;
            by_origin.push((*new, measured));
        }
        by_origin.sort_unstable_by_key(|(new, _)| *new);
        let by_origin = by_origin.iter().map(|(new, measured)| (*new, measured));
        let report = FileReport { sha256: id.sha256.clone(), ..report_file(name, &source, &all, by_origin) };
        Ok(Some((report, doubt)))
    }
}

/// Adds to what ran at an origin. Where lines meet arcs, the report will be of lines, whichever kind came
/// first.
fn add_to(
    by_origin: &mut BTreeMap<usize, Measured>,
    place: usize,
    measured: Measured,
) -> Result<(), CombineError> {
    match by_origin.get_mut(&place) {
        Some(have) if have.kind() == measured.kind() => have.union_with(&measured),
        Some(have) => {
            *have = have.to_lines();
            have.union_with(&measured.to_lines())
        }
        None => {
            by_origin.insert(place, measured);
            Ok(())
        }
    }
}

/// A file's name in a report: with its digest where hosts have different bytes under one path.
fn name_of(id: &SourceId, variants: &BTreeMap<&str, usize>) -> String {
    if variants.get(id.module_path.as_str()).is_some_and(|&count| count > 1) {
        format!("{}@{}", id.module_path, id.sha256.get(..8).unwrap_or(&id.sha256))
    } else {
        id.module_path.clone()
    }
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Lines => "lines",
        Kind::Arcs => "arcs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Dimension;
    use crate::view::View;

    fn source(statements: &[i32]) -> Arc<SourceAnalysis> {
        Arc::new(SourceAnalysis {
            coverage: "7.17.3".into(),
            n_lines: 10,
            statements: statements.iter().copied().collect(),
            ..SourceAnalysis::default()
        })
    }

    fn origin(host: &str, label: &str) -> Origin {
        Origin { host: host.into(), label: label.into(), ..Origin::default() }
    }

    #[test]
    fn what_a_label_covered_is_kept_apart() {
        let mut fleet = FleetCoverage::default();
        fleet.add_source("a", id("x.py", "aa"), "k");
        let sources = BTreeMap::from([("/x.py".to_owned(), id("x.py", "aa"))]);
        for (label, lines) in [("startup", [1, 2]), ("tier1", [2, 3])] {
            fleet.add_data(&origin("a", label), ran("/x.py", &lines), &sources).expect("lines");
        }
        let executed = |text: &str| {
            let selection = Selection::parse(text).expect("a selection");
            let CheckedReport { report, .. } =
                fleet.report(&selection, &|_, _| Some(source(&[1, 2, 3, 4]))).expect("one kind");
            report.files[0].analysed.executed.iter().copied().collect::<Vec<_>>()
        };
        assert_eq!(executed("all"), [1, 2, 3]);
        assert_eq!(executed("label:tier1"), [2, 3]);
        assert_eq!(executed("!label:tier1"), [1, 2]);
        let unknown = fleet.report(&Selection::parse("label:tier2").expect("parses"), &|_, _| None);
        assert!(matches!(unknown, Err(ReportError::Selection(SelectionError::Unknown { .. }))));
        let CheckedReport { report, .. } =
            fleet.report(&Selection::All, &|_, _| Some(source(&[1, 2, 3, 4]))).expect("lines");
        let labels = View::new(&report, Dimension::Label);
        assert_eq!(labels.names, ["startup", "tier1"]);
        assert_eq!(labels.of_file(&report.files[0])[0].ran, [1, 2].into_iter().collect::<LineSet>());
    }

    fn id(path: &str, sha256: &str) -> SourceId {
        SourceId { module_path: path.into(), sha256: sha256.into() }
    }

    fn ran(path: &str, lines: &[u32]) -> CoverageData {
        let mut data = CoverageData::default();
        data.add(path, "", Measured::Lines(lines.iter().copied().collect())).expect("first");
        data
    }

    #[test]
    fn equal_bytes_at_different_paths_are_one_file_that_knows_its_hosts() {
        let mut fleet = FleetCoverage::default();
        for (host, path, lines) in [("a", "/usr/lib/x.py", [1, 2]), ("b", "/opt/lib/x.py", [2, 3])] {
            fleet.add_host(host);
            fleet.add_source(host, id("x.py", "aa"), "k");
            fleet
                .add_data(
                    &origin(host, ""),
                    ran(path, &lines),
                    &BTreeMap::from([(path.to_owned(), id("x.py", "aa"))]),
                )
                .expect("lines");
        }
        let CheckedReport { report, unanalysed: missing, .. } =
            fleet.report(&Selection::All, &|_, _| Some(source(&[1, 2, 3, 4]))).expect("one kind");
        assert!(missing.is_empty());
        assert_eq!(report.files.len(), 1);
        let file = &report.files[0];
        assert_eq!(file.name, "x.py");
        assert_eq!(file.analysed.missing, BTreeSet::from([4]));
        let hosts = View::new(&report, Dimension::Host).of_file(file);
        assert_eq!(hosts[0].ran, [1, 2].into_iter().collect::<LineSet>());
        assert_eq!(hosts[1].ran, [2, 3].into_iter().collect::<LineSet>());
        assert_eq!(hosts[1].only_there, [3].into_iter().collect::<LineSet>());
    }

    #[test]
    fn different_bytes_under_one_name_are_never_mixed() {
        let mut fleet = FleetCoverage::default();
        for (host, sha) in [("a", "aaaaaaaaaa"), ("b", "bbbbbbbbbb")] {
            fleet.add_source(host, id("x.py", sha), "k");
            fleet
                .add_data(
                    &origin(host, ""),
                    ran("/x.py", &[1]),
                    &BTreeMap::from([("/x.py".to_owned(), id("x.py", sha))]),
                )
                .expect("lines");
        }
        let CheckedReport { report, .. } =
            fleet.report(&Selection::All, &|_, _| Some(source(&[1, 2]))).expect("one kind");
        let names: Vec<&str> = report.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["x.py@aaaaaaaa", "x.py@bbbbbbbb"]);
        assert_eq!(fleet.all_offers().map(|(name, ..)| name).collect::<Vec<_>>(), names);
        assert_eq!(fleet.variant_hosts()["x.py"].len(), 2);
    }

    #[test]
    fn releases_are_made_one_and_what_is_lost_is_counted() {
        let mut fleet = FleetCoverage::default();
        for (host, sha, lines) in [("a", "aa", &[1u32, 2][..]), ("b", "bb", &[1, 3]), ("c", "bb", &[2])] {
            fleet.add_host(host);
            fleet.add_source(host, id("x.py", sha), "k");
            let sources = BTreeMap::from([("/x.py".to_owned(), id("x.py", sha))]);
            fleet.add_data(&origin(host, ""), ran("/x.py", lines), &sources).expect("lines");
        }
        let carried = fleet.map_releases(&|from, to| {
            assert_eq!((from, to), ("aa", "bb"), "most hosts have bb");
            Some(BTreeMap::from([(1, 4)]))
        });
        let carried = carried.expect("lines");
        assert_eq!((carried[0].carried, carried[0].lost), (1, 1));
        let CheckedReport { report, .. } =
            fleet.report(&Selection::All, &|_, _| Some(source(&[1, 2, 3, 4, 5]))).expect("lines");
        assert_eq!(report.files.len(), 1);
        assert_eq!(report.files[0].name, "x.py");
        assert_eq!(report.files[0].analysed.missing, BTreeSet::from([5]));
        let hosts = View::new(&report, Dimension::Host).of_file(&report.files[0]);
        assert_eq!(hosts[0].ran, [4].into_iter().collect::<LineSet>());
    }

    #[test]
    fn lines_and_branches_meet_as_lines_in_any_order() {
        let sources = BTreeMap::from([("/x.py".to_owned(), id("x.py", "aa"))]);
        let mut arcs = CoverageData::default();
        arcs.add("/x.py", "", Measured::Arcs([(-1, 3), (3, 4)].into_iter().collect())).expect("first");
        let lines = ran("/x.py", &[1, 2]);
        let mut reports = Vec::new();
        for order in [[("a", lines.clone()), ("b", arcs.clone())], [("b", arcs), ("a", lines)]] {
            let mut fleet = FleetCoverage::default();
            for (host, data) in order {
                fleet.add_source(host, id("x.py", "aa"), "k");
                fleet.add_data(&origin(host, ""), data, &sources).expect("both kinds are taken");
            }
            assert!(fleet.mixed().is_some());
            reports.push(
                fleet.report(&Selection::All, &|_, _| Some(source(&[1, 2, 3, 4, 5]))).expect("lines").report,
            );
        }
        assert_eq!(reports[0], reports[1]);
        assert!(!reports[0].branches);
        assert_eq!(reports[0].files[0].analysed.missing, BTreeSet::from([5]));
    }

    #[test]
    fn a_source_without_analysis_is_named_and_not_counted_as_covered() {
        let mut fleet = FleetCoverage::default();
        fleet.add_source("a", id("x.py", "aa"), "k");
        let CheckedReport { report, unanalysed: missing, .. } =
            fleet.report(&Selection::All, &|_, _| None).expect("no data");
        assert!(report.files.is_empty());
        assert_eq!(missing, [Unanalysed { name: "x.py".into(), id: id("x.py", "aa") }]);
    }
}
