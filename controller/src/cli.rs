//! The command line: words only. What they come to is decided in `command/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pulpcov_protocol::op::{Commands, is_label};

use crate::command;
use crate::inventory::Host;
use crate::inventory::load::Via;

/// Code coverage of long-running Python services on many real hosts
#[derive(Debug, Parser)]
#[command(name = "pulpcov", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 ok, 1 internal error, 2 usage or inventory, 3 a gate is not met, 4 some hosts failed or were unreachable";

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of these in a process")]
pub(crate) enum Command {
    /// Act on the hosts of an Ansible inventory
    #[command(subcommand)]
    Fleet(Fleet),
    /// Combine data files into one that coverage.py reads
    Combine(command::combine::Args),
    /// Report from run directories, bundles or data files
    Report(command::report::Args),
    /// Compare hosts, groups, roles, labels or runs: what ran on one side only
    Diff(command::diff::Args),
    /// Tell how coverage went over several runs
    Trend(command::trend::Args),
    /// Run the whole of it on this machine: three hosts on loopback, a service, a report
    Demo(command::demo::Args),
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of these in a process")]
pub(crate) enum Fleet {
    /// Put agent and hook on every host
    Install(command::install::Args),
    /// Show who records, who does not, and why
    Status(command::status::Args),
    /// Fetch every host's data, stopping nothing
    Collect(command::collect::Args),
    /// Collect, then report
    Report(command::fleet_report::Args),
    /// Start, stop or restart the services
    Services(command::services::Args),
    /// Begin anew: counters at zero, under a new label
    Reset(command::reset::Args),
    /// Tell what would keep services from being measured
    Doctor(command::doctor::Args),
    /// Show the inventory as pulpcov reads it
    Inventory(command::inventory::Args),
    /// Put every host back as it was
    Uninstall(command::uninstall::Args),
}

/// Which hosts
#[derive(Debug, Clone, Args)]
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
    pub(crate) fn sources(&self) -> impl Iterator<Item = &PathBuf> {
        self.inventory.iter().chain(&self.more)
    }
}

/// Which hosts, and how to reach them
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct FleetArgs {
    #[command(flatten)]
    pub(crate) inventory: InventoryArgs,
    /// Hosts to act on at once
    #[arg(short, long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) forks: u16,
    /// User for hosts whose inventory names none
    #[arg(short, long, value_name = "USER", help_heading = "Connection")]
    pub(crate) user: Option<String>,
    /// Private key for hosts whose inventory names none
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) private_key: Option<PathBuf>,
    /// File with the passphrase of private keys that want one; asked on a terminal otherwise
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Known hosts, instead of the user's and the system's files (can be repeated)
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) known_hosts: Vec<PathBuf>,
    /// Become root with sudo on every host
    #[arg(short, long, help_heading = "Connection")]
    pub(crate) r#become: bool,
    /// Ask for the sudo password
    #[arg(short = 'K', long, help_heading = "Connection", conflicts_with = "become_password_file")]
    pub(crate) ask_become_pass: bool,
    /// File with the sudo password
    #[arg(long, value_name = "FILE", help_heading = "Connection")]
    pub(crate) become_password_file: Option<PathBuf>,
    /// Seconds to wait for a connection
    #[arg(long, value_name = "SECONDS", default_value_t = 10, help_heading = "Connection", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) connect_timeout: u64,
    /// Seconds to wait for the login
    #[arg(long, value_name = "SECONDS", default_value_t = 20, help_heading = "Connection", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) auth_timeout: u64,
    /// Seconds that a host may be silent in the middle of its work
    #[arg(long, value_name = "SECONDS", default_value_t = 60, help_heading = "Connection", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub(crate) idle_timeout: u64,
    /// Times to try a failed connection again
    #[arg(long, value_name = "N", default_value_t = 2, help_heading = "Connection")]
    pub(crate) retries: u32,
    /// Folder with the agents, instead of the one that came with pulpcov
    #[arg(long, value_name = "DIR", env = "PULPCOV_AGENT_DIR", help_heading = "Connection")]
    pub(crate) agent_dir: Option<PathBuf>,
    /// Write what happens as JSON lines to stdout
    #[arg(long, help_heading = "Output")]
    pub(crate) jsonl: bool,
    /// Show warnings and the recap only
    #[arg(short, long, help_heading = "Output", conflicts_with = "jsonl")]
    pub(crate) quiet: bool,
}

/// How to stop and start services on hosts without systemd
#[derive(Debug, Clone, Args)]
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
