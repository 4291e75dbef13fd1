//! The map of a process in the ledger's folder: by which name, whose, and until when.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

use pulpcov_data_file::map;
use pulpcov_protocol::bundle::MAX_DATA_BYTES;
use pulpcov_protocol::text::error_chain;

use crate::failure::Failure;
use crate::host::budget::{self, Remarks, Share};
use crate::host::fs;
use crate::host::namespace::View;
use crate::receipt::Config;
use crate::recorder::data_dir::{self, LEDGER};
use crate::recorder::fingerprint::{self, Fingerprints};
use crate::recorder::ledger::{Ledger, STRANGERS_RECORDS};
use crate::recorder::record::{self, MAX_RECORD, ONE, Record};
use crate::recorder::users::Users;

/// Most maps that are looked at.
const ALL_MAPS: Share = Share { files: 200_000, bytes: 64 * MAX_DATA_BYTES };

/// Most names that are tried for a data file.
const MOST_NAMES: u32 = 4096;

/// How the names of maps begin.
const MAP: &str = "map.";

/// The data file of a process with a map, by the name of its record.
pub(crate) fn data_of(record: &str) -> Option<String> {
    let suffix = record.strip_prefix(ONE)?.strip_suffix(".json")?;
    Some(format!("data.{suffix}"))
}

/// The same where others may sit on that name: the first of its names that nobody else has.
pub(crate) fn data_at(data_root: &Path, record: &str, uid: u32) -> Option<String> {
    let first = data_of(record)?;
    let more = (1..MOST_NAMES).map(|number| format!("{first}-{number:x}"));
    let is_anothers = |name: &String| {
        let found = fs::Attributes::of(&data_root.join(name));
        found.ok().flatten().is_some_and(|found| found.uid != uid)
    };
    std::iter::once(first.clone()).chain(more).find(|name| !is_anothers(name))
}

/// The record of a map.
fn record_of(map: &str) -> Option<String> {
    Some(format!("{ONE}{}.json", map.strip_prefix(MAP)?))
}

/// Its map, which lies beside its record.
pub(crate) fn map_of(record: &str) -> Option<String> {
    let suffix = record.strip_prefix(ONE)?.strip_suffix(".json")?;
    Some(format!("{MAP}{suffix}"))
}

/// How many data files wait for a collect, at most: those that there are, and those that will be made of maps.
pub(crate) fn waiting(data_root: &Path) -> Result<u64, Failure> {
    let (mut count, _) = data_dir::measure(data_root)?;
    let names = std::fs::read_dir(data_root.join(LEDGER)).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let data = record_of(&name).and_then(|record| data_of(&record));
        count += u64::from(data.is_some_and(|data| !data_root.join(data).exists()));
    }
    Ok(count)
}

/// Names of the records of all maps that there are, of the service's users, and their owners.
pub(crate) fn listed(data_root: &Path) -> Result<BTreeMap<String, u32>, Failure> {
    let is_meant = |name: &OsStr| name.to_string_lossy().starts_with(MAP);
    let users = Users::known(data_root);
    let is_service = |uid| users.is_service(uid);
    let found = fs::names_in(&data_root.join(LEDGER), &is_meant)?.files;
    let (found, _) = budget::select(found, &is_service, ALL_MAPS, STRANGERS_RECORDS);
    let of_service = found.into_iter().filter(|map| is_service(map.uid));
    Ok(of_service.filter_map(|map| Some((record_of(&map.name)?, map.uid))).collect())
}

/// The maps, of those that were listed before the ledger was read, of which it does not tell: as records of what they
/// tell themselves. Somebody has removed their records, or damaged them.
pub(crate) fn of_no_record(
    config: &Config,
    mut listed: BTreeMap<String, u32>,
    ledger: &Ledger,
) -> (Vec<Record>, Vec<String>) {
    let one = ledger.records.iter().chain(&ledger.stale).map(|record| record.process.record.as_str());
    let many = ledger.compacted().flat_map(|many| &many.members).map(|member| member.record.as_str());
    for told in one.chain(many) {
        listed.remove(told);
    }
    let view = View::of(config.own_install());
    let mut warnings = Remarks::default();
    let mut records = Vec::new();
    for (record, uid) in listed {
        let Some(name) = map_of(&record) else { continue };
        let path = config.data_root.join(LEDGER).join(&name);
        let Some(head) = head_of(&path) else { continue };
        let read = map::read(&head).map_err(|error| Failure::new(error_chain(&error)));
        match read.and_then(|map| record::of_map(&config.data_root, (&record, uid), map.facts, &view)) {
            Ok(found) => records.push(found),
            Err(failure) => warnings.add(failure.msg, name),
        }
    }
    (records, warnings.lines("is a map that cannot be read", "are maps that cannot be read"))
}

/// The beginning of a map, as far as its facts may go; nothing where it has not begun, or is gone.
fn head_of(path: &Path) -> Option<Vec<u8>> {
    let regular = fs::open_regular(path).ok().flatten()?;
    let mut head = Vec::new();
    regular.file.take(map::MAX_HEAD).read_to_end(&mut head).ok()?;
    head.first().is_some_and(|&first| first != 0).then_some(head)
}

/// Removes a record, and the map that only it tells of.
pub(crate) fn remove(data_root: &Path, record: &str) {
    let folder = data_root.join(LEDGER);
    // What stays is only told of again.
    let _ = std::fs::remove_file(folder.join(record));
    if let Some(map) = map_of(record) {
        let _ = std::fs::remove_file(folder.join(map));
    }
}

/// Ends the map of a process that is gone, whose data file has all of it: its record says so, and has the fingerprints that
/// the process had no time for. Where that cannot be written, the map stays, and is read again each time.
pub(crate) fn retire_map(data_root: &Path, record: &Record, data: Option<&str>, ran: &Fingerprints) {
    let process = &record.process;
    if record.pid_here.is_some() || !record.is_gone() || process.foreign {
        return;
    }
    let folder = data_root.join(LEDGER);
    let is_noted = !record.is_told() || note_end(&folder, record, data, ran).is_some();
    if let Some(map) = map_of(&process.record).filter(|_| is_noted) {
        let _ = std::fs::remove_file(folder.join(map));
    }
}

/// Has the record of a process say how it ended, and that it has no map any more.
fn note_end(folder: &Path, record: &Record, data: Option<&str>, ran: &Fingerprints) -> Option<()> {
    let path = folder.join(&record.process.record);
    let attributes = fs::Attributes::of(&path).ok()?.filter(|found| found.uid == record.uid)?;
    let mut raw: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&fs::read_owned(&path, MAX_RECORD).ok()?.0).ok()?;
    let mut sources = record.sources.clone().unwrap_or_default();
    sources.extend(ran.iter().cloned());
    raw.insert("sources".to_owned(), fingerprint::join(&sources).into());
    raw.insert("map".to_owned(), serde_json::Value::Null);
    raw.insert("data".to_owned(), data.into());
    if record.has_live_map && raw.get("ended").is_none_or(serde_json::Value::is_null) {
        raw.insert("ended".to_owned(), "gone".into());
    }
    fs::write_back(&path, &serde_json::to_vec(&raw).ok()?, &attributes).ok()
}
