//! Looks, changes nothing.

use std::collections::BTreeSet;

use pulpcov_protocol::op::Probe;
use pulpcov_protocol::outcome::{Detail, Interpreter, Outcome, ProbeDetail};
use pulpcov_protocol::profile::Profile;

use crate::failure::Failure;
use crate::host::contained::{self, Contained};
use crate::host::quadlet::Containers;
use crate::host::systemd::Unit;
use crate::host::{facts, interpreter, quadlet, systemd};
use crate::receipt;
use crate::receipt::Receipt;
use crate::recorder::{coverage_dir, data_dir, processes};

pub(super) fn run(args: &Probe) -> Result<Outcome, Failure> {
    let receipt = receipt::load(&args.lib_root)?;
    let mut named = args.interpreters.clone();
    let containers = quadlet::containers(&args.units)?;
    named.extend(installed_for(receipt.as_ref(), containers.as_ref()));
    let sought = Sought {
        containers,
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
/// show its Python. In an image it is sought anew, for that may be another one by now.
pub(super) fn installed_for(receipt: Option<&Receipt>, containers: Option<&Containers>) -> Vec<String> {
    let known = receipt.into_iter().flat_map(|receipt| &receipt.config.interpreters);
    let known = known.filter(|python| python.image.is_none() && containers.is_none());
    known.map(|python| python.path.clone()).filter(|path| std::path::Path::new(path).is_file()).collect()
}

/// Properties of a unit by which its interpreters are found.
pub(super) const SHOW_PYTHON: [&str; 4] = quadlet::PROPERTIES;

/// The interpreters behind a unit's programs; behind a wrapper that hides them, those that run now. Not those of its
/// processes besides: root runs what is found here, and a service's user may start anything under the name of Python.
pub(super) fn unit_pythons(unit: &Unit) -> Vec<String> {
    let programs = unit.programs();
    let mut pythons: Vec<String> =
        programs.iter().filter_map(|program| interpreter::of_program(program)).collect();
    if pythons.is_empty() {
        // What runs in a container is none of the host's, whatever its path.
        let pids = unit.pids().into_iter().filter(|&pid| !facts::is_contained(pid));
        pythons.extend(pids.filter_map(interpreter::of_process));
        pythons.sort();
        pythons.dedup();
    }
    pythons
}

/// Most names of Pythons in an image that are looked at.
const MAX_NAMES: usize = 16;

/// Whose interpreters are looked for.
pub(super) struct Sought<'a> {
    /// Where its units are containers, those: its Pythons are in their image.
    pub(super) containers: Option<Containers>,
    pub(super) units: &'a [String],
    /// Where there are no units, as in a container, the processes that its rules fit.
    pub(super) profile: Option<&'a Profile>,
    /// Where nothing runs, as in a container that is there for this alone, the programs that its rules name.
    pub(super) programs: bool,
    /// Whether somebody has named interpreters: then no process is asked for others, whoever's it is.
    pub(super) is_named: bool,
}

impl<'a> Sought<'a> {
    pub(super) fn of(profile: &'a Profile, named: &[String]) -> Result<Self, Failure> {
        let containers = quadlet::containers(&profile.units)?;
        let is_named = !named.is_empty();
        Ok(Self { containers, units: &profile.units, profile: Some(profile), programs: false, is_named })
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

    /// Those of an image: what runs in the containers, or else what the profile's programs are run by.
    fn contained(&self, containers: &Containers, named: &[String]) -> Result<Vec<Interpreter>, Failure> {
        let units = systemd::units(self.units, &SHOW_PYTHON)?;
        let mut others = units.iter().filter(|unit| !quadlet::is_container(unit));
        if let Some(other) = others.find(|unit| !unit_pythons(unit).is_empty()) {
            return Err(Failure::new(format!(
                "{} runs a Python of the host, and {} runs in a container: one install is for one of both",
                other.name,
                containers.units.first().map_or("another unit", |(name, _)| name)
            ))
            .hint(quadlet::ONE_EACH));
        }
        let inspect = |path: &str| interpreter::inspect(path, Some(&containers.image));
        let mut found = named.iter().map(|path| inspect(path)).collect::<Result<Vec<_>, _>>()?;
        if self.is_named {
            return Ok(found);
        }
        let running = units.iter().filter(|unit| quadlet::is_container(unit)).flat_map(processes::of_unit);
        let told: Vec<Contained> = running.map(|running| contained::of_process(running.pid)).collect();
        let names: BTreeSet<&String> = told.iter().filter_map(|one| one.named.as_ref()).collect();
        // Anybody may have started what runs, under any number of names.
        found.extend(names.iter().take(MAX_NAMES).filter_map(|path| inspect(path).ok()));
        if !found.is_empty() {
            return Ok(found);
        }
        // Where no name is a path, or what runs is of an older image, the programs say which Python it is, and where they
        // do not the file behind a process.
        let paths = self.of_programs(containers).or_else(|failure| {
            let exes: BTreeSet<String> = told.iter().filter_map(|one| one.exe.clone()).collect();
            if exes.is_empty() { Err(failure) } else { Ok(exes.into_iter().collect()) }
        });
        let inspected =
            paths.and_then(|paths| paths.iter().take(MAX_NAMES).map(|path| inspect(path)).collect());
        inspected.map_err(|failure: Failure| {
            failure.hint("start the service first, or set pulpcov_interpreters: [/path/in/the/image]")
        })
    }

    /// The Pythons that the profile's programs name in an image, or its own where they name none.
    fn of_programs(&self, containers: &Containers) -> Result<Vec<String>, Failure> {
        let rules = self.profile.into_iter().flat_map(|profile| &profile.processes);
        let programs: Vec<&str> = rules.flat_map(|rule| rule.program.iter()).map(String::as_str).collect();
        contained::of_image(&containers.image, &programs)
    }

    /// A unit with processes in a container.
    fn hidden_unit(&self) -> Option<String> {
        let units = systemd::is_here().then(|| systemd::units(self.units, &["ControlGroup"]))?.ok()?;
        let mut contained = units.into_iter().filter(|unit| unit.pids().into_iter().any(facts::is_contained));
        contained.next().map(|unit| unit.name)
    }

    fn nobody(&self) -> Failure {
        let hint = "name its units in the profile, or set pulpcov_interpreters: [/path/to/python3]";
        if let Some(unit) = self.hidden_unit().filter(|_| self.containers.is_none()) {
            return Failure::new(format!("{unit} runs in a container that no .container file makes"))
                .hint("reach the container itself: pulpcov_containers in the inventory, or pulpcov bake");
        }
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
    let mut inspected = Vec::new();
    if let Some(containers) = &sought.containers {
        inspected = sought.contained(containers, named)?;
    } else {
        let mut paths = named.to_vec();
        paths.extend(sought.pythons()?);
        let mut seen = BTreeSet::new();
        for path in paths.iter().filter(|path| seen.insert(*path)) {
            inspected.push(interpreter::inspect(path, None)?);
        }
    }
    let mut found: Vec<Interpreter> = Vec::new();
    for mut python in inspected {
        if found.iter().any(|other| other.purelib == python.purelib && other.cache_tag == python.cache_tag) {
            continue;
        }
        python.coverage_present = coverage_dir::path(lib_root, &python).join("coverage").is_dir();
        found.push(python);
    }
    if found.is_empty() { Err(sought.nobody()) } else { Ok(found) }
}
