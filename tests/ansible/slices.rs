//! A fleet that outgrows one controller: two control nodes collect a slice each.

use std::fs;

use pulpcov_tests::lab::{Lab, host_address};
use pulpcov_tests::programs;

use super::{ansible, said};

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn two_control_nodes_collect_and_one_run_directory_comes_of_it() {
    // Four hosts with the service; the first two are control nodes, too.
    let lab = Lab::with_shop(4);
    for i in 1..=4 {
        lab.get(i, "/price/jam").expect("answers");
    }
    let key = lab.path("key");
    for node in 1..=2 {
        let text = |path: &std::path::Path| fs::read_to_string(path).expect("a file");
        let put = |name: &str, text: &str, mode: &str| {
            let folder = lab.path("").display().to_string();
            lab.shell(node, &format!("mkdir -p {folder} && chmod 755 {folder} && cat > {folder}/{name} <<'END'\n{text}END\nchmod {mode} {folder}/{name}; chown deploy {folder}/{name}"));
        };
        put("key", &text(&key), "600");
        put("known_hosts", &text(&lab.path("known_hosts")), "644");
    }
    let nodes: String = (1..=2)
        .map(|i| {
            format!(
                "    node{i}: {{ansible_host: {}, ansible_user: deploy, ansible_ssh_private_key_file: {}}}\n",
                host_address(i),
                key.display()
            )
        })
        .collect();
    fs::write(lab.path("nodes.yml"), format!("control_nodes:\n  hosts:\n{nodes}")).expect("written");
    let known =
        format!(r#"{{"pulpcov_collect": ["--known-hosts", "{}"]}}"#, lab.path("known_hosts").display());
    let slices = |lab: &Lab| {
        ansible(lab, "ansible-playbook")
            .args(["-i", "nodes.yml", "pulpcov.fleet.slices", "-e", "pulpcov_run=run", "-e", &known])
            .args(["-e", &format!("pulpcov_command={}", programs::pulpcov().display())])
            .args(["-e", &format!("pulpcov_inventory={}", lab.path("hosts.yml").display())])
            .output()
            .expect("ansible-playbook runs")
    };
    let output = slices(&lab);
    assert!(output.status.success(), "{}", said(&output));
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.path("run/run.json")).expect("a run")).expect("JSON");
    assert_eq!(run["groups"]["shop"].as_array().map(Vec::len), Some(4), "{run}");
    let report: serde_json::Value =
        serde_json::from_str(&lab.pulpcov_ends(0, &["report", "run", "--json", "-", "--require-complete"]))
            .expect("JSON");
    for host in ["h1", "h2", "h3", "h4"] {
        assert!(
            report["hosts"][host]["files"]["shop/web.py"]["executed_lines"].is_array(),
            "{host}: {report}"
        );
    }
    // Each node asked its own: h1 and h3, h2 and h4.
    let of_node = |from: usize, to: usize| {
        let word = format!("Accepted publickey for deploy from {} ", host_address(from));
        lab.shell(to, &format!("journalctl -u ssh -o cat | grep -c '{word}' || true")).trim().to_owned()
    };
    assert_eq!([of_node(1, 3), of_node(1, 4), of_node(2, 3), of_node(2, 4)], ["1", "0", "0", "1"]);
    for node in 1..=2 {
        assert_eq!(lab.shell(node, "ls -d /tmp/pulpcov-slice.* 2>/dev/null || true"), "");
    }
    assert!(!lab.path("run/.slices").exists());

    // A host that is down fails its slice by name; the others' data comes, beside what came before.
    lab.get(2, "/price/jam").expect("answers");
    lab.stop_sshd(4);
    let output = slices(&lab);
    assert!(!output.status.success() && said(&output).contains("h4"), "{}", said(&output));
    assert!(lab.path("run/hosts/h3/bundle-0002.tar.gz").exists());
    let run = fs::read_to_string(lab.path("run/run.json")).expect("a run");
    assert!(run.contains("unreachable: "), "{run}");

    // Nobody asked the hosts of a control node that is down: they are named as missing.
    lab.start_sshd(4);
    // Another address, for Ansible keeps its connections: nobody is there.
    let nowhere = nodes.replace(&host_address(2), "10.77.0.99");
    fs::write(lab.path("nodes.yml"), format!("control_nodes:\n  hosts:\n{nowhere}")).expect("written");
    let output = slices(&lab);
    assert!(!output.status.success(), "{}", said(&output));
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.path("run/run.json")).expect("a run")).expect("JSON");
    let of = |host: &str| run["hosts"][host].clone();
    assert_eq!([of("h1"), of("h3")], [serde_json::Value::Null, serde_json::Value::Null]);
    assert_eq!([of("h2"), of("h4")], ["its control node node2 failed", "its control node node2 failed"]);
    lab.pulpcov_ends(3, &["report", "run", "--require-complete"]);
}
