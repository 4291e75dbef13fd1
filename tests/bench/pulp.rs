//! What recording costs a real Pulp: CPU of all processes of the API and of the content app for the same requests, without
//! a recorder, with plain coverage.py, and with pulpcov, in turn.
//! `cargo bench -p pulpcov-tests --bench pulp`; with `-- --live` under a Python that has a live map.

use std::io::Write;

use pulpcov_tests::lab::Lab;
use pulpcov_tests::{plain, pulp, python, pythons};

const ROUNDS: usize = 5;
const WARM_UP: u32 = 60;
const REQUESTS: u32 = 400;

/// Clock ticks a second, as Linux reports them to programs.
const TICKS: f64 = 100.0;

const LOADS: [(&str, &str, &str); 2] = [
    ("GET /status/", "pulpcore-api", "http://10.77.0.2:24817/pulp/api/v3/status/"),
    ("GET of a file", "pulpcore-content", "http://10.77.0.2:24816/pulp/content/bench/1.iso"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Recorder {
    Nothing,
    Plain(plain::Settings),
    Pulpcov { recorder: &'static str, branch: bool },
}

/// What is compared, the way without a recorder first.
fn recorders(is_live: bool) -> Vec<(&'static str, Recorder)> {
    let ours = |recorder, branch| Recorder::Pulpcov { recorder, branch };
    if !is_live {
        let usual = Recorder::Plain(plain::USUAL);
        return vec![
            ("nothing", Recorder::Nothing),
            ("coverage.py", usual),
            ("pulpcov", ours("auto", false)),
        ];
    }
    let plain = |core, branch| Recorder::Plain(plain::Settings { python: pythons::BUILT, core, branch });
    vec![
        ("nothing", Recorder::Nothing),
        ("live map, lines", ours("live-map", false)),
        ("live map, branches", ours("live-map", true)),
        ("coverage.py ctrace, lines", plain("ctrace", false)),
        ("coverage.py ctrace, branches", plain("ctrace", true)),
        ("coverage.py sysmon, lines", plain("sysmon", false)),
    ]
}

fn switch_on(lab: &Lab, recorder: Recorder) {
    match recorder {
        Recorder::Nothing => pulp::restart(lab),
        Recorder::Plain(settings) => plain::install(lab, settings),
        Recorder::Pulpcov { recorder, branch } => {
            let wheels = python::synced_wheelhouse().to_string_lossy().into_owned();
            // The worker of the RPM layout has no live map, and no load either.
            lab.write_inventory(&format!(
                "all:\n  vars: {{pulpcov_profile: pulp3, pulpcov_recorder: {recorder}, pulpcov_branch: {branch}}}\n  \
                 children:\n    front:\n      hosts: {{h1: {{}}}}\n"
            ));
            lab.fleet(0, "install", &["--wheelhouse", &wheels, "--restart"]);
        }
    }
}

fn switch_off(lab: &Lab, recorder: Recorder) {
    match recorder {
        Recorder::Nothing => {}
        Recorder::Plain(settings) => plain::uninstall(lab, settings),
        Recorder::Pulpcov { .. } => {
            lab.fleet(0, "uninstall", &["--erase-data"]);
        }
    }
}

/// User and system CPU of all processes of a unit, so far.
fn cpu(lab: &Lab, unit: &str) -> f64 {
    let script = format!(
        "for pid in $(cat /sys/fs/cgroup/system.slice/{unit}.service/cgroup.procs); do cut -d')' -f2- /proc/$pid/stat; done | awk '{{n += $12 + $13}} END {{print n}}'"
    );
    lab.shell(pulp::FRONT, &script).trim().parse::<f64>().expect("ticks") / TICKS
}

fn request(lab: &Lab, url: &str, count: u32) {
    lab.shell(pulp::FRONT, &format!("ab -q -n {count} -c 2 {url} | grep -q 'Failed requests:        0'"));
}

/// A distribution with one file in it, for the content app.
fn publish(lab: &Lab) {
    pulp::exercise(lab, 1);
    lab.shell(
        pulp::FRONT,
        "api=http://10.77.0.2:24817; name=$(ls /shared/fixture | head -1); \
         d=$(curl -sf -u admin:password \"$api/pulp/api/v3/distributions/file/file/?name=$name\" | jq -r '.results[0].pulp_href'); \
         curl -sf -u admin:password -X PATCH -H 'Content-Type: application/json' -d '{\"base_path\": \"bench\"}' $api$d >/dev/null; \
         for i in $(seq 100); do curl -sf -o /dev/null http://10.77.0.2:24816/pulp/content/bench/1.iso && exit 0; sleep 0.2; done; exit 1",
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let is_live = std::env::args().any(|word| word == "--live");
    let mut out = std::io::stdout();
    let mut lab = if is_live {
        pulp::start_live().expect("a Python with a live map on this machine")
    } else {
        pulp::start()
    };
    let recorders = recorders(is_live);
    publish(&lab);
    // Round by round: ms of CPU a request, by recorder and load.
    let mut rounds: Vec<Vec<[f64; 2]>> = Vec::new();
    for round in 0..ROUNDS {
        let mut figures = Vec::new();
        for &(name, recorder) in &recorders {
            switch_on(&lab, recorder);
            pulp::wait_until_online(&mut lab);
            let ms = LOADS.map(|(_, unit, url)| {
                request(&lab, url, WARM_UP);
                let before = cpu(&lab, unit);
                request(&lab, url, REQUESTS);
                (cpu(&lab, unit) - before) * 1000.0 / f64::from(REQUESTS)
            });
            switch_off(&lab, recorder);
            let _ = writeln!(out, "round {}, {name}: {ms:.2?} ms a request", round + 1);
            figures.push(ms);
        }
        rounds.push(figures);
    }
    let _ = writeln!(out, "\nCPU of all processes of the unit; medians of {ROUNDS} rounds of {REQUESTS}\n");
    for (l, (load, ..)) in LOADS.iter().enumerate() {
        let ms = |r: usize| median(rounds.iter().map(|round| round[r][l]));
        let _ = writeln!(out, "| {load} | ms a request | against nothing |\n|---|---|---|");
        for (r, (name, _)) in recorders.iter().enumerate() {
            let _ = writeln!(out, "| {name} | {:.2} | {:+.0} % |", ms(r), (ms(r) / ms(0) - 1.0) * 100.0);
        }
    }
}
