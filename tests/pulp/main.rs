//! A real Pulp 3 on several hosts: recorded without stopping anything, and compared with coverage.py's own
//! way, which has to stop it.

mod container;
mod live;
mod others;

use std::collections::BTreeSet;
use std::io::Write;

use pulpcov_tests::lab::Lab;
use pulpcov_tests::plain::{self, Lines};
use pulpcov_tests::{pulp, python};
use serde_json::Value;

fn report(lab: &Lab, words: &[&str]) -> Value {
    let words: Vec<&str> = ["report", "run", "--json", "-"].iter().chain(words).copied().collect();
    serde_json::from_str(&lab.pulpcov_ends(0, &words)).expect("JSON")
}

/// Lines of a file that ran on a host.
fn ran(report: &Value, host: &str, file: &str) -> BTreeSet<u64> {
    numbers(&report["hosts"][host]["files"][file]["executed_lines"])
}

fn numbers(lines: &Value) -> BTreeSet<u64> {
    lines.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// Roles of the processes that a host told of.
fn roles<'a>(report: &'a Value, host: &str) -> BTreeSet<&'a str> {
    let processes = report["hosts"][host]["processes"].as_array();
    processes.into_iter().flatten().filter_map(|process| process["role"].as_str()).collect()
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_pulp_of_four_hosts_is_recorded_while_it_runs() {
    let mut lab = pulp::start();
    pulp::inventory(&lab);
    pulp::exercise(&lab, 1);
    let before: Vec<_> = (1..=3).map(|i| lab.file_tree(i)).collect();
    let wheels = python::wheelhouse().to_string_lossy().into_owned();
    lab.fleet(0, "install", &["--wheelhouse", &wheels, "--restart", "--label", "tier1"]);
    // The worker of the RPM layout is shut in, and was let out.
    let drop_in =
        lab.shell(pulp::WORKER_RPM, "cat /etc/systemd/system/pulpcore-worker@.service.d/50-pulpcov.conf");
    assert!(drop_in.contains("ReadWritePaths=/srv/pulp_coverage"), "{drop_in}");
    pulp::wait_until_online(&mut lab);
    pulp::exercise(&lab, 3);
    lab.fleet(0, "collect", &["-o", "run"]);
    let report = report(&lab, &["--require-complete"]);
    roles_are_where_they_should_be(&report);
    both_layouts_are_one_pulp(&report);
    for label in ["startup", "tier1"] {
        assert!(report["labels"][label]["covered_lines"].as_u64() > Some(1000), "{label}");
    }
    let on_hosts = container::Recorded {
        tests: container::lines_of(&self::report(&lab, &["--label", "tier1"])),
        all: container::lines_of(&report),
    };
    lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
    for i in 1..=3 {
        assert_eq!(
            lab.changes(i, &before[i - 1], &["/tmp", "./var/lib/pulp/"]),
            Vec::<String>::new(),
            "h{i}"
        );
    }

    lab.pulpcov_ends(0, &["combine", "run", "-o", "combined"]);
    let ours = plain::lines_of(&lab.path("combined"));
    let theirs = plain::recorded_by_coverage_py(&mut lab, 3);
    nothing_is_missing(&ours, &theirs);
    drop(lab);
    container::records_what_hosts_did(&on_hosts);
}

fn roles_are_where_they_should_be(report: &Value) {
    assert_eq!(roles(report, "h1"), BTreeSet::from(["api", "content"]));
    for worker in ["h2", "h3"] {
        assert_eq!(roles(report, worker), BTreeSet::from(["task", "worker"]), "{worker}");
    }
    assert!(ran(report, "h1", "pulpcore/content/handler.py").len() > 200);
    let sync = "pulp_file/app/tasks/synchronizing.py";
    let by_workers: BTreeSet<u64> = ["h2", "h3"].iter().flat_map(|host| ran(report, host, sync)).collect();
    assert!(by_workers.len() > ran(report, "h1", sync).len() + 10, "tasks ran on the workers");
}

/// The same module below a virtual environment and below the system's Python is one file.
fn both_layouts_are_one_pulp(report: &Value) {
    let worker = "pulpcore/tasking/worker.py";
    assert!(
        report["files"].as_object().expect("files").keys().all(|name| !name.contains('@')),
        "no variants"
    );
    assert!(ran(report, "h2", worker).len() > 100 && ran(report, "h3", worker).len() > 100);
}

/// Code of pulpcore 3.123.1 that only a stop runs: first and last line.
const STOP: [(&str, u64, u64); 9] = [
    ("pulpcore/app/entrypoint.py", 118, 120), // PulpApiWorker.run: cleanup
    ("pulpcore/content/__init__.py", 87, 89), // _heartbeat: finally
    ("pulpcore/content/__init__.py", 95, 99), // _heartbeat_ctx: after the yield
    ("pulpcore/tasking/storage.py", 43, 60),  // WorkerDirectory.delete
    ("pulpcore/tasking/storage.py", 88, 93),  // WorkerDirectory.__exit__
    ("pulpcore/tasking/worker.py", 141, 158), // _signal_handler
    ("pulpcore/tasking/worker.py", 178, 180), // shutdown
    ("pulpcore/tasking/worker.py", 440, 440), // leaving sleep state
    ("pulpcore/tasking/worker.py", 648, 653), // the end of run
];

/// Lines that chance may decide between two runs: a retry, a cache that was warm.
const CHANCE: usize = 12;

/// Every line that coverage.py recorded and ours did not is code of the stop.
fn nothing_is_missing(ours: &Lines, theirs: &Lines) {
    let none = BTreeSet::new();
    let mut missing = Vec::new();
    for (file, lines) in theirs {
        for line in lines.difference(ours.get(file).unwrap_or(&none)) {
            if !STOP.iter().any(|(name, first, last)| name == file && (first..=last).contains(&line)) {
                missing.push(format!("{file}:{line}"));
            }
        }
    }
    let count = |lines: &Lines| lines.values().map(BTreeSet::len).sum::<usize>();
    let (ours, theirs) = (count(ours), count(theirs));
    let _ = writeln!(
        std::io::stderr(),
        "lines: {ours} without stopping, {theirs} by coverage.py with a stop; not here: {missing:?}"
    );
    assert!(missing.len() <= CHANCE, "{ours} and {theirs} lines; missing: {missing:?}");
}
