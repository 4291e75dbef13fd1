//! Judges what would keep this host's services from being measured. Changes nothing.

use std::path::Path;

use pulpcov_protocol::op::Doctor;
use pulpcov_protocol::outcome::{Detail, DoctorDetail, Finding, Grade, Interpreter, Outcome};
use pulpcov_protocol::profile::{Profile, is_python_name};

use super::probe;
use super::status;
use crate::bundle::source_list;
use crate::failure::Failure;
use crate::host::fs::Attributes;
use crate::host::python::Start;
use crate::host::systemd::Unit;
use crate::host::{fs, interpreter, quadlet, systemd};
use crate::install::package_search;
use crate::install::sandbox::{self, SandboxAccess};
use crate::receipt;
use crate::receipt::Receipt;
use crate::recorder::data_dir::LEDGER;
use crate::recorder::{data_dir, hook, ledger, processes, supervised, users};

/// Room for the data of a long run; less is a warning.
const ENOUGH: u64 = 500 * 1024 * 1024;

/// Room for the coverage.py wheel and a first flush; with less, nothing works.
const LEAST: u64 = 30 * 1024 * 1024;

/// SELinux types that Pulp's domains may write to.
const WRITABLE_TYPES: [&str; 3] = ["pulpcore_var_lib_t", "httpd_sys_rw_content_t", "public_content_rw_t"];

pub(super) fn run(args: &Doctor) -> Result<Outcome, Failure> {
    let receipt = receipt::load(&args.lib_root)?;
    let profile = args.profile.clone().or_else(|| receipt.as_ref().map(|found| found.config.profile.clone()));
    let installed_root = receipt.as_ref().and_then(|found| found.config.data_root.to_str());
    let data_root = data_dir::resolve(args.data_root.as_deref().or(installed_root))?;
    let mut report = Findings::default();
    data_directory(&data_root, &mut report);
    labels(&data_root, &mut report);
    protected_regular(&mut report);
    let mut missing_packages = None;
    if let Some(profile) = &profile {
        profile.check().map_err(|error| Failure::new(error.to_string()))?;
        units(args, profile, &data_root, &mut report);
        let found = interpreters(args, profile, &mut report);
        missing_packages = packages(profile, &found, receipt.as_ref(), &mut report)?;
        untold(profile, &mut report)?;
    }
    installation(receipt.as_ref().filter(|receipt| !receipt.uninstalled), &mut report)?;
    let mut findings = report.0;
    findings.sort();
    let count = |grade| findings.iter().filter(|finding| finding.grade == grade).count() as u64;
    let msg = format!(
        "{}, {}, {} in order",
        super::counted(count(Grade::Bad), "obstacle"),
        super::counted(count(Grade::Warning), "warning"),
        super::counted(count(Grade::Ok), "thing")
    );
    Ok(Outcome::ok(false, msg, Detail::Doctor(DoctorDetail { findings, missing_packages })))
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, grade: Grade, subject: impl ToString, msg: impl Into<String>) -> &mut Finding {
        let at = self.0.len();
        self.0.push(Finding { grade, subject: subject.to_string(), msg: msg.into(), hint: None });
        &mut self.0[at]
    }
}

trait Hint {
    fn hint(&mut self, text: impl Into<String>);
}

impl Hint for Finding {
    fn hint(&mut self, text: impl Into<String>) {
        self.hint = Some(text.into());
    }
}

/// Mode, kind and room of the data directory, or of where it will be made.
fn data_directory(root: &Path, report: &mut Findings) {
    let name = &root.display().to_string();
    match Attributes::of(root) {
        Err(failure) => {
            report.add(Grade::Bad, name, failure.msg).hint("become root: set ansible_become: true");
        }
        Ok(None) => {
            report.add(Grade::Ok, name, "is not there yet; install makes it, mode 1777");
        }
        Ok(Some(found)) => {
            let is_folder = std::fs::symlink_metadata(root).is_ok_and(|meta| meta.is_dir());
            if !is_folder {
                report
                    .add(Grade::Bad, name, "is no folder, or a link to one")
                    .hint("set pulpcov_data_root to the folder itself");
            } else if found.mode != 0o1777 {
                report.add(Grade::Warning, name, format!("mode {:o}; install makes it 1777", found.mode));
            } else if let Some(wrong) = data_dir::wrong_mode(root) {
                report.add(Grade::Warning, name, wrong);
            } else {
                report.add(Grade::Ok, name, "mode 1777");
            }
        }
    }
    let ledger = root.join(LEDGER);
    if let Ok(Some(uid)) = fs::owned_by_another(&ledger) {
        report
            .add(Grade::Bad, ledger.display(), format!("belongs to user {uid}"))
            .hint("look at it, and remove it; install --force moves it aside");
    }
    let Some(existing) = root.ancestors().find(|folder| folder.is_dir()) else { return };
    let Ok(space) = rustix::fs::statvfs(existing) else { return };
    if space.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        report.add(Grade::Bad, name, "lies on a read-only file system").hint("set pulpcov_data_root");
    }
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let megabytes = free / 1024 / 1024;
    let grade = match free {
        0..LEAST => Grade::Bad,
        LEAST..ENOUGH => Grade::Warning,
        _ => Grade::Ok,
    };
    let finding = report.add(grade, name, format!("{megabytes} MiB free"));
    if grade != Grade::Ok {
        finding.hint("a process's data file has 50 kB to 1 MB; make room, or set pulpcov_data_root");
    }
    if space.f_files > 0 && space.f_favail < 1000 {
        report
            .add(Grade::Bad, name, format!("{} inodes free", space.f_favail))
            .hint("make room on that file system");
    }
}

fn labels(root: &Path, report: &mut Findings) {
    let mode = std::fs::read_to_string("/sys/fs/selinux/enforce").unwrap_or_default();
    if mode.trim() != "1" {
        return;
    }
    let label = Attributes::of(root).ok().flatten().and_then(|found| found.label).unwrap_or_default();
    let kind = label.split(':').nth(2).unwrap_or_default();
    if WRITABLE_TYPES.contains(&kind) {
        report.add(Grade::Ok, root.display(), format!("SELinux type {kind}"));
    } else {
        report
            .add(Grade::Warning, root.display(), format!("SELinux is enforcing, and its type is {kind:?}"))
            .hint(format!(
                "if services may not write: semanage fcontext -a -t pulpcore_var_lib_t '{}(/.*)?'; restorecon -R {0}",
                root.display()
            ));
    }
}

fn protected_regular(report: &mut Findings) {
    const SETTING: &str = "/proc/sys/fs/protected_regular";
    if let Ok(text) = std::fs::read_to_string(SETTING) {
        // Every file of ours in the sticky directory is made under a new name and renamed.
        report.add(
            Grade::Ok,
            "fs.protected_regular",
            format!("{}; nothing of ours depends on it", text.trim()),
        );
    }
}

/// Each unit of the profile: there, running, not shut off from the data, with a Python that is known.
fn units(args: &Doctor, profile: &Profile, data_root: &Path, report: &mut Findings) {
    if !systemd::is_here() {
        supervisor(profile, report);
        return;
    }
    let names = [&sandbox::PROPERTIES[..], &probe::SHOW_PYTHON, &["ActiveState", "Environment"]].concat();
    let units = match systemd::units(&profile.units, &names) {
        Ok(units) => units,
        Err(failure) => {
            report.add(Grade::Bad, "systemd", failure.msg);
            return;
        }
    };
    if units.is_empty() {
        report.add(Grade::Warning, "units", format!("the profile {} names none that is here", profile.name));
    }
    for unit in units {
        judge_unit(args, profile, &unit, data_root, report);
    }
}

/// Who stops and starts the service where there is no systemd.
fn supervisor(profile: &Profile, report: &mut Findings) {
    let Some(services) = supervised::services(profile) else {
        report
            .add(Grade::Warning, "systemd", "is not this host's service manager, and s6 is not either")
            .hint("use --stop-command and --start-command; a container's engine restarts it by itself");
        return;
    };
    let names: Vec<&str> = services.iter().map(|one| one.name.as_str()).collect();
    if names.is_empty() {
        report.add(
            Grade::Warning,
            "s6",
            format!("watches over none of what the profile {} names", profile.name),
        );
    } else {
        report.add(Grade::Ok, "s6", format!("watches over {}", names.join(", ")));
    }
}

/// What install would find behind a unit's command lines: under which role each is recorded, or why it is not.
fn command_lines(profile: &Profile, unit: &Unit, report: &mut Findings) -> Vec<String> {
    let mut roles = Vec::new();
    for (program, words) in unit.command_lines() {
        let Some(python) = interpreter::of_program(&program) else {
            roles.extend(profile.role_of(&words, &program, &unit.name));
            continue;
        };
        // A script runs as an argument of its interpreter.
        let is_script = !is_python_name(&program);
        let argv: Vec<String> = is_script.then(|| python.clone()).into_iter().chain(words).collect();
        if let Some(flag) = processes::skips_site(&argv) {
            report
                .add(Grade::Bad, &unit.name, format!("its Python runs with {flag}, which reads no .pth"))
                .hint(processes::WITHOUT_SITE);
        }
        roles.extend(profile.role_of(&argv, &python, &unit.name));
    }
    // What runs behind a wrapper shows only in its processes.
    let live =
        processes::of_unit(unit).iter().filter_map(|running| running.role(profile)).collect::<Vec<_>>();
    let mut roles = if live.is_empty() { roles } else { live };
    roles.sort();
    roles.dedup();
    roles
}

/// A unit whose service runs in a container: what it runs is told of by its image's Pythons.
fn judge_container(profile: &Profile, unit: &Unit, report: &mut Findings) {
    let state = unit.property("ActiveState");
    let mut roles: Vec<String> =
        processes::of_unit(unit).iter().filter_map(|running| running.role(profile)).collect();
    roles.sort();
    roles.dedup();
    let recorded =
        if roles.is_empty() { String::new() } else { format!(", recorded as {}", roles.join(", ")) };
    let grade = if state == "active" { Grade::Ok } else { Grade::Warning };
    report.add(
        grade,
        &unit.name,
        format!("{state}, a container by {}{recorded}", unit.property(quadlet::SOURCE)),
    );
}

fn judge_unit(args: &Doctor, profile: &Profile, unit: &Unit, data_root: &Path, report: &mut Findings) {
    if quadlet::is_container(unit) {
        return judge_container(profile, unit, report);
    }
    let pythons = probe::unit_pythons(unit);
    let state = unit.property("ActiveState");
    let roles = command_lines(profile, unit, report);
    let name = unit.name.as_str();
    let recorded =
        if roles.is_empty() { String::new() } else { format!(", recorded as {}", roles.join(", ")) };
    if pythons.is_empty() {
        report
            .add(Grade::Bad, name, format!("no Python is seen behind {}", unit.programs().join(", ")))
            .hint("name it in pulpcov_interpreters");
    } else if state == "active" {
        report.add(Grade::Ok, name, format!("active, runs {}{recorded}", pythons.join(", ")));
    } else {
        report.add(Grade::Warning, name, format!("is {state}, runs {}{recorded}", pythons.join(", ")));
    }
    let drop_in = sandbox::drop_in(name);
    match sandbox::judge(&unit.properties, data_root, Path::new(&args.lib_root)) {
        SandboxAccess::Open if drop_in.exists() => {
            report.add(Grade::Ok, name, format!("its sandbox is open by {}", drop_in.display()));
        }
        SandboxAccess::Open => {}
        SandboxAccess::Needs { line, reason, .. } => {
            report
                .add(Grade::Warning, name, format!("{reason} keeps {} from it", data_root.display()))
                .hint(format!("install adds a drop-in with {line}, and uninstall removes it"));
        }
        SandboxAccess::Blocked(reason) => {
            report
                .add(Grade::Bad, name, reason)
                .hint("set pulpcov_data_root or pulpcov_lib_root to a place that it sees");
        }
    }
    let environment = unit.property("Environment");
    if environment.contains("COVERAGE_PROCESS_START=") || environment.contains("COVERAGE_PROCESS_CONFIG=") {
        report
            .add(Grade::Warning, name, "starts coverage.py of its own (COVERAGE_PROCESS_START)")
            .hint("two tracers record less than one; take that variable away");
    }
}

/// Each Python: which coverage.py belongs to it, whether that is here, and who else is in its start.
fn interpreters(args: &Doctor, profile: &Profile, report: &mut Findings) -> Vec<Interpreter> {
    let found = probe::Sought::of(profile, &args.interpreters)
        .and_then(|sought| probe::interpreters(&args.lib_root, &sought, &args.interpreters));
    let found = match found {
        Ok(found) => found,
        Err(failure) => {
            report.add(Grade::Bad, "interpreters", failure.msg).hint = failure.hint;
            return Vec::new();
        }
    };
    for python in &found {
        let version = format!("Python {}, coverage {}", python.version, python.coverage);
        if python.coverage_present {
            report.add(Grade::Ok, &python.path, format!("{version} is here"));
        } else if has_pip(python) {
            report.add(Grade::Ok, &python.path, format!("{version} comes by its pip, or by --wheelhouse"));
        } else {
            report
                .add(Grade::Warning, &python.path, format!("{version} is not here, and there is no pip"))
                .hint("install with --wheelhouse");
        }
        others_in_the_start(python, report);
    }
    found
}

/// Packages that are nowhere here. Not every host of a service has all of them: whether any has, the control side
/// can tell.
fn packages(
    profile: &Profile,
    interpreters: &[Interpreter],
    receipt: Option<&Receipt>,
    report: &mut Findings,
) -> Result<Option<Vec<String>>, Failure> {
    if interpreters.is_empty() {
        return Ok(None);
    }
    let ledger = receipt.map(|receipt| ledger::read_now(&receipt.config)).transpose()?;
    let found = package_search::search(profile, interpreters, ledger.as_ref())?;
    if !found.missing.is_empty() {
        report
            .add(Grade::Warning, "packages", package_search::words(&found.missing))
            .hint("is it mistyped in pulpcov_packages or the profile, or on other hosts only?");
    }
    let data_root = receipt.map(|receipt| receipt.config.data_root.as_path());
    let trusted = source_list::trusted_now(data_root, profile, interpreters);
    for words in found.untrusted(&trusted).into_iter().chain(users::unknown(profile)) {
        report.add(Grade::Warning, "packages", words);
    }
    Ok(found.is_sure.then_some(found.missing))
}

/// Processes into which the kernel lets nobody look without a right that root does not have in a container.
fn untold(profile: &Profile, report: &mut Findings) -> Result<(), Failure> {
    let untold = processes::of_service(profile)?.iter().filter(|running| !running.is_exe_told).count() as u64;
    if untold > 0 {
        report
            .add(
                Grade::Ok,
                "processes",
                format!(
                    "{} known by the command line alone: the kernel tells of what others run only to who may trace them",
                    super::counted(untold, "process")
                ),
            )
            .hint("CAP_SYS_PTRACE shows more: podman run --cap-add SYS_PTRACE");
    }
    Ok(())
}

fn has_pip(python: &Interpreter) -> bool {
    Start::of(python).args(&["-I", "-c", "import pip"]).answer(b"").is_ok()
}

/// A sitecustomize, and what the original `coverage_hook` or coverage.py's own start left.
fn others_in_the_start(python: &Interpreter, report: &mut Findings) {
    const FIND: &str = "import importlib.util as u\nfor n in ('sitecustomize', 'usercustomize'):\n    s = u.find_spec(n)\n    if s and s.origin:\n        with open(s.origin, 'rb') as f:\n            print(int(b'coverage' in f.read(262144)), s.origin)";
    let answer = Start::of(python).args(&["-I", "-c", FIND]).answer(b"").unwrap_or_default();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    for (is_coverages, path) in answer.lines().filter_map(|line| line.split_once(' ')) {
        if is_coverages == "1" {
            report
                .add(
                    Grade::Bad,
                    path,
                    "starts coverage.py in every Python: the original coverage_hook's, most likely",
                )
                .hint("uninstall that first (coverage_hook uninstall): two tracers record less than one");
        } else {
            report.add(Grade::Ok, path, "is somebody else's, and is left alone");
        }
    }
    let start = Path::new(&python.purelib).join("a1_coverage.pth");
    if python.image.is_none() && start.exists() {
        report.add(Grade::Ok, start.display(), "is coverage.py's own, idle without COVERAGE_PROCESS_START");
    }
}

/// What is installed: whole, unchanged, and at work in every process.
fn installation(receipt: Option<&Receipt>, report: &mut Findings) -> Result<(), Failure> {
    let Some(receipt) = receipt else {
        report.add(Grade::Ok, "pulpcov", "is not installed");
        return Ok(());
    };
    if !receipt.complete {
        report.add(Grade::Bad, "pulpcov", "an install was cut off").hint("install again, or uninstall");
    }
    let image = receipt.config.image();
    if let Some(words) = image.and_then(|image| quadlet::replaced_image(&receipt.config.profile.units, image))
    {
        report.add(Grade::Warning, "image", words);
    }
    for path in receipt.missing() {
        let is_hook = path.file_name().is_some_and(|name| name == hook::PTH);
        let grade = if is_hook { Grade::Bad } else { Grade::Warning };
        report.add(grade, path.display(), "is gone").hint("install again");
    }
    for path in receipt.changed_since()? {
        report
            .add(Grade::Warning, path.display(), "was changed by somebody")
            .hint("install again with --force");
    }
    let root = &receipt.config.data_root;
    let ledger = ledger::read_now(&receipt.config)?;
    for words in &ledger.warnings {
        report.add(Grade::Warning, root.join(LEDGER).display(), words.clone());
    }
    let unrecorded = status::unrecorded(receipt, &ledger)?;
    for process in &unrecorded {
        let of_unit = if process.unit.is_empty() { String::new() } else { format!(" of {}", process.unit) };
        let name = format!("process {}{of_unit}", process.pid);
        report.add(Grade::Bad, name, process.reason.clone());
    }
    let live = ledger.records.iter().filter(|record| record.is_live()).count() as u64;
    if unrecorded.is_empty() {
        report.add(Grade::Ok, "processes", format!("{} recorded", super::counted(live, "process")));
    }
    Ok(())
}
