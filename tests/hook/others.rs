//! What is nobody's service stays as it is: pip, and Ansible's modules, under an interpreter with the hook.

use std::process::{Command, Output};

use pulpcov_tests::python;

use super::Place;
use super::state::any_python;

fn pip(place: &Place) -> Output {
    Command::new(&place.python)
        .args(["-m", "pip", "list", "--format", "json", "--disable-pip-version-check"])
        .output()
        .expect("pip runs")
}

/// A module of the real Ansible under that interpreter, as it runs on a host: a zip piped to its stdin.
fn module(place: &Place) -> Output {
    let facts = "setup";
    Command::new(python::ansible().join("ansible"))
        .args(["localhost", "-i", "localhost,", "-c", "local", "-m", facts, "-a", "filter=ansible_python*"])
        .args(["-e", &format!("ansible_python_interpreter={}", place.python.display())])
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", place.work.path())
        .output()
        .expect("ansible runs")
}

/// A short program like those of a package manager: what it imports is what it asked for.
fn modules_of_a_tool(place: &Place) -> Output {
    let tool = place.work.path().join("dnf");
    std::fs::write(
        &tool,
        "import sys\nprint(sorted(m for m in sys.modules if 'coverage' in m or 'sqlite' in m))\n",
    )
    .expect("written");
    Command::new(&place.python).arg(tool).args(["install", "thing-server"]).output().expect("python runs")
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn pip_ansible_and_package_managers_notice_nothing() {
    let place = Place::with_pip(&any_python(), None);
    let all = |place: &Place| {
        [pip(place), module(place), modules_of_a_tool(place)].map(|output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            (
                String::from_utf8_lossy(&output.stdout).into_owned(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )
        })
    };
    let before = all(&place);
    assert_eq!(before[2].0, "[]\n");
    assert_eq!(place.install(false)["failed"], false);
    assert_eq!(all(&place), before);
    let told = place.collect();
    assert_eq!(told["processes"].as_array().map(Vec::len), Some(0), "{told}");
}
