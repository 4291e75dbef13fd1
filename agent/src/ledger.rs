//! The ledger: what each recorded process says of itself, judged against what the kernel says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pulpcov_protocol::bundle::is_file_name;
use pulpcov_protocol::manifest::{Process, ProcessState};
use pulpcov_protocol::outcome::FlushDetail;
use serde::Deserialize;

use crate::data_dir::LEDGER;
use crate::failure::Failure;
use crate::{host, host_fs};

/// Largest record: 64 words of a command line, and a little.
const MAX_RECORD: u64 = 256 * 1024;

/// Most records that are read.
const MAX_RECORDS: usize = 200_000;

/// A record as the recorder writes it.
#[derive(Debug, Deserialize)]
struct Raw {
    pid: u32,
    parent: u32,
    start_ticks: u64,
    boot_id: String,
    started_at: f64,
    argv: Vec<String>,
    unit: Option<String>,
    role: String,
    python: String,
    prefix: String,
    coverage: String,
    data: Option<String>,
    last_flush: Option<f64>,
    ack: Option<String>,
    ended: Option<String>,
    error: Option<String>,
    #[serde(default)]
    packages: BTreeMap<String, String>,
}

pub(crate) struct Record {
    pub(crate) process: Process,
    ack: Option<String>,
    /// `sys.prefix` of the process.
    pub(crate) prefix: String,
    /// Where the process had imported the measured packages from.
    pub(crate) packages: BTreeMap<String, String>,
}

impl Record {
    pub(crate) fn is_live(&self) -> bool {
        self.process.state == ProcessState::Live
    }
}

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) records: Vec<Record>,
    pub(crate) warnings: Vec<String>,
}

impl Ledger {
    pub(crate) fn processes(&self) -> Vec<Process> {
        self.records.iter().map(|record| record.process.clone()).collect()
    }
}

/// Reads every record. One that cannot be read is a warning: it must not hide the others.
pub(crate) fn read(data_root: &Path) -> Result<Ledger, Failure> {
    let folder = data_root.join(LEDGER);
    let mut ledger = Ledger::default();
    if !folder.is_dir() {
        return Ok(ledger);
    }
    let mut names: Vec<String> = fs_err::read_dir(&folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("proc.") && name.ends_with(".json") && is_file_name(name))
        .collect();
    names.sort();
    if names.len() > MAX_RECORDS {
        ledger.warnings.push(format!("{} process records, only {MAX_RECORDS} are read", names.len()));
        names.truncate(MAX_RECORDS);
    }
    let boot_id = host::boot_id();
    for name in names {
        match read_one(&folder, &name, &boot_id) {
            Ok(record) => ledger.records.push(record),
            Err(failure) => ledger.warnings.push(format!("process record {name}: {}", failure.msg)),
        }
    }
    Ok(ledger)
}

fn read_one(folder: &Path, name: &str, boot_id: &str) -> Result<Record, Failure> {
    let bytes = host_fs::read_limited(&folder.join(name), MAX_RECORD)?;
    let raw: Raw =
        serde_json::from_slice(&bytes).map_err(|error| Failure::new(format!("is damaged: {error}")))?;
    let alive = raw.boot_id == boot_id && host::start_ticks(raw.pid) == Some(raw.start_ticks);
    let state = match (&raw.ended, alive) {
        (Some(_), _) => ProcessState::Ended,
        (None, true) => ProcessState::Live,
        (None, false) => ProcessState::Died,
    };
    let process = Process {
        record: name.to_owned(),
        record_sha256: host_fs::sha256(&bytes),
        pid: raw.pid,
        parent: raw.parent,
        start_ticks: raw.start_ticks,
        started_at: raw.started_at,
        argv: raw.argv,
        unit: raw.unit,
        role: raw.role,
        python: raw.python,
        coverage: raw.coverage,
        data: raw.data.filter(|data| is_file_name(data)),
        last_flush: raw.last_flush,
        state,
        error: raw.error,
    };
    Ok(Record { process, ack: raw.ack, prefix: raw.prefix, packages: raw.packages })
}

/// Asks every live process to flush, and waits for their answers.
pub(crate) fn flush(data_root: &Path, timeout: Duration) -> Result<FlushDetail, Failure> {
    let folder = data_root.join(LEDGER);
    let me = rustix::process::geteuid().as_raw();
    let is_ours = host_fs::Attributes::of(&folder)?.is_some_and(|found| found.uid == me || found.uid == 0);
    if !is_ours || fs_err::symlink_metadata(&folder)?.is_symlink() {
        return Err(Failure::new(format!("{} is not the folder that install made", folder.display())));
    }
    let request = host::random_word()?;
    // A new file renamed over the old one: in a sticky directory even root may not write to a
    // file that somebody else owns (fs.protected_regular).
    host_fs::write_whole(&trigger(data_root), request.as_bytes(), 0o644)?;
    let deadline = Instant::now() + timeout;
    // Only those that live now are asked, and only their records are read again.
    let mut waiting: Vec<Record> = read(data_root)?.records.into_iter().filter(Record::is_live).collect();
    let mut acked = Vec::new();
    let boot_id = host::boot_id();
    loop {
        let mut silent = Vec::new();
        for record in waiting {
            let now = read_one(&folder, &record.process.record, &boot_id).unwrap_or(record);
            if now.ack.as_deref() == Some(&request) {
                acked.push(now.process.pid);
            } else if now.is_live() {
                silent.push(now);
            }
        }
        waiting = silent;
        if waiting.is_empty() || Instant::now() >= deadline {
            return Ok(FlushDetail {
                acked,
                silent: waiting.iter().map(|record| record.process.pid).collect(),
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn trigger(data_root: &Path) -> PathBuf {
    data_root.join(LEDGER).join("flush")
}
