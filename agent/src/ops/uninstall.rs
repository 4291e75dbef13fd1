//! Puts back every byte, mode, owner and label that install touched.

use std::collections::BTreeSet;
use std::path::Path;

use pulpcov_protocol::op::{ServiceAction, Uninstall};
use pulpcov_protocol::outcome::{Detail, FileDiff, Outcome, UninstallDetail};

use super::OpContext;
use super::data_folder::DataFolder;
use super::salvage;
use super::start;
use crate::bundle::{known_branches, maps};
use crate::failure::Failure;
use crate::host::facts::{self, HostLock};
use crate::host::{caller, fs, ready, services, systemd};
use crate::install::preview::Preview;
use crate::install::sharing;
use crate::install::undo::{forget, sweep, undo_file, undo_folder};
use crate::install::units::{concern_systemd, stop_timer};
use crate::receipt;
use crate::receipt::{Config, MAX_REPLACED, Receipt};
use crate::recorder::hook::PTH;
use crate::recorder::users::Users;
use crate::recorder::{collected, data_dir, flush, ledger, proof, supervised, unwritten};

/// Bundles that a playbook has made and not fetched yet.
pub(crate) const OUTBOX: &str = "outbox";

pub(super) fn run(args: &Uninstall, session: &OpContext<'_>) -> Result<Outcome, Failure> {
    let _lock = (!args.check).then(|| HostLock::take(&args.lib_root)).transpose()?;
    let receipt = match receipt::load(&args.lib_root) {
        Ok(Some(receipt)) => receipt,
        Ok(None) => return not_installed(args),
        // A receipt of another version can be read by the pulpcov that wrote it.
        Err(failure) if !receipt::is_unreadable(&args.lib_root) => return Err(failure),
        Err(failure) => return salvage::run(args, &failure),
    };
    if !args.force {
        receipt.check_fleet(args.fleet.as_ref())?;
    }
    if receipt.baked {
        return leave_baked(args, &receipt);
    }
    let commands = supervised::commands(&args.commands, &receipt.config.profile, ServiceAction::Restart, &[]);
    let args = &Uninstall { commands, ..args.clone() };
    let changed = receipt.changed_since()?;
    if !changed.is_empty() && !args.force {
        let names: Vec<String> = changed.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(format!("somebody changed {}", names.join(", ")))
            .hint("nothing was removed; look at it, then use --force"));
    }
    let diff = differences(args, &receipt)?;
    let lib_root = Path::new(&args.lib_root);
    let root = &receipt.config.data_root;
    if !args.check {
        Users::note_if_possible(&receipt.config);
    }
    if let Some(before) = args.restarted.filter(|before| facts::start_ticks(1) == Some(*before)) {
        return Ok(still_the_old(root, before));
    }
    if !args.erase_data {
        have_it_written(args, &receipt.config)?;
    }
    if args.check {
        return foretold(args, &receipt, diff);
    }
    let first = start_to_await(args, &receipt.config)?;
    (session.progress)("removing the hook");
    stop_timer(receipt.files.keys());
    let mut left = Vec::new();
    let stays = stays_for_collect(&receipt.config, lib_root);
    let mut removed = remove_files(&receipt, lib_root, |path| !stays(path), &mut left);
    sweep(&args.lib_root, Some(&receipt));
    if concern_systemd(receipt.files.keys()) {
        systemd::reload()?;
    }
    if !left.is_empty() && !args.force {
        return Err(Failure::new(format!("{}; all else that starts the hook is removed", left.join("; ")))
            .hint("look at it and uninstall again; --force leaves it as it is"));
    }
    let restarted = restart(args, &receipt, session)?;
    let has_restarted = restarted.is_some();
    let mut warnings: Vec<String> = left.into_iter().map(|why| format!("{why}: it is left")).collect();
    warnings.extend(restarted.and_then(|units| why_not_ready(&receipt.config, &units)));
    warnings.extend(keeps_the_hook(args, &receipt.config)?);
    // What a live process has written it writes again, and what it still holds it will.
    let live = live_processes(&receipt.config)?;
    let still_live = if args.erase_data { 0 } else { live };
    let mut folder = DataFolder::of(&receipt.config, args.erase_data && args.force)?;
    let unwritten = if args.erase_data { 0 } else { unwritten_maps(args, &receipt.config, &mut warnings)? };
    if still_live + unwritten == 0 {
        collected::erase(lib_root, root, &|name| folder.is_own(name));
    }
    let erased = if args.erase_data { folder.measure()? } else { 0 };
    let data_left = if still_live + unwritten == 0 {
        folder.clear(args.erase_data, &mut warnings)?
    } else {
        collected::open_files(lib_root, root, &|name| folder.is_own(name))? + unwritten as u64
    };
    let is_over = !is_awaited(data_left, still_live, root);
    warnings.extend(words_of_left(args, data_left, root).filter(|_| is_over));
    let changed = !receipt.uninstalled || has_restarted || is_over;
    let outbox = lib_root.join(OUTBOX);
    if args.erase_data && outbox.exists() {
        fs_err::remove_dir_all(&outbox)?;
    } else if std::fs::remove_dir(&outbox).is_err() && outbox.exists() {
        warnings.push(format!("bundles that were not fetched are left in {}", outbox.display()));
    }
    let msg = if is_over {
        warnings.extend(folder.words_of_others());
        removed.extend(remove_the_rest(&receipt, &args.lib_root, &folder, &mut warnings)?);
        match erased {
            0 => "uninstalled".to_owned(),
            files => format!("uninstalled; {} erased", super::counted(files, "data file")),
        }
    } else {
        leave_for_collect(&receipt, &args.lib_root)?;
        left_words(if changed { "uninstalled" } else { "not installed" }, data_left, still_live, root)
    };
    remove_cached_agent();
    let detail = UninstallDetail {
        removed,
        data_left,
        data_root: root.to_string_lossy().into_owned(),
        awaits_restart: first.filter(|_| live > 0),
    };
    let outcome = Outcome::ok(changed, msg, Detail::Uninstall(detail)).with_warnings(warnings);
    Ok(Outcome { diff, ..outcome })
}

/// By which the first process is known that whoever asks is to restart: what cannot be done is said before anything is.
fn start_to_await(args: &Uninstall, config: &Config) -> Result<Option<u64>, Failure> {
    let is_for_others = args.restart && args.commands.is_empty() && args.commands.outside.is_some();
    let is_awaited = is_for_others && live_processes(config)? > 0;
    is_awaited.then(start::first_start).transpose()
}

/// Why the service is not ready after its restart, as a warning.
fn why_not_ready(config: &Config, units: &[String]) -> Option<String> {
    let failure = ready::wait(&config.profile.ready, units).err()?;
    Some(match failure.hint {
        Some(hint) => format!("{}; {hint}", failure.msg),
        None => failure.msg,
    })
}

/// Whether there is, or will be, something to collect. What no record tells of somebody else has put there: it needs
/// nothing of ours.
fn is_awaited(data_left: u64, live: usize, root: &Path) -> bool {
    live > 0 || (data_left > 0 && ledger::has_records(root))
}

/// Data that nobody will collect, as a warning.
fn words_of_left(args: &Uninstall, data_left: u64, root: &Path) -> Option<String> {
    let files = super::counted(data_left, "data file");
    let root = root.display();
    (data_left > 0).then(|| {
        if args.erase_data {
            format!("{files} in {root} came meanwhile, from others")
        } else {
            format!("{files} left in {root}, not collected; uninstall --erase-data removes them")
        }
    })
}

/// What an uninstall leaves for a collect, in words.
fn left_words(begin: &str, data_left: u64, live: usize, root: &Path) -> String {
    let data = super::counted(data_left, "data file");
    if data_left > 0 {
        format!("{begin}; {data} in {} still to be collected", root.display())
    } else {
        let processes = super::counted(live as u64, "process");
        format!("{begin}; what {processes} will still write into {} is to be collected", root.display())
    }
}

/// Has live processes write what they hold. Where they cannot, a restart would end it with them: that is refused while
/// everything is as it was.
fn have_it_written(args: &Uninstall, config: &Config) -> Result<(), Failure> {
    if args.restart && !args.force {
        if start::is_made_anew(&args.commands) && !fs::is_on_a_volume(&config.data_root) {
            return Err(Failure::new(format!(
                "a restart makes the container anew, and {} lies on no volume of it: what is there would be lost",
                config.data_root.display()
            ))
            .hint("collect, then use --erase-data with --restart"));
        }
        return unwritten::check(config, None, args.check).map_err(|failure| {
            failure.hint("nothing was removed; mend that and try again: --force gives it up")
        });
    }
    if !args.check && live_processes(config)? > 0 {
        // Whoever is not restarted writes it later.
        let _ = flush::flush(config, proof::FLUSH);
        caller::still_listens()?;
    }
    Ok(())
}

/// What is about to end still answers.
fn still_the_old(root: &Path, before: u64) -> Outcome {
    let detail = UninstallDetail {
        removed: Vec::new(),
        data_left: 0,
        data_root: root.to_string_lossy().into_owned(),
        awaits_restart: Some(before),
    };
    Outcome::ok(false, "not restarted yet", Detail::Uninstall(detail))
}

fn live_processes(config: &Config) -> Result<usize, Failure> {
    Ok(ledger::read(config)?.records.iter().filter(|record| record.is_own_and_live()).count())
}

/// How many maps of processes could not be made data files: what they have is not erased.
fn unwritten_maps(args: &Uninstall, config: &Config, warnings: &mut Vec<String>) -> Result<usize, Failure> {
    if !config.data_root.is_dir() {
        return Ok(0);
    }
    let written = maps::write_data(&args.lib_root, config)?;
    warnings.extend(written.failed.iter().map(|(record, reason)| format!("{record}: {reason}")));
    Ok(written.unsaved.len())
}

/// What keeps the hook in memory, as a warning: after a restart, processes of another service that was recorded before.
fn keeps_the_hook(args: &Uninstall, config: &Config) -> Result<Option<String>, Failure> {
    let ledger = ledger::read(config)?;
    let live: Vec<_> = ledger.records.iter().filter(|record| record.is_own_and_live()).collect();
    if live.is_empty() {
        return Ok(None);
    }
    let keep = match live.len() {
        1 => "1 process keeps the hook in memory until".to_owned(),
        many => format!("{many} processes keep the hook in memory until"),
    };
    if !args.restart {
        // Where nothing is left to do, no later uninstall knows of them.
        let how = if args.erase_data { "" } else { "; --restart does it" };
        return Ok(Some(format!("{keep} they are restarted{how}")));
    }
    let units: BTreeSet<&str> = live.iter().filter_map(|record| record.process.unit.as_deref()).collect();
    let owners = units.into_iter().collect::<Vec<_>>().join(", ");
    let pids = || {
        live.iter()
            .filter_map(|record| record.pid_here)
            .map(|pid| pid.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let whose = if owners.is_empty() { format!("processes {}", pids()) } else { owners };
    Ok(Some(format!("{keep} somebody restarts {whose}: no service of this profile")))
}

/// Restarts the service where that is asked for, so that no process keeps the hook; its units, where there was one.
fn restart(
    args: &Uninstall,
    receipt: &Receipt,
    session: &OpContext<'_>,
) -> Result<Option<Vec<String>>, Failure> {
    let units = if args.restart && args.commands.is_empty() {
        systemd::running(&receipt.config.profile.units)?
    } else {
        Vec::new()
    };
    let is_asked = args.restart && !(units.is_empty() && args.commands.is_empty());
    if is_asked {
        (session.progress)("restarting services");
        services::act(ServiceAction::Restart, &units, &args.commands, &args.lib_root)?;
    }
    Ok(is_asked.then_some(units))
}

/// What stays as long as there is something to collect: the mark, too, by which others know that the data has an owner.
fn stays_for_collect<'a>(config: &Config, lib_root: &'a Path) -> impl Fn(&Path) -> bool + 'a {
    let mark = sharing::mark(config);
    move |path: &Path| path.starts_with(lib_root) || path == mark
}

/// Data is left that nobody has collected: what it takes to collect it stays, and is told of by the receipt.
fn leave_for_collect(receipt: &Receipt, lib_root: &str) -> Result<(), Failure> {
    let mut left = receipt.clone();
    let stays = stays_for_collect(&receipt.config, Path::new(lib_root));
    left.files.retain(|path, _| stays(path));
    left.uninstalled = true;
    left.complete = true;
    left.save(lib_root)
}

/// After a collect: removes what an uninstall had left for it, once no data is there and no process to write any.
/// Returns what is left all the same, as warnings.
pub(super) fn finish(receipt: &Receipt, lib_root: &str) -> Result<Vec<String>, Failure> {
    let root = &receipt.config.data_root;
    let mut warnings = Vec::new();
    let has_bundles =
        std::fs::read_dir(Path::new(lib_root).join(OUTBOX)).is_ok_and(|mut entries| entries.next().is_some());
    if !receipt.uninstalled || has_bundles || live_processes(&receipt.config)? > 0 {
        return Ok(warnings);
    }
    if root.is_dir() && !maps::write_data(lib_root, &receipt.config)?.unsaved.is_empty() {
        return Ok(warnings);
    }
    let mut folder = DataFolder::of(&receipt.config, false)?;
    if !is_awaited(folder.clear(false, &mut warnings)?, 0, root) {
        remove_the_rest(receipt, lib_root, &folder, &mut warnings)?;
        remove_cached_agent();
    }
    Ok(warnings)
}

/// Everything of ours that is left below the lib root, and the folders that install made.
fn remove_the_rest(
    receipt: &Receipt,
    lib_root: &str,
    folder: &DataFolder<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, Failure> {
    let place = Path::new(lib_root);
    folder.leave(&receipt.folders)?;
    let mut left = Vec::new();
    let stayed = stays_for_collect(&receipt.config, place);
    let mut removed = remove_files(receipt, place, |path| stayed(path), &mut left);
    if !left.is_empty() {
        return Err(Failure::new(left.join("; ")));
    }
    for path in receipt.trees.keys().filter(|path| path.exists()) {
        fs_err::remove_dir_all(path)?;
        removed.push(path.display().to_string());
    }
    collected::forget(place);
    known_branches::forget(place);
    let _ = std::fs::remove_dir(place.join(OUTBOX));
    forget(lib_root)?;
    for touched in receipt.folders.iter().rev().filter(|touched| !folder.is_others(&touched.path)) {
        match undo_folder(touched) {
            Ok(true) => removed.push(touched.path.display().to_string()),
            Ok(false) => {}
            Err(failure) => warnings.push(format!("{}: it is left", failure.msg)),
        }
    }
    Ok(removed)
}

/// What came with an image or a volume goes with it: only data can go before.
fn leave_baked(args: &Uninstall, receipt: &Receipt) -> Result<Outcome, Failure> {
    let mut folder = DataFolder::of(&receipt.config, args.force)?;
    let found = folder.measure()?;
    let detail = |data_left| {
        Detail::Uninstall(UninstallDetail {
            removed: Vec::new(),
            data_left,
            data_root: receipt.config.data_root.to_string_lossy().into_owned(),
            awaits_restart: None,
        })
    };
    let files = super::counted(found, "data file");
    if !args.erase_data || found == 0 {
        let warnings =
            vec!["the hook came with the image or a volume: start the container without it".to_owned()];
        let msg = format!("nothing of ours to remove, {files} left");
        return Ok(Outcome::ok(false, msg, detail(found)).with_warnings(warnings));
    }
    if args.check {
        return Ok(Outcome::ok(true, format!("would erase {files}"), detail(found)));
    }
    folder.erase()?;
    Ok(Outcome::ok(
        true,
        format!("{files} erased; the hook came with the image or a volume"),
        detail(folder.measure()?),
    ))
}

/// Data that an earlier uninstall has left can still go, on the person's own word.
fn not_installed(args: &Uninstall) -> Result<Outcome, Failure> {
    let root = data_dir::resolve(args.data_root.as_deref())?;
    let mut folder = DataFolder::at(&root, ("", ""), args.force)?;
    let found = folder.measure()?;
    let mut detail = UninstallDetail {
        removed: Vec::new(),
        data_left: found,
        data_root: root.to_string_lossy().into_owned(),
        awaits_restart: None,
    };
    if !args.erase_data || found == 0 {
        return Ok(Outcome::ok(false, "not installed", Detail::Uninstall(detail)));
    }
    let files = super::counted(found, "data file");
    if args.check {
        let msg = format!("not installed; would erase {files} in {}", root.display());
        return Ok(Outcome::ok(true, msg, Detail::Uninstall(detail)));
    }
    let mut warnings = Vec::new();
    detail.data_left = folder.clear(true, &mut warnings)?;
    let msg = format!("not installed; {files} in {} erased", root.display());
    Ok(Outcome::ok(true, msg, Detail::Uninstall(detail)).with_warnings(warnings))
}

/// What becomes of each file and tree.
fn differences(args: &Uninstall, receipt: &Receipt) -> Result<Vec<FileDiff>, Failure> {
    if !args.diff {
        return Ok(Vec::new());
    }
    let mut preview = Preview::new(true);
    for (path, file) in &receipt.files {
        // What somebody has made of it shows no difference.
        if let (Ok(now), true) = (fs::read_limited(path, MAX_REPLACED), file.sha256.is_some()) {
            let before = file.before.as_ref().map(|one| one.bytes(Path::new(&args.lib_root))).transpose()?;
            preview.file(path, Some(&now), before.as_deref());
        }
    }
    for path in receipt.trees.keys().filter(|path| path.exists()) {
        preview.folder(path, false);
    }
    Ok(preview.take())
}

/// What an uninstall would do, of which nothing was done.
fn foretold(args: &Uninstall, receipt: &Receipt, diff: Vec<FileDiff>) -> Result<Outcome, Failure> {
    let root = &receipt.config.data_root;
    let folder = DataFolder::of(&receipt.config, args.erase_data && args.force)?;
    let open = collected::open_files(Path::new(&args.lib_root), root, &|name| folder.is_own(name))?;
    let live = live_processes(&receipt.config)?;
    let is_awaited = !args.erase_data && is_awaited(open, live, root);
    if receipt.uninstalled && is_awaited {
        let detail = UninstallDetail {
            removed: Vec::new(),
            data_left: open,
            data_root: root.to_string_lossy().into_owned(),
            awaits_restart: None,
        };
        let msg = left_words("not installed", open, live, root);
        return Ok(Outcome::ok(false, msg, Detail::Uninstall(detail)));
    }
    let mut would = Vec::new();
    // What a collect takes stays as long as there is something to collect.
    let stays = stays_for_collect(&receipt.config, Path::new(&args.lib_root));
    let stays = |path: &Path| is_awaited && stays(path);
    let paths = receipt.files.keys().chain(receipt.trees.keys());
    let paths = paths.filter(|path| path.exists() && !stays(path));
    let removed: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    would.push(format!("remove {}", super::counted(removed.len() as u64, "path")));
    if args.restart {
        let units = systemd::running(&receipt.config.profile.units)?;
        if !args.commands.is_empty() {
            would.push("restart the service".to_owned());
        } else if !units.is_empty() {
            would.push(format!("restart {}", units.join(", ")));
        }
    }
    let data_left = if args.erase_data { folder.measure()? } else { open };
    if args.erase_data && data_left > 0 {
        would.push(format!("erase {}", super::counted(data_left, "data file")));
    }
    let detail = UninstallDetail {
        removed,
        data_left: if args.erase_data { 0 } else { data_left },
        data_root: root.to_string_lossy().into_owned(),
        awaits_restart: None,
    };
    let outcome = Outcome::ok(true, format!("would {}", would.join(", and ")), Detail::Uninstall(detail));
    Ok(Outcome { diff, ..outcome })
}

/// Undoes those files that are `wanted`. The `.pth` first: from then on no new process meets the hook, whatever
/// happens later. What cannot be undone is told of in `left`, and keeps nothing else: others may be the service's to
/// change.
fn remove_files(
    receipt: &Receipt,
    lib_root: &Path,
    wanted: impl Fn(&Path) -> bool,
    left: &mut Vec<String>,
) -> Vec<String> {
    let is_pth = |path: &Path| path.file_name().is_some_and(|name| name == PTH);
    let files = receipt.files.iter().filter(|(path, _)| wanted(path));
    let (first, rest): (Vec<_>, Vec<_>) = files.partition(|(path, _)| is_pth(path));
    let mut removed = Vec::new();
    for (path, file) in first.into_iter().chain(rest) {
        if let Err(failure) = undo_file(path, file, lib_root) {
            left.push(failure.msg);
            continue;
        }
        removed.push(path.display().to_string());
        // It is back in its place, and safely so.
        if let Some(replaced) = &file.before {
            let _ = std::fs::remove_file(replaced.place(lib_root));
        }
    }
    removed
}

/// The controller's bootstrap keeps the agent in a folder of its own; that goes too.
fn remove_cached_agent() {
    let Ok(program) = std::env::current_exe() else { return };
    let Some(folder) = program.parent() else { return };
    if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".pulpcov-")) {
        let _ = std::fs::remove_file(&program);
        let _ = std::fs::remove_dir(folder);
    }
}
