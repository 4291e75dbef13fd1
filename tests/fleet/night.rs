//! `fleet run`: install, run the tests, collect, report, put back; whatever the command does.

mod cut_off;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulpcov_tests::lab::{Lab, host_address};
use pulpcov_tests::python;

/// `fleet run` with a shell script for tests.
pub(super) fn night(lab: &Lab, words: &[&str], script: &str) -> std::process::Command {
    let wheels = python::wheelhouse().to_string_lossy().into_owned();
    let mut all = vec!["--wheelhouse", &wheels];
    all.extend(words);
    all.extend(["--", "sh", "-c", script]);
    lab.fleet_command("run", &all)
}

pub(super) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

/// Orders a job on each of two hosts, as tests would.
fn tests() -> String {
    let each = |i| format!("curl -sf -X POST http://{}:8000/order/bake/2 >/dev/null", host_address(i));
    format!("{} && {} && echo \"tests of $PULPCOV_LABEL into $PULPCOV_RUN\"", each(1), each(2))
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_night_from_nothing_to_nothing_with_a_report() {
    let mut lab = Lab::start(2);
    lab.inventory("");
    lab.wait_for_shop();
    let before: Vec<_> = (1..=2).map(|i| lab.file_tree(i)).collect();
    let words = ["--output", "run", "--record-as", "tier1", "--fail-under", "10", "--json", "report.json"];
    let output = night(&lab, &words, &tests()).output().expect("it runs");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("tests of tier1 into /") && text.contains("the command ended with 0"), "{text}");
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.path("report.json")).expect("a report")).expect("JSON");
    for host in ["h1", "h2"] {
        assert!(report["hosts"][host]["files"]["shop/web.py"]["executed_lines"].is_array(), "{report}");
    }
    assert!(report["labels"]["tier1"].is_object() && report["labels"]["startup"].is_object(), "{report}");
    for i in 1..=2 {
        assert_eq!(lab.changes(i, &before[i - 1], &[]), Vec::<String>::new());
    }
    // A gate that is not met, and a command that is not there.
    let words = ["--fail-under", "100", "--jsonl", "--become-password-env", "NIGHT_WORD"];
    let output =
        night(&lab, &words, "echo word:$NIGHT_WORD.").env("NIGHT_WORD", "x").output().expect("it runs");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    // root's password is not the tests' to know, and stdout is for JSON lines alone.
    assert!(text.contains("word:.") && text.contains("TOTAL"), "{text}");
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    }
    assert!(lab.path("runs/latest/run.json").exists());
    let output = lab.fleet_command("run", &["--", "no-such-command"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for i in 1..=2 {
        assert_eq!(lab.changes(i, &before[i - 1], &[]), Vec::<String>::new());
    }
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn what_a_failing_command_did_is_collected_and_reported() {
    let mut lab = Lab::start(2);
    lab.inventory("");
    lab.wait_for_shop();
    let script = format!("{}; exit 7", tests());
    let output = night(&lab, &["--output", "run", "--keep"], &script).output().expect("it runs");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(7), "{text}");
    assert!(text.contains("the command ended with 7") && text.contains("TOTAL"), "{text}");
    let (_, words) = lab.fleet_says("status", &[]);
    assert!(words.contains("h1  ok           ") && !words.contains("not installed"), "{words}");
    // What was installed before is not the night's to remove.
    let output = night(&lab, &["--output", "run2"], "true").output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let (_, words) = lab.fleet_says("status", &[]);
    assert!(!words.contains("not installed"), "{words}");
    lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);

    // A host that nobody reaches: no tests without it, unless it may fail.
    lab.stop_sshd(2);
    let words = ["--output", "run3", "--retries", "0"];
    let output = night(&lab, &words, "touch ran").output().expect("it runs");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("the command was not run: 1 of 2 hosts do not answer"), "{text}");
    assert!(!lab.path("ran").exists());
    let words = ["--output", "run3", "--retries", "0", "--max-fail", "1", "--require-complete"];
    let output = night(&lab, &words, "touch ran").output().expect("it runs");
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(lab.path("ran").exists() && said(&output).contains("TOTAL"), "{}", said(&output));
    let (_, words) = lab.fleet_says("status", &["--limit", "h1"]);
    assert!(words.contains("not installed"), "{words}");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn an_interrupt_ends_the_command_and_keeps_what_it_did() {
    let mut lab = Lab::start(2);
    lab.inventory("");
    lab.wait_for_shop();
    let script = format!("{}; sleep 600 & echo $! > sleeper; touch begun; wait", tests());
    let mut command = night(&lab, &["--output", "run"], &script);
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    lab.wait("the tests to begin", |lab| {
        assert!(child.try_wait().expect("a child").is_none(), "it ended");
        lab.path("begun").exists()
    });
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGTERM).expect("signalled");
    let output = child.wait_with_output().expect("it ends");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(143), "{text}");
    assert!(text.contains("the command ended with signal 15") && text.contains("TOTAL"), "{text}");
    // What the command had started has ended with it.
    let sleeper = fs::read_to_string(lab.path("sleeper")).expect("a pid");
    lab.wait("the sleeper to end", |_| !runs(sleeper.trim(), "sleep"));
    let (_, words) = lab.fleet_says("status", &[]);
    assert!(words.contains("not installed"), "{words}");
}

/// Whether that process runs that program. One that has ended stays in /proc until whoever inherited it asks
/// for its end, which the first process of a container may never do.
fn runs(pid: &str, program: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    stat.contains(&format!(" ({program}) ")) && state.is_some_and(|state| !"ZX".contains(state))
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn an_interrupt_before_the_command_puts_everything_back() {
    let mut lab = Lab::start(2);
    lab.inventory("");
    lab.wait_for_shop();
    let before = [1, 2].map(|i| lab.file_tree(i));
    let mut child = night(&lab, &["--output", "run", "--log-dir", "logs"], "touch begun")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    lab.wait("the install to begin", |lab| {
        assert!(child.try_wait().expect("a child").is_none(), "it ended");
        fs::read_to_string(lab.path("logs/h1.log")).is_ok_and(|log| log.contains("install begins"))
    });
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGTERM).expect("signalled");
    let output = child.wait_with_output().expect("it ends");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(143), "{text}");
    assert!(text.contains("run: interrupted: the command was not run"), "{text}");
    assert!(!lab.path("begun").exists() && !text.contains("TOTAL"), "{text}");
    for (i, before) in [1, 2].into_iter().zip(&before) {
        assert_eq!(lab.changes(i, before, &["./tmp/.pulpcov-", "./tmp d"]), Vec::<String>::new(), "{text}");
    }
}
