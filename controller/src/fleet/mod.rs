//! Many hosts at once: who they are, what each of them does, and how they ended.

pub(crate) mod access;
pub(crate) mod check_diff;
pub(crate) mod fan_out;
pub(crate) mod fetch_once;
mod host_names;
mod last_run;
pub(crate) mod outcome;
pub(crate) mod signals;
pub(crate) mod targets;
pub(crate) mod unfinished;
