//! pulpcov under the real ansible-core, against real hosts.

mod checks;
mod ci;
mod collection;
mod command;
mod slices;

use std::process::{Command, Output};

use pulpcov_tests::lab::Lab;
use pulpcov_tests::python::{self, collection};

/// A program of ansible-core's in the lab's network, with the collection.
fn ansible(lab: &Lab, program: &str) -> Command {
    let known =
        format!("-o UserKnownHostsFile={} -o StrictHostKeyChecking=yes", lab.path("known_hosts").display());
    let mut command = lab.command(python::ansible().join(program));
    command
        .current_dir(lab.path(""))
        .env("PWD", lab.path(""))
        .env("HOME", lab.path("home"))
        .env("ANSIBLE_SSH_COMMON_ARGS", known)
        .env("ANSIBLE_COLLECTIONS_PATH", collection())
        .env("ANSIBLE_LOCALHOST_WARNING", "False")
        .env("ANSIBLE_INVENTORY_UNPARSED_WARNING", "False")
        .env("ANSIBLE_NOCOLOR", "1")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Runs a playbook, a path or a collection's, on the lab's inventory.
fn playbook(lab: &Lab, name: &str, extra: &[&str], words: &[&str]) -> Output {
    ansible(lab, "ansible-playbook")
        // Half the time of a task. Modules by themselves run without, as is Ansible's default.
        .env("ANSIBLE_PIPELINING", "True")
        .arg("-i")
        .arg(lab.path("hosts.yml"))
        .arg(name)
        .args(extra.iter().flat_map(|words| ["-e", words]))
        .args(words)
        .output()
        .expect("ansible-playbook runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `changed=` of each host in the recap; fails where anything failed.
#[track_caller]
fn changed(output: &Output) -> Vec<u32> {
    let text = said(output);
    assert!(output.status.success(), "{text}");
    text.lines()
        .filter(|line| line.contains("unreachable=0") && line.contains("failed=0"))
        .filter(|line| !line.starts_with("localhost"))
        .filter_map(|line| line.split("changed=").nth(1)?.split_whitespace().next()?.parse().ok())
        .collect()
}

/// Ansible leaves its own temporary folder in the user's home.
fn without_ansible(tree: Vec<String>) -> Vec<String> {
    tree.into_iter()
        .filter(|line| !line.contains("/.ansible") && !line.starts_with("./home/deploy d"))
        .collect()
}
