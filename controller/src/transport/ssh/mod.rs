//! SSH: the only part that names russh.

mod args;
mod auth;
mod config;
mod host_key;
mod keys;
mod known_hosts;
mod quick_ack;
mod resolve;
mod route;
mod session;

pub(crate) use keys::KeyRing;
pub(crate) use resolve::{ConnectRequest, HostKeyPolicy, ResolveError, Resolver};
pub(crate) use session::{Channel, ChannelEvent, Destination, Limits, SshError, connect};
