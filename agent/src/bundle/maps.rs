//! Data files of live maps: what processes have written while they ran, as coverage.py has it.
//!
//! A map lies beside its process's record, and stays until the record goes: the data file is made of it anew whenever
//! somebody is about to look at data. It is the process's own, in name and owner.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use pulpcov_data_file::data::CoverageData;
use pulpcov_data_file::data_file;
use pulpcov_data_file::map::{self, Map};
use pulpcov_protocol::bundle::MAX_DATA_BYTES;
use pulpcov_protocol::text::{counted, error_chain};

use crate::bundle::branches;
use crate::failure::Failure;
use crate::host::fs::{self, Attributes};
use crate::receipt::Config;
use crate::recorder::data_dir::{self, LEDGER};
use crate::recorder::ledger::{self, Record};

/// A map of a process that lives may be read in the middle of a store: so often it is read again.
const LOOKS: u32 = 3;

/// What became of the maps.
#[derive(Default)]
pub(crate) struct Written {
    /// Records whose maps are not, or not wholly, in a data file, each with the reason.
    pub(crate) failed: BTreeMap<String, String>,
}

impl Written {
    /// Why the data file of that name is not what its map has.
    pub(crate) fn of_data(&self, name: &str) -> Option<&str> {
        let is_of = |record: &String| ledger::data_of(record).as_deref() == Some(name);
        self.failed.iter().find(|(record, _)| is_of(record)).map(|(_, reason)| reason.as_str())
    }

    /// Has records say so.
    pub(crate) fn note(&self, records: &mut [Record]) {
        for Record { process, .. } in records {
            let Some(reason) = self.failed.get(&process.record) else { continue };
            process.error.get_or_insert_with(|| reason.clone());
            if process.data.is_none() {
                process.data = ledger::data_of(&process.record); // which is not there
            }
        }
    }
}

/// Writes the data file of each map of the service's users that has more than its data file.
pub(crate) fn write_data(lib_root: &str, config: &Config) -> Result<Written, Failure> {
    ledger::check_folder(&config.data_root)?;
    write(lib_root, config, &ledger::read(config)?.records)
}

/// The same of these records.
pub(crate) fn write(lib_root: &str, config: &Config, records: &[Record]) -> Result<Written, Failure> {
    let root = &config.data_root;
    let mut written = Written::default();
    let mut maps = Vec::new();
    for record in records.iter().filter(|record| record.has_map) {
        match read(root, record) {
            Ok(Some((map, attributes))) => maps.push((record, map, attributes)),
            Ok(None) => {}
            Err(reason) => {
                written.failed.insert(record.process.record.clone(), reason);
            }
        }
    }
    let found: Vec<(&Record, &Map)> = maps.iter().map(|(record, map, _)| (*record, map)).collect();
    let arcs = branches::resolve(lib_root, config, &found)?;
    for ((record, map, attributes), arcs) in maps.iter().zip(&arcs) {
        let name = &record.process.record;
        if record.process.foreign && arcs.left > 0 {
            // Where it runs somebody can tell what it ran.
            continue;
        }
        let saved = data_of(map, arcs)
            .and_then(|data| data.map_or(Ok(()), |data| save(root, record, &data, attributes)));
        let trouble = saved.err().or_else(|| trouble_of(map, arcs, record));
        written.failed.extend(trouble.map(|reason| (name.clone(), reason)));
    }
    Ok(written)
}

/// The map of a record, and whose it is; nothing where there is none yet.
fn read(root: &Path, record: &Record) -> Result<Option<(Map, Attributes)>, String> {
    let name = ledger::map_of(&record.process.record).ok_or("its record has no name of one")?;
    let path = root.join(LEDGER).join(&name);
    let mut looks = 0;
    loop {
        looks += 1;
        let mut regular = match fs::open_regular(&path) {
            Ok(Some(regular)) => regular,
            Ok(None) => return Err(format!("its map {name} is no regular file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("its map {name}: {error}")),
        };
        if regular.links > 1 || regular.uid != record.uid {
            return Err(format!("its map {name} is not its own"));
        }
        if regular.size > MAX_DATA_BYTES {
            return Err(format!("its map {name} has {} bytes, the limit is {MAX_DATA_BYTES}", regular.size));
        }
        let mut bytes = Vec::new();
        let read = (&mut regular.file).take(MAX_DATA_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| format!("its map {name}: {error}"))?;
        let map = match map::read(&bytes) {
            Ok(map) => map,
            // It has not begun yet.
            Err(_) if record.is_live() && bytes.iter().all(|&byte| byte == 0) => return Ok(None),
            Err(error) => return Err(format!("its map {name}: {}", error_chain(&error))),
        };
        if map.damage.is_some() && record.is_live() && looks < LOOKS {
            continue;
        }
        let gid = std::os::unix::fs::MetadataExt::gid(
            &regular.file.metadata().map_err(|error| format!("its map {name}: {error}"))?,
        );
        return Ok(Some((map, Attributes { mode: 0o644, uid: regular.uid, gid, label: None })));
    }
}

/// What ran: lines, or where branches were recorded arcs, among them one from each line to itself.
fn data_of(map: &Map, arcs: &branches::Arcs) -> Result<Option<CoverageData>, String> {
    if map.files.is_empty() {
        return Ok(None);
    }
    let data = if map.facts.branch { map.to_arcs(&arcs.by_file) } else { map.to_data() };
    data.map(Some).map_err(|error| format!("its map: {}", error_chain(&error)))
}

/// Writes the data file where it is not there as it should be.
fn save(root: &Path, record: &Record, data: &CoverageData, attributes: &Attributes) -> Result<(), String> {
    let name = ledger::data_of(&record.process.record).ok_or("its record has no name of one")?;
    let path = root.join(&name);
    let bytes = data_file::to_bytes(data).map_err(|error| format!("its map: {}", error_chain(&error)))?;
    let there = Attributes::of(&path).map_err(|failure| failure.msg)?;
    if there.is_some_and(|there| there.uid != attributes.uid) {
        return Ok(()); // The ledger tells of it.
    }
    if data_dir::digest(&path).is_ok_and(|now| now == fs::sha256(&bytes)) {
        return Ok(());
    }
    fs::write_back(&path, &bytes, attributes)
        .map_err(|failure| format!("its map could not be made a data file: {}", failure.msg))?;
    // Another agent may have erased it all meanwhile, record and map: that has it.
    if !root.join(LEDGER).join(&record.process.record).exists() {
        let _ = std::fs::remove_file(&path);
    }
    Ok(())
}

/// What of a process is not in its data.
fn trouble_of(map: &Map, arcs: &branches::Arcs, record: &Record) -> Option<String> {
    if let Some(reason) = map.stopped {
        let error = std::io::Error::from_raw_os_error(reason.cast_signed());
        return Some(format!("its recording ended before it did: {error}"));
    }
    if let Some(damage) = &map.damage
        && !record.is_live()
    {
        return Some(format!("its map is damaged at byte {}: {}", damage.offset, damage.reason));
    }
    (arcs.left > 0).then(|| {
        let left = counted(arcs.left, "branch way");
        format!("{left} are left out: the sources they are of are not those that ran, or not here")
    })
}
