//! Run directories: what hosts have sent, verified, and what is known of their processes.

pub(crate) mod analysis_key;
pub(crate) mod bundle;
pub(crate) mod bundle_reader;
pub(crate) mod dir;
pub(crate) mod homes;
mod host_ledger;
pub(crate) mod ledger;
mod manifest_check;
