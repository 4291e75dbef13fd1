//! Uninstalls without a receipt: what is ours by its own words goes, and what was replaced is named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pulpcov_protocol::op::Uninstall;
use pulpcov_protocol::outcome::{Detail, Outcome, UninstallDetail};

use crate::failure::{During, Failure};
use crate::host::{dir_entry, fs, interpreter, quadlet, systemd};
use crate::install::sites;
use crate::install::undo::{forget, sweep};
use crate::install::units::{self, concern_systemd, stop_timer};
use crate::receipt::Replaced;
use crate::recorder::hook::{GATE_FILE, PTH, PTH_TEXT};
use crate::recorder::{coverage_dir, data_dir, process_map};

/// Largest file that is looked into.
const MAX_LOOK: u64 = 256 * 1024;

/// What the units and drop-ins of ours begin with.
const OUR_WORDS: &str = "# Written by pulpcov";

/// How deep below these a `site-packages` lies: `/opt/NAME/venv/lib/python3.11/site-packages`.
const TOPS: [&str; 6] = ["/usr/lib", "/usr/lib64", "/usr/local", "/opt", "/srv", "/var/lib"];
const DEPTH: u32 = 6;

/// Folders that are looked through at most.
const MAX_FOLDERS: usize = 200_000;

pub(super) fn run(args: &Uninstall, why: &Failure) -> Result<Outcome, Failure> {
    let lib_root = Path::new(&args.lib_root);
    let (files, data_root) = found(lib_root);
    let folders: Vec<PathBuf> = own_folders(lib_root);
    if args.check {
        let paths = super::counted((files.len() + folders.len()) as u64, "path");
        let detail = detail(&[], data_root.as_deref());
        return Ok(Outcome::ok(true, format!("would remove {paths}, found without a receipt"), detail)
            .with_warnings(vec![why.msg.clone()]));
    }
    stop_timer(&files);
    let (mut removed, mut left) = (Vec::new(), Vec::new());
    for path in &files {
        // What somebody has made of one keeps no other.
        if let Err(failure) = dir_entry::remove_file(path).during("remove", path.display()) {
            left.push(format!("{}: it is left", failure.msg));
            continue;
        }
        removed.push(path.display().to_string());
        if let Some(folder) = path.parent().filter(|folder| folder.to_string_lossy().ends_with(".d")) {
            // One that holds somebody else's drop-ins stays.
            let _ = std::fs::remove_dir(folder);
        }
    }
    // A container that is made meanwhile mounts what its drop-in named.
    if concern_systemd(&files) {
        systemd::reload()?;
    }
    for path in folders {
        fs_err::remove_dir_all(&path)?;
        removed.push(path.display().to_string());
    }
    sweep(&args.lib_root, None);
    let mut warnings = vec![format!("{}; what was found without it is removed", why.msg)];
    warnings.extend(left);
    let kept = Replaced::folder(lib_root);
    // Empty, it goes; else it holds what somebody may want back.
    if std::fs::remove_dir(&kept).is_err() && kept.exists() {
        warnings.push(format!(
            "files that install had replaced are kept in {}: put them back by hand",
            kept.display()
        ));
    }
    warnings.push("folders that install made, and modes that it changed, may be left".to_owned());
    forget(&args.lib_root)?;
    let _ = std::fs::remove_file(lib_root.join(units::AGENT));
    let _ = std::fs::remove_dir(lib_root);
    let detail = detail(&removed, data_root.as_deref());
    let data = data_root.map_or(0, |root| process_map::waiting(&root).unwrap_or(0));
    if data > 0 {
        let is = if data == 1 { "is" } else { "are" };
        warnings.push(format!("{} {is} left", super::counted(data, "data file")));
    }
    Ok(Outcome::ok(true, "uninstalled what could be found without a receipt", detail).with_warnings(warnings))
}

fn detail(removed: &[String], data_root: Option<&Path>) -> Detail {
    Detail::Uninstall(UninstallDetail {
        removed: removed.to_vec(),
        data_left: data_root.map_or(0, |root| process_map::waiting(root).unwrap_or(0)),
        data_root: data_root.map(|root| root.to_string_lossy().into_owned()).unwrap_or_default(),
        awaits_restart: None,
    })
}

/// Files outside of the lib root that say they are ours, the `.pth` of each hook first; and where data went.
fn found(lib_root: &Path) -> (Vec<PathBuf>, Option<PathBuf>) {
    let (mut first, mut rest, mut data_root) = (Vec::new(), Vec::new(), None);
    for site in folders_of_packages().into_iter().chain([sites::mounted(lib_root)]) {
        let gate = site.join(GATE_FILE);
        let text = read(&gate);
        // Its own folder, or that of a user's interpreters.
        if !text.contains(&format!("\"{}/", lib_root.display())) || !text.contains("/hook\"") {
            continue;
        }
        data_root = data_root.or_else(|| data_root_of(&text));
        let pth = site.join(PTH);
        first.extend(Some(pth.clone()).filter(|pth| read(pth) == PTH_TEXT));
        let stem = GATE_FILE.trim_end_matches(".py");
        rest.push(gate);
        for entry in std::fs::read_dir(site.join("__pycache__")).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("{stem}.")) {
                rest.push(entry.path());
            }
        }
    }
    let folders = [units::UNIT_FOLDER, quadlet::FOLDER];
    let entries = folders.iter().flat_map(std::fs::read_dir).flatten().flatten();
    let drop_ins = entries.flat_map(|entry| {
        let path = entry.path();
        let mut inner = vec![path.join("50-pulpcov.conf"), path.join(quadlet::DROP_IN)];
        inner.extend(units::own_units(lib_root).into_iter().filter(|own| own.parent() == Some(&path)));
        if path.is_dir() { inner } else { vec![path] }
    });
    rest.extend(drop_ins.filter(|path| is_own_unit(path, &read(path), lib_root)));
    // Drop-ins of containers before what they mount.
    let (drop_ins, rest): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|path| path.starts_with(quadlet::FOLDER));
    (drop_ins.into_iter().chain(first).chain(rest).collect(), data_root)
}

/// Whether a unit or a drop-in is of the install at that lib root: a host may have several.
fn is_own_unit(path: &Path, text: &str, lib_root: &Path) -> bool {
    if !path.to_string_lossy().contains("pulpcov") || !text.starts_with(OUR_WORDS) {
        return false;
    }
    if path.starts_with(quadlet::FOLDER) {
        return text.contains(&format!("={}:", lib_root.display()));
    }
    let is_compaction = path.parent().is_some_and(|folder| {
        folder == Path::new(units::UNIT_FOLDER) || folder.ends_with("multi-user.target.d")
    });
    !is_compaction || units::own_units(lib_root).iter().any(|own| own == path)
}

fn own_folders(lib_root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(lib_root).into_iter().flatten().flatten();
    let ours = |name: &str| {
        name == "hook"
            || name == "site"
            || name.starts_with("coverage-")
            || name.starts_with(coverage_dir::OF_USER)
    };
    entries
        .filter(|entry| ours(&entry.file_name().to_string_lossy()) && entry.path().is_dir())
        .map(|entry| entry.path())
        .collect()
}

/// Folders where Pythons look for `.pth` files: those of the usual places, and of every Python that runs.
fn folders_of_packages() -> BTreeSet<PathBuf> {
    let mut sites = BTreeSet::new();
    let mut left = MAX_FOLDERS;
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pythons = pids.filter_map(|entry| interpreter::of_process(entry.file_name().to_str()?.parse().ok()?));
    let prefixes = pythons.filter_map(|python| Some(Path::new(&python).parent()?.parent()?.join("lib")));
    for top in TOPS.iter().map(PathBuf::from).chain(prefixes.collect::<BTreeSet<_>>()) {
        look(&top, DEPTH, &mut left, &mut sites);
    }
    sites
}

fn look(folder: &Path, depth: u32, left: &mut usize, sites: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || *left == 0 {
            continue;
        }
        *left -= 1;
        let name = entry.file_name();
        if name == "site-packages" || name == "dist-packages" {
            sites.insert(entry.path());
        } else if depth > 0 {
            look(&entry.path(), depth - 1, left, sites);
        }
    }
}

fn read(path: &Path) -> String {
    let bytes = fs::read_limited(path, MAX_LOOK).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `"data_root": "/srv/pulp_coverage"` of a gate.
fn data_root_of(gate: &str) -> Option<PathBuf> {
    let (_, rest) = gate.split_once("\"data_root\": \"")?;
    let (root, _) = rest.split_once('"')?;
    data_dir::resolve(Some(root)).ok()
}
