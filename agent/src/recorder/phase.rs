//! Which generation of data this host records, and under which label.

use std::path::Path;

use pulpcov_protocol::op::{DEFAULT_LABEL, STARTUP_LABEL, is_label};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::host::fs;
use crate::recorder::data_dir::LEDGER;
use crate::recorder::ledger;

/// Largest file of a phase: a number and a label.
const MAX_BYTES: u64 = 4096;

const FILE: &str = "session";

/// What every process on the host records into from its start, or from its next flush.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) generation: u64,
    pub(crate) label: String,
    /// The run that this belongs to, where there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) run: String,
    /// False from the end of a run on: processes write what they have, and then are still.
    #[serde(default = "yes")]
    pub(crate) recording: bool,
}

const fn yes() -> bool {
    true
}

/// The present phase; `None` where none was ever begun, or nobody can read it.
pub(crate) fn current(data_root: &Path) -> Option<Phase> {
    let (bytes, owner) = fs::read_owned(&data_root.join(LEDGER).join(FILE), MAX_BYTES).ok()?;
    let is_ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
    serde_json::from_slice(&bytes).ok().filter(|_| is_ours)
}

/// Begins the next generation, in the same run unless another is named. Processes take notice when they are
/// asked to flush.
pub(crate) fn begin(data_root: &Path, label: &str, run: Option<&str>) -> Result<Phase, Failure> {
    check_label(label)?;
    let old = current(data_root);
    let run = run.map_or_else(|| old.map(|old| old.run).unwrap_or_default(), str::to_owned);
    write(data_root, label, run, true)
}

/// Ends the recording, once the processes are asked to flush.
pub(crate) fn finish(data_root: &Path) -> Result<Phase, Failure> {
    let run = current(data_root).map(|old| old.run).unwrap_or_default();
    write(data_root, &label(data_root), run, false)
}

fn write(data_root: &Path, label: &str, run: String, recording: bool) -> Result<Phase, Failure> {
    ledger::check_folder(data_root)?;
    let generation = current(data_root).map_or(0, |phase| phase.generation) + 1;
    let phase = Phase { generation, label: label.to_owned(), run, recording };
    let text = serde_json::to_vec(&phase)
        .map_err(|error| Failure::new(format!("cannot write the phase: {error}")))?;
    fs::write_among_others(&data_root.join(LEDGER).join(FILE), &text, 0o644)?;
    Ok(phase)
}

/// The label that goes on where nobody names another. The start's own only stands where a start was cut
/// off: what follows is not the start.
pub(crate) fn label(data_root: &Path) -> String {
    let present = current(data_root).map(|phase| phase.label).filter(|label| label != STARTUP_LABEL);
    present.unwrap_or_else(|| DEFAULT_LABEL.to_owned())
}

/// Whether a person may name that label: the start's is ours.
pub(crate) fn check_own_label(label: &str) -> Result<(), Failure> {
    if label == STARTUP_LABEL {
        return Err(Failure::new(format!(
            "the label {STARTUP_LABEL} is for what starting the services covers"
        ))
        .hint("use another"));
    }
    check_label(label)
}

pub(crate) fn check_label(label: &str) -> Result<(), Failure> {
    if is_label(label) {
        return Ok(());
    }
    Err(Failure::new(format!("{label:?} is no label"))
        .hint("use at most 64 letters, digits and _ - . : +, beginning with a letter or digit"))
}
