//! PID namespaces: whose processes can be seen from here, and under which numbers.
//!
//! Containers that share a data folder number their processes each for itself. A process that is not seen here may well
//! live in another one, or on another machine that has the same folder mounted.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::host::facts;

/// What `/proc/self/ns/pid` reads in the first namespace of a kernel, from which all processes can be seen.
const FIRST: &str = "pid:[4026531836]";

/// Where a process says it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) boot_id: &'a str,
    /// As `/proc/self/ns/pid` reads there; empty where that is not known.
    pub(crate) pid_ns: &'a str,
    pub(crate) hostname: &'a str,
    /// The install that its hook is from; empty where several containers share one.
    pub(crate) install: &'a str,
}

/// The same but for the boot, as an agent writes it down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OwnPlace {
    pid_ns: String,
    hostname: String,
    install: String,
}

impl OwnPlace {
    /// Of this process, which acts for an install.
    pub(crate) fn of(install: &str) -> Self {
        Self { pid_ns: own(), hostname: facts::hostname(), install: install.to_owned() }
    }

    pub(crate) fn hostname(&self) -> &str {
        &self.hostname
    }

    pub(crate) fn as_place<'a>(&'a self, boot_id: &'a str) -> Place<'a> {
        let Self { pid_ns, hostname, install } = self;
        Place { boot_id, pid_ns, hostname, install }
    }
}

/// Whether a process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It lives, and has this number here.
    Lives(u32),
    /// It is gone: if it lived, it would be seen.
    Gone,
    /// It runs, or ran, where nobody can look from here.
    Elsewhere,
}

/// What an agent sees: made once, for a look at each process on the host is what it takes.
pub(crate) struct View {
    boot_id: String,
    pid_ns: String,
    hostname: String,
    install: String,
    /// Whether `/proc` shows others' processes.
    sees_all: bool,
    /// By number and start in their own namespace, those that have another number here.
    inner: OnceLock<BTreeMap<(u32, u64), Vec<Inner>>>,
}

/// A process of a namespace below ours.
struct Inner {
    pid: u32,
    /// Empty where the kernel does not tell us.
    pid_ns: String,
}

impl View {
    /// From this process, which acts for an install.
    pub(crate) fn of(install: &str) -> Self {
        let own = OwnPlace::of(install);
        Self { sees_all: facts::start_ticks(1).is_some(), ..Self::from(own.as_place(&facts::boot_id())) }
    }

    fn from(own: Place<'_>) -> Self {
        let [boot_id, pid_ns, hostname, install] =
            [own.boot_id, own.pid_ns, own.hostname, own.install].map(str::to_owned);
        Self { boot_id, pid_ns, hostname, install, sees_all: true, inner: OnceLock::new() }
    }

    /// Looks for a process by the number and the start that it has where it runs.
    pub(crate) fn look(&self, pid: u32, start_ticks: u64, place: Place<'_>) -> Sight {
        match self.reach(place) {
            Reach::Here => match start_of(pid) {
                Start::At(ticks) if ticks == start_ticks => Sight::Lives(pid),
                Start::Hidden => Sight::Elsewhere,
                _ => Sight::Gone,
            },
            Reach::Below { is_all } => match self.find(pid, start_ticks, place.pid_ns) {
                Some(pid) => Sight::Lives(pid),
                None if is_all => Sight::Gone,
                None => Sight::Elsewhere,
            },
            Reach::Past => Sight::Gone,
            Reach::None => Sight::Elsewhere,
        }
    }

    /// Whether what was done there is another install's: seen from here or not, it is theirs to keep and to remove.
    pub(crate) fn is_foreign(&self, place: Place<'_>) -> bool {
        let (are_told, is_same) =
            (!place.install.is_empty() && !self.install.is_empty(), place.install == self.install);
        let is_other_name = !place.hostname.is_empty() && place.hostname != self.hostname;
        match self.reach(place) {
            Reach::None | Reach::Below { is_all: false } => true,
            // Where the words of both are known, these say it; a container may have its host's name.
            Reach::Below { is_all: true } if are_told => !is_same,
            Reach::Below { is_all: true } => is_other_name,
            // Containers may share one namespace; a host that was installed on anew has kept its name.
            Reach::Here | Reach::Past => are_told && !is_same && is_other_name,
        }
    }

    fn reach(&self, place: Place<'_>) -> Reach {
        let is_first = self.pid_ns == FIRST;
        let is_same_name = place.hostname == self.hostname;
        // An install of its own has one root, and that one namespace at a time: an earlier one is gone with all that ran in
        // it. Two containers of one image with an install in it have their own names.
        let is_same_install =
            !place.install.is_empty() && place.install == self.install && (is_first || is_same_name);
        // One host all along: the first namespace of its kernel, before it was booted.
        let is_same_host = is_first && place.pid_ns == FIRST && is_same_name;
        // A sandbox may hide either from a process; its start alone must do then.
        let is_same_boot = place.boot_id == self.boot_id
            || place.boot_id.is_empty() && (is_same_name || place.hostname.is_empty());
        let is_known = !place.pid_ns.is_empty() && !self.pid_ns.is_empty();
        match (is_same_boot, is_known) {
            (true, false) => Reach::Here,
            (true, true) if place.pid_ns == self.pid_ns => Reach::Here,
            (true, true) => Reach::Below { is_all: is_first && self.sees_all || is_same_install },
            // Records of before had neither, and every folder was one host's.
            (false, _) if is_same_install || is_same_host || place.hostname.is_empty() => Reach::Past,
            (false, _) => Reach::None,
        }
    }

    fn find(&self, pid: u32, start_ticks: u64, pid_ns: &str) -> Option<u32> {
        let found = self.inner.get_or_init(inner_processes).get(&(pid, start_ticks))?;
        found.iter().find(|one| one.pid_ns.is_empty() || one.pid_ns == pid_ns).map(|one| one.pid)
    }
}

/// How far a process is from here.
#[derive(Debug, PartialEq, Eq)]
enum Reach {
    /// In our own namespace.
    Here,
    /// In another one, which may be below ours; or surely is, if it is anywhere.
    Below { is_all: bool },
    /// Before the last boot.
    Past,
    /// In another machine.
    None,
}

/// The namespace that this process counts in; empty where `/proc` does not tell.
fn own() -> String {
    of("self")
}

/// Whether this process is in the first one of its kernel.
pub(crate) fn is_first() -> bool {
    own() == FIRST
}

/// The number of that namespace; nothing where it is not told.
pub(crate) fn number() -> String {
    own().chars().filter(char::is_ascii_digit).collect()
}

fn of(pid: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    link.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

enum Start {
    At(u64),
    Absent,
    /// There is a process of that number, and `/proc` was mounted so that nobody else is seen.
    Hidden,
}

fn start_of(pid: u32) -> Start {
    if let Some(ticks) = facts::start_ticks(pid) {
        return Start::At(ticks);
    }
    let folder = format!("/proc/{pid}");
    let is_hidden = match std::fs::read_dir(&folder) {
        // Shown, and shut: hidepid=1.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => true,
        Ok(_) => false,
        Err(_) => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(Errno::PERM))
        }
    };
    if is_hidden { Start::Hidden } else { Start::Absent }
}

/// Every process of a namespace below ours, by what it is there.
fn inner_processes() -> BTreeMap<(u32, u64), Vec<Inner>> {
    let mut all: BTreeMap<(u32, u64), Vec<Inner>> = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if let (Some(inner), Some(start_ticks)) = (innermost(&status), facts::start_ticks(pid)) {
            all.entry((inner, start_ticks)).or_default().push(Inner { pid, pid_ns: of(&pid.to_string()) });
        }
    }
    all
}

/// The number of a process in the innermost namespace that it is in, where that is not ours.
fn innermost(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let numbers: Vec<&str> = line.split_ascii_whitespace().collect();
    numbers.last().filter(|_| numbers.len() > 1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place<'_> = Place { boot_id: "b1", pid_ns: "pid:[7]", hostname: "api", install: "i1" };

    fn reach(own: Place<'_>, place: Place<'_>) -> Reach {
        View::from(own).reach(place)
    }

    #[test]
    fn a_process_of_another_container_is_elsewhere_and_of_the_same_install_gone() {
        let other = Place { pid_ns: "pid:[8]", hostname: "worker", install: "i2", ..HERE };
        assert_eq!(reach(HERE, HERE), Reach::Here);
        assert_eq!(reach(HERE, other), Reach::Below { is_all: false });
        // The same container, started again.
        assert_eq!(
            reach(HERE, Place { install: "i1", hostname: "api", ..other }),
            Reach::Below { is_all: true }
        );
        // Another one of an image that was made of it.
        assert_eq!(reach(HERE, Place { install: "i1", ..other }), Reach::Below { is_all: false });
        // Volumes that several containers share.
        let shared = Place { install: "", ..HERE };
        assert_eq!(reach(shared, Place { pid_ns: "pid:[8]", ..shared }), Reach::Below { is_all: false });
        // The host sees everybody.
        assert_eq!(reach(Place { pid_ns: FIRST, ..HERE }, other), Reach::Below { is_all: true });
    }

    #[test]
    fn another_boot_is_another_machine_unless_it_was_this_install() {
        let other = Place { boot_id: "b2", ..HERE };
        assert_eq!(reach(HERE, other), Reach::Past);
        assert_eq!(reach(HERE, Place { hostname: "worker", install: "i2", ..other }), Reach::None);
        // A host that was installed on anew, and booted in between.
        let first = Place { pid_ns: FIRST, ..HERE };
        assert_eq!(reach(first, Place { boot_id: "b2", install: "i2", ..first }), Reach::Past);
        // Two machines that hide their boots, with one folder.
        assert_eq!(
            reach(first, Place { boot_id: "", hostname: "other", install: "i2", ..first }),
            Reach::None
        );
        // As records were before.
        assert_eq!(reach(HERE, Place { hostname: "", install: "", pid_ns: "", ..other }), Reach::Past);
        assert_eq!(reach(HERE, Place { hostname: "", install: "", pid_ns: "", ..HERE }), Reach::Here);
        assert_eq!(reach(HERE, Place { boot_id: "", pid_ns: "", ..HERE }), Reach::Here);
    }

    #[test]
    fn what_is_seen_may_be_anothers_all_the_same() {
        let is_foreign = |own: Place<'_>, place: Place<'_>| View::from(own).is_foreign(place);
        let host = Place { pid_ns: FIRST, hostname: "node", install: "i0", ..HERE };
        assert!(is_foreign(host, HERE));
        // With its host's name, and with a baked hook.
        assert!(is_foreign(host, Place { hostname: "node", ..HERE }));
        assert!(is_foreign(host, Place { install: "", ..HERE }));
        // In one namespace with it.
        assert!(is_foreign(host, Place { pid_ns: FIRST, ..HERE }));
        // The host's own hook in a container, and in a namespace of a unit.
        assert!(!is_foreign(host, Place { install: "i0", ..HERE }));
        assert!(!is_foreign(host, Place { pid_ns: "pid:[9]", ..host }));
        // Before it was installed on anew, and before records told.
        assert!(!is_foreign(host, Place { install: "i9", ..host }));
        assert!(!is_foreign(host, Place { install: "", hostname: "", pid_ns: "", ..host }));
        assert!(!is_foreign(HERE, Place { pid_ns: "pid:[8]", ..HERE }));
        assert!(is_foreign(HERE, Place { pid_ns: "pid:[8]", install: "i2", hostname: "worker", ..HERE }));
    }

    #[test]
    fn numbers_of_a_namespace_below_are_told_by_the_kernel() {
        assert_eq!(innermost("Name:\tx\nNSpid:\t812\t34\t7\n"), Some(7));
        assert_eq!(innermost("Name:\tx\nNSpid:\t812\n"), None);
        assert_eq!(innermost("Name:\tx\n"), None);
    }

    #[test]
    fn this_very_process_lives() {
        let (pid, pid_ns) = (std::process::id(), own());
        let place = Place { pid_ns: &pid_ns, ..HERE };
        let ticks = facts::start_ticks(pid).expect("it lives");
        let view = View::from(place);
        assert_eq!(view.look(pid, ticks, place), Sight::Lives(pid));
        assert_eq!(view.look(pid, ticks + 1, place), Sight::Gone);
    }
}
