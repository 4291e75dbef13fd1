//! The command line: words only. What they come to is decided in `command/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use pulpcov_protocol::op::{Commands, is_label};

use crate::agent::bootstrap::BecomeMethod;
use crate::command;
use crate::inventory::Host;
use crate::inventory::load::Via;
use crate::transport::ssh::HostKeyPolicy;

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
    /// Wheels of coverage.py for hosts without a package index
    #[command(subcommand)]
    Wheelhouse(Wheelhouse),
    /// Write the completions of a shell to stdout
    Completions(command::completions::Args),
    /// Write manual pages
    Man(command::man::Args),
    /// Run the whole of it on this machine: three hosts on loopback, a service, a report
    Demo(crate::demo::run::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Fleet {
    /// Install, run a command such as the tests, collect, report, and put every host back
    Run(command::run::Args),
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

#[derive(Debug, Subcommand)]
pub(crate) enum Wheelhouse {
    /// Fetch the wheels that are not there yet
    Sync(command::wheelhouse::Args),
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

/// Hosts of an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Rerun {
    Failed,
}

/// Hosts that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaxFail {
    Hosts(usize),
    Percent(u8),
}

impl MaxFail {
    pub(crate) const fn of(self, hosts: usize) -> usize {
        match self {
            Self::Hosts(n) => n,
            Self::Percent(percent) => hosts.saturating_mul(percent as usize) / 100,
        }
    }
}

impl std::str::FromStr for MaxFail {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let bad = || "neither a number of hosts nor a percentage".to_owned();
        match word.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|&percent| percent <= 100).map(Self::Percent).ok_or_else(bad)
            }
            None => word.parse().map(Self::Hosts).map_err(|_| bad()),
        }
    }
}

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostKey {
    Policy(HostKeyPolicy),
    File(PathBuf),
}

impl std::str::FromStr for HostKey {
    type Err = std::convert::Infallible;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(match word {
            "config" => Self::Policy(HostKeyPolicy::Config),
            "strict" => Self::Policy(HostKeyPolicy::Strict),
            "accept-new" => Self::Policy(HostKeyPolicy::AcceptNew),
            file => Self::File(file.into()),
        })
    }
}

impl HostKey {
    pub(crate) fn policy(&self) -> HostKeyPolicy {
        match self {
            Self::Policy(policy) => policy.clone(),
            Self::File(_) => HostKeyPolicy::Strict,
        }
    }

    pub(crate) const fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Policy(_) => None,
            Self::File(file) => Some(file),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_may_fail() {
        let of = |word: &str, hosts| word.parse::<MaxFail>().map(|max| max.of(hosts));
        assert_eq!((of("0", 9), of("3", 9), of("10%", 50), of("10%", 9)), (Ok(0), Ok(3), Ok(5), Ok(0)));
        for bad in ["", "%", "-1", "101%", "x", "1.5"] {
            assert!(of(bad, 1).is_err(), "{bad}");
        }
    }
}
