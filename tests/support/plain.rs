//! The peer: coverage.py's own patches, in the same Pulp, under the same requests; stopped cleanly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::lab::Lab;
use crate::{pulp, python};

/// Lines that ran, by module path.
pub type Lines = BTreeMap<String, BTreeSet<u64>>;

/// How coverage.py records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `3.11`: the Python of Pulp's virtual environment.
    pub python: &'static str,
    pub core: &'static str,
    pub branch: bool,
}

/// As people use it.
pub const USUAL: Settings = Settings { python: "3.11", core: "ctrace", branch: false };

impl Settings {
    fn text(self) -> String {
        format!(
            "[run]\nparallel = true\nsource_pkgs = pulpcore, pulp_file, pulp_certguard\ncore = {}\nbranch = {}\n\
             data_file = /shared/plain/.coverage\npatch = subprocess, fork, _exit\nsigterm = true\n",
            self.core, self.branch
        )
    }

    /// Site folders of the two layouts.
    fn sites(self) -> [(usize, String); 3] {
        let venv = format!("/usr/local/lib/pulp/lib/python{}/site-packages", self.python);
        let system = "/usr/local/lib/python3.11/dist-packages".to_owned();
        [(pulp::FRONT, venv.clone()), (pulp::WORKER_VENV, venv), (pulp::WORKER_RPM, system)]
    }
}

/// Puts plain coverage.py into every service and restarts it.
pub fn install(lab: &Lab, settings: Settings) {
    lab.shell(pulp::FRONT, "install -d -o pulp -g pulp /shared/plain");
    let text = settings.text();
    for (host, site) in settings.sites() {
        lab.shell(
            host,
            &format!(
                "printf '/opt/plain-coverage\\nimport coverage; coverage.process_startup()\\n' > {site}/plain.pth; \
                 printf '{text}' > /etc/plain.rc; \
                 for unit in pulpcore-api pulpcore-content pulpcore-worker@; do \
                   mkdir -p /etc/systemd/system/$unit.service.d; \
                   printf '[Service]\\nEnvironment=COVERAGE_PROCESS_START=/etc/plain.rc\\n' > /etc/systemd/system/$unit.service.d/plain.conf; \
                 done; systemctl daemon-reload"
            ),
        );
    }
    pulp::restart(lab);
}

/// What it records of so many rounds, and of the start and the stop.
pub fn recorded_by_coverage_py(lab: &mut Lab, rounds: u32) -> Lines {
    install(lab, USUAL);
    pulp::wait_until_online(lab);
    pulp::exercise(lab, rounds);
    for (host, units) in pulp::SERVICES {
        lab.shell(host, &format!("systemctl stop {units}"));
    }
    lines_of(&lab.path("shared/plain/.coverage.*"))
}

/// Lines of all data files that a pattern names, as coverage.py reads them: statements and all.
pub fn lines_of(pattern: &Path) -> Lines {
    let script = "import glob, json, sys\nfrom coverage import CoverageData\nlines = {}\n\
        for name in glob.glob(sys.argv[1]):\n    d = CoverageData(name); d.read()\n\
        \x20   for f in d.measured_files():\n\
        \x20       lines.setdefault(f.split('-packages/')[1], set()).update(d.lines(f))\n\
        print(json.dumps({f: sorted(l) for f, l in lines.items()}))\n";
    let output =
        Command::new(python::reference()).args(["-c", script]).arg(pattern).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Takes it out again; the services keep it until they are restarted.
pub fn uninstall(lab: &Lab, settings: Settings) {
    for (host, site) in settings.sites() {
        lab.shell(
            host,
            &format!("rm {site}/plain.pth /etc/plain.rc /etc/systemd/system/pulpcore-*.d/plain.conf; systemctl daemon-reload"),
        );
    }
    lab.shell(pulp::FRONT, "rm -rf /shared/plain");
}
