//! Services that are not Pulp, by the profile `generic`.

use pulpcov_tests::lab::Lab;
use pulpcov_tests::{pulp, python};
use serde_json::Value;

fn collected(lab: &Lab) -> Value {
    lab.fleet(0, "collect", &["-o", "run"]);
    serde_json::from_str(&lab.pulpcov_ends(0, &["report", "run", "--json", "-", "--require-complete"]))
        .expect("JSON")
}

fn install(lab: &Lab) {
    let wheels = python::wheelhouse().to_string_lossy().into_owned();
    lab.fleet(0, "install", &["--wheelhouse", &wheels, "--restart"]);
}

/// The worked example of `controller/usage.md`.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn a_django_site_under_gunicorn_and_celery() {
    let mut lab = pulp::hosts(1);
    lab.write_inventory(
        "all:\n  vars:\n    pulpcov_profile: generic\n    pulpcov_packages: [mysite]\n    pulpcov_units: [mysite-web.service, mysite-worker.service]\n  hosts: {h1: {}}\n",
    );
    lab.shell(1, "systemctl start redis-server mysite-web mysite-worker");
    install(&lab);
    lab.wait("the site to answer", |lab| lab.get(1, "/order/0").is_some());
    for cakes in [3, 4, 5] {
        lab.get(1, &format!("/order/{cakes}")).expect("orders are taken");
    }
    lab.wait("the cakes", |lab| lab.shell(1, "wc -l < /var/lib/mysite/baked || true").trim() == "3");
    let report = collected(&lab);
    let roles: std::collections::BTreeSet<&str> = report["hosts"]["h1"]["processes"]
        .as_array()
        .expect("processes")
        .iter()
        .filter_map(|process| process["role"].as_str())
        .collect();
    assert_eq!(roles.into_iter().collect::<Vec<_>>(), ["task", "web", "worker"]);
    let executed = |file: &str| report["files"][file]["executed_lines"].clone();
    // The task's body, but for the answer to too large an order, and both ways through the view.
    assert_eq!(executed("mysite/tasks.py"), serde_json::json!([1, 4, 5, 6, 8, 9, 10]));
    assert_eq!(report["files"]["mysite/urls.py"]["missing_lines"], serde_json::json!([]));
    lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
}

/// `mod_wsgi`'s request threads are made in C: its events start the tracer in each of them.
#[test]
#[ignore = "needs root and Debian: hosts in namespaces"]
fn apache_with_mod_wsgi_in_both_of_its_modes() {
    let mut lab = pulp::hosts(1);
    lab.write_inventory(
        "all:\n  vars:\n    pulpcov_profile: generic\n    pulpcov_packages: [bakery]\n    pulpcov_units: [apache2.service]\n    pulpcov_interpreters: [/usr/bin/python3]\n  hosts: {h1: {}}\n",
    );
    let functions: String = (0..40).map(|n| format!("def f{n}():\\n    return {n}\\n")).collect();
    lab.shell(1, &format!("mkdir -p /opt/bakery; printf '{functions}' > /opt/bakery/bakery.py; \
        printf 'import sys\\nsys.path.insert(0, \"/opt/bakery\")\\nimport bakery\\ndef application(environ, start):\\n    n = getattr(bakery, \"f\" + environ[\"PATH_INFO\"].strip(\"/\"))()\\n    start(\"200 OK\", [])\\n    yield b\"%%d\" %% n\\n' > /opt/bakery/app.wsgi"));
    let daemon = "WSGIDaemonProcess bakery processes=2 threads=4\\nWSGIProcessGroup bakery\\n";
    for (mode, lines) in [("daemon", daemon), ("embedded", "")] {
        lab.shell(1, &format!("printf 'Listen 8000\\n{lines}WSGIApplicationGroup %%{{GLOBAL}}\\nWSGIScriptAlias / /opt/bakery/app.wsgi\\n<Directory /opt/bakery>\\nRequire all granted\\n</Directory>\\n' > /etc/apache2/conf-enabled/bakery.conf; systemctl restart apache2"));
        lab.wait("apache to answer", |lab| lab.get(1, "/0").is_some());
        install(&lab);
        for n in 0..40 {
            assert_eq!(lab.get(1, &format!("/{n}")).as_deref(), Some(&*n.to_string()), "{mode}");
        }
        let report = collected(&lab);
        assert_eq!(report["files"]["bakery.py"]["missing_lines"], serde_json::json!([]), "{mode}");
        lab.fleet(0, "uninstall", &["--restart", "--erase-data"]);
        fs_err::remove_dir_all(lab.path("run")).expect("removed");
    }
}
