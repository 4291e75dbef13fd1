//! One command on a logged-in connection.

use std::time::Duration;

use russh::client::{self, Handle};
use russh::{ChannelMsg, Disconnect};
use tokio::time::timeout;

use crate::transport::ChannelEvent;
use crate::transport::ssh::error::SshError;
use crate::transport::ssh::host_key::Checker;

/// A logged-in connection with one channel that runs a command.
pub(crate) struct Channel {
    pub(super) handle: Handle<Checker>,
    pub(super) inner: russh::Channel<client::Msg>,
}

impl Channel {
    pub(crate) async fn send(&self, bytes: Vec<u8>) -> Result<(), SshError> {
        self.inner.data_bytes(bytes).await.map_err(|error| SshError::Lost(error.to_string()))
    }

    pub(crate) async fn next(&mut self) -> Result<ChannelEvent, SshError> {
        loop {
            return Ok(match self.inner.wait().await {
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
            let _ = self.inner.eof().await;
            let _ = self.inner.close().await;
            let _ = self.handle.disconnect(Disconnect::ByApplication, "", "en").await;
        };
        let _ = timeout(Duration::from_secs(2), polite).await;
    }
}
