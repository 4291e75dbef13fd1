//! Round trips of a visit to one installed host: what a long line adds to it, by the length of the line.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Instant;

use pulpcov_tests::lab::{Lab, host_address};
use pulpcov_tests::programs;

use crate::measured::median;

/// Round trip time of the long line.
const RTT: f64 = 0.1;

const PORT: u16 = 10_022;

const ROUNDS: usize = 5;

/// Round trips of `fleet status`, with the agent on the host and without.
pub(crate) fn count(lab: &Lab) -> [f64; 2] {
    [true, false].map(|warm| {
        let [short, long] = [0.0, RTT].map(|rtt| {
            let mut proxy = proxy(lab, rtt / 2.0);
            let walls = (0..ROUNDS).map(|_| visit(lab, warm)).collect();
            let _ = proxy.kill();
            let _ = proxy.wait();
            median(walls)
        });
        (long - short) / RTT
    })
}

/// Seconds of one visit through the proxy.
fn visit(lab: &Lab, warm: bool) -> f64 {
    if !warm {
        lab.shell(1, "rm -rf /tmp/.pulpcov-*");
    }
    let inventory = lab.path("hosts.yml").to_string_lossy().into_owned();
    let key = std::fs::read_to_string(lab.path("keys/h1.pub")).expect("a key");
    std::fs::write(lab.path("proxied"), format!("[127.0.0.1]:{PORT} {key}")).expect("written");
    let known = lab.path("proxied").to_string_lossy().into_owned();
    let args = format!("-o HostName=127.0.0.1 -p {PORT}");
    let words =
        ["fleet", "status", &inventory, "--limit", "h1", "--known-hosts", &known, "--ssh-common-args", &args];
    let mut command = lab.pulpcov_command(&words);
    let begin = Instant::now();
    let output = command.output().expect("pulpcov runs");
    let wall = begin.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    wall
}

fn proxy(lab: &Lab, seconds: f64) -> Child {
    let script = programs::workspace().join("tests/bench/fleet/delay.py");
    let mut child = lab
        .command("python3")
        .arg(script)
        .args([PORT.to_string(), host_address(1), "22".to_owned(), seconds.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its stdout")).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    child
}
