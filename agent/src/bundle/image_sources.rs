//! Sources that lie in a container's image: its own Python lists them and gives their texts, shut in where it can read
//! nothing else. So nobody's rights are judged here, and no path of the host is opened for the sake of one in the image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use pulpcov_protocol::bundle::MAX_SOURCE_BYTES;
use pulpcov_protocol::manifest::Unsourced;
use pulpcov_protocol::outcome::Interpreter;
use pulpcov_protocol::text::unhex;
use serde::Deserialize;
use serde_json::json;

use crate::bundle::package_places::{self, PackagePlaces, is_of, is_omitted};
use crate::bundle::source_list::{Listed, Measured, OF_NO_PACKAGE, SourceIndex, Sources, answers, ask};
use crate::failure::Failure;
use crate::receipt::Config;
use crate::recorder::ledger::Ledger;
use crate::recorder::{coverage_dir, fingerprint};

/// What a Python says of a path.
#[derive(Deserialize)]
struct Told {
    path: String,
    /// Where links lead.
    real: String,
    /// In hexadecimal digits.
    text: Option<String>,
    /// The archive that it lies in: size, time and inode.
    archive: Option<String>,
}

/// What is at a path of the image.
struct Found {
    real: PathBuf,
    text: Option<Vec<u8>>,
    fingerprint: Option<String>,
}

/// The same as of a host's Pythons: every file of the measured packages, and the source of each measured path.
pub(crate) fn list(
    lib_root: &str,
    config: &Config,
    ledger: &Ledger,
    measured: &Measured,
) -> Result<Sources, Failure> {
    let mut found = SourceIndex::default();
    let mut sources = Sources::default();
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for python in &config.interpreters {
        let places = PackagePlaces::of(config, ledger, python, None);
        let mut listed = Vec::new();
        for one in list_of(lib_root, config, python, &places, measured)? {
            match (one.path, one.module_path) {
                (Some(path), Some(module_path)) => listed.push((path, module_path)),
                _ => missing.extend(one.package),
            }
        }
        let paths = listed.iter().map(|(path, _)| path).chain(measured.keys()).collect();
        let mut texts = texts(lib_root, python, &paths)?;
        for (path, module_path) in listed {
            let Some(Found { real, text: Some(text), .. }) = texts.get(&path) else {
                sources.warnings.push(format!("{path} is left out: it cannot be read in the image"));
                sources
                    .unlisted
                    .extend(config.packages.iter().find(|name| is_of(&module_path, name)).cloned());
                continue;
            };
            found.add(path.clone(), module_path, python, text, Some(real.clone()));
            sources.archived.insert(path, text.clone());
        }
        for path in measured.keys() {
            let Some(Found { real, text, fingerprint }) = texts.remove(path) else { continue };
            sources.present.insert(path.clone(), fingerprint);
            if found.has(path, Some(&real)) {
                // Also where it is listed under another name, by this one.
                sources.archived.extend(text.map(|text| (path.clone(), text)));
                continue;
            }
            let module_path = places
                .module_path(path, &config.packages)
                .or_else(|| places.module_path(real.to_str()?, &config.packages));
            let reason = match (&module_path, text) {
                (Some(module_path), _) if is_omitted(module_path, &config.profile.omit) => continue,
                (Some(module_path), Some(text)) => {
                    found.add(path.clone(), module_path.clone(), python, &text, Some(real));
                    sources.archived.insert(path.clone(), text);
                    continue;
                }
                (Some(_), None) => "it cannot be read in the image".to_owned(),
                (None, _) if package_places::is_python(path) => OF_NO_PACKAGE.to_owned(),
                (None, _) => continue,
            };
            sources.unsourced.push(Unsourced { path: path.clone(), reason });
        }
    }
    // What one Python of the image does not find another may.
    sources.unsourced.retain(|one| !found.has(&one.path, None));
    sources.unsourced.dedup_by(|one, other| one.path == other.path);
    sources.finish(found, missing);
    Ok(sources)
}

fn list_of(
    lib_root: &str,
    config: &Config,
    python: &Interpreter,
    places: &PackagePlaces,
    measured: &Measured,
) -> Result<Vec<Listed>, Failure> {
    let request = json!({"mode": "list", "coverage_dir": coverage_dir::path(lib_root, python),
        "roots": places.files, "folders": places.folders, "packages": config.packages,
        "omit": config.profile.omit, "measured": measured.keys().collect::<Vec<_>>()});
    answers(&ask(lib_root, python, &request, None)?)
}

/// What is at each of the paths; nothing else that it may tell of counts.
fn texts(
    lib_root: &str,
    python: &Interpreter,
    paths: &BTreeSet<&String>,
) -> Result<BTreeMap<String, Found>, Failure> {
    let request = json!({"mode": "texts", "coverage_dir": coverage_dir::path(lib_root, python),
        "paths": paths, "most": MAX_SOURCE_BYTES});
    let told: Vec<Told> = answers(&ask(lib_root, python, &request, None)?)?;
    let found = told.into_iter().filter(|one| paths.contains(&one.path)).map(|one| {
        let text = one.text.and_then(|text| unhex(&text));
        let text = text.filter(|text| text.len() as u64 <= MAX_SOURCE_BYTES);
        let fingerprint = match (&one.archive, &text) {
            (Some(archive), _) => Some(fingerprint::of_source(&one.path, archive)),
            (None, Some(text)) => Some(fingerprint::of_source(&one.path, &crate::host::fs::sha256(text))),
            (None, None) => None,
        };
        (one.path, Found { real: one.real.into(), text, fingerprint })
    });
    Ok(found.collect())
}
