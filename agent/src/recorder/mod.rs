//! What records, and what it has recorded: the hook, coverage.py, the data folder and its ledger.

pub(crate) mod collected;
pub(crate) mod coverage_dir;
pub(crate) mod data_dir;
pub(crate) mod fingerprint;
pub(crate) mod flush;
pub(crate) mod hook;
pub(crate) mod ledger;
pub(crate) mod phase;
pub(crate) mod process_map;
pub(crate) mod processes;
pub(crate) mod proof;
pub(crate) mod record;
pub(crate) mod supervised;
pub(crate) mod unwritten;
pub(crate) mod users;
mod wheel_archive;
