//! Host keys, logins and sudo: who gets in, and what is said where nobody does.

use std::fs;

use pulpcov_tests::base::SUDO_PASSWORD;
use pulpcov_tests::lab::{Lab, host_name};

/// `fleet status` on the inventory; its exit code and its words.
fn status(lab: &Lab, words: &[&str]) -> (Option<i32>, String) {
    let inventory = lab.path("hosts.yml").to_string_lossy().into_owned();
    let mut all = vec!["fleet", "status", &inventory];
    all.extend(words);
    let output = lab.pulpcov(&all);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn logins(lab: &Lab, i: usize) -> usize {
    lab.shell(i, "journalctl -u ssh -o cat | grep -cE 'Accepted|Failed|Invalid|authenticat' || true")
        .trim()
        .parse()
        .expect("a number")
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_host_whose_key_changed_or_is_unknown_gets_nothing() {
    let lab = Lab::start(3);
    lab.inventory("");
    let known = lab.path("known_hosts");
    let text = fs::read_to_string(&known).expect("known hosts");
    let without_second: String =
        text.lines().filter(|line| !line.starts_with("h2,")).map(|line| format!("{line}\n")).collect();
    fs::write(&known, format!("# a comment\n{without_second}")).expect("written");
    lab.change_host_key(1);
    let before: Vec<usize> = (1..=2).map(|i| logins(&lab, i)).collect();
    let (code, words) = status(&lab, &["--known-hosts", &known.to_string_lossy()]);
    assert_eq!(code, Some(4), "{words}");
    let changed = format!("{}:2; it shows SHA256:", known.display());
    assert!(words.contains("h1  unreachable") && words.contains(&changed), "{words}");
    assert!(words.contains("h2  unreachable") && words.contains("no key of 10.77.0.3 is known"), "{words}");
    assert!(words.contains("h3  ok"), "{words}");
    assert!(words.contains("hint:") && words.contains("ssh-keygen -R"), "{words}");
    for i in 1..=2 {
        assert_eq!(logins(&lab, i), before[i - 1], "a login was tried on {}", host_name(i));
        assert_eq!(lab.shell(i, "ls -A /tmp | grep pulpcov || true"), "");
    }
    fs::write(
        &known,
        format!("{text}@revoked * {}", fs::read_to_string(lab.path("keys/h3.pub")).expect("a key")),
    )
    .expect("written");
    let (code, words) = status(&lab, &["--known-hosts", &known.to_string_lossy(), "--limit", "h3"]);
    assert_eq!(code, Some(4), "{words}");
    assert!(words.contains("is revoked by"), "{words}");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn sudo_in_all_its_moods() {
    let lab = Lab::start(1);
    lab.inventory("");
    let known = lab.path("known_hosts").to_string_lossy().into_owned();
    let inventory = fs::read_to_string(lab.path("hosts.yml")).expect("an inventory");
    let as_user = |user: &str| {
        fs::write(
            lab.path("hosts.yml"),
            inventory.replace("ansible_user: deploy", &format!("ansible_user: {user}")),
        )
        .expect("written");
    };
    let (good, bad) = (lab.path("good"), lab.path("bad"));
    fs::write(&good, format!("{SUDO_PASSWORD}\n")).expect("written");
    fs::write(&bad, "wrong\n").expect("written");
    let file = |path: &std::path::Path| path.to_string_lossy().into_owned();

    let (code, words) = status(&lab, &["--known-hosts", &known]);
    assert_eq!(code, Some(0), "{words}");
    // A password that nobody asks for is not sent: it would be taken for a frame.
    let (code, words) = status(&lab, &["--known-hosts", &known, "--become-password-file", &file(&good)]);
    assert_eq!(code, Some(0), "{words}");
    as_user("ops");
    let (code, words) = status(&lab, &["--known-hosts", &known, "--become-password-file", &file(&good)]);
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = status(&lab, &["--known-hosts", &known, "--become-password-file", &file(&bad)]);
    assert!(code == Some(4) && words.contains("sudo refuses the password"), "{words}");
    let (code, words) = status(&lab, &["--known-hosts", &known]);
    assert!(
        code == Some(4) && words.contains("sudo wants a password") && words.contains("--ask-become-pass"),
        "{words}"
    );
    as_user("plain");
    let (code, words) = status(&lab, &["--known-hosts", &known, "--become-password-file", &file(&good)]);
    assert!(code == Some(4) && words.contains("h1  failed"), "{words}");
    as_user("root");
    let (code, words) = status(&lab, &["--known-hosts", &known]);
    assert_eq!(code, Some(0), "{words}");
    as_user("nobody-here");
    let (code, words) = status(&lab, &["--known-hosts", &known]);
    assert!(code == Some(4) && words.contains("permission denied for nobody-here"), "{words}");
    assert!(!words.contains("wrong") && !words.contains(SUDO_PASSWORD));
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_key_with_a_passphrase_and_one_in_ssh_agent() {
    let lab = Lab::start(1);
    lab.inventory("");
    let known = lab.path("known_hosts").to_string_lossy().into_owned();
    let plain_key = lab.path("key");
    // ssh-agent first, with the key as it is.
    let inventory = fs::read_to_string(lab.path("hosts.yml")).expect("an inventory");
    let keyless: String = inventory
        .lines()
        .filter(|line| !line.contains("private_key"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(lab.path("hosts.yml"), &keyless).expect("written");
    let script = format!(
        "eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT; ssh-add -q {}; {} fleet status {} --known-hosts {known}",
        plain_key.display(),
        pulpcov_tests::programs::pulpcov().display(),
        lab.path("hosts.yml").display(),
    );
    let output =
        lab.command("sh").args(["-c", &script]).env("HOME", lab.path("home")).output().expect("sh runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let (code, words) = status(&lab, &["--known-hosts", &known]);
    assert!(code == Some(4) && words.contains("permission denied for deploy"), "{words}");

    let status_of = std::process::Command::new("ssh-keygen")
        .args(["-q", "-p", "-N", "open sesame", "-f"])
        .arg(&plain_key)
        .status()
        .expect("ssh-keygen");
    assert!(status_of.success());
    fs::write(lab.path("hosts.yml"), &inventory).expect("written");
    fs::write(lab.path("word"), "open sesame\n").expect("written");
    let (code, words) =
        status(&lab, &["--known-hosts", &known, "--passphrase-file", &lab.path("word").to_string_lossy()]);
    assert_eq!(code, Some(0), "{words}");
    let (code, words) = status(&lab, &["--known-hosts", &known]);
    assert!(code == Some(2) && words.contains("wants a passphrase") && words.contains("hint: "), "{words}");
}
