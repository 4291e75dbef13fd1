//! Pythons and wheels for the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::programs::{self, workspace};

/// The reference: the coverage.py whose numbers ours must equal.
pub const COVERAGE: &str = "7.17.3";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn cache() -> PathBuf {
    let folder = workspace().join("target/pulpcov-tests");
    fs::create_dir_all(&folder).expect("a folder for the tests' tools");
    folder
}

/// Does `make` once for all tests of this checkout, in a folder that appears whole.
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let path = cache().join(name);
    let lock = fs::File::create(cache().join(format!("{name}.lock"))).expect("a lock");
    lock.lock().expect("locks");
    let done = path.join(".done");
    if !done.exists() {
        let _ = fs::remove_dir_all(&path);
        make(&path);
        fs::write(done, "").expect("a mark");
    }
    path
}

/// A virtual environment of this machine's python3 with packages from the index.
fn environment(name: &str, packages: &[&str]) -> PathBuf {
    once(name, |path| {
        run(Command::new("python3").args(["-m", "venv"]).arg(path));
        let mut pip = Command::new(path.join("bin/pip"));
        run(pip.args(["install", "-q", "--disable-pip-version-check"]).args(packages));
    })
}

/// A virtual environment of this machine's python3 with the reference coverage.py, and
/// Django to measure.
pub fn reference() -> PathBuf {
    let venv =
        environment("reference-1", &[&format!("coverage=={COVERAGE}"), "django==5.2.8", "requests==2.32.5"]);
    venv.join("bin/python")
}

/// The programs of the real ansible-core.
pub fn ansible() -> PathBuf {
    let venv = environment("ansible-1", &["ansible-core==2.19.4"]);
    venv.join("bin")
}

/// The real ansible-core in `bin`, and in `collections` the collections with connections to containers and pods, out of
/// Ansible's own package.
pub fn ansible_with_connections() -> PathBuf {
    once("ansible-connections-1", |path| {
        run(Command::new("python3").args(["-m", "venv"]).arg(path));
        let mut pip = Command::new(path.join("bin/pip"));
        run(pip.args(["install", "-q", "--disable-pip-version-check", "ansible-core==2.19.4"]));
        let mut pip = Command::new(path.join("bin/pip"));
        let wheel = path.join("wheel");
        run(pip
            .args(["download", "-q", "--disable-pip-version-check", "--no-deps", "ansible==12.2.0", "-d"])
            .arg(&wheel));
        let unpack = "import glob, sys, zipfile\n\
            wanted = ('containers/podman', 'community/docker', 'kubernetes/core', 'community/okd', 'community/library_inventory_filtering_v1')\n\
            with zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0]) as z:\n\
            \x20   names = [n for n in z.namelist() if n.startswith(tuple('ansible_collections/' + w for w in wanted))]\n\
            \x20   z.extractall(sys.argv[2], names)\n";
        run(Command::new(path.join("bin/python"))
            .args(["-c", unpack])
            .arg(&wheel)
            .arg(path.join("collections")));
        fs::remove_dir_all(wheel).expect("removed");
    })
}

/// ansible-core with ansible-lint beside it.
pub fn ansible_lint() -> PathBuf {
    let venv = environment("ansible-lint-1", &["ansible-core==2.19.4", "ansible-lint==26.10.1"]);
    venv.join("bin")
}

/// podman-compose, which starts the environment of Pulp's developers.
pub fn podman_compose() -> PathBuf {
    environment("podman-compose-1", &["podman-compose==1.6.0"]).join("bin")
}

/// The tools that the benchmark of fleets compares with.
pub fn ansible_bench() -> PathBuf {
    environment("ansible-bench-1", &["ansible-core==2.19.4", "mitogen==0.3.54", "pyinfra==3.10.0"])
}

/// The checks of CI systems' own files.
pub fn ci_checks() -> PathBuf {
    let venv = environment("ci-checks-1", &["check-jsonschema==0.33.3"]);
    venv.join("bin")
}

/// 20 MB of data files of 100 processes, as coverage.py writes them.
pub fn data_files() -> PathBuf {
    once("data-files-1", |path| {
        run(Command::new(reference())
            .arg(workspace().join("tests/bench/make_fleet.py"))
            .arg(path.join("data"))
            .args(["--hosts", "1", "--processes", "100", "--sources", "500"]));
    })
    .join("data")
}

/// The collection as it is built from this checkout and its agents: the folder of `ansible_collections`.
pub fn collection() -> PathBuf {
    let mut digest = Sha256::new();
    for part in [
        workspace().join("playbooks/fleet"),
        workspace().join("controller/profiles"),
        programs::target().join("agents"),
    ] {
        add_tree(&part, &mut digest);
    }
    let digest = short_digest(digest);
    once(&format!("collection-{digest}"), |path| {
        run(Command::new(workspace().join(".ci/collection")).arg(path).env("PATH", path_with(&ansible())));
    })
}

/// Enough of a digest to tell names of folders apart.
fn short_digest(digest: Sha256) -> String {
    digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Every file below a folder, by its name and its bytes.
fn add_tree(folder: &Path, digest: &mut Sha256) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries.iter().filter(|path| !path.ends_with("__pycache__")) {
        if path.is_dir() {
            add_tree(path, digest);
        } else {
            digest.update(path.as_os_str().as_encoded_bytes());
            digest.update(fs::read(path).expect("a file"));
        }
    }
}

/// `PATH` with a folder before all others.
pub fn path_with(folder: &Path) -> String {
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

/// What `pulpcov wheelhouse sync` fetches.
pub fn synced_wheelhouse() -> PathBuf {
    once("synced-wheelhouse-1", |path| {
        run(Command::new(programs::pulpcov()).args(["wheelhouse", "sync"]).arg(path));
    })
}

/// A home for ansible-test, which wants to fetch pip from a place of its own: Python's own pip does.
pub fn ansible_test_home() -> PathBuf {
    once("ansible-test-home-1", |home| {
        let cache = home.join(".ansible/test/cache");
        fs::create_dir_all(&cache).expect("a folder");
        let bootstrap = "import ensurepip\n\nensurepip.bootstrap(default_pip=True)\n";
        fs::write(cache.join("get_pip_24_2.py"), bootstrap).expect("written");
    })
}

/// A folder with the coverage wheel for the hosts' Python (Debian 12's 3.11).
pub fn wheelhouse() -> PathBuf {
    once("wheelhouse-1", |path| {
        run(Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "-q",
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary=:all:",
            ])
            .args([
                "--python-version",
                "3.11",
                "--platform",
                "manylinux_2_28_x86_64",
                "--platform",
                "manylinux2014_x86_64",
            ])
            .arg("-d")
            .arg(path)
            .arg(format!("coverage=={COVERAGE}")));
    })
}

/// This machine's interpreter of a version: on the path, or one of pyenv's.
#[must_use]
pub fn of_version(version: &str) -> Option<PathBuf> {
    let name = format!("python{version}");
    let folders = std::env::var("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> =
        folders.split(':').map(|folder| Path::new(folder).join(&name)).collect();
    let pyenv = std::env::home_dir().unwrap_or_default().join(".pyenv/versions");
    candidates.extend(
        fs::read_dir(pyenv).into_iter().flatten().flatten().map(|entry| entry.path().join("bin").join(&name)),
    );
    candidates.into_iter().find(|path| {
        // A shim of pyenv's is there for versions that are not switched on.
        Command::new(path).args(["-c", "import venv"]).output().is_ok_and(|output| output.status.success())
    })
}

/// The site folder of an interpreter's own pip, as `venv` brings it. That takes longer than most tests, so it is brought
/// once.
///
/// # Panics
/// Where that Python has no `ensurepip`.
#[must_use]
pub fn pip_of(python: &Path) -> PathBuf {
    let digest = short_digest(Sha256::new().chain_update(python.as_os_str().as_encoded_bytes()));
    let venv = once(&format!("pip-{digest}"), |path| {
        run(Command::new(python).args(["-m", "venv"]).arg(path));
    });
    site_folder(&venv)
}

/// Where an environment's packages lie.
///
/// # Panics
/// Where it is none.
#[must_use]
pub fn site_folder(venv: &Path) -> PathBuf {
    let mut pythons = fs::read_dir(venv.join("lib")).expect("an environment").flatten();
    pythons.next().expect("a Python").path().join("site-packages")
}

/// A Python with coverage.py of another age; nothing where this machine has no Python that it runs on.
///
/// # Panics
/// Where pip cannot install it.
#[must_use]
pub fn with_coverage(python: &str, coverage: &str) -> Option<PathBuf> {
    let interpreter = of_version(python)?;
    let venv = once(&format!("coverage-{coverage}-{python}"), |path| {
        run(Command::new(&interpreter).args(["-m", "venv"]).arg(path));
        let pip = path.join("bin/pip");
        run(Command::new(pip).args([
            "install",
            "-q",
            "--disable-pip-version-check",
            &format!("coverage=={coverage}"),
        ]));
    });
    Some(venv.join("bin/python"))
}
