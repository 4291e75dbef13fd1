//! The fault matrix: install, collect, reset, uninstall and whole runs on real hosts, while links are
//! cut, processes killed, hosts frozen and rebooted, disks filled, at random moments. A seed is a
//! session; twenty are tested, and any others by `PULPCOV_FAULT_SEEDS=FIRST-LAST`.

mod client;
mod inject;
mod judge;
mod plan;
mod session;

use std::fs::Permissions;
use std::io::Write;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use judge::Judgement;
use plan::plan;
use pulpcov_tests::lab::{Lab, Options};
use pulpcov_tests::tally;
use session::Session;

const HOSTS: usize = 2;

/// Functions that a seed may ask for; the next seed on the same hosts takes others.
const MARKS: usize = tally::MARKS / 3;

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Seeds one after the other, on the same hosts while those come out as they went in.
fn run(seeds: RangeInclusive<u64>) {
    let layer = tempfile::tempdir().expect("a folder");
    // Its attributes become those of the hosts' root.
    std::fs::set_permissions(layer.path(), Permissions::from_mode(0o755)).expect("its mode");
    tally::put_into(layer.path()).expect("the service's files");
    let mut failed = Vec::new();
    let mut lab = None;
    let mut functions = 0;
    let total = seeds.clone().count();
    for seed in seeds {
        let mut hosts = lab.take().unwrap_or_else(|| start(layer.path()));
        let whole = AssertUnwindSafe(|| one(seed, layer.path(), &mut hosts));
        let Judgement { expected, findings } = catch_unwind(whole).unwrap_or_else(|_| Judgement {
            expected: 0,
            findings: vec!["the driver itself failed".to_owned()],
        });
        functions += expected;
        say(&format!(
            "seed {seed}: {}, {expected} functions",
            if findings.is_empty() { "ok" } else { "FAILED" }
        ));
        if findings.is_empty() {
            lab = Some(hosts);
        } else {
            say(&findings.join("\n"));
            failed.push(seed);
        }
    }
    say(&format!("{total} seeds, {} failed {failed:?}, {functions} functions", failed.len()));
    assert!(functions > 0, "nothing was recorded, so nothing could be lost");
    assert!(failed.is_empty(), "seeds {failed:?}");
}

fn start(layer: &std::path::Path) -> Lab {
    let options = Options { layers: vec![layer.to_path_buf()], ..Options::default() };
    let lab = Lab::start_with(HOSTS, &options);
    lab.inventory_of(&tally::profile(), "");
    lab.controller_disk(inject::CONTROLLER_DISK);
    lab
}

fn one(seed: u64, layer: &std::path::Path, lab: &mut Lab) -> Judgement {
    let disk = lab.controller_disk_folder().join(format!("seed{seed}"));
    std::fs::create_dir_all(&disk).expect("a folder");
    let first = usize::try_from(seed % 3).expect("small") * MARKS;
    let steps = plan(seed, HOSTS);
    let mut session = Session::new(lab, HOSTS, layer, disk.clone(), &(first..first + MARKS));
    let is_served = session.wait_for_hosts();
    assert!(
        is_served,
        "no service: {}",
        session.lab.shell(1, "journalctl -u tally-web -n 40 --no-pager -o cat")
    );
    let trees: Vec<_> = (1..=HOSTS).map(|i| session.lab.file_tree(i)).collect();
    for step in &steps {
        session.step(step);
    }
    session.recover();
    let Judgement { expected, findings } = judge::judge(&session, &trees);
    let history = session.done.iter().map(|done| {
        let fault = done.fault.as_ref().map_or_else(|| "no fault".to_owned(), judge::told);
        format!("  {} -> {:?}, {fault}, {:?}", done.words, done.code, done.hosts)
    });
    let history: Vec<_> = history.collect();
    drop(session);
    let _ = std::fs::remove_dir_all(&disk);
    let findings = if findings.is_empty() { findings } else { [history, findings].concat() };
    Judgement { expected, findings }
}

/// The seeds that are asked for, or these.
fn seeds_or(default: RangeInclusive<u64>) -> Option<RangeInclusive<u64>> {
    let Ok(text) = std::env::var("PULPCOV_FAULT_SEEDS") else { return Some(default) };
    let bounds =
        text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let (first, last) = bounds.unwrap_or_else(|| panic!("PULPCOV_FAULT_SEEDS={text}: FIRST-LAST is meant"));
    Some(first..=last).filter(|_| *default.start() == 0)
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn the_first_seeds() {
    if let Some(seeds) = seeds_or(0..=4) {
        run(seeds);
    }
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn seeds_from_5() {
    if let Some(seeds) = seeds_or(5..=9) {
        run(seeds);
    }
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn seeds_from_10() {
    if let Some(seeds) = seeds_or(10..=14) {
        run(seeds);
    }
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn seeds_from_15() {
    if let Some(seeds) = seeds_or(15..=19) {
        run(seeds);
    }
}
