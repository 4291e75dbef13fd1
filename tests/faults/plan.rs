//! What a seed stands for: operations on a fleet, and what goes wrong in them, where and when.

use std::time::Duration;

use fastrand::Rng;

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Install,
    Collect,
    CollectKeep,
    Reset,
    Status,
    Uninstall,
    Run,
}

impl Op {
    /// Whether it changes who is recorded.
    pub(crate) const fn changes_hosts(self) -> bool {
        matches!(self, Self::Install | Self::Uninstall | Self::Run)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The network cable of the host is pulled.
    Link,
    /// The host's sshd and all its sessions are killed.
    Sshd,
    /// The agents at work on the host are killed.
    Agent,
    /// The controller is killed.
    Controller,
    /// The controller gets a SIGTERM.
    Terminate,
    /// Every process of the host stops.
    Freeze,
    /// The host starts again, without a word to anybody.
    Reboot,
    /// All processes of the service are killed; systemd starts it again.
    Service,
    DiskFull,
    NoInodes,
    /// A folder of the host becomes read-only.
    ReadOnly(&'static str),
    /// The disk that the controller writes to is full.
    ControllerDisk,
    /// The service's wall clock jumps by so many hours.
    Clock(i64),
    /// A second controller does something else at the same time.
    Second(Op),
    /// An upgrade puts new folders where the interpreter's site-packages were, and restarts the service.
    SitePackages,
}

impl Kind {
    /// What a second controller does, where there is one.
    pub(crate) const fn second(self) -> Option<Op> {
        match self {
            Self::Second(op) => Some(op),
            _ => None,
        }
    }

    /// Whether the host cannot be reached while it lasts.
    pub(crate) const fn cuts_off(self) -> bool {
        matches!(self, Self::Link | Self::Sshd | Self::Freeze | Self::Reboot | Self::Agent)
    }

    /// Whether the service itself cannot answer while it lasts, or could not start again.
    pub(crate) const fn silences(self) -> bool {
        matches!(
            self,
            Self::Link
                | Self::Freeze
                | Self::Reboot
                | Self::Service
                | Self::SitePackages
                | Self::DiskFull
                | Self::NoInodes
        )
    }

    /// Whether nothing new can be written to the data directory while it lasts.
    pub(crate) fn fills(self) -> bool {
        matches!(self, Self::DiskFull | Self::NoInodes | Self::ReadOnly("/srv/pulp_coverage"))
    }

    /// Whether processes of the service end by it, without a chance to save what they hold.
    pub(crate) const fn kills(self) -> bool {
        matches!(self, Self::Reboot | Self::Service)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) host: usize,
    /// When it comes, after the operation has begun.
    pub(crate) after: Duration,
    /// When it is over, after that.
    pub(crate) lasts: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) op: Op,
    pub(crate) fault: Option<Fault>,
}

const READ_ONLY: [&str; 4] = [
    "/srv/pulp_coverage",
    "/usr/local/lib",
    "/usr/local/lib/python3.11/dist-packages",
    "/etc/systemd/system",
];

fn op(rng: &mut Rng) -> Op {
    const WEIGHTED: [Op; 10] = [
        Op::Install,
        Op::Collect,
        Op::Collect,
        Op::Collect,
        Op::CollectKeep,
        Op::Reset,
        Op::Status,
        Op::Uninstall,
        Op::Run,
        Op::Run,
    ];
    WEIGHTED[rng.usize(..WEIGHTED.len())]
}

fn kind(rng: &mut Rng) -> Kind {
    match rng.u8(..15) {
        0 => Kind::Link,
        1 => Kind::Sshd,
        2 => Kind::Agent,
        3 => Kind::Controller,
        4 => Kind::Terminate,
        5 => Kind::Freeze,
        6 => Kind::Reboot,
        7 => Kind::Service,
        8 => Kind::DiskFull,
        9 => Kind::NoInodes,
        10 => Kind::ReadOnly(READ_ONLY[rng.usize(..READ_ONLY.len())]),
        11 => Kind::ControllerDisk,
        12 => Kind::Clock([-26, -1, 1, 26][rng.usize(..4)]),
        13 => Kind::Second(op(rng)),
        _ => Kind::SitePackages,
    }
}

/// The steps of a seed, on so many hosts. The first installs.
pub(crate) fn plan(seed: u64, hosts: usize) -> Vec<Step> {
    let mut rng = Rng::with_seed(seed);
    let steps = rng.usize(3..=5);
    let step = |nth: usize, rng: &mut Rng| {
        let op = if nth == 0 { Op::Install } else { op(rng) };
        let longest = match op {
            Op::Install | Op::Run => 9_000,
            Op::Uninstall => 3_000,
            _ => 1_500,
        };
        let fault = (rng.f32() < 0.75).then(|| Fault {
            kind: kind(rng),
            host: rng.usize(1..=hosts),
            after: Duration::from_millis(rng.u64(..longest)),
            lasts: Duration::from_millis(rng.u64(200..4_000)),
        });
        Step { op, fault }
    };
    (0..steps).map(|nth| step(nth, &mut rng)).collect()
}
