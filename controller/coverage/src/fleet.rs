//! What ran, on which host: the data of a fleet by source file.
//!
//! A source file is its module path and the digest of its bytes (not its path on a host): equal
//! bytes are one file wherever they lie, different bytes are different files whatever they are
//! called.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::SourceAnalysis;
use crate::data::{CombineError, CoverageData, Kind, Measured};
use crate::report::{Report, report_file};

/// Identity of a source file in a fleet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId {
    pub module_path: String,
    pub sha256: String,
}

/// Where and when something ran.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub host: String,
    /// What was going on: `startup`, or a name that somebody gave; empty where nobody knows.
    pub label: String,
}

/// Labels to report of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelFilter {
    /// These only; all where empty.
    pub only: BTreeSet<String>,
    /// And of those not these.
    pub without: BTreeSet<String>,
}

impl LabelFilter {
    pub fn takes(&self, label: &str) -> bool {
        (self.only.is_empty() || self.only.contains(label)) && !self.without.contains(label)
    }
}

#[derive(Debug, Default)]
struct FleetFile {
    by_origin: BTreeMap<Origin, Measured>,
    /// Hosts that have this source, run or not.
    on: BTreeSet<String>,
    /// Keys of its analyses; one for each coverage.py version in the fleet.
    analyses: BTreeSet<String>,
}

/// The data of all hosts.
#[derive(Debug, Default)]
pub struct FleetCoverage {
    /// Hosts by what they recorded. Where there are both, lines are what they have in common.
    kinds: BTreeMap<&'static str, BTreeSet<String>>,
    files: BTreeMap<SourceId, FleetFile>,
    hosts: BTreeSet<String>,
    labels: BTreeSet<String>,
    /// Measured files that no host has a source of, by host.
    unknown: BTreeMap<String, BTreeSet<String>>,
}

impl FleetCoverage {
    pub fn add_host(&mut self, host: &str) {
        self.hosts.insert(host.to_owned());
    }

    /// A source of a host, run or not.
    pub fn add_source(&mut self, host: &str, id: SourceId, analysis: &str) {
        let file = self.files.entry(id).or_default();
        file.on.insert(host.to_owned());
        file.analyses.insert(analysis.to_owned());
    }

    /// A data file of a host and label. `sources` tells which source each path of that host is.
    pub fn add_data(
        &mut self,
        origin: &Origin,
        data: CoverageData,
        sources: &BTreeMap<String, SourceId>,
    ) -> Result<(), CombineError> {
        let Some(kind) = data.kind() else { return Ok(()) };
        let host = &origin.host;
        self.kinds.entry(kind_name(kind)).or_default().insert(host.clone());
        self.labels.insert(origin.label.clone());
        for (path, file) in data.files {
            let Some(id) = sources.get(&path) else {
                self.unknown.entry(host.clone()).or_default().insert(path);
                continue;
            };
            let measured = file.all(kind);
            let by_origin = &mut self.files.entry(id.clone()).or_default().by_origin;
            match by_origin.get_mut(origin) {
                Some(have) if have.kind() == kind => have.union_with(&measured)?,
                // The report will be of lines, whichever kind came first.
                Some(have) => {
                    *have = have.to_lines();
                    have.union_with(&measured.to_lines())?;
                }
                None => {
                    by_origin.insert(origin.clone(), measured);
                }
            }
        }
        Ok(())
    }

    /// Hosts with line data and hosts with branch data, where the fleet has both: the report is then
    /// one of lines, and that must be said.
    pub fn mixed(&self) -> Option<(&BTreeSet<String>, &BTreeSet<String>)> {
        Some((self.kinds.get(kind_name(Kind::Lines))?, self.kinds.get(kind_name(Kind::Arcs))?))
    }

    /// Paths that were measured on a host, but whose source no bundle has.
    pub fn unknown(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.unknown
    }

    /// Labels of the data, in the order of their names.
    pub fn labels(&self) -> &BTreeSet<String> {
        &self.labels
    }

    /// The report of the labels that `filter` takes; `analysis` finds an analysis by its key. Sources without one come back as the
    /// second value: their numbers are missing from the report, and that must be said.
    pub fn report(
        &self,
        filter: &LabelFilter,
        analysis: &dyn Fn(&str) -> Option<std::sync::Arc<SourceAnalysis>>,
    ) -> Result<(Report, Vec<String>), CombineError> {
        let only_arcs = self.mixed().is_none() && self.kinds.contains_key(kind_name(Kind::Arcs));
        let kind = if only_arcs { Kind::Arcs } else { Kind::Lines };
        let variants = self.variants();
        let mut report = Report {
            branches: kind == Kind::Arcs,
            hosts: self.hosts.iter().cloned().collect(),
            labels: self.labels.iter().filter(|label| filter.takes(label)).cloned().collect(),
            ..Report::default()
        };
        let mut missing = Vec::new();
        for (id, file) in &self.files {
            let name = if variants.get(id.module_path.as_str()).is_some_and(|&count| count > 1) {
                format!("{}@{}", id.module_path, id.sha256.get(..8).unwrap_or(&id.sha256))
            } else {
                id.module_path.clone()
            };
            // The newest coverage.py's view, where hosts have several.
            let found = file
                .analyses
                .iter()
                .filter_map(|key| analysis(key))
                .max_by_key(|found| version_key(&found.coverage));
            let Some(source) = found else {
                missing.push(name);
                continue;
            };
            let mut all = Measured::none(kind);
            let (mut by_host, mut by_label) = (BTreeMap::new(), BTreeMap::new());
            for (origin, measured) in file.by_origin.iter().filter(|(origin, _)| filter.takes(&origin.label))
            {
                let measured = if only_arcs { measured } else { &measured.to_lines() };
                all.union_with(measured)?;
                for (parts, name) in [(&mut by_host, &origin.host), (&mut by_label, &origin.label)] {
                    parts.entry(name.clone()).or_insert_with(|| Measured::none(kind)).union_with(measured)?;
                }
            }
            report.coverage_versions.insert(source.coverage.clone());
            report.files.push(report_file(name, &source, &all, &by_host, &by_label));
        }
        report.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((report, missing))
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

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Lines => "lines",
        Kind::Arcs => "arcs",
    }
}

/// `7.17.3` as numbers, for comparing.
fn version_key(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn source(statements: &[i32]) -> Arc<SourceAnalysis> {
        Arc::new(SourceAnalysis {
            coverage: "7.17.3".into(),
            n_lines: 10,
            statements: statements.iter().copied().collect(),
            ..SourceAnalysis::default()
        })
    }

    fn origin(host: &str, label: &str) -> Origin {
        Origin { host: host.into(), label: label.into() }
    }

    #[test]
    fn what_a_label_covered_is_kept_apart() {
        let mut fleet = FleetCoverage::default();
        fleet.add_source("a", id("x.py", "aa"), "k");
        let sources = BTreeMap::from([("/x.py".to_owned(), id("x.py", "aa"))]);
        for (label, lines) in [("startup", [1, 2]), ("tier1", [2, 3])] {
            fleet.add_data(&origin("a", label), ran("/x.py", &lines), &sources).expect("lines");
        }
        let executed = |only: &[&str], without: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            let filter = LabelFilter { only: names(only), without: names(without) };
            let (report, _) = fleet.report(&filter, &|_| Some(source(&[1, 2, 3, 4]))).expect("one kind");
            report.files[0].analysed.executed.iter().copied().collect::<Vec<_>>()
        };
        assert_eq!(executed(&[], &[]), [1, 2, 3]);
        assert_eq!(executed(&["tier1"], &[]), [2, 3]);
        assert_eq!(executed(&[], &["tier1"]), [1, 2]);
        assert!(executed(&["tier2"], &[]).is_empty());
        let (report, _) =
            fleet.report(&LabelFilter::default(), &|_| Some(source(&[1, 2, 3, 4]))).expect("lines");
        assert_eq!(report.files[0].labels["startup"], BTreeSet::from([1, 2]));
        assert_eq!(report.labels, ["startup", "tier1"]);
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
        let (report, missing) =
            fleet.report(&LabelFilter::default(), &|_| Some(source(&[1, 2, 3, 4]))).expect("one kind");
        assert!(missing.is_empty());
        assert_eq!(report.files.len(), 1);
        let file = &report.files[0];
        assert_eq!(file.name, "x.py");
        assert_eq!(file.analysed.missing, BTreeSet::from([4]));
        assert_eq!(file.hosts["a"], BTreeSet::from([1, 2]));
        assert_eq!(file.hosts["b"], BTreeSet::from([2, 3]));
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
        let (report, _) =
            fleet.report(&LabelFilter::default(), &|_| Some(source(&[1, 2]))).expect("one kind");
        let names: Vec<&str> = report.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["x.py@aaaaaaaa", "x.py@bbbbbbbb"]);
        assert_eq!(fleet.variant_hosts()["x.py"].len(), 2);
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
                fleet.report(&LabelFilter::default(), &|_| Some(source(&[1, 2, 3, 4, 5]))).expect("lines").0,
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
        let (report, missing) = fleet.report(&LabelFilter::default(), &|_| None).expect("no data");
        assert!(report.files.is_empty());
        assert_eq!(missing, ["x.py"]);
    }
}
