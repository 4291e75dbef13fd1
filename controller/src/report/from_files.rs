//! A report without a fleet: data files of this machine, analysed by a Python of this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pulpcov_coverage::analysis::{AnalysisError, SourceAnalysis, should_be_python};
use pulpcov_coverage::glob::Globs;
use pulpcov_coverage::report::{FileReport, Report, report_file};
use pulpcov_data_file::data::{CoverageData, Kind};
use rayon::prelude::*;

use crate::report::analyser::{Analyser, AnalyserError, Source, Traced};

#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalReportError {
    #[error(transparent)]
    Analyser(#[from] AnalyserError),
    #[error("{path}: {reason}")]
    Source { path: String, reason: String },
    /// Like the next two, "No data to report." of coverage.py.
    #[error("no data to report: nothing was measured")]
    Nothing,
    #[error("no data to report: include and omit leave nothing")]
    AllLeftOut,
    #[error("no data to report: no source of the data can be analysed{0}")]
    NoSource(String),
}

/// What of the data is reported, and how strictly.
pub(crate) struct ReportRequest {
    pub(crate) include: Globs,
    pub(crate) omit: Globs,
    pub(crate) ignore_errors: bool,
    /// Whether the contexts of each line are told.
    pub(crate) contexts: bool,
}

/// The report of combined data. Names are relative to `cwd` where they lie below it.
pub(crate) fn make(
    data: &CoverageData,
    analyser: &Analyser,
    cwd: &Path,
    wanted: &ReportRequest,
) -> Result<(Report, Vec<String>), LocalReportError> {
    let kind = data.kind().filter(|_| !data.files.is_empty()).ok_or(LocalReportError::Nothing)?;
    let measured: Vec<_> = data
        .files
        .iter()
        .map(|(path, measured)| (cwd.join(path), path, measured))
        .filter(|(absolute, _, _)| {
            let absolute = absolute.to_string_lossy();
            (wanted.include.is_empty() || wanted.include.fits(&absolute)) && !wanted.omit.fits(&absolute)
        })
        .collect();
    if measured.is_empty() {
        return Err(LocalReportError::AllLeftOut);
    }
    let sources: Vec<_> = measured
        .iter()
        .map(|(path, _, measured)| Source {
            path,
            bytes: std::fs::read(path).ok(),
            traced: Traced::of(measured, kind),
        })
        .collect();
    let answers = analyser.analyse(&sources)?;
    let measured: Vec<_> = measured.into_iter().zip(answers).collect();
    let files: Vec<Result<FileReport, LocalReportError>> = measured
        .into_par_iter()
        .filter_map(|((_, path, measured), answer)| match analysed(&answer, kind) {
            // A template that was rendered to Python, for one; coverage.py leaves it out without a word, too.
            Err(error) if error.is_not_python() && !should_be_python(path) => None,
            Err(error) => {
                Some(Err(LocalReportError::Source { path: path.clone(), reason: error.to_string() }))
            }
            Ok(source) => Some(Ok((path, measured, source))),
        })
        .map(|found| {
            let (path, measured, source) = found?;
            let named = source.translated.as_ref().map(|translated| translated.name.clone());
            let name = named.unwrap_or_else(|| relative(path, cwd));
            let mut report = report_file(name, &Arc::new(source), &measured.all(kind), []);
            if wanted.contexts {
                report.contexts = measured.contexts_by_line();
            }
            Ok(report)
        })
        .collect();
    let mut report =
        Report { branches: kind == Kind::Arcs, show_contexts: wanted.contexts, ..Report::default() };
    let mut warnings = Vec::new();
    for file in files {
        match file {
            Ok(file) => {
                report.coverage_versions.insert(file.source.coverage.clone());
                report.files.push(file);
            }
            Err(error) if wanted.ignore_errors => warnings.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    if report.files.is_empty() {
        let reasons: Vec<String> = warnings.iter().map(|warning| format!("; {warning}")).collect();
        return Err(LocalReportError::NoSource(reasons.concat()));
    }
    report.files.sort_by(|a, b| a.name.cmp(&b.name));
    warnings.extend(report.inexact_branches());
    Ok((report, warnings))
}

fn analysed(answer: &[u8], kind: Kind) -> Result<SourceAnalysis, AnalysisError> {
    SourceAnalysis::of_this_machine(answer)?.with_branches(kind == Kind::Arcs)
}

fn relative(path: &str, cwd: &Path) -> String {
    let path = PathBuf::from(path);
    path.strip_prefix(cwd).unwrap_or(&path).to_string_lossy().into_owned()
}
