//! Asks every recorded process to write what it has.

use std::time::Duration;

use pulpcov_protocol::op::Flush;
use pulpcov_protocol::outcome::{Detail, FlushDetail, Outcome};

use crate::failure::Failure;
use crate::host::facts::HostLock;
use crate::receipt;
use crate::recorder::users::Users;
use crate::recorder::{flush, ledger};

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
    let detail = flush::flush(&receipt.config, timeout)?;
    let mut warnings: Vec<String> =
        detail.silent.iter().map(|pid| format!("process {pid} did not answer")).collect();
    warnings.extend(detail.bad.iter().cloned());
    warnings.extend(silent_elsewhere(&detail));
    let msg = format!(
        "{} flushed, {} silent",
        super::counted(detail.acked.len() as u64, "process"),
        detail.silent.len()
    );
    // A flush changes data, not the host's configuration, but it does change something.
    Ok(Outcome::ok(!detail.acked.is_empty(), msg, Detail::Flush(detail)).with_warnings(warnings))
}

/// Those of whom nobody here knows whether they live, as a warning.
pub(super) fn silent_elsewhere(flush: &FlushDetail) -> Option<String> {
    const NAMED: usize = 3;
    let silent = &flush.elsewhere;
    let mut names = silent.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if silent.len() > NAMED {
        names.push_str(", ...");
    }
    (!silent.is_empty()).then(|| {
        format!(
            "{} elsewhere did not answer, so nobody here knows whether what was recorded there is whole: {names}",
            super::counted(silent.len() as u64, "process")
        )
    })
}
