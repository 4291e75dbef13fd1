//! `pulpcov report`

mod output;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pulpcov_coverage::data::CoverageData;
use pulpcov_coverage::glob::Globs;
use pulpcov_coverage::numbers::{display_percent, is_enough};
use pulpcov_coverage::render::html::{HtmlAbout, Site};
use pulpcov_coverage::render::json::{About, render_json};
use pulpcov_coverage::render::lcov::render_lcov;
use pulpcov_coverage::render::markdown::render_table;
use pulpcov_coverage::render::text::render_text;
use pulpcov_coverage::render::xml::{XmlAbout, render_xml};
use pulpcov_coverage::report::{FileReport, Report};
use pulpcov_coverage::selection::Selection;
use pulpcov_coverage::source_text;
use pulpcov_protocol::text::error_chain;

pub(crate) use self::output::Output;
use self::output::{Settings, TableForm};
use crate::analyser::{Analyser, Options};
use crate::exit::{Exit, usage, usage_hint};
use crate::ledger::Ledger;
use crate::{data_inputs, fleet_report, html_site, local_report, rcfile, run_dir};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run directories or bundles; with --python, data files or folders of them
    #[arg(value_name = "RUN", required = true)]
    inputs: Vec<PathBuf>,
    /// Analyse sources with this Python's coverage: for data files of this machine, or for runs again
    #[arg(long, value_name = "PYTHON")]
    python: Option<String>,
    /// With data files, leave out sources that cannot be analysed
    #[arg(short, long, requires = "python")]
    ignore_errors: bool,
    /// With data files, tell the contexts of each line in the JSON report
    #[arg(long, requires = "python")]
    show_contexts: bool,
    /// With data files, report only what ran in contexts that one of these regular expressions finds
    #[arg(long, requires = "python", value_name = "REGEXES", value_delimiter = ',')]
    contexts: Vec<String>,
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
    let mut runs = 0;
    for input in &args.inputs {
        let found =
            fleet_report::bundles_of(input).map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
        runs += usize::from(found.is_some());
    }
    match &args.python {
        Some(python) if runs == 0 => of_data(args, python),
        Some(_) if runs < args.inputs.len() => Err(usage(anyhow::anyhow!(
            "runs and data files do not go into one report: pulpcov combine makes them one"
        ))),
        python => of_runs(&args.inputs, &args.output, python.as_deref()),
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

/// The report of run directories and bundles; analysed again where a Python is named.
pub(crate) fn of_runs(inputs: &[PathBuf], output: &Output, python: Option<&str>) -> Result<Exit> {
    let config = rcfile::read(output.rcfile.as_deref(), false).map_err(wrong)?;
    let settings = Settings::new(output, &config).map_err(wrong)?;
    let options = Options::of(&config);
    let analyser = match python {
        Some(python) => Some(Analyser::new(python, options).map_err(wrong)?),
        None if options != Options::default() => {
            return Err(usage_hint(
                anyhow::anyhow!("the run's sources were analysed without these exclusions"),
                "--python PYTHON analyses them again, with a coverage.py of this machine",
            ));
        }
        None => None,
    };
    let selection = output.selection();
    let wanted = fleet_report::Wanted {
        selection: &selection,
        include: Globs::new(&settings.include, "").map_err(wrong)?,
        omit: Globs::new(&settings.omit, "").map_err(wrong)?,
        sources: output.html.is_some(),
        analyser: analyser.as_ref(),
    };
    let made = fleet_report::make(inputs, &wanted).map_err(|error| match error {
        fleet_report::FleetReportError::Nothing(_) => {
            usage_hint(error, "for data files of this machine, name its Python with --python")
        }
        error => wrong(error),
    })?;
    let sources = made.sources;
    let reported = Reported {
        report: made.report,
        ledger: Some(made.ledger),
        warnings: made.warnings,
        selection: (selection != Selection::All).then(|| selection.to_string()),
        folder: None,
        source: Box::new(move |file| sources.get(&file.sha256).cloned()),
    };
    finish(&reported, output, &settings)
}

fn of_data(args: &Args, python: &str) -> Result<Exit> {
    let output = &args.output;
    if output.require_complete {
        return Err(usage(anyhow::anyhow!(
            "--require-complete wants a run: data files alone do not tell who is missing"
        )));
    }
    if output.selection() != Selection::All || !output.table.by.is_empty() {
        return Err(usage(anyhow::anyhow!(
            "--select, --label and --by want a run: data files alone do not tell where they come from"
        )));
    }
    let config = rcfile::read(output.rcfile.as_deref(), true).map_err(wrong)?;
    let settings = Settings::new(output, &config).map_err(wrong)?;
    let cwd = std::env::current_dir().context("there is no working directory")?;
    let contexts = if args.contexts.is_empty() { &config.contexts } else { &args.contexts };
    let combined = data_inputs::combine(&args.inputs, false).map_err(wrong)?;
    let mut data = in_contexts(combined.data, contexts)?;
    let mut aliases = rcfile::aliases(&config, &cwd).map_err(wrong)?;
    if !aliases.is_idle() {
        data = data.map_paths(&mut |path| aliases.map(path)).map_err(wrong)?;
    }
    let folder = cwd.to_string_lossy().into_owned();
    let wanted = local_report::Wanted {
        include: Globs::new(&settings.include, &folder).map_err(wrong)?,
        omit: Globs::new(&settings.omit, &folder).map_err(wrong)?,
        ignore_errors: args.ignore_errors || config.ignore_errors.unwrap_or(false),
        contexts: args.show_contexts || config.show_contexts.unwrap_or(false),
    };
    let analyser = Analyser::new(python, Options::of(&config)).map_err(wrong)?;
    let (report, mut warnings) =
        local_report::make(&data, &analyser, &cwd, &wanted).map_err(|error| match error {
            local_report::LocalReportError::Source { .. } => {
                usage_hint(error, "--ignore-errors leaves such sources out")
            }
            error => wrong(error),
        })?;
    warnings.extend(combined.warnings);
    let source = Box::new(move |file: &FileReport| std::fs::read(cwd.join(&file.name)).ok());
    let reported = Reported { report, ledger: None, warnings, selection: None, folder: Some(folder), source };
    finish(&reported, output, &settings)
}

/// What ran in contexts that one of the regular expressions finds; all where there are none.
fn in_contexts(data: CoverageData, contexts: &[String]) -> Result<CoverageData> {
    if contexts.is_empty() {
        return Ok(data);
    }
    let any = regex::RegexSet::new(contexts).map_err(|error| {
        let reason = error.to_string();
        usage(anyhow::anyhow!("--contexts: {}", reason.lines().last().unwrap_or_default()))
    })?;
    Ok(data.only_contexts(&|context| any.is_match(context)))
}

/// A mistake of the user's, with its causes.
fn wrong(error: impl std::error::Error) -> anyhow::Error {
    usage(anyhow::anyhow!(error_chain(&error)))
}

/// Warns, writes and judges.
fn finish(reported: &Reported<'_>, output: &Output, settings: &Settings) -> Result<Exit> {
    for warning in &reported.warnings {
        say(&format!("warning: {}", crate::fleet::printable(warning)));
    }
    write(reported, output, settings)?;
    let complete = reported.ledger.as_ref().is_none_or(Ledger::is_complete);
    if output.require_complete && !complete {
        say(&format!("error: not complete: {}", reported.headline()));
    }
    Ok(gate(&reported.report, settings, complete || !output.require_complete))
}

impl Reported<'_> {
    fn headline(&self) -> String {
        self.ledger.as_ref().map(Ledger::headline).unwrap_or_default()
    }

    fn html_about(&self, settings: &Settings) -> HtmlAbout {
        HtmlAbout {
            title: settings.title.clone(),
            timestamp: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            headline: self.headline(),
            complete: self.ledger.as_ref().is_none_or(Ledger::is_complete),
            selection: self.selection.clone(),
            warnings: self.warnings.clone(),
            hosts: self.ledger.as_ref().map(Ledger::host_rows).unwrap_or_default(),
            history: None,
            precision: settings.precision.into(),
        }
    }
}

fn write(reported: &Reported<'_>, output: &Output, settings: &Settings) -> Result<()> {
    let report = &reported.report;
    let headline = reported.headline();
    if let Some(path) = &output.json {
        let about = About {
            timestamp: jiff::Timestamp::now().to_string(),
            headline: headline.clone(),
            precision: settings.precision.into(),
            selection: reported.selection.clone(),
            hosts: reported.ledger.as_ref().map(Ledger::to_json).unwrap_or_default(),
        };
        write_to(path, |out| render_json(report, &about, out))?;
    }
    if let Some(path) = &output.xml {
        let timestamp = jiff::Timestamp::now().as_millisecond();
        let about = XmlAbout {
            timestamp,
            source: reported.folder.clone(),
            headline: headline.clone(),
            package_depth: settings.package_depth,
            skip_empty: settings.table.skip_empty,
        };
        write_to(path, |out| render_xml(report, &about, out))?;
    }
    if let Some(path) = &output.lcov {
        write_to(path, |out| render_lcov(report, &headline, settings.table.skip_empty, out))?;
    }
    if let Some(folder) = &output.html {
        let about = reported.html_about(settings);
        let source = |file: &FileReport| Some(source_text::decode(&(reported.source)(file)?));
        html_site::write(folder, &Site::new(report, &about, &source))
            .map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
    }
    let stdout = PathBuf::from("-");
    let nothing_yet = output.files().next().is_none() && output.html.is_none();
    if let Some(path) = output.text.as_ref().or(nothing_yet.then_some(&stdout)) {
        let table = settings.table_of(report);
        write_to(path, |out| match settings.form {
            TableForm::Text => {
                if !headline.is_empty() {
                    writeln!(out, "{headline}\n")?;
                }
                render_text(report, &table, out)
            }
            TableForm::Markdown => render_table(report, &table, out),
            TableForm::Total => {
                writeln!(out, "{}", display_percent(report.totals().percent_covered(), table.precision))
            }
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

fn gate(report: &Report, settings: &Settings, complete: bool) -> Exit {
    let percent = report.totals().percent_covered();
    let measured = report.files.iter().any(|file| file.analysed.numbers.statements > 0);
    if settings.fail_under.is_some() && !measured {
        say("error: nothing was measured, so --fail-under is not met");
        return Exit::GateNotMet;
    }
    let precision = settings.precision.into();
    let enough = settings.fail_under.is_none_or(|wanted| is_enough(percent, wanted, precision));
    if let (Some(wanted), false) = (settings.fail_under, enough) {
        say(&format!(
            "error: {}% is covered, --fail-under wants {wanted}%",
            display_percent(percent, precision.max(2))
        ));
    }
    if enough && complete { Exit::Ok } else { Exit::GateNotMet }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
