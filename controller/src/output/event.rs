//! What happened, for whoever shows it. No text here has a style.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Ansible's words, and one for hosts that Ctrl-C came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HostResult {
    Ok,
    Changed,
    Failed,
    Unreachable,
    NotStarted,
}

impl HostResult {
    /// Of a job that went well.
    pub(crate) const fn of(changed: bool) -> Self {
        if changed { Self::Changed } else { Self::Ok }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Changed => "changed",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::NotStarted => "not started",
        }
    }

    pub(crate) const fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Unreachable | Self::NotStarted)
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The whole of a run begins.
    Started {
        command: &'static str,
        hosts: usize,
    },
    HostStarted {
        host: String,
    },
    Step {
        host: String,
        step: String,
    },
    Warning {
        host: Option<String>,
        text: String,
    },
    HostFinished {
        host: String,
        result: HostResult,
        changed: bool,
        msg: String,
        hint: Option<String>,
        took: Duration,
    },
}

/// Where events go. Bounded: a slow terminal slows the run, it does not fill the memory.
pub(crate) type Events = tokio::sync::mpsc::Sender<Event>;
