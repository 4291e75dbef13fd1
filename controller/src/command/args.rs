//! Words that several commands share, and what they ask for.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use pulpcov_protocol::op::{Commands, Outside, is_label};

use crate::exit::{usage, usage_hint};
use crate::fleet::access::{AccessRequest, HostKey};
use crate::fleet::fan_out::MaxFail;
use crate::fleet::targets::TargetsRequest;
use crate::inventory::load::{self, VaultId, Via};
use crate::inventory::{BecomeMethod, Connection, Container, Engine, Host, SshClient};
use crate::output::progress::Mode;
use crate::output::terminal;
use crate::transport::Limits;

/// Which hosts
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InventoryArgs {
    /// Ansible inventory: a file, a folder, or hosts with commas between them
    #[arg(value_name = "INVENTORY", required_unless_present = "more")]
    pub(crate) inventory: Option<PathBuf>,
    /// A further inventory (can be repeated); later ones win
    #[arg(
        id = "more",
        short = 'i',
        long = "inventory",
        value_name = "INVENTORY",
        help_heading = "Inventory"
    )]
    pub(crate) more: Vec<PathBuf>,
    /// Hosts to act on, as an Ansible host pattern
    #[arg(short, long, value_name = "PATTERN", default_value = "all")]
    pub(crate) limit: String,
    /// Folder of a playbook, for the `group_vars` and `host_vars` in it
    #[arg(long, value_name = "DIR", help_heading = "Inventory")]
    pub(crate) playbook_dir: Option<PathBuf>,
    /// Vault password: a file or program, with an id before it or none (can be repeated)
    #[arg(long, value_name = "[ID@]FILE", help_heading = "Inventory")]
    pub(crate) vault_id: Vec<String>,
    /// File or program with the vault password
    #[arg(long, value_name = "FILE", env = "ANSIBLE_VAULT_PASSWORD_FILE", help_heading = "Inventory")]
    pub(crate) vault_password_file: Option<PathBuf>,
    /// Ask for the vault password
    #[arg(short = 'J', long, help_heading = "Inventory")]
    pub(crate) ask_vault_pass: bool,
    /// Who reads the inventory: pulpcov and, where it cannot, ansible-inventory; or only one of them
    #[arg(long, value_name = "READER", value_enum, default_value_t, help_heading = "Inventory")]
    pub(crate) inventory_via: Via,
}

impl InventoryArgs {
    /// What to read; vault passwords that are to be asked for are asked for here.
    pub(crate) fn request(&self) -> Result<load::Request> {
        let mut request = load::Request {
            sources: self.inventory.iter().chain(&self.more).cloned().collect(),
            playbook_dir: self.playbook_dir.clone(),
            via: self.inventory_via,
            ..load::Request::default()
        };
        let ids = self.vault_id.iter().map(|word| match word.split_once('@') {
            Some((name, path)) => VaultId { name: name.to_owned(), path: path.into() },
            None => VaultId { name: "default".to_owned(), path: word.into() },
        });
        let file = self
            .vault_password_file
            .iter()
            .map(|path| VaultId { name: "default".to_owned(), path: path.clone() });
        for id in ids.chain(file) {
            if id.path.as_os_str() == "prompt" {
                let prompt = format!("Vault password ({}): ", id.name);
                let password = ask_for(&prompt, "the vault password", "--vault-password-file")?;
                request.secrets.add(&id.name, &password);
            } else {
                request.secrets.add_file(&id.name, &id.path).map_err(usage)?;
                request.vault_ids.push(id);
            }
        }
        if self.ask_vault_pass {
            let password = ask_for("Vault password: ", "the vault password", "--vault-password-file")?;
            request.secrets.add("default", &password);
        }
        Ok(request)
    }
}

/// Which hosts, and how to reach them
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct FleetArgs {
    #[command(flatten)]
    pub(crate) inventory: InventoryArgs,
    /// Hosts to act on at once
    #[arg(short, long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) forks: u16,
    /// Hosts of a batch: the next begins when all of one have ended
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) serial: Option<u32>,
    /// Begin no more hosts once more than so many have failed, as a number or a percentage
    #[arg(long, value_name = "N|N%")]
    pub(crate) max_fail: Option<MaxFail>,
    /// Only hosts that failed, were unreachable or not started the last time that this command ran on
    /// this inventory
    #[arg(long, value_name = "WHICH", value_enum)]
    pub(crate) rerun: Option<Rerun>,
    /// How to reach hosts whose inventory does not say
    #[arg(short, long, value_name = "WAY", value_enum, default_value = "ssh", help_heading = "Connection")]
    pub(crate) connection: Way,
    /// Who speaks SSH: pulpcov itself, OpenSSH's client, or pulpcov and, for what it does not do, OpenSSH's client
    #[arg(long, value_name = "CLIENT", value_enum, default_value = "auto", help_heading = "Connection")]
    pub(crate) ssh: Client,
    /// User for hosts whose inventory names none
    #[arg(short, long, value_name = "USER", help_heading = "Connection")]
    pub(crate) user: Option<String>,
    /// Private key for hosts whose inventory names none
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) private_key: Option<PathBuf>,
    /// File with the passphrase of private keys that want one, or the PIN of a token; asked on a terminal otherwise
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Known hosts, instead of the user's and the system's files (can be repeated)
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) known_hosts: Vec<PathBuf>,
    /// What to do with a host that is not known: `strict` refuses it, `accept-new` adds its key to the
    /// known hosts; a FILE of known hosts counts alone
    #[arg(
        long,
        value_name = "strict|accept-new|FILE",
        default_value = "config",
        hide_default_value = true,
        help_heading = "Connection"
    )]
    pub(crate) host_key: HostKey,
    /// Arguments of ssh that say how to reach the hosts, such as `-J gate`
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true, help_heading = "Connection")]
    pub(crate) ssh_common_args: Option<String>,
    /// Ask for the login password
    #[arg(short = 'k', long, help_heading = "Connection", conflicts_with = "connection_password_file")]
    pub(crate) ask_pass: bool,
    /// File with the login password
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) connection_password_file: Option<PathBuf>,
    /// Become root on every host
    #[arg(short, long, help_heading = "Connection")]
    pub(crate) r#become: bool,
    /// How to become root on hosts whose inventory does not say
    #[arg(long, value_name = "METHOD", value_enum, default_value = "sudo", help_heading = "Connection")]
    pub(crate) become_method: BecomeMethod,
    /// Ask for the password that becoming root takes
    #[arg(short = 'K', long, help_heading = "Connection", conflicts_with_all = ["become_password_file", "become_password_env"])]
    pub(crate) ask_become_pass: bool,
    /// File with that password; `/dev/fd/N` reads a descriptor
    #[arg(long, value_name = "FILE", help_heading = "Connection", conflicts_with = "become_password_env")]
    pub(crate) become_password_file: Option<PathBuf>,
    /// Environment variable with that password
    #[arg(long, value_name = "NAME", help_heading = "Connection")]
    pub(crate) become_password_env: Option<String>,
    /// Seconds to wait for a connection
    #[arg(long, value_name = "SECONDS", default_value_t = 10, help_heading = "Connection", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) connect_timeout: u64,
    /// Seconds to wait for the login
    #[arg(long, value_name = "SECONDS", default_value_t = 20, help_heading = "Connection", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) auth_timeout: u64,
    /// Seconds that a host may be silent in the middle of its work
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Connection", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) idle_timeout: u64,
    /// Seconds that a host may take for one step of its work, such as installing or sending a bundle
    #[arg(long, value_name = "SECONDS", default_value_t = 7200, help_heading = "Connection", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub(crate) op_timeout: u64,
    /// Times to try a failed connection again
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Connection")]
    pub(crate) retries: u32,
    /// Folder with the agents, instead of the one that came with pulpcov
    #[arg(long, value_name = "DIR", env = "PULPCOV_AGENT_DIR", help_heading = "Connection")]
    pub(crate) agent_dir: Option<PathBuf>,
    /// Write what happens as JSON lines to stdout
    #[arg(long, help_heading = "Output")]
    pub(crate) jsonl: bool,
    /// Folder that gets a log of each host, HOST.log; one that exists is added to
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    pub(crate) log_dir: Option<PathBuf>,
    /// Folder where it is kept how hosts ended, for --rerun [default: `pulpcov` in ~/.local/state]
    #[arg(long, value_name = "DIR", env = "PULPCOV_STATE_DIR", help_heading = "Output")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Show warnings and the recap only
    #[arg(short, long, help_heading = "Output", conflicts_with = "jsonl")]
    pub(crate) quiet: bool,
}

impl FleetArgs {
    /// Which hosts, how to reach them, and how to show it.
    pub(crate) fn targets(&self) -> Result<TargetsRequest> {
        Ok(TargetsRequest {
            inventory: self.inventory.request()?,
            limit: self.inventory.limit.clone(),
            rerun: self.rerun == Some(Rerun::Failed),
            access: self.access()?,
            forks: self.forks.into(),
            serial: self.serial.map(|n| n as usize),
            max_fail: self.max_fail,
            mode: match (self.jsonl, self.quiet) {
                (true, _) => Mode::JsonLines,
                (_, true) => Mode::Quiet,
                _ if std::io::stderr().is_terminal() && std::env::var_os("CI").is_none() => Mode::Bars,
                _ => Mode::Lines,
            },
            log_dir: self.log_dir.clone(),
            state_dir: self.state_dir.clone(),
        })
    }

    fn access(&self) -> Result<AccessRequest> {
        let plain = |engine| Connection::Container(Box::new(Container::plain(engine)));
        Ok(AccessRequest {
            connection: match (self.connection, self.ssh) {
                (Way::Local, _) => Connection::Local,
                (Way::Podman, _) => plain(Engine::Podman),
                (Way::Docker, _) => plain(Engine::Docker),
                (Way::Kubectl, _) => plain(Engine::Kubectl),
                (Way::Oc, _) => plain(Engine::Oc),
                (Way::Ssh, Client::Auto) => Connection::Ssh(SshClient::Auto),
                (Way::Ssh, Client::Own) => Connection::Ssh(SshClient::Own),
                (Way::Ssh, Client::Openssh) => Connection::Ssh(SshClient::open_ssh()),
            },
            user: self.user.clone(),
            private_key: self.private_key.clone(),
            passphrase: self.passphrase_file.as_deref().map(read_secret).transpose()?,
            known_hosts: self.known_hosts.clone(),
            host_key: self.host_key.clone(),
            ssh_common_args: self.ssh_common_args.clone(),
            password: self.password()?,
            r#become: self.r#become,
            become_method: self.become_method,
            become_password: self.become_password()?,
            limits: Limits {
                connect: Duration::from_secs(self.connect_timeout),
                auth: Duration::from_secs(self.auth_timeout),
                idle: Duration::from_secs(self.idle_timeout),
                op: Duration::from_secs(self.op_timeout),
            },
            retries: self.retries,
            agent_dir: self.agent_dir.clone(),
        })
    }

    /// The login password for hosts whose inventory has none.
    fn password(&self) -> Result<Option<String>> {
        match &self.connection_password_file {
            Some(file) => read_secret(file).map(Some),
            None if self.ask_pass => {
                ask_for("SSH password: ", "the SSH password", "--connection-password-file").map(Some)
            }
            None => Ok(None),
        }
    }

    fn become_password(&self) -> Result<Option<String>> {
        if let Some(name) = &self.become_password_env {
            let word = std::env::var(name).map_err(|_| {
                usage(anyhow::anyhow!("--become-password-env: there is no environment variable {name}"))
            })?;
            return Ok(Some(word));
        }
        match &self.become_password_file {
            Some(file) => read_secret(file).map(Some),
            None if self.ask_become_pass => {
                ask_for("BECOME password: ", "the become password", "--become-password-file").map(Some)
            }
            None => Ok(None),
        }
    }
}

/// The first line of a file of secrets.
fn read_secret(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| usage(anyhow::anyhow!("cannot read {}: {error}", file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Asks a person, who must be there.
fn ask_for(prompt: &str, what: &str, instead: &str) -> Result<String> {
    terminal::ask(prompt).ok_or_else(|| {
        usage_hint(anyhow::anyhow!("there is no terminal to ask for {what}"), format!("use {instead}"))
    })
}

impl ValueEnum for BecomeMethod {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

impl ValueEnum for Via {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Native, Self::Ansible]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Ansible => "ansible",
        }))
    }
}

/// Ways to hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    Ssh,
    Local,
    Podman,
    Docker,
    Kubectl,
    Oc,
}

/// Who speaks SSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Client {
    Auto,
    Own,
    Openssh,
}

/// Hosts of an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Rerun {
    Failed,
}

/// How to stop and start services on hosts without systemd
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServiceCommands {
    /// Shell command that stops the services, on hosts without systemd
    #[arg(long, value_name = "COMMAND", help_heading = "Services")]
    stop_command: Option<String>,
    /// Shell command that starts them
    #[arg(long, value_name = "COMMAND", help_heading = "Services")]
    start_command: Option<String>,
}

impl ServiceCommands {
    /// The command line's word, else the inventory's.
    pub(crate) fn of(&self, host: &Host) -> Commands {
        let pick = |word: &Option<String>, var: &Option<String>| word.clone().or_else(|| var.clone());
        Commands {
            stop: pick(&self.stop_command, &host.pulpcov.stop_command),
            start: pick(&self.start_command, &host.pulpcov.start_command),
            outside: match &host.connection {
                Some(Connection::Container(container)) if container.engine.has_pods() => Some(Outside::Anew),
                Some(Connection::Container(_)) => Some(Outside::Keeps),
                _ => None,
            },
        }
    }
}

/// A number of seconds that somebody may have to wait.
pub(crate) fn seconds(word: &str) -> Result<f64, String> {
    let seconds: f64 = word.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=600.0).contains(&seconds) { Ok(seconds) } else { Err("not between 0 and 600".to_owned()) }
}

pub(crate) fn label(word: &str) -> Result<String, String> {
    if is_label(word) {
        return Ok(word.to_owned());
    }
    Err("a label has at most 64 letters, digits and _ - . : +, beginning with a letter or digit".to_owned())
}
