//! Words, exit codes, messages: what a user meets before any host does.

mod demo;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output};
use std::sync::LazyLock;

use pulpcov_tests::programs;

/// Agents that no host ever gets: none is reached in these tests, and no agent need be built.
static AGENTS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("pulpcov-agent-x86_64"), "no agent").expect("written");
    folder
});

/// A program that finds those.
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("PULPCOV_AGENT_DIR", AGENTS.path());
    command
}

fn pulpcov(words: &[&str]) -> Output {
    // Help tells of the variable where it is set.
    let is_help = words.contains(&"--help");
    let mut pulpcov = if is_help { Command::new(programs::pulpcov()) } else { command(programs::pulpcov()) };
    pulpcov.args(words).env("COLUMNS", "100").output().expect("runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_is_what_it_was() {
    for (name, words) in [
        ("pulpcov", &["--help"][..]),
        ("fleet", &["fleet", "--help"]),
        ("fleet-install", &["fleet", "install", "--help"]),
        ("fleet-collect", &["fleet", "collect", "--help"]),
        ("report", &["report", "--help"]),
        ("combine", &["combine", "--help"]),
        ("diff", &["diff", "--help"]),
        ("trend", &["trend", "--help"]),
    ] {
        let output = pulpcov(words);
        assert!(output.status.success());
        insta::with_settings!({snapshot_path => "snapshots", prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!(name, String::from_utf8_lossy(&output.stdout));
        });
    }
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let work = tempfile::tempdir().expect("a folder");
    let hosts = work.path().join("hosts.yml");
    fs::write(&hosts, "all:\n  hosts:\n    here: {ansible_host: 127.0.0.1, ansible_port: 1}\n")
        .expect("written");
    for (words, code) in [
        (&["inventory", "--list"][..], 1),
        (&["status", "--retries", "0", "--json"], 4),
        (&["status", "--retries", "0", "--jsonl"], 4),
    ] {
        let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
        let mut fleet = command(programs::pulpcov());
        let output = fleet.arg("fleet").args(words).arg(&hosts).stdout(full).output().expect("runs");
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("error: cannot write to stdout"), "{}", stderr(&output));
    }
}

/// Two hosts, one after the other: whether the second is visited where SIGHUP comes while the first is.
fn visits_the_second_after_a_hangup(before: &str) -> bool {
    let work = tempfile::tempdir().expect("a folder");
    let hosts = work.path().join("hosts.yml");
    fs::write(&hosts, "all:\n  vars: {pulpcov_exec: [sh, -c, sleep 1]}\n  hosts: {one: {}, two: {}}\n")
        .expect("written");
    let script = format!("{before} \"$0\" fleet status --jsonl --forks 1 --retries 0 \"$1\"");
    let mut child = command("sh")
        .args(["-c", &script])
        .args([programs::pulpcov(), hosts])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("runs");
    let mut lines =
        BufReader::new(child.stdout.take().expect("piped")).lines().map(|line| line.expect("text"));
    assert!(lines.any(|line| line.contains("\"host\":\"one\"")));
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("it runs");
    let begun = lines.any(|line| line.contains("host_started") && line.contains("\"host\":\"two\""));
    child.wait().expect("it ends");
    begun
}

#[test]
fn a_terminal_that_is_closed_ends_a_command_unless_nohup_started_it() {
    // These tests themselves may have been started by nohup.
    assert!(!visits_the_second_after_a_hangup("exec env --default-signal=HUP"));
    assert!(visits_the_second_after_a_hangup("trap '' HUP; exec"));
}

#[test]
fn every_refusal_is_one_error_line_with_code_2() {
    let work = tempfile::tempdir().expect("a folder");
    let path = |name: &str, text: &str| {
        let path = work.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    };
    let good = path("hosts.yml", "all:\n  hosts:\n    h1: {ansible_host: 127.0.0.1, ansible_port: 1}\n");
    let broken = path("broken.yml", "all:\n  hosts: [a\n");
    let empty = path("empty.yml", "all:\n");
    let windows = path("windows.yml", "all:\n  hosts:\n    h1: {ansible_connection: winrm}\n");
    let template = path("template.yml", "all:\n  hosts:\n    h1: {ansible_host: \"{{ x }}\"}\n");
    let junk = path("data.h1.1.abc", "junk");
    let pipe = work.path().join("data.h1.2.abc").to_string_lossy().into_owned();
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let pipe_bundle = work.path().join("bundle.tar.gz").to_string_lossy().into_owned();
    assert!(Command::new("mkfifo").arg(&pipe_bundle).status().expect("mkfifo runs").success());
    let folder = work.path().join("folder");
    fs::create_dir(&folder).expect("a folder");
    std::os::unix::fs::symlink("/nowhere/.coverage.h1.pid1.x", folder.join(".coverage.h1.pid1.x"))
        .expect("a link");
    let folder = folder.to_string_lossy().into_owned();
    let nosuch = work.path().join("nosuch").to_string_lossy().into_owned();
    for (words, wanted) in [
        (vec!["fleet", "status", &nosuch], "nosuch"),
        (vec!["fleet", "status", &broken], "broken.yml: line"),
        (vec!["fleet", "status", &empty], "has no hosts"),
        (vec!["fleet", "status", &windows], "ansible_connection"),
        (vec!["fleet", "status", &template], "ansible_host"),
        (vec!["fleet", "status", &good, "--limit", "nosuch"], "no hosts match"),
        (vec!["fleet", "status", &good, "--known-hosts", &nosuch], "--known-hosts"),
        (vec!["fleet", "status", &good, "--private-key", &nosuch], "private key"),
        (vec!["fleet", "status", &good, "--agent-dir", &nosuch], "pulpcov-agent"),
        (vec!["fleet", "install", &good, "--profile", "nosuch"], "no built-in profile"),
        (vec!["fleet", "install", &good, "--wheelhouse", &nosuch], "nosuch"),
        (vec!["fleet", "collect", &good, "-o", "/proc/nowhere"], "/proc/nowhere"),
        (vec!["fleet", "run", &good, "-o", "/proc/nowhere", "--", "true"], "/proc/nowhere"),
        (vec!["report", &nosuch], "nosuch"),
        (vec!["report", &junk], "no bundles"),
        (vec!["report", &junk, "--python", "python3"], "no SQLite file"),
        (vec!["report", &folder], "no bundles"),
        (vec!["combine", "-o", "x", &folder], ".coverage.h1.pid1.x"),
        (vec!["combine", "-o", "x", &junk], "data.h1.1.abc"),
        // A pipe that nobody writes into, and a device that never ends.
        (vec!["combine", "-o", "x", &pipe], "no regular file"),
        (vec!["report", "--python", "python3", "/dev/zero"], "no regular file"),
        (vec!["report", "--python", "python3", &pipe], "no regular file"),
        (vec!["report", &pipe_bundle], "no regular file"),
        (vec!["combine", "-o", "x", &pipe_bundle], "no regular file"),
        (vec!["combine", &junk], "--output"),
    ]
    .iter()
    .map(|(words, wanted)| (words.clone(), *wanted))
    {
        let output = pulpcov(&words);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(wanted), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// Hosts know a fleet without a name by its inventory's place: a pipe has none.
#[test]
fn an_inventory_from_a_pipe_wants_a_name() {
    let reset = |name: &str| {
        let text =
            format!("all:\n  vars: {{ansible_host: 127.0.0.1, ansible_port: 1{name}}}\n  hosts:\n    h1:\n");
        let script = format!(
            "exec {} fleet reset --retries 0 --inventory-via native <(printf '{text}')",
            programs::pulpcov().display()
        );
        let output = command("bash").args(["-c", &script]).output().expect("bash runs");
        (output.status.code(), stderr(&output))
    };
    let (code, said) = reset("");
    assert!(code == Some(2) && said.contains("has no place by which hosts could know it"), "{said}");
    assert!(said.contains("hint: name the fleet in it: pulpcov_fleet: NAME"), "{said}");
    let (code, said) = reset(", pulpcov_fleet: bakery");
    assert!(code == Some(4) && said.contains("unreachable"), "{said}");
}

#[test]
fn nobody_answering_is_unreachable_and_code_4() {
    let work = tempfile::tempdir().expect("a folder");
    let inventory = work.path().join("hosts.yml");
    fs::write(&inventory, "all:\n  hosts:\n    h[1:100]: {ansible_host: 127.0.0.1, ansible_port: 1}\n")
        .expect("written");
    let output = pulpcov(&["fleet", "status", &inventory.to_string_lossy(), "--retries", "0", "--jsonl"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON lines")).collect();
    let recap = events.last().expect("events");
    assert_eq!(recap["event"], "recap");
    let hosts = recap["hosts"].as_object().expect("hosts");
    assert_eq!(hosts.len(), 100);
    assert!(hosts.values().all(|host| host["result"] == "unreachable"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let script = format!(
        "{} --help | head -1 >/dev/null; {} report --help | true",
        programs::pulpcov().display(),
        programs::pulpcov().display()
    );
    let output = command("sh").args(["-c", &script]).output().expect("sh runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
#[ignore = "needs a package index: pip"]
fn a_wheelhouse_is_filled_once_and_fits_every_python() {
    let wheels = pulpcov_tests::python::synced_wheelhouse();
    let output = pulpcov(&["wheelhouse", "sync", &wheels.to_string_lossy(), "--python", "no-such-python"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", stderr(&output));
    assert_eq!((text.lines().count(), text.matches("  ok       coverage-").count()), (18, 18), "{text}");
    let work = tempfile::tempdir().expect("a folder");
    let output = pulpcov(&[
        "wheelhouse",
        "sync",
        &work.path().to_string_lossy(),
        "--python",
        "no-such-python",
        "--python-version",
        "3.11",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("2 of 2 wheels could not be fetched"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(work.path()).expect("a folder").count(), 0);
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let text = pulpcov(&["completions", shell]).stdout;
        assert!(String::from_utf8_lossy(&text).contains("become-password-env"), "{shell}");
    }
    let work = tempfile::tempdir().expect("a folder");
    assert!(pulpcov(&["man", &work.path().to_string_lossy()]).status.success());
    let page = fs::read_to_string(work.path().join("pulpcov-fleet-run.1")).expect("a page");
    assert!(page.contains("pulpcov\\-fleet\\-run") && page.contains("record\\-as"), "{page}");
    assert!(String::from_utf8_lossy(&pulpcov(&["man"]).stdout).contains("wheelhouse"));
}

/// As Ansible has it: shown, with a warning, by what only shows; refused by what needs hosts.
#[test]
fn an_inventory_without_hosts_is_shown() {
    let work = tempfile::tempdir().expect("a folder");
    std::fs::write(work.path().join("empty.yml"), "all:\n  hosts: {}\n").expect("written");
    let output = command(programs::pulpcov())
        .args(["fleet", "inventory", "--list", "empty.yml"])
        .current_dir(work.path())
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(0));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let wanted = serde_json::json!({
        "_meta": {"hostvars": {}, "profile": "inventory_legacy"}, "all": {"children": ["ungrouped"]}
    });
    assert_eq!(shown, wanted);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "warning: empty.yml: the inventory has no hosts\n");
}

#[test]
fn a_report_of_no_named_run_is_of_the_latest() {
    let work = tempfile::tempdir().expect("a folder");
    let output = command(programs::pulpcov()).arg("report").current_dir(work.path()).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("runs/latest") && said.contains("hint: name a run directory"), "{said}");
    assert!(!said.contains("pulpcov report .coverage"), "{said}");
    // Whoever comes from coverage.py's own command.
    std::fs::write(work.path().join(".coverage"), "").expect("written");
    let output = command(programs::pulpcov()).arg("report").current_dir(work.path()).output().expect("runs");
    let said = stderr(&output);
    assert!(said.contains("pulpcov report .coverage"), "{said}");
}
