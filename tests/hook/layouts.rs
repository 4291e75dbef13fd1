//! Packages of every kind: what was measured is in the report, wherever it was imported from.

use std::fs;
use std::path::Path;
use std::process::Command;

use pulpcov_tests::{programs, python};
use serde_json::{Value, json};

use crate::{Place, agent};

/// A service that imports a package of each kind, and one that is a file alone.
const MAKE: &str = r#"
import compileall, os, shutil, sys, zipfile

def put(path, text):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as f:
        f.write(text)

BODY = "def view(n):\n    if n:\n        return 1\n    return 2\n"
# A namespace (PEP 420), and in it a file that nothing imports.
put("ns/space/api/views.py", BODY)
put("ns/space/never.py", "x = 1\n")
# A folder without __init__.py inside of a regular package, as Django's management/commands; and one that is none.
put("reg/regular/__init__.py", "")
put("reg/regular/management/commands/go.py", BODY)
put("reg/regular/management/commands/idle.py", "x = 1\n")
put("reg/regular/data/other.py", "x = 1\n")
# Two portions of one package.
for place, name in (("one", "first"), ("two", "second")):
    put(place + "/extended/__init__.py", "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n")
    put(place + "/extended/" + name + ".py", BODY)
# Behind a link.
put("releases/7/linked/__init__.py", "")
put("releases/7/linked/views.py", BODY)
os.symlink("releases/7", "current")
# In a zip.
with zipfile.ZipFile("app.zip", "w") as z:
    z.writestr("zipped/__init__.py", "")
    z.writestr("zipped/views.py", BODY)
# Only byte code.
put("bare/barely/__init__.py", "")
put("bare/barely/views.py", BODY)
compileall.compile_dir("bare", legacy=True, quiet=1)
os.unlink("bare/barely/views.py")
put("thing-server", '''
import os, sys
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, name) for name in ("ns", "reg", "one", "two", "current", "app.zip", "bare")]
import space.api.views, regular.management.commands.go, extended.first, extended.second
import linked.views, zipped.views, barely.views
for module in (space.api.views, regular.management.commands.go, extended.first, extended.second,
               linked.views, zipped.views, barely.views):
    module.view(1)
page = {"__name__": "regular.page"}
exec(compile("def render(n):\\n    return n\\n", os.path.join(here, "reg/regular/page.html"), "exec"), page)
page["render"](1)
''')
put("reg/regular/page.html", "<p>{{ n }}</p>\n")
put("solo/solo.py", BODY + "view(0)\n")
"#;

/// Exit code, standard output, standard error.
fn report(place: &Place, bundle: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(programs::pulpcov())
        .arg("report")
        .arg(bundle)
        .args(words)
        .current_dir(place.work.path())
        .output()
        .expect("pulpcov runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn packages_of_every_kind_are_reported() {
    // The oldest analysis, and the newest.
    let mut versions = vec![crate::state::place()];
    versions.extend(python::of_version("3.6").map(|python| Place::new(&python)));
    for place in versions {
        let app = place.work.path().join("app");
        let made =
            Command::new(&place.python).args(["-c", MAKE]).current_dir(&app).output().expect("python runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut words = place.install_words(true);
        words["profile"]["packages"] =
            json!(["space", "regular", "extended", "linked", "zipped", "barely", "solo", "nowhere"]);
        words["profile"]["processes"] = json!([{"role": "server", "program": ["thing-server", "solo.py"]}]);
        let outcome = agent("install", &words);
        assert_eq!(outcome["failed"], false, "{outcome}");
        for script in ["thing-server", "solo/solo.py"] {
            let run = Command::new(&place.python).arg(app.join(script)).output().expect("python runs");
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        }
        let outcome = agent("collect", &json!({"lib_root": place.work.path().join("lib")}));
        let bundle = Path::new(outcome["pulpcov"]["bundle"].as_str().expect("a bundle")).to_owned();
        let said: Vec<&str> =
            outcome["warnings"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        assert_eq!(said, ["no source of nowhere was found"]);
        let (code, text, _) = report(&place, &bundle, &["--json", "-"]);
        assert_eq!(code, Some(0), "{text}");
        let report_json: Value = serde_json::from_str(&text).expect("JSON");
        let covered = |name: &str| report_json["files"][name]["summary"]["covered_lines"].as_u64();
        for (name, lines) in [
            ("space/api/views.py", Some(3)),
            ("space/never.py", Some(0)),
            ("regular/management/commands/go.py", Some(3)),
            ("regular/management/commands/idle.py", Some(0)),
            ("regular/data/other.py", None),
            ("extended/first.py", Some(3)),
            ("extended/second.py", Some(3)),
            ("linked/views.py", Some(3)),
            ("zipped/views.py", Some(3)),
            ("barely/views.py", None),
            // A template's compiled code: no Python, and nothing that is missing.
            ("regular/page.html", None),
            ("solo.py", Some(4)),
        ] {
            assert_eq!(
                covered(name),
                lines,
                "{name}: {:?}",
                report_json["files"].as_object().map(|all| all.keys().collect::<Vec<_>>())
            );
        }
        // What cannot be reported is counted, and no report that lacks it is complete.
        let (code, text, _) = report(&place, &bundle, &["--require-complete"]);
        assert_eq!(code, Some(3), "{text}");
        assert!(text.contains("; 3 measured lines of 1 file without a source"), "{text}");
    }
}

/// A package that is nowhere: nothing was measured, and that is no coverage of 100 %.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_report_of_nothing_says_so_everywhere() {
    let place = crate::state::place();
    let mut words = place.install_words(true);
    words["profile"]["packages"] = json!(["thign"]);
    assert_eq!(agent("install", &words)["failed"], false);
    assert!(place.run("plain").status.success());
    let outcome = agent("collect", &json!({"lib_root": place.work.path().join("lib")}));
    let bundle = Path::new(outcome["pulpcov"]["bundle"].as_str().expect("a bundle")).to_owned();
    let files =
        ["--json", "r.json", "--markdown", "r.md", "--badge", "r.svg", "--html", "html", "--text", "-"];
    let (code, text, _) = report(&place, &bundle, &files);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("Nothing was measured.") && !text.contains("100%"), "{text}");
    for name in ["r.md", "r.svg", "html/index.html"] {
        let text = fs::read_to_string(place.work.path().join(name)).expect("written");
        assert!(text.contains("nothing was measured") && !text.contains("100%"), "{name}: {text}");
    }
    let json: Value =
        serde_json::from_slice(&fs::read(place.work.path().join("r.json")).expect("written")).expect("JSON");
    assert_eq!(
        (&json["meta"]["nothing_measured"], &json["totals"]["percent_covered"]),
        (&json!(true), &json!(0.0))
    );
    for gate in [&["--fail-under", "1"][..], &["--require-complete"]] {
        assert_eq!(report(&place, &bundle, gate).0, Some(3), "{gate:?}");
    }
}

/// `packages` changed between two installs: what ran before is in no report, and the report says so.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn what_an_earlier_install_measured_is_named() {
    let place = crate::state::place();
    assert_eq!(place.install(true)["failed"], false);
    assert!(place.run("plain").status.success());
    let mut words = place.install_words(true);
    words["profile"]["packages"] = json!(["other"]);
    let outcome = agent("install", &words);
    assert_eq!(outcome["failed"], false, "{outcome}");
    let outcome = agent("collect", &json!({"lib_root": place.work.path().join("lib")}));
    let bundle = Path::new(outcome["pulpcov"]["bundle"].as_str().expect("a bundle")).to_owned();
    let (code, text, said) = report(&place, &bundle, &["--require-complete"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("measured lines of 2 files without a source"), "{text}");
    assert!(text.contains("\nNothing that was measured has a source.\n") && !text.contains("100%"), "{text}");
    assert!(said.contains("thing/main.py (of no package that is measured now)"), "{said}");
    let (_, text, _) = report(&place, &bundle, &["--json", "-"]);
    let meta = &serde_json::from_str::<Value>(&text).expect("JSON")["meta"];
    assert_eq!((&meta["nothing_has_a_source"], &meta["nothing_measured"]), (&json!(true), &Value::Null));
}

/// The same of data whose records are gone: nothing else tells whose it is.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn what_no_record_tells_of_is_named() {
    let place = crate::state::place();
    assert_eq!(place.install(true)["failed"], false);
    assert!(place.run("plain").status.success());
    let records = place.work.path().join("data/.pulpcov");
    for entry in fs::read_dir(&records).expect("lists").map(|entry| entry.expect("an entry").path()) {
        if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with("proc.")) {
            fs::remove_file(entry).expect("removed");
        }
    }
    let mut words = place.install_words(true);
    words["profile"]["packages"] = json!(["other"]);
    assert_eq!(agent("install", &words)["failed"], false);
    let outcome = agent("collect", &json!({"lib_root": place.work.path().join("lib")}));
    let bundle = Path::new(outcome["pulpcov"]["bundle"].as_str().expect("a bundle")).to_owned();
    let (code, text, _) = report(&place, &bundle, &["--require-complete"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("based on 0 of 0 processes") && text.contains("of 2 files without a source"),
        "{text}"
    );
}

/// A virtual environment was made anew, or removed: what others can tell of is fetched, and nothing is given up.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_python_that_is_gone_is_named_and_the_others_answer() {
    let place = crate::state::place();
    let second = place.work.path().join("second");
    let made = Command::new(&place.python).args(["-m", "venv"]).arg(&second).output().expect("venv runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut words = place.install_words(true);
    words["profile"]["packages"] = json!(["thing", "other", "idle", "far", "nowhere"]);
    words["interpreters"] = json!([second.join("bin/python"), place.python]);
    let outcome = agent("install", &words);
    assert_eq!(outcome["failed"], false, "{outcome}");
    let server = place.work.path().join("app/thing-server");
    // Only the second has another package, with a file that nothing runs.
    let site = Command::new(second.join("bin/python"))
        .args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
        .output()
        .expect("python runs");
    let own = Path::new(String::from_utf8_lossy(&site.stdout).trim()).join("other");
    fs::create_dir(&own).expect("a folder");
    fs::write(own.join("__init__.py"), "x = 1\n").expect("written");
    fs::write(own.join("never.py"), "x = 1\n").expect("written");
    // Nobody imports these, one of them beside the others and one behind a line of a `.pth` file.
    let elsewhere = place.work.path().join("elsewhere");
    for folder in [own.with_file_name("idle"), elsewhere.join("far")] {
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("__init__.py"), "x = 1\n").expect("written");
    }
    fs::write(own.with_file_name("far.pth"), format!("import sys\n{}\n", elsewhere.display()))
        .expect("written");
    let alone = place.work.path().join("alone/thing-server");
    fs::create_dir(alone.with_file_name("")).expect("a folder");
    fs::write(&alone, "import other\n").expect("written");
    let run = Command::new(second.join("bin/python")).arg(&alone).output().expect("python runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for python in [&second.join("bin/python"), &place.python] {
        let run = Command::new(python).arg(&server).arg("plain").output().expect("python runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
    // As where one of its libraries is gone.
    fs::remove_file(second.join("bin/python")).expect("removed");
    fs::write(second.join("bin/python"), "#!/bin/sh\nexit 127\n").expect("written");
    fs::set_permissions(second.join("bin/python"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("set");
    let collect = json!({"lib_root": place.work.path().join("lib")});
    let outcome = agent("collect", &collect);
    assert_eq!(outcome["failed"], false, "{outcome}");
    let warning = outcome["warnings"][0].as_str().expect("a warning");
    assert!(warning.starts_with("a Python of the service no longer runs: /"), "{outcome}");
    assert!(warning.contains("second/bin/python failed"), "{outcome}");
    let bundle = Path::new(outcome["pulpcov"]["bundle"].as_str().expect("a bundle")).to_owned();
    let (code, text, _) = report(&place, &bundle, &["--json", "-"]);
    assert_eq!(code, Some(0), "{text}");
    let report_json: Value = serde_json::from_str(&text).expect("JSON");
    let covered = report_json["files"]["thing/main.py"]["summary"]["covered_lines"].as_u64();
    assert!(covered.is_some_and(|lines| lines > 10), "{text}");
    let of = |name: &str| report_json["files"][name]["summary"]["covered_lines"].as_u64();
    assert_eq!((of("other/__init__.py"), of("other/never.py")), (Some(1), Some(0)), "{text}");
    assert_eq!((of("idle/__init__.py"), of("far/__init__.py")), (Some(0), Some(0)), "{text}");
    // What it alone may have had, nobody can tell.
    let (code, text, _) = report(&place, &bundle, &["--require-complete"]);
    let said = text.contains("; no list of all files of nowhere on ");
    assert!(code == Some(3) && said && !text.contains("idle on "), "{text}");

    fs::remove_dir_all(place.work.path().join("venv")).expect("removed");
    let outcome = agent("collect", &collect);
    assert_eq!(outcome["failed"], true, "{outcome}");
    let msg = outcome["msg"].as_str().expect("a message");
    assert!(msg.starts_with("no Python is left to tell of sources: "), "{outcome}");
}
