//! Many hosts at once: who they are, what each of them does, and how they ended.

pub(crate) mod access;
pub(crate) mod fan_out;
pub(crate) mod fetch_once;
pub(crate) mod host_names;
mod last_run;
pub(crate) mod outcome;
pub(crate) mod signals;
pub(crate) mod targets;
pub(crate) mod unfinished;
