//! A real Pulp under a live map, and under coverage.py's tracer, in the very same processes.

use std::collections::BTreeMap;

use pulpcov_tests::lab::Lab;
use pulpcov_tests::{plain, pulp, python, pythons};
use serde_json::Value;

/// Hosts that run Pulp under that Python, and their files in coverage.py's folder.
const HOSTS: [usize; 2] = [pulp::FRONT, pulp::WORKER_VENV];

/// Executed lines and branches by file, of what coverage.py combines: its own report.
fn executed(lab: &Lab, data: &str, name: &str) -> BTreeMap<String, [Value; 2]> {
    lab.shell(
        pulp::FRONT,
        &format!(
            "cd /shared/plain; export PYTHONPATH=/opt/plain-coverage COVERAGE_RCFILE=/dev/null; \
             c='/usr/local/lib/pulp/bin/python -m coverage'; \
             $c combine -q --keep --data-file={name}.db {data}; $c json -q --data-file={name}.db -o {name}.json"
        ),
    );
    let report = fs_err::read(lab.path(&format!("shared/plain/{name}.json"))).expect("a report");
    let mut report: Value = serde_json::from_slice(&report).expect("JSON");
    let files = report["files"].as_object_mut().map(std::mem::take).unwrap_or_default();
    let executed = |file: &Value| ["executed_lines", "executed_branches"].map(|what| file[what].clone());
    // coverage.py tells of files that never ran, too.
    let ran = |file: &Value| file["executed_lines"].as_array().is_some_and(|lines| !lines.is_empty());
    files.into_iter().filter(|(_, file)| ran(file)).map(|(path, file)| (path, executed(&file))).collect()
}

/// API, content app and a worker with its tasks, from their start to their stop.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_live_map_tells_of_pulp_what_the_tracer_sees() {
    let Some(mut lab) = pulp::start_live() else { return };
    lab.write_inventory(
        "all:\n  vars: {pulpcov_profile: pulp3, pulpcov_recorder: live-map, pulpcov_branch: true}\n  \
         hosts: {h1: {}, h2: {}}\n",
    );
    let wheels = python::synced_wheelhouse().to_string_lossy().into_owned();
    lab.fleet(0, "install", &["--wheelhouse", &wheels]);
    // What this restarts has both.
    plain::install(&lab, plain::Settings { python: pythons::BUILT, core: "ctrace", branch: true });
    pulp::wait_until_online(&mut lab);
    pulp::exercise(&lab, 1);
    for (host, units) in pulp::SERVICES {
        lab.shell(host, &format!("systemctl stop {units}"));
    }
    lab.fleet(0, "collect", &["-o", "run"]);
    let report: Value =
        serde_json::from_str(&lab.pulpcov_ends(0, &["report", "run", "--json", "-"])).expect("JSON");
    for host in HOSTS.map(|host| format!("h{host}")) {
        let processes = report["hosts"][&host]["processes"].as_array().expect("processes");
        assert!(processes.iter().all(|process| process["core"] == "live-map"), "{processes:?}");
    }
    lab.pulpcov_ends(0, &["combine", "run", "-o", "shared/plain/ours"]);
    let (ours, theirs) = (executed(&lab, "ours", "of-us"), executed(&lab, ".coverage.h[12].*", "of-them"));
    let differing: Vec<_> = theirs.iter().filter(|(path, file)| ours.get(*path) != Some(file)).collect();
    assert!(theirs.len() > 150 && differing.is_empty(), "{} files, {differing:?}", theirs.len());
    assert!(ours.keys().all(|path| theirs.contains_key(path)), "{:?}", ours.keys());
}
