//! Three containers whose data goes to one volume, each with an install of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::time::Duration;

use pulpcov_tests::engine::Engine;
use pulpcov_tests::{programs, python};
use serde_json::Value;

use crate::{EXERCISE, IS_UP, profile, states, status};

const CONTAINERS: [&str; 3] = ["api", "content", "worker"];

/// Rounds of collects that meet as they may.
const ROUNDS: u32 = 100;

/// Three containers on one volume, installed and recording.
fn start(engine: &Engine) {
    let profile = profile(engine);
    let wheels = python::wheelhouse();
    engine.podman_does(&["volume", "create", "pulp"]);
    for name in CONTAINERS {
        engine.start_s6(name, &["-v", "pulp:/srv/pulp_coverage"]);
    }
    let hosts: String = CONTAINERS.map(|name| format!("    {name}: {{}}\n")).concat();
    engine.write(
        "hosts.yml",
        &format!(
            "all:\n  vars: {{pulpcov_profile: {profile}, ansible_connection: containers.podman.podman}}\n  hosts:\n{hosts}"
        ),
    );
    for name in CONTAINERS {
        engine.wait(name, IS_UP);
    }
    engine.pulpcov(
        0,
        &["fleet", "install", "hosts.yml", "--restart", "--wheelhouse", &wheels.to_string_lossy()],
    );
    for name in CONTAINERS {
        engine.wait(name, IS_UP);
    }
}

/// A generator that a seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A collect of one container, in a run directory of its own.
fn collect(engine: &Engine, name: &str, round: u32) -> Child {
    engine
        .command(programs::pulpcov())
        .args(["fleet", "collect", "hosts.yml", "--limit", name, "--output", &format!("runs/{name}-{round}")])
        .env("CI", "true")
        .env("PULPCOV_STATE_DIR", engine.path(&format!("state-{name}")))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pulpcov runs")
}

/// The manifest of the newest bundle of a run.
fn manifest(engine: &Engine, run: &str, host: &str) -> Value {
    let script = format!("tar -xzOf $(ls -t runs/{run}/hosts/{host}/*.tar.gz | head -1) manifest.json");
    let output = engine.command("sh").args(["-c", &script]).output().expect("tar runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no manifest of {host} in {run}"))
}

/// The living processes of a container: record to data file.
fn living(status: &Value, host: &str) -> BTreeMap<String, Option<String>> {
    let processes = status["hosts"][host]["status"]["processes"].as_array().expect("processes");
    let living = processes.iter().filter(|one| one["state"] == "live");
    living
        .map(|one| {
            (one["record"].as_str().expect("a record").to_owned(), one["data"].as_str().map(str::to_owned))
        })
        .collect()
}

/// Collects that meet in every way: no process is taken for dead that lives in another container, and nothing of it is
/// erased.
#[test]
#[ignore = "needs root and podman: three containers"]
fn collects_of_three_containers_leave_each_other_alone() {
    let engine = Engine::podman();
    start(&engine);
    for name in CONTAINERS {
        engine.shell(name, EXERCISE);
    }
    engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "runs/first"]);
    let before = status(&engine);
    let living: BTreeMap<&str, BTreeMap<String, Option<String>>> =
        CONTAINERS.into_iter().map(|name| (name, living(&before, name))).collect();
    assert!(living.values().all(|records| records.len() == 4), "{living:?}");
    let mut random = Random(u64::from(std::process::id()));
    for round in 0..ROUNDS {
        let seed = random.0;
        let mut running = Vec::new();
        for name in CONTAINERS {
            if random.below(4) > 0 {
                std::thread::sleep(Duration::from_millis(random.below(400)));
                running.push((name, collect(&engine, name, round)));
            }
        }
        for (name, child) in running {
            let output = child.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{name}, seed {seed}: {said}");
            assert!(!said.contains("did not answer"), "{name}, seed {seed}: {said}");
            for process in
                manifest(&engine, &format!("{name}-{round}"), name)["processes"].as_array().expect("a list")
            {
                let record = process["record"].as_str().expect("a record");
                let of = living.iter().find(|(_, records)| records.contains_key(record)).map(|(of, _)| *of);
                let wanted = match of {
                    Some(of) if of == name => "live",
                    Some(_) => "elsewhere",
                    // Of the start: that generation is over.
                    None => "ended",
                };
                assert_eq!(process["state"], wanted, "{name}, seed {seed}: {process}");
            }
        }
        let there = engine.shell("api", "ls /srv/pulp_coverage");
        for data in living.values().flat_map(BTreeMap::values).flatten() {
            assert!(there.contains(data), "seed {seed}: {data} is gone");
        }
    }
    // One report of all runs knows each process once, under the container that it ran in.
    let runs: Vec<String> = std::fs::read_dir(engine.path("runs"))
        .expect("runs")
        .map(|entry| entry.expect("an entry").path().to_string_lossy().into_owned())
        .filter(|path| !path.ends_with("latest"))
        .collect();
    let words: Vec<&str> =
        ["report"].into_iter().chain(runs.iter().map(String::as_str)).chain(["--json", "-"]).collect();
    let (report, _) = engine.pulpcov(0, &words);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    for name in CONTAINERS {
        let processes = report["hosts"][name]["processes"].as_array().expect("processes");
        let pids: BTreeSet<u64> = processes.iter().filter_map(|one| one["pid"].as_u64()).collect();
        assert_eq!(pids.len(), 4, "{name}: {processes:?}");
        assert!(
            processes.iter().all(|one| one["state"] != "died" && one["error"].is_null()),
            "{processes:?}"
        );
    }
}

/// Who leaves takes nothing from the others, and the last one leaves the volume as it was.
#[test]
#[ignore = "needs root and podman: three containers"]
fn the_last_of_three_containers_clears_the_volume() {
    let engine = Engine::podman();
    start(&engine);
    for name in CONTAINERS {
        engine.shell(name, EXERCISE);
    }
    let found = status(&engine);
    for name in CONTAINERS {
        let states = states(&found, name);
        assert_eq!(states.iter().filter(|state| *state == "live").count(), 4, "{name}: {states:?}");
        assert_eq!(states.iter().filter(|state| *state == "elsewhere").count(), 8, "{name}: {states:?}");
    }
    engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
    let (report, _) = engine.pulpcov(0, &["report", "run", "--require-complete"]);
    assert!(report.contains("based on 12 of 12 processes on 3 hosts"), "{report}");
    let fleet = |verb: &str, name: &str, words: &[&str]| {
        engine.pulpcov(0, &[&["fleet", verb, "hosts.yml", "--limit", name], words].concat())
    };
    let data_of = |name: &str| {
        let listed = format!("ls /srv/pulp_coverage | grep -c '^data.{name}[.]' || true");
        engine.shell("worker", &listed).trim().parse::<u32>().expect("a number")
    };
    let (_, said) = fleet("uninstall", "api", &["--restart"]);
    assert!(said.contains("still to be collected"), "{said}");
    let of_api = data_of("api");
    assert!(of_api > 0, "{of_api}");
    // What is to be collected there is nobody else's to erase.
    fleet("uninstall", "content", &["--restart", "--erase-data"]);
    assert_eq!((data_of("api"), data_of("content")), (of_api, 0));
    fleet("collect", "api", &["--output", "run"]);
    assert_eq!(data_of("api"), 0);
    engine.shell("worker", EXERCISE);
    let found = status(&engine);
    assert_eq!(states(&found, "worker").iter().filter(|state| *state == "live").count(), 4);
    fleet("uninstall", "worker", &["--restart"]);
    fleet("collect", "worker", &["--output", "run"]);
    for name in CONTAINERS {
        assert_eq!(engine.shell(name, "ls -A /srv/pulp_coverage"), "", "{name}");
        assert_eq!(engine.shell(name, "ls -A /usr/local/lib/pulpcov 2>/dev/null || true"), "", "{name}");
    }
    let (report, _) = engine.pulpcov(0, &["report", "run", "--require-complete"]);
    assert!(report.contains(" processes on 3 hosts"), "{report}");
}

/// One install on the volume itself, and one host name, as containers of a pod have it: nobody is a restart of another.
#[test]
#[ignore = "needs root and podman: two containers"]
fn containers_of_one_name_and_one_install_are_told_from_each_other() {
    let engine = Engine::podman();
    let profile = profile(&engine);
    let wheels = python::wheelhouse();
    engine.podman_does(&["volume", "create", "pulp"]);
    for name in ["one", "two"] {
        engine.start_s6(name, &["--hostname", "node", "-v", "pulp:/srv/pulp"]);
        engine.wait(name, IS_UP);
    }
    engine.write(
        "hosts.yml",
        &format!(
            "all:\n  vars: {{pulpcov_profile: {profile}, ansible_connection: podman, pulpcov_lib_root: /srv/pulp/lib, \
             pulpcov_data_root: /srv/pulp/data}}\n  hosts: {{one: {{}}, two: {{}}}}\n"
        ),
    );
    let wheelhouse = wheels.to_string_lossy();
    engine.pulpcov(
        0,
        &["fleet", "install", "hosts.yml", "--restart", "--forks", "1", "--wheelhouse", &wheelhouse],
    );
    let found = status(&engine);
    for name in ["one", "two"] {
        let states = states(&found, name);
        let count = |wanted: &str| states.iter().filter(|state| *state == wanted).count();
        assert_eq!((count("live"), count("elsewhere"), count("died")), (4, 4, 0), "{name}: {states:?}");
    }
    for name in ["one", "two"] {
        engine.shell(name, EXERCISE);
    }
    engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
    let (report, _) = engine.pulpcov(0, &["report", "run", "--require-complete"]);
    assert!(report.contains("based on 8 of 8 processes on 2 hosts"), "{report}");
}
