//! The recipes for Pulp's own CI and for its developers' environment, as far as they go without Pulp's images.

use std::fs;
use std::process::Command;

use pulpcov_tests::engine::{Engine, IMAGE};
use pulpcov_tests::{programs, python};

use crate::{EXERCISE, IS_UP, profile};

/// The command of a step in a workflow of `playbooks/ci`.
pub(crate) fn step(workflow: &str, job: &str, name: &str) -> String {
    let script = "import sys, yaml\n\
        steps = yaml.safe_load(open(sys.argv[1]))['jobs'][sys.argv[2]]['steps']\n\
        print(next(step['run'] for step in steps if step.get('name') == sys.argv[3]))";
    let path = programs::workspace().join("playbooks/ci").join(workflow);
    let output = Command::new(python::ansible().join("python"))
        .args(["-c", script])
        .arg(path)
        .args([job, name])
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the environment's own compose file has of the service, but for what is the shop's.
const BASE: &str = "---
version: \"3.7\"

services:
  pulp:
    image: IMAGE
    command: [s6-svscan, /s6]
    network_mode: none
    volumes:
      - \"pulp:/var/lib/pulp\"

volumes:
  pulp:
";

#[test]
#[ignore = "needs root, podman and a package index: podman-compose"]
fn a_profile_of_oci_env_measures_what_its_container_runs() {
    let engine = Engine::podman();
    let shop = profile(&engine);
    let recipe = programs::workspace().join("playbooks/ci/oci_env/pulpcov");
    engine.write("base.yaml", &BASE.replace("IMAGE", IMAGE));
    let hosts = fs::read_to_string(recipe.join("hosts.yml")).expect("an inventory");
    engine.write("hosts.yml", &format!("{hosts}      pulpcov_profile: {shop}\n"));
    let compose = |words: &[&str]| {
        let output = engine
            .command(python::podman_compose().join("podman-compose"))
            .args(["-p", "oci_env", "-f", "base.yaml", "-f"])
            .arg(recipe.join("compose.yaml"))
            .args(words)
            .output()
            .expect("podman-compose runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said));
    };
    compose(&["up", "-d"]);
    let name = engine.podman_does(&["ps", "--format", "{{.Names}}"]).trim().to_owned();
    engine.wait(&name, IS_UP);
    let wheels = python::wheelhouse().to_string_lossy().into_owned();
    let exercise = ["podman", "exec", &name, "sh", "-c", EXERCISE];
    let run = ["fleet", "run", "hosts.yml", "--wheelhouse", &wheels, "-o", "run", "--"];
    let (wrote, _) = engine.pulpcov(0, &[&run[..], &exercise].concat());
    assert!(wrote.contains("based on 4 of 4 processes on 1 host"), "{wrote}");
    // Made anew, it is the same host.
    compose(&["down"]);
    compose(&["up", "-d"]);
    engine.wait(&name, IS_UP);
    let (_, said) = engine.pulpcov(0, &[&run[..], &exercise].concat());
    assert!(said.contains("pulp-1"), "{said}");
    let left =
        engine.shell(&name, "ls -A /srv/pulp_coverage; ls -d /usr/local/lib/pulpcov 2>/dev/null || true");
    assert_eq!(left, "");
    compose(&["down", "-v"]);
}
