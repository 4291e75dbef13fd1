//! One command on a logged-in connection.

use std::collections::VecDeque;
use std::time::Duration;

use russh::client::{self, Handle};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect};
use tokio::time::timeout;

use crate::transport::ChannelEvent;
use crate::transport::ssh::error::SshError;
use crate::transport::ssh::host_key::Checker;

/// Most that is kept of what a host says while it is sent something.
const MAX_COMING: usize = 4 * 1024 * 1024;

/// A logged-in connection with one channel that runs a command.
pub(crate) struct Channel {
    handle: Handle<Checker>,
    reader: ChannelReadHalf,
    writer: ChannelWriteHalf<client::Msg>,
    /// What came while something was sent.
    coming: VecDeque<ChannelMsg>,
    coming_bytes: usize,
    /// Nothing more comes.
    has_ended: bool,
}

impl Channel {
    pub(super) fn new(handle: Handle<Checker>, channel: russh::Channel<client::Msg>) -> Self {
        let (reader, writer) = channel.split();
        Self { handle, reader, writer, coming: VecDeque::new(), coming_bytes: 0, has_ended: false }
    }

    /// Sends bytes, and listens meanwhile: a command that has ended takes no more, and nobody says so to who only sends. Why
    /// it has is told by what comes from it.
    pub(crate) async fn send(&mut self, bytes: Vec<u8>) -> Result<(), SshError> {
        if self.has_ended {
            return Ok(());
        }
        let mut sending = std::pin::pin!(self.writer.data_bytes(bytes));
        loop {
            tokio::select! {
                sent = &mut sending => return sent.map_err(|error| SshError::Lost(error.to_string())),
                coming = self.reader.wait(), if self.coming_bytes < MAX_COMING => match coming {
                    None => {
                        self.has_ended = true;
                        return Ok(());
                    }
                    Some(ChannelMsg::WindowAdjusted { .. }) => {}
                    Some(message) => {
                        if let ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } = &message {
                            self.coming_bytes += data.len();
                        }
                        self.coming.push_back(message);
                    }
                },
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Result<ChannelEvent, SshError> {
        loop {
            let message = match self.coming.pop_front() {
                None if self.has_ended => None,
                None => {
                    self.coming_bytes = 0;
                    self.reader.wait().await
                }
                message => message,
            };
            return Ok(match message {
                Some(ChannelMsg::Data { data }) => ChannelEvent::Stdout(data.to_vec()),
                Some(ChannelMsg::ExtendedData { data, .. }) => ChannelEvent::Stderr(data.to_vec()),
                Some(ChannelMsg::ExitStatus { exit_status }) => ChannelEvent::Exit(exit_status),
                Some(ChannelMsg::Failure) => {
                    return Err(SshError::Lost("the host runs no command".to_owned()));
                }
                Some(_) => continue,
                None if self.handle.is_closed() => {
                    return Err(SshError::Lost("the host closed it".to_owned()));
                }
                None => ChannelEvent::Closed,
            });
        }
    }

    /// Ends stdin and the connection: the agent leaves when its stdin ends.
    pub(crate) async fn close(self) {
        let polite = async {
            let _ = self.writer.eof().await;
            let _ = self.writer.close().await;
            let _ = self.handle.disconnect(Disconnect::ByApplication, "", "en").await;
        };
        let _ = timeout(Duration::from_secs(2), polite).await;
    }
}
