//! Proof of measurement: what keeps a process from being recorded is found, mended or named.

use pulpcov_tests::lab::Lab;
use pulpcov_tests::python;
use serde_json::Value;

fn wheels() -> String {
    python::wheelhouse().to_string_lossy().into_owned()
}

/// A service of one process in a sandbox: its unit's name says which.
fn put_into_sandbox(lab: &Lab, name: &str, lines: &str) {
    lab.shell(
        1,
        &format!(
            "mkdir -p /opt/box /var/lib/other-srv; \
             printf '#!/usr/bin/python3\\nimport sys, time\\nsys.path.insert(0, \"/opt/shop\")\\nimport shop.catalogue\\ntime.sleep(100000)\\n' > /opt/box/shop-worker; \
             chmod 755 /opt/box/shop-worker; \
             printf '[Service]\\nExecStart=/opt/box/shop-worker\\n{lines}\\n' > /etc/systemd/system/box-{name}.service; \
             systemctl daemon-reload"
        ),
    );
}

/// An install that fails; what it says.
fn refused(lab: &Lab) -> String {
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart"]);
    assert_eq!(code, Some(4), "{said}");
    said
}

fn doctor(lab: &Lab, code: i32) -> Vec<Value> {
    let report: Value = serde_json::from_str(&lab.fleet(code, "doctor", &["--json"])).expect("JSON");
    report["hosts"]["h1"]["findings"].as_array().expect("findings").clone()
}

fn says(findings: &[Value], grade: &str, words: &[&str]) -> bool {
    findings.iter().any(|finding| {
        let text = finding.to_string();
        finding["grade"] == grade && words.iter().all(|word| text.contains(word))
    })
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn sandboxed_units_are_found_let_out_and_shut_in_again() {
    let lab = Lab::start(1);
    lab.inventory("    pulpcov_units: ['box-*.service']\n");
    for (name, lines) in [
        ("strict", "ProtectSystem=strict"),
        ("readonly", "ReadOnlyPaths=/srv"),
        ("tmpfs", "TemporaryFileSystem=/srv"),
        ("private", "BindPaths=/var/lib/other-srv:/srv"),
        ("dynamic", "DynamicUser=yes"),
        (
            "tight",
            "ProtectSystem=strict\\nPrivateTmp=yes\\nPrivateDevices=yes\\nProtectHome=yes\\nProtectProc=invisible\\nProcSubset=pid\\nNoNewPrivileges=yes\\nUser=shop",
        ),
        ("open", "PrivateTmp=yes\\nUser=shop"),
    ] {
        put_into_sandbox(&lab, name, lines);
    }
    lab.shell(1, "systemctl start 'box-*' --all; systemctl start box-strict box-readonly box-tmpfs box-private box-dynamic box-tight box-open");
    let before = lab.file_tree(1);
    let found = doctor(&lab, 0);
    for (name, why) in [
        ("strict", "ProtectSystem=strict"),
        ("readonly", "ReadOnlyPaths=/srv"),
        ("tmpfs", "TemporaryFileSystem=/srv"),
        ("private", "BindPaths"),
        ("dynamic", "ProtectSystem=strict"),
        ("tight", "ProtectSystem=strict"),
    ] {
        assert!(
            says(&found, "warning", &[&format!("box-{name}.service"), why, "drop-in"]),
            "{name}: {found:?}"
        );
    }
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("7 processes recorded"), "{said}");
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart"]);
    assert!(code == Some(0) && said.contains("already installed"), "{said}");
    lab.fleet(0, "collect", &["-o", "run"]);
    let report: Value =
        serde_json::from_str(&lab.pulpcov_ends(0, &["report", "run", "--json", "-"])).expect("JSON");
    let units: std::collections::BTreeSet<&str> = report["hosts"]["h1"]["processes"]
        .as_array()
        .expect("processes")
        .iter()
        .filter(|process| process["data"].is_string())
        .filter_map(|process| process["unit"].as_str())
        .collect();
    assert_eq!(units.len(), 7, "{units:?}");
    lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
    assert_eq!(lab.changes(1, &before, &["systemd-private-", "./var/lib/private"]), Vec::<String>::new());
}

/// A name that is mistyped would measure nothing, and the night would look fine.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_package_that_no_host_has_is_an_obstacle_and_no_install_goes_well_with_it() {
    let lab = Lab::with_shop(2);
    lab.inventory("    pulpcov_packages: [shop, thign]\n");
    let (code, said) = lab.fleet_says("doctor", &[]);
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("obstacle: no Python of any host finds the package thign"), "{said}");
    for verb in ["install", "run"] {
        let words: &[&str] = if verb == "run" { &["--", "touch", "ran"] } else { &[] };
        let (code, said) = lab.fleet_says(verb, &[&["--wheelhouse", &wheels()], words].concat());
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains("no Python of any host finds the package thign"), "{said}");
    }
    assert!(!lab.path("ran").exists());
    // One host has it, as not every host of a service has all of it: fine.
    lab.shell(2, "mkdir /opt/shop/thign; touch /opt/shop/thign/__init__.py");
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("h1: warning: no Python of the service finds the package thign"), "{said}");
    assert_eq!(lab.fleet_says("doctor", &[]).0, Some(0));
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_process_that_cannot_be_recorded_fails_the_install_by_name_and_reason() {
    let lab = Lab::start(1);
    lab.inventory("    pulpcov_units: ['box-*.service']\n");
    put_into_sandbox(&lab, "shut", "InaccessiblePaths=/srv");
    lab.shell(1, "systemctl start box-shut");
    let found = doctor(&lab, 4);
    assert!(says(&found, "bad", &["box-shut.service", "InaccessiblePaths=/srv"]), "{found:?}");
    let said = refused(&lab);
    assert!(said.contains("box-shut.service cannot be recorded: InaccessiblePaths=/srv"), "{said}");
    lab.shell(1, "test ! -e /usr/local/lib/pulpcov/receipt.json; systemctl stop box-shut; rm /etc/systemd/system/box-shut.service");

    // A Python that reads no .pth.
    put_into_sandbox(&lab, "deaf", "ExecStart=");
    lab.shell(1, "sed -i 's|^ExecStart=$|ExecStart=/usr/bin/python3 -S /opt/box/shop-worker|; /box.shop-worker$/!b' /etc/systemd/system/box-deaf.service; sed -i '0,/ExecStart=.opt.box/{/ExecStart=.opt.box/d}' /etc/systemd/system/box-deaf.service; systemctl daemon-reload; systemctl start box-deaf");
    let said = refused(&lab);
    assert!(
        said.contains("(shop-worker) of box-deaf.service") && said.contains("-S, which reads no .pth"),
        "{said}"
    );
    // What runs from here on is not the start's, also where that failed.
    let text = lab.fleet(0, "status", &["--json"]);
    assert!(text.contains("label tests"), "{text}");
    let said = refused(&lab);
    assert!(said.contains("-S, which reads no .pth"), "again: {said}");
    lab.shell(1, "systemctl stop box-deaf; rm /etc/systemd/system/box-deaf.service");
    // A program that no rule fits is recorded for its unit: no test may miss it in silence.
    put_into_sandbox(&lab, "strange", "User=shop");
    lab.shell(1, "cp /opt/box/shop-worker /opt/box/unheard-of; sed -i s/shop-worker/unheard-of/ /etc/systemd/system/box-strange.service; systemctl daemon-reload; systemctl start box-strange");
    let found = doctor(&lab, 0);
    assert!(says(&found, "ok", &["box-strange.service", "recorded as box-strange"]), "{found:?}");
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart"]);
    assert_eq!(code, Some(0), "{said}");
    let text = lab.fleet(0, "status", &["--json"]);
    assert!(text.contains("\"role\":\"box-strange\""), "{text}");
    // A unit that does not come up is told with its own last words.
    lab.shell(1, "printf '#!/usr/bin/python3\\nraise SystemExit(\"no flour today\")\\n' > /opt/box/unheard-of; systemctl restart box-strange || true");
    let said = refused(&lab);
    assert!(said.contains("no flour today"), "{said}");
}

/// uWSGI forks in C, and makes threads there; where it lets no thread of Python's run, nobody can be asked.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn workers_that_uwsgi_forks_are_recorded_once_it_lets_threads_run() {
    let lab = Lab::start(1);
    lab.inventory(
        "    pulpcov_units: [oven.service]\n    pulpcov_interpreters: [/usr/bin/python3]\n    \
         pulpcov_processes: [{role: web, program: uwsgi-core}]\n",
    );
    let serve = |more: &str| {
        lab.shell(
            1,
            &format!(
                "printf '[Service]\\nUser=shop\\nWorkingDirectory=/opt/shop\\nExecStart=/usr/bin/uwsgi-core \
                 --plugin python3 --http-socket :8200 --wsgi shop.web:app --master --processes 2 --die-on-term {more}\\n' \
                 > /etc/systemd/system/oven.service; systemctl daemon-reload; systemctl restart oven"
            ),
        );
    };
    serve("");
    let said = refused(&lab);
    assert!(said.contains("(uwsgi-core) of oven.service: it did not answer a flush within 10 s"), "{said}");
    assert!(said.contains("hint: set enable-threads = true in uWSGI's configuration"), "{said}");
    serve("--enable-threads --threads 2");
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart"]);
    assert_eq!(code, Some(0), "{said}");
    let ask = "import urllib.request as u; u.urlopen(\"http://127.0.0.1:8200/price/tea?vip\").read()";
    lab.shell(1, &format!("python3 -c '{ask}'"));
    lab.fleet(0, "collect", &["-o", "run"]);
    let report: Value =
        serde_json::from_str(&lab.pulpcov_ends(0, &["report", "run", "--json", "-"])).expect("JSON");
    let ran = report["labels"]["tests"]["files"]["shop/catalogue.py"]["executed_lines"].to_string();
    assert!(ran.contains("11"), "what a worker ran is there: {ran}");
}

/// Wrappers that are slow, units that end, instances that systemd forgets, and what a person has stopped.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn units_of_every_kind_are_restarted_and_proven() {
    let lab = Lab::start(1);
    lab.inventory("    pulpcov_units: [box-once.service, box-slow.service, 'box@*.service']\n");
    put_into_sandbox(&lab, "once", "Type=oneshot");
    lab.shell(1, "sed -i 's|^ExecStart=.*|ExecStart=/bin/true|' /etc/systemd/system/box-once.service");
    put_into_sandbox(&lab, "slow", "User=shop");
    lab.shell(1, "sed -i 's|^ExecStart=\\(.*\\)|ExecStart=/bin/sh -c \"sleep 4; exec \\1\"|' /etc/systemd/system/box-slow.service; \
        printf '[Service]\\nExecStart=/opt/box/shop-worker\\n' > /etc/systemd/system/box@.service; systemctl daemon-reload; systemctl start box-slow box@1 box@2");
    let (code, said) =
        lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart", "--label", "night"]);
    assert!(code == Some(0) && said.contains("3 processes recorded"), "{said}");
    let services = |action: &str| {
        let (inventory, known) = (lab.path("hosts.yml"), lab.path("known_hosts"));
        let words = [
            "fleet",
            "services",
            action,
            &*inventory.to_string_lossy(),
            "--known-hosts",
            &*known.to_string_lossy(),
        ]
        .map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        lab.pulpcov_ends(0, &words)
    };
    services("stop");
    services("stop");
    assert_eq!(
        lab.shell(1, "systemctl is-active box-slow box@1 box@2 || true"),
        "inactive\ninactive\ninactive\n"
    );
    // A restart starts nothing that is stopped.
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        lab.shell(1, "systemctl is-active box-slow box@1 box@2 || true"),
        "inactive\ninactive\ninactive\n"
    );
    services("start");
    assert_eq!(lab.shell(1, "systemctl is-active box-slow box@1 box@2"), "active\nactive\nactive\n");
    let text = lab.fleet(0, "status", &["--json"]);
    assert!(text.contains("label night"), "{text}");
    // Half of the commands is no restart.
    let (inventory, known) = (lab.path("hosts.yml"), lab.path("known_hosts"));
    let output = lab.pulpcov(&[
        "fleet",
        "services",
        "restart",
        &inventory.to_string_lossy(),
        "--known-hosts",
        &known.to_string_lossy(),
        "--stop-command",
        "touch /run/was-stopped",
    ]);
    assert_eq!(output.status.code(), Some(4));
    lab.shell(1, "test ! -e /run/was-stopped");
    let (code, said) = lab.fleet_says("reset", &["--label", "startup"]);
    assert!(code == Some(4) && said.contains("is for what starting the services covers"), "{said}");
}

#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_doctor_tells_what_else_is_in_the_way() {
    let lab = Lab::start(1);
    lab.inventory("");
    let well = doctor(&lab, 0);
    assert!(well.iter().all(|finding| finding["grade"] != "bad"), "{well:?}");
    assert!(says(&well, "ok", &["shop-web.service", "/usr/bin/python3"]), "{well:?}");
    assert!(says(&well, "ok", &["fs.protected_regular"]), "{well:?}");
    // The original's hook, a directory of the wrong mode, and a full disk.
    lab.shell(1, "mkdir /srv/pulp_coverage; chmod 750 /srv/pulp_coverage; rm -f /etc/python3.11/sitecustomize.py /usr/lib/python3.11/sitecustomize.py; printf 'import coverage\\n' > /usr/lib/python3.11/sitecustomize.py");
    let found = doctor(&lab, 4);
    assert!(says(&found, "bad", &["sitecustomize.py", "coverage_hook"]), "{found:?}");
    assert!(says(&found, "warning", &["/srv/pulp_coverage", "mode 750"]), "{found:?}");
    lab.fill_disk(1, 8 * 1024);
    let found = doctor(&lab, 4);
    assert!(says(&found, "bad", &["/srv/pulp_coverage", "MiB free"]), "{found:?}");
    // In words for a person, on stdout; the worst first.
    let text = lab.fleet(4, "doctor", &[]);
    assert!(text.lines().next().is_some_and(|line| line.starts_with("h1: obstacle")), "{text}");
}

/// A process that runs with the hook and cannot write is no recorded one, and everybody says why.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_process_that_cannot_write_is_not_counted_as_recorded() {
    let mut lab = Lab::start(1);
    lab.inventory("");
    lab.wait_for_shop();
    lab.install();
    lab.wait_for_shop();
    let status = |lab: &Lab| lab.fleet_says("status", &[]).1;
    assert!(!status(&lab).contains(" that cannot"));
    // Also of those that have nothing to write.
    for (mode, words, counts) in [
        ("777", "everybody can remove what others wrote", " 4 processes recorded now, 0 not recorded"),
        ("775", "only its owner and its group can write", " 0 processes recorded now, 4 that cannot, 0 not"),
        ("755", "only its owner can write", " 0 processes recorded now, 4 that cannot, 0 not recorded"),
    ] {
        lab.shell(1, &format!("chmod {mode} /srv/pulp_coverage/.pulpcov"));
        let said = status(&lab);
        let warning = format!("/srv/pulp_coverage/.pulpcov has mode {mode}, so that {words}");
        assert!(said.contains(&warning) && said.contains(counts), "{said}");
    }
    lab.get(1, "/price/tea?vip").expect("answers");
    lab.wait("a process that says so", |lab| status(lab).contains(" that cannot, 0 not recorded"));
    let said = status(&lab);
    assert!(
        said.contains("/srv/pulp_coverage/.pulpcov has mode 755, so that only its owner can write"),
        "{said}"
    );
    assert!(lab.fleet(0, "status", &[]).contains("cannot write"), "{said}");
    let doctor = lab.fleet_command("doctor", &[]).output().expect("pulpcov runs");
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("/srv/pulp_coverage/.pulpcov has mode 755"), "{doctor}");
    let (code, said) = lab.fleet_says("collect", &["-o", "run"]);
    assert!(code == Some(0) && said.contains("did not answer the flush request"), "{said}");
    // Nor is it ended with what it holds.
    for words in [&["--restart"][..], &["--restart", "--check"]] {
        let (code, said) = lab.fleet_says("uninstall", words);
        assert!(code == Some(4) && said.contains(" could not write what "), "{said}");
    }
    // What the words say to do, does it.
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels()]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = lab.fleet_says("collect", &["-o", "run"]);
    assert!(code == Some(0) && !said.contains("cannot write"), "{said}");
    lab.pulpcov_ends(0, &["report", "run", "--require-complete"]);
}

/// Without systemd, the person's own commands stop and start the service.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_host_without_systemd_is_started_and_stopped_by_commands() {
    let lab = Lab::start(1);
    let stop = "pkill -f [s]hop-worker; sleep 0.5; true";
    let start = "runuser -u shop -- env STATE_DIRECTORY=/var/lib/shop setsid /opt/shop/shop-worker >/dev/null 2>&1 </dev/null &";
    lab.inventory(&format!(
        "    pulpcov_interpreters: [/usr/bin/python3]\n    pulpcov_stop_command: '{stop}'\n    pulpcov_start_command: '{start}'\n"
    ));
    lab.shell(1, "systemctl stop shop-web shop-worker; mv /run/systemd/system /run/systemd/away");
    let (code, said) = lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 process recorded"), "{said}");
    let first = lab.shell(1, "pgrep -f [s]hop-worker");
    let text = lab.fleet(0, "status", &[]);
    assert!(text.contains("worker") && text.contains("recording"), "{text}");
    let (code, said) =
        lab.fleet_says("install", &["--wheelhouse", &wheels(), "--restart", "--start-command", "false"]);
    assert!(code == Some(0) && said.contains("already installed"), "{said}");
    assert_eq!(lab.shell(1, "pgrep -f [s]hop-worker"), first, "nothing was restarted");
    lab.fleet(0, "collect", &["-o", "run"]);
    lab.pulpcov_ends(0, &["report", "run", "--require-complete"]);
    let (code, said) = lab
        .fleet_says("uninstall", &["--restart", "--erase-data", "--start-command", "echo no bread; false"]);
    assert!(code == Some(4) && said.contains("no bread"), "{said}");
}
