//! What install tells systemd: drop-ins for sandboxed units, and the timer that compacts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulpcov_protocol::op::ServiceAction;

use crate::failure::Failure;
use crate::host::systemd;
use crate::install::changes::Changes;
use crate::install::sandbox::{self, SandboxAccess};

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
        && paths.into_iter().any(|path| path.starts_with(UNIT_FOLDER) && path.extension().is_some())
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
