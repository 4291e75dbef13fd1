//! Few data files of many: what processes that are gone have left, by what they have in common.
//!
//! A run of ten thousand short tasks would else leave ten thousand files. Nothing is erased before
//! what holds it is on disk; a compaction that is cut off leaves a process told of twice, which the
//! ledger sees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use pulpcov_data_file::data::{CoverageData, Kind};
use pulpcov_data_file::data_file;
use pulpcov_protocol::manifest::{CommonFacts, Member, ProcessState};
use pulpcov_protocol::text::error_chain;

use crate::bundle::maps;
use crate::bundle::source_list;
use crate::failure::Failure;
use crate::host::namespace::OwnPlace;
use crate::host::{facts, fs};
use crate::receipt::Config;
use crate::recorder::data_dir::{self, LEDGER};
use crate::recorder::fingerprint::{self, Fingerprints, Present};
use crate::recorder::ledger::{self, CompactedProcesses, Ledger, MANY, MAX_MANY, RawCompactedProcesses};
use crate::recorder::process_map;
use crate::recorder::record::Record;

/// A record is left alone until it is that old: an `exec` that failed takes its last word back.
const REST: Duration = Duration::from_secs(10);

/// Most processes behind one data file: its record must stay readable.
const MAX_MEMBERS: usize = 20_000;

/// Longest path of a package that is kept.
const MAX_PATH: usize = 4096;

/// Most folders of a package that are kept of one process.
const MAX_FOLDERS: usize = 16;

/// Data files of one kind, that are to become one.
#[derive(Default)]
struct Group {
    members: Vec<Member>,
    data: Option<CoverageData>,
    packages: BTreeMap<String, String>,
    folders: BTreeMap<String, BTreeSet<String>>,
    /// Fingerprints of the files that ran; nothing where one of the records has none.
    sources: Option<Fingerprints>,
    /// Files that go once the new one is there: data files first, then records.
    old_data: Vec<String>,
    old_records: Vec<String>,
    /// How many of the data files are of single processes.
    single: u64,
}

/// Compacts where there are `at_least` files of a kind, of the users that were noted; returns how many went into how
/// many.
pub(crate) fn run(lib_root: &str, config: &Config, at_least: u32) -> Result<(u64, u64), Failure> {
    let root = &config.data_root;
    let written = maps::write_data(lib_root, config)?;
    let mut ledger = ledger::read(config)?;
    written.note(&mut ledger.records);
    // What a compaction that was cut off left, by the same rules as what is to be compacted.
    for record in ledger.stale.iter().filter(|record| owner_of_all(root, record).is_some()) {
        remove(root, record.process.data.iter(), std::iter::once(&record.process.record));
    }
    let mut groups: BTreeMap<CommonFacts, Vec<&Record>> = BTreeMap::new();
    for record in ledger.records.iter().filter(|record| may_go(root, record)) {
        if let Some(uid) = owner_of_all(root, record) {
            groups.entry(record.common(uid)).or_default().push(record);
        }
    }
    let (mut merged, mut into) = (0, 0);
    let trusted = source_list::trusted(config);
    let mut present = Present::new(&trusted);
    for (common, records) in groups {
        if (records.len() as u64) < u64::from(at_least.max(1)) {
            continue;
        }
        // Lines and branches do not mix; each kind that there is becomes a file.
        for (branch, group) in gather(config, &common, &records, &ledger, &mut present) {
            merged += group.single;
            into += 1;
            write(config, CommonFacts { branch, ..common.clone() }, group)?;
        }
    }
    Ok((merged, into))
}

/// Whether a process is gone for good, and has been for a while.
fn may_go(root: &Path, record: &Record) -> bool {
    let process = &record.process;
    let rested = std::fs::symlink_metadata(root.join(LEDGER).join(&process.record))
        .and_then(|meta| meta.modified())
        .is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > REST));
    // What others recorded is theirs to compact: of one file of many nobody could tell whose it is.
    process.state == ProcessState::Ended && !process.foreign && process.error.is_none() && rested
}

/// The one owner of a record and its data, where the two belong together: in a folder where anybody
/// writes, a record must not lead us to somebody else's data.
fn owner_of_all(root: &Path, record: &Record) -> Option<u32> {
    let process = &record.process;
    let owner = |path: &Path| fs::Attributes::of(path).ok().flatten().map(|found| found.uid);
    let of_record = owner(&root.join(LEDGER).join(&process.record))?;
    if let Some(data) = &process.data {
        // Data that is gone already, as a compaction that was cut off leaves it, is nobody's.
        if owner(&root.join(data)).is_some_and(|uid| uid != of_record) {
            return None;
        }
    }
    Some(of_record)
}

/// Reads what becomes one, with what was made one before. What cannot be read stays where it is.
fn gather(
    config: &Config,
    common: &CommonFacts,
    records: &[&Record],
    ledger: &Ledger,
    present: &mut Present<'_>,
) -> BTreeMap<bool, Group> {
    let root = &config.data_root;
    let mut groups: BTreeMap<bool, Group> = BTreeMap::new();
    for record in records {
        let process = &record.process;
        let read = match &process.data {
            Some(name) => read(root, name).map(Some),
            None => Ok(None),
        };
        let Ok(data) = read else { continue };
        if is_of_another_release(present, data.as_ref(), record.sources.as_ref()) {
            continue;
        }
        let branch = data.as_ref().and_then(CoverageData::kind) == Some(Kind::Arcs);
        let group = groups.entry(branch).or_default();
        if group.members.len() >= MAX_MEMBERS || !group.add(data) {
            continue;
        }
        group.also_ran(record.sources.as_ref());
        group.single += 1;
        group.members.push(Member {
            record: process.record.clone(),
            pid: process.pid,
            start_ticks: process.start_ticks,
        });
        let known = record.packages.iter().filter(|(name, path)| {
            path.len() <= MAX_PATH && config.packages.iter().any(|package| package == *name)
        });
        group.packages.extend(known.map(|(name, path)| (name.clone(), path.clone())));
        for (name, folders) in record.folders.iter().filter(|(name, _)| config.packages.contains(name)) {
            let kept = folders.iter().filter(|folder| folder.len() <= MAX_PATH).take(MAX_FOLDERS);
            group.folders.entry(name.clone()).or_default().extend(kept.cloned());
        }
        group.old_data.extend(process.data.clone());
        group.old_records.push(process.record.clone());
    }
    for (branch, group) in &mut groups {
        let wanted = CommonFacts { branch: *branch, ..common.clone() };
        for many in
            ledger.many.iter().filter(|many| !many.compacted.foreign && many.compacted.common == wanted)
        {
            group.take_in(root, many, present);
        }
    }
    groups
}

/// Whether what ran has another source by now: lines of two releases are not made one.
fn is_of_another_release(
    present: &mut Present<'_>,
    data: Option<&CoverageData>,
    sources: Option<&Fingerprints>,
) -> bool {
    data.zip(sources).is_some_and(|(data, sources)| !present.replaced(data.files.keys(), sources).is_empty())
}

impl Group {
    /// Before the records are counted: of the first, what it says stands.
    fn also_ran(&mut self, sources: Option<&Fingerprints>) {
        self.sources = match (self.sources.take(), sources) {
            (Some(mut all), Some(more)) => {
                all.extend(more.iter().cloned());
                Some(all)
            }
            (None, Some(first)) if self.old_records.is_empty() => Some(first.clone()),
            _ => None,
        };
    }

    fn add(&mut self, data: Option<CoverageData>) -> bool {
        match (&mut self.data, data) {
            (_, None) => true,
            (Some(all), Some(data)) => all.merge(data).is_ok(),
            (empty, Some(data)) => {
                *empty = Some(data);
                true
            }
        }
    }

    /// An earlier compaction's file grows instead of getting a sister.
    fn take_in(&mut self, root: &Path, many: &CompactedProcesses, present: &mut Present<'_>) {
        let compacted = &many.compacted;
        if self.members.len() + compacted.members.len() > MAX_MEMBERS {
            return;
        }
        let read = compacted.data.as_ref().map(|name| read(root, name)).transpose();
        let Ok(data) = read else { return };
        if is_of_another_release(present, data.as_ref(), many.sources.as_ref()) {
            return;
        }
        if self.add(data) {
            self.also_ran(many.sources.as_ref());
            self.members.extend(compacted.members.iter().cloned());
            self.packages.extend(many.packages.clone());
            for (name, folders) in &many.folders {
                self.folders.entry(name.clone()).or_default().extend(folders.iter().cloned());
            }
            self.old_data.extend(compacted.data.clone());
            self.old_records.push(compacted.record.clone());
        }
    }
}

fn read(root: &Path, name: &str) -> Result<CoverageData, Failure> {
    let mut regular = data_dir::open_data(&root.join(name)).map_err(Failure::new)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut regular.file, &mut bytes)?;
    data_file::read(&bytes).map_err(|error| Failure::new(error_chain(&error)))
}

/// Data first, then the record that tells of it, and only then what both stand for goes.
fn write(config: &Config, common: CommonFacts, mut group: Group) -> Result<(), Failure> {
    let root = &config.data_root;
    let suffix = format!("{}.0.{}", facts::hostname().replace('/', "_"), facts::random_word()?);
    let name = format!("data.{suffix}");
    group.members.sort();
    group.members.dedup();
    let data = group.data.is_some().then(|| name.clone());
    let raw = RawCompactedProcesses {
        data,
        common,
        members: group.members,
        packages: group.packages,
        folders: group.folders,
        sources: group.sources.as_ref().map(fingerprint::join),
        place: OwnPlace::of(config.own_install()),
    };
    let text = serde_json::to_vec(&raw)
        .map_err(|error| Failure::new(format!("cannot write the record: {error}")))?;
    let record = root.join(LEDGER).join(format!("{MANY}{suffix}.json"));
    if text.len() as u64 > MAX_MANY {
        return Err(Failure::new(format!("{} would be larger than {MAX_MANY} bytes", record.display())));
    }
    if let Some(data) = &group.data {
        let bytes = data_file::to_bytes(data).map_err(|error| Failure::new(error.to_string()))?;
        // Whole before it lies where collects look.
        let aside = root.join(LEDGER).join(format!(".{name}"));
        fs::write_whole(&aside, &bytes, 0o644)?;
        fs_err::rename(&aside, root.join(&name))?;
        fs::sync_folder(root);
    }
    fs::write_whole(&record, &text, 0o644)?;
    remove(root, group.old_data.iter(), group.old_records.iter());
    Ok(())
}

fn remove<'a>(
    root: &Path,
    data: impl Iterator<Item = &'a String>,
    records: impl Iterator<Item = &'a String>,
) {
    // What stays is only told of again, and removed by the next compaction.
    for name in data {
        let _ = std::fs::remove_file(root.join(name));
    }
    for name in records {
        process_map::remove(root, name);
    }
}
