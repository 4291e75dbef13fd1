//! Whether whoever asked still listens: work for nobody is given up where it can be, and never in the middle of a
//! restart.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::failure::Failure;

static HAS_LEFT: AtomicBool = AtomicBool::new(false);

/// Looks whether the other end of stdin is closed.
pub(crate) fn look(stdin: impl AsFd) {
    if is_closed(stdin) {
        HAS_LEFT.store(true, Ordering::Relaxed);
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
    if HAS_LEFT.load(Ordering::Relaxed) {
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
