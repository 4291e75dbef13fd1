//! For CI servers: `JUnit` of hosts and gates, `SonarQube`'s generic coverage, a badge.

use std::collections::BTreeMap;
use std::io;

use super::html::HostRow;
use super::names::printable;
use super::xml::escape;
use crate::gates::Gate;
use crate::numbers::display_percent;
use crate::report::Report;

/// Hosts and gates as test cases: a host that is missing, or lost something, fails, and so does a gate
/// that is not met.
pub fn render_junit(
    hosts: &BTreeMap<String, HostRow>,
    gates: &[Gate],
    timestamp: &str,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let hosts: Vec<(&str, Option<String>)> =
        hosts.iter().map(|(name, row)| (name.as_str(), row.failure())).collect();
    let gates: Vec<(&str, Option<String>)> =
        gates.iter().map(|gate| (gate.name.as_str(), gate.failure.clone())).collect();
    let failures =
        |cases: &[(&str, Option<String>)]| cases.iter().filter(|(_, failure)| failure.is_some()).count();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(
        out,
        "<testsuites name=\"pulpcov\" tests=\"{}\" failures=\"{}\" errors=\"0\">",
        hosts.len() + gates.len(),
        failures(&hosts) + failures(&gates)
    )?;
    for (suite, cases) in [("pulpcov.hosts", &hosts), ("pulpcov.gates", &gates)] {
        writeln!(
            out,
            "  <testsuite name=\"{suite}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" timestamp=\"{}\">",
            cases.len(),
            failures(cases),
            text(timestamp)
        )?;
        for (name, failure) in cases {
            write!(out, "    <testcase classname=\"{suite}\" name=\"{}\"", text(name))?;
            if let Some(words) = failure {
                writeln!(out, ">\n      <failure message=\"{}\"/>\n    </testcase>", text(words))?;
            } else {
                writeln!(out, "/>")?;
            }
        }
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")
}

fn text(words: &str) -> String {
    escape(&printable(words))
}

impl HostRow {
    /// Why not everything came from this host.
    fn failure(&self) -> Option<String> {
        let count =
            |n: usize, words: &str| (n > 0).then(|| format!("{n} of {} processes {words}", self.processes));
        let parts = [
            self.trouble.clone(),
            count(self.died, "died unsaved"),
            count(self.unrecorded, "could not record"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// `SonarQube`'s generic coverage: lines, and how many of their branches were taken.
pub fn render_sonar(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(out, "<coverage version=\"1\">")?;
    for file in &report.files {
        writeln!(out, "  <file path=\"{}\">", text(&file.name))?;
        for line in file.analysed.statements() {
            let covered = !file.analysed.missing.contains(&line);
            write!(out, "    <lineToCover lineNumber=\"{line}\" covered=\"{covered}\"")?;
            if let Some((branches, taken)) = file.analysed.branch_stats.get(&line) {
                write!(out, " branchesToCover=\"{branches}\" coveredBranches=\"{taken}\"")?;
            }
            writeln!(out, "/>")?;
        }
        writeln!(out, "  </file>")?;
    }
    writeln!(out, "</coverage>")
}

/// From what percentage on a badge has which colour.
const COLOURS: [(f64, &str); 5] =
    [(90.0, "#2c9142"), (75.0, "#7a9a01"), (60.0, "#b58400"), (40.0, "#d9682b"), (0.0, "#c9302c")];

/// A badge with the total, and a mark where the report is not complete.
pub fn render_badge(report: &Report, complete: bool, out: &mut dyn io::Write) -> io::Result<()> {
    let percent = report.percent_covered();
    let shown = report.nothing().map_or_else(|| format!("{}%", display_percent(percent, 0)), str::to_owned);
    let value = if complete { shown } else { format!("{shown} (incomplete)") };
    let colour = COLOURS.iter().find(|(from, _)| percent >= *from).map_or("#c9302c", |(_, colour)| colour);
    // Seven pixels a letter is what the font takes at this size.
    let (left, right) = (64, 12 + 7 * value.len());
    let width = left + right;
    let middle = left + right / 2;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"20\" role=\"img\" aria-label=\"coverage: {value}\">\
         <title>coverage: {value}</title><rect width=\"{width}\" height=\"20\" rx=\"3\" fill=\"#484f57\"/>\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" rx=\"3\" fill=\"{colour}\"/>\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\">\
         <text x=\"32\" y=\"14\">coverage</text><text x=\"{middle}\" y=\"14\">{value}</text></g></svg>"
    )
}
