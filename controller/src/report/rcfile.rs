//! Finds and reads coverage.py's configuration, and answers what `[paths]` asks of this machine.

use std::path::{Component, Path, PathBuf};

use pulpcov_coverage::aliases::{AliasError, Aliases, FileSystem};
use pulpcov_coverage::config::{self, Config, ConfigError, Form};
use pulpcov_data_file::data::{CombineError, CoverageData};

#[derive(Debug, thiserror::Error)]
pub(crate) enum RcfileError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}")]
    Parse { path: PathBuf, source: ConfigError },
    #[error(transparent)]
    Alias(#[from] AliasError),
    #[error(transparent)]
    Combine(#[from] CombineError),
}

/// The configuration that `--rcfile` names; else, where `search` says so, the one that coverage.py would
/// find in this folder.
pub(crate) fn read(named: Option<&Path>, search: bool) -> Result<Config, RcfileError> {
    let from_environment = std::env::var_os("COVERAGE_RCFILE").map(PathBuf::from).filter(|_| search);
    if let Some(path) = named.map(Path::to_owned).or(from_environment) {
        let text = std::fs::read_to_string(&path)
            .map_err(|source| RcfileError::Read { path: path.clone(), source })?;
        return Ok(parse(&path, &text, true)?.unwrap_or_default());
    }
    if !search {
        return Ok(Config::default());
    }
    for (name, own) in [
        (".coveragerc", true),
        (".coveragerc.toml", true),
        ("setup.cfg", false),
        ("tox.ini", false),
        ("pyproject.toml", false),
    ] {
        let path = Path::new(name);
        match std::fs::read_to_string(path) {
            Ok(text) => {
                if let Some(found) = parse(path, &text, own)? {
                    return Ok(found);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(RcfileError::Read { path: path.to_owned(), source }),
        }
    }
    Ok(Config::default())
}

fn parse(path: &Path, text: &str, own: bool) -> Result<Option<Config>, RcfileError> {
    let is_toml = path.extension().is_some_and(|extension| extension == "toml");
    let form = if is_toml { Form::Toml { own } } else { Form::Ini { own } };
    let found = config::parse(text, form, &|name| std::env::var(name).ok())
        .map_err(|source| RcfileError::Parse { path: path.to_owned(), source })?;
    Ok(found.map(|config| Config { file: Some(path.to_owned()), ..config }))
}

/// This machine's files.
pub(crate) struct Disk {
    cwd: PathBuf,
}

/// Archives that Python imports from.
const ARCHIVES: [&str; 5] = [".zip/", ".whl/", ".egg/", ".pex/", ".par/"];

impl FileSystem for Disk {
    fn exists(&self, path: &str) -> bool {
        let in_archive = || {
            ARCHIVES.iter().any(|mark| {
                path.find(mark)
                    .and_then(|at| path.get(..at + mark.len() - 1))
                    .is_some_and(|file| self.cwd.join(file).exists())
            })
        };
        self.cwd.join(path).exists() || in_archive()
    }

    fn canonical(&self, path: &str) -> String {
        canonical(&self.cwd, path)
    }

    fn relative(&self, path: &str) -> String {
        let path = PathBuf::from(path);
        path.strip_prefix(&self.cwd).unwrap_or(&path).to_string_lossy().into_owned()
    }
}

/// A path without links and dots; of what is not there, as a pattern is not, what is there of it.
pub(crate) fn canonical(cwd: &Path, path: &str) -> String {
    if let Ok(whole) = std::fs::canonicalize(cwd.join(path)) {
        return whole.to_string_lossy().into_owned();
    }
    let path = without_dots(&cwd.join(path));
    let mut missing = Vec::new();
    let mut found = path.as_path();
    while let Some(parent) = found.parent().filter(|_| std::fs::symlink_metadata(found).is_err()) {
        missing.extend(found.file_name());
        found = parent;
    }
    let mut whole = std::fs::canonicalize(found).unwrap_or_else(|_| found.to_owned());
    whole.extend(missing.into_iter().rev());
    whole.to_string_lossy().into_owned()
}

fn without_dots(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// Data with its paths as `[paths]` maps them, and with slashes where they are of Windows.
pub(crate) fn map_paths(
    data: CoverageData,
    config: &Config,
    cwd: &Path,
) -> Result<CoverageData, RcfileError> {
    let mut aliases = aliases(config, cwd)?;
    if aliases.is_idle() && !data.files.keys().any(|path| path.contains('\\')) {
        return Ok(data);
    }
    let mut map = |path: &str| {
        let mapped = aliases.map(path);
        // Here a backslash may be part of a name.
        if cwd.join(&mapped).exists() { mapped } else { mapped.replace('\\', "/") }
    };
    Ok(data.map_paths(&mut map)?)
}

/// The rules of `[paths]`.
fn aliases(config: &Config, cwd: &Path) -> Result<Aliases<Disk>, AliasError> {
    let mut aliases = Aliases::new(config.relative_files.unwrap_or(false), Disk { cwd: cwd.to_owned() });
    for places in &config.paths {
        if let Some((result, patterns)) = places.split_first() {
            for pattern in patterns {
                aliases.add(pattern, result)?;
            }
        }
    }
    Ok(aliases)
}
