//! Where to connect to, by which way, as whom, and whom to believe.

use std::sync::Arc;
use std::time::Duration;

use crate::transport::ssh::auth::Login;
use crate::transport::ssh::config::Family;
use crate::transport::ssh::error::SshError;
use crate::transport::ssh::host_key::Trust;
use crate::transport::ssh::route::Route;

/// A host, as our own SSH reaches it.
pub(crate) struct Destination {
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) family: Family,
    pub(super) host_key_alias: Option<String>,
    /// What known_hosts may call it.
    pub(super) names: Vec<String>,
    pub(super) login: Login,
    pub(super) trust: Arc<Trust>,
    pub(super) route: Route,
}

impl Destination {
    pub(crate) fn user(&self) -> &str {
        &self.login.user
    }

    /// What a certificate calls it.
    pub(super) fn principal(&self) -> &str {
        self.host_key_alias.as_deref().unwrap_or(&self.address)
    }

    pub(super) fn silent(&self, limit: Duration) -> SshError {
        SshError::ConnectTimeout { address: self.address.clone(), port: self.port, seconds: limit.as_secs() }
    }
}
