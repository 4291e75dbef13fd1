//! Generations and labels: what started, what was tested, and what came before.

use std::collections::BTreeSet;

use pulpcov_tests::lab::{Lab, host_name};
use serde_json::Value;

fn report(lab: &Lab, words: &[&str]) -> Value {
    let words: Vec<&str> = ["report", "run", "--json", "-"].iter().chain(words).copied().collect();
    serde_json::from_str(&lab.pulpcov_ends(0, &words)).expect("JSON")
}

/// Lines of the shop's catalogue that ran under a label.
fn catalogue(report: &Value, label: &str) -> BTreeSet<u64> {
    let lines = report["labels"][label]["files"]["shop/catalogue.py"]["executed_lines"].as_array();
    lines.into_iter().flatten().filter_map(Value::as_u64).collect()
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_reset_counts_from_zero_and_keeps_what_was_before_under_its_label() {
    let lab = Lab::with_shop(2);
    for i in 1..=2 {
        for _ in 0..6 {
            lab.get(i, "/price/tea").expect("answers");
        }
    }
    lab.fleet(0, "reset", &["--label", "tier1"]);
    for i in 1..=2 {
        for _ in 0..6 {
            lab.get(i, "/price/tea?vip").expect("answers");
        }
    }
    lab.fleet(0, "collect", &["-o", "run"]);
    let all = report(&lab, &["--require-complete"]);
    let labels: BTreeSet<&str> =
        all["labels"].as_object().expect("labels").keys().map(String::as_str).collect();
    assert_eq!(labels, BTreeSet::from(["startup", "tests", "tier1"]));
    let (startup, tests, tier1) =
        (catalogue(&all, "startup"), catalogue(&all, "tests"), catalogue(&all, "tier1"));
    // Line 11 is the discount of a good customer; the module's own lines run when it is imported.
    assert!(
        tier1.contains(&11) && !tests.contains(&11) && !startup.contains(&11),
        "{startup:?} {tests:?} {tier1:?}"
    );
    assert!(startup.contains(&1) || startup.contains(&3), "{startup:?}");
    assert!(startup.is_disjoint(&tests) && startup.is_disjoint(&tier1), "{startup:?} {tests:?} {tier1:?}");
    assert!(!tests.is_empty());

    let only = report(&lab, &["--label", "tier1"]);
    let executed = |report: &Value| report["files"]["shop/catalogue.py"]["executed_lines"].clone();
    assert_eq!(executed(&only), Value::from(tier1.iter().copied().collect::<Vec<_>>()));
    let without: Vec<u64> = tests.union(&tier1).copied().collect();
    assert_eq!(executed(&report(&lab, &["--label", "!startup"])), Value::from(without));
    let output = lab.pulpcov(&["report", "run", "--label", "tier2"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("there is startup, tests, tier1"), "{said}");
    let table = lab.pulpcov_ends(0, &["report", "run"]);
    assert!(table.contains("Only there") && table.contains("startup"), "{table}");

    // Groups come from the inventory, roles from the processes; a selection is an algebra of all four.
    assert_eq!(all["groups"]["shop"]["covered_lines"], all["totals"]["covered_lines"]);
    assert!(all["roles"]["web"]["covered_lines"].as_u64() > Some(0), "{}", all["roles"]);
    let first = host_name(1);
    let selected = report(&lab, &["--select", &format!("group:shop & label:tier1 - host:{first}")]);
    assert_eq!(selected["hosts"].as_object().expect("hosts").keys().collect::<Vec<_>>(), [&host_name(2)]);
    assert_eq!(catalogue(&selected, "tier1"), tier1, "both hosts were asked the same");
    assert!(selected["labels"].as_object().expect("labels").keys().eq(["tier1"]));
    let diff = ["diff", "label:tests", "label:tier1", "--run", "run", "--json", "-"];
    let diff: Value = serde_json::from_str(&lab.pulpcov_ends(0, &diff)).expect("JSON");
    let only_b = &diff["files"]["shop/catalogue.py"]["only_b"];
    assert_eq!(*only_b, Value::from(tier1.difference(&tests).copied().collect::<Vec<_>>()), "{diff}");
    let (output, nowhere) =
        (lab.pulpcov(&["diff", "label:tests", "label:tier9", "--run", "run"]), "no data has label tier9");
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains(nowhere));
    assert!(all["meta"]["headline"].as_str().is_some_and(|line| line.starts_with("based on ")));
}

/// A process that cannot answer keeps its own generation until it can.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_stragglers_late_data_goes_to_its_own_generation() {
    let mut lab = Lab::with_shop(1);
    for _ in 0..6 {
        lab.get(1, "/price/tea").expect("answers");
    }
    lab.shell(1, "pkill -STOP gunicorn");
    let (code, said) = lab.fleet_says("reset", &["--label", "late", "--flush-timeout", "1"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("did not answer: until it does, it still counts for the earlier label"), "{said}");
    // What it holds is in nobody's number yet.
    lab.fleet(0, "collect", &["-o", "run", "--keep", "--flush-timeout", "1"]);
    let output = lab.pulpcov(&["report", "run", "--require-complete"]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("; 3 could not record"), "{said}");
    lab.shell(1, "pkill -CONT gunicorn");
    lab.wait("the straggler to begin anew", |lab| {
        lab.shell(1, "grep -l '\"label\": \"late\"' /srv/pulp_coverage/.pulpcov/proc.*.json | xargs grep -l '\"web\"' | wc -l").trim() == "3"
    });
    for _ in 0..6 {
        lab.get(1, "/price/tea?vip").expect("answers");
    }
    lab.fleet(0, "collect", &["-o", "run"]);
    let report = report(&lab, &["--require-complete"]);
    let (tests, late) = (catalogue(&report, "tests"), catalogue(&report, "late"));
    assert!(!tests.contains(&11) && late.contains(&11), "{tests:?} {late:?}");
    assert!(!tests.is_empty(), "what ran before it was stopped is the earlier label's");
}

/// Restarting keeps the label, and what the start covers apart.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn services_that_are_restarted_in_between_are_startup_again() {
    let mut lab = Lab::with_shop(1);
    lab.fleet(0, "reset", &["--label", "tier1"]);
    let mut words = vec!["fleet", "services", "restart"];
    let (inventory, known) = (lab.path("hosts.yml"), lab.path("known_hosts"));
    let (inventory, known) = (inventory.to_string_lossy(), known.to_string_lossy());
    words.extend([&*inventory, "--known-hosts", &known]);
    lab.pulpcov_ends(0, &words);
    lab.wait_for_shop();
    for _ in 0..6 {
        lab.get(1, "/price/tea?vip").expect("answers");
    }
    lab.fleet(0, "collect", &["-o", "run"]);
    let report = report(&lab, &["--require-complete"]);
    assert!(catalogue(&report, "tier1").contains(&11));
    assert!(catalogue(&report, "tier1").is_disjoint(&catalogue(&report, "startup")));
    // An install that restarts begins what it says by default; one that only installs again changes nothing.
    let wheels = pulpcov_tests::python::wheelhouse().to_string_lossy().into_owned();
    let label = || lab.shell(1, "cat /srv/pulp_coverage/.pulpcov/session");
    lab.fleet(0, "install", &["--wheelhouse", &wheels]);
    assert!(label().contains("tier1"), "{}", label());
    lab.fleet(0, "install", &["--wheelhouse", &wheels, "--restart"]);
    assert!(label().contains("\"tests\""), "{}", label());
}
