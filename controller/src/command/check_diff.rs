//! `--check` and `--diff`: what would be done, and what becomes of files on hosts.

use std::collections::BTreeMap;

use pulpcov_protocol::outcome::FileDiff;
use similar::TextDiff;

use crate::fleet::host_names;
use crate::output::jsonl::{self, Line};
use crate::output::terminal::{self, printable};

/// Words of commands that change hosts.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct CheckArgs {
    /// Tell what would be done, and do nothing
    #[arg(short = 'C', long)]
    pub(crate) check: bool,
    /// Show what becomes of each file
    #[arg(short = 'D', long)]
    pub(crate) diff: bool,
}

impl CheckArgs {
    /// Do it, and say no more than that.
    pub(crate) const fn none() -> Self {
        Self { check: false, diff: false }
    }
}

/// Writes what becomes of files to stdout, each difference once with the hosts that have it.
pub(crate) fn show<'a>(diffs: impl Iterator<Item = (&'a String, &'a Vec<FileDiff>)>, jsonl: bool) {
    for (diff, hosts) in by_hosts(diffs) {
        if jsonl {
            jsonl::write(&Line::Diff { hosts: &hosts, diff });
        } else {
            terminal::tell(|out| out.write_all(text(diff, &hosts).as_bytes()));
        }
    }
}

/// In the order of the first host that has each.
fn by_hosts<'a>(
    diffs: impl Iterator<Item = (&'a String, &'a Vec<FileDiff>)>,
) -> Vec<(&'a FileDiff, Vec<&'a str>)> {
    let mut place: BTreeMap<(&str, &str, &str, &str), usize> = BTreeMap::new();
    let mut all: Vec<(&FileDiff, Vec<&str>)> = Vec::new();
    for (host, diffs) in diffs {
        for diff in diffs {
            let key = (
                diff.before_header.as_str(),
                diff.after_header.as_str(),
                diff.before.as_str(),
                diff.after.as_str(),
            );
            let i = *place.entry(key).or_insert(all.len());
            match all.get_mut(i) {
                Some((_, hosts)) => hosts.push(host),
                None => all.push((diff, vec![host])),
            }
        }
    }
    all
}

fn text(diff: &FileDiff, hosts: &[&str]) -> String {
    let lines = |text: &str| text.lines().map(|line| printable(line) + "\n").collect::<String>();
    let (before, after) = (lines(&diff.before), lines(&diff.after));
    let unified = TextDiff::from_lines(&before, &after)
        .unified_diff()
        .header(&printable(&diff.before_header), &printable(&diff.after_header))
        .to_string();
    format!("# {}\n{unified}", host_names::fold(hosts.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::outcome::{HostStatus, Recap};

    #[test]
    fn what_hosts_have_in_common_is_shown_once() {
        let diff = |after: &str| FileDiff {
            before: String::new(),
            after: after.to_owned(),
            before_header: "/dev/null".into(),
            after_header: "/etc/x".into(),
        };
        let with = |diffs: Vec<FileDiff>| HostStatus { data: Some(diffs), ..HostStatus::default() };
        let recap = Recap(BTreeMap::from([
            ("h1".to_owned(), with(vec![diff("a\n")])),
            ("h2".to_owned(), with(vec![diff("a\n"), diff("b\u{1b}\n")])),
        ]));
        let shown: Vec<String> =
            by_hosts(recap.data()).into_iter().map(|(diff, hosts)| text(diff, &hosts)).collect();
        assert_eq!(
            shown,
            [
                "# h[1-2]\n--- /dev/null\n+++ /etc/x\n@@ -0,0 +1 @@\n+a\n",
                "# h2\n--- /dev/null\n+++ /etc/x\n@@ -0,0 +1 @@\n+b \n"
            ]
        );
    }
}
