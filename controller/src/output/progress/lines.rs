//! Plain lines: for logs, for CI, for whoever reads later.

use crate::output::event::Event;
use crate::output::terminal::{printable, say};

/// What an event says in one line; `None` for those that a log does not need.
pub(super) fn text(event: &Event) -> Option<String> {
    Some(match event {
        Event::Started { command, hosts: 1 } => format!("{command}: 1 host"),
        Event::Started { command, hosts } => format!("{command}: {hosts} hosts"),
        // A log of a hundred hosts needs their ends, not their steps.
        Event::HostStarted { .. } | Event::Step { .. } => return None,
        Event::Warning { host: Some(host), text } => format!("{host}: warning: {}", printable(text)),
        Event::Warning { host: None, text } => format!("warning: {}", printable(text)),
        Event::HostFinished { host, result, msg, took, .. } => {
            format!("{host}: {} in {:.1} s: {msg}", result.word(), took.as_secs_f64())
        }
    })
}

pub(super) fn show(event: &Event) {
    if let Some(text) = text(event) {
        say(&text);
    }
}
