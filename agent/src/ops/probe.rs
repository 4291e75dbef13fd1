//! Looks, changes nothing.

use pulpcov_protocol::op::Probe;
use pulpcov_protocol::outcome::{Detail, Interpreter, Outcome, ProbeDetail};

use crate::failure::Failure;
use crate::{coverage_dir, data_dir, host, interpreter, receipt, systemd};

pub(super) fn run(args: &Probe) -> Result<Outcome, Failure> {
    let receipt = receipt::load(&args.lib_root)?;
    let interpreters = interpreters(&args.lib_root, &args.units, &args.interpreters)?;
    let data_root = match &receipt {
        Some(receipt) => receipt.config.data_root.clone(),
        None => data_dir::resolve(None)?,
    };
    let detail = ProbeDetail {
        hostname: host::hostname(),
        machine: host::machine(),
        boot_id: host::boot_id(),
        data_root: data_root.to_string_lossy().into_owned(),
        installed: receipt.is_some(),
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

/// The interpreters of the units and those named; each site directory once.
pub(super) fn interpreters(
    lib_root: &str,
    units: &[String],
    named: &[String],
) -> Result<Vec<Interpreter>, Failure> {
    let mut paths = named.to_vec();
    if !units.is_empty() && (systemd::is_here() || named.is_empty()) {
        for unit in systemd::expand(units)? {
            let programs = systemd::programs(&unit)?;
            paths.extend(programs.iter().filter_map(|program| interpreter::of_program(program)));
        }
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
        return Err(Failure::new("no Python of the service was found on this host")
            .hint("name its units in the profile, or set pulpcov_interpreters: [/path/to/python3]"));
    }
    Ok(found)
}
