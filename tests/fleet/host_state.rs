//! What is on a host before, between and after.

use pulpcov_tests::lab::Lab;
use serde_json::Value;

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn uninstall_refuses_what_somebody_changed_and_keeps_data() {
    let mut lab = Lab::with_shop(1);
    lab.get(1, "/cheapest").expect("answers");
    let gate = "/usr/local/lib/python3.11/dist-packages/_pulpcov_gate.py";
    lab.shell(1, &format!("echo '# mine' >> {gate}"));
    let (code, words) = lab.fleet_says("uninstall", &[]);
    assert_eq!(code, Some(4), "{words}");
    assert!(words.contains(&format!("somebody changed {gate}")) && words.contains("--force"), "{words}");
    lab.shell(1, "test -e /usr/local/lib/pulpcov/receipt.json && test -e /usr/local/lib/python3.11/dist-packages/pulpcov.pth");
    // Data that nobody has fetched stays, and is still there for a later install.
    lab.shell(1, "systemctl stop shop-web shop-worker");
    let (code, words) = lab.fleet_says("uninstall", &["--force"]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("data files in /srv/pulp_coverage still to be collected"), "{words}");
    lab.shell(
        1,
        "test ! -e /usr/local/lib/python3.11/dist-packages/pulpcov.pth && ls /srv/pulp_coverage/data.*",
    );
    // What was stopped is not started by a restart.
    lab.install();
    lab.shell(1, "systemctl start shop-web shop-worker");
    lab.wait_for_shop();
    lab.fleet(0, "collect", &["-o", "run"]);
    let report: Value =
        serde_json::from_str(&lab.pulpcov_ends(0, &["report", "run", "--json", "-"])).expect("JSON");
    let processes = report["hosts"]["h1"]["processes"].as_array().expect("processes");
    assert!(
        processes.iter().any(|process| process["state"] == "ended" && process["role"] == "web"),
        "the earlier processes are told of"
    );
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_foreign_file_in_our_place_is_refused_and_comes_back_after_force() {
    let lab = Lab::start(1);
    lab.inventory("");
    let pth = "/usr/local/lib/python3.11/dist-packages/pulpcov.pth";
    lab.shell(1, &format!("echo '# theirs' > {pth}; chmod 600 {pth}; chown ops {pth}"));
    let before = lab.file_tree(1);
    let wheels = pulpcov_tests::python::wheelhouse().to_string_lossy().into_owned();
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels]);
    assert!(code == Some(4) && said.contains(pth) && said.contains("is not ours"), "{said}");
    let left: Vec<String> = lab
        .file_tree(1)
        .into_iter()
        .filter(|line| !line.contains(".pulpcov-") && !line.starts_with("./tmp "))
        .collect();
    assert_eq!(left, before.iter().filter(|line| !line.starts_with("./tmp ")).cloned().collect::<Vec<_>>());
    lab.fleet(0, "install", &["--wheelhouse", &wheels, "--force"]);
    lab.fleet(0, "uninstall", &["--erase-data"]);
    assert_eq!(lab.file_tree(1), before);
    // An uninstall that was cut off behind it goes on: what is back needs nothing that was kept.
    lab.fleet(0, "install", &["--wheelhouse", &wheels, "--force"]);
    lab.shell(1, &format!("echo '# theirs' > {pth}; rm /usr/local/lib/pulpcov/replaced/*"));
    lab.fleet(0, "uninstall", &["--erase-data"]);
    assert_eq!(lab.file_tree(1), before);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_failing_self_test_fails_the_install_and_leaves_nothing() {
    let lab = Lab::start(1);
    lab.inventory("");
    // A Python that cannot fork in the middle of the self-test, as a broken one might not.
    lab.shell(1, "printf 'import os\\ndef fork(): raise OSError(\"no forks today\")\\nos.fork = fork\\n' > /usr/local/lib/python3.11/dist-packages/breaks.py; echo 'import breaks' > /usr/local/lib/python3.11/dist-packages/zz_breaks.pth");
    let before: Vec<String> = lab.file_tree(1);
    let wheels = pulpcov_tests::python::wheelhouse().to_string_lossy().into_owned();
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels]);
    assert!(
        code == Some(4)
            && said.contains("self-test under /usr/bin/python3")
            && said.contains("no forks today"),
        "{said}"
    );
    let tidy = |tree: Vec<String>| {
        tree.into_iter()
            .filter(|line| {
                !line.contains(".pulpcov-") && !line.starts_with("./tmp ") && !line.contains("__pycache__")
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(tidy(lab.file_tree(1)), tidy(before));
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn what_is_hostile_in_the_data_directory_is_left_alone_and_named() {
    let lab = Lab::with_shop(1);
    lab.get(1, "/cheapest").expect("answers");
    lab.shell(1, "cd /srv/pulp_coverage && su plain -c 'ln -s /etc/shadow data.h1.1.evil; mkfifo data.h1.2.pipe; echo junk > data.h1.3.junk; mkdir data.h1.4.dir; echo \"{\" > .pulpcov/proc.h1.5.bad.json; ln -s /etc/shadow .pulpcov/proc.h1.6.evil.json'");
    let (code, said) = lab.fleet_says("collect", &["-o", "run"]);
    assert_eq!(code, Some(0), "{said}");
    for name in [
        "data.h1.1.evil",
        "data.h1.2.pipe",
        "data.h1.3.junk",
        "data.h1.4.dir",
        "proc.h1.5.bad.json",
        "proc.h1.6.evil.json",
    ] {
        assert!(said.contains(name), "{name}: {said}");
    }
    let listing = std::process::Command::new("sh")
        .args(["-c", "zcat run/hosts/h1/*.tar.gz | strings | grep -c 'root:' || true"])
        .current_dir(lab.path(""))
        .output()
        .expect("sh");
    assert_eq!(String::from_utf8_lossy(&listing.stdout).trim(), "0");
    lab.shell(1, "ls -d /srv/pulp_coverage/data.h1.1.evil /srv/pulp_coverage/data.h1.3.junk");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_controller_that_is_killed_leaves_no_agent_and_a_host_that_can_go_on() {
    let mut lab = Lab::with_shop(1);
    let mut killed = lab.fleet_command("collect", &["-o", "run"]).spawn().expect("pulpcov runs");
    lab.wait("the agent", |lab| lab.shell(1, "pgrep -cf '[p]ulpcov-.* serve' || true").trim() != "0");
    killed.kill().expect("dies");
    killed.wait().expect("ends");
    lab.wait("the agent to leave", |lab| {
        lab.shell(1, "pgrep -cf '[p]ulpcov-.* serve' || true").trim() == "0"
    });
    lab.fleet(0, "collect", &["-o", "run"]);
    lab.pulpcov_ends(0, &["report", "run", "--require-complete"]);
}
