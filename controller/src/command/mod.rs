//! One subcommand, one file: its words beside what it does.

pub(crate) mod args;
pub(crate) mod bake;
mod check_diff;
pub(crate) mod collect;
pub(crate) mod combine;
pub(crate) mod completions;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod fleet_report;
pub(crate) mod install;
pub(crate) mod inventory;
pub(crate) mod man;
mod missing_packages;
pub(crate) mod report;
pub(crate) mod reset;
pub(crate) mod run;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod trend;
pub(crate) mod uninstall;
pub(crate) mod wheelhouse;
