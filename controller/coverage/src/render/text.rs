//! The table for a terminal: coverage.py's columns, and how many hosts reached each file.

use std::collections::BTreeSet;
use std::io;

use pulpcov_data_file::lines::LineSet;

use super::names::{human_key, printable};
use crate::diff::{Changed, Diff};
use crate::numbers::{Numbers, Skip, Skipped, display_percent, percent};
use crate::origin::Dimension;
use crate::patch::PatchCoverage;
use crate::report::{Analysed, FileReport, Report};
use crate::view::View;

/// Column to sort by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortBy {
    #[default]
    Name,
    Stmts,
    Miss,
    Branch,
    BrPart,
    Cover,
}

/// What of the table is shown, and how: coverage.py's options of the same names.
#[derive(Debug, Clone, Default)]
pub struct TextOptions {
    pub show_missing: bool,
    pub skip: Skip,
    pub sort: SortBy,
    pub descending: bool,
    /// Digits behind the point of a percentage.
    pub precision: usize,
    /// Tables to add below the files'.
    pub by: Vec<Dimension>,
}

pub fn render_text(report: &Report, options: &TextOptions, out: &mut dyn io::Write) -> io::Result<()> {
    let (shown, covered, empty) = chosen(report, options);
    let header = header(report, options);
    let rows: Vec<Vec<String>> = shown
        .into_iter()
        .map(|file| {
            let missing = missing_text(&file.analysed, report.branches);
            let name = printable(&file.name);
            cells(name, &file.analysed.numbers, report, options, report.hosts_of(file), missing)
        })
        .collect();
    let totals = report.totals();
    let total = cells("TOTAL".to_owned(), &totals, report, options, report.hosts.len(), String::new());
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().chain([&header, &total]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    // Missing lines may go on and on; the rule does not follow them.
    if let Some(nothing) = report.nothing() {
        return writeln!(out, "{}.", sentence(nothing));
    }
    let ruled = widths.len() - usize::from(options.show_missing);
    let mut length: usize = widths.iter().take(ruled).map(|width| width + 2).sum::<usize>() - 2;
    if options.show_missing {
        length += "  Missing".len();
    }
    let rule = "-".repeat(length);
    write_row(&header, &widths, options, out)?;
    writeln!(out, "{rule}")?;
    for row in &rows {
        write_row(row, &widths, options, out)?;
    }
    if !rows.is_empty() {
        writeln!(out, "{rule}")?;
    }
    write_row(&total, &widths, options, out)?;
    for words in skipped(covered, empty) {
        writeln!(out, "\n{words}")?;
    }
    for dimension in &options.by {
        write_view(report, *dimension, options, out)?;
    }
    Ok(())
}

/// The files to show, in their order; and how many are left out for being covered, and for being empty.
pub(super) fn chosen<'r>(report: &'r Report, options: &TextOptions) -> (Vec<&'r FileReport>, usize, usize) {
    let (mut covered, mut empty) = (0, 0);
    let mut shown: Vec<&FileReport> = report
        .files
        .iter()
        .filter(|file| {
            let why = options.skip.why(&file.analysed.numbers);
            covered += usize::from(why == Some(Skipped::Covered));
            empty += usize::from(why == Some(Skipped::Empty));
            why.is_none()
        })
        .collect();
    let number = |file: &FileReport| {
        let numbers = &file.analysed.numbers;
        match options.sort {
            SortBy::Name | SortBy::Stmts => numbers.statements,
            SortBy::Miss => numbers.missing,
            SortBy::Branch => numbers.branches,
            SortBy::BrPart => numbers.partial_branches,
            SortBy::Cover => 0,
        }
    };
    match options.sort {
        SortBy::Name => shown.sort_by_cached_key(|file| human_key(&file.name)),
        SortBy::Cover => shown.sort_by(|a, b| {
            let percent = |file: &FileReport| file.analysed.numbers.percent_covered();
            percent(a).total_cmp(&percent(b)).then_with(|| a.name.cmp(&b.name))
        }),
        _ => shown.sort_by(|a, b| number(a).cmp(&number(b)).then_with(|| a.name.cmp(&b.name))),
    }
    if options.descending {
        shown.reverse();
    }
    (shown, covered, empty)
}

pub(super) fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// What a list says of the files that it leaves out, in coverage.py's words.
pub(super) fn skipped(covered: usize, empty: usize) -> Vec<String> {
    let covered =
        (covered > 0).then(|| format!("{} skipped due to complete coverage.", counted(covered, "file")));
    let empty = (empty > 0).then(|| format!("{} skipped.", counted(empty, "empty file")));
    covered.into_iter().chain(empty).collect()
}

/// What each host, group, role or label covered, and what it alone did: what merely starting covers,
/// for one, is no test's work.
fn write_view(
    report: &Report,
    dimension: Dimension,
    options: &TextOptions,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let view = View::new(report, dimension);
    if view.names.is_empty() {
        return writeln!(out, "\nNo {dimension} is known.");
    }
    let (totals, everywhere) = view.totals(report);
    let numbers = report.totals();
    let row = |name: String, ran: usize, only_there: Option<usize>| {
        let part = u64::try_from(ran).unwrap_or(u64::MAX);
        let percent = display_percent(percent(part, numbers.statements), options.precision);
        let only_there = only_there.map(|n| n.to_string()).unwrap_or_default();
        vec![name, ran.to_string(), format!("{percent}%"), only_there]
    };
    let mut rows = vec![[dimension.title(), "Stmts run", "Cover", "Only there"].map(str::to_owned).to_vec()];
    for (name, counts) in view.names.iter().zip(&totals) {
        rows.push(row(printable(View::shown(name)), counts.ran, Some(counts.only_there)));
    }
    if view.names.len() > 1 {
        rows.push(row("everywhere".to_owned(), everywhere, None));
    }
    let nowhere = usize::try_from(numbers.missing).unwrap_or(usize::MAX);
    rows.push(row("nowhere".to_owned(), nowhere, None));
    writeln!(out)?;
    write_table(&rows, false, out)
}

/// Rows of equal length, lined up: the first column to the left, and the last two where they are words.
/// Widest column of words that is filled up with blanks.
const MAX_WORDS: usize = 40;

pub(super) fn write_table(rows: &[Vec<String>], words_last: bool, out: &mut dyn io::Write) -> io::Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    // One long list of lines must not push what stands behind the others' short ones out of sight.
    let is_words = |column: usize| words_last && column > 0 && column + 2 >= columns;
    let widths: Vec<usize> = (0..columns)
        .map(|column| if is_words(column) { width(column).min(MAX_WORDS) } else { width(column) })
        .collect();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| {
                let is_word = column == 0 || is_words(column);
                if is_word { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            })
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

pub(super) fn header(report: &Report, options: &TextOptions) -> Vec<String> {
    let mut header = vec!["Name", "Stmts", "Miss"];
    if report.branches {
        header.extend(["Branch", "BrPart"]);
    }
    header.push("Cover");
    if report.has_hosts() {
        header.push("Hosts");
    }
    if options.show_missing {
        header.push("Missing");
    }
    header.into_iter().map(str::to_owned).collect()
}

/// The words as a sentence of their own begins.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn cells(
    name: String,
    numbers: &Numbers,
    report: &Report,
    options: &TextOptions,
    hosts: usize,
    missing: String,
) -> Vec<String> {
    let mut cells = vec![name, numbers.statements.to_string(), numbers.missing.to_string()];
    if report.branches {
        cells.extend([numbers.branches.to_string(), numbers.partial_branches.to_string()]);
    }
    cells.push(format!("{}%", display_percent(numbers.percent_covered(), options.precision)));
    if report.has_hosts() {
        cells.push(hosts.to_string());
    }
    if options.show_missing {
        cells.push(missing);
    }
    cells
}

/// Names and missing lines to the left, numbers to the right.
fn write_row(
    cells: &[String],
    widths: &[usize],
    options: &TextOptions,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let last = if options.show_missing { cells.len() - 1 } else { 0 };
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, &width))| {
            if column == 0 || column == last { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        })
        .collect();
    writeln!(out, "{}", padded.join("  ").trim_end())
}

/// `3-5, 9, 12->14, 20->exit`: runs of missing statements, and branches never taken between others.
pub(super) fn missing_text(analysed: &Analysed, branches: bool) -> String {
    let statements = analysed.statements();
    let mut items: Vec<(i32, String)> = Vec::new();
    let mut run: Option<(i32, i32)> = None;
    for line in statements {
        run = match (run, analysed.missing.contains(&line)) {
            (Some((first, _)), true) => Some((first, line)),
            (None, true) => Some((line, line)),
            (open, false) => {
                items.extend(open.map(run_text));
                None
            }
        };
    }
    items.extend(run.map(run_text));
    if branches {
        for &(from, to) in &analysed.missing_branches {
            if !analysed.missing.contains(&from) && !analysed.missing.contains(&to) {
                let end = if to > 0 { to.to_string() } else { "exit".to_owned() };
                items.push((from, format!("{from}->{end}")));
            }
        }
    }
    items.sort();
    items.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ")
}

/// How much ran of what a diff adds, and what did not.
pub fn render_patch(
    report: &Report,
    patch: &PatchCoverage,
    options: &TextOptions,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let (ran, all) = patch.totals();
    if all == 0 {
        return writeln!(out, "\nChanged: no statement that was measured");
    }
    let shown = display_percent(percent(ran, all), options.precision);
    writeln!(out, "\nChanged: {ran} of {all} statements ran ({shown}%)")?;
    for file in patch.files.iter().filter(|file| !file.missing.is_empty()) {
        let found = report.files.iter().find(|found| found.name == file.name);
        let statements = found.map(|found| found.analysed.statements()).unwrap_or_default();
        writeln!(out, "  {}: not run: {}", printable(&file.name), lines_text(&file.missing, &statements))?;
    }
    Ok(())
}

/// Runs of lines: `1-3, 7`.
pub(super) fn lines_text(lines: &LineSet, statements: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    let mut open = false;
    for line in statements {
        let has = u32::try_from(*line).is_ok_and(|line| lines.contains(line));
        match runs.last_mut().filter(|_| open && has) {
            Some(run) => run.1 = *line,
            None if has => runs.push((*line, *line)),
            None => {}
        }
        open = has;
    }
    runs.into_iter().map(|run| run_text(run).1).collect::<Vec<_>>().join(", ")
}

/// Two sides of a [`Diff`], file by file; files that both ran alike are left out unless `all` are wanted.
pub fn render_diff(diff: &Diff, all: bool, show_lines: bool, out: &mut dyn io::Write) -> io::Result<()> {
    let report = &diff.report;
    let view = View::new(report, Dimension::Host);
    let mut header: Vec<String> =
        ["Name", "Stmts", "Both", "Only A", "Only B", "Neither"].map(str::to_owned).to_vec();
    if show_lines {
        header.extend(["Lines only A".to_owned(), "Lines only B".to_owned()]);
    }
    let mut rows = vec![header];
    let mut alike = 0;
    // The names may sort the other way round.
    let [a, b] = sides(&view, report);
    for file in &report.files {
        let parts = view.of_file(file);
        let (Some(only_a), Some(only_b)) = (parts.get(a), parts.get(b)) else { continue };
        let (only_a, only_b) = (&only_a.only_there, &only_b.only_there);
        if !all && only_a.is_empty() && only_b.is_empty() {
            alike += 1;
            continue;
        }
        let numbers = &file.analysed.numbers;
        let counts =
            [View::everywhere(&parts).count(), only_a.count(), only_b.count()].map(|n| n.to_string());
        let mut row = vec![printable(&file.name), numbers.statements.to_string()];
        row.extend(counts);
        row.push(numbers.missing.to_string());
        if show_lines {
            let statements = file.analysed.statements();
            row.extend([only_a, only_b].map(|lines| lines_text(lines, &statements)));
        }
        rows.push(row);
    }
    let totals = report.totals();
    let (counts, everywhere) = view.totals(report);
    let only = |side: usize| counts.get(side).map_or(0, |counts| counts.only_there).to_string();
    let mut total =
        vec!["TOTAL".to_owned(), totals.statements.to_string(), everywhere.to_string(), only(a), only(b)];
    total.push(totals.missing.to_string());
    total.resize(rows.first().map_or(0, Vec::len), String::new());
    rows.push(total);
    write_table(&rows, show_lines, out)?;
    if alike > 0 {
        writeln!(out, "\n{} alike on both sides left out.", counted(alike, "file"))?;
    }
    for changed in &diff.changed {
        let Changed { module_path, a, b } = changed;
        let name = printable(module_path);
        writeln!(out, "{name} differs: A ran {} of {} statements, B {} of {}.", a.0, a.1, b.0, b.1)?;
    }
    Ok(())
}

/// Where A and B stand among a view's names.
pub(super) fn sides(view: &View, report: &Report) -> [usize; 2] {
    let place = |host: &String| view.names.iter().position(|name| name == host).unwrap_or(0);
    [report.hosts.first().map_or(0, place), report.hosts.get(1).map_or(1, place)]
}

fn run_text((first, last): (i32, i32)) -> (i32, String) {
    (first, if first == last { first.to_string() } else { format!("{first}-{last}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_lines_pushes_nothing_out_of_sight() {
        let long = "1-2, ".repeat(200);
        let rows: Vec<Vec<String>> = [["Name", "Only A", "Only B"], ["a.py", &long, "7"], ["b.py", "3", "8"]]
            .map(|row| row.map(str::to_owned).to_vec())
            .to_vec();
        let mut out = Vec::new();
        write_table(&rows, true, &mut out).expect("written");
        let text = String::from_utf8(out).expect("text");
        let short = text.lines().last().expect("a line");
        assert!(short.len() < 60 && short.ends_with('8'), "{short:?}");
    }
}
