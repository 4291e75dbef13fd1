//! The agent on a host, as the controller sees it: how it gets there, and the talk with it.

pub(crate) mod binary;
pub(crate) mod bootstrap;
pub(crate) mod client;
