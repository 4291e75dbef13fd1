//! pulpcov-agent: runs on a host, does one thing at a time, never dials out.
//!
//! Three faces over the same ops: `serve` (framed stdio, for the controller), `<verb> --json` (for
//! scripts and Ansible's `command` module), and `ansible FILE` (Ansible's module protocol).

mod bundle;
mod cli;
mod failure;
// In tests, too, that it goes on to compile.
#[cfg(any(fuzzing, test))]
pub mod fuzz;
mod host;
mod install;
mod ops;
mod receipt;
mod recorder;
mod serve;

use std::process::ExitCode;

/// The program.
pub fn main() -> ExitCode {
    cli::run(std::env::args_os().skip(1).collect())
}
