//! What is being done at a moment, for a log that would otherwise be silent for minutes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::output::event::Event;
use crate::output::terminal::printable;

/// Silence after which a log gets a line.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(30);

/// Hosts at work that such a line names.
const NAMED: usize = 3;

#[derive(Default)]
pub(super) struct Tally {
    command: &'static str,
    hosts: usize,
    done: usize,
    bad: usize,
    active: BTreeMap<String, (Instant, String)>,
}

impl Tally {
    pub(super) fn count(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Started { command, hosts } => (self.command, self.hosts) = (command, *hosts),
            Event::HostStarted { host } => {
                self.active.insert(host.clone(), (now, "connecting".to_owned()));
            }
            Event::Step { host, step } => {
                if let Some((_, doing)) = self.active.get_mut(host) {
                    *doing = printable(step);
                }
            }
            Event::HostFinished { host, result, .. } => {
                self.active.remove(host);
                self.done += 1;
                self.bad += usize::from(result.is_bad());
            }
            Event::Warning { .. } => {}
        }
    }

    /// `install: 12 of 50 hosts done, 1 failed; at work: h1 (unpacking, 35 s), 7 more`, the slowest first.
    pub(super) fn line(&self, now: Instant) -> String {
        let bad = if self.bad > 0 { format!(", {} failed", self.bad) } else { String::new() };
        let mut slowest: Vec<_> = self.active.iter().collect();
        slowest.sort_by_key(|(_, (since, _))| *since);
        let mut names: Vec<String> = slowest
            .iter()
            .take(NAMED)
            .map(|(host, (since, doing))| {
                format!("{host} ({doing}, {} s)", now.saturating_duration_since(*since).as_secs())
            })
            .collect();
        if slowest.len() > NAMED {
            names.push(format!("{} more", slowest.len() - NAMED));
        }
        let work = if names.is_empty() {
            "none at work".to_owned()
        } else {
            format!("at work: {}", names.join(", "))
        };
        format!("{}: {} of {} hosts done{bad}; {work}", self.command, self.done, self.hosts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::event::HostResult;

    #[test]
    fn a_line_names_the_slowest() {
        let mut tally = Tally::default();
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        tally.count(&Event::Started { command: "install", hosts: 9 }, begin);
        for i in 0..5 {
            tally.count(&Event::HostStarted { host: format!("h{i}") }, at(i));
        }
        tally.count(&Event::Step { host: "h1".into(), step: "unpacking".into() }, at(6));
        let end = Event::HostFinished {
            host: "h0".into(),
            result: HostResult::Failed,
            changed: false,
            msg: String::new(),
            hint: None,
            took: Duration::ZERO,
        };
        tally.count(&end, at(7));
        assert_eq!(
            tally.line(at(31)),
            "install: 1 of 9 hosts done, 1 failed; at work: h1 (unpacking, 30 s), h2 (connecting, 29 s), h3 (connecting, 28 s), 1 more"
        );
    }
}
