//! From the words of a fleet command to its hosts, and from their ends to the exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use pulpcov_protocol::fleet::Fleet;
use pulpcov_protocol::op::Op;
use pulpcov_protocol::outcome::FileDiff;
use pulpcov_protocol::profile::Profile;
use pulpcov_protocol::text::error_chain;

use crate::agent::client::AgentError;
use crate::cli::{FleetArgs, InventoryArgs, Rerun};
use crate::exit::{Exit, usage, usage_hint};
use crate::fleet::fan_out::{self, Access, Done, FanOut, Reporter};
use crate::fleet::last_run::{LastRun, Place};
use crate::fleet::outcome::{Recap, Verdict};
use crate::fleet::unfinished::{self, Unfinished};
use crate::inventory::load::{Request, VaultId};
use crate::inventory::{self, Host, Inventory, Selection, place};
use crate::output::event::{Event, Events};
use crate::output::progress::{self, LogDir, Mode};
use crate::output::stored_path::distinct;
use crate::output::terminal::json_line;
use crate::profile::load::{self, ProfileLoadError};

use crate::fleet::access::{self, ask_for};

/// Events that wait for the screen.
const EVENT_BUFFER: usize = 1024;

/// Hosts, how to reach them, and how to show it.
pub(crate) struct Reach {
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

impl Reach {
    /// All that `command` takes to run on the hosts that `args` name.
    pub(crate) async fn new(args: &FleetArgs, command: &'static str) -> Result<Self> {
        let (inventory, mut selection) = read_inventory(&args.inventory)?;
        let sources: Vec<PathBuf> = args.inventory.sources().cloned().collect();
        let rerun = match args.rerun {
            None => None,
            Some(Rerun::Failed) => {
                let place = Place::of(args.state_dir.as_deref(), command, &sources);
                let last = place.and_then(|place| place.load()).map_err(|error| {
                    usage_hint(anyhow::anyhow!("--rerun: {error}"), "run it without --rerun first")
                })?;
                selection.hosts.retain(|host| last.failed(host));
                Some(last)
            }
        };
        let hosts: Vec<Host> = selection
            .hosts
            .iter()
            .map(|name| inventory.host(name))
            .collect::<Result<_, inventory::HostVarError>>()
            .map_err(|error| {
                usage_hint(error, "leave the host out with --limit, or give the value as it is")
            })?;
        let access = access::access(args, &hosts).await?;
        let mode = match (args.jsonl, args.quiet) {
            (true, _) => Mode::JsonLines,
            (_, true) => Mode::Quiet,
            _ if std::io::stderr().is_terminal() && std::env::var_os("CI").is_none() => Mode::Bars,
            _ => Mode::Lines,
        };
        let first = args.inventory.sources().next().map(PathBuf::as_path);
        let folder = first.filter(|path| path.is_dir()).or_else(|| first?.parent());
        let folder = folder.unwrap_or(Path::new("")).to_owned();
        let names: Vec<&str> = selection.hosts.iter().map(String::as_str).collect();
        let mut warnings: Vec<String> =
            inventory.warnings.iter().cloned().chain(selection.warnings).collect();
        // Told, as long as it is true, by every command: nobody else knows.
        let left =
            unfinished::Place::of(args.state_dir.as_deref(), &sources).ok().and_then(|place| place.left());
        warnings.extend(left.iter().map(|left| still_installed(left, &sources)));
        Ok(Self {
            hosts,
            access: Arc::new(access),
            fan_out: FanOut {
                forks: args.forks.into(),
                serial: args.serial.map(|n| n as usize),
                max_fail: args.max_fail.map(|max| max.of(names.len())),
            },
            mode,
            log: args.log_dir.clone(),
            command,
            sources,
            state: args.state_dir.clone(),
            partial: rerun.is_some() || args.inventory.limit != "all",
            rerun,
            folder,
            groups: inventory.telling_groups(&names),
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
    pub(crate) fn unfinished(&self) -> Option<unfinished::Place> {
        unfinished::Place::of(self.state.as_deref(), &self.sources).ok()
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
        let of = |host: &Host| Ok((host.name.clone(), load::of_host(host, default, &self.folder)?));
        self.hosts.iter().map(of).collect()
    }

    /// Runs `job` on every host, shows it, and writes the recap.
    pub(crate) async fn run<T, F, R>(self, job: F) -> Result<Recap<T>>
    where
        T: Send + 'static,
        F: Fn(Arc<Access>, Arc<Host>, Reporter) -> R + Clone + Send + 'static,
        R: Future<Output = Result<Done<T>, AgentError>> + Send,
    {
        self.run_into(None, job).await
    }

    /// The same where what hosts bring goes to a run directory, which a rerun adds to.
    pub(crate) async fn run_into<T, F, R>(self, into: Option<&Path>, job: F) -> Result<Recap<T>>
    where
        T: Send + 'static,
        F: Fn(Arc<Access>, Arc<Host>, Reporter) -> R + Clone + Send + 'static,
        R: Future<Output = Result<Done<T>, AgentError>> + Send,
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
        let place = Place::of(self.state.as_deref(), self.command, &self.sources);
        if let Err(error) = place.and_then(|place| place.keep(ends, self.partial, into)) {
            let text = format!("--rerun will not know of this run: {}", error_chain(&error));
            let _ = events.send(Event::Warning { host: None, text }).await;
        }
        drop(events);
        screen.await.context("the progress display failed")?;
        // What was done is done: a reader that has left must not change the exit code.
        if self.mode == Mode::JsonLines {
            let _ = json_line(&recap.to_json(), &mut std::io::stdout().lock());
        } else {
            let _ = recap.write(&mut std::io::stderr().lock());
        }
        Ok(recap)
    }
}

fn words(sources: &[PathBuf], hosts: &BTreeSet<String>) -> String {
    let mut words = sources.iter().map(|path| quoted_path(path));
    let first = words.next().unwrap_or_default();
    let more: String = words.map(|path| format!(" -i {path}")).collect();
    let hosts = hosts.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    format!("{first}{more} --limit {}", quoted(&hosts))
}

/// As a shell would want it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-,:@%+=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn quoted_path(path: &Path) -> String {
    path.to_str().map_or_else(|| format!("$'{}'", distinct(path)), quoted)
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
) -> Result<Done<Vec<FileDiff>>, AgentError> {
    let outcome = access.ask_once(host, op, reporter).await?;
    Ok(Done {
        verdict: Verdict::of(outcome.changed),
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
        |verdict: Verdict, msg: &str| verdict.is_bad().then(|| format!("{}: {msg}", verdict.word()));
    recap.0.iter().map(|(host, status)| (host.clone(), trouble(status.verdict, &status.msg))).collect()
}

/// The inventory that the words name, and the hosts of its limit: there are some.
pub(crate) fn read_inventory(args: &InventoryArgs) -> Result<(Arc<Inventory>, Selection)> {
    let read = read_any_inventory(args)?;
    match without_hosts(&read.0, args) {
        Some(empty) => Err(usage(anyhow::anyhow!(empty))),
        None => Ok(read),
    }
}

/// What is said of an inventory that has no hosts.
pub(crate) fn without_hosts(inventory: &Inventory, args: &InventoryArgs) -> Option<String> {
    let sources: Vec<String> = args.sources().map(|path| path.display().to_string()).collect();
    inventory.hosts.is_empty().then(|| format!("{}: the inventory has no hosts", sources.join(", ")))
}

/// The same, with hosts or without.
pub(crate) fn read_any_inventory(args: &InventoryArgs) -> Result<(Arc<Inventory>, Selection)> {
    let mut request = Request {
        sources: args.sources().cloned().collect(),
        playbook_dir: args.playbook_dir.clone(),
        via: args.inventory_via,
        ..Request::default()
    };
    let ids = args.vault_id.iter().map(|word| match word.split_once('@') {
        Some((name, path)) => VaultId { name: name.to_owned(), path: path.into() },
        None => VaultId { name: "default".to_owned(), path: word.into() },
    });
    let file = args
        .vault_password_file
        .iter()
        .map(|path| VaultId { name: "default".to_owned(), path: path.clone() });
    for id in ids.chain(file) {
        if id.path.as_os_str() == "prompt" {
            let prompt = format!("Vault password ({}): ", id.name);
            request.secrets.add(&id.name, &ask_for(&prompt, "the vault password", "--vault-password-file")?);
        } else {
            request.secrets.add_file(&id.name, &id.path).map_err(usage)?;
            request.vault_ids.push(id);
        }
    }
    if args.ask_vault_pass {
        let password = ask_for("Vault password: ", "the vault password", "--vault-password-file")?;
        request.secrets.add("default", &password);
    }
    let inventory = inventory::load::load(&request).map_err(usage)?;
    if inventory.hosts.is_empty() {
        return Ok((inventory, Selection::default()));
    }
    let selection = inventory::select(&inventory, &args.limit)
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
