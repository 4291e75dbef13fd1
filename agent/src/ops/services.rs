//! Starts, stops and restarts the service.

use pulpcov_protocol::op::{STARTUP_LABEL, ServiceAction, Services};
use pulpcov_protocol::outcome::{Detail, Outcome, ServicesDetail, UnitState};

use crate::failure::Failure;
use crate::host::facts::HostLock;
use crate::host::{fs, ready, services, systemd};
use crate::receipt;
use crate::receipt::{Config, Receipt};
use crate::recorder::data_dir::LEDGER;
use crate::recorder::users::Users;
use crate::recorder::{flush, phase, proof, supervised, unwritten};

pub(super) fn run(args: &Services) -> Result<Outcome, Failure> {
    let _lock = (!args.check).then(|| HostLock::take(&args.lib_root)).transpose()?;
    let receipt = receipt::load(&args.lib_root)?.filter(|receipt| !receipt.uninstalled);
    if let Some(receipt) = &receipt {
        // Starting them begins generations of the session.
        receipt.check_fleet(args.fleet.as_ref())?;
    }
    let commands = match &receipt {
        Some(receipt) if args.units.is_empty() => {
            let noted = Stopped::of(&receipt.config).lines();
            supervised::commands(&args.commands, &receipt.config.profile, args.action, &noted)
        }
        _ => args.commands.clone(),
    };
    let is_supervised = args.commands.is_empty() && !commands.is_empty();
    let args = &Services { commands, ..args.clone() };
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
    let mut units = if systemd::is_here() { systemd::expand(&patterns)? } else { Vec::new() };
    let stopped = receipt.as_ref().filter(|_| args.units.is_empty()).map(|found| Stopped::of(&found.config));
    if let (Some(stopped), ServiceAction::Start) = (&stopped, args.action) {
        // An instance that is stopped and not enabled is in no list of systemd's any more.
        let known = stopped.read();
        units.extend(known.into_iter().filter(|unit| !units.contains(unit)).collect::<Vec<_>>());
    }
    if units.is_empty() && args.commands.is_empty() {
        let failure = if systemd::is_here() {
            Failure::new("no units to act on").hint("name them in the profile")
        } else {
            services::no_manager()
        };
        return Err(failure);
    }
    if let (Some(receipt), ServiceAction::Stop | ServiceAction::Restart) = (&receipt, args.action) {
        // Units that were named, or all that the service has.
        let concerned = (!args.units.is_empty()).then_some(&units[..]);
        if !args.check {
            Users::note_if_possible(&receipt.config);
        }
        unwritten::check(&receipt.config, concerned, args.check).map_err(|failure| {
            failure.hint("nothing was stopped; mend that and try again: systemctl does it all the same")
        })?;
    }
    if args.check {
        return foretold(args, &units);
    }
    if let (Some(stopped), ServiceAction::Stop, true) = (&stopped, args.action, args.commands.is_empty()) {
        stopped.add(&units)?;
    }
    if let (Some(stopped), Some(receipt), ServiceAction::Stop, true) =
        (&stopped, &receipt, args.action, is_supervised)
    {
        // Who is known by what runs of it is not known afterwards.
        let services = supervised::services(&receipt.config.profile).unwrap_or_default();
        stopped.add(&services.into_iter().map(|one| one.name).collect::<Vec<_>>())?;
    }
    let before = systemd::states(&units)?;
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
        || !args.commands.is_empty()
        || states.iter().map(|unit| &unit.state).ne(before.iter());
    let what = match args.action {
        ServiceAction::Start => "started",
        ServiceAction::Stop => "stopped",
        ServiceAction::Restart => "restarted",
    };
    if let (Some(stopped), true) = (&stopped, args.action != ServiceAction::Stop) {
        stopped.forget();
    }
    let msg = if args.commands.is_empty() {
        format!("{} {what}", super::counted(states.len() as u64, "unit"))
    } else {
        what.to_owned()
    };
    let detail = Detail::Services(ServicesDetail { units: states });
    Ok(Outcome::ok(changed, msg, detail).with_warnings(warnings))
}

/// What would become of the units, of which nothing was done.
fn foretold(args: &Services, units: &[String]) -> Result<Outcome, Failure> {
    let verb = args.action.verb();
    if !args.commands.is_empty() {
        return Ok(Outcome::ok(true, format!("would {verb} the service"), Detail::None));
    }
    let running = systemd::running(units)?;
    let concerned: Vec<&String> = match args.action {
        ServiceAction::Restart => units.iter().collect(),
        ServiceAction::Start => units.iter().filter(|unit| !running.contains(unit)).collect(),
        ServiceAction::Stop => running.iter().collect(),
    };
    let msg = if concerned.is_empty() {
        format!("nothing to {verb}")
    } else {
        let names: Vec<&str> = concerned.iter().map(|unit| unit.as_str()).collect();
        format!("would {verb} {}", names.join(", "))
    };
    Ok(Outcome::ok(!concerned.is_empty(), msg, Detail::None))
}

/// Units, and services of s6, that a stop of ours has stopped, noted for the start.
struct Stopped(std::path::PathBuf);

/// Largest such note.
const MAX_NOTE: u64 = 64 * 1024;

impl Stopped {
    fn of(config: &Config) -> Self {
        Self(config.data_root.join(LEDGER).join("stopped"))
    }

    /// What was noted, by us: root starts what stands there.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_of_agents(&self.0, MAX_NOTE).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    fn read(&self) -> Vec<String> {
        self.lines().into_iter().filter(|unit| systemd::is_known(unit).unwrap_or(false)).collect()
    }

    /// Before anything is stopped, and beside what an earlier stop noted: that is listed nowhere else.
    fn add(&self, units: &[String]) -> Result<(), Failure> {
        let mut all = self.lines();
        all.extend(units.iter().filter(|unit| !all.contains(unit)).cloned().collect::<Vec<_>>());
        fs::write_whole(&self.0, all.join("\n").as_bytes(), 0o644)
    }

    /// What is started is no longer to be started.
    fn forget(&self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Starts the service with what that covers kept apart; the label of before goes on afterwards.
fn start_measured(
    args: &Services,
    units: &[String],
    receipt: &Receipt,
) -> Result<(Vec<UnitState>, Option<String>), Failure> {
    let root = &receipt.config.data_root;
    let label = phase::label(root);
    phase::begin(root, STARTUP_LABEL, None)?;
    // Units of another profile have nothing to prove.
    let of_service = args.units.is_empty();
    let wanted: &[_] = if of_service { &receipt.config.profile.ready } else { &[] };
    let result = services::act(args.action, units, &args.commands, &args.lib_root)
        .and_then(|states| ready::wait(wanted, units).map(|()| states));
    let proven = if result.is_ok() && of_service {
        proof::wait(receipt, units).and_then(|()| proof::settle(receipt)).map(drop)
    } else {
        Ok(())
    };
    phase::begin(root, &label, None)?;
    flush::flush(&receipt.config, proof::FLUSH)?;
    Ok((result?, proven.err().map(|failure| format!("not all is recorded: {}", failure.msg))))
}
