//! The lists: of files, of functions and of classes.

use maud::{Markup, PreEscaped, html};

use super::{MAX_COLUMNS, Page, Site, escape, layout, printable, region_name};
use crate::numbers::{Numbers, Skipped, percent};
use crate::origin::Dimension;
use crate::render::text::skipped;
use crate::report::{FileReport, RegionReport};
use crate::view::View;

/// Column of numbers: its head, the key that sorts by it, and its value.
struct Column {
    head: &'static str,
    key: char,
    value: fn(&Numbers) -> u64,
}

const COLUMNS: [Column; 5] = [
    Column { head: "Stmts", key: 's', value: |n| n.statements },
    Column { head: "Miss", key: 'm', value: |n| n.missing },
    Column { head: "Excl", key: 'x', value: |n| n.excluded },
    Column { head: "Branch", key: 'b', value: |n| n.branches },
    Column { head: "BrPart", key: 'p', value: |n| n.partial_branches },
];

fn columns(site: &Site<'_>) -> &'static [Column] {
    if site.report.branches { &COLUMNS } else { COLUMNS.split_at(3).0 }
}

/// The first letter of a dimension marks its cells: there are very many of them.
const fn letter(dimension: Dimension) -> char {
    match dimension {
        Dimension::Host => 'h',
        Dimension::Group => 'g',
        Dimension::Role => 'r',
        Dimension::Label => 'l',
    }
}

/// The list of files.
pub(super) fn files(site: &Site<'_>) -> String {
    let views: Vec<&View> =
        site.views.iter().filter(|view| view.names.len() > 1 && view.names.len() <= MAX_COLUMNS).collect();
    let dimension = views.first().map(|view| view.dimension.name());
    let mut rows = String::new();
    for (i, file) in site.told() {
        row(site, &views, i, file, &mut rows);
    }
    let main = html! {
        (notices(site))
        (tools(site, &views))
        div.wide role="region" aria-label="Files" tabindex="0" {
            table #list class=(shape(site)) data-by=[dimension] {
                thead { tr {
                    (head("File", 'n', "name"))
                    (number_heads(site, true))
                    @if site.report.has_hosts() { (head("Hosts", 'o', "number")) }
                    @for view in &views { @for name in &view.names {
                        th.heat.{ "of-" (view.dimension.name()) } scope="col" title=(printable(View::shown(name))) {
                            button type="button" data-sort="number" { span { (printable(View::shown(name))) } }
                        }
                    } }
                } }
                tbody { (PreEscaped(rows)) }
                @if !site.report.is_nothing() { tfoot { tr {
                    th scope="row" { "Total" }
                    (numbers(site, &site.report.totals(), true))
                    @if site.report.has_hosts() { td { (site.report.hosts.len()) } }
                    (PreEscaped(total_heat(site, &views)))
                } } }
            }
        }
        @if let Some(svg) = &site.about.history {
            section aria-labelledby="history" { h2 #history { "Trend" } (PreEscaped(svg)) }
        }
    };
    layout::page(site, Page::Index, &site.about.title, "list", title(site), main)
}

/// One file. Written by hand: of these cells there are as many as files times hosts.
fn row(site: &Site<'_>, views: &[&View], i: usize, file: &FileReport, out: &mut String) {
    let whole = file.analysed.numbers.missing == 0 && file.analysed.numbers.partial_branches == 0;
    out.push_str(if whole { "<tr class=whole>" } else { "<tr>" });
    out.push_str("<th scope=row><a href=\"");
    escape(site.name(Page::File(i)), out);
    out.push_str("\">");
    escape(&printable(&file.name), out);
    out.push_str("</a>");
    out.push_str(&numbers(site, &file.analysed.numbers, true).into_string());
    if site.report.has_hosts() {
        out.push_str(&format!("<td>{}", site.report.hosts_of(file)));
    }
    let statements = file.analysed.numbers.statements;
    for view in views {
        for part in view.of_file(file) {
            heat(letter(view.dimension), part.ran.count(), statements, out);
        }
    }
    out.push('\n');
}

/// A cell whose class says the tenth that its percentage is in: `h7`; nothing is nothing.
fn heat(letter: char, ran: usize, statements: u64, out: &mut String) {
    if statements == 0 || ran == 0 {
        out.push_str(&format!("<td class={letter}>"));
        return;
    }
    let percent = 100 * u64::try_from(ran).unwrap_or(u64::MAX) / statements;
    out.push_str(&format!("<td class={letter}{}>{}", percent / 10, percent.max(1)));
}

fn total_heat(site: &Site<'_>, views: &[&View]) -> String {
    let statements = site.report.totals().statements;
    let mut out = String::new();
    for view in views {
        for counts in view.totals(site.report).0 {
            heat(letter(view.dimension), counts.ran, statements, &mut out);
        }
    }
    out
}

/// The list of functions, or of classes.
pub(super) fn regions(
    site: &Site<'_>,
    page: Page,
    noun: &'static str,
    of: fn(&FileReport) -> &[RegionReport],
) -> String {
    let mut rows = String::new();
    for (i, file) in site.told() {
        for region in of(file).iter().filter(|region| region.analysed.numbers.statements > 0) {
            let numbers = &region.analysed.numbers;
            let whole = numbers.missing == 0 && numbers.partial_branches == 0;
            rows.push_str(if whole { "<tr class=whole><th scope=row>" } else { "<tr><th scope=row>" });
            escape(&printable(&file.name), &mut rows);
            rows.push_str("<td class=name><a href=\"");
            escape(site.name(Page::File(i)), &mut rows);
            rows.push_str(&format!("#t{}\">", region.start));
            escape(&region_name(region, noun), &mut rows);
            rows.push_str("</a>");
            rows.push_str(&self::numbers(site, numbers, false).into_string());
            rows.push('\n');
        }
    }
    let main = html! {
        (tools(site, &[]))
        div.wide role="region" aria-label=(noun) tabindex="0" {
            table #list class={ "regions " (shape(site)) } {
                thead { tr { (head("File", 'f', "name")) (head(noun, 'n', "name")) (number_heads(site, false)) } }
                tbody { (PreEscaped(rows)) }
                @if !site.report.is_nothing() {
                    tfoot { tr { th scope="row" { "Total" } td.name {} (numbers(site, &site.report.totals(), false)) } }
                }
            }
        }
    };
    let title_text = format!("{} by {}", site.about.title, noun.to_lowercase());
    layout::page(site, page, &title_text, "list", title(site), main)
}

fn title(site: &Site<'_>) -> Markup {
    let totals = site.report.totals();
    html! {
        h1 { (printable(&site.about.title)) " " strong {
            @if let Some(nothing) = site.report.nothing() { (nothing) } @else { (site.percent(&totals)) }
        } }
        @if !site.report.is_nothing() { (layout::bar(totals.percent_covered())) }
        @if !site.about.headline.is_empty() {
            p class=(if site.about.complete { "ledger" } else { "ledger bad" }) { (printable(&site.about.headline)) }
        }
        @if let Some(selection) = &site.about.selection {
            p { "Only " code { (printable(selection)) } " is reported." }
        }
    }
}

fn notices(site: &Site<'_>) -> Markup {
    let of = |why| {
        site.report
            .files
            .iter()
            .filter(|file| site.about.skip.why(&file.analysed.numbers) == Some(why))
            .count()
    };
    html! {
        @for words in skipped(of(Skipped::Covered), of(Skipped::Empty)) { p.note { (words) } }
        @if !site.about.warnings.is_empty() {
            details.warnings open[site.about.warnings.len() < 4] {
                summary { (site.about.warnings.len()) " to know" }
                ul { @for warning in &site.about.warnings { li { (printable(warning)) } } }
            }
        }
    }
}

/// What narrows the list; without JavaScript there is nothing to narrow it with.
fn tools(site: &Site<'_>, views: &[&View]) -> Markup {
    let too_many: Vec<&View> = site.views.iter().filter(|view| view.names.len() > MAX_COLUMNS).collect();
    html! {
        form #tools role="search" hidden {
            label { "Filter " input #filter type="search" placeholder="part of a name, or *" autocomplete="off"; }
            label { input #hide-covered type="checkbox"; " hide what is covered whole" }
            @if !views.is_empty() {
                label { "Columns " select #by {
                    @for view in views { option value=(view.dimension.name()) { (view.dimension.name()) "s" } }
                    option value="none" { "none" }
                } }
            }
            output #shown {}
        }
        @for view in too_many {
            p.note { (view.names.len()) " " (view.dimension.name()) "s are too many for columns here; they are on the page of the fleet." }
        }
    }
}

fn head(text: &str, key: char, sort: &str) -> Markup {
    html! { th scope="col" { button type="button" data-sort=(sort) data-key=(key) { (text) } } }
}

fn number_heads(site: &Site<'_>, drawn: bool) -> Markup {
    html! {
        @for column in columns(site) { (head(column.head, column.key, "number")) }
        (head("Cover", 'c', "number"))
        @if drawn { th scope="col" { span.quiet { "Cover, drawn" } } }
    }
}

/// How many columns of numbers there are, for the style.
fn shape(site: &Site<'_>) -> &'static str {
    match (site.report.branches, site.report.has_hosts()) {
        (true, true) => "branches fleet",
        (true, false) => "branches",
        (false, true) => "fleet",
        (false, false) => "",
    }
}

fn numbers(site: &Site<'_>, numbers: &Numbers, drawn: bool) -> Markup {
    let mut out = String::new();
    for column in columns(site) {
        out.push_str(&format!("<td>{}", (column.value)(numbers)));
    }
    out.push_str(&format!("<td>{}", site.percent(numbers)));
    if drawn {
        out.push_str("<td>");
        out.push_str(&layout::bar(numbers.percent_covered()).into_string());
    }
    PreEscaped(out)
}

/// Statements as a percentage of all of a report.
pub(super) fn share(ran: usize, numbers: &Numbers) -> f64 {
    percent(u64::try_from(ran).unwrap_or(u64::MAX), numbers.statements)
}
