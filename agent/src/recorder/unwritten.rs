//! What processes hold and cannot write: whoever ends them loses it.

use pulpcov_protocol::text::counted;

use crate::failure::Failure;
use crate::host::caller;
use crate::receipt::Config;
use crate::recorder::record::Record;
use crate::recorder::{data_dir, flush, ledger, proof};

/// Has the recorded processes of these units, or all, write what they hold, and fails where they cannot. A check only
/// looks at what they last said.
pub(crate) fn check(config: &Config, units: Option<&[String]>, is_check: bool) -> Result<(), Failure> {
    if live(config, units)?.is_empty() {
        return Ok(());
    }
    let mut why = data_dir::obstacle(&config.data_root);
    if why.is_none() && !is_check {
        let flushed = flush::flush(config, proof::FLUSH);
        caller::still_listens()?;
        why = flushed.err().map(|failure| failure.msg);
    }
    // What each says of itself counts, whatever the disk looks like.
    let mut stuck = live(config, units)?;
    let obstacle = |record: &Record| {
        let error = record.process.error.clone();
        error.or_else(|| data_dir::obstacle_of(&config.data_root, record.pid_here?))
    };
    stuck.retain(|record| why.is_some() || obstacle(record).is_some());
    let Some(first) = stuck.first() else { return Ok(()) };
    let why = why.or_else(|| obstacle(first)).unwrap_or_default();
    Err(Failure::new(format!(
        "{why}: {} could not write what {} ran, which an end would lose",
        counted(stuck.len() as u64, "process"),
        if stuck.len() == 1 { "it" } else { "they" }
    )))
}

fn live(config: &Config, units: Option<&[String]>) -> Result<Vec<Record>, Failure> {
    let is_of = |record: &Record| match (units, &record.process.unit) {
        (None, _) => true,
        (Some(units), Some(unit)) => units.contains(unit),
        (Some(_), None) => false,
    };
    let mut records = ledger::read(config)?.records;
    // What a live map has is written, and what one that is full has not is not in memory either.
    records.retain(|record| record.is_own_and_live() && !record.has_live_map && is_of(record));
    Ok(records)
}
