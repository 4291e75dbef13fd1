//! From the words of a fleet command to its hosts, and from their ends to the exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use pulpcov_protocol::op::Op;
use pulpcov_protocol::profile::Profile;
use pulpcov_protocol::text::error_chain;

use crate::agent_binary::{AgentBinaries, AgentBinaryError};
use crate::cli::{FleetArgs, InventoryArgs};
use crate::event::{Event, Events};
use crate::exit::{Exit, usage, usage_hint};
use crate::fleet::{self, Access, Done, Reporter};
use crate::inventory::load::{Request, VaultId};
use crate::inventory::{self, Host, Inventory, Selection};
use crate::profiles::{self, ProfileLoadError};
use crate::progress::{self, Mode};
use crate::recap::{Recap, Verdict};
use crate::remote_agent::AgentError;
use crate::ssh::{KeyRing, Limits, known_hosts};

/// Events that wait for the screen.
const EVENT_BUFFER: usize = 1024;

/// Hosts, how to reach them, and how to show it.
pub(super) struct Reach {
    pub(super) hosts: Vec<Host>,
    pub(super) access: Arc<Access>,
    pub(super) forks: usize,
    pub(super) mode: Mode,
    /// Folder of the inventory: paths in it are relative to there.
    pub(super) folder: PathBuf,
    /// Groups of the inventory, with those of the hosts that are in them.
    pub(super) groups: BTreeMap<String, BTreeSet<String>>,
    warnings: Vec<String>,
}

impl Reach {
    pub(super) fn new(args: &FleetArgs) -> Result<Self> {
        let (inventory, selection) = read_inventory(&args.inventory)?;
        let hosts: Vec<Host> = selection
            .hosts
            .iter()
            .map(|name| inventory.host(name))
            .collect::<Result<_, inventory::HostVarError>>()
            .map_err(|error| {
                usage_hint(error, "leave the host out with --limit, or give the value as it is")
            })?;
        let access = access(args, &hosts)?;
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
        Ok(Self {
            hosts,
            access: Arc::new(access),
            forks: args.forks.into(),
            mode,
            folder,
            groups: inventory.telling_groups(&names),
            warnings: inventory.warnings.iter().cloned().chain(selection.warnings).collect(),
        })
    }

    /// The profile of each host.
    pub(super) fn profiles(&self, default: &str) -> Result<BTreeMap<String, Profile>, ProfileLoadError> {
        let of = |host: &Host| Ok((host.name.clone(), profiles::of_host(host, default, &self.folder)?));
        self.hosts.iter().map(of).collect()
    }

    /// Runs `job` on every host, shows it, and writes the recap.
    pub(super) async fn run<T, F, R>(self, command: &'static str, job: F) -> Result<Recap<T>>
    where
        T: Send + 'static,
        F: Fn(Arc<Access>, Arc<Host>, Reporter) -> R + Clone + Send + 'static,
        R: Future<Output = Result<Done<T>, AgentError>> + Send,
    {
        let (events, shown) = tokio::sync::mpsc::channel(EVENT_BUFFER);
        let screen = tokio::spawn(progress::show(self.mode, shown));
        begin(&events, command, self.hosts.len(), self.warnings).await;
        let access = self.access;
        let recap = fleet::run(self.hosts, self.forks, &events, move |host, reporter| {
            job(Arc::clone(&access), host, reporter)
        })
        .await;
        drop(events);
        screen.await.context("the progress display failed")?;
        // What was done is done: a reader that has left must not change the exit code.
        if self.mode == Mode::JsonLines {
            let _ = writeln!(std::io::stdout().lock(), "{}", recap.to_json());
        } else {
            let _ = recap.write(&mut std::io::stderr().lock());
        }
        Ok(recap)
    }
}

/// Asks one op of a host, for commands that want no more than its outcome.
pub(super) async fn ask_once(
    access: &Access,
    host: &Host,
    reporter: &Reporter,
    op: &Op,
) -> Result<Done<()>, AgentError> {
    let mut agent = access.open(host).await?;
    let outcome = agent.call(op, reporter).await?;
    agent.close().await;
    Ok(Done { changed: outcome.changed, msg: outcome.msg, warnings: outcome.warnings, data: () })
}

async fn begin(events: &Events, command: &'static str, hosts: usize, warnings: Vec<String>) {
    let _ = events.send(Event::Started { command, hosts }).await;
    for text in warnings {
        let _ = events.send(Event::Warning { host: None, text }).await;
    }
}

/// The exit code of a fleet command.
pub(super) fn exit_of<T>(recap: &Recap<T>) -> Exit {
    if recap.has_bad() { Exit::HostsFailed } else { Exit::Ok }
}

/// Host to what is wrong with it, for the run directory.
pub(super) fn troubles<T>(recap: &Recap<T>) -> BTreeMap<String, Option<String>> {
    let trouble =
        |verdict: Verdict, msg: &str| verdict.is_bad().then(|| format!("{}: {msg}", verdict.word()));
    recap.0.iter().map(|(host, status)| (host.clone(), trouble(status.verdict, &status.msg))).collect()
}

/// The inventory that the words name, and the hosts of its limit.
pub(super) fn read_inventory(args: &InventoryArgs) -> Result<(Arc<Inventory>, Selection)> {
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
    let selection = inventory::select(&inventory, &args.limit)
        .map_err(|error| usage(anyhow::anyhow!("--limit: {}", error_chain(&error))))?;
    Ok((inventory, selection))
}

fn access(args: &FleetArgs, hosts: &[Host]) -> Result<Access> {
    let files =
        if args.known_hosts.is_empty() { known_hosts::default_files() } else { args.known_hosts.clone() };
    for file in &args.known_hosts {
        // A file that was named and is not there is a slip; one of the defaults may well be absent.
        std::fs::metadata(file)
            .map_err(|error| usage(anyhow::anyhow!("--known-hosts {}: {error}", file.display())))?;
    }
    let known = known_hosts::load(&files).map_err(usage)?;
    let passphrase_file = args.passphrase_file.as_deref().map(read_secret).transpose()?;
    let mut passphrase = |path: &Path| {
        passphrase_file.clone().or_else(|| ask(&format!("Passphrase for {}: ", path.display())))
    };
    let keys = hosts.iter().filter_map(|host| host.private_key.clone()).chain(args.private_key.clone());
    let ring = KeyRing::load(keys, &mut passphrase)
        .map_err(|error| usage_hint(error, "use --passphrase-file, or load the key into ssh-agent"))?;
    let sudo_password = match &args.become_password_file {
        Some(file) => Some(read_secret(file)?),
        None if args.ask_become_pass => {
            Some(ask_for("sudo password: ", "the sudo password", "--become-password-file")?)
        }
        None => None,
    };
    let agents = AgentBinaries::find(args.agent_dir.as_deref()).map_err(|error| match error {
        AgentBinaryError::NotFound { .. } => {
            usage_hint(error, "build the agents, or name their folder with --agent-dir")
        }
        error @ AgentBinaryError::Read(_) => usage(error),
    })?;
    Ok(Access {
        ring,
        known: Arc::new(known),
        agents,
        limits: Limits {
            connect: Duration::from_secs(args.connect_timeout),
            auth: Duration::from_secs(args.auth_timeout),
            idle: Duration::from_secs(args.idle_timeout),
        },
        retries: args.retries,
        user: args.user.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "root".to_owned()),
        private_key: args.private_key.clone(),
        sudo_password,
        r#become: args.r#become,
    })
}

/// The first line of a file of secrets.
fn read_secret(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| usage(anyhow::anyhow!("cannot read {}: {error}", file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Asks a person, who must be there.
fn ask_for(prompt: &str, what: &str, instead: &str) -> Result<String> {
    ask(prompt).ok_or_else(|| {
        usage_hint(anyhow::anyhow!("there is no terminal to ask for {what}"), format!("use {instead}"))
    })
}

fn ask(prompt: &str) -> Option<String> {
    std::io::stdin().is_terminal().then(|| rpassword::prompt_password(prompt).ok()).flatten()
}
