//! `pulpcov fleet uninstall`

use anyhow::Result;
use pulpcov_protocol::op::{Op, Uninstall};
use pulpcov_protocol::outcome::{Detail, FileDiff, Outcome};

use crate::agent::client::AgentError;
use crate::command::args::{FleetArgs, ServiceCommands};
use crate::command::check_diff::{self, CheckArgs};
use crate::exit::Exit;
use crate::fleet::fan_out::{Access, JobResult, Reporter};
use crate::fleet::outcome::Recap;
use crate::fleet::targets::{Targets, exit_of};
use crate::inventory::Host;
use crate::output::event::HostResult;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
    /// Remove our files even where somebody changed them or another fleet put them, leave what somebody has put in their
    /// place, and restart processes that cannot write what they hold
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
    let targets = Targets::new(args.fleet.targets()?, "uninstall").await?;
    let options = UninstallOptions {
        force: args.force,
        erase: EraseAll::asked_by(&args),
        restart: args.restart,
        check: args.check,
        commands: args.commands,
    };
    let recap = uninstall_all(targets, options).await?;
    check_diff::show(recap.data(), args.fleet.jsonl);
    Ok(exit_of(&recap))
}

/// What goes, and what else is done.
pub(super) struct UninstallOptions {
    pub(super) force: bool,
    pub(super) erase: Option<EraseAll>,
    pub(super) restart: bool,
    pub(super) check: CheckArgs,
    pub(super) commands: ServiceCommands,
}

/// The person's own word that all data goes, collected or not. Nothing else makes one.
#[derive(Debug, Clone, Copy)]
pub(super) struct EraseAll(());

impl EraseAll {
    fn asked_by(args: &Args) -> Option<Self> {
        args.erase_data.then_some(Self(()))
    }
}

pub(super) async fn uninstall_all(
    targets: Targets,
    options: UninstallOptions,
) -> Result<Recap<Vec<FileDiff>>> {
    let UninstallOptions { force, erase, restart, check: CheckArgs { check, diff }, commands } = options;
    let erase_data = erase.is_some();
    let unfinished = targets.unfinished();
    let inventory = targets.own_inventory()?;
    let recap = targets
        .run(move |access, host, reporter| {
            let lib_root = host.lib_root();
            let commands = commands.of(&host);
            let data_root = host.pulpcov.data_root.clone();
            let op = Uninstall {
                lib_root,
                force,
                erase_data,
                data_root,
                restart,
                commands,
                restarted: None,
                check,
                diff,
                fleet: Some(inventory.fleet_of(&host)),
            };
            async move { uninstall(&access, &host, &reporter, op).await }
        })
        .await?;
    if let Some(place) = unfinished.filter(|_| !check) {
        let back = recap.0.iter().filter(|(_, status)| !status.verdict.is_bad());
        place.forget(&back.map(|(host, _)| host.clone()).collect());
    }
    Ok(recap)
}

async fn uninstall(
    access: &Access,
    host: &Host,
    reporter: &Reporter,
    op: Uninstall,
) -> Result<JobResult<Vec<FileDiff>>, AgentError> {
    let mut again = Uninstall { restart: false, ..op.clone() };
    let mut outcome = access.ask_once(host, &Op::Uninstall(op), reporter).await?;
    if let Some(before) = awaits_restart(&outcome) {
        again.restarted = Some(before);
        let is_the_old = |outcome: &Outcome| awaits_restart(outcome) == Some(before);
        let rest = access.restart_and_ask(host, &Op::Uninstall(again), reporter, is_the_old).await?;
        // Where nothing was left to be done, what was done before is what there is to tell.
        outcome = if rest.changed { Outcome { diff: outcome.diff, ..rest } } else { outcome };
    }
    Ok(JobResult {
        verdict: HostResult::of(outcome.changed),
        msg: outcome.msg,
        warnings: outcome.warnings,
        data: outcome.diff,
    })
}

/// The start of the first process that is to be restarted.
const fn awaits_restart(outcome: &Outcome) -> Option<u64> {
    match &outcome.pulpcov {
        Detail::Uninstall(detail) => detail.awaits_restart,
        _ => None,
    }
}
