//! The ledger of a fleet: which processes a report is based on, and which are missing from it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pulpcov_protocol::manifest::{Manifest, Process, ProcessState};
use serde_json::{Value, json};

use crate::run_dir::RunFile;

/// A process of a host: pids come back, and so do start ticks after a reboot.
type ProcessKey = (String, u32, u64);

#[derive(Debug, Default)]
struct HostLedger {
    interval: f64,
    collected_at: f64,
    processes: BTreeMap<ProcessKey, Process>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    hosts: BTreeMap<String, HostLedger>,
    /// Hosts whose last collect failed, with the reason.
    missing: BTreeMap<String, String>,
    /// Hosts with a bundle that cannot be read.
    damaged: BTreeMap<String, String>,
}

/// What the headline counts.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) processes: usize,
    pub(crate) died: usize,
    pub(crate) unrecorded: usize,
    pub(crate) missing_hosts: usize,
    /// Most seconds that a killed process can have lost.
    pub(crate) worst_loss: f64,
}

impl Ledger {
    pub(crate) fn note_run(&mut self, run: &RunFile) {
        for (host, trouble) in &run.hosts {
            match trouble {
                Some(reason) => {
                    self.missing.insert(host.clone(), reason.clone());
                }
                // A later run that reached it makes up for an earlier one that did not.
                None => {
                    self.missing.remove(host);
                }
            }
        }
    }

    /// A bundle that cannot be read: what it held is missing.
    pub(crate) fn note_damaged(&mut self, host: &str, reason: String) {
        self.damaged.insert(host.to_owned(), reason);
    }

    /// What a bundle says of its host's processes: the newer word counts, unless the older one was
    /// that the process had ended.
    pub(crate) fn add(&mut self, manifest: &Manifest) {
        let host = self.hosts.entry(manifest.host.clone()).or_default();
        let is_newer = manifest.collected_at >= host.collected_at;
        if is_newer {
            host.collected_at = manifest.collected_at;
        }
        // A profile's interval is at most an hour; a host that says more says nothing.
        host.interval = host.interval.max(manifest.interval.clamp(0.0, 3600.0));
        for process in &manifest.processes {
            let key = (manifest.boot_id.clone(), process.pid, process.start_ticks);
            // A process that re-executes itself keeps pid and start: its records are told apart by name.
            let key = (format!("{} {}", key.0, process.record), key.1, key.2);
            if is_newer || !host.processes.contains_key(&key) {
                host.processes.insert(key, process.clone());
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.missing.is_empty() && self.damaged.is_empty()
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts =
            Counts { missing_hosts: self.missing.len() + self.damaged.len(), ..Counts::default() };
        for host in self.hosts.values() {
            for process in host.processes.values() {
                counts.processes += 1;
                if process.state == ProcessState::Died {
                    counts.died += 1;
                    counts.worst_loss = counts.worst_loss.max(host.interval);
                }
                if process.error.is_some() {
                    counts.unrecorded += 1;
                }
            }
        }
        counts
    }

    /// Whether every process of every host gave all that it had.
    pub(crate) fn is_complete(&self) -> bool {
        let counts = self.counts();
        counts.died == 0 && counts.unrecorded == 0 && counts.missing_hosts == 0
    }

    /// One line for the top of every report.
    pub(crate) fn headline(&self) -> String {
        let counts = self.counts();
        let whole = counts.processes - counts.died - counts.unrecorded;
        let hosts = self.hosts.len();
        let mut text = format!(
            "based on {whole} of {} process{} on {hosts} host{}",
            counts.processes,
            if counts.processes == 1 { "" } else { "es" },
            if hosts == 1 { "" } else { "s" }
        );
        if counts.died > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "; {} died unsaved (<= {} s lost)", counts.died, counts.worst_loss);
        }
        if counts.unrecorded > 0 {
            let _ = write!(text, "; {} could not record", counts.unrecorded);
        }
        if !self.missing.is_empty() {
            let names: Vec<&str> = self.missing.keys().map(String::as_str).collect();
            let _ = write!(text, "; nothing new from {}", names.join(", "));
        }
        if !self.damaged.is_empty() {
            let names: Vec<&str> = self.damaged.keys().map(String::as_str).collect();
            let _ = write!(text, "; a damaged bundle of {}", names.join(", "));
        }
        text
    }

    /// For the JSON report: each host with its processes.
    pub(crate) fn to_json(&self) -> BTreeMap<String, Value> {
        let mut hosts: BTreeMap<String, Value> = self
            .hosts
            .iter()
            .map(|(name, host)| {
                let processes: Vec<Value> = host
                    .processes
                    .values()
                    .map(|process| {
                        json!({
                            "pid": process.pid, "parent": process.parent, "role": process.role, "unit": process.unit,
                            "argv": process.argv, "python": process.python, "coverage": process.coverage,
                            "started_at": process.started_at, "last_flush": process.last_flush,
                            "state": process.state, "data": process.data, "error": process.error,
                        })
                    })
                    .collect();
                (name.clone(), json!({"interval": host.interval, "processes": processes}))
            })
            .collect();
        for (name, reason) in self.missing.iter().chain(&self.damaged) {
            let host = hosts.entry(name.clone()).or_insert_with(|| json!({"processes": []}));
            if let Some(host) = host.as_object_mut() {
                host.insert("missing".to_owned(), json!(reason));
            }
        }
        hosts
    }
}
