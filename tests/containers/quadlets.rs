//! A host whose units are podman's: reached by SSH as any other, its service in containers that each restart makes anew.

use std::collections::BTreeMap;

use pulpcov_tests::lab::{Lab, Options};
use pulpcov_tests::{quadlet, shop};
use serde_json::Value;

/// Puts the images and settings of a host with quadlets under the number `i` of a lab.
pub(crate) fn options(i: usize) -> Options {
    let root = quadlet::root().unwrap_or_else(|error| panic!("no host with quadlets: {error:#}"));
    Options {
        roots: BTreeMap::from([(i, root)]),
        machine_boot_id: true,
        shared: true,
        shop: true,
        ..Options::default()
    }
}

fn start() -> Lab {
    let mut lab = Lab::start_with(1, &options(1));
    lab.inventory_of(&quadlet::profile(&lab.path("home")), "");
    lab.wait_for_shop();
    lab
}

fn status(lab: &Lab) -> Value {
    serde_json::from_str(&lab.fleet(0, "status", &["--json"])).expect("JSON")
}

/// Roles and units of the host's processes in a state.
fn in_state(status: &Value, state: &str) -> Vec<String> {
    let processes = status["hosts"]["h1"]["status"]["processes"].as_array().expect("processes");
    let mut found: Vec<String> = processes
        .iter()
        .filter(|one| one["state"] == state)
        .map(|one| format!("{} {}", one["role"].as_str().unwrap_or("-"), one["unit"].as_str().unwrap_or("-")))
        .collect();
    found.sort();
    found
}

const LIVE: [&str; 4] =
    ["web shop-web.service", "web shop-web.service", "web shop-web.service", "worker shop-worker@1.service"];

/// What the tests have made on the host besides, and what podman has.
const THEIRS: [&str; 3] = ["./shared", "./var/lib/containers", "./var/tmp"];

#[test]
#[ignore = "needs root and Debian: a host in namespaces, with podman in it"]
fn containers_of_units_are_recorded_from_their_first_start_each_time_that_they_are_made() {
    let mut lab = start();
    let before = lab.file_tree(1);
    let units = "systemctl show -p ExecStart --value shop-web shop-worker@1";
    let program = lab.shell(1, &format!("{units} | grep -o 'podman run.*' | sed 's/ ;.*//'"));
    let doctor = lab.fleet(0, "doctor", &["--verbose"]);
    assert!(doctor.contains("active, a container by /etc/containers/systemd/shop-web.container"), "{doctor}");
    assert!(doctor.contains("Python 3.11.2, coverage 7.17.3"), "{doctor}");
    lab.install();
    lab.wait_for_shop();
    assert_eq!(in_state(&status(&lab), "live"), LIVE);
    // Again it changes nothing, and restarts nothing.
    let started = "podman ps --format '{{.ID}}' | sort";
    let containers = lab.shell(1, started);
    let (code, said) = lab.fleet_says("install", &["--restart"]);
    assert!(code == Some(0) && said.contains("already installed"), "{said}");
    assert_eq!(lab.shell(1, started), containers);
    for _ in 0..2 {
        lab.get(1, "/price/tea").expect("a price");
        lab.fleet(0, "collect", &["-o", "run"]);
        lab.get(1, "/cheapest").expect("a name");
        // Their end is orderly, and what they ran since the collect is written.
        lab.shell(1, "systemctl restart shop-web shop-worker@1");
        lab.wait_for_shop();
        lab.wait("all of it to record", |lab| in_state(&status(lab), "live") == LIVE);
    }
    assert_ne!(lab.shell(1, started), containers);
    // One that is killed is told of as such, by its number in the container's own namespace.
    lab.shell(1, "kill -KILL $(pgrep -n -f '[s]hop.web:app')");
    lab.wait("its end to be seen", |lab| in_state(&status(lab), "died") == ["web shop-web.service"]);
    lab.fleet(0, "collect", &["-o", "run"]);
    let report = lab.path("report.json");
    let table = lab.pulpcov_ends(0, &["report", "run", "--json", &report.to_string_lossy(), "--text", "-"]);
    assert!(table.contains("based on 12 of 13 processes on 1 host; 1 died unsaved"), "{table}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report).expect("a report")).expect("JSON");
    let data = shop::unpack_data(&lab.path("run"), &lab.path("unpacked"));
    shop::assert_equals_coverage_py(&report, &data, &lab.path("reference"));
    for file in std::fs::read_dir(&data).expect("data") {
        let name = file.expect("a file").file_name().to_string_lossy().into_owned();
        assert!(name.starts_with("data.h1."), "{name}: the host's name, whatever its container's is");
    }

    lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
    lab.wait_for_shop();
    assert_eq!(lab.changes(1, &before, &THEIRS), Vec::<String>::new());
    assert_eq!(lab.shell(1, &format!("{units} | grep -o 'podman run.*' | sed 's/ ;.*//'")), program);
    assert_eq!(lab.shell(1, "podman ps -a --format '{{.Names}}' | sort"), "shop-web\nshop-worker-1\n");
}

/// What cannot be recorded is told before anything is changed, or undone.
#[test]
#[ignore = "needs root and Debian: a host in namespaces, with podman in it"]
fn containers_that_cannot_be_recorded_are_told_and_left_as_they_are() {
    let lab = start();
    let before = lab.file_tree(1);
    let install = |lab: &Lab, wanted: &str| {
        let wheels = pulpcov_tests::python::wheelhouse();
        let (code, said) =
            lab.fleet_says("install", &["--restart", "--wheelhouse", &wheels.to_string_lossy()]);
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains(wanted), "{said}");
    };
    let unchanged = |lab: &Lab| {
        assert_eq!(lab.changes(1, &before, &THEIRS), Vec::<String>::new());
    };
    let units = "/etc/containers/systemd";
    lab.shell(1, &format!("cp -a {units} /run/kept"));
    let put_back = format!("cp -a /run/kept/. {units}/; systemctl daemon-reload");
    let image = |of: &str, name: &str| {
        lab.shell(1, &format!("sed -i 's,localhost/shop,localhost/{name},' {of}; systemctl daemon-reload"));
    };
    // Two images.
    image(&format!("{units}/shop-worker@.container"), "shop-base");
    install(&lab, "one install is for one image");
    lab.shell(1, &put_back);
    unchanged(&lab);
    // One that is not here.
    image(&format!("{units}/shop-web.container {units}/shop-worker@.container"), "nobody");
    install(&lab, "the image localhost/nobody of shop-web.service cannot be looked at");
    lab.shell(1, &put_back);
    unchanged(&lab);
    // A generator that reads no drop-in, as podman's before 5.0.
    let generator = "/usr/lib/systemd/system-generators/podman-system-generator";
    let old = "#!/bin/sh\\nrm -rf /run/old; cp -r /etc/containers/systemd /run/old; rm -rf /run/old/*.d\\n\
               QUADLET_UNIT_DIRS=/run/old exec /usr/libexec/podman/quadlet \"$@\"\\n";
    lab.shell(1, &format!("mv {generator} /run/generator; printf '{old}' > {generator}; chmod 755 {generator}; systemctl daemon-reload"));
    install(&lab, "takes no drop-in");
    lab.shell(1, &format!("mv /run/generator {generator}; rm -rf /run/old; systemctl daemon-reload"));
    unchanged(&lab);
    // A folder that no mount can name.
    let extra = "    pulpcov_data_root: \"/srv/a b\"\n";
    lab.inventory_of(&quadlet::profile(&lab.path("home")), extra);
    install(&lab, "/srv/a b cannot be named in a .container file");
    unchanged(&lab);
    assert_eq!(lab.shell(1, "systemctl is-active shop-web shop-worker@1"), "active\nactive\n");
}
