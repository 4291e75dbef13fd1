//! Starts, stops and restarts the service.

use pulpcov_protocol::op::{STARTUP_LABEL, ServiceAction, Services};
use pulpcov_protocol::outcome::{Detail, Outcome, ServicesDetail, UnitState};

use crate::failure::Failure;
use crate::host::HostLock;
use crate::receipt::Receipt;
use crate::{ledger, proof, receipt, services, session, systemd};

pub(super) fn run(args: &Services) -> Result<Outcome, Failure> {
    let _lock = HostLock::take(&args.lib_root)?;
    let receipt = receipt::load(&args.lib_root)?;
    let patterns = match &receipt {
        Some(receipt) if args.units.is_empty() => receipt.config.profile.units.clone(),
        None if args.units.is_empty() && args.commands.is_empty() => {
            receipt::required(&args.lib_root)?.config.profile.units
        }
        _ => args.units.clone(),
    };
    for unit in args.units.iter().filter(|unit| !unit.contains(['*', '?', '['])) {
        if systemd::is_here() && !systemd::is_known(unit)? {
            return Err(Failure::new(format!("there is no unit {unit}")));
        }
    }
    let units = if systemd::is_here() { systemd::expand(&patterns)? } else { Vec::new() };
    if units.is_empty() && args.commands.is_empty() {
        return Err(Failure::new("no units to act on").hint("name them in the profile"));
    }
    let before = units.iter().map(|unit| systemd::state(unit)).collect::<Result<Vec<_>, _>>()?;
    let mut warnings = Vec::new();
    let states = match receipt {
        Some(receipt) if args.action != ServiceAction::Stop => {
            let (states, trouble) = start_measured(args, &units, &receipt)?;
            warnings.extend(trouble);
            states
        }
        _ => services::act(args.action, &units, &args.commands, &args.lib_root)?,
    };
    let changed = args.action == ServiceAction::Restart
        || units.is_empty()
        || states.iter().map(|unit| &unit.state).ne(before.iter());
    let what = match args.action {
        ServiceAction::Start => "started",
        ServiceAction::Stop => "stopped",
        ServiceAction::Restart => "restarted",
    };
    let msg = if units.is_empty() {
        what.to_owned()
    } else {
        format!("{} {what}", super::counted(states.len() as u64, "unit"))
    };
    let detail = Detail::Services(ServicesDetail { units: states });
    Ok(Outcome::ok(changed, msg, detail).with_warnings(warnings))
}

/// Starts the service with what that covers kept apart; the label of before goes on afterwards.
fn start_measured(
    args: &Services,
    units: &[String],
    receipt: &Receipt,
) -> Result<(Vec<UnitState>, Option<String>), Failure> {
    let root = &receipt.config.data_root;
    let label = session::label(root);
    session::begin(root, STARTUP_LABEL)?;
    let result = services::act(args.action, units, &args.commands, &args.lib_root);
    // Units of another profile have nothing to prove.
    let proven = if result.is_ok() && args.units.is_empty() {
        proof::wait(receipt, units).and_then(|_| proof::settle(receipt))
    } else {
        Ok(())
    };
    session::begin(root, &label)?;
    ledger::flush(root, proof::FLUSH)?;
    Ok((result?, proven.err().map(|failure| format!("not all is recorded: {}", failure.msg))))
}
