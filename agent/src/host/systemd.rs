//! systemd, by its own tool: which units there are, what they run, start and stop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pulpcov_protocol::op::ServiceAction;
use pulpcov_protocol::outcome::UnitState;
use pulpcov_protocol::profile::is_glob;

use crate::failure::{During, Failure};

/// Longest wait for a unit that is on its way up or down: systemd's own time limit and a little.
const PATIENCE: Duration = Duration::from_mins(2);

fn systemctl(args: &[&str]) -> Result<std::process::Output, Failure> {
    Command::new("systemctl")
        .args(args)
        .env("SYSTEMD_COLORS", "0")
        .env("LC_ALL", "C")
        .output()
        .during("run", "systemctl")
}

/// Whether systemd is this host's service manager.
pub(crate) fn is_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// A unit that this host has, by its own name: an alias, or one without a kind, is in no control group.
pub(crate) struct Unit {
    pub(crate) name: String,
    pub(crate) properties: BTreeMap<String, String>,
}

impl Unit {
    /// A property that was asked for; empty where this systemd does not know it.
    pub(crate) fn property(&self, name: &str) -> &str {
        self.properties.get(name).map_or("", String::as_str)
    }

    /// The commands that it starts, of one that was asked for `ExecStart`, each as its program and its words. systemd
    /// shows no quotes, so a word with a blank in it counts as two.
    pub(crate) fn command_lines(&self) -> Vec<(String, Vec<String>)> {
        parse_command_lines(self.property("ExecStart"))
    }

    /// The programs of these.
    pub(crate) fn programs(&self) -> Vec<String> {
        self.command_lines().into_iter().map(|(program, _)| program).collect()
    }

    /// Its processes, of one that was asked for `ControlGroup`.
    pub(crate) fn pids(&self) -> Vec<u32> {
        pids_of_group(self.property("ControlGroup"))
    }
}

/// Those of the profile's units that this host has, with properties: no host of a service has all of them. Globs
/// become what matches now. Asked at once: each start of `systemctl` takes longer than all of its answers.
pub(crate) fn units(patterns: &[String], names: &[&str]) -> Result<Vec<Unit>, Failure> {
    let (mut wanted, mut is_listed) = (Vec::new(), Vec::new());
    for pattern in patterns {
        if is_glob(pattern) {
            let output = systemctl(&["list-units", "--all", "--plain", "--no-legend", "--", pattern])?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            wanted.extend(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
        } else {
            wanted.push(pattern.clone());
        }
        is_listed.resize(wanted.len(), is_glob(pattern));
    }
    let names = [&["LoadState", "Id"], names].concat();
    let mut seen = std::collections::BTreeSet::new();
    let mut units = Vec::new();
    for (mut properties, is_listed) in show(&wanted, &names)?.into_iter().zip(is_listed) {
        // What a glob finds may run without a file that could be loaded.
        let is_here = match properties.get("LoadState").map_or("", String::as_str) {
            "loaded" => true,
            "not-found" | "" => false,
            _ => is_listed,
        };
        if let Some(name) = properties.remove("Id").filter(|name| is_here && seen.insert(name.clone())) {
            units.push(Unit { name, properties });
        }
    }
    Ok(units)
}

/// Their names alone.
pub(crate) fn expand(patterns: &[String]) -> Result<Vec<String>, Failure> {
    Ok(units(patterns, &[])?.into_iter().map(|unit| unit.name).collect())
}

/// Whether there is such a unit.
pub(crate) fn is_known(unit: &str) -> Result<bool, Failure> {
    Ok(property(unit, "LoadState")? == "loaded")
}

/// Several properties of a unit at once; one that this systemd does not know is absent.
pub(crate) fn properties(unit: &str, names: &[&str]) -> Result<BTreeMap<String, String>, Failure> {
    Ok(show(&[unit.to_owned()], names)?.pop().unwrap_or_default())
}

/// The same of several units, in their order.
fn show(units: &[String], names: &[&str]) -> Result<Vec<BTreeMap<String, String>>, Failure> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let joined = names.join(",");
    let mut words = vec!["show", "--property", &joined, "--"];
    words.extend(units.iter().map(String::as_str));
    let output = systemctl(&words)?;
    let found = parse_properties(&String::from_utf8_lossy(&output.stdout), names);
    match (found.len(), units) {
        (found_units, units) if found_units == units.len() => Ok(found),
        // Only a value of several lines can look like several units.
        (_, [_]) => Ok(vec![found.into_iter().flatten().collect()]),
        // One of which systemd can say nothing hides those behind it.
        _ => units.iter().map(|unit| properties(unit, names)).collect(),
    }
}

/// `Name=value`, one a line, and an empty line between units. A unit that starts several commands has a line for each,
/// and a value may have lines of its own: both are lines of the one value.
fn parse_properties(text: &str, names: &[&str]) -> Vec<BTreeMap<String, String>> {
    let mut units: Vec<BTreeMap<String, String>> = Vec::new();
    let (mut last, mut is_between) = ("", true);
    for line in text.trim().lines() {
        let named = line.split_once('=').filter(|(name, _)| names.contains(name));
        let Some((name, value)) = named else {
            is_between = line.is_empty();
            if let Some(value) = units.last_mut().and_then(|unit| unit.get_mut(last)) {
                value.push('\n');
                value.push_str(line);
            }
            continue;
        };
        if std::mem::take(&mut is_between) {
            units.push(BTreeMap::new());
        }
        let Some(unit) = units.last_mut() else { continue };
        let known = unit.entry(name.to_owned()).or_default();
        if !known.is_empty() {
            known.push('\n');
        }
        known.push_str(value.trim());
        last = name;
    }
    for value in units.iter_mut().flat_map(BTreeMap::values_mut) {
        value.truncate(value.trim_end().len());
    }
    units
}

/// Makes systemd read its files again.
pub(crate) fn reload() -> Result<(), Failure> {
    let output = systemctl(&["daemon-reload"])?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(format!("systemctl daemon-reload failed: {words}")))
}

/// Starts or stops one of our own units.
pub(crate) fn own_unit(action: ServiceAction, unit: &str) -> Result<(), Failure> {
    let output = systemctl(&[action.verb(), "--", unit])?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(format!("cannot {} {unit}: {words}", action.verb())))
}

fn property(unit: &str, name: &str) -> Result<String, Failure> {
    let output = systemctl(&["show", "--property", name, "--value", "--", unit])?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(crate) fn state(unit: &str) -> Result<String, Failure> {
    property(unit, "ActiveState")
}

/// Whether a unit does its work and ends.
fn is_oneshot(unit: &str) -> Result<bool, Failure> {
    Ok(property(unit, "Type")? == "oneshot")
}

/// States of units, in their order.
pub(crate) fn states(units: &[String]) -> Result<Vec<String>, Failure> {
    let found = show(units, &["ActiveState"])?;
    Ok(found.into_iter().map(|mut unit| unit.remove("ActiveState").unwrap_or_default()).collect())
}

/// Those of the units that run, or try to. A restart must not start what a person has stopped.
pub(crate) fn running(patterns: &[String]) -> Result<Vec<String>, Failure> {
    let mut units = units(patterns, &["ActiveState"])?;
    units.retain(|unit| unit.property("ActiveState") != "inactive");
    Ok(units.into_iter().map(|unit| unit.name).collect())
}

/// Those whose processes stay, each with its state: one that does its work and ends has nothing to prove.
pub(crate) fn lasting(units: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let found = units.iter().zip(show(units, &["Type", "ActiveState"])?);
    let stay = found.filter(|(_, about)| about.get("Type").is_none_or(|kind| kind != "oneshot"));
    Ok(stay
        .map(|(unit, mut about)| (unit.clone(), about.remove("ActiveState").unwrap_or_default()))
        .collect())
}

/// `{ path=/usr/bin/x ; argv[]=/usr/bin/x -a ; ignore_errors=no ; ... }`, one a command.
fn parse_command_lines(text: &str) -> Vec<(String, Vec<String>)> {
    let parse = |rest: &str| {
        let program = rest.split(" ; ").next()?.to_owned();
        let words = rest.split_once(" ; argv[]=")?.1.split(" ; ignore_errors=").next()?;
        Some((program, words.split_whitespace().map(str::to_owned).collect()))
    };
    text.split("{ path=").skip(1).filter_map(parse).collect()
}

/// Processes of a unit, by its control group, and by those below it: one that is given away, as to a container engine, has
/// its processes there.
fn pids_of_group(group: &str) -> Vec<u32> {
    if group.is_empty() {
        return Vec::new();
    }
    // Unified, then the two homes that systemd has for its own hierarchy on older hosts.
    let homes = ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];
    let mut home = homes.iter().map(|root| PathBuf::from(format!("{root}{group}")));
    let mut pids = Vec::new();
    if let Some(folder) = home.find(|folder| folder.join("cgroup.procs").exists()) {
        pids_below(&folder, MAX_GROUPS, &mut pids);
    }
    pids
}

/// Deepest groups below a unit's that are looked into.
const MAX_GROUPS: u32 = 8;

fn pids_below(group: &Path, depth: u32, pids: &mut Vec<u32>) {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    if depth == 0 {
        return;
    }
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids_below(&entry.path(), depth - 1, pids);
        }
    }
}

/// Starts, stops or restarts units in order, and waits until systemd says it is done.
pub(crate) fn act(action: ServiceAction, units: &[String]) -> Result<Vec<UnitState>, Failure> {
    let wanted = if action == ServiceAction::Stop { "inactive" } else { "active" };
    let mut order: Vec<&String> = units.iter().collect();
    if action == ServiceAction::Stop {
        order.reverse();
    }
    let mut states = Vec::new();
    for unit in order {
        let output = systemctl(&[action.verb(), "--", unit])?;
        let state = settled_state(unit)?;
        let words = String::from_utf8_lossy(&output.stderr);
        // A failed stop leaves `failed`, which is stopped all the same; a unit that does its work and ends
        // is inactive when it has.
        let reached = state == wanted
            || (action == ServiceAction::Stop && state == "failed")
            || (state == "inactive" && is_oneshot(unit)?);
        if !output.status.success() || !reached {
            let reason = words.lines().next().unwrap_or("no message").trim().to_owned();
            return Err(Failure::new(format!("cannot {} {unit}: it is {state}: {reason}", action.verb()))
                .hint(last_log_lines(unit)));
        }
        states.push(UnitState { unit: unit.clone(), state });
    }
    Ok(states)
}

/// The state that a unit comes to: `restart` returns while it may still be on its way.
fn settled_state(unit: &str) -> Result<String, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = state(unit)?;
        let on_its_way = matches!(state.as_str(), "activating" | "deactivating" | "reloading");
        if !on_its_way || Instant::now() > deadline {
            return Ok(state);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a unit said last, for a message.
pub(crate) fn last_log_lines(unit: &str) -> String {
    let output = Command::new("journalctl").args(["--no-pager", "-n", "5", "-o", "cat", "-u", unit]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        format!("journalctl -u {unit} on the host")
    } else {
        format!("its last log lines: {}", lines.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn processes_below_a_units_group_are_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let payload = folder.path().join("libpod-payload-1/inner");
        std::fs::create_dir_all(&payload).expect("folders");
        std::fs::write(folder.path().join("cgroup.procs"), "").expect("written");
        std::fs::write(folder.path().join("libpod-payload-1/cgroup.procs"), "7\n8\n").expect("written");
        std::fs::write(payload.join("cgroup.procs"), "9\n").expect("written");
        let mut pids = Vec::new();
        super::pids_below(folder.path(), super::MAX_GROUPS, &mut pids);
        assert_eq!(pids, [7, 8, 9]);
    }

    #[test]
    fn properties_of_several_units_are_kept_apart() {
        let text = "LoadState=loaded\nId=a.service\nUser=\n\nLoadState=not-found\nId=b.service\nUser=x=y\n";
        let names = ["LoadState", "Id", "User", "ExecStart"];
        let parse = |text| super::parse_properties(text, &names);
        let found = parse(text);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0]["User"].as_str(), found[1]["User"].as_str()), ("", "x=y"));
        assert_eq!((found[0]["Id"].as_str(), found[1]["Id"].as_str()), ("a.service", "b.service"));
        assert!(parse("\n").is_empty());
        let several = "ExecStart={ path=/bin/a ; argv[]=/bin/a x\n\ny ; ignore_errors=no }\n\
                       ExecStart={ path=/bin/b ; argv[]=/bin/b ; ignore_errors=no }\nId=a.service\n\nId=b.service\n";
        let found = parse(several);
        assert_eq!(found.len(), 2);
        let lines = super::parse_command_lines(&found[0]["ExecStart"]);
        assert_eq!(
            lines.iter().map(|(program, _)| program.as_str()).collect::<Vec<_>>(),
            ["/bin/a", "/bin/b"]
        );
        assert_eq!((lines[0].1.join(" "), found[1]["Id"].as_str()), ("/bin/a x y".into(), "b.service"));
    }

    #[test]
    fn each_command_of_a_unit_is_found() {
        let text = "{ path=/usr/bin/gunicorn ; argv[]=/usr/bin/gunicorn a:b ; ignore_errors=no ; start_time=[n/a] } \
                    { path=/bin/echo ; argv[]=/bin/echo hi ; ignore_errors=no }";
        let lines = super::parse_command_lines(text);
        let programs: Vec<&str> = lines.iter().map(|(program, _)| program.as_str()).collect();
        assert_eq!(programs, ["/usr/bin/gunicorn", "/bin/echo"]);
        assert_eq!(
            (lines[0].1.join(" "), lines[1].1.join(" ")),
            ("/usr/bin/gunicorn a:b".into(), "/bin/echo hi".into())
        );
        assert!(super::parse_command_lines("").is_empty());
    }
}
