//! The collection's modules, roles and playbooks on three hosts with systemd.

use std::fs;

use pulpcov_tests::lab::{Lab, host_name};
use pulpcov_tests::{programs, python, shop};

use super::{ansible, changed, playbook, said, without_ansible};

/// Variables that all hosts of a lab have.
fn variables(lab: &Lab) {
    lab.inventory("");
    let wheels = python::wheelhouse();
    let vars =
        format!("pulpcov_wheelhouse: {}\npulpcov_profile: {}\n", wheels.display(), shop::profile().display());
    fs::create_dir_all(lab.path("group_vars")).expect("a folder");
    fs::write(lab.path("group_vars/all.yml"), vars).expect("written");
}

/// Runs a command with something to read from a pipe.
fn fed(command: &mut std::process::Command, text: &[u8]) -> std::process::Output {
    use std::process::Stdio;
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), text).expect("written");
    child.wait_with_output().expect("it ends")
}

fn trees(lab: &Lab) -> Vec<Vec<String>> {
    (1..=3).map(|i| without_ansible(lab.file_tree(i))).collect()
}

/// Uses each host's shop.
fn exercise(lab: &mut Lab) {
    for i in 1..=3 {
        lab.get(i, "/price/jam").expect("answers");
        lab.post(i, "/order/bake/2").expect("orders are taken");
        lab.wait("the orders to be done", |lab| lab.get(i, "/done").is_some_and(|text| text.contains('2')));
    }
}

/// A report without what differs from run to run: times, processes, and where it was read.
fn report(lab: &Lab, run: &str) -> serde_json::Value {
    let text = lab.pulpcov_ends(0, &["report", run, "--json", "-", "--require-complete"]);
    let mut report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    report["meta"] = serde_json::Value::Null;
    for part in ["hosts", "labels", "groups", "roles"] {
        for (_, one) in report[part].as_object_mut().expect("an object") {
            if let Some(one) = one.as_object_mut() {
                one.remove("processes");
            }
        }
    }
    report
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn three_hosts_from_install_to_uninstall() {
    let mut lab = Lab::start(3);
    variables(&lab);
    lab.wait_for_shop();
    let before = trees(&lab);
    let play = |lab: &Lab, name: &str, extra: &[&str], words: &[&str]| {
        playbook(lab, &format!("pulpcov.fleet.{name}"), extra, words)
    };
    // Check mode tells the truth and leaves nothing, not even the agent.
    let told = play(&lab, "install", &[], &["--check", "--diff"]);
    assert_eq!(changed(&told), [1, 1, 1]);
    assert!(
        said(&told).contains("+++ after: /usr/local/lib/pulpcov/hook/_pulpcov_recorder.py"),
        "{}",
        said(&told)
    );
    assert_eq!(trees(&lab), before);
    assert_eq!(changed(&play(&lab, "install", &[], &[])), [1, 1, 1]);
    assert_eq!(changed(&play(&lab, "install", &[], &[])), [0, 0, 0]);
    assert_eq!(changed(&play(&lab, "install", &[], &["--check"])), [0, 0, 0]);
    let place = lab.shell(
        1,
        "stat -c '%U %a' /usr/local/lib/pulpcov-agent /usr/local/lib/pulpcov-agent/*/pulpcov-agent",
    );
    assert_eq!(place, "root 755\nroot 755\n");
    exercise(&mut lab);

    // A status is one round trip, and says what `pulpcov fleet status` says.
    let status = ansible(&lab, "ansible")
        .args(["-i", "hosts.yml", "all", "-b", "-m", "pulpcov.fleet.status"])
        .output()
        .expect("ansible runs");
    assert_eq!(said(&status).matches("0 not recorded").count(), 3, "{}", said(&status));

    assert!(changed(&play(&lab, "collect", &["pulpcov_run=run"], &["--check"])).iter().all(|&n| n > 0));
    assert!(!lab.path("run").exists());
    // Kept there, so that the controller can collect the same.
    let kept = ["pulpcov_run=run", "pulpcov_keep=true"];
    changed(&play(&lab, "collect", &kept, &[]));
    let theirs = report(&lab, "run");
    lab.fleet(0, "collect", &["--output", "own", "--keep"]);
    assert_eq!(theirs, report(&lab, "own"));
    assert!(theirs["groups"]["shop"].is_object());
    let run = fs::read_to_string(lab.path("run/run.json")).expect("a run");
    assert!(run.contains("\"h1\": null") && run.contains("\"shop\""), "{run}");

    // What is fetched is gone there; a host that is not reached is named, and the others are not lost.
    lab.stop_sshd(3);
    // Nor may a connection that ssh has kept lead there.
    lab.shell(3, "pkill -KILL sshd; true");
    let output = play(&lab, "collect", &["pulpcov_run=run"], &[]);
    assert!(!output.status.success(), "{}", said(&output));
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.path("run/run.json")).expect("a run")).expect("JSON");
    assert!(run["hosts"]["h3"].as_str().is_some_and(|trouble| trouble.starts_with("unreachable: ")), "{run}");
    assert!(run["hosts"]["h1"].is_null(), "{run}");
    lab.start_sshd(3);
    changed(&play(&lab, "collect", &["pulpcov_run=run"], &[]));
    for i in 1..=3 {
        assert_eq!(lab.shell(i, "ls /usr/local/lib/pulpcov/outbox").trim(), "");
    }
    let program = format!("pulpcov_command={}", programs::pulpcov().display());
    let output = play(&lab, "report", &["pulpcov_run=run", &program], &[]);
    assert!(output.status.success() && said(&output).contains("shop/web.py"), "{}", said(&output));
    let gate = r#"{"pulpcov_report": ["--fail-under", "100"]}"#;
    let output = play(&lab, "report", &["pulpcov_run=run", &program, gate], &[]);
    assert!(!output.status.success() && said(&output).contains("TOTAL"), "{}", said(&output));

    assert_eq!(
        changed(&play(&lab, "uninstall", &["pulpcov_erase_data=true"], &["--check", "--diff"])),
        [1, 1, 1]
    );
    assert_eq!(changed(&play(&lab, "uninstall", &["pulpcov_erase_data=true"], &[])), [1, 1, 1]);
    assert_eq!(changed(&play(&lab, "uninstall", &["pulpcov_erase_data=true"], &[])), [0, 0, 0]);
    // The controller's agent, and Ansible's folder, stay where their visitors keep such things.
    let theirs = ["/.ansible", "./home/deploy d", "./tmp d", "./tmp/.pulpcov-"];
    for i in 1..=3 {
        assert_eq!(lab.changes(i, &before[i - 1], &theirs), Vec::<String>::new(), "{}", host_name(i));
    }
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_night_whose_tests_fail_is_collected_and_put_back() {
    let mut lab = Lab::start(3);
    variables(&lab);
    lab.wait_for_shop();
    let before = trees(&lab);
    let program = format!("pulpcov_command={}", programs::pulpcov().display());
    let tests = "pulpcov_tests='curl -sf http://10.77.0.2:8000/price/jam && echo tests ran && exit 9'";
    let output = playbook(&lab, "pulpcov.fleet.nightly", &["pulpcov_run=run", &program, tests], &[]);
    let text = said(&output);
    assert!(!output.status.success() && text.contains("tests ran") && text.contains("TOTAL"), "{text}");
    assert!(text.contains("the tests ended with 9"), "{text}");
    assert_eq!(report(&lab, "run")["hosts"].as_object().map(serde_json::Map::len), Some(3));
    assert_eq!(trees(&lab), before);
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_night_without_a_host_runs_no_tests_and_puts_the_others_back() {
    let mut lab = Lab::start(3);
    variables(&lab);
    lab.wait_for_shop();
    let before = trees(&lab);
    fs::create_dir(lab.path("host_vars")).expect("a folder");
    fs::write(lab.path("host_vars/h2.yml"), "pulpcov_data_root: /proc/nowhere\n").expect("written");
    let output =
        playbook(&lab, "pulpcov.fleet.nightly", &["pulpcov_run=run", "pulpcov_tests='touch begun'"], &[]);
    let text = said(&output);
    assert!(!output.status.success() && text.contains("a host is not recorded"), "{text}");
    assert!(!lab.path("begun").exists(), "{text}");
    assert_eq!(trees(&lab), before, "{text}");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn nothing_is_lost_beyond_one_bundle_nor_beside_the_agent() {
    let mut lab = Lab::start(1);
    variables(&lab);
    lab.wait_for_shop();
    // Before the first connection, which Ansible keeps.
    lab.few_open_files(1);
    changed(&playbook(&lab, "pulpcov.fleet.install", &[], &[]));
    lab.get(1, "/price/jam").expect("answers");
    lab.fill_beyond_a_bundle(1);
    // The data, and the note of how it went.
    assert_eq!(changed(&playbook(&lab, "pulpcov.fleet.collect", &["pulpcov_run=run"], &[])), [2]);
    assert_eq!(lab.fetched_beyond_a_bundle(1, &lab.path("run/hosts/h1")), 300);
    let module = |name: &str| {
        let output = ansible(&lab, "ansible")
            .args(["-i", "hosts.yml", "all", "-b", "-m", &format!("pulpcov.fleet.{name}")])
            .args(["-a", "agent_root=/opt/tools"])
            .output()
            .expect("ansible runs");
        assert!(output.status.success(), "{}", said(&output));
    };
    lab.shell(1, "mkdir -p /opt/tools/bin && echo precious > /opt/tools/bin/precious");
    module("status");
    assert_eq!(lab.shell(1, "ls /opt/tools | wc -l").trim(), "2");
    module("uninstall");
    assert_eq!(lab.shell(1, "find /opt/tools -type f").trim(), "/opt/tools/bin/precious");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn modules_say_what_is_wrong() {
    let lab = Lab::start(1);
    variables(&lab);
    let module = |module: &str, words: &[&str]| {
        let output = ansible(&lab, "ansible")
            .args(["-i", "hosts.yml", "all", "-m", &format!("pulpcov.fleet.{module}")])
            .args(words)
            .output()
            .expect("ansible runs");
        assert!(!output.status.success());
        said(&output)
    };
    let wrong = |name: &str, words: &[&str], parts: &[&str]| {
        let text = module(name, words);
        for part in parts {
            assert!(text.contains(part), "no {part:?} in: {text}");
        }
    };
    wrong("install", &["-b", "-a", "profile=plup3"], &["is no built-in profile"]);
    wrong("install", &["-b", "-a", "profle=pulp3"], &["profle"]);
    wrong("install", &["-b", "-a", "wheelhouse=/no/such/folder"], &["wheelhouse: ", "/no/such/folder"]);
    wrong("flush", &["-b"], &["not installed"]);
    wrong("services", &["-b", "-a", "action=reload"], &["reload"]);
    wrong("status", &["-b", "-a", "agent_dir=/no/such"], &["there is no agent for x86_64"]);
    lab.shell(1, "rm -rf /usr/local/lib/pulpcov-agent");
    wrong("status", &["-e", "ansible_become=false"], &["cannot write pulpcov-agent into", "become: true"]);
}

/// Ansible and pulpcov know an inventory by the same place, whatever leads to it.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn an_inventory_has_one_place_for_ansible_and_pulpcov() {
    let mut lab = Lab::start(1);
    variables(&lab);
    lab.wait_for_shop();
    let vars = fs::read_to_string(lab.path("group_vars/all.yml")).expect("written");
    let put = |checkout: &str, more: &str| {
        fs::write(lab.path(checkout).join("group_vars/all.yml"), format!("{vars}{more}\n")).expect("written");
    };
    for checkout in ["first", "second"] {
        fs::create_dir_all(lab.path(checkout).join("group_vars")).expect("made");
        fs::copy(lab.path("hosts.yml"), lab.path(checkout).join("hosts.yml")).expect("copied");
        put(checkout, "");
    }
    std::os::unix::fs::symlink("first", lab.path("link")).expect("a link");
    let play = |inventory: &str, name: &str| {
        ansible(&lab, "ansible-playbook")
            .args(["-i", inventory, name])
            .output()
            .expect("ansible-playbook runs")
    };
    let install = |inventory: &str| play(inventory, "pulpcov.fleet.install");
    let by_command = |inventory: &str| {
        let path = pulpcov_tests::programs::workspace().join("playbooks/command/collect.yml");
        ansible(&lab, "ansible-playbook")
            .args(["-i", inventory, &path.to_string_lossy(), "-e", "pulpcov_run=run"])
            .args([
                "-e",
                &format!(
                    "pulpcov_agent_root={}",
                    lab.shell(1, "dirname /usr/local/lib/pulpcov-agent/*/pulpcov-agent").trim()
                ),
            ])
            .output()
            .expect("ansible-playbook runs")
    };
    let known = lab.path("known_hosts").to_string_lossy().into_owned();
    let reset = |inventory: &str| {
        let output = lab.pulpcov(&["fleet", "reset", inventory, "--known-hosts", &known]);
        (output.status.code(), said(&output))
    };
    let is_refused = |text: &str| text.contains("/first, and this is another inventory");
    let output = install("link");
    assert!(output.status.success(), "{}", said(&output));
    for same in ["first", "first/", "link/", "second/../first"] {
        assert_eq!(reset(same).0, Some(0), "{same}: {}", reset(same).1);
    }
    assert_eq!(changed(&install("second/../first/")), [0]);
    changed(&by_command("link/"));
    // A copy is another, and one that says whose it is, is not.
    let (code, text) = reset("second");
    assert!(code == Some(4) && is_refused(&text), "{text}");
    assert!(is_refused(&said(&install("second"))) && is_refused(&said(&by_command("second"))));
    put("second", &format!("pulpcov_fleet_of: {}", lab.path("first").display()));
    assert_eq!(reset("second").0, Some(0), "{}", reset("second").1);
    assert_eq!(changed(&install("second")), [0]);
    changed(&by_command("second"));
    // By the folder that somebody happens to be in, a place would be another one each time.
    put("second", "pulpcov_fleet_of: first");
    let (code, text) = reset("second");
    assert!(code == Some(2) && text.contains("pulpcov_fleet_of") && text.contains("absolute path"), "{text}");
    for output in [install("second"), by_command("second")] {
        assert!(!output.status.success() && said(&output).contains("no absolute path"), "{}", said(&output));
    }
    // The first was moved away, and a link stands where it was.
    fs::rename(lab.path("first"), lab.path("moved")).expect("moved");
    std::os::unix::fs::symlink("moved", lab.path("first")).expect("a link");
    put("first", &format!("pulpcov_fleet_of: {}", lab.path("first").display()));
    assert_eq!(reset("first").0, Some(0), "{}", reset("first").1);
    assert_eq!(changed(&install("first")), [0]);
    changed(&by_command("first"));
    put("second", &format!("pulpcov_fleet_of: {}", lab.path("first").display()));
    // A pipe is another one each time.
    let collect = pulpcov_tests::programs::workspace().join("playbooks/command/collect.yml");
    for name in ["pulpcov.fleet.install".into(), collect] {
        let mut play = ansible(&lab, "ansible-playbook");
        play.args(["-i", "/dev/stdin"]).arg(&name).args([
            "-e",
            "@group_vars/all.yml",
            "-e",
            "pulpcov_run=run",
        ]);
        let output = fed(&mut play, &fs::read(lab.path("hosts.yml")).expect("read"));
        let refused = said(&output).contains("pulpcov_fleet") && said(&output).contains("/dev/stdin is n");
        assert!(!output.status.success() && refused, "{}", said(&output));
    }
    // By hand, as another place of the first's own.
    let output = play("second", "pulpcov.fleet.collect");
    assert!(!is_refused(&said(&output)), "{}", said(&output));
}
