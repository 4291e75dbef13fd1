//! The proof of measurement: every process that the profile wants has left its record and answered
//! one flush. Until that is seen, "installed" is only a hope.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::host::{caller, systemd};
use crate::receipt::Receipt;
use crate::recorder::flush;
use crate::recorder::ledger;
use crate::recorder::ledger::Ledger;
use crate::recorder::processes::{self, Running};
use crate::recorder::users::Users;

/// Longest wait for services that have just started: importing Pulp on a busy host takes a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// Longest wait where nothing changes any more: each process that is missing has had time to begin.
const QUIET: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(250);

/// Longest wait for the answers to the one flush.
pub(crate) const FLUSH: Duration = Duration::from_secs(10);

/// So long nothing new may run before a service counts as started, and longest wait for that.
const SETTLED_FOR: Duration = Duration::from_secs(3);
const SETTLING: Duration = Duration::from_secs(30);

/// Processes that are named in the message; the rest is counted.
const NAMED: usize = 3;

/// Waits for the proof of the units that were started.
pub(crate) fn wait(receipt: &Receipt, units: &[String]) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut last_change = begin;
    let mut before = String::new();
    loop {
        caller::still_listens()?;
        // Processes may become another user after their start.
        Users::note(&receipt.config)?;
        let ledger = ledger::read(&receipt.config)?;
        let service = processes::of_service(&receipt.config.profile)?;
        let lasting = systemd::lasting(units)?;
        let mut missing = missing(&service, &lasting, receipt, &ledger);
        missing.extend(lasting.iter().filter_map(fallen).map(Missing::because));
        if missing.is_empty() {
            missing = silent(&service, receipt)?;
        }
        if missing.is_empty() {
            return Ok(());
        }
        let words: Vec<&str> = missing.iter().map(|one| one.words.as_str()).collect();
        let now = format!("{words:?} {}", service.len());
        if now != before {
            before = now;
            last_change = Instant::now();
        }
        if begin.elapsed() > PATIENCE || last_change.elapsed() > QUIET {
            return Err(failure(missing));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until the service has settled: for a while, no process came or ran what it had not run before.
/// A unit is active, and its processes record, long before the last import is done. Returns how many
/// processes of the service are recorded then.
pub(crate) fn settle(receipt: &Receipt) -> Result<u64, Failure> {
    let begin = Instant::now();
    let mut before = None;
    while begin.elapsed() < SETTLING {
        caller::still_listens()?;
        flush::flush(&receipt.config, FLUSH)?;
        let records = ledger::read(&receipt.config)?.records;
        let now: BTreeSet<(u32, u64, u64)> = records
            .iter()
            .filter(|record| record.is_live())
            .map(|record| (record.pid_here.unwrap_or_default(), record.process.start_ticks, record.size))
            .collect();
        if before.as_ref() == Some(&now) {
            break;
        }
        before = Some(now);
        std::thread::sleep(SETTLED_FOR);
    }
    let service = processes::of_service(&receipt.config.profile)?;
    Ok(wanted(&service, receipt).count() as u64)
}

fn is_wanted(running: &Running, receipt: &Receipt) -> bool {
    running.role(&receipt.config.profile).is_some() && running.is_alive()
}

fn wanted<'a>(service: &'a [Running], receipt: &'a Receipt) -> impl Iterator<Item = &'a Running> {
    service.iter().filter(|running| is_wanted(running, receipt))
}

/// What is still missing: in words, and what a person can do about it.
#[derive(PartialEq)]
struct Missing {
    words: String,
    remedy: Option<String>,
}

impl Missing {
    fn because(words: String) -> Self {
        Self { words, remedy: None }
    }
}

fn missing(
    service: &[Running],
    units: &[(String, String)],
    receipt: &Receipt,
    ledger: &Ledger,
) -> Vec<Missing> {
    let mut missing: Vec<Missing> = processes::unrecorded(service, receipt, ledger)
        .into_iter()
        .filter(|(running, _)| is_wanted(running, receipt))
        .map(|(running, why)| Missing {
            words: format!("{}: {}", running.title(), why.reason),
            remedy: why.remedy,
        })
        .collect();
    let with_a_role: BTreeSet<&str> = wanted(service, receipt).map(|running| running.unit.as_str()).collect();
    // A wrapper may still be at work before the program itself.
    let late = units.iter().map(|(unit, _)| unit).filter(|unit| !with_a_role.contains(unit.as_str()));
    missing.extend(late.map(|unit| {
        let inside = service.iter().find(|running| running.unit == **unit);
        let name = inside.map_or("PROGRAM", Running::program);
        Missing {
            words: format!("{unit}: none of its processes is a Python, or one that the profile names"),
            remedy: Some(format!("if {name} has a Python inside, {}", processes::add_a_rule(name))),
        }
    }));
    if units.is_empty() && with_a_role.is_empty() {
        missing.push(Missing::because("no process of the profile's services runs".to_owned()));
    }
    missing
}

/// What becomes of a unit that was started and did not stay up, with its last words.
fn fallen((unit, state): &(String, String)) -> Option<String> {
    (state != "active").then(|| format!("{unit} is {state}; {}", systemd::last_log_lines(unit)))
}

/// What does not answer a flush. It may only be slow to start, and be missing otherwise when it is looked at again.
fn silent(service: &[Running], receipt: &Receipt) -> Result<Vec<Missing>, Failure> {
    let answer = flush::flush(&receipt.config, FLUSH)?;
    let silent = wanted(service, receipt).filter(|running| answer.silent.contains(&running.pid));
    let silent = silent.map(|running| Missing {
        words: format!("{}: it did not answer a flush within {} s", running.title(), FLUSH.as_secs()),
        remedy: running.is_uwsgi().then(|| processes::LET_UWSGI_PYTHON_RUN.to_owned()),
    });
    Ok(silent.chain(answer.bad.into_iter().map(Missing::because)).collect())
}

fn failure(missing: Vec<Missing>) -> Failure {
    let more = missing.len().saturating_sub(NAMED);
    let named: Vec<&str> = missing.iter().take(NAMED).map(|one| one.words.as_str()).collect();
    let mut msg = named.join("; ");
    if more > 0 {
        msg.push_str(&format!("; and {more} more"));
    }
    let remedies: BTreeSet<String> = missing.iter().filter_map(|one| one.remedy.clone()).collect();
    let remedies: Vec<String> = remedies.into_iter().take(NAMED).collect();
    let failure = Failure::new(msg);
    if remedies.is_empty() {
        return failure.hint("pulpcov fleet doctor tells what is in the way");
    }
    failure.hint(remedies.join("; "))
}
