//! A Python of this machine that tells what coverage.py knows of sources; its answers are kept, by the
//! content of the source, for the next time.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pulpcov_coverage::config::Config;
use pulpcov_data_file::data::{Kind, Measured, MeasuredFile};
use pulpcov_protocol::manifest::analysis_key_text;
use pulpcov_protocol::text::{error_chain, hex};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::output::file;

/// Before the program that agents run on hosts, too: nothing is imported from the working directory, which `python -c`
/// has on its path. A project may have a `types.py` or `token.py` of its own, and its code is not to be run.
const WITHOUT_THE_WORKING_DIRECTORY: &str =
    "import sys\nsys.path[:] = [folder for folder in sys.path if folder]\n";

/// Overrides where answers are kept; empty keeps none.
const CACHE_VARIABLE: &str = "PULPCOV_CACHE_DIR";

#[derive(Debug, thiserror::Error)]
pub(crate) enum AnalyserError {
    #[error("cannot run {python}")]
    Run { python: String, source: std::io::Error },
    #[error("{python} could not analyse the sources: {reason}")]
    Analysis { python: String, reason: String },
}

/// What decides an analysis besides the source and who makes it: coverage.py's lists of regular
/// expressions. Nothing means coverage.py's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Options {
    exclude: Option<Vec<String>>,
    exclude_also: Vec<String>,
    partial: Option<Vec<String>>,
    partial_always: Option<Vec<String>>,
    partial_also: Vec<String>,
    /// Where plugins are configured that this Python is to load.
    config_file: Option<PathBuf>,
}

impl Options {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            exclude: config.exclude_lines.clone(),
            exclude_also: config.exclude_also.clone(),
            partial: config.partial_branches.clone(),
            partial_always: config.partial_branches_always.clone(),
            partial_also: config.partial_also.clone(),
            config_file: config.file.clone().filter(|_| !config.plugins.is_empty()),
        }
    }

    /// The words that stand for them in an analysis's key.
    fn key(&self) -> String {
        if *self == Self::default() { "defaults".to_owned() } else { serde_json::json!(self).to_string() }
    }
}

/// A configuration as its plugins leave it; where it names none, as it is.
pub(crate) fn configured(program: &str, config: Config) -> Result<Config, AnalyserError> {
    let options = Options::of(&config);
    if options.config_file.is_none() {
        return Ok(config);
    }
    let wanted: Vec<String> = pulpcov_coverage::config::option_names().collect();
    let request = serde_json::json!({"mode": "configure", "options": options, "wanted": wanted});
    let answer = ask(program, &options, &request)?;
    config
        .configured(&answer)
        .map_err(|error| AnalyserError::Analysis { python: program.to_owned(), reason: error_chain(&error) })
}

/// A source to be analysed.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    /// Nothing where it cannot be read, or is no file.
    pub(crate) bytes: Option<Vec<u8>>,
    /// What a plugin of coverage.py measured, and has to translate.
    pub(crate) traced: Option<Traced>,
}

#[derive(Serialize)]
pub(crate) struct Traced {
    plugin: String,
    lines: Vec<u32>,
    arcs: Vec<(i32, i32)>,
}

impl Traced {
    /// Nothing where coverage.py itself measured it.
    pub(crate) fn of(measured: &MeasuredFile, kind: Kind) -> Option<Self> {
        if measured.tracer.is_empty() {
            return None;
        }
        let all = measured.all(kind);
        let lines = match all.to_lines() {
            Measured::Lines(lines) => lines.iter().collect(),
            Measured::Arcs(_) => Vec::new(),
        };
        let arcs = match &all {
            Measured::Arcs(arcs) => arcs.iter().collect(),
            Measured::Lines(_) => Vec::new(),
        };
        Some(Self { plugin: measured.tracer.clone(), lines, arcs })
    }
}

/// Who answers.
#[derive(Deserialize)]
struct About {
    coverage: String,
    python: String,
}

pub(crate) struct Analyser {
    program: String,
    about: About,
    options: Options,
    cache: Option<PathBuf>,
}

impl Analyser {
    pub(crate) fn new(program: &str, options: Options) -> Result<Self, AnalyserError> {
        let request = serde_json::json!({"mode": "about", "options": options});
        let answer = ask(program, &options, &request)?;
        let about = serde_json::from_slice(&answer).map_err(|error| AnalyserError::Analysis {
            python: program.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { program: program.to_owned(), about, options, cache: cache_folder() })
    }

    /// One analysis a source, in their order. Work is split over the processors: analysing is most of a
    /// report's time.
    pub(crate) fn analyse(&self, sources: &[Source<'_>]) -> Result<Vec<Vec<u8>>, AnalyserError> {
        let kept: Vec<(Option<PathBuf>, Option<Vec<u8>>)> = sources
            .par_iter()
            .map(|source| {
                let bytes = source.bytes.as_ref().filter(|_| source.traced.is_none());
                let place = bytes.and_then(|bytes| self.place(bytes));
                let found = place.as_ref().and_then(|place| std::fs::read(place).ok());
                (place, found)
            })
            .collect();
        let wanted: Vec<usize> =
            (0..sources.len()).filter(|&i| kept.get(i).is_some_and(|(_, found)| found.is_none())).collect();
        let parts = std::thread::available_parallelism().map_or(1, usize::from);
        let size = wanted.len().div_ceil(parts).max(1);
        let answers: Vec<Vec<Vec<u8>>> = wanted
            .par_chunks(size)
            .map(|part| self.ask_part(&part.iter().filter_map(|&i| sources.get(i)).collect::<Vec<_>>()))
            .collect::<Result<_, _>>()?;
        let mut all: Vec<Vec<u8>> = Vec::with_capacity(sources.len());
        let mut new = answers.into_iter().flatten();
        for ((place, found), source) in kept.into_iter().zip(sources) {
            let answer = if let Some(found) = found {
                found
            } else {
                let answer = new.next().unwrap_or_default();
                // A source that changed meanwhile is not what was analysed.
                if let (Some(place), Some(bytes)) = (place, &source.bytes)
                    && std::fs::read(source.path).is_ok_and(|now| now == *bytes)
                {
                    keep(&place, &answer);
                }
                answer
            };
            all.push(answer);
        }
        Ok(all)
    }

    fn place(&self, source: &[u8]) -> Option<PathBuf> {
        let digest = hex(Sha256::digest(source));
        let key = analysis_key_text(&digest, &self.about.coverage, &self.about.python, &self.options.key());
        let key = hex(Sha256::digest(key.as_bytes()));
        Some(self.cache.as_ref()?.join(key.get(..2)?).join(format!("{key}.json")))
    }

    fn ask_part(&self, sources: &[&Source<'_>]) -> Result<Vec<Vec<u8>>, AnalyserError> {
        let paths: Vec<_> = sources.iter().map(|source| source.path.to_string_lossy()).collect();
        let traced: BTreeMap<_, _> = sources
            .iter()
            .filter_map(|one| Some((one.path.to_string_lossy(), one.traced.as_ref()?)))
            .collect();
        let request = serde_json::json!({
            "mode": "analyse", "paths": paths, "traced": traced, "options": self.options
        });
        let answer = ask(&self.program, &self.options, &request)?;
        let lines = answer.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let answers: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
        if answers.len() == paths.len() {
            return Ok(answers);
        }
        let reason = format!("it answered for {} of {} sources", answers.len(), paths.len());
        Err(AnalyserError::Analysis { python: self.program.clone(), reason })
    }
}

/// Where answers are kept: a cache, that may be deleted at any time.
fn cache_folder() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from);
    if let Some(folder) = named(CACHE_VARIABLE) {
        return Some(folder).filter(|folder| !folder.as_os_str().is_empty());
    }
    let caches = named("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
    let caches = caches.or_else(|| Some(std::env::home_dir()?.join(".cache")))?;
    Some(caches.join("pulpcov").join("analysis"))
}

/// An answer that cannot be kept is made again the next time, and so is a failure: it names its file.
fn keep(place: &Path, answer: &[u8]) {
    if answer.starts_with(b"{\"error\"") {
        return;
    }
    let Some(folder) = place.parent() else { return };
    let _ = std::fs::create_dir_all(folder).and_then(|()| file::write_cache(place, answer));
}

fn ask(program: &str, options: &Options, request: &serde_json::Value) -> Result<Vec<u8>, AnalyserError> {
    let io = |source| AnalyserError::Run { python: program.to_owned(), source };
    // Nor from PYTHONPATH, which may name it, too; but plugins may lie there.
    let isolated: &[&str] = if options.config_file.is_none() { &["-E"] } else { &[] };
    let mut child = Command::new(program)
        .args(isolated)
        .args(["-c", &[WITHOUT_THE_WORKING_DIRECTORY, pulpcov_data_file::ANALYSIS].concat()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    let request = request.to_string();
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Written from the side: the answer may fill its pipe before the request is all read.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(request.as_bytes())));
        child.wait_with_output()
    })
    .map_err(io)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let reason = words.lines().last().unwrap_or("no message").to_owned();
    Err(AnalyserError::Analysis { python: program.to_owned(), reason })
}
