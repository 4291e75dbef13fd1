//! Which of the profile's packages no Python of the service can import: a name that is mistyped measures nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pulpcov_protocol::outcome::Interpreter;
use pulpcov_protocol::profile::Profile;
use serde_json::json;

use crate::failure::Failure;
use crate::host::owners::Trusted;
use crate::host::python::Start;
use crate::host::systemd::Unit;
use crate::host::{interpreter, systemd};
use crate::recorder::ledger::Ledger;
use crate::recorder::processes;

/// Answers where packages lie, as whoever the interpreter is run as.
const FIND: &str = include_str!("../../hook/find.py");

/// Properties of a unit that may name folders of its code.
const NAME_FOLDERS: [&str; 4] = ["WorkingDirectory", "Environment", "EnvironmentFiles", "ExecStart"];

/// What was looked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Search {
    /// Packages that nothing here can import.
    pub(crate) missing: Vec<String>,
    /// Where the others lie, as far as anybody says so.
    pub(crate) places: BTreeSet<String>,
    /// Whether this host shows where its service has its code: its units or its processes are here, and are Python's.
    pub(crate) is_sure: bool,
}

/// Looks for the profile's packages, in every interpreter and in the folders that units and processes name.
pub(crate) fn search(
    profile: &Profile,
    interpreters: &[Interpreter],
    ledger: Option<&Ledger>,
) -> Result<Search, Failure> {
    let units = if systemd::is_here() { systemd::units(&profile.units, &NAME_FOLDERS)? } else { Vec::new() };
    let mut texts: BTreeSet<String> =
        units.iter().flat_map(|unit| NAME_FOLDERS.map(|name| unit.property(name).to_owned())).collect();
    let mut paths = BTreeSet::new();
    let running = processes::of_service(profile)?;
    for process in &running {
        texts.extend(process.argv.iter().cloned());
        let cwd = std::fs::read_link(format!("/proc/{}/cwd", process.pid)).ok();
        paths.extend(cwd.and_then(|cwd| cwd.into_os_string().into_string().ok()));
        let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        texts.extend(
            environment.split('\0').filter(|word| word.starts_with("PYTHONPATH=")).map(str::to_owned),
        );
    }
    let asked = json!({"packages": profile.packages, "texts": texts, "paths": paths}).to_string();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let of_profile = |(name, _): &(&String, &String)| profile.packages.contains(name);
    let told = ledger.into_iter().flat_map(|ledger| ledger.records.iter().flat_map(|one| &one.packages));
    for (name, path) in told.filter(of_profile) {
        found.entry(name.clone()).or_default().insert(path.clone());
    }
    for python in interpreters {
        let answer = Start::of(python).args(&["-I", "-c", FIND]).answer(asked.as_bytes())?;
        let places: BTreeMap<String, Vec<String>> = serde_json::from_slice(&answer)
            .map_err(|error| Failure::new(format!("{} answered no JSON: {error}", python.path)))?;
        for (name, places) in places.into_iter().filter(|(_, places)| !places.is_empty()) {
            found.entry(name).or_default().extend(places);
        }
    }
    let missing = profile.packages.iter().filter(|name| !found.contains_key(*name)).cloned().collect();
    // Those in an image are nobody's on this host.
    let of_host =
        found.into_values().flatten().filter(|_| interpreters.iter().all(|one| one.image.is_none()));
    let places = of_host.filter(|place| place.starts_with('/')).collect();
    let is_sure = if running.is_empty() {
        !units.is_empty() && shows_its_python(&units)
    } else {
        running.iter().all(processes::Running::is_python)
    };
    Ok(Search { missing, places, is_sure })
}

/// Whether each program of the units is Python's own. Others, as Apache and uWSGI, have their path in files of theirs.
fn shows_its_python(units: &[Unit]) -> bool {
    units.iter().flat_map(Unit::programs).all(|program| interpreter::of_program(&program).is_some())
}

impl Search {
    /// Where packages lie whose code will not be read, each with the reason.
    pub(crate) fn untrusted(&self, trusted: &Trusted) -> Vec<String> {
        let judge = |place: &String| {
            Some(format!("the code in {place} will not be read: {}", trusted.distrusts(Path::new(place))?))
        };
        self.places.iter().filter_map(judge).collect()
    }
}

/// As a person would say it.
pub(crate) fn words(missing: &[String]) -> String {
    let plural = if missing.len() == 1 { "" } else { "s" };
    format!("no Python of the service finds the package{plural} {}", missing.join(", "))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;

    /// Where a package is found, below `base`.
    fn found(base: &Path, package: &str, texts: &[String]) -> Vec<String> {
        let mut python = Command::new("python3")
            .args(["-I", "-c", FIND])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let asked = json!({"packages": [package], "texts": texts, "paths": []}).to_string();
        python.stdin.take().expect("a pipe").write_all(asked.as_bytes()).expect("asked");
        let answer = python.wait_with_output().expect("ends").stdout;
        let mut places: BTreeMap<String, Vec<String>> = serde_json::from_slice(&answer).expect("JSON");
        let places = places.remove(package).expect("an answer").into_iter();
        places
            .map(|place| Path::new(&place).strip_prefix(base).expect("below").display().to_string())
            .collect()
    }

    #[test]
    fn packages_are_found_in_words_and_in_the_scripts_that_they_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path();
        let packages = ["lib/one", "code/two", "app/three", "app/bin/four", "app/src/five", "open/in/sixth"];
        for name in packages {
            std::fs::create_dir_all(base.join(name)).expect("a folder");
            std::fs::write(base.join(name).join("__init__.py"), "").expect("written");
        }
        std::fs::set_permissions(base.join("open"), PermissionsExt::from_mode(0o1777)).expect("set");
        let script = format!("#!/bin/sh\nimport sys\nsys.path.insert(0, \"{}/code\")\n", base.display());
        std::fs::write(base.join("app/bin/run"), script).expect("written");
        let words = [
            format!("--pythonpath={}/lib,/nowhere/at/all", base.display()),
            format!("{}/app/bin/run", base.display()),
            format!("--worker-tmp-dir {}/open", base.display()),
            "x".to_owned(),
        ];
        for place in packages {
            let name = place.rsplit('/').next().expect("a name");
            // Where everybody can make folders lies nobody's code.
            let wanted: &[&str] = if name == "sixth" { &[] } else { &[place] };
            assert_eq!(found(base, name, &words), wanted, "{name}");
        }
    }
}
