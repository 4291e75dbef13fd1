//! The ledger of a fleet: which processes a report is based on, and which are missing from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use pulpcov_coverage::render::html::HostRow;
use pulpcov_protocol::bundle::EntryPath;
use pulpcov_protocol::manifest::{Manifest, Process, ProcessState};
use pulpcov_protocol::op::STARTUP_LABEL;
use pulpcov_protocol::text::counted;
use serde_json::{Value, json};

use crate::run::dir::RunFile;
use crate::run::homes::Moved;
pub(crate) use crate::run::host_ledger::Counts;
use crate::run::host_ledger::{HostLedger, Identity, RecordKey};

/// A few names, and how many more there are.
pub(crate) fn some(names: &BTreeSet<String>) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What a bundle of one host says of another's process.
pub(crate) struct Adopted {
    /// Of the host that tells of it.
    pub(crate) boot_id: String,
    pub(crate) moved: Moved,
    /// Its data file, if that could be read.
    pub(crate) data: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    hosts: BTreeMap<String, HostLedger>,
    /// Hosts whose last collect failed, with the reason.
    missing: BTreeMap<String, String>,
    /// Hosts with a bundle that cannot be read.
    damaged: BTreeMap<String, String>,
    /// Sources that nobody analysed, so that their numbers are missing.
    unanalysed: usize,
    /// Sources of which hosts say different things.
    doubted: usize,
    /// Hosts that recorded lines where others recorded branches.
    without_branches: usize,
    /// Whether data that no process of the service tells of is as good as any.
    trusts_extra: bool,
    /// Measured files without a source, and their lines that ran.
    unsourced: (usize, usize),
    /// Host to the packages whose files none of its bundles could list.
    unlisted: BTreeMap<String, BTreeSet<String>>,
    /// The labels of a report of a part.
    only_labels: Option<BTreeSet<String>>,
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

    pub(crate) fn note_unanalysed(&mut self, sources: usize) {
        self.unanalysed = sources;
    }

    /// Data that no process of the service tells of is as good as any.
    pub(crate) fn trust_extra(&mut self) {
        self.trusts_extra = true;
    }

    fn extra(&self) -> usize {
        self.hosts.values().map(HostLedger::extra).sum()
    }

    /// So many hosts recorded no branches, so those of the others are not reported.
    pub(crate) fn note_without_branches(&mut self, hosts: usize) {
        self.without_branches = hosts;
    }

    pub(crate) fn note_doubted(&mut self, sources: usize) {
        self.doubted = sources;
    }

    /// Only these labels are reported.
    pub(crate) fn note_labels(&mut self, labels: BTreeSet<String>) {
        self.only_labels = Some(labels);
    }

    /// Packages whose files could not all be listed, each with its host.
    fn unlisted(&self) -> BTreeSet<String> {
        let of_host = |(host, packages): (&String, &BTreeSet<String>)| {
            packages.iter().map(|package| format!("{package} on {host}")).collect::<Vec<_>>()
        };
        self.unlisted.iter().flat_map(of_host).collect()
    }

    fn lost_data(&self) -> usize {
        self.hosts.values().map(HostLedger::lost_data).sum()
    }

    pub(crate) fn note_unsourced(&mut self, files: usize, lines: usize) {
        self.unsourced = (files, lines);
    }

    /// Roles and units whose processes recorded nothing under a label under which others recorded something, and
    /// units of a host that never recorded anything, each as a person would say it. Something is wrong with their
    /// measuring, or nobody used them: a report that promises completeness cannot tell which. That a unit recorded on
    /// one host speaks for it on all: not each of many alike is asked something in every session.
    ///
    /// A process that only starts others and watches over them runs none of the measured code: what its children
    /// and the others of its unit recorded speaks for it.
    pub(crate) fn silent(&self) -> BTreeSet<String> {
        let is_told = |label: &str| self.only_labels.as_ref().is_none_or(|only| only.contains(label));
        let (mut by_role, mut by_unit, mut by_host) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut has_data: BTreeSet<&str> = BTreeSet::new();
        for (name, host) in &self.hosts {
            let traces = host.traces();
            let recorded = || traces.iter().filter(|trace| trace.recorded);
            has_data.extend(recorded().map(|trace| trace.label));
            let of_units: BTreeSet<_> = recorded().map(|trace| (trace.label, trace.unit)).collect();
            let parents: BTreeSet<_> = recorded().map(|trace| (trace.label, trace.parent)).collect();
            for trace in &traces {
                if let Some(unit) = trace.unit {
                    *by_host.entry((name, unit)).or_insert(false) |= trace.recorded;
                }
                if !is_told(trace.label) {
                    continue;
                }
                let speaks = trace.recorded
                    || trace.unit.is_some() && of_units.contains(&(trace.label, trace.unit))
                    || parents.contains(&(trace.label, Some(trace.pid)));
                *by_role.entry((trace.label, trace.role)).or_insert(false) |= speaks;
                if let Some(unit) = trace.unit {
                    *by_unit.entry((trace.label, unit)).or_insert(false) |= trace.recorded;
                }
            }
        }
        let has_tests = |label: &str| label != STARTUP_LABEL && has_data.contains(label);
        let named = |what: String, label: &str| match label {
            "" => what,
            label => format!("{what} under {label}"),
        };
        let roles = by_role.iter().filter(|((label, _), speaks)| !**speaks && has_tests(label));
        let roles = roles.map(|((label, role), _)| named(format!("role {role}"), label));
        let units = by_unit.iter().filter(|((label, _), recorded)| !**recorded && has_tests(label));
        let units = units.map(|((label, unit), _)| named((*unit).to_owned(), label));
        let of_hosts = by_host.iter().filter(|(_, recorded)| !**recorded);
        let of_hosts = of_hosts.map(|((host, unit), _)| format!("{unit} of {host}"));
        roles.chain(units).chain(of_hosts).collect()
    }

    /// What a bundle says of its host's processes: the newer word counts, unless the older one was
    /// that the process had ended. `data` has the names of the data files of the bundle that could be read.
    pub(crate) fn add(&mut self, manifest: &Manifest, data: BTreeSet<String>) {
        let host = self.hosts.entry(manifest.host.clone()).or_default();
        let is_newer = manifest.collected_at >= host.collected_at;
        if is_newer {
            host.collected_at = manifest.collected_at;
        }
        // A profile's interval is at most an hour; a host that says more says nothing.
        host.interval = host.interval.max(manifest.interval.clamp(0.0, 3600.0));
        for process in &manifest.processes {
            let identity = Identity {
                boot_id: manifest.boot_id.clone(),
                hostname: process.hostname.clone(),
                pid: process.pid,
                start_ticks: process.start_ticks,
            };
            let key = (identity, process.record.clone());
            if is_newer || !host.records.contains_key(&key) {
                host.records.insert(key, process.clone());
            }
        }
        host.data.extend(data);
        host.extra.extend(manifest.extra.keys().cloned());
        // What one bundle lists is known to all.
        self.unlisted
            .entry(manifest.host.clone())
            .and_modify(|packages| packages.retain(|package| manifest.unlisted.contains(package)))
            .or_insert_with(|| manifest.unlisted.clone());
        let entries = manifest.entries.iter().filter_map(|entry| match EntryPath::parse(&entry.path) {
            Ok(EntryPath::Data(name)) => Some(name),
            _ => None,
        });
        host.brought.extend(entries);
        host.compacted_data.extend(manifest.compacted.iter().filter_map(|many| many.data.clone()));
        for many in &manifest.compacted {
            let common = Arc::new(many.common.clone());
            for member in &many.members {
                let identity = Identity {
                    boot_id: manifest.boot_id.clone(),
                    hostname: many.hostname.clone(),
                    pid: member.pid,
                    start_ticks: member.start_ticks,
                };
                host.compacted.insert((identity, member.record.clone()), Arc::clone(&common));
            }
        }
    }

    /// What bundles of hosts say of others' processes, once all hosts' own words are here: those count before it, unless
    /// somebody knows more.
    pub(crate) fn adopt(&mut self, all: Vec<Adopted>) {
        let mut told: BTreeMap<String, BTreeMap<String, RecordKey>> = BTreeMap::new();
        for Adopted { boot_id, moved, data } in all {
            let (Moved::One(name, _) | Moved::Many(name, _)) = &moved;
            let host = self.hosts.entry(name.clone()).or_default();
            let told = told.entry(name.clone()).or_insert_with(|| host.keys_by_record());
            let mut key_of = |record: &String, hostname: &String, pid, start_ticks| {
                let (boot_id, hostname) = (boot_id.clone(), hostname.clone());
                let identity = Identity { boot_id, hostname, pid, start_ticks };
                told.entry(record.clone()).or_insert_with(|| (identity, record.clone())).clone()
            };
            host.data.extend(data);
            match moved {
                Moved::One(_, process) => {
                    let key = key_of(&process.record, &process.hostname, process.pid, process.start_ticks);
                    if host.records.get(&key).is_none_or(|known| knows_more(&process, known))
                        && !host.compacted.contains_key(&key)
                    {
                        host.records.insert(key, process);
                    }
                }
                Moved::Many(_, many) => {
                    host.compacted_data.extend(many.data);
                    let common = Arc::new(many.common);
                    for member in many.members {
                        let key = key_of(&member.record, &many.hostname, member.pid, member.start_ticks);
                        host.compacted.insert(key, Arc::clone(&common));
                    }
                }
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
            let of_host = host.counts();
            counts.processes += of_host.processes;
            counts.died += of_host.died;
            counts.unrecorded += of_host.unrecorded;
            counts.elsewhere += of_host.elsewhere;
            counts.worst_loss = counts.worst_loss.max(of_host.worst_loss);
            for (core, processes) in of_host.cores {
                *counts.cores.entry(core).or_default() += processes;
            }
        }
        counts
    }

    /// Each host that was asked: its processes, and why something is missing.
    pub(crate) fn host_rows(&self) -> BTreeMap<String, HostRow> {
        let mut rows: BTreeMap<String, HostRow> = self
            .hosts
            .iter()
            .map(|(name, host)| {
                let Counts { processes, died, unrecorded, elsewhere, .. } = host.counts();
                let unrecorded = unrecorded + elsewhere;
                (name.clone(), HostRow { processes, died, unrecorded, trouble: None })
            })
            .collect();
        for (name, reason) in self.missing.iter().chain(&self.damaged) {
            rows.entry(name.clone()).or_default().trouble = Some(reason.clone());
        }
        rows
    }

    /// Whether every process of every host gave all that it had.
    pub(crate) fn is_complete(&self) -> bool {
        let counts = self.counts();
        counts.died == 0
            && counts.unrecorded == 0
            && counts.elsewhere == 0
            && counts.missing_hosts == 0
            && self.unanalysed == 0
            && self.doubted == 0
            && self.without_branches == 0
            && (self.trusts_extra || self.extra() == 0)
            && self.unsourced.0 == 0
            && self.unlisted().is_empty()
            && self.lost_data() == 0
            && self.silent().is_empty()
    }

    /// One line for the top of every report.
    pub(crate) fn headline(&self) -> String {
        let counts = self.counts();
        let whole = counts.processes.saturating_sub(counts.died + counts.unrecorded + counts.elsewhere);
        let hosts = self.hosts.len();
        let mut text = format!(
            "based on {whole} of {}{} process{} on {hosts} host{}",
            // Nobody knows how many a damaged bundle tells of.
            if self.damaged.is_empty() { "" } else { "at least " },
            counts.processes,
            if counts.processes == 1 { "" } else { "es" },
            if hosts == 1 { "" } else { "s" }
        );
        if counts.cores.keys().any(|core| core.starts_with("live-map")) {
            let by: Vec<String> = counts.cores.iter().map(|(core, many)| format!("{core} {many}")).collect();
            let _ = write!(text, " (by {})", by.join(", "));
        }
        if counts.died > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "; {} died unsaved (<= {} s lost)", counts.died, counts.worst_loss);
        }
        if counts.unrecorded > 0 {
            let _ = write!(text, "; {} could not record", counts.unrecorded);
        }
        if counts.elsewhere > 0 {
            let _ = write!(text, "; {} elsewhere did not answer", counts.elsewhere);
        }
        if !self.missing.is_empty() {
            let names: Vec<&str> = self.missing.keys().map(String::as_str).collect();
            let _ = write!(text, "; nothing new from {}", names.join(", "));
        }
        if !self.damaged.is_empty() {
            let names: Vec<&str> = self.damaged.keys().map(String::as_str).collect();
            let _ = write!(text, "; a damaged bundle of {}", names.join(", "));
        }
        if self.unanalysed > 0 {
            let _ = write!(text, "; {} without an analysis", counted(self.unanalysed as u64, "source"));
        }
        if self.doubted > 0 {
            let _ = write!(text, "; hosts disagree about {}", counted(self.doubted as u64, "source"));
        }
        if self.without_branches > 0 {
            let hosts = counted(self.without_branches as u64, "host");
            let _ = write!(text, "; no branches, for {hosts} recorded none");
        }
        if let (files @ 1.., lines) = self.unsourced {
            let (lines, files) = (counted(lines as u64, "measured line"), counted(files as u64, "file"));
            let _ = write!(text, "; {lines} of {files} without a source");
        }
        let unlisted = self.unlisted();
        if !unlisted.is_empty() {
            let _ = write!(text, "; no list of all files of {}", some(&unlisted));
        }
        match self.lost_data() {
            0 => {}
            1 => text.push_str("; 1 data file is not here, or cannot be read"),
            n => {
                let _ = write!(text, "; {n} data files are not here, or cannot be read");
            }
        }
        match self.extra() {
            0 => {}
            n => {
                let _ =
                    write!(text, "; with {} of no process of the service", counted(n as u64, "data file"));
            }
        }
        let silent = self.silent();
        if !silent.is_empty() {
            let _ = write!(text, "; nothing recorded by {}", some(&silent));
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
                    .records
                    .values()
                    .map(|process| {
                        json!({
                            "pid": process.pid, "parent": process.parent, "role": process.role, "unit": process.unit,
                            "argv": process.argv, "python": process.python, "coverage": process.coverage,
                            "core": process.core,
                            "started_at": process.started_at, "last_flush": process.last_flush,
                            "state": process.state, "data": process.data, "error": process.error,
                            "label": process.label, "generation": process.generation,
                        })
                    })
                    .collect();
                let mut part = json!({"interval": host.interval, "processes": processes});
                let compacted = host.compacted_groups();
                if let Some(part) = part.as_object_mut().filter(|_| !compacted.is_empty()) {
                    part.insert("compacted".to_owned(), Value::Array(compacted));
                }
                (name.clone(), part)
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

/// Whether one word on a process says more than another: that it has ended is the last one, and who cannot see it knows
/// least.
fn knows_more(word: &Process, known: &Process) -> bool {
    match known.state {
        ProcessState::Live => word.state == ProcessState::Ended,
        ProcessState::Elsewhere if word.state == ProcessState::Elsewhere => {
            known.error.is_some() && word.error.is_none()
        }
        ProcessState::Elsewhere => true,
        ProcessState::Ended | ProcessState::Died => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process: pid, parent, role, unit, and whether it recorded.
    type Case = (u32, u32, &'static str, Option<&'static str>, bool);

    fn silent(cases: &[Case]) -> Vec<String> {
        let mut ledger = Ledger::default();
        let processes: Vec<Value> = cases
            .iter()
            .map(|(pid, parent, role, unit, recorded)| {
                json!({
                    "record": format!("proc.{pid}.json"), "record_sha256": "", "pid": pid, "parent": parent,
                    "start_ticks": 1, "started_at": 0.0, "argv": [], "unit": unit, "role": role, "python": "3.11.2",
                    "coverage": "7.17.3", "data": recorded.then(|| format!("data.{pid}")), "last_flush": null,
                    "state": "ended", "error": null, "label": "tests",
                })
            })
            .collect();
        let manifest = json!({
            "format": 1, "host": "h1", "hostname": "h1", "boot_id": "b", "agent": "0", "collected_at": 1.0,
            "data_root": "/d", "profile": "p", "interval": 5.0, "processes": processes, "entries": [], "sources": [],
        });
        ledger.add(&serde_json::from_value(manifest).expect("a manifest"), BTreeSet::new());
        ledger.silent().into_iter().collect()
    }

    /// A container that was made anew tells of what ran in it before as of another's.
    #[test]
    fn a_process_is_counted_once_whoever_tells_of_it() {
        let mut ledger = Ledger::default();
        let mut tell = |at: f64, state: &str, hostname: &str, foreign: bool| {
            let process = json!({
                "record": "proc.web.7.aa.json", "record_sha256": "", "pid": 7, "parent": 1, "start_ticks": 1,
                "started_at": 0.0, "argv": [], "unit": null, "role": "web", "python": "3.11.2", "coverage": "7.17.3",
                "data": null, "last_flush": null, "state": state, "error": null, "label": "tests", "hostname": hostname,
                "foreign": foreign,
            });
            let manifest = json!({
                "format": 1, "host": "web", "hostname": "id", "boot_id": "b", "agent": "0", "collected_at": at,
                "data_root": "/d", "profile": "p", "interval": 5.0, "processes": [process], "entries": [], "sources": [],
            });
            ledger.add(&serde_json::from_value(manifest).expect("a manifest"), BTreeSet::new());
            let counts = ledger.counts();
            (counts.processes, counts.died, counts.elsewhere)
        };
        assert_eq!(tell(1.0, "live", "first", false), (1, 0, 0));
        assert_eq!(tell(2.0, "ended", "first", true), (1, 0, 0));
        // The same numbers in another one.
        assert_eq!(tell(3.0, "live", "second", false).0, 2);
    }

    #[test]
    fn a_word_that_knows_more_counts() {
        let word = |state: &str, error: Option<&str>| -> Process {
            serde_json::from_value(json!({
                "record": "r", "record_sha256": "", "pid": 7, "parent": 1, "start_ticks": 1, "started_at": 0.0, "argv": [],
                "unit": null, "role": "web", "python": "3", "coverage": "7", "data": null, "last_flush": null,
                "state": state, "error": error, "label": "tests",
            }))
            .expect("a process")
        };
        let silent = word("elsewhere", Some("it did not answer"));
        for more in [word("ended", None), word("died", None), word("live", None), word("elsewhere", None)] {
            assert!(knows_more(&more, &silent) && !knows_more(&silent, &more), "{more:?}");
        }
        assert!(knows_more(&word("ended", None), &word("live", None)));
        assert!(!knows_more(&word("died", None), &word("live", None)));
    }

    /// Somebody's file that is called a data file, comes with a bundle, cannot be read, and no record tells of it.
    #[test]
    fn a_data_file_that_nobody_tells_of_and_nobody_can_read_is_counted() {
        let entry = |name: &str| json!({"path": format!("data/{name}"), "size": 1, "sha256": "0".repeat(64)});
        let manifest = json!({
            "format": 1, "host": "h1", "hostname": "h1", "boot_id": "b", "agent": "0", "collected_at": 1.0,
            "data_root": "/d", "profile": "p", "interval": 5.0, "processes": [], "sources": [],
            "entries": [entry("data.good"), entry("data.web9.77.abc")],
        });
        let manifest = serde_json::from_value(manifest).expect("a manifest");
        let mut ledger = Ledger::default();
        ledger.add(&manifest, BTreeSet::from(["data.good".to_owned()]));
        assert!(
            ledger.headline().ends_with("; 1 data file is not here, or cannot be read"),
            "{}",
            ledger.headline()
        );
        assert!(!ledger.is_complete());
        // A later bundle has it as it should be.
        ledger.add(&manifest, BTreeSet::from(["data.web9.77.abc".to_owned()]));
        assert!(ledger.is_complete(), "{}", ledger.headline());
    }

    #[test]
    fn data_of_nobodys_record_is_counted_apart() {
        let manifest = json!({
            "format": 1, "host": "h1", "hostname": "h1", "boot_id": "b", "agent": "0", "collected_at": 1.0,
            "data_root": "/d", "profile": "p", "interval": 5.0, "processes": [], "entries": [], "sources": [],
            "extra": {"data.friend": 1005},
        });
        let mut ledger = Ledger::default();
        ledger.add(&serde_json::from_value(manifest).expect("a manifest"), BTreeSet::new());
        assert!(ledger.headline().ends_with("; with 1 data file of no process of the service"));
        assert!(!ledger.is_complete());
        ledger.trust_extra();
        assert!(ledger.is_complete());
    }

    #[test]
    fn a_host_that_recorded_no_branches_takes_those_of_all() {
        let mut ledger = Ledger::default();
        assert!(ledger.is_complete());
        ledger.note_without_branches(1);
        assert!(
            ledger.headline().ends_with("; no branches, for 1 host recorded none"),
            "{}",
            ledger.headline()
        );
        assert!(!ledger.is_complete());
    }

    #[test]
    fn a_role_or_unit_that_recorded_nothing_is_named() {
        let nothing = Vec::<String>::new();
        assert_eq!(
            silent(&[(1, 0, "api", None, true), (2, 0, "worker", None, false)]),
            ["role worker under tests"]
        );
        let of_units = [(1, 0, "api", Some("api.service"), true), (2, 0, "worker", Some("w.service"), false)];
        assert_eq!(
            silent(&of_units),
            ["role worker under tests", "w.service of h1", "w.service under tests"]
        );
        // Where nobody recorded anything, "nothing was measured" says it.
        assert_eq!(silent(&[(1, 0, "api", None, false)]), nothing);
    }

    #[test]
    fn who_only_watches_over_others_is_spoken_for_by_them() {
        let nothing = Vec::<String>::new();
        assert_eq!(silent(&[(1, 0, "worker", None, false), (2, 1, "job", None, true)]), nothing);
        let unit = Some("celery.service");
        assert_eq!(silent(&[(1, 0, "worker", unit, false), (2, 7, "job", unit, true)]), nothing);
        assert_eq!(
            silent(&[(1, 0, "worker", None, false), (2, 7, "job", None, true)]),
            ["role worker under tests"]
        );
    }
}
