//! `pulpcov trend`

use std::path::{Path, PathBuf};

use anyhow::Result;
use pulpcov_coverage::render::trend::{render_json, render_svg, render_table};
use pulpcov_coverage::selection::Selection;

use super::report::write_to;
use crate::exit::Exit;
use crate::report::trend;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run directories, in any order
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// Only what this takes of each run: host:NAME, group:NAME, role:NAME, label:NAME, with ! & - | and ( )
    #[arg(long, value_name = "SELECTION", value_parser = Selection::parse)]
    select: Option<Selection>,
    /// Write JSON; - is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a picture as SVG; - is stdout
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Digits behind the point of percentages
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(..10))]
    precision: u8,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    let points = trend::points(&args.runs, &args.select.clone().unwrap_or_default())?;
    if let Some(path) = &args.json {
        write_to(path, |out| render_json(&points, out))?;
    }
    if let Some(path) = &args.svg {
        write_to(path, |out| render_svg(&points, out))?;
    }
    if args.json.is_none() && args.svg.is_none() {
        write_to(Path::new("-"), |out| render_table(&points, args.precision.into(), out))?;
    }
    Ok(Exit::Ok)
}
