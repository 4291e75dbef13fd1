//! What this host is.

use std::path::Path;
use std::time::{Duration, Instant};

use pulpcov_protocol::op::DEFAULT_LIB_ROOT;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::failure::{During, Failure};

/// Longest wait for another agent: compacting takes a second or two, and so does listing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait for another container's compaction.
const COMPACTION: Duration = Duration::from_secs(10);

/// Only one agent changes a host at a time.
pub(crate) struct HostLock {
    _held: rustix::fd::OwnedFd,
}

/// The lock of the usual place; another place's is the folder that it lies in.
const LOCK: &str = "/run/pulpcov-agent.lock";

impl HostLock {
    pub(crate) fn take(lib_root: &str) -> Result<Self, Failure> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let usual = (lib_root == DEFAULT_LIB_ROOT && rustix::process::geteuid().is_root())
            .then(|| rustix::fs::open(LOCK, flags, Mode::from_raw_mode(0o600)));
        let fd = match usual {
            Some(Ok(fd)) => fd,
            // A container may have nothing there that can be written to.
            None | Some(Err(Errno::ROFS | Errno::NOENT)) => {
                let folder = existing_parent(lib_root);
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::open(&folder, flags, Mode::empty()).during("open", folder.display())?
            }
            Some(Err(error)) => return Err(error).during("open", LOCK),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _held: fd }),
                Err(Errno::WOULDBLOCK) if Instant::now() <= deadline => {}
                Err(Errno::WOULDBLOCK) => {
                    return Err(Failure::new("another pulpcov-agent is at work on this host")
                        .hint("wait for it, then try again"));
                }
                Err(error) => return Err(error).during("lock", existing_parent(lib_root).display()),
            }
            crate::host::caller::still_listens()?;
            std::thread::sleep(PAUSE);
        }
    }
}

/// Between two looks at a lock that somebody else has.
const PAUSE: Duration = Duration::from_millis(50);

/// Held by a collect from its list to the end of its session: a compaction in between would put what
/// is still to be fetched under names that were passed already.
pub(crate) struct CollectLock {
    _held: Vec<rustix::fd::OwnedFd>,
}

impl CollectLock {
    /// On the receipt, and on the ledger, which other installs may have in common with this one: a compaction of theirs
    /// is waited for. There anybody can hold a lock: after a while a collect does without, as on file systems that have none.
    pub(crate) fn share(receipt: &Path, ledger: &Path) -> Self {
        let operation = FlockOperation::NonBlockingLockShared;
        let deadline = Instant::now() + COMPACTION;
        let waited = |path: &Path| loop {
            match lock(path, operation) {
                Err(Errno::WOULDBLOCK) if Instant::now() <= deadline => std::thread::sleep(PAUSE),
                held => return held.ok(),
            }
        };
        Self { _held: [receipt, ledger].into_iter().filter_map(waited).collect() }
    }

    /// `None` while somebody collects.
    pub(crate) fn alone(receipt: &Path, ledger: &Path) -> Option<Self> {
        let operation = FlockOperation::NonBlockingLockExclusive;
        let held: Result<Vec<_>, _> =
            [receipt, ledger].into_iter().map(|path| lock(path, operation)).collect();
        Some(Self { _held: held.ok()? })
    }
}

fn lock(path: &Path, operation: FlockOperation) -> Result<rustix::fd::OwnedFd, Errno> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    rustix::fs::flock(&fd, operation)?;
    Ok(fd)
}

fn existing_parent(path: &str) -> std::path::PathBuf {
    let mut folder = Path::new(path);
    while let Some(parent) = folder.parent() {
        if parent.is_dir() {
            return parent.to_owned();
        }
        folder = parent;
    }
    "/".into()
}

pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

pub(crate) fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

pub(crate) fn boot_id() -> String {
    fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The start time of a living process in clock ticks after boot; `None` when there is no such
/// process, or only its unreaped remains.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The kernel's name of a living process: its program's or its script's, at most 15 letters of it.
pub(crate) fn name(pid: u32) -> Option<String> {
    let name = fs_err::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// The parent of a living process.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Whether a process has another root than the first one, as in a container; not where nobody may look.
pub(crate) fn is_contained(pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let root =
        |of: u32| std::fs::metadata(format!("/proc/{of}/root/")).ok().map(|found| (found.dev(), found.ino()));
    root(pid).zip(root(1)).is_some_and(|(its, first)| its != first)
}

/// Whether a process comes from another, or is it. Who is brought into a container by its engine does not come from the
/// container's first.
pub(crate) fn descends_from(pid: u32, ancestor: u32) -> bool {
    let mut at = pid;
    // No chain is longer than there are processes; numbers that are used again could make a circle.
    for _ in 0..1000 {
        if at == ancestor {
            return true;
        }
        match parent(at) {
            None | Some(0) => return false,
            Some(parent) => at = parent,
        }
    }
    false
}

/// Who a living process is, as far as writing into a folder goes.
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) groups: Vec<u32>,
}

impl User {
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let status = fs_err::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let numbers = |name: &str| -> Option<Vec<u32>> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
        };
        // Real, effective, saved, and the one that files are opened by.
        let of_files = |name: &str| numbers(name)?.get(3).copied();
        let mut groups = numbers("Groups")?;
        groups.push(of_files("Gid")?);
        Some(Self { uid: of_files("Uid")?, groups })
    }
}

/// Real, effective and saved user of a living process, and the one that it opens files as.
pub(crate) fn uids(pid: u32) -> Option<Vec<u32>> {
    let status = fs_err::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
}

/// Seconds since the epoch.
pub(crate) fn now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// A word that nobody else has: names of temporary files, names of flush requests.
pub(crate) fn random_word() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    // So few bytes come whole or not at all.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(std::io::Error::from)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `PULP_COVERAGE_ROOT` as Pulp's `coverage_hook` took it: the agent's environment, then
/// `/etc/environment`.
pub(crate) fn pulp_coverage_root() -> Option<String> {
    const NAME: &str = "PULP_COVERAGE_ROOT";
    if let Ok(value) = std::env::var(NAME) {
        return Some(value).filter(|value| !value.is_empty());
    }
    let text = fs_err::read_to_string("/etc/environment").ok()?;
    text.lines().rev().find_map(|line| {
        let line = line.trim();
        let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
        (name.trim() == NAME).then(|| value.trim().trim_matches(['"', '\'']).to_owned())
    })
}
