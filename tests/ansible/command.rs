//! The agent by `ansible.builtin.command` alone: no collection is needed.

use std::fs;

use pulpcov_tests::lab::{Lab, host_name};
use pulpcov_tests::{programs, python, shop};

use super::{changed, playbook, without_ansible};

fn by_command(lab: &Lab, name: &str, extra: &[&str], words: &[&str]) -> std::process::Output {
    let path = programs::workspace().join("playbooks/command").join(name);
    playbook(lab, &path.to_string_lossy(), extra, words)
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn playbooks_install_collect_and_uninstall_with_truthful_changed() {
    let mut lab = Lab::start(2);
    lab.inventory("");
    lab.wait_for_shop();
    let before: Vec<_> = (1..=2).map(|i| without_ansible(lab.file_tree(i))).collect();
    let agent = format!("pulpcov_agent={}", programs::agent().display());
    let wheels = format!("pulpcov_wheelhouse={}", python::wheelhouse().display());
    let profile = format!("pulpcov_profile={}", shop::profile().display());
    let words = [agent.as_str(), wheels.as_str(), profile.as_str()];
    let told = changed(&by_command(&lab, "install.yml", &words, &["--check"]));
    assert!(told.iter().all(|&n| n > 0), "{told:?}");
    for i in 1..=2 {
        assert_eq!(without_ansible(lab.file_tree(i)), before[i - 1], "{}", host_name(i));
    }
    let first = changed(&by_command(&lab, "install.yml", &words, &[]));
    assert!(first.len() == 2 && first.iter().all(|&n| n > 0), "{first:?}");
    assert_eq!(changed(&by_command(&lab, "install.yml", &words, &["--check"])), [0, 0]);
    assert_eq!(changed(&by_command(&lab, "install.yml", &words, &[])), [0, 0]);
    lab.wait_for_shop();
    for i in 1..=2 {
        lab.get(i, "/price/jam").expect("answers");
        lab.post(i, "/order/bake/2").expect("orders are taken");
        lab.wait("the orders to be done", |lab| lab.get(i, "/done").is_some_and(|text| text.contains('2')));
    }
    let told = changed(&by_command(&lab, "collect.yml", &["pulpcov_run=run"], &["--check"]));
    assert!(told.iter().all(|&n| n > 0) && !lab.path("run").exists(), "{told:?}");
    let collected = changed(&by_command(&lab, "collect.yml", &["pulpcov_run=run"], &[]));
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
    let told = changed(&by_command(&lab, "uninstall.yml", &["pulpcov_erase_data=true"], &["--check"]));
    assert!(told.iter().all(|&n| n > 0), "{told:?}");
    let removed = changed(&by_command(&lab, "uninstall.yml", &["pulpcov_erase_data=true"], &[]));
    assert!(removed.iter().all(|&n| n > 0), "{removed:?}");
    assert_eq!(changed(&by_command(&lab, "uninstall.yml", &[], &[])), [0, 0]);
    for i in 1..=2 {
        assert_eq!(without_ansible(lab.file_tree(i)), before[i - 1], "{}", host_name(i));
    }
}
