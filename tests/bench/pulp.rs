//! What recording costs a real Pulp: CPU of all processes of the API and of the content app for the same
//! requests without a recorder, with plain coverage.py, and with pulpcov, in turn.
//! `cargo bench -p pulpcov-tests --bench pulp`

use std::io::Write;

use pulpcov_tests::lab::Lab;
use pulpcov_tests::{plain, pulp, python};

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
    Plain,
    Pulpcov,
}

const RECORDERS: [Recorder; 3] = [Recorder::Nothing, Recorder::Plain, Recorder::Pulpcov];

fn switch_on(lab: &Lab, recorder: Recorder) {
    match recorder {
        Recorder::Nothing => pulp::restart(lab),
        Recorder::Plain => plain::install(lab),
        Recorder::Pulpcov => {
            let wheels = python::wheelhouse().to_string_lossy().into_owned();
            lab.fleet(0, "install", &["--wheelhouse", &wheels, "--restart"]);
        }
    }
}

fn switch_off(lab: &Lab, recorder: Recorder) {
    match recorder {
        Recorder::Nothing => {}
        Recorder::Plain => plain::uninstall(lab),
        Recorder::Pulpcov => {
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
    let mut out = std::io::stdout();
    let mut lab = pulp::start();
    pulp::inventory(&lab);
    publish(&lab);
    // Round by round: seconds of CPU by load and recorder.
    let mut rounds: Vec<[[f64; 3]; 2]> = Vec::new();
    for round in 0..ROUNDS {
        let mut figures = [[0.0; 3]; 2];
        for (r, recorder) in RECORDERS.into_iter().enumerate() {
            switch_on(&lab, recorder);
            pulp::wait_until_online(&mut lab);
            for (l, (_, unit, url)) in LOADS.iter().enumerate() {
                request(&lab, url, WARM_UP);
                let before = cpu(&lab, unit);
                request(&lab, url, REQUESTS);
                figures[l][r] = cpu(&lab, unit) - before;
            }
            switch_off(&lab, recorder);
        }
        let _ = writeln!(out, "round {}: {figures:?}", round + 1);
        rounds.push(figures);
    }
    let _ = writeln!(
        out,
        "CPU of all processes of the unit, ms a request; median of {ROUNDS} rounds of {REQUESTS}"
    );
    for (l, (name, ..)) in LOADS.iter().enumerate() {
        let ms = |r: usize| median(rounds.iter().map(|round| round[l][r] * 1000.0 / f64::from(REQUESTS)));
        let saved = median(rounds.iter().map(|round| 100.0 * (1.0 - round[l][2] / round[l][1])));
        let _ = writeln!(
            out,
            "{name:14}  nothing {:6.2}  coverage.py {:6.2}  pulpcov {:6.2}  pulpcov costs {saved:.0} % less than coverage.py",
            ms(0),
            ms(1),
            ms(2)
        );
    }
}
