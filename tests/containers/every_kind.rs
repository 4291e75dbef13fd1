//! One fleet of every kind of host that Pulp runs on, and one report of it.

use std::process::Output;

use pulpcov_tests::engine::Engine;
use pulpcov_tests::lab::{Lab, host_address};
use pulpcov_tests::{programs, python, quadlet, shop};
use serde_json::Value;

use crate::baked::{GUNICORN, bake, volumes};
use crate::{CLOSED, EXERCISE, IS_UP};

/// Hosts that are reached by SSH: one with systemd, one whose units are containers.
const BY_SSH: [&str; 2] = ["units", "quadlets"];

/// Containers that share the folder of their data.
const SHARING: [&str; 3] = ["api", "content", "worker"];

/// Each with its processes at a time.
const HOSTS: [(&str, u64); 8] = [
    ("units", 4),
    ("quadlets", 4),
    ("s6", 4),
    ("front", 3),
    ("api", 4),
    ("content", 4),
    ("worker", 4),
    ("closed", 3),
];

/// Times that all is started.
const STARTS: u64 = 3;

struct Fleet {
    lab: Lab,
    engine: Engine,
    /// Words by which a container has the hook, and a data folder of that name.
    volumes: Vec<String>,
}

impl Fleet {
    fn start() -> Self {
        let lab = Lab::start_with(2, &crate::quadlets::options(2));
        let engine = Engine::podman();
        bake(&engine);
        let volumes = volumes(&engine);
        let mut fleet = Self { lab, engine, volumes };
        Self::make_volumes(&fleet.engine);
        fleet.write_inventory();
        fleet.engine.start_s6("s6", &[]);
        fleet.start_baked();
        fleet.wait();
        fleet
    }

    fn write_inventory(&self) {
        let key = self.lab.path("key");
        let by_ssh = |i: usize, profile: &std::path::Path| {
            format!(
                "    {}: {{ansible_host: {}, ansible_user: deploy, ansible_become: true, ansible_ssh_private_key_file: {}, pulpcov_profile: {}}}\n",
                BY_SSH[i - 1],
                host_address(i),
                key.display(),
                profile.display()
            )
        };
        let hosts = by_ssh(1, &shop::profile()) + &by_ssh(2, &quadlet::profile(&self.engine.path(".")));
        let container = |name: &str| format!("    {name}: {{ansible_connection: podman}}\n");
        let baked: String = ["front", "closed"].iter().chain(&SHARING).map(|name| container(name)).collect();
        let s6 = format!(
            "    s6: {{ansible_connection: podman, pulpcov_profile: {}}}\n",
            shop::profile().display()
        );
        self.engine.write("hosts.yml", &format!("all:\n  hosts:\n{hosts}{s6}{baked}"));
    }

    /// Those whose hook comes as volumes, made anew.
    fn start_baked(&self) {
        let with_data = |name: &str| -> Vec<String> {
            let own = format!("data-{name}:/srv/pulp_coverage");
            let is_data = |word: &&String| word.ends_with(":/srv/pulp_coverage:rw");
            let rest = self.volumes.iter().position(|word| is_data(&word)).expect("a data folder");
            let mut words = self.volumes.clone();
            words[rest] = own;
            words
        };
        let start = |name: &str, data: &str, more: &[&str], inside: &[&str]| {
            let volumes = with_data(data);
            let words: Vec<&str> = more.iter().copied().chain(volumes.iter().map(String::as_str)).collect();
            self.engine.start(name, &words, inside);
        };
        start("front", "front", &["--user", "shop"], &GUNICORN);
        start("closed", "closed", &CLOSED, &GUNICORN);
        for name in SHARING {
            start(name, "shared", &[], &["s6-svscan", "/s6"]);
        }
    }

    /// The data folders of baked containers, which anybody may write to.
    fn make_volumes(engine: &Engine) {
        for name in ["front", "closed", "shared"] {
            let volume = format!("data-{name}");
            engine.podman_does(&["volume", "create", &volume]);
            let path = engine.podman_does(&["volume", "inspect", "--format", "{{.Mountpoint}}", &volume]);
            let script = format!("mkdir -p {0}/.pulpcov && chmod 1777 {0} {0}/.pulpcov", path.trim());
            let made = std::process::Command::new("sh").args(["-c", &script]).status();
            assert!(made.expect("sh runs").success());
        }
    }

    fn wait(&mut self) {
        self.lab.wait_for_shop();
        for (name, _) in &HOSTS[2..] {
            self.engine.wait(name, IS_UP);
        }
    }

    /// Starts all of it again: what can be made anew is.
    fn start_again(&mut self) {
        self.lab.shell(1, "systemctl restart shop-web shop-worker");
        self.lab.shell(2, "systemctl restart shop-web shop-worker@1");
        self.engine.podman_does(&["restart", "-t", "20", "s6"]);
        for name in ["front", "closed", "api", "content", "worker"] {
            self.engine.podman_does(&["stop", "-t", "20", name]);
            self.engine.podman_does(&["rm", name]);
        }
        self.start_baked();
        self.wait();
    }

    fn exercise(&self) {
        for i in 1..=BY_SSH.len() {
            for path in ["/price/tea", "/price/cake?vip=1", "/cheapest"] {
                self.lab.get(i, path).expect("an answer");
            }
        }
        for (name, _) in &HOSTS[2..] {
            self.engine.shell(name, EXERCISE);
        }
    }

    /// pulpcov where it reaches all of them: in the hosts' network, with the containers' engine.
    fn pulpcov(&self, words: &[&str]) -> Output {
        let mut command = self.engine.command("nsenter");
        command.arg(format!("--net={}", self.lab.network().display())).arg("--").arg(programs::pulpcov());
        command.args(words).env("CI", "true").env("PULPCOV_STATE_DIR", self.engine.path("state"));
        command.output().expect("pulpcov runs")
    }

    fn fleet(&self, verb: &str, words: &[&str]) -> (String, String) {
        let known = self.lab.path("known_hosts").to_string_lossy().into_owned();
        let output = self.pulpcov(&[&["fleet", verb, "hosts.yml", "--known-hosts", &known], words].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (wrote, said) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "fleet {verb} {words:?}\n{wrote}{said}");
        (wrote, said)
    }

    /// Living processes of a host, as the fleet tells them.
    fn living(&self) -> Vec<(String, u64)> {
        let found: Value = serde_json::from_str(&self.fleet("status", &["--json"]).0).expect("JSON");
        let of = |name: &str| {
            let processes = found["hosts"][name]["status"]["processes"].as_array().expect("processes");
            processes.iter().filter(|one| one["state"] == "live").count() as u64
        };
        HOSTS.iter().map(|(name, _)| ((*name).to_owned(), of(name))).collect()
    }
}

#[test]
#[ignore = "needs root, Debian and podman: two hosts in namespaces, six containers"]
fn a_fleet_of_every_kind_has_one_report_that_is_coverage_pys_own() {
    let mut fleet = Fleet::start();
    let before = [1, 2].map(|i| fleet.lab.file_tree(i));
    let files = "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /s6 -o -path /var/lib/shop \\) -prune -o -printf '%p %y %m %U\\n' | sort";
    let before_s6 = fleet.engine.shell("s6", files);
    let wheels = python::wheelhouse().to_string_lossy().into_owned();
    fleet.fleet("install", &["--restart", "--label", "night", "--wheelhouse", &wheels]);
    fleet.wait();
    let all: Vec<(String, u64)> = HOSTS.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
    for round in 1..=STARTS {
        // Everything is recorded from its first start on.
        assert_eq!(fleet.living(), all, "start {round}");
        fleet.exercise();
        fleet.fleet("collect", &["--output", "run"]);
        if round < STARTS {
            fleet.exercise();
            fleet.start_again();
        }
    }
    fleet.fleet("collect", &["--output", "run"]);
    let report = fleet.engine.path("report.json");
    let words = ["report", "run", "--require-complete", "--json", &report.to_string_lossy(), "--text", "-"];
    let output = fleet.pulpcov(&words);
    let (table, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{table}{said}");
    let count = STARTS * HOSTS.iter().map(|(_, count)| count).sum::<u64>();
    assert!(table.contains(&format!("based on {count} of {count} processes on 8 hosts")), "{table}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).expect("a report")).expect("JSON");
    let data = shop::unpack_data(&fleet.engine.path("run"), &fleet.engine.path("unpacked"));
    shop::assert_equals_coverage_py(&report, &data, &fleet.engine.path("reference"));
    for (name, _) in HOSTS {
        let ran = &report["hosts"][name]["files"]["shop/web.py"]["executed_lines"];
        assert!(ran.as_array().is_some_and(|lines| lines.len() > 5), "{name}: {ran}");
    }
    fleet.fleet("uninstall", &["--restart", "--erase-data", "--limit", "units,quadlets,s6"]);
    fleet.wait();
    for (i, before) in [1, 2].into_iter().zip(&before) {
        assert_eq!(fleet.lab.changes(i, before, &["./shared", "./var/tmp"]), Vec::<String>::new());
    }
    assert_eq!(fleet.engine.shell("s6", files), before_s6);
}
