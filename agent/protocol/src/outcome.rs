//! What an agent answers. The first three words are Ansible's: `changed`, `failed`, `msg`.

use serde::{Deserialize, Serialize};

use crate::manifest::{Process, Source};

/// The agent's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    pub agent: String,
    pub hostname: String,
    pub uid: u32,
}

/// What the agent is doing, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub step: String,
}

/// The one answer to an op, on every face of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub schema: String,
    pub changed: bool,
    pub failed: bool,
    pub msg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Ansible's own shape, so that its `--diff` shows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<FileDiff>,
    #[serde(default)]
    pub pulpcov: Detail,
}

/// The text of a file before and after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDiff {
    pub before: String,
    pub after: String,
    pub before_header: String,
    pub after_header: String,
}

/// Names the shape of [`Outcome`] for whoever reads it from a log years later.
pub const SCHEMA: &str = "pulpcov.agent/1";

impl Outcome {
    pub fn ok(changed: bool, msg: impl Into<String>, pulpcov: Detail) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            changed,
            failed: false,
            msg: msg.into(),
            hint: None,
            warnings: Vec::new(),
            diff: Vec::new(),
            pulpcov,
        }
    }

    pub fn failure(msg: impl Into<String>, hint: Option<String>) -> Self {
        Self { failed: true, hint, ..Self::ok(false, msg, Detail::None) }
    }

    #[must_use]
    pub fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }
}

/// What an op found, beyond the three words.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Detail {
    #[default]
    None,
    Probe(ProbeDetail),
    Install(InstallDetail),
    Wheels(WheelsDetail),
    Status(StatusDetail),
    Flush(FlushDetail),
    Collect(CollectDetail),
    Bundle(BundleDetail),
    Erase(EraseDetail),
    Analyse(AnalyseDetail),
    Services(ServicesDetail),
    Reset(ResetDetail),
    Doctor(DoctorDetail),
    Compact(CompactDetail),
    Uninstall(UninstallDetail),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeDetail {
    pub hostname: String,
    pub machine: String,
    pub boot_id: String,
    pub data_root: String,
    pub installed: bool,
    pub interpreters: Vec<Interpreter>,
}

/// A Python of the host, and the coverage.py that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    pub path: String,
    /// `3.11.2`
    pub version: String,
    /// `cpython-311`
    pub cache_tag: String,
    /// Where its `.pth` files are read.
    pub purelib: String,
    /// `sys.prefix`: tells one virtual environment from another.
    pub prefix: String,
    /// Pinned coverage.py version for this Python.
    pub coverage: String,
    /// That version is already unpacked on the host.
    pub coverage_present: bool,
    /// Wheel tags that this interpreter takes, best first.
    pub tags: Vec<String>,
    /// Whom the agent runs it as: the one user who can change what it runs.
    #[serde(default)]
    pub uid: u32,
    /// The container image that it is in, by its id; `None` for one of the host's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallDetail {
    pub data_root: String,
    pub interpreters: Vec<Interpreter>,
    /// Units that were restarted.
    pub restarted: Vec<String>,
    /// Processes that were seen to record after that.
    #[serde(default)]
    pub proven: u64,
    /// Whoever asked has to restart the host now, and then to ask again with this: the start of the first process, in
    /// clock ticks, which is another after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits_restart: Option<u64>,
    /// Paths that this run made or changed.
    pub touched: Vec<String>,
    /// Packages of the profile that no Python here can import; nothing where the host does not show where its
    /// service has its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_packages: Option<Vec<String>>,
}

/// Of the offered wheels those that an install needs; nothing was done yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WheelsDetail {
    pub wanted: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusDetail {
    pub installed: bool,
    pub data_root: String,
    pub data_files: u64,
    pub data_bytes: u64,
    pub processes: Vec<Process>,
    /// Processes of the profile's units that do not record, each with the reason.
    pub unrecorded: Vec<Unrecorded>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrecorded {
    pub pid: u32,
    pub unit: String,
    pub argv: Vec<String>,
    pub reason: String,
    /// It runs since before the hook was there: a restart is all that it takes.
    #[serde(default)]
    pub restart: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushDetail {
    /// Process ids that answered.
    pub acked: Vec<u32>,
    /// Live processes that did not answer in time.
    pub silent: Vec<u32>,
    /// Records of processes that did not answer and are not seen from this host: they run in another container or machine
    /// that has the same data folder, or ran there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<String>,
    /// Processes that answered and whose data file is not what they say, or that say why they cannot write: the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetDetail {
    pub generation: u64,
    pub label: String,
    pub flush: FlushDetail,
}

/// What a doctor found, worst first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorDetail {
    pub findings: Vec<Finding>,
    /// As of an install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_packages: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    pub grade: Grade,
    /// What it is about: a unit, a path, an interpreter.
    pub subject: String,
    pub msg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Nothing will be recorded, or what is recorded will be lost.
    Bad,
    /// A person should know.
    Warning,
    Ok,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactDetail {
    /// Data files that went into others.
    pub merged: u64,
    /// Files that hold them now.
    pub into: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectDetail {
    pub data_files: u64,
    pub data_bytes: u64,
    /// Data files beyond this bundle's limit; ask again for them.
    pub remaining: u64,
    /// The last name of the list, behind which a later round goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Data files that are not of the part that was asked for.
    #[serde(default)]
    pub others: u64,
    /// Recorded processes; the manifest tells of each.
    pub processes: u64,
    pub sources: Vec<Source>,
    pub flush: Option<FlushDetail>,
    /// Where the bundle was written, for the faces that do not stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_sha256: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleDetail {
    pub entries: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraseDetail {
    pub erased: Vec<String>,
    /// Left alone, each with the reason.
    pub kept: Vec<KeptFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    pub name: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalyseDetail {
    /// One analysis a source, in the order asked for.
    pub analyses: Vec<serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesDetail {
    pub units: Vec<UnitState>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    pub unit: String,
    /// systemd's `ActiveState`.
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UninstallDetail {
    pub removed: Vec<String>,
    /// Data files that were left where they are.
    pub data_left: u64,
    pub data_root: String,
    /// As of an install.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits_restart: Option<u64>,
}
