//! What `--jsonl` writes to stdout: one JSON object a line. Programs depend on it, so fields are only ever added; whatever
//! else changes is another schema. `controller/jsonl.md` tells readers what each line is.

use std::collections::BTreeMap;
use std::time::Duration;

use pulpcov_protocol::outcome::FileDiff;
use serde::Serialize;

use crate::output::event::{Event, HostResult};
use crate::output::terminal;

/// Version of the lines, told by the first of them.
const SCHEMA: u32 = 1;

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    /// The first of a command.
    Started {
        schema: u32,
        command: &'a str,
        hosts: usize,
    },
    HostStarted {
        host: &'a str,
    },
    Step {
        host: &'a str,
        step: &'a str,
    },
    Warning {
        host: Option<&'a str>,
        text: &'a str,
    },
    HostFinished {
        host: &'a str,
        result: HostResult,
        changed: bool,
        msg: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'a str>,
        #[serde(serialize_with = "seconds")]
        took: Duration,
    },
    /// How every host ended.
    Recap {
        hosts: BTreeMap<&'a str, HostEnd<'a>>,
    },
    /// What becomes of a file, with `--diff`.
    Diff {
        hosts: &'a [&'a str],
        diff: &'a FileDiff,
    },
    /// Where a collect has put what it brought.
    Run {
        path: &'a str,
    },
}

/// How a host ended.
#[derive(Debug, Serialize)]
pub(crate) struct HostEnd<'a> {
    pub(crate) result: HostResult,
    pub(crate) msg: &'a str,
    pub(crate) hint: Option<&'a str>,
}

fn seconds<S: serde::Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((took.as_secs_f64() * 1000.0).round() / 1000.0)
}

impl<'a> From<&'a Event> for Line<'a> {
    fn from(event: &'a Event) -> Self {
        match event {
            Event::Started { command, hosts } => Self::Started { schema: SCHEMA, command, hosts: *hosts },
            Event::HostStarted { host } => Self::HostStarted { host },
            Event::Step { host, step } => Self::Step { host, step },
            Event::Warning { host, text } => Self::Warning { host: host.as_deref(), text },
            Event::HostFinished { host, result, changed, msg, hint, took } => Self::HostFinished {
                host,
                result: *result,
                changed: *changed,
                msg,
                hint: hint.as_deref(),
                took: *took,
            },
        }
    }
}

/// Writes a line. A listener that has left does not stop what goes on.
pub(crate) fn write(line: &Line<'_>) {
    terminal::tell(|out| terminal::json_line(line, out));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line, as the page for its readers has it.
    #[test]
    fn the_page_for_readers_shows_every_line() {
        let (host, msg) = ("web1".to_owned(), "installed for 1 interpreter".to_owned());
        let events = [
            Event::Started { command: "install", hosts: 2 },
            Event::HostStarted { host: host.clone() },
            Event::Step { host: host.clone(), step: "looking at the interpreters".to_owned() },
            Event::Warning { host: Some(host.clone()), text: "shop/x.py is not there".to_owned() },
            Event::Warning { host: None, text: "web2 is known twice".to_owned() },
            Event::HostFinished {
                host: host.clone(),
                result: HostResult::Changed,
                changed: true,
                msg: msg.clone(),
                hint: None,
                took: Duration::from_micros(1_500_400),
            },
            Event::HostFinished {
                host: "web2".to_owned(),
                result: HostResult::Unreachable,
                changed: false,
                msg: "no answer from 10.0.0.2 port 22 within 10 s".to_owned(),
                hint: Some("look whether it runs".to_owned()),
                took: Duration::from_secs(10),
            },
        ];
        let diff = FileDiff {
            before: String::new(),
            after: "a\n".to_owned(),
            before_header: "/dev/null".to_owned(),
            after_header: "/etc/x".to_owned(),
        };
        let ends = BTreeMap::from([
            ("web1", HostEnd { result: HostResult::Changed, msg: &msg, hint: None }),
            (
                "web2",
                HostEnd { result: HostResult::NotStarted, msg: "interrupted before it began", hint: None },
            ),
        ]);
        let last = [
            Line::Recap { hosts: ends },
            Line::Diff { hosts: &["web1", "web2"], diff: &diff },
            Line::Run { path: "runs/2026-11-29T22-47-08Z" },
        ];
        let page = include_str!("../../jsonl.md");
        for line in events.iter().map(Line::from).chain(last) {
            let mut text = Vec::new();
            terminal::json_line(&line, &mut text).expect("written");
            let text = String::from_utf8(text).expect("a text");
            assert!(page.contains(&format!("\n    {text}")), "not in controller/jsonl.md: {text}");
        }
    }
}
