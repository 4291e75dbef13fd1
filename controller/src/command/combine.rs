//! `pulpcov combine`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use pulpcov_coverage::data_file;
use pulpcov_protocol::text::error_chain;

use crate::data_inputs;
use crate::exit::{Exit, usage, usage_hint};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Data files, folders of them, bundles or run directories
    #[arg(value_name = "DATA", required = true)]
    inputs: Vec<PathBuf>,
    /// Data file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Put what each host ran into a context of the host's name
    #[arg(long)]
    host_contexts: bool,
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    for input in &args.inputs {
        std::fs::metadata(input).map_err(|error| usage(anyhow::anyhow!("{}: {error}", input.display())))?;
    }
    let (data, count) = data_inputs::combine(&args.inputs, args.host_contexts).map_err(|error| {
        let is_mixed = matches!(error, data_inputs::InputError::Mixed { .. });
        let error = anyhow::anyhow!(error_chain(&error));
        if is_mixed {
            usage_hint(error, "nothing was written; combine line and branch data apart")
        } else {
            usage(error)
        }
    })?;
    data_file::write(&data, &args.output).map_err(|error| usage(anyhow::anyhow!(error_chain(&error))))?;
    writeln!(std::io::stderr().lock(), "combined {count} inputs, {} measured files", data.files.len())?;
    Ok(Exit::Ok)
}
