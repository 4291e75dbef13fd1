//! Begins a new generation of data under a new label.

use std::time::Duration;

use pulpcov_protocol::op::Reset;
use pulpcov_protocol::outcome::{Detail, Outcome, ResetDetail};

use crate::failure::Failure;
use crate::host::facts::HostLock;
use crate::receipt;
use crate::recorder::users::Users;
use crate::recorder::{flush, phase};

pub(super) fn run(args: &Reset) -> Result<Outcome, Failure> {
    let _lock = (!args.check).then(|| HostLock::take(&args.lib_root)).transpose()?;
    let receipt = receipt::required(&args.lib_root)?;
    receipt.check_fleet(args.fleet.as_ref())?;
    let root = &receipt.config.data_root;
    let label = match &args.label {
        Some(label) => phase::check_own_label(label).map(|()| label.clone())?,
        None => phase::label(root),
    };
    if args.check {
        let next = phase::current(root).map_or(1, |now| now.generation + 1);
        return Ok(Outcome::ok(true, format!("would begin generation {next}, label {label}"), Detail::None));
    }
    Users::note_if_possible(&receipt.config);
    let phase = phase::begin(root, &label, None)?;
    let flush = flush::flush(&receipt.config, Duration::from_secs_f64(args.timeout.clamp(0.0, 600.0)))?;
    let mut warnings: Vec<String> = flush
        .silent
        .iter()
        .map(|pid| {
            format!("process {pid} did not answer: until it does, it still counts for the earlier label")
        })
        .collect();
    warnings.extend(flush.bad.iter().cloned());
    warnings.extend(super::flush::silent_elsewhere(&flush));
    let msg = format!(
        "generation {}, label {}: {} counted from zero",
        phase.generation,
        phase.label,
        super::counted(flush.acked.len() as u64, "process")
    );
    let detail = ResetDetail { generation: phase.generation, label: phase.label, flush };
    Ok(Outcome::ok(true, msg, Detail::Reset(detail)).with_warnings(warnings))
}
