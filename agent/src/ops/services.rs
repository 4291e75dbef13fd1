//! Starts, stops and restarts the units of the service.

use pulpcov_protocol::op::{ServiceAction, Services};
use pulpcov_protocol::outcome::{Detail, Outcome, ServicesDetail};

use crate::failure::Failure;
use crate::host::HostLock;
use crate::{receipt, systemd};

pub(super) fn run(args: &Services) -> Result<Outcome, Failure> {
    let _lock = HostLock::take(&args.lib_root)?;
    let patterns = if args.units.is_empty() {
        receipt::required(&args.lib_root)?.config.profile.units
    } else {
        args.units.clone()
    };
    let units = systemd::expand(&patterns)?;
    if units.is_empty() {
        return Err(Failure::new("no units to act on").hint("name them in the profile"));
    }
    let before = units.iter().map(|unit| systemd::state(unit)).collect::<Result<Vec<_>, _>>()?;
    let states = systemd::act(args.action, &units)?;
    let changed =
        args.action == ServiceAction::Restart || states.iter().map(|unit| &unit.state).ne(before.iter());
    let msg = format!(
        "{} {}",
        super::counted(states.len() as u64, "unit"),
        match args.action {
            ServiceAction::Start => "started",
            ServiceAction::Stop => "stopped",
            ServiceAction::Restart => "restarted",
        }
    );
    Ok(Outcome::ok(changed, msg, Detail::Services(ServicesDetail { units: states })))
}
