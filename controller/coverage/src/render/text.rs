//! The table for a terminal: coverage.py's columns, and how many hosts reached each file.

use std::io;

use super::names::printable;
use crate::numbers::{Numbers, display_percent};
use crate::report::Report;

pub fn render_text(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let header = header(report);
    let rows: Vec<Vec<String>> = report
        .files
        .iter()
        .map(|file| {
            let reached = file.hosts.len();
            cells(printable(&file.name), &file.analysed.numbers, report, reached.to_string())
        })
        .collect();
    let reporting = report.hosts.len();
    let total = cells("TOTAL".to_owned(), &report.totals(), report, reporting.to_string());
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().chain([&header, &total]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1));
    write_row(&header, &widths, out)?;
    writeln!(out, "{rule}")?;
    for row in &rows {
        write_row(row, &widths, out)?;
    }
    writeln!(out, "{rule}")?;
    write_row(&total, &widths, out)?;
    write_labels(report, out)
}

/// What each label covered, where there are several: what merely starting covers is no test's work.
fn write_labels(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    if report.labels.len() < 2 {
        return Ok(());
    }
    let mut rows = vec![["Label", "Stmts run", "Only there"].map(str::to_owned).to_vec()];
    for numbers in report.label_numbers() {
        let label = if numbers.label.is_empty() { "(none)" } else { numbers.label };
        rows.push(vec![printable(label), numbers.executed.to_string(), numbers.only_there.to_string()]);
    }
    let widths: Vec<usize> = (0..3)
        .map(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    writeln!(out)?;
    for row in &rows {
        write_row(row, &widths, out)?;
    }
    Ok(())
}

fn header(report: &Report) -> Vec<String> {
    let mut header = vec!["Name", "Stmts", "Miss"];
    if report.branches {
        header.extend(["Branch", "BrPart"]);
    }
    header.push("Cover");
    if !report.hosts.is_empty() {
        header.push("Hosts");
    }
    header.into_iter().map(str::to_owned).collect()
}

fn cells(name: String, numbers: &Numbers, report: &Report, hosts: String) -> Vec<String> {
    let mut cells = vec![name, numbers.statements.to_string(), numbers.missing.to_string()];
    if report.branches {
        cells.extend([numbers.branches.to_string(), numbers.partial_branches.to_string()]);
    }
    cells.push(format!("{}%", display_percent(numbers.percent_covered(), 0)));
    if !report.hosts.is_empty() {
        cells.push(hosts);
    }
    cells
}

/// Names to the left, numbers to the right.
fn write_row(cells: &[String], widths: &[usize], out: &mut dyn io::Write) -> io::Result<()> {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .enumerate()
        .map(
            |(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            },
        )
        .collect();
    writeln!(out, "{}", padded.join("  ").trim_end())
}
