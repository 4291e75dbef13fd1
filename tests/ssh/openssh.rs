//! OpenSSH's own client as the way to hosts: what only it does, and what it must not do less strictly.

use pulpcov_tests::lab::{Lab, Options, host_name};

use super::{host, hosts, key, logged, one, place, read, run, said, sshd, status, status_command};

/// A host that OpenSSH's client leads to.
fn by_client(lab: &Lab, extra: &str) -> String {
    one(lab, &format!("pulpcov_ssh: openssh, {extra}"))
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn the_client_does_what_our_ssh_refuses_and_checks_host_keys_as_strictly() {
    let lab = hosts(2);
    status(&lab, &by_client(&lab, "x: 1"), &[]).ends(0, &["h1  ok"]);
    // What ours refuses goes by the client without a word; `own` says who it is for.
    let odd = one(&lab, "ansible_ssh_extra_args: -o Ciphers=aes192-ctr -o RekeyLimit=1G");
    status(&lab, &odd, &[]).ends(0, &["h1  ok"]);
    status(&lab, &odd, &["--ssh", "own"]).ends(2, &["host h1", "Ciphers", "hint: "]);
    // A connection that is shared outlives its host's command.
    let socket = lab.path("mux").display().to_string();
    let shared = by_client(
        &lab,
        &format!(
            "ansible_ssh_common_args: -o ControlMaster=auto -o ControlPersist=20 -o ControlPath={socket}"
        ),
    );
    let before = logged(&lab, 1, "Accepted publickey for deploy");
    for _ in 0..3 {
        status(&lab, &shared, &[]).ends(0, &["h1  ok"]);
    }
    assert_eq!(logged(&lab, 1, "Accepted publickey for deploy"), before + 1);
    run("ssh", &["-O", "exit", "-o", &format!("ControlPath={socket}"), "10.77.0.2"]);

    // Nobody is let in whose key is not known, whatever the inventory and ssh_config say.
    for args in
        ["-o StrictHostKeyChecking=no", "-o StrictHostKeyChecking=off -o UserKnownHostsFile=/dev/null"]
    {
        status(&lab, &by_client(&lab, &format!("ansible_ssh_extra_args: '{args}'")), &[])
            .ends(2, &["host keys are always checked"]);
    }
    let loose = place(&lab, "loose", "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n");
    status(&lab, &by_client(&lab, "x: 1"), &["--ssh-common-args", &format!("-F {loose}")])
        .ends(4, &["h1  unreachable", "key does not count", "hint: "]);
    let own_file = lab.path("new_hosts").display().to_string();
    status(&lab, &by_client(&lab, "x: 1"), &["--host-key", "accept-new", "--known-hosts", &own_file])
        .ends(0, &["h1  ok"]);
    run("ssh-keygen", &["-F", "10.77.0.2", "-f", &own_file]);
    lab.change_host_key(1);
    status(&lab, &by_client(&lab, "x: 1"), &["--host-key", "accept-new", "--known-hosts", &own_file])
        .ends(4, &["h1  unreachable", "key does not count"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn the_client_names_what_went_wrong_as_our_ssh_does() {
    let lab = hosts(1);
    status(&lab, &by_client(&lab, "ansible_user: nobody-here"), &[])
        .ends(4, &["h1  unreachable", "permission denied", "hint: "]);
    status(&lab, &by_client(&lab, "ansible_port: 2"), &["--retries", "0"])
        .ends(4, &["h1  unreachable", "Connection refused"]);
    status(&lab, &by_client(&lab, "ansible_host: nowhere.invalid"), &["--retries", "0"])
        .ends(4, &["h1  unreachable", "resolve"]);
    // One that is silent is not waited for.
    lab.link_down(1);
    status(
        &lab,
        &by_client(&lab, "x: 1"),
        &["--retries", "0", "--connect-timeout", "1", "--auth-timeout", "1"],
    )
    .ends(4, &["h1  unreachable"]);
    lab.link_up(1);
    status(&lab, &by_client(&lab, "ansible_ssh_executable: /nowhere/ssh"), &[])
        .ends(2, &["host h1", "/nowhere/ssh"]);
    // A program of one's own is used.
    let log = lab.path("asked").display().to_string();
    let wrapper = place(&lab, "my-ssh", &format!("#!/bin/sh\necho \"$@\" >> {log}\nexec ssh \"$@\"\n"));
    run("chmod", &["755", &wrapper]);
    status(&lab, &one(&lab, &format!("ansible_ssh_executable: {wrapper}")), &[]).ends(0, &["h1  ok"]);
    assert!(read(&log).contains("BatchMode=yes"), "{}", read(&log));
    // What the host's sudo has to say is said.
    let ops = by_client(&lab, "ansible_user: ops, ansible_become: true");
    status(&lab, &ops, &[]).ends(4, &["h1  failed", "sudo wants a password"]);
    let good = place(&lab, "sudo-pw", "lab-sudo-pw\n");
    status(&lab, &ops, &["--become-password-file", &good]).ends(0, &["h1  ok"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn the_client_gets_passwords_for_their_host_alone() {
    let lab = hosts(2);
    for i in 1..=2 {
        sshd(&lab, i, "PasswordAuthentication yes\\nKbdInteractiveAuthentication no");
        lab.shell(i, "echo deploy:let-me-in | chpasswd");
    }
    let keyless = |vars: &str| {
        format!(
            "all:\n  hosts:\n    h2: {{pulpcov_ssh: openssh, ansible_host: 10.77.0.3, ansible_user: deploy, {vars}}}\n"
        )
    };
    status(&lab, &keyless("x: 1"), &[]).ends(4, &["h2  unreachable", "permission denied"]);
    let good = place(&lab, "pw", "let-me-in\n");
    let bad = place(&lab, "bad-pw", "wrong-word\n");
    status(&lab, &keyless("x: 1"), &["--connection-password-file", &good]).ends(0, &["h2  ok"]);
    status(&lab, &keyless("ansible_password: let-me-in"), &[]).ends(0, &["h2  ok"]);
    let refused = status(&lab, &keyless("x: 1"), &["--connection-password-file", &bad]);
    refused.ends(4, &["h2  unreachable", "permission denied"]);
    assert!(!refused.words.contains("wrong-word"), "{}", refused.words);
    // A jump host that asks for a password is not given this one, which would open it.
    let known = lab.path("known_hosts").display().to_string();
    let config = place(&lab, "config", &format!("Host *\n  UserKnownHostsFile {known}\n  User deploy\n"));
    status(
        &lab,
        &keyless("ansible_password: let-me-in"),
        &["--ssh-common-args", &format!("-F {config} -J 10.77.0.2"), "--known-hosts", &known],
    )
    .ends(4, &["h2  unreachable", "permission denied"]);
    // Nor an empty one, which would count as a failed login.
    for tried in ["Accepted password", "Failed password"] {
        assert_eq!(logged(&lab, 1, tried), 0, "{tried}");
    }
    // Names by which ssh asks: an alias, and one that older clients cut.
    let aliased = place(&lab, "aliased", &read(&known).replace("10.77.0.3", "alias"));
    status(
        &lab,
        &keyless("ansible_password: let-me-in, ansible_ssh_extra_args: -o HostKeyAlias=alias"),
        &["--known-hosts", &aliased],
    )
    .ends(0, &["h2  ok"]);
    let long = "a_user_whose_name_has_32_letters";
    lab.shell(2, &format!("useradd -m -s /bin/bash {long} && echo {long}:let-me-in | chpasswd && echo '{long} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/long"));
    status(&lab, &keyless(&format!("ansible_password: let-me-in, ansible_user: {long}")), &[])
        .ends(0, &["h2  ok"]);
    // Where `SendEnv *` would send it, there is none.
    let env = lab.path("env").display().to_string();
    let wrapper = place(&lab, "ssh-with-env", &format!("#!/bin/sh\nenv >> {env}\nexec ssh \"$@\"\n"));
    run("chmod", &["755", &wrapper]);
    let by_wrapper = format!("ansible_password: let-me-in, ansible_ssh_executable: {wrapper}");
    status(&lab, &keyless(&by_wrapper), &[]).ends(0, &["h2  ok"]);
    let env = read(&env);
    assert!(env.contains("SSH_ASKPASS=") && !env.contains("let-me-in"), "{env}");
    // A key with a passphrase.
    let locked = key(&lab, "locked");
    run("ssh-keygen", &["-q", "-p", "-P", "", "-N", "open sesame", "-f", &locked]);
    let public = read(format!("{locked}.pub"));
    lab.shell(2, &format!("echo '{}' >> /etc/ssh/lab_authorized_keys", public.trim()));
    let with_key = keyless(&format!("ansible_ssh_private_key_file: {locked}"));
    let phrase = place(&lab, "phrase", "open sesame\n");
    status(&lab, &with_key, &["--passphrase-file", &phrase]).ends(0, &["h2  ok"]);
    status(&lab, &with_key, &[]).ends(4, &["h2  unreachable", "permission denied"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn jump_hosts_are_checked_and_known_as_the_host_is() {
    let lab = hosts(2);
    let known = lab.path("known_hosts").display().to_string();
    let loose = "Host *\n  User deploy\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n";
    let config = place(&lab, "loose", &format!("{loose}  IdentityFile {}\n", lab.path("key").display()));
    let through = format!("-F {config} -J 10.77.0.2");
    let inventory = format!(
        "all:\n  hosts:\n    h2: {{pulpcov_ssh: openssh, ansible_host: 10.77.0.3, ansible_user: deploy, ansible_ssh_private_key_file: {}}}\n",
        lab.path("key").display()
    );
    // What ssh_config says of host keys does not count, and --known-hosts does, on the whole way.
    status(&lab, &inventory, &["--ssh-common-args", &through, "--known-hosts", &known]).ends(0, &["h2  ok"]);
    let of_host =
        read(&known).lines().filter(|line| line.contains("10.77.0.3")).collect::<Vec<_>>().join("\n");
    let half = place(&lab, "half", &format!("{of_host}\n"));
    status(&lab, &inventory, &["--ssh-common-args", &through, "--known-hosts", &half])
        .ends(4, &["h2  unreachable", "key does not count"]);
    status(
        &lab,
        &inventory,
        &["--ssh-common-args", &through, "--known-hosts", &half, "--host-key", "accept-new"],
    )
    .ends(0, &["h2  ok"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn any_command_that_carries_bytes_leads_to_a_host() {
    let lab = Lab::start_with(1, &Options::default());
    let enter = |name: &str| {
        let lab_pid = read(lab.path("lab.pid"));
        format!(
            "all:\n  hosts:\n    {name}: {{pulpcov_exec: [nsenter, -t, '{}', -m, -p, --, {}, \"{{host}}\"]}}\n",
            lab_pid.trim(),
            place(
                &lab,
                "enter",
                &format!(
                    "#!/bin/sh\n[ \"$1\" = {0} ] || {{ echo \"no container $1\" >&2; exit 125; }}\nshift\nexec nsenter -t \"$(cat {1}/host/{0}.pid)\" -a -- \"$@\"\n",
                    host_name(1),
                    lab.path("").display()
                ),
            )
        )
    };
    let inventory = enter("h1");
    run("chmod", &["755", &lab.path("enter").display().to_string()]);
    status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
    assert_eq!(logged(&lab, 1, "Accepted"), 0, "nobody came by SSH");
    status(&lab, &enter("other"), &["--retries", "0"])
        .ends(4, &["other  unreachable", "nsenter: no container other"]);
    let of = |words: &str| format!("all:\n  hosts:\n    h1: {{pulpcov_exec: {words}}}\n");
    status(&lab, &of("[no-such-engine, '{host}']"), &[])
        .ends(4, &["h1  unreachable", "cannot run no-such-engine", "hint: install no-such-engine"]);
    status(&lab, &of("['false']"), &["--retries", "0"])
        .ends(4, &["h1  unreachable", "false: it ended with 1"]);
    status(&lab, &of("[]"), &[]).ends(2, &["host h1", "pulpcov_exec"]);
    status(&lab, &of("['{host}']"), &[]).ends(2, &["host h1", "pulpcov_exec", "hint: "]);
    // What runs but does not speak as a host does.
    status(&lab, &of("[echo]"), &["--retries", "0"]).ends(4, &["h1  failed"]);
    let hurry = ["--retries", "0", "--connect-timeout", "1", "--auth-timeout", "1"];
    status(&lab, &of("[sh, -c, sleep 60]"), &hurry)
        .ends(4, &["h1  unreachable", "no answer by sh within 2 s"]);
    // Ansible's other names of SSH.
    status(
        &lab,
        &host(&lab, "h1", "ansible_connection: paramiko, ansible_host: 10.77.0.2, ansible_user: deploy"),
        &[],
    )
    .ends(0, &["h1  ok"]);
}

/// A realm with its KDC on the first host; the other one has a key in it, and lets `deploy` in by a ticket alone.
fn realm(lab: &Lab) -> String {
    let config = "[libdefaults]\n  default_realm = LAB\n  dns_lookup_kdc = false\n  rdns = false\n  dns_canonicalize_hostname = false\n[realms]\n  LAB = {\n    kdc = 10.77.0.2\n  }\n";
    for i in 1..=2 {
        lab.shell(i, &format!("printf '{}' > /etc/krb5.conf", config.replace('\n', "\\n")));
    }
    lab.shell(
        1,
        "kdb5_util create -s -r LAB -P master >/dev/null && krb5kdc && \
         kadmin.local -q 'addprinc -pw ticket deploy' && kadmin.local -q 'addprinc -randkey host/h2' && \
         kadmin.local -q 'ktadd -k /tmp/h2.keytab host/h2'",
    );
    let keytab = lab.shell(1, "base64 -w0 /tmp/h2.keytab");
    lab.shell(2, &format!("echo {keytab} | base64 -d > /etc/krb5.keytab; chmod 600 /etc/krb5.keytab"));
    sshd(lab, 2, "GSSAPIAuthentication yes\\nPubkeyAuthentication no");
    let ticket =
        lab.shell(1, "echo ticket | kinit -c /tmp/ticket deploy >/dev/null && base64 -w0 /tmp/ticket");
    let cache = lab.path("ticket");
    let script = format!("echo {ticket} | base64 -d > {}", cache.display());
    run("sh", &["-c", &script]);
    place(lab, "krb5.conf", config);
    format!("FILE:{}", cache.display())
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_kerberos_ticket_is_enough_where_the_client_has_it() {
    let lab = hosts(2);
    let cache = realm(&lab);
    let known = place(&lab, "kerberos_hosts", &read(lab.path("known_hosts")));
    let inventory = "all:\n  hosts:\n    h2: {ansible_user: deploy, ansible_ssh_common_args: -o GSSAPIAuthentication=yes}\n";
    // The name of the host's principal is the name that it is called by.
    let hosts_file = place(&lab, "hosts", "127.0.0.1 localhost\n10.77.0.3 h2\n");
    let ask = |client: &str, cache: &str| {
        let mut command = status_command(&lab, inventory, &["--ssh", client, "--known-hosts", &known]);
        command.env("KRB5CCNAME", cache).env("KRB5_CONFIG", lab.path("krb5.conf"));
        command
    };
    let with_names = |command: &std::process::Command| {
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let script = format!("mount --bind {hosts_file} /etc/hosts && exec {}", words.join(" "));
        let mut wrapped = std::process::Command::new("unshare");
        wrapped.args(["-m", "--", "sh", "-c", &script]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        wrapped.current_dir(command.get_current_dir().expect("a folder"));
        wrapped
    };
    said(&mut with_names(&ask("openssh", &cache))).ends(0, &["h2  ok"]);
    assert_eq!(logged(&lab, 2, "Accepted gssapi-with-mic for deploy"), 1);
    said(&mut with_names(&ask("openssh", "FILE:/nowhere")))
        .ends(4, &["h2  unreachable", "permission denied"]);
    said(&mut with_names(&ask("own", &cache))).ends(4, &["h2  unreachable", "permission denied"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_key_in_a_token_opens_a_host() {
    let lab = hosts(1);
    let tokens = lab.path("tokens");
    std::fs::create_dir(&tokens).expect("a folder");
    let config = place(&lab, "softhsm.conf", &format!("directories.tokendir = {}\n", tokens.display()));
    let pem = lab.path("token.pem").display().to_string();
    let hsm = |words: &[&str]| {
        let output = std::process::Command::new("softhsm2-util")
            .args(words)
            .env("SOFTHSM2_CONF", &config)
            .output()
            .expect("softhsm2-util runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("ssh-keygen", &["-q", "-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "", "-f", &pem]);
    hsm(&["--init-token", "--free", "--label", "lab", "--so-pin", "0000", "--pin", "1234"]);
    hsm(&["--import", &pem, "--token", "lab", "--label", "lab", "--id", "01", "--pin", "1234"]);
    let public = read(format!("{pem}.pub"));
    std::fs::remove_file(&pem).expect("it was there");
    lab.shell(1, &format!("echo '{}' > /etc/ssh/lab_authorized_keys", public.trim()));
    let inventory = "all:\n  hosts:\n    h1: {ansible_host: 10.77.0.2, ansible_user: deploy, ansible_ssh_extra_args: -o PKCS11Provider=/usr/lib/softhsm/libsofthsm2.so}\n";
    let pin = place(&lab, "pin", "1234\n");
    let with = |words: &[&str]| {
        let mut command = status_command(&lab, inventory, words);
        said(command.env("SOFTHSM2_CONF", &config))
    };
    with(&["--passphrase-file", &pin]).ends(0, &["h1  ok"]);
    with(&[]).ends(4, &["h1  unreachable", "permission denied"]);
    with(&["--ssh", "own"]).ends(2, &["host h1", "PKCS11Provider"]);
}
