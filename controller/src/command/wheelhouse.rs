//! `pulpcov wheelhouse sync DIR`: the pinned coverage.py for every Python, from the package index.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use pulpcov_protocol::wheel::{WheelName, pinned_coverage};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::exit::{Exit, usage};
use crate::output::file;
use crate::output::terminal::printable;

/// Pythons that the hook runs under.
const MINORS: std::ops::RangeInclusive<u32> = 6..=14;

/// Platforms of Linux with glibc, as coverage.py has named them over the years; pip takes the best.
const GLIBC: [&str; 7] = [
    "manylinux_2_34",
    "manylinux_2_28",
    "manylinux_2_17",
    "manylinux2014",
    "manylinux_2_12",
    "manylinux2010",
    "manylinux1",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for the wheels; made where it is not there
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Python version of hosts, such as 3.11 (can be repeated) [default: all that pulpcov records]
    #[arg(long = "python-version", value_name = "VERSION", value_parser = minor)]
    minors: Vec<u32>,
    /// Machine type of hosts (can be repeated) [default: both]
    #[arg(long = "machine", value_name = "MACHINE", value_parser = ["x86_64", "aarch64"])]
    machines: Vec<String>,
    /// Python whose pip fetches
    #[arg(long, value_name = "PYTHON", default_value = "python3")]
    python: String,
}

fn minor(word: &str) -> Result<u32, String> {
    let minor = word.strip_prefix("3.").and_then(|minor| minor.parse().ok());
    minor
        .filter(|minor| MINORS.contains(minor))
        .ok_or_else(|| format!("not one of 3.{} to 3.{}", MINORS.start(), MINORS.end()))
}

/// A kind of host.
struct Kind {
    minor: u32,
    machine: String,
    coverage: &'static str,
}

/// What came of one kind.
enum Got {
    There(String),
    Fetched(String),
}

pub(crate) fn run(args: &Args) -> Result<Exit> {
    fs_err::create_dir_all(&args.folder).map_err(usage)?;
    let minors = if args.minors.is_empty() { MINORS.collect() } else { args.minors.clone() };
    let both = || vec!["x86_64".to_owned(), "aarch64".to_owned()];
    let machines = if args.machines.is_empty() { both() } else { args.machines.clone() };
    let kinds: Vec<Kind> = minors
        .into_iter()
        .flat_map(|minor| machines.iter().map(move |machine| (minor, machine.clone())))
        .filter_map(|(minor, machine)| Some(Kind { minor, machine, coverage: pinned_coverage(3, minor)? }))
        .collect();
    // Each waits for the index most of the time.
    let results: Vec<(&Kind, Result<Got>)> = kinds.par_iter().map(|kind| (kind, sync(kind, args))).collect();
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    crate::output::terminal::print(|out| {
        for (kind, result) in &results {
            let Kind { minor, machine, coverage } = kind;
            let what = format!("Python 3.{minor:<2} {machine:<7}  coverage {coverage:<6}");
            match result {
                Ok(Got::There(name)) => writeln!(out, "{what}  ok       {name}")?,
                Ok(Got::Fetched(name)) => writeln!(out, "{what}  fetched  {name}")?,
                Err(error) => writeln!(out, "{what}  failed   {error:#}")?,
            }
        }
        Ok(())
    })?;
    ensure!(failed == 0, "{failed} of {} wheels could not be fetched", results.len());
    Ok(Exit::Ok)
}

fn sync(kind: &Kind, args: &Args) -> Result<Got> {
    if let Some(name) = find(&args.folder, kind)? {
        return Ok(Got::There(name));
    }
    // Beside the others, so that a rename makes it theirs: a fetch that was cut off leaves no half wheel.
    let fetched = tempfile::Builder::new().prefix(".fetch-").tempdir_in(&args.folder)?;
    let mut pip = Command::new(&args.python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"])
        .args(["--only-binary", ":all:", "--implementation", "cp"])
        .args(["--python-version", &format!("3.{}", kind.minor)]);
    // Until 3.7 the name of the ABI had an m.
    for abi in [format!("cp3{}", kind.minor), format!("cp3{}m", kind.minor)] {
        pip.args(["--abi", &abi]);
    }
    for glibc in GLIBC {
        pip.args(["--platform", &format!("{glibc}_{}", kind.machine)]);
    }
    pip.arg("--dest").arg(fetched.path()).arg(format!("coverage=={}", kind.coverage));
    let output = pip.output().with_context(|| format!("cannot run {}", args.python))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().rev().map(str::trim).find(|line| !line.is_empty());
        bail!("pip: {}", printable(last.unwrap_or("no message")));
    }
    let name = find(fetched.path(), kind)?.context("pip brought no such wheel")?;
    let from = fetched.path().join(&name);
    let to = args.folder.join(&name);
    file::move_whole(&from, &to).with_context(|| format!("cannot write {}", to.display()))?;
    Ok(Got::Fetched(name))
}

/// The wheel for a kind of host that a folder has: compiled, for a Python of that version.
fn find(folder: &Path, kind: &Kind) -> Result<Option<String>> {
    let tag = format!("cp3{}", kind.minor);
    for entry in fs_err::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let fits = WheelName::parse(&name).is_some_and(|wheel| {
            wheel.distribution == "coverage"
                && wheel.version == kind.coverage
                && wheel.python == tag
                && wheel.abi.trim_end_matches('m') == tag
                && wheel
                    .platform
                    .split('.')
                    .any(|one| one.starts_with("manylinux") && one.ends_with(&kind.machine))
        });
        if fits {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
