//! The HTML report: pages that need no network, no inline script and no inline style, and that can be
//! read without JavaScript.

mod file_page;
mod highlight;
mod index;
mod layout;
mod origins;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::names::{acts_on_screen, printable};
use crate::numbers::{Numbers, Skip, display_percent};
use crate::origin::Dimension;
use crate::report::{FileReport, RegionReport, Report};
use crate::view::View;

/// Style and script, as files beside the pages: a Content-Security-Policy allows no others.
pub const ASSETS: [(&str, &str); 2] =
    [("pulpcov.css", include_str!("pulpcov.css")), ("pulpcov.js", include_str!("pulpcov.js"))];

/// Most columns of one dimension in the index: beyond, nobody can read them, and the page grows large.
const MAX_COLUMNS: usize = 60;

/// A host's line on the page of the fleet.
#[derive(Debug, Clone, Default)]
pub struct HostRow {
    pub processes: usize,
    pub died: usize,
    pub unrecorded: usize,
    /// Why nothing, or not all, came from it.
    pub trouble: Option<String>,
}

/// What a site says beyond its report.
#[derive(Debug, Clone, Default)]
pub struct HtmlAbout {
    pub title: String,
    /// When it was made, ISO 8601.
    pub timestamp: String,
    /// How complete it is; empty for reports without hosts.
    pub headline: String,
    /// Whether every process of every host gave all that it had.
    pub complete: bool,
    pub selection: Option<String>,
    pub warnings: Vec<String>,
    pub hosts: BTreeMap<String, HostRow>,
    /// An SVG picture of how coverage went over earlier runs.
    pub history: Option<String>,
    /// Digits behind the point of percentages.
    pub precision: usize,
    /// Files that have no page and no line in the list.
    pub skip: Skip,
}

/// Finds a file's source; nothing where no bundle has it.
pub type FindSource<'a> = &'a (dyn Fn(&FileReport) -> Option<String> + Sync);

/// All pages of a report. Pages are independent of each other: whoever writes them may render them in
/// parallel and need never hold more than one.
pub struct Site<'a> {
    report: &'a Report,
    about: &'a HtmlAbout,
    source: FindSource<'a>,
    /// Page names, in the order of the report's files.
    pages: Vec<String>,
    views: Vec<View>,
}

/// One page of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Index,
    Functions,
    Classes,
    Fleet,
    /// A source file, by its place in the report.
    File(usize),
}

impl<'a> Site<'a> {
    pub fn new(report: &'a Report, about: &'a HtmlAbout, source: FindSource<'a>) -> Self {
        let views = if report.has_hosts() {
            Dimension::ALL.map(|dimension| View::new(report, dimension)).into()
        } else {
            Vec::new()
        };
        let pages = report.files.iter().map(|file| page_name(&file.name)).collect();
        Self { report, about, source, pages, views }
    }

    pub fn pages(&self) -> Vec<Page> {
        let mut pages = vec![Page::Index, Page::Functions, Page::Classes];
        pages.extend(self.report.has_hosts().then_some(Page::Fleet));
        pages.extend(self.told().map(|(i, _)| Page::File(i)));
        pages
    }

    fn is_told(&self, file: &FileReport) -> bool {
        self.about.skip.why(&file.analysed.numbers).is_none()
    }

    /// The files that have a page, with their places in the report.
    fn told(&self) -> impl DoubleEndedIterator<Item = (usize, &'a FileReport)> + '_ {
        self.report.files.iter().enumerate().filter(|(_, file)| self.is_told(file))
    }

    /// The name of a page's file.
    pub fn name(&self, page: Page) -> &str {
        match page {
            Page::Index => "index.html",
            Page::Functions => "functions.html",
            Page::Classes => "classes.html",
            Page::Fleet => "fleet.html",
            Page::File(i) => self.pages.get(i).map_or("", String::as_str),
        }
    }

    pub fn render(&self, page: Page) -> String {
        match page {
            Page::Index => index::files(self),
            Page::Functions => index::regions(self, page, "Function", |file| &file.functions),
            Page::Classes => index::regions(self, page, "Class", |file| &file.classes),
            Page::Fleet => origins::page(self),
            Page::File(i) => match self.report.files.get(i) {
                Some(file) => file_page::page(self, i, file),
                None => String::new(),
            },
        }
    }

    fn percent(&self, numbers: &Numbers) -> String {
        format!("{}%", display_percent(numbers.percent_covered(), self.about.precision))
    }
}

/// A file name for a page: readable, short, plain, and another one for every other name.
fn page_name(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let plain: String = last
        .chars()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    let digest: String = Sha256::digest(name.as_bytes()).iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!(
        "{}.{digest}.html",
        if plain.trim_matches('.').is_empty() { "_" } else { plain.trim_start_matches('.') }
    )
}

/// Text as HTML, in elements and in quoted attributes. What would act on the reader's screen is
/// replaced.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | ' '..='~' => out.push(c),
            _ if acts_on_screen(c) => out.push('\u{FFFD}'),
            _ => out.push(c),
        }
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(text, &mut out);
    out
}

/// JSON for a script element of type `application/json`: nothing in it can end the element.
fn json_block(value: &serde_json::Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// What region lists show: a region's name, or what stands for code outside of all.
fn region_name(region: &RegionReport, noun: &str) -> String {
    if region.plain_name.is_empty() {
        format!("(no {})", noun.to_lowercase())
    } else {
        printable(&region.plain_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pages_are_plain_and_apart() {
        let (a, b) = (page_name("shop/a/b.py"), page_name("shop/b.py"));
        assert!(a.starts_with("b.py.") && b.starts_with("b.py.") && a != b, "{a} {b}");
        assert!(!page_name("../../etc/<x>").contains(['/', '<']) && !page_name("../..").starts_with('.'));
        assert!(page_name(&"x/".repeat(5000)).len() < 100);
    }

    #[test]
    fn nothing_becomes_markup_or_acts_on_the_screen() {
        assert_eq!(
            escaped("<a href=\"&\">\u{1b}[2J\u{202e}"),
            "&lt;a href=&quot;&amp;&quot;&gt;\u{FFFD}[2J\u{FFFD}"
        );
        assert!(!json_block(&serde_json::json!("</script><!--")).contains('<'));
    }
}
