//! Hosts that are folders of this machine, each with an environment, the demo's kiosk, and places of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pulpcov_tests::programs;
use serde_json::Value;
use tempfile::TempDir;

use crate::at_hand;

const PATIENCE: Duration = Duration::from_secs(30);

/// Folders of this machine as a fleet.
pub(crate) struct Hosts {
    folder: TempDir,
    names: Vec<String>,
    before: Vec<String>,
}

/// What pulpcov wrote to stdout and said on stderr.
pub(crate) struct Ended {
    pub(crate) wrote: String,
    pub(crate) said: String,
}

impl Hosts {
    pub(crate) fn new(names: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("pulpcov-local.").tempdir().expect("a folder");
        let mut hosts =
            Self { folder, names: names.iter().map(|&name| name.to_owned()).collect(), before: Vec::new() };
        let demo = programs::workspace().join("controller/demo");
        for name in names {
            let home = hosts.path(name);
            fs::create_dir_all(home.join("kiosk")).expect("a folder");
            // Its own name, so that no test takes another's processes for its own.
            let own = hosts.own_name(name);
            for file in [
                "profile.yml",
                "kiosk-server",
                "kiosk/__init__.py",
                "kiosk/menu.py",
                "kiosk/orders.py",
                "kiosk/server.py",
                "kiosk/stock.py",
            ] {
                let text = fs::read_to_string(demo.join(file)).expect("the demo's file");
                let file = if file == "kiosk-server" { own.as_str() } else { file };
                fs::write(home.join(file), text.replace("kiosk-server", &own)).expect("written");
            }
            finish(Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(home.join("venv")));
            let site = finish(
                Command::new(home.join("venv/bin/python"))
                    .args(["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]),
            );
            // As an editable install does: the environment's Python finds the package.
            let line = format!("{}\n", home.display());
            fs::write(PathBuf::from(site.trim()).join("kiosk.pth"), line).expect("written");
        }
        hosts.write_inventory();
        hosts.before = hosts.tree();
        hosts
    }

    fn own_name(&self, name: &str) -> String {
        let own = self.folder.path().extension().unwrap_or_default().to_string_lossy().into_owned();
        format!("kiosk-server-{name}-{own}")
    }

    fn write_inventory(&self) {
        let mut text = "all:\n  vars: {ansible_connection: local}\n  hosts:\n".to_owned();
        for name in &self.names {
            let home = self.path(name).display().to_string();
            text.push_str(&format!(
                "    {name}:\n      pulpcov_profile: {home}/profile.yml\n      pulpcov_host_label: {name}\n      \
                 pulpcov_lib_root: {home}/lib\n      pulpcov_data_root: {home}/data\n      \
                 pulpcov_interpreters: [{home}/venv/bin/python]\n"
            ));
        }
        fs::write(self.path("hosts.yml"), text).expect("an inventory");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).expect("a file")).expect("JSON")
    }

    /// pulpcov, which must end with `code`.
    pub(crate) fn pulpcov(&self, code: i32, words: &[&str]) -> Ended {
        let output = Command::new(programs::pulpcov())
            .args(words)
            .current_dir(self.folder.path())
            // The agent goes where it goes with these.
            .envs([("TMPDIR", self.folder.path()), ("HOME", self.folder.path())])
            .env("PULPCOV_AGENT_DIR", at_hand::agents().expect("agents"))
            .env("CI", "true")
            .output()
            .expect("pulpcov runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ended = Ended { wrote: text(&output.stdout), said: text(&output.stderr) };
        assert_eq!(output.status.code(), Some(code), "pulpcov {words:?}\n{}{}", ended.wrote, ended.said);
        ended
    }

    pub(crate) fn fleet(&self, code: i32, verb: &str, words: &[&str]) -> Ended {
        self.pulpcov(code, &[&["fleet", verb, "hosts.yml", "--state-dir", "state"], words].concat())
    }

    pub(crate) fn install(&self) {
        let wheels = at_hand::wheels().expect("wheels");
        let installed = self.fleet(0, "install", &["--wheelhouse", &wheels]);
        assert!(installed.said.contains(" changed, 0 failed, 0 unreachable"), "{}", installed.said);
    }

    /// The words that start a host's service.
    pub(crate) fn program(&self, name: &str) -> String {
        let home = self.path(name).display().to_string();
        format!("{home}/venv/bin/python {home}/{} {home}/port", self.own_name(name))
    }

    /// Starts a host's service.
    pub(crate) fn serve(&self, name: &str) -> Service {
        let port_file = self.path(name).join("port");
        let _ = fs::remove_file(&port_file);
        let child = Command::new("sh")
            .args(["-c", &format!("exec {}", self.program(name))])
            .stdin(Stdio::null())
            .spawn()
            .expect("a service");
        let begin = Instant::now();
        while !port_file.exists() {
            assert!(begin.elapsed() < PATIENCE, "the service of {name} did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        let port = fs::read_to_string(&port_file).expect("a port").trim().parse().expect("a port");
        Service { child, port }
    }

    /// Runs a program of a host's service that is gone when this returns.
    pub(crate) fn run_script(&self, name: &str, way: &str, script: &str) {
        let home = self.path(name);
        let indented = script.replace('\n', "\n    ");
        let module = format!(
            "import os, signal, subprocess, sys, threading, time\n\n\ndef ended():\n    return 1\n\n\ndef main():\n    {indented}\n"
        );
        // What stands behind the end of a process is not run by it.
        let module = module.replace("; time.sleep(30)", "; time.sleep(30)  # pragma: no cover");
        fs::write(home.join(format!("kiosk/way_{way}.py")), module).expect("written");
        let text = format!(
            "import sys\nsys.path.insert(0, {:?})\nfrom kiosk import way_{way}\nif sys.argv[1:] == ['child']:\n    way_{way}.ended()\nelse:\n    way_{way}.main()\n",
            home.display().to_string()
        );
        let program = home.join(self.own_name(name));
        fs::write(&program, text).expect("written");
        Command::new(home.join("venv/bin/python")).arg(&program).status().expect("it runs");
    }

    /// coverage.py's own JSON report of a run's data files.
    pub(crate) fn coverage_json(&self, run: &str) -> Value {
        let (unpacked, library) = (self.path("unpacked"), self.path("library"));
        fs::create_dir_all(&unpacked).expect("a folder");
        for host in fs::read_dir(self.path(run).join("hosts")).expect("hosts").flatten() {
            for bundle in fs::read_dir(host.path()).expect("bundles").flatten() {
                finish(Command::new("tar").arg("-xzf").arg(bundle.path()).arg("-C").arg(&unpacked));
            }
        }
        let wheels = at_hand::wheels().expect("wheels");
        for wheel in fs::read_dir(wheels).expect("wheels").flatten().filter(|entry| entry.path().is_file()) {
            finish(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel.path()).arg(&library));
        }
        let files: Vec<PathBuf> =
            fs::read_dir(unpacked.join("data")).expect("data").flatten().map(|entry| entry.path()).collect();
        let rcfile = self.path("rc");
        fs::write(&rcfile, format!("[run]\ndata_file = {}\n", self.path("combined").display()))
            .expect("written");
        let coverage = |words: &[&str], files: &[PathBuf]| {
            finish(
                Command::new("python3")
                    .args(["-m", "coverage"])
                    .args(words)
                    .arg("--rcfile")
                    .arg(&rcfile)
                    .args(files)
                    .current_dir(self.path("one"))
                    .env("PYTHONPATH", &library),
            )
        };
        coverage(&["combine", "--keep", "-q"], &files);
        let out = self.path("theirs.json").display().to_string();
        coverage(&["json", "-q", "-o", &out], &[]);
        self.json("theirs.json")
    }

    /// Files of the hosts, with their sizes; what was run wrote ports, ways and byte code.
    fn tree(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in &self.names {
            let find = "find . \\( -name __pycache__ -o -name port -o -name 'way_*' -o -name 'kiosk-server*' \\) -prune -o -printf '%p %y %m %s %l\\n' | sort";
            let listed = finish(Command::new("sh").args(["-c", find]).current_dir(self.path(name)));
            // Folders grow and shrink with what is not listed.
            let line = |line: &str| match line.split_once(" d ") {
                Some((path, _)) => format!("{name}/{path} d"),
                None => format!("{name}/{line}"),
            };
            lines.extend(listed.lines().map(line));
        }
        lines
    }

    /// Nothing of pulpcov is left on any host.
    pub(crate) fn are_as_before(&self) {
        assert_eq!(self.tree(), self.before);
    }
}

/// A service that ends with this.
pub(crate) struct Service {
    child: Child,
    port: u16,
}

impl Service {
    /// GETs a path; what the server answers.
    pub(crate) fn ask(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    pub(crate) fn get(&self, path: &str) {
        let answer = self.ask(path);
        assert!(answer.starts_with("HTTP/1.0 200"), "{path}: {answer}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").arg(&pid).status();
        let _ = self.child.wait();
    }
}

/// Runs a command, which must succeed; its stdout.
fn finish(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
