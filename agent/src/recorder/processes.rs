//! Processes of the service, and why one of them is not recorded.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pulpcov_protocol::profile::{Profile, is_python_name};

use crate::failure::Failure;
use crate::host::systemd::Unit;
use crate::host::{facts, quadlet, systemd};
use crate::receipt::Receipt;
use crate::recorder::data_dir::LEDGER;
use crate::recorder::hook::{PTH, SWITCH};
use crate::recorder::ledger::Ledger;
use crate::recorder::users;

/// Most of a command line that is looked at.
const MAX_CMDLINE: u64 = 64 * 1024;

/// A living process.
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    pub(crate) argv: Vec<String>,
    /// What it executes, or what its command line says where the kernel does not tell.
    pub(crate) exe: String,
    /// Whether the kernel told: it tells nobody of another user's process who may not trace it, and root in a container
    /// may not.
    pub(crate) is_exe_told: bool,
    /// The unit that it belongs to; empty on a host without systemd.
    pub(crate) unit: String,
}

impl Running {
    fn of(pid: u32, unit: &str) -> Option<Self> {
        let start_ticks = facts::start_ticks(pid)?;
        let told = match std::fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(exe) => Some(exe.to_string_lossy().into_owned()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            Err(_) => return None,
        };
        let mut raw = Vec::new();
        let file = std::fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_CMDLINE), &mut raw).ok()?;
        let mut argv: Vec<String> =
            raw.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        argv.pop();
        // A thread of the kernel, and a process on its way out.
        if told.is_none() && argv.is_empty() {
            return None;
        }
        let is_exe_told = told.is_some();
        let exe = told.unwrap_or_else(|| likely_exe(&argv, &facts::name(pid).unwrap_or_default()));
        Some(Self { pid, start_ticks, argv, exe, is_exe_told, unit: unit.to_owned() })
    }

    pub(crate) fn is_alive(&self) -> bool {
        facts::start_ticks(self.pid) == Some(self.start_ticks)
    }

    /// Under which role the profile wants it recorded, if it does.
    pub(crate) fn role(&self, profile: &Profile) -> Option<String> {
        profile.role_of(&self.argv, &self.exe, &self.unit)
    }

    /// Base name of what it executes.
    pub(crate) fn program(&self) -> &str {
        self.exe.rsplit('/').next().unwrap_or(&self.exe)
    }

    pub(crate) fn is_python(&self) -> bool {
        is_python_name(&self.exe)
    }

    pub(crate) fn is_uwsgi(&self) -> bool {
        self.program().starts_with("uwsgi")
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

/// What a process most likely executes, by its command line and the name that the kernel has for it. Under which word a
/// program was started is its starter's choice; the kernel's name is the program's, or the script's that it runs.
fn likely_exe(argv: &[String], name: &str) -> String {
    let first = argv.first().map(String::as_str).unwrap_or_default();
    if !is_python_name(first) && is_python_name(name) { name.to_owned() } else { first.to_owned() }
}

/// The processes of the profile's units; without systemd, or where it has no units, those that the profile's rules fit.
pub(crate) fn of_service(profile: &Profile) -> Result<Vec<Running>, Failure> {
    if systemd::is_here() && !profile.units.is_empty() {
        let units = systemd::units(&profile.units, &["ControlGroup", quadlet::SOURCE])?;
        return Ok(units.iter().flat_map(of_unit).collect());
    }
    // Anybody may start something of that name.
    let users = users::of_service(profile);
    let is_service =
        |pid: u32| users.is_empty() || uid_of(pid).is_some_and(|uid| uid == 0 || users.contains(&uid));
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    Ok(pids
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| is_service(pid))
        .filter_map(|pid| Running::of(pid, ""))
        .filter(|running| running.role(profile).is_some())
        .collect())
}

/// Those of a unit that was asked for its `ControlGroup`, and for what it was made of. Of a container's, what runs in the
/// container: the engine is beside it.
pub(crate) fn of_unit(unit: &Unit) -> Vec<Running> {
    let mut pids = unit.pids();
    if quadlet::is_container(unit) {
        pids.retain(|&pid| facts::is_contained(pid));
    }
    pids.into_iter().filter_map(|pid| Running::of(pid, &unit.name)).collect()
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
            && all.iter().any(|(other, why)| {
                why.is_none()
                    && other.exe == running.exe
                    && other.unit == running.unit
                    // uWSGI's master runs Python before it forks: only a sibling shows that its forks do.
                    && (!running.is_uwsgi() || facts::parent(other.pid) == facts::parent(running.pid))
            })
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
        .filter(|r| (r.pid_here, r.process.start_ticks) == (Some(running.pid), running.start_ticks));
    let mut error = None;
    for record in own {
        match &record.process.error {
            None => return None,
            Some(words) => error = Some(words.clone()),
        }
    }
    if started_at(running.start_ticks) < receipt.installed_at {
        return Some(Why {
            reason: if running.unit.is_empty() {
                "it started before the hook was installed; restart it".into()
            } else {
                "it started before the hook was installed; restart its unit".into()
            },
            restart: true,
            remedy: Some("restart the service: --restart does it".into()),
        });
    }
    let because = |reason: String| Why { reason, restart: false, remedy: None };
    let why = error
        .map(because)
        .or_else(|| not_switched_on(running, receipt))
        .or_else(|| silent_fork(running, ledger))
        .or_else(|| no_rule(running, &receipt.config.profile))
        .or_else(|| no_hook(running, receipt))
        .or_else(|| no_place(running, &receipt.config.data_root));
    Some(why.unwrap_or_else(|| because("it left no record".to_owned())))
}

pub(crate) struct Why {
    pub(crate) reason: String,
    /// It runs since before the hook was there: a restart is all that it takes.
    pub(crate) restart: bool,
    /// What a person can do about it, where that is known.
    pub(crate) remedy: Option<String>,
}

impl Why {
    fn with(reason: String, remedy: impl Into<String>) -> Self {
        Self { reason, restart: false, remedy: Some(remedy.into()) }
    }
}

/// A baked hook waits for a word in the environment. Whose environment may not be looked at may well have it.
fn not_switched_on(running: &Running, receipt: &Receipt) -> Option<Why> {
    let environment =
        std::fs::read(format!("/proc/{}/environ", running.pid)).ok().filter(|_| receipt.baked)?;
    let switch = format!("{SWITCH}=1");
    let is_on = environment.split(|&byte| byte == 0).any(|word| word == switch.as_bytes());
    (!is_on).then(|| {
        Why::with(format!("its environment has no {switch}"), format!("set {switch} for the container"))
    })
}

/// A program with a Python inside is recorded where a rule says so; a Python of a unit always is.
fn no_rule(running: &Running, profile: &Profile) -> Option<Why> {
    let why =
        || Why::with("no process rule of the profile fits it".to_owned(), add_a_rule(running.program()));
    running.role(profile).is_none().then(why)
}

/// What helps a program that has a Python inside.
pub(crate) fn add_a_rule(program: &str) -> String {
    format!("add a rule: pulpcov_processes: [{{role: ROLE, program: {program}}}]")
}

/// What uWSGI has to be told: without threads it holds Python's lock also while it waits for requests, and no thread
/// of the recorder ever runs.
pub(crate) const LET_UWSGI_PYTHON_RUN: &str = "set enable-threads = true in uWSGI's configuration";

/// The same where it has to tell Python of its forks, too.
const LET_UWSGI_TELL_PYTHON: &str =
    "set py-call-osafterfork = true and enable-threads = true in uWSGI's configuration";

/// uWSGI forks its workers in C, and calls its own module's `post_fork_hook` in them: where that cannot be ours, the
/// recorder of the parent was at work before, and there is none in the child.
fn silent_fork(running: &Running, ledger: &Ledger) -> Option<Why> {
    let parent = facts::parent(running.pid)?;
    let has_record = ledger.records.iter().any(|r| r.is_live() && r.pid_here == Some(parent));
    (running.is_uwsgi() && has_record)
        .then(|| Why::with("uWSGI forked it without telling Python".to_owned(), LET_UWSGI_TELL_PYTHON))
}

/// What helps a Python that reads no `.pth`.
pub(crate) const WITHOUT_SITE: &str = "take -S out of the unit's command line";

/// The flag of a Python's command line by which it reads no `.pth`, if it has it.
pub(crate) fn skips_site(argv: &[String]) -> Option<&str> {
    let flags = argv.iter().skip(1).map(String::as_str).take_while(|word| word.starts_with('-'));
    let mut short = flags.filter(|word| !word.starts_with("--"));
    short.find(|flag| flag.contains('S') && !flag.contains(['W', 'X', 'm', 'c']))
}

/// The hook never ran in it.
fn no_hook(running: &Running, receipt: &Receipt) -> Option<Why> {
    if let Some(flag) = skips_site(&running.argv) {
        return Some(Why::with(format!("its Python runs with {flag}, which reads no .pth"), WITHOUT_SITE));
    }
    if let Some(why) = not_in_container(running, receipt) {
        return Some(why);
    }
    // What may not be looked at is not known to be hidden.
    let is_absent = |path: &Path| {
        std::fs::symlink_metadata(path).is_err_and(|error| error.kind() != ErrorKind::PermissionDenied)
    };
    let mut hooks = receipt.files.keys().filter(|path| path.ends_with("_pulpcov_recorder.py"));
    let is_hidden = |hook: &&PathBuf| is_absent(&in_view_of(running.pid, hook));
    if let Some(hook) = hooks.next().filter(is_hidden).filter(|_| hooks.all(|hook| is_hidden(&hook))) {
        return Some(Why::with(
            format!("its sandbox hides {}", hook.display()),
            "set pulpcov_lib_root to a folder that the sandbox shows",
        ));
    }
    // A bare name may be that of any.
    if running.is_python()
        && !receipt.config.is_contained()
        && (running.is_exe_told || running.exe.starts_with('/'))
    {
        let exe =
            if running.is_exe_told { running.exe.clone().into() } else { resolved(Path::new(&running.exe)) };
        let known = receipt.config.interpreters.iter().any(|python| resolved(Path::new(&python.path)) == exe);
        if !known {
            return Some(Why::with(
                format!("it runs {}, which has no hook", running.exe),
                "name its Python in pulpcov_interpreters (of a virtual environment, that one's bin/python)",
            ));
        }
    }
    None
}

/// Where the hook comes by mounts, a container may have been made without them, or of an image whose Python looks in
/// another place.
fn not_in_container(running: &Running, receipt: &Receipt) -> Option<Why> {
    let contained = receipt.config.interpreters.iter().filter(|python| python.image.is_some());
    let mut hooks = contained.map(|python| Path::new(&python.purelib).join(PTH)).peekable();
    let first = hooks.peek()?.display().to_string();
    let is_there = |hook: PathBuf| match std::fs::symlink_metadata(in_view_of(running.pid, &hook)) {
        Ok(_) => true,
        // What may not be looked at is not known to be missing.
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    };
    (!hooks.any(is_there)).then(|| {
        Why::with(
            format!("its container has no {first}: it was made without the drop-in"),
            "restart the service; where its image is another one by now, install again",
        )
    })
}

/// Where links lead; the path itself where they lead nowhere.
fn resolved(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// It ran, and had no place to write to.
fn no_place(running: &Running, data_root: &Path) -> Option<Why> {
    const REMEDY: &str = "set pulpcov_data_root to a folder that the sandbox lets it write to";
    let ledger = data_root.join(LEDGER);
    let meta = match std::fs::symlink_metadata(in_view_of(running.pid, &ledger)) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        Err(_) => return Some(Why::with(format!("its sandbox hides {}", data_root.display()), REMEDY)),
    };
    if is_read_only(running.pid, data_root) {
        return Some(Why::with(format!("its sandbox makes {} read-only", data_root.display()), REMEDY));
    }
    if meta.permissions().mode() & 0o002 == 0 && meta.uid() != uid_of(running.pid)? {
        return Some(Why::with(
            format!("it may not write to {}", ledger.display()),
            format!("chmod 1777 {}, as install made it", ledger.display()),
        ));
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
    fn a_program_that_the_kernel_does_not_tell_is_what_its_command_line_says() {
        let exe = |line: &str, name: &str| {
            likely_exe(&line.split(' ').map(str::to_owned).collect::<Vec<_>>(), name)
        };
        assert_eq!(
            exe("/opt/venv/bin/python3 /opt/venv/bin/gunicorn shop", "gunicorn"),
            "/opt/venv/bin/python3"
        );
        assert_eq!(exe("shop -m shop.worker", "python3.12"), "python3.12");
        assert_eq!(exe("nginx: master", "nginx"), "nginx:");
        assert_eq!(likely_exe(&[], "kthreadd"), "");
    }

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
