//! The HTML report in a real browser: what a reader does with it, and what it must never do.

mod chromium;
mod devtools;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use chromium::Browser;
use pulpcov_tests::made_run::made_run;
use pulpcov_tests::{programs, python};
use serde_json::{Value, json};
use tempfile::TempDir;

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {words}");
}

/// A run directory of a fleet over Django's sources, and its report.
fn site(words: &[&str]) -> TempDir {
    let work = made_run(words);
    run(Command::new(programs::pulpcov()).args(["report", "run", "--html", "html"]).current_dir(work.path()));
    work
}

/// The page of a file whose name ends so.
fn page_of(work: &TempDir, stem: &str) -> PathBuf {
    let folder = fs::read_dir(work.path().join("html")).expect("lists");
    let found = folder.map(|entry| entry.expect("entry").path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(&format!("{stem}.")) && name.ends_with(".html")
    });
    found.unwrap_or_else(|| panic!("no page of {stem}"))
}

fn looked_at(browser: &Browser, name: &str) {
    let folder = programs::target().join("pulpcov-tests/screenshots");
    fs::create_dir_all(&folder).expect("a folder");
    browser.screenshot(&folder.join(format!("{name}.png")));
}

const FIRST_NAME: &str = "document.querySelector('#list tbody tr:not([hidden]) a').textContent";
const SHOWN: &str = "document.querySelectorAll('#list tbody tr:not([hidden])').length";

fn column(browser: &Browser, n: usize) -> Vec<f64> {
    let cells = browser.js(&format!(
        "Array.from(document.querySelectorAll('#list tbody tr:not([hidden])')).map(row => parseFloat(row.cells[{n}].textContent) || 0)"
    ));
    cells.as_array().expect("cells").iter().filter_map(Value::as_f64).collect()
}

#[test]
#[ignore = "needs a package index and Chromium"]
fn the_index_sorts_filters_and_listens_to_keys() {
    let work = site(&["--hosts", "8", "--processes", "2", "--sources", "60", "--lines", "30", "--branch"]);
    let browser = Browser::start(1400, 900);
    browser.open_file(&work.path().join("html/index.html"));
    looked_at(&browser, "index");
    assert_eq!(browser.js(SHOWN), 60);

    browser.click("#list thead th:nth-child(3) button");
    let missing = column(&browser, 2);
    assert!(missing.is_sorted_by(|a, b| a >= b) && missing[0] > missing[59], "{missing:?}");
    assert_eq!(browser.js("document.querySelector('#list thead th:nth-child(3)').ariaSort"), "descending");
    browser.key("s");
    browser.key("s");
    assert!(column(&browser, 1).is_sorted(), "the second time it sorts upwards");
    // A host's column sorts too.
    browser.click("#list thead th.of-host:nth-of-type(11) button");
    assert!(column(&browser, 10).is_sorted_by(|a, b| a >= b));

    let total = "document.querySelector('#list tfoot td').textContent";
    let all = browser.js(total);
    browser.key("/");
    browser.write("#filter", "contrib/*models");
    let shown = browser.js(SHOWN).as_u64().expect("a number");
    assert!(shown > 0 && shown < 60, "{shown}");
    assert!(
        browser
            .js(FIRST_NAME)
            .as_str()
            .is_some_and(|name| name.contains("contrib/") && name.contains("models"))
    );
    let sum: f64 = column(&browser, 1).iter().sum();
    assert_eq!(browser.js(&format!("Number({total})")).as_f64(), Some(sum), "the total is of what is shown");
    // What was asked for is still there after coming back.
    browser.open_file(&work.path().join("html/index.html"));
    assert_eq!(browser.js(SHOWN), shown);
    browser.act("document.querySelector('#filter').value = ''; document.querySelector('#filter').dispatchEvent(new Event('input'))");
    assert_eq!(browser.js(total), all);

    browser.key("h");
    let not_whole = browser.js(SHOWN).as_u64().expect("a number");
    assert!(not_whole <= 60 && browser.js("document.querySelector('#hide-covered').checked") == json!(true));
    browser.key("h");
    browser.key("?");
    assert_eq!(browser.js("document.querySelector('dialog').open"), true);
    looked_at(&browser, "keys");
    browser.key("Escape");
    assert_eq!(browser.js("document.querySelector('dialog').open"), false);

    let visible = |dimension: &str| {
        browser.js(&format!("getComputedStyle(document.querySelector('thead .of-{dimension}')).display"))
    };
    assert!(visible("host") != "none" && visible("role") == "none");
    browser.act("document.querySelector('#by').value = 'role'; document.querySelector('#by').dispatchEvent(new Event('change'))");
    assert!(visible("host") == "none" && visible("role") != "none");
    browser.prefer("dark");
    looked_at(&browser, "index-dark");
    for page in ["functions.html", "classes.html", "fleet.html"] {
        browser.open_file(&work.path().join("html").join(page));
        looked_at(&browser, page);
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs a package index and Chromium"]
fn a_file_page_shows_who_ran_which_line() {
    let work = site(&["--hosts", "4", "--processes", "2", "--sources", "40", "--lines", "40", "--branch"]);
    let browser = Browser::start(1300, 900);
    browser.open_file(&page_of(&work, "query.py"));
    looked_at(&browser, "file");
    let lines = |class: &str| {
        browser
            .js(&format!("document.querySelectorAll('#source tr.{class}:not(.more)').length"))
            .as_u64()
            .expect("a number")
    };
    let missing = lines("mis");
    assert!(lines("run") > 0 && missing > 0 && lines("par") > 0);
    let said = browser.js("document.querySelector('[data-toggle=mis] b').textContent");
    assert_eq!(said, missing.to_string(), "the button counts what the page shows");
    let counted =
        |class: &str| browser.js(&format!("document.querySelector('[data-toggle={class}] b').textContent"));
    assert_eq!(counted("run"), lines("run").to_string());
    assert_eq!(counted("par"), lines("par").to_string());

    let background =
        "getComputedStyle(document.querySelector('#source tr.mis td:last-child')).backgroundColor";
    let marked = browser.js(background);
    browser.key("m");
    assert_ne!(browser.js(background), marked, "m takes the mark away");
    browser.key("m");
    browser.key("1");
    let first = browser.js("document.querySelector('tr.at').id");
    browser.key("j");
    assert_ne!(browser.js("document.querySelector('tr.at').id"), first);
    browser.key("k");
    assert_eq!(browser.js("document.querySelector('tr.at').id"), first);

    // One host only: what it did not run is missing there.
    browser.click(".pick[data-by=host] summary");
    browser.click(".pick[data-by=host] [data-pick=none]");
    assert_eq!(lines("run"), 0, "nobody ran anything");
    browser.click(".pick[data-by=host] input");
    assert!(lines("mis") > missing && lines("run") > 0);
    assert_eq!(counted("mis"), lines("mis").to_string(), "the counts follow");
    looked_at(&browser, "file-one-host");
    let alone = lines("run") + lines("par");
    browser.click(".pick[data-by=host] [data-pick=all]");
    assert!(lines("mis") == missing && lines("run") + lines("par") > alone);
    browser.click(".pick[data-by=label] summary");
    browser.click(".pick[data-by=label] input");
    assert!(lines("mis") > missing, "a label taken away takes its lines");
    browser.click(".pick[data-by=label] input");
    browser.key("Escape");

    browser.act("document.querySelector('#source .who').click()");
    let who = browser.js("document.querySelector('.who-row').textContent");
    assert!(who.as_str().is_some_and(|who| who.contains("host00") && who.contains("tests")), "{who}");
    browser.act("document.querySelector('.branch summary').click()");
    let note = browser.js("document.querySelector('.branch p').textContent");
    assert!(
        note.as_str().is_some_and(|note| note.starts_with("line ") && note.contains("because")),
        "{note}"
    );
    browser.prefer("dark");
    browser.act("scrollTo(0, 600)");
    looked_at(&browser, "file-dark");
    assert!(browser.print().starts_with(b"%PDF"));
    browser.key("u");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs a package index and Chromium"]
fn without_scripts_a_page_can_be_read() {
    let work = site(&["--hosts", "3", "--processes", "1", "--sources", "20", "--lines", "20"]);
    let page = fs::read_to_string(page_of(&work, "query.py")).expect("a page");
    assert!(
        page.contains("<a class=who href=#s0>") && page.contains("id=\"s0\""),
        "numbers lead to footnotes"
    );
    let browser = Browser::start(1200, 800);
    browser.scripts(false);
    browser.open_file(&page_of(&work, "query.py"));
    looked_at(&browser, "file-no-script");
    browser.open_file(&work.path().join("html/index.html"));
    looked_at(&browser, "index-no-script");
    for landmark in ["<header>", "<nav aria-label", "<main id=\"main\">", "<footer>", "class=\"skip\""] {
        assert!(page.contains(landmark), "{landmark}");
    }
    assert!(!page.contains(" style=") && !page.contains("<style") && !page.contains("onclick"));
    assert_eq!(page.matches("<script").count(), 2, "one is a file, one is data");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Names and sources that would like to be markup.
#[test]
#[ignore = "needs a package index and Chromium"]
fn hostile_names_and_sources_stay_text() {
    let work = tempfile::tempdir().expect("a folder");
    let name = "<img src=x onerror=\"document.title='pwned'\">&amp;.py";
    let source = "x = '</code></script><script>document.title=\"pwned\"</script>' # <b>\u{202e}\ny = \"&lt;\"\n\n\
        class A:\n    def f(self):\n        return '<!--'\nif x:\n    A().f()\n";
    fs::write(work.path().join(name), source).expect("written");
    run(Command::new(python::reference())
        .args(["-m", "coverage", "run", "--branch", name])
        .current_dir(work.path()));
    let python = python::reference().to_string_lossy().into_owned();
    run(Command::new(programs::pulpcov())
        .args([
            "report",
            "--python",
            &python,
            ".coverage",
            "--html",
            "html",
            "--title",
            "</title><script>document.title='pwned'</script>",
        ])
        .current_dir(work.path()));
    let browser = Browser::start(1000, 700);
    browser.open_file(&work.path().join("html/index.html"));
    assert_eq!(browser.js(FIRST_NAME), name);
    assert_ne!(browser.js("document.title"), "pwned");
    let stem = "_img_src_x_onerror__document.title__pwne";
    browser.open_file(&page_of(&work, stem));
    assert_ne!(browser.js("document.title"), "pwned");
    let shown = browser.js("document.querySelector('#t1 code').textContent");
    assert_eq!(shown, source.lines().next().expect("a line").replace('\u{202e}', "\u{FFFD}"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// As large as the report must stay usable: figures are printed, for a test asserts no time.
#[test]
#[ignore = "needs a package index and Chromium"]
fn a_thousand_files_of_fifty_hosts() {
    let work = site(&["--hosts", "50", "--processes", "1", "--sources", "1000"]);
    let index = fs::metadata(work.path().join("html/index.html")).expect("an index").len();
    assert!(index < 2_000_000, "the index has {index} bytes");
    let browser = Browser::start(1400, 900);
    let largest = fs::read_dir(work.path().join("html"))
        .expect("lists")
        .map(|entry| entry.expect("entry"))
        .filter(|entry| entry.file_name().to_string_lossy().contains(".py."))
        .max_by_key(|entry| entry.metadata().map_or(0, |found| found.len()))
        .expect("a page");
    let lists = ["index.html", "functions.html", "classes.html", "fleet.html"]
        .map(|page| work.path().join("html").join(page));
    for page in lists.iter().chain([&largest.path()]) {
        browser.open_file(page);
        let done = browser.js("performance.getEntriesByType('navigation')[0].domComplete");
        let name = page.file_name().unwrap_or_default().display();
        writeln!(std::io::stderr(), "{name}: complete after {done:.0} ms").expect("written");
    }
    browser.open_file(&lists[0]);
    assert_eq!(browser.js(SHOWN), 1000);
    looked_at(&browser, "index-large");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
