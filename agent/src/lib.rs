//! pulpcov-agent: runs on a host, does one thing at a time, never dials out.
//!
//! Three faces over the same ops: `serve` (framed stdio, for the controller), `<verb> --json` (for
//! scripts and Ansible's `command` module), and `ansible FILE` (Ansible's module protocol).

mod budget;
mod caller;
mod child;
mod collected;
mod compact;
mod copies;
mod coverage_dir;
mod data_dir;
mod face;
mod failure;
mod fingerprint;
#[cfg(fuzzing)]
pub mod fuzz;
mod gather;
mod hook;
mod host;
mod host_fs;
mod identity;
mod interpreter;
mod ledger;
mod ops;
mod owners;
mod package_places;
mod package_search;
mod place;
mod processes;
mod proof;
mod ready;
mod receipt;
mod removal;
mod sandbox;
mod serve;
mod services;
mod session;
mod source_list;
mod spool;
mod systemd;
mod unwritten;
mod users;
mod wheel_archive;

use std::process::ExitCode;

/// The program.
pub fn main() -> ExitCode {
    face::run(std::env::args_os().skip(1).collect())
}
