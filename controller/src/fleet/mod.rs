//! Many hosts at once: who they are, what each of them does, and how they ended.

pub(crate) mod access;
mod discover;
pub(crate) mod fan_out;
pub(crate) mod fetch_once;
pub(crate) mod host_names;
mod last_run;
mod numbers;
pub(crate) mod outcome;
pub(crate) mod signals;
pub(crate) mod targets;
pub(crate) mod unfinished;
