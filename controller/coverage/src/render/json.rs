//! coverage.py's JSON report, format 3, with parts of our own for hosts, groups, roles and labels.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use pulpcov_data_file::lines::{Arc, LineSet};
use serde_json::{Map, Value, json};

use super::names::write_json;
use crate::analysis::RegionKind;
use crate::diff::Diff;
use crate::numbers::{Numbers, display_percent, percent};
use crate::origin::Dimension;
use crate::patch::PatchCoverage;
use crate::report::{Analysed, FileReport, RegionReport, Report};
use crate::view::{Counts, View};

/// coverage.py's number for this shape.
const FORMAT: u32 = 3;

/// What a report says beyond coverage.py's own words.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// When it was made, ISO 8601.
    pub timestamp: String,
    /// How complete it is, in a line; empty for reports without hosts.
    pub headline: String,
    /// Digits behind the point of percentages that are text.
    pub precision: usize,
    /// What was selected, as it was written; nothing where all is reported.
    pub selection: Option<String>,
    /// Host to whatever the ledger knows of it; empty for reports without hosts.
    pub hosts: BTreeMap<String, Value>,
    /// Data files that could not be read, and whose numbers are missing.
    pub left_out: usize,
    /// How much ran of what a diff adds, where one was given.
    pub patch: Option<PatchCoverage>,
}

/// What decides which numbers are told, and how.
#[derive(Clone, Copy)]
struct Shape {
    branches: bool,
    contexts: bool,
    precision: usize,
}

pub fn render_json(report: &Report, about: &About, out: &mut dyn io::Write) -> io::Result<()> {
    let shape =
        Shape { branches: report.branches, contexts: report.show_contexts, precision: about.precision };
    let files: Map<String, Value> =
        report.files.iter().map(|file| (file.name.clone(), file_part(file, shape))).collect();
    let mut whole = json!({
        "meta": {
            "format": FORMAT,
            "version": report.coverage_versions.iter().cloned().collect::<Vec<_>>().join(", "),
            "pulpcov": env!("CARGO_PKG_VERSION"),
            "timestamp": about.timestamp,
            "branch_coverage": report.branches,
            "show_contexts": report.show_contexts,
        },
        "files": files,
        "totals": summary(&report.totals(), shape),
    });
    if report.is_nothing() {
        nothing(&mut whole, if report.lacks_sources { "nothing_has_a_source" } else { "nothing_measured" });
    }
    if about.left_out > 0 {
        whole["meta"]["data_files_left_out"] = json!(about.left_out);
    }
    if report.has_hosts()
        && let Some(whole) = whole.as_object_mut()
    {
        for dimension in Dimension::ALL {
            whole.insert(format!("{dimension}s"), view_part(report, dimension, about));
        }
        if let Some(Value::Object(meta)) = whole.get_mut("meta") {
            meta.insert("headline".to_owned(), json!(about.headline));
            meta.insert("selection".to_owned(), json!(about.selection));
        }
    }
    if let (Some(patch), Some(whole)) = (&about.patch, whole.as_object_mut()) {
        whole.insert("diff".to_owned(), patch_part(patch));
    }
    write_json(&whole, out)?;
    out.write_all(b"\n")
}

/// A report of nothing says so, and has no percentages.
fn nothing(whole: &mut Value, why: &str) {
    whole["meta"][why] = json!(true);
    for (name, value) in whole["totals"].as_object_mut().into_iter().flatten() {
        if name.starts_with("percent_") {
            *value = if name.ends_with("_display") { json!("0") } else { json!(0.0) };
        }
    }
}

fn patch_part(patch: &PatchCoverage) -> Value {
    let (ran, all) = patch.totals();
    let files: Map<String, Value> = patch
        .files
        .iter()
        .map(|file| {
            let lines = |lines: &LineSet| json!(lines.iter().collect::<Vec<u32>>());
            let part = json!({"executed_lines": lines(&file.ran), "missing_lines": lines(&file.missing)});
            (file.name.clone(), part)
        })
        .collect();
    json!({
        "covered_lines": ran, "num_statements": all, "percent_covered": percent(ran, all), "files": files,
        "unknown": patch.unknown, "differing": patch.differing,
    })
}

fn file_part(file: &FileReport, shape: Shape) -> Value {
    let mut part = analysed_part(&file.analysed, shape);
    for (kind, plural, regions) in
        [(RegionKind::Function, "functions", &file.functions), (RegionKind::Class, "classes", &file.classes)]
    {
        if file.source.translated.as_ref().is_none_or(|translated| translated.kinds.contains(&kind)) {
            part.insert(plural.to_owned(), regions_part(regions, file, shape));
        }
    }
    if shape.contexts {
        part.insert("contexts".to_owned(), json!(file.contexts));
    }
    Value::Object(part)
}

fn regions_part(regions: &[RegionReport], file: &FileReport, shape: Shape) -> Value {
    let parts = regions.iter().map(|region| {
        let mut part = analysed_part(&region.analysed, shape);
        part.insert("start_line".to_owned(), json!(region.start));
        if shape.contexts {
            // coverage.py repeats those of the whole file.
            part.insert("contexts".to_owned(), json!(file.contexts));
        }
        (region.name.clone(), Value::Object(part))
    });
    Value::Object(parts.collect())
}

fn analysed_part(analysed: &Analysed, shape: Shape) -> Map<String, Value> {
    let mut part = Map::new();
    let lines = |lines: &BTreeSet<i32>| json!(lines);
    part.insert("executed_lines".to_owned(), lines(&analysed.executed));
    part.insert("summary".to_owned(), summary(&analysed.numbers, shape));
    part.insert("missing_lines".to_owned(), lines(&analysed.missing));
    part.insert("excluded_lines".to_owned(), lines(&analysed.excluded));
    if shape.branches {
        let arcs = |arcs: &[Arc]| json!(arcs);
        part.insert("executed_branches".to_owned(), arcs(&analysed.executed_branches));
        part.insert("missing_branches".to_owned(), arcs(&analysed.missing_branches));
    }
    part
}

fn summary(numbers: &Numbers, shape: Shape) -> Value {
    let display = |percent: f64| display_percent(percent, shape.precision);
    let mut summary = json!({
        "covered_lines": numbers.executed(),
        "num_statements": numbers.statements,
        "percent_covered": numbers.percent_covered(),
        "percent_covered_display": display(numbers.percent_covered()),
        "missing_lines": numbers.missing,
        "excluded_lines": numbers.excluded,
        "percent_statements_covered": numbers.percent_statements(),
        "percent_statements_covered_display": display(numbers.percent_statements()),
    });
    if let Some(summary) = summary.as_object_mut().filter(|_| shape.branches) {
        summary.insert("num_branches".to_owned(), json!(numbers.branches));
        summary.insert("num_partial_branches".to_owned(), json!(numbers.partial_branches));
        summary.insert("covered_branches".to_owned(), json!(numbers.executed_branches()));
        summary.insert("missing_branches".to_owned(), json!(numbers.missing_branches));
        summary.insert("percent_branches_covered".to_owned(), json!(numbers.percent_branches()));
        summary.insert(
            "percent_branches_covered_display".to_owned(),
            json!(display(numbers.percent_branches())),
        );
    }
    summary
}

/// Name to its totals, and the lines that ran there of each file; hosts with their ledger.
fn view_part(report: &Report, dimension: Dimension, about: &About) -> Value {
    let view = View::new(report, dimension);
    let mut counts = vec![Counts::default(); view.names.len()];
    let mut files = vec![Map::new(); view.names.len()];
    for file in &report.files {
        let parts = view.of_file(file);
        for ((part, counts), files) in parts.iter().zip(&mut counts).zip(&mut files) {
            counts.ran += part.ran.count();
            counts.only_there += part.only_there.count();
            if !part.ran.is_empty() {
                let lines: Vec<u32> = part.ran.iter().collect();
                files.insert(file.name.clone(), json!({"executed_lines": lines}));
            }
        }
    }
    let parts = view.names.iter().zip(counts).zip(files).map(|((name, counts), files)| {
        let mut part = match about.hosts.get(name) {
            Some(Value::Object(ledger)) if dimension == Dimension::Host => ledger.clone(),
            _ => Map::new(),
        };
        part.insert("covered_lines".to_owned(), json!(counts.ran));
        part.insert("only_there".to_owned(), json!(counts.only_there));
        part.insert("files".to_owned(), Value::Object(files));
        (name.clone(), Value::Object(part))
    });
    Value::Object(parts.collect())
}

/// Two sides of a [`Diff`]: for each file, the lines that one side ran and the other did not.
pub fn render_diff(diff: &Diff, about: &About, out: &mut dyn io::Write) -> io::Result<()> {
    let report = &diff.report;
    let view = View::new(report, Dimension::Host);
    let [a, b] = super::text::sides(&view, report);
    let lines = |lines: &LineSet| json!(lines.iter().collect::<Vec<u32>>());
    let files: Map<String, Value> = report
        .files
        .iter()
        .filter_map(|file| {
            let parts = view.of_file(file);
            let part = json!({
                "statements": file.analysed.numbers.statements,
                "both": lines(&View::everywhere(&parts)),
                "only_a": lines(&parts.get(a)?.only_there),
                "only_b": lines(&parts.get(b)?.only_there),
                "neither": file.analysed.missing,
            });
            Some((file.name.clone(), part))
        })
        .collect();
    let (counts, everywhere) = view.totals(report);
    let only = |side: usize| counts.get(side).map_or(0, |counts| counts.only_there);
    let totals = report.totals();
    let changed: Map<String, Value> = diff
        .changed
        .iter()
        .map(|changed| {
            let side =
                |(ran, statements): (u64, u64)| json!({"covered_lines": ran, "num_statements": statements});
            (changed.module_path.clone(), json!({"a": side(changed.a), "b": side(changed.b)}))
        })
        .collect();
    let whole = json!({
        "meta": {
            "format": 1, "pulpcov": env!("CARGO_PKG_VERSION"), "timestamp": about.timestamp,
            "a": report.hosts.first(), "b": report.hosts.get(1), "headline": about.headline,
        },
        "files": files,
        "changed": changed,
        "totals": {
            "statements": totals.statements, "both": everywhere, "only_a": only(a), "only_b": only(b),
            "neither": totals.missing,
        },
    });
    write_json(&whole, out)?;
    out.write_all(b"\n")
}
