//! Asking processes to write what they have, and waiting until they did.
//!
//! The request is one file that every process looks at twice a second. Agents of several containers may ask at once where
//! these share a data folder: the file has the words of all of them, and a process answers with all that it read.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pulpcov_protocol::outcome::FlushDetail;

use crate::failure::Failure;
use crate::host::namespace::View;
use crate::host::{budget, caller, facts, fs};
use crate::receipt::Config;
use crate::recorder::data_dir::LEDGER;
use crate::recorder::ledger::{self, STRANGERS_RECORDS};
use crate::recorder::record::{self, ONE, Record};
use crate::recorder::users::Users;

/// Words of others that stay in a request. A recorder reads 200 bytes of it: who comes later than that asks again.
const MAX_OTHERS: usize = 9;

/// Largest request.
const MAX_REQUEST: u64 = 4096;

/// Longest wait for those of whom nobody knows whether they live: each that does looks twice a second, and writes.
const PATIENCE_ELSEWHERE: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(50);

/// Every so often a process that is silent is looked for in other records, too: it may have become
/// another user just now.
const LOOK_AROUND: u32 = 10;

pub(crate) fn trigger(data_root: &Path) -> PathBuf {
    data_root.join(LEDGER).join("flush")
}

/// Asks every process that has not said that it ended to flush, and waits for the answers of those that live.
pub(crate) fn flush(config: &Config, timeout: Duration) -> Result<FlushDetail, Failure> {
    let data_root = &config.data_root;
    ledger::check_folder(data_root)?;
    let request = facts::random_word()?;
    ask(data_root, &request)?;
    let begin = Instant::now();
    // Only those that are there now are asked, and only their records are read again.
    let mut waiting: Vec<Record> =
        ledger::read(config)?.records.into_iter().filter(Record::may_answer).collect();
    let mut detail = FlushDetail::default();
    for round in 1u32.. {
        caller::still_listens()?;
        if !words(data_root).contains(&request) {
            // Another agent asked at the same moment, and had not seen this request.
            ask(data_root, &request)?;
        }
        let view = View::of(config.own_install());
        let mut silent = Vec::new();
        for record in waiting {
            let now = present_record(data_root, record, &view, round.is_multiple_of(LOOK_AROUND));
            if now.ack.as_ref().is_some_and(|ack| ack.split_ascii_whitespace().any(|word| word == request)) {
                detail.acked.push(now.pid_here.unwrap_or(now.process.pid));
                detail.bad.extend(now.unreadable_data(data_root));
            } else if now.may_answer() {
                silent.push(now);
            }
        }
        waiting = silent;
        let patience =
            if waiting.iter().any(Record::is_live) { timeout } else { timeout.min(PATIENCE_ELSEWHERE) };
        if waiting.is_empty() || begin.elapsed() >= patience {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let (live, elsewhere): (Vec<Record>, Vec<Record>) = waiting.into_iter().partition(Record::is_live);
    detail.silent = live.iter().filter_map(|record| record.pid_here).collect();
    detail.elsewhere = elsewhere.into_iter().map(|record| record.process.record).collect();
    let reasons = live.iter().filter_map(|record| Some((record.pid_here?, record.process.error.as_ref()?)));
    detail
        .bad
        .extend(reasons.map(|(pid, error)| format!("process {pid} cannot write what it records: {error}")));
    Ok(detail)
}

/// Adds a word to what is asked. A new file renamed over the old one: in a sticky directory even root may not write to a
/// file that somebody else owns (`fs.protected_regular`).
fn ask(data_root: &Path, request: &str) -> Result<(), Failure> {
    let others = words(data_root);
    let others = others.iter().filter(|word| *word != request).take(MAX_OTHERS);
    let text = std::iter::once(request).chain(others.map(String::as_str)).collect::<Vec<_>>().join(" ");
    fs::write_among_others(&trigger(data_root), text.as_bytes(), 0o644)
}

/// What is asked now, the newest first.
fn words(data_root: &Path) -> Vec<String> {
    let bytes = fs::read_of_agents(&trigger(data_root), MAX_REQUEST).unwrap_or_default();
    String::from_utf8_lossy(&bytes).split_ascii_whitespace().map(str::to_owned).collect()
}

/// What a process says of itself now: in the same record, or in the one of its next generation.
fn present_record(data_root: &Path, record: Record, view: &View, look_around: bool) -> Record {
    let now = record::read_one(data_root, &record.process.record, view).unwrap_or(record);
    if !now.is_gone() && !look_around {
        return now;
    }
    let of_this_pid = format!(".{}.", now.process.pid);
    let is_meant = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with(ONE) && name.contains(&of_this_pid) && name.ends_with(".json")
    };
    let names = fs::names_in(&data_root.join(LEDGER), &is_meant).map(|found| found.files);
    let users = Users::known(data_root);
    let is_service = |uid| users.is_service(uid);
    let (names, _) =
        budget::select(names.unwrap_or_default(), &is_service, STRANGERS_RECORDS, STRANGERS_RECORDS);
    names
        .into_iter()
        .filter_map(|candidate| record::read_one(data_root, &candidate.name, view).ok())
        .find(|other| {
            !other.is_gone()
                && other.process.record != now.process.record
                && other.pid_ns == now.pid_ns
                && other.process.pid == now.process.pid
                && other.process.start_ticks == now.process.start_ticks
        })
        .unwrap_or(now)
}
