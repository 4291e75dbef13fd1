//! `pulpcov fleet services start|stop|restart`

use anyhow::Result;
use clap::ValueEnum;
use pulpcov_protocol::op::{Op, ServiceAction, Services};

use crate::command::args::{FleetArgs, ServiceCommands};
use crate::exit::Exit;
use crate::fleet::targets::{Targets, ask_once, exit_of};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do with the services
    action: Action,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Tell what would be done, and do nothing
    #[arg(short = 'C', long)]
    check: bool,
    /// Unit to act on, instead of those of the installed profile (can be repeated)
    #[arg(long = "unit", value_name = "UNIT")]
    units: Vec<String>,
    #[command(flatten)]
    commands: ServiceCommands,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    Start,
    Stop,
    Restart,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let action = match args.action {
        Action::Start => ServiceAction::Start,
        Action::Stop => ServiceAction::Stop,
        Action::Restart => ServiceAction::Restart,
    };
    let targets = Targets::new(args.fleet.targets()?, "services").await?;
    let (units, commands, check) = (args.units, args.commands, args.check);
    let inventory = targets.own_inventory()?;
    let recap = targets
        .run(move |access, host, reporter| {
            let lib_root = host.lib_root();
            let commands = commands.of(&host);
            let fleet = Some(inventory.fleet_of(&host));
            let op =
                Op::Services(Services { lib_root, action, units: units.clone(), commands, check, fleet });
            async move { ask_once(&access, &host, &reporter, &op).await }
        })
        .await?;
    Ok(exit_of(&recap))
}
