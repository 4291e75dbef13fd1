//! `pulpcov fleet reset`

use anyhow::Result;
use pulpcov_protocol::op::{Op, Reset};

use crate::command::args::{FleetArgs, label, seconds};
use crate::exit::Exit;
use crate::fleet::targets::{Targets, ask_once, exit_of};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    /// Tell what would be done, and do nothing
    #[arg(short = 'C', long)]
    check: bool,
    /// Name of what follows; the present one otherwise
    #[arg(long, value_name = "LABEL", value_parser = label)]
    label: Option<String>,
    /// Seconds to wait for live processes to begin anew
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    flush_timeout: f64,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let targets = Targets::new(args.fleet.targets()?, "reset").await?;
    let (label, timeout, check) = (args.label, args.flush_timeout, args.check);
    let inventory = targets.own_inventory()?;
    let recap = targets
        .run(move |access, host, reporter| {
            let lib_root = host.lib_root();
            let op = Op::Reset(Reset {
                lib_root,
                label: label.clone(),
                timeout,
                check,
                fleet: Some(inventory.fleet_of(&host)),
            });
            async move { ask_once(&access, &host, &reporter, &op).await }
        })
        .await?;
    Ok(exit_of(&recap))
}
