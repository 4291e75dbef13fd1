//! Who records, who does not, and why.

use std::collections::BTreeSet;

use pulpcov_protocol::op::Status;
use pulpcov_protocol::outcome::{Detail, Outcome, StatusDetail, Unrecorded};

use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::receipt::Receipt;
use crate::{data_dir, host, ledger, receipt, systemd};

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
    let msg = format!(
        "{} recorded now, {} not recorded, {}",
        super::counted(live, "process"),
        unrecorded.len(),
        super::counted(data_files, "data file")
    );
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
        processes: ledger.processes(),
        unrecorded,
    };
    Ok(Outcome::ok(false, msg, Detail::Status(detail)).with_warnings(warnings))
}

/// Python processes of the profile's units that left no record.
pub(super) fn unrecorded(receipt: &Receipt, ledger: &Ledger) -> Result<Vec<Unrecorded>, Failure> {
    if !systemd::is_here() {
        return Ok(Vec::new());
    }
    let recorded: BTreeSet<(u32, u64)> = ledger
        .records
        .iter()
        .filter(|record| record.process.error.is_none())
        .map(|record| (record.process.pid, record.process.start_ticks))
        .collect();
    let mut missing = Vec::new();
    for unit in systemd::expand(&receipt.config.profile.units)? {
        for pid in systemd::pids(&unit) {
            let Some(ticks) = host::start_ticks(pid) else { continue };
            if recorded.contains(&(pid, ticks)) || !is_python(pid) {
                continue;
            }
            let restart = started_at(ticks) < receipt.installed_at;
            let own_words = ledger
                .records
                .iter()
                .filter(|record| record.process.pid == pid)
                .find_map(|record| record.process.error.as_deref());
            let reason = match own_words {
                _ if restart => "it started before the hook was installed; restart its unit",
                Some(error) => error,
                None => "no process rule of the profile fits it",
            };
            missing.push(Unrecorded {
                pid,
                unit: unit.clone(),
                argv: argv(pid),
                reason: reason.to_owned(),
                restart,
            });
        }
    }
    Ok(missing)
}

fn is_python(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe"))
        .is_ok_and(|exe| exe.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python")))
}

fn argv(pid: u32) -> Vec<String> {
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    raw.split(|&byte| byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Seconds since the epoch of a start time in ticks. Linux reports 100 ticks a second to programs.
fn started_at(ticks: u64) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot: f64 =
        stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0.0);
    #[expect(clippy::cast_precision_loss, reason = "hundredths of a second since boot")]
    let since_boot = ticks as f64 / TICKS_PER_SECOND;
    boot + since_boot
}
