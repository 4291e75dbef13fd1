//! The words of `pulpcov report` that say what is written where, and how it looks.

use std::path::{Path, PathBuf};

use pulpcov_coverage::origin::Dimension;
use pulpcov_coverage::render::text::{SortBy, TextOptions};
use pulpcov_coverage::report::Report;
use pulpcov_coverage::selection::Selection;
use pulpcov_coverage::view::View;

/// What to report of, what to write where, and which gates to check
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Output {
    /// Report this label only; with ! in front, all but it (can be repeated)
    #[arg(long = "label", value_name = "LABEL", help_heading = "Report")]
    labels: Vec<String>,
    /// Report of these only: host:NAME, group:NAME, role:NAME, label:NAME, with ! & - | and ( )
    #[arg(long, value_name = "SELECTION", value_parser = Selection::parse, help_heading = "Report")]
    select: Option<Selection>,
    /// Write an HTML report into this folder
    #[arg(long, value_name = "DIR", help_heading = "Report")]
    pub(super) html: Option<PathBuf>,
    /// Title of the HTML report
    #[arg(long, value_name = "TEXT", default_value = "Coverage", help_heading = "Report")]
    pub(super) title: String,
    /// Write coverage.py's JSON report, with hosts, groups, roles and labels; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(super) json: Option<PathBuf>,
    /// Write Cobertura XML; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(super) xml: Option<PathBuf>,
    /// Write an LCOV tracefile; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(super) lcov: Option<PathBuf>,
    /// Write the text table; - is stdout, and the default where nothing else is written
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(super) text: Option<PathBuf>,
    #[command(flatten)]
    pub(super) table: Table,
    /// Exit with 3 where less than this percentage is covered
    #[arg(long, value_name = "PERCENT", help_heading = "Gates")]
    pub(super) fail_under: Option<f64>,
    /// Exit with 3 where the report lacks a process or a host
    #[arg(long, help_heading = "Gates")]
    pub(super) require_complete: bool,
}

/// How the text table looks: coverage.py's options
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Table {
    /// Show the lines that did not run
    #[arg(short = 'm', long, help_heading = "Table")]
    show_missing: bool,
    /// Leave out files that are covered whole
    #[arg(long, help_heading = "Table")]
    skip_covered: bool,
    /// Leave out files without statements
    #[arg(long, help_heading = "Table")]
    skip_empty: bool,
    /// Sort by name, stmts, miss, branch, brpart or cover; with - in front, downwards
    #[arg(long, value_name = "COLUMN", default_value = "name", allow_hyphen_values = true, value_parser = sort_column, help_heading = "Table")]
    sort: (SortBy, bool),
    /// Digits behind the point of percentages
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..10), help_heading = "Table")]
    pub(super) precision: u8,
    /// Add what each host, group, role or label covered (can be repeated, or separated by commas)
    #[arg(long, value_name = "DIMENSION", value_delimiter = ',', value_parser = dimension, help_heading = "Table")]
    pub(super) by: Vec<Dimension>,
}

impl Table {
    pub(super) fn options(&self, report: &Report) -> TextOptions {
        // Roles and labels are few; where there are several, people want to know.
        let several = |dimension: &Dimension| View::new(report, *dimension).names.len() > 1;
        let telling = [Dimension::Role, Dimension::Label].into_iter().filter(several);
        let by = if self.by.is_empty() { telling.collect() } else { self.by.clone() };
        TextOptions {
            by,
            show_missing: self.show_missing,
            skip_covered: self.skip_covered,
            skip_empty: self.skip_empty,
            sort: self.sort.0,
            descending: self.sort.1,
            precision: self.precision.into(),
        }
    }
}

fn dimension(word: &str) -> Result<Dimension, String> {
    Dimension::parse(word).ok_or_else(|| "there is host, group, role and label".to_owned())
}

fn sort_column(word: &str) -> Result<(SortBy, bool), String> {
    let column = word.strip_prefix(['-', '+']).unwrap_or(word);
    let by = match column.to_ascii_lowercase().as_str() {
        "name" => SortBy::Name,
        "stmts" => SortBy::Stmts,
        "miss" => SortBy::Miss,
        "branch" => SortBy::Branch,
        "brpart" => SortBy::BrPart,
        "cover" => SortBy::Cover,
        _ => return Err("there is name, stmts, miss, branch, brpart and cover".to_owned()),
    };
    Ok((by, word.starts_with('-')))
}

impl Output {
    /// What is to be written where.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [("--json", &self.json), ("--xml", &self.xml), ("--lcov", &self.lcov), ("--text", &self.text)]
            .into_iter()
            .filter_map(|(option, path)| Some((option, path.as_deref()?)))
    }

    /// What `--select` and `--label` come to together.
    pub(super) fn selection(&self) -> Selection {
        let named = |label: &str| Selection::Named(Dimension::Label, label.to_owned());
        let mut selection = self.select.clone().unwrap_or_default();
        let only = self.labels.iter().filter(|word| !word.starts_with('!')).map(|word| named(word));
        selection = selection.and(only.reduce(Selection::or).unwrap_or_default());
        for label in self.labels.iter().filter_map(|word| word.strip_prefix('!')) {
            selection = selection.and(named(label).negated());
        }
        selection
    }
}
