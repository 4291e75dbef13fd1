//! `pulpcov fleet report`: collect, then report.

use anyhow::Result;

use super::{collect, report};
use crate::exit::Exit;

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    #[command(flatten)]
    collect: collect::Args,
    #[command(flatten)]
    output: report::Output,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let output = args.output.beside_json_lines(args.collect.fleet.jsonl);
    report::check(&output)?;
    let (collected, run) = collect::collect(args.collect).await?;
    let reported = report::of_runs(&[run.path], &output, None)?;
    // A gate speaks of the numbers; that hosts are missing comes first, for the numbers lack them.
    Ok(if collected == Exit::Ok { reported } else { collected })
}
