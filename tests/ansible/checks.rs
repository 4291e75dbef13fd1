//! What Galaxy and Ansible's own checks say of the collection.

use std::process::{Command, Output};

use pulpcov_tests::python::{self, collection, path_with};

use super::said;

fn in_collection(program: &str, words: &[&str]) -> Output {
    let bin = python::ansible_lint();
    Command::new(bin.join(program))
        .args(words)
        .current_dir(collection().join("ansible_collections/pulpcov/fleet"))
        .env("PATH", path_with(&bin))
        .env("ANSIBLE_COLLECTIONS_PATH", collection())
        .env("NO_COLOR", "1")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("it runs")
}

#[test]
#[ignore = "needs a package index: ansible-lint"]
fn ansible_lint_takes_it_for_production() {
    let output = in_collection("ansible-lint", &["--offline", "--strict", "--profile", "production"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("Profile 'production' was required, and it passed"), "{}", said(&output));
}

#[test]
#[ignore = "needs a package index: ansible-lint"]
fn the_playbooks_for_the_command_module_pass_too() {
    let bin = python::ansible_lint();
    let output = Command::new(bin.join("ansible-lint"))
        .args(["--offline", "--strict", "--profile", "production", "command"])
        .current_dir(pulpcov_tests::programs::workspace().join("playbooks"))
        .env("PATH", path_with(&bin))
        .env("NO_COLOR", "1")
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
#[ignore = "needs a package index: ansible-lint"]
fn every_module_and_role_is_documented() {
    let documented = |kind: &str, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("pulpcov.fleet.{name}")).collect();
        let mut words = vec!["--json", "-t", kind];
        words.extend(names.iter().map(String::as_str));
        let output = in_collection("ansible-doc", &words);
        assert!(output.status.success(), "{}", said(&output));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
        names.into_iter().map(move |name| told[&name].clone())
    };
    let modules =
        ["install", "status", "doctor", "flush", "services", "reset", "collect", "run_dir", "uninstall"];
    for module in documented("module", &modules) {
        assert!(module["doc"]["short_description"].is_string(), "{module}");
        assert!(module["examples"].is_string() && module["return"].is_object(), "{module}");
    }
    for role in documented("role", &["install", "collect", "report", "uninstall"]) {
        assert!(role["entry_points"]["main"]["options"].to_string().contains("pulpcov_"), "{role}");
    }
}

/// All that need no container; `pslint` and `shellcheck` have nothing to look at.
const SANITY: [&str; 22] = [
    "action-plugin-docs",
    "ansible-doc",
    "changelog",
    "compile",
    "empty-init",
    "ignores",
    "import",
    "line-endings",
    "no-assert",
    "no-get-exception",
    "no-illegal-filenames",
    "no-smart-quotes",
    "pep8",
    "pylint",
    "replace-urlopen",
    "runtime-metadata",
    "shebang",
    "symlinks",
    "use-argspec-type-path",
    "use-compat-six",
    "validate-modules",
    "yamllint",
];

#[test]
#[ignore = "needs a package index: ansible-lint"]
fn ansibles_own_sanity_tests_pass() {
    // Outside of any git tree: what git ignores, ansible-test would not look at.
    let work = tempfile::tempdir().expect("a folder");
    let copied =
        Command::new("cp").arg("-R").arg(collection().join("ansible_collections")).arg(work.path()).status();
    assert!(copied.expect("cp runs").success());
    let bin = python::ansible_lint();
    let output = Command::new(bin.join("ansible-test"))
        .args(["sanity", "--python", "3.11", "--color", "no"])
        .args(SANITY.iter().flat_map(|test| ["--test", test]))
        .current_dir(work.path().join("ansible_collections/pulpcov/fleet"))
        .env("PATH", path_with(&bin))
        .env("HOME", python::ansible_test_home())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("ansible-test runs");
    let text = said(&output);
    assert!(output.status.success() && !text.contains("All targets skipped"), "{text}");
    for test in SANITY {
        assert!(text.contains(&format!("Running sanity test \"{test}\"")), "{test} did not run: {text}");
    }
}
