//! The record of a process: what it says of itself, judged against what the kernel says.

use std::collections::BTreeMap;
use std::path::Path;

use pulpcov_data_file::map;
use pulpcov_protocol::bundle::is_file_name;
use pulpcov_protocol::manifest::{CommonFacts, Process, ProcessState};
use serde::Deserialize;

use crate::failure::Failure;
use crate::host::namespace::{Place, Sight, View};
use crate::host::{facts, fs};
use crate::recorder::data_dir::LEDGER;
use crate::recorder::fingerprint::Fingerprints;
use crate::recorder::{data_dir, fingerprint, process_map};

/// Largest record: 64 words of a command line, and a fingerprint for each measured file.
pub(crate) const MAX_RECORD: u64 = 1024 * 1024;

/// Longest name in a record, and most bytes of the texts that are told on, which are cut.
const MAX_NAME: usize = 1024;
const MAX_TEXT: usize = 4096;

/// How the names of the recorders begin that write what runs before it runs.
const LIVE_MAP: &str = "live-map";

/// How the names of process records begin.
pub(crate) const ONE: &str = "proc.";

/// A record as the recorder writes it.
#[derive(Debug, Default, Deserialize)]
struct Raw {
    pid: u32,
    parent: u32,
    start_ticks: u64,
    boot_id: String,
    #[serde(default)]
    pid_ns: String,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    install: String,
    started_at: f64,
    argv: Vec<String>,
    unit: Option<String>,
    role: String,
    python: String,
    prefix: String,
    coverage: String,
    data: Option<String>,
    last_flush: Option<f64>,
    #[serde(default)]
    size: u64,
    ack: Option<String>,
    ended: Option<String>,
    error: Option<String>,
    /// Whether it has no thread that could answer, for it forks in C.
    #[serde(default)]
    still: bool,
    #[serde(default)]
    packages: BTreeMap<String, String>,
    #[serde(default)]
    folders: BTreeMap<String, Vec<String>>,
    /// Fingerprints of the files that ran, as one word; nothing of recorders that made none.
    #[serde(default)]
    sources: Option<String>,
    #[serde(default)]
    generation: u64,
    #[serde(default)]
    label: String,
    #[serde(default)]
    run: String,
    /// The record that this one goes on from: the process had become another user.
    #[serde(default)]
    continues: Option<String>,
    /// By which means lines and branches were recorded; nothing of recorders that had one only.
    #[serde(default)]
    core: String,
    /// The name of its map, where it has one.
    #[serde(default)]
    map: Option<String>,
    /// What only the process itself knows until it goes on elsewhere, and the digest of what it knows now.
    #[serde(default)]
    proof: Option<String>,
    #[serde(default)]
    seal: Option<String>,
}

pub(crate) struct Record {
    pub(crate) process: Process,
    /// Its number here, if it lives here.
    pub(crate) pid_here: Option<u32>,
    /// The namespace of `process.pid`.
    pub(crate) pid_ns: String,
    /// The flush requests that it saw last.
    pub(crate) ack: Option<String>,
    /// Whether it answers none: what it ran its map has, or its children tell of.
    is_still: bool,
    /// Lines or arcs that the process had seen at its last flush.
    pub(crate) size: u64,
    pub(crate) boot_id: String,
    /// `sys.prefix` of the process.
    pub(crate) prefix: String,
    /// Where the process had imported the measured packages from.
    pub(crate) packages: BTreeMap<String, String>,
    /// All folders of the measured packages there.
    pub(crate) folders: BTreeMap<String, Vec<String>>,
    /// Fingerprints of the files that ran; nothing of recorders that made none.
    pub(crate) sources: Option<Fingerprints>,
    /// Owner of the record.
    pub(crate) uid: u32,
    /// Whether it writes a map, of which its data file is made.
    pub(crate) has_map: bool,
    /// Whether that has what it ran before it ran: nothing of it is lost, however it ends.
    pub(crate) has_live_map: bool,
    pub(super) continues: Option<Continued>,
    pub(super) seal: Option<String>,
}

/// The record that another one goes on from, and the digest of what proves it.
pub(super) struct Continued {
    pub(super) record: String,
    pub(super) seal: String,
}

impl Record {
    /// Whether this is a record that there is, and not only what a map tells.
    pub(crate) fn is_told(&self) -> bool {
        !self.process.record_sha256.is_empty()
    }

    pub(crate) fn is_live(&self) -> bool {
        self.process.state == ProcessState::Live
    }

    /// The same of this install's own: others' go on as long as they like.
    pub(crate) fn is_own_and_live(&self) -> bool {
        self.is_live() && !self.process.foreign
    }

    /// Whether it runs where it cannot be seen from here, or ran there.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.process.state == ProcessState::Elsewhere
    }

    /// Whether nothing of it comes any more: what it left can go once it is kept elsewhere.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.process.state, ProcessState::Ended | ProcessState::Died)
    }

    /// Whether a request to flush may be answered.
    pub(crate) fn may_answer(&self) -> bool {
        !self.is_gone() && !self.is_still
    }

    /// What it has in common with others; whether branches were recorded its data file tells.
    pub(crate) fn common(&self, uid: u32) -> CommonFacts {
        let process = &self.process;
        CommonFacts {
            boot_id: self.boot_id.clone(),
            generation: process.generation,
            label: process.label.clone(),
            run: process.run.clone(),
            role: process.role.clone(),
            unit: process.unit.clone(),
            python: process.python.clone(),
            prefix: self.prefix.clone(),
            coverage: process.coverage.clone(),
            core: process.core.clone(),
            branch: false,
            uid,
        }
    }

    /// Why the data file that the process says it has written is not what it should be.
    pub(crate) fn unreadable_data(&self, data_root: &Path) -> Option<String> {
        let data = self.process.data.as_ref()?;
        let reason = data_dir::open_data(&data_root.join(data)).err()?;
        Some(format!("process {} answered, but its data file {data}: {reason}", self.process.pid))
    }
}

pub(crate) fn read_one(data_root: &Path, name: &str, view: &View) -> Result<Record, Failure> {
    let (bytes, uid) = fs::read_owned(&data_root.join(LEDGER).join(name), MAX_RECORD)?;
    let raw: Raw =
        serde_json::from_slice(&bytes).map_err(|error| Failure::new(format!("it is damaged: {error}")))?;
    judge(data_root, (name, &bytes, uid), raw, view)
}

/// The record of a process that has a map and no record any more, as far as its map tells.
pub(crate) fn of_map(
    data_root: &Path,
    (record, uid): (&str, u32),
    facts: map::Facts,
    view: &View,
) -> Result<Record, Failure> {
    let raw = Raw {
        pid: facts.pid,
        start_ticks: facts.start_ticks,
        boot_id: facts.boot_id,
        pid_ns: facts.pid_ns,
        hostname: facts.hostname,
        install: facts.install,
        role: facts.role,
        python: facts.python,
        prefix: facts.prefix,
        data: process_map::data_of(record),
        generation: facts.generation,
        label: facts.label,
        run: facts.run,
        core: facts.core,
        map: process_map::map_of(record),
        ..Raw::default()
    };
    let mut found = judge(data_root, (record, &[], uid), raw, view)?;
    found.process.record_sha256.clear();
    Ok(found)
}

/// What a record says, of this name, bytes and owner, against what the kernel says.
fn judge(
    data_root: &Path,
    (name, bytes, uid): (&str, &[u8], u32),
    mut raw: Raw,
    view: &View,
) -> Result<Record, Failure> {
    check_words(&mut raw)?;
    let place =
        Place { boot_id: &raw.boot_id, pid_ns: &raw.pid_ns, hostname: &raw.hostname, install: &raw.install };
    let sight = view.look(raw.pid, raw.start_ticks, place);
    let foreign = sight == Sight::Elsewhere || view.is_foreign(place);
    let pid_here = if let Sight::Lives(pid) = sight { Some(pid) } else { None };
    if uid != 0 && pid_here.and_then(facts::uids).is_some_and(|uids| !uids.contains(&uid)) {
        return Err(Failure::new(format!("user {uid} wrote it, whose process that is not")));
    }
    let mut data = own_data(name, raw.data.take())?;
    let has_map = raw.map.is_some();
    if has_map && data.is_some() {
        data = process_map::data_at(data_root, name, uid).or(data);
    }
    let has_live_map = has_map && raw.core.starts_with(LIVE_MAP);
    if has_map && data.as_ref().is_some_and(|data| !data_root.join(data).exists()) {
        // There is a data file once it ran anything. Where the map is gone, too, somebody has taken both; but one that
        // has it all in memory, too, writes it again.
        let map = process_map::map_of(name).map(|map| data_root.join(LEDGER).join(map));
        let will_write = !has_live_map && pid_here.is_some();
        data = data.filter(|_| map.is_none_or(|map| !map.exists()) && raw.size > 0 && !will_write);
    }
    if let Some(owner) = squatter(data_root, uid, data.as_ref())? {
        data = None;
        raw.error = Some(format!("user {owner} has put a file in the place of its data"));
    }
    let state = match (&raw.ended, sight) {
        (Some(_), _) => ProcessState::Ended,
        (None, Sight::Lives(_)) => ProcessState::Live,
        (None, Sight::Elsewhere) => ProcessState::Elsewhere,
        // What it ran is in its map, or in its children's, whatever ended it.
        (None, Sight::Gone) if has_live_map || raw.still => ProcessState::Ended,
        (None, Sight::Gone) => ProcessState::Died,
    };
    let process = Process {
        record: name.to_owned(),
        record_sha256: fs::sha256(bytes),
        pid: raw.pid,
        parent: raw.parent,
        hostname: raw.hostname,
        foreign,
        start_ticks: raw.start_ticks,
        started_at: raw.started_at,
        argv: raw.argv,
        unit: raw.unit,
        role: raw.role,
        python: raw.python,
        coverage: raw.coverage,
        core: raw.core,
        data,
        last_flush: raw.last_flush,
        state,
        error: raw.error,
        generation: raw.generation,
        label: raw.label,
        run: raw.run,
    };
    Ok(Record {
        process,
        pid_here,
        pid_ns: raw.pid_ns,
        ack: raw.ack,
        is_still: raw.still,
        size: raw.size,
        boot_id: raw.boot_id,
        prefix: raw.prefix,
        packages: raw.packages,
        folders: raw.folders,
        sources: raw.sources.as_deref().map(fingerprint::split),
        uid,
        has_map,
        has_live_map,
        continues: raw
            .continues
            .zip(raw.proof)
            .map(|(record, proof)| Continued { record, seal: fs::sha256(proof.as_bytes()) }),
        seal: raw.seal,
    })
}

/// What a record says is told on, in bounds.
fn check_words(raw: &mut Raw) -> Result<(), Failure> {
    let names = [&raw.boot_id, &raw.role, &raw.python, &raw.coverage, &raw.label, &raw.run, &raw.core];
    let place = [&raw.pid_ns, &raw.hostname, &raw.install];
    let is_long = names.into_iter().chain(place).chain(&raw.unit).any(|name| name.len() > MAX_NAME);
    if is_long || raw.prefix.len() > MAX_TEXT || !raw.started_at.is_finite() {
        return Err(Failure::new("it has words that are too long"));
    }
    let mut left = MAX_TEXT;
    for word in raw.argv.iter_mut().chain(&mut raw.error) {
        let end = (0..=left.min(word.len())).rev().find(|&end| word.is_char_boundary(end)).unwrap_or(0);
        word.truncate(end);
        left -= end;
    }
    Ok(())
}

/// The data file that a record names: its own by its name, which may go on with a dash and letters.
fn own_data(record: &str, data: Option<String>) -> Result<Option<String>, Failure> {
    match data {
        Some(data) if !is_own_data(record, &data) => {
            Err(Failure::new("it names a data file that is not its own"))
        }
        data => Ok(data),
    }
}

/// Whether a data file is of the process of a record.
pub(crate) fn is_own_data(record: &str, data: &str) -> bool {
    let suffix = record.strip_prefix(ONE).and_then(|rest| rest.strip_suffix(".json"));
    let more = data.strip_prefix("data.").zip(suffix).and_then(|(name, suffix)| name.strip_prefix(suffix));
    let is_own = more.is_some_and(|more| {
        let letters = more.strip_prefix('-').unwrap_or_default();
        more.is_empty() || (!letters.is_empty() && letters.chars().all(|letter| letter.is_ascii_hexdigit()))
    });
    is_own && is_file_name(data)
}

/// Who has put a file in the place of a process's data. One that is gone was collected, or is missing: others can tell
/// which.
fn squatter(data_root: &Path, uid: u32, data: Option<&String>) -> Result<Option<u32>, Failure> {
    let Some(data) = data else { return Ok(None) };
    let found = fs::Attributes::of(&data_root.join(data))?;
    Ok(found.map(|found| found.uid).filter(|&owner| owner != uid))
}
