//! Root by sudo, doas and su, with passwords from everywhere but the command line.

use pulpcov_tests::base::SUDO_PASSWORD;

use super::{hosts, one, place, said, status, status_command};

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_password_comes_from_a_file_a_descriptor_or_the_environment() {
    let lab = hosts(1);
    let inventory = one(&lab, "ansible_become: true").replace("deploy", "ops");
    let file = place(&lab, "word", &format!("{SUDO_PASSWORD}\n"));
    status(&lab, &inventory, &["--become-password-file", &file]).ends(0, &["h1  ok"]);
    let mut by_descriptor = status_command(&lab, &inventory, &["--become-password-file", "/dev/fd/0"]);
    said(by_descriptor.stdin(std::fs::File::open(&file).expect("opens"))).ends(0, &["h1  ok"]);
    let mut by_variable = status_command(&lab, &inventory, &["--become-password-env", "NIGHT_WORD"]);
    said(by_variable.env("NIGHT_WORD", SUDO_PASSWORD)).ends(0, &["h1  ok"]);
    status(&lab, &inventory, &["--become-password-env", "NO_SUCH_WORD"]).ends(2, &["NO_SUCH_WORD"]);
    status(&lab, &inventory, &["--ask-become-pass"]).ends(2, &["--become-password-file"]);
    status(
        &lab,
        &inventory
            .replace("become: true", &format!("become: true, ansible_become_password: {SUDO_PASSWORD}")),
        &[],
    )
    .ends(0, &["h1  ok"]);
    lab.shell(1, "echo 'Defaults:deploy requiretty' > /etc/sudoers.d/tty");
    status(&lab, &one(&lab, "ansible_become: true"), &[])
        .ends(4, &["h1  failed", "sudo wants a terminal (requiretty)", "Defaults:USER !requiretty"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn sudo_runs_the_agent_on_a_terminal_of_its_own() {
    let lab = hosts(1);
    lab.shell(
        1,
        "printf 'Defaults use_pty\\nDefaults log_output\\nDefaults lecture=always\\n' > /etc/sudoers.d/pty",
    );
    status(&lab, &one(&lab, "ansible_become: true"), &[]).ends(0, &["h1  ok"]);
    let file = place(&lab, "word", &format!("{SUDO_PASSWORD}\n"));
    let inventory = one(&lab, "ansible_become: true").replace("deploy", "ops");
    status(&lab, &inventory, &["--become-password-file", &file]).ends(0, &["h1  ok"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn doas_and_su() {
    let lab = hosts(1);
    let doas = one(&lab, "ansible_become: true, ansible_become_method: community.general.doas");
    lab.shell(1, "echo 'permit nopass deploy' > /etc/doas.conf");
    status(&lab, &doas, &[]).ends(0, &["h1  ok"]);
    status(&lab, &one(&lab, ""), &["--become", "--become-method", "doas"]).ends(0, &["h1  ok"]);
    lab.shell(1, "echo 'permit deploy' > /etc/doas.conf");
    status(&lab, &doas, &[]).ends(4, &["h1  failed", "doas wants a password", "permit nopass"]);
    lab.shell(1, "echo 'permit nopass ops' > /etc/doas.conf");
    status(&lab, &doas, &[]).ends(4, &["deploy may not use doas there"]);
    lab.shell(1, "mv /usr/bin/doas /usr/bin/not-here");
    status(&lab, &doas, &[]).ends(4, &["there is no doas on that host"]);

    lab.shell(1, "echo root:root-word | chpasswd");
    let su = one(&lab, "ansible_become: true, ansible_become_method: su");
    let (good, bad) = (place(&lab, "good", "root-word\n"), place(&lab, "bad", "wrong-word\n"));
    status(&lab, &su, &["--become-password-file", &good]).ends(0, &["h1  ok"]);
    let refused = status(&lab, &su, &["--become-password-file", &bad]);
    refused.ends(4, &["h1  failed", "su refuses the password"]);
    assert!(!refused.words.contains("wrong-word"), "{}", refused.words);
    status(&lab, &su, &[]).ends(4, &["su wants a password", "--ask-become-pass"]);
    // A host whose words are not English.
    lab.shell(1, "printf 'LANG=de_DE.UTF-8\\n' > /etc/default/locale");
    status(&lab, &su, &["--become-password-file", &good]).ends(0, &["h1  ok"]);
    let sudo = one(&lab, "ansible_become: true, ansible_become_exe: /opt/sudo");
    status(&lab, &sudo, &[]).ends(4, &["there is no /opt/sudo on that host"]);
    status(&lab, &one(&lab, "ansible_become: true, ansible_become_method: runas"), &[])
        .ends(2, &["ansible_become_method", "runas"]);
}
