//! The whole of `fleet` on this machine, by the way `local`: no root, no network, throw-away folders and environments.
//!
//! It wants a Python at hand with `venv`, and the coverage.py that pulpcov pins for it: installed, in a wheel that an
//! earlier run kept, or from a package index that pip reaches at once. Where there is none, each test is ignored, and a
//! line `skipped: ...` says why.

mod at_hand;
mod hosts;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use hosts::Hosts;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

fn main() {
    let arguments = Arguments::from_args();
    let missing = at_hand::agents().and_then(|_| at_hand::wheels()).err();
    if let Some(reason) = missing.as_ref().filter(|_| !arguments.list) {
        let _ = writeln!(std::io::stderr(), "skipped: a fleet on this machine: {reason}");
    }
    let trial = |name: &str, test: fn()| {
        let run = move || -> Result<(), Failed> {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(missing.is_some())
    };
    let trials = vec![
        trial("a_fleet_of_two_folders_from_install_to_uninstall", from_install_to_uninstall),
        trial("the_report_is_that_of_coverage_py_at_hand", the_report_is_coverage_pys),
        trial("each_way_for_a_process_to_end_leaves_what_it_ran", ways_to_end),
        trial("an_install_that_fails_leaves_nothing", a_failed_install),
        trial("a_run_in_one_command", a_run_in_one_command),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn from_install_to_uninstall() {
    let hosts = Hosts::new(&["one", "two"]);
    hosts.fleet(0, "doctor", &[]);
    hosts.install();
    let again = hosts.fleet(0, "install", &["--wheelhouse", &at_hand::wheels().expect("wheels")]);
    assert!(again.said.contains("2 hosts: 2 ok, 0 failed, 0 unreachable"), "{}", again.said);
    let (one, two) = (hosts.serve("one"), hosts.serve("two"));
    one.get("/price/tea");
    two.get("/price/tea/members");
    two.get("/recommend/20");
    let status = hosts.fleet(0, "status", &["--json"]);
    let status: Value = serde_json::from_str(&status.wrote).expect("JSON");
    for host in ["one", "two"] {
        let processes = status["hosts"][host]["status"]["processes"].as_array().expect("processes");
        assert_eq!(processes.iter().filter(|process| process["state"] == "live").count(), 3, "{status}");
    }
    hosts.fleet(0, "collect", &["-o", "run"]);
    hosts.fleet(0, "reset", &["--label", "second"]);
    one.get("/recommend/9");
    drop((one, two));
    hosts.fleet(0, "collect", &["-o", "run"]);
    let table = hosts.pulpcov(
        0,
        &["report", "run", "--require-complete", "--json", "report.json", "--text", "-", "--html", "html"],
    );
    assert!(table.wrote.contains("kiosk/menu.py"), "{}", table.wrote);
    let report = hosts.json("report.json");
    let ran = |host: &str| -> BTreeSet<u64> {
        let lines = &report["hosts"][host]["files"]["kiosk/menu.py"]["executed_lines"];
        lines.as_array().expect("lines").iter().filter_map(Value::as_u64).collect()
    };
    let alone = |host: &str, other: &str| ran(host).difference(&ran(other)).copied().collect::<Vec<_>>();
    assert_eq!((alone("one", "two"), alone("two", "one")), (vec![17], vec![11, 18, 20]));
    assert!(report["labels"].as_object().expect("labels").contains_key("second"));
    assert!(hosts.path("html/index.html").is_file());
    let diff = hosts.pulpcov(0, &["diff", "host:one", "host:two", "--run", "run"]);
    assert!(diff.wrote.contains("kiosk/menu.py"), "{}", diff.wrote);
    hosts.fleet(0, "uninstall", &[]);
    hosts.are_as_before();
}

fn the_report_is_coverage_pys() {
    let hosts = Hosts::new(&["one"]);
    hosts.install();
    let one = hosts.serve("one");
    for path in ["/price/tea/members", "/price/nothing", "/recommend/12", "/order/brew/3", "/order/bake/0"] {
        one.ask(path);
    }
    drop(one);
    hosts.fleet(0, "collect", &["-o", "run"]);
    hosts.pulpcov(0, &["report", "run", "--json", "ours.json"]);
    let theirs = hosts.coverage_json("run");
    let ours = hosts.json("ours.json");
    let files = theirs["files"].as_object().expect("files");
    assert!(files.len() >= 4, "{files:?}");
    for (name, file) in files {
        assert_eq!(&ours["files"][name], file, "{name}");
    }
    hosts.fleet(0, "uninstall", &["--erase-data"]);
}

/// Programs of the profile's that end in their own ways; each must leave the line of its function.
fn ways_to_end() {
    let hosts = Hosts::new(&["one"]);
    hosts.install();
    let ways = [
        ("exit", "ended()"),
        ("raise", "ended(); raise SystemExit(3)"),
        ("os_exit", "ended(); os._exit(4)"),
        ("sigterm", "ended(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(30)"),
        ("fork", "pid = os.fork()\nif pid == 0:\n    ended(); os._exit(0)\nos.waitpid(pid, 0)"),
        ("exec", "ended(); os.execv('/bin/true', ['true'])"),
        ("thread", "t = threading.Thread(target=ended); t.start(); t.join()"),
        ("spawn", "subprocess.run([sys.executable, sys.argv[0], 'child'])"),
    ];
    for (name, script) in ways {
        hosts.run_script("one", name, script);
    }
    hosts.fleet(0, "collect", &["-o", "run"]);
    hosts.pulpcov(0, &["report", "run", "--require-complete", "--json", "report.json"]);
    let report = hosts.json("report.json");
    for (name, _) in ways {
        let file = &report["files"][format!("kiosk/way_{name}.py")];
        assert_eq!(file["summary"]["missing_lines"], 0, "{name}: {file}");
    }
    hosts.fleet(0, "uninstall", &["--erase-data"]);
    hosts.are_as_before();
}

fn a_failed_install() {
    let hosts = Hosts::new(&["one"]);
    let empty = hosts.path("no-wheels");
    fs::create_dir(&empty).expect("a folder");
    hosts.fleet(2, "install", &["--wheelhouse", &empty.to_string_lossy()]);
    // A Python of the host's that does not run is found out there.
    let broken = hosts.path("one/venv/bin/python");
    fs::rename(&broken, hosts.path("one/venv/bin/away")).expect("moved");
    fs::write(&broken, "#!/bin/sh\nexit 3\n").expect("written");
    let failed = hosts.fleet(4, "install", &["--wheelhouse", &at_hand::wheels().expect("wheels")]);
    assert!(failed.said.contains("one  failed"), "{}", failed.said);
    fs::rename(hosts.path("one/venv/bin/away"), &broken).expect("moved back");
    hosts.are_as_before();
    let unknown = hosts.fleet(2, "install", &["--profile", "nobodys.yml", "--limit", "nobody"]);
    assert!(unknown.said.contains("error: "), "{}", unknown.said);
}

fn a_run_in_one_command() {
    let hosts = Hosts::new(&["one"]);
    let program = hosts.program("one");
    let script =
        format!("{program} & pid=$!; while [ ! -e one/port ]; do sleep 0.05; done; kill $pid; wait $pid");
    let words = ["--wheelhouse", &at_hand::wheels().expect("wheels"), "-o", "run", "--", "sh", "-c", &script];
    let ran = hosts.fleet(0, "run", &words);
    assert!(ran.wrote.contains("based on 3 of 3 processes"), "{}\n{}", ran.said, ran.wrote);
    hosts.are_as_before();
}
