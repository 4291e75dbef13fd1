//! `pulpcov fleet install` against the same install by ansible-core with pipelining: wall and client
//! CPU, in turn on the same real hosts. `cargo bench -p pulpcov-tests --bench install`

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use pulpcov_tests::lab::Lab;
use pulpcov_tests::{programs, python, shop};

const HOSTS: usize = 20;
const ROUNDS: usize = 3;

/// CPU and wall of ours, and of theirs.
type Round = ((f64, f64), (f64, f64));

/// Client CPU (all descendants) and wall time of a command that must succeed.
fn timed(command: &mut Command) -> (f64, f64) {
    let cpu = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
        Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds().unsigned_abs())
            .as_secs_f64()
    };
    let (before, begin) = (cpu(), Instant::now());
    let output = command.output().expect("runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (cpu() - before, begin.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let mut out = std::io::stdout();
    let lab = Lab::start(HOSTS);
    lab.inventory("");
    let wheels = python::wheelhouse().to_string_lossy().into_owned();
    let (inventory, known) = (
        lab.path("hosts.yml").to_string_lossy().into_owned(),
        lab.path("known_hosts").to_string_lossy().into_owned(),
    );
    let ours = || {
        lab.pulpcov_command(&[
            "fleet",
            "install",
            &inventory,
            "--known-hosts",
            &known,
            "--wheelhouse",
            &wheels,
        ])
    };
    let theirs = || {
        let mut command = lab.command(python::ansible().join("ansible-playbook"));
        command.args(["-i", &inventory, "-f", "50"]).arg(programs::workspace().join("playbooks/install.yml"));
        for word in [
            format!("pulpcov_agent={}", programs::agent().display()),
            format!("pulpcov_wheelhouse={wheels}"),
            format!("pulpcov_profile={}", shop::profile().display()),
            "pulpcov_restart=false".to_owned(),
        ] {
            command.args(["-e", &word]);
        }
        command
            .env("HOME", lab.path("home"))
            .env("ANSIBLE_PIPELINING", "True")
            .env("ANSIBLE_SSH_COMMON_ARGS", format!("-o UserKnownHostsFile={known}"))
            .env("LC_ALL", "C.UTF-8");
        command
    };
    let undo = || {
        lab.fleet(0, "uninstall", &["--erase-data"]);
        for i in 1..=HOSTS {
            lab.shell(i, "rm -rf /usr/local/lib/pulpcov-agent");
        }
    };
    let mut rows = Vec::new();
    for round in 0..=ROUNDS {
        let first = timed(&mut ours());
        undo();
        let second = timed(&mut theirs());
        undo();
        // The first round only warms the caches.
        if round > 0 {
            rows.push((first, second));
        }
    }
    let column = |pick: fn(&Round) -> f64| median(rows.iter().map(pick).collect());
    let _ = writeln!(out, "install on {HOSTS} hosts, median of {ROUNDS} rounds");
    let _ =
        writeln!(out, "pulpcov  wall {:6.2} s  client CPU {:6.2} s", column(|r| r.0.1), column(|r| r.0.0));
    let _ =
        writeln!(out, "ansible  wall {:6.2} s  client CPU {:6.2} s", column(|r| r.1.1), column(|r| r.1.0));
    let _ = writeln!(
        out,
        "ratio    wall {:6.1}    client CPU {:6.1}",
        column(|r| r.1.1 / r.0.1),
        column(|r| r.1.0 / r.0.0)
    );
}
