//! A unified diff, and how much of what it adds ran.

use std::collections::BTreeMap;

use pulpcov_data_file::lines::LineSet;

use crate::report::{FileReport, Report};

/// Lines that a patch adds or changes, by file: their numbers in the new file, and their texts.
pub type Added = BTreeMap<String, BTreeMap<u32, String>>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the diff: {reason}")]
pub struct PatchError {
    line: usize,
    reason: String,
}

/// Reads a unified diff as `git diff` and `diff -u` write it.
pub fn parse(text: &str) -> Result<Added, PatchError> {
    let mut added = Added::new();
    let mut file: Option<String> = None;
    // Next line of the new file, and how many lines of the old and the new one the hunk still has.
    let (mut next, mut old_left, mut new_left) = (0u32, 0u32, 0u32);
    let is_mark = |line: &str| ["diff ", "--- ", "+++ ", "@@ "].iter().any(|mark| line.starts_with(mark));
    if !text.trim().is_empty() && !text.lines().any(is_mark) {
        return Err(PatchError { line: 1, reason: "it is no unified diff".to_owned() });
    }
    for (number, line) in (1..).zip(text.split('\n')) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if old_left > 0 || new_left > 0 {
            match line.as_bytes().first() {
                Some(b'+') => {
                    if let Some(file) = &file {
                        added.entry(file.clone()).or_default().insert(next, line[1..].to_owned());
                    }
                    next = next.saturating_add(1);
                    new_left = new_left.saturating_sub(1);
                }
                Some(b'-') => old_left = old_left.saturating_sub(1),
                Some(b'\\') => {}
                _ => {
                    next = next.saturating_add(1);
                    old_left = old_left.saturating_sub(1);
                    new_left = new_left.saturating_sub(1);
                }
            }
            continue;
        }
        if let Some(name) = line.strip_prefix("+++ ") {
            file = new_name(name);
        } else if let Some(hunk) = line.strip_prefix("@@ ") {
            let (old, new) = hunk_of(hunk)
                .ok_or_else(|| PatchError { line: number, reason: format!("no hunk: {line:?}") })?;
            (next, new_left) = new;
            old_left = old.1;
        }
    }
    Ok(added)
}

/// The path behind `+++ `, without git's `b/`; nothing where the file is gone.
fn new_name(text: &str) -> Option<String> {
    let name = text.split('\t').next().unwrap_or(text).trim_end();
    let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    let name = quoted.map_or_else(|| name.to_owned(), unquoted);
    if name == "/dev/null" {
        return None;
    }
    Some(name.strip_prefix("b/").map_or(name.clone(), str::to_owned))
}

/// git writes bytes that are not plain as `\303`.
fn unquoted(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let mut octal = 0u32;
        let mut digits = 0;
        while let Some(digit) = rest.next_if(|byte| digits < 3 && (b'0'..=b'7').contains(byte)) {
            octal = octal * 8 + u32::from(digit - b'0');
            digits += 1;
        }
        if digits > 0 {
            bytes.push(u8::try_from(octal & 0xFF).unwrap_or(b'?'));
        } else {
            let escaped = rest.next().unwrap_or(b'\\');
            bytes.push(match escaped {
                b'n' => b'\n',
                b't' => b'\t',
                other => other,
            });
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

type Range = (u32, u32);

/// `-1,2 +3,4 @@`: the first line and the number of lines, old and new.
fn hunk_of(text: &str) -> Option<(Range, Range)> {
    let mut words = text.split(' ');
    let mut range = |mark| {
        let word = words.next()?.strip_prefix(mark)?;
        let (first, count) = word.split_once(',').unwrap_or((word, "1"));
        Some((first.parse().ok()?, count.parse().ok()?))
    };
    Some((range('-')?, range('+')?))
}

/// How much of one file's added statements ran.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchFile {
    pub name: String,
    pub ran: LineSet,
    pub missing: LineSet,
}

/// Coverage of what a patch adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatchCoverage {
    /// Files with statements among what is added.
    pub files: Vec<PatchFile>,
    /// Python files of the patch that the report does not have.
    pub unknown: Vec<String>,
    /// Files whose lines are not those of the patch: the hosts run another release.
    pub differing: Vec<String>,
}

impl PatchCoverage {
    /// Statements that ran, and all.
    pub fn totals(&self) -> (u64, u64) {
        let sum = |of: fn(&PatchFile) -> usize| self.files.iter().map(of).sum::<usize>() as u64;
        let ran = sum(|file| file.ran.count());
        (ran, ran + sum(|file| file.missing.count()))
    }
}

/// `source` finds a file's text: lines count only where they are the patch's own.
pub fn cover(
    report: &Report,
    added: &Added,
    source: &dyn Fn(&FileReport) -> Option<String>,
) -> PatchCoverage {
    let mut coverage = PatchCoverage::default();
    for (path, lines) in added.iter().filter(|(path, _)| path.ends_with(".py")) {
        let variants: Vec<&FileReport> =
            report.files.iter().filter(|file| is_at(file.module_path(), path)).collect();
        // `a/b.py` and `b.py` may both be there: the longer name is the nearer one.
        let longest = variants.iter().map(|file| file.module_path().len()).max();
        let nearest: Vec<&FileReport> =
            variants.into_iter().filter(|file| Some(file.module_path().len()) == longest).collect();
        if nearest.is_empty() {
            coverage.unknown.push(path.clone());
            continue;
        }
        let same = nearest.into_iter().find(|file| {
            source(file).is_some_and(|text| {
                let text: Vec<&str> = text.split('\n').collect();
                let line = |n: u32| text.get((n as usize).checked_sub(1)?).copied();
                lines.iter().all(|(n, wanted)| line(*n) == Some(wanted.as_str()))
            })
        });
        match same {
            Some(file) => coverage.files.extend(of_file(file, lines.keys().copied())),
            None => coverage.differing.push(path.clone()),
        }
    }
    coverage
}

/// Whether a path in a repository is the file that Python imports as `module_path`.
fn is_at(module_path: &str, path: &str) -> bool {
    path.strip_suffix(module_path).is_some_and(|folder| folder.is_empty() || folder.ends_with('/'))
}

fn of_file(file: &FileReport, lines: impl Iterator<Item = u32>) -> Option<PatchFile> {
    let statements: LineSet = lines
        .filter_map(|line| u32::try_from(file.source.first_line(i32::try_from(line).ok()?)).ok())
        .collect();
    let among = |set: &std::collections::BTreeSet<i32>| -> LineSet {
        set.iter()
            .filter_map(|line| u32::try_from(*line).ok())
            .filter(|line| statements.contains(*line))
            .collect()
    };
    let (ran, missing) = (among(&file.analysed.executed), among(&file.analysed.missing));
    (!ran.is_empty() || !missing.is_empty()).then(|| PatchFile { name: file.name.clone(), ran, missing })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use pulpcov_data_file::data::Measured;

    use super::*;
    use crate::analysis::SourceAnalysis;
    use crate::report::report_file;

    const PATCH: &str = "diff --git a/src/shop/x.py b/src/shop/x.py\nindex 1..2 100644\n--- a/src/shop/x.py\n+++ b/src/shop/x.py\n\
        @@ -1,2 +1,3 @@ def f():\n a\n-b\n+B\n+C\n@@ -9 +10,0 @@\n-gone\n\
        --- a/old.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-+++ b/not/a/name\n--- /dev/null\n+++ \"b/n\\303\\251w.py\"\t2026\n@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n";

    #[test]
    fn added_lines_have_their_numbers_and_texts() {
        let added = parse(PATCH).expect("a diff");
        assert_eq!(added["src/shop/x.py"], BTreeMap::from([(2, "B".to_owned()), (3, "C".to_owned())]));
        assert_eq!(added["néw.py"], BTreeMap::from([(1, "x".to_owned())]));
        assert_eq!(added.len(), 2);
        assert!(parse("+++ b/x.py\n@@ what @@\n").is_err());
        assert!(parse("garbage\n").is_err() && parse("\n").is_ok_and(|added| added.is_empty()));
    }

    fn report() -> Report {
        let source = Arc::new(SourceAnalysis {
            n_lines: 3,
            statements: [1, 2].into(),
            multiline: [(3, 2)].into(),
            ..SourceAnalysis::default()
        });
        let ran = Measured::Lines([1].into_iter().collect());
        Report { files: vec![report_file("shop/x.py".into(), &source, &ran, [])], ..Report::default() }
    }

    #[test]
    fn only_lines_that_are_the_patchs_own_count() {
        let added = parse(PATCH).expect("a diff");
        let covered = cover(&report(), &added, &|_| Some("a\nB\nC\n".to_owned()));
        assert_eq!(covered.totals(), (0, 1), "line 3 is part of the statement at line 2");
        assert_eq!(covered.unknown, ["néw.py"]);
        let other = cover(&report(), &added, &|_| Some("a\nB\nother\n".to_owned()));
        assert_eq!((other.totals(), other.differing.as_slice()), ((0, 0), &["src/shop/x.py".to_owned()][..]));
    }

    #[test]
    fn a_name_is_found_below_any_folder_and_not_inside_another_name() {
        assert!(is_at("shop/x.py", "src/shop/x.py") && is_at("shop/x.py", "shop/x.py"));
        assert!(!is_at("shop/x.py", "workshop/x.py"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(@@ -[0-9]{1,11},?[0-9]{0,11} \\+[0-9]{1,11},?[0-9]{0,11} @@\n|\\+\\+\\+ [b/\"\\\\0-9]{0,8}\n|[-+ \\\\][a-z]{0,3}\n){0,12}") {
            let _ = parse(&text);
        }
    }
}
