//! Signals that ask for an end.

use std::future::poll_fn;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Signals of several kinds, from the moment of listening on.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    /// Who was started by `nohup` stays when the terminal is closed.
    pub(crate) fn listen(wanted: &[Signal]) -> std::io::Result<Self> {
        let counts = |&&wanted: &&Signal| wanted != Signal::HUP || !is_ignored(wanted);
        let one = |&wanted: &Signal| Ok((wanted, signal(SignalKind::from_raw(wanted.as_raw()))?));
        wanted.iter().filter(counts).map(one).collect::<std::io::Result<_>>().map(Self)
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            let come = self
                .0
                .iter_mut()
                .find_map(|(which, stream)| stream.poll_recv(cx).is_ready().then_some(*which));
            come.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Whether a signal is ignored in this process.
fn is_ignored(wanted: Signal) -> bool {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (wanted.as_raw() - 1)) != 0
}
