//! How coverage went over run directories.

use std::path::PathBuf;

use anyhow::Result;
use pulpcov_coverage::glob::Globs;
use pulpcov_coverage::render::trend::{Point, render_svg};
use pulpcov_coverage::selection::Selection;
use pulpcov_protocol::text::error_chain;

use crate::exit::usage;
use crate::report::from_runs::{self, ReportRequest};
use crate::run::dir::RunDir;

/// One point a run, the oldest first. Links to a run, such as `latest`, count once.
pub(crate) fn points(runs: &[PathBuf], selection: &Selection) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for path in runs {
        let failed = |reason: String| usage(anyhow::anyhow!("{}: {reason}", path.display()));
        let place = std::fs::canonicalize(path).map_err(|error| failed(error.to_string()))?;
        if !seen.insert(place.clone()) {
            continue;
        }
        if !RunDir::is_one(&place) {
            return Err(failed("is no run directory".to_owned()));
        }
        let run = RunDir { path: place.clone() }.read_file().map_err(|error| failed(error_chain(&error)))?;
        let wanted = ReportRequest {
            selection,
            include: Globs::default(),
            omit: Globs::default(),
            sources: false,
            map_releases: false,
            analyser: None,
        };
        let made = from_runs::make(std::slice::from_ref(&place), &wanted)
            .map_err(|error| failed(error_chain(&error)))?;
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        points.push(Point {
            name,
            created: run.created,
            numbers: made.report.totals(),
            headline: made.ledger.headline(),
            complete: made.is_complete(),
        });
    }
    points.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.name.cmp(&b.name)));
    Ok(points)
}

/// The picture of a trend, as SVG.
pub(crate) fn picture(runs: &[PathBuf]) -> Result<String> {
    let mut bytes = Vec::new();
    render_svg(&points(runs, &Selection::All)?, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
