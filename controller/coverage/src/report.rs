//! From what ran and what could run to what a report says. The algorithm is coverage.py 7.17's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync;

use pulpcov_data_file::data::Measured;
use pulpcov_data_file::lines::{Arc, LineSet};

use crate::analysis::{Region, RegionKind, SourceAnalysis};
use crate::numbers::Numbers;
use crate::origin::{Groups, Origin};

/// Executed, missing and excluded of a file or a region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Analysed {
    pub executed: BTreeSet<i32>,
    pub missing: BTreeSet<i32>,
    pub excluded: BTreeSet<i32>,
    pub executed_branches: Vec<Arc>,
    pub missing_branches: Vec<Arc>,
    /// Line with several ways out to how many there are, and how many were taken.
    pub branch_stats: BTreeMap<i32, (i64, i64)>,
    pub numbers: Numbers,
}

impl Analysed {
    pub fn statements(&self) -> BTreeSet<i32> {
        self.executed.union(&self.missing).copied().collect()
    }
}

/// A function or class of a file, or what is outside of all (an empty name).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionReport {
    /// Unique in its file.
    pub name: String,
    /// As the source has it.
    pub plain_name: String,
    pub start: i32,
    /// First and last line; nothing where it has none.
    pub extent: Option<(i32, i32)>,
    pub analysed: Analysed,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileReport {
    pub name: String,
    /// Digest of its bytes; empty for reports without a fleet.
    pub sha256: String,
    pub analysed: Analysed,
    pub functions: Vec<RegionReport>,
    pub classes: Vec<RegionReport>,
    /// Origin, as its place in the report's list, to the statements that ran there; ascending.
    pub ran: Vec<(usize, LineSet)>,
    /// What coverage.py says of the source.
    pub source: sync::Arc<SourceAnalysis>,
    /// Line to the contexts that it ran in; empty where nobody asked.
    pub contexts: BTreeMap<u32, BTreeSet<String>>,
}

/// A whole report: files sorted by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub branches: bool,
    /// coverage.py's version behind the analyses; several where hosts differ.
    pub coverage_versions: BTreeSet<String>,
    pub files: Vec<FileReport>,
    /// Whether files tell the contexts of their lines.
    pub show_contexts: bool,
    /// Hosts that were asked, in the order of their names, with or without data.
    pub hosts: Vec<String>,
    /// Where and when what is reported ran.
    pub origins: Vec<Origin>,
    /// Groups of the inventory that have hosts of the report.
    pub groups: Groups,
    /// Whether something was measured whose source is not here.
    pub lacks_sources: bool,
}

impl FileReport {
    /// The name without the digest that tells variants apart.
    pub fn module_path(&self) -> &str {
        let short = self.sha256.get(..8).unwrap_or_default();
        let bare = self.name.strip_suffix(short).and_then(|name| name.strip_suffix('@'));
        bare.filter(|_| !short.is_empty()).unwrap_or(&self.name)
    }
}

impl Report {
    /// Whether there is nothing to report: that is no coverage of 100 %.
    pub fn is_nothing(&self) -> bool {
        self.files.is_empty()
    }

    /// What a report of nothing says, instead of a percentage.
    pub fn nothing(&self) -> Option<&'static str> {
        self.is_nothing().then_some(if self.lacks_sources {
            "nothing that was measured has a source"
        } else {
            "nothing was measured"
        })
    }

    /// How much is covered, in percent: of nothing it is none.
    pub fn percent_covered(&self) -> f64 {
        if self.is_nothing() { 0.0 } else { self.totals().percent_covered() }
    }

    pub fn totals(&self) -> Numbers {
        self.files.iter().map(|file| file.analysed.numbers).sum()
    }

    /// What must be said of branches that an old coverage.py analysed.
    pub fn inexact_branches(&self) -> Option<String> {
        let inexact = self.files.iter().filter(|file| self.branches && !file.source.branches_are_exact());
        let versions: BTreeSet<&str> = inexact.map(|file| file.source.coverage.as_str()).collect();
        let versions: Vec<&str> = versions.into_iter().collect();
        (!versions.is_empty()).then(|| {
            let versions = versions.join(", ");
            format!("branch numbers of files that coverage {versions} analysed are not comparable with its own; lines are")
        })
    }

    /// Whether this is a fleet's report, and not one of data files alone.
    pub fn has_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// How many hosts ran something of a file.
    pub fn hosts_of(&self, file: &FileReport) -> usize {
        let hosts = file.ran.iter().filter_map(|(origin, _)| self.origins.get(*origin));
        hosts.map(|origin| &origin.host).collect::<BTreeSet<_>>().len()
    }
}

/// All that regions narrow down: sets over the whole file.
struct Whole<'a> {
    source: &'a SourceAnalysis,
    executed: BTreeSet<i32>,
    possible: BTreeSet<Arc>,
    executed_arcs: BTreeSet<Arc>,
    exit_counts: BTreeMap<i32, i64>,
}

/// Tells which statements of a source some lines are.
pub struct Statements<'a> {
    source: &'a SourceAnalysis,
    all: LineSet,
    /// Lines that are part of a statement that begins on another line.
    continued: LineSet,
}

impl<'a> Statements<'a> {
    pub fn new(source: &'a SourceAnalysis) -> Self {
        let positive = |line: &i32| u32::try_from(*line).ok();
        Self {
            source,
            all: source.statements.iter().filter_map(positive).collect(),
            continued: source.multiline.keys().filter_map(positive).collect(),
        }
    }

    /// The statements that `measured` ran.
    pub fn executed(&self, measured: &Measured) -> LineSet {
        match measured {
            Measured::Lines(lines) => self.of_lines(lines),
            Measured::Arcs(arcs) => self.of_lines(&arcs.lines()),
        }
    }

    fn of_lines(&self, lines: &LineSet) -> LineSet {
        let first_lines: LineSet = lines
            .intersection(&self.continued)
            .iter()
            .filter_map(|line| u32::try_from(self.source.first_line(i32::try_from(line).ok()?)).ok())
            .collect();
        let mut executed = lines.difference(&self.continued);
        executed.union_with(first_lines.as_numbits());
        executed.intersection(&self.all)
    }
}

fn whole<'a>(source: &'a SourceAnalysis, statements: &Statements<'_>, measured: &Measured) -> Whole<'a> {
    let executed = match &source.translated {
        Some(translated) => translated.lines.intersection(&source.statements).copied().collect(),
        None => statements.executed(measured).iter().filter_map(|line| i32::try_from(line).ok()).collect(),
    };
    let Measured::Arcs(arcs) = measured else {
        return Whole {
            source,
            executed,
            possible: BTreeSet::new(),
            executed_arcs: BTreeSet::new(),
            exit_counts: BTreeMap::new(),
        };
    };
    let executed_arcs = match &source.translated {
        Some(translated) => translated.arcs.clone(),
        None => executed_arcs(source, arcs.iter()),
    };
    Whole {
        source,
        executed,
        possible: source.arcs.clone(),
        executed_arcs,
        exit_counts: source.exit_counts.clone(),
    }
}

fn executed_arcs(source: &SourceAnalysis, arcs: impl Iterator<Item = Arc>) -> BTreeSet<Arc> {
    let mut destinations: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for &(from, to) in &source.arcs {
        destinations.entry(from).or_default().push(to);
    }
    // `(l, l)` says that the line ran; with one way out, that way ran.
    let resolved = source.translate_arcs(arcs).into_iter().filter_map(|(from, to)| {
        if from != to {
            return Some((from, to));
        }
        match destinations.get(&from).map(Vec::as_slice) {
            Some(&[only]) => Some((from, only)),
            _ => None,
        }
    });
    source.translate_arcs(resolved.collect::<Vec<_>>())
}

/// The sets that one region, or the whole file, counts from.
struct Part<'a> {
    statements: BTreeSet<i32>,
    excluded: BTreeSet<i32>,
    executed: BTreeSet<i32>,
    no_branch: &'a BTreeSet<i32>,
    possible: BTreeSet<Arc>,
    executed_arcs: BTreeSet<Arc>,
    exit_counts: BTreeMap<i32, i64>,
}

fn analyse(part: Part<'_>) -> Analysed {
    let missing: BTreeSet<i32> = part.statements.difference(&part.executed).copied().collect();
    let is_branch = |line: i32| part.exit_counts.get(&line).is_some_and(|&count| count > 1);
    let missing_branches: Vec<Arc> = part
        .possible
        .iter()
        .copied()
        .filter(|arc| !part.executed_arcs.contains(arc))
        .filter(|(from, to)| {
            !part.no_branch.contains(from) && !part.excluded.contains(to) && is_branch(*from)
        })
        .collect();
    let executed_branches: Vec<Arc> = part
        .executed_arcs
        .iter()
        .copied()
        .filter(|arc| part.possible.contains(arc) && is_branch(arc.0))
        .collect();
    let mut branch_stats: BTreeMap<i32, (i64, i64)> = part
        .exit_counts
        .iter()
        .filter(|&(_, &count)| count > 1)
        .map(|(&line, &count)| (line, (count, count)))
        .collect();
    for (from, _) in &missing_branches {
        if let Some((_, taken)) = branch_stats.get_mut(from) {
            *taken -= 1;
        }
    }
    let branches = branch_stats.values().map(|&(total, _)| total).sum::<i64>().unsigned_abs();
    let numbers = Numbers {
        files: 1,
        statements: part.statements.len() as u64,
        excluded: part.excluded.len() as u64,
        missing: missing.len() as u64,
        branches,
        partial_branches: missing_branches.iter().filter(|(from, _)| !missing.contains(from)).count() as u64,
        // A host may say of a line that it has fewer exits than arcs.
        missing_branches: (missing_branches.len() as u64).min(branches),
    };
    Analysed {
        executed: part.executed,
        missing,
        excluded: part.excluded,
        executed_branches,
        missing_branches,
        branch_stats,
        numbers,
    }
}

/// The report of one file: what ran of it in all, and by origin.
pub fn report_file<'m>(
    name: String,
    source: &sync::Arc<SourceAnalysis>,
    all: &Measured,
    by_origin: impl IntoIterator<Item = (usize, &'m Measured)>,
) -> FileReport {
    let statements = Statements::new(source);
    let whole = whole(source, &statements, all);
    let analysed = analyse(Part {
        statements: source.statements.clone(),
        excluded: source.excluded.clone(),
        executed: whole.executed.clone(),
        no_branch: &source.no_branch,
        possible: whole.possible.clone(),
        executed_arcs: whole.executed_arcs.clone(),
        exit_counts: whole.exit_counts.clone(),
    });
    let ran = by_origin
        .into_iter()
        .filter(|(_, measured)| !measured.is_empty())
        .map(|(origin, measured)| (origin, statements.executed(measured)))
        .collect();
    FileReport {
        name,
        sha256: String::new(),
        analysed,
        functions: regions(&whole, RegionKind::Function),
        classes: regions(&whole, RegionKind::Class),
        ran,
        source: sync::Arc::clone(source),
        contexts: BTreeMap::new(),
    }
}

/// Each region of a kind, in the order of their lines, and last what is outside of all of them.
fn regions(whole: &Whole<'_>, kind: RegionKind) -> Vec<RegionReport> {
    let found: Vec<&Region> = whole.source.regions.iter().filter(|region| region.kind == kind).collect();
    let mut outside: BTreeSet<i32> = (1..=whole.source.n_lines).collect();
    // Nested regions come after the one around them, so the last that claims a line owns its arcs.
    let mut owner: BTreeMap<i32, usize> = BTreeMap::new();
    for (i, region) in found.iter().enumerate() {
        for line in region.lines() {
            outside.remove(&line);
            owner.insert(line, i);
        }
    }
    owner.extend(outside.iter().map(|&line| (line, found.len())));

    let mut possible = vec![BTreeSet::new(); found.len() + 1];
    let mut executed_arcs = possible.clone();
    let mut exit_counts = vec![BTreeMap::new(); found.len() + 1];
    for (arcs, by_owner) in [(&whole.possible, &mut possible), (&whole.executed_arcs, &mut executed_arcs)] {
        for &(from, to) in arcs {
            for set in [from, to].iter().filter_map(|line| owner.get(line)) {
                if let Some(set) = by_owner.get_mut(*set) {
                    set.insert((from, to));
                }
            }
        }
    }
    for (&line, &count) in &whole.exit_counts {
        if let Some(counts) = owner.get(&line).and_then(|&i| exit_counts.get_mut(i)) {
            counts.insert(line, count);
        }
    }
    let outside_start = outside.first().copied().unwrap_or(1);
    let all = found
        .iter()
        .map(|region| (region.name.clone(), region.start, region.lines().collect::<BTreeSet<i32>>()))
        .chain([(String::new(), outside_start, outside)]);
    let mut reports: Vec<RegionReport> = all
        .zip(possible.into_iter().zip(executed_arcs).zip(exit_counts))
        .map(|((name, start, lines), ((possible, executed_arcs), exit_counts))| {
            let narrow = |set: &BTreeSet<i32>| set.intersection(&lines).copied().collect::<BTreeSet<i32>>();
            let analysed = analyse(Part {
                statements: narrow(&whole.source.statements),
                excluded: narrow(&whole.source.excluded),
                executed: narrow(&whole.executed),
                no_branch: &whole.source.no_branch,
                possible,
                executed_arcs,
                exit_counts,
            });
            let extent = lines.first().zip(lines.last());
            let extent = extent.map(|(&first, &last)| (first.min(start), last.max(start)));
            RegionReport { plain_name: name.clone(), name, start, extent, analysed }
        })
        .collect();
    let outside = reports.pop();
    reports.sort_by_key(|region| region.start);
    name_apart(&mut reports);
    reports.extend(outside);
    reports
}

/// Gives repeated names their line, as coverage.py 7.17.3 does: `f`, then `f@12`. Where only some
/// have statements, the bare name is theirs.
fn name_apart(regions: &mut [RegionReport]) {
    let with_statements: BTreeSet<String> = regions
        .iter()
        .filter(|region| region.analysed.numbers.statements > 0)
        .map(|region| region.name.clone())
        .collect();
    let mut used = BTreeSet::new();
    for region in regions {
        let yields = region.analysed.numbers.statements == 0 && with_statements.contains(&region.name);
        if used.contains(&region.name) || yields {
            region.name = format!("{}@{}", region.name, region.start);
        }
        used.insert(region.name.clone());
    }
}

#[cfg(test)]
mod tests {
    use pulpcov_data_file::lines::ArcSet;

    use super::*;

    #[test]
    fn no_more_branches_are_missing_than_there_are() {
        let text = br#"{"coverage":"7.17.3","python":"3.11","n_lines":9,"statements":[6,7,8,9],
            "arcs":[[6,7],[6,8],[6,9],[6,-5]],"exit_counts":[[6,2]]}"#;
        let source = sync::Arc::new(SourceAnalysis::from_json(text).expect("an analysis"));
        let report = report_file("a.py".to_owned(), &source, &Measured::Arcs(ArcSet::default()), []);
        let numbers = report.analysed.numbers;
        assert_eq!((numbers.branches, numbers.missing_branches, numbers.executed_branches()), (2, 2, 0));
    }
}
