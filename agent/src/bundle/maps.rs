//! Data files of maps: what processes have written while they ran, as coverage.py has it.
//!
//! A map lies beside its process's record. The data file is made of it anew whenever somebody is about to look at data, and
//! is the process's own, in name and owner. The map goes once its process is gone and its data file has all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pulpcov_data_file::data_file;
use pulpcov_data_file::map::{self, Map, SourceIdentity};
use pulpcov_protocol::bundle::MAX_DATA_BYTES;
use pulpcov_protocol::text::{counted, error_chain};

use crate::bundle::{branches, source_list};
use crate::failure::Failure;
use crate::host::fs::{self, Attributes};
use crate::host::owners::Trusted;
use crate::receipt::Config;
use crate::recorder::data_dir::{self, LEDGER};
use crate::recorder::fingerprint::{self, Fingerprints};
use crate::recorder::ledger;
use crate::recorder::process_map;
use crate::recorder::record::{self, Record};

/// A map of a process that lives may be read in the middle of a store: so often it is read again.
const LOOKS: u32 = 3;

/// What became of the maps.
#[derive(Default)]
pub(crate) struct Written {
    /// Records whose maps are not, or not wholly, in a data file, each with the reason.
    pub(crate) failed: BTreeMap<String, String>,
    /// Those of them that are in none, or in an older one.
    pub(crate) unsaved: BTreeSet<String>,
    /// What could not be written to the data folder, as on a full disk: data files by their names, and their owners.
    pub(crate) held: Vec<(String, Vec<u8>, u32)>,
    /// What is wrong with maps that no record tells of.
    pub(crate) warnings: Vec<String>,
    /// Fingerprints of what processes ran that had no time to tell of them, by record.
    ran: BTreeMap<String, Fingerprints>,
}

impl Written {
    /// Why the data file of that name is not what its map has.
    pub(crate) fn unsaved_data(&self, name: &str) -> Option<&str> {
        let is_of = |record: &String| record::is_own_data(record, name);
        let failed = self.failed.iter().filter(|(record, _)| self.unsaved.contains(*record));
        failed.into_iter().find(|(record, _)| is_of(record)).map(|(_, reason)| reason.as_str())
    }

    /// Has records say so.
    pub(crate) fn note(&self, records: &mut [Record]) {
        for Record { process, sources, .. } in records {
            if let Some(ran) = self.ran.get(&process.record) {
                sources.get_or_insert_default().extend(ran.iter().cloned());
            }
            let Some(reason) = self.failed.get(&process.record) else { continue };
            process.error.get_or_insert_with(|| reason.clone());
            if process.data.is_none() {
                process.data = process_map::data_of(&process.record); // which is not there
            }
        }
    }
}

/// Writes the data file of each map of the service's users that has more than its data file.
pub(crate) fn write_data(lib_root: &str, config: &Config) -> Result<Written, Failure> {
    ledger::check_folder(&config.data_root)?;
    // A record comes before its map.
    let listed = process_map::listed(&config.data_root)?;
    let mut ledger = ledger::read(config)?;
    let (untold, warnings) = process_map::of_no_record(config, listed, &ledger);
    ledger.records.extend(untold);
    let mut written = write(lib_root, config, &ledger.records);
    let of_untold = |record: &Record| {
        let reason = written.failed.get(&record.process.record).filter(|_| !record.is_told())?;
        Some(format!("of the process of {}: {reason}", record.process.record))
    };
    written.warnings = ledger.records.iter().filter_map(of_untold).chain(warnings).collect();
    Ok(written)
}

/// The same of these records.
pub(crate) fn write(lib_root: &str, config: &Config, records: &[Record]) -> Written {
    let root = &config.data_root;
    let mut written = Written::default();
    let mut maps = Vec::new();
    for record in records.iter().filter(|record| record.has_map) {
        match read(root, record) {
            Ok(Some((map, attributes))) => maps.push((record, map, attributes)),
            Ok(None) => {}
            Err(reason) => {
                written.unsaved.insert(record.process.record.clone());
                written.failed.insert(record.process.record.clone(), reason);
            }
        }
    }
    let found: Vec<(&Record, &Map)> = maps.iter().map(|(record, map, _)| (*record, map)).collect();
    let arcs = branches::resolve(lib_root, config, &found);
    let mut loaded = Loaded::new(config);
    for ((record, map, attributes), arcs) in maps.iter().zip(&arcs) {
        let name = &record.process.record;
        if record.process.foreign && arcs.left > 0 {
            // Where it runs somebody can tell what it ran.
            continue;
        }
        if let Some(sources) = &record.sources {
            written.ran.insert(name.clone(), loaded.more(map, sources));
        }
        let saved = match data_of(map, arcs) {
            Ok(Some(bytes)) => {
                let saved = save(root, record, &bytes, attributes);
                saved.map(Some).map_err(|reason| (reason, Some(bytes)))
            }
            Ok(None) => Ok(None),
            Err(reason) => Err((reason, None)),
        };
        let trouble = match saved {
            Ok(data) => {
                let trouble = trouble_of(map, arcs, record);
                if trouble.is_none() {
                    let ran = written.ran.get(name).cloned().unwrap_or_default();
                    process_map::retire_map(root, record, data.as_deref(), &ran);
                }
                trouble
            }
            Err((reason, bytes)) => {
                written.unsaved.insert(name.clone());
                let data = process_map::data_at(root, name, attributes.uid).zip(bytes);
                written.held.extend(data.map(|(data, bytes)| (data, bytes, attributes.uid)));
                Some(reason)
            }
        };
        written.failed.extend(trouble.map(|reason| (name.clone(), reason)));
    }
    written
}

/// What lies where sources were loaded from: each is looked at once.
struct Loaded {
    trusted: Trusted,
    found: BTreeMap<String, Option<(SourceIdentity, String)>>,
}

impl Loaded {
    fn new(config: &Config) -> Self {
        Self { trusted: source_list::trusted(config), found: BTreeMap::new() }
    }

    /// Fingerprints of the files that a process ran and did not tell of yet, of those that are as they were when it
    /// loaded them.
    fn more(&mut self, map: &Map, told: &Fingerprints) -> Fingerprints {
        let mut more = Fingerprints::new();
        for (path, identity) in map.files.iter().zip(&map.sources).filter(|(path, _)| !path.is_empty()) {
            let trusted = &self.trusted;
            let now = self.found.entry(path.clone()).or_insert_with(|| {
                Some((identity_of(path)?, fingerprint::of(path, trusted)?)).filter(|(before, _)| {
                    // It was not replaced while it was read.
                    identity_of(path).as_ref() == Some(before)
                })
            });
            if let Some((now, mark)) = now
                && now == identity
                && !told.contains(mark)
            {
                more.insert(mark.clone());
            }
        }
        more
    }
}

fn identity_of(path: &str) -> Option<SourceIdentity> {
    let found = std::fs::metadata(path).ok()?;
    let nanoseconds = found.mtime().checked_mul(1_000_000_000)?.checked_add(found.mtime_nsec())?;
    Some(SourceIdentity { size: found.size(), mtime_ns: nanoseconds.cast_unsigned(), inode: found.ino() })
}

/// The map of a record, and whose it is; nothing where there is none yet.
fn read(root: &Path, record: &Record) -> Result<Option<(Map, Attributes)>, String> {
    let name = process_map::map_of(&record.process.record).ok_or("its record has no name of one")?;
    let path = root.join(LEDGER).join(&name);
    let mut looks = 0;
    loop {
        looks += 1;
        let mut regular = match fs::open_regular(&path) {
            Ok(Some(regular)) => regular,
            Ok(None) => return Err(format!("its map {name} is no regular file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Its record comes first: it may have been killed in between, or not be so far.
                let is_to_come = record.size == 0 || record.is_live() && !record.has_live_map;
                return if is_to_come { Ok(None) } else { Err(format!("its map {name} is not here")) };
            }
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
            // It has not begun: what a map begins with is written last.
            Err(_) if record.size == 0 && bytes.iter().take(map::MAGIC.len()).all(|&byte| byte == 0) => {
                return Ok(None);
            }
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
fn data_of(map: &Map, arcs: &branches::Arcs) -> Result<Option<Vec<u8>>, String> {
    let data = if map.facts.branch { map.to_arcs(&arcs.by_file) } else { map.to_data() };
    let data = data.map_err(|error| format!("its map: {}", error_chain(&error)))?;
    if data.files.is_empty() {
        return Ok(None);
    }
    data_file::to_bytes(&data).map(Some).map_err(|error| format!("its map: {}", error_chain(&error)))
}

/// Writes the data file where it is not there as it should be; returns its name.
fn save(root: &Path, record: &Record, bytes: &[u8], attributes: &Attributes) -> Result<String, String> {
    let name = process_map::data_at(root, &record.process.record, attributes.uid)
        .ok_or("somebody has put files in all places of its data")?;
    let path = root.join(&name);
    if data_dir::digest(&path).is_ok_and(|now| now == fs::sha256(bytes)) {
        return Ok(name);
    }
    fs::write_back(&path, bytes, attributes)
        .map_err(|failure| format!("its map could not be made a data file: {}", failure.msg))?;
    // Another agent may have erased it all meanwhile, record and map: that has it.
    if record.is_told() && !root.join(LEDGER).join(&record.process.record).exists() {
        let _ = std::fs::remove_file(&path);
    }
    Ok(name)
}

/// What of a process is not in its data.
fn trouble_of(map: &Map, arcs: &branches::Arcs, record: &Record) -> Option<String> {
    if let Some(reason) = map.stopped {
        let error = std::io::Error::from_raw_os_error(reason.cast_signed());
        return Some(format!("its recording ended before it did: {error}"));
    }
    if let Some(damage) = &map.damage
        && (!record.is_live() || damage.reason == map::TOO_MANY)
    {
        return Some(format!("its map is damaged at byte {}: {}", damage.offset, damage.reason));
    }
    let unnamed = map.files.iter().filter(|path| path.is_empty()).count() as u64;
    if unnamed > 0 {
        return Some(format!("{} left out: their names are no texts", counted(unnamed, "file")));
    }
    (arcs.left > 0).then(|| {
        let why = arcs.why.as_deref().unwrap_or("their sources are not those that ran, or no files here");
        format!("{} of branches left out: {why}", counted(arcs.left, "edge"))
    })
}
