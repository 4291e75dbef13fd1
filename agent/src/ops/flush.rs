//! Asks every recorded process to write what it has.

use std::time::Duration;

use pulpcov_protocol::op::Flush;
use pulpcov_protocol::outcome::{Detail, Outcome};

use crate::failure::Failure;
use crate::host::facts::HostLock;
use crate::receipt;
use crate::recorder::ledger;
use crate::recorder::users::Users;

pub(super) fn run(args: &Flush) -> Result<Outcome, Failure> {
    let receipt = receipt::required(&args.lib_root)?;
    if args.check {
        let live = ledger::read_now(&receipt.config)?.records.iter().filter(|one| one.is_live()).count();
        let msg = format!("would flush {}", super::counted(live as u64, "process"));
        return Ok(Outcome::ok(live > 0, msg, Detail::None));
    }
    let _lock = HostLock::take(&args.lib_root)?;
    let timeout = Duration::from_secs_f64(args.timeout.clamp(0.0, 600.0));
    Users::note_if_possible(&receipt.config);
    let detail = ledger::flush(&receipt.config.data_root, timeout)?;
    let mut warnings: Vec<String> =
        detail.silent.iter().map(|pid| format!("process {pid} did not answer")).collect();
    warnings.extend(detail.bad.iter().cloned());
    let msg = format!(
        "{} flushed, {} silent",
        super::counted(detail.acked.len() as u64, "process"),
        detail.silent.len()
    );
    // A flush changes data, not the host's configuration, but it does change something.
    Ok(Outcome::ok(!detail.acked.is_empty(), msg, Detail::Flush(detail)).with_warnings(warnings))
}
