//! SSH: the only part that names russh.

mod auth;
pub(crate) mod known_hosts;
pub(crate) mod loopback;
mod quick_ack;
mod session;

pub(crate) use auth::KeyRing;
pub(crate) use session::{Channel, ChannelEvent, Limits, SshError, Target, connect};
