//! Proves gate, recorder, flush and data file under an interpreter.

use std::path::Path;

use pulpcov_protocol::outcome::Interpreter;
use serde::Deserialize;

use crate::bundle::maps;
use crate::bundle::source_list;
use crate::failure::Failure;
use crate::host::{facts, interpreter};
use crate::install::sites;
use crate::receipt::Config;
use crate::recorder::coverage_dir;
use crate::recorder::data_dir::LEDGER;
use crate::recorder::{hook, ledger};

#[derive(Deserialize)]
struct SelftestAnswer {
    problems: Vec<String>,
}

/// Runs known code in a recorded process and its forked child, and compares what they left.
pub(crate) fn run(lib_root: &str, python: &Interpreter, config: &Config) -> Result<(), Failure> {
    let root = Path::new(lib_root).join(format!(".selftest-{}", facts::random_word()?));
    fs_err::create_dir(&root)?;
    let result = fs_err::create_dir(root.join(LEDGER)).map_err(Failure::from).and_then(|()| {
        // Whoever it is run as writes there; others need not look.
        let identity = interpreter::identity(python)?;
        identity.give(&root.join(LEDGER))?;
        identity.give(&root)?;
        prove(lib_root, python, config, &root)
    });
    let _ = fs_err::remove_dir_all(&root);
    result.map_err(|failure| Failure {
        msg: format!(
            "self-test under {} (Python {}, coverage {}) failed: {}",
            python.path, python.version, python.coverage, failure.msg
        ),
        ..failure
    })
}

/// Data that cannot be analysed would be as good as none.
fn analysis(lib_root: &str, python: &Interpreter) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Analysed {
        #[serde(default)]
        statements: Vec<u32>,
        error: Option<String>,
    }
    let canary = Path::new(lib_root).join("hook").join("_pulpcov_canary.py");
    let found = source_list::analyse_one(lib_root, python, &canary)?;
    let found: Analysed = serde_json::from_slice(&found)
        .map_err(|error| Failure::new(format!("the analysis answered no JSON: {error}")))?;
    match found.error {
        Some(error) => Err(Failure::new(format!("the analysis fails: {error}"))),
        None if CANARY_STATEMENTS.iter().all(|line| found.statements.contains(line)) => Ok(()),
        None => Err(Failure::new(format!("the analysis finds statements {:?}", found.statements))),
    }
}

/// Statements of the canary that any coverage.py finds.
const CANARY_STATEMENTS: [u32; 5] = [4, 5, 6, 11, 18];

/// The data files of the self-test's maps, by the very code that makes those of the service's.
fn write_data(lib_root: &str, python: &Interpreter, config: &Config, root: &Path) -> Result<(), Failure> {
    let mut config = config.clone();
    root.clone_into(&mut config.data_root);
    config.interpreters = vec![python.clone()];
    let records = ledger::read_all(root, config.own_install())?.records;
    let written = maps::write(lib_root, &config, &records);
    written.failed.into_values().next().map_or(Ok(()), |reason| Err(Failure::new(reason)))
}

fn prove(lib_root: &str, python: &Interpreter, config: &Config, root: &Path) -> Result<(), Failure> {
    let script = Path::new(lib_root).join("hook").join("pulpcov-selftest");
    let start = || sites::hooked(lib_root, python).path_arg(&script);
    start().args(&["run"]).writes(root).env("PULPCOV_SELFTEST", root).env(hook::SWITCH, "1").answer(b"")?;
    let coverage = coverage_dir::path(lib_root, python);
    let is_live = config.has_live_map(python);
    write_data(lib_root, python, config, root)?;
    let (branch, is_live) = (config.profile.branch.to_string(), is_live.to_string());
    let check = start().args(&["check"]).path_arg(root).path_arg(&coverage).args(&[&branch, &is_live]);
    let answer = check.answer(b"")?;
    let verdict: SelftestAnswer = serde_json::from_slice(&answer)
        .map_err(|error| Failure::new(format!("it answered no JSON: {error}")))?;
    if let Some(problem) = verdict.problems.first() {
        return Err(Failure::new(problem.clone()));
    }
    analysis(lib_root, python)?;
    // And a Python that is nobody's service stays untouched.
    let other = sites::hooked(lib_root, python)
        .args(&["-c", "import sys; print('coverage' in sys.modules)"])
        .answer(b"")?;
    if other.trim_ascii() != b"False" {
        return Err(Failure::new("a process that is not the profile's imports coverage"));
    }
    Ok(())
}
