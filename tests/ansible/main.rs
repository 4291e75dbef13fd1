//! pulpcov under the real ansible-core, against real hosts.

mod checks;
mod ci;
mod collection;
mod command;
mod slices;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use pulpcov_tests::lab::Lab;
use pulpcov_tests::{programs, python};

/// The collection as it is built from this checkout: the folder of `ansible_collections`.
fn collection() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let output = Command::new(programs::workspace().join(".ci/collection"))
                .env("PATH", path_with(&python::ansible()))
                .output()
                .expect(".ci/collection runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            programs::target().join("collection")
        })
        .clone()
}

/// `PATH` with a folder before all others.
fn path_with(folder: &std::path::Path) -> String {
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

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
