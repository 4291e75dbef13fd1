//! `manifest.json`: the first entry of a bundle says what the others are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Name of the host in the inventory.
    pub host: String,
    /// What the host calls itself.
    pub hostname: String,
    pub boot_id: String,
    pub agent: String,
    /// Seconds since the epoch, by the host's clock.
    pub collected_at: f64,
    pub data_root: String,
    pub profile: String,
    /// Seconds between flushes: what a killed process can have lost.
    pub interval: f64,
    pub processes: Vec<Process>,
    /// Processes that are gone and whose data files were made one.
    #[serde(default)]
    pub compacted: Vec<Compacted>,
    /// Every other entry of the tar, in the tar's order.
    pub entries: Vec<Entry>,
    pub sources: Vec<Source>,
    /// Files of the measured packages that data tells of and that have no source here; nothing in bundles of
    /// agents that did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsourced: Option<Vec<Unsourced>>,
    /// Packages whose files could not all be listed: they may lie where a Python that no longer runs would find them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unlisted: BTreeSet<String>,
    /// Data whose code came from bytes that are no longer there.
    #[serde(default, skip_serializing_if = "Replaced::is_empty")]
    pub replaced: Replaced,
    /// Data files that no process of the service tells of, with their owners.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, u32>,
    /// Things that a reader should know and that stopped nothing.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Manifest {
    /// Every process record that the bundle tells of, by name and digest.
    pub fn records(&self) -> impl Iterator<Item = (&String, &String)> {
        let one = self.processes.iter().map(|process| (&process.record, &process.record_sha256));
        one.chain(self.compacted.iter().map(|many| (&many.record, &many.record_sha256)))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path in the tar; see [`crate::bundle::EntryPath`].
    pub path: String,
    pub size: u64,
    pub sha256: String,
    /// Owner of a data file: the directory is world-writable, so it matters who wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// A source file of the measured packages, run or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Where the host has it.
    pub path: String,
    /// Path below the folder that Python imports from: `shop/orders.py`.
    pub module_path: String,
    pub sha256: String,
    pub size: u64,
    /// Key of its analysis, [`analysis_key`]-made by the agent.
    pub analysis: String,
    pub interpreter: String,
}

/// A file that was measured and whose source cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsourced {
    pub path: String,
    pub reason: String,
}

/// Measured files whose source was another when they ran than when this was collected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Every such path, and every fingerprint of what ran, once: many processes have them in common.
    pub paths: Vec<String>,
    pub fingerprints: Vec<String>,
    pub data: Vec<ReplacedData>,
}

/// Of one data file, as places in the lists of [`Replaced`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedData {
    pub name: String,
    pub paths: Vec<u32>,
    /// What ran, of all of the data file's paths: an earlier bundle may have a source of one.
    pub recorded: Vec<u32>,
}

impl Replaced {
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Takes the paths and fingerprints of data files in.
    pub fn of<'a>(all: impl IntoIterator<Item = (String, Vec<String>, &'a BTreeSet<String>)>) -> Self {
        let (mut paths, mut fingerprints) = (WordTable::default(), WordTable::default());
        let mut data = Vec::new();
        for (name, replaced, recorded) in all {
            data.push(ReplacedData {
                name,
                paths: replaced.iter().map(|path| paths.place(path)).collect(),
                recorded: recorded.iter().map(|one| fingerprints.place(one)).collect(),
            });
        }
        Self { paths: paths.list, fingerprints: fingerprints.list, data }
    }
}

/// Words, each once.
#[derive(Default)]
struct WordTable {
    list: Vec<String>,
    places: BTreeMap<String, u32>,
}

impl WordTable {
    fn place(&mut self, word: &str) -> u32 {
        if let Some(place) = self.places.get(word) {
            return *place;
        }
        let place = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(word.to_owned());
        self.places.insert(word.to_owned(), place);
        place
    }
}

/// Letters of a fingerprint.
pub const FINGERPRINT_LETTERS: usize = 16;

/// What a fingerprint is the beginning of the SHA-256 of: a path, and the SHA-256 of the bytes there.
pub fn fingerprint_text(path: &str, sha256: &str) -> String {
    format!("{path}\0{sha256}")
}

/// One recorded process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// The record's file name in the data directory.
    pub record: String,
    pub record_sha256: String,
    /// By its number where it runs, which for one elsewhere is none of this host's.
    pub pid: u32,
    pub parent: u32,
    /// What its host or container calls itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Of another container or machine that has the same data folder, which tells of it as well where it is asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
    /// Clock ticks between boot and start: with the pid, the process's identity.
    pub start_ticks: u64,
    pub started_at: f64,
    pub argv: Vec<String>,
    pub unit: Option<String>,
    pub role: String,
    pub python: String,
    pub coverage: String,
    /// What recorded it: coverage.py's name of a core, or `live-map`; empty where an older pulpcov did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub core: String,
    /// Its data file, if it has written one.
    pub data: Option<String>,
    /// When it took from its memory what it last wrote, in seconds since the epoch: all that ran before is there.
    pub last_flush: Option<f64>,
    pub state: ProcessState,
    /// The recorder's own trouble, if it had any.
    pub error: Option<String>,
    /// Grows by one with each reset of the host.
    #[serde(default)]
    pub generation: u64,
    /// What was going on: `startup`, or what the person who reset named it.
    #[serde(default)]
    pub label: String,
    /// The run that it was recorded in, where it was one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
}

/// Processes of one role and label that ended well, and the one data file of all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// The record's file name in the data directory.
    pub record: String,
    pub record_sha256: String,
    pub data: Option<String>,
    #[serde(flatten)]
    pub common: CommonFacts,
    pub members: Vec<Member>,
    /// Both as of a process.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

/// What compacted processes have in common: nothing that a report asks for is lost by compacting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommonFacts {
    pub boot_id: String,
    pub generation: u64,
    pub label: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    pub role: String,
    pub unit: Option<String>,
    pub python: String,
    pub prefix: String,
    pub coverage: String,
    /// What recorded them, as of a [`Process`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub core: String,
    /// Branches or lines: they do not mix.
    pub branch: bool,
    /// Owner of their files: what one user says of itself stays apart from what another does.
    #[serde(default)]
    pub uid: u32,
}

/// One process of many: enough to count it once, wherever it is told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    pub record: String,
    pub pid: u32,
    pub start_ticks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// Running now.
    Live,
    /// Ended after a last flush: nothing is missing.
    Ended,
    /// Not seen from this host, and it has not said that it ended: another container or machine that has the same data
    /// folder runs it, or ran it.
    Elsewhere,
    /// Gone without a last flush (SIGKILL, out of memory, power): at most one interval is missing.
    Died,
}

/// How hosts analyse sources: coverage.py's own defaults.
pub const DEFAULT_OPTIONS: &str = "defaults";

/// What decides an analysis: the source, who analysed it, and how.
///
/// Python's minor version is part of it although measured equal for 3.11 to 3.13: a newer syntax
/// is an error on an older Python, and that error must not stand for the whole fleet.
pub fn analysis_key_text(source_sha256: &str, coverage: &str, python_minor: &str, options: &str) -> String {
    format!("pulpcov analysis 1\n{source_sha256}\n{coverage}\n{python_minor}\n{options}\n")
}
