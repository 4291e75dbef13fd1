//! Patterns, paths and configurations as people write them: coverage.py's meaning, by coverage.py.

use std::fs;
use std::path::Path;

use pulpcov_tests::python;
use serde_json::Value;

use super::{coverage, json, pulpcov, recorded};

const MODULE: &str =
    "import sys\n\n\ndef f(x):\n    if x:\n        return 1\n    return 2\n\n\nprint(f(0))\n";

/// Files that both tools' JSON reports have, with these words.
fn names(work: &Path, words: &[&str]) -> (Vec<String>, Vec<String>) {
    let python = python::reference().to_string_lossy().into_owned();
    let ours: Vec<&str> =
        ["report", "--python", &python, "--json", "ours.json", "."].iter().chain(words).copied().collect();
    pulpcov(work, &ours);
    let theirs: Vec<&str> = ["json", "-q", "-o", "theirs.json"].iter().chain(words).copied().collect();
    coverage(work, &theirs);
    let keys = |file: &str| {
        let report = json(work.join(file));
        report["files"].as_object().expect("files").keys().cloned().collect()
    };
    (keys("ours.json"), keys("theirs.json"))
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn patterns_with_dots_links_and_slashes_take_what_coverage_py_takes() {
    let work = recorded(
        &[("src/a.py", MODULE), ("src/sub/b.py", MODULE), ("c.py", MODULE)],
        &[&["src/a.py"], &["src/sub/b.py"], &["c.py"]],
        false,
    );
    coverage(work.path(), &["combine", "-q"]);
    std::os::unix::fs::symlink("src", work.path().join("link")).expect("a link");
    let whole = work.path().join("src/a.py").to_string_lossy().into_owned();
    for pattern in [
        "src/../src/*",
        "link/*",
        "src/",
        "src/sub/",
        "./src/*",
        "link/a.py",
        &whole,
        "src/sub/../a.py",
        "*/sub/*",
        "sub/*",
    ] {
        // Something is left in either case, or neither would report anything.
        let (ours, theirs) = names(work.path(), &["--omit", pattern]);
        assert_eq!(ours, theirs, "--omit {pattern}");
        let (ours, theirs) = names(work.path(), &["--include", &format!("c.py,{pattern}")]);
        assert_eq!(ours, theirs, "--include {pattern}");
    }
}

/// Four hundred branches one in the other: coverage.py tells the lines, and cannot tell the arcs.
#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn a_source_whose_arcs_nobody_can_tell_is_reported_by_its_lines() {
    let branches: String = (1..400).map(|n| format!("elif x == {n}:\n    y = {n}\n")).collect();
    let source = format!("x = 3\nif x == 0:\n    y = 0\n{branches}else:\n    y = None\n");
    let work = recorded(&[("long.py", &source)], &[&["long.py"]], false);
    coverage(work.path(), &["combine", "-q"]);
    let (ours, theirs) = names(work.path(), &[]);
    assert_eq!(ours, theirs);
    let lines = |file: &str| json(work.path().join(file))["files"]["long.py"]["missing_lines"].clone();
    assert!(lines("ours.json").as_array().is_some_and(|lines| lines.len() > 390));
    assert_eq!(lines("ours.json"), lines("theirs.json"));
}

/// Class names and file names of an XML report, and its sources.
fn xml(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("XML");
    let mut found: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| {
            line.starts_with("<source>") || line.starts_with("<package ") || line.starts_with("<class ")
        })
        .map(|line| line.split(" line-rate").next().unwrap_or_default().replace(" complexity=\"0\"", ""))
        .collect();
    found.sort();
    found
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn xml_names_are_relative_to_the_configured_sources() {
    let files = [
        ("src/app/a.py", MODULE),
        ("src/app/deep/er/b.py", MODULE),
        ("c.py", MODULE),
        ("other/d.py", MODULE),
    ];
    let runs: [&[&str]; 4] = [&["src/app/a.py"], &["src/app/deep/er/b.py"], &["c.py"], &["other/d.py"]];
    let work = recorded(&files, &runs, false);
    coverage(work.path(), &["combine", "-q"]);
    let python = python::reference().to_string_lossy().into_owned();
    for rc in [
        "",
        "[run]\nsource = src\n",
        "[run]\nsource = src/app, nowhere\n",
        "[run]\nsource = .\n",
        "[run]\nsource = nowhere\n",
        "[run]\nrelative_files = true\n",
        "[run]\nrelative_files = true\nsource = src/\n",
        "[xml]\npackage_depth = 1\n",
        "[xml]\npackage_depth = -1\n",
        "[xml]\npackage_depth = 0\n",
    ] {
        fs::write(work.path().join(".coveragerc"), rc).expect("written");
        // A file of no source makes the working directory one, and which of two that fit coverage.py then takes is
        // the chance of a set.
        let omit = if rc.contains("source = src") { "c.py,other/*" } else { "nothing" };
        pulpcov(work.path(), &["report", "--python", &python, "--omit", omit, "--xml", "ours.xml", "."]);
        coverage(work.path(), &["xml", "-q", "--omit", omit, "-o", "theirs.xml"]);
        assert_eq!(xml(&work.path().join("ours.xml")), xml(&work.path().join("theirs.xml")), "{rc}");
    }
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn configurations_as_they_are_found_and_read() {
    let work = recorded(&[("m.py", MODULE), ("n.py", MODULE)], &[&["m.py"], &["n.py"]], false);
    coverage(work.path(), &["combine", "-q"]);
    let put = |name: &str, text: &str| fs::write(work.path().join(name), text).expect("written");
    // What coverage.py does not know makes nobody's setup.cfg coverage.py's.
    put("setup.cfg", "[coverage:run]\nunknown = 1\n");
    put("tox.ini", "[coverage:report]\nomit = n.py\n");
    let (ours, theirs) = names(work.path(), &[]);
    assert_eq!((&ours, ours.len()), (&theirs, 1));
    fs::remove_file(work.path().join("setup.cfg")).expect("removed");
    fs::remove_file(work.path().join("tox.ini")).expect("removed");
    let python = python::reference().to_string_lossy().into_owned();
    for rc in
        ["[report]\nsort =\n", "[report]\nprecision = 10\n", "[report]\nexclude_lines =\n    (?i)RETURN 2\n"]
    {
        put(".coveragerc", rc);
        let ours = pulpcov(work.path(), &["report", "--python", &python, "."]);
        let theirs = coverage(work.path(), &["report"]);
        let fields = |text: &str| text.lines().map(super::table_fields).collect::<Vec<_>>();
        assert_eq!(fields(&ours), fields(&theirs), "{rc}");
    }
}

/// The home in `[paths]`, and an environment variable.
#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn paths_may_begin_at_home() {
    let work = recorded(&[("src/m.py", MODULE)], &[&["src/m.py"]], false);
    coverage(work.path(), &["combine", "-q"]);
    fs::rename(work.path().join("src"), work.path().join("moved")).expect("moved");
    for result in ["~/moved", "${HOME}/moved"] {
        fs::write(work.path().join(".coveragerc"), format!("[paths]\nsrc =\n    {result}\n    */src\n"))
            .expect("written");
        let python = python::reference().to_string_lossy().into_owned();
        let output = std::process::Command::new(pulpcov_tests::programs::pulpcov())
            .args(["report", "--python", &python, "--json", "ours.json", "."])
            .current_dir(work.path())
            .env("HOME", work.path())
            .output()
            .expect("pulpcov runs");
        assert!(output.status.success(), "{result}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = json(work.path().join("ours.json"));
        assert!(report["files"]["moved/m.py"].is_object(), "{report}");
    }
}

/// What ran on Windows: backslashes, drives, and relative paths.
#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn data_of_windows_leads_to_the_sources_here() {
    let make = "import sys\nfrom coverage import CoverageData\nd = CoverageData(basename=sys.argv[1])\n\
                d.add_lines({name: [1, 4, 5, 7] for name in sys.argv[2:]})\nd.write()\n";
    let python = python::reference();
    let run = |work: &Path, words: &[&str]| {
        let output =
            std::process::Command::new(&python).args(words).current_dir(work).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let show = "import sys\nfrom coverage import CoverageData\nd = CoverageData(basename=sys.argv[1])\nd.read()\n\
                print(sorted((f, d.lines(f)) for f in d.measured_files()))\n";
    for (rc, names) in [
        ("", &[r"C:\work\src\m.py"][..]),
        ("", &[r"src\m.py", "src/m.py"]),
        ("[paths]\ns =\n    src\n    C:\\work\\src\n", &[r"C:\work\src\m.py", r"c:\WORK\src\m.py"]),
        ("[paths]\ns =\n    src/\n    *\\src\n", &[r"D:\a\src\m.py"]),
        ("[run]\nrelative_files = true\n", &[r"src\m.py"]),
        ("[run]\nrelative_files = true\n", &[r"src\m.py", r"D:\x\src\m.py", "src/m.py"]),
    ] {
        let work = recorded(&[("src/m.py", MODULE), (".coveragerc", rc)], &[], false);
        let words: Vec<&str> = ["-c", make, ".coverage.one"].iter().chain(names).copied().collect();
        run(work.path(), &words);
        pulpcov(work.path(), &["combine", "-o", "ours.data", "."]);
        coverage(work.path(), &["combine", "--keep", "-q"]);
        let (ours, theirs) =
            (run(work.path(), &["-c", show, "ours.data"]), run(work.path(), &["-c", show, ".coverage"]));
        assert_eq!(ours, theirs, "{rc} {names:?}");
        if !rc.is_empty() {
            fs::remove_file(work.path().join(".coverage")).expect("removed");
            let python = python.to_string_lossy().into_owned();
            let ours = pulpcov(work.path(), &["report", "--python", &python, "."]);
            // It combines what it finds first.
            let theirs = coverage(work.path(), &["report"]).replace("Combined 1 file\n", "");
            assert_eq!(super::table_fields(&ours), super::table_fields(&theirs), "{rc} {names:?}");
        }
    }
}
