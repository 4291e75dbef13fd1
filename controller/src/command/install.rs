//! `pulpcov fleet install`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use pulpcov_protocol::fleet::Fleet;
use pulpcov_protocol::op::{Install, Op, Probe, Restarted, Wheel};
use pulpcov_protocol::outcome::{Detail, FileDiff, InstallDetail, Outcome};
use pulpcov_protocol::profile::Profile;

use super::missing_packages::{self, Packages};
use crate::agent::client::{AgentError, Progressing, RemoteAgent};
use crate::command::args::{FleetArgs, ServiceCommands, label};
use crate::command::check_diff::{self, CheckArgs};
use crate::exit::{Exit, usage};
use crate::fleet::fan_out::{Access, JobResult, Reporter};
use crate::fleet::outcome::Recap;
use crate::fleet::targets::{Targets, exit_of};
use crate::inventory::{Connection, Host};
use crate::output::event::HostResult;
use crate::profile::load;
use crate::profile::wheelhouse::Wheelhouse;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
    #[command(flatten)]
    pub(crate) what: InstallSource,
    /// Restart the services where the hook is new, and wait for the proof that each of their processes is recorded
    #[arg(long)]
    pub(crate) restart: bool,
    /// Name of what is recorded from then on; what the start covers is kept apart [default: tests]
    #[arg(long, value_name = "LABEL", value_parser = label)]
    pub(crate) label: Option<String>,
}

/// What is put onto hosts
#[derive(Debug, clap::Args)]
pub(crate) struct InstallSource {
    /// Profile of hosts whose inventory sets no `pulpcov_profile`: a built-in name or a YAML file
    #[arg(long, value_name = "NAME", default_value = load::DEFAULT)]
    pub(crate) profile: String,
    /// Folder with wheels of coverage, for hosts without a package index; `pulpcov wheelhouse sync` fills it
    #[arg(long, value_name = "DIR")]
    pub(crate) wheelhouse: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) commands: ServiceCommands,
    /// Replace files of others where ours go; uninstall puts them back. What a user has put in the place of our folder in
    /// the data directory is moved aside, and stays there
    #[arg(long)]
    pub(crate) force: bool,
    /// Install on hosts that belong to another fleet, and make them this one's
    #[arg(long)]
    pub(crate) take_over: bool,
}

/// How it is put there.
pub(super) struct InstallOptions {
    pub(super) restart: bool,
    pub(super) label: Option<String>,
    /// The run that it is for.
    pub(super) run: Option<String>,
    pub(super) check: CheckArgs,
}

struct Plan {
    profiles: BTreeMap<String, Profile>,
    wheelhouse: Option<Wheelhouse>,
    commands: ServiceCommands,
    force: bool,
    take_over: bool,
    options: InstallOptions,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let targets = Targets::new(args.fleet.targets()?, "install").await?;
    let options = InstallOptions { restart: args.restart, label: args.label, run: None, check: args.check };
    let recap = install_all(targets, args.what, options).await?;
    check_diff::show(recap.data().map(|(host, installed)| (host, &installed.diff)), args.fleet.jsonl);
    if let Some(error) = measures_nothing_of(&recap) {
        crate::output::terminal::say(&format!("error: {error}"));
        return Ok(Exit::HostsFailed);
    }
    Ok(exit_of(&recap))
}

/// What is wrong with the whole fleet's packages.
pub(super) fn measures_nothing_of(recap: &Recap<Installed>) -> Option<String> {
    let nowhere = missing_packages::everywhere(recap.data().map(|(_, installed)| &installed.packages));
    (!nowhere.is_empty()).then(|| missing_packages::words(&nowhere))
}

/// What came of one host's install.
#[derive(Debug, Default)]
pub(super) struct Installed {
    diff: Vec<FileDiff>,
    packages: Packages,
}

pub(super) async fn install_all(
    targets: Targets,
    what: InstallSource,
    options: InstallOptions,
) -> Result<Recap<Installed>> {
    let plan = Arc::new(Plan {
        profiles: targets.profiles(&what.profile).map_err(usage)?,
        wheelhouse: what.wheelhouse.as_deref().map(Wheelhouse::open).transpose().map_err(usage)?,
        commands: what.commands,
        force: what.force,
        take_over: what.take_over,
        options,
    });
    let inventory = targets.own_inventory()?;
    targets
        .run(move |access, host, reporter| {
            let plan = Arc::clone(&plan);
            let fleet = inventory.fleet_of(&host);
            async move { install(&access, &host, fleet, &reporter, &plan).await }
        })
        .await
}

async fn install(
    access: &Access,
    host: &Host,
    fleet: Fleet,
    reporter: &Reporter,
    plan: &Plan,
) -> Result<JobResult<Installed>, AgentError> {
    let Some(profile) = plan.profiles.get(&host.name).cloned() else {
        return Err(AgentError::Failed { msg: "it has no profile".to_owned(), hint: None });
    };
    let wanted = profile.packages.clone();
    let mut op = Install {
        lib_root: host.lib_root(),
        data_root: host.pulpcov.data_root.clone(),
        profile,
        interpreters: host.pulpcov.interpreters.clone(),
        host_label: host_label(host),
        wheels: Vec::new(),
        wheelhouse: None,
        offered: Vec::new(),
        restart: plan.options.restart,
        restarted: None,
        commands: plan.commands.of(host),
        label: plan.options.label.clone(),
        run: plan.options.run.clone(),
        force: plan.force,
        check: plan.options.check.check,
        diff: plan.options.check.diff,
        fleet: Some(fleet),
        take_over: plan.take_over,
        bake: false,
    };
    let mut again = op.clone();
    let mut outcome = match &plan.wheelhouse {
        None => access.ask_once(host, &Op::Install(Box::new(op)), reporter).await?,
        Some(wheelhouse) => {
            let (mut agent, wheels) = choose_wheels(access, host, reporter, &op, wheelhouse).await?;
            let mut streams = Vec::new();
            // A check knows now that there are wheels; nothing is unpacked.
            for (wheel, bytes) in wheels.into_iter().filter(|_| !op.check) {
                op.wheels.push(wheel);
                streams.push(bytes);
            }
            let outcome = agent.call_with(&Op::Install(Box::new(op)), &streams, reporter).await?;
            agent.close().await;
            outcome
        }
    };
    let mut detail = detail_of(&mut outcome)?;
    if let Some(before) = detail.awaits_restart {
        again.restarted = Some(Restarted::Since(before));
        let proven = restart(access, host, reporter, &Op::Install(Box::new(again)), before).await?;
        outcome = Outcome { diff: outcome.diff, warnings: outcome.warnings, changed: true, ..proven };
        detail = detail_of(&mut outcome)?;
    }
    let packages = Packages { wanted, missing: detail.missing_packages };
    let data = Installed { diff: outcome.diff, packages };
    Ok(JobResult {
        verdict: HostResult::of(outcome.changed),
        msg: outcome.msg,
        warnings: outcome.warnings,
        data,
    })
}

/// Has the host restarted from outside, and proven. Where it is not, the start that was begun is ended all the same.
async fn restart(
    access: &Access,
    host: &Host,
    reporter: &Reporter,
    again: &Op,
    before: u64,
) -> Result<Outcome, AgentError> {
    let is_the_old = |outcome: &Outcome| matches!(&outcome.pulpcov, Detail::Install(detail) if detail.awaits_restart == Some(before));
    let restarted = access.restart_and_ask(host, again, reporter, is_the_old).await;
    // An agent that answers has ended the start, whatever it found.
    if restarted.as_ref().is_err_and(|error| error.may_pass() || matches!(error, AgentError::NotRestarted(_)))
        && let Op::Install(install) = again
    {
        let end = Install { restarted: Some(Restarted::GivenUp), ..(**install).clone() };
        // What comes of it says nothing that the failure does not.
        let _ = access.ask_once(host, &Op::Install(Box::new(end)), reporter).await;
    }
    restarted
}

fn detail_of(outcome: &mut Outcome) -> Result<InstallDetail, AgentError> {
    match std::mem::take(&mut outcome.pulpcov) {
        Detail::Install(detail) => Ok(detail),
        _ => Err(AgentError::Unexpected("install without its detail".to_owned())),
    }
}

/// What data files carry as host name: a container calls itself by a number that it has until it is made anew.
fn host_label(host: &Host) -> Option<String> {
    let of_container = || {
        matches!(host.connection, Some(Connection::Container(_))).then(|| host.name.replace(['/', '\0'], "_"))
    };
    host.pulpcov.host_label.clone().or_else(of_container)
}

/// The wheels that a host's interpreters want, and the agent that has looked at these.
async fn choose_wheels(
    access: &Access,
    host: &Host,
    reporter: &Reporter,
    op: &Install,
    wheelhouse: &Wheelhouse,
) -> Result<(RemoteAgent, Vec<(Wheel, Vec<u8>)>), AgentError> {
    reporter.step("looking at the interpreters");
    let probe = Probe {
        lib_root: op.lib_root.clone(),
        units: op.profile.units.clone(),
        interpreters: op.interpreters.clone(),
        profile: Some(op.profile.clone()),
        programs: op.bake,
    };
    let (agent, outcome) = access.ask(host, &Op::Probe(probe), reporter).await?;
    let Detail::Probe(found) = outcome.pulpcov else {
        return Err(AgentError::Unexpected("probe without interpreters".to_owned()));
    };
    let wheels = wheelhouse
        .for_host(&found.interpreters)
        .map_err(|error| AgentError::Failed { msg: error.to_string(), hint: None })?;
    Ok((agent, wheels))
}
