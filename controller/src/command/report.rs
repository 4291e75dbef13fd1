//! `pulpcov report`

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pulpcov_coverage::numbers::display_percent;
use pulpcov_coverage::origin::Dimension;
use pulpcov_coverage::render::json::{About, render_json};
use pulpcov_coverage::render::lcov::render_lcov;
use pulpcov_coverage::render::text::{SortBy, TextOptions, render_text};
use pulpcov_coverage::render::xml::{XmlAbout, render_xml};
use pulpcov_coverage::report::Report;
use pulpcov_coverage::selection::Selection;
use pulpcov_coverage::view::View;
use pulpcov_protocol::text::error_chain;

use crate::exit::{Exit, usage, usage_hint};
use crate::{data_inputs, fleet_report, local_report, run_dir};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run directories or bundles; with --python, data files or folders of them
    #[arg(value_name = "RUN", required = true)]
    inputs: Vec<PathBuf>,
    /// Report data files of this machine, analysed by this Python's coverage
    #[arg(long, value_name = "PYTHON")]
    python: Option<String>,
    /// With --python, leave out sources that cannot be analysed
    #[arg(short, long, requires = "python")]
    ignore_errors: bool,
    #[command(flatten)]
    output: Output,
}

/// What to report of, what to write where, and which gates to check
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Output {
    /// Report this label only; with ! in front, all but it (can be repeated)
    #[arg(long = "label", value_name = "LABEL", help_heading = "Report")]
    labels: Vec<String>,
    /// Report of these only: host:NAME, group:NAME, role:NAME, label:NAME, with ! & - | and ( )
    #[arg(long, value_name = "SELECTION", value_parser = Selection::parse, help_heading = "Report")]
    select: Option<Selection>,
    /// Write coverage.py's JSON report, with hosts, groups, roles and labels; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    json: Option<PathBuf>,
    /// Write Cobertura XML; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    xml: Option<PathBuf>,
    /// Write an LCOV tracefile; - is stdout
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    lcov: Option<PathBuf>,
    /// Write the text table; - is stdout, and the default where nothing else is written
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    text: Option<PathBuf>,
    #[command(flatten)]
    table: Table,
    /// Exit with 3 where less than this percentage is covered
    #[arg(long, value_name = "PERCENT", help_heading = "Gates")]
    fail_under: Option<f64>,
    /// Exit with 3 where the report lacks a process or a host
    #[arg(long, help_heading = "Gates")]
    require_complete: bool,
}

/// How the text table looks: coverage.py's options
#[derive(Debug, Clone, clap::Args)]
struct Table {
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
    precision: u8,
    /// Add what each host, group, role or label covered (can be repeated, or separated by commas)
    #[arg(long, value_name = "DIMENSION", value_delimiter = ',', value_parser = dimension, help_heading = "Table")]
    by: Vec<Dimension>,
}

impl Table {
    fn options(&self, report: &Report) -> TextOptions {
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
    fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [("--json", &self.json), ("--xml", &self.xml), ("--lcov", &self.lcov), ("--text", &self.text)]
            .into_iter()
            .filter_map(|(option, path)| Some((option, path.as_deref()?)))
    }

    /// What `--select` and `--label` come to together.
    fn selection(&self) -> Selection {
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

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let to_stdout = args.output.files().filter(|(_, path)| *path == Path::new("-"));
    let to_stdout: Vec<&str> = to_stdout.map(|(option, _)| option).collect();
    if to_stdout.len() > 1 {
        return Err(usage(anyhow::anyhow!("{} cannot all go to stdout", to_stdout.join(" and "))));
    }
    for input in &args.inputs {
        std::fs::metadata(input).map_err(|error| usage(anyhow::anyhow!("{}: {error}", input.display())))?;
    }
    match &args.python {
        Some(python) => of_data(args, python),
        None => of_runs(&args.inputs, &args.output),
    }
}

/// The report of run directories and bundles.
pub(crate) fn of_runs(inputs: &[PathBuf], output: &Output) -> Result<Exit> {
    let selection = output.selection();
    let made = fleet_report::make(inputs, &selection).map_err(|error| match error {
        fleet_report::FleetReportError::Nothing(_) => {
            usage_hint(error, "for data files of this machine, name its Python with --python")
        }
        error => usage(anyhow::anyhow!(error_chain(&error))),
    })?;
    warn(&made.warnings);
    let headline = made.ledger.headline();
    let about = About {
        timestamp: jiff::Timestamp::now().to_string(),
        headline: headline.clone(),
        selection: (selection != Selection::All).then(|| selection.to_string()),
        hosts: made.ledger.to_json(),
    };
    write(&made.report, Some(&headline), &about, None, output)?;
    let complete = !output.require_complete || made.ledger.is_complete();
    if !complete {
        say(&format!("error: not complete: {headline}"));
    }
    Ok(gate(&made.report, output, complete))
}

fn of_data(args: &Args, python: &str) -> Result<Exit> {
    if args.output.require_complete {
        return Err(usage(anyhow::anyhow!(
            "--require-complete wants a run: data files alone do not tell who is missing"
        )));
    }
    if args.output.selection() != Selection::All || !args.output.table.by.is_empty() {
        return Err(usage(anyhow::anyhow!(
            "--select, --label and --by want a run: data files alone do not tell where they come from"
        )));
    }
    let (data, _) = data_inputs::combine(&args.inputs, false)
        .map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
    let cwd = std::env::current_dir().context("there is no working directory")?;
    let (report, warnings) =
        local_report::make(&data, python, &cwd, args.ignore_errors).map_err(|error| match error {
            local_report::LocalReportError::Source { .. } => {
                usage_hint(error, "--ignore-errors leaves such sources out")
            }
            error => usage(anyhow::anyhow!(error_chain(&error))),
        })?;
    warn(&warnings);
    let about = About { timestamp: jiff::Timestamp::now().to_string(), ..About::default() };
    write(&report, None, &about, Some(cwd.to_string_lossy().into_owned()), &args.output)?;
    Ok(gate(&report, &args.output, true))
}

/// `source` is the folder that names are relative to, where there is one.
fn write(
    report: &Report,
    headline: Option<&str>,
    about: &About,
    source: Option<String>,
    output: &Output,
) -> Result<()> {
    if let Some(path) = &output.json {
        write_to(path, |out| render_json(report, about, out))?;
    }
    let stdout = PathBuf::from("-");
    if let Some(path) = &output.xml {
        let now = jiff::Timestamp::now().as_millisecond();
        write_to(path, |out| render_xml(report, &XmlAbout { timestamp: now, source: source.clone() }, out))?;
    }
    if let Some(path) = &output.lcov {
        write_to(path, |out| render_lcov(report, out))?;
    }
    let nothing_yet = output.files().next().is_none();
    let text = output.text.as_ref().or(nothing_yet.then_some(&stdout));
    if let Some(path) = text {
        write_to(path, |out| {
            if let Some(headline) = headline {
                writeln!(out, "{headline}\n")?;
            }
            render_text(report, &output.table.options(report), out)
        })?;
    }
    Ok(())
}

fn write_to(path: &Path, render: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    if path == Path::new("-") {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        return Ok(render(&mut out).and_then(|()| out.flush())?);
    }
    let mut bytes = Vec::new();
    render(&mut bytes)?;
    run_dir::write_whole(path, &bytes)
        .map_err(|error| usage(anyhow::anyhow!("cannot write {}: {error}", path.display())))
}

fn gate(report: &Report, output: &Output, complete: bool) -> Exit {
    let percent = report.totals().percent_covered();
    let measured = report.files.iter().any(|file| file.analysed.numbers.statements > 0);
    if output.fail_under.is_some() && !measured {
        say("error: nothing was measured, so --fail-under is not met");
        return Exit::GateNotMet;
    }
    let enough = output.fail_under.is_none_or(|wanted| percent >= wanted);
    if let (Some(wanted), false) = (output.fail_under, enough) {
        say(&format!("error: {}% is covered, --fail-under wants {wanted}%", display_percent(percent, 2)));
    }
    if enough && complete { Exit::Ok } else { Exit::GateNotMet }
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        say(&format!("warning: {}", crate::fleet::printable(warning)));
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
