//! From the words of a fleet command to its hosts, and from their ends to the exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use pulpcov_protocol::fleet::Fleet;
use pulpcov_protocol::op::Op;
use pulpcov_protocol::outcome::FileDiff;
use pulpcov_protocol::profile::Profile;
use pulpcov_protocol::text::error_chain;

use crate::agent::client::AgentError;
use crate::exit::{Exit, usage, usage_hint};
use crate::fleet::access::{self, AccessRequest};
use crate::fleet::discover;
use crate::fleet::fan_out::{self, Access, FanOut, JobResult, MaxFail, Reporter};
use crate::fleet::last_run::{LastRun, LastRunFile};
use crate::fleet::outcome::Recap;
use crate::fleet::unfinished::{self, Unfinished};
use crate::inventory::load::Request;
use crate::inventory::source::shell_words;
use crate::inventory::{self, Connection, Host, Inventory, Selection, place};
use crate::output::event::{Event, Events, HostResult};
use crate::output::progress::{self, LogDir, Mode};
use crate::output::stored_path::distinct;
use crate::output::{jsonl, terminal};
use crate::profile::load::{self as profile, ProfileLoadError};

/// Events that wait for the screen.
const EVENT_BUFFER: usize = 1024;

/// Which hosts, how to reach them, and how to show it.
pub(crate) struct TargetsRequest {
    pub(crate) inventory: Request,
    pub(crate) limit: String,
    /// Only hosts that did not end well the last time.
    pub(crate) rerun: bool,
    pub(crate) access: AccessRequest,
    pub(crate) forks: usize,
    pub(crate) serial: Option<usize>,
    pub(crate) max_fail: Option<MaxFail>,
    pub(crate) mode: Mode,
    pub(crate) log_dir: Option<PathBuf>,
    pub(crate) state_dir: Option<PathBuf>,
}

/// Hosts, how to reach them, and how to show it.
pub(crate) struct Targets {
    pub(crate) hosts: Vec<Host>,
    pub(crate) access: Arc<Access>,
    fan_out: FanOut,
    pub(crate) mode: Mode,
    log: Option<PathBuf>,
    command: &'static str,
    sources: Vec<PathBuf>,
    state: Option<PathBuf>,
    /// What is known of the last run, where its failed hosts are to be asked again.
    pub(crate) rerun: Option<LastRun>,
    /// Whether these are not all hosts of the inventory.
    partial: bool,
    /// Folder of the inventory: paths in it are relative to there.
    pub(crate) folder: PathBuf,
    /// Groups of the inventory, with those of the hosts that are in them.
    pub(crate) groups: BTreeMap<String, BTreeSet<String>>,
    warnings: Vec<String>,
}

/// What a host is told of who asks.
#[derive(Debug, Clone)]
pub(crate) struct OwnInventory {
    place: String,
}

impl OwnInventory {
    pub(crate) fn fleet_of(&self, host: &Host) -> Fleet {
        let inventory = match host.pulpcov.fleet_of.as_slice() {
            [] => self.place.clone(),
            known => place::told(known),
        };
        Fleet { name: host.pulpcov.fleet.clone(), inventory }
    }
}

impl Targets {
    /// All that `command` takes to run on the hosts that are asked for.
    pub(crate) async fn new(request: TargetsRequest, command: &'static str) -> Result<Self> {
        let (inventory, selection) = read_inventory(&request.inventory, &request.limit)?;
        let sources = request.inventory.sources;
        let last = if request.rerun {
            let place = LastRunFile::of(request.state_dir.as_deref(), command, &sources);
            let last = place.and_then(|place| place.load()).map_err(|error| {
                usage_hint(anyhow::anyhow!("--rerun: {error}"), "run it without --rerun first")
            })?;
            Some(last)
        } else {
            None
        };
        let is_again = |name: &str| last.as_ref().is_none_or(|last| last.failed(name));
        let mut hosts: Vec<Host> = selection
            .hosts
            .iter()
            .map(|name| inventory.host(name))
            // Of an entry it is its members that have failed.
            .filter(|host| host.as_ref().map_or(true, |host| host.sought.is_some() || is_again(&host.name)))
            .collect::<Result<_, inventory::HostVarError>>()
            .map_err(|error| {
                usage_hint(error, "leave the host out with --limit, or give the value as it is")
            })?;
        // Whoever asks for a container by the command line means one, as who asks by the inventory does.
        if let Connection::Container(_) = &request.access.connection {
            for host in hosts.iter_mut().filter(|host| host.connection.is_none() && host.sought.is_none()) {
                host.connection = Some(request.access.connection.clone());
            }
        }
        let engines = discover::engine_hosts(&inventory, &hosts)?;
        let reached: Vec<Host> =
            hosts.iter().filter(|host| host.sought.is_none()).chain(&engines).cloned().collect();
        let mut access = Arc::new(access::access(request.access, &reached).await?);
        let numbers = (request.state_dir.as_deref(), sources.as_slice());
        let found =
            discover::discover(hosts, &inventory, &mut access, &engines, request.forks, numbers, &selection)
                .await?;
        let mut hosts = found.hosts;
        let entry_of = |name: &str| found.members.iter().find(|(_, all)| all.iter().any(|one| one == name));
        hosts.retain(|host| {
            is_again(&host.name) || entry_of(&host.name).is_some_and(|(entry, _)| is_again(entry))
        });
        let names: Vec<&str> = selection.hosts.iter().map(String::as_str).collect();
        let mut warnings: Vec<String> =
            inventory.warnings.iter().cloned().chain(selection.warnings).chain(found.warnings).collect();
        // Told, as long as it is true, by every command: nobody else knows.
        let left = unfinished::UnfinishedFile::of(request.state_dir.as_deref(), &sources)
            .ok()
            .and_then(|place| place.left());
        warnings.extend(left.iter().map(|left| still_installed(left, &sources)));
        Ok(Self {
            access,
            fan_out: FanOut {
                forks: request.forks,
                serial: request.serial,
                max_fail: request.max_fail.map(|max| max.of(hosts.len())),
            },
            hosts,
            mode: request.mode,
            log: request.log_dir,
            command,
            state: request.state_dir,
            partial: last.is_some() || request.limit != "all",
            rerun: last,
            folder: folder_of(&sources),
            groups: discover::regroup(inventory.telling_groups(&names), &found.members),
            sources,
            warnings,
        })
    }

    /// The inventory, by which hosts know who asks.
    pub(crate) fn own_inventory(&self) -> Result<OwnInventory> {
        let needs_none = |host: &Host| host.pulpcov.fleet.is_some() || !host.pulpcov.fleet_of.is_empty();
        let place = match place::of(&self.sources) {
            Err(_) if self.hosts.iter().all(needs_none) => place::of_any(&self.sources),
            found => found.map_err(|error| usage_hint(error, "name the fleet in it: pulpcov_fleet: NAME"))?,
        };
        Ok(OwnInventory { place })
    }

    /// The same hosts, or those of them that `wanted` takes, for the next command of a series.
    pub(crate) fn next(&self, command: &'static str, wanted: impl Fn(&str) -> bool) -> Self {
        Self {
            hosts: self.hosts.iter().filter(|host| wanted(&host.name)).cloned().collect(),
            access: Arc::clone(&self.access),
            fan_out: FanOut { max_fail: None, ..self.fan_out },
            mode: self.mode,
            log: self.log.clone(),
            command,
            sources: self.sources.clone(),
            state: self.state.clone(),
            rerun: None,
            partial: true,
            folder: self.folder.clone(),
            groups: self.groups.clone(),
            warnings: Vec::new(),
        }
    }

    /// Where it is noted that a run is under way on this inventory.
    pub(crate) fn unfinished(&self) -> Option<unfinished::UnfinishedFile> {
        unfinished::UnfinishedFile::of(self.state.as_deref(), &self.sources).ok()
    }

    /// The words that name this inventory and some of its hosts to another command.
    pub(crate) fn words(&self, hosts: &BTreeSet<String>) -> String {
        words(&self.sources, hosts)
    }

    /// The same, which begins with more warnings.
    #[must_use]
    pub(crate) fn warn(mut self, warnings: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    /// The profile of each host.
    pub(crate) fn profiles(&self, default: &str) -> Result<BTreeMap<String, Profile>, ProfileLoadError> {
        let of = |host: &Host| Ok((host.name.clone(), profile::of_host(host, default, &self.folder)?));
        self.hosts.iter().map(of).collect()
    }

    /// Runs `job` on every host, shows it, and writes the recap.
    pub(crate) async fn run<T, F, R>(self, job: F) -> Result<Recap<T>>
    where
        T: Send + 'static,
        F: Fn(Arc<Access>, Arc<Host>, Reporter) -> R + Clone + Send + 'static,
        R: Future<Output = Result<JobResult<T>, AgentError>> + Send,
    {
        self.run_into(None, job).await
    }

    /// The same where what hosts bring goes to a run directory, which a rerun adds to.
    pub(crate) async fn run_into<T, F, R>(self, into: Option<&Path>, job: F) -> Result<Recap<T>>
    where
        T: Send + 'static,
        F: Fn(Arc<Access>, Arc<Host>, Reporter) -> R + Clone + Send + 'static,
        R: Future<Output = Result<JobResult<T>, AgentError>> + Send,
    {
        let (events, shown) = tokio::sync::mpsc::channel(EVENT_BUFFER);
        let log = self.log.as_deref().map(LogDir::at).transpose();
        let log = log.map_err(|error| usage(anyhow::anyhow!("--log-dir: {error}")))?;
        let screen = tokio::spawn(progress::show(self.mode, log, shown));
        begin(&events, self.command, self.hosts.len(), self.warnings).await;
        if self.rerun.is_some() && self.hosts.is_empty() {
            let text =
                format!("none of these hosts failed in the last {}: nothing to do again", self.command);
            let _ = events.send(Event::Warning { host: None, text }).await;
        }
        let access = Arc::clone(&self.access);
        let recap = fan_out::run(self.hosts, self.fan_out, &events, move |host, reporter| {
            job(Arc::clone(&access), host, reporter)
        })
        .await;
        for text in self.access.resolver.said_of_new_hosts() {
            let _ = events.send(Event::Warning { host: None, text }).await;
        }
        let ends = recap.0.iter().map(|(host, status)| (host.clone(), status.verdict)).collect();
        let into = into.and_then(|path| path.canonicalize().ok());
        let place = LastRunFile::of(self.state.as_deref(), self.command, &self.sources);
        if let Err(error) = place.and_then(|place| place.keep(ends, self.partial, into)) {
            let text = format!("--rerun will not know of this run: {}", error_chain(&error));
            let _ = events.send(Event::Warning { host: None, text }).await;
        }
        drop(events);
        screen.await.context("the progress display failed")?;
        // What was done is done: a reader that has left must not change the exit code.
        if self.mode == Mode::JsonLines {
            jsonl::write(&recap.to_line());
        } else {
            terminal::say_all(|err| recap.write(err));
        }
        Ok(recap)
    }
}

/// The folder that paths in an inventory are relative to.
fn folder_of(sources: &[PathBuf]) -> PathBuf {
    let first = sources.first().map(PathBuf::as_path);
    let folder = first.filter(|path| path.is_dir()).or_else(|| first?.parent());
    folder.unwrap_or(Path::new("")).to_owned()
}

fn words(sources: &[PathBuf], hosts: &BTreeSet<String>) -> String {
    let mut words = sources.iter().map(|path| quoted_path(path));
    let first = words.next().unwrap_or_default();
    let more: String = words.map(|path| format!(" -i {path}")).collect();
    let hosts = hosts.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    format!("{first}{more} --limit {}", shell_words::quote(&hosts))
}

fn quoted_path(path: &Path) -> String {
    path.to_str().map_or_else(|| format!("$'{}'", distinct(path)), shell_words::quote)
}

/// What to do about hosts that a dead run has left installed.
fn still_installed(left: &Unfinished, sources: &[PathBuf]) -> String {
    let words = words(sources, &left.hosts);
    format!(
        "a run that was cut off has left pulpcov installed on {}: pulpcov fleet collect {words} --output {}, then pulpcov fleet uninstall {words} --restart",
        left.hosts.iter().cloned().collect::<Vec<_>>().join(", "),
        quoted_path(&left.output)
    )
}

/// Asks one op of a host, for commands that want no more than its outcome.
pub(crate) async fn ask_once(
    access: &Access,
    host: &Host,
    reporter: &Reporter,
    op: &Op,
) -> Result<JobResult<Vec<FileDiff>>, AgentError> {
    let outcome = access.ask_once(host, op, reporter).await?;
    Ok(JobResult {
        verdict: HostResult::of(outcome.changed),
        msg: outcome.msg,
        warnings: outcome.warnings,
        data: outcome.diff,
    })
}

async fn begin(events: &Events, command: &'static str, hosts: usize, warnings: Vec<String>) {
    let _ = events.send(Event::Started { command, hosts }).await;
    for text in warnings {
        let _ = events.send(Event::Warning { host: None, text }).await;
    }
}

/// The exit code of a fleet command.
pub(crate) fn exit_of<T>(recap: &Recap<T>) -> Exit {
    if recap.has_bad() { Exit::HostsFailed } else { Exit::Ok }
}

/// Host to what is wrong with it, for the run directory.
pub(crate) fn troubles<T>(recap: &Recap<T>) -> BTreeMap<String, Option<String>> {
    let trouble =
        |verdict: HostResult, msg: &str| verdict.is_bad().then(|| format!("{}: {msg}", verdict.word()));
    recap.0.iter().map(|(host, status)| (host.clone(), trouble(status.verdict, &status.msg))).collect()
}

/// The inventory of a request, and the hosts of its limit: there are some.
fn read_inventory(request: &Request, limit: &str) -> Result<(Arc<Inventory>, Selection)> {
    let read = read_any_inventory(request, limit)?;
    match without_hosts(&read.0, request) {
        Some(empty) => Err(usage(anyhow::anyhow!(empty))),
        None => Ok(read),
    }
}

/// What is said of an inventory that has no hosts.
pub(crate) fn without_hosts(inventory: &Inventory, request: &Request) -> Option<String> {
    let sources: Vec<String> = request.sources.iter().map(|path| path.display().to_string()).collect();
    inventory.hosts.is_empty().then(|| format!("{}: the inventory has no hosts", sources.join(", ")))
}

/// The same, with hosts or without.
pub(crate) fn read_any_inventory(request: &Request, limit: &str) -> Result<(Arc<Inventory>, Selection)> {
    let inventory = inventory::load::load(request).map_err(usage)?;
    if inventory.hosts.is_empty() {
        return Ok((inventory, Selection::default()));
    }
    let selection = inventory::select(&inventory, limit)
        .map_err(|error| usage(anyhow::anyhow!("--limit: {}", error_chain(&error))))?;
    Ok((inventory, selection))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_the_words_of_a_hint_as_the_paths_that_they_name() {
        for raw in [
            &b"hosts.yml"[..],
            b"/srv/two words/it's",
            b"$HOME `id` \\ \"x\" !a",
            b"",
            "/srv/h\u{f6}sts".as_bytes(),
            b"/srv/\xffabc 'q' \\x41 \"w\"\n",
        ] {
            let path = PathBuf::from(OsString::from_vec(raw.to_vec()));
            let script = format!("printf %s {}", quoted_path(&path));
            let read = Command::new("bash").arg("-c").arg(&script).output().expect("bash runs");
            assert_eq!(read.stdout.as_slice(), path.as_os_str().as_bytes(), "{script}");
        }
    }
}
