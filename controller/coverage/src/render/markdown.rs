//! Markdown: coverage.py's table.

use std::io;

use super::names::printable;
use super::text::{TextOptions, chosen, header, missing_text, skipped};
use crate::numbers::{Numbers, display_percent};
use crate::report::Report;

/// `coverage report --format=markdown`, byte for byte where there are no hosts.
pub fn render_table(report: &Report, options: &TextOptions, out: &mut dyn io::Write) -> io::Result<()> {
    let (shown, covered, empty) = chosen(report, options);
    let header = header(report, options);
    let names: Vec<String> = shown.iter().map(|file| escape(&printable(&file.name))).collect();
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let name_width = longest.max("**TOTAL**".len()) + 1;
    let totals = report.totals();
    let percent = |numbers: &Numbers| display_percent(numbers.percent_covered(), options.precision);
    let cover_width = (percent(&totals).len() + 6).max(" Cover ".len());
    let width = |column: &str| match column {
        "Cover" => cover_width,
        "Missing" => 10,
        _ => 9,
    };
    let heads: Vec<String> = header
        .iter()
        .map(|column| match column.as_str() {
            "Name" => format!("| {column:name_width$}|"),
            column => format!("{column:>width$} |", width = width(column)),
        })
        .collect();
    writeln!(out, "{}", heads.concat())?;
    let rules = heads.iter().enumerate().map(|(i, head)| {
        let end = if i == 0 { "- |" } else { "-: |" };
        format!("{end:->width$}", width = head.chars().count() - 1)
    });
    writeln!(out, "|{}", rules.collect::<Vec<_>>().join(" "))?;
    for (file, name) in shown.iter().zip(&names) {
        let mut row = format!("| {name:name_width$}|");
        for column in header.iter().skip(1) {
            let value = match column.as_str() {
                "Cover" => format!("{}%", percent(&file.analysed.numbers)),
                "Hosts" => report.hosts_of(file).to_string(),
                "Missing" => escape(&missing_text(&file.analysed, report.branches)),
                column => number(column, &file.analysed.numbers),
            };
            row.push_str(&format!("{value:>width$} |", width = width(column)));
        }
        writeln!(out, "{row}")?;
    }
    let mut row = format!("|{:name_width$} |", " **TOTAL**");
    for column in header.iter().skip(1) {
        let value = match column.as_str() {
            "Cover" => format!(" **{}%**", percent(&totals)),
            "Hosts" => format!(" **{}**", report.hosts.len()),
            "Missing" => String::new(),
            column => format!(" **{}**", number(column, &totals)),
        };
        row.push_str(&format!("{value:>width$} |", width = width(column)));
    }
    writeln!(out, "{row}")?;
    for words in skipped(covered, empty) {
        writeln!(out, "\n{words}")?;
    }
    Ok(())
}

fn number(column: &str, numbers: &Numbers) -> String {
    match column {
        "Stmts" => numbers.statements,
        "Miss" => numbers.missing,
        "Branch" => numbers.branches,
        _ => numbers.partial_branches,
    }
    .to_string()
}

/// What Markdown would act on.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && !".,/-".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
