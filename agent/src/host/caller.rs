//! Whether whoever asked still listens: work for nobody is given up where it can be, and never in the middle of a
//! restart.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pulpcov_protocol::frame::SILENCE;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::failure::Failure;

static HAS_LEFT: AtomicBool = AtomicBool::new(false);

/// It was not heard of for a while, and may be heard of again: one that was stopped goes on.
static IS_SILENT: AtomicBool = AtomicBool::new(false);

/// Watches the other end of stdin while something else is done: it closes, or the controller stops to say that it is there
/// although nothing was closed.
pub(crate) struct Watch {
    /// Bytes that wait to be read, and since when there are no more.
    waiting: u64,
    since: Instant,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        IS_SILENT.store(false, Ordering::Relaxed);
        Self { waiting: 0, since: Instant::now() }
    }

    /// What comes meanwhile is only counted: it is for whoever reads the next op.
    pub(crate) fn look(&mut self, stdin: impl AsFd) {
        let waiting = rustix::io::ioctl_fionread(&stdin).unwrap_or(0);
        // A pipe that is full takes no more.
        if waiting != self.waiting || waiting >= FULL {
            (self.waiting, self.since) = (waiting, Instant::now());
        }
        if is_closed(stdin) {
            HAS_LEFT.store(true, Ordering::Relaxed);
        }
        IS_SILENT.store(self.since.elapsed() > SILENCE, Ordering::Relaxed);
    }
}

/// So many bytes that a pipe may well hold no more.
const FULL: u64 = 2048;

/// Whether anything comes within that time, if only the end.
pub(crate) fn speaks_within(stdin: impl AsFd, time: Duration) -> bool {
    let mut polled = [PollFd::new(&stdin, PollFlags::IN | PollFlags::RDHUP)];
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match rustix::event::poll(&mut polled, Some(&limit)) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            // What is wrong is told by reading.
            _ => return true,
        }
    }
}

/// Ops that wait there to be read hide nothing: a pipe and a socket tell of their end besides.
fn is_closed(stdin: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&stdin, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&at_once)).is_ok()
        && polled[0].revents().intersects(PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR)
}

/// Fails once the controller has left.
pub(crate) fn still_listens() -> Result<(), Failure> {
    if HAS_LEFT.load(Ordering::Relaxed) || IS_SILENT.load(Ordering::Relaxed) {
        return Err(Failure::new("the controller has left"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_seen_behind_what_was_not_read_yet() {
        use std::io::Write;
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"an op").expect("written");
        assert!(!is_closed(&reader));
        drop(writer);
        assert!(is_closed(&reader));
    }
}
