//! What installing changes on a host, how it is proven to work, and how it is undone.

pub(crate) mod changes;
pub(crate) mod package_search;
pub(crate) mod preview;
pub(crate) mod sandbox;
pub(crate) mod selftest;
pub(crate) mod sharing;
pub(crate) mod sites;
pub(crate) mod undo;
pub(crate) mod units;
