//! The rooms of the code, from the ground up, and which of them import which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A crate whose modules keep an order: each imports only what stands before it.
pub struct House {
    /// Its folder, below the root of the repository.
    pub folder: &'static str,
    pub rooms: &'static [&'static str],
}

pub const HOUSES: [House; 5] = [
    House {
        folder: "agent/protocol/src",
        rooms: &[
            "bundle", "text", "fleet", "ready", "profile", "manifest", "outcome", "version", "wheel", "op",
            "frame",
        ],
    },
    House {
        folder: "agent/data-file/src",
        rooms: &["lines", "data", "map", "combine", "pages", "page_writer", "data_file"],
    },
    House {
        folder: "agent/src",
        rooms: &["failure", "host", "receipt", "recorder", "bundle", "install", "ops", "serve", "cli"],
    },
    House {
        folder: "controller/coverage/src",
        rooms: &[
            "glob",
            "aliases",
            "config",
            "source_text",
            "numbers",
            "analysis",
            "origin",
            "selection",
            "releases",
            "report",
            "view",
            "choice",
            "fleet",
            "diff",
            "patch",
            "gates",
            "render",
        ],
    },
    House {
        folder: "controller/src",
        rooms: &[
            "exit",
            "output",
            "inventory",
            "transport",
            "run",
            "agent",
            "profile",
            "report",
            "fleet",
            "command",
            "demo",
            "cli",
        ],
    },
];

/// What no room is: the crate's own head, and what fuzzers are given.
const OUTSIDE: [&str; 3] = ["lib", "main", "fuzz"];

/// Room to the rooms that it imports, each with the files that do.
pub type Imports = BTreeMap<String, BTreeMap<String, BTreeSet<PathBuf>>>;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every import between the modules at the top of a crate. A path in a comment is none.
pub fn imports(house: &House) -> Imports {
    let top = root().join(house.folder);
    let mut found = Imports::new();
    for file in sources(&top) {
        let inside = file.strip_prefix(&top).expect("below the top");
        let room = inside.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
        if OUTSIDE.contains(&room.as_str()) {
            continue;
        }
        let text = fs_err::read_to_string(&file).expect("reads");
        let imported = found.entry(room.clone()).or_default();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for name in named_after(&code.join("\n"), "crate::").into_iter().filter(|name| *name != room) {
            imported.entry(name).or_default().insert(inside.to_owned());
        }
    }
    found
}

/// The names right behind each `prefix`, those in braces too.
fn named_after(code: &str, prefix: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start()
            .trim_start_matches("r#")
            .chars()
            .take_while(|&c| c.is_alphanumeric() || c == '_')
            .collect()
    };
    let mut names = Vec::new();
    for behind in code.split(prefix).skip(1) {
        match behind.strip_prefix('{') {
            Some(list) => names.extend(list.split('}').next().unwrap_or(list).split(',').map(word)),
            None => names.push(word(behind)),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Imports that run up the order, or to or from what has no place in it.
pub fn arrows_up(house: &House, imports: &Imports) -> Vec<String> {
    let place = |room: &str| house.rooms.iter().position(|known| *known == room);
    let mut wrong = Vec::new();
    for (room, imported) in imports {
        for (other, files) in imported {
            if !matches!((place(room), place(other)), (Some(room), Some(other)) if other < room) {
                wrong.push(format!("{}: {room} imports {other}: {files:?}", house.folder));
            }
        }
        if place(room).is_none() {
            wrong.push(format!("{}: {room} has no place in the order", house.folder));
        }
    }
    wrong
}

/// The picture of a crate: a row for each room from the top down, and what it imports.
pub fn picture(house: &House) -> String {
    let imports = imports(house);
    let mut lines = format!("{}\n", house.folder.trim_end_matches("/src"));
    let width = house.rooms.iter().map(|room| room.len()).max().unwrap_or(0);
    for room in house.rooms.iter().rev() {
        let imported = imports.get(*room).into_iter().flatten().map(|(other, _)| other.as_str());
        let mut imported: Vec<&str> = imported.collect();
        imported.sort_by_key(|other| house.rooms.iter().rev().position(|known| known == other));
        let arrow = if imported.is_empty() { "" } else { "  -> " };
        let row = format!("  {room:<width$}{arrow}{}", imported.join(", "));
        lines.push_str(row.trim_end());
        lines.push('\n');
    }
    lines
}
