//! `pulpcov fleet run`: the whole night in one command.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result};
use pulpcov_protocol::op::{DEFAULT_LABEL, Op, Status};
use pulpcov_protocol::outcome::Detail;
use pulpcov_protocol::text::error_chain;
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::differences::CheckArgs;
use super::reach::{Reach, exit_of};
use super::{collect, install, report, uninstall};
use crate::cli::{FleetArgs, label, seconds};
use crate::exit::{Exit, usage, usage_hint};
use crate::fleet::Done;
use crate::recap::Recap;
use crate::remote_agent::AgentError;
use crate::signals::Signals;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    what: install::What,
    /// Name of what is recorded while the command runs; what the start covers is kept apart
    #[arg(long, value_name = "LABEL", value_parser = label, default_value = DEFAULT_LABEL)]
    record_as: String,
    /// Run directory; one that exists is added to [default: runs/TIME, and runs/latest points at it]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Seconds to wait for live processes to flush
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    flush_timeout: f64,
    /// Leave agent and hook on the hosts
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    report: report::Output,
    /// Command to run once all is recorded; it gets `PULPCOV_RUN`, the run directory, and `PULPCOV_LABEL`
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
}

pub(crate) async fn run(args: Args) -> Result<Exit> {
    let output = args.report.beside_json_lines(args.fleet.jsonl);
    report::check(&output)?;
    if args.fleet.rerun.is_some() {
        return Err(usage_hint(
            anyhow::anyhow!("--rerun does not go with run"),
            "a night begins with all its hosts; --limit names fewer",
        ));
    }
    let Some((program, words)) = args.command.split_first() else {
        return Err(usage(anyhow::anyhow!("no command")));
    };
    find_program(Path::new(program))?;
    let reach = Reach::new(&args.fleet, "status").await?;
    let base = reach.next("status", |_| true);
    let may_fail = args.fleet.max_fail.map_or(0, |max| max.of(base.hosts.len()));
    let run = collect::place(args.output.as_deref())?;
    let path = std::path::absolute(&run.path)?;

    let interrupts = Interrupts::watch()?;
    let found = installed(reach).await?;
    // A host that does not say what it has could not be put back to that.
    let mut unrecorded = reasons(&found);
    if let Some(exit) = interrupts.exit() {
        return Ok(exit);
    }
    if unrecorded.len() > may_fail || unrecorded.len() == found.0.len() {
        say(&format!(
            "the command was not run: {} of {} hosts do not answer",
            unrecorded.len(),
            found.0.len()
        ));
        return Ok(exit_of(&found));
    }
    let had = found.0.iter().filter(|(_, status)| status.data == Some(true));
    let before = had.map(|(host, _)| host.clone()).collect();
    let how = install::How { restart: true, label: Some(args.record_as.clone()), check: CheckArgs::none() };
    let commands = args.what.commands.clone();
    let reached = base.next("install", |host| !unrecorded.contains_key(host));
    let started = install::install_all(reached, args.what, how).await?;
    unrecorded.extend(reasons(&started));
    let good = names(&started, |bad| !bad);
    let night = Night { base, before, keep: args.keep, commands };
    if let Some(exit) = interrupts.exit() {
        say("interrupted: the command was not run");
        night.put_back(&names(&started, |_| true)).await?;
        return Ok(exit);
    }
    if unrecorded.len() > may_fail || good.is_empty() {
        say(&format!(
            "the command was not run: {} of {} hosts are not recorded",
            unrecorded.len(),
            found.0.len()
        ));
        night.put_back(&names(&started, |_| true)).await?;
        return Ok(exit_of(&started));
    }
    let ended = run_command(command(program, words, &path, &args.record_as, &args.fleet)?).await?;
    say(&format!("the command ended with {}", ended.words));
    let (collected, run) = collect::collect_all(
        night.base.next("collect", |host| good.contains(host)),
        Some(&run.path),
        args.flush_timeout,
        false,
    )
    .await?;
    if args.output.is_none() && !collected.0.values().all(|status| status.verdict.is_bad()) {
        run.becomes_latest();
    }
    // Hosts that were not asked are missing all the same.
    let missing = unrecorded.into_iter().map(|(host, why)| (host, Some(format!("not recorded: {why}"))));
    run.note(missing.collect(), night.base.groups.clone())?;
    let reported = report::of_runs(std::slice::from_ref(&run.path), &output, None);
    // What is not here yet stays there: those hosts are left as they are.
    let mut done = names(&collected, |bad| !bad);
    for host in names(&collected, |bad| bad) {
        say(&format!("{host} is left as it is: collect its data, then uninstall"));
    }
    done.extend(names(&started, |bad| bad));
    let back = night.put_back(&done).await?;
    say(&format!("collected into {}", run.path.display()));
    let hosts = [exit_of(&found), exit_of(&started), exit_of(&collected), back];
    let hosts = hosts.into_iter().find(|exit| *exit != Exit::Ok);
    Ok(match (ended.code, reported) {
        (code, Err(error)) if code != 0 => {
            // The command's end is the news; why there is no report is told beside it.
            say(&format!("no report: {}", error_chain(error.as_ref())));
            Exit::Command(code)
        }
        (_, Err(error)) => return Err(error),
        (0, Ok(gate)) => hosts.unwrap_or(gate),
        (code, Ok(_)) => Exit::Command(code),
    })
}

/// Signals that end a night before its time.
const ENDING: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// Whether somebody wants an end before the command has begun. SIGHUP too: hosts are to be put back.
struct Interrupts(Arc<AtomicI32>);

impl Interrupts {
    fn watch() -> Result<Self> {
        let mut signals = Signals::listen(&ENDING)?;
        let last = Arc::new(AtomicI32::new(0));
        let noted = Arc::clone(&last);
        tokio::spawn(async move {
            loop {
                noted.store(signals.next().await.as_raw(), Ordering::Relaxed);
            }
        });
        Ok(Self(last))
    }

    /// What to end with, as a shell would say it.
    fn exit(&self) -> Option<Exit> {
        let signal = self.0.load(Ordering::Relaxed);
        (signal != 0).then(|| Exit::Command(u8::try_from(128 + signal).unwrap_or(1)))
    }
}

/// What is the same from the first stage to the last.
struct Night {
    base: Reach,
    /// Hosts where something was installed before: that is not ours to remove.
    before: BTreeSet<String>,
    keep: bool,
    commands: crate::cli::ServiceCommands,
}

impl Night {
    /// Makes of `hosts` what they were.
    async fn put_back(&self, hosts: &BTreeSet<String>) -> Result<Exit> {
        let ours = |host: &str| hosts.contains(host) && !self.before.contains(host);
        let reach = self.base.next("uninstall", ours);
        if self.keep || reach.hosts.is_empty() {
            return Ok(Exit::Ok);
        }
        let how = uninstall::How {
            force: false,
            // What was recorded is here; what the services do while they stop is nobody's test.
            erase_data: true,
            restart: true,
            check: CheckArgs::none(),
            commands: self.commands.clone(),
        };
        Ok(exit_of(&uninstall::uninstall_all(reach, how).await?))
    }
}

/// Whether something is installed on each host now.
async fn installed(reach: Reach) -> Result<Recap<bool>> {
    reach
        .run(|access, host, reporter| async move {
            let op = Op::Status(Status { lib_root: host.lib_root() });
            let outcome = access.ask_once(&host, &op, &reporter).await?;
            let Detail::Status(detail) = outcome.pulpcov else {
                return Err(AgentError::Unexpected("status without its details".to_owned()));
            };
            Ok(Done { changed: false, msg: outcome.msg, warnings: Vec::new(), data: detail.installed })
        })
        .await
}

/// Hosts that failed, and why.
fn reasons<T>(recap: &Recap<T>) -> BTreeMap<String, String> {
    let bad = recap.0.iter().filter(|(_, status)| status.verdict.is_bad());
    bad.map(|(host, status)| (host.clone(), status.msg.clone())).collect()
}

fn names<T>(recap: &Recap<T>, wanted: impl Fn(bool) -> bool) -> BTreeSet<String> {
    let hosts = recap.0.iter().filter(|(_, status)| wanted(status.verdict.is_bad()));
    hosts.map(|(host, _)| host.clone()).collect()
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "run: {text}");
}

/// How the command ended.
struct Ended {
    code: u8,
    words: String,
}

impl Ended {
    fn of(status: ExitStatus, interrupted: Option<i32>) -> Self {
        match (status.code(), status.signal().or(interrupted)) {
            (Some(code), None) => Self { code: u8::try_from(code).unwrap_or(1), words: code.to_string() },
            // As a shell would say it. A command that takes an interrupt for its good end was cut off too.
            (Some(code), Some(signal)) if code != 0 => Self {
                code: u8::try_from(code).unwrap_or(1),
                words: format!("{code}, after signal {signal}"),
            },
            (_, signal) => {
                let signal = signal.unwrap_or(0);
                Self { code: u8::try_from(128 + signal).unwrap_or(1), words: format!("signal {signal}") }
            }
        }
    }
}

fn command(
    program: &OsString,
    words: &[OsString],
    run: &Path,
    label: &str,
    fleet: &FleetArgs,
) -> Result<Command> {
    let mut command = Command::new(program);
    command.args(words).env("PULPCOV_RUN", run).env("PULPCOV_LABEL", label);
    if let Some(name) = &fleet.become_password_env {
        // root's password is no matter of the tests, nor of their logs.
        command.env_remove(name);
    }
    if fleet.jsonl {
        // stdout is for JSON lines alone.
        command.stdout(Stdio::from(std::io::stderr().as_fd().try_clone_to_owned()?));
    }
    if !at_terminal() {
        // So that a signal reaches all that it has started, too.
        command.process_group(0);
    }
    Ok(command)
}

/// Whether a terminal tells the command of an interrupt itself.
fn at_terminal() -> bool {
    rustix::termios::isatty(std::io::stdin())
}

/// Runs the command to its end, which an interrupt may bring about: what it did until then is collected.
async fn run_command(mut command: Command) -> Result<Ended> {
    let mut signals = Signals::listen(&ENDING)?;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let program = command.as_std().get_program().display();
            return Ok(Ended { code: 126, words: format!("no start: {program}: {error}") });
        }
    };
    let mut interrupted = None;
    loop {
        let signal = tokio::select! {
            status = child.wait() => return Ok(Ended::of(status.context("cannot wait for the command")?, interrupted)),
            signal = signals.next() => signal,
        };
        interrupted = Some(signal.as_raw());
        say(&format!("signal {}: what the command did until now will be collected", signal.as_raw()));
        pass_on(&child, signal);
    }
}

/// A terminal has told the command itself; whoever signals this process alone has not.
fn pass_on(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else { return };
    let _ = match (at_terminal(), signal) {
        (true, Signal::INT) => Ok(()),
        (true, _) => rustix::process::kill_process(pid, signal),
        (false, _) => rustix::process::kill_process_group(pid, signal),
    };
}

/// A command that is not there is a slip: it is found before any host is touched.
fn find_program(program: &Path) -> Result<()> {
    let runs = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let found = if program.components().count() > 1 {
        runs(program)
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| runs(&folder.join(program)))
    };
    let none = || usage(anyhow::anyhow!("there is no command {} that can be run", program.display()));
    if found { Ok(()) } else { Err(none()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_command_is_told_as_a_shell_would() {
        let end = |raw, interrupted| Ended::of(ExitStatus::from_raw(raw), interrupted).code;
        assert_eq!((end(0, None), end(3 << 8, None), end(9, None)), (0, 3, 137));
        assert_eq!((end(0, Some(2)), end(5 << 8, Some(15)), end(2, Some(2))), (130, 5, 130));
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        assert!(find_program(Path::new("sh")).is_ok() && find_program(Path::new("/bin/sh")).is_ok());
        for bad in ["no-such-command", "/etc/passwd"] {
            let error = find_program(Path::new(bad)).expect_err("it cannot be run");
            assert!(error.to_string().contains(bad));
        }
    }
}
