//! The processes of one host, by all that its bundles say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pulpcov_protocol::manifest::{CommonFacts, Process, ProcessState};
use serde_json::{Value, json};

/// What the headline counts.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) processes: usize,
    pub(crate) died: usize,
    pub(crate) unrecorded: usize,
    /// Processes of which nobody knows how they ended.
    pub(crate) elsewhere: usize,
    pub(crate) missing_hosts: usize,
    /// Most seconds that a killed process can have lost.
    pub(crate) worst_loss: f64,
    /// How many processes were recorded by what, where that is told.
    pub(crate) cores: BTreeMap<String, usize>,
}

/// A process of a host: pids come back, and so do start ticks after a reboot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) boot_id: String,
    /// What its container or machine calls itself: several may share a folder, and each has its own numbers.
    pub(super) hostname: String,
    pub(super) pid: u32,
    pub(super) start_ticks: u64,
}

/// One record of a process: it has several where it was reset, or became another program by `exec`.
pub(super) type RecordKey = (Identity, String);

/// Whether a process recorded anything under a label.
pub(super) struct Trace<'a> {
    pub(super) pid: u32,
    pub(super) parent: Option<u32>,
    pub(super) role: &'a str,
    pub(super) label: &'a str,
    pub(super) unit: Option<&'a str>,
    pub(super) recorded: bool,
}

#[derive(Debug, Default)]
pub(super) struct HostLedger {
    pub(super) interval: f64,
    pub(super) collected_at: f64,
    pub(super) records: BTreeMap<RecordKey, Process>,
    /// Data files that were read.
    pub(super) data: BTreeSet<String>,
    /// Data files that were brought, readable or not.
    pub(super) brought: BTreeSet<String>,
    /// Data files that many processes' data was made.
    pub(super) compacted_data: BTreeSet<String>,
    /// Data files that no process of the service tells of.
    pub(super) extra: BTreeSet<String>,
    /// Records whose data was made one with that of others, which all ended well.
    pub(super) compacted: BTreeMap<RecordKey, Arc<CommonFacts>>,
}

/// Whether nobody knows if all is here that a process recorded: it is not seen from its host, and did not answer.
fn is_unknown(process: &Process) -> bool {
    process.state == ProcessState::Elsewhere && process.error.is_some()
}

impl HostLedger {
    pub(super) fn counts(&self) -> Counts {
        let all: BTreeSet<&Identity> =
            self.records.keys().chain(self.compacted.keys()).map(|(identity, _)| identity).collect();
        let those = |fits: fn(&Process) -> bool| {
            let found = self.records.iter().filter(|(_, process)| fits(process));
            found.map(|((identity, _), _)| identity).collect::<BTreeSet<_>>().len()
        };
        let died = those(|process| process.state == ProcessState::Died);
        Counts {
            processes: all.len(),
            died,
            elsewhere: those(is_unknown),
            unrecorded: those(|process| process.error.is_some() && !is_unknown(process)),
            cores: self.cores(),
            worst_loss: if died > 0 { self.interval } else { 0.0 },
            ..Counts::default()
        }
    }

    fn cores(&self) -> BTreeMap<String, usize> {
        let one = self.records.iter().map(|((identity, _), process)| (process.core.as_str(), identity));
        let many = self.compacted.iter().map(|((identity, _), common)| (common.core.as_str(), identity));
        let mut by_core: BTreeMap<&str, BTreeSet<&Identity>> = BTreeMap::new();
        for (core, identity) in one.chain(many).filter(|(core, _)| !core.is_empty()) {
            by_core.entry(core).or_default().insert(identity);
        }
        by_core.into_iter().map(|(core, processes)| (core.to_owned(), processes.len())).collect()
    }

    /// Where each record is told of.
    pub(super) fn keys_by_record(&self) -> BTreeMap<String, RecordKey> {
        let keys = self.records.keys().chain(self.compacted.keys());
        keys.map(|key| (key.1.clone(), key.clone())).collect()
    }

    /// Data files of processes that have ended, which no bundle here has, or which could not be read.
    pub(super) fn lost_data(&self) -> usize {
        let is_lost = |(key, process): &(&RecordKey, &Process)| {
            let is_there = process.data.as_ref().is_none_or(|data| self.data.contains(data));
            let is_open = matches!(process.state, ProcessState::Live | ProcessState::Elsewhere);
            !is_open && !is_there && !self.compacted.contains_key(*key)
        };
        // Somebody's, with no record that tells of them.
        let is_told =
            |name: &&String| self.records.values().any(|process| process.data.as_ref() == Some(*name));
        let untold = self.brought.difference(&self.data);
        let untold = untold.filter(|name| !is_told(name) && !self.compacted_data.contains(*name));
        self.records.iter().filter(is_lost).count()
            + self.compacted_data.difference(&self.data).count()
            + untold.count()
    }

    /// Data files that no process of the service tells of, in whichever bundle.
    pub(super) fn extra(&self) -> usize {
        let told: BTreeSet<&String> =
            self.records.values().filter_map(|process| process.data.as_ref()).collect();
        self.extra.iter().filter(|name| !told.contains(name) && !self.compacted_data.contains(*name)).count()
    }

    /// What each process left, whether it was made one with that of others or not.
    pub(super) fn traces(&self) -> Vec<Trace<'_>> {
        let one = self.records.values().map(|process| Trace {
            pid: process.pid,
            parent: Some(process.parent),
            role: &process.role,
            label: &process.label,
            unit: process.unit.as_deref(),
            recorded: process.data.is_some(),
        });
        // What was made one had something to be made of; those that left nothing have no data.
        let many = self.compacted.iter().map(|((identity, _), common)| Trace {
            pid: identity.pid,
            parent: None,
            role: &common.role,
            label: &common.label,
            unit: common.unit.as_deref(),
            recorded: true,
        });
        one.chain(many).collect()
    }

    /// How many processes there are of each kind whose data was made one.
    pub(super) fn compacted_groups(&self) -> Vec<Value> {
        let mut groups: BTreeMap<&CommonFacts, u64> = BTreeMap::new();
        for (_, common) in self.compacted.iter().filter(|(key, _)| !self.records.contains_key(*key)) {
            *groups.entry(common).or_default() += 1;
        }
        let group = |(common, processes): (&CommonFacts, u64)| {
            json!({
                "processes": processes, "role": common.role, "label": common.label,
                "generation": common.generation, "unit": common.unit, "python": common.python,
                "coverage": common.coverage,
            })
        };
        groups.into_iter().map(group).collect()
    }
}
