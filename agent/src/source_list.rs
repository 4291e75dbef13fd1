//! Sources of the measured packages and what coverage.py knows of them: asked of the host's own
//! Python, through `analysis.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use pulpcov_protocol::manifest::{Source, analysis_key_text};
use pulpcov_protocol::outcome::Interpreter;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::receipt::Config;
use crate::{host_fs, interpreter};

/// Largest source file that is taken along.
pub(crate) const MAX_SOURCE: u64 = 16 * 1024 * 1024;

/// How sources were analysed; part of every analysis's key. coverage.py's own defaults, so far.
const OPTIONS: &str = "defaults";

#[derive(Deserialize)]
struct Listed {
    path: Option<String>,
    module_path: Option<String>,
    package: Option<String>,
}

fn ask(lib_root: &str, python: &Interpreter, request: &Value) -> Result<Vec<u8>, Failure> {
    let script = Path::new(lib_root).join("hook").join("analysis.py");
    interpreter::run(
        Command::new(&python.path).args(["-I", "-B"]).arg(script),
        request.to_string().as_bytes(),
    )
}

fn answers<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<Vec<T>, Failure> {
    serde_json::Deserializer::from_slice(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(format!("the analysis answered no JSON: {error}")))
}

/// Top-level packages behind the profile's entry points, and its own.
pub(crate) fn packages(
    lib_root: &str,
    python: &Interpreter,
    profile: &pulpcov_protocol::profile::Profile,
    coverage_dir: &Path,
) -> Result<Vec<String>, Failure> {
    let mut packages: BTreeSet<String> = profile.packages.iter().cloned().collect();
    if !profile.entry_points.is_empty() {
        let request =
            json!({"mode": "packages", "coverage_dir": coverage_dir, "entry_points": profile.entry_points});
        let found: Vec<String> = answers(&ask(lib_root, python, &request)?)?;
        packages.extend(found);
    }
    Ok(packages.into_iter().collect())
}

pub(crate) struct Sources {
    pub(crate) sources: Vec<Source>,
    pub(crate) warnings: Vec<String>,
}

/// Every Python file of the measured packages, run or not, of all interpreters.
pub(crate) fn list(lib_root: &str, config: &Config, ledger: &Ledger) -> Result<Sources, Failure> {
    let mut by_path = BTreeMap::new();
    let mut warnings = Vec::new();
    for python in &config.interpreters {
        let mut roots: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
        for (package, path) in ledger.package_places(&python.prefix) {
            if is_believable(config, package, path) {
                roots.entry(package).or_default().insert(path);
            }
        }
        let request = json!({"mode": "list", "coverage_dir": config.coverage.get(&python.cache_tag),
            "roots": roots, "packages": config.packages, "omit": config.profile.omit});
        for listed in answers::<Listed>(&ask(lib_root, python, &request)?)? {
            let (Some(path), Some(module_path)) = (listed.path, listed.module_path) else {
                let package = listed.package.unwrap_or_default();
                warnings.push(format!("{} finds no package {package}", python.path));
                continue;
            };
            match host_fs::read_source(Path::new(&path), MAX_SOURCE) {
                Ok(bytes) => {
                    let sha256 = host_fs::sha256(&bytes);
                    let minor = interpreter::minor_version(python);
                    let key = analysis_key_text(&sha256, &python.coverage, &minor, OPTIONS);
                    let source = Source {
                        module_path,
                        size: bytes.len() as u64,
                        analysis: host_fs::sha256(key.as_bytes()),
                        interpreter: python.path.clone(),
                        sha256,
                        path: path.clone(),
                    };
                    by_path.entry(path).or_insert(source);
                }
                Err(failure) => warnings.push(failure.msg),
            }
        }
    }
    Ok(Sources { sources: by_path.into_values().collect(), warnings })
}

/// Records lie in a world-writable folder: what one says of a package's place counts only if it
/// looks like that package's place, and never hides what another one says.
fn is_believable(config: &Config, package: &str, path: &str) -> bool {
    let tail = package.replace('.', "/");
    Path::new(path).is_absolute()
        && config.packages.iter().any(|known| known == package)
        && (path.ends_with(&format!("/{tail}/__init__.py")) || path.ends_with(&format!("/{tail}.py")))
}

/// The analyses of `wanted`, as the text of one JSON object each. A source that changes while it
/// is analysed is an error: its analysis would stand for bytes that nobody has.
pub(crate) fn analyse(lib_root: &str, config: &Config, wanted: &[&Source]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut analyses = vec![Vec::new(); wanted.len()];
    for python in &config.interpreters {
        let mine: Vec<usize> = (0..wanted.len())
            .filter(|&i| wanted.get(i).is_some_and(|source| source.interpreter == python.path))
            .collect();
        if mine.is_empty() {
            continue;
        }
        let paths: Vec<&str> = mine.iter().filter_map(|&i| Some(wanted.get(i)?.path.as_str())).collect();
        let request = json!({"mode": "analyse", "coverage_dir": config.coverage.get(&python.cache_tag), "paths": paths});
        let answer = ask(lib_root, python, &request)?;
        let lines: Vec<&[u8]> = answer.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
        if lines.len() != mine.len() {
            return Err(Failure::new(format!(
                "{} analysed {} of {} sources",
                python.path,
                lines.len(),
                mine.len()
            )));
        }
        for (i, line) in mine.into_iter().zip(lines) {
            if let Some(slot) = analyses.get_mut(i) {
                *slot = line.to_vec();
            }
        }
    }
    for source in wanted {
        let now = host_fs::sha256(&host_fs::read_source(Path::new(&source.path), MAX_SOURCE)?);
        if now != source.sha256 {
            return Err(
                Failure::new(format!("{} changed while it was analysed", source.path)).hint("collect again")
            );
        }
    }
    Ok(analyses)
}
