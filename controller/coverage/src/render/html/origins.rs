//! The page of the fleet: who gave data, and what each host, group, role and label covered.

use maud::{Markup, html};

use super::index::share;
use super::{Page, Site, layout, printable};
use crate::numbers::display_percent;
use crate::origin::Dimension;
use crate::view::View;

pub(super) fn page(site: &Site<'_>) -> String {
    let title = format!("{}: the fleet", site.about.title);
    let header = html! {
        h1 { (printable(&title)) }
        p class=(if site.about.complete { "ledger" } else { "ledger bad" }) { (printable(&site.about.headline)) }
    };
    let main = html! { @for view in &site.views { (dimension(site, view)) } };
    layout::page(site, Page::Fleet, &title, "fleet", header, main)
}

fn dimension(site: &Site<'_>, view: &View) -> Markup {
    let totals = site.report.totals();
    let (counts, everywhere) = view.totals(site.report);
    let hosts = view.dimension == Dimension::Host;
    let cover = |ran: usize| format!("{}%", display_percent(share(ran, &totals), site.about.precision));
    let id = view.dimension.name();
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (view.dimension.title()) "s" }
            @if view.names.is_empty() { p.note { "None is known." } } @else {
                div.wide role="region" aria-labelledby=(id) tabindex="0" { table {
                    thead { tr {
                        th scope="col" { (view.dimension.title()) }
                        th scope="col" { "Stmts run" }
                        th scope="col" { "Cover" }
                        th scope="col" { span.quiet { "Cover, drawn" } }
                        th scope="col" { "Only there" }
                        @if hosts {
                            th scope="col" { "Processes" }
                            th scope="col" { "Died unsaved" }
                            th scope="col" { "Could not record" }
                            th scope="col" { "Trouble" }
                        }
                    } }
                    tbody {
                        @for (name, counts) in view.names.iter().zip(&counts) { tr {
                            th scope="row" { (printable(View::shown(name))) }
                            td { (counts.ran) }
                            td { (cover(counts.ran)) }
                            td { (layout::bar(share(counts.ran, &totals))) }
                            td { (counts.only_there) }
                            @if hosts { @let row = site.about.hosts.get(name).cloned().unwrap_or_default();
                                td { (row.processes) }
                                td { (row.died) }
                                td { (row.unrecorded) }
                                td.name { (printable(&row.trouble.unwrap_or_default())) }
                            }
                        } }
                        // Hosts that gave nothing at all.
                        @if hosts { @for (name, row) in site.about.hosts.iter().filter(|(name, _)| !view.names.contains(name)) { tr {
                            th scope="row" { (printable(name)) }
                            td { "0" } td { "0%" } td {} td { "0" }
                            td { (row.processes) } td { (row.died) } td { (row.unrecorded) }
                            td.name { (printable(row.trouble.as_deref().unwrap_or_default())) }
                        } } }
                    }
                    tfoot {
                        @if view.names.len() > 1 { tr { th scope="row" { "everywhere" } td { (everywhere) } td { (cover(everywhere)) } } }
                        @let nowhere = usize::try_from(totals.missing).unwrap_or(usize::MAX);
                        tr { th scope="row" { "nowhere" } td { (nowhere) } td { (cover(nowhere)) } }
                    }
                } }
            }
        }
    }
}
