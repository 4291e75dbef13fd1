//! Which of the profile's packages no Python of the service can import: a name that is mistyped measures nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use pulpcov_protocol::outcome::Interpreter;
use pulpcov_protocol::profile::Profile;
use serde_json::json;

use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::owners::Trusted;
use crate::systemd::Unit;
use crate::{child, host_fs, interpreter, processes, systemd};

/// Answers with where the packages lie that are on the interpreter's path or in one of the folders. Nothing is
/// imported: a package's own code runs in nobody's name here.
const FIND: &str = r"
import importlib.util, json, sys
from importlib.machinery import PathFinder

def places(name, folders):
    first, *rest = name.split('.')
    specs = [PathFinder.find_spec(first, folders)]
    try:
        specs.append(importlib.util.find_spec(first))
    except Exception:
        pass
    found = []
    for spec in specs:
        for part in rest:
            inside = spec and spec.submodule_search_locations
            spec = PathFinder.find_spec(part, list(inside)) if inside else None
        if spec:
            found += list(spec.submodule_search_locations or [spec.origin or ''])
    return found

asked = json.load(sys.stdin)
print(json.dumps({name: places(name, asked['folders']) for name in asked['packages']}))
";

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
    let mut folders = BTreeSet::new();
    let units = if systemd::is_here() { systemd::units(&profile.units, &NAME_FOLDERS)? } else { Vec::new() };
    for value in units.iter().flat_map(|unit| NAME_FOLDERS.map(|name| unit.property(name))) {
        add_places(value.split_whitespace(), &mut folders);
    }
    let running = processes::of_service(profile)?;
    for process in &running {
        add_places(process.argv.iter().map(String::as_str), &mut folders);
        if let Ok(cwd) = std::fs::read_link(format!("/proc/{}/cwd", process.pid)) {
            add_place(&cwd, &mut folders);
        }
        let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        add_places(environment.split('\0').filter(|word| word.starts_with("PYTHONPATH=")), &mut folders);
    }
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let of_profile = |(name, _): &(&String, &String)| profile.packages.contains(name);
    let told = ledger.into_iter().flat_map(|ledger| ledger.records.iter().flat_map(|one| &one.packages));
    for (name, path) in told.filter(of_profile) {
        found.entry(name.clone()).or_default().insert(path.clone());
    }
    let folders: Vec<_> = folders.iter().filter_map(|folder| folder.to_str()).collect();
    for python in interpreters {
        let asked = json!({"packages": profile.packages, "folders": folders});
        let answer =
            child::run(Command::new(&python.path).args(["-I", "-c", FIND]), asked.to_string().as_bytes())?;
        let places: BTreeMap<String, Vec<String>> = serde_json::from_slice(&answer)
            .map_err(|error| Failure::new(format!("{} answered no JSON: {error}", python.path)))?;
        for (name, places) in places.into_iter().filter(|(_, places)| !places.is_empty()) {
            found.entry(name).or_default().extend(places);
        }
    }
    let missing = profile.packages.iter().filter(|name| !found.contains_key(*name)).cloned().collect();
    let places = found.into_values().flatten().filter(|place| place.starts_with('/')).collect();
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

/// Most folders in a folder that are looked into.
const MAX_INSIDE: usize = 200;

/// Largest script that is looked into.
const MAX_SCRIPT: u64 = 64 * 1024;

/// Folders that words of a command line or an environment name, those of the files that they name, and those that
/// such a file names, where it is a script: many put their code on the path themselves.
fn add_places<'a>(words: impl Iterator<Item = &'a str>, folders: &mut BTreeSet<PathBuf>) {
    for path in words.flat_map(paths_in) {
        add_place(&path, folders);
        let text =
            host_fs::read_limited(&path, MAX_SCRIPT).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        for named in text.iter().flat_map(|text| paths_in(text)) {
            add_place(&named, folders);
        }
    }
}

/// A folder itself, and of a file its folder and the one above: `bin/shop` beside `shop`; each with the folders in
/// it, for `src` and `lib` that a script or `--chdir` names from there.
fn add_place(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    let above = usize::from(path.is_file());
    if above == 0 && !path.is_dir() {
        return;
    }
    for folder in path.ancestors().skip(above).take(1 + above).filter(|folder| folder.parent().is_some()) {
        let inside = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let inside = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(inside.map(|entry| entry.path()).take(MAX_INSIDE));
        folders.insert(folder.to_owned());
    }
}

/// Absolute paths in a text.
fn paths_in(text: &str) -> Vec<PathBuf> {
    let ends = |c: char| c.is_whitespace() || "=:,;\"'()[]".contains(c);
    text.split(ends).filter(|part| part.starts_with('/') && part.len() > 1).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_words_and_in_the_scripts_that_they_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path();
        for name in ["lib", "code", "app/bin", "app/src"] {
            std::fs::create_dir_all(base.join(name)).expect("a folder");
        }
        let script = format!("#!/bin/sh\nimport sys\nsys.path.insert(0, \"{}/code\")\n", base.display());
        std::fs::write(base.join("app/bin/run"), script).expect("written");
        let mut folders = BTreeSet::new();
        let words = [
            format!("--pythonpath={}/lib,/nowhere/at/all", base.display()),
            format!("{}/app/bin/run", base.display()),
            "x".to_owned(),
        ];
        add_places(words.iter().map(String::as_str), &mut folders);
        let found = folders.iter().filter_map(|folder| folder.strip_prefix(base).ok()?.to_str());
        assert_eq!(found.collect::<Vec<_>>(), ["app", "app/bin", "app/src", "code", "lib"]);
    }
}
