//! `pulpcov diff`

use std::path::{Path, PathBuf};

use anyhow::Result;
use pulpcov_coverage::diff::diff;
use pulpcov_coverage::glob::Globs;
use pulpcov_coverage::render::html::{HtmlAbout, Site};
use pulpcov_coverage::render::json::{self, About};
use pulpcov_coverage::render::text;
use pulpcov_coverage::report::FileReport;
use pulpcov_coverage::selection::Selection;
use pulpcov_coverage::source_text;
use pulpcov_protocol::text::error_chain;

use super::report::write_to;
use crate::exit::{Exit, usage, usage_hint};
use crate::output::terminal;
use crate::report::from_runs::{self, FleetReport};
use crate::report::html_site;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A run directory or bundle, or a selection of --run: host:NAME, group:NAME, role:NAME, label:NAME
    #[arg(value_name = "A")]
    a: String,
    /// What to compare it with, in the same words
    #[arg(value_name = "B")]
    b: String,
    /// The run that selections are of [default: runs/latest]
    #[arg(short, long = "run", value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Carry unchanged lines over between releases of a file, on each side
    #[arg(long)]
    map_releases: bool,
    /// Show files too that both ran alike
    #[arg(long)]
    all: bool,
    /// Show the lines that one side only ran
    #[arg(short = 'm', long)]
    show_lines: bool,
    /// Write JSON; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write an HTML report of both sides into this folder
    #[arg(long, value_name = "DIR")]
    html: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    if let Some(folder) = &args.html {
        html_site::check(folder).map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
    }
    let (a, b) = (side(&args.a, args)?, side(&args.b, args)?);
    for (name, side) in [("A", &a), ("B", &b)] {
        for warning in &side.warnings {
            terminal::say(&format!("warning: {name}: {}", crate::output::terminal::printable(warning)));
        }
    }
    let names = [format!("A {}", args.a), format!("B {}", args.b)];
    let made = diff([&names[0], &names[1]], &a.report, &b.report);
    let headline = |word: &str, side: &FleetReport| {
        let whole = side.ledger.headline();
        if Path::new(word).exists() { whole } else { format!("of a fleet {whole}") }
    };
    let headlines = [headline(&args.a, &a), headline(&args.b, &b)];
    let headline = format!("A: {}; B: {}", headlines[0], headlines[1]);
    if let Some(path) = &args.json {
        let about = About {
            timestamp: jiff::Timestamp::now().to_string(),
            headline: headline.clone(),
            ..About::default()
        };
        write_to(path, |out| json::render_diff(&made, &about, out))?;
    }
    if let Some(folder) = &args.html {
        let about = HtmlAbout {
            title: format!("{} against {}", names[0], names[1]),
            timestamp: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            headline: headline.clone(),
            complete: a.is_complete() && b.is_complete(),
            ..HtmlAbout::default()
        };
        let source = |file: &FileReport| {
            let bytes = a.sources.get(&file.sha256).or_else(|| b.sources.get(&file.sha256));
            Some(source_text::decode(bytes?))
        };
        html_site::write(folder, &Site::new(&made.report, &about, &source))
            .map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
        terminal::say(&format!(
            "wrote {}",
            crate::output::terminal::printable(&folder.join("index.html").to_string_lossy())
        ));
    }
    if args.json.is_none() && args.html.is_none() {
        write_to(Path::new("-"), |out| {
            for (name, headline) in names.iter().zip(&headlines) {
                writeln!(out, "{name}: {headline}")?;
            }
            writeln!(out)?;
            text::render_diff(&made, args.all, args.show_lines, out)
        })?;
    }
    Ok(Exit::Ok)
}

/// A run, where there is one at that path; else what a selection takes of `--run`.
fn side(word: &str, args: &Args) -> Result<FleetReport> {
    let wanted = |selection| from_runs::ReportRequest {
        selection,
        include: Globs::default(),
        omit: Globs::default(),
        sources: args.html.is_some(),
        map_releases: args.map_releases,
        analyser: None,
    };
    let failed =
        |error: from_runs::FleetReportError| usage(anyhow::anyhow!("{word}: {}", error_chain(&error)));
    if Path::new(word).exists() {
        return from_runs::make(&[word.into()], &wanted(&Selection::All)).map_err(failed);
    }
    let selection = Selection::parse(word).map_err(|error| {
        usage_hint(
            anyhow::anyhow!("{word} is no run, and no selection: {error}"),
            "as in: pulpcov diff host:w1 host:w2",
        )
    })?;
    let latest = [PathBuf::from("runs/latest")];
    let runs = if args.runs.is_empty() { &latest[..] } else { &args.runs };
    for run in runs {
        std::fs::metadata(run).map_err(|error| usage(anyhow::anyhow!("--run {}: {error}", run.display())))?;
    }
    from_runs::make(runs, &wanted(&selection)).map_err(failed)
}
