//! Sources of the measured packages and what coverage.py knows of them: asked of the host's own
//! Python, through `analysis.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulpcov_protocol::bundle::{MAX_ANALYSIS_BYTES, MAX_SOURCE_BYTES};
use pulpcov_protocol::manifest::{DEFAULT_OPTIONS, Source, Unsourced, analysis_key_text};
use pulpcov_protocol::outcome::Interpreter;
use pulpcov_protocol::profile::Profile;
use pulpcov_protocol::text::unhex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bundle::copies::Copies;
use crate::bundle::image_sources;
use crate::bundle::package_places::{self, PackagePlaces, is_of, is_omitted};
use crate::failure::Failure;
use crate::host::budget::Remarks;
use crate::host::owners::{self, Trusted};
use crate::host::python::Start;
use crate::host::{fs, interpreter};
use crate::receipt::Config;
use crate::recorder::ledger::Ledger;
use crate::recorder::users::Users;
use crate::recorder::{coverage_dir, users};

/// Why there is no source of what the hook measured under other `packages`, or where no name leads to it.
pub(super) const OF_NO_PACKAGE: &str = "of no package that is measured now";

#[derive(Deserialize)]
pub(super) struct Listed {
    pub(super) path: Option<String>,
    pub(super) module_path: Option<String>,
    pub(super) package: Option<String>,
}

/// Measured path to `sys.prefix` of a process that ran it.
pub(crate) type Measured = BTreeMap<String, Option<String>>;

/// The program that a Python answers with.
pub(crate) fn script(lib_root: &str) -> PathBuf {
    Path::new(lib_root).join("hook").join("analysis.py")
}

/// Has a Python answer a request; one of an image sees the folder of copies that there may be.
pub(super) fn ask(
    lib_root: &str,
    python: &Interpreter,
    request: &Value,
    copies: Option<&Path>,
) -> Result<Vec<u8>, Failure> {
    let start = Start::of(python).args(&["-I", "-B"]).path_arg(&script(lib_root)).sees(Path::new(lib_root));
    copies.into_iter().fold(start, Start::sees).answer(request.to_string().as_bytes())
}

pub(super) fn answers<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<Vec<T>, Failure> {
    serde_json::Deserializer::from_slice(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(format!("the analysis answered no JSON: {error}")))
}

/// Top-level packages behind the profile's entry points, and its own.
pub(crate) fn packages(
    lib_root: &str,
    python: &Interpreter,
    profile: &Profile,
    coverage_dir: &Path,
) -> Result<Vec<String>, Failure> {
    let mut packages: BTreeSet<String> = profile.packages.iter().cloned().collect();
    if !profile.entry_points.is_empty() {
        let request =
            json!({"mode": "packages", "coverage_dir": coverage_dir, "entry_points": profile.entry_points});
        let found: Vec<String> = answers(&ask(lib_root, python, &request, None)?)?;
        packages.extend(found);
    }
    Ok(packages.into_iter().collect())
}

#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) listed: Vec<Source>,
    /// Texts of those that are no files of this host, by path: they lie in archives, or in an image.
    pub(crate) archived: BTreeMap<String, Vec<u8>>,
    /// What was measured and has no source, each with the reason.
    pub(crate) unsourced: Vec<Unsourced>,
    /// Packages that a Python may have which no longer runs, and that were not found in its folders.
    pub(crate) unlisted: BTreeSet<String>,
    /// What lies at paths that are none of this host's: the fingerprint of each, where there is anything.
    pub(crate) present: BTreeMap<String, Option<String>>,
    pub(crate) warnings: Vec<String>,
}

impl Sources {
    /// Takes in what was listed, and warns of packages of which nothing was.
    pub(super) fn finish(&mut self, found: SourceIndex, missing: BTreeSet<String>) {
        self.listed = found.by_path.into_values().collect();
        let nowhere =
            |package: &String| !self.listed.iter().any(|source| is_of(&source.module_path, package));
        let nowhere: Vec<String> = missing.into_iter().filter(nowhere).collect();
        if !nowhere.is_empty() {
            self.warnings.push(format!("no source of {} was found", nowhere.join(", ")));
        }
    }
}

/// Every Python file of the measured packages, run or not, of all interpreters; and the source of each path that
/// data tells of (`measured`, with the `sys.prefix` of who ran it), wherever it was imported from. A Python that no
/// longer runs is named; where none does, that is an error.
pub(crate) fn list(
    lib_root: &str,
    config: &Config,
    ledger: &Ledger,
    measured: &Measured,
) -> Result<Sources, Failure> {
    if config.is_contained() {
        return image_sources::list(lib_root, config, ledger, measured);
    }
    let mut found = SourceIndex::default();
    let mut sources = Sources::default();
    let mut refused = Remarks::default();
    // Packages that some interpreter does not find.
    let mut missing: BTreeSet<String> = BTreeSet::new();
    let mut places = PackagePlaces::default();
    let able = able(config, &mut sources.warnings)?;
    let trusted = trusted(config);
    for python in &config.interpreters {
        let own = PackagePlaces::of(config, ledger, python, Some(&trusted));
        let is_able = able.iter().any(|one| one.path == python.path);
        // Of one that no longer runs, another can tell what lies in its folders, and where its processes had
        // imported from.
        let Some(asked) = able.first().copied().map(|first| if is_able { python } else { first }) else {
            continue;
        };
        let request = json!({"mode": "list", "coverage_dir": coverage_dir::path(lib_root, asked),
            "roots": own.files, "folders": own.folders, "packages": config.packages, "omit": config.profile.omit,
            "path": (!is_able).then(|| site_folders(python)), "measured": measured.keys().collect::<Vec<_>>()});
        for listed in answers::<Listed>(&ask(lib_root, asked, &request, None)?)? {
            let (Some(path), Some(module_path)) = (listed.path, listed.module_path) else {
                let package = listed.package.unwrap_or_default();
                if !is_able {
                    sources.unlisted.insert(package.clone());
                }
                missing.insert(package);
                continue;
            };
            match trusted.read(Path::new(&path), MAX_SOURCE_BYTES) {
                Ok(bytes) => found.add(path, module_path, asked, &bytes, None),
                Err(failure) => {
                    // It is missing from the list, whether it ran or not.
                    let of = |package: &&String| is_of(&module_path, package);
                    sources.unlisted.extend(config.packages.iter().find(of).cloned());
                    refused.add(failure.msg.replace(&path, "it"), path);
                }
            }
        }
        for (path, reason) in &own.refused {
            refused.add(reason.clone(), path.clone());
        }
        places.extend(own);
    }
    sources.warnings.extend(refused.lines("is left out", "are left out"));
    let mut archived = Vec::new();
    for (path, prefix) in measured {
        if found.has(path, None) {
            continue;
        }
        let Some(module_path) = places.module_path(path, &config.packages) else {
            if package_places::is_python(path) {
                // As what an earlier install named. It is not read: data that somebody forged would have root read
                // any file.
                sources.unsourced.push(Unsourced { path: path.clone(), reason: OF_NO_PACKAGE.into() });
            }
            continue;
        };
        if is_omitted(&module_path, &config.profile.omit) {
            continue;
        }
        let of_prefix = able.iter().copied().find(|python| Some(&python.prefix) == prefix.as_ref());
        let Some(python) = of_prefix.or(able.first().copied()) else { continue };
        match trusted.read(Path::new(path), MAX_SOURCE_BYTES) {
            Ok(bytes) => found.add(path.clone(), module_path, python, &bytes, None),
            Err(failure) if may_be_archived(path, &trusted) => {
                archived.push((path.clone(), module_path, python, failure.msg));
            }
            Err(failure) => sources.unsourced.push(Unsourced { path: path.clone(), reason: failure.msg }),
        }
    }
    take_out_of_archives(lib_root, &able, archived, &mut found, &mut sources)?;
    sources.finish(found, missing);
    Ok(sources)
}

/// The folders in which an interpreter has its packages, its `.pth` files aside.
fn site_folders(python: &Interpreter) -> Vec<String> {
    // Where extensions lie apart, packages may be among them.
    let apart = python.purelib.replacen("/lib/", "/lib64/", 1);
    BTreeSet::from([python.purelib.clone(), apart]).into_iter().collect()
}

/// The Pythons that can still be asked; those that no longer run are warned of.
fn able<'c>(config: &'c Config, warnings: &mut Vec<String>) -> Result<Vec<&'c Interpreter>, Failure> {
    let mut able = Vec::new();
    let mut broken = Vec::new();
    for python in &config.interpreters {
        match Start::of(python).args(&["-I", "-S", "-B", "-c", ""]).answer(b"") {
            Ok(_) => able.push(python),
            Err(failure) => broken.push(failure.msg),
        }
    }
    let words = broken.join("; ");
    if able.is_empty() && !broken.is_empty() {
        return Err(Failure::new(format!("no Python is left to tell of sources: {words}"))
            .hint("install again; what was measured stays here until then"));
    }
    if !broken.is_empty() {
        warnings.push(format!("a Python of the service no longer runs: {words}"));
    }
    Ok(able)
}

/// Sources as they are found.
#[derive(Default)]
pub(super) struct SourceIndex {
    by_path: BTreeMap<String, Source>,
    /// Real path to the path under which it is listed.
    by_real_path: BTreeMap<PathBuf, String>,
}

impl SourceIndex {
    /// `real` is where links lead; it is looked for on this host where it is not told.
    pub(super) fn add(
        &mut self,
        path: String,
        module_path: String,
        python: &Interpreter,
        bytes: &[u8],
        real: Option<PathBuf>,
    ) {
        let sha256 = fs::sha256(bytes);
        let key = analysis_key_text(
            &sha256,
            &python.coverage,
            &interpreter::minor_version(python),
            DEFAULT_OPTIONS,
        );
        let source = Source {
            module_path,
            size: bytes.len() as u64,
            analysis: fs::sha256(key.as_bytes()),
            interpreter: python.path.clone(),
            sha256,
            path: path.clone(),
        };
        if let Some(real) = real.or_else(|| std::fs::canonicalize(&path).ok()) {
            self.by_real_path.entry(real).or_insert_with(|| path.clone());
        }
        self.by_path.entry(path).or_insert(source);
    }

    /// Whether a measured path is one that is listed, also where that leads to it through a link: then it is
    /// listed by this path, too.
    pub(super) fn has(&mut self, path: &str, real: Option<&Path>) -> bool {
        if self.by_path.contains_key(path) {
            return true;
        }
        let real = real.map(Path::to_owned).or_else(|| std::fs::canonicalize(path).ok());
        let listed = real.and_then(|real| self.by_real_path.get(&real));
        let Some(source) = listed.and_then(|listed| self.by_path.get(listed)).cloned() else { return false };
        self.by_path.insert(path.to_owned(), Source { path: path.to_owned(), ..source });
        true
    }
}

/// What is no file of its own may lie in a zip or an egg; else it has no source, and says so.
fn take_out_of_archives(
    lib_root: &str,
    able: &[&Interpreter],
    wanted: Vec<(String, String, &Interpreter, String)>,
    found: &mut SourceIndex,
    sources: &mut Sources,
) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Archived {
        path: String,
        text: Option<String>,
    }
    for &python in able {
        let mine = wanted.iter().filter(|(_, _, of, _)| of.path == python.path);
        let paths: Vec<&String> = mine.clone().map(|(path, ..)| path).collect();
        if paths.is_empty() {
            continue;
        }
        let request =
            json!({"mode": "archived", "coverage_dir": coverage_dir::path(lib_root, python), "paths": paths});
        let answered: Vec<Archived> = answers(&ask(lib_root, python, &request, None)?)?;
        let mut texts: BTreeMap<String, Vec<u8>> = answered
            .into_iter()
            .filter_map(|one| Some((one.path, unhex(&one.text?)?)))
            .filter(|(_, text)| text.len() as u64 <= MAX_SOURCE_BYTES)
            .collect();
        for (path, module_path, _, reason) in mine {
            match texts.remove(path) {
                Some(text) => {
                    found.add(path.clone(), module_path.clone(), python, &text, None);
                    sources.archived.insert(path.clone(), text);
                }
                None => sources.unsourced.push(Unsourced { path: path.clone(), reason: reason.clone() }),
            }
        }
    }
    Ok(())
}

/// Users who may say where code lies: the service's, and the owners of its interpreters' packages.
pub(crate) fn trusted(config: &Config) -> Trusted {
    Trusted::new(Users::known(&config.data_root).ids().chain(owners_of(&config.interpreters)))
}

/// The same before those of this moment were noted, or before there is anything to note them in.
pub(crate) fn trusted_now(
    data_root: Option<&Path>,
    profile: &Profile,
    interpreters: &[Interpreter],
) -> Trusted {
    let known = data_root.map(Users::known).unwrap_or_default();
    let users = known.ids().chain(users::of_service(profile)).collect::<Vec<_>>();
    Trusted::new(users.into_iter().chain(owners_of(interpreters)))
}

/// Owners of interpreters' packages.
fn owners_of(interpreters: &[Interpreter]) -> impl Iterator<Item = u32> {
    let owner = |python: &Interpreter| Some(fs::Attributes::of(Path::new(&python.purelib)).ok()??.uid);
    interpreters.iter().filter(|python| python.image.is_none()).filter_map(owner)
}

/// Whether a path that is no file lies in an archive that nobody else can have put there.
fn may_be_archived(path: &str, trusted: &Trusted) -> bool {
    let path = Path::new(path);
    owners::walk_to_file(path).is_ok_and(|way| way.is_file() && trusted.accept(&way).is_ok())
}

/// The bytes of a source: those of its file, or what was taken out of its archive. Others than were listed are an
/// error: an analysis would stand for bytes that nobody has.
pub(crate) fn text_of(
    source: &Source,
    archived: &BTreeMap<String, Vec<u8>>,
    trusted: &Trusted,
) -> Result<Vec<u8>, Failure> {
    let text = match archived.get(&source.path) {
        Some(text) => text.clone(),
        None => trusted.read(Path::new(&source.path), MAX_SOURCE_BYTES)?,
    };
    if fs::sha256(&text) == source.sha256 {
        return Ok(text);
    }
    Err(Failure::new(format!("{} changed while it was analysed", source.path)).hint("collect again"))
}

/// The analysis of one file by one interpreter, as the text of a JSON object.
pub(crate) fn analyse_one(lib_root: &str, python: &Interpreter, path: &Path) -> Result<Vec<u8>, Failure> {
    let coverage = coverage_dir::path(lib_root, python);
    ask(lib_root, python, &json!({"mode": "analyse", "coverage_dir": coverage, "paths": [path]}), None)
}

/// An analysis, or what stands for one that no bundle may have.
fn in_bounds(analysis: &[u8], python: &Interpreter) -> Vec<u8> {
    if analysis.len() as u64 <= MAX_ANALYSIS_BYTES {
        return analysis.to_vec();
    }
    let error = format!("{} bytes, the limit is {MAX_ANALYSIS_BYTES}", analysis.len());
    let made_by = interpreter::minor_version(python);
    json!({"error": error, "coverage": python.coverage, "python": made_by}).to_string().into_bytes()
}

/// The analyses of `wanted`, as the text of one JSON object each: of copies, which nobody changes meanwhile.
pub(crate) fn analyse(
    lib_root: &str,
    config: &Config,
    wanted: &[&Source],
    archived: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut analyses = vec![Vec::new(); wanted.len()];
    let trusted = trusted(config);
    for python in &config.interpreters {
        let mine: Vec<usize> = (0..wanted.len())
            .filter(|&i| wanted.get(i).is_some_and(|source| source.interpreter == python.path))
            .collect();
        if mine.is_empty() {
            continue;
        }
        let mut copies = Copies::new(lib_root, &config.data_root, interpreter::identity(python)?)?;
        let (mut paths, mut names) = (Vec::new(), BTreeMap::new());
        for source in mine.iter().filter_map(|&i| wanted.get(i)) {
            let copy = copies.take(Path::new(&source.path), &text_of(source, archived, &trusted)?)?;
            let copy = copy.to_string_lossy().into_owned();
            names.insert(copy.clone(), source.path.clone());
            paths.push(copy);
        }
        copies.close()?;
        let request = json!({"mode": "analyse", "coverage_dir": coverage_dir::path(lib_root, python),
            "paths": paths, "names": names});
        let answer = ask(lib_root, python, &request, Some(copies.folder()))?;
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
                *slot = in_bounds(line, python);
            }
        }
    }
    Ok(analyses)
}
