//! `pulpcov report`

mod output;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pulpcov_coverage::numbers::display_percent;
use pulpcov_coverage::render::html::{HtmlAbout, Site};
use pulpcov_coverage::render::json::{About, render_json};
use pulpcov_coverage::render::lcov::render_lcov;
use pulpcov_coverage::render::text::render_text;
use pulpcov_coverage::render::xml::{XmlAbout, render_xml};
use pulpcov_coverage::report::{FileReport, Report};
use pulpcov_coverage::selection::Selection;
use pulpcov_coverage::source_text;
use pulpcov_protocol::text::error_chain;

pub(crate) use self::output::Output;
use crate::exit::{Exit, usage, usage_hint};
use crate::ledger::Ledger;
use crate::{data_inputs, fleet_report, html_site, local_report, run_dir};

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

/// A report, and all that its renderings say besides its numbers.
struct Reported<'a> {
    report: Report,
    /// Who is in it; nothing for reports without a fleet.
    ledger: Option<Ledger>,
    warnings: Vec<String>,
    selection: Option<String>,
    /// The folder that names are relative to, where there is one.
    folder: Option<String>,
    source: FindBytes<'a>,
}

/// Finds the bytes of a source file.
type FindBytes<'a> = Box<dyn Fn(&FileReport) -> Option<Vec<u8>> + Sync + 'a>;

pub(crate) fn run(args: &Args) -> Result<Exit> {
    check(&args.output)?;
    for input in &args.inputs {
        std::fs::metadata(input).map_err(|error| usage(anyhow::anyhow!("{}: {error}", input.display())))?;
    }
    match &args.python {
        Some(python) => of_data(args, python),
        None => of_runs(&args.inputs, &args.output),
    }
}

/// What cannot be done is said before anything is.
pub(crate) fn check(output: &Output) -> Result<()> {
    let to_stdout = output.files().filter(|(_, path)| *path == Path::new("-"));
    let to_stdout: Vec<&str> = to_stdout.map(|(option, _)| option).collect();
    if to_stdout.len() > 1 {
        return Err(usage(anyhow::anyhow!("{} cannot all go to stdout", to_stdout.join(" and "))));
    }
    if let Some(folder) = &output.html {
        html_site::check(folder).map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
    }
    Ok(())
}

/// The report of run directories and bundles.
pub(crate) fn of_runs(inputs: &[PathBuf], output: &Output) -> Result<Exit> {
    let selection = output.selection();
    let made =
        fleet_report::make(inputs, &selection, output.html.is_some()).map_err(|error| match error {
            fleet_report::FleetReportError::Nothing(_) => {
                usage_hint(error, "for data files of this machine, name its Python with --python")
            }
            error => usage(anyhow::anyhow!(error_chain(&error))),
        })?;
    let sources = made.sources;
    finish(
        &Reported {
            report: made.report,
            ledger: Some(made.ledger),
            warnings: made.warnings,
            selection: (selection != Selection::All).then(|| selection.to_string()),
            folder: None,
            source: Box::new(move |file| sources.get(&file.sha256).cloned()),
        },
        output,
    )
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
    let folder = cwd.to_string_lossy().into_owned();
    let source = Box::new(move |file: &FileReport| std::fs::read(cwd.join(&file.name)).ok());
    let reported = Reported { report, ledger: None, warnings, selection: None, folder: Some(folder), source };
    finish(&reported, &args.output)
}

/// Warns, writes and judges.
fn finish(reported: &Reported<'_>, output: &Output) -> Result<Exit> {
    for warning in &reported.warnings {
        say(&format!("warning: {}", crate::fleet::printable(warning)));
    }
    write(reported, output)?;
    let complete = reported.ledger.as_ref().is_none_or(Ledger::is_complete);
    if output.require_complete && !complete {
        say(&format!("error: not complete: {}", reported.headline()));
    }
    Ok(gate(&reported.report, output, complete || !output.require_complete))
}

impl Reported<'_> {
    fn headline(&self) -> String {
        self.ledger.as_ref().map(Ledger::headline).unwrap_or_default()
    }

    fn html_about(&self, output: &Output) -> HtmlAbout {
        HtmlAbout {
            title: output.title.clone(),
            timestamp: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            headline: self.headline(),
            complete: self.ledger.as_ref().is_none_or(Ledger::is_complete),
            selection: self.selection.clone(),
            warnings: self.warnings.clone(),
            hosts: self.ledger.as_ref().map(Ledger::host_rows).unwrap_or_default(),
            history: None,
            precision: output.table.precision.into(),
        }
    }
}

fn write(reported: &Reported<'_>, output: &Output) -> Result<()> {
    let report = &reported.report;
    let headline = reported.headline();
    if let Some(path) = &output.json {
        let about = About {
            timestamp: jiff::Timestamp::now().to_string(),
            headline: headline.clone(),
            selection: reported.selection.clone(),
            hosts: reported.ledger.as_ref().map(Ledger::to_json).unwrap_or_default(),
        };
        write_to(path, |out| render_json(report, &about, out))?;
    }
    if let Some(path) = &output.xml {
        let timestamp = jiff::Timestamp::now().as_millisecond();
        let about = XmlAbout { timestamp, source: reported.folder.clone(), headline: headline.clone() };
        write_to(path, |out| render_xml(report, &about, out))?;
    }
    if let Some(path) = &output.lcov {
        write_to(path, |out| render_lcov(report, &headline, out))?;
    }
    if let Some(folder) = &output.html {
        let about = reported.html_about(output);
        let source = |file: &FileReport| Some(source_text::decode(&(reported.source)(file)?));
        html_site::write(folder, &Site::new(report, &about, &source))
            .map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
    }
    let stdout = PathBuf::from("-");
    let nothing_yet = output.files().next().is_none() && output.html.is_none();
    if let Some(path) = output.text.as_ref().or(nothing_yet.then_some(&stdout)) {
        write_to(path, |out| {
            if !headline.is_empty() {
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

fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
