//! `pulpcov combine`

use std::path::PathBuf;

use anyhow::Result;
use pulpcov_data_file::data_file;
use pulpcov_protocol::text::{counted, error_chain};

use crate::exit::{Exit, usage};
use crate::output::{file, terminal};
use crate::report::inputs::Contexts;
use crate::report::{inputs, rcfile};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Data files, folders of them, bundles or run directories
    #[arg(value_name = "DATA", required = true)]
    inputs: Vec<PathBuf>,
    /// Data file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Fail on a data file that is damaged, instead of leaving it out with a warning
    #[arg(long)]
    strict: bool,
    /// Put what each host ran into a context of the host's name
    #[arg(long)]
    host_contexts: bool,
    /// coverage.py's configuration, for what it says of paths [default: the one of this folder]
    #[arg(long, value_name = "FILE")]
    rcfile: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    for input in &args.inputs {
        std::fs::metadata(input).map_err(|error| usage(anyhow::anyhow!("{}: {error}", input.display())))?;
    }
    let wrong = |error: &dyn std::error::Error| usage(anyhow::anyhow!(error_chain(error)));
    let config = rcfile::read(args.rcfile.as_deref(), true).map_err(|error| wrong(&error))?;
    let cwd = std::env::current_dir()?;
    let contexts = if args.host_contexts { Contexts::Hosts } else { Contexts::Keep };
    let how = inputs::InputOptions {
        contexts,
        strict: args.strict,
        base: inputs::base_of(config.data_file.as_deref()),
        output: Some(args.output.clone()),
    };
    let combined = inputs::combine(&args.inputs, &how).map_err(|error| wrong(&error))?;
    let data = rcfile::map_paths(combined.data, &config, &cwd).map_err(|error| wrong(&error))?;
    for warning in combined.warnings.iter().chain(&config.notes) {
        terminal::say(&format!("warning: {}", crate::output::terminal::printable(warning)));
    }
    let place = file::output_place(&args.output)
        .and_then(|place| match std::fs::metadata(&place) {
            Ok(found) if !found.is_file() => Err(std::io::Error::other("it is no file")),
            _ => Ok(place),
        })
        .map_err(|error| usage(anyhow::anyhow!("cannot write {}: {error}", args.output.display())))?;
    data_file::write(&data, &place).map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
    let left_out = match combined.left_out {
        0 => String::new(),
        n => format!(", {n} left out"),
    };
    terminal::say(&format!(
        "combined {}, {}{left_out}",
        counted(combined.inputs as u64, "input"),
        counted(data.files.len() as u64, "measured file")
    ));
    Ok(Exit::Ok)
}
