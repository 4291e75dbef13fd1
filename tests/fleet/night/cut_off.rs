//! Runs that do not go as they should: nothing is erased that is not here, and nobody is left installed in silence.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulpcov_tests::lab::Lab;
use serde_json::Value;

use super::{night, said};

/// What an earlier session and a person have left in the data directory.
const LEFT: &str = r#"mkdir -p /srv/pulp_coverage; python3 -c "
import sqlite3
notes = sqlite3.connect('/srv/pulp_coverage/notes.db')
notes.execute('create table note (text)')
notes.commit()
db = sqlite3.connect('/srv/pulp_coverage/data.elsewhere.1.aa')
for table in ('coverage_schema (version integer)', 'meta (key text, value text)', 'file (id integer primary key, path text)',
        'context (id integer primary key, context text)', 'line_bits (file_id integer, context_id integer, numbits blob)',
        'arc (file_id integer, context_id integer, fromno integer, tono integer)', 'tracer (file_id integer primary key, tracer text)'):
    db.execute('create table ' + table)
db.execute('insert into coverage_schema values (7)')
db.execute('insert into meta values (\'has_arcs\', \'1\')')
db.execute('insert into file values (1, \'/opt/shop/shop/catalogue.py\')')
db.execute('insert into context values (1, \'\')')
db.execute('insert into arc values (1, 1, 11, 12)')
db.commit()
""#;

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_run_that_is_given_up_erases_nothing_of_others() {
    let mut lab = Lab::start(2);
    lab.inventory("");
    lab.wait_for_shop();
    lab.shell(1, LEFT);
    let before = lab.file_tree(1);
    lab.fill_disk_but_for_the_agent(2);
    let output = night(&lab, &["--output", "run"], "touch ran").output().expect("it runs");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("the command was not run: 1 of 2 hosts are not recorded"), "{text}");
    assert!(!lab.path("ran").exists());
    assert_eq!(lab.changes(1, &before, &["./tmp/.pulpcov-", "./tmp d"]), Vec::<String>::new(), "{text}");
}

fn catalogue(report: &Value, label: &str) -> BTreeSet<u64> {
    let lines = report["labels"][label]["files"]["shop/catalogue.py"]["executed_lines"].as_array().cloned();
    lines.unwrap_or_default().iter().filter_map(Value::as_u64).collect()
}

/// What ran before the run's command is not the run's, whoever recorded it.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_run_reports_what_it_ran_and_sets_the_rest_apart() {
    let lab = Lab::with_shop(1);
    for _ in 0..6 {
        lab.get(1, "/price/tea?vip").expect("answers");
    }
    lab.shell(1, LEFT);
    let words = ["--output", "run", "--json", "report.json"];
    let output = night(&lab, &words, "true").output().expect("it runs");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("are not of this run: collected apart, into run/earlier"), "{text}");
    let report: Value =
        serde_json::from_slice(&fs::read(lab.path("report.json")).expect("a report")).expect("JSON");
    assert!(!catalogue(&report, "tests").contains(&11), "{report}");
    assert!(!report["files"]["shop/catalogue.py"]["executed_lines"].to_string().contains("11"), "{report}");
    let earlier = lab.pulpcov_ends(0, &["report", "run/earlier", "--json", "-"]);
    let earlier: Value = serde_json::from_str(&earlier).expect("JSON");
    assert!(catalogue(&earlier, "tests").contains(&11), "{earlier}");
    // A database that is none of coverage.py's is nobody's but its owner's.
    lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
    assert_eq!(lab.shell(1, "ls -A /srv/pulp_coverage").trim(), "notes.db");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_run_whose_folder_goes_away_names_the_hosts_that_are_left() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    lab.wait_for_shop();
    let output = night(&lab, &["--output", "run2"], "rm -rf run2; touch run2").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("run: still installed on h1: pulpcov fleet collect "), "{text}");
    let errors: BTreeSet<&str> = text.lines().filter(|line| line.starts_with("run: error: ")).collect();
    let said = text.lines().filter(|line| line.starts_with("run: error: ")).count();
    assert!(said > 0 && said == errors.len(), "an error is said once: {text}");
    // Its words are true: what it says mends it.
    lab.fleet(0, "collect", &["--limit", "h1", "--output", "saved"]);
    lab.fleet(0, "uninstall", &["--limit", "h1", "--restart"]);
    let (_, words) = lab.fleet_says("status", &[]);
    assert!(words.contains("not installed") && !words.contains("cut off"), "{words}");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_killed_run_is_told_of_until_its_hosts_are_as_they_were() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    lab.wait_for_shop();
    let before = lab.file_tree(1);
    let mut child = night(&lab, &["--output", "run"], "touch begun; exec sleep 60")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    lab.wait("the tests to begin", |lab| {
        assert!(child.try_wait().expect("a child").is_none(), "it ended");
        lab.path("begun").exists()
    });
    let (_, words) = lab.fleet_says("status", &[]);
    assert!(!words.contains("cut off"), "it is under way: {words}");
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), Signal::SIGKILL).expect("killed");
    child.wait().expect("ended");
    let (_, words) = lab.fleet_says("status", &[]);
    assert!(
        words.contains("a run that was cut off has left pulpcov installed on h1: pulpcov fleet collect "),
        "{words}"
    );
    // The next run puts back what that one had left.
    let output = night(&lab, &["--output", "run2"], "true").output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(lab.changes(1, &before, &["./tmp/.pulpcov-", "./tmp d"]), Vec::<String>::new());
    let (_, words) = lab.fleet_says("status", &[]);
    assert!(words.contains("not installed") && !words.contains("cut off"), "{words}");
}
