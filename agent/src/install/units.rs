//! What install tells systemd: drop-ins for sandboxed units, and the timer that compacts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulpcov_protocol::op::ServiceAction;

use crate::failure::Failure;
use crate::host::quadlet::{self, Containers};
use crate::host::systemd;
use crate::install::changes::Changes;
use crate::install::sandbox::{self, SandboxAccess};
use crate::install::sites;

const UNIT_FOLDER: &str = "/etc/systemd/system";
const TIMER: &str = "pulpcov-compact.timer";
const SERVICE: &str = "pulpcov-compact.service";

/// Starts the timer at boot. A drop-in, not an enabled unit: one file more, and no link.
const WANTS: &str = "multi-user.target.d/50-pulpcov.conf";

/// The agent's own place on the host, for the timer and for people.
pub(crate) const AGENT: &str = "pulpcov-agent";

/// Drop-ins for units whose sandbox keeps the data directory from them.
pub(crate) fn open_sandboxes(
    changes: &mut Changes,
    patterns: &[String],
    lib_root: &Path,
    force: bool,
) -> Result<(), Failure> {
    if !systemd::is_here() {
        return Ok(());
    }
    let data_root = changes.config().data_root.clone();
    let mut wanted: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for unit in systemd::units(patterns, &sandbox::PROPERTIES)? {
        let path = sandbox::drop_in(&unit.name);
        match sandbox::judge(&unit.properties, &data_root, lib_root) {
            SandboxAccess::Needs { line, mount_point, .. } => {
                if let Some(mount_point) = mount_point {
                    changes.folder(&mount_point, 0o755)?;
                }
                wanted.entry(path).or_default().insert(line);
            }
            SandboxAccess::Blocked(reason) => {
                return Err(Failure::new(format!("{} cannot be recorded: {reason}", unit.name))
                    .hint("set pulpcov_data_root or pulpcov_lib_root to a place that it sees"));
            }
            // Open because of the drop-in of an earlier install: it stays.
            SandboxAccess::Open => {
                if let Some(lines) = lines_of_ours(changes, &path) {
                    wanted.entry(path).or_default().extend(lines);
                }
            }
        }
    }
    for (path, lines) in wanted {
        let text = sandbox::drop_in_text(&lines.into_iter().collect::<Vec<_>>().join("\n"));
        changes.folder(path.parent().unwrap_or(Path::new(UNIT_FOLDER)), 0o755)?;
        changes.file(&path, text.as_bytes(), 0o644, force)?;
    }
    Ok(())
}

/// Drop-ins by which each container sees the hook and the data directory.
pub(crate) fn open_containers(
    changes: &mut Changes,
    containers: &Containers,
    lib_root: &str,
    force: bool,
) -> Result<(), Failure> {
    let config = changes.config();
    let mut volumes: BTreeMap<PathBuf, (PathBuf, bool)> = BTreeMap::new();
    for python in config.interpreters.iter().filter(|python| python.image.is_some()) {
        let mounts = sites::mounts(lib_root, python).into_iter();
        volumes.extend(mounts.map(|(path, name)| (name, (path, false))));
    }
    volumes.insert(config.data_root.clone(), (config.data_root.clone(), true));
    let volumes: Vec<_> =
        volumes.into_iter().map(|(name, (path, is_writable))| (path, name, is_writable)).collect();
    if let Some((path, ..)) =
        volumes.iter().find(|(path, name, _)| ![path, name].into_iter().all(|path| quadlet::is_plain(path)))
    {
        return Err(Failure::new(format!("{} cannot be named in a .container file", path.display()))
            .hint("set pulpcov_lib_root and pulpcov_data_root to paths of plain letters"));
    }
    let text = quadlet::drop_in_text(&volumes);
    let drop_ins: BTreeSet<PathBuf> =
        containers.units.iter().map(|(_, source)| quadlet::drop_in(source)).collect();
    for path in drop_ins {
        changes.folder(path.parent().unwrap_or(Path::new(quadlet::FOLDER)), 0o755)?;
        changes.file(&path, text.as_bytes(), 0o644, force)?;
    }
    Ok(())
}

/// Whether podman's generator has taken the drop-ins: that of older versions reads none.
pub(crate) fn check_containers(containers: &Containers, data_root: &Path) -> Result<(), Failure> {
    let names: Vec<String> = containers.units.iter().map(|(name, _)| name.clone()).collect();
    let mount = format!("{0}:{0}", data_root.display());
    let is_mounted = |unit: &systemd::Unit| unit.property("ExecStart").contains(&mount);
    match systemd::units(&names, &["ExecStart"])?.iter().find(|unit| !is_mounted(unit)) {
        None => Ok(()),
        Some(unit) => Err(Failure::new(format!(
            "{} takes no drop-in: podman's generator makes it without {}",
            unit.name,
            data_root.display()
        ))
        .hint("drop-ins of .container files came with podman 5.0; older hosts have their containers recorded by pulpcov bake")),
    }
}

fn lines_of_ours(changes: &Changes, path: &Path) -> Option<Vec<String>> {
    changes.old()?.files.get(path)?;
    let text = fs_err::read_to_string(path).ok()?;
    Some(text.lines().filter(|line| line.contains("Paths=")).map(str::to_owned).collect())
}

/// The agent in a place that lasts, and a timer that lets it compact what dead processes leave.
pub(crate) fn compaction(changes: &mut Changes, lib_root: &Path, force: bool) -> Result<(), Failure> {
    let own = fs_err::read("/proc/self/exe")?;
    let agent = lib_root.join(AGENT);
    changes.file(&agent, &own, 0o755, force)?;
    // A path that systemd would read otherwise gets no timer; a collect compacts as well.
    let is_plain =
        lib_root.to_string_lossy().chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if !systemd::is_here() || !rustix::process::geteuid().is_root() || !is_plain {
        return Ok(());
    }
    let service = format!(
        "# Written by pulpcov; `pulpcov fleet uninstall` removes it.\n\
         [Unit]\nDescription=Compact coverage data of processes that are gone\n\n\
         [Service]\nType=oneshot\nExecStart={} compact --lib-root {}\nNice=19\nIOSchedulingClass=idle\n",
        agent.display(),
        lib_root.display()
    );
    let timer = "# Written by pulpcov; `pulpcov fleet uninstall` removes it.\n\
         [Unit]\nDescription=Compact coverage data of processes that are gone\n\n\
         [Timer]\nOnActiveSec=1min\nOnUnitInactiveSec=1min\nAccuracySec=10s\n";
    let wants =
        format!("# Written by pulpcov; `pulpcov fleet uninstall` removes it.\n[Unit]\nWants={TIMER}\n");
    for (name, text) in [(SERVICE, service.as_str()), (TIMER, timer), (WANTS, &wants)] {
        let path = Path::new(UNIT_FOLDER).join(name);
        changes.folder(path.parent().unwrap_or(Path::new(UNIT_FOLDER)), 0o755)?;
        changes.file(&path, text.as_bytes(), 0o644, force)?;
    }
    Ok(())
}

/// Whether systemd has to read one of these again.
pub(crate) fn concern_systemd<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> bool {
    systemd::is_here()
        && paths.into_iter().any(|path| {
            [UNIT_FOLDER, quadlet::FOLDER].iter().any(|folder| path.starts_with(folder))
                && path.extension().is_some()
        })
}

/// Lets systemd see what is new, and starts the timer.
pub(crate) fn take_effect(touched: &[PathBuf]) -> Result<(), Failure> {
    if !concern_systemd(touched) {
        return Ok(());
    }
    systemd::reload()?;
    if Path::new(UNIT_FOLDER).join(TIMER).exists() {
        systemd::own_unit(ServiceAction::Start, TIMER)?;
    }
    Ok(())
}

/// Stops the timer before its files go.
pub(crate) fn stop_timer<'a>(files: impl IntoIterator<Item = &'a PathBuf>) {
    let ours = Path::new(UNIT_FOLDER).join(TIMER);
    if systemd::is_here() && files.into_iter().any(|path| *path == ours) {
        // One that does not run is stopped.
        let _ = systemd::own_unit(ServiceAction::Stop, TIMER);
        let _ = systemd::own_unit(ServiceAction::Stop, SERVICE);
    }
}
