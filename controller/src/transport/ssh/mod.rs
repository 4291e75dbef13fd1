//! SSH: our own, but for the demo's server the only part that names russh, and OpenSSH's client program.

mod args;
mod auth;
mod channel;
mod config;
mod connect;
mod destination;
mod error;
mod held;
mod host_key;
mod keys;
mod known_hosts;
pub(crate) mod openssh;
mod quick_ack;
mod resolve;
mod route;

pub(crate) use channel::Channel;
pub(crate) use connect::connect;
pub(crate) use destination::Destination;
pub(crate) use error::SshError;
pub(crate) use keys::KeyRing;
pub(crate) use resolve::{ConnectRequest, HostKeyPolicy, ResolveError, Resolver};
