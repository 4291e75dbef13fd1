//! What a controller, or a person, can ask of an agent.

use serde::{Deserialize, Serialize};

use crate::fleet::Fleet;
use crate::profile::Profile;
use crate::text::hex;

/// Where pulpcov's own files live on a host unless the inventory says otherwise.
pub const DEFAULT_LIB_ROOT: &str = "/usr/local/lib/pulpcov";

/// Where Pulp's `coverage_hook` put its data, and where ours go unless told otherwise.
pub const DEFAULT_DATA_ROOT: &str = "/srv/pulp_coverage";

fn default_lib_root() -> String {
    DEFAULT_LIB_ROOT.to_owned()
}

/// Longest op, in bytes of JSON, that may stand in a command line: what becomes root writes that to its log.
const MAX_WORD: usize = 1024;

/// One request. The wire form is `{"op": "install", ...}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    Probe(Probe),
    Install(Box<Install>),
    Status(Status),
    Flush(Flush),
    Collect(Collect),
    /// Sends the bundle that the last `Collect` of this session prepared.
    Bundle(Bundle),
    Erase(Erase),
    Analyse(Analyse),
    Services(Services),
    /// Begins a new generation: every process counts from zero, under a new label.
    Reset(Reset),
    /// Judges what would keep this host's services from being measured; changes nothing.
    Doctor(Box<Doctor>),
    /// Makes few data files of the many of processes that are gone.
    Compact(Compact),
    Uninstall(Uninstall),
    /// Sends what a bake has installed, as a tar.
    Export(Export),
}

impl Op {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Probe(_) => "probe",
            Self::Install(_) => "install",
            Self::Status(_) => "status",
            Self::Flush(_) => "flush",
            Self::Collect(_) => "collect",
            Self::Bundle(_) => "bundle",
            Self::Erase(_) => "erase",
            Self::Analyse(_) => "analyse",
            Self::Services(_) => "services",
            Self::Reset(_) => "reset",
            Self::Doctor(_) => "doctor",
            Self::Compact(_) => "compact",
            Self::Uninstall(_) => "uninstall",
            Self::Export(_) => "export",
        }
    }

    /// The op as a word of the agent's command line that any shell leaves as it is; `None` where it is too long.
    pub fn to_word(&self) -> Option<String> {
        let json = serde_json::to_vec(self).ok().filter(|json| json.len() <= MAX_WORD)?;
        Some(hex(json))
    }
}

/// Looks, changes nothing: what the host is, which interpreters the service runs on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    #[serde(default)]
    pub units: Vec<String>,
    #[serde(default)]
    pub interpreters: Vec<String>,
    /// Where there are no units, the processes that its rules fit show the interpreters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Where nothing of the service runs, the programs that its rules name show them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub programs: bool,
}

/// Puts the hook on the host. A second run with the same words changes nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that a person sets")]
pub struct Install {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    /// `None`: `PULP_COVERAGE_ROOT` of `/etc/environment`, else [`DEFAULT_DATA_ROOT`].
    #[serde(default)]
    pub data_root: Option<String>,
    pub profile: Profile,
    /// Interpreters besides those of the units.
    #[serde(default)]
    pub interpreters: Vec<String>,
    /// What data files carry as host name; the host's own name where absent.
    #[serde(default)]
    pub host_label: Option<String>,
    /// Wheels that follow this op as streams, in this order.
    #[serde(default)]
    pub wheels: Vec<Wheel>,
    /// A folder of wheels on the host, for callers that cannot stream.
    #[serde(default)]
    pub wheelhouse: Option<String>,
    /// Names of wheels that the caller can bring: those that are needed are asked for before anything is
    /// done, with [`crate::outcome::Detail::Wheels`].
    #[serde(default)]
    pub offered: Vec<String>,
    /// Restart the services where the hook changed, and prove that each of their processes records.
    #[serde(default)]
    pub restart: bool,
    /// Stops and starts the services of a host without systemd.
    #[serde(default)]
    pub commands: Commands,
    /// Whoever asks has restarted the host, which an earlier install had awaited: what that said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<Restarted>,
    /// What is recorded after the services have started; [`DEFAULT_LABEL`] where absent.
    #[serde(default)]
    pub label: Option<String>,
    /// Begins a generation of its own under this name of a run, whatever was recorded before.
    #[serde(default)]
    pub run: Option<String>,
    /// Replace files that somebody else put where ours go (they are kept and come back).
    #[serde(default)]
    pub force: bool,
    /// Only tell what would be done.
    #[serde(default)]
    pub check: bool,
    /// Show what would become, or became, of each file's text.
    #[serde(default)]
    pub diff: bool,
    /// Who asks; a host of another fleet is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
    /// Take a host of another fleet over.
    #[serde(default)]
    pub take_over: bool,
    /// For an image, or volumes that containers share: nothing is restarted or begun, and the hook is still until
    /// `PULPCOV=1` stands in a process's environment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bake: bool,
}

/// Sends every path that a bake has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
}

/// A wheel that the controller pushes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wheel {
    pub file_name: String,
    pub sha256: String,
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
}

/// Asks every recorded process to write what it has, and waits for their answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flush {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    #[serde(default = "default_flush_timeout")]
    pub timeout: f64,
    /// Only tell what would be done.
    #[serde(default)]
    pub check: bool,
}

/// Four times the poll period of the recorder, and room for a loaded host.
fn default_flush_timeout() -> f64 {
    5.0
}

/// Flushes and lists what there is to fetch. [`Op::Bundle`] then sends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    /// Seconds to wait for live processes to flush; `None` takes the data as it lies there.
    #[serde(default = "some_flush_timeout")]
    pub flush_timeout: Option<f64>,
    /// The last name of the round before, for hosts with more data files than one bundle holds: a later round goes on
    /// behind it, whatever was erased meanwhile, and by whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Which of the data.
    #[serde(default)]
    pub part: Part,
    /// Recording ends here: each process writes what it has and then records no more, so that all of it can
    /// be fetched and nothing comes after.
    #[serde(default)]
    pub finish: bool,
    /// Only tell what would be done.
    #[serde(default)]
    pub check: bool,
    /// Who asks; a host of another fleet is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
}

/// Which of a host's data, by the run that it was recorded in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    #[default]
    All,
    /// What was recorded in this run.
    Run(String),
    /// All but that: what other sessions and people have left.
    NotRun(String),
}

impl Part {
    /// Whether data of `run` is of this part; data that nobody tells of is of no run.
    pub fn takes(&self, run: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Run(wanted) => run == Some(wanted),
            Self::NotRun(other) => run != Some(other),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "serde's default wants the field's own type")]
fn some_flush_timeout() -> Option<f64> {
    Some(default_flush_timeout())
}

/// Which of the listed sources and analyses the bundle shall carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Name of the host in the inventory; written into the manifest.
    pub host: String,
    pub want: Want,
    /// Leave the data files out: only sources and analyses are wanted, because the host that had
    /// promised them failed.
    #[serde(default)]
    pub without_data: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    Everything,
    /// Source digests and analysis keys.
    Only {
        sources: Vec<String>,
        analyses: Vec<String>,
    },
}

/// Removes what is safely kept elsewhere: each file only if its bytes are still the named ones,
/// and never the file of a process that is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    pub files: Vec<ErasedFile>,
    /// Process records that the bundle told of; each goes once its process and its data are gone.
    #[serde(default)]
    pub records: Vec<ErasedFile>,
    /// Only tell what would be done.
    #[serde(default)]
    pub check: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedFile {
    /// Name in the data directory.
    pub name: String,
    pub sha256: String,
}

/// Analyses named sources with the host's own Python, without collecting anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Analyse {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    pub paths: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    pub action: ServiceAction,
    /// Units to act on; the installed profile's where empty.
    #[serde(default)]
    pub units: Vec<String>,
    /// Act with these instead.
    #[serde(default)]
    pub commands: Commands,
    /// Only tell what would be done.
    #[serde(default)]
    pub check: bool,
    /// Who asks.
    #[serde(default)]
    pub fleet: Option<Fleet>,
}

/// Shell commands that stop and start the services of a host without systemd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commands {
    #[serde(default)]
    pub stop: Option<String>,
    #[serde(default)]
    pub start: Option<String>,
    /// Whoever asks can restart all of it from outside, as a container's engine does: for what nothing on the host restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Outside>,
}

/// What becomes of a container's own files when it is restarted from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outside {
    /// They stay, as with an engine's restart.
    Keeps,
    /// They are made anew, as by the kubelet: only volumes stay.
    Anew,
}

/// What became of a restart that an op awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restarted {
    /// It was asked for; the first process of before had started then, in clock ticks after boot.
    Since(u64),
    /// It did not come.
    GivenUp,
}

impl Commands {
    /// Whether there are none that the host itself could run.
    pub const fn is_empty(&self) -> bool {
        self.stop.is_none() && self.start.is_none()
    }
}

/// Label of what runs while the services start, until they are all up.
pub const STARTUP_LABEL: &str = "startup";

/// Label of what is recorded where nobody named it.
pub const DEFAULT_LABEL: &str = "tests";

/// Whether a text can be a label: it ends up in file names, tables and XML.
pub fn is_label(text: &str) -> bool {
    const LONGEST: usize = 64;
    !text.is_empty()
        && text.len() <= LONGEST
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:+".contains(c))
        && !text.starts_with(['-', '.'])
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    /// What follows is recorded under this name; the present one where absent.
    #[serde(default)]
    pub label: Option<String>,
    /// Seconds to wait for live processes to begin anew.
    #[serde(default = "default_flush_timeout")]
    pub timeout: f64,
    /// Only tell what would be done.
    #[serde(default)]
    pub check: bool,
    /// Who asks; a host of another fleet is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doctor {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    #[serde(default)]
    pub data_root: Option<String>,
    /// What is, or is to be, installed; the installed one where absent.
    #[serde(default)]
    pub profile: Option<Profile>,
    #[serde(default)]
    pub interpreters: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compact {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    /// Leave them as they are where there are fewer of one kind.
    #[serde(default = "default_compact_at_least")]
    pub at_least: u32,
}

/// Fewer files than this are no burden to anybody.
const fn default_compact_at_least() -> u32 {
    64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceAction {
    Start,
    Stop,
    Restart,
}

impl ServiceAction {
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// Puts back every byte, mode, owner and label that install touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that a person sets")]
pub struct Uninstall {
    #[serde(default = "default_lib_root")]
    pub lib_root: String,
    /// Remove our files even where somebody changed them.
    #[serde(default)]
    pub force: bool,
    /// Remove data files too, collected or not.
    #[serde(default)]
    pub erase_data: bool,
    /// Where data lies that is removed from a host on which nothing is installed; as for an install otherwise.
    #[serde(default)]
    pub data_root: Option<String>,
    /// Restart the services, so that no process keeps the hook in memory.
    #[serde(default)]
    pub restart: bool,
    /// Stops and starts the services of a host without systemd.
    #[serde(default)]
    pub commands: Commands,
    /// Whoever asks has restarted the host, which an earlier uninstall had awaited: what that said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted: Option<u64>,
    /// Only tell what would be done.
    #[serde(default)]
    pub check: bool,
    /// Show what would become, or became, of each file's text.
    #[serde(default)]
    pub diff: bool,
    /// Who asks; a host of another fleet is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_op_reads_as_a_person_would_write_it() {
        let op: Op = serde_json::from_str(r#"{"op": "services", "action": "restart"}"#).expect("valid");
        assert!(matches!(op, Op::Services(Services { action: ServiceAction::Restart, .. })));
    }

    #[test]
    fn a_short_op_is_a_word() {
        let status = |lib_root: String| Op::Status(Status { lib_root });
        let op = status("/srv/lib root\u{e4}'".to_owned());
        let word = op.to_word().expect("short");
        assert!(word.chars().all(|c| c.is_ascii_alphanumeric()), "{word}");
        let json = crate::text::unhex(&word).expect("digits");
        assert_eq!(serde_json::from_slice::<Op>(&json).expect("an op"), op);
        assert_eq!(status("x".repeat(MAX_WORD)).to_word(), None);
    }

    #[test]
    fn labels_are_plain_words() {
        assert!(is_label("tier1") && is_label("rc-2.4+fix") && is_label(STARTUP_LABEL));
        for bad in ["", "-x", ".x", "a b", "a/b", "a\u{1b}", "<b>", &"x".repeat(65)] {
            assert!(!is_label(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_misspelt_word_is_an_error() {
        let error =
            serde_json::from_str::<Op>(r#"{"op": "uninstall", "forse": true}"#).expect_err("misspelt");
        assert!(error.to_string().contains("forse"), "{error}");
    }
}
