//! Exit codes, all of them.

use std::process::ExitCode;

use pulpcov_protocol::text::error_chain;

/// How a command ended, beyond errors of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Exit {
    #[default]
    Ok,
    /// `--fail-under`, `--fail-under-diff` or `--require-complete` is not met.
    GateNotMet,
    /// Some hosts failed or were unreachable.
    HostsFailed,
    /// What the command of `fleet run` ended with.
    Command(u8),
}

impl Exit {
    pub(crate) fn is_well(self) -> bool {
        matches!(self, Self::Ok | Self::Command(0))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::GateNotMet => 3,
            Exit::HostsFailed => 4,
            Exit::Command(code) => code,
        })
    }
}

/// Something is wrong with what the user gave: words, inventory, files.
#[derive(Debug)]
pub(crate) struct Usage {
    pub(crate) error: anyhow::Error,
    pub(crate) hint: Option<String>,
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&error_chain(self.error.as_ref()))
    }
}

impl std::error::Error for Usage {}

/// An error of the user's, exit code 2.
pub(crate) fn usage(error: impl Into<anyhow::Error>) -> anyhow::Error {
    anyhow::Error::new(Usage { error: error.into(), hint: None })
}

/// The same with a way out.
pub(crate) fn usage_hint(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Usage { error: error.into(), hint: Some(hint.into()) })
}
