//! Containers that the inventory does not name: found by label at each command, here and on another host.

use std::collections::BTreeSet;

use pulpcov_tests::engine::Engine;
use pulpcov_tests::lab::Lab;
use pulpcov_tests::{python, shop};
use serde_json::Value;

use crate::{EXERCISE, IS_UP, profile};

fn start(engine: &Engine, name: &str, role: &str) {
    let gunicorn = [
        "/usr/bin/gunicorn",
        "--chdir",
        "/opt/shop",
        "--workers",
        "1",
        "--bind",
        "127.0.0.1:8000",
        "shop.web:app",
    ];
    engine.start(name, &["--user", "shop", "--label", &format!("role={role}")], &gunicorn);
    engine.wait(name, IS_UP);
}

#[test]
#[ignore = "needs root and podman: containers"]
fn an_entry_stands_for_all_that_run_with_a_label() {
    let engine = Engine::podman();
    let profile = profile(&engine);
    for (name, role) in [("shop_web_1", "web"), ("shop_a", "worker"), ("shop_b", "worker")] {
        start(&engine, name, role);
    }
    // A host that has the engine: its shell gets a line, as that of any other host would.
    let hosts = format!(
        "all:\n  vars: {{pulpcov_profile: {profile}, ansible_user: root}}\n  children:\n    shop:\n      hosts:\n        \
         web: {{pulpcov_containers: {{label: role=web}}}}\n        worker: {{pulpcov_containers: {{host: bastion, label: role=worker}}}}\n    \
         engines:\n      hosts:\n        bastion: {{pulpcov_exec: [sh, -c, '{{command}}']}}\n"
    );
    engine.write("hosts.yml", &hosts);
    let wheels = python::wheelhouse().to_string_lossy().into_owned();
    let fleet = |code: i32, verb: &str, words: &[&str]| {
        engine.pulpcov(code, &[&["fleet", verb, "hosts.yml", "--limit", "shop"], words].concat())
    };
    let (_, said) = fleet(0, "install", &["--restart", "--wheelhouse", &wheels]);
    for name in ["web-1", "worker-1", "worker-2"] {
        let line = said.lines().find(|line| line.starts_with(&format!("{name} ")));
        assert!(line.is_some_and(|line| line.ends_with("restarted, 2 processes recorded")), "{name}: {said}");
    }
    for name in ["shop_web_1", "shop_a", "shop_b"] {
        engine.wait(name, IS_UP);
        engine.shell(name, EXERCISE);
    }
    fleet(0, "collect", &["--output", "run"]);

    // Its number goes to who comes next; the others keep theirs.
    engine.podman_does(&["rm", "-f", "-t", "0", "shop_a"]);
    start(&engine, "shop_c", "worker");
    let (_, said) = fleet(0, "status", &[]);
    assert!(said.contains("worker-1 was shop_a, which is gone"), "{said}");
    let line = |name: &str| said.lines().rev().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(
        line("worker-1 ").ends_with("not installed") && line("worker-2 ").contains("2 processes"),
        "{said}"
    );
    let (_, said) = fleet(0, "status", &[]);
    assert!(!said.contains("which is gone"), "told once: {said}");

    // One of them by its own name.
    let one = ["fleet", "install", "hosts.yml", "--limit", "worker-1", "--restart", "--wheelhouse", &wheels];
    let (_, said) = engine.pulpcov(0, &one);
    assert!(said.contains("1 host: 1 changed") && said.contains("worker-1"), "{said}");
    engine.shell("shop_c", EXERCISE);
    fleet(0, "collect", &["--output", "run"]);
    let (text, _) = engine.pulpcov(0, &["report", "run", "--json", "-", "--require-complete"]);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let hosts: BTreeSet<&str> =
        report["hosts"].as_object().expect("hosts").keys().map(String::as_str).collect();
    assert_eq!(hosts, BTreeSet::from(["web-1", "worker-1", "worker-2"]));
    let (by_group, _) = engine.pulpcov(0, &["report", "run", "--by", "group"]);
    assert!(by_group.contains("worker") && by_group.contains("shop"), "{by_group}");

    fleet(0, "uninstall", &["--restart", "--erase-data"]);
    for name in ["shop_b", "shop_c"] {
        engine.podman_does(&["rm", "-f", "-t", "0", name]);
    }
    let (_, said) = fleet(4, "status", &[]);
    assert!(said.contains("on bastion: nothing runs of label role=worker"), "{said}");
    assert!(said.contains("1 unreachable"), "{said}");
}

#[test]
#[ignore = "needs root and podman"]
fn an_engine_that_is_not_there_is_an_entry_that_fails() {
    let engine = Engine::podman();
    engine.write(
        "hosts.yml",
        "all:\n  hosts:\n    here: {pulpcov_containers: {name: '*'}, ansible_podman_executable: /nowhere/podman}\n    \
         there: {pulpcov_containers: {name: '*', host: bastion}}\n    nobody: {pulpcov_containers: {name: '*', host: somewhere}}\n    \
         bastion: {pulpcov_exec: [sh, -c, exit 9]}\n",
    );
    let (_, said) = engine.pulpcov(2, &["fleet", "status", "hosts.yml"]);
    assert!(said.contains("host nobody: the engine's host somewhere is not in the inventory"), "{said}");
    let (_, said) =
        engine.pulpcov(4, &["fleet", "status", "hosts.yml", "--limit", "here,there", "--retries", "0"]);
    assert!(said.contains("/nowhere/podman") && said.contains("on bastion: "), "{said}");
    assert!(said.contains("2 unreachable"), "{said}");
}

/// The engine of a host that is reached by SSH, as its root: containers are found there, and entered through it.
#[test]
#[ignore = "needs root and Debian: a host in namespaces, with podman in it"]
fn the_containers_of_a_host_are_reached_through_its_ssh() {
    let lab = Lab::start_with(1, &crate::quadlets::options(1));
    let run = |name: &str| {
        format!(
            "podman run -d -q --name {name} --network none --user shop --label app=pulp localhost/shop \
             gunicorn --chdir /opt/shop --workers 1 --bind 127.0.0.1:8000 shop.web:app"
        )
    };
    let up = |name: &str| format!("until podman exec -u 0 {name} {IS_UP} 2>/run/said; do sleep 0.2; done");
    for name in ["pulp-a", "pulp-b"] {
        lab.shell(1, &run(name));
        lab.shell(1, &up(name));
    }
    lab.write_inventory(&format!(
        "all:\n  hosts:\n    h1: {{}}\n  children:\n    pulp:\n      vars: {{pulpcov_profile: {}, ansible_user: root}}\n      hosts:\n        \
         app: {{pulpcov_containers: {{host: h1, label: app=pulp}}}}\n",
        shop::profile().display()
    ));
    let wheels = python::wheelhouse().to_string_lossy().into_owned();
    let words = ["--limit", "pulp", "--restart", "--wheelhouse", &wheels];
    let (code, said) = lab.fleet_says("install", &words);
    assert_eq!(code, Some(0), "{said}");
    for name in ["app-1", "app-2"] {
        let line = said.lines().find(|line| line.starts_with(&format!("{name} ")));
        assert!(line.is_some_and(|line| line.ends_with("restarted, 2 processes recorded")), "{name}: {said}");
    }
    for name in ["pulp-a", "pulp-b"] {
        lab.shell(1, &up(name));
    }
    lab.fleet(0, "collect", &["--limit", "pulp", "-o", "run"]);
    let report = lab.pulpcov_ends(0, &["report", "run", "--require-complete", "--by", "host"]);
    assert!(report.contains("based on 4 of 4 processes on 2 hosts"), "{report}");
    assert!(report.contains("app-1") && report.contains("app-2"), "{report}");
    lab.fleet(0, "uninstall", &["--limit", "pulp", "--restart", "--erase-data"]);
}
