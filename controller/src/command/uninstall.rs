//! `pulpcov fleet uninstall`

use anyhow::Result;
use pulpcov_protocol::op::{DEFAULT_LIB_ROOT, Op, Uninstall};

use super::reach::{Reach, ask_once, exit_of};
use crate::cli::{FleetArgs, ServiceCommands};
use crate::exit::Exit;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// Remove our files even where somebody changed them
    #[arg(long)]
    pub(crate) force: bool,
    /// Remove data files too, collected or not
    #[arg(long)]
    pub(crate) erase_data: bool,
    /// Restart the profile's units, so that no process keeps the hook
    #[arg(long)]
    pub(crate) restart: bool,
    #[command(flatten)]
    pub(crate) commands: ServiceCommands,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let reach = Reach::new(&args.fleet)?;
    let (force, erase_data, restart) = (args.force, args.erase_data, args.restart);
    let commands = args.commands;
    let recap = reach
        .run("uninstall", move |access, host, reporter| {
            let lib_root = host.pulpcov.lib_root.clone().unwrap_or_else(|| DEFAULT_LIB_ROOT.to_owned());
            let commands = commands.of(&host);
            let op = Op::Uninstall(Uninstall { lib_root, force, erase_data, restart, commands });
            async move { ask_once(&access, &host, &reporter, &op).await }
        })
        .await?;
    Ok(exit_of(&recap))
}
