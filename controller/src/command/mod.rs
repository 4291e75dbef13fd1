//! One subcommand, one file: its words beside what it does.

pub(crate) mod collect;
pub(crate) mod combine;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod fleet_report;
pub(crate) mod install;
pub(crate) mod inventory;
pub(crate) mod report;
pub(crate) mod reset;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod trend;
pub(crate) mod uninstall;

mod reach;
