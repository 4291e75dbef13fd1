//! Live maps where services do odd things, and where somebody does to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pulpcov_tests::python;
use serde_json::{Value, json};

use crate::exact::LIVE;
use crate::{Place, agent};

/// A service whose script is told here; `thing.first` and `thing.late` are measured.
fn place(version: &str, branch: bool) -> Option<Place> {
    let place = Place::new(&python::of_version(version)?);
    let thing = place.work.path().join("app/thing");
    for name in ["first", "late"] {
        let text = "def f(n):\n    if n:\n        return 1\n    return 2\n";
        fs::write(thing.join(format!("{name}.py")), text).expect("written");
    }
    let mut words = place.install_words(branch);
    words["profile"]["recorder"] = json!("live-map");
    let installed = agent("install", &words);
    assert_eq!(installed["failed"], false, "{version}: {installed}");
    Some(place)
}

const HEAD: &str = "import os, sys, time\nsys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\nsys.dont_write_bytecode = True\n";

fn write_server(place: &Place, script: &str) {
    fs::write(place.work.path().join("app/thing-server"), format!("{HEAD}{script}")).expect("written");
}

fn serve(place: &Place, words: &[&str], script: &str) -> Output {
    write_server(place, script);
    let output = Command::new(&place.python)
        .args(words)
        .arg(place.work.path().join("app/thing-server"))
        .current_dir(place.work.path())
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The recorded lines of a module, of all processes.
fn lines(place: &Place, module: &str) -> Vec<u32> {
    let mut found = std::collections::BTreeSet::new();
    let status = place.collect();
    for process in status["processes"].as_array().expect("processes") {
        let Some(data) = process["data"].as_str() else { continue };
        let path = place.work.path().join("data").join(data);
        let data = pulpcov_data_file::data_file::read_path(&path).expect("a data file");
        let Some(kind) = data.kind() else { continue };
        for (name, file) in &data.files {
            if name.ends_with(module) {
                match file.all(kind) {
                    pulpcov_data_file::data::Measured::Lines(lines) => found.extend(lines.iter()),
                    pulpcov_data_file::data::Measured::Arcs(arcs) => found.extend(arcs.lines().iter()),
                }
            }
        }
    }
    found.into_iter().filter(|line| *line > 0).collect()
}

fn errors(place: &Place) -> Vec<String> {
    let status = place.collect();
    let processes = status["processes"].as_array().expect("processes");
    processes.iter().filter_map(|process| Some(process["error"].as_str()?.to_owned())).collect()
}

fn maps(place: &Place) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.work.path().join("data/.pulpcov")).expect("lists").flatten();
    let mut maps: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    maps.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("map.")));
    maps
}

fn collect(place: &Place) -> Value {
    agent("collect", &json!({"lib_root": place.work.path().join("lib")}))
}

/// What a report of the bundle that was just collected says, and whether that is complete.
fn report(collected: &Value) -> (String, bool) {
    let bundle = collected["pulpcov"]["bundle"].as_str().expect("a bundle");
    let mut command = Command::new(pulpcov_tests::programs::pulpcov());
    let report = command.args(["report", "--require-complete", bundle]).output().expect("runs");
    (String::from_utf8_lossy(&report.stdout).into_owned(), report.status.success())
}

/// A daemon closes every descriptor that it does not know, and has the numbers for files of its own.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_daemon_that_closes_everything_keeps_its_files() {
    for place in LIVE.iter().filter_map(|version| place(version, true)) {
        for number in 0..60 {
            let module = place.work.path().join(format!("app/thing/m{number}.py"));
            fs::write(module, "x = 1\n".repeat(400)).expect("written");
        }
        let script = "\
from thing import first
first.f(1)
os.closerange(3, 1024)
held = [os.open('own%d' % n, os.O_RDWR | os.O_CREAT) for n in range(400)]
for fd in held:
    os.write(fd, b'own')
for n in range(60):
    __import__('thing.m%d' % n)
pid = os.fork()
if pid == 0:
    from thing import late
    late.f(0)
    os.write(held[0], b'!')
    os._exit(0)
os.waitpid(pid, 0)
for n, fd in enumerate(held):
    os.write(fd, b'.')
    assert os.fstat(fd).st_size == (5 if n == 0 else 4), (n, os.fstat(fd).st_size)
";
        serve(&place, &[], script);
        assert_eq!(lines(&place, "/m59.py").len(), 400);
        assert_eq!(lines(&place, "/late.py"), [1, 2, 4]);
        assert_eq!(errors(&place), Vec::<String>::new());
    }
}

/// What a handler raises while code runs for the first time reaches the service, and what it runs is recorded.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn no_handler_is_swallowed() {
    for place in LIVE.iter().filter_map(|version| place(version, true)) {
        let late = "class Due(Exception):\n    pass\n\ndef handler(number, frame):\n    global came\n    came += 1\n    raise Due\n\ncame = 0\n";
        fs::write(place.work.path().join("app/thing/late.py"), late).expect("written");
        let script = "\
import signal
from thing import late
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'thing')
for n in range(3000):
    with open(os.path.join(folder, 'g%d.py' % n), 'w') as f:
        f.write('def g(n):\\n    if n:\\n        return n\\n    return 0\\n')
seen = 0
def wait(seconds):
    end = time.time() + seconds
    while time.time() < end:
        pass
signal.signal(signal.SIGALRM, late.handler)
for n in range(3000):
    path = os.path.join(folder, 'g%d.py' % n)
    code = compile(open(path).read(), path, 'exec')
    names = {'__name__': 'thing.g%d' % n}
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00002)
        exec(code, names)
        names['g'](n % 2)
        wait(0.001)     # a loop of its own: Python 3.13 forgets the handler for a loop's jump
        signal.setitimer(signal.ITIMER_REAL, 0)
    except late.Due:
        seen += 1
assert seen == late.came and seen > 500, (seen, late.came)
";
        serve(&place, &[], script);
        assert_eq!(lines(&place, "/late.py"), [1, 2, 4, 6, 7, 9]);
        assert_eq!(errors(&place), Vec::<String>::new());
    }
}

/// A report has what ran until the kill, also of files that nobody had the time to tell of.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_kill_costs_a_report_nothing() {
    for place in LIVE.iter().filter_map(|version| place(version, false)) {
        let script = "from thing import first\nfirst.f(1)\nfrom thing import late\nlate.f(0)\nos.kill(os.getpid(), 9)\n";
        write_server(&place, script);
        let server = place.work.path().join("app/thing-server");
        let status = Command::new(&place.python).arg(server).status().expect("python runs");
        assert!(!status.success());
        let (said, is_complete) = report(&collect(&place));
        assert!(said.contains("based on 1 of 1 process on 1 host (by live-map 1)"), "{said}");
        let ran = |name: &str| said.lines().any(|line| line.contains(name) && line.contains("75%"));
        assert!(is_complete && ran("first.py") && ran("late.py"), "{said}");
    }
}

/// Whoever removes a map has removed what ran before: that is told, and recording goes on.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_map_that_is_removed_is_told_of() {
    for place in LIVE.iter().filter_map(|version| place(version, false)) {
        let script = "from thing import first\nfirst.f(1)\nsys.stdin.readline()\nfrom thing import late\nlate.f(0)\nsys.stdin.readline()\n";
        write_server(&place, script);
        let mut service = Command::new(&place.python)
            .arg(place.work.path().join("app/thing-server"))
            .stdin(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut stdin = service.stdin.take().expect("piped");
        let mut next = || std::io::Write::write_all(&mut stdin, b"x\n").expect("written");
        while maps(&place).is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let flush = |place: &Place| {
            agent("flush", &json!({"lib_root": place.work.path().join("lib"), "timeout": 10}))
        };
        assert_eq!(flush(&place)["failed"], false);
        for map in maps(&place) {
            fs::remove_file(map).expect("removed");
        }
        assert_eq!(flush(&place)["failed"], false);
        next();
        assert_eq!(flush(&place)["failed"], false);
        assert!(lines(&place, "/late.py").contains(&4));
        assert!(errors(&place)[0].contains("removed by somebody"), "{:?}", errors(&place));
        next();
        drop(stdin);
        service.wait().expect("ended");
        for map in maps(&place) {
            fs::remove_file(map).expect("removed");
        }
        assert!(errors(&place)[0].contains("removed by somebody"), "{:?}", errors(&place));
    }
}

/// Each is an error of its process, or nothing at all; none of them keeps a collect from the rest.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn forged_and_odd_maps_cost_only_their_own() {
    let Some(place) = LIVE.iter().find_map(|version| place(version, true)) else { return };
    let run = "from thing import first\nfirst.f(1)\nfirst.f(0)\nfrom thing import late\nlate.f(0)\n";
    serve(&place, &["-X", "no_debug_ranges"], run);
    serve(&place, &["-OO"], run);
    assert_eq!(errors(&place), Vec::<String>::new());
    assert_eq!(lines(&place, "/first.py"), [1, 2, 3, 4]);

    // What these write is forged while they live.
    let script = "from thing import first\nfirst.f(1)\ntime.sleep(600)\n";
    write_server(&place, script);
    let server = place.work.path().join("app/thing-server");
    let start = || Command::new(&place.python).arg(&server).spawn().expect("python runs");
    let forged: [(&str, Forge); 4] = [
        ("has too many lines", |path, head| {
            let mut bytes = head.to_vec();
            for _ in 0..3_000_000u32 {
                bytes.extend([24, 0, 0, 0, 4, 0, 0, 0]);
                bytes.extend([0; 16]);
            }
            fs::write(path, bytes).expect("forged");
        }),
        ("is no regular file", |path, _| {
            let made = Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
            assert!(made.success());
        }),
        ("is no regular file", |path, _| std::os::unix::fs::symlink("/dev/zero", path).expect("a link")),
        ("it is no map", |path, _| fs::write(path, b"SQLite format 3\0").expect("forged")),
    ];
    for (wanted, forge) in forged {
        let mut service = start();
        while maps(&place).is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        std::thread::sleep(std::time::Duration::from_millis(700));
        let map = maps(&place).remove(0);
        service.kill().expect("killed");
        service.wait().expect("ended");
        let whole = fs::read(&map).expect("a map");
        fs::remove_file(&map).expect("removed");
        forge(&map, &whole[..used(&whole)]);
        let outcome = collect(&place);
        assert_eq!(outcome["failed"], false, "{outcome}");
        let said = errors(&place).join("; ");
        assert!(said.contains(wanted), "{wanted}: {said}");
        for entry in fs::read_dir(place.work.path().join("data/.pulpcov")).expect("lists").flatten() {
            if entry.file_name().to_string_lossy().starts_with("proc.") {
                fs::remove_file(entry.path()).expect("removed");
            }
        }
        fs::remove_file(&map).expect("removed");
    }
}

/// Puts something in a map's place, which is given as far as it has records.
type Forge = fn(&Path, &[u8]);

/// How much of a map has records.
fn used(map: &[u8]) -> usize {
    let mut at = 8;
    while let Some(size) = map.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>()) {
        let size = u32::from_le_bytes(*size) as usize;
        if size == 0 {
            break;
        }
        at += size;
    }
    at
}

/// The service's own tools come first, and are called for nothing that they did not ask for.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn the_services_own_monitoring_comes_first() {
    for place in LIVE.iter().filter_map(|version| place(version, false)) {
        let script = "\
from thing import first
first.f(1)
m, called = sys.monitoring, []
for tool in range(6):
    m.use_tool_id(tool, 'own')
    m.register_callback(tool, m.events.LINE, lambda code, line: called.append(line))
first.f(0)
first.f(1)
assert not called, called
for tool in range(6):
    m.free_tool_id(tool)
";
        serve(&place, &[], script);
        assert!(lines(&place, "/first.py").starts_with(&[1, 2, 3]));
        assert!(errors(&place)[0].contains("have taken all numbers"), "{:?}", errors(&place));
    }
}

/// Code that is compiled again and again takes neither memory nor disk for each time.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn code_that_is_made_again_and_again_costs_nothing_more() {
    for place in LIVE.iter().filter_map(|version| place(version, true)) {
        let made = place.work.path().join("app/thing/made.py");
        fs::write(made, "if y:\n  x = 1\nz = 2\n").expect("written");
        let script = "\
import resource
from thing import first
names = {'__name__': 'thing.made', 'y': 1}
def make(count):
    for n in range(count):
        names['y'] = n % 2
        exec(compile('if y:\\n  x = 1\\nz = 2\\n', first.__file__.replace('first', 'made'), 'exec'), names)
make(20000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
make(100000)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert grown < 4096, grown
exec(compile('\\n' * 2000 + 'x = 1\\n', first.__file__.replace('first', 'long'), 'exec'), dict(names))
";
        serve(&place, &[], script);
        assert_eq!(lines(&place, "/made.py"), [1, 2, 3]);
        assert_eq!(errors(&place), Vec::<String>::new());
    }
}

/// What there is no room for on the host goes into the bundle all the same.
#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_full_disk_ends_neither_the_service_nor_the_collect() {
    for place in LIVE.iter().filter_map(|version| place(version, false)) {
        let data = place.work.path().join("data");
        for number in 0..200 {
            let module = place.work.path().join(format!("app/thing/m{number}.py"));
            fs::write(module, "x = 1\n".repeat(2000)).expect("written");
        }
        let mount = |words: &[&str]| {
            assert!(Command::new(words[0]).args(&words[1..]).arg(&data).status().expect("runs").success());
        };
        let ledger: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(data.join(".pulpcov"))
            .expect("lists")
            .flatten()
            .map(|entry| (entry.path(), fs::read(entry.path()).expect("read")))
            .collect();
        mount(&["mount", "-t", "tmpfs", "-o", "size=256k,mode=1777", "none"]);
        fs::create_dir(data.join(".pulpcov")).expect("a folder");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        fs::set_permissions(data.join(".pulpcov"), mode).expect("set");
        for (path, bytes) in ledger {
            fs::write(path, bytes).expect("written");
        }
        let script = "from thing import first\nfirst.f(1)\nfor n in range(200):\n    __import__('thing.m%d' % n)\nfirst.f(0)\nprint('whole')\n";
        let output = serve(&place, &[], script);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "whole\n");
        fs::write(data.join("filler"), vec![1; 300_000]).expect_err("the disk is full");
        let outcome = collect(&place);
        assert!(outcome["failed"] == false && outcome["pulpcov"]["data_files"] == 1, "{outcome}");
        let (said, is_complete) = report(&outcome);
        mount(&["umount", "-l"]);
        // All of the file that was known before the disk was full, also what ran after that.
        let first = said.lines().find(|line| line.contains("first.py")).unwrap_or_default();
        assert!(first.contains("100%") && said.contains("1 could not record"), "{said}");
        assert!(!is_complete, "{said}");
    }
}
