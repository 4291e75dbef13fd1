//! What install tells systemd: drop-ins for sandboxed units, and the timer that compacts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulpcov_protocol::op::{DEFAULT_LIB_ROOT, ServiceAction};

use crate::failure::Failure;
use crate::host::quadlet::{self, Containers, Kind, Volume};
use crate::host::{fs, systemd};
use crate::install::changes::Changes;
use crate::install::sandbox::{self, SandboxAccess};
use crate::install::sites;
use crate::install::undo::undo_file;
use crate::receipt::{Config, Receipt};

/// Where units of a host's administrator lie.
pub(crate) const UNIT_FOLDER: &str = "/etc/systemd/system";

/// How the names of our units begin.
const COMPACT: &str = "pulpcov-compact";

/// The name of an install's units, and of the drop-in that starts its timer at boot (not an enabled unit: one file more,
/// and no link). A host may have several installs, each with a lib root of its own.
struct Names {
    unit: String,
    wants: String,
}

impl Names {
    fn of(lib_root: &Path) -> Self {
        let lib_root = lib_root.to_string_lossy();
        if lib_root == DEFAULT_LIB_ROOT {
            return Self {
                unit: COMPACT.to_owned(),
                wants: "multi-user.target.d/50-pulpcov.conf".to_owned(),
            };
        }
        let mut word = fs::sha256(lib_root.as_bytes());
        word.truncate(8);
        Self {
            unit: format!("{COMPACT}-{word}"),
            wants: format!("multi-user.target.d/50-pulpcov-{word}.conf"),
        }
    }
}

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
    let volumes = volumes(changes.config(), lib_root);
    if let Some(odd) =
        volumes.iter().flat_map(|one| [&one.path, &one.name]).find(|path| !quadlet::is_plain(path))
    {
        return Err(Failure::new(format!("{} cannot be named in a .container file", odd.display()))
            .hint("set pulpcov_lib_root and pulpcov_data_root to paths of plain letters"));
    }
    let names: Vec<String> = containers.units.iter().map(|(name, _)| name.clone()).collect();
    let units = systemd::units(&names, &["ExecStart"])?;
    let mut wanted: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (name, source) in &containers.units {
        let path = quadlet::drop_in(source);
        let command_line =
            units.iter().find(|unit| unit.name == *name).map_or("", |unit| unit.property("ExecStart"));
        let is_ours = changes.old().is_some_and(|old| old.files.contains_key(&path));
        let before = is_ours.then(|| fs_err::read_to_string(&path).ok()).flatten().unwrap_or_default();
        let missing = quadlet::missing(&volumes, command_line, &before)
            .map_err(|failure| Failure { msg: format!("{name} {}", failure.msg), ..failure })?;
        wanted.insert(path, quadlet::drop_in_text(&missing));
    }
    for (path, text) in wanted {
        changes.folder(path.parent().unwrap_or(Path::new(quadlet::FOLDER)), 0o755)?;
        changes.file(&path, text.as_bytes(), 0o644, force)?;
    }
    Ok(())
}

/// What the containers of an install see of the host.
fn volumes(config: &Config, lib_root: &str) -> Vec<Volume> {
    let data = Volume { path: config.data_root.clone(), name: config.data_root.clone(), kind: Kind::Data };
    let mut volumes: BTreeMap<PathBuf, Volume> = BTreeMap::from([(data.name.clone(), data)]);
    for python in config.interpreters.iter().filter(|python| python.image.is_some()) {
        for (path, name) in sites::mounts(lib_root, python) {
            let kind = if path == Path::new(lib_root) { Kind::Folder } else { Kind::File };
            volumes.insert(name.clone(), Volume { path, name, kind });
        }
    }
    volumes.into_values().collect()
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
        .hint(
            "drop-ins of .container files came with podman 5.0 (older hosts have their containers recorded by pulpcov \
             bake), and a later one with an empty Volume= takes away what ours has",
        )),
    }
}

/// After a start that failed: what does not run with its drop-in is started without. Returns which units those are.
pub(crate) fn start_without(
    containers: &Containers,
    receipt: &Receipt,
    lib_root: &Path,
) -> Result<Vec<String>, Failure> {
    let names: Vec<String> = containers.units.iter().map(|(name, _)| name.clone()).collect();
    let states = systemd::states(&names)?;
    let down =
        containers.units.iter().zip(states).filter(|(_, state)| state != "active").map(|(unit, _)| unit);
    let down: Vec<_> = down.collect();
    if down.is_empty() {
        return Ok(Vec::new());
    }
    for path in down.iter().map(|(_, source)| quadlet::drop_in(source)) {
        if let Some(file) = receipt.files.get(&path) {
            undo_file(&path, file, lib_root)?;
        }
    }
    systemd::reload()?;
    let down: Vec<String> = down.into_iter().map(|(name, _)| name.clone()).collect();
    systemd::act(ServiceAction::Restart, &down)?;
    Ok(down)
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
    let Names { unit, wants } = Names::of(lib_root);
    let wanted =
        format!("# Written by pulpcov; `pulpcov fleet uninstall` removes it.\n[Unit]\nWants={unit}.timer\n");
    for (name, text) in
        [(format!("{unit}.service"), service.as_str()), (format!("{unit}.timer"), timer), (wants, &wanted)]
    {
        let path = Path::new(UNIT_FOLDER).join(name);
        changes.folder_of_installs(path.parent().unwrap_or(Path::new(UNIT_FOLDER)), 0o755)?;
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
    for timer in touched
        .iter()
        .filter_map(|path| own_timer(path))
        .filter(|timer| Path::new(UNIT_FOLDER).join(timer).exists())
    {
        systemd::own_unit(ServiceAction::Start, timer)?;
    }
    Ok(())
}

/// Where the units of an install at that lib root lie.
pub(crate) fn own_units(lib_root: &Path) -> [PathBuf; 3] {
    let Names { unit, wants } = Names::of(lib_root);
    [format!("{unit}.service"), format!("{unit}.timer"), wants].map(|name| Path::new(UNIT_FOLDER).join(name))
}

/// The name of a timer of ours.
fn own_timer(path: &Path) -> Option<&str> {
    let name = path.strip_prefix(UNIT_FOLDER).ok()?.to_str()?;
    (name.starts_with(COMPACT) && name.ends_with(".timer") && !name.contains('/')).then_some(name)
}

/// Stops the timer before its files go.
pub(crate) fn stop_timer<'a>(files: impl IntoIterator<Item = &'a PathBuf>) {
    for timer in files.into_iter().filter_map(|path| own_timer(path)).filter(|_| systemd::is_here()) {
        // One that does not run is stopped.
        let _ = systemd::own_unit(ServiceAction::Stop, timer);
        let _ = systemd::own_unit(ServiceAction::Stop, &timer.replace(".timer", ".service"));
    }
}
