//! Containers that are made anew, again and again: the hook comes with their image, or as volumes.

use std::fs;

use pulpcov_tests::engine::{Engine, IMAGE};
use pulpcov_tests::python;

use crate::{EXERCISE, IS_UP, profile, states, status};

/// What a pod of Pulp's operator may: nothing, and nothing can be written but what is mounted.
pub(crate) const CLOSED: [&str; 8] = [
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop",
    "all",
    "--security-opt",
    "no-new-privileges",
    "--user",
    "700:700",
];

pub(crate) const GUNICORN: [&str; 10] = [
    "/usr/bin/gunicorn",
    "--chdir",
    "/opt/shop",
    "--workers",
    "2",
    "--worker-tmp-dir",
    "/dev/shm",
    "--bind",
    "127.0.0.1:8000",
    "shop.web:app",
];

pub(crate) fn bake(engine: &Engine) -> String {
    let profile = profile(engine);
    let wheels = python::wheelhouse();
    let (wrote, said) = engine.pulpcov(
        0,
        &[
            "bake",
            IMAGE,
            "--profile",
            &profile,
            "--wheelhouse",
            &wheels.to_string_lossy(),
            "--service",
            "web",
            "-o",
            "baked",
        ],
    );
    assert!(said.contains("Python 3.11.2, coverage 7.17.3"), "{said}");
    assert!(wrote.contains("podman build -t IMAGE /"), "{wrote}");
    engine.path("baked").to_string_lossy().into_owned()
}

/// The words that give a container what the compose file gives it.
pub(crate) fn volumes(engine: &Engine) -> Vec<String> {
    let text = fs::read_to_string(engine.path("baked/compose.override.yml")).expect("a file");
    assert!(text.contains("  \"web\":\n    environment:\n      PULPCOV: \"1\"\n"), "{text}");
    // Each is a text of JSON, which YAML reads the same.
    let value = |line: &str, name: &str| -> Option<String> {
        let rest = line.split_once(&format!("{name}: "))?.1;
        serde_json::Deserializer::from_str(rest).into_iter().next()?.ok()
    };
    let words = text.lines().filter(|line| line.contains("type: bind")).flat_map(|line| {
        let (source, target) =
            (value(line, "source").expect("a text"), value(line, "target").expect("a text"));
        let mode = if line.contains("read_only: true") { "ro" } else { "rw" };
        ["-v".to_owned(), format!("{source}:{target}:{mode}")]
    });
    words.chain(["-e".to_owned(), "PULPCOV=1".to_owned()]).collect()
}

#[test]
#[ignore = "needs root and podman: images"]
fn a_layer_is_still_until_it_is_switched_on() {
    let engine = Engine::podman();
    let folder = bake(&engine);
    engine.podman_does(&["build", "-q", "-t", "localhost/baked", &folder]);
    for (name, switch) in [("lit", "PULPCOV=1"), ("dark", "PULPCOV=0")] {
        let begin = ["run", "-d", "--name", name, "--user", "shop", "-e", switch, "localhost/baked"];
        engine.podman_does(&[&begin[..], &GUNICORN].concat());
        engine.wait(name, IS_UP);
    }
    engine.write(
        "hosts.yml",
        "all:\n  vars: {ansible_connection: podman, ansible_user: root}\n  hosts: {lit: {}, dark: {}}\n",
    );
    let found = status(&engine);
    assert_eq!(states(&found, "lit"), ["live"; 3], "{found}");
    assert_eq!(states(&found, "dark"), Vec::<String>::new(), "{found}");
    // Root may not look into their environment here; their own user may.
    engine.write(
        "shop.hosts.yml",
        "all:\n  vars: {ansible_connection: podman, ansible_user: shop}\n  hosts: {dark: {}}\n",
    );
    let (wrote, _) = engine.pulpcov(0, &["fleet", "status", "shop.hosts.yml"]);
    assert!(wrote.contains("its environment has no PULPCOV=1"), "{wrote}");
    engine.shell("lit", EXERCISE);
    // A run needs no install, and leaves all as it was.
    let (_, said) =
        engine.pulpcov(0, &["fleet", "install", "hosts.yml", "--limit", "lit", "--label", "tier1"]);
    assert!(said.contains("the hook came with the image or a volume"), "{said}");
    engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "--limit", "lit", "--output", "run"]);
    let (report, _) = engine.pulpcov(0, &["report", "run", "--require-complete"]);
    assert!(report.contains("based on 3 of 3 processes on 1 host"), "{report}");
    let (_, said) = engine.pulpcov(0, &["fleet", "uninstall", "hosts.yml", "--limit", "lit"]);
    assert!(said.contains("start the container without it"), "{said}");
    // Again into the same folder is a slip.
    engine.pulpcov(2, &["bake", IMAGE, "-o", "baked"]);
}

#[test]
#[ignore = "needs root and podman: images"]
fn a_closed_container_is_recorded_from_its_first_start_each_time_that_it_is_made() {
    let engine = Engine::podman();
    bake(&engine);
    let volumes = volumes(&engine);
    let words: Vec<&str> = CLOSED.into_iter().chain(volumes.iter().map(String::as_str)).collect();
    engine.write("hosts.yml", "all:\n  hosts: {web: {ansible_connection: podman}}\n");
    for round in 1..=3 {
        engine.start("web", &words, &GUNICORN);
        engine.wait("web", IS_UP);
        let found = states(&status(&engine), "web");
        assert_eq!(found.iter().filter(|state| *state == "live").count(), 3, "round {round}: {found:?}");
        engine.shell("web", EXERCISE);
        engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
        // What it ran since lies on the volume when it is gone.
        engine.podman_does(&["stop", "-t", "30", "web"]);
        engine.podman_does(&["rm", "web"]);
    }
    engine.start("web", &words, &GUNICORN);
    engine.wait("web", IS_UP);
    engine.pulpcov(0, &["fleet", "collect", "hosts.yml", "--output", "run"]);
    let (report, _) = engine.pulpcov(0, &["report", "run", "--require-complete"]);
    assert!(report.contains("based on 12 of 12 processes on 1 host"), "{report}");
    assert!(report.contains("shop/web.py"), "{report}");
}

#[test]
#[ignore = "needs root and podman: images"]
fn what_cannot_be_baked_is_told() {
    let engine = Engine::podman();
    let (_, said) = engine.pulpcov(4, &["bake", "localhost/nobody", "-o", "none"]);
    assert!(said.contains("localhost/nobody: podman"), "{said}");
    // Nothing of that is in there.
    let profile = engine.write(
        "other.yml",
        "name: other\npackages: [other]\nprocesses: [{role: other, program: other-server}]\n",
    );
    let (_, said) = engine.pulpcov(4, &["bake", IMAGE, "--profile", &profile, "-o", "none"]);
    assert!(said.contains("no Python of the service was found") && said.contains("hint:"), "{said}");
    assert!(!engine.path("none").exists());
}
