//! Looks, changes nothing.

use pulpcov_protocol::op::Probe;
use pulpcov_protocol::outcome::{Detail, Interpreter, Outcome, ProbeDetail};

use crate::failure::Failure;
use crate::host::systemd::Unit;
use crate::host::{facts, interpreter, systemd};
use crate::receipt;
use crate::receipt::Receipt;
use crate::recorder::{coverage_dir, data_dir};

pub(super) fn run(args: &Probe) -> Result<Outcome, Failure> {
    let receipt = receipt::load(&args.lib_root)?;
    let mut named = args.interpreters.clone();
    named.extend(installed_for(receipt.as_ref()));
    let interpreters = interpreters(&args.lib_root, &args.units, &named)?;
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

/// The interpreters of the units and those named; each site directory once.
pub(super) fn interpreters(
    lib_root: &str,
    units: &[String],
    named: &[String],
) -> Result<Vec<Interpreter>, Failure> {
    let mut paths = named.to_vec();
    if systemd::is_here() {
        paths.extend(systemd::units(units, &SHOW_PYTHON)?.iter().flat_map(unit_pythons));
    }
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
    if found.is_empty() {
        let looked = if units.is_empty() { "no units were named".to_owned() } else { units.join(", ") };
        return Err(Failure::new(format!("no Python of the service was found on this host ({looked})"))
            .hint("name its units in the profile, or set pulpcov_interpreters: [/path/to/python3]"));
    }
    Ok(found)
}
