//! The live map of a process in the ledger's folder: by which name, and until when.

use std::path::Path;

use crate::host::fs;
use crate::recorder::data_dir::LEDGER;
use crate::recorder::fingerprint::{self, Fingerprints};
use crate::recorder::ledger::{MAX_RECORD, ONE, Record};

/// The data file of a process with a map, by the name of its record.
pub(crate) fn data_of(record: &str) -> Option<String> {
    let suffix = record.strip_prefix(ONE)?.strip_suffix(".json")?;
    Some(format!("data.{suffix}"))
}

/// Its map, which lies beside its record.
pub(crate) fn map_of(record: &str) -> Option<String> {
    let suffix = record.strip_prefix(ONE)?.strip_suffix(".json")?;
    Some(format!("map.{suffix}"))
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
pub(crate) fn retire_map(data_root: &Path, record: &Record, has_data: bool, ran: &Fingerprints) {
    let process = &record.process;
    if record.pid_here.is_some() || !record.is_gone() || process.foreign {
        return;
    }
    let path = data_root.join(LEDGER).join(&process.record);
    let retired = (|| {
        let attributes = fs::Attributes::of(&path).ok()?.filter(|found| found.uid == record.uid)?;
        let mut raw: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&fs::read_owned(&path, MAX_RECORD).ok()?.0).ok()?;
        let mut sources = record.sources.clone().unwrap_or_default();
        sources.extend(ran.iter().cloned());
        raw.insert("sources".to_owned(), fingerprint::join(&sources).into());
        raw.insert("map".to_owned(), serde_json::Value::Null);
        if !has_data {
            raw.insert("data".to_owned(), serde_json::Value::Null);
        }
        if raw.get("ended").is_none_or(serde_json::Value::is_null) {
            raw.insert("ended".to_owned(), "gone".into());
        }
        fs::write_back(&path, &serde_json::to_vec(&raw).ok()?, &attributes).ok()
    })();
    if let (Some(()), Some(map)) = (retired, map_of(&process.record)) {
        let _ = std::fs::remove_file(data_root.join(LEDGER).join(map));
    }
}
