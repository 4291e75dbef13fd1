//! What a new user meets: a service that no rule knows, one that takes its time to start, and a way out.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulpcov_tests::lab::Lab;
use pulpcov_tests::python;
use serde_json::Value;

fn wheels() -> String {
    python::wheelhouse().to_string_lossy().into_owned()
}

/// A server under a name that no rule has, in a virtual environment that its wrapper activates; it takes so many
/// seconds until it listens.
fn put_slow_server(lab: &Lab, seconds: u32) {
    lab.shell(
        1,
        &format!(
            r#"mkdir -p /opt/oven; python3 -m venv --without-pip --system-site-packages /opt/oven/venv
cat > /opt/oven/venv/bin/oven-server <<'EOF'
#!/opt/oven/venv/bin/python3
import sys, time
sys.path.insert(0, "/opt/shop")
from shop import catalogue
from http.server import BaseHTTPRequestHandler, HTTPServer
print("heating up", flush=True)
time.sleep({seconds})
class Oven(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/hot" else 404)
        self.end_headers()
        self.wfile.write(catalogue.cheapest().encode())
HTTPServer(("0.0.0.0", 8123), Oven).serve_forever()
EOF
printf '#!/bin/sh\n. /opt/oven/venv/bin/activate\nexec oven-server "$@"\n' > /opt/oven/start
chmod 755 /opt/oven/start /opt/oven/venv/bin/oven-server
printf '[Service]\nUser=shop\nExecStart=/opt/oven/start\n' > /etc/systemd/system/oven.service
systemctl daemon-reload; systemctl start oven"#
        ),
    );
}

fn services(lab: &Lab, action: &str) -> (Option<i32>, String) {
    let [inventory, known] =
        ["hosts.yml", "known_hosts"].map(|name| lab.path(name).to_string_lossy().into_owned());
    let output = lab.pulpcov(&["fleet", "services", action, &inventory, "--known-hosts", &known]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn is_hot(lab: &Lab) -> bool {
    lab.command("curl")
        .args(["-sf", "http://10.77.0.2:8123/hot"])
        .output()
        .expect("curl runs")
        .status
        .success()
}

/// Four lines of inventory are enough, also where the unit is named by an alias without a kind, and tests that begin after the install meet a server.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_service_without_rules_is_recorded_once_it_is_ready() {
    let lab = Lab::start(1);
    put_slow_server(&lab, 5);
    lab.shell(1, "ln -s oven.service /etc/systemd/system/hot.hearth.service; systemctl daemon-reload");
    let before = lab.file_tree(1);
    let inventory = |ready: &str| {
        lab.inventory_of(
            std::path::Path::new("generic"),
            &format!("    pulpcov_packages: [shop]\n    pulpcov_units: [hot.hearth]\n    pulpcov_ready: [{ready}]\n"),
        )
    };
    inventory("{url: 'http://127.0.0.1:8123/hot', timeout: 60}");
    let text = lab.fleet(0, "doctor", &["--verbose"]);
    let line = text.lines().find(|line| line.contains("oven.service: ")).unwrap_or_default();
    assert!(line.contains("runs /opt/oven/venv/bin/python3, recorded as oven"), "{text}");
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart"]);
    assert!(code == Some(0) && said.contains("1 process recorded"), "{said}");
    assert!(is_hot(&lab), "the tests would have met a closed port");
    lab.fleet(0, "collect", &["-o", "run"]);
    let report: Value =
        serde_json::from_str(&lab.pulpcov_ends(0, &["report", "run", "--json", "-", "--require-complete"]))
            .expect("JSON");
    assert_eq!(report["hosts"]["h1"]["processes"][0]["role"], "oven", "{report}");
    let ran =
        |label: &str| report["labels"][label]["files"]["shop/catalogue.py"]["executed_lines"].to_string();
    // The import is the start's, the request is the tests'.
    assert_ne!(ran("startup"), "null", "{report}");
    assert_ne!(ran("tests"), "null", "{report}");
    lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
    assert!(is_hot(&lab), "uninstall waits, too");
    assert_eq!(lab.changes(1, &before, &[]), Vec::<String>::new());

    inventory("{port: 8124, timeout: 2}");
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart"]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("port 8124 is not ready after 2 s: Connection refused"), "{said}");
    assert!(said.contains("heating up"), "the unit's last words: {said}");
    // Once more: that nothing is left to install makes nothing ready.
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart"]);
    assert!(code == Some(4) && said.contains("port 8124 is not ready after 2 s"), "{said}");
    let night = ["--wheelhouse", &wheels(), "--output", "night", "--", "touch", "was-run"];
    let (code, said) = lab.fleet_says("run", &night);
    assert!(code == Some(4) && said.contains("port 8124 is not ready after 2 s"), "{said}");
    assert!(!lab.path("was-run").exists(), "{said}");
    let (code, said) = services(&lab, "restart");
    assert!(code == Some(4) && said.contains("port 8124 is not ready after 2 s"), "{said}");
}

/// What an uninstall leaves is collected like anything else, and then nothing is left.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn data_that_an_uninstall_has_left_is_collected_and_then_all_is_gone() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    lab.wait_for_shop();
    let before = lab.file_tree(1);
    lab.install();
    lab.wait_for_shop();
    lab.get(1, "/price/tea?vip").expect("answers");
    let (code, said) = lab.fleet_says("uninstall", &["--restart"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(" in /srv/pulp_coverage still to be collected"), "{said}");
    let (_, said) = lab.fleet_says("status", &[]);
    assert!(said.contains("not installed; ") && said.contains("still to be collected"), "{said}");
    // Nothing is recorded any more, and a second uninstall has nothing to do.
    lab.wait_for_shop();
    let (_, said) = lab.fleet_says("uninstall", &[]);
    assert!(said.contains("h1  ok           not installed; "), "{said}");
    assert_eq!(lab.shell(1, "find / -xdev -name 'pulpcov.pth' -o -xdev -name '_pulpcov_gate*'"), "");

    lab.fleet(0, "collect", &["-o", "run"]);
    let table = lab.pulpcov_ends(0, &["report", "run", "--require-complete", "-m"]);
    assert!(table.contains("shop/catalogue.py"), "{table}");
    assert_eq!(lab.changes(1, &before, &[]), Vec::<String>::new());

    // What has been collected and was not written since is not asked for again.
    // A worker that is killed stays dead: the next one would run something that nobody has collected.
    lab.shell(
        1,
        "systemctl stop shop-web; mkdir -p /run/systemd/system/shop-worker.service.d; \
         printf '[Service]\\nRestart=no\\n' > /run/systemd/system/shop-worker.service.d/stays-dead.conf; \
         systemctl daemon-reload",
    );
    lab.install();
    lab.fleet(0, "collect", &["-o", "run2"]);
    lab.shell(1, "pkill -KILL -f [s]hop-worker");
    let (_, said) = lab.fleet_says("uninstall", &["--restart"]);
    assert!(said.contains("h1  changed      uninstalled\n"), "{said}");
    lab.shell(1, "systemctl start shop-web");
    assert_eq!(lab.changes(1, &before, &[]), Vec::<String>::new());
}

/// What a process that is not restarted still holds is no less to be collected than what it has written.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn an_uninstall_without_a_restart_loses_nothing_that_live_processes_hold() {
    let mut lab = Lab::start(1);
    lab.inventory("    pulpcov_interval: 3600\n");
    lab.wait_for_shop();
    let before = lab.file_tree(1);
    lab.install();
    lab.wait_for_shop();
    lab.fleet(0, "collect", &["-o", "run"]);
    // All that is there is here: nothing is asked for but what is still to come.
    let (_, said) = lab.fleet_says("uninstall", &[]);
    assert!(said.contains("will still write into /srv/pulp_coverage is to be collected"), "{said}");
    lab.get(1, "/price/tea?vip").expect("answers");
    let (code, said) = lab.fleet_says("uninstall", &["--check"]);
    assert!(code == Some(0) && !said.contains("changed      "), "{said}");
    lab.shell(1, "systemctl restart shop-web shop-worker");
    lab.wait_for_shop();
    lab.fleet(0, "collect", &["-o", "run"]);
    let report: Value =
        serde_json::from_str(&lab.pulpcov_ends(0, &["report", "run", "--json", "-"])).expect("JSON");
    let price = report["labels"]["tests"]["files"]["shop/catalogue.py"]["executed_lines"].to_string();
    assert!(price.contains("11"), "{price}");
    assert_eq!(lab.changes(1, &before, &[]), Vec::<String>::new());
}

/// An agent whose controller is gone gives up what it waits for.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn an_agent_does_not_work_on_for_a_controller_that_was_killed() {
    let mut lab = Lab::with_shop(1);
    // Whoever does not answer is waited for.
    lab.shell(1, "pkill -STOP -f [s]hop-worker");
    let mut child = lab
        .fleet_command("collect", &["-o", "run", "--flush-timeout", "600"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let agents = |lab: &Lab| lab.shell(1, "pgrep -fc '[.]pulpcov-' || true").trim().to_owned();
    lab.wait("the agent to be at work", |lab| agents(lab) != "0");
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGKILL).expect("killed");
    child.wait().expect("ended");
    lab.wait("the agent to leave", |lab| agents(lab) == "0");
    lab.shell(1, "pkill -CONT -f [s]hop-worker");
    lab.fleet(0, "collect", &["-o", "run"]);
}
