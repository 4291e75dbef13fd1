//! coverage.py's JSON report, format 3, and a `hosts` part of our own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde_json::{Map, Value, json};

use crate::lines::Arc;
use crate::numbers::{Numbers, display_percent};
use crate::report::{Analysed, FileReport, RegionReport, Report};

/// coverage.py's number for this shape.
const FORMAT: u32 = 3;

/// What a report says beyond coverage.py's own words.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// When it was made, ISO 8601.
    pub timestamp: String,
    /// Host to whatever the ledger knows of it; empty for reports without hosts.
    pub hosts: BTreeMap<String, Value>,
}

pub fn render_json(report: &Report, about: &About, out: &mut dyn io::Write) -> io::Result<()> {
    let files: Map<String, Value> =
        report.files.iter().map(|file| (file.name.clone(), file_part(file, report.branches))).collect();
    let mut whole = json!({
        "meta": {
            "format": FORMAT,
            "version": report.coverage_versions.iter().cloned().collect::<Vec<_>>().join(", "),
            "pulpcov": env!("CARGO_PKG_VERSION"),
            "timestamp": about.timestamp,
            "branch_coverage": report.branches,
            "show_contexts": false,
        },
        "files": files,
        "totals": summary(&report.totals(), report.branches),
    });
    if !report.hosts.is_empty()
        && let Some(whole) = whole.as_object_mut()
    {
        whole.insert("hosts".to_owned(), hosts_part(report, about));
        whole.insert("labels".to_owned(), labels_part(report));
    }
    serde_json::to_writer(&mut *out, &whole)?;
    out.write_all(b"\n")
}

fn file_part(file: &FileReport, branches: bool) -> Value {
    let mut part = analysed_part(&file.analysed, branches);
    part.insert("functions".to_owned(), regions_part(&file.functions, branches));
    part.insert("classes".to_owned(), regions_part(&file.classes, branches));
    Value::Object(part)
}

fn regions_part(regions: &[RegionReport], branches: bool) -> Value {
    let parts = regions.iter().map(|region| {
        let mut part = analysed_part(&region.analysed, branches);
        part.insert("start_line".to_owned(), json!(region.start));
        (region.name.clone(), Value::Object(part))
    });
    Value::Object(parts.collect())
}

fn analysed_part(analysed: &Analysed, branches: bool) -> Map<String, Value> {
    let mut part = Map::new();
    let lines = |lines: &BTreeSet<i32>| json!(lines);
    part.insert("executed_lines".to_owned(), lines(&analysed.executed));
    part.insert("summary".to_owned(), summary(&analysed.numbers, branches));
    part.insert("missing_lines".to_owned(), lines(&analysed.missing));
    part.insert("excluded_lines".to_owned(), lines(&analysed.excluded));
    if branches {
        let arcs = |arcs: &[Arc]| json!(arcs);
        part.insert("executed_branches".to_owned(), arcs(&analysed.executed_branches));
        part.insert("missing_branches".to_owned(), arcs(&analysed.missing_branches));
    }
    part
}

fn summary(numbers: &Numbers, branches: bool) -> Value {
    let mut summary = json!({
        "covered_lines": numbers.executed(),
        "num_statements": numbers.statements,
        "percent_covered": numbers.percent_covered(),
        "percent_covered_display": display_percent(numbers.percent_covered(), 0),
        "missing_lines": numbers.missing,
        "excluded_lines": numbers.excluded,
        "percent_statements_covered": numbers.percent_statements(),
        "percent_statements_covered_display": display_percent(numbers.percent_statements(), 0),
    });
    if let Some(summary) = summary.as_object_mut().filter(|_| branches) {
        summary.insert("num_branches".to_owned(), json!(numbers.branches));
        summary.insert("num_partial_branches".to_owned(), json!(numbers.partial_branches));
        summary.insert("covered_branches".to_owned(), json!(numbers.executed_branches()));
        summary.insert("missing_branches".to_owned(), json!(numbers.missing_branches));
        summary.insert("percent_branches_covered".to_owned(), json!(numbers.percent_branches()));
        let display = display_percent(numbers.percent_branches(), 0);
        summary.insert("percent_branches_covered_display".to_owned(), json!(display));
    }
    summary
}

/// Host to its ledger, its line total, and the lines that it ran of each file.
fn hosts_part(report: &Report, about: &About) -> Value {
    let parts = report.hosts.iter().map(|host| {
        let mut part = match about.hosts.get(host) {
            Some(Value::Object(ledger)) => ledger.clone(),
            _ => Map::new(),
        };
        let ran: Map<String, Value> = report
            .files
            .iter()
            .filter_map(|file| {
                let lines = file.hosts.get(host)?;
                Some((file.name.clone(), json!({"executed_lines": lines})))
            })
            .collect();
        let covered: usize =
            report.files.iter().filter_map(|file| file.hosts.get(host)).map(BTreeSet::len).sum();
        part.insert("covered_lines".to_owned(), json!(covered));
        part.insert("files".to_owned(), Value::Object(ran));
        (host.clone(), Value::Object(part))
    });
    Value::Object(parts.collect())
}

/// Label to its line totals, and the lines that ran under it of each file.
fn labels_part(report: &Report) -> Value {
    let parts = report.label_numbers().into_iter().map(|numbers| {
        let ran: Map<String, Value> = report
            .files
            .iter()
            .filter_map(|file| {
                let lines = file.labels.get(numbers.label)?;
                Some((file.name.clone(), json!({"executed_lines": lines})))
            })
            .collect();
        let part = json!({"covered_lines": numbers.executed, "only_there": numbers.only_there, "files": ran});
        (numbers.label.to_owned(), part)
    });
    Value::Object(parts.collect())
}
