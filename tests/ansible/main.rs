//! The playbooks, run by the real ansible-core against real hosts.

use std::fs;
use std::process::Output;

use pulpcov_tests::lab::{Lab, host_name};
use pulpcov_tests::{programs, python, shop};

/// Runs a playbook in the lab's network.
fn playbook(lab: &Lab, name: &str, extra: &[&str]) -> Output {
    let known =
        format!("-o UserKnownHostsFile={} -o StrictHostKeyChecking=yes", lab.path("known_hosts").display());
    let mut command = lab.command(python::ansible().join("ansible-playbook"));
    command
        .arg("-i")
        .arg(lab.path("hosts.yml"))
        .arg(programs::workspace().join("playbooks").join(name))
        .args(extra.iter().flat_map(|words| ["-e", words]))
        .current_dir(lab.path(""))
        .env("PWD", lab.path(""))
        .env("HOME", lab.path("home"))
        .env("ANSIBLE_SSH_COMMON_ARGS", known)
        .env("ANSIBLE_LOCALHOST_WARNING", "False")
        .env("ANSIBLE_NOCOLOR", "1")
        .env("LC_ALL", "C.UTF-8");
    command.output().expect("ansible-playbook runs")
}

/// `changed=` of each host in the recap; fails where anything failed.
fn changed(output: &Output) -> Vec<u32> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines()
        .filter(|line| line.contains("unreachable=0") && line.contains("failed=0"))
        .filter_map(|line| line.split("changed=").nth(1)?.split_whitespace().next()?.parse().ok())
        .collect()
}

#[test]
fn playbooks_install_collect_and_uninstall_with_truthful_changed() {
    let mut lab = Lab::start(2);
    lab.inventory("");
    lab.wait_for_shop();
    let before: Vec<_> = (1..=2).map(|i| lab.file_tree(i)).collect();
    let agent = format!("pulpcov_agent={}", programs::agent().display());
    let wheels = format!("pulpcov_wheelhouse={}", python::wheelhouse().display());
    let profile = format!("pulpcov_profile={}", shop::profile().display());
    let words = [agent.as_str(), wheels.as_str(), profile.as_str()];
    let first = changed(&playbook(&lab, "install.yml", &words));
    assert!(first.len() == 2 && first.iter().all(|&n| n > 0), "{first:?}");
    assert_eq!(changed(&playbook(&lab, "install.yml", &words)), [0, 0]);
    lab.wait_for_shop();
    for i in 1..=2 {
        lab.get(i, "/price/jam").expect("answers");
        lab.post(i, "/order/bake/2").expect("orders are taken");
        lab.wait("the orders to be done", |lab| lab.get(i, "/done").is_some_and(|text| text.contains('2')));
    }
    let collected = changed(&playbook(&lab, "collect.yml", &["pulpcov_run=run"]));
    assert_eq!(collected, [3, 3]);
    let bundles = fs::read_dir(lab.path("run")).expect("bundles").count();
    assert_eq!(bundles, 2);
    let report: serde_json::Value =
        serde_json::from_str(&lab.pulpcov_ends(0, &["report", "run", "--json", "-", "--require-complete"]))
            .expect("JSON");
    for i in 1..=2 {
        let host = &report["hosts"][host_name(i)];
        assert!(host["files"]["shop/jobs.py"]["executed_lines"].is_array(), "{host}");
        // What was fetched of ended processes is gone there; what lives is not.
        let ended =
            host["processes"].as_array().expect("processes").iter().filter(|p| p["state"] == "ended").count();
        assert!(ended >= 2, "{host}");
        assert_eq!(lab.shell(i, "ls /usr/local/lib/pulpcov/outbox").trim(), "");
    }
    let removed = changed(&playbook(&lab, "uninstall.yml", &["pulpcov_erase_data=true"]));
    assert!(removed.iter().all(|&n| n > 0), "{removed:?}");
    assert_eq!(changed(&playbook(&lab, "uninstall.yml", &[])), [0, 0]);
    // Ansible leaves its own temporary folder in the user's home.
    let without_ansible = |tree: Vec<String>| -> Vec<String> {
        tree.into_iter()
            .filter(|line| !line.contains("/.ansible") && !line.starts_with("./home/deploy d"))
            .collect()
    };
    for i in 1..=2 {
        assert_eq!(
            without_ansible(lab.file_tree(i)),
            without_ansible(before[i - 1].clone()),
            "{}",
            host_name(i)
        );
    }
}
