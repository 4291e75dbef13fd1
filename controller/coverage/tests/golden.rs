//! Reports of a fleet of three hosts, byte by byte, from what bundles tell: no Python, no disk, no host. What a change
//! does to a format is seen in its snapshot; that the numbers are coverage.py's is the parity suite's.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use pulpcov_coverage::analysis::SourceAnalysis;
use pulpcov_coverage::fleet::{FleetCoverage, SourceId};
use pulpcov_coverage::origin::{Dimension, Origin};
use pulpcov_coverage::render::html::{HostRow, HtmlAbout, Site};
use pulpcov_coverage::render::json::About;
use pulpcov_coverage::render::summary::SummaryAbout;
use pulpcov_coverage::render::text::TextOptions;
use pulpcov_coverage::render::xml::XmlAbout;
use pulpcov_coverage::render::{ci, json, lcov, markdown, summary, text, xml};
use pulpcov_coverage::report::Report;
use pulpcov_coverage::selection::Selection;
use pulpcov_data_file::data::{CoverageData, Kind, Measured};
use pulpcov_data_file::lines::Arc as Jump;

const SOURCE: &str = include_str!("golden/menu.py");
const ANALYSIS: &[u8] = include_bytes!("golden/menu.analysis.json");
const DIGEST: &str = "30709fed218faf8819251509912845e272dc4ab351a18fe2326d543f90a17a05";
const HEADLINE: &str = "2 of 3 hosts, 2 processes: INCOMPLETE: c: unreachable";
const TIME: &str = "2026-01-01T00:00:00Z";

/// What the import of the module does.
const IMPORT: [Jump; 7] = [(-1, 1), (1, 4), (4, 5), (4, 15), (5, 8), (15, 23), (23, -1)];

/// Two hosts, one of which asked for a price and the other for what is cheapest; a third was not reached.
fn report(branches: bool) -> Report {
    let mut fleet = FleetCoverage::default();
    let id = SourceId { module_path: "shop/menu.py".to_owned(), sha256: DIGEST.to_owned() };
    let sources = BTreeMap::from([("/opt/shop/menu.py".to_owned(), id.clone())]);
    let price = [(-5, 6), (6, -5), (-8, 9), (9, 10), (10, 12), (12, -8)];
    let cheapest = [(-15, 16), (16, 17), (17, 18), (18, 19), (19, 17), (17, 20), (20, -15)];
    for host in ["a", "b", "c"] {
        fleet.add_host(host);
        fleet.add_to_group("shops", host);
    }
    for (host, role, ran) in [("a", "web", &price[..]), ("b", "worker", &cheapest)] {
        fleet.add_source(host, id.clone(), "key");
        let jumps = IMPORT.iter().chain(ran).copied();
        let measured = if branches {
            Measured::Arcs(jumps.collect())
        } else {
            Measured::Lines(jumps.filter_map(|(_, to)| u32::try_from(to).ok()).collect())
        };
        let kind = if branches { Kind::Arcs } else { Kind::Lines };
        let mut data = CoverageData::new(Some(kind));
        data.add("/opt/shop/menu.py", "", measured).expect("one kind");
        let origin = Origin { host: host.to_owned(), role: role.to_owned(), label: "night".to_owned() };
        fleet.add_data(&origin, data, &sources).expect("one kind");
    }
    let analysis = SourceAnalysis::from_json(ANALYSIS).and_then(|found| found.with_branches(branches));
    let analysis = Arc::new(analysis.expect("an analysis"));
    fleet.report(&Selection::All, &|_, _| Some(Arc::clone(&analysis))).expect("a report").report
}

fn shown(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    render(&mut out).expect("written");
    String::from_utf8(out).expect("text")
}

fn site(report: &Report) -> BTreeMap<String, String> {
    let row = |trouble: Option<&str>| HostRow {
        processes: 1,
        trouble: trouble.map(str::to_owned),
        ..HostRow::default()
    };
    let about = HtmlAbout {
        title: "Shop".to_owned(),
        timestamp: TIME.to_owned(),
        headline: HEADLINE.to_owned(),
        hosts: [("a", None), ("b", None), ("c", Some("unreachable"))]
            .map(|(host, trouble)| (host.to_owned(), row(trouble)))
            .into(),
        ..HtmlAbout::default()
    };
    let find = |_: &_| Some(SOURCE.to_owned());
    let site = Site::new(report, &about, &find);
    site.pages().into_iter().map(|page| (site.name(page).to_owned(), site.render(page))).collect()
}

#[test]
fn every_format_says_what_it_said() {
    for branches in [true, false] {
        let report = report(branches);
        let options =
            TextOptions { show_missing: true, by: Dimension::ALL.to_vec(), ..TextOptions::default() };
        let about = About { timestamp: TIME.to_owned(), headline: HEADLINE.to_owned(), ..About::default() };
        let xml_about = XmlAbout { headline: HEADLINE.to_owned(), ..XmlAbout::default() };
        let summary_about = SummaryAbout {
            title: "Shop".to_owned(),
            headline: HEADLINE.to_owned(),
            ..SummaryAbout::default()
        };
        let json: serde_json::Value =
            serde_json::from_str(&shown(|out| json::render_json(&report, &about, out))).expect("JSON");
        let formats = [
            ("text", shown(|out| text::render_text(&report, &options, out))),
            ("markdown", shown(|out| markdown::render_table(&report, &options, out))),
            ("json", serde_json::to_string_pretty(&json).expect("JSON")),
            ("xml", shown(|out| xml::render_xml(&report, &xml_about, out))),
            ("lcov", shown(|out| lcov::render_lcov(&report, HEADLINE, false, out))),
            ("sonar", shown(|out| ci::render_sonar(&report, out))),
            ("badge", shown(|out| ci::render_badge(&report, false, out))),
            ("summary", shown(|out| summary::render_summary(&report, &summary_about, out))),
        ];
        let kind = if branches { "branches" } else { "lines" };
        insta::with_settings!({snapshot_path => "golden", prepend_module_to_snapshot => false, omit_expression => true}, {
            for (format, text) in formats {
                insta::assert_snapshot!(format!("{format}-{kind}"), text);
            }
        });
    }
}

#[test]
fn every_page_says_what_it_said() {
    let pages = site(&report(true));
    insta::with_settings!({snapshot_path => "golden", prepend_module_to_snapshot => false, omit_expression => true}, {
        for (name, page) in pages {
            // A line for each element, or a difference is the whole page.
            insta::assert_snapshot!(format!("page-{name}"), page.replace("><", ">\n<"));
        }
    });
}
