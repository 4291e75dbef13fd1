//! Who records, who does not, and why.

use std::path::Path;

use pulpcov_protocol::manifest::{Process, ProcessState};
use pulpcov_protocol::op::Status;
use pulpcov_protocol::outcome::{Detail, Outcome, StatusDetail, Unrecorded};

use crate::bundle::maps;
use crate::failure::Failure;
use crate::host::quadlet;
use crate::receipt;
use crate::receipt::Receipt;
use crate::recorder::ledger::Ledger;
use crate::recorder::record::Record;
use crate::recorder::{data_dir, ledger, phase, processes};

pub(super) fn run(args: &Status) -> Result<Outcome, Failure> {
    let receipt = match receipt::load(&args.lib_root)? {
        Some(receipt) if !receipt.uninstalled => receipt,
        left => return not_installed(left.as_ref()),
    };
    let root = &receipt.config.data_root;
    let written = root.is_dir().then(|| maps::write_data(&args.lib_root, &receipt.config));
    let mut ledger = ledger::read_now(&receipt.config)?;
    let unwritten = written.map_or_else(Vec::new, |written| match written {
        Ok(written) => {
            written.note(&mut ledger.records);
            written.warnings
        }
        Err(failure) => vec![failure.msg],
    });
    let (data_files, data_bytes) = data_dir::measure(root)?;
    let mut unrecorded = unrecorded(&receipt, &ledger)?;
    let obstacle = data_dir::obstacle(root);
    let processes: Vec<(Option<u32>, Process)> = ledger
        .records
        .iter()
        .map(|record| (record.pid_here, with_obstacle(record, root, obstacle.as_deref())))
        .collect();
    let (stuck, live): (Vec<_>, Vec<_>) = processes
        .iter()
        .filter(|(_, process)| process.state == ProcessState::Live)
        .partition(|(_, process)| process.error.is_some());
    let elsewhere = ledger.records.iter().filter(|record| record.is_elsewhere()).count() as u64;
    // Whoever has a record is counted there, with what is wrong.
    unrecorded.retain(|one| stuck.iter().all(|(pid, _)| *pid != Some(one.pid)));
    let stuck_words = if stuck.is_empty() { String::new() } else { format!("{} that cannot, ", stuck.len()) };
    let mut msg = format!(
        "{} recorded now, {stuck_words}{} not recorded, {}",
        super::counted(live.len() as u64, "process"),
        unrecorded.len(),
        super::counted(data_files, "data file")
    );
    if elsewhere > 0 {
        msg.push_str(&format!(", {} elsewhere", super::counted(elsewhere, "process")));
    }
    if let Some(phase) = phase::current(root) {
        msg.push_str(&format!(", label {}", phase.label));
    }
    let mut warnings = ledger.warnings.clone();
    // Whoever only looks may not be able to write: what there was before is told.
    warnings.extend(unwritten);
    let trouble = obstacle.map(|why| format!("{why}: what runs now is not written"));
    warnings.extend(trouble.or_else(|| data_dir::wrong_mode(root)));
    warnings.extend(
        receipt.changed_since()?.iter().map(|path| format!("{} was changed by somebody", path.display())),
    );
    warnings.extend(
        receipt.missing().iter().map(|path| format!("{} is gone: nothing new is recorded", path.display())),
    );
    if !root.is_dir() {
        warnings.push(data_dir::missing(root));
    }
    let image = receipt.config.image();
    warnings.extend(image.and_then(|image| quadlet::replaced_image(&receipt.config.profile.units, image)));
    if !receipt.complete {
        warnings.push("an install was cut off here; install again, or uninstall".to_owned());
    }
    let detail = StatusDetail {
        installed: true,
        data_root: root.to_string_lossy().into_owned(),
        data_files,
        data_bytes,
        processes: processes.into_iter().map(|(_, process)| process).collect(),
        unrecorded,
    };
    Ok(Outcome::ok(false, msg, Detail::Status(detail)).with_warnings(warnings))
}

/// A process, under the number that it has here, with the reason why it cannot write: whoever cannot does not always say
/// so.
fn with_obstacle(record: &Record, root: &Path, of_all: Option<&str>) -> Process {
    let mut process = record.process.clone();
    process.pid = record.pid_here.unwrap_or(process.pid);
    if let Some(pid) = record.pid_here.filter(|_| record.is_live() && process.error.is_none()) {
        process.error = of_all.map(str::to_owned).or_else(|| data_dir::obstacle_of(root, pid));
    }
    process
}

/// What is there where nothing is installed: an uninstall may have left data.
fn not_installed(left: Option<&Receipt>) -> Result<Outcome, Failure> {
    let root = left.map(|receipt| &receipt.config.data_root);
    let (data_files, data_bytes) = root.map_or(Ok((0, 0)), |root| data_dir::measure(root))?;
    let mut msg = "not installed".to_owned();
    if let Some(root) = root {
        msg.push_str(&format!(
            "; {} in {} still to be collected",
            super::counted(data_files, "data file"),
            root.display()
        ));
    }
    let detail = StatusDetail {
        installed: false,
        data_root: root.map(|root| root.to_string_lossy().into_owned()).unwrap_or_default(),
        data_files,
        data_bytes,
        processes: Vec::new(),
        unrecorded: Vec::new(),
    };
    Ok(Outcome::ok(false, msg, Detail::Status(detail)))
}

/// Processes of the service that left no record: those that the profile wants, and other Pythons.
pub(super) fn unrecorded(receipt: &Receipt, ledger: &Ledger) -> Result<Vec<Unrecorded>, Failure> {
    let profile = &receipt.config.profile;
    let mut service = processes::of_service(profile)?;
    service.retain(|running| running.is_python() || running.role(profile).is_some());
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
