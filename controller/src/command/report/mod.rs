//! `pulpcov report`

mod names;
mod output;
mod patch;
mod write;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pulpcov_coverage::gates::{self, Gate};
use pulpcov_coverage::glob::Globs;
use pulpcov_coverage::patch::PatchCoverage;
use pulpcov_coverage::report::{FileReport, Report};
use pulpcov_coverage::selection::Selection;
use pulpcov_coverage::source_text;
use pulpcov_data_file::data::{CoverageData, is_absolute_anywhere};
use pulpcov_protocol::text::error_chain;

pub(crate) use self::output::Output;
use self::output::Settings;
pub(crate) use self::write::write_to;
use crate::exit::{Exit, usage, usage_hint};
use crate::output::terminal::say;
use crate::report::analyser::{self, Analyser, Options};
use crate::report::inputs::Contexts;
use crate::report::{from_files, from_runs, html_site, inputs, rcfile};
use crate::run::ledger::Ledger;

/// The run that was collected last, from here.
const LATEST: &str = "runs/latest";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run directories or bundles; with --python, data files or folders of them
    #[arg(value_name = "RUN", default_value = LATEST)]
    inputs: Vec<PathBuf>,
    /// Analyse sources with this Python's coverage: for data files of this machine, or for runs again
    #[arg(long, value_name = "PYTHON")]
    python: Option<String>,
    /// With data files, fail on one that is damaged, instead of leaving it out with a warning
    #[arg(long, requires = "python")]
    strict: bool,
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

/// coverage.py's own data file.
const DATA_FILE: &str = ".coverage";

const NO_RUN: &str = "name a run directory, or collect here first: pulpcov fleet collect makes runs/latest";

/// A report, and all that its renderings say besides its numbers.
struct Reported<'a> {
    report: Report,
    /// The same for CI servers, with the repository's names, where those are others.
    renamed: Option<Report>,
    /// Who is in it; nothing for reports without a fleet.
    ledger: Option<Ledger>,
    /// Data files that could not be read, of reports without a fleet.
    left_out: usize,
    warnings: Vec<String>,
    selection: Option<String>,
    /// The folder that names are relative to, where there is one.
    folder: Option<String>,
    /// Whether the data itself has relative paths, which stand for themselves.
    has_relative_paths: bool,
    source: FindBytes<'a>,
}

/// Finds the bytes of a source file.
type FindBytes<'a> = Box<dyn Fn(&FileReport) -> Option<Vec<u8>> + Sync + 'a>;

pub(crate) fn run(args: &Args) -> Result<Exit> {
    check(&args.output)?;
    for input in &args.inputs {
        std::fs::metadata(input).map_err(|error| {
            let error = anyhow::anyhow!("{}: {error}", input.display());
            let is_default = input == Path::new(LATEST);
            match is_default.then(|| Path::new(DATA_FILE).exists()) {
                None => usage(error),
                Some(false) => usage_hint(error, NO_RUN),
                // Somebody who knows coverage.py's own command.
                Some(true) => usage_hint(
                    error,
                    format!("{NO_RUN}; of coverage.py's data file here: pulpcov report {DATA_FILE}"),
                ),
            }
        })?;
    }
    let mut runs = 0;
    for input in &args.inputs {
        let found =
            from_runs::bundles_of(input).map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
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
    if let Some(option) = to_stdout.first().filter(|_| output.spare_stdout) {
        return Err(usage(anyhow::anyhow!("{option} - does not go with --jsonl: stdout is for JSON lines")));
    }
    if to_stdout.len() > 1 {
        return Err(usage(anyhow::anyhow!("{} cannot all go to stdout", to_stdout.join(" and "))));
    }
    let mut places = std::collections::BTreeMap::new();
    let html = output.html.as_deref().map(|folder| ("--html", folder));
    for (option, path) in output.files().chain(html) {
        let place = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let is_regular = std::fs::metadata(&place).map_or(true, |found| found.is_file() || found.is_dir());
        if let Some(other) = places.insert(place, option).filter(|_| is_regular) {
            return Err(usage(anyhow::anyhow!("{other} and {option} cannot both go to {}", path.display())));
        }
    }
    if let Some(folder) = &output.html {
        html_site::check(folder).map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
    }
    Ok(())
}

/// The report of run directories and bundles; analysed again where a Python is named.
pub(crate) fn of_runs(inputs: &[PathBuf], output: &Output, python: Option<&str>) -> Result<Exit> {
    let mut config = rcfile::read(output.rcfile.as_deref(), false).map_err(wrong)?;
    if !std::mem::take(&mut config.plugins).is_empty() {
        config
            .notes
            .push("[run] plugins of coverage.py's configuration are loaded for data files only".into());
    }
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
    let wanted = from_runs::ReportRequest {
        selection: &selection,
        include: Globs::new(&settings.include, &below_imports).map_err(wrong)?,
        omit: Globs::new(&settings.omit, &below_imports).map_err(wrong)?,
        sources: output.wants_sources(),
        map_releases: output.map_releases,
        analyser: analyser.as_ref(),
    };
    let mut made = from_runs::make(inputs, &wanted).map_err(|error| match error {
        from_runs::FleetReportError::Nothing(_) => {
            usage_hint(error, "for data files of this machine, name its Python with --python")
        }
        error => wrong(error),
    })?;
    if output.trust_extra {
        made.ledger.trust_extra();
    }
    let renamed = names::Naming::of(output, &config).map_err(wrong)?;
    let renamed = renamed.map(|naming| naming.rename(&made.report, &made.places)).transpose()?;
    let sources = made.sources;
    let reported = Reported {
        report: made.report,
        renamed,
        ledger: Some(made.ledger),
        left_out: 0,
        warnings: made.warnings.into_iter().chain(config.notes).collect(),
        selection: (selection != Selection::All).then(|| selection.to_string()),
        folder: None,
        has_relative_paths: false,
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
    if output.trust_extra {
        return Err(usage(anyhow::anyhow!("--trust-extra wants a run: data files alone are nobody's")));
    }
    if output.selection() != Selection::All || !output.table.by.is_empty() || output.map_releases {
        return Err(usage(anyhow::anyhow!(
            "--select, --label, --by and --map-releases want a run: data files alone do not tell where they come from"
        )));
    }
    if output.strip_prefix.is_some() || output.add_prefix.is_some() {
        return Err(usage_hint(
            anyhow::anyhow!("--strip-prefix and --add-prefix want a run: its names are those of modules"),
            "names of data files are paths, which [paths] of coverage.py's configuration maps",
        ));
    }
    let config = rcfile::read(output.rcfile.as_deref(), true).map_err(wrong)?;
    let config = analyser::configured(python, config).map_err(wrong)?;
    let settings = Settings::new(output, &config).map_err(wrong)?;
    let cwd = std::env::current_dir().context("there is no working directory")?;
    let contexts = if args.contexts.is_empty() { &config.contexts } else { &args.contexts };
    let show_contexts = args.show_contexts || config.show_contexts.unwrap_or(false);
    let keep = if show_contexts || !contexts.is_empty() { Contexts::Keep } else { Contexts::Drop };
    let how = inputs::InputOptions {
        contexts: keep,
        strict: args.strict,
        base: inputs::base_of(config.data_file.as_deref()),
        output: None,
    };
    let combined = inputs::combine(&args.inputs, &how).map_err(wrong)?;
    let data = in_contexts(combined.data, contexts)?;
    let has_relative_paths = data.files.keys().all(|path| !is_absolute_anywhere(path));
    let data = rcfile::map_paths(data, &config, &cwd).map_err(wrong)?;
    let folder = cwd.to_string_lossy().into_owned();
    let absolute = |pattern: &str| rcfile::canonical(&cwd, pattern);
    let wanted = from_files::ReportRequest {
        include: Globs::new(&settings.include, &absolute).map_err(wrong)?,
        omit: Globs::new(&settings.omit, &absolute).map_err(wrong)?,
        ignore_errors: args.ignore_errors || config.ignore_errors.unwrap_or(false),
        contexts: show_contexts,
    };
    let analyser = Analyser::new(python, Options::of(&config)).map_err(wrong)?;
    let (report, mut warnings) =
        from_files::make(&data, &analyser, &cwd, &wanted).map_err(|error| match error {
            from_files::LocalReportError::Source { .. } => {
                usage_hint(error, "--ignore-errors leaves such sources out")
            }
            // As coverage.py has it: nothing is wrong with the words.
            from_files::LocalReportError::Nothing
            | from_files::LocalReportError::AllLeftOut
            | from_files::LocalReportError::NoSource(_) => anyhow::Error::new(error),
            from_files::LocalReportError::Analyser(error) => wrong(error),
        })?;
    warnings.extend(combined.warnings);
    warnings.extend(config.notes);
    let source = Box::new(move |file: &FileReport| match &file.source.translated {
        Some(translated) => Some(translated.source.clone().into_bytes()),
        None => std::fs::read(cwd.join(&file.name)).ok(),
    });
    let reported = Reported {
        report,
        renamed: None,
        ledger: None,
        left_out: combined.left_out,
        warnings,
        selection: None,
        folder: Some(folder),
        has_relative_paths,
        source,
    };
    finish(&reported, output, &settings)
}

/// A run's paths are those of modules, each behind a slash.
fn below_imports(pattern: &str) -> String {
    format!("/{}", pattern.trim_start_matches("./").trim_start_matches('/'))
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

/// Judges, warns and writes.
fn finish(reported: &Reported<'_>, output: &Output, settings: &Settings) -> Result<Exit> {
    let mut warnings = reported.warnings.clone();
    let patch = patch::read(output)?.map(|added| {
        let source = |file: &FileReport| Some(source_text::decode(&(reported.source)(file)?));
        pulpcov_coverage::patch::cover(&reported.report, &added, &source)
    });
    if let Some(patch) = &patch {
        warnings.extend(patch::warnings(patch));
    }
    let gates = reported.gates(output, settings, patch.as_ref());
    for warning in &warnings {
        say(&format!("warning: {}", crate::output::terminal::printable(warning)));
    }
    write::all(&FileOutputs { reported, output, settings, warnings, gates: &gates, patch })?;
    let failures: Vec<&str> = gates.iter().filter_map(|gate| gate.failure.as_deref()).collect();
    for failure in &failures {
        say(&format!("error: {}", crate::output::terminal::printable(failure)));
    }
    Ok(if failures.is_empty() { Exit::Ok } else { Exit::GateNotMet })
}

/// All that goes into files.
struct FileOutputs<'a> {
    reported: &'a Reported<'a>,
    output: &'a Output,
    settings: &'a Settings,
    warnings: Vec<String>,
    gates: &'a [Gate],
    patch: Option<PatchCoverage>,
}

impl Reported<'_> {
    /// What other programs read.
    fn for_servers(&self) -> &Report {
        self.renamed.as_ref().unwrap_or(&self.report)
    }

    /// How complete it is; and that it is a part, where it is one.
    fn headline(&self) -> String {
        let whole = match (&self.ledger, self.left_out) {
            (Some(ledger), _) => ledger.headline(),
            (None, 0) => String::new(),
            (None, 1) => "without 1 data file, which could not be read".to_owned(),
            (None, n) => format!("without {n} data files, which could not be read"),
        };
        match &self.selection {
            Some(selection) => format!("only {selection}, of a fleet {whole}"),
            None => whole,
        }
    }

    /// A report of nothing lacks all that ran.
    fn is_complete(&self) -> bool {
        let is_all_there = self.ledger.as_ref().map_or(self.left_out == 0, Ledger::is_complete);
        is_all_there && (self.ledger.is_none() || !self.report.is_nothing())
    }

    fn gates(&self, output: &Output, settings: &Settings, patch: Option<&PatchCoverage>) -> Vec<Gate> {
        let precision = settings.precision.into();
        let thresholds = settings.thresholds.iter();
        let mut gates: Vec<Gate> =
            thresholds.map(|threshold| gates::judge(&self.report, threshold, precision)).collect();
        if let (Some(wanted), Some(patch)) = (settings.diff_threshold, patch) {
            gates.push(gates::judge_patch(patch, wanted, precision));
        }
        if output.require_complete {
            let nothing = self.report.nothing().map(|words| format!("{words}; ")).unwrap_or_default();
            let failure =
                (!self.is_complete()).then(|| format!("not complete: {nothing}{}", self.headline()));
            gates.push(Gate { name: "--require-complete".to_owned(), failure });
        }
        gates
    }
}
