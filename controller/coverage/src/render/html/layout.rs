//! What all pages have: head, navigation, foot.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Page, Site, acts_on_screen, printable};

/// No network, no inline script, no inline style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'";

/// A whole page, without anything that would act on the reader's screen. `kind` names it for the script.
pub(super) fn page(
    site: &Site<'_>,
    page: Page,
    title: &str,
    kind: &str,
    header: Markup,
    main: Markup,
) -> String {
    let tabs = [
        (Page::Index, "Files"),
        (Page::Functions, "Functions"),
        (Page::Classes, "Classes"),
        (Page::Fleet, "Fleet"),
    ];
    let tabs = tabs.into_iter().filter(|(tab, _)| *tab != Page::Fleet || site.report.has_hosts());
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("pulpcov ", env!("CARGO_PKG_VERSION")));
                title { (printable(title)) }
                link rel="stylesheet" href="pulpcov.css";
                script src="pulpcov.js" defer {}
            }
            body data-page=(kind) {
                a.skip href="#main" { "Skip to the content" }
                header {
                    nav aria-label="Report" {
                        @for (tab, name) in tabs {
                            a href=(site.name(tab)) aria-current=[(tab == page).then_some("page")] { (name) }
                        }
                        span.right {
                            button type="button" id="theme" hidden { "Light or dark" }
                            button type="button" id="help" hidden aria-haspopup="dialog" { "Keys" }
                        }
                    }
                    (header)
                }
                main id="main" { (main) }
                footer {
                    @if !site.about.headline.is_empty() {
                        p class=(if site.about.complete { "ledger" } else { "ledger bad" }) { (printable(&site.about.headline)) }
                    }
                    p { "pulpcov " (env!("CARGO_PKG_VERSION")) ", with coverage.py "
                        (printable(&site.report.coverage_versions.iter().cloned().collect::<Vec<_>>().join(", ")))
                        @if !site.about.timestamp.is_empty() { ", made " (printable(&site.about.timestamp)) }
                    }
                }
            }
        }
    }
    .into_string()
    .replace(|c| c != '\n' && c != '\t' && acts_on_screen(c), "\u{FFFD}")
}

/// A bar of one percentage: a picture, for its number stands beside it.
pub(super) fn bar(percent: f64) -> Markup {
    let width = format!("{percent:.1}");
    PreEscaped(format!(
        "<svg class=bar viewBox=\"0 0 100 8\" preserveAspectRatio=none aria-hidden=true><rect width=\"{width}\" height=8></rect></svg>"
    ))
}
