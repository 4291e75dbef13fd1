//! One fleet by every way: our own SSH, OpenSSH's client, any command, and this machine. The controller is itself a
//! host of the fleet.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pulpcov_tests::lab::{Lab, Options, host_address, host_name};
use pulpcov_tests::{programs, python, shop};
use serde_json::Value;

/// The host that pulpcov runs on.
const CONTROLLER: usize = 4;

/// Puts all that a controller needs into the folder that the hosts share.
fn furnish(lab: &Lab) {
    let shared = lab.path("shared");
    let put = |from: &Path, name: &str, mode: u32| {
        let to = shared.join(name);
        fs::copy(from, &to).expect("copied");
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    put(&programs::pulpcov(), "pulpcov", 0o755);
    put(&programs::agent(), "pulpcov-agent-x86_64", 0o644);
    put(&lab.path("key"), "key", 0o600);
    put(&lab.path("known_hosts"), "known_hosts", 0o644);
    put(&shop::profile(), "profile.yml", 0o644);
    fs::create_dir(shared.join("wheels")).expect("a folder");
    for wheel in fs::read_dir(python::wheelhouse()).expect("wheels") {
        let wheel = wheel.expect("a wheel");
        put(&wheel.path(), &format!("wheels/{}", wheel.file_name().to_string_lossy()), 0o644);
    }
}

/// The inventory of all hosts, each with its way; by SSH alone where `plain`.
fn inventory(plain: bool) -> String {
    let exec = "[ssh, -i, /shared/key, -o, UserKnownHostsFile=/shared/known_hosts, -o, BatchMode=yes, \"deploy@{host}\", \"{command}\"]";
    let ways = [
        "pulpcov_ssh: own",
        "pulpcov_ssh: openssh",
        &format!("pulpcov_exec: {exec}"),
        "ansible_connection: local",
    ];
    let hosts: String = (1..=CONTROLLER)
        .map(|i| {
            let way = if plain { ways[0] } else { ways[i - 1] };
            format!("    {}: {{ansible_host: {}, {way}}}\n", host_name(i), host_address(i))
        })
        .collect();
    format!(
        "all:\n  vars:\n    ansible_user: deploy\n    ansible_become: true\n    ansible_ssh_private_key_file: /shared/key\n    pulpcov_profile: /shared/profile.yml\n  hosts:\n{hosts}"
    )
}

/// `fleet VERB` by the controller; what it said on stderr.
fn fleet(lab: &Lab, verb: &str, words: &str) -> String {
    let known = "--known-hosts known_hosts --agent-dir . --state-dir state";
    let script = format!("cd /shared && CI=true ./pulpcov fleet {verb} hosts.yml {known} {words} 2>&1");
    let output = lab.on(CONTROLLER, &["sh", "-c", &script]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "fleet {verb}\n{said}");
    said
}

/// Uses the shop, each host in the same way.
fn exercise(lab: &mut Lab) {
    lab.wait_for_shop();
    for i in 1..=CONTROLLER {
        lab.get(i, "/price/tea").expect("a price");
        if i == 2 {
            lab.get(i, "/price/tea?vip").expect("a price");
        }
    }
}

/// What each host ran, by file: of the shop's web processes, whose work is the same each time.
fn lines(lab: &Lab, run: &str) -> Value {
    let json = lab.path("shared").join(format!("{run}.json"));
    let run = lab.path("shared").join(run);
    lab.pulpcov_ends(
        0,
        &[
            "report",
            &run.to_string_lossy(),
            "--json",
            &json.to_string_lossy(),
            "--require-complete",
            "--select",
            "role:web",
        ],
    );
    let report: Value = serde_json::from_slice(&fs::read(&json).expect("a report")).expect("JSON");
    let files = report["files"].as_object().expect("files").iter();
    let union: Vec<Value> = files
        .map(|(name, file)| serde_json::json!([name, file["executed_lines"], file["missing_lines"]]))
        .collect();
    let hosts: Vec<Value> = (1..=CONTROLLER)
        .map(|i| report["hosts"][host_name(i)]["files"]["shop/catalogue.py"]["executed_lines"].clone())
        .collect();
    serde_json::json!({"union": union, "hosts": hosts})
}

/// Install, exercise, collect, uninstall; what ran.
fn whole_run(lab: &mut Lab, plain: bool) -> Value {
    fs::write(lab.path("shared/hosts.yml"), inventory(plain)).expect("an inventory");
    let run = if plain { "plain" } else { "mixed" };
    let installed = fleet(lab, "install", "--wheelhouse wheels --restart");
    assert!(installed.contains("4 hosts: 4 changed, 0 failed, 0 unreachable"), "{installed}");
    exercise(lab);
    let status = fleet(lab, "status", "");
    assert!(status.contains("4 hosts: 4 ok"), "{status}");
    fleet(lab, "collect", &format!("-o {run}"));
    fleet(lab, "uninstall", "--restart --erase-data");
    lines(lab, run)
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_fleet_by_every_way_is_the_same_fleet() {
    let mut lab = Lab::start_with(CONTROLLER, &Options { shop: true, shared: true, ..Options::default() });
    furnish(&lab);
    lab.wait_for_shop();
    let before: Vec<_> = (1..=CONTROLLER).map(|i| lab.file_tree(i)).collect();
    let mixed = whole_run(&mut lab, false);
    lab.wait_for_shop();
    for i in 1..=CONTROLLER {
        assert_eq!(lab.changes(i, &before[i - 1], &[]), Vec::<String>::new(), "{}", host_name(i));
    }
    let plain = whole_run(&mut lab, true);
    assert_eq!(mixed, plain);
    let vip = |i: usize| mixed["hosts"][i - 1].as_array().expect("lines").contains(&Value::from(11));
    assert!(vip(2) && !vip(1) && !vip(3) && !vip(4), "each host knows what it ran itself: {mixed}");
}
