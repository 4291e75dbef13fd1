//! What the agent leaves where it is killed or fails, and what the recorder does where threads fork
//! and signals raise.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pulpcov_tests::{programs, python};
use serde_json::json;

use super::{Place, VERSIONS, agent};

pub(crate) fn any_python() -> PathBuf {
    python::of_version("3.11")
        .or_else(|| VERSIONS.iter().find_map(|version| python::of_version(version)))
        .expect("a Python")
}

pub(crate) fn place() -> Place {
    Place::new(&any_python())
}

/// Every path below a folder.
fn tree(root: &Path) -> Vec<String> {
    let output = Command::new("find")
        .arg(root)
        .args(["-not", "-path", "*/__pycache__/*"])
        .output()
        .expect("find runs");
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Another install's gate on the same interpreter is its own; one that no receipt tells of is nobody's.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_gate_of_another_install_is_not_taken_over() {
    let place = place();
    place.install(false);
    let mut other = place.install_words(false);
    other["lib_root"] = json!(place.work.path().join("other/lib"));
    other["data_root"] = json!(place.work.path().join("other/data"));
    let refused = agent("install", &other);
    let said = refused["msg"].as_str().expect("words").to_owned();
    assert!(refused["failed"] == true && said.contains("is there and is not ours"), "{refused}");
    let gate = python::site_folder(&place.work.path().join("venv")).join("_pulpcov_gate.py");
    let lib = place.work.path().join("lib");
    assert!(fs::read_to_string(&gate).expect("a gate").contains(&*lib.to_string_lossy()));
    fs::remove_dir_all(&lib).expect("removed");
    assert_eq!(agent("install", &other)["failed"], false);
}

/// An install that is killed at any moment can be undone: the receipt tells what was meant to be.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_killed_install_can_be_undone_and_finished() {
    let place = place();
    let work = place.work.path();
    let before = tree(work);
    let words = place.install_words(false).to_string();
    let site = work.join("venv/lib");
    let site = fs::read_dir(site)
        .expect("lists")
        .next()
        .expect("a Python")
        .expect("entry")
        .path()
        .join("site-packages");
    let is_live = || site.join("pulpcov.pth").exists();
    let mut was_live = false;
    for attempt in 0..14 {
        let mut child = Command::new(programs::agent())
            .args(["install", "--json", "--args", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the agent runs");
        child.stdin.take().expect("piped").write_all(words.as_bytes()).expect("written");
        // Later and later; in the second half, as soon as the hook is live.
        let mut polls = 0;
        while !is_live() && (attempt > 7 || polls < attempt * 20) {
            polls += 1;
            std::thread::sleep(std::time::Duration::from_millis(10));
            if child.try_wait().expect("a child").is_some() {
                break;
            }
        }
        child.kill().expect("dies");
        child.wait().expect("ends");
        was_live |= is_live();
        let outcome = agent("uninstall", &json!({"lib_root": work.join("lib")}));
        assert_eq!(outcome["failed"], false, "{outcome}");
        if outcome["changed"] == true {
            let left: Vec<String> = tree(work).into_iter().filter(|path| !before.contains(path)).collect();
            assert!(left.is_empty(), "attempt {attempt}: {left:?}");
        } else {
            // Killed before its receipt was there: nothing but its folder can be.
            assert!(!is_live(), "attempt {attempt}: live without a receipt");
        }
    }
    assert!(was_live, "no attempt was killed with the hook live");
    assert_eq!(place.install(false)["failed"], false);
    assert!(place.run("plain").status.success());
    assert_eq!(place.lines().len(), 2);
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_failing_reinstall_keeps_the_working_one() {
    let place = place();
    let lib = place.work.path().join("lib");
    assert_eq!(place.install(false)["failed"], false);
    let before = tree(place.work.path());
    // Somebody touched the tree, so it would be made anew; but there is no wheel to make it from.
    let coverage = fs::read_dir(&lib)
        .expect("lists")
        .map(|entry| entry.expect("entry").path())
        .find(|path| path.to_string_lossy().contains("coverage-"))
        .expect("coverage");
    fs::write(coverage.join("coverage/mine.py"), "").expect("written");
    let mut words = place.install_words(true);
    words["wheelhouse"] = json!("/nowhere");
    let outcome = agent("install", &words);
    assert_eq!(outcome["failed"], true, "{outcome}");
    fs::remove_file(coverage.join("coverage/mine.py")).expect("it is back");
    assert_eq!(tree(place.work.path()), before);
    assert!(place.run("plain").status.success());
    assert_eq!(place.lines().len(), 2, "it still records");
    fs::remove_dir_all(&coverage).expect("removed");
    let status = agent("status", &json!({"lib_root": lib}));
    assert!(status["warnings"].to_string().contains("is gone"), "{status}");
}

/// Somebody has cleaned up, or an install was cut off before it made the folder: said as what it is.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_data_directory_that_is_gone_is_named_and_made_again() {
    let place = place();
    let lib = json!({"lib_root": place.work.path().join("lib")});
    assert_eq!(place.install(false)["failed"], false);
    fs::remove_dir_all(place.work.path().join("data")).expect("removed");
    let why = "is not there: an install was not finished, or somebody has removed it";
    let outcome = agent("collect", &lib);
    assert!(outcome["failed"] == true && outcome["msg"].to_string().contains(why), "{outcome}");
    assert!(outcome["hint"].to_string().contains("pulpcov fleet install"), "{outcome}");
    let status = agent("status", &lib);
    assert!(status["warnings"].to_string().contains(why), "{status}");
    for verb in ["reset", "flush"] {
        let outcome = agent(verb, &lib);
        assert!(outcome["failed"] == true && outcome["msg"].to_string().contains(why), "{verb}: {outcome}");
    }
    assert_eq!(place.install(false)["failed"], false);
    assert!(place.run("plain").status.success());
    assert_eq!(place.lines().len(), 2);
}

/// As an agent leaves it that is killed between its receipt and the hook's files.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_collect_names_an_install_that_was_cut_off() {
    let place = place();
    let lib = place.work.path().join("lib");
    assert_eq!(place.install(false)["failed"], false);
    let receipt = fs::read_to_string(lib.join("receipt.json")).expect("a receipt");
    let cut_off = receipt.replace("\"complete\": true", "\"complete\": false");
    assert_ne!(receipt, cut_off);
    fs::write(lib.join("receipt.json"), cut_off).expect("written");
    fs::remove_dir_all(lib.join("hook")).expect("removed");
    let outcome = agent("collect", &json!({"lib_root": lib}));
    let said = outcome.to_string();
    assert!(outcome["failed"] == true && said.contains("an install was not finished here"), "{said}");
    assert!(said.contains("install again, or uninstall"), "{said}");
    assert_eq!(place.install(false)["failed"], false);
    assert!(place.run("plain").status.success());
    assert_eq!(place.lines().len(), 2);
}

/// Two collects at once: erasing what one fetched leaves what only the other has.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn overlapping_bundles_do_not_erase_each_others_data() {
    let place = place();
    assert_eq!(place.install(false)["failed"], false);
    let words = json!({"lib_root": place.work.path().join("lib")});
    let bundle = || agent("collect", &words)["pulpcov"]["bundle"].as_str().expect("a bundle").to_owned();
    assert!(place.run("plain").status.success());
    let first = bundle();
    assert!(place.run("plain").status.success());
    let second = bundle();
    assert_ne!(first, second);
    let output = Command::new(programs::agent())
        .args(["erase", "--json", "--bundle", &first, "--args", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            child.stdin.take().expect("piped").write_all(words.to_string().as_bytes())?;
            child.wait_with_output()
        })
        .expect("the agent runs");
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(outcome["pulpcov"]["erased"].as_array().map(Vec::len), Some(2), "{outcome}");
    let left = fs::read_dir(place.work.path().join("data")).expect("lists").count();
    assert_eq!(left, 3, "the second run's two files, and the ledger");
    assert!(Path::new(&second).exists());
}

/// Threads that fork at the same time, and signal handlers that raise while a child leaves.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn forks_in_threads_and_raising_signals_change_nothing_for_the_service() {
    let place = place();
    let main = place.work.path().join("app/thing/main.py");
    let script = r#"
import os, signal, sys, threading, time

def forks():
    for _ in range(15):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

raised_in = None

def raise_exit(signum, frame):
    global raised_in
    raised_in = frame.f_code.co_filename, frame.f_lineno
    # A function that has not done anything yet was not called, as far as a signal goes.
    if frame.f_lineno == frame.f_code.co_firstlineno:
        raised_in = main_file, 0
    raise SystemExit(7)

def run(how):
    before = len(os.listdir("/proc/self/task"))
    threads = [threading.Thread(target=forks) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    for _ in range(500):        # the kernel may still be taking the joined threads down
        after = len(os.listdir("/proc/self/task"))
        if after <= before:
            break
        time.sleep(0.01)
    else:
        print("threads", before, after)
    parent = os.getpid()
    for n in range(60):
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGALRM, raise_exit)
                signal.setitimer(signal.ITIMER_REAL, 0.0005 * (n % 20 + 1))
                exec(compile("x = %d" % n, main_file, "exec"))
                os._exit(0)
            except SystemExit:
                # Before os._exit was called, a signal may well raise here: that is Python's own way.
                if raised_in[0] != main_file:
                    os.write(1, b"escaped in %s:%d\n" % (raised_in[0].encode(), raised_in[1]))
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    assert os.getpid() == parent

main_file = __file__
"#;
    fs::write(&main, script).expect("written");
    assert_eq!(place.install(false)["failed"], false);
    let output = place.run("plain");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "",
        "a thread was left behind, or an exit was escaped"
    );
}

/// What `--force` replaces may be large: it lies beside the receipt, and comes back byte for byte.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn large_files_that_were_replaced_come_back() {
    let place = place();
    let lib = place.work.path().join("lib");
    let site =
        fs::read_dir(place.work.path().join("venv/lib")).expect("lists").flatten().next().expect("a Python");
    let gate = site.path().join("site-packages/_pulpcov_gate.py");
    let theirs = "# mine\n".repeat(100_000);
    fs::write(&gate, &theirs).expect("written");
    let before = tree(place.work.path());
    let mut words = place.install_words(false);
    assert_eq!(agent("install", &words)["failed"], true, "it is not ours");
    words["force"] = json!(true);
    assert_eq!(agent("install", &words)["failed"], false);
    assert_eq!(agent("status", &json!({"lib_root": lib}))["failed"], false);
    assert_eq!(agent("install", &words)["changed"], false);
    let outcome = agent("uninstall", &json!({"lib_root": lib}));
    assert_eq!(outcome["failed"], false, "{outcome}");
    assert_eq!(fs::read_to_string(&gate).expect("it is back"), theirs);
    assert_eq!(tree(place.work.path()), before);
}

/// A receipt that nobody can read does not keep the hook on a host for ever.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn without_a_readable_receipt_the_hook_goes_all_the_same() {
    let place = place();
    let lib = place.work.path().join("lib");
    assert_eq!(place.install(false)["failed"], false);
    let receipt = lib.join("receipt.json");
    let text = fs::read_to_string(&receipt).expect("a receipt");
    fs::write(&receipt, &text[..text.len() / 2]).expect("cut");
    let failed = agent("status", &json!({"lib_root": lib}));
    assert!(failed["failed"] == true && failed["hint"].to_string().contains("uninstall"), "{failed}");
    // A process of the service shows where its Python is.
    let app = place.work.path().join("app/thing/main.py");
    fs::write(&app, "import time\n\ndef run(how):\n    time.sleep(60)\n").expect("written");
    let mut service = Command::new(&place.python)
        .arg(place.work.path().join("app/thing-server"))
        .arg("plain")
        .spawn()
        .expect("python runs");
    let outcome = agent("uninstall", &json!({"lib_root": lib}));
    service.kill().expect("killed");
    service.wait().expect("ended");
    assert_eq!(outcome["failed"], false, "{outcome}");
    assert!(outcome["warnings"].to_string().contains("receipt.json is damaged"), "{outcome}");
    let left: Vec<String> = tree(place.work.path())
        .into_iter()
        .filter(|path| path.contains("pulpcov") && !path.contains("/data"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(agent("status", &json!({"lib_root": lib}))["msg"], "not installed");
}

/// Any user may write to a data file at any time; that is a warning, and no end of the collect.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_data_file_that_keeps_changing_is_left_alone() {
    let place = place();
    assert_eq!(place.install(false)["failed"], false);
    assert!(place.run("plain").status.success());
    let theirs = place.work.path().join("data/data.theirs.1.aa");
    // Large enough that no copy of it is made between two writes.
    let script = "import os, sys\nfd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\nos.pwrite(fd, b'SQLite format 3\\0', 0)\nos.truncate(fd, 64 << 20)\nwhile True:\n    os.pwrite(fd, b'x', 100)\n";
    let mut writer =
        Command::new(&place.python).args(["-c", script]).arg(&theirs).spawn().expect("python runs");
    while fs::metadata(&theirs).map_or(0, |meta| meta.len()) < 64 << 20 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let outcome = agent("collect", &json!({"lib_root": place.work.path().join("lib")}));
    writer.kill().expect("killed");
    writer.wait().expect("ended");
    assert_eq!(outcome["failed"], false, "{outcome}");
    assert_eq!(outcome["pulpcov"]["data_files"], 2, "{outcome}");
    assert!(outcome["warnings"].to_string().contains("changes while it is read"), "{outcome}");
}

const BORN_ON_A_FULL_DISK: &str = "\
import os, resource, signal

def only_child():
    return 1

def run(how):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    pid = os.fork()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if pid == 0:
        only_child()
        os._exit(0)
    os.waitpid(pid, 0)
";

/// Nothing could be written when it was forked; it tells what it ran later, and under its own name.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_child_that_is_born_on_a_full_disk_tells_for_itself() {
    let place = place();
    fs::write(place.work.path().join("app/thing/main.py"), BORN_ON_A_FULL_DISK).expect("written");
    let mut words = place.install_words(false);
    words["profile"]["recorder"] = json!("coverage");
    assert_eq!(agent("install", &words)["failed"], false);
    assert!(place.run("plain").status.success());
    let lines = place.lines();
    let of = |role: &str| lines.iter().find(|(of, _)| of == role).map(|(_, lines)| lines.clone());
    assert!(of("child").is_some_and(|lines| lines.contains(&4) && !lines.contains(&7)), "{lines:?}");
    assert!(of("server").is_some_and(|lines| lines.contains(&7) && !lines.contains(&4)), "{lines:?}");
}

const WATCH: &str = "\
import sys, types
sys.path.insert(0, sys.argv[1])
import uwsgi
del sys.modules['uwsgi']
told, asked = [], []

class Finder(object):
    @staticmethod
    def find_spec(name, *_):
        asked.append(name)

uwsgi.hook_uwsgi(lambda: told.append('ours'), None)
sys.meta_path.insert(1, Finder)
sys.modules['uwsgi'] = module = types.ModuleType('uwsgi')
import colorsys
assert asked == ['colorsys'], asked
module.post_fork_hook()
module.post_fork_hook = lambda: told.append('theirs')
module.post_fork_hook()
del module.post_fork_hook
module.post_fork_hook()
assert told == ['ours', 'ours', 'theirs', 'ours'], told

sys.modules['greenlet'] = types.ModuleType('greenlet')
sys.modules['uwsgi'] = module = types.ModuleType('uwsgi')
module.atexit = lambda: told.append(sys.gettrace())
uwsgi.hook_uwsgi(None, list)
import colorsys as _
del sys.modules['colorsys']
import colorsys
calls = []
sys.settrace(lambda frame, event, arg: calls.append(frame.f_code.co_name))
module.atexit()
module.atexit()
assert told[-2:] == [None, None] and sys.gettrace() is None and not calls, calls
";

/// uWSGI's module is taken note of once it is there, and whoever else finds modules is asked as before. Where there are
/// greenlets no call of a worker's end is traced.
#[test]
fn uwsgi_tells_of_forks_and_costs_no_import() {
    let hook = programs::workspace().join("agent/hook");
    let output =
        Command::new(any_python()).args(["-B", "-c", WATCH]).arg(hook).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
