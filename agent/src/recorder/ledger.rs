//! The ledger: what each recorded process says of itself, judged against what the kernel says.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;

use pulpcov_protocol::bundle::is_file_name;
use pulpcov_protocol::manifest::{CommonFacts, Compacted, Member, Process, ProcessState};
use pulpcov_protocol::outcome::FlushDetail;
use pulpcov_protocol::text::counted;
use serde::Deserialize;

use crate::failure::Failure;
use crate::host::budget::{self, Remarks, Share};
use crate::host::namespace::{OwnPlace, View};
use crate::host::{fs, namespace};
use crate::receipt::Config;
use crate::recorder::data_dir::LEDGER;
use crate::recorder::fingerprint::Fingerprints;
use crate::recorder::record::{ONE, Record};
use crate::recorder::users::Users;
use crate::recorder::{data_dir, fingerprint, record};

/// Most records that are read.
const ALL_RECORDS: Share = Share { files: 200_000, bytes: 1024 * 1024 * 1024 };

/// The share of a user who is none of the service's.
pub(crate) const STRANGERS_RECORDS: Share = Share { files: 1_000, bytes: 8 * 1024 * 1024 };

/// How the names of the records of many processes begin.
pub(crate) const MANY: &str = "many.";

/// Largest record of many processes.
pub(crate) const MAX_MANY: u64 = 16 * 1024 * 1024;

/// The record of processes whose data files were made one, as a compaction writes it.
#[derive(Debug, serde::Serialize, Deserialize)]
pub(crate) struct RawCompactedProcesses {
    pub(crate) data: Option<String>,
    #[serde(flatten)]
    pub(crate) common: CommonFacts,
    pub(crate) members: Vec<Member>,
    /// Where the processes had imported the measured packages from.
    #[serde(default)]
    pub(crate) packages: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) folders: BTreeMap<String, BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sources: Option<String>,
    /// Where whoever compacted them was.
    #[serde(flatten)]
    pub(crate) place: OwnPlace,
}

pub(crate) struct CompactedProcesses {
    pub(crate) compacted: Compacted,
    pub(crate) packages: BTreeMap<String, String>,
    pub(crate) folders: BTreeMap<String, BTreeSet<String>>,
    pub(crate) sources: Option<Fingerprints>,
}

/// Records of processes that hold what nobody has, each with the reason.
pub(crate) type Unflushed = BTreeMap<String, String>;

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) records: Vec<Record>,
    pub(crate) many: Vec<CompactedProcesses>,
    /// Records and data files of processes that are told of by one of `many`: a compaction was cut off.
    pub(crate) stale: Vec<Record>,
    pub(crate) warnings: Vec<String>,
}

impl Ledger {
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.records.iter().map(|record| &record.process)
    }

    pub(crate) fn compacted(&self) -> impl Iterator<Item = &Compacted> {
        self.many.iter().map(|many| &many.compacted)
    }

    /// Leaves out what users say of themselves who are none of the service's; they are named.
    fn of_service(mut self, users: &Users) -> Self {
        let mut strangers: BTreeMap<u32, u64> = BTreeMap::new();
        self.records.retain(|record| {
            let is_service = users.is_service(record.uid);
            if !is_service {
                *strangers.entry(record.uid).or_default() += 1;
            }
            is_service
        });
        self.stale.retain(|record| users.is_service(record.uid));
        self.many.retain(|many| users.is_service(many.compacted.common.uid));
        self.warnings.extend(strangers.into_iter().map(|(uid, count)| {
            format!("user {uid} is none of the service's, and tells of {}", counted(count, "process"))
        }));
        self
    }

    /// Data files that a record tells of.
    pub(crate) fn told_data(&self) -> BTreeSet<&str> {
        let one = self.processes().map(|process| &process.data);
        one.chain(self.compacted().map(|many| &many.data)).filter_map(Option::as_deref).collect()
    }

    /// Data file to the run that it was recorded in, of those that a record tells of.
    pub(crate) fn runs(&self) -> BTreeMap<&str, &str> {
        let one = self.processes().map(|process| (&process.data, &process.run));
        let many = self.compacted().map(|many| (&many.data, &many.common.run));
        one.chain(many).filter_map(|(data, run)| Some((data.as_deref()?, run.as_str()))).collect()
    }

    /// Fingerprints of what the processes of a data file ran, where they say them: a record speaks only for data of
    /// its own user, and the agent's for all.
    pub(crate) fn fingerprints(&self, data: &str, owner: Option<u32>) -> Option<&Fingerprints> {
        let one = self.records.iter().filter(|record| Some(record.uid) == owner || record.uid == 0);
        let one = one.map(|record| (&record.process.data, &record.sources));
        let many = self.many.iter().map(|many| (&many.compacted.data, &many.sources));
        many.chain(one)
            .find(|(name, _)| name.as_deref() == Some(data))
            .and_then(|(_, sources)| sources.as_ref())
    }

    /// Where processes of a prefix had imported the measured packages from.
    pub(crate) fn package_places<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a String)> {
        let of_one = self.records.iter().filter(move |r| r.prefix == prefix).flat_map(|r| &r.packages);
        let of_many =
            self.many.iter().filter(move |m| m.compacted.common.prefix == prefix).flat_map(|m| &m.packages);
        of_one.chain(of_many)
    }

    /// The folders of measured packages in processes of a prefix.
    pub(crate) fn package_folders<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a String)> {
        let one = self.records.iter().filter(move |r| r.prefix == prefix).flat_map(|r| &r.folders);
        let many =
            self.many.iter().filter(move |m| m.compacted.common.prefix == prefix).flat_map(|m| &m.folders);
        let one = one.flat_map(|(package, folders)| folders.iter().map(move |folder| (package, folder)));
        one.chain(many.flat_map(|(package, folders)| folders.iter().map(move |folder| (package, folder))))
    }

    /// Processes that hold what nobody has: those that did not answer a flush, or all where none was asked.
    pub(crate) fn unflushed(&self, flush: Option<&FlushDetail>, unasked: Option<&str>) -> Unflushed {
        let why = |record: &Record| match flush {
            // Its map has what it ran, whether it answers or not.
            _ if record.has_live_map => None,
            Some(flush) if record.is_elsewhere() => {
                flush.elsewhere.contains(&record.process.record).then(|| {
                    format!(
                        "it runs elsewhere{}, or ran there, and did not answer a flush",
                        on(&record.process)
                    )
                })
            }
            Some(flush) => record
                .pid_here
                .is_some_and(|pid| flush.silent.contains(&pid))
                .then(|| "it did not answer a flush".to_owned()),
            None => unasked.map(str::to_owned),
        };
        let unfinished = self.records.iter().filter(|record| !record.is_gone());
        unfinished.filter_map(|record| Some((record.process.record.clone(), why(record)?))).collect()
    }

    /// Has their records say so.
    pub(crate) fn note_unflushed(&mut self, unflushed: &Unflushed) {
        for record in self.records.iter_mut().filter(|record| !record.is_gone()) {
            let process = &mut record.process;
            if process.error.is_none() {
                process.error = unflushed.get(&process.record).cloned();
            }
        }
    }

    /// Data file to `sys.prefix` of those who wrote it.
    pub(crate) fn prefixes(&self) -> BTreeMap<&str, &str> {
        let one = self.records.iter().map(|record| (&record.process.data, &record.prefix));
        let many = self.many.iter().map(|many| (&many.compacted.data, &many.compacted.common.prefix));
        one.chain(many).filter_map(|(data, prefix)| Some((data.as_deref()?, prefix.as_str()))).collect()
    }
}

/// Where a process that is elsewhere runs, as far as it says.
pub(crate) fn on(process: &Process) -> String {
    if process.hostname.is_empty() { String::new() } else { format!(" ({})", process.hostname) }
}

/// Reads every record of the service's users; what others tell of is named, and is nothing that anybody waits for. One
/// that cannot be read is a warning: it must not hide the others.
pub(crate) fn read(config: &Config) -> Result<Ledger, Failure> {
    Ok(read_all(&config.data_root, config.own_install())?.of_service(&Users::known(&config.data_root)))
}

/// The same for who only looks, and notes nothing: of those users that the service has at this moment.
pub(crate) fn read_now(config: &Config) -> Result<Ledger, Failure> {
    Ok(read_all(&config.data_root, config.own_install())?.of_service(&Users::now(config)))
}

/// The same of everybody.
pub(crate) fn read_all(data_root: &Path, install: &str) -> Result<Ledger, Failure> {
    let folder = data_root.join(LEDGER);
    let mut ledger = Ledger::default();
    if !folder.is_dir() {
        return Ok(ledger);
    }
    let mut remarks = Remarks::default();
    let view = View::of(install);
    for name in names(data_root, &folder, &mut remarks)? {
        let read = if name.starts_with(MANY) {
            read_many(&folder, &name, &view).map(|many| ledger.many.push(many))
        } else {
            record::read_one(data_root, &name, &view).map(|record| ledger.records.push(record))
        };
        if let Err(failure) = read {
            remarks.add(failure.msg.replace(&name, "it"), name);
        }
    }
    ledger.warnings = remarks.lines("is no process record", "are no process records");
    // A compaction that was cut off leaves both records of a process: it is told of once.
    let told: BTreeSet<&str> =
        ledger.many.iter().flat_map(|many| &many.compacted.members).map(|m| m.record.as_str()).collect();
    let (again, records): (Vec<_>, Vec<_>) = std::mem::take(&mut ledger.records)
        .into_iter()
        .partition(|record: &Record| record.is_gone() && told.contains(record.process.record.as_str()));
    ledger.stale = again;
    ledger.records = records;
    end_what_goes_on_in_another(&mut ledger.records);
    Ok(ledger)
}

/// Names of records, each owner's within its share, the service's first.
fn names(data_root: &Path, folder: &Path, remarks: &mut Remarks) -> Result<Vec<String>, Failure> {
    let is_meant = |name: &OsStr| {
        let name = name.to_string_lossy();
        [ONE, MANY].iter().any(|prefix| name.starts_with(prefix)) && name.ends_with(".json")
    };
    let found = fs::names_in(folder, &is_meant)?;
    for name in found.linked {
        remarks.add("it has several names (hard links)", name);
    }
    for name in found.others {
        remarks.add("it is no regular file, or has no plain name", name);
    }
    let users = Users::known(data_root);
    let is_service = |uid| users.is_service(uid);
    let (names, beyond) = budget::select(found.files, &is_service, ALL_RECORDS, STRANGERS_RECORDS);
    remarks.add_beyond(beyond);
    let mut names: Vec<String> = names.into_iter().map(|candidate| candidate.name).collect();
    names.sort();
    Ok(names)
}

/// A process that became another user goes on in another record: the first one has said all it will. Only the process
/// itself knows what its first record is sealed with.
fn end_what_goes_on_in_another(records: &mut [Record]) {
    let continued: BTreeSet<(String, u32, u64, String)> = records
        .iter()
        .filter_map(|record| {
            let (process, before) = (&record.process, record.continues.as_ref()?);
            Some((before.record.clone(), process.pid, process.start_ticks, before.seal.clone()))
        })
        .collect();
    for Record { process, seal, .. } in records {
        let key =
            (process.record.clone(), process.pid, process.start_ticks, seal.clone().unwrap_or_default());
        if process.state != ProcessState::Ended && continued.contains(&key) {
            process.state = ProcessState::Ended;
        }
    }
}

/// Whether any process has left a record, of whomever: users of the service that nobody has noted may have.
pub(crate) fn has_records(data_root: &Path) -> bool {
    let names = std::fs::read_dir(data_root.join(LEDGER)).into_iter().flatten().flatten();
    names.into_iter().any(|entry| {
        let name = entry.file_name();
        [ONE, MANY].iter().any(|prefix| name.to_string_lossy().starts_with(prefix))
    })
}

/// Only the agent writes these: what one says leads to the erasing of others' files.
fn read_many(folder: &Path, name: &str, view: &View) -> Result<CompactedProcesses, Failure> {
    let (bytes, owner) = fs::read_owned(&folder.join(name), MAX_MANY)?;
    if owner != rustix::process::geteuid().as_raw() && owner != 0 {
        return Err(Failure::new("it is not the agent's"));
    }
    let raw: RawCompactedProcesses =
        serde_json::from_slice(&bytes).map_err(|error| Failure::new(format!("it is damaged: {error}")))?;
    let compacted = Compacted {
        record: name.to_owned(),
        record_sha256: fs::sha256(&bytes),
        data: raw.data.filter(|data| is_file_name(data)),
        foreign: view.is_foreign(raw.place.as_place(&raw.common.boot_id)),
        hostname: raw.place.hostname().to_owned(),
        common: raw.common,
        members: raw.members,
    };
    let sources = raw.sources.as_deref().map(fingerprint::split);
    Ok(CompactedProcesses { compacted, packages: raw.packages, folders: raw.folders, sources })
}

/// Root is about to write into a folder in a world-writable one: only if it is the one that install
/// made.
pub(crate) fn check_folder(data_root: &Path) -> Result<(), Failure> {
    if !data_root.is_dir() {
        return Err(data_dir::gone(data_root));
    }
    let folder = data_root.join(LEDGER);
    let me = rustix::process::geteuid().as_raw();
    // In a container whose volume is a user's of outside, whoever owns it decides there.
    let owner = fs::Attributes::of(data_root)?.map(|found| found.uid).filter(|_| !namespace::is_first());
    let is_ours = fs::Attributes::of(&folder)?
        .is_some_and(|found| found.uid == me || found.uid == 0 || owner == Some(found.uid));
    if !is_ours || fs::look_at(&folder)?.is_symlink() {
        return Err(Failure::new(format!("{} is not the folder that install made", folder.display())));
    }
    Ok(())
}
