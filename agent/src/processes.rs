//! Processes of the service, and why one of them is not recorded.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pulpcov_protocol::profile::{Profile, is_python_name};

use crate::data_dir::LEDGER;
use crate::failure::Failure;
use crate::ledger::Ledger;
use crate::receipt::Receipt;
use crate::{host, systemd};

/// Most of a command line that is looked at.
const MAX_CMDLINE: u64 = 64 * 1024;

/// A living process.
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    pub(crate) argv: Vec<String>,
    pub(crate) exe: String,
    /// The unit that it belongs to; empty on a host without systemd.
    pub(crate) unit: String,
}

impl Running {
    fn of(pid: u32, unit: &str) -> Option<Self> {
        let start_ticks = host::start_ticks(pid)?;
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?.to_string_lossy().into_owned();
        let mut raw = Vec::new();
        let file = std::fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_CMDLINE), &mut raw).ok()?;
        let mut argv: Vec<String> =
            raw.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        argv.pop();
        Some(Self { pid, start_ticks, argv, exe, unit: unit.to_owned() })
    }

    pub(crate) fn is_alive(&self) -> bool {
        host::start_ticks(self.pid) == Some(self.start_ticks)
    }

    pub(crate) fn is_python(&self) -> bool {
        is_python_name(&self.exe)
    }

    /// What a person knows it by.
    pub(crate) fn title(&self) -> String {
        let mut words = self.argv.iter().map(String::as_str);
        let first = words.next().unwrap_or(&self.exe);
        let shown =
            if self.is_python() { words.find(|word| !word.starts_with('-')).unwrap_or(first) } else { first };
        let name = shown.rsplit('/').next().unwrap_or(shown);
        let name: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        if self.unit.is_empty() {
            format!("process {} ({name})", self.pid)
        } else {
            format!("process {} ({name}) of {}", self.pid, self.unit)
        }
    }
}

/// The processes of the profile's units; without systemd, those that the profile's rules fit.
pub(crate) fn of_service(profile: &Profile) -> Result<Vec<Running>, Failure> {
    if systemd::is_here() {
        let mut found = Vec::new();
        for unit in systemd::expand(&profile.units)? {
            found.extend(systemd::pids(&unit).into_iter().filter_map(|pid| Running::of(pid, &unit)));
        }
        return Ok(found);
    }
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    Ok(pids
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Running::of(pid, ""))
        .filter(|running| profile.role_of(&running.argv, &running.exe).is_some())
        .collect())
}

/// Processes that left no record, each with the reason. Of a program with a Python inside, as Apache has
/// one, not every process has to run it: one that does is enough.
pub(crate) fn unrecorded<'a>(
    service: &'a [Running],
    receipt: &Receipt,
    ledger: &Ledger,
) -> Vec<(&'a Running, Why)> {
    let all: Vec<(&Running, Option<Why>)> =
        service.iter().map(|running| (running, why_unrecorded(running, receipt, ledger))).collect();
    let is_excused = |running: &Running| {
        !running.is_python()
            && all
                .iter()
                .any(|(other, why)| why.is_none() && other.exe == running.exe && other.unit == running.unit)
    };
    let excused: Vec<bool> = all.iter().map(|(running, _)| is_excused(running)).collect();
    all.into_iter()
        .zip(excused)
        .filter(|(_, excused)| !excused)
        .filter_map(|((running, why), _)| Some((running, why?)))
        .collect()
}

/// Why a process of the service left no record; `None` where it left one.
fn why_unrecorded(running: &Running, receipt: &Receipt, ledger: &Ledger) -> Option<Why> {
    let own = ledger
        .records
        .iter()
        .filter(|r| (r.process.pid, r.process.start_ticks) == (running.pid, running.start_ticks));
    let mut error = None;
    for record in own {
        match &record.process.error {
            None => return None,
            Some(words) => error = Some(words.clone()),
        }
    }
    if started_at(running.start_ticks) < receipt.installed_at {
        return Some(Why {
            reason: "it started before the hook was installed; restart its unit".into(),
            restart: true,
        });
    }
    let reason = error
        .or_else(|| no_rule(running, &receipt.config.profile))
        .or_else(|| no_hook(running, receipt))
        .or_else(|| no_place(running, &receipt.config.data_root))
        .unwrap_or_else(|| "it left no record".to_owned());
    Some(Why { reason, restart: false })
}

pub(crate) struct Why {
    pub(crate) reason: String,
    /// It runs since before the hook was there: a restart is all that it takes.
    pub(crate) restart: bool,
}

fn no_rule(running: &Running, profile: &Profile) -> Option<String> {
    profile
        .role_of(&running.argv, &running.exe)
        .is_none()
        .then(|| "no process rule of the profile fits it".to_owned())
}

/// The hook never ran in it.
fn no_hook(running: &Running, receipt: &Receipt) -> Option<String> {
    let flags = running.argv.iter().skip(1).take_while(|word| word.starts_with('-'));
    for flag in flags.filter(|word| !word.starts_with("--")) {
        if flag.contains('S') && !flag.contains(['W', 'X', 'm', 'c']) {
            return Some(format!("its Python runs with {flag}, which reads no .pth"));
        }
    }
    let hook = receipt.files.keys().find(|path| path.ends_with("_pulpcov_recorder.py"));
    if let Some(hook) = hook
        && std::fs::symlink_metadata(in_view_of(running.pid, hook)).is_err()
    {
        return Some(format!("its sandbox hides {}", hook.display()));
    }
    if running.is_python() {
        let known = receipt.config.interpreters.iter().any(|python| {
            std::fs::canonicalize(&python.path).is_ok_and(|path| path == Path::new(&running.exe))
        });
        if !known {
            return Some(format!(
                "it runs {}, which has no hook; name it in pulpcov_interpreters",
                running.exe
            ));
        }
    }
    None
}

/// It ran, and had no place to write to.
fn no_place(running: &Running, data_root: &Path) -> Option<String> {
    let ledger = data_root.join(LEDGER);
    let Ok(meta) = std::fs::symlink_metadata(in_view_of(running.pid, &ledger)) else {
        return Some(format!("its sandbox hides {}", data_root.display()));
    };
    if is_read_only(running.pid, data_root) {
        return Some(format!("its sandbox makes {} read-only", data_root.display()));
    }
    if meta.permissions().mode() & 0o002 == 0 && meta.uid() != uid_of(running.pid)? {
        return Some(format!("it may not write to {}", ledger.display()));
    }
    None
}

/// A path as a process sees it. Only looked at, never opened: links in it lead where we are.
fn in_view_of(pid: u32, path: &Path) -> PathBuf {
    Path::new(&format!("/proc/{pid}/root")).join(path.strip_prefix("/").unwrap_or(path))
}

fn uid_of(pid: u32) -> Option<u32> {
    Some(std::fs::metadata(format!("/proc/{pid}")).ok()?.uid())
}

/// Whether the mount that a process sees at `path` is read-only.
fn is_read_only(pid: u32, path: &Path) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    mount_options(&text, path).is_some_and(|options| options.split(',').any(|option| option == "ro"))
}

/// Options of the innermost mount over `path`, from the text of a mountinfo.
fn mount_options<'a>(mountinfo: &'a str, path: &Path) -> Option<&'a str> {
    let mut best: BTreeMap<usize, &str> = BTreeMap::new();
    for line in mountinfo.lines() {
        let mut fields = line.split(' ').skip(4);
        let (Some(point), Some(options)) = (fields.next(), fields.next()) else { continue };
        // Spaces stand as \040; such a mount is not ours, and no prefix of our path.
        if path.starts_with(point) {
            best.insert(point.len(), options);
        }
    }
    best.into_values().next_back()
}

/// Seconds since the epoch of a start time in ticks. Linux reports 100 ticks a second to programs.
fn started_at(ticks: u64) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot: f64 =
        stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0.0);
    #[expect(clippy::cast_precision_loss, reason = "hundredths of a second since boot")]
    let since_boot = ticks as f64 / TICKS_PER_SECOND;
    boot + since_boot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts_and_the_last_of_equals() {
        let text = "21 1 0:20 / / rw,relatime - ext4 /dev/vda rw\n\
                    22 21 0:20 / /srv ro,relatime - ext4 /dev/vda rw\n\
                    23 22 0:20 /x /srv/pulp_coverage rw,nosuid shared:1 - ext4 /dev/vda rw\n";
        assert_eq!(mount_options(text, Path::new("/srv/pulp_coverage")), Some("rw,nosuid"));
        assert_eq!(mount_options(text, Path::new("/srv/pulp_cov")), Some("ro,relatime"));
        assert_eq!(mount_options(text, Path::new("/var")), Some("rw,relatime"));
        assert_eq!(mount_options("", Path::new("/var")), None);
    }
}
