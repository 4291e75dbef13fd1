//! The set-ups of SSH that people have, against real sshd's.

mod become_root;
mod host_keys;
mod identities;
mod openssh;
mod servers;
mod shells;
mod ways;

use std::fs;
use std::path::Path;
use std::process::Command;

use pulpcov_tests::lab::{Lab, Options};

/// Hosts without anything but their operating system.
fn hosts(n: usize) -> Lab {
    Lab::start_with(n, &Options::default())
}

/// How a `fleet status` ended, and what it said on stderr.
struct Said {
    code: Option<i32>,
    words: String,
}

impl Said {
    /// It ended with `code`, and each of `parts` stands in what it said.
    #[track_caller]
    fn ends(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.words);
        for part in parts {
            assert!(self.words.contains(part), "no {part:?} in:\n{}", self.words);
        }
    }
}

/// `fleet status` on the hosts of an inventory in YAML.
fn status(lab: &Lab, inventory: &str, words: &[&str]) -> Said {
    said(&mut status_command(lab, inventory, words))
}

/// The same as a command, with the lab's known hosts unless `words` name some.
fn status_command(lab: &Lab, inventory: &str, words: &[&str]) -> Command {
    let path = place(lab, "hosts.yml", inventory);
    let mut all = vec!["fleet", "status", &path];
    all.extend(words);
    let known = lab.path("known_hosts").to_string_lossy().into_owned();
    if !words.iter().any(|word| ["--known-hosts", "--host-key", "--ssh-common-args"].contains(word)) {
        all.extend(["--known-hosts", &known]);
    }
    lab.pulpcov_command(&all)
}

fn said(command: &mut Command) -> Said {
    let output = command.output().expect("pulpcov runs");
    Said { code: output.status.code(), words: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// One host, reached with the lab's key as user `deploy`, and lines of its own.
fn one(lab: &Lab, extra: &str) -> String {
    host(lab, "h1", &format!("ansible_host: 10.77.0.2, ansible_user: deploy, {extra}"))
}

/// A host with the lab's key.
fn host(lab: &Lab, name: &str, vars: &str) -> String {
    format!(
        "all:\n  hosts:\n    {name}: {{ansible_ssh_private_key_file: {}, {vars}}}\n",
        lab.path("key").display()
    )
}

/// Writes a file into the lab's folder; its path.
fn place(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.path(name);
    fs::write(&path, text).expect("written");
    path.to_string_lossy().into_owned()
}

/// Runs a program of this machine, which must succeed.
fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output().expect("it runs");
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A new key pair without a passphrase; the path of its private half.
fn key(lab: &Lab, name: &str) -> String {
    let path = lab.path(name).to_string_lossy().into_owned();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path]);
    path
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).expect("a file")
}

/// How often a word stands in what a host's sshd has logged.
fn logged(lab: &Lab, i: usize, word: &str) -> usize {
    lab.shell(i, &format!("journalctl -o cat --no-pager | grep -c '{word}' || true"))
        .trim()
        .parse()
        .expect("a number")
}

/// A further setting of a host's sshd, in force at once.
fn sshd(lab: &Lab, i: usize, settings: &str) {
    // The first word on a matter counts, so ours comes before the lab's own.
    lab.shell(i, &format!("printf '{settings}\\n' >> /etc/ssh/sshd_config.d/a.conf; systemctl reset-failed ssh; systemctl restart ssh"));
}
