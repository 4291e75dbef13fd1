//! The Python and the coverage.py that this machine has anyway.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use pulpcov_protocol::wheel::pinned_coverage;
use pulpcov_tests::programs;

/// Makes a wheel again of what is installed: `python -c REPACK VERSION FOLDER`.
const REPACK: &str = "\
import importlib.metadata as m, sys, sysconfig, zipfile
d = m.distribution('coverage')
assert d.version == sys.argv[1], d.version
tag = 'cp%d%d' % sys.version_info[:2]
plat = sysconfig.get_platform().replace('-', '_').replace('.', '_').replace('linux_', 'manylinux_2_17_')
name = '%s/coverage-%s-%s-%s-%s.whl' % (sys.argv[2], d.version, tag, tag, plat)
with zipfile.ZipFile(name, 'w', zipfile.ZIP_DEFLATED) as z:
    for f in d.files:
        if not str(f).startswith('..') and '__pycache__' not in str(f):
            z.write(str(d.locate_file(f)), str(f))
";

fn python3(words: &[&str]) -> Result<Output, String> {
    let output = Command::new("python3").args(words).output().map_err(|error| format!("python3: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("python3 failed").to_owned())
}

/// The folder with the wheel of coverage.py that the Python at hand gets, or why there is none.
pub(crate) fn wheels() -> Result<String, String> {
    static FOUND: OnceLock<Result<String, String>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

/// The folder with the agent for this machine: as `.ci/agents` builds it, else the one that was built with these tests.
pub(crate) fn agents() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(find_agents).clone()
}

fn find_agents() -> Result<PathBuf, String> {
    let name = format!("pulpcov-agent-{}", std::env::consts::ARCH);
    let released = programs::target().join("agents");
    if released.join(&name).is_file() {
        return Ok(released);
    }
    let built = programs::own_folder().join("pulpcov-agent");
    let folder = programs::target().join("pulpcov-tests/agents-at-hand");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    // With what a debugger wants of it, it would be larger than any agent that a host takes.
    let strip = Command::new("strip").arg("-o").args([folder.join(name), built]).output();
    let strip = strip.map_err(|error| format!("no agent of .ci/agents is here, and no strip: {error}"))?;
    if strip.status.success() { Ok(folder) } else { Err(String::from_utf8_lossy(&strip.stderr).into_owned()) }
}

fn find() -> Result<String, String> {
    python3(&["-c", "import venv, ensurepip"]).map_err(|_| "python3 has no venv module".to_owned())?;
    let version = python3(&["-c", "import sys; print('%d.%d' % sys.version_info[:2])"])?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let pinned = version
        .split_once('.')
        .and_then(|(major, minor)| pinned_coverage(major.parse().ok()?, minor.parse().ok()?))
        .ok_or_else(|| format!("python3 is {version}, on which nothing is recorded"))?;
    let kept = programs::target().join("pulpcov-tests/wheels-at-hand").join(&version);
    if !has_wheel(&kept, pinned) {
        fetch(pinned, &kept)?;
    }
    Ok(kept.to_string_lossy().into_owned())
}

/// Into a folder of its own first: tests of one build may look at once.
fn fetch(pinned: &str, kept: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    fs::create_dir_all(kept).map_err(failed)?;
    let fresh = tempfile::tempdir_in(kept).map_err(failed)?;
    let folder = fresh.path().to_string_lossy().into_owned();
    let wanted = format!("coverage=={pinned}");
    let quick = ["--timeout", "3", "--retries", "0", "--disable-pip-version-check"];
    let download =
        ["-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", &folder, &wanted];
    python3(&["-c", REPACK, pinned, &folder])
        .or_else(|_| python3(&[&download[..], &quick].concat()))
        .map_err(|reason| {
            format!(
                "coverage.py {pinned} is not at hand ({reason}); pip install coverage=={pinned} brings it"
            )
        })?;
    for wheel in fs::read_dir(fresh.path()).map_err(failed)?.flatten() {
        fs::rename(wheel.path(), kept.join(wheel.file_name())).map_err(failed)?;
    }
    Ok(())
}

fn has_wheel(folder: &Path, version: &str) -> bool {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| {
        let name = name.to_string_lossy().into_owned();
        name.starts_with(&format!("coverage-{version}-"))
            && PathBuf::from(name).extension().is_some_and(|kind| kind == "whl")
    })
}
