//! The recipes for CI systems: each is taken by its own check, and its script is run on real hosts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pulpcov_tests::lab::Lab;
use pulpcov_tests::python::path_with;
use pulpcov_tests::{programs, python};

use super::{ansible, said};

fn recipe(name: &str) -> PathBuf {
    programs::workspace().join("playbooks/ci").join(name)
}

/// What tests are in these: a request to each host.
const TESTS: &str = "curl -sf http://10.77.0.2:8000/price/jam && curl -sf http://10.77.0.3:8000/price/jam";

/// A lab whose inventory names no key: that is the CI's secret. Nor has its network a package index, so the wheels
/// are there.
fn fleet(wheels: &str) -> Lab {
    let mut lab = Lab::start(2);
    lab.inventory("");
    lab.wait_for_shop();
    let path = lab.path("hosts.yml");
    let text = fs::read_to_string(&path).expect("an inventory");
    let keyless: String =
        text.lines().filter(|line| !line.contains("private_key")).map(|line| format!("{line}\n")).collect();
    fs::write(&path, keyless).expect("written");
    let wheels = lab.path(wheels);
    fs::create_dir_all(&wheels).expect("a folder");
    for wheel in fs::read_dir(python::synced_wheelhouse()).expect("wheels").flatten() {
        fs::copy(wheel.path(), wheels.join(wheel.file_name())).expect("copied");
    }
    lab
}

/// Runs a script of a recipe in the lab's folder, with pulpcov in the path.
fn script(lab: &Lab, shell: &[&str], text: &str, env: &BTreeMap<String, String>) -> Output {
    let program = programs::pulpcov();
    let mut command = lab.command(shell[0]);
    command
        .args(&shell[1..])
        .args(["-c", text])
        .current_dir(lab.path(""))
        .env("HOME", lab.path("home"))
        .env("CI", "true")
        .env("PATH", path_with(program.parent().expect("a folder")))
        .envs(env)
        .env("TESTS", TESTS)
        .env("GATES", "--require-complete --fail-under 10");
    command.output().expect("the shell runs")
}

/// Reads a recipe in YAML with a Python expression over `doc`; its JSON.
fn read(name: &str, expression: &str) -> serde_json::Value {
    let output = Command::new(python::ansible().join("python"))
        .args(["-c", &format!("import json, sys, yaml; doc = yaml.safe_load(open(sys.argv[1])); print(json.dumps({expression}))")])
        .arg(recipe(name))
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn texts(value: &serde_json::Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

fn variables(value: &serde_json::Value) -> BTreeMap<String, String> {
    let all = value.as_object().expect("a mapping").iter();
    all.map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned())).collect()
}

#[track_caller]
fn well(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// What a good night leaves, and that nothing is installed after it.
#[track_caller]
fn a_night_was(lab: &Lab, files: &[&str]) {
    for file in files {
        assert!(lab.path(file).exists(), "no {file}");
    }
    let words = ["--private-key", &lab.path("key").to_string_lossy()].map(str::to_owned);
    let (_, words) = lab.fleet_says("status", &[&words[0], &words[1]]);
    assert_eq!(words.matches("not installed").count(), 4, "{words}");
}

fn schema(kind: &str, path: &Path) {
    let bin = python::ci_checks();
    let output =
        Command::new(bin.join("check-jsonschema")).args(["--builtin-schema", kind]).arg(path).output();
    well(&output.expect("check-jsonschema runs"));
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn github_actions() {
    schema("vendor.github-workflows", &recipe("pulp-plugin.yml"));
    let name = "github-actions.yml";
    schema("vendor.github-workflows", &recipe(name));
    let lab = fleet("temp/wheels");
    let mut env = variables(&read(name, "doc['jobs']['coverage']['env']"));
    let text = |name: &str| fs::read_to_string(lab.path(name)).expect("a file").trim_end().to_owned();
    let temp = lab.path("temp");
    env.insert("RUNNER_TEMP".into(), temp.to_string_lossy().into_owned());
    env.insert("GITHUB_STEP_SUMMARY".into(), lab.path("summary.md").to_string_lossy().into_owned());
    env.insert("FLEET_SSH_KEY".into(), text("key"));
    env.insert("FLEET_KNOWN_HOSTS".into(), text("known_hosts"));
    let steps = texts(&read(name, "[s['run'] for s in doc['jobs']['coverage']['steps'] if 'run' in s]"));
    assert_eq!(steps.len(), 5);
    for step in steps {
        well(&script(&lab, &["bash", "--noprofile", "--norc", "-eo", "pipefail"], &step, &env));
    }
    a_night_was(&lab, &["run/run.json", "report/index.html", "coverage.xml", "hosts.xml", "logs/h1.log"]);
    assert!(fs::read_to_string(lab.path("summary.md")).expect("a summary").contains("shop/"));
    assert!(!temp.join("key").exists());
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn gitlab() {
    let name = "gitlab-ci.yml";
    schema("vendor.gitlab-ci", &recipe(name));
    let lab = fleet("wheels");
    let mut env = variables(&read(name, "doc['coverage']['variables']"));
    for (variable, file) in [("FLEET_SSH_KEY", "key"), ("FLEET_KNOWN_HOSTS", "known_hosts")] {
        env.insert(variable.into(), lab.path(file).to_string_lossy().into_owned());
    }
    let output = script(
        &lab,
        &["bash", "-eo", "pipefail"],
        &texts(&read(name, "doc['coverage']['script']")).join("\n"),
        &env,
    );
    well(&output);
    let after = texts(&read(name, "doc['coverage']['after_script']")).join("\n");
    well(&script(&lab, &["bash", "-eo", "pipefail"], &after, &env));
    a_night_was(&lab, &["run/run.json", "report/index.html", "coverage.xml", "hosts.xml", "report.txt"]);
    // The number that GitLab shows is what its expression finds in the log.
    let pattern = read(name, "doc['coverage']['coverage'].strip('/')");
    let found = Command::new(python::ansible().join("python"))
        .args(["-c", "import re, sys; print(re.search(sys.argv[1], sys.argv[2], re.M).group(1))"])
        .args([pattern.as_str().expect("a text"), &said(&output)])
        .output()
        .expect("python runs");
    well(&found);
    assert!(String::from_utf8_lossy(&found.stdout).trim().parse::<f64>().is_ok_and(|number| number > 10.0));
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn jenkins() {
    let text = fs::read_to_string(recipe("Jenkinsfile")).expect("a Jenkinsfile");
    assert_eq!(text.matches('{').count(), text.matches('}').count());
    // Groovy's ''' takes a backslash before a line's end away, and the line's end with it.
    let scripts: Vec<String> = text
        .split("sh '''")
        .skip(1)
        .filter_map(|rest| rest.split("'''").next())
        .map(|text| text.replace("\\\n", ""))
        .collect();
    assert_eq!(scripts.len(), 2);
    let lab = fleet("wheels");
    let mut env: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.trim().split_once(" = "))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect();
    assert_eq!(env.get("INVENTORY").map(String::as_str), Some("hosts.yml"));
    for (variable, file) in [("FLEET_SSH_KEY", "key"), ("FLEET_KNOWN_HOSTS", "known_hosts")] {
        env.insert(variable.into(), lab.path(file).to_string_lossy().into_owned());
    }
    for text in scripts {
        well(&script(&lab, &["sh", "-xe"], &text, &env));
    }
    a_night_was(&lab, &["run/run.json", "report/index.html", "coverage.xml", "hosts.xml"]);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn zuul() {
    let mut lab = Lab::start(2);
    lab.inventory("");
    lab.wait_for_shop();
    let vars = serde_json::json!({
        "zuul": {
            "executor": {"log_root": lab.path("logs"), "src_root": lab.path("")},
            "project": {"src_dir": "."},
        },
        "pulpcov_tests": TESTS,
        "pulpcov_wheelhouse": python::wheelhouse(),
        "pulpcov_profile": pulpcov_tests::shop::profile(),
        "pulpcov_report": ["--require-complete", "--fail-under", "10"],
        "pulpcov_command": programs::pulpcov(),
    });
    let jobs = read("zuul/zuul.yaml", "[doc[0]['job'][part] for part in ('pre-run', 'run', 'post-run')]");
    let mut last = String::new();
    for name in texts(&jobs) {
        let output = ansible(&lab, "ansible-playbook")
            .args(["-i", "hosts.yml", "-e", &vars.to_string()])
            .arg(recipe("zuul").join(name))
            .output()
            .expect("ansible-playbook runs");
        well(&output);
        last = said(&output);
    }
    assert!(last.contains("shop/web.py") && last.contains("TOTAL"), "{last}");
    assert!(lab.path("logs/coverage/run.json").exists());
}
