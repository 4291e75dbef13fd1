//! Two reports side by side: what one ran and the other did not.

use std::collections::BTreeMap;

use pulpcov_data_file::data::Measured;
use pulpcov_data_file::lines::LineSet;

use crate::numbers::Numbers;
use crate::origin::Origin;
use crate::report::{FileReport, Report, report_file};

/// A file that both sides have, with different bytes: its lines cannot be compared one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub module_path: String,
    /// Statements that ran, and statements, on each side.
    pub a: (u64, u64),
    pub b: (u64, u64),
}

/// Both sides as one report of two hosts, A and B: who ran a line, who alone, and what both did, are
/// then told as for any hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Diff {
    pub report: Report,
    pub changed: Vec<Changed>,
}

/// What runs of one file, on one side.
#[derive(Default)]
struct Pair<'a> {
    a: Option<&'a FileReport>,
    b: Option<&'a FileReport>,
}

pub fn diff(names: [&str; 2], a: &Report, b: &Report) -> Diff {
    let origins = names.map(|name| Origin { host: name.to_owned(), ..Origin::default() });
    let mut report = Report {
        hosts: names.map(str::to_owned).to_vec(),
        origins: origins.to_vec(),
        coverage_versions: a.coverage_versions.union(&b.coverage_versions).cloned().collect(),
        ..Report::default()
    };
    let mut pairs: BTreeMap<(&str, &str), Pair<'_>> = BTreeMap::new();
    for file in &a.files {
        pairs.entry((file.module_path(), &file.sha256)).or_default().a = Some(file);
    }
    for file in &b.files {
        pairs.entry((file.module_path(), &file.sha256)).or_default().b = Some(file);
    }
    let mut variants: BTreeMap<&str, usize> = BTreeMap::new();
    for (path, _) in pairs.keys() {
        *variants.entry(*path).or_default() += 1;
    }
    for ((path, sha256), pair) in &pairs {
        let Some(source) = pair.a.or(pair.b).map(|file| &file.source) else { continue };
        let sides = [pair.a, pair.b].map(|side| side.map(executed).unwrap_or_default());
        let both = Measured::Lines(sides.iter().collect());
        let sides = sides.map(Measured::Lines);
        let several = variants.get(path).is_some_and(|&count| count > 1);
        let name = if several {
            format!("{path}@{}", sha256.get(..8).unwrap_or(sha256))
        } else {
            (*path).to_owned()
        };
        let file = report_file(name, source, &both, sides.iter().enumerate());
        report.files.push(FileReport { sha256: (*sha256).to_owned(), ..file });
    }
    report.files.sort_by(|a, b| a.name.cmp(&b.name));
    Diff { report, changed: changed(&pairs, &variants) }
}

/// The statements of a file that ran.
fn executed(file: &FileReport) -> LineSet {
    file.analysed.executed.iter().filter_map(|line| u32::try_from(*line).ok()).collect()
}

fn changed(pairs: &BTreeMap<(&str, &str), Pair<'_>>, variants: &BTreeMap<&str, usize>) -> Vec<Changed> {
    let sum = |path: &str, side: fn(&Pair<'_>) -> Option<Numbers>| {
        let of_path = pairs.iter().filter(|((have, _), _)| *have == path);
        let found: Vec<Numbers> = of_path.filter_map(|(_, pair)| side(pair)).collect();
        let sum: Numbers = found.iter().copied().sum();
        (!found.is_empty()).then_some((sum.executed(), sum.statements))
    };
    let several = variants.iter().filter(|(_, count)| **count > 1);
    several
        .filter_map(|(path, _)| {
            let a = sum(path, |pair| pair.a.map(|file| file.analysed.numbers))?;
            let b = sum(path, |pair| pair.b.map(|file| file.analysed.numbers))?;
            Some(Changed { module_path: (*path).to_owned(), a, b })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::analysis::SourceAnalysis;
    use crate::origin::Dimension;
    use crate::view::View;

    fn side(files: &[(&str, &str, &[u32])]) -> Report {
        let source = Arc::new(SourceAnalysis {
            n_lines: 9,
            statements: (1..=5).collect(),
            ..SourceAnalysis::default()
        });
        let files = files.iter().map(|(name, sha256, ran)| {
            let ran = Measured::Lines(ran.iter().copied().collect());
            FileReport { sha256: (*sha256).to_owned(), ..report_file((*name).to_owned(), &source, &ran, []) }
        });
        Report { files: files.collect(), ..Report::default() }
    }

    #[test]
    fn lines_are_told_by_side() {
        let a = side(&[("x.py", "11111111", &[1, 2]), ("only_a.py", "22222222", &[1])]);
        let b = side(&[("x.py", "11111111", &[2, 3])]);
        let diff = diff(["A", "B"], &a, &b);
        assert!(diff.changed.is_empty());
        let view = View::new(&diff.report, Dimension::Host);
        let (totals, everywhere) = view.totals(&diff.report);
        assert_eq!((totals[0].ran, totals[0].only_there), (3, 2));
        assert_eq!((totals[1].ran, totals[1].only_there, everywhere), (2, 1, 1));
        assert_eq!(diff.report.totals().missing, 2 + 4);
    }

    #[test]
    fn different_bytes_are_not_compared_line_by_line() {
        let a = side(&[("x.py", "11111111", &[1, 2])]);
        let b = side(&[("x.py", "33333333", &[2, 3, 4])]);
        let diff = diff(["A", "B"], &a, &b);
        assert_eq!(diff.changed, [Changed { module_path: "x.py".into(), a: (2, 5), b: (3, 5) }]);
        let names: Vec<&str> = diff.report.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["x.py@11111111", "x.py@33333333"]);
    }
}
