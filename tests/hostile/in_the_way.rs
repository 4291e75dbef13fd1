//! Users who put things where ours go: they keep no verb from its end, and nothing of ours from being removed.

use pulpcov_tests::lab::Lab;

use crate::local_user::{ENVIRONMENT, gate};

/// Makes and removes, as fast as it can, what has a name of ours in the data directory.
const IN_THE_WAY: &str = r#"
cat > /opt/way.py <<'EOF'
import os
os.chdir("/srv/pulp_coverage")
n = 0
while True:
    n += 1
    try:
        ours = [name for name in os.listdir(".pulpcov") if name.startswith(("users.", "install."))]
    except OSError:
        ours = []
    for name in ours + ["users.x", "install.x", "session", "flush", "junk%d" % n]:
        for act in (os.mkdir, lambda path: os.mkdir(path + "/in"), os.rmdir):
            try:
                act(".pulpcov/" + name)
            except OSError:
                pass
    name = "data.zz.%d.aa" % (n % 50)
    try:
        with open(name, "wb") as f:
            f.write(b"SQLite format 3\0" + b"\0" * 60000)
        os.unlink(name)
    except OSError:
        pass
EOF
for n in 1 2; do systemd-run --quiet --unit way$n --uid plain /usr/bin/python3 /opt/way.py; done
"#;

/// Deeper than a path can be long, and than files can be open.
const DEEP: &str = "import os\nos.chdir('/srv/pulp_coverage/.pulpcov')\nfor n in range(5000):\n\
    \x20   os.mkdir('d')\n\x20   os.chdir('d')\n";

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn who_fills_the_data_directory_keeps_no_verb_from_its_end() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    // There before anything of ours is.
    lab.shell(
        1,
        "install -d -m 1777 /srv/pulp_coverage; cd /srv/pulp_coverage; runuser -u plain -- mkdir -p .pulpcov/x",
    );
    let wheels = pulpcov_tests::python::wheelhouse().to_string_lossy().into_owned();
    let words = "/srv/pulp_coverage/.pulpcov belongs to user 1002";
    let doctor = lab.fleet_command("doctor", &[]).output().expect("pulpcov runs");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.code() == Some(4) && said.contains("belongs to user 1002"), "{said}");
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels]);
    assert!(code == Some(4) && said.contains(words), "{said}");
    lab.fleet(0, "install", &["--wheelhouse", &wheels, "--force"]);
    assert_eq!(lab.shell(1, "stat -c %U-%a /srv/pulp_coverage/.pulpcov").trim(), "root-1777");
    assert_eq!(
        lab.shell(1, "ls -A /srv/pulp_coverage/.pulpcov.aside.*").trim(),
        "x",
        "nothing of his is lost"
    );
    lab.fleet(0, "uninstall", &[]);
    // An empty one is in nobody's way.
    lab.shell(1, "cd /srv/pulp_coverage; rm -rf .pulpcov.aside.*; runuser -u plain -- mkdir .pulpcov");
    lab.fleet(0, "install", &["--wheelhouse", &wheels]);
    lab.fleet(0, "uninstall", &[]);
    lab.shell(1, IN_THE_WAY);
    for round in 0..3 {
        lab.fleet(0, "install", &["--wheelhouse", &wheels, "--restart"]);
        lab.wait_for_shop();
        lab.get(1, "/price/tea").expect("answers");
        lab.shell(1, &format!("runuser -u plain -- python3 - <<'END'\n{DEEP}END"));
        let run = format!("run{round}");
        lab.fleet(0, "collect", &["-o", &run]);
        let (_, said) = gate(&lab, &run, &["--trust-extra"]);
        assert!(!said.contains("could not record"), "{said}");
        lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
        assert_eq!(lab.shell(1, "ls -d /srv/pulp_coverage/.pulpcov 2>&1 | grep -c '^/' || true").trim(), "0");
    }
    assert_eq!(lab.shell(1, "systemctl is-active way1 way2").trim(), "active\nactive", "they went on");
}

/// What somebody puts in the place of one hook keeps no other from being removed.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_services_user_keeps_nobody_from_uninstalling() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    lab.shell(1, ENVIRONMENT);
    lab.wait("the shop to start", |lab| lab.get(1, "/cheapest").is_some());
    let hooks = "ls /usr/local/lib/python3*/dist-packages/pulpcov.pth /etc/systemd/system/pulpcov* 2>/dev/null || true";
    let as_shop = |lab: &Lab, script: &str| {
        lab.shell(1, &format!("cd /opt/venv/lib/python3*; runuser -u shop -- sh -c '{script}'"))
    };
    let code = "ls site-packages/__pycache__/_pulpcov_gate.*.pyc";
    let moved_back = "rm site-packages; mv moved site-packages";
    for (trick, words, back) in [
        (format!("P=$({code}); rm -f $P; mkdir -p $P/x"), ALL_ELSE, "rm -r site-packages/__pycache__"),
        (
            "cd site-packages; rm pulpcov.pth; mkdir -p pulpcov.pth/x".to_owned(),
            "somebody changed",
            "rm -r site-packages/pulpcov.pth",
        ),
        ("mv site-packages moved; touch site-packages".to_owned(), "somebody changed", moved_back),
        ("mv site-packages moved; ln -s moved site-packages".to_owned(), "", moved_back),
    ] {
        lab.install();
        lab.wait_for_shop();
        assert_eq!(lab.shell(1, hooks).lines().count(), 3, "root's own hook, and two units");
        as_shop(&lab, &trick);
        let erase = ["--restart", "--erase-data", "--diff"];
        let (code, said) = lab.fleet_says("uninstall", &erase);
        if words.is_empty() {
            // What lies behind his link he can remove himself: it is removed as he.
            assert_eq!(code, Some(0), "{said}");
            assert_eq!(lab.shell(1, "find /opt/venv -name '*pulpcov*'"), "");
        } else {
            assert!(code == Some(4) && said.contains(words), "{trick}: {said}");
            assert_eq!(lab.shell(1, hooks).is_empty(), words == ALL_ELSE, "{trick}");
            let (code, said) = lab.fleet_says("uninstall", &[&erase[..], &["--force"]].concat());
            assert!(code == Some(0) && said.contains("it is left"), "{trick}: {said}");
        }
        assert_eq!(lab.shell(1, hooks), "", "{trick}");
        assert_eq!(lab.shell(1, "ls -d /usr/local/lib/pulpcov 2>/dev/null || true"), "", "{trick}");
        as_shop(&lab, back);
        lab.shell(1, "rm -rf /opt/venv/lib/python3*/site-packages/*pulpcov*; systemctl restart shop-web");
        lab.shell(1, "rm -rf /opt/venv/lib/python3*/site-packages/__pycache__/*pulpcov*");
    }
}

/// How an uninstall ends that had to leave something.
const ALL_ELSE: &str = "all else that starts the hook is removed";
