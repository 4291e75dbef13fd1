//! How each host ended: the table, the JSON and the exit code come from here.

use std::collections::BTreeMap;
use std::io;

use crate::fleet::host_names;
use crate::output::event::HostResult;
use crate::output::jsonl::{HostEnd, Line};

/// How one host ended.
#[derive(Debug)]
pub(crate) struct HostStatus<T> {
    pub(crate) verdict: HostResult,
    pub(crate) msg: String,
    pub(crate) hint: Option<String>,
    /// What the inventory says of where it is.
    pub(crate) address: String,
    /// What the host's job brought, where it did.
    pub(crate) data: Option<T>,
}

impl<T> Default for HostStatus<T> {
    fn default() -> Self {
        Self {
            verdict: HostResult::Failed,
            msg: String::new(),
            hint: None,
            address: String::new(),
            data: None,
        }
    }
}

/// Hosts from which on those that went well share lines too; below, each has its own.
const MANY: usize = 20;

/// Hosts that ended alike, and what is said of them.
struct Row {
    names: String,
    verdict: HostResult,
    msg: String,
}

/// How every host ended.
#[derive(Debug)]
pub(crate) struct Recap<T>(pub(crate) BTreeMap<String, HostStatus<T>>);

impl<T> Recap<T> {
    /// What the hosts' jobs brought, of those that brought something.
    pub(crate) fn data(&self) -> impl Iterator<Item = (&String, &T)> {
        self.0.iter().filter_map(|(host, status)| Some((host, status.data.as_ref()?)))
    }

    pub(crate) fn has_bad(&self) -> bool {
        self.0.values().any(|status| status.verdict.is_bad())
    }

    fn count(&self, verdict: HostResult) -> usize {
        self.0.values().filter(|status| status.verdict == verdict).count()
    }

    /// The table, one line a host, and a line of counts.
    pub(crate) fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let lines = self.lines();
        let width = lines.iter().map(|line| line.names.chars().count()).max().unwrap_or(0);
        for Row { names, verdict, msg } in lines {
            writeln!(out, "{names:<width$}  {:<11}  {msg}", verdict.word())?;
        }
        let counts: Vec<String> = [
            HostResult::Ok,
            HostResult::Changed,
            HostResult::Failed,
            HostResult::Unreachable,
            HostResult::NotStarted,
        ]
        .into_iter()
        .filter(|&verdict| {
            self.count(verdict) > 0 || matches!(verdict, HostResult::Failed | HostResult::Unreachable)
        })
        .map(|verdict| format!("{} {}", self.count(verdict), verdict.word()))
        .collect();
        let hosts = if self.0.len() == 1 { "1 host".to_owned() } else { format!("{} hosts", self.0.len()) };
        writeln!(out, "{hosts}: {}", counts.join(", "))?;
        for hint in self
            .0
            .values()
            .filter_map(|status| status.hint.as_ref())
            .collect::<std::collections::BTreeSet<_>>()
        {
            writeln!(out, "hint: {hint}")?;
        }
        Ok(())
    }

    /// A line a host; hosts that failed alike share one, and in a large fleet all that ended alike do.
    fn lines(&self) -> Vec<Row> {
        let folds = |verdict: HostResult| verdict.is_bad() || self.0.len() >= MANY;
        let mut alike: BTreeMap<(HostResult, String), Vec<&str>> = BTreeMap::new();
        for (host, status) in self.0.iter().filter(|(_, status)| folds(status.verdict)) {
            alike.entry((status.verdict, general(host, status))).or_default().push(host);
        }
        let mut lines = Vec::new();
        for (host, status) in &self.0 {
            let key = (status.verdict, general(host, status));
            let (names, msg) = match alike.get(&key) {
                Some(hosts) if hosts.first() != Some(&host.as_str()) => continue,
                Some(hosts) if hosts.len() > 1 => (host_names::fold(hosts.iter().copied()), key.1),
                _ => (host.clone(), status.msg.clone()),
            };
            lines.push(Row { names, verdict: status.verdict, msg });
        }
        lines
    }

    /// Host to its end, for programs.
    pub(crate) fn to_line(&self) -> Line<'_> {
        let hosts = self.0.iter().map(|(host, status)| {
            (
                host.as_str(),
                HostEnd { result: status.verdict, msg: &status.msg, hint: status.hint.as_deref() },
            )
        });
        Line::Recap { hosts: hosts.collect() }
    }
}

/// What is said of a host, without what only it is called.
fn general<T>(host: &str, status: &HostStatus<T>) -> String {
    let replace = |text: &str, name: &str, word: &str| {
        if name.is_empty() { text.to_owned() } else { replace_word(text, name, word) }
    };
    replace(&replace(&status.msg, &status.address, "ADDRESS"), host, "HOST")
}

/// Replaces `name` where it stands as a word: `h1`, but not in `h10`.
fn replace_word(text: &str, name: &str, word: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let (mut rest, mut replaced) = (text, String::new());
    while let Some((before, after)) = rest.split_once(name) {
        let stands_alone = !before.ends_with(is_part) && !after.starts_with(is_part);
        replaced.push_str(before);
        replaced.push_str(if stands_alone { word } else { name });
        rest = after;
    }
    replaced + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recap(hosts: &[(&str, HostResult, &str)]) -> String {
        let hosts = hosts.iter().map(|(host, verdict, msg)| {
            let address = format!("10.0.0.{}", host.trim_start_matches(char::is_alphabetic));
            let status = HostStatus::<()> {
                verdict: *verdict,
                msg: (*msg).to_owned(),
                address,
                ..HostStatus::default()
            };
            ((*host).to_owned(), status)
        });
        let mut text = Vec::new();
        Recap(hosts.collect()).write(&mut text).expect("a table");
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn hosts_that_failed_alike_share_a_line() {
        let text = recap(&[
            ("db", HostResult::Ok, "fine"),
            ("web1", HostResult::Unreachable, "10.0.0.1 port 22: refused"),
            ("web2", HostResult::Unreachable, "10.0.0.2 port 22: refused"),
            ("web3", HostResult::Failed, "no room on web3"),
            ("xyz4", HostResult::Ok, "fine"),
        ]);
        assert_eq!(
            text,
            "db        ok           fine\n\
             web[1-2]  unreachable  ADDRESS port 22: refused\n\
             web3      failed       no room on web3\n\
             xyz4      ok           fine\n\
             5 hosts: 2 ok, 1 failed, 2 unreachable\n"
        );
    }

    #[test]
    fn a_large_fleet_that_is_well_is_one_line() {
        let names: Vec<String> = (1..=40).map(|i| format!("web{i:02}")).collect();
        let hosts: Vec<_> =
            names.iter().map(|name| (name.as_str(), HostResult::Ok, "already installed")).collect();
        let text = recap(&hosts);
        assert!(text.starts_with("web[01-40]  ok           already installed\n40 hosts: "), "{text}");
        assert_eq!(replace_word("h1, h10 and (h1)", "h1", "HOST"), "HOST, h10 and (HOST)");
    }
}
