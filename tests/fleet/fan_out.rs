//! Many hosts: what would be done, batches, when to stop, and doing again what failed.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulpcov_tests::lab::{Lab, Options};
use pulpcov_tests::python;

fn wheels() -> String {
    python::wheelhouse().to_string_lossy().into_owned()
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn check_tells_what_install_and_uninstall_would_do_and_does_nothing() {
    let mut lab = Lab::start(2);
    lab.inventory("");
    lab.wait_for_shop();
    let wheels = wheels();
    let install = ["--wheelhouse", &wheels, "--restart"];
    let with = |words: &[&'static str]| [install.as_slice(), words].concat();
    let before: Vec<_> = (1..=2).map(|i| lab.file_tree(i)).collect();
    let same = |lab: &Lab| {
        for i in 1..=2 {
            // The cached agent is the only thing that a visit leaves.
            assert_eq!(lab.changes(i, &before[i - 1], &["./tmp/.pulpcov-", "./tmp d"]), Vec::<String>::new());
        }
    };
    let pid = lab.shell(1, "systemctl show -P MainPID shop-web");
    let (code, words) = lab.fleet_says("install", &with(&["--check"]));
    assert_eq!(code, Some(0), "{words}");
    assert!(
        words.contains("h1  changed      would install for 1 interpreter (")
            && words.contains("restart shop-"),
        "{words}"
    );
    same(&lab);
    let shown = lab.fleet(0, "install", &with(&["--check", "--diff"]));
    // The same on both hosts, so shown once.
    assert_eq!(shown.matches("+++ /usr/local/lib/pulpcov/hook/_pulpcov_recorder.py").count(), 1, "{shown}");
    assert!(shown.contains("# h[1-2]\n--- /dev/null\n+++ ") && shown.contains("+import "), "{shown}");
    same(&lab);
    assert_eq!(lab.shell(1, "systemctl show -P MainPID shop-web"), pid);

    lab.fleet(0, "install", &install);
    let after: Vec<_> = (1..=2).map(|i| lab.file_tree(i)).collect();
    let (_, words) = lab.fleet_says("install", &with(&["--check"]));
    assert!(words.contains("h1  ok           already installed"), "{words}");
    // Somebody else's change is an error beforehand, too.
    lab.shell(2, "echo '# mine' >> /usr/local/lib/pulpcov/hook/analysis.py");
    let (code, words) = lab.fleet_says("install", &with(&["--check"]));
    assert!(code == Some(4) && words.contains("analysis.py was changed by somebody"), "{words}");
    let shown = lab.fleet(0, "install", &with(&["--check", "--diff", "--force", "--limit", "h2"]));
    assert!(shown.contains("-# mine\n"), "{shown}");
    let (_, words) = lab.fleet_says("services", &["--check", "--", "restart"]);
    assert!(words.contains("restart"), "{words}");
    let (_, words) = lab.fleet_says("reset", &["--check", "--label", "next"]);
    assert!(words.contains("would begin generation") && words.contains("label next"), "{words}");
    let (_, words) = lab.fleet_says("uninstall", &["--check", "--restart", "--limit", "h1"]);
    assert!(words.contains("h1  changed      would remove") && words.contains("restart shop-"), "{words}");
    assert_eq!(lab.changes(1, &after[0], &["shop", "/srv/pulp_coverage/"]), Vec::<String>::new());
    let shown = lab.fleet(0, "uninstall", &["--diff", "--limit", "h1"]);
    assert!(shown.contains("--- /usr/local/lib/pulpcov/hook/_pulpcov_recorder.py\n+++ /dev/null"), "{shown}");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn what_failed_is_done_again_and_nothing_else() {
    let lab = Lab::start_with(4, &Options::default());
    lab.inventory("");
    for i in [2, 3] {
        lab.stop_sshd(i);
    }
    let quick = ["--retries", "0", "--log-dir", "logs"];
    let with = |words: &[&'static str]| [quick.as_slice(), words].concat();
    assert_eq!(lab.fleet_says("status", &["--rerun", "failed"]).0, Some(2));
    let (code, words) = lab.fleet_says("status", &quick);
    assert_eq!(code, Some(4), "{words}");
    assert!(words.contains("h[2-3]  unreachable  cannot connect to ADDRESS port 22"), "{words}");
    // In batches of one, and no more once one has failed: the fourth is not begun.
    let (code, words) = lab.fleet_says("status", &with(&["--serial", "1", "--max-fail", "0"]));
    assert_eq!(code, Some(4), "{words}");
    assert!(words.contains("h1      ok") && words.contains("h2      unreachable"), "{words}");
    assert!(words.contains("h[3-4]  not started  1 had failed before it began (--max-fail)"), "{words}");
    // Of hosts that are not asked it stays known how they ended.
    assert_eq!(lab.fleet_says("status", &with(&["--limit", "h1"])).0, Some(0));
    lab.start_sshd(2);
    let (code, words) = lab.fleet_says("status", &with(&["--rerun", "failed"]));
    assert_eq!(code, Some(4), "{words}");
    assert!(words.contains("status: 3 hosts") && words.contains("h3  unreachable"), "{words}");
    lab.start_sshd(3);
    let (code, words) = lab.fleet_says("status", &with(&["--rerun", "failed"]));
    assert!(code == Some(0) && words.contains("status: 1 host\n"), "{words}");
    let (code, words) = lab.fleet_says("status", &with(&["--rerun", "failed"]));
    assert!(code == Some(0) && words.contains("none of these hosts failed in the last status"), "{words}");
    let log = fs::read_to_string(lab.path("logs/h3.log")).expect("a log");
    assert!(
        log.contains("status begins")
            && log.contains("status unreachable in ")
            && log.contains("status ok in "),
        "{log}"
    );
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_collect_that_is_done_again_adds_to_its_run() {
    let lab = Lab::with_shop(2);
    lab.stop_sshd(2);
    let (code, words) = lab.fleet_says("collect", &["--retries", "0"]);
    assert_eq!(code, Some(4), "{words}");
    lab.start_sshd(2);
    let run = lab.fleet(0, "collect", &["--rerun", "failed"]);
    assert_eq!(
        fs::read_dir(lab.path("runs"))
            .expect("runs")
            .filter(|entry| {
                entry.as_ref().is_ok_and(|entry| !entry.file_type().is_ok_and(|kind| kind.is_symlink()))
            })
            .count(),
        1
    );
    for host in ["h1", "h2"] {
        assert!(
            fs::read_dir(std::path::Path::new(run.trim()).join("hosts").join(host)).expect("bundles").count()
                >= 1
        );
    }
    lab.pulpcov_ends(0, &["report", run.trim(), "--require-complete"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn the_first_interrupt_begins_no_more_hosts_and_the_second_drops_those_at_work() {
    for (signals, first, words_of_first) in
        [(1, "h1      ok", "not installed"), (2, "h1      failed", "dropped in the middle")]
    {
        let mut lab = Lab::start_with(3, &Options::default());
        lab.inventory("");
        // Its sshd is reached and says nothing: the host is at work for as long as it takes.
        lab.freeze(1);
        let words = ["--forks", "1", "--retries", "0", "--connect-timeout", "300", "--log-dir", "logs"];
        let mut child = lab
            .fleet_command("status", &words)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = BufReader::new(child.stderr.take().expect("its stderr"));
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let mut text = String::new();
        lab.wait("h1 to begin", |lab| lab.path("logs/h1.log").exists());
        for signal in [Signal::SIGINT, Signal::SIGTERM].into_iter().take(signals) {
            kill(pid, signal).expect("signalled");
            while !text.contains("interrupted: running hosts may end") {
                assert!(said.read_line(&mut text).expect("a line") > 0, "{text}");
            }
        }
        if signals == 1 {
            lab.thaw(1);
        }
        said.read_to_string(&mut text).expect("text");
        assert_eq!(child.wait().expect("it ends").code(), Some(4), "{text}");
        assert!(text.contains(first) && text.contains(words_of_first), "{text}");
        assert!(text.contains("h[2-3]  not started  interrupted before it began"), "{text}");
    }
}
