//! Makes few data files of the many of processes that are gone.

use pulpcov_protocol::op::Compact;
use pulpcov_protocol::outcome::{CompactDetail, Detail, Outcome};

use crate::bundle::compact;
use crate::failure::Failure;
use crate::host::facts::{CollectLock, HostLock};
use crate::receipt;
use crate::recorder::data_dir::LEDGER;
use crate::recorder::users::Users;

pub(super) fn run(args: &Compact) -> Result<Outcome, Failure> {
    let _lock = HostLock::take(&args.lib_root)?;
    let receipt = receipt::of_data(&args.lib_root)?;
    let Some(_alone) =
        CollectLock::alone(&receipt::path_in(&args.lib_root), &receipt.config.data_root.join(LEDGER))
    else {
        let nothing = Detail::Compact(CompactDetail { merged: 0, into: 0 });
        return Ok(Outcome::ok(false, "somebody collects; nothing was compacted", nothing));
    };
    Users::note(&receipt.config)?;
    let (merged, into) = compact::run(&args.lib_root, &receipt.config, args.at_least)?;
    let msg = format!("{} made {into}", super::counted(merged, "data file"));
    Ok(Outcome::ok(merged > 0, msg, Detail::Compact(CompactDetail { merged, into })))
}
