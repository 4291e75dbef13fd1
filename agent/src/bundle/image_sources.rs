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
use crate::host::{fs, quadlet};
use crate::receipt::Config;
use crate::recorder::ledger::Ledger;
use crate::recorder::{coverage_dir, fingerprint};

/// Has the Pythons of an image that is gone stand for those of the image that the units run now, with a warning.
pub(crate) fn use_present_image(config: &mut Config, warnings: &mut Vec<String>) -> Result<(), Failure> {
    let installed = config.image().filter(|image| !quadlet::has_image(image)).map(str::to_owned);
    let Some(installed) = installed else { return Ok(()) };
    let now = quadlet::containers(&config.profile.units).ok().flatten().ok_or_else(|| {
        Failure::new(format!("the image {installed}, for which the hook is installed, is gone"))
            .hint("start the service, and install again; what was measured stays here until then")
    })?;
    warnings.push(format!(
        "the image {installed}, for which the hook is installed, is gone: sources are those of {} now; install again",
        now.reference
    ));
    for python in config.interpreters.iter_mut().filter(|python| python.image.is_some()) {
        python.image = Some(now.image.clone());
    }
    Ok(())
}

/// What a Python says of a path.
#[derive(Deserialize)]
struct Told {
    path: String,
    /// Where links lead.
    real: String,
    /// In hexadecimal digits.
    text: Option<String>,
    sha256: Option<String>,
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
        let of_package = |path: &&String| places.module_path(path, &config.packages).is_some();
        let sources_of =
            listed.iter().map(|(path, _)| path).chain(measured.keys().filter(of_package)).collect();
        let mut texts = texts(lib_root, python, &sources_of, &measured.keys().collect())?;
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

/// What is at each of the paths: the texts of sources, the fingerprints of all. Nothing else that it may tell of counts.
fn texts(
    lib_root: &str,
    python: &Interpreter,
    sources: &BTreeSet<&String>,
    others: &BTreeSet<&String>,
) -> Result<BTreeMap<String, Found>, Failure> {
    let mut found = BTreeMap::new();
    let mut held = 0;
    for _ in 0..MAX_ROUNDS {
        // Of what is beyond, nobody has a text.
        let is_full = held > MAX_TEXTS;
        let left = |paths: &BTreeSet<&String>| -> Vec<String> {
            paths.iter().filter(|path| !found.contains_key(**path)).map(|&path| path.clone()).collect()
        };
        let (mut texts, mut digests) = (left(sources), left(others));
        digests.retain(|path| !sources.contains(path));
        if is_full {
            digests.append(&mut texts);
        }
        if texts.is_empty() && digests.is_empty() {
            return Ok(found);
        }
        let request = json!({"mode": "texts", "coverage_dir": coverage_dir::path(lib_root, python),
            "paths": texts, "digests": digests, "most": MAX_SOURCE_BYTES, "total": MAX_ANSWERED});
        let told: Vec<Told> = answers(&ask(lib_root, python, &request, None)?)?;
        let before = found.len();
        for one in told.into_iter().filter(|one| sources.contains(&one.path) || others.contains(&one.path)) {
            let path = one.path.clone();
            let is_source = sources.contains(&path);
            let told = one.found(is_source);
            held += told.text.as_ref().map_or(0, Vec::len) as u64;
            found.insert(path, told);
        }
        if found.len() == before {
            break;
        }
    }
    Err(Failure::new(format!("{} does not tell of all sources of its image", python.path)))
}

/// Answers that are waited for.
const MAX_ROUNDS: u32 = 64;

/// Bytes of texts that a Python answers at once, and that are held in all.
const MAX_ANSWERED: u64 = 32 * 1024 * 1024;
const MAX_TEXTS: u64 = 512 * 1024 * 1024;

impl Told {
    fn found(self, is_source: bool) -> Found {
        let text = self.text.and_then(|text| unhex(&text));
        let text = text.filter(|text| is_source && text.len() as u64 <= MAX_SOURCE_BYTES);
        let digest = match (&text, self.archive) {
            (_, Some(archive)) => Some(archive),
            (Some(text), None) => Some(fs::sha256(text)),
            (None, None) => self.sha256,
        };
        let fingerprint = digest.map(|digest| fingerprint::of_source(&self.path, &digest));
        Found { real: self.real.into(), text, fingerprint }
    }
}
