//! Lists what there is, then sends it as one bundle.

use std::io::Write;

use pulpcov_protocol::op::{Bundle, Collect};
use pulpcov_protocol::outcome::{BundleDetail, CollectDetail, Detail, Outcome};

use super::OpContext;
use crate::bundle::{compact, gather};
use crate::failure::Failure;
use crate::host::facts::{CollectLock, HostLock};
use crate::receipt::{self, Receipt};
use crate::recorder::data_dir::LEDGER;
use crate::recorder::process_map;
use crate::recorder::users::Users;

/// Files of one kind that a bundle carries as they are.
const COMPACT_AT_LEAST: u32 = 64;

pub(super) fn list(args: &Collect, session: &mut OpContext<'_>) -> Result<Outcome, Failure> {
    let _lock = (!args.check).then(|| HostLock::take(&args.lib_root)).transpose()?;
    let receipt = receipt::of_data(&args.lib_root)?;
    receipt.check_fleet(args.fleet.as_ref())?;
    if args.check {
        let files = process_map::waiting(&receipt.config.data_root)?;
        let msg = format!("would flush, and fetch {}", super::counted(files, "data file"));
        return Ok(Outcome::ok(files > 0, msg, Detail::None));
    }
    (session.progress)("flushing and listing");
    // On a full disk, what was known before is known.
    let unnoted = Users::note(&receipt.config).err();
    // Open files count against one limit: those of an earlier round are sent and done with.
    let before = session.gathered.take().filter(|_| args.after.is_some()).map(|gathered| gathered.unflushed);
    let trouble = if args.after.is_none() { compact_first(args, &receipt) } else { None };
    let gathered = gather::gather(args, before)?;
    let mut warnings = gathered.warnings.clone();
    warnings.extend(
        unnoted.map(|failure| format!("who the service's users are now could not be noted: {}", failure.msg)),
    );
    warnings.extend(trouble.map(|failure| format!("nothing was compacted: {}", failure.msg)));
    if let Some(flush) = &gathered.flush {
        warnings
            .extend(flush.silent.iter().map(|pid| format!("process {pid} did not answer the flush request")));
        warnings.extend(flush.bad.iter().cloned());
        warnings.extend(super::flush::silent_elsewhere(flush));
    }
    let detail = CollectDetail {
        data_files: gathered.data_files(),
        data_bytes: gathered.data_bytes(),
        remaining: gathered.remaining,
        last: gathered.last.clone(),
        others: gathered.others,
        processes: gathered.process_count(),
        sources: gathered.sources.clone(),
        flush: gathered.flush.clone(),
        bundle: None,
        bundle_sha256: None,
    };
    let msg = format!(
        "{} of {}",
        super::counted(detail.data_files, "data file"),
        super::counted(detail.processes, "process")
    );
    session.gathered = Some(gathered);
    Ok(Outcome::ok(false, msg, Detail::Collect(detail)).with_warnings(warnings))
}

/// On hosts without the timer this is where the many become few. Not in the middle of a collect, this one or somebody
/// else's: a later round goes on behind a name. Returns why nothing was done, where it should have been.
fn compact_first(args: &Collect, receipt: &Receipt) -> Option<Failure> {
    let ledger = receipt.config.data_root.join(LEDGER);
    let _alone = CollectLock::alone(&receipt::path_in(&args.lib_root), &ledger)?;
    compact::run(&args.lib_root, &receipt.config, COMPACT_AT_LEAST).err()
}

pub(super) fn send(
    args: &Bundle,
    session: &mut OpContext<'_>,
    stream: &mut dyn Write,
) -> Result<Outcome, Failure> {
    (session.progress)("analysing and sending");
    let gathered =
        session.gathered.as_mut().ok_or_else(|| Failure::new("a bundle was asked for before a collect"))?;
    let entries = gather::write_bundle(gathered, &args.host, &args.want, args.without_data, stream)?;
    let detail = BundleDetail { entries };
    Ok(Outcome::ok(false, format!("sent {entries} entries"), Detail::Bundle(detail)))
}
