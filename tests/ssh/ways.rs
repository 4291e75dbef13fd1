//! The ways to a host: ssh_config, jump hosts, `ProxyCommand`, IPv6, other ports.

use pulpcov_tests::lab::Lab;

use super::{host, hosts, logged, one, place, said, sshd, status, status_command};

/// A second sshd on a host, at an address that only the host itself can reach.
fn inner_sshd(lab: &Lab, i: usize, port: u16) {
    lab.shell(
        i,
        &format!(
            "mkdir -p /run/sshd; /usr/sbin/sshd -o ListenAddress=127.0.0.1:{port} -o Port={port} -o PidFile=none"
        ),
    );
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn what_ssh_config_says_of_a_host_counts() {
    let lab = hosts(2);
    let key = lab.path("key").display().to_string();
    let known = lab.path("known_hosts").display().to_string();
    let more = place(
        &lab,
        "more.conf",
        &format!(
            "Host web*\n  HostName 10.77.0.2\nMatch originalhost db\n  HostName 10.77.0.3\n  HostKeyAlias h2\n\
             Host *\n  IdentityFile \"{key}\"\n  UserKnownHostsFile {known}\n  User deploy\n"
        ),
    );
    let config = place(&lab, "config", &format!("Include {more}\n"));
    let inventory = format!(
        "all:\n  vars: {{ansible_ssh_common_args: -F {config}}}\n  hosts:\n    web1:\n    db:\n    web2: {{ansible_ssh_extra_args: -o HostName=10.77.0.3}}\n"
    );
    let all = format!("-F {config}");
    said(&mut status_command(&lab, &inventory, &["--ssh-common-args", &all]))
        .ends(0, &["web1  ok", "web2  ok", "db    ok"]);
    assert_eq!((logged(&lab, 1, "Accepted publickey for deploy"), logged(&lab, 2, "Accepted")), (1, 2));
    // The inventory's own variables come before what ssh_config says.
    let inventory = inventory.replace("web1:", "web1: {ansible_user: nobody-here}");
    status(&lab, &inventory, &["--ssh-common-args", &all, "--limit", "web1"])
        .ends(4, &["web1  unreachable", "permission denied for nobody-here"]);
    let args = |words: &str| one(&lab, &format!("ansible_ssh_extra_args: '{words}'"));
    status(&lab, &args("-o RemoteCommand=reboot"), &[]).ends(2, &["host h1", "RemoteCommand", "hint: "]);
    status(&lab, &args("-o StrictHostKeyChecking=no"), &[]).ends(2, &["--host-key accept-new"]);
    let revoked = place(&lab, "revoked", "Host *\n  RevokedHostKeys /etc/ssh/revoked\n");
    status(&lab, &args(&format!("-F {revoked}")), &["--ssh", "own"])
        .ends(2, &["host h1", "ssh_config's RevokedHostKeys is not followed here", "hint: "]);
    // OpenSSH's client does follow it.
    status(&lab, &args(&format!("-F {revoked}")), &[]).ends(4, &["h1  unreachable", "/etc/ssh/revoked"]);
    status(&lab, &args("-o Port=x"), &[]).ends(2, &["host h1", "ssh -G does not take that"]);
    status(&lab, &args("-C -o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=5"), &[])
        .ends(0, &["h1  ok"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn two_hops_and_then_an_sshd_that_nobody_else_reaches() {
    let lab = hosts(3);
    inner_sshd(&lab, 3, 2222);
    let key = lab.path("key").display().to_string();
    let known = lab.path("known_hosts").display().to_string();
    let config = place(
        &lab,
        "config",
        &format!(
            "Host gate\n  HostName 10.77.0.2\nHost inner\n  HostName h3\n  ProxyJump gate\n\
             Host *\n  User deploy\n  IdentityFile {key}\n  UserKnownHostsFile {known}\n"
        ),
    );
    lab.shell(1, "echo 10.77.0.4 h3 >> /etc/hosts");
    let through = format!("-F {config} -J inner");
    let deep = host(
        &lab,
        "deep",
        "ansible_host: 127.0.0.1, ansible_port: 2222, ansible_ssh_extra_args: -o HostKeyAlias=h3",
    );
    status(&lab, &deep, &["--ssh-common-args", &through]).ends(0, &["deep  ok"]);
    // The same by a list of hops.
    let through = format!("-F {config} -J deploy@gate:22,h3");
    status(&lab, &deep, &["--ssh-common-args", &through]).ends(0, &["deep  ok"]);
    // A hop whose key is not known gets nothing, and is named.
    let strange = place(&lab, "strange", &super::read(&config).replace(&known, "/dev/null"));
    status(&lab, &deep, &["--ssh-common-args", &format!("-F {strange} -J inner"), "--known-hosts", &known])
        .ends(0, &["deep  ok"]);
    status(&lab, &deep, &["--ssh-common-args", &format!("-F {strange} -J inner")])
        .ends(4, &["deep  unreachable", "jump host inner", "no key of 10.77.0.2 is known"]);
    // One that cannot go further says so.
    let words = format!("-F {config} -J gate");
    let nowhere = deep.replace("2222", "2223");
    status(&lab, &nowhere, &["--ssh-common-args", &words]).ends(4, &["gate", "127.0.0.1 port 2223"]);
    // A config that leads through itself.
    let round = place(&lab, "round", "Host *\n  ProxyJump gate\n");
    status(&lab, &deep, &["--ssh-common-args", &format!("-F {round}")])
        .ends(2, &["circle", "hint: give the jump host itself `ProxyJump none`"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn many_hosts_behind_a_jump_host_share_few_connections() {
    let lab = hosts(2);
    let key = lab.path("key").display().to_string();
    let hosts: String = (1..=40).map(|i| format!("    n{i}: {{ansible_host: 10.77.0.3}}\n")).collect();
    let inventory = format!(
        "all:\n  vars:\n    ansible_user: deploy\n    ansible_ssh_private_key_file: {key}\n    \
         ansible_ssh_common_args: -o ProxyJump=deploy@10.77.0.2 -o IdentityFile={key}\n  hosts:\n{hosts}"
    );
    // The jump host's key is ssh_config's matter, as with ssh itself.
    let config = place(
        &lab,
        "config",
        &format!(
            "Host *\n  IdentityFile {key}\n  UserKnownHostsFile {}\n",
            lab.path("known_hosts").display()
        ),
    );
    sshd(&lab, 2, "MaxStartups 100\\nMaxSessions 100");
    status(&lab, &inventory, &["--ssh-common-args", &format!("-F {config}")]).ends(0, &["40 hosts: 40 ok"]);
    assert_eq!(logged(&lab, 1, "Accepted publickey"), 4);
    assert_eq!(logged(&lab, 2, "Accepted publickey"), 40);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_proxy_command_is_the_way_or_says_why_not() {
    let lab = hosts(2);
    let proxy = format!(
        "ssh -F none -q -i {} -o UserKnownHostsFile={} -W %h:%p deploy@10.77.0.2",
        lab.path("key").display(),
        lab.path("known_hosts").display()
    );
    let by = |command: &str| {
        host(
            &lab,
            "h2",
            &format!(
                "ansible_host: 10.77.0.3, ansible_user: deploy, ansible_ssh_common_args: '-o ProxyCommand=\"{command}\"'"
            ),
        )
    };
    status(&lab, &by(&proxy), &[]).ends(0, &["h2  ok"]);
    assert_eq!(logged(&lab, 1, "Accepted publickey"), 1);
    status(&lab, &by("echo the gate is shut >&2; exit 1"), &[])
        .ends(4, &["h2  unreachable", "the ProxyCommand says: the gate is shut"]);
    status(&lab, &by("no-such-program-anywhere %h"), &[]).ends(4, &["h2  unreachable", "not found"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn addresses_of_version_6_and_other_ports() {
    let lab = hosts(1);
    lab.shell(1, "ip -6 addr add fd77::2/64 dev eth0 nodad");
    let added =
        lab.command("ip").args(["-6", "addr", "add", "fd77::ffff/64", "dev", "br0", "nodad"]).status();
    assert!(added.expect("ip runs").success());
    let public = super::read(lab.path("keys/h1.pub"));
    let known = place(&lab, "six", &format!("fd77::2 {public}[fd77::2]:2200,[10.77.0.2]:2200 {public}\n"));
    lab.shell(1, "/usr/sbin/sshd -p 2200 -o PidFile=none");
    let at = |vars: &str| host(&lab, "h1", &format!("ansible_user: deploy, {vars}"));
    for vars in [
        "ansible_host: 'fd77::2'",
        "ansible_host: 'fd77::2', ansible_port: 2200",
        "ansible_host: 10.77.0.2, ansible_port: '2200'",
        "ansible_host: 10.77.0.2, ansible_ssh_extra_args: -p 2200",
    ] {
        status(&lab, &at(vars), &["--known-hosts", &known]).ends(0, &["h1  ok"]);
    }
    status(&lab, &at("ansible_host: 10.77.0.2"), &["--known-hosts", &known])
        .ends(4, &["no key of 10.77.0.2 is known"]);
    status(&lab, &at("ansible_host: 10.77.0.2, ansible_ssh_common_args: '-6'"), &["--known-hosts", &known])
        .ends(4, &["h1  unreachable"]);
}
