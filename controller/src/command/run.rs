//! `pulpcov fleet run`: install, run a command, collect, report and put back, in one command.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result};
use pulpcov_protocol::op::{DEFAULT_LABEL, Op, Part, Status};
use pulpcov_protocol::outcome::Detail;
use pulpcov_protocol::text::{counted, error_chain, hex};
use rustix::process::Signal;
use tokio::process::{Child, Command};

use super::{collect, install, report, uninstall};
use crate::agent::client::AgentError;
use crate::command::args::{FleetArgs, label, seconds};
use crate::command::check_diff::CheckArgs;
use crate::exit::{Exit, usage, usage_hint};
use crate::fleet::fan_out::JobResult;
use crate::fleet::outcome::Recap;
use crate::fleet::signals::Signals;
use crate::fleet::targets::{Targets, exit_of};
use crate::fleet::unfinished;
use crate::output::event::HostResult;
use crate::run::dir::RunDir;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    what: install::InstallSource,
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
            "a run begins with all its hosts; --limit names fewer",
        ));
    }
    let Some((program, words)) = args.command.split_first() else {
        return Err(usage(anyhow::anyhow!("no command")));
    };
    find_program(Path::new(program))?;
    let targets = Targets::new(args.fleet.targets()?, "status").await?;
    let base = targets.next("status", |_| true);
    let run = collect::place(args.output.as_deref())?;
    let interrupts = Interrupts::watch()?;
    let found = installed(targets).await?;
    // A host that does not say what it has could not be put back to that.
    let unrecorded = reasons(&found);
    if let Some(exit) = interrupts.exit() {
        return Ok(exit);
    }
    let may_fail = args.fleet.max_fail.map_or(0, |max| max.of(base.hosts.len()));
    if unrecorded.len() > may_fail || unrecorded.len() == found.0.len() {
        say(&format!(
            "the command was not run: {} of {} hosts do not answer",
            unrecorded.len(),
            found.0.len()
        ));
        return Ok(exit_of(&found));
    }
    let command = command(program, words, &std::path::absolute(&run.path)?, &args.record_as, &args.fleet)?;
    let plan = RunPlan {
        ours: ours(&base, &found, args.keep),
        id: run_id()?,
        label: args.record_as,
        run,
        flush_timeout: args.flush_timeout,
        may_fail,
        commands: args.what.commands.clone(),
        base,
    };
    let noted = plan.note_begin();
    let mut stage = Stage { unrecorded, hosts: exit_of(&found), ..Stage::default() };
    let measured = measure(&plan, args.what, command, &interrupts, &mut stage).await;
    if measured.is_ok() && args.output.is_none() && !stage.collected.is_empty() {
        plan.run.becomes_latest();
    }
    let reported = stage.ended.is_some() && measured.is_ok();
    let reported = reported.then(|| report::of_runs(std::slice::from_ref(&plan.run.path), &output, None));
    // Whatever came before: an error, a signal, a command that could not be started.
    let told = measured.as_ref().err().map(|error| error_chain(error.as_ref()));
    let still = plan.put_back(&stage.collected, told.as_deref()).await;
    if let Some(noted) = noted {
        let _ = noted.note(still.clone());
    }
    if !stage.collected.is_empty() {
        say(&format!("collected into {}", plan.run.path.display()));
    }
    let exit = conclude(measured, reported, stage, interrupts.exit(), !still.is_empty());
    if !still.is_empty() {
        say(&plan.still_installed(&still));
    }
    exit
}

/// How far a run has come: what is true whatever comes next.
#[derive(Default)]
struct Stage {
    /// Hosts that are not recorded, each with the reason.
    unrecorded: BTreeMap<String, String>,
    /// Hosts whose data is here.
    collected: BTreeSet<String>,
    /// How the command ended; nothing where it was not run.
    ended: Option<CommandEnd>,
    /// How the hosts went.
    hosts: Exit,
}

impl Stage {
    fn hosts_went(&mut self, exit: Exit) {
        if self.hosts == Exit::Ok {
            self.hosts = exit;
        }
    }
}

/// Installs, runs the command and collects. What it has done until an error stands in `stage`.
async fn measure(
    plan: &RunPlan,
    what: install::InstallSource,
    command: Command,
    interrupts: &Interrupts,
    stage: &mut Stage,
) -> Result<()> {
    let how = install::InstallOptions {
        restart: true,
        label: Some(plan.label.clone()),
        run: Some(plan.id.clone()),
        check: CheckArgs::none(),
    };
    let reached = plan.base.next("install", |host| !stage.unrecorded.contains_key(host));
    let asked = plan.base.hosts.len();
    let started = install::install_all(reached, what, how).await?;
    stage.hosts_went(exit_of(&started));
    stage.unrecorded.extend(reasons(&started));
    let good = names(&started, |bad| !bad);
    if interrupts.exit().is_some() {
        say("interrupted: the command was not run");
        return Ok(());
    }
    if let Some(error) = install::measures_nothing_of(&started) {
        stage.hosts_went(Exit::HostsFailed);
        say(&format!("the command was not run: {error}"));
        return Ok(());
    }
    if stage.unrecorded.len() > plan.may_fail || good.is_empty() {
        say(&format!(
            "the command was not run: {} of {asked} hosts are not recorded",
            stage.unrecorded.len()
        ));
        return Ok(());
    }
    let ended = run_command(command).await?;
    say(&format!("the command ended with {}", ended.words));
    stage.ended = Some(ended);
    let (collected, run) = plan.collect(&good, Part::Run(plan.id.clone()), &plan.run.path).await?;
    stage.hosts_went(exit_of(&collected));
    stage.collected = names(&collected, |bad| !bad);
    // Hosts that were not asked are missing all the same.
    let missing =
        stage.unrecorded.iter().map(|(host, why)| (host.clone(), Some(format!("not recorded: {why}"))));
    run.note(missing.collect(), plan.base.groups.clone())?;
    let others =
        collected.0.iter().filter_map(|(host, status)| Some((host.clone(), status.data.as_ref()?.others)));
    let apart = plan.collect_apart(others.filter(|(_, files)| *files > 0).collect()).await?;
    stage.hosts_went(apart);
    Ok(())
}

/// The exit code: the command's, else that of hosts, else that of gates.
fn conclude(
    measured: Result<()>,
    reported: Option<Result<Exit>>,
    stage: Stage,
    interrupted: Option<Exit>,
    still_installed: bool,
) -> Result<Exit> {
    let code = stage.ended.map_or(0, |ended| ended.code);
    if let Err(error) = measured {
        // The hosts come last on the screen, so this is said here.
        say(&format!("error: {}", error_chain(error.as_ref())));
        return Ok(Exit::Command(if code == 0 { 1 } else { code }));
    }
    let hosts = if still_installed { Exit::HostsFailed } else { stage.hosts };
    Ok(match reported {
        None => interrupted.unwrap_or(if hosts == Exit::Ok { Exit::HostsFailed } else { hosts }),
        Some(Err(error)) if code != 0 => {
            // The command's end is the news; why there is no report is told beside it.
            say(&format!("no report: {}", error_chain(error.as_ref())));
            Exit::Command(code)
        }
        Some(Err(error)) => return Err(error),
        Some(Ok(_)) if code != 0 => Exit::Command(code),
        Some(Ok(gate)) => {
            if hosts == Exit::Ok {
                gate
            } else {
                hosts
            }
        }
    })
}

/// Hosts that this run is to put back: not those where something was installed before, unless a run that was cut
/// off had left it there.
fn ours(base: &Targets, found: &Recap<bool>, keep: bool) -> BTreeSet<String> {
    if keep {
        return BTreeSet::new();
    }
    let left = base.unfinished().and_then(|place| place.left()).map(|left| left.hosts).unwrap_or_default();
    let without = found.0.iter().filter(|(host, status)| match status.data {
        Some(installed) => !installed || left.contains(*host),
        None => false,
    });
    without.map(|(host, _)| host.clone()).collect()
}

/// A name that no other run has.
fn run_id() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(hex(bytes))
}

/// Signals that end a run before its time.
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
struct RunPlan {
    base: Targets,
    run: RunDir,
    /// Names what is recorded in this run.
    id: String,
    label: String,
    flush_timeout: f64,
    may_fail: usize,
    /// Hosts that are put back at the end.
    ours: BTreeSet<String>,
    commands: crate::command::args::ServiceCommands,
}

impl RunPlan {
    /// Notes which hosts are to be put back, in case this process does not live to do it.
    fn note_begin(&self) -> Option<unfinished::Held> {
        let noted =
            self.base.unfinished()?.begin(&std::path::absolute(&self.run.path).ok()?, self.ours.clone());
        noted
            .map_err(|error| {
                say(&format!("warning: were this cut off, nobody would know of its hosts: {error}"));
            })
            .ok()
    }

    /// Collects a part of the hosts' data. Recording ends with it where this run puts the host back.
    async fn collect(
        &self,
        hosts: &BTreeSet<String>,
        part: Part,
        into: &Path,
    ) -> Result<(Recap<collect::Brought>, RunDir)> {
        let targets = self.base.next("collect", |host| hosts.contains(host));
        let options = collect::CollectOptions {
            flush_timeout: self.flush_timeout,
            keep: false,
            part,
            finish: self.ours.clone(),
        };
        collect::collect_all(targets, Some(into), options).await
    }

    /// What other sessions have left on hosts is no part of this run: it gets a run directory of its own.
    async fn collect_apart(&self, others: BTreeMap<String, u64>) -> Result<Exit> {
        if others.is_empty() {
            return Ok(Exit::Ok);
        }
        let apart = self.run.path.join("earlier");
        let hosts: BTreeSet<String> = others.keys().cloned().collect();
        let files: u64 = others.values().sum();
        let on = hosts.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        say(&format!(
            "{} on {on} {} not of this run: collected apart, into {}",
            counted(files, "data file"),
            if files == 1 { "is" } else { "are" },
            apart.display()
        ));
        let (recap, _) = self.collect(&hosts, Part::NotRun(self.id.clone()), &apart).await?;
        Ok(exit_of(&recap))
    }

    /// Makes of this run's hosts what they were; nothing is erased there that is not here. Returns those that are
    /// still as they are. An error that is `told` anyway is not said twice.
    async fn put_back(&self, collected: &BTreeSet<String>, told: Option<&str>) -> BTreeSet<String> {
        let say_error = |error: anyhow::Error| {
            let words = error_chain(error.as_ref());
            if told != Some(words.as_str()) {
                say(&format!("error: {words}"));
            }
        };
        let mut ready: BTreeSet<String> = self.ours.intersection(collected).cloned().collect();
        let open: BTreeSet<String> = self.ours.difference(collected).cloned().collect();
        if !open.is_empty() {
            match self.save(&open).await {
                Ok(saved) => ready.extend(saved),
                Err(error) => say_error(error),
            }
        }
        let mut still = self.ours.clone();
        if ready.is_empty() {
            return still;
        }
        let how = uninstall::UninstallOptions {
            force: false,
            erase: None,
            restart: true,
            check: CheckArgs::none(),
            commands: self.commands.clone(),
        };
        let targets = self.base.next("uninstall", |host| ready.contains(host));
        match uninstall::uninstall_all(targets, how).await {
            Ok(recap) => still.retain(|host| recap.0.get(host).is_none_or(|status| status.verdict.is_bad())),
            Err(error) => say_error(error),
        }
        still
    }

    /// Brings what hosts have recorded in this run, though its command was not run or not to its end; returns the
    /// hosts where nothing of it is left.
    async fn save(&self, hosts: &BTreeSet<String>) -> Result<BTreeSet<String>> {
        let found = installed(self.base.next("status", |host| hosts.contains(host))).await?;
        let with = |wanted: bool| found.0.iter().filter(move |(_, status)| status.data == Some(wanted));
        let mut saved: BTreeSet<String> = with(false).map(|(host, _)| host.clone()).collect();
        let installed: BTreeSet<String> = with(true).map(|(host, _)| host.clone()).collect();
        if !installed.is_empty() {
            let (collected, _) = self.collect(&installed, Part::Run(self.id.clone()), &self.run.path).await?;
            saved.extend(names(&collected, |bad| !bad));
        }
        Ok(saved)
    }

    /// What to do about hosts that could not be put back.
    fn still_installed(&self, still: &BTreeSet<String>) -> String {
        let words = self.base.words(still);
        format!(
            "still installed on {}: pulpcov fleet collect {words}, then pulpcov fleet uninstall {words} --restart",
            still.iter().cloned().collect::<Vec<_>>().join(", ")
        )
    }
}

/// Whether something is installed on each host now.
async fn installed(targets: Targets) -> Result<Recap<bool>> {
    targets
        .run(|access, host, reporter| async move {
            let op = Op::Status(Status { lib_root: host.lib_root() });
            let outcome = access.ask_once(&host, &op, &reporter).await?;
            let Detail::Status(detail) = outcome.pulpcov else {
                return Err(AgentError::Unexpected("status without its details".to_owned()));
            };
            Ok(JobResult {
                verdict: HostResult::Ok,
                msg: outcome.msg,
                warnings: Vec::new(),
                data: detail.installed,
            })
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
    crate::output::terminal::say(&format!("run: {text}"));
}

/// How the command ended.
struct CommandEnd {
    code: u8,
    words: String,
}

impl CommandEnd {
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
async fn run_command(mut command: Command) -> Result<CommandEnd> {
    let mut signals = Signals::listen(&ENDING)?;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let program = command.as_std().get_program().display();
            return Ok(CommandEnd { code: 126, words: format!("no start: {program}: {error}") });
        }
    };
    let mut interrupted = None;
    loop {
        let signal = tokio::select! {
            status = child.wait() => return Ok(CommandEnd::of(status.context("cannot wait for the command")?, interrupted)),
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
        let end = |raw, interrupted| CommandEnd::of(ExitStatus::from_raw(raw), interrupted).code;
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
