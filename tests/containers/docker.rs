//! The container of Pulp's own CI: one, by docker, whose PID 1 is s6, in the inventory that its plugins have.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pulpcov_tests::engine::{Engine, IMAGE};
use pulpcov_tests::{programs, python};
use tempfile::TempDir;

use crate::recipes::step;
use crate::{IS_UP, profile};

/// As plugins of Pulp have it, but for what is the shop's.
const INVENTORY: &str = "---
all:
  hosts:
    pulp:
      pulp_service:
        env: {}
    pulp-fixtures: {}
    minio: {}
    ci-sftp: {}
  vars:
    ansible_connection: docker
";

/// A daemon of the test's own.
struct Daemon {
    folder: TempDir,
    child: Child,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("pulpcov-docker.").tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let log = std::fs::File::create(path("log")).expect("a log");
        let child = Command::new("dockerd")
            .args(["--bridge", "none", "--iptables=false"])
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg("--host")
            .arg(format!("unix://{}", path("docker.sock").display()))
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("dockerd runs");
        let daemon = Self { folder, child };
        let begin = Instant::now();
        while !daemon.docker(&["info"]).output().expect("docker runs").status.success() {
            let log = std::fs::read_to_string(daemon.folder.path().join("log")).unwrap_or_default();
            assert!(begin.elapsed() < Duration::from_mins(1), "no docker daemon: {log}");
            std::thread::sleep(Duration::from_millis(200));
        }
        daemon
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    fn docker(&self, words: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.args(words).env("DOCKER_HOST", self.host());
        docker
    }

    fn does(&self, words: &[&str]) {
        let output = self.docker(words).output().expect("docker runs");
        assert!(output.status.success(), "docker {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.docker(&["rm", "-f", "pulp"]).output();
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        // It ends its own containerd.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs root, podman and docker"]
fn the_container_of_pulps_ci_is_run_by_its_own_inventory() {
    let engine = Engine::podman();
    let profile = profile(&engine);
    let daemon = Daemon::start();
    let archive = engine.path("image.tar").to_string_lossy().into_owned();
    engine.podman_does(&["save", "-q", "-o", &archive, IMAGE]);
    daemon.does(&["load", "-q", "-i", &archive]);
    let image = format!("{IMAGE}:latest");
    // Pulp's CI says --privileged, which root does not always have to give.
    let may_look = ["--cap-add", "SYS_PTRACE", "--network", "none"];
    let run = [&["run", "-d"][..], &may_look, &["--name", "pulp", &image, "s6-svscan", "/s6"]].concat();
    daemon.does(&run);
    let begin = Instant::now();
    while !daemon.docker(&["exec", "pulp", "sh", "-c", IS_UP]).output().expect("docker runs").status.success()
    {
        assert!(begin.elapsed() < Duration::from_mins(1), "the shop does not answer");
        std::thread::sleep(Duration::from_millis(200));
    }
    std::fs::create_dir_all(engine.path(".ci/ansible")).expect("a folder");
    engine.write(".ci/ansible/inventory.yaml", &format!("{INVENTORY}    pulpcov_profile: {profile}\n"));
    // The tests of the plugin, and what its workflow has of pulpcov.
    let scripts = engine.path(".github/workflows/scripts");
    std::fs::create_dir_all(&scripts).expect("a folder");
    let script =
        format!("#!/bin/sh\nexec docker exec pulp sh -c '{}'\n", crate::EXERCISE.replace('\'', "'\\''"));
    engine.write(".github/workflows/scripts/script.sh", &script);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(scripts.join("script.sh"), mode).expect("its own");
    std::os::unix::fs::symlink(python::wheelhouse(), engine.path("wheels")).expect("linked");
    let output = engine
        .command("bash")
        .args(["-eo", "pipefail", "-c", &step("pulp-plugin.yml", "test", "Script")])
        .env("PATH", python::path_with(programs::pulpcov().parent().expect("a folder")))
        .env("RUNNER_TEMP", engine.path(""))
        .env("GITHUB_STEP_SUMMARY", engine.path("summary.md"))
        .envs([("DOCKER_HOST", daemon.host().as_str()), ("CI", "true")])
        .env("PULPCOV_STATE_DIR", engine.path("state"))
        .output()
        .expect("bash runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains(" of 4 processes"), "{said}");
    let summary = std::fs::read_to_string(engine.path("summary.md")).expect("a summary");
    assert!(summary.contains("4 of 4 processes") && summary.contains("shop/web.py"), "{summary}");
    for path in ["coverage/run.json", "report/index.html", "coverage.xml", "summary.md"] {
        assert!(engine.path(path).exists(), "no {path}");
    }
    let left = daemon
        .docker(&["exec", "pulp", "sh", "-c", "ls -d /srv/pulp_coverage /usr/local/lib/pulpcov"])
        .output();
    assert_eq!(left.expect("docker runs").stdout, b"");
}
