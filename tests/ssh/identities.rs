//! Who one is to a host: keys, certificates, ssh-agent, passwords, questions.

use pulpcov_tests::lab::Lab;

use super::{Said, hosts, key, logged, one, place, read, run, said, sshd, status, status_command};

/// What sshd logs of a password that is wrong, by either method.
const FAILED: &str = "Failed password\\|error: PAM: Authentication failure";

/// An inventory of one host that names no key.
fn keyless(vars: &str) -> String {
    format!("all:\n  hosts:\n    h1: {{ansible_host: 10.77.0.2, ansible_user: deploy, {vars}}}\n")
}

/// `fleet status` beside an ssh-agent that holds what `ssh-add` was given.
fn with_agent(lab: &Lab, held: &[&str], inventory: &str, words: &[&str]) -> Said {
    let command = status_command(lab, inventory, words);
    let quoted: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let adds: String = held.iter().map(|key| format!("ssh-add -q {key}; ")).collect();
    let script =
        format!("eval $(ssh-agent) >/dev/null; trap 'kill $SSH_AGENT_PID' EXIT; {adds}{}", quoted.join(" "));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).env("HOME", lab.path("home")).env("CI", "true");
    said(&mut shell)
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_certificate_opens_what_its_key_alone_does_not() {
    let lab = hosts(1);
    let authority = key(&lab, "authority");
    let user = key(&lab, "user");
    lab.shell(1, &format!("echo '{}' > /etc/ssh/users.pub", read(lab.path("authority.pub")).trim()));
    sshd(&lab, 1, "TrustedUserCAKeys /etc/ssh/users.pub");
    let inventory = keyless(&format!("ansible_ssh_private_key_file: {user}"));
    let public = format!("{user}.pub");
    status(&lab, &inventory, &[]).ends(4, &["permission denied for deploy", "(tried: key "]);
    run("ssh-keygen", &["-q", "-s", &authority, "-I", "nightly", "-n", "deploy", &public]);
    status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
    assert_eq!(logged(&lab, 1, "ID nightly"), 1);
    // By a file of its own, by ssh-agent, and of another time.
    let certificate = lab.path("elsewhere.pub").to_string_lossy().into_owned();
    std::fs::rename(lab.path("user-cert.pub"), &certificate).expect("renamed");
    let named = keyless(&format!(
        "ansible_ssh_private_key_file: {user}, ansible_ssh_extra_args: -o CertificateFile={certificate}"
    ));
    status(&lab, &named, &[]).ends(0, &["h1  ok"]);
    std::fs::rename(&certificate, lab.path("user-cert.pub")).expect("renamed");
    with_agent(&lab, &[&user], &keyless(""), &[]).ends(0, &["h1  ok"]);
    run(
        "ssh-keygen",
        &["-q", "-s", &authority, "-I", "old", "-n", "deploy", "-V", "20200101:20200201", &public],
    );
    status(&lab, &inventory, &[]).ends(4, &["permission denied for deploy", "certificate \"old\""]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn ssh_agent_gives_the_keys_that_are_meant() {
    let lab = hosts(1);
    let good = lab.path("key").to_string_lossy().into_owned();
    let others: Vec<String> = (1..=7).map(|i| key(&lab, &format!("other{i}"))).collect();
    let mut held: Vec<&str> = others.iter().map(String::as_str).collect();
    held.push(&good);
    // sshd takes six tries: with eight keys in ssh-agent, the right one must be named.
    with_agent(&lab, &held, &keyless(""), &[]).ends(4, &["permission denied for deploy"]);
    let only = format!("ansible_ssh_common_args: -o IdentitiesOnly=yes -o IdentityFile={good}.pub");
    with_agent(&lab, &held, &keyless(&only), &[]).ends(0, &["h1  ok"]);
    // What ssh-agent holds needs no passphrase here.
    let locked = format!("{good}.locked");
    std::fs::copy(&good, &locked).expect("copied");
    run("ssh-keygen", &["-q", "-p", "-N", "open sesame", "-f", &locked]);
    let inventory = keyless(&format!("ansible_ssh_private_key_file: {locked}"));
    with_agent(&lab, &[&good], &inventory, &[]).ends(0, &["h1  ok"]);
    status(&lab, &inventory, &[]).ends(2, &["wants a passphrase", "hint: "]);
    let word = place(&lab, "word", "open sesame\n");
    status(&lab, &inventory, &["--passphrase-file", &word]).ends(0, &["h1  ok"]);
    let word = place(&lab, "word", "wrong\n");
    status(&lab, &inventory, &["--passphrase-file", &word]).ends(2, &["the passphrase is wrong"]);
    // An ssh-agent that is gone is no reason to fail.
    let mut command = status_command(&lab, &one(&lab, ""), &[]);
    said(command.env("SSH_AUTH_SOCK", lab.path("nothing"))).ends(0, &["h1  ok"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_password_is_tried_once_by_the_method_that_the_host_takes() {
    let lab = hosts(1);
    lab.shell(1, "echo deploy:let-me-in | chpasswd");
    let good = place(&lab, "good", "let-me-in\n");
    let bad = place(&lab, "bad", "wrong-word\n");
    for (settings, method) in [
        ("PasswordAuthentication yes", "password"),
        ("PasswordAuthentication no\\nKbdInteractiveAuthentication yes", "keyboard-interactive"),
    ] {
        lab.shell(1, "rm -f /etc/ssh/sshd_config.d/a.conf");
        sshd(&lab, 1, settings);
        status(&lab, &keyless(""), &["--connection-password-file", &good]).ends(0, &["h1  ok"]);
        status(&lab, &keyless("ansible_password: let-me-in"), &[]).ends(0, &["h1  ok"]);
        assert_eq!(logged(&lab, 1, &format!("Accepted {method}")), 2, "{method}");
        let failed = logged(&lab, 1, FAILED);
        let refused = status(&lab, &keyless(""), &["--connection-password-file", &bad]);
        refused.ends(4, &["h1  unreachable", "permission denied for deploy", &format!("(tried: {method})")]);
        assert!(!refused.words.contains("wrong-word"), "{}", refused.words);
        assert_eq!(logged(&lab, 1, FAILED), failed + 1, "{method}");
    }
    // Asking takes a terminal; without one, the way out is named.
    status(&lab, &keyless(""), &["--ask-pass"]).ends(2, &["--connection-password-file"]);
    let only_keys = keyless(
        "ansible_password: let-me-in, ansible_ssh_common_args: -o PreferredAuthentications=publickey",
    );
    status(&lab, &only_keys, &[]).ends(4, &["permission denied for deploy"]);
}
