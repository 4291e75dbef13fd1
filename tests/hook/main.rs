//! The hook under every Python that this machine has, in throw-away environments.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pulpcov_tests::{programs, python};
use serde_json::{Value, json};
use tempfile::TempDir;

mod compaction;
mod early_signals;
mod exact;
mod greenlets;
mod kills;
mod layouts;
mod live;
mod loss;
mod map_file;
mod others;
mod releases;
mod state;
mod threads;

const VERSIONS: [&str; 9] = ["3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"];

fn agent(verb: &str, args: &Value) -> Value {
    let mut child = Command::new(programs::agent())
        .args([verb, "--json", "--args", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the agent runs");
    child.stdin.take().expect("piped").write_all(args.to_string().as_bytes()).expect("written");
    let output = child.wait_with_output().expect("ends");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

struct Place {
    work: TempDir,
    python: PathBuf,
    wheels: Option<PathBuf>,
}

impl Place {
    /// coverage.py comes from a folder of wheels.
    fn new(python: &Path) -> Self {
        Self::made(python, Some(python::synced_wheelhouse()))
    }

    /// The environment has its Python's pip, by which coverage.py comes where `wheels` is none.
    fn with_pip(python: &Path, wheels: Option<PathBuf>) -> Self {
        let place = Self::made(python, wheels);
        let site = python::site_folder(&place.work.path().join("venv"));
        let copied = Command::new("cp").arg("-a").arg(python::pip_of(python).join(".")).arg(site).status();
        assert!(copied.expect("cp runs").success());
        place
    }

    fn made(python: &Path, wheels: Option<PathBuf>) -> Self {
        let work = tempfile::tempdir().expect("a folder");
        let venv = work.path().join("venv");
        let made = Command::new(python)
            .args(["-m", "venv", "--without-pip"])
            .arg(&venv)
            .output()
            .expect("venv runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let package = work.path().join("app/thing");
        fs::create_dir_all(&package).expect("a folder");
        fs::write(package.join("__init__.py"), "").expect("written");
        fs::write(package.join("main.py"), "import os, sys, threading\n\ndef worker():\n    return 1\n\ndef child():\n    x = 2\n    return x\n\ndef run(how):\n    t = threading.Thread(target=worker)\n    t.start()\n    t.join()\n    pid = os.fork()\n    if pid == 0:\n        child()\n        os._exit(0)\n    os.waitpid(pid, 0)\n    if how == 'exec':\n        os.execv(sys.executable, [sys.executable, '-c', 'pass'])\n    if how == 'badexec':\n        try:\n            os.execv('/nowhere', ['x'])\n        except OSError:\n            after = 1\n").expect("written");
        fs::write(work.path().join("app/thing-server"), "import sys, os\nsys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\nfrom thing import main\nmain.run(sys.argv[1])\n").expect("written");
        Self { python: venv.join("bin/python"), work, wheels }
    }

    fn install(&self, branch: bool) -> Value {
        agent("install", &self.install_words(branch))
    }

    fn install_words(&self, branch: bool) -> Value {
        json!({
            "lib_root": self.work.path().join("lib"),
            "data_root": self.work.path().join("data"),
            "interpreters": [self.python],
            "wheelhouse": self.wheels,
            "profile": {
                "name": "thing",
                "packages": ["thing"],
                "processes": [{"role": "server", "program": ["thing-server"], "children": "child"}],
                "branch": branch,
                "interval": 60,
            },
        })
    }

    fn collect(&self) -> Value {
        agent("status", &json!({"lib_root": self.work.path().join("lib")}))["pulpcov"].clone()
    }

    fn run(&self, how: &str) -> Output {
        Command::new(&self.python)
            .arg(self.work.path().join("app/thing-server"))
            .arg(how)
            .output()
            .expect("python runs")
    }

    /// Lines of main.py that each process recorded, by role and how it ended.
    fn lines(&self) -> Vec<(String, Vec<u64>)> {
        let status = self.collect();
        let mut found = Vec::new();
        for process in status["processes"].as_array().expect("processes") {
            let Some(data) = process["data"].as_str() else { continue };
            let path = self.work.path().join("data").join(data);
            let data = pulpcov_data_file::data_file::read_path(&path).expect("a data file");
            let kind = data.kind().expect("measured");
            let lines =
                data.files.iter().filter(|(name, _)| name.ends_with("main.py")).flat_map(|(_, file)| {
                    match file.all(kind) {
                        pulpcov_data_file::data::Measured::Lines(lines) => lines.iter().collect::<Vec<_>>(),
                        pulpcov_data_file::data::Measured::Arcs(arcs) => arcs.lines().iter().collect(),
                    }
                });
            found.push((process["role"].as_str().expect("role").to_owned(), lines.map(u64::from).collect()));
        }
        found.sort();
        found
    }
}

/// Install (with its self-test), threads, forks, `_exit`, exec, uninstall: on every Python there is.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn every_python_records_threads_forks_and_exits() {
    let mut tried = 0;
    for version in VERSIONS {
        let Some(python) = python::of_version(version) else {
            // Named in the summary; a version that is not on this machine is not proven here.
            let _ =
                writeln!(std::io::stderr(), "skipped: hook on Python {version}, which this machine has not");
            continue;
        };
        tried += 1;
        let place = Place::with_pip(&python, None);
        for branch in [false, true] {
            let outcome = place.install(branch);
            assert_eq!(outcome["failed"], false, "{version} {branch}: {outcome}");
            assert_eq!(place.install(branch)["changed"], false, "{version}");
            let output = place.run("plain");
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{version}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let lines = place.lines();
            assert_eq!(lines.len(), 2, "{version}: {lines:?}");
            let (child, server) = (&lines[0], &lines[1]);
            assert_eq!((child.0.as_str(), server.0.as_str()), ("child", "server"));
            assert!(
                child.1.contains(&7) && child.1.contains(&8) && !child.1.contains(&4),
                "{version} {branch}: {child:?}"
            );
            assert!(
                server.1.contains(&4) && server.1.contains(&18) && !server.1.contains(&7),
                "{version} {branch}: {server:?}"
            );
            assert!(place.run("badexec").status.success());
            assert!(place.run("exec").status.success());
            let all = place.lines();
            assert!(
                all.iter().any(|(_, lines)| lines.contains(&25)),
                "{version}: after a failed exec: {all:?}"
            );
            assert!(all.iter().any(|(_, lines)| lines.contains(&20)), "{version}: before an exec: {all:?}");
            let outcome =
                agent("uninstall", &json!({"lib_root": place.work.path().join("lib"), "erase_data": true}));
            assert_eq!(outcome["failed"], false, "{version}: {outcome}");
            assert!(
                !place.work.path().join("lib").exists() && !place.work.path().join("data").exists(),
                "{version}"
            );
        }
    }
    assert!(tried > 0, "no Python at all");
}

/// Broken in every way, the hook is silent and the service runs.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_broken_hook_never_reaches_the_service() {
    let place = state::place();
    let mut words = place.install_words(false);
    words["profile"]["processes"][0]["program"] = json!(["thing-server", "quiet-server"]);
    assert_eq!(agent("install", &words)["failed"], false);
    fs::write(place.work.path().join("app/quiet-server"), "print('served')\n").expect("written");
    let lib = place.work.path().join("lib");
    let fine = |what: &str| {
        let output = place.run("plain");
        assert!(
            output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(),
            "{what}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let recorder = lib.join("hook/_pulpcov_recorder.py");
    let text = fs::read_to_string(&recorder).expect("the recorder");
    fs::write(&recorder, "raise SystemError('broken')\n").expect("written");
    fine("a recorder that raises");
    fs::write(&recorder, text).expect("written");
    // What the recorder imports may be a module of the service's own folder, which ends the program.
    let shadows = place.work.path().join("shadows");
    fs::create_dir(&shadows).expect("a folder");
    for name in ["sqlite3", "json", "coverage", "threading"] {
        let shadow = shadows.join(format!("{name}.py"));
        fs::write(&shadow, "raise SystemExit(3)\n").expect("written");
        let output = Command::new(&place.python)
            .arg(place.work.path().join("app/quiet-server"))
            .env("PYTHONPATH", &shadows)
            .output()
            .expect("python runs");
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
            (Some(0), "served\n"),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::remove_file(&shadow).expect("removed");
    }
    fs::rename(place.work.path().join("data"), place.work.path().join("gone")).expect("renamed");
    fine("no data directory");
    fs::rename(place.work.path().join("gone"), place.work.path().join("data")).expect("renamed");
    let coverage = fs::read_dir(&lib)
        .expect("lists")
        .map(|e| e.expect("entry").path())
        .find(|p| p.to_string_lossy().contains("coverage-"))
        .expect("coverage");
    fs::rename(&coverage, lib.join("elsewhere")).expect("renamed");
    fine("no coverage.py");
    assert!(
        place.collect()["processes"].to_string().contains("cannot start coverage"),
        "the ledger knows it"
    );
    fs::rename(lib.join("elsewhere"), &coverage).expect("renamed");
    fs::rename(&lib, place.work.path().join("nolib")).expect("renamed");
    fine("nothing at all");
}

/// The gate's own judgement, word by word.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn the_gate_takes_the_service_and_nothing_else() {
    let gate = fs::read_to_string(programs::workspace().join("agent/hook/gate.py")).expect("the gate");
    let script = gate
        .replace("@SWITCH@", "None")
        .replace(
            "@RULES@",
            "[('web', ('gunicorn',), 'shop'), ('worker', ('shop-worker', 'shop.worker'), None)]",
        )
        .replace("@UNITS@", "['shop-*@*.service', 'devpi.service', 'x?.service', '*b*c*.service']")
        .replace("@CHILDREN@", "{'worker': 'job'}")
        .replace("@COVERAGE@", "{}")
        .replace("@HOOK@", "'/nowhere'")
        .replace("@CONFIG@", "{}");
    let profile: pulpcov_protocol::profile::Profile = serde_json::from_value(json!({
    "name": "shop", "packages": ["shop"], "processes": [
        {"role": "web", "program": ["gunicorn"], "argument": "shop"},
        {"role": "worker", "program": ["shop-worker", "shop.worker"], "children": "job"},
    ]}))
    .expect("a profile");
    let cases = json!([
        [["python3", "/usr/bin/gunicorn", "shop.web:app"], null, "web"],
        [["python3", "-m", "gunicorn", "shop.web:app"], null, "web"],
        [["python3", "-I", "-W", "ignore", "/usr/bin/gunicorn", "-b", ":1", "shop.web"], null, "web"],
        [["python3", "-sm", "shop.worker"], null, "worker"],
        [["python3", "-mshop.worker"], null, "worker"],
        [["python3", "-Wignore::DeprecationWarning", "-Xdev", "/opt/shop-worker"], null, "worker"],
        [["python3", "-OX", "importtime", "-u", "/opt/shop-worker"], null, "worker"],
        [["python3", "-Ic", "import x", "/opt/shop-worker"], null, null],
        [["python3", "/usr/bin/gunicorn", "other.web:app"], null, null],
        [["python3", "/usr/bin/pip", "install", "gunicorn", "shop"], null, null],
        [["python3", "-m", "pip", "install", "gunicorn", "shop"], null, null],
        [["python3", "-c", "import shop", "gunicorn"], null, null],
        [["python3"], null, null],
        [[], null, null],
        [
            [
                "python3",
                "-c",
                "from multiprocessing.spawn import spawn_main; spawn_main()",
                "--multiprocessing-fork"
            ],
            "worker",
            "job"
        ],
        [["python3", "-c", "from multiprocessing.spawn import spawn_main"], null, null],
        [["python3", "/usr/bin/gpg-helper"], "worker", null],
    ]);
    // The agent judges from outside what the gate judged inside: the same, but for the inherited variable.
    for case in cases.as_array().expect("cases") {
        let argv: Vec<String> = serde_json::from_value(case[0].clone()).expect("words");
        if !argv.iter().any(|word| word.contains("multiprocessing")) {
            assert_eq!(
                profile.role_of(&argv, "/usr/bin/python3.11", "").as_deref(),
                case[2].as_str(),
                "{argv:?}"
            );
        }
    }
    assert_eq!(profile.role_of(&["(wsgi:x".into()], "/usr/sbin/shop-worker", "").as_deref(), Some("worker"));
    // A process of a unit that no rule fits.
    let units = json!([
        ["shop-worker@2.service", "shop-worker"],
        ["shop-.service", null],
        ["devpi.service", "devpi"],
        ["devpi.service.service", null],
        ["adevpi.service", null],
        ["x1.service", "x1"],
        ["abbc.service", "abbc"],
        ["acb.service", null],
        ["b\\x2dc.service", "b_x2dc"],
        ["session-3.scope", null],
        [null, null],
    ]);
    for unit in units.as_array().expect("units").iter().filter(|unit| !unit[1].is_null()) {
        let name = unit[0].as_str().expect("a name");
        assert_eq!(Some(&*pulpcov_protocol::profile::role_of_unit(name)), unit[1].as_str());
    }
    let program = format!(
        "{script}\nimport json\nfor argv, marker, wanted in json.loads({:?}):\n    got = role_of(argv, '/usr/bin/python3.11', marker)\n    assert got == wanted, (argv, marker, got, wanted)\nassert role_of(['shop-worker', 'x'], '/usr/sbin/uwsgi', None) == 'worker'\nassert role_of(['(wsgi:x'], '/usr/sbin/shop-worker', None) == 'worker'\n\
         for unit, wanted in json.loads({:?}):\n    got = role_of_unit(unit)\n    assert got == wanted, (unit, got, wanted)\n",
        cases.to_string(),
        units.to_string()
    );
    let output = Command::new("python3").args(["-c", &program]).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
