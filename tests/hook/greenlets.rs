//! Where greenlet is installed, coverage.py keeps a call stack a greenlet: signals, arcs and memory with that.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use pulpcov_data_file::data::Measured;
use pulpcov_data_file::data_file;
use pulpcov_data_file::lines::Arc;
use pulpcov_tests::python;

use crate::{Place, VERSIONS};

/// Two greenlets that take turns in the middle of their loops.
const TURNS: &str = "\
import greenlet

def left(n):
    for i in range(n):
        if i % 2:
            other.switch(i)
    return n

def right(n):
    while n < 4:
        n = one.switch()
        if n is None:
            break
    return n

one, other = greenlet.greenlet(left), greenlet.greenlet(right)
one.switch(6)
";

/// A handler that raises in the middle of calls, a hundred times; then twenty thousand greenlets.
const SERVER: &str = r#"
import os, resource, signal, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import greenlet
from thing import turns

class Due(Exception):
    pass

def due(number, frame):
    raise Due

def step(n):
    return n + 1

def steps(n):
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    give_up = time.time() + 20
    while time.time() < give_up:
        n = step(n)

def until_due():
    try:
        steps(0)        # a loop of its own: Python 3.13 forgets the handler for a loop's jump
    except Due:
        return
    sys.exit("what a signal handler raised was swallowed")

def many(count):
    for n in range(count):
        greenlet.greenlet(step).switch(n)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

if sys.argv[1] == "all":
    signal.signal(signal.SIGALRM, due)
    for n in range(100):
        until_due()
    thread = threading.Thread(target=many, args=(3,))
    thread.start()
    thread.join()
    import weakref
    assert weakref.WeakKeyDictionary.__module__ == "weakref"
    many(1000)
    before = peak()
    many(20000)
    print(peak() - before)
"#;

fn succeeded(output: &Output, what: &str) {
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn arcs_of_turns(data: &Path) -> Vec<Arc> {
    let data = data_file::read_path(data).expect("a data file");
    let kind = data.kind().expect("measured");
    let file = data.files.iter().find(|(name, _)| name.ends_with("turns.py")).expect("turns.py").1;
    let Measured::Arcs(arcs) = file.all(kind) else { panic!("no arcs") };
    arcs.iter().collect()
}

/// What every core records, each in arcs of its own: lines that ran, and where the lines of branches went.
fn lines_and_ways(arcs: &[(i32, i32)]) -> (BTreeSet<i32>, BTreeSet<(i32, i32)>) {
    const BRANCHES: [i32; 3] = [4, 5, 10];
    let lines = arcs.iter().flat_map(|(from, to)| [*from, *to]).filter(|line| *line > 0);
    let ways = arcs.iter().copied().filter(|(from, to)| from != to && BRANCHES.contains(from));
    (lines.collect(), ways.collect())
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn greenlets_lose_no_signal_no_arc_and_no_memory() {
    // The versions that this machine has not are named by the test of every Python.
    for (version, python) in VERSIONS.iter().filter_map(|v| Some((v, python::of_version(v)?))) {
        let place = Place::with_pip(&python, Some(python::synced_wheelhouse()));
        let pip = Command::new(&place.python)
            .args(["-m", "pip", "install", "-q", "greenlet", "coverage"])
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            .output()
            .expect("pip runs");
        assert!(pip.status.success(), "{version}: {}", String::from_utf8_lossy(&pip.stderr));
        let app = place.work.path().join("app");
        fs::write(app.join("thing/turns.py"), TURNS).expect("written");
        fs::write(app.join("thing-server"), SERVER).expect("written");
        let peer = place.work.path().join("peer");
        let run = Command::new(&place.python)
            .args(["-m", "coverage", "run", "--branch", "--concurrency=greenlet", "--include=*/thing/*"])
            .args(["thing-server", "turns"])
            .env("COVERAGE_FILE", &peer)
            .env("COVERAGE_CORE", "ctrace")
            .current_dir(&app)
            .output()
            .expect("python runs");
        succeeded(&run, version);

        assert_eq!(place.install(true)["failed"], false, "{version}");
        let run = place.run("all");
        succeeded(&run, version);
        let grown: u64 = String::from_utf8_lossy(&run.stdout).trim().parse().expect("KiB");
        // coverage.py's own stacks would be 20 MB.
        assert!(grown < 4096, "{version}: 20,000 greenlets took {grown} KiB");
        let status = place.collect();
        let data = status["processes"][0]["data"].as_str().expect("a data file");
        let recorded = arcs_of_turns(&place.work.path().join("data").join(data));
        assert_eq!(lines_and_ways(&recorded), lines_and_ways(&arcs_of_turns(&peer)), "{version}");
    }
}
