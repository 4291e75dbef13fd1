//! Every format that was asked for, to where it was asked for.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use pulpcov_coverage::numbers::display_percent;
use pulpcov_coverage::render::ci::{render_badge, render_junit, render_sonar};
use pulpcov_coverage::render::html::{HtmlAbout, Site};
use pulpcov_coverage::render::json::{About, render_json};
use pulpcov_coverage::render::lcov::render_lcov;
use pulpcov_coverage::render::markdown::render_table;
use pulpcov_coverage::render::summary::{SummaryAbout, render_summary};
use pulpcov_coverage::render::text::{render_patch, render_text};
use pulpcov_coverage::render::xml::{XmlAbout, render_xml};
use pulpcov_coverage::report::FileReport;
use pulpcov_coverage::source_text;

use super::output::{Settings, TableForm};
use super::{FileOutputs, wrong};
use crate::exit::usage;
use crate::output::terminal::printable;
use crate::output::{file, terminal};
use crate::report::{html_site, rcfile, trend};
use crate::run::ledger::Ledger;

pub(super) fn all(written: &FileOutputs<'_>) -> Result<()> {
    for_programs(written)?;
    for_ci(written)?;
    html(written)?;
    table(written)
}

fn for_programs(written: &FileOutputs<'_>) -> Result<()> {
    let FileOutputs { reported, output, settings, .. } = written;
    let report = reported.for_servers();
    let headline = reported.headline();
    if let Some(path) = &output.json {
        let about = About {
            timestamp: jiff::Timestamp::now().to_string(),
            headline: headline.clone(),
            precision: settings.precision.into(),
            selection: reported.selection.clone(),
            hosts: reported.ledger.as_ref().map(Ledger::to_json).unwrap_or_default(),
            left_out: reported.left_out,
            patch: written.patch.clone(),
        };
        write_to(path, |out| render_json(report, &about, out))?;
    }
    if let Some(path) = &output.xml {
        let about = XmlAbout {
            timestamp: jiff::Timestamp::now().as_millisecond(),
            source: if settings.relative_files && reported.has_relative_paths {
                Some(String::new())
            } else {
                reported.folder.clone()
            },
            roots: reported.folder.as_deref().map(|folder| roots(settings, folder)).unwrap_or_default(),
            headline: headline.clone(),
            package_depth: settings.package_depth,
            skip_empty: settings.table.skip.empty,
        };
        write_to(path, |out| render_xml(report, &about, out))?;
    }
    if let Some(path) = &output.lcov {
        write_to(path, |out| render_lcov(report, &headline, settings.table.skip.empty, out))?;
    }
    Ok(())
}

/// `[run] source`, of what is there: coverage.py takes packages' names for folders, too, and they are none.
fn roots(settings: &Settings, folder: &str) -> Vec<String> {
    let there = settings.sources.iter().filter(|source| Path::new(source).exists());
    let place = |source: &String| {
        if settings.relative_files {
            source.trim_end_matches('/').to_owned()
        } else {
            rcfile::canonical(Path::new(folder), source)
        }
    };
    there.map(place).collect()
}

fn for_ci(written: &FileOutputs<'_>) -> Result<()> {
    let FileOutputs { reported, output, settings, .. } = written;
    let report = &reported.report;
    if let Some(path) = &output.markdown {
        let about = SummaryAbout {
            title: settings.title.clone(),
            headline: reported.headline(),
            complete: reported.is_complete(),
            gates: written.gates.to_vec(),
            warnings: written.warnings.clone(),
            patch: written.patch.clone(),
            precision: settings.precision.into(),
        };
        write_to(path, |out| render_summary(report, &about, out))?;
    }
    if let Some(path) = &output.junit {
        let hosts = reported.ledger.as_ref().map(Ledger::host_rows).unwrap_or_default();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S").to_string();
        write_to(path, |out| render_junit(&hosts, written.gates, &now, out))?;
    }
    if let Some(path) = &output.sonar {
        write_to(path, |out| render_sonar(reported.for_servers(), out))?;
    }
    if let Some(path) = &output.badge {
        write_to(path, |out| render_badge(report, reported.is_complete(), out))?;
    }
    Ok(())
}

fn html(written: &FileOutputs<'_>) -> Result<()> {
    let FileOutputs { reported, output, settings, .. } = written;
    let Some(folder) = &output.html else { return Ok(()) };
    let about = HtmlAbout {
        title: settings.title.clone(),
        timestamp: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        headline: reported.headline(),
        complete: reported.is_complete(),
        selection: reported.selection.clone(),
        warnings: written.warnings.clone(),
        hosts: reported.ledger.as_ref().map(Ledger::host_rows).unwrap_or_default(),
        history: if output.history.is_empty() { None } else { Some(trend::picture(&output.history)?) },
        precision: settings.precision.into(),
        skip: settings.html_skip,
    };
    let source = |file: &FileReport| Some(source_text::decode(&(reported.source)(file)?));
    html_site::write(folder, &Site::new(&reported.report, &about, &source)).map_err(wrong)?;
    // The page to open is not what was named.
    terminal::say(&format!("wrote {}", printable(&folder.join("index.html").to_string_lossy())));
    Ok(())
}

fn table(written: &FileOutputs<'_>) -> Result<()> {
    let FileOutputs { reported, output, settings, .. } = written;
    let Some(path) = output.table_place() else { return Ok(()) };
    let report = &reported.report;
    let table = settings.table_of(report);
    let headline = reported.headline();
    let render = |out: &mut dyn Write| match settings.form {
        TableForm::Text => {
            if !headline.is_empty() {
                writeln!(out, "{headline}\n")?;
            }
            render_text(report, &table, out)?;
            written.patch.as_ref().map_or(Ok(()), |patch| render_patch(report, patch, &table, out))
        }
        TableForm::Markdown => render_table(report, &table, out),
        TableForm::Total => {
            writeln!(out, "{}", display_percent(report.percent_covered(), table.precision))
        }
    };
    if path == Path::new("-") && output.spare_stdout {
        // As with all that a person reads; one who has left has what he wanted.
        terminal::say_all(render);
        return Ok(());
    }
    write_to(path, render)
}

pub(crate) fn write_to(
    path: &Path,
    render: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    if path == Path::new("-") {
        return terminal::print(render);
    }
    let mut bytes = Vec::new();
    render(&mut bytes)?;
    file::write_output(path, &bytes)
        .map_err(|error| usage(anyhow::anyhow!("cannot write {}: {error}", path.display())))
}
