//! Processes that are killed, hosts that go away in the middle.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use pulpcov_tests::lab::{Lab, host_address, host_name};
use pulpcov_tests::shop;
use serde_json::Value;

fn report(lab: &Lab, run: &str) -> Value {
    let text = lab.pulpcov_ends(0, &["report", run, "--json", "-"]);
    serde_json::from_str(&text).expect("JSON")
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_damaged_bundle_of_a_run_does_not_block_the_next_collect() {
    let lab = Lab::with_shop(1);
    lab.get(1, "/price/tea").expect("answers");
    lab.fleet(0, "collect", &["-o", "run", "--keep"]);
    let bundle = lab.path("run/hosts/h1/bundle-0001.tar.gz");
    let bytes = fs::read(&bundle).expect("a bundle");
    fs::write(&bundle, &bytes[..bytes.len() / 2]).expect("cut");
    let (code, said) = lab.fleet_says("collect", &["-o", "run"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("bundle-0001.tar.gz of this run is left out: "), "{said}");
    // What it held is brought anew: the report has it all, and says what is damaged.
    let table = lab.pulpcov_ends(3, &["report", "run", "--require-complete"]);
    assert!(table.contains("shop/catalogue.py") && table.contains("a damaged bundle of h1"), "{table}");
}

fn executed(report: &Value, host: &str, file: &str) -> Vec<u64> {
    let lines =
        report["hosts"][host]["files"][file]["executed_lines"].as_array().cloned().unwrap_or_default();
    lines.iter().filter_map(Value::as_u64).collect()
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn killed_processes_lose_nothing_that_was_flushed_and_the_ledger_names_them() {
    let mut lab = Lab::with_shop(2);
    for i in 1..=2 {
        lab.post(i, "/order/wait/1").expect("orders are taken");
    }
    // A collect flushes every live process; what is killed right after it has lost nothing.
    let mut killed = Vec::new();
    for i in 1..=2 {
        lab.wait("the job's child", |lab| lab.shell(i, "pgrep -cf '[s]hop-worker' || true").trim() == "2");
    }
    lab.fleet(0, "collect", &["-o", "before", "--keep"]);
    for i in 1..=2 {
        let pids = lab.shell(i, "pgrep -f '[s]hop-worker'");
        killed.push(pids.lines().map(|pid| pid.parse::<u64>().expect("a pid")).collect::<Vec<_>>());
        lab.shell(i, "kill -KILL $(pgrep -f '[s]hop-worker')");
    }
    lab.fleet(0, "collect", &["-o", "after"]);
    let report = report(&lab, "after");
    for i in 1..=2 {
        let host = host_name(i);
        let jobs = executed(&report, &host, "shop/jobs.py");
        // wait() runs from line 24; line 28 ends it, which nobody reached.
        assert!(jobs.contains(&25) && jobs.contains(&26) && !jobs.contains(&28), "{host}: {jobs:?}");
        let processes = report["hosts"][&host]["processes"].as_array().expect("processes").clone();
        for pid in &killed[i - 1] {
            let of_pid: Vec<&Value> = processes.iter().filter(|process| process["pid"] == *pid).collect();
            assert!(of_pid.iter().any(|process| process["state"] == "died"), "{host} {pid}: {of_pid:?}");
        }
        let roles: Vec<&str> =
            processes.iter().filter(|p| p["state"] == "died").filter_map(|p| p["role"].as_str()).collect();
        assert!(roles.contains(&"worker") && roles.contains(&"job"), "{roles:?}");
    }
    let words = lab.pulpcov_ends(3, &["report", "after", "--require-complete"]);
    assert!(words.contains("4 died unsaved (<= 2 s lost)"), "{words}");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_host_that_is_cut_off_in_the_middle_of_collect_loses_nothing() {
    let mut lab = Lab::with_shop(5);
    for i in 1..=5 {
        lab.get(i, "/price/tea").expect("answers");
    }
    lab.post(3, "/order/bake/2").expect("orders are taken");
    lab.wait("the orders to be done", |lab| lab.get(3, "/done").is_some_and(|text| text.contains('2')));
    // A file that somebody left there, and a slow line: together they make a middle to cut.
    lab.shell(3, &shop::ballast("/srv/pulp_coverage/data.elsewhere.1.aa", 1));
    lab.slow_line(3, "1mbit");
    let files =
        |lab: &Lab| lab.shell(3, "ls /srv/pulp_coverage").lines().map(str::to_owned).collect::<Vec<_>>();
    let before = files(&lab);
    let mut collect = lab
        .fleet_command("collect", &["-o", "run", "--idle-timeout", "5", "--retries", "0", "--jsonl"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("pulpcov runs");
    lab.wait("some of the bundle to arrive", |lab| {
        fs::read_dir(lab.path("run/hosts/h3")).is_ok_and(|mut spools| {
            spools.any(|spool| spool.is_ok_and(|spool| spool.metadata().is_ok_and(|meta| meta.len() > 0)))
        })
    });
    lab.link_down(3);
    let lines = BufReader::new(collect.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let recap = lines
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
        .find(|event| event["event"] == "recap")
        .map(|event| event["hosts"].clone())
        .expect("a recap");
    assert_eq!(collect.wait().expect("ends").code(), Some(4), "{recap}");
    for i in 1..=5 {
        assert_eq!(recap[host_name(i)]["result"], if i == 3 { "unreachable" } else { "changed" }, "{recap}");
    }
    let left: Vec<_> = fs::read_dir(lab.path("run/hosts/h3")).expect("a folder").collect();
    assert!(left.is_empty(), "half a bundle was left: {left:?}");
    // Nothing was erased there, though the other hosts' ended processes were.
    let now = files(&lab);
    assert!(!before.is_empty() && before.iter().all(|name| now.contains(name)), "{before:?} {now:?}");
    let table = lab.pulpcov_ends(0, &["report", "run"]);
    assert!(table.contains("nothing new from h3"), "{table}");

    lab.link_up(3);
    lab.fast_line(3);
    lab.wait("the host to be back", |lab| lab.get(3, "/cheapest").is_some());
    lab.fleet(0, "collect", &["-o", "run"]);
    let report = report(&lab, "run");
    assert!(executed(&report, "h3", "shop/jobs.py").len() > 5, "its jobs are there");
    assert!(report["hosts"]["h3"]["missing"].is_null());
    let processes = report["hosts"]["h3"]["processes"].as_array().expect("processes").clone();
    // One entry for each process and generation.
    let mut names: Vec<String> = processes
        .iter()
        .map(|process| format!("{} {} {}", process["pid"], process["started_at"], process["generation"]))
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "no process is told of twice");
    // The file that somebody left there is nobody's record.
    lab.pulpcov_ends(0, &["report", "run", "--require-complete", "--trust-extra"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn hosts_that_are_dead_in_every_way_do_not_stop_the_others() {
    let lab = Lab::with_shop(4);
    lab.stop_sshd(1);
    lab.freeze(2);
    lab.power_off(3);
    let said = lab.fleet(4, "status", &["--connect-timeout", "2", "--retries", "1", "--json"]);
    let status: Value = serde_json::from_str(&said).expect("JSON");
    for i in 1..=3 {
        assert_eq!(
            status["hosts"][host_name(i)]["result"],
            "unreachable",
            "{}",
            status["hosts"][host_name(i)]
        );
        assert!(status["hosts"][host_name(i)]["msg"].as_str().expect("text").contains(&host_address(i)));
    }
    assert_eq!(status["hosts"]["h4"]["result"], "ok");
    lab.thaw(2);
    lab.start_sshd(1);
    lab.fleet(0, "status", &["--limit", "!h3"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_full_disk_fails_install_whole_and_does_not_stop_collect() {
    let mut lab = Lab::start(2);
    lab.inventory("");
    let wheels = pulpcov_tests::python::wheelhouse();
    let before = lab.file_tree(1);
    lab.fill_disk_but_for_the_agent(1);
    let (code, words) = lab.fleet_says("install", &["--wheelhouse", &wheels.to_string_lossy(), "--restart"]);
    assert_eq!(code, Some(4), "{words}");
    assert!(words.contains("h1  failed") && words.contains("No space left"), "{words}");
    lab.empty_disk(1);
    let after: Vec<String> =
        lab.file_tree(1).into_iter().filter(|line| !line.contains(".pulpcov-")).collect();
    // The folder of the agent itself stays for the next try; all else is as before.
    assert_eq!(
        after.iter().filter(|line| !line.starts_with("./tmp ")).collect::<Vec<_>>(),
        before.iter().filter(|line| !line.starts_with("./tmp ")).collect::<Vec<_>>()
    );

    lab.install();
    lab.wait_for_shop();
    lab.get(1, "/price/jam").expect("answers");
    lab.fleet(0, "collect", &["-o", "run", "--keep"]);
    // From here on no process of the web has a map, in whose last page there were room for more.
    lab.fleet(0, "reset", &["--label", "full"]);
    lab.fill_disk(1, 0);
    let (_, words) = lab.fleet_says("status", &["--limit", "h1"]);
    assert!(words.contains("0 processes recorded now, 4 that cannot, 0 not recorded"), "{words}");
    let table = lab.fleet(0, "status", &["--limit", "h1"]);
    assert!(table.contains("cannot write  the disk of /srv/pulp_coverage is full"), "{table}");
    assert!(!table.contains("idle"), "{table}");
    // What they hold would end with them.
    lab.get(1, "/price/tea?vip").expect("answers");
    let told = "the disk of /srv/pulp_coverage is full: 4 processes could not write what they ran";
    let (code, words) = lab.fleet_says("uninstall", &["--limit", "h1", "--restart"]);
    assert!(code == Some(4) && words.contains(told) && words.contains("nothing was removed"), "{words}");
    for action in ["stop", "restart"] {
        let [inventory, known] =
            ["hosts.yml", "known_hosts"].map(|name| lab.path(name).to_string_lossy().into_owned());
        let words = ["fleet", "services", action, &inventory, "--known-hosts", &known, "--limit", "h1"];
        let output = lab.pulpcov(&words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains(told) && said.contains("nothing was stopped"), "{said}");
    }
    lab.fleet(0, "collect", &["-o", "run2", "--limit", "h1", "--flush-timeout", "1"]);
    assert!(!executed(&report(&lab, "run2"), "h1", "shop/catalogue.py").is_empty());
    // With room again, all that ran meanwhile is there.
    lab.empty_disk(1);
    lab.fleet(0, "uninstall", &["--limit", "h1", "--restart"]);
    lab.fleet(0, "collect", &["-o", "run3", "--limit", "h1"]);
    let lines = executed(&report(&lab, "run3"), "h1", "shop/catalogue.py");
    assert!(lines.contains(&11), "{lines:?}");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn data_that_no_one_bundle_holds_comes_in_several() {
    let mut lab = Lab::with_shop(1);
    lab.few_open_files(1);
    lab.fill_beyond_a_bundle(1);
    let run = lab.fleet(0, "collect", &[]);
    assert_eq!(lab.fetched_beyond_a_bundle(1, &lab.path(run.trim()).join("hosts/h1")), 300);
    lab.pulpcov_ends(0, &["report", run.trim()]);
}
