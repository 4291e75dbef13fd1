//! Containers of a real engine, reached by its command line as Ansible reaches them.

mod baked;
mod command_lines;
mod discovered;
mod docker;
mod every_kind;
mod pods;
mod quadlets;
mod recipes;
mod shared_volume;

use std::collections::BTreeSet;

use pulpcov_tests::engine::Engine;
use pulpcov_tests::{python, shop};
use serde_json::Value;

use crate::baked::CLOSED;

/// The profile of the shop where there is no systemd.
fn profile(engine: &Engine) -> String {
    let text = std::fs::read_to_string(shop::profile()).expect("a profile");
    engine.write("shop.yml", &text)
}

/// Asks the web application of a container, and gives its worker something to do.
const EXERCISE: &str = "python3 - <<'X'
import time, urllib.request as u
def get(path, data=None):
    return u.urlopen(u.Request('http://127.0.0.1:8000' + path, data=data)).read()
for path in ('/price/tea', '/price/cake?vip=1', '/cheapest'):
    get(path)
X";

const IS_UP: &str = "python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8000/cheapest\")'";

fn status(engine: &Engine) -> Value {
    let (wrote, _) = engine.pulpcov(0, &["fleet", "status", "hosts.yml", "--json"]);
    serde_json::from_str(&wrote).expect("JSON")
}

/// States of the processes of a host.
fn states(status: &Value, host: &str) -> Vec<String> {
    let processes = status["hosts"][host]["status"]["processes"].as_array().expect("processes");
    processes.iter().map(|one| one["state"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Root in a container may not look into what another user runs: nothing is dropped for it.
#[test]
#[ignore = "needs root and podman: a container"]
fn who_may_not_be_looked_into_is_told_by_the_command_line() {
    let engine = Engine::podman();
    let profile = profile(&engine);
    let wheels = python::wheelhouse();
    engine.start_s6("pulp", &[]);
    engine.wait("pulp", IS_UP);
    engine.write("hosts.yml", &format!("all:\n  vars: {{pulpcov_profile: {profile}}}\n  hosts:\n    pulp: {{ansible_connection: podman}}\n"));
    // The Python is found by what runs, and what runs is told of before and after.
    engine.pulpcov(0, &["fleet", "install", "hosts.yml", "--wheelhouse", &wheels.to_string_lossy()]);
    let found = status(&engine);
    let unrecorded = found["hosts"]["pulp"]["status"]["unrecorded"].as_array().expect("a list");
    assert_eq!(unrecorded.len(), 4, "{found}");
    let reasons: BTreeSet<&str> = unrecorded.iter().filter_map(|one| one["reason"].as_str()).collect();
    assert!(reasons.iter().all(|reason| reason.starts_with("it started before")), "{reasons:?}");
    engine.pulpcov(0, &["fleet", "install", "hosts.yml", "--restart"]);
    let (wrote, _) = engine.pulpcov(0, &["fleet", "doctor", "hosts.yml", "--verbose"]);
    assert!(wrote.contains("watches over web, worker"), "{wrote}");
    assert!(wrote.contains("known by the command line alone"), "{wrote}");
    engine.shell("pulp", EXERCISE);
    assert_eq!(states(&status(&engine), "pulp").iter().filter(|state| *state == "live").count(), 4);
    engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
    let (report, _) = engine.pulpcov(0, &["report", "run", "--require-complete"]);
    assert!(report.contains("based on 4 of 4 processes on 1 host"), "{report}");
}

/// A service that is its container's first process: its engine restarts it, and the hook outlives that.
#[test]
#[ignore = "needs root and podman: a container"]
fn the_engine_restarts_a_service_that_is_the_first_process() {
    let engine = Engine::podman();
    let profile = profile(&engine);
    let wheels = python::wheelhouse();
    let gunicorn = [
        "/usr/bin/gunicorn",
        "--chdir",
        "/opt/shop",
        "--workers",
        "2",
        "--bind",
        "127.0.0.1:8000",
        "shop.web:app",
    ];
    engine.start("web", &["--user", "shop"], &gunicorn);
    engine.wait("web", IS_UP);
    let hosts = format!(
        "all:\n  vars: {{pulpcov_profile: {profile}, ansible_connection: podman, ansible_user: root}}\n  hosts: {{front: {{ansible_host: web}}}}\n"
    );
    engine.write("hosts.yml", &hosts);
    let wheelhouse = wheels.to_string_lossy();
    let (_, said) =
        engine.pulpcov(0, &["fleet", "install", "hosts.yml", "--restart", "--wheelhouse", &wheelhouse]);
    assert!(said.contains("installed, restarted, 3 processes recorded"), "{said}");
    engine.shell("web", EXERCISE);
    // Whoever restarts it, nothing is lost, and all is recorded again.
    engine.podman_does(&["restart", "-t", "20", "web"]);
    engine.wait("web", IS_UP);
    let found = states(&status(&engine), "front");
    assert_eq!(found.iter().filter(|state| *state == "live").count(), 3, "{found:?}");
    assert_eq!(found.iter().filter(|state| *state == "died").count(), 0, "{found:?}");
    engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
    // Killed, it has lost no more than an interval, and that is told.
    engine.podman_does(&["kill", "web"]);
    engine.podman_does(&["start", "web"]);
    engine.wait("web", IS_UP);
    let found = states(&status(&engine), "front");
    assert_eq!(found.iter().filter(|state| *state == "died").count(), 3, "{found:?}");
    engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
    let (report, _) = engine.pulpcov(0, &["report", "run"]);
    assert!(report.contains("based on 6 of 9 processes on 1 host; 3 died unsaved"), "{report}");
    let data = engine.shell("web", "ls /srv/pulp_coverage");
    assert!(data.lines().all(|name| name.starts_with("data.front.")), "{data}");
    // What runs until then is still to be collected.
    engine.shell("web", EXERCISE);
    let (_, said) = engine.pulpcov(0, &["fleet", "uninstall", "hosts.yml", "--restart"]);
    assert!(said.contains("still to be collected"), "{said}");
    engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
    engine.wait("web", IS_UP);
    let left = engine.shell("web", "ls -d /srv/pulp_coverage /usr/local/lib/pulpcov /usr/local/lib/python3*/dist-packages/*pulpcov* 2>/dev/null || true");
    assert_eq!(left, "");
}

/// Where nothing can be written that may also be run, the agent lives in memory.
#[test]
#[ignore = "needs root and podman: a container"]
fn an_agent_needs_no_place_of_its_own() {
    let engine = Engine::podman();
    engine.start("pod", &CLOSED, &["sleep", "1000"]);
    engine.write("hosts.yml", "all:\n  hosts: {pod: {ansible_connection: podman}}\n");
    let (_, said) = engine.pulpcov(0, &["fleet", "status", "hosts.yml"]);
    assert!(said.contains("not installed"), "{said}");
    assert_eq!(engine.on("pod", "find / -xdev -name '.pulpcov*' | head").stdout, b"");
    // Without a Python there it is said what there was.
    engine.podman_does(&["rm", "-f", "-t", "0", "pod"]);
    engine.start(
        "pod",
        &[&CLOSED[..], &["-v", "/dev/null:/usr/bin/python3.11:ro"]].concat(),
        &["sleep", "1000"],
    );
    let (_, said) = engine.pulpcov(4, &["fleet", "status", "hosts.yml"]);
    assert!(said.contains("none of these folders takes a program and runs it"), "{said}");
}

/// Names that are no containers, engines that do not run: unreachable, in the engine's own words.
#[test]
#[ignore = "needs root and podman"]
fn a_container_that_is_not_there_is_unreachable() {
    let engine = Engine::podman();
    engine.write(
        "hosts.yml",
        "all:\n  vars: {ansible_connection: podman}\n  hosts:\n    nobody: {}\n    nothing: {ansible_podman_executable: /nowhere/podman}\n",
    );
    let (_, said) = engine.pulpcov(4, &["fleet", "status", "hosts.yml", "--retries", "0"]);
    assert!(said.contains("no container with name or ID"), "{said}");
    assert!(said.contains("cannot run podman") && said.contains("2 unreachable"), "{said}");
}
