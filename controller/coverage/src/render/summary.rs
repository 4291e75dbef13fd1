//! The Markdown summary of a CI job: the headline, gates, hosts, and the files that matter most.

use std::io;

use super::markdown::escape;
use super::names::printable;
use super::text::lines_text;
use crate::gates::Gate;
use crate::numbers::{display_percent, percent};
use crate::origin::Dimension;
use crate::patch::PatchCoverage;
use crate::report::{FileReport, Report};
use crate::view::View;

/// GitHub refuses a job summary of more than 1 MiB; whole rows are left out before that.
const MAX_BYTES: usize = 1024 * 1024 - 4096;

/// Most rows of one dimension.
const MAX_NAMES: usize = 100;

/// What a summary says beyond its report.
#[derive(Debug, Clone, Default)]
pub struct SummaryAbout {
    pub title: String,
    pub headline: String,
    pub complete: bool,
    pub gates: Vec<Gate>,
    pub warnings: Vec<String>,
    pub patch: Option<PatchCoverage>,
    /// Digits behind the point of percentages.
    pub precision: usize,
}

pub fn render_summary(report: &Report, about: &SummaryAbout, out: &mut dyn io::Write) -> io::Result<()> {
    let shown = |percent: f64| format!("{}%", display_percent(percent, about.precision));
    let totals = report.totals();
    let total = report.nothing().map_or_else(|| shown(totals.percent_covered()), str::to_owned);
    let mut text = format!("## {}: {total}\n\n", word(&about.title));
    if !about.headline.is_empty() {
        let mark = if about.complete { "" } else { "⚠ " };
        text.push_str(&format!("{mark}{}\n\n", word(&about.headline)));
    }
    for gate in &about.gates {
        let words = gate.failure.as_ref().map(|words| format!(": {}", word(words))).unwrap_or_default();
        text.push_str(&format!(
            "- {} `{}`{words}\n",
            if gate.failure.is_some() { "❌" } else { "✅" },
            gate.name
        ));
    }
    for warning in about.warnings.iter().take(MAX_NAMES) {
        text.push_str(&format!("- ⚠ {}\n", word(warning)));
    }
    if let Some(patch) = &about.patch {
        patch_part(report, patch, &shown, &mut text);
    }
    for dimension in Dimension::ALL {
        view_part(report, dimension, &shown, &mut text);
    }
    files_part(report, &shown, &mut text);
    out.write_all(text.as_bytes())
}

fn word(text: &str) -> String {
    escape(&printable(text))
}

fn patch_part(report: &Report, patch: &PatchCoverage, shown: &dyn Fn(f64) -> String, text: &mut String) {
    let (ran, all) = patch.totals();
    let share = if all == 0 { String::new() } else { format!(" ({})", shown(percent(ran, all))) };
    text.push_str(&format!("\n### Changed lines: {ran} of {all} statements ran{share}\n\n"));
    for file in patch.files.iter().filter(|file| !file.missing.is_empty()).take(MAX_NAMES) {
        let of_file = report.files.iter().find(|found| found.name == file.name);
        let statements = of_file.map(|found| found.analysed.statements()).unwrap_or_default();
        text.push_str(&format!(
            "- {}: not run: {}\n",
            word(&file.name),
            lines_text(&file.missing, &statements)
        ));
    }
    for path in patch.differing.iter().take(MAX_NAMES) {
        text.push_str(&format!("- {}: the hosts run another release of it\n", word(path)));
    }
}

fn view_part(report: &Report, dimension: Dimension, shown: &dyn Fn(f64) -> String, text: &mut String) {
    let view = View::new(report, dimension);
    if view.names.len() < 2 {
        return;
    }
    let (counts, _) = view.totals(report);
    let statements = report.totals().statements;
    text.push_str(&format!(
        "\n| {} | Stmts run | Cover | Only there |\n|:--|--:|--:|--:|\n",
        dimension.title()
    ));
    for (name, counts) in view.names.iter().zip(counts).take(MAX_NAMES) {
        let share = shown(percent(counts.ran as u64, statements));
        text.push_str(&format!(
            "| {} | {} | {share} | {} |\n",
            word(View::shown(name)),
            counts.ran,
            counts.only_there
        ));
    }
    if let Some(more) = view.names.len().checked_sub(MAX_NAMES + 1) {
        text.push_str(&format!("\n{} more are left out.\n", more + 1));
    }
}

/// Files with most missing first: they are what a reader can do something about.
fn files_part(report: &Report, shown: &dyn Fn(f64) -> String, text: &mut String) {
    let mut files: Vec<_> = report.files.iter().collect();
    files.sort_by(|a, b| {
        let missing =
            |file: &FileReport| file.analysed.numbers.missing + file.analysed.numbers.missing_branches;
        missing(b).cmp(&missing(a)).then_with(|| a.name.cmp(&b.name))
    });
    text.push_str(
        "\n<details><summary>Files</summary>\n\n| Name | Stmts | Miss | Cover |\n|:--|--:|--:|--:|\n",
    );
    let mut left_out = 0;
    for file in files {
        let numbers = &file.analysed.numbers;
        let row = format!(
            "| {} | {} | {} | {} |\n",
            word(&file.name),
            numbers.statements,
            numbers.missing,
            shown(numbers.percent_covered())
        );
        if text.len() + row.len() > MAX_BYTES {
            left_out += 1;
        } else {
            text.push_str(&row);
        }
    }
    text.push_str("\n</details>\n");
    if left_out > 0 {
        text.push_str(&format!("\n{left_out} files with fewest missing statements are left out.\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_never_grows_beyond_what_github_takes_and_says_what_it_left_out() {
        let files = (0..40_000)
            .map(|i| FileReport { name: format!("pkg/{}/m{i}.py", "d".repeat(40)), ..FileReport::default() });
        let report = Report { files: files.collect(), ..Report::default() };
        let mut out = Vec::new();
        render_summary(&report, &SummaryAbout { title: "x <b>".into(), ..SummaryAbout::default() }, &mut out)
            .expect("written");
        let text = String::from_utf8(out).expect("text");
        assert!(text.len() < 1024 * 1024 && text.contains("are left out"), "{}", text.len());
        assert!(text.starts_with("## x \\<b\\>: 100%"));
    }
}
