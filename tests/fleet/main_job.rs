//! Five hosts, from the inventory to the report.

use std::collections::BTreeSet;
use std::fs;

use pulpcov_tests::lab::{Lab, host_name};
use pulpcov_tests::{python, shop};
use serde_json::Value;

fn json(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a report")).expect("JSON")
}

/// Uses the shop, each host in its own way, so that only the union is the whole.
fn exercise(lab: &mut Lab, hosts: usize) {
    for i in 1..=hosts {
        for _ in 0..8 {
            lab.get(i, "/price/tea");
        }
        if i % 2 == 0 {
            lab.get(i, "/price/tea?vip");
            lab.get(i, "/price/nothing");
        }
        lab.post(i, &format!("/order/{}/3", if i % 2 == 0 { "bake" } else { "ship" }))
            .expect("orders are taken");
    }
    for i in 1..=hosts {
        lab.wait("the orders to be done", |lab| {
            lab.get(i, "/done")
                .and_then(|text| serde_json::from_str::<Value>(&text).ok())
                .is_some_and(|v| v["done"].as_u64() >= Some(3))
        });
    }
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn five_hosts_give_one_report_that_is_coverage_pys_own() {
    let mut lab = Lab::start(5);
    lab.inventory("");
    lab.wait_for_shop();
    let before: Vec<_> = (1..=5).map(|i| lab.file_tree(i)).collect();
    lab.install();
    lab.wait_for_shop();
    // A second install changes nothing and touches nothing.
    let tree = lab.file_tree(1);
    let wheels = python::wheelhouse();
    let (code, words) = lab.fleet_says("install", &["--wheelhouse", &wheels.to_string_lossy(), "--restart"]);
    assert_eq!(code, Some(0), "{words}");
    assert!(words.contains("5 ok") && !words.contains("changed"), "{words}");
    let without_data = |tree: Vec<String>| {
        tree.into_iter().filter(|line| !line.contains("pulp_coverage")).collect::<Vec<_>>()
    };
    assert_eq!(without_data(tree), without_data(lab.file_tree(1)));

    exercise(&mut lab, 5);
    lab.fleet(0, "collect", &["-o", "run"]);
    let report = lab.path("report.json");
    let table = lab.pulpcov_ends(
        0,
        &["report", "run", "--json", &report.to_string_lossy(), "--text", "-", "--require-complete"],
    );
    assert!(table.contains("shop/catalogue.py") && table.contains("Hosts"), "{table}");

    let data = shop::unpack_data(&lab.path("run"), &lab.path("unpacked"));
    let ours = json(&report);
    shop::assert_equals_coverage_py(&ours, &data, &lab.path("reference"));
    let names: BTreeSet<String> = fs::read_dir(&data)
        .expect("data")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    for i in 1..=5 {
        assert!(names.iter().any(|name| name.starts_with(&format!("data.{}.", host_name(i)))), "{names:?}");
        assert!(ours["hosts"][host_name(i)]["files"]["shop/catalogue.py"]["executed_lines"].is_array());
    }
    let vip: Vec<bool> = (1..=5)
        .map(|i| {
            ours["hosts"][host_name(i)]["files"]["shop/catalogue.py"]["executed_lines"]
                .as_array()
                .expect("lines")
                .contains(&Value::from(11))
        })
        .collect();
    assert_eq!(vip, [false, true, false, true, false], "each host knows what it ran itself");

    lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
    for i in 1..=5 {
        assert_eq!(lab.file_tree(i), before[i - 1], "{}", host_name(i));
    }
}
