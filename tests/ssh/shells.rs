//! Login shells of every kind, and hosts where the usual places and programs are not to be had.

use super::{hosts, one, status};

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn every_login_shell_starts_the_agent() {
    let lab = hosts(1);
    let shells = [
        ("bash", "/bin/bash"),
        ("dash", "/bin/dash"),
        ("zsh", "/bin/zsh"),
        ("fish", "/usr/bin/fish"),
        ("tcsh", "/bin/tcsh"),
        ("busy", "/usr/local/bin/ash"),
    ];
    lab.shell(1, "printf '#!/bin/sh\\nexec /bin/busybox sh \"$@\"\\n' > /usr/local/bin/ash; chmod 755 /usr/local/bin/ash");
    for (user, shell) in shells {
        lab.shell(
            1,
            &format!("useradd -m -s {shell} u-{user}; echo 'u-{user} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/u-{user}"),
        );
        // What people have in their start-up files.
        lab.shell(1, &format!("for f in .bashrc .zshrc .cshrc .profile .zshenv .config/fish/config.fish; do mkdir -p ~u-{user}/.config/fish; echo 'echo Welcome to the host' >> ~u-{user}/$f; done"));
        for root in ["false", "true"] {
            let inventory =
                one(&lab, &format!("ansible_become: {root}")).replace("deploy", &format!("u-{user}"));
            status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
        }
        let cached = lab.shell(1, &format!("ls /tmp/.pulpcov-$(id -u u-{user})"));
        assert_eq!(cached.lines().count(), 1, "{user}: {cached}");
    }
    // A shell that prints without end, and one that lets nobody in.
    lab.shell(1, "printf '#!/bin/sh\\nyes noise\\n' > /usr/local/bin/noisy; chmod 755 /usr/local/bin/noisy; useradd -m -s /usr/local/bin/noisy u-noisy; useradd -m -s /usr/sbin/nologin u-none");
    let by = |user: &str| one(&lab, "").replace("deploy", user);
    status(&lab, &by("u-noisy"), &[]).ends(4, &["h1  failed", "prints too much"]);
    status(&lab, &by("u-none"), &[]).ends(4, &["h1  failed", "This account is currently not available"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn places_that_take_no_program_are_passed_over() {
    let lab = hosts(1);
    let inventory = one(&lab, "");
    let agents =
        |place: &str| lab.shell(1, &format!("find {place} -path '*/.pulpcov-*' -type f 2>/dev/null || true"));
    lab.shell(1, "mount -t tmpfs -o noexec,mode=1777 none /tmp");
    // Nor is a place made: it would stay when all else is put back.
    status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
    lab.shell(1, "test ! -e /home/deploy/.cache");
    assert_eq!((agents("/tmp").lines().count(), agents("/var/tmp").lines().count()), (0, 1));
    lab.shell(1, "rm -rf /var/tmp/.pulpcov-*; install -d -o deploy -m 700 /home/deploy/.cache");
    status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
    assert_eq!((agents("/tmp").lines().count(), agents("/home/deploy/.cache").lines().count()), (0, 1));
    // A folder that somebody else has put there is not ours.
    lab.shell(1, "umount /tmp; rm -rf /home/deploy/.cache/.pulpcov-*; u=$(id -u deploy); install -d -o plain -m 777 /tmp/.pulpcov-$u; ln -s /tmp/.pulpcov-$u /home/deploy/.cache/.pulpcov-$u");
    status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
    assert_eq!((agents("/tmp").lines().count(), agents("/var/tmp").lines().count()), (0, 1));
    lab.shell(1, "rm -rf /var/tmp/.pulpcov-*; for f in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o noexec,mode=1777 none $f; done; chmod 500 /home/deploy/.cache; chown root /home/deploy/.cache; rm -f /home/deploy/.cache/.pulpcov-*; chown root /home/deploy; chmod 555 /home/deploy");
    // Only memory is left, which its Python leads to.
    status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
    lab.shell(1, "for f in /usr/bin/python3*; do chmod 700 $f; done");
    status(&lab, &inventory, &[])
        .ends(4, &["h1  failed", "none of these folders takes a program and runs it: /tmp"]);
    for place in ["/tmp", "/var/tmp", "/dev/shm"] {
        assert_eq!(lab.shell(1, &format!("ls -A {place}")), "", "{place}");
    }
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn the_agent_is_told_from_others_by_whatever_can_tell() {
    let lab = hosts(1);
    let inventory = one(&lab, "");
    let script = "printf '#!/bin/sh\\nexit 127\\n' > /usr/local/bin/no; chmod 755 /usr/local/bin/no; rm -rf /tmp/.pulpcov-*";
    lab.shell(1, script);
    // Each time one more of them is gone.
    for gone in ["sha256sum", "shasum", "openssl", "busybox"] {
        lab.shell(1, &format!("for f in $(which -a {gone}); do cp --remove-destination /usr/local/bin/no $f; done; rm -rf /tmp/.pulpcov-*"));
        status(&lab, &inventory, &[]).ends(0, &["h1  ok"]);
        let twice = status(&lab, &inventory, &[]);
        twice.ends(0, &["h1  ok"]);
    }
}
