//! Reports of runs: what CI servers read, gates, diffs and trends.

mod data_files;
mod hostile;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pulpcov_tests::made_run::{made_run, made_run_at};
use pulpcov_tests::{programs, python};
use serde_json::Value;

fn pulpcov(work: &Path, words: &[&str]) -> Output {
    Command::new(programs::pulpcov()).args(words).current_dir(work).output().expect("runs")
}

fn says(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn ends(work: &Path, code: i32, words: &[&str]) -> String {
    let (status, stdout, stderr) = says(&pulpcov(work, words));
    assert_eq!(status, Some(code), "{words:?}: {stdout}{stderr}");
    format!("{stdout}{stderr}")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a report")).expect("JSON")
}

const SMALL: [&str; 7] = ["--hosts", "3", "--processes", "2", "--sources", "20", "--branch"];

/// For a repository that has its packages elsewhere than hosts import them from.
#[test]
#[ignore = "needs a package index: coverage.py"]
fn ci_servers_read_the_repositorys_names() {
    let work = made_run(&SMALL);
    let rc = "[paths]\nsource =\n    vendored/django\n    */app/django\n";
    fs::write(work.path().join("rc"), rc).expect("written");
    let files =
        ["--json", "r.json", "--xml", "x.xml", "--lcov", "l.info", "--sonar", "s.xml", "--text", "t.txt"];
    for (words, begins) in [
        (&["--add-prefix", "src/"][..], "src/django/"),
        (&["--strip-prefix", "django", "--add-prefix", "lib"], "lib/"),
        (&["--rcfile", "rc"], "vendored/django/"),
        (&["--rcfile", "rc", "--strip-prefix", "vendored"], "django/"),
    ] {
        let all: Vec<&str> = ["report", "run"].iter().chain(&files).chain(words).copied().collect();
        ends(work.path(), 0, &all);
        let read = |name: &str| fs::read_to_string(work.path().join(name)).expect("a report");
        let report = json(&work.path().join("r.json"));
        let names: Vec<String> = report["files"].as_object().expect("files").keys().cloned().collect();
        assert!(names.len() > 5 && names.iter().all(|name| name.starts_with(begins)), "{words:?}: {names:?}");
        for (file, mark) in [("x.xml", "filename=\""), ("l.info", "SF:"), ("s.xml", "<file path=\"")] {
            let text = read(file);
            let told: std::collections::BTreeSet<&str> =
                text.split(mark).skip(1).filter_map(|rest| rest.split(['"', '\n']).next()).collect();
            assert_eq!(told, names.iter().map(String::as_str).collect(), "{words:?}: {file}");
        }
        // A person and the gates know them as modules.
        assert!(read("t.txt").contains("\ndjango/"), "{words:?}");
    }
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn what_ci_servers_read_says_the_same_as_the_json_report() {
    let work = made_run(&SMALL);
    ends(
        work.path(),
        3,
        &[
            "report",
            "run",
            "--json",
            "r.json",
            "--junit",
            "j.xml",
            "--sonar",
            "s.xml",
            "--badge",
            "b.svg",
            "--markdown",
            "m.md",
            "--fail-under",
            "99",
            "--fail-under",
            "django.db=1",
            "--require-complete",
        ],
    );
    // An XML parser of somebody else's reads them.
    let script = "import json, sys\nfrom xml.etree import ElementTree as E\nr = json.load(open('r.json'))\n\
        s = E.parse('s.xml').getroot()\nassert s.tag == 'coverage' and s.get('version') == '1'\n\
        assert {f.get('path') for f in s} == set(r['files'])\n\
        lines = [l for f in s for l in f]\n\
        assert sum(l.get('covered') == 'true' for l in lines) == r['totals']['covered_lines']\n\
        assert len(lines) == r['totals']['num_statements']\n\
        assert sum(int(l.get('branchesToCover', 0)) for l in lines) == r['totals']['num_branches']\n\
        assert sum(int(l.get('coveredBranches', 0)) for l in lines) == r['totals']['covered_branches']\n\
        j = E.parse('j.xml').getroot()\n\
        cases = {c.get('name'): c.find('failure') is not None for c in j.iter('testcase')}\n\
        assert cases == {'host000': False, 'host001': False, 'host002': False, '--fail-under 99': True, '--fail-under django.db=1': False, '--require-complete': False}, cases\n\
        assert (j.get('tests'), j.get('failures')) == ('6', '1')\n\
        b = E.parse('b.svg').getroot()\n\
        assert r['totals']['percent_covered_display'] + '%' in b.get('aria-label')\n";
    let output = Command::new(python::reference())
        .args(["-c", script])
        .current_dir(work.path())
        .output()
        .expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = fs::read_to_string(work.path().join("m.md")).expect("a summary");
    assert!(summary.contains("❌ `--fail-under 99`") && summary.contains("| host000 |"), "{summary}");
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn a_host_that_is_missing_fails_in_junit_and_on_the_badge() {
    let work = made_run(&SMALL);
    let path = work.path().join("run/run.json");
    let mut run = json(&path);
    run["hosts"]["host003"] = "host key changed <&>".into();
    fs::write(&path, run.to_string()).expect("written");
    ends(work.path(), 0, &["report", "run", "--junit", "j.xml", "--badge", "b.svg", "--html", "html"]);
    let text = |name: &str| fs::read_to_string(work.path().join(name)).expect("written");
    assert!(text("j.xml").contains("<failure message=\"host key changed &lt;&amp;&gt;\"/>"));
    assert!(text("b.svg").contains("(incomplete)"));
    assert!(text("html/index.html").contains("nothing new from host003"));
    assert!(text("html/fleet.html").contains("host key changed &lt;&amp;&gt;"));
    ends(work.path(), 3, &["report", "run", "--require-complete"]);
}

/// A repository whose last commit added lines to a source that the fleet ran.
fn repository(work: &Path) {
    let site = Command::new(python::reference())
        .args(["-c", "import django, os; print(os.path.dirname(django.__file__))"])
        .output()
        .expect("runs");
    let site = String::from_utf8_lossy(&site.stdout).trim().to_owned();
    let whole = fs::read_to_string(Path::new(&site).join("db/models/query.py")).expect("a source");
    let lines: Vec<&str> = whole.lines().collect();
    let mut before: Vec<&str> = lines[..300].to_vec();
    before.extend(&lines[400..]);
    let folder = work.join("src/django/db/models");
    fs::create_dir_all(&folder).expect("a folder");
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).current_dir(work).output().expect("git");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "-q", "."]);
    git(&["config", "user.email", "t@example.org"]);
    git(&["config", "user.name", "t"]);
    for (query, new) in [(format!("{}\n", before.join("\n")), "x = 1\n"), (whole.clone(), "x = 1\ny = 2\n")] {
        fs::write(folder.join("query.py"), query).expect("written");
        fs::write(folder.join("base.py"), format!("{new}# not what the hosts have\n")).expect("written");
        fs::write(work.join("setup.py"), new).expect("written");
        git(&["add", "src", "setup.py"]);
        git(&["commit", "-q", "-m", "x"]);
    }
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn changed_lines_are_judged_where_they_are_those_that_ran() {
    let work = made_run(&SMALL);
    repository(work.path());
    let said = ends(
        work.path(),
        0,
        &["report", "run", "--diff-range", "HEAD~1..HEAD", "--json", "r.json", "--text", "-"],
    );
    assert!(said.contains("the report does not have setup.py"), "{said}");
    assert!(said.contains("their lines do not count: src/django/db/models/base.py"), "{said}");
    let report = json(&work.path().join("r.json"));
    let file = &report["files"]["django/db/models/query.py"];
    let of = |list: &Value| -> Vec<i64> {
        let lines = list.as_array().expect("lines").iter().filter_map(Value::as_i64);
        lines.filter(|line| (301..=400).contains(line)).collect()
    };
    let diff = &report["diff"]["files"]["django/db/models/query.py"];
    assert_eq!(of(&diff["executed_lines"]), of(&file["executed_lines"]));
    assert_eq!(of(&diff["missing_lines"]), of(&file["missing_lines"]));
    assert!(report["diff"]["num_statements"].as_u64() > Some(20), "{}", report["diff"]);
    // The same from a file, and from stdin.
    let patch =
        Command::new("git").args(["diff", "HEAD~1..HEAD"]).current_dir(work.path()).output().expect("git");
    fs::write(work.path().join("change.diff"), patch.stdout).expect("written");
    ends(work.path(), 0, &["report", "run", "--diff-file", "change.diff", "--json", "f.json"]);
    assert_eq!(json(&work.path().join("f.json"))["diff"], report["diff"]);
    let said =
        ends(work.path(), 3, &["report", "run", "--diff-file", "change.diff", "--fail-under-diff", "0"]);
    assert!(said.contains("cannot be judged") && said.contains("models/base.py"), "{said}");
    let patch = Command::new("git")
        .args(["diff", "HEAD~1..HEAD", "--", "src/django/db/models/query.py"])
        .current_dir(work.path())
        .output()
        .expect("git");
    fs::write(work.path().join("query.diff"), patch.stdout).expect("written");
    ends(work.path(), 0, &["report", "run", "--diff-file", "query.diff", "--fail-under-diff", "0"]);
    let said =
        ends(work.path(), 3, &["report", "run", "--diff-file", "query.diff", "--fail-under-diff", "100"]);
    assert!(said.contains("of the changed statements is covered"), "{said}");
    for (words, wanted) in [
        (&["--diff-range", "nosuch..HEAD"][..], "--diff-range nosuch..HEAD: fatal"),
        (&["--diff-range=--output=x"], "a range is A..B"),
        (&["--diff-file", "nosuch"], "--diff-file nosuch"),
    ] {
        let words: Vec<&str> = ["report", "run"].iter().chain(words).copied().collect();
        let said = ends(work.path(), 2, &words);
        assert!(said.contains(wanted), "{said}");
    }
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn a_trend_is_told_from_the_oldest_run_on() {
    let work = tempfile::tempdir().expect("a folder");
    for (name, hosts, day) in [("b", "1", "2026-01-01"), ("a", "4", "2026-01-02")] {
        let path = work.path().join("runs").join(name);
        made_run_at(&path, &["--hosts", hosts, "--processes", "1", "--sources", "10"]);
        let mut run = json(&path.join("run.json"));
        run["created"] = format!("{day}T00:00:00Z").into();
        fs::write(path.join("run.json"), run.to_string()).expect("written");
    }
    std::os::unix::fs::symlink("a", work.path().join("runs/latest")).expect("a link");
    let said = ends(work.path(), 0, &["trend", "runs/a", "runs/b", "runs/latest"]);
    let runs: Vec<&str> = said.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(runs, ["b", "a"], "{said}");
    ends(work.path(), 0, &["trend", "runs/a", "runs/b", "--json", "t.json", "--svg", "t.svg"]);
    let trend = json(&work.path().join("t.json"));
    let percent = |i: usize| trend["runs"][i]["percent_covered"].as_f64().expect("a number");
    assert!(percent(1) > percent(0), "{trend}");
    ends(work.path(), 0, &["report", "runs/a", "--html", "html", "--history", "runs/a", "runs/b"]);
    let index = fs::read_to_string(work.path().join("html/index.html")).expect("an index");
    assert_eq!(index.matches("<circle").count(), 2);
    assert!(ends(work.path(), 2, &["trend", "runs"]).contains("is no run directory"));
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn an_html_report_replaces_its_like_and_nothing_else() {
    let work = made_run(&SMALL);
    ends(work.path(), 0, &["report", "run", "--html", "html"]);
    ends(work.path(), 0, &["report", "run", "--html", "html", "--title", "again"]);
    let index = fs::read_to_string(work.path().join("html/index.html")).expect("an index");
    assert!(index.contains("again"));
    let mine = work.path().join("mine");
    fs::create_dir(&mine).expect("a folder");
    fs::write(mine.join("thesis.txt"), "years").expect("written");
    let said = ends(work.path(), 2, &["report", "run", "--html", "mine"]);
    assert!(said.contains("mine has files in it that are no HTML report"), "{said}");
    assert_eq!(fs::read_dir(&mine).expect("lists").count(), 1);
    ends(work.path(), 2, &["report", "run", "--html", "mine/thesis.txt"]);
    let left = fs::read_dir(work.path()).expect("lists").map(|entry| entry.expect("entry").file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".pulpcov-html")));
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn releases_stay_apart_until_they_are_asked_to_be_mapped() {
    let work = made_run(&["--hosts", "3", "--processes", "1", "--sources", "5", "--other-release"]);
    let said = ends(work.path(), 0, &["report", "run", "--json", "apart.json"]);
    assert!(said.contains("differs between hosts"), "{said}");
    let apart = json(&work.path().join("apart.json"));
    let names: Vec<&String> =
        apart["files"].as_object().expect("files").keys().filter(|name| name.contains('@')).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let said = ends(work.path(), 0, &["report", "run", "--map-releases", "--json", "mapped.json"]);
    assert!(
        said.contains("lines that ran are carried over to")
            && said.contains("are not in it and count nowhere"),
        "{said}"
    );
    let mapped = json(&work.path().join("mapped.json"));
    let name = names[0].split('@').next().expect("a name");
    let lines = |part: &Value| -> Vec<i64> {
        part["executed_lines"].as_array().expect("lines").iter().filter_map(Value::as_i64).collect()
    };
    // The other release has one line more on top, and one more at its end.
    let here = lines(&mapped["hosts"]["host002"]["files"][name]);
    let there = names
        .iter()
        .map(|name| &apart["hosts"]["host002"]["files"][name.as_str()])
        .find(|part| !part.is_null());
    let shifted: Vec<i64> = lines(there.expect("it ran")).into_iter().map(|line| line - 1).collect();
    assert!(
        here.iter().all(|line| shifted.contains(line)) && here.len() + 2 > shifted.len(),
        "{here:?} {shifted:?}"
    );
    let union: std::collections::BTreeSet<i64> = ["host000", "host001", "host002"]
        .iter()
        .flat_map(|host| lines(&mapped["hosts"][host]["files"][name]))
        .collect();
    assert_eq!(lines(&mapped["files"][name]), union.into_iter().collect::<Vec<_>>());
}

/// A damaged bundle counts for nothing at all, and is said; the rest of the fleet still counts.
#[test]
#[ignore = "needs a package index: coverage.py"]
fn a_damaged_bundle_adds_nothing_and_a_hosts_word_for_another_does_not_count() {
    let work = made_run(&SMALL);
    let all = ends(work.path(), 0, &["report", "run", "--json", "-"]);
    let all: Value = serde_json::from_str(all.trim()).expect("JSON");
    // host000 has the sources and analyses; the last host's bundle is cut.
    let bundle = work.path().join("run/hosts/host002/bundle-0001.tar.gz");
    let whole = fs::read(&bundle).expect("a bundle");
    for part in [whole.len() - 10, whole.len() / 2, 20] {
        fs::write(&bundle, &whole[..part]).expect("written");
        ends(work.path(), 0, &["report", "run", "--json", "cut.json"]);
        let cut = json(&work.path().join("cut.json"));
        assert!(cut["hosts"]["host002"]["files"].as_object().is_none_or(serde_json::Map::is_empty), "{part}");
        assert_eq!(cut["hosts"]["host001"]["covered_lines"], all["hosts"]["host001"]["covered_lines"]);
        let headline = cut["meta"]["headline"].as_str().expect("a headline");
        assert!(
            headline.contains("4 of at least 4 processes on 2 hosts; a damaged bundle of host002"),
            "{headline}"
        );
        ends(work.path(), 3, &["report", "run", "--require-complete"]);
    }
    // Where an archive was, and what is no file.
    fs::remove_file(&bundle).expect("removed");
    std::os::unix::fs::symlink("/nowhere/bundle-0001.tar.gz", &bundle).expect("a link");
    let said = ends(work.path(), 3, &["report", "run", "--require-complete"]);
    assert!(said.contains("a damaged bundle of host002") && said.contains("No such file"), "{said}");
    fs::remove_file(&bundle).expect("removed");
    assert!(Command::new("mkfifo").arg(&bundle).status().expect("mkfifo runs").success());
    let said = ends(work.path(), 3, &["report", "run", "--require-complete"]);
    assert!(said.contains("bundle-0001.tar.gz is no regular file"), "{said}");
    fs::remove_file(&bundle).expect("removed");
    let folder = work.path().join("run/hosts/host002");
    fs::rename(&folder, work.path().join("archive")).expect("moved");
    std::os::unix::fs::symlink("/nowhere/host002", &folder).expect("a link");
    let said = ends(work.path(), 3, &["report", "run", "--require-complete"]);
    assert!(said.contains("a damaged bundle of host002"), "{said}");
    fs::remove_file(&folder).expect("removed");
    fs::rename(work.path().join("archive"), &folder).expect("moved");
    fs::copy(work.path().join("run/hosts/host001/bundle-0001.tar.gz"), &bundle).expect("copied");
    let said = ends(work.path(), 0, &["report", "run"]);
    assert!(
        said.contains("it says that it is of host \"host001\", and lies in the folder of \"host002\""),
        "{said}"
    );
    // Without the bundle that has the analyses there is no number to tell, and none is told.
    fs::write(work.path().join("run/hosts/host000/bundle-0001.tar.gz"), "x").expect("written");
    let said = ends(work.path(), 2, &["report", "run", "--badge", "b.svg"]);
    assert!(
        said.contains("no source of the report has an analysis") && !work.path().join("b.svg").exists(),
        "{said}"
    );
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn outputs_go_where_they_are_named_and_never_over_each_other() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let work = made_run(&SMALL);
    let path = |name: &str| work.path().join(name);
    fs::write(path("target"), "old").expect("written");
    fs::set_permissions(path("target"), fs::Permissions::from_mode(0o600)).expect("set");
    symlink("target", path("link")).expect("a link");
    ends(work.path(), 0, &["report", "run", "--json", "link"]);
    assert!(path("link").is_symlink() && json(&path("target"))["totals"].is_object());
    assert_eq!(fs::metadata(path("target")).expect("there").permissions().mode() & 0o777, 0o600);
    symlink("nowhere", path("dangling")).expect("a link");
    assert!(ends(work.path(), 2, &["report", "run", "--json", "dangling"]).contains("leads nowhere"));
    for place in ["dangling", "-"] {
        assert!(ends(work.path(), 2, &["report", "run", "--html", place]).contains("is no folder"));
    }
    assert!(ends(work.path(), 2, &["report", "run", "--json", "/dev/full"]).contains("No space left"));
    let said = ends(work.path(), 2, &["report", "run", "--json", "/proc/nowhere"]);
    assert!(said.contains("/proc/nowhere") && !said.contains("/.pulpcov-"), "{said}");
    let said = ends(work.path(), 2, &["report", "run", "--json", "same", "--xml", "./same"]);
    assert!(said.contains("cannot both go to") && !path("same").exists(), "{said}");
    assert!(
        ends(work.path(), 2, &["report", "run", "--select", "host:host000 - host:host000"])
            .contains("takes nothing")
    );
    let said = ends(work.path(), 0, &["report", "run", "--select", "host:host000"]);
    assert!(said.starts_with("only host:host000, of a fleet based on"), "{said}");
    // A reader that leaves does not make a gate pass.
    let script = format!(
        "{{ {} report run -m --fail-under 99.99; echo $? > code; }} | true",
        programs::pulpcov().display()
    );
    Command::new("sh").args(["-c", &script]).current_dir(work.path()).output().expect("runs");
    assert_eq!(fs::read_to_string(path("code")).expect("a code").trim(), "3");
}

/// A template runs under its own name, and is no Python: coverage.py leaves it out without a word, and so do reports.
#[test]
#[ignore = "needs a package index: coverage.py"]
fn what_is_no_python_and_does_not_say_so_wants_no_analysis() {
    let work = made_run(&["--hosts", "1", "--processes", "1", "--sources", "5"]);
    let script = "import glob, gzip, hashlib, io, json, sys, tarfile\n\
        [path] = glob.glob('run/hosts/*/bundle-*.tar.gz')\n\
        tar = tarfile.open(path)\n\
        parts = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]\n\
        manifest = json.loads(parts[0][1])\n\
        source = manifest['sources'][0]\n\
        source['module_path'] = sys.argv[1]\n\
        error = json.dumps({'error': 'NotPython: no', 'coverage': '7.17.3', 'python': '3.11'}).encode()\n\
        key = 'analysis/%s.json' % source['analysis']\n\
        parts = [(name, error if name == key else data) for name, data in parts]\n\
        for entry in manifest['entries']:\n\
        \tdata = dict(parts)[entry['path']]\n\
        \tentry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())\n\
        parts[0] = (parts[0][0], json.dumps(manifest).encode())\n\
        out = tarfile.open(path, 'w:gz', format=tarfile.USTAR_FORMAT)\n\
        for name, data in parts:\n\
        \tinfo = tarfile.TarInfo(name)\n\
        \tinfo.size = len(data)\n\
        \tout.addfile(info, io.BytesIO(data))\n\
        out.close()\n";
    let rename = |name: &str| {
        let mut python = Command::new(python::reference());
        let output = python.args(["-c", script, name]).current_dir(work.path()).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    rename("django/page.html");
    let said = ends(work.path(), 0, &["report", "run", "--require-complete"]);
    assert!(!said.contains("page.html") && said.contains("TOTAL"), "{said}");
    rename("django/page.py");
    let said = ends(work.path(), 3, &["report", "run", "--require-complete"]);
    assert!(said.contains("for want of an analysis: django/page.py"), "{said}");
}
