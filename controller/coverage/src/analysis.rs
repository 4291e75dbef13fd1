//! What coverage.py says of a source without running it: made on a host by its own Python, read here.

use std::collections::{BTreeMap, BTreeSet};

use pulpcov_data_file::lines::Arc;
use serde::Deserialize;

/// Deepest nesting and largest text that are read come from `serde_json` and from the bundle's limits.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    #[error("an analysis is no JSON of the expected shape")]
    Json(#[source] serde_json::Error),
    #[error("coverage.py could not analyse it: {0}")]
    Failed(String),
    #[error("an analysis has line {0}")]
    LineNumber(i64),
    #[error("an analysis has a line {0} with more ways out than it tells of")]
    Exits(i32),
    #[error("an analysis is by {0:?}, which is no version")]
    Version(String),
}

impl AnalysisError {
    /// Whether the source was there, and is no Python.
    pub fn is_not_python(&self) -> bool {
        matches!(self, Self::Failed(words) if words.starts_with("NotPython:"))
    }
}

/// Class or function: a part of a file with numbers of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub kind: RegionKind,
    pub name: String,
    pub start: i32,
    /// Inclusive ranges of lines.
    pub ranges: Vec<(i32, i32)>,
}

impl Region {
    pub fn lines(&self) -> impl Iterator<Item = i32> + '_ {
        self.ranges.iter().flat_map(|&(first, last)| first..=last)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegionKind {
    Function,
    Class,
}

/// coverage.py's static view of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceAnalysis {
    pub coverage: String,
    pub python: String,
    pub n_lines: i32,
    pub statements: BTreeSet<i32>,
    pub excluded: BTreeSet<i32>,
    /// Line to first line of its statement, where they differ.
    pub multiline: BTreeMap<i32, i32>,
    pub no_branch: BTreeSet<i32>,
    /// Every arc that could run.
    pub arcs: BTreeSet<Arc>,
    /// Line to the number of its possible exits.
    pub exit_counts: BTreeMap<i32, i64>,
    /// Arcs of `with` statements to what they stand for; to nothing where they stand for nothing.
    pub with_fixers: BTreeMap<Arc, Option<Arc>>,
    /// The same in coverage.py 7.6.2 to 7.16: from the start of a `with` on, and from its end on.
    pub with_chains: BTreeMap<Arc, (Arc, Arc)>,
    /// Why it has no arcs, where coverage.py could not tell them: its lines can be reported all the same.
    pub arcs_error: Option<String>,
    pub regions: Vec<Region>,
    /// coverage.py's words for a branch that was taken.
    pub descriptions: BTreeMap<Arc, String>,
    /// And for one that was not.
    pub missing_descriptions: BTreeMap<Arc, String>,
    /// What a plugin of coverage.py says besides; nothing of Python.
    pub translated: Option<Box<Translated>>,
}

/// A file that a plugin reports: it decides what ran, and how the file is called and read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Translated {
    pub name: String,
    pub source: String,
    pub lines: BTreeSet<i32>,
    pub arcs: BTreeSet<Arc>,
    /// The kinds of regions that its language has.
    pub kinds: Vec<RegionKind>,
}

/// Kind, name, first line, ranges.
type RawRegion = (RegionKind, String, i32, Vec<(i32, i32)>);

/// What an arc of a `with` stands for: nothing, another arc, or (before 7.17) a step of a chain.
#[derive(Deserialize)]
#[serde(untagged)]
enum Fixer {
    Chain(Arc, Arc),
    Arc(i32, i32),
    Nothing(()),
}

#[derive(Deserialize)]
struct Raw {
    coverage: String,
    python: String,
    error: Option<String>,
    #[serde(default)]
    n_lines: i32,
    #[serde(default)]
    statements: BTreeSet<i32>,
    #[serde(default)]
    excluded: BTreeSet<i32>,
    #[serde(default)]
    multiline: Vec<(i32, i32)>,
    #[serde(default)]
    no_branch: BTreeSet<i32>,
    #[serde(default)]
    arcs: BTreeSet<Arc>,
    #[serde(default)]
    arcs_error: Option<String>,
    #[serde(default)]
    exit_counts: Vec<(i32, i64)>,
    #[serde(default)]
    with_fixers: Vec<(Arc, Fixer)>,
    #[serde(default)]
    regions: Vec<RawRegion>,
    /// From, to, the words for one not taken, and for one taken: older coverage.py has no such.
    #[serde(default)]
    descriptions: Vec<(i32, i32, Option<String>, Option<String>)>,
    #[serde(default)]
    translated: Option<Box<Translated>>,
}

/// Most lines that a source may have; regions are spread out line by line.
const MAX_LINES: i32 = 1_000_000;

/// Most lines that all regions of a source may have together: its lines, nested a few levels deep.
const MAX_REGION_LINES: i64 = 8_000_000;

impl SourceAnalysis {
    /// Of a host: no plugin runs there, and no host says what ran on another.
    pub fn from_json(text: &[u8]) -> Result<Self, AnalysisError> {
        let raw: Raw = serde_json::from_slice(text).map_err(AnalysisError::Json)?;
        for version in [&raw.coverage, &raw.python] {
            if !is_version(version) {
                return Err(AnalysisError::Version(version.clone()));
            }
        }
        check_regions(&raw)?;
        if raw.error.is_none() {
            check_inside(&raw)?;
        }
        Ok(Self { translated: None, ..Self::of_raw(raw)? })
    }

    /// Of a Python of this machine, which may have loaded plugins.
    pub fn of_this_machine(text: &[u8]) -> Result<Self, AnalysisError> {
        let raw: Raw = serde_json::from_slice(text).map_err(AnalysisError::Json)?;
        check_regions(&raw)?;
        Self::of_raw(raw)
    }

    fn of_raw(raw: Raw) -> Result<Self, AnalysisError> {
        if let Some(error) = raw.error {
            return Err(AnalysisError::Failed(error));
        }
        let (mut fixers, mut chains) = (BTreeMap::new(), BTreeMap::new());
        for (arc, fixer) in raw.with_fixers {
            match fixer {
                Fixer::Nothing(()) => drop(fixers.insert(arc, None)),
                Fixer::Arc(from, to) => drop(fixers.insert(arc, Some((from, to)))),
                Fixer::Chain(start, end) => drop(chains.insert(arc, (start, end))),
            }
        }
        let (mut taken, mut missing) = (BTreeMap::new(), BTreeMap::new());
        for (from, to, missing_text, taken_text) in raw.descriptions {
            taken.extend(taken_text.map(|text| ((from, to), text)));
            missing.extend(missing_text.map(|text| ((from, to), text)));
        }
        Ok(Self {
            coverage: raw.coverage,
            python: raw.python,
            n_lines: raw.n_lines,
            statements: raw.statements,
            excluded: raw.excluded,
            multiline: raw.multiline.into_iter().collect(),
            no_branch: raw.no_branch,
            arcs: raw.arcs,
            arcs_error: raw.arcs_error,
            exit_counts: raw.exit_counts.into_iter().collect(),
            with_fixers: fixers,
            with_chains: chains,
            regions: raw
                .regions
                .into_iter()
                .map(|(kind, name, start, ranges)| Region { kind, name, start, ranges })
                .collect(),
            descriptions: taken,
            missing_descriptions: missing,
            translated: raw.translated,
        })
    }

    /// The analysis, if it does for a report with branches, or without.
    pub fn with_branches(self, branches: bool) -> Result<Self, AnalysisError> {
        match self.arcs_error {
            Some(error) if branches => Err(AnalysisError::Failed(error)),
            _ => Ok(self),
        }
    }

    /// First line of the statement that `line` belongs to; exits and entries keep their sign.
    pub fn first_line(&self, line: i32) -> i32 {
        let first = |line| self.multiline.get(&line).copied().unwrap_or(line);
        if line >= 0 { first(line) } else { first(line.saturating_neg()).saturating_neg() }
    }

    /// Replaces the jumps back to a `with` by what they lead to, through all that are nested.
    fn follow_chains(&self, arcs: &mut BTreeSet<Arc>) {
        let (mut gone, mut new) = (BTreeSet::new(), BTreeSet::new());
        for arc in &*arcs {
            let Some(&(mut start_next, mut end_next)) = self.with_chains.get(arc) else { continue };
            gone.insert(*arc);
            // A host's word may go in circles.
            for _ in 0..self.with_chains.len() {
                let Some(&(start, end)) = self.with_chains.get(&start_next) else { break };
                gone.insert(start_next);
                (start_next, end_next) = (start, end);
                gone.insert(end_next);
            }
            new.insert((arc.0, end_next.1));
            gone.insert(start_next);
        }
        arcs.extend(new);
        arcs.retain(|arc| !gone.contains(arc));
    }

    /// Whether branch numbers are exactly those that this coverage.py would tell: shown for 7.10 and later.
    pub fn branches_are_exact(&self) -> bool {
        let mut parts = self.coverage.split('.').map(|part| part.parse().unwrap_or(0u32));
        (parts.next(), parts.next()) >= (Some(7), Some(10))
    }

    /// Arcs as coverage.py reports them: `with` fixed, continuation lines gone.
    pub fn translate_arcs(&self, arcs: impl IntoIterator<Item = Arc>) -> BTreeSet<Arc> {
        let mut arcs: BTreeSet<Arc> = arcs.into_iter().collect();
        if !self.with_chains.is_empty() {
            self.follow_chains(&mut arcs);
        }
        arcs.into_iter()
            .filter_map(|arc| self.with_fixers.get(&arc).copied().unwrap_or(Some(arc)))
            .map(|(from, to)| (self.first_line(from), self.first_line(to)))
            .collect()
    }
}

/// Whether a text can be the version of a Python or of coverage.py: a few numbers with dots between them.
fn is_version(text: &str) -> bool {
    let is_number = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    (2..=4).contains(&text.split('.').count()) && text.split('.').all(is_number)
}

/// All that an analysis tells lies within its source's lines; what a line has of ways out it tells as arcs. True of
/// coverage.py 6.2 to 7.17 for Python 3.6 to 3.12 in 9,600 analyses; 3.13 was not looked through.
fn check_inside(raw: &Raw) -> Result<(), AnalysisError> {
    // An empty source has a line all the same, in arcs.
    let last = raw.n_lines.max(1);
    let inside = |line: i32| (1..=last).contains(&line);
    let at_an_end = |line: i32| inside(line.saturating_abs());
    let sets = raw.statements.iter().chain(&raw.excluded).chain(&raw.no_branch).copied();
    let pairs = raw.multiline.iter().flat_map(|&(line, first)| [line, first]);
    let exits = raw.exit_counts.iter().map(|&(line, _)| line);
    let regions = raw.regions.iter().map(|(_, _, start, _)| *start);
    let outside = sets.chain(pairs).chain(exits).chain(regions).find(|&line| !inside(line));
    let arcs = raw.arcs.iter().copied().chain(raw.with_fixers.iter().map(|(arc, _)| *arc));
    let outside = outside.or_else(|| arcs.flat_map(|(from, to)| [from, to]).find(|&line| !at_an_end(line)));
    if let Some(line) = outside {
        return Err(AnalysisError::LineNumber(line.into()));
    }
    let mut ways: BTreeMap<i32, i64> = BTreeMap::new();
    for (from, _) in &raw.arcs {
        *ways.entry(*from).or_default() += 1;
    }
    let too_many =
        |&&(line, count): &&(i32, i64)| !(0..=ways.get(&line).copied().unwrap_or(0)).contains(&count);
    match raw.exit_counts.iter().find(too_many) {
        Some(&(line, _)) => Err(AnalysisError::Exits(line)),
        None => Ok(()),
    }
}

fn check_regions(raw: &Raw) -> Result<(), AnalysisError> {
    if raw.n_lines < 0 || raw.n_lines > MAX_LINES {
        return Err(AnalysisError::LineNumber(raw.n_lines.into()));
    }
    let mut region_lines = 0i64;
    for &(first, last) in raw.regions.iter().flat_map(|(_, _, _, ranges)| ranges) {
        if first < 0 || last < first || last > raw.n_lines {
            return Err(AnalysisError::LineNumber(last.into()));
        }
        // Nested regions repeat lines, but not without bound.
        region_lines += i64::from(last) - i64::from(first) + 1;
        if region_lines > MAX_REGION_LINES {
            return Err(AnalysisError::LineNumber(region_lines));
        }
    }
    Ok(())
}

/// Whether a file's name says that Python is in it, by coverage.py's rule.
pub fn should_be_python(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).trim_start_matches('.');
    name.rsplit_once('.').is_none_or(|(_, extension)| extension.starts_with("py"))
}

#[cfg(test)]
mod tests {
    use super::{SourceAnalysis, should_be_python};

    #[test]
    fn no_host_says_what_ran_on_others() {
        let text = br#"{"coverage":"7.17.3","python":"3.11","n_lines":1,"statements":[1],
            "translated":{"name":"a","source":"","lines":[1],"arcs":[],"kinds":[]}}"#;
        assert!(SourceAnalysis::from_json(text).expect("an analysis").translated.is_none());
        assert!(SourceAnalysis::of_this_machine(text).expect("an analysis").translated.is_some());
    }

    #[test]
    fn a_line_has_no_more_exits_than_arcs() {
        for (count, is_read) in [(2, true), (3, false), (-1, false), (i64::MIN, false), (i64::MAX, false)] {
            let text = format!(
                r#"{{"coverage":"7.17.3","python":"3.11","n_lines":2,"arcs":[[1,2],[1,-1]],"exit_counts":[[1,{count}]]}}"#
            );
            assert_eq!(SourceAnalysis::from_json(text.as_bytes()).is_ok(), is_read, "{count}");
        }
    }

    #[test]
    fn a_host_tells_of_no_lines_beyond_its_source() {
        let of = |version: &str, more: &str| {
            let text = format!(r#"{{"coverage":"{version}","python":"3.11","n_lines":2{more}}}"#);
            SourceAnalysis::from_json(text.as_bytes())
        };
        for more in [
            r#","statements":[3]"#,
            r#","statements":[0]"#,
            r#","excluded":[-1]"#,
            r#","no_branch":[9]"#,
            r#","multiline":[[2,3]]"#,
            r#","arcs":[[1,-3]]"#,
            r#","arcs":[[0,1]]"#,
            r#","exit_counts":[[3,0]]"#,
            r#","regions":[["function","f",3,[]]]"#,
            r#","regions":[["function","f",1,[[1,3]]]]"#,
        ] {
            assert!(of("7.17.3", more).is_err(), "{more}");
        }
        of("7.17.3", r#","statements":[1,2],"arcs":[[-1,1],[2,-2]],"multiline":[[2,1]]"#).expect("inside");
        let empty = br#"{"coverage":"6.2","python":"3.6","arcs":[[-1,1],[1,-1]],"exit_counts":[[1,1]]}"#;
        SourceAnalysis::from_json(empty).expect("an empty file");
        for version in ["", "7", "7.17.3 <b>", "99999.1", "7..3", "1.2.3.4.5"] {
            assert!(of(version, "").is_err(), "{version}");
        }
    }

    #[test]
    fn names_that_say_python() {
        for name in ["/x/a.py", "/x/a.pyw", "/x.d/script", "/x/a.pyx", "/x/.hidden"] {
            assert!(should_be_python(name), "{name}");
        }
        for name in ["/x/a.html", "/x/a.j2", "/x/a.py.j2"] {
            assert!(!should_be_python(name), "{name}");
        }
    }
}
