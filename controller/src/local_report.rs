//! A report without a fleet: data files of this machine, analysed by a Python of this machine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use pulpcov_coverage::analysis::SourceAnalysis;
use pulpcov_coverage::data::{CoverageData, Kind};
use pulpcov_coverage::report::{FileReport, Report, report_file};
use rayon::prelude::*;

/// The same program that agents run on hosts.
const ANALYSIS: &str = include_str!("../../agent/hook/analysis.py");

#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalReportError {
    #[error("cannot run {python}")]
    Run { python: String, source: std::io::Error },
    #[error("{python} could not analyse the sources: {reason}")]
    Analysis { python: String, reason: String },
    #[error("{path}: {reason}")]
    Source { path: String, reason: String },
    #[error("the data has nothing measured")]
    Nothing,
}

/// The report of combined data. Names are relative to `cwd` where they lie below it.
pub(crate) fn make(
    data: &CoverageData,
    python: &str,
    cwd: &Path,
    ignore_errors: bool,
) -> Result<(Report, Vec<String>), LocalReportError> {
    let kind = data.kind().ok_or(LocalReportError::Nothing)?;
    let paths: Vec<&str> = data.files.keys().map(String::as_str).collect();
    let answers = analyse(python, &paths)?;
    let measured: Vec<_> = data.files.iter().zip(answers).collect();
    let files: Vec<Result<(FileReport, String), LocalReportError>> = measured
        .into_par_iter()
        .map(|((path, measured), answer)| {
            let source = SourceAnalysis::from_json(&answer).map_err(|error| LocalReportError::Source {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            let coverage = source.coverage.clone();
            let report = report_file(relative(path, cwd), &Arc::new(source), &measured.all(kind), []);
            Ok((report, coverage))
        })
        .collect();
    let mut report = Report { branches: kind == Kind::Arcs, ..Report::default() };
    let mut warnings = Vec::new();
    for file in files {
        match file {
            Ok((file, coverage)) => {
                report.coverage_versions.insert(coverage);
                report.files.push(file);
            }
            Err(error) if ignore_errors => warnings.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    report.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((report, warnings))
}

fn relative(path: &str, cwd: &Path) -> String {
    let path = PathBuf::from(path);
    path.strip_prefix(cwd).unwrap_or(&path).to_string_lossy().into_owned()
}

/// One analysis a path, in their order. Work is split over the processors: analysing is most of a
/// report's time.
fn analyse(python: &str, paths: &[&str]) -> Result<Vec<Vec<u8>>, LocalReportError> {
    let parts = std::thread::available_parallelism().map_or(1, usize::from);
    let size = paths.len().div_ceil(parts).max(1);
    let answers: Result<Vec<Vec<Vec<u8>>>, LocalReportError> =
        paths.par_chunks(size).map(|part| analyse_part(python, part)).collect();
    Ok(answers?.into_iter().flatten().collect())
}

fn analyse_part(python: &str, paths: &[&str]) -> Result<Vec<Vec<u8>>, LocalReportError> {
    let failed = |reason: String| LocalReportError::Analysis { python: python.to_owned(), reason };
    let io = |source| LocalReportError::Run { python: python.to_owned(), source };
    let mut child = Command::new(python)
        .args(["-c", ANALYSIS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(io)?;
    let request = serde_json::json!({"mode": "analyse", "paths": paths}).to_string();
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Written from the side: the answer may fill its pipe before the request is all read.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(request.as_bytes())));
        child.wait_with_output()
    })
    .map_err(io)?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(failed(words.lines().last().unwrap_or("no message").to_owned()));
    }
    let answers: Vec<Vec<u8>> = output
        .stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    if answers.len() == paths.len() {
        Ok(answers)
    } else {
        Err(failed(format!("it answered for {} of {} sources", answers.len(), paths.len())))
    }
}
