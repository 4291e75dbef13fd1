//! Puts the hook on the host: all of it, proven to work, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulpcov_protocol::fleet::Fleet;
use pulpcov_protocol::op::{Install, ServiceAction};
use pulpcov_protocol::outcome::{Detail, InstallDetail, Interpreter, Outcome, WheelsDetail};
use pulpcov_protocol::profile::{Profile, RecorderChoice, is_glob};
use pulpcov_protocol::version::RECEIPT_FORMAT;

use super::OpContext;
use super::probe;
use super::start::{self, Started};
use crate::bundle::source_list;
use crate::failure::Failure;
use crate::host::facts::HostLock;
use crate::host::quadlet::Containers;
use crate::host::{caller, facts, fs, interpreter, systemd};
use crate::install::changes::Changes;
use crate::install::undo::sweep;
use crate::install::{package_search, selftest, sharing, sites, units};
use crate::receipt;
use crate::receipt::{Config, Receipt};
use crate::recorder::coverage_dir::Wheels;
use crate::recorder::data_dir::LEDGER;
use crate::recorder::{coverage_dir, data_dir, hook, ledger, phase, process_map, supervised, users};

pub(super) fn run(args: &Install, session: &mut OpContext<'_>) -> Result<Outcome, Failure> {
    check_words(args)?;
    // Even the lock is a file that would come to be.
    let _lock = (!args.check).then(|| HostLock::take(&args.lib_root)).transpose()?;
    let commands = supervised::commands(&args.commands, &args.profile, ServiceAction::Restart, &[]);
    let args = &Install { commands, ..args.clone() };
    (session.progress)("looking at the interpreters");
    let old = receipt::load(&args.lib_root)?;
    check_fleet(args, old.as_ref())?;
    if let Some(baked) = old.as_ref().filter(|old| old.baked && !args.bake) {
        return go_on(args, baked, session);
    }
    let mut named = args.interpreters.clone();
    let same_service = old.as_ref().filter(|old| old.config.profile.name == args.profile.name);
    let sought =
        probe::Sought { programs: args.bake, ..probe::Sought::of(&args.profile, &args.interpreters)? };
    named.extend(probe::installed_for(same_service, sought.containers.as_ref()));
    let interpreters = probe::interpreters(&args.lib_root, &sought, &named)?;
    let containers = sought.containers.as_ref();

    let wanted = wanted(args, session, &interpreters)?;
    if !wanted.is_empty() && !args.check {
        let msg = format!("wants {}", super::counted(wanted.len() as u64, "wheel"));
        return Ok(Outcome::ok(false, msg, Detail::Wheels(WheelsDetail { wanted })));
    }
    if !args.check {
        sweep(&args.lib_root, old.as_ref());
    }
    let old_data_root = old.as_ref().and_then(|old| old.config.data_root.to_str());
    let data_root = data_dir::resolve(args.data_root.as_deref().or(old_data_root))?;
    keep_what_is_left(old.as_ref(), &data_root)?;
    let sites = interpreters.iter().map(|python| sites::site(&args.lib_root, python)).collect::<Vec<_>>();
    let sites = sites.iter().map(PathBuf::as_path);
    start::check_survival(args, [Path::new(&args.lib_root), &data_root].into_iter().chain(sites))?;
    let known = old.as_ref().map(|old| old.config.install.clone()).filter(|word| !word.is_empty());
    // What several containers share is no container's own.
    let install = if args.bake { String::new() } else { known.map_or_else(facts::random_word, Ok)? };
    let config = config(args, &interpreters, data_root, install);
    let left_in_old_image = old.as_ref().and_then(|old| left_in_old_image(&old.config, &config));
    let mut changes = Changes::new(args, config, old);
    let result = put_in_place(args, session, &interpreters, containers, &mut changes);
    let new = match result {
        Ok(receipt) => receipt,
        Err(failure) if args.check => return Err(failure),
        Err(failure) => {
            let mut trouble = changes.roll_back();
            if units::concern_systemd(changes.touched()) {
                trouble = trouble.or_else(|| systemd::reload().err().map(|failure| failure.msg));
            }
            return Err(match trouble {
                None => failure,
                Some(trouble) => failure.hint(format!("what was begun could not all be undone: {trouble}")),
            });
        }
    };
    if args.check {
        return foretold(args, &new, &mut changes);
    }
    let diff = changes.preview.take();
    let touched = changes.touched().to_vec();
    let changed = !touched.is_empty();
    let started = if args.bake { None } else { begin(args, &new, containers, changed, session)? };
    let new_owner = changes.new_owner();
    let mut msg = installed_words(changed, interpreters.len(), containers, started.as_ref());
    if let Some(whose) = &new_owner {
        msg.push_str(&format!(", and {whose} from now on"));
    }
    let mut warnings = std::mem::take(&mut changes.remarks);
    warnings.extend(left_in_old_image);
    let missing_packages = missing_packages(&new, &mut warnings);
    if changed && started.is_none() && !args.profile.units.is_empty() {
        warnings.push(if args.restart && !systemd::is_here() {
            "nothing here restarts the service (--stop-command and --start-command do): it is recorded from its next start on".to_owned()
        } else if args.restart {
            "no unit of the service runs, so none was restarted; it is recorded once it is started".to_owned()
        } else {
            "services that run already are recorded only after a restart".to_owned()
        });
    }
    let detail = InstallDetail {
        data_root: new.config.data_root.to_string_lossy().into_owned(),
        interpreters: new.config.interpreters.clone(),
        restarted: started.as_ref().map(|started| started.units.clone()).unwrap_or_default(),
        proven: started.as_ref().map_or(0, |started| started.proven),
        awaits_restart: started.as_ref().and_then(|started| started.awaited),
        touched: touched.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
        missing_packages,
    };
    let outcome =
        Outcome::ok(changed || new_owner.is_some() || started.is_some(), msg, Detail::Install(detail))
            .with_warnings(warnings);
    Ok(Outcome { diff, ..outcome })
}

/// Refuses what no install can be made of.
fn check_words(args: &Install) -> Result<(), Failure> {
    args.profile.check().map_err(|error| Failure::new(error.to_string()))?;
    if args
        .host_label
        .as_deref()
        .is_some_and(|label| label.is_empty() || label.contains('/') || label.chars().any(char::is_control))
    {
        return Err(Failure::new("the host label is empty or has a slash or a control character"));
    }
    if let Some(label) = &args.label {
        phase::check_own_label(label)?;
    }
    if !Path::new(&args.lib_root).is_absolute() {
        return Err(Failure::new(format!("lib root {:?} is not an absolute path", args.lib_root)));
    }
    Ok(())
}

fn installed_words(
    changed: bool,
    interpreters: usize,
    containers: Option<&Containers>,
    started: Option<&Started>,
) -> String {
    match (changed, started) {
        (false, None) => "already installed".to_owned(),
        (true, None) => {
            let of_image =
                containers.map_or(String::new(), |found| format!(" of the image {}", found.reference));
            format!("installed for {}{of_image}", super::counted(interpreters as u64, "interpreter"))
        }
        (_, Some(started)) if started.awaited.is_some() => "installed, to be restarted".to_owned(),
        (_, Some(started)) => {
            format!("installed, restarted, {} recorded", super::counted(started.proven, "process"))
        }
    }
}

fn begin(
    args: &Install,
    receipt: &Receipt,
    containers: Option<&Containers>,
    changed: bool,
    session: &OpContext<'_>,
) -> Result<Option<Started>, Failure> {
    start::begin(args, receipt, changed, session).map_err(|failure| {
        let msg = format!("the hook is installed, but {}", failure.msg);
        // A container that does not start with the drop-in is no service any more.
        let without = containers
            .filter(|_| args.restart)
            .map(|found| units::start_without(found, receipt, Path::new(&args.lib_root)));
        match without {
            Some(Ok(units)) if !units.is_empty() => Failure::new(format!(
                "{msg}; {} was started again without the drop-in, and is not recorded",
                units.join(", ")
            )),
            Some(Err(trouble)) => Failure { msg: format!("{msg}; {}", trouble.msg), ..failure },
            _ => Failure { msg, ..failure },
        }
    })
}

const BAKED: &str = "the hook came with the image or a volume";

/// An install where the hook came with an image or a volume: nothing of it changes, and what is recorded begins.
fn go_on(args: &Install, receipt: &Receipt, session: &OpContext<'_>) -> Result<Outcome, Failure> {
    let detail = |started: &Started| InstallDetail {
        data_root: receipt.config.data_root.to_string_lossy().into_owned(),
        interpreters: receipt.config.interpreters.clone(),
        restarted: started.units.clone(),
        proven: started.proven,
        awaits_restart: started.awaited,
        touched: Vec::new(),
        missing_packages: None,
    };
    if args.check {
        return Ok(Outcome::ok(false, BAKED, Detail::Install(detail(&Started::default()))));
    }
    start::check_survival(args, [receipt.config.data_root.as_path()].into_iter())?;
    let started = begin(args, receipt, None, false, session)?;
    let msg = match &started {
        None => BAKED.to_owned(),
        Some(started) if started.awaited.is_some() => format!("{BAKED}, to be restarted"),
        Some(started) => {
            format!("{BAKED}; restarted, {} recorded", super::counted(started.proven, "process"))
        }
    };
    let outcome = Outcome::ok(started.is_some(), msg, Detail::Install(detail(&started.unwrap_or_default())));
    Ok(outcome.with_warnings(not_as_asked(args, receipt)))
}

/// What was asked for otherwise than it was baked, as warnings.
fn not_as_asked(args: &Install, receipt: &Receipt) -> Vec<String> {
    let root = receipt.config.data_root.display();
    let other_root = args.data_root.as_deref().filter(|asked| Path::new(asked) != receipt.config.data_root);
    let root = other_root.map(|asked| format!("data goes to {root}, as it was baked, not to {asked}"));
    let profile = (receipt.config.profile != args.profile).then(|| {
        format!(
            "it records as the profile {} was when it was baked; bake again for what has changed since",
            receipt.config.profile.name
        )
    });
    root.into_iter().chain(profile).collect()
}

/// Data whose sources an image has, or the host, that this install no longer asks, as a warning.
fn left_in_old_image(old: &Config, new: &Config) -> Option<String> {
    let images =
        |config: &Config| config.interpreters.iter().map(|one| one.image.clone()).collect::<BTreeSet<_>>();
    let is_other = (old.is_contained() || new.is_contained()) && images(old) != images(new);
    let files = process_map::waiting(&old.data_root).unwrap_or(0);
    (is_other && files > 0).then(|| {
        format!(
            "{} of another image, or of the host itself, wait to be collected: what that has otherwise is without a source now",
            super::counted(files, "data file")
        )
    })
}

/// Refuses a host of another fleet, unless it is to be taken over.
fn check_fleet(args: &Install, old: Option<&Receipt>) -> Result<(), Failure> {
    // What an uninstall has left belongs to its fleet until it is collected.
    let is_there =
        |old: &&Receipt| !old.uninstalled || !matches!(data_dir::measure(&old.config.data_root), Ok((0, _)));
    if args.fleet.as_ref().and_then(|fleet| fleet.name.as_ref()).is_some_and(|name| !Fleet::is_name(name)) {
        return Err(Failure::new(
            "the fleet's name is none: at most 64 letters, and none that controls a terminal",
        ));
    }
    let Some(old) = old.filter(|_| !args.take_over).filter(is_there) else { return Ok(()) };
    old.check_fleet(args.fleet.as_ref())
}

/// Data that an uninstall has left is known by its receipt alone: another place for data would have it forgotten.
fn keep_what_is_left(old: Option<&Receipt>, data_root: &Path) -> Result<(), Failure> {
    let Some(left) = old.filter(|old| old.uninstalled && old.config.data_root != data_root) else {
        return Ok(());
    };
    let root = &left.config.data_root;
    match data_dir::measure(root)?.0 {
        0 => Ok(()),
        files => Err(Failure::new(format!(
            "{} in {} are still to be collected, and data would go to {} now",
            super::counted(files, "data file"),
            root.display(),
            data_root.display()
        ))
        .hint("pulpcov fleet collect brings them; uninstall --erase-data erases them")),
    }
}

/// The pushed wheels, and those of the folder that was named. A check, and an offer to fill that folder, may
/// come before it is there.
fn wheels<'a>(args: &'a Install, session: &'a OpContext<'_>) -> Wheels<'a> {
    let may_be_absent = args.check || !args.offered.is_empty();
    let wheelhouse = args.wheelhouse.as_deref().filter(|folder| !may_be_absent || Path::new(folder).is_dir());
    Wheels { pushed: &session.wheels, wheelhouse }
}

/// Of the offered wheels those that are needed and not at hand.
fn wanted(
    args: &Install,
    session: &OpContext<'_>,
    interpreters: &[Interpreter],
) -> Result<Vec<String>, Failure> {
    let wheels = wheels(args, session);
    let mut wanted = Vec::new();
    for python in interpreters.iter().filter(|python| !python.coverage_present) {
        if wheels.at_hand(python)?.is_none()
            && let Some(name) = pulpcov_protocol::wheel::choose(&args.offered, python)
        {
            wanted.push(name.to_owned());
        }
    }
    wanted.sort();
    wanted.dedup();
    Ok(wanted)
}

/// The packages that cannot be found here, where that is sure; a service may well have none of some. What is installed
/// is so, whatever comes of the search.
fn missing_packages(receipt: &Receipt, warnings: &mut Vec<String>) -> Option<Vec<String>> {
    let config = &receipt.config;
    let found = ledger::read_now(config)
        .and_then(|ledger| package_search::search(&config.profile, &config.interpreters, Some(&ledger)));
    let found =
        found.map_err(|failure| warnings.push(format!("packages were not looked for: {}", failure.msg)));
    let found = found.ok()?;
    if !found.missing.is_empty() {
        warnings.push(package_search::words(&found.missing));
    }
    let trusted = source_list::trusted_now(Some(&config.data_root), &config.profile, &config.interpreters);
    warnings.extend(found.untrusted(&trusted));
    warnings.extend(users::unknown(&config.profile));
    found.is_sure.then_some(found.missing)
}

/// What an install would do, of which nothing was done.
fn foretold(args: &Install, new: &Receipt, changes: &mut Changes) -> Result<Outcome, Failure> {
    let diff = changes.preview.take();
    let touched = changes.touched();
    let changed = !touched.is_empty();
    let units = start::units_to_restart(args, new)?;
    let restarts = args.restart && start::runs(args, &units, new)? && start::needs_restart(new, changed)?;
    let mut would = Vec::new();
    if changed {
        let interpreters = super::counted(new.config.interpreters.len() as u64, "interpreter");
        would.push(format!("install for {interpreters} ({})", super::counted(touched.len() as u64, "path")));
    }
    if restarts {
        would.push(if units.is_empty() {
            "restart the service".to_owned()
        } else {
            format!("restart {}", units.join(", "))
        });
    }
    would.extend(changes.new_owner().map(|whose| format!("make the host {whose}")));
    let msg = if would.is_empty() {
        "already installed".to_owned()
    } else {
        format!("would {}", would.join(", and "))
    };
    let mut warnings = Vec::new();
    let missing_packages = missing_packages(new, &mut warnings);
    let detail = InstallDetail {
        data_root: new.config.data_root.to_string_lossy().into_owned(),
        interpreters: new.config.interpreters.clone(),
        restarted: if restarts { units } else { Vec::new() },
        proven: 0,
        awaits_restart: None,
        touched: touched.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
        missing_packages,
    };
    let outcome = Outcome::ok(!would.is_empty(), msg, Detail::Install(detail)).with_warnings(warnings);
    Ok(Outcome { diff, ..outcome })
}

/// What is to be installed, but for the packages: those are asked of the interpreters later.
fn config(args: &Install, interpreters: &[Interpreter], data_root: PathBuf, install: String) -> Config {
    Config {
        profile: args.profile.clone(),
        data_root,
        host_label: args.host_label.clone().or_else(|| {
            // A container has a name of its own, a new one each time.
            interpreters.iter().any(|python| python.image.is_some()).then(facts::hostname)
        }),
        install,
        shared: args.bake || fs::is_on_a_volume(Path::new(&args.lib_root)),
        interpreters: interpreters
            .iter()
            .map(|python| Interpreter { coverage_present: true, ..python.clone() })
            .collect(),
        packages: args.profile.packages.clone(),
        without_live_map: BTreeMap::new(),
    }
}

/// Every folder, file and tree of ours, as it shall be.
fn put_in_place(
    args: &Install,
    session: &OpContext<'_>,
    interpreters: &[Interpreter],
    containers: Option<&Containers>,
    changes: &mut Changes,
) -> Result<Receipt, Failure> {
    let lib_root = Path::new(&args.lib_root);
    let hook_dir = lib_root.join("hook");
    let mut config = changes.config().clone();
    let data_root = config.data_root.clone();
    changes.folder(lib_root, 0o755)?;
    changes.folder(&hook_dir, 0o755)?;
    changes.folder(&data_root, 0o1777)?;
    changes.own_folder(&data_root.join(LEDGER), 0o1777, args.force)?;
    if !args.bake {
        changes.file(&sharing::mark(&config), &sharing::mark_text(&args.lib_root)?, 0o644, args.force)?;
    }

    for (name, text) in [
        ("_pulpcov_canary.py", hook::CANARY),
        ("analysis.py", pulpcov_data_file::ANALYSIS),
        ("pulpcov-selftest", hook::SELFTEST),
        ("branches.py", hook::BRANCHES),
    ] {
        changes.file(&hook_dir.join(name), text.as_bytes(), 0o644, args.force)?;
    }
    let homes: BTreeSet<PathBuf> =
        interpreters.iter().map(|python| coverage_dir::home(&args.lib_root, python)).collect();
    for home in &homes {
        changes.folder(home, 0o755)?;
        changes.folder(&home.join("hook"), 0o755)?;
        for (name, text) in RECORDED_WITH {
            changes.file(&home.join("hook").join(name), text.as_bytes(), 0o644, args.force)?;
        }
        if !hook::NATIVE.is_empty() {
            changes.file(&home.join("hook").join(hook::NATIVE_FILE), hook::NATIVE, 0o755, args.force)?;
        }
    }
    config.without_live_map = known_to_be_without(&config, changes);
    for python in interpreters {
        let target = coverage_dir::path(&args.lib_root, python);
        if !changes.has_tree(&target)? {
            caller::still_listens()?;
            (session.progress)(&format!("unpacking coverage {} for {}", python.coverage, python.path));
            let wheels = wheels(args, session);
            changes.tree(&target, |target| coverage_dir::unpack(&args.lib_root, python, &wheels, target))?;
        }
    }
    let mut packages = Vec::new();
    for python in interpreters {
        let folder = coverage_dir::path(&args.lib_root, python);
        let found = source_list::packages(&args.lib_root, python, &args.profile, &folder);
        packages.extend(match found {
            // What is not there yet cannot be asked.
            Err(_) if args.check => config.packages.clone(),
            found => found?,
        });
    }
    packages.sort();
    packages.dedup();
    config.packages = packages;
    let service_units = names_of_units(&config.profile)?;
    for python in interpreters {
        put_into_start(args, python, interpreters, &config, &service_units, changes)?;
    }
    match containers {
        Some(containers) => units::open_containers(changes, containers, &args.lib_root, args.force)?,
        None => units::open_sandboxes(changes, &args.profile.units, lib_root, args.force)?,
    }
    units::compaction(changes, lib_root, args.force)?;
    changes.remove_what_is_no_longer_wanted()?;
    let unchanged = changes.old().is_some_and(|old| old.is_whole() && old.config == config);
    let is_new = !changes.touched().is_empty() || !unchanged;
    // What starts from here on has the hook, and need not wait for its proof.
    let in_place_since = facts::now();
    if is_new && !args.check {
        prove(args, session, interpreters, &mut config, &service_units, changes)?;
    }
    let mut new = changes.receipt(config, RECEIPT_FORMAT);
    new.installed_at = new.installed_at.min(in_place_since);
    if args.check {
        if !unchanged {
            changes.note(receipt::path_in(&args.lib_root));
        }
        return Ok(new);
    }
    if is_new {
        new.save(&args.lib_root)?;
        changes.note(receipt::path_in(&args.lib_root));
    } else if changes.old().is_some_and(|old| old.fleet != new.fleet) {
        // Who installed it is all that is new.
        new.save(&args.lib_root)?;
    }
    units::take_effect(changes.touched())?;
    if let Some(containers) = containers {
        units::check_containers(containers, &new.config.data_root)?;
    }
    changes.finish();
    Ok(new)
}

/// Interpreters that an earlier install has found to have no live map, where nothing has changed that may matter.
fn known_to_be_without(config: &Config, changes: &Changes) -> BTreeMap<String, String> {
    let is_hook = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name == hook::NATIVE_FILE || RECORDED_WITH.iter().any(|(ours, _)| name == *ours)
    };
    let old =
        changes.old().filter(|old| old.is_whole() && old.config.profile.recorder == config.profile.recorder);
    let Some(old) = old.filter(|_| !changes.touched().iter().any(is_hook)) else { return BTreeMap::new() };
    let mut known = old.config.without_live_map.clone();
    known.retain(|path, _| config.interpreters.iter().any(|python| python.path == *path));
    known
}

/// The self-test under each interpreter. Where that proves no live map, and nobody insists on one, coverage.py records,
/// which is then what is proven.
fn prove(
    args: &Install,
    session: &OpContext<'_>,
    interpreters: &[Interpreter],
    config: &mut Config,
    units: &[String],
    changes: &mut Changes,
) -> Result<(), Failure> {
    for python in interpreters {
        caller::still_listens()?;
        (session.progress)(&format!("self-test under {}", python.path));
        let choice = config.profile.recorder;
        if choice == RecorderChoice::LiveMap && !interpreter::has_monitoring(python) {
            let reason = format!("{} is Python {}: a live map needs 3.12", python.path, python.version);
            return Err(Failure::new(reason).hint("recorder: auto takes coverage.py there"));
        }
        let Err(failure) = selftest::run(&args.lib_root, python, config) else { continue };
        if choice != RecorderChoice::Auto || !config.has_live_map(python) {
            return Err(failure);
        }
        config.without_live_map.insert(python.path.clone(), failure.msg);
        for python in interpreters {
            put_into_start(args, python, interpreters, config, units, changes)?;
        }
        selftest::run(&args.lib_root, python, config)?;
    }
    Ok(())
}

/// What the recorder is made of.
const RECORDED_WITH: [(&str, &str); 10] = [
    ("_pulpcov_words.py", hook::WORDS),
    ("_pulpcov_coverage_core.py", hook::COVERAGE_CORE),
    ("_pulpcov_map_file.py", hook::MAP_FILE),
    ("_pulpcov_uwsgi.py", hook::UWSGI),
    ("_pulpcov_live_map.py", hook::LIVE_MAP),
    ("_pulpcov_callbacks.py", hook::CALLBACKS),
    ("_pulpcov_system.py", hook::SYSTEM),
    ("_pulpcov_tracer.py", hook::TRACER),
    ("_pulpcov_sources.py", hook::SOURCES),
    ("_pulpcov_recorder.py", hook::RECORDER),
];

/// The gate of an interpreter, and last of all the line that has it run.
fn put_into_start(
    args: &Install,
    python: &Interpreter,
    interpreters: &[Interpreter],
    config: &Config,
    units: &[String],
    changes: &mut Changes,
) -> Result<(), Failure> {
    let hook_dir = coverage_dir::home(&args.lib_root, python).join("hook");
    // The same site folder may be another Python's, too.
    let of_owner = interpreters.iter().filter(|other| other.uid == python.uid);
    let folder =
        |python: &Interpreter| coverage_dir::path(&args.lib_root, python).to_string_lossy().into_owned();
    let mut live_map: BTreeSet<String> = BTreeSet::new();
    live_map.extend(of_owner.clone().map(|python| python.cache_tag.clone()));
    for other in of_owner.clone().filter(|other| !config.has_live_map(other)) {
        live_map.remove(&other.cache_tag);
    }
    let gate = hook::render_gate(&hook::GateFacts {
        profile: &config.profile,
        units,
        packages: &config.packages,
        coverage: &of_owner.map(|python| (python.cache_tag.clone(), folder(python))).collect(),
        live_map: &live_map,
        hook_dir: &hook_dir.to_string_lossy(),
        data_root: &config.data_root.to_string_lossy(),
        host_label: config.host_label.as_deref(),
        on: config.is_contained().then(facts::hostname).as_deref(),
        install: config.own_install(),
        baked: args.bake,
    });
    let site = sites::site(&args.lib_root, python);
    changes.folder(&site, 0o755)?;
    sites::byte_compiled(changes, python, &RECORDED_WITH.map(|(name, _)| hook_dir.join(name)))?;
    changes.file(&site.join(hook::GATE_FILE), gate.as_bytes(), 0o644, args.force)?;
    if python.image.is_none() {
        sites::byte_compiled(changes, python, &[site.join(hook::GATE_FILE)])?;
    }
    // The last piece: from here on the hook runs, or is there to be mounted.
    changes.file(&site.join(hook::PTH), hook::PTH_TEXT.as_bytes(), 0o644, args.force)
}

/// The profile's units by all names that a control group may have: a unit that is not here yet by the one it has there.
fn names_of_units(profile: &Profile) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = profile.full_unit_names().collect();
    let single: Vec<String> = names.iter().filter(|name| !is_glob(name)).cloned().collect();
    if systemd::is_here() {
        let own = systemd::expand(&single)?;
        names.extend(own.into_iter().filter(|name| !single.contains(name)));
    }
    Ok(names)
}
