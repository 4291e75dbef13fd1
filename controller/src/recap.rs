//! How each host ended: the table, the JSON and the exit code come from here.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

/// Ansible's words, and one for hosts that Ctrl-C came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    Changed,
    Failed,
    Unreachable,
    NotStarted,
}

impl Verdict {
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

/// How one host ended.
#[derive(Debug)]
pub(crate) struct HostStatus<T> {
    pub(crate) verdict: Verdict,
    pub(crate) msg: String,
    pub(crate) hint: Option<String>,
    /// What the host's job brought, where it did.
    pub(crate) data: Option<T>,
}

/// How every host ended.
#[derive(Debug)]
pub(crate) struct Recap<T>(pub(crate) BTreeMap<String, HostStatus<T>>);

impl<T> Recap<T> {
    pub(crate) fn has_bad(&self) -> bool {
        self.0.values().any(|status| status.verdict.is_bad())
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.0.values().filter(|status| status.verdict == verdict).count()
    }

    /// The table, one line a host, and a line of counts.
    pub(crate) fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let width = self.0.keys().map(|host| host.chars().count()).max().unwrap_or(0);
        for (host, status) in &self.0 {
            writeln!(out, "{host:<width$}  {:<11}  {}", status.verdict.word(), status.msg)?;
        }
        let counts: Vec<String> =
            [Verdict::Ok, Verdict::Changed, Verdict::Failed, Verdict::Unreachable, Verdict::NotStarted]
                .into_iter()
                .filter(|&verdict| {
                    self.count(verdict) > 0 || matches!(verdict, Verdict::Failed | Verdict::Unreachable)
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

    /// One JSON object, host to its end.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let hosts: serde_json::Map<String, serde_json::Value> = self
            .0
            .iter()
            .map(|(host, status)| {
                (
                    host.clone(),
                    serde_json::json!({"result": status.verdict, "msg": status.msg, "hint": status.hint}),
                )
            })
            .collect();
        serde_json::json!({"event": "recap", "hosts": hosts})
    }
}
