//! Random inventories: what pulpcov reads is what the real ansible-core reads.

mod random;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pulpcov_tests::{programs, python};
use random::Random;
use serde_json::{Value, json};

/// Cases that are compared.
const CASES: u64 = 2_000;

/// ansible-core, asked again and again.
struct Oracle {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Oracle {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(python::ansible().join("python"))
            .arg(programs::workspace().join("tests/inventory/oracle.py"))
            .current_dir(folder)
            .env("HOME", folder)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ansible's Python runs");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout }
    }

    fn ask(&mut self, words: &[String]) -> Value {
        writeln!(self.stdin, "{}", json!(words)).expect("asked");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("answers");
        serde_json::from_str(&line).expect("JSON")
    }
}

fn ours(words: &[String], folder: &Path) -> (bool, String, String) {
    let output = Command::new(programs::pulpcov())
        .args(["fleet", "inventory", "--inventory-via", "native"])
        .args(words)
        .current_dir(folder)
        .env("HOME", folder)
        .output()
        .expect("pulpcov runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// How a case ended.
enum Case {
    Equal,
    /// Both refuse it, or no host is left: of a limit an error of pulpcov's, and a warning of Ansible's.
    Refused,
    /// pulpcov leaves it to Ansible, by name.
    Left,
    Different(String),
}

fn compare(oracle: &mut Oracle, seed: u64, folder: &Path) -> Case {
    let mut random = Random::new(seed);
    let sources: Vec<PathBuf> = random::inventory(&mut random, folder);
    let mut words: Vec<String> =
        sources.iter().flat_map(|source| ["-i".to_owned(), source.display().to_string()]).collect();
    words.extend(
        random::limit(&mut random).into_iter().flat_map(|limit| ["--limit".to_owned(), limit.to_owned()]),
    );
    words.push("--list".to_owned());
    let theirs = oracle.ask(&words);
    let (success, out, err) = ours(&words, folder);
    let expected: Value =
        serde_json::from_str(theirs["out"].as_str().unwrap_or_default()).unwrap_or_default();
    let groups = expected.as_object().into_iter().flat_map(|groups| groups.values());
    let has_hosts = groups.into_iter().any(|group| group.get("hosts").is_some());
    match (success, theirs["code"] == 0 && has_hosts) {
        (false, false) => Case::Refused,
        // There are none, and both only warn.
        (true, false) if theirs["code"] == 0 && err.contains("the inventory has no hosts") => Case::Refused,
        (true, false) => {
            Case::Different(format!("pulpcov reads it, and ansible does not: {}", theirs["err"]))
        }
        (false, true) if err.contains("which only Ansible reads") => Case::Left,
        (false, true) => Case::Different(format!("ansible reads it, and pulpcov does not: {err}")),
        (true, true) => {
            let found: Value = serde_json::from_str(&out).expect("JSON");
            if found == expected { Case::Equal } else { Case::Different(differences(&found, &expected, "")) }
        }
    }
}

/// The files of a case, for whoever has to understand it.
fn files(folder: &Path) -> String {
    let script = "find . -type f | sort | while read -r f; do echo \"--- $f\"; cat \"$f\"; done";
    let output = Command::new("sh").args(["-c", script]).current_dir(folder).output().expect("sh runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where two values differ, a line each.
fn differences(ours: &Value, theirs: &Value, path: &str) -> String {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let inner = |key: &String| match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => differences(a, b, &format!("{path}/{key}")),
                (a, b) => format!("{path}/{key}: pulpcov {a:?}, ansible {b:?}\n"),
            };
            keys.into_iter().map(inner).collect()
        }
        _ if ours == theirs => String::new(),
        _ => format!("{path}: pulpcov {ours}, ansible {theirs}\n"),
    }
}

#[test]
#[ignore = "needs a package index: ansible-core"]
fn random_inventories_are_read_as_ansible_reads_them() {
    let work = tempfile::tempdir().expect("a folder");
    let mut oracle = Oracle::start(work.path());
    let (mut equal, mut refused, mut left, mut different) = (0, 0, 0, Vec::new());
    for seed in 1..=CASES {
        let folder = work.path().join(seed.to_string());
        std::fs::create_dir(&folder).expect("made");
        match compare(&mut oracle, seed, &folder) {
            Case::Equal => equal += 1,
            Case::Refused => refused += 1,
            Case::Left => left += 1,
            Case::Different(difference) => {
                different.push(format!("case {seed}: {difference}\n{}", files(&folder)));
            }
        }
    }
    let counts = format!("{equal} equal, {refused} refused by both, {left} left to Ansible");
    let shown = different.iter().take(3).cloned().collect::<String>();
    assert!(different.is_empty(), "{shown}{} of {CASES} cases differ; {counts}", different.len());
    // Refusing all of it would be equal, too.
    assert!(equal > CASES * 2 / 3 && left < CASES / 50, "{counts}");
}

/// What is no text of an inventory: programs, plugins, TOML.
#[test]
#[ignore = "needs a package index: ansible-core"]
fn what_only_ansible_reads_is_asked_of_ansible_or_refused_by_name() {
    let work = tempfile::tempdir().expect("a folder");
    let script = work.path().join("inventory.py");
    std::fs::write(
        &script,
        "#!/usr/bin/env python3\nprint('{\"web\": {\"hosts\": [\"web1\"], \"vars\": {\"x\": 1}}, \"_meta\": {\"hostvars\": {\"web1\": {\"ansible_host\": \"10.1.1.1\"}}}}')\n",
    )
    .expect("written");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let beside = work.path().join("group_vars");
    std::fs::create_dir(&beside).expect("made");
    std::fs::write(beside.join("web.yml"), "y: 2\n").expect("written");
    let ask = |path: std::ffi::OsString| {
        let output = Command::new(programs::pulpcov())
            .args(["fleet", "inventory"])
            .arg(&script)
            .env("PATH", path)
            .env("HOME", work.path())
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("pulpcov runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let plain = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![python::ansible()];
    folders.extend(std::env::split_paths(&plain));
    let (code, out, err) = ask(std::env::join_paths(folders).expect("a path"));
    assert_eq!(code, Some(0), "{err}");
    let found: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(found["_meta"]["hostvars"]["web1"], json!({"ansible_host": "10.1.1.1", "x": 1, "y": 2}));
    assert_eq!(found["web"]["hosts"], json!(["web1"]));
    assert!(err.contains("a script; ansible-inventory has read it"), "{err}");
    let (code, out, err) = ask("/nonexistent".into());
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("inventory.py: a script") && err.contains("not installed"), "{err}");
}

/// A file that is a vault, and a value that is one, with the password of a program.
#[test]
#[ignore = "needs a package index: ansible-core"]
fn vaults_open_with_the_passwords_of_files_and_programs() {
    let work = tempfile::tempdir().expect("a folder");
    let path = |name: &str| work.path().join(name);
    std::fs::write(path("pass"), "#!/bin/sh\necho open-sesame\n").expect("written");
    std::fs::set_permissions(path("pass"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    std::fs::create_dir(path("group_vars")).expect("made");
    std::fs::write(path("group_vars/all.yml"), "ansible_port: 2200\nsecret: s3cret\n").expect("written");
    std::fs::write(path("hosts.yml"), "all: {hosts: {h1: }}\n").expect("written");
    let sealed = Command::new(python::ansible().join("ansible-vault"))
        .args(["encrypt", "group_vars/all.yml", "--vault-id"])
        .arg("night@pass")
        .current_dir(work.path())
        .env("HOME", work.path())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("ansible-vault runs");
    assert!(sealed.status.success(), "{}", String::from_utf8_lossy(&sealed.stderr));
    let list = |words: &[&str]| {
        let words: Vec<String> = ["hosts.yml"].iter().chain(words).map(ToString::to_string).collect();
        ours(&words, work.path())
    };
    let (success, out, err) = list(&["--vault-id", "night@pass", "--host", "h1"]);
    assert!(success, "{err}");
    assert_eq!(
        serde_json::from_str::<Value>(&out).expect("JSON"),
        json!({"ansible_port": 2200, "secret": "s3cret"})
    );
    let (success, _, err) = list(&[]);
    assert!(!success && err.contains("all.yml: it is vault-encrypted, and no vault password"), "{err}");
    std::fs::write(path("wrong"), "other\n").expect("written");
    let (success, _, err) = list(&["--vault-password-file", "wrong"]);
    assert!(!success && err.contains("all.yml: no vault password opens it"), "{err}");
}
