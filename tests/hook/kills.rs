//! A live map and SIGKILL at any moment: every line that a witness saw is there.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pulpcov_data_file::data::Measured;
use pulpcov_data_file::data_file;
use pulpcov_tests::python;

use crate::Place;
use crate::exact::{LIVE, install};

/// Kills under each Python, with and without the native callbacks, lines and branches.
const KILLS: u32 = 170;

/// Modules whose every line writes its own number to a file of its process.
const MODULES: usize = 12;
const FUNCTIONS: usize = 60;

const SERVER: &str = r#"
import os, random, sys, threading, time
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
sys.dont_write_bytecode = True
import witness

def work(seed, modules):
    rng = random.Random(seed)
    for number in modules:
        module = __import__("gen.w%d" % number, fromlist=["x"])
        for name in rng.sample(range(FUNCTIONS), FUNCTIONS):
            getattr(module, "f%d" % name)(rng.random() < 0.5)

def some(rng):
    return rng.sample(range(MODULES), 4)

witness.begin(sys.argv[1])
rng = random.Random(int(sys.argv[2]))
sys.stdout.write("x")
sys.stdout.flush()
for child in range(3):
    if os.fork() == 0:
        witness.begin(sys.argv[1])
        rng = random.Random("%s %d" % (sys.argv[2], child))
        break
thread = threading.Thread(target=work, args=(rng.random(), some(rng)))
thread.start()
work(rng.random(), some(rng))
thread.join()
time.sleep(60)
"#;

const WITNESS: &str = "
import os
fd = -1
def begin(folder):
    global fd
    fd = os.open('%s/%d' % (folder, os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def saw(module, line):
    os.write(fd, b'%d %d\\n' % (module, line))
";

fn write_service(place: &Place) {
    let app = place.work.path().join("app");
    fs::create_dir_all(app.join("gen")).expect("a folder");
    fs::write(app.join("gen/__init__.py"), "").expect("written");
    fs::write(app.join("witness.py"), WITNESS).expect("written");
    let server = SERVER.replace("FUNCTIONS", &FUNCTIONS.to_string()).replace("MODULES", &MODULES.to_string());
    fs::write(app.join("thing-server"), server).expect("written");
    for module in 0..MODULES {
        let mut text = "from witness import saw\n".to_owned();
        let mut line = 1;
        let mut add = |words: &str, depth: usize| {
            line += 1;
            let words = words.replace("SAW", &format!("saw({module}, {line})"));
            text.push_str(&format!("{}{words}\n", "    ".repeat(depth)));
        };
        for function in 0..FUNCTIONS {
            add(&format!("def f{function}(flag):"), 0);
            add("SAW", 1);
            add("if flag:", 1);
            add("SAW", 2);
            add("else:", 1);
            add("SAW", 2);
            add("for _ in (1, 2):", 1);
            add("SAW", 2);
            add("SAW", 1);
        }
        fs::write(app.join(format!("gen/w{module}.py")), text).expect("written");
    }
}

/// Starts the service, and kills all of it after a while.
fn run_and_kill(place: &Place, witnesses: &Path, seed: u32) {
    let mut service = Command::new("setsid")
        .arg(&place.python)
        .arg(place.work.path().join("app/thing-server"))
        .arg(witnesses)
        .arg(seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut said = [0];
    service.stdout.take().expect("piped").read_exact(&mut said).expect("it says that it goes on");
    // The moment is the test.
    let square = u64::from(seed * 7919 % 1000).pow(2);
    std::thread::sleep(Duration::from_micros(square / 8));
    let group = format!("-{}", service.id());
    assert!(Command::new("kill").args(["-KILL", "--", &group]).status().expect("kill runs").success());
    service.wait().expect("ended");
}

/// Module and line.
type Seen = BTreeSet<(usize, u32)>;

fn witnessed(folder: &Path, pid: u64) -> Seen {
    let text = fs::read_to_string(folder.join(pid.to_string())).unwrap_or_default();
    // The last line may be cut.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole
        .filter_map(|line| {
            let (module, line) = line.trim_end().split_once(' ')?;
            Some((module.parse().ok()?, line.parse().ok()?))
        })
        .collect()
}

fn recorded(data: &Path) -> Seen {
    let data = data_file::read_path(data).expect("a data file");
    let kind = data.kind().expect("measured");
    let of_file = |(path, file): (&String, &pulpcov_data_file::data::MeasuredFile)| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let module = name.strip_prefix('w')?.strip_suffix(".py")?.parse::<usize>().ok()?;
        let lines: Vec<u32> = match file.all(kind) {
            Measured::Lines(lines) => lines.iter().collect(),
            Measured::Arcs(arcs) => arcs.lines().iter().collect(),
        };
        Some(lines.into_iter().map(move |line| (module, line)))
    };
    data.files.iter().filter_map(of_file).flatten().collect()
}

fn kills(version: &str, branch: bool, is_native: bool) {
    let Some(python) = python::of_version(version) else { return };
    let place = Place::new(&python);
    write_service(&place);
    install(&place, branch, is_native);
    let witnesses = place.work.path().join("witnesses");
    fs::create_dir(&witnesses).expect("a folder");
    let mut total = 0;
    for seed in 0..KILLS {
        run_and_kill(&place, &witnesses, seed);
    }
    let status = place.collect();
    let processes = status["processes"].as_array().expect("processes");
    assert!(processes.len() >= KILLS as usize, "{version}: {} processes", processes.len());
    for process in processes {
        assert_eq!(
            process["core"],
            if is_native { "live-map" } else { "live-map-python" },
            "{version}: {process}"
        );
        let saw = witnessed(&witnesses, process["pid"].as_u64().expect("a number"));
        let Some(data) = process["data"].as_str() else {
            assert!(saw.is_empty(), "{version}: {process}");
            continue;
        };
        let recorded = recorded(&place.work.path().join("data").join(data));
        let lost: Vec<_> = saw.difference(&recorded).collect();
        assert!(lost.is_empty(), "{version}, native {is_native}, branches {branch}: {process} lost {lost:?}");
        total += saw.len();
    }
    let said = format!(
        "{version}, native {is_native}, branches {branch}: {total} lines of {KILLS} kills, all there\n"
    );
    let _ = std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes());
    assert!(total > 20 * KILLS as usize, "{said}");
}

#[test]
#[ignore = "needs a package index: coverage.py for every Python"]
fn a_live_map_has_every_line_that_ran_before_a_kill() {
    for version in LIVE {
        kills(version, false, true);
        kills(version, true, true);
        kills(version, false, false);
    }
}
