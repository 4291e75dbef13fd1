//! The page of one source file: every line, whether it ran, on which hosts, and its branches.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, PreEscaped, html};
use serde_json::json;

use super::{Page, Site, escape, escaped, highlight, json_block, layout, printable, region_name};
use crate::origin::Dimension;
use crate::report::FileReport;
use crate::view::View;

/// Most names that a footnote spells out.
const MAX_NAMES: usize = 60;

/// How a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Run,
    Missing,
    Partial,
    Excluded,
    /// No statement: a comment, an empty line, a docstring.
    None,
}

impl State {
    const fn class(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Missing => "mis",
            Self::Partial => "par",
            Self::Excluded => "exc",
            Self::None => "",
        }
    }

    /// What stands beside the line, for eyes that see no colours, and for print.
    const fn sign(self) -> &'static str {
        match self {
            Self::Missing => "!",
            Self::Partial => "~",
            Self::Excluded => "x",
            Self::Run | Self::None => "",
        }
    }
}

/// What a page tells of its file besides the text.
struct Lines<'a> {
    file: &'a FileReport,
    /// Lines that no branch was taken from, to where.
    not_taken: BTreeMap<i32, Vec<i32>>,
    /// Statement to the origins that ran it, as a place in `sets`.
    set_of: BTreeMap<u32, usize>,
    /// Each set of origins that some line has, once.
    sets: Vec<Vec<usize>>,
}

impl<'a> Lines<'a> {
    fn new(file: &'a FileReport) -> Self {
        let mut not_taken: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for &(from, to) in &file.analysed.missing_branches {
            not_taken.entry(from).or_default().push(to);
        }
        let mut origins_of: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (origin, lines) in &file.ran {
            for line in lines.iter() {
                origins_of.entry(line).or_default().push(*origin);
            }
        }
        let mut places: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
        let set_of = origins_of
            .into_iter()
            .map(|(line, set)| {
                let next = places.len();
                (line, *places.entry(set).or_insert(next))
            })
            .collect();
        let mut sets = vec![Vec::new(); places.len()];
        for (set, place) in places {
            if let Some(slot) = sets.get_mut(place) {
                *slot = set;
            }
        }
        Self { file, not_taken, set_of, sets }
    }

    fn state(&self, line: i32) -> State {
        let analysed = &self.file.analysed;
        if analysed.excluded.contains(&line) {
            State::Excluded
        } else if analysed.missing.contains(&line) {
            State::Missing
        } else if self.not_taken.contains_key(&line) {
            State::Partial
        } else if analysed.executed.contains(&line) {
            State::Run
        } else {
            State::None
        }
    }
}

pub(super) fn page(site: &Site<'_>, i: usize, file: &FileReport) -> String {
    let lines = Lines::new(file);
    let text = (site.source)(file);
    let main = html! {
        (tools(site, file, &lines))
        @match &text {
            Some(text) => {
                table #source aria-label="Source" {
                    colgroup { col.number; col.sign; @if site.report.has_hosts() { col.hosts; } col; }
                    thead { tr {
                        th scope="col" { "Line" } th scope="col" { "State" }
                        @if site.report.has_hosts() { th scope="col" { "Hosts" } }
                        th scope="col" { "Source" }
                    } }
                    tbody { (PreEscaped(source(site, &lines, text))) }
                }
            }
            None => p.note { "No bundle has this source." },
        }
        (outline(file))
        (footnotes(site, &lines))
        @if site.report.has_hosts() {
            script type="application/json" #origins { (PreEscaped(json_block(&origins(site, &lines)))) }
        }
    };
    layout::page(
        site,
        Page::File(i),
        &format!("{}: {}", file.name, site.percent(&file.analysed.numbers)),
        "file",
        header(site, i, file),
        main,
    )
}

fn header(site: &Site<'_>, i: usize, file: &FileReport) -> Markup {
    let numbers = &file.analysed.numbers;
    let before = site.told().rev().find(|(other, _)| *other < i).map(|(other, _)| Page::File(other));
    let after = site.told().find(|(other, _)| *other > i).map(|(other, _)| Page::File(other));
    let others = variants(site, file);
    html! {
        h1 { (printable(&file.name)) " " strong { (site.percent(numbers)) } }
        (layout::bar(numbers.percent_covered()))
        p {
            (numbers.statements) " statements: " (numbers.executed()) " run, " (numbers.missing) " missing, " (numbers.excluded) " excluded"
            @if site.report.branches { "; " (numbers.branches) " branches: " (numbers.partial_branches) " partial" }
            @if site.report.has_hosts() { "; ran on " (site.report.hosts_of(file)) " of " (site.report.hosts.len()) " hosts" }
        }
        @if !others.is_empty() {
            p.note { "Hosts have different bytes under this name. The others: "
                @for (other, name) in &others { a href=(site.name(Page::File(*other))) { (printable(name)) } " " }
            }
        }
        p.neighbours {
            @if let Some(page) = before { a rel="prev" href=(site.name(page)) { "« previous file" } " " }
            a rel="up" href=(site.name(Page::Index)) { "all files" } " "
            @if let Some(page) = after { a rel="next" href=(site.name(page)) { "next file »" } }
        }
    }
}

/// Other files of the report that hosts have under the same path.
fn variants<'s>(site: &'s Site<'_>, file: &FileReport) -> Vec<(usize, &'s str)> {
    let same =
        site.told().filter(|(_, other)| other.name != file.name && other.module_path() == file.module_path());
    same.map(|(i, other)| (i, other.name.as_str())).collect()
}

/// What shows and hides: worked by the script, so hidden until it runs.
fn tools(site: &Site<'_>, file: &FileReport, lines: &Lines<'_>) -> Markup {
    let analysed = &file.analysed;
    let partial = lines.not_taken.keys().filter(|line| lines.state(**line) == State::Partial).count();
    let toggles = [
        ("run", "run", analysed.executed.len() - partial, false),
        ("mis", "missing", analysed.missing.len(), true),
        ("par", "partial", partial, true),
        ("exc", "excluded", analysed.excluded.len(), true),
    ];
    html! {
        div #tools role="toolbar" aria-label="Lines to show" hidden {
            @for (class, word, count, pressed) in toggles {
                @if class != "par" || site.report.branches {
                    button type="button" data-toggle=(class) aria-pressed=(pressed) { span.sample.(class) {} (word) " " b { (count) } }
                }
            }
            @for view in site.views.iter().filter(|view| view.names.len() > 1) {
                details.pick data-by=(view.dimension.name()) {
                    summary { (view.dimension.title()) "s" }
                    div {
                        button type="button" data-pick="all" { "all" }
                        button type="button" data-pick="none" { "none" }
                        @for (n, name) in view.names.iter().enumerate() {
                            label { input type="checkbox" value=(n) checked; " " (printable(View::shown(name))) }
                        }
                    }
                }
            }
            output #shown {}
        }
    }
}

/// The rows. Written by hand: a report has hundreds of thousands of them.
fn source(site: &Site<'_>, lines: &Lines<'_>, text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    let has_hosts = site.report.has_hosts();
    // What a plugin reports is no Python.
    let is_python = lines.file.source.translated.is_none();
    let code = if is_python { highlight::lines(text) } else { text.lines().map(escaped).collect() };
    for (line, code) in (1i32..).zip(code) {
        let first = lines.file.source.first_line(line);
        let (state, continued) = match lines.state(line) {
            State::None if first != line => (lines.state(first), true),
            state => (state, false),
        };
        out.push_str(&format!("<tr id=t{line}"));
        match (state.class(), continued) {
            ("", _) => {}
            (class, false) => out.push_str(&format!(" class={class}")),
            (class, true) => out.push_str(&format!(" class=\"{class} more\"")),
        }
        let set = u32::try_from(line).ok().and_then(|line| lines.set_of.get(&line));
        if let Some(set) = set {
            out.push_str(&format!(" data-s={set}"));
        }
        out.push_str(&format!("><th scope=row><a href=#t{line}>{line}</a><td>"));
        out.push_str(if continued { "" } else { state.sign() });
        if has_hosts {
            out.push_str("<td>");
            if let Some(&set) = set {
                let hosts = hosts_of(site, lines, set).len();
                out.push_str(&format!("<a class=who href=#s{set}>{hosts}</a>"));
            }
        }
        out.push_str("<td>");
        if !continued {
            notes(lines, line, &mut out);
        }
        out.push_str("<code>");
        out.push_str(&code);
        out.push_str("</code>\n");
    }
    out
}

/// What was not taken from a line that ran: short beside it, and in coverage.py's words inside.
fn notes(lines: &Lines<'_>, line: i32, out: &mut String) {
    let Some(ends) = lines.not_taken.get(&line).filter(|_| lines.state(line) == State::Partial) else {
        return;
    };
    let end_name = |to: i32| if to < 0 { "exit".to_owned() } else { to.to_string() };
    let short: Vec<String> = ends.iter().map(|&to| format!("{line} ↛ {}", end_name(to))).collect();
    out.push_str(&format!("<details class=branch><summary>{}</summary>", short.join(", ")));
    for &to in ends {
        // coverage.py's words name the line themselves.
        let words = lines.file.source.missing_descriptions.get(&(line, to)).cloned();
        let words = words.unwrap_or_else(|| format!("line {line} never went to {}", end_name(to)));
        out.push_str("<p>");
        escape(&words, out);
    }
    out.push_str("</details>");
}

fn hosts_of<'s>(site: &'s Site<'_>, lines: &Lines<'_>, set: usize) -> BTreeSet<&'s str> {
    let origins = lines.sets.get(set).into_iter().flatten();
    origins.filter_map(|&origin| site.report.origins.get(origin)).map(|origin| origin.host.as_str()).collect()
}

/// Functions and classes with their numbers.
fn outline(file: &FileReport) -> Markup {
    let all = [("Functions", "Function", &file.functions), ("Classes", "Class", &file.classes)];
    html! {
        @for (title, noun, regions) in all {
            @if regions.iter().any(|region| !region.name.is_empty()) {
                details.outline {
                    summary { (title) }
                    ul { @for region in regions.iter().filter(|region| region.analysed.numbers.statements > 0) {
                        @let numbers = &region.analysed.numbers;
                        li { a href={ "#t" (region.start) } { (region_name(region, noun)) }
                             ": " (numbers.executed()) " of " (numbers.statements) " statements" }
                    } }
                }
            }
        }
    }
}

/// Who ran the lines that a number stands beside: readable without the script.
fn footnotes(site: &Site<'_>, lines: &Lines<'_>) -> Markup {
    html! {
        @if site.report.has_hosts() && !lines.sets.is_empty() {
            details.outline { summary { "Which hosts ran which lines" }
                ol start="0" { @for set in 0..lines.sets.len() {
                    li id={ "s" (set) } { (PreEscaped(hosts_text(site, &hosts_of(site, lines, set)))) }
                } }
            }
        }
    }
}

fn hosts_text(site: &Site<'_>, hosts: &BTreeSet<&str>) -> String {
    let all = &site.report.hosts;
    let listed = |names: &[&str]| escaped(&names.join(", "));
    if hosts.len() == all.len() {
        return format!("all {} hosts", all.len());
    }
    let others: Vec<&str> = all.iter().map(String::as_str).filter(|host| !hosts.contains(host)).collect();
    if others.len() < hosts.len() / 2 && others.len() <= MAX_NAMES {
        return format!("all hosts but {}", listed(&others));
    }
    let names: Vec<&str> = hosts.iter().copied().take(MAX_NAMES).collect();
    match hosts.len() - names.len() {
        0 => listed(&names),
        more => format!("{} and {more} others", listed(&names)),
    }
}

/// What the script needs to show lines by host, group, role and label: names, origins as places among
/// the names of each dimension, and the sets of origins as ranges.
fn origins(site: &Site<'_>, lines: &Lines<'_>) -> serde_json::Value {
    let names: BTreeMap<&str, &Vec<String>> =
        site.views.iter().map(|view| (view.dimension.name(), &view.names)).collect();
    let origins: Vec<Vec<&[usize]>> = (0..site.report.origins.len())
        .map(|origin| site.views.iter().map(|view| view.members(origin)).collect())
        .collect();
    let order: Vec<&str> = site.views.iter().map(|view| view.dimension.name()).collect();
    let sets: Vec<String> = lines.sets.iter().map(|set| ranges(set)).collect();
    json!({"dimensions": order, "names": names, "origins": origins, "sets": sets, "none": View::shown(""), "host": Dimension::Host.name()})
}

/// `0-3,7`
fn ranges(numbers: &[usize]) -> String {
    let mut out = String::new();
    let mut i = 0;
    while let Some(&first) = numbers.get(i) {
        let run =
            numbers.iter().skip(i).zip(first..).take_while(|(number, wanted)| *number == wanted).count();
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&first.to_string());
        if run > 1 {
            out.push_str(&format!("-{}", first + run - 1));
        }
        i += run;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_origins_are_written_as_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0, 1, 2, 3, 7, 9, 10]), "0-3,7,9-10");
    }
}
