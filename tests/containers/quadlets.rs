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
    let found = status(&lab);
    assert_eq!(in_state(&found, "live"), LIVE);
    // Under the numbers that the host knows them by.
    let processes = found["hosts"]["h1"]["status"]["processes"].as_array().expect("processes");
    let live = processes.iter().filter(|one| one["state"] == "live");
    let pids: Vec<String> = live.map(|one| one["pid"].to_string()).collect();
    assert_eq!(lab.shell(1, &format!("ps -o comm= -p {}", pids.join(","))).lines().count(), 4, "{pids:?}");
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

    // Data of containers that have names of their own waits for its collect, too.
    lab.get(1, "/price/tea").expect("a price");
    let (code, said) = lab.fleet_says("uninstall", &["--restart"]);
    assert!(code == Some(0) && said.contains("still to be collected"), "{said}");
    lab.wait_for_shop();
    lab.fleet(0, "collect", &["-o", "run"]);
    let report = lab.pulpcov_ends(0, &["report", "run", "--text", "-"]);
    assert!(report.contains("based on 12 of 13 processes on 1 host; 1 died unsaved"), "{report}");
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

/// Two installs on one host, each for a unit; and what somebody takes away under a service keeps it from no start.
#[test]
#[ignore = "needs root and Debian: a host in namespaces, with podman in it"]
fn each_unit_may_have_an_install_of_its_own() {
    let mut lab = start();
    let before = lab.file_tree(1);
    let wheels = pulpcov_tests::python::wheelhouse();
    let host = |name: &str, unit: &str| {
        format!(
            "    {name}: {{ansible_host: 10.77.0.2, pulpcov_units: [\"{unit}\"], pulpcov_lib_root: /opt/{name}, pulpcov_data_root: /srv/{name}}}\n"
        )
    };
    let reach = format!(
        "all:\n  vars: {{ansible_user: deploy, ansible_become: true, ansible_ssh_private_key_file: {}, pulpcov_profile: {}}}\n  hosts:\n",
        lab.path("key").display(),
        shop::profile().display()
    );
    let hosts = host("front", "shop-web.service") + &host("back", "shop-worker@*.service");
    std::fs::write(lab.path("hosts.yml"), reach + &hosts).expect("an inventory");
    lab.fleet(0, "install", &["--restart", "--wheelhouse", &wheels.to_string_lossy()]);
    lab.wait_for_shop();
    let timers = lab.shell(1, "systemctl list-timers --all --no-legend 'pulpcov*' | wc -l");
    assert_eq!(timers.trim(), "2");
    lab.get(1, "/price/tea").expect("a price");
    lab.fleet(0, "collect", &["-o", "run"]);
    let report = lab.pulpcov_ends(0, &["report", "run", "--require-complete"]);
    assert!(report.contains("based on 4 of 4 processes on 2 hosts"), "{report}");
    // One goes, the other stays.
    lab.fleet(0, "uninstall", &["--restart", "--erase-data", "--limit", "back"]);
    let status: Value = serde_json::from_str(&lab.fleet(0, "status", &["--json"])).expect("JSON");
    assert_eq!(status["hosts"]["front"]["status"]["processes"].as_array().map(Vec::len), Some(3), "{status}");
    // The service starts without what its drop-in mounts.
    lab.shell(1, "mv /opt/front /opt/kept; rm -r /srv/front; systemctl restart shop-web");
    lab.wait_for_shop();
    lab.shell(1, "rm -r /opt/front /srv/front; mv /opt/kept /opt/front");
    // And with a drop-in that nobody can take away.
    let drop_in = "/etc/containers/systemd/shop-web.container.d/90-pulpcov.conf";
    lab.shell(1, &format!("mount --bind {drop_in} {drop_in}"));
    let words = ["--restart", "--erase-data", "--force", "--limit", "front"];
    let (_, said) = lab.fleet_says("uninstall", &words);
    assert!(said.contains("90-pulpcov.conf") && said.contains("it is left"), "{said}");
    lab.shell(1, "systemctl restart shop-web");
    lab.wait_for_shop();
    lab.shell(1, &format!("umount {drop_in}; rm -r $(dirname {drop_in}); systemctl daemon-reload; systemctl restart shop-web; rm -r /opt/front /srv/front"));
    lab.wait_for_shop();
    assert_eq!(lab.changes(1, &before, &THEIRS), Vec::<String>::new());
}

/// What only anybody's data tells of, an image that is gone, and a container that does not start with the hook.
#[test]
#[ignore = "needs root and Debian: a host in namespaces, with podman in it"]
fn neither_forged_data_nor_a_new_image_keeps_a_collect_from_its_end() {
    let mut lab = start();
    lab.shell(1, "podman create -q --name new localhost/shop true; podman commit -q new localhost/shop:now; sed -i 's,localhost/shop$,localhost/shop:now,' /etc/containers/systemd/shop-web.container /etc/containers/systemd/shop-worker@.container; systemctl daemon-reload; systemctl restart shop-web shop-worker@1");
    lab.wait_for_shop();
    lab.install();
    lab.wait_for_shop();
    lab.get(1, "/price/tea").expect("a price");
    lab.fleet(0, "collect", &["-o", "run"]);
    // Paths of files of the image, of none, and of what no file system has a name for.
    let forge = "import glob, shutil, sqlite3\n\
        shutil.copy(glob.glob('/srv/pulp_coverage/data.*')[0], '/srv/pulp_coverage/data.h1.99.abcdefabcdef')\n\
        db = sqlite3.connect('/srv/pulp_coverage/data.h1.99.abcdefabcdef')\n\
        paths = ['/x' + 'y' * 6000, '/a\\0b', '/proc/kmsg', '/nowhere/shop/x.py'] + ['/usr/bin/x%d' % n for n in range(2000)]\n\
        db.executemany('insert into file (path) values (?)', [(path,) for path in paths])\n\
        db.commit()";
    lab.shell(
        1,
        &format!("printf '%s' \"{forge}\" | setpriv --reuid=65534 --regid=65534 --clear-groups python3 -"),
    );
    lab.fleet(0, "collect", &["-o", "run"]);
    let report = lab.pulpcov_ends(0, &["report", "run", "--text", "-"]);
    assert!(report.contains("of no process of the service"), "{report}");
    lab.shell(1, "rm -f /srv/pulp_coverage/data.h1.99.abcdefabcdef");
    // Another image of that name; the old one goes.
    lab.shell(1, "podman commit -q --change 'LABEL new=1' new localhost/shop:now; systemctl restart shop-web shop-worker@1; podman image prune -f");
    lab.wait_for_shop();
    let (_, said) = lab.fleet_says("status", &[]);
    assert!(said.contains("localhost/shop:now is another image by now"), "{said}");
    lab.get(1, "/cheapest").expect("a name");
    let (code, said) = lab.fleet_says("collect", &["-o", "run"]);
    assert!(
        code == Some(0) && said.contains("is gone: sources are those of localhost/shop:now now"),
        "{said}"
    );
    let wheels = pulpcov_tests::python::wheelhouse().to_string_lossy().into_owned();
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels]);
    assert!(code == Some(0) && said.contains("of another image"), "{said}");
    let report = lab.pulpcov_ends(0, &["report", "run", "--text", "-"]);
    // The one that was forged.
    assert!(report.contains("; 0 measured lines of 1 file without a source;"), "{report}");
    lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
    // It does not start with a drop-in: it comes up again as it was.
    let picky = "[Service]\\nExecStartPre=/bin/sh -c \"! test -e /etc/containers/systemd/shop-web.container.d/90-pulpcov.conf\"";
    lab.shell(1, &format!("printf '{picky}\\n' > /run/picky; cat /run/picky >> /etc/containers/systemd/shop-web.container; sed -i '/^Restart=always/d' /etc/containers/systemd/shop-web.container; systemctl daemon-reload; systemctl restart shop-web"));
    lab.wait_for_shop();
    let (code, said) = lab.fleet_says("install", &["--restart", "--wheelhouse", &wheels]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("shop-web.service was started again without the drop-in"), "{said}");
    lab.wait_for_shop();
}
