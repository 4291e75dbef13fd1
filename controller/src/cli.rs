//! The command line: words only. What they come to is decided in `command/`.

use clap::{Parser, Subcommand};

use crate::{command, demo};

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
    /// Make the hook for containers that are made anew: a layer, and volumes
    Bake(command::bake::Args),
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
    Demo(demo::run::Args),
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
