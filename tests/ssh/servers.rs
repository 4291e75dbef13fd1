//! Servers that take little, and accounts that may not come in.

use super::{hosts, one, sshd, status};

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_server_of_few_algorithms_is_spoken_to_in_those_or_told_which_are_wanted() {
    let lab = hosts(1);
    let inventory = one(&lab, "");
    for setting in [
        "KexAlgorithms ecdh-sha2-nistp521",
        "Ciphers aes128-gcm@openssh.com",
        "Ciphers aes256-ctr\\nMACs hmac-sha1",
        "Ciphers aes128-ctr\\nMACs hmac-sha1-etm@openssh.com",
    ] {
        lab.shell(1, "rm -f /etc/ssh/sshd_config.d/a.conf");
        sshd(&lab, 1, setting);
        status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
    }
    lab.shell(1, "rm -f /etc/ssh/sshd_config.d/a.conf");
    sshd(&lab, 1, "KexAlgorithms sntrup761x25519-sha512@openssh.com");
    status(&lab, &inventory, &["--retries", "0"]).ends(
        4,
        &[
            "h1  unreachable",
            "no key exchange in common: the host has sntrup761x25519-sha512@openssh.com",
            "pulpcov has mlkem768",
        ],
    );
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn an_account_that_may_not_log_in_is_told_in_the_hosts_own_words() {
    let lab = hosts(1);
    let inventory = one(&lab, "");
    lab.shell(1, "echo 'closed for stocktaking until noon' > /run/nologin");
    status(&lab, &inventory, &[])
        .ends(4, &["h1  unreachable", "the host says: ", "closed for stocktaking until noon"]);
    lab.shell(1, "rm /run/nologin; chage -E 2001-01-01 deploy");
    let said = status(&lab, &inventory, &[]);
    said.ends(4, &["h1  unreachable", "the host says: ", "account has expired"]);
    lab.shell(1, "chage -E -1 deploy");
    status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
}
