//! One fleet whose hosts have Pythons of five releases: what each of them ran is in one report, and is what coverage.py's
//! own combine makes of the same data.

use std::io::Write;

use pulpcov_tests::lab::{Lab, Options, host_name};
use pulpcov_tests::{python, pythons, shop};
use serde_json::Value;

/// The Python of each host, and its root.
fn hosts() -> Vec<(&'static str, Option<std::path::PathBuf>)> {
    let mut hosts = vec![("3.11", None)];
    let skip = |what: &str| {
        let _ = writeln!(std::io::stderr(), "skipped: a host with {what}, which this machine has not");
    };
    for (release, python) in pythons::RELEASES {
        if pythons::has_release(release) {
            hosts.push((python, Some(pythons::release(release).expect("a root"))));
        } else {
            skip(&format!("Debian {release} (Python {python})"));
        }
    }
    match pythons::built().expect("a root") {
        Some(root) => hosts.push((pythons::BUILT, Some(root))),
        None => skip(&format!("Python {}", pythons::BUILT)),
    }
    hosts
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn hosts_of_five_pythons_are_one_report() {
    let hosts = hosts();
    let roots = (1..).zip(&hosts).filter_map(|(i, (_, root))| Some((i, root.clone()?))).collect();
    let mut lab = Lab::start_with(hosts.len(), &Options { shop: true, roots, ..Options::default() });
    lab.inventory("    pulpcov_branch: false\n");
    let wheels = python::synced_wheelhouse().to_string_lossy().into_owned();
    lab.fleet(0, "install", &["--wheelhouse", &wheels, "--restart", "--label", "night"]);
    lab.wait_for_shop();
    // No host alone runs it all.
    let paths = ["/price/tea", "/price/tea?vip", "/price/nothing", "/cheapest", "/price/coffee"];
    for (i, path) in (1..=hosts.len()).zip(paths.into_iter().cycle()) {
        let _ = lab.get(i, path);
        let _ = lab.post(i, "/order/brew/2");
    }
    lab.fleet(0, "collect", &["-o", "run"]);
    let report = lab.path("report.json");
    lab.pulpcov_ends(0, &["report", "run", "--require-complete", "--json", &report.to_string_lossy()]);
    let report: Value = serde_json::from_slice(&std::fs::read(&report).expect("a report")).expect("JSON");
    for (i, (python, _)) in (1..).zip(&hosts) {
        let processes = report["hosts"][host_name(i)]["processes"].as_array().expect("processes");
        assert!(processes.len() >= 4, "{python}: {processes:?}");
        for process in processes {
            assert!(process["python"].as_str().is_some_and(|found| found.starts_with(python)), "{process}");
            let core = if ["3.9", "3.11"].contains(python) { "ctrace" } else { "live-map" };
            assert_eq!(process["core"], core, "{process}");
        }
    }
    let data = shop::unpack_data(&lab.path("run"), &lab.path("unpacked"));
    shop::assert_equals_coverage_py(&report, &data, &lab.path("reference"));
}
