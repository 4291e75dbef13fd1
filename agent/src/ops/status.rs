//! Who records, who does not, and why.

use pulpcov_protocol::op::Status;
use pulpcov_protocol::outcome::{Detail, Outcome, StatusDetail, Unrecorded};

use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::receipt::Receipt;
use crate::{data_dir, ledger, processes, receipt, session};

pub(super) fn run(args: &Status) -> Result<Outcome, Failure> {
    let Some(receipt) = receipt::load(&args.lib_root)? else {
        let detail = StatusDetail {
            installed: false,
            data_root: String::new(),
            data_files: 0,
            data_bytes: 0,
            processes: Vec::new(),
            unrecorded: Vec::new(),
        };
        return Ok(Outcome::ok(false, "not installed", Detail::Status(detail)));
    };
    let root = &receipt.config.data_root;
    let ledger = ledger::read(root)?;
    let (data_files, data_bytes) = data_dir::measure(root)?;
    let unrecorded = unrecorded(&receipt, &ledger)?;
    let live = ledger.records.iter().filter(|record| record.is_live()).count() as u64;
    let mut msg = format!(
        "{} recorded now, {} not recorded, {}",
        super::counted(live, "process"),
        unrecorded.len(),
        super::counted(data_files, "data file")
    );
    if let Some(session) = session::current(root) {
        msg.push_str(&format!(", label {}", session.label));
    }
    let mut warnings = ledger.warnings.clone();
    warnings.extend(
        receipt.changed_since()?.iter().map(|path| format!("{} was changed by somebody", path.display())),
    );
    warnings.extend(
        receipt.missing().iter().map(|path| format!("{} is gone: nothing new is recorded", path.display())),
    );
    if !receipt.complete {
        warnings.push("an install was cut off here; install again, or uninstall".to_owned());
    }
    let detail = StatusDetail {
        installed: true,
        data_root: root.to_string_lossy().into_owned(),
        data_files,
        data_bytes,
        processes: ledger.processes().cloned().collect(),
        unrecorded,
    };
    Ok(Outcome::ok(false, msg, Detail::Status(detail)).with_warnings(warnings))
}

/// Processes of the service that left no record: those that the profile wants, and other Pythons.
pub(super) fn unrecorded(receipt: &Receipt, ledger: &Ledger) -> Result<Vec<Unrecorded>, Failure> {
    let profile = &receipt.config.profile;
    let mut service = processes::of_service(profile)?;
    service.retain(|running| running.is_python() || profile.role_of(&running.argv, &running.exe).is_some());
    Ok(processes::unrecorded(&service, receipt, ledger)
        .into_iter()
        .map(|(running, why)| Unrecorded {
            pid: running.pid,
            unit: running.unit.clone(),
            argv: running.argv.clone(),
            reason: why.reason,
            restart: why.restart,
        })
        .collect())
}
