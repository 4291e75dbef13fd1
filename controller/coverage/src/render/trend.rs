//! How coverage went over several runs: a table, JSON, and a picture.

use std::io;

use serde_json::json;

use super::names::{printable, write_json};
use super::text::write_table;
use super::xml::escape;
use crate::numbers::{Numbers, display_percent};

/// One run of a trend.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub name: String,
    /// When it was made, ISO 8601.
    pub created: String,
    pub numbers: Numbers,
    pub headline: String,
    pub complete: bool,
}

impl Point {
    /// How much was covered, in percent; a run that measured nothing has no place in a line.
    fn percent(&self) -> Option<f64> {
        (self.numbers.statements > 0).then(|| self.numbers.percent_covered())
    }
}

pub fn render_table(points: &[Point], precision: usize, out: &mut dyn io::Write) -> io::Result<()> {
    let mut rows = vec![["Run", "Stmts", "Miss", "Cover", "Change", "Complete"].map(str::to_owned).to_vec()];
    let mut before: Option<f64> = None;
    for point in points {
        let percent = point.percent();
        let change = before
            .zip(percent)
            .map(|(before, percent)| format!("{:+.width$}", percent - before, width = precision.max(1)));
        before = percent.or(before);
        rows.push(vec![
            printable(&point.name),
            point.numbers.statements.to_string(),
            point.numbers.missing.to_string(),
            percent.map_or_else(
                || "-".to_owned(),
                |percent| format!("{}%", display_percent(percent, precision)),
            ),
            change.unwrap_or_default(),
            if point.complete { "yes" } else { "no" }.to_owned(),
        ]);
    }
    write_table(&rows, false, out)
}

pub fn render_json(points: &[Point], out: &mut dyn io::Write) -> io::Result<()> {
    let runs: Vec<_> = points
        .iter()
        .map(|point| {
            json!({
                "run": point.name, "created": point.created, "headline": point.headline, "complete": point.complete,
                "num_statements": point.numbers.statements, "covered_lines": point.numbers.executed(),
                "missing_lines": point.numbers.missing, "num_branches": point.numbers.branches,
                "covered_branches": point.numbers.executed_branches(),
                "percent_covered": point.percent(),
            })
        })
        .collect();
    write_json(&json!({"format": 1, "runs": runs}), out)?;
    out.write_all(b"\n")
}

/// Size of the picture, and of the room for its words.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 44.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;

/// A line over all runs. Colours are set by a style sheet where there is one, and by attributes else.
#[expect(clippy::cast_precision_loss, reason = "runs are counted in hundreds")]
pub fn render_svg(points: &[Point], out: &mut dyn io::Write) -> io::Result<()> {
    let drawn: Vec<(usize, &Point, f64)> =
        points.iter().enumerate().filter_map(|(i, point)| Some((i, point, point.percent()?))).collect();
    let percents = || drawn.iter().map(|(_, _, percent)| *percent);
    // Whole tens around what there is: a change of one percent is to be seen.
    let lowest = percents().fold(100.0f64, f64::min);
    let highest = percents().fold(0.0f64, f64::max);
    let bottom = (lowest / 10.0).floor() * 10.0;
    let top = ((highest / 10.0).ceil() * 10.0).max(bottom + 10.0);
    let x = |i: usize| LEFT + (WIDTH - LEFT - 20.0) * i as f64 / (points.len().max(2) - 1) as f64;
    let y = |percent: f64| TOP + (HEIGHT - TOP - BOTTOM) * (top - percent) / (top - bottom);
    writeln!(
        out,
        "<svg class=\"trend\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"coverage over {} runs\">",
        points.len()
    )?;
    for tick in [bottom, f64::midpoint(bottom, top), top] {
        let y = y(tick);
        writeln!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#d9dde1\"/><text x=\"4\" y=\"{:.1}\" font-size=\"11\" fill=\"#5c636b\">{tick:.0}%</text>",
            WIDTH - 20.0,
            y + 4.0
        )?;
    }
    let line: Vec<String> =
        drawn.iter().map(|(i, _, percent)| format!("{:.1},{:.1}", x(*i), y(*percent))).collect();
    writeln!(
        out,
        "<polyline class=\"line\" points=\"{}\" fill=\"none\" stroke=\"#2c9142\" stroke-width=\"2\"/>",
        line.join(" ")
    )?;
    for (i, point, percent) in &drawn {
        let name = escape(&printable(&point.name));
        let note = if point.complete { "" } else { ", not complete" };
        // What is not complete is drawn hollow.
        let fill = if point.complete {
            " class=\"dot\" fill=\"#2c9142\""
        } else {
            " fill=\"none\" stroke=\"#c9302c\""
        };
        writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"{fill}><title>{name}: {}%{note}</title></circle>",
            x(*i),
            y(*percent),
            display_percent(*percent, 2)
        )?;
    }
    for (i, anchor) in [(0, "start"), (points.len().saturating_sub(1), "end")] {
        if let Some(point) = points.get(i).filter(|_| i > 0 || anchor == "start") {
            let day = point.created.get(..16).unwrap_or(&point.created).replace('T', " ");
            writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\" font-size=\"11\" fill=\"#5c636b\">{}</text>",
                x(i),
                HEIGHT - 6.0,
                escape(&printable(&day))
            )?;
        }
    }
    writeln!(out, "</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_and_none_are_drawn_too() {
        let point = Point {
            name: "<run>".into(),
            created: "2026-01-01T00:00:00Z".into(),
            numbers: Numbers { statements: 4, missing: 1, ..Numbers::default() },
            headline: String::new(),
            complete: false,
        };
        let nothing = Point { numbers: Numbers::default(), ..point.clone() };
        for (points, dots) in [
            (vec![], 0),
            (vec![point.clone()], 1),
            (vec![nothing.clone()], 0),
            (vec![point.clone(), nothing.clone(), point], 2),
        ] {
            let mut out = Vec::new();
            render_svg(&points, &mut out).expect("written");
            let text = String::from_utf8(out).expect("text");
            assert!(!text.contains("NaN") && !text.contains("inf") && !text.contains("<run>"), "{text}");
            assert_eq!(text.matches("<circle").count(), dots);
        }
        // A run of nothing is no run of 100 %.
        let mut out = Vec::new();
        render_table(&[nothing], 1, &mut out).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains(" - ") && !text.contains("100"), "{text}");
    }
}
