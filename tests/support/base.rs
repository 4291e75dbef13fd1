//! The root image that all hosts of all labs share, read-only: built once for a machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::image::{self, run};

/// sudo's password of the user `ops`.
pub const SUDO_PASSWORD: &str = "lab-sudo-pw";

/// The distribution's release.
pub const RELEASE: &str = "bookworm";

const PACKAGES: &str = "systemd,systemd-sysv,dbus,openssh-server,sudo,python3,python3-venv,python3-flask,\
python3-gunicorn,gunicorn,uwsgi-core,uwsgi-plugin-python3,iproute2,procps,ca-certificates,zsh,fish,tcsh,busybox,opendoas,krb5-kdc,krb5-admin-server,krb5-user,s6,execline";

/// Units that cost time or reach for the machine's devices.
const MASKED: [&str; 23] = [
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-logind.service",
    "console-getty.service",
    "getty@.service",
    "getty.target",
    "systemd-remount-fs.service",
    "systemd-firstboot.service",
    "systemd-resolved.service",
    "systemd-networkd.service",
    "systemd-timesyncd.service",
    "e2scrub_reap.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "e2scrub_all.timer",
    "systemd-update-utmp.service",
    "systemd-journal-flush.service",
    "systemd-hwdb-update.service",
    "systemd-sysusers.service",
    // They want a realm, which only one test has.
    "krb5-kdc.service",
    "krb5-admin-server.service",
];

/// Where the image is, built now if it is not there. Changing this file makes a new one.
pub fn ensure() -> Result<PathBuf> {
    image::ensure_built("base", &[include_bytes!("base.rs").to_vec()], build)
}

/// Where this machine has its packages from.
pub fn mirror() -> Result<String> {
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .output()?;
    String::from_utf8_lossy(&targets.stdout).lines().next().map(str::to_owned).context("apt knows no mirror")
}

fn build(root: &Path) -> Result<()> {
    bootstrap(root, RELEASE, PACKAGES)
}

/// Makes a host's root of a release with those packages, for the lab's users, keys and units.
pub fn bootstrap(root: &Path, release: &str, packages: &str) -> Result<()> {
    run(Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={packages}"), release])
        .arg(root)
        .arg(mirror()?))?;
    let chroot = |words: &[&str]| run(Command::new("chroot").arg(root).args(words));
    for user in ["deploy", "ops", "plain", "shop"] {
        chroot(&["useradd", "-m", "-s", "/bin/bash", user])?;
    }
    chroot(&["sh", "-c", &format!("echo ops:{SUDO_PASSWORD} | chpasswd")])?;
    let write = |path: &str, text: &str, mode: u32| -> Result<()> {
        let path = root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    };
    write("etc/sudoers.d/lab", "deploy ALL=(ALL) NOPASSWD:ALL\nops ALL=(ALL) ALL\n", 0o440)?;
    // Keys lie in one place that the lab fills for each host; the users' homes stay as they are.
    write(
        "etc/ssh/sshd_config.d/lab.conf",
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
         HostKey /etc/ssh/ssh_host_ed25519_key\nAuthorizedKeysFile /etc/ssh/lab_authorized_keys\nUseDNS no\n",
        0o644,
    )?;
    write(
        "etc/systemd/journald.conf.d/lab.conf",
        "[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\nAudit=no\n",
        0o644,
    )?;
    for empty in ["etc/machine-id", "etc/resolv.conf", "etc/fstab"] {
        let _ = fs::remove_file(root.join(empty));
        write(empty, "", 0o644)?;
    }
    let _ = fs::remove_file(root.join("etc/hostname"));
    for unit in MASKED {
        let link = root.join("etc/systemd/system").join(unit);
        let _ = fs::remove_file(&link);
        symlink("/dev/null", link)?;
    }
    for key in fs::read_dir(root.join("etc/ssh"))? {
        let key = key?;
        if key.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(key.path())?;
        }
    }
    Ok(())
}
