//! The host as it is: files and their owners, users, Pythons, services. Knows nothing of recording.

pub(crate) mod budget;
pub(crate) mod caller;
pub(crate) mod child;
pub(crate) mod contained;
pub(crate) mod dir_entry;
pub(crate) mod facts;
pub(crate) mod fs;
pub(crate) mod identity;
pub(crate) mod interpreter;
pub(crate) mod namespace;
pub(crate) mod owners;
pub(crate) mod python;
pub(crate) mod quadlet;
pub(crate) mod ready;
pub(crate) mod removal;
pub(crate) mod s6;
pub(crate) mod services;
pub(crate) mod systemd;
