//! What can go wrong on any way to a host.

use crate::transport::process::ProcessError;
use crate::transport::ssh::{self, SshError};

/// Why a host could not be reached, or the way to it broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[error(transparent)]
    Ssh(#[from] SshError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("silent for {0} s")]
    Idle(u64),
    /// Of a command that looks for hosts, in its own words.
    #[error("{0}")]
    Command(String),
    #[error("{0}")]
    Absent(String),
}

impl TransportError {
    /// Whether a new try may help, and can do no harm: the network failed, and nobody was logged in.
    pub(crate) const fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::Ssh(error) => error.is_worth_a_retry(),
            Self::Process(error) => error.is_worth_a_retry(),
            Self::Idle(_) | Self::Command(_) | Self::Absent(_) => false,
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Ssh(error) => error.hint(),
            Self::Process(error) => error.hint(),
            Self::Idle(_) | Self::Command(_) | Self::Absent(_) => None,
        }
    }
}

/// Why it is not known how to reach a host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error(transparent)]
    Ssh(#[from] ssh::ResolveError),
    #[error("pulpcov_exec: {0}")]
    Exec(String),
    #[error("{0}")]
    Container(String),
}

impl ResolveError {
    pub(crate) const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Ssh(error) => error.hint(),
            Self::Container(_) => None,
            Self::Exec(_) => {
                Some("it is a list: a program and its words, such as [podman, exec, -i, \"{host}\"]")
            }
        }
    }
}
