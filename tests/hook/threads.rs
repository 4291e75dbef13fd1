//! Threads that are gone, and what of them is still held.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use pulpcov_tests::python;
use serde_json::json;

use crate::{Place, agent};

/// An exception of a dead thread holds its frames, and with them its tracer, until the main thread drops it.
const KEPT: &str = "\
import sys
from concurrent.futures import ThreadPoolExecutor

def fetch():
    print('here', flush=True)
    sys.stdin.readline()
    raise ValueError('x')

def job():
    with ThreadPoolExecutor(2) as pool:
        future = pool.submit(fetch)
    return future.exception() is not None

def late():
    return 'late'

def run(how):
    job()
    return late()
";

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn what_a_dead_thread_leaves_behind_ends_no_recording() {
    let python = python::of_version("3.11").expect("Python 3.11");
    let place = Place::new(&python);
    fs::write(place.work.path().join("app/thing/main.py"), KEPT).expect("written");
    assert_eq!(place.install(false)["failed"], false);
    let mut server = Command::new(&place.python)
        .arg(place.work.path().join("app/thing-server"))
        .arg("plain")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut said = String::new();
    BufReader::new(server.stdout.take().expect("piped")).read_line(&mut said).expect("reads");
    assert_eq!(said, "here\n");
    // The flusher looks at the tracers while the thread lives.
    let flushed = agent("flush", &json!({"lib_root": place.work.path().join("lib"), "timeout": 30}));
    assert_eq!(flushed["pulpcov"]["acked"].as_array().map(Vec::len), Some(1), "{flushed}");
    server.stdin.take().expect("piped").write_all(b"\n").expect("written");
    assert!(server.wait().expect("ends").success());
    let lines = &place.lines()[0].1;
    assert!([11, 12, 15, 18, 19].iter().all(|line| lines.contains(line)), "{lines:?}");
}

/// A disk that takes its time over what the flusher writes, until the service has forked.
const SLOW_DISK: &str = "\
import os, threading, time

GO, MAIN, WAITED = threading.Event(), threading.get_ident(), []
real, began = os.fsync, []

def fsync(fd):
    if threading.get_ident() != MAIN:
        began.append(fd)
        WAITED.append(GO.wait(4))
    return real(fd)

def run(how):
    os.fsync = fsync
    print('here', flush=True)
    while not began:
        time.sleep(0.01)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    GO.set()
    os.waitpid(pid, 0)
    while not WAITED:
        time.sleep(0.01)
    print('forked meanwhile' if WAITED[0] else 'the fork waited', flush=True)
";

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_fork_does_not_wait_for_the_disk() {
    let python = python::of_version("3.11").expect("Python 3.11");
    let place = Place::new(&python);
    fs::write(place.work.path().join("app/thing/main.py"), SLOW_DISK).expect("written");
    assert_eq!(place.install(false)["failed"], false);
    let mut server = Command::new(&place.python)
        .arg(place.work.path().join("app/thing-server"))
        .arg("plain")
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut said = BufReader::new(server.stdout.take().expect("piped")).lines();
    assert_eq!(said.next().expect("a line").expect("reads"), "here");
    agent("flush", &json!({"lib_root": place.work.path().join("lib"), "timeout": 30}));
    assert_eq!(said.next().expect("a line").expect("reads"), "forked meanwhile");
    assert!(server.wait().expect("ends").success());
    let lines: Vec<_> = place.lines().into_iter().flat_map(|(_, lines)| lines).collect();
    assert!([13, 19, 20, 24].iter().all(|line| lines.contains(line)), "{lines:?}");
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn the_record_of_a_failed_exec_says_that_the_process_lives() {
    let python = python::of_version("3.11").expect("Python 3.11");
    let place = Place::new(&python);
    let server = "import json, os, sys, time\nsys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\n\
                  try:\n    os.execv('/nowhere', ['x'])\nexcept OSError:\n    pass\n\
                  ledger = sys.argv[1]\nname = [n for n in os.listdir(ledger) if n.startswith('proc.')][0]\n\
                  print(json.load(open(os.path.join(ledger, name)))['ended'])\n";
    fs::write(place.work.path().join("app/thing-server"), server).expect("written");
    assert_eq!(place.install(false)["failed"], false);
    let ledger = place.work.path().join("data/.pulpcov");
    let output = place.run(&ledger.to_string_lossy());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "None", "{output:?}");
}
