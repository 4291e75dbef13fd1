//! Faults, made on real hosts and taken back.

use pulpcov_tests::lab::Lab;

use crate::plan::{Fault, Kind};

/// Enough for any run directory of a seed.
pub(crate) const CONTROLLER_DISK: u64 = 200_000;

const SITE: &str = "/usr/local/lib/python3.11/dist-packages";

/// Runs a script on a host that may be in no state to run it.
fn try_shell(lab: &Lab, host: usize, script: &str) {
    lab.on(host, &["sh", "-c", script]);
}

/// Makes the fault. Those of the controller's process are its session's to make.
pub(crate) fn begin(lab: &Lab, fault: &Fault) {
    let host = fault.host;
    match fault.kind {
        Kind::Link => lab.link_down(host),
        Kind::Sshd => try_shell(lab, host, "pkill -KILL sshd"),
        Kind::Agent => try_shell(lab, host, "pkill -KILL -f '[.]pulpcov-'"),
        Kind::Freeze => lab.freeze(host),
        Kind::Reboot => try_shell(lab, host, "systemctl reboot -ff"),
        Kind::Service => {
            try_shell(lab, host, "systemctl kill --signal=KILL --kill-whom=all tally-web.service");
        }
        Kind::DiskFull => lab.fill_disk(host, 0),
        Kind::NoInodes => lab.take_inodes(host),
        Kind::ReadOnly(folder) => {
            try_shell(
                lab,
                host,
                &format!("mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"),
            );
        }
        Kind::ControllerDisk => lab.resize_controller_disk(1),
        Kind::Clock(hours) => try_shell(lab, host, &format!("echo {} > /var/lib/shop/clock", hours * 3600)),
        Kind::SitePackages => try_shell(
            lab,
            host,
            &format!(
                "[ -d {SITE} ] && mkdir {SITE}.new && chown --reference={SITE} {SITE}.new && \
                 chmod --reference={SITE} {SITE}.new && mv {SITE} {SITE}.old && mv {SITE}.new {SITE} && \
                 rm -rf {SITE}.old; systemctl restart tally-web.service"
            ),
        ),
        Kind::Controller | Kind::Terminate | Kind::Second(_) => {}
    }
}

/// gunicorn cannot start without room for a file of its own, and systemd does not try for ever.
fn start_again(lab: &Lab, host: usize) {
    try_shell(
        lab,
        host,
        "systemctl is-failed -q tally-web && systemctl reset-failed tally-web && systemctl start tally-web",
    );
}

/// Takes it back, as whoever looks after the host would.
pub(crate) fn end(lab: &Lab, fault: &Fault) {
    let host = fault.host;
    match fault.kind {
        Kind::Link => lab.link_up(host),
        Kind::Sshd => try_shell(lab, host, "systemctl reset-failed ssh; systemctl restart ssh"),
        Kind::Freeze => lab.thaw(host),
        Kind::DiskFull => {
            lab.empty_disk(host);
            start_again(lab, host);
        }
        Kind::NoInodes => {
            lab.give_inodes(host);
            start_again(lab, host);
        }
        Kind::ReadOnly(folder) => try_shell(lab, host, &format!("umount -l {folder}")),
        Kind::ControllerDisk => lab.resize_controller_disk(CONTROLLER_DISK),
        Kind::Clock(_) => try_shell(lab, host, "rm -f /var/lib/shop/clock"),
        Kind::Agent
        | Kind::Reboot
        | Kind::Service
        | Kind::Controller
        | Kind::Terminate
        | Kind::Second(_)
        | Kind::SitePackages => {}
    }
}
