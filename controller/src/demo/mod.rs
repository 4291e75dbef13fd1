//! The demo: the whole of it on this machine.

mod loopback;
pub(crate) mod run;
