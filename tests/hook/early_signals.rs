//! Signals that come while a process is being born.

use std::fs;

use pulpcov_tests::python;

use crate::Place;

/// On one core the parent goes on first, and what is done right behind the fork comes before the child has run at all.
const STOPPED_AT_ONCE: &str = "\
import os, signal, time

stopping = []

def stop():
    if stopping:
        with open('/proc/self/task/%d/children' % os.getpid()) as children:
            os.kill(int(children.read().split()[-1]), signal.SIGTERM)

def run(how):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    os.register_at_fork(after_in_parent=stop)
    lost = 0
    stopping.append(True)
    for _ in range(25):
        pid = os.fork()
        if pid == 0:
            time.sleep(1)
            os._exit(7)
        lost += not os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    stopping.clear()
    pid = os.fork()
    if pid == 0:
        os._exit(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    print(lost, os.waitpid(pid, 0)[1], signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
";

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_child_that_is_stopped_before_it_has_begun_is_stopped() {
    let python = python::of_version("3.11").expect("Python 3.11");
    let place = Place::new(&python);
    fs::write(place.work.path().join("app/thing/main.py"), STOPPED_AT_ONCE).expect("written");
    assert_eq!(place.install(false)["failed"], false);
    let output = place.run("plain");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0 0 False", "lost, and what stays blocked");
}
