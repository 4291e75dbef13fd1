//! Begins what is recorded, and restarts the service until all that runs of it is recorded.

use std::path::Path;

use pulpcov_protocol::op::{
    Commands, DEFAULT_LABEL, Install, Outside, Restarted, STARTUP_LABEL, ServiceAction,
};

use super::{OpContext, status};
use crate::failure::Failure;
use crate::host::{facts, fs, ready, services, systemd};
use crate::receipt::Receipt;
use crate::recorder::users::Users;
use crate::recorder::{flush, ledger, phase, processes, proof, unwritten};

/// A restart that was made, and what it proved.
#[derive(Default)]
pub(super) struct Started {
    pub(super) units: Vec<String>,
    pub(super) proven: u64,
    /// It is for whoever asks to make it: the start of the first process until then.
    pub(super) awaited: Option<u64>,
}

/// Whether what runs of the service can be restarted, by the agent or by whoever asks.
pub(super) fn runs(args: &Install, units: &[String], receipt: &Receipt) -> Result<bool, Failure> {
    let by_agent = !(units.is_empty() && args.commands.is_empty());
    Ok(by_agent
        || args.commands.outside.is_some() && !processes::of_service(&receipt.config.profile)?.is_empty())
}

/// Begins a session, and restarts the service where that is asked for and needed: until every process
/// has proven that it records and has settled, what runs is `startup`; afterwards it is the tests'.
pub(super) fn begin(
    args: &Install,
    receipt: &Receipt,
    changed: bool,
    session: &OpContext<'_>,
) -> Result<Option<Started>, Failure> {
    let root = &receipt.config.data_root;
    Users::note(&receipt.config)?;
    let units = units_to_restart(args, receipt)?;
    let runs = args.restarted.is_some() || runs(args, &units, receipt)?;
    // Who restarts what runs begins anew; who only installs again changes nothing.
    let unnamed = || if args.restart && runs { DEFAULT_LABEL.to_owned() } else { phase::label(root) };
    let label = args.label.clone().unwrap_or_else(unnamed);
    let run = args.run.as_deref();
    match args.restarted {
        // What is about to end still answers.
        Some(Restarted::Since(before)) if facts::start_ticks(1) == Some(before) => {
            return Ok(Some(Started { awaited: Some(before), ..Started::default() }));
        }
        Some(Restarted::Since(_)) => return prove_start(receipt, units, (&label, run), session).map(Some),
        Some(Restarted::GivenUp) => return end_start(receipt, (&label, run)).map(|()| None),
        None => {}
    }
    if !(args.restart && runs && needs_restart(receipt, changed)?) {
        let goes_on = phase::current(root).is_some_and(|now| now.label == label && now.recording);
        if !goes_on || run.is_some() {
            phase::begin(root, &label, run)?;
            flush::flush(&receipt.config, proof::FLUSH)?;
        }
        if args.restart && runs {
            // Nothing had to be restarted, but that says neither that the service is ready, nor that it is recorded.
            await_ready(receipt, &units, session)?;
            proof::wait(receipt, &units)?;
        }
        return Ok(None);
    }
    unwritten::check(&receipt.config, None, false)
        .map_err(|failure| failure.hint("nothing was restarted; mend that and install again"))?;
    let awaited = (units.is_empty() && args.commands.is_empty()).then(first_start).transpose()?;
    phase::begin(root, STARTUP_LABEL, run)?;
    if awaited.is_some() {
        return Ok(Some(Started { awaited, ..Started::default() }));
    }
    (session.progress)("restarting services");
    match services::act(ServiceAction::Restart, &units, &args.commands, &args.lib_root) {
        Ok(_) => prove_start(receipt, units, (&label, run), session).map(Some),
        Err(failure) => {
            end_start(receipt, (&label, run))?;
            Err(failure)
        }
    }
}

/// Waits for the proof that all that was started is recorded, and ends the start.
fn prove_start(
    receipt: &Receipt,
    units: Vec<String>,
    next: (&str, Option<&str>),
    session: &OpContext<'_>,
) -> Result<Started, Failure> {
    let proven = await_ready(receipt, &units, session)
        .and_then(|()| {
            (session.progress)("waiting until every process records");
            proof::wait(receipt, &units)
        })
        .and_then(|()| proof::settle(receipt))
        // What was begun by the service since: a slow program may fork after all of it was proven.
        .and_then(|proven| proof::wait(receipt, &units).map(|()| proven));
    end_start(receipt, next)?;
    Ok(Started { units, proven: proven?, awaited: None })
}

/// Whatever came of it, what runs from here on is no start.
fn end_start(receipt: &Receipt, (label, run): (&str, Option<&str>)) -> Result<(), Failure> {
    let root = &receipt.config.data_root;
    let noted = Users::note(&receipt.config);
    phase::begin(root, label, run)?;
    flush::flush(&receipt.config, proof::FLUSH)?;
    noted
}

fn await_ready(receipt: &Receipt, units: &[String], session: &OpContext<'_>) -> Result<(), Failure> {
    let wanted = &receipt.config.profile.ready;
    if !wanted.is_empty() {
        (session.progress)("waiting until the service is ready");
    }
    ready::wait(wanted, units)
}

/// The running units of the service; none where commands restart it.
pub(super) fn units_to_restart(args: &Install, receipt: &Receipt) -> Result<Vec<String>, Failure> {
    if args.commands.is_empty() { systemd::running(&receipt.config.profile.units) } else { Ok(Vec::new()) }
}

pub(super) fn needs_restart(receipt: &Receipt, changed: bool) -> Result<bool, Failure> {
    if changed {
        return Ok(true);
    }
    let ledger = ledger::read(&receipt.config)?;
    Ok(status::unrecorded(receipt, &ledger)?.iter().any(|process| process.restart))
}

/// When the first process was started, by which it is known after a restart from outside.
pub(super) fn first_start() -> Result<u64, Failure> {
    facts::start_ticks(1).ok_or_else(|| {
        Failure::new("the first process cannot be looked at, so nobody could tell whether it was restarted")
            .hint("restart the service yourself, or name --stop-command and --start-command")
    })
}

/// Whether only whoever asks can restart what runs, which makes all anew that lies on no volume.
pub(super) fn is_made_anew(commands: &Commands) -> bool {
    commands.is_empty() && commands.outside == Some(Outside::Anew)
}

/// Refuses a restart that would take with it what has to be there afterwards.
pub(super) fn check_survival<'a>(
    args: &Install,
    mut places: impl Iterator<Item = &'a Path>,
) -> Result<(), Failure> {
    if !args.restart || args.restarted.is_some() || !is_made_anew(&args.commands) {
        return Ok(());
    }
    match places.find(|place| !fs::is_on_a_volume(place)) {
        None => Ok(()),
        Some(place) => Err(Failure::new(format!(
            "a restart makes the container anew, and {} lies on no volume of it",
            place.display()
        ))
        .hint("set pulpcov_lib_root and pulpcov_data_root to folders of a volume, and HOME with them for the hook; or use pulpcov bake")),
    }
}
