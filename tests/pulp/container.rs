//! The same Pulp in one container with s6, reached by `ansible_connection: podman`: it records what the hosts did.

use std::collections::BTreeSet;
use std::io::Write;

use pulpcov_tests::engine::Engine;
use pulpcov_tests::plain::Lines;
use pulpcov_tests::pulp_container::{self, NAME};
use pulpcov_tests::python;
use serde_json::Value;

use crate::{CHANCE, STOP, numbers, roles};

/// What ran, whoever ran it.
pub(crate) fn lines_of(report: &Value) -> Lines {
    let files = report["files"].as_object().expect("files");
    let lines = files.iter().map(|(name, file)| (name.clone(), numbers(&file["executed_lines"])));
    lines.filter(|(_, lines)| !lines.is_empty()).collect()
}

/// What was recorded of a Pulp: under the tests' label, and under all labels, which is with the start.
pub(crate) struct Recorded {
    pub(crate) tests: Lines,
    pub(crate) all: Lines,
}

/// Lines of one that the other has not, but for those that only a stop runs.
fn only_in(one: &Lines, other: &Lines) -> Vec<String> {
    let none = BTreeSet::new();
    let mut found = Vec::new();
    for (file, lines) in one {
        for line in lines.difference(other.get(file).unwrap_or(&none)) {
            if !STOP.iter().any(|(name, first, last)| name == file && (first..=last).contains(&line)) {
                found.push(format!("{file}:{line}"));
            }
        }
    }
    found
}

fn report(engine: &Engine, words: &[&str]) -> Value {
    let (text, _) = engine.pulpcov(0, &[&["report", "run", "--json", "-"], words].concat());
    serde_json::from_str(&text).expect("JSON")
}

/// Holds a Pulp in a container against what hosts recorded of the same requests. What ran here under the tests and there at
/// the start is no difference: a service may still be starting where its tests begin.
pub(crate) fn records_what_hosts_did(hosts: &Recorded) {
    let engine = pulp_container::start();
    engine.write("hosts.yml", &format!("all:\n  hosts: {{{NAME}: {{ansible_connection: podman}}}}\n"));
    pulp_container::exercise(&engine, 1);
    let wheels = python::wheelhouse().to_string_lossy().into_owned();
    let words = ["fleet", "install", "hosts.yml", "--wheelhouse", &wheels, "--restart", "--label", "tier1"];
    engine.pulpcov(0, &words);
    pulp_container::wait_until_online(&engine);
    pulp_container::exercise(&engine, 3);
    engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "-o", "run"]);
    let whole = report(&engine, &["--require-complete"]);
    assert_eq!(roles(&whole, NAME), BTreeSet::from(["api", "content", "task", "worker"]));
    let ours = Recorded { tests: lines_of(&report(&engine, &["--label", "tier1"])), all: lines_of(&whole) };
    let (more, less) = (only_in(&ours.tests, &hosts.all), only_in(&hosts.tests, &ours.all));
    let _ = writeln!(std::io::stderr(), "in a container alone: {more:?}; on hosts alone: {less:?}");
    assert!(more.len() <= CHANCE && less.len() <= CHANCE, "in a container: {more:?}; on hosts: {less:?}");
    engine.pulpcov(0, &["fleet", "uninstall", "hosts.yml", "--restart", "--erase-data"]);
    let left = engine.shell(NAME, "ls -d /srv/pulp_coverage /usr/local/lib/pulpcov 2>/dev/null || true");
    assert_eq!(left, "");
}
