//! The lab itself: it must not outlive its test, however that ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pulpcov_tests::programs;

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_lab_dies_with_its_owner_also_on_sigkill() {
    let mut owner = Command::new(programs::lab())
        .args(["hold", "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the lab starts");
    let mut line = String::new();
    BufReader::new(owner.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let pid = std::fs::read_to_string(line.trim()).expect("the lab runs");
    // PID 1 of the lab; the kernel ends everything in its PID namespace with it.
    let lab = Path::new("/proc").join(pid.trim());
    assert!(lab.exists());
    owner.kill().expect("dies");
    owner.wait().expect("ends");
    let begin = Instant::now();
    while lab.exists() {
        assert!(begin.elapsed() < Duration::from_secs(20), "the lab outlives its owner");
        std::thread::yield_now();
    }
}
