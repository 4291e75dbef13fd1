//! The words of `pulpcov report` that say what is written where, and how it looks.

use std::path::{Path, PathBuf};

use pulpcov_coverage::config::Config;
use pulpcov_coverage::gates::{AskedBy, Threshold};
use pulpcov_coverage::numbers::Skip;
use pulpcov_coverage::origin::Dimension;
use pulpcov_coverage::render::text::{SortBy, TextOptions};
use pulpcov_coverage::report::Report;
use pulpcov_coverage::selection::Selection;
use pulpcov_coverage::view::View;

/// What to report of, what to write where, and which gates to check
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::doc_markdown, reason = "these are the words of --help")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
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
    /// Title of the HTML report [default: Coverage]
    #[arg(long, value_name = "TEXT", help_heading = "Report")]
    title: Option<String>,
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
    /// stdout is for JSON lines alone.
    #[arg(skip)]
    pub(super) spare_stdout: bool,
    /// Write a Markdown summary for a CI job, below GitHub's 1 MiB; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "For CI")]
    pub(super) markdown: Option<PathBuf>,
    /// Write hosts and gates as JUnit XML; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "For CI")]
    pub(super) junit: Option<PathBuf>,
    /// Write SonarQube's generic coverage XML; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "For CI")]
    pub(super) sonar: Option<PathBuf>,
    /// Write a badge as SVG; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "For CI")]
    pub(super) badge: Option<PathBuf>,
    /// Tell how much ran of what git changed in this range: A..B, of the repository here
    #[arg(long, value_name = "RANGE", group = "diff", help_heading = "For CI")]
    pub(super) diff_range: Option<String>,
    /// Tell how much ran of what this unified diff adds; - is stdin
    #[arg(long, value_name = "FILE", group = "diff", help_heading = "For CI")]
    pub(super) diff_file: Option<PathBuf>,
    /// With --html, draw how coverage went over these earlier runs (can be repeated)
    #[arg(long, value_name = "RUN", requires = "html", num_args = 1.., help_heading = "Report")]
    pub(super) history: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) table: Table,
    /// coverage.py's configuration; for data files the one of this folder, for runs none, unless named
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    pub(super) rcfile: Option<PathBuf>,
    /// Report files only that fit one of these patterns (separated by commas); of runs, module paths do
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',', help_heading = "Files")]
    include: Option<Vec<String>>,
    /// Leave out files that fit one of these patterns (separated by commas)
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',', help_heading = "Files")]
    omit: Option<Vec<String>>,
    /// In JSON, XML, LCOV and Sonar, take this folder off the names of a run's files
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub(super) strip_prefix: Option<String>,
    /// In JSON, XML, LCOV and Sonar, put this folder before the names of a run's files
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub(super) add_prefix: Option<String>,
    /// Where hosts have several releases of a file, carry the lines that did not change over to one
    #[arg(long, help_heading = "Files")]
    pub(super) map_releases: bool,
    /// Exit with 3 where less is covered, of all or of a package: 80, pulpcore.app=75 (can be repeated)
    #[arg(long, value_name = "[PACKAGE=]PERCENT", value_parser = Threshold::parse, help_heading = "Gates")]
    fail_under: Vec<Threshold>,
    /// Exit with 3 where less is covered of what --diff-range or --diff-file adds
    #[arg(long, value_name = "PERCENT", requires = "diff", value_parser = Threshold::parse, help_heading = "Gates")]
    fail_under_diff: Option<Threshold>,
    /// Exit with 3 where the report lacks a process or a host
    #[arg(long, help_heading = "Gates")]
    pub(super) require_complete: bool,
    /// Let data count as complete that no process of the service tells of, as people put it there
    #[arg(long, help_heading = "Gates")]
    pub(super) trust_extra: bool,
}

/// How the text table looks: coverage.py's options
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Table {
    /// Show the lines that did not run
    #[arg(short = 'm', long, help_heading = "Table")]
    show_missing: bool,
    /// Leave out files that are covered whole, in the HTML report too
    #[arg(long, help_heading = "Table")]
    skip_covered: bool,
    /// Leave out files without statements, in the HTML, XML and LCOV reports too
    #[arg(long, help_heading = "Table")]
    skip_empty: bool,
    /// Sort by name, stmts, miss, branch, brpart or cover; with - in front, downwards [default: name]
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true, value_parser = sort_column, help_heading = "Table")]
    sort: Option<(SortBy, bool)>,
    /// Digits behind the point of percentages [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..100), help_heading = "Table")]
    precision: Option<u8>,
    /// coverage.py's form of the table: text, markdown, or total, which is one number
    #[arg(long, value_enum, value_name = "FORM", help_heading = "Table")]
    format: Option<TableForm>,
    /// Add what each host, group, role or label covered (can be repeated, or separated by commas)
    #[arg(long, value_name = "DIMENSION", value_delimiter = ',', value_parser = dimension, help_heading = "Table")]
    pub(super) by: Vec<Dimension>,
}

/// coverage.py's words for `report --format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TableForm {
    #[default]
    Text,
    Markdown,
    Total,
}

/// What words and configuration come to: a word wins over the configuration.
pub(crate) struct Settings {
    pub(super) title: String,
    pub(super) precision: u8,
    pub(super) form: TableForm,
    pub(super) thresholds: Vec<Threshold>,
    pub(super) diff_threshold: Option<f64>,
    pub(super) include: Vec<String>,
    pub(super) omit: Vec<String>,
    pub(super) package_depth: Option<isize>,
    /// Folders that names in XML are relative to, as the configuration has them.
    pub(super) sources: Vec<String>,
    pub(super) relative_files: bool,
    pub(super) html_skip: Skip,
    pub(super) table: TextOptions,
    by: Vec<Dimension>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("[report] sort is {value:?}: {reason}")]
    Sort { value: String, reason: String },
    #[error("[report] format is {0:?}: there is text, markdown and total")]
    Form(String),
    #[error("--by adds tables to the text table, and the form {0} has none")]
    By(&'static str),
    #[error("{0} is no percentage: fail_under is between 0 and 100")]
    FailUnder(f64),
    #[error("precision is {0}: at most 99 digits are shown")]
    Precision(u8),
}

impl Settings {
    pub(super) fn new(output: &Output, config: &Config) -> Result<Self, SettingsError> {
        let table = &output.table;
        // What the configuration says of the table counts where there is one.
        let of_table = |value: &Option<String>| value.clone().filter(|_| output.table_place().is_some());
        let sort = match (table.sort, of_table(&config.sort)) {
            (Some(sort), _) => sort,
            (None, Some(value)) => {
                sort_column(&value).map_err(|reason| SettingsError::Sort { value, reason })?
            }
            (None, None) => (SortBy::Name, false),
        };
        let form = match (table.format, of_table(&config.format)) {
            (Some(form), _) => form,
            (None, Some(word)) => {
                clap::ValueEnum::from_str(&word, false).map_err(|_| SettingsError::Form(word))?
            }
            (None, None) => TableForm::Text,
        };
        match form {
            TableForm::Markdown | TableForm::Total if !table.by.is_empty() => {
                return Err(SettingsError::By(if form == TableForm::Total { "total" } else { "markdown" }));
            }
            _ => {}
        }
        let precision = table.precision.or(config.precision).unwrap_or(0);
        if precision > 99 {
            return Err(SettingsError::Precision(precision));
        }
        let mut thresholds = output.fail_under.clone();
        // Nought is coverage.py's default, and no gate.
        if let Some(percent) = config.fail_under.filter(|percent| *percent != 0.0) {
            if !(0.0..=100.0).contains(&percent) {
                return Err(SettingsError::FailUnder(percent));
            }
            if thresholds.iter().all(|threshold| threshold.package.is_some()) {
                thresholds.push(Threshold { package: None, percent, asked_by: AskedBy::Configuration });
            }
        }
        let list = |word: &Option<Vec<String>>, set: &Option<Vec<String>>| {
            word.clone().or_else(|| set.clone()).unwrap_or_default()
        };
        Ok(Self {
            title: output
                .title
                .clone()
                .or_else(|| config.title.clone())
                .unwrap_or_else(|| "Coverage".to_owned()),
            precision,
            form,
            thresholds,
            diff_threshold: output.fail_under_diff.as_ref().map(|threshold| threshold.percent),
            include: list(&output.include, &config.include),
            omit: list(&output.omit, &config.omit),
            package_depth: config.package_depth,
            sources: config.source.clone(),
            relative_files: config.relative_files.unwrap_or(false),
            html_skip: Skip {
                covered: table.skip_covered
                    || config.html_skip_covered.or(config.skip_covered).unwrap_or(false),
                empty: table.skip_empty || config.html_skip_empty.or(config.skip_empty).unwrap_or(false),
            },
            table: TextOptions {
                show_missing: table.show_missing || config.show_missing.unwrap_or(false),
                skip: Skip {
                    covered: table.skip_covered || config.skip_covered.unwrap_or(false),
                    empty: table.skip_empty || config.skip_empty.unwrap_or(false),
                },
                sort: sort.0,
                descending: sort.1,
                precision: precision.into(),
                by: Vec::new(),
            },
            by: table.by.clone(),
        })
    }

    pub(super) fn table_of(&self, report: &Report) -> TextOptions {
        // Roles and labels are few; where there are several, people want to know.
        let several = |dimension: &Dimension| View::new(report, *dimension).names.len() > 1;
        let telling = [Dimension::Role, Dimension::Label].into_iter().filter(several);
        let by = if self.by.is_empty() { telling.collect() } else { self.by.clone() };
        TextOptions { by, ..self.table.clone() }
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
    /// The same beside `--jsonl`, whose stdout is for JSON lines alone.
    pub(crate) fn beside_json_lines(self, jsonl: bool) -> Self {
        Self { spare_stdout: jsonl, ..self }
    }

    /// What is to be written where.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let files = [
            ("--json", &self.json),
            ("--xml", &self.xml),
            ("--lcov", &self.lcov),
            ("--markdown", &self.markdown),
            ("--junit", &self.junit),
            ("--sonar", &self.sonar),
            ("--badge", &self.badge),
            ("--text", &self.text),
        ];
        files.into_iter().filter_map(|(option, path)| Some((option, path.as_deref()?)))
    }

    /// Where the table goes: where it is asked for, or to stdout because nothing else was.
    pub(super) fn table_place(&self) -> Option<&Path> {
        let nothing_else = self.files().next().is_none() && self.html.is_none();
        self.text.as_deref().or(nothing_else.then_some(Path::new("-")))
    }

    /// Whether anything that is to be written shows or compares sources.
    pub(super) const fn wants_sources(&self) -> bool {
        self.html.is_some() || self.diff_file.is_some() || self.diff_range.is_some()
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
