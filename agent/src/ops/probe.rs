//! Looks, changes nothing.

use pulpcov_protocol::op::Probe;
use pulpcov_protocol::outcome::{Detail, Interpreter, Outcome, ProbeDetail};
use pulpcov_protocol::profile::Profile;

use crate::failure::Failure;
use crate::host::systemd::Unit;
use crate::host::{facts, interpreter, systemd};
use crate::receipt;
use crate::receipt::Receipt;
use crate::recorder::{coverage_dir, data_dir, processes};

pub(super) fn run(args: &Probe) -> Result<Outcome, Failure> {
    let receipt = receipt::load(&args.lib_root)?;
    let mut named = args.interpreters.clone();
    named.extend(installed_for(receipt.as_ref()));
    let sought = Sought {
        units: &args.units,
        profile: args.profile.as_ref(),
        programs: args.programs,
        is_named: !args.interpreters.is_empty(),
    };
    let interpreters = interpreters(&args.lib_root, &sought, &named)?;
    let data_root = match &receipt {
        Some(receipt) => receipt.config.data_root.clone(),
        None => data_dir::resolve(None)?,
    };
    let detail = ProbeDetail {
        hostname: facts::hostname(),
        machine: facts::machine(),
        boot_id: facts::boot_id(),
        data_root: data_root.to_string_lossy().into_owned(),
        installed: receipt.is_some_and(|receipt| !receipt.uninstalled),
        interpreters,
    };
    let msg = format!(
        "{} is {} with {}",
        detail.hostname,
        detail.machine,
        super::counted(detail.interpreters.len() as u64, "interpreter")
    );
    Ok(Outcome::ok(false, msg, Detail::Probe(detail)))
}

/// What was installed for, where it is still there: a service that is stopped just now does not always
/// show its Python.
pub(super) fn installed_for(receipt: Option<&Receipt>) -> Vec<String> {
    let known = receipt.into_iter().flat_map(|receipt| &receipt.config.interpreters);
    known.map(|python| python.path.clone()).filter(|path| std::path::Path::new(path).is_file()).collect()
}

/// Properties of a unit by which its interpreters are found.
pub(super) const SHOW_PYTHON: [&str; 2] = ["ExecStart", "ControlGroup"];

/// The interpreters behind a unit's programs; behind a wrapper that hides them, those that run now. Not those of its
/// processes besides: root runs what is found here, and a service's user may start anything under the name of Python.
pub(super) fn unit_pythons(unit: &Unit) -> Vec<String> {
    let programs = unit.programs();
    let mut pythons: Vec<String> =
        programs.iter().filter_map(|program| interpreter::of_program(program)).collect();
    if pythons.is_empty() {
        pythons.extend(unit.pids().into_iter().filter_map(interpreter::of_process));
        pythons.sort();
        pythons.dedup();
    }
    pythons
}

/// Whose interpreters are looked for.
pub(super) struct Sought<'a> {
    pub(super) units: &'a [String],
    /// Where there are no units, as in a container, the processes that its rules fit.
    pub(super) profile: Option<&'a Profile>,
    /// Where nothing runs, as in a container that is there for this alone, the programs that its rules name.
    pub(super) programs: bool,
    /// Whether somebody has named interpreters: then no process is asked for others, whoever's it is.
    pub(super) is_named: bool,
}

impl<'a> Sought<'a> {
    pub(super) fn of(profile: &'a Profile, named: &[String]) -> Self {
        Self { units: &profile.units, profile: Some(profile), programs: false, is_named: !named.is_empty() }
    }

    fn pythons(&self) -> Result<Vec<String>, Failure> {
        if systemd::is_here() && !self.units.is_empty() {
            return Ok(systemd::units(self.units, &SHOW_PYTHON)?.iter().flat_map(unit_pythons).collect());
        }
        let Some(profile) = self.profile.filter(|_| !self.is_named) else { return Ok(Vec::new()) };
        if self.programs {
            let names = profile.processes.iter().flat_map(|rule| &rule.program);
            let mut pythons: Vec<String> = names.filter_map(|name| interpreter::of_name(name)).collect();
            pythons.sort();
            pythons.dedup();
            return Ok(pythons);
        }
        let mut service = processes::of_service(profile)?;
        // Not what somebody has started beside them, by an exec of the container's engine. Where containers share their
        // processes, the first one is nobody's.
        if service.iter().any(|running| facts::descends_from(running.pid, 1)) {
            service.retain(|running| facts::descends_from(running.pid, 1));
        }
        let mut pythons: Vec<String> =
            service.iter().filter_map(|running| interpreter::of_process(running.pid)).collect();
        pythons.sort();
        pythons.dedup();
        Ok(pythons)
    }

    fn nobody(&self) -> Failure {
        let hint = "name its units in the profile, or set pulpcov_interpreters: [/path/to/python3]";
        if systemd::is_here() {
            let looked =
                if self.units.is_empty() { "no units were named".to_owned() } else { self.units.join(", ") };
            return Failure::new(format!("no Python of the service was found on this host ({looked})"))
                .hint(hint);
        }
        let service =
            self.profile.and_then(|profile| processes::of_service(profile).ok()).unwrap_or_default();
        if let Some(first) = service.first() {
            let count = super::counted(service.len() as u64, "process");
            return Failure::new(format!(
                "{count} of the profile's, of which it cannot be seen what Python they run: {}",
                first.title()
            ))
            .hint("set pulpcov_interpreters: [/path/to/python3]");
        }
        Failure::new(
            "no Python of the service was found: there is no systemd, and no process fits the profile",
        )
        .hint("start the service first, or set pulpcov_interpreters: [/path/to/python3]")
    }
}

/// The interpreters of the service and those named; each site directory once.
pub(super) fn interpreters(
    lib_root: &str,
    sought: &Sought<'_>,
    named: &[String],
) -> Result<Vec<Interpreter>, Failure> {
    let mut paths = named.to_vec();
    paths.extend(sought.pythons()?);
    let mut found: Vec<Interpreter> = Vec::new();
    for path in paths {
        if found.iter().any(|python| python.path == path) {
            continue;
        }
        let mut python = interpreter::inspect(&path)?;
        if found.iter().any(|other| other.purelib == python.purelib && other.cache_tag == python.cache_tag) {
            continue;
        }
        python.coverage_present = coverage_dir::path(lib_root, &python).join("coverage").is_dir();
        found.push(python);
    }
    if found.is_empty() { Err(sought.nobody()) } else { Ok(found) }
}
