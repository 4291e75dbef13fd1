//! A package that is replaced in the night: lines of the old release are never put on the new one's source.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pulpcov_tests::{programs, python};
use serde_json::{Value, json};

use crate::{Place, agent};

/// Three functions; `lines` of comment before them.
fn release(lines: usize) -> String {
    let mut text = "# a line\n".repeat(lines);
    for n in 1..=3 {
        text.push_str(&format!("def f{n}():\n    x = {n}\n    return x\n"));
    }
    text
}

/// A service that calls what it is told, word by word, and answers when it did.
struct Service(Child);

impl Service {
    fn start(place: &Place) -> Self {
        let child = Command::new(&place.python)
            .arg(place.work.path().join("app/thing-server"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        Self(child)
    }

    fn call(&mut self, word: &str) {
        writeln!(self.0.stdin.as_mut().expect("piped"), "{word}").expect("written");
        let mut answer = String::new();
        BufReader::new(self.0.stdout.as_mut().expect("piped")).read_line(&mut answer).expect("an answer");
        assert_eq!(answer.trim(), word);
    }

    fn stop(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("ends").success());
    }
}

fn places() -> Vec<Place> {
    let mut pythons: Vec<PathBuf> = ["3.6", "3.13"].iter().filter_map(|v| python::of_version(v)).collect();
    if pythons.is_empty() {
        pythons.extend(python::of_version("3.11"));
    }
    let places = pythons.iter().map(|python| {
        let place = Place::new(python);
        let app = place.work.path().join("app");
        fs::write(app.join("thing/shop.py"), release(0)).expect("written");
        let server = "import os, sys\nsys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\nfrom thing import shop\nwhile True:\n    word = sys.stdin.readline().strip()\n    if not word:\n        break\n    if word == 'late':\n        from thing import late\n    else:\n        getattr(shop, word)()\n    sys.stdout.write(word + '\\n')\n    sys.stdout.flush()\n";
        fs::write(app.join("thing-server"), server).expect("written");
        assert_eq!(place.install(true)["failed"], false);
        place
    });
    places.collect()
}

/// As package managers do it: a new file renamed over the old one.
fn replace(place: &Place, lines: usize) {
    let path = place.work.path().join("app/thing/shop.py");
    fs::write(path.with_extension("new"), release(lines)).expect("written");
    fs::rename(path.with_extension("new"), path).expect("renamed");
}

fn collect(place: &Place, name: &str) -> PathBuf {
    let words = json!({"lib_root": place.work.path().join("lib"), "flush_timeout": 10});
    let outcome = agent("collect", &words);
    assert_eq!((&outcome["failed"], &outcome["warnings"]), (&json!(false), &json!([])), "{outcome}");
    let bundles = place.work.path().join("bundles");
    fs::create_dir_all(&bundles).expect("a folder");
    let kept = bundles.join(format!("{name}.tar.gz"));
    fs::copy(outcome["pulpcov"]["bundle"].as_str().expect("a bundle"), &kept).expect("copied");
    kept
}

/// Functions that a report says were run, by file; and what it says on stderr, and whether it is complete.
fn report(place: &Place, from: &[&Path]) -> (Vec<String>, String, bool) {
    let output = Command::new(programs::pulpcov())
        .arg("report")
        .args(from)
        .args(["--json", "-", "--require-complete"])
        .current_dir(place.work.path())
        .output()
        .expect("pulpcov runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let mut ran = Vec::new();
    for (name, file) in report["files"].as_object().expect("files") {
        let lines = |kind: &str| {
            let lines = file[kind].as_array().expect("lines").iter();
            lines.filter_map(Value::as_u64).collect::<Vec<_>>()
        };
        let executed = lines("executed_lines");
        let first = executed.iter().copied().chain(lines("missing_lines")).min().unwrap_or_default();
        for n in (1..=3).filter(|n| executed.contains(&(first + 3 * (n - 1) + 1))) {
            ran.push(format!("{} f{n}", name.split('@').next().unwrap_or_default()));
        }
    }
    ran.sort();
    (ran, said, output.status.success())
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn what_ran_of_a_file_that_was_replaced_and_restarted_is_named_and_on_no_other_lines() {
    for place in places() {
        let mut service = Service::start(&place);
        service.call("f3");
        service.stop();
        replace(&place, 8);
        let mut service = Service::start(&place);
        service.call("f1");
        let bundle = collect(&place, "after");
        let (ran, said, complete) = report(&place, &[&bundle]);
        assert_eq!(ran, ["thing/shop.py f1"], "{said}");
        assert!(!complete && said.contains("replaced since it ran, and no bundle has what ran"), "{said}");
        service.stop();
    }
}

/// An upgrade that has reached one host: the others still have the bytes that ran there.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn what_ran_of_a_file_that_was_replaced_goes_to_the_same_bytes_of_another_host() {
    for place in places() {
        let mut service = Service::start(&place);
        service.call("f1");
        service.stop();
        let of_another = collect(&place, "another");
        let lib = place.work.path().join("lib");
        let gone = agent("uninstall", &json!({"lib_root": lib, "erase_data": true}));
        assert_eq!(gone["failed"], false, "{gone}");
        let mut words = place.install_words(true);
        words["host_label"] = json!("upgraded");
        assert_eq!(agent("install", &words)["failed"], false);
        let mut service = Service::start(&place);
        service.call("f3");
        service.stop();
        replace(&place, 8);
        let mut service = Service::start(&place);
        service.call("f2");
        let after = collect(&place, "after");
        let (_, said, complete) = report(&place, &[&after]);
        assert!(!complete && said.contains("no bundle has what ran"), "{said}");
        for from in [[&*of_another, &*after], [&*after, &*of_another]] {
            let (ran, said, complete) = report(&place, &from);
            assert_eq!(ran, ["thing/shop.py f1", "thing/shop.py f2", "thing/shop.py f3"], "{said}");
            assert!(complete, "{said}");
        }
        service.stop();
    }
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn what_ran_of_a_file_that_is_replaced_under_a_running_service_goes_to_the_bytes_that_ran() {
    for place in places() {
        let mut service = Service::start(&place);
        service.call("f3");
        let before = collect(&place, "before");
        replace(&place, 8);
        // Old code, new file.
        service.call("f2");
        let after = collect(&place, "after");
        let (ran, said, complete) = report(&place, &[&after]);
        assert_eq!((ran, complete), (vec![], false), "{said}");
        // An earlier bundle has the bytes that ran; whichever is read first.
        for bundles in [[&*before, &*after], [&*after, &*before]] {
            let (ran, said, complete) = report(&place, &bundles);
            assert_eq!(ran, ["thing/shop.py f2", "thing/shop.py f3"], "{said}");
            assert!(complete, "{said}");
        }
        service.stop();
        let mut service = Service::start(&place);
        service.call("f1");
        service.stop();
        let last = collect(&place, "last");
        let (ran, said, complete) = report(&place, &[&before, &last]);
        assert_eq!(ran, ["thing/shop.py f1", "thing/shop.py f2", "thing/shop.py f3"], "{said}");
        assert!(complete, "{said}");
    }
}

/// What is imported after the file was replaced is new code, in a process that runs old code besides.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn what_is_imported_late_is_of_the_file_that_it_was_imported_from() {
    for place in places() {
        let late = place.work.path().join("app/thing/late.py");
        fs::write(&late, release(3)).expect("written");
        let mut service = Service::start(&place);
        service.call("f3");
        fs::write(&late, format!("{}f2()\n", release(5))).expect("written");
        service.call("late");
        let bundle = collect(&place, "after");
        let (ran, said, complete) = report(&place, &[&bundle]);
        assert_eq!(
            (ran, complete),
            (vec!["thing/late.py f2".to_owned(), "thing/shop.py f3".to_owned()], true),
            "{said}"
        );
        service.stop();
    }
}

/// Compacting makes one of what ran of one release, and leaves what ran of another alone.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn compacting_keeps_releases_apart() {
    for place in places() {
        let run = |word: &str| {
            let mut service = Service::start(&place);
            service.call(word);
            service.stop();
        };
        run("f1");
        run("f2");
        let before = collect(&place, "before");
        replace(&place, 8);
        run("f3");
        run("f3");
        crate::compaction::rested(&place);
        let outcome = agent("compact", &json!({"lib_root": place.work.path().join("lib"), "at_least": 2}));
        assert_eq!(outcome["failed"], false, "{outcome}");
        let after = collect(&place, "after");
        let (ran, said, complete) = report(&place, &[&after]);
        assert_eq!((ran, complete), (vec!["thing/shop.py f3".to_owned()], false), "{said}");
        let (ran, said, complete) = report(&place, &[&before, &after]);
        assert_eq!(ran, ["thing/shop.py f1", "thing/shop.py f2", "thing/shop.py f3"], "{said}");
        assert!(complete, "{said}");
    }
}

/// A file that was touched, or replaced by an equal one, is the one that ran: a reinstall costs nothing.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn equal_bytes_are_the_same_release() {
    for place in places() {
        let mut service = Service::start(&place);
        service.call("f3");
        service.stop();
        replace(&place, 0);
        let bundle = collect(&place, "after");
        let (ran, said, complete) = report(&place, &[&bundle]);
        assert_eq!((ran, complete), (vec!["thing/shop.py f3".to_owned()], true), "{said}");
    }
}

/// Data that a record tells of and that no bundle has is missing from the number.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn data_that_is_gone_or_cannot_be_read_is_not_complete() {
    for place in places() {
        for damage in [None, Some("junk")] {
            let mut service = Service::start(&place);
            service.call("f3");
            service.stop();
            // Of a process that has a live map that is its data until somebody looks.
            let data: Vec<PathBuf> = ["data", "data/.pulpcov"]
                .iter()
                .flat_map(|folder| fs::read_dir(place.work.path().join(folder)).expect("lists").flatten())
                .filter(|entry| {
                    ["data.", "map."].iter().any(|word| entry.file_name().to_string_lossy().starts_with(word))
                })
                .map(|entry| entry.path())
                .collect();
            assert_eq!(data.len(), 1);
            match damage {
                None => fs::remove_file(&data[0]).expect("removed"),
                Some(text) => fs::write(&data[0], text).expect("written"),
            }
            let outcome = agent("collect", &json!({"lib_root": place.work.path().join("lib")}));
            let bundle = PathBuf::from(outcome["pulpcov"]["bundle"].as_str().expect("a bundle"));
            let (_, said, complete) = report(&place, &[&bundle]);
            assert!(!complete && said.contains("not here, or cannot be read"), "{said}");
            let _ = fs::remove_file(&data[0]);
            for entry in fs::read_dir(place.work.path().join("data/.pulpcov")).expect("lists").flatten() {
                if entry.file_name().to_string_lossy().starts_with("proc.") {
                    fs::remove_file(entry.path()).expect("removed");
                }
            }
        }
    }
}

/// Loaders of the service's own keep what they have: a name that is none, or no text, is nothing of ours.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn loaders_of_every_kind_go_on_loading() {
    for place in places() {
        let script = "\
import os, sys
from importlib.machinery import SourceFileLoader
here = os.path.dirname(os.path.abspath(__file__))

class Own(SourceFileLoader):
    def __init__(self, path, *name):
        self.path = path
        if name:
            self.name = name[0]

    def get_filename(self, name=None):
        return self.path

for words in ((), (None,), (7,), ('thing.shop',)):
    loader = Own(os.path.join(here, 'thing', 'shop.py'), *words)
    assert loader.get_code('thing.shop').co_filename.endswith('shop.py')
try:
    SourceFileLoader('thing.gone', os.path.join(here, 'gone.py')).path_stats(os.path.join(here, 'gone.py'))
except FileNotFoundError:
    print('loaded')
";
        fs::write(place.work.path().join("app/thing-server"), script).expect("written");
        let output = place.run("plain");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "loaded\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
