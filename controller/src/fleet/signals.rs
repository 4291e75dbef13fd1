//! Signals that ask for an end.

use std::future::poll_fn;
use std::task::Poll;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// Signals of several kinds, from the moment of listening on.
pub(crate) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(crate) fn listen(wanted: &[Signal]) -> std::io::Result<Self> {
        let one = |&wanted: &Signal| Ok((wanted, signal(SignalKind::from_raw(wanted.as_raw()))?));
        wanted.iter().map(one).collect::<std::io::Result<_>>().map(Self)
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
