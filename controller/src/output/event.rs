//! What happened, for whoever shows it. No text here has a style.

use std::time::Duration;

use serde::Serialize;

use crate::fleet::outcome::Verdict;

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
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
        result: Verdict,
        changed: bool,
        msg: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        #[serde(serialize_with = "seconds")]
        took: Duration,
    },
}

fn seconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((took.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Where events go. Bounded: a slow terminal slows the run, it does not fill the memory.
pub(crate) type Events = tokio::sync::mpsc::Sender<Event>;
