//! What can go wrong on the way to a host, and what helps.

use std::fmt;
use std::sync::{Arc, Mutex};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SshError {
    #[error("cannot find {address}: {source}")]
    Resolve { address: String, source: std::io::Error },
    #[error("cannot connect to {address} port {port}: {source}")]
    Connect { address: String, port: u16, source: std::io::Error },
    #[error("no answer from {address} port {port} within {seconds} s")]
    ConnectTimeout { address: String, port: u16, seconds: u64 },
    #[error("no key of {name} is known; it shows {fingerprint}")]
    HostKeyUnknown { name: String, fingerprint: String },
    #[error("the key of {name} is not the one of {file}:{line}; it shows {fingerprint}")]
    HostKeyChanged { name: String, file: String, line: usize, fingerprint: String },
    #[error("the key that {name} shows is revoked by {file}:{line}")]
    HostKeyRevoked { name: String, file: String, line: usize },
    #[error("the host certificate that {name} shows does not count: {reason}")]
    HostCertificate { name: String, reason: String },
    #[error("cannot write the key of {name} to {file}: {source}")]
    NewHostKey { name: String, file: String, source: std::io::Error },
    #[error("cannot start the ProxyCommand {command:?}: {source}")]
    ProxyCommand { command: String, source: std::io::Error },
    #[error("jump host {jump}: {source}")]
    Jump { jump: String, source: Arc<SshError> },
    #[error("jump host {jump} does not open the way to {address} port {port}: {reason}")]
    NoWay { jump: String, address: String, port: u16, reason: String },
    #[error("SSH handshake failed: {0}")]
    Handshake(String),
    #[error("permission denied for {user} (tried: {tried}){words}")]
    Denied { user: String, tried: String, words: HostWords },
    #[error("login failed: {reason}{words}")]
    Auth { reason: String, words: HostWords },
    #[error("no answer to the login within {0} s")]
    AuthTimeout(u64),
    #[error("connection lost: {0}")]
    Lost(String),
}

/// What a host said to whoever was not let in; often the only true reason.
#[derive(Debug, Default)]
pub(crate) struct HostWords(Vec<String>);

impl fmt::Display for HostWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; the host says: {}", self.0.join(" ")) }
    }
}

impl SshError {
    pub(super) fn during_auth(error: russh::Error) -> Self {
        Self::auth(error.to_string())
    }

    pub(super) fn auth(reason: String) -> Self {
        Self::Auth { reason, words: HostWords::default() }
    }

    /// The same with what the host said meanwhile.
    pub(super) fn with_words(mut self, heard: &Mutex<Vec<String>>) -> Self {
        if let Self::Denied { words, .. } | Self::Auth { words, .. } = &mut self
            && let Ok(heard) = heard.lock()
        {
            words.0.clone_from(&heard);
        }
        self
    }

    /// Whether a new try may help, and can do no harm: the network failed, and nobody was logged in.
    pub(crate) const fn is_worth_a_retry(&self) -> bool {
        matches!(
            self,
            Self::Resolve { .. } | Self::Connect { .. } | Self::ConnectTimeout { .. } | Self::Handshake(_)
        )
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::HostKeyUnknown { name, .. } => Some(format!(
                "check that fingerprint on the host itself, then add it: ssh-keyscan {}; or use --host-key accept-new",
                keyscan_words(name)
            )),
            Self::HostKeyChanged { name, file, .. } => Some(format!(
                "if the host was set up anew, remove the old key: ssh-keygen -R '{name}' -f {file}"
            )),
            // An account that may not log in now has no wrong key.
            Self::Denied { words, .. } if words.0.is_empty() => Some(
                "set ansible_user and ansible_ssh_private_key_file, or load the key into ssh-agent"
                    .to_owned(),
            ),
            Self::Jump { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// `[host]:port` as `ssh-keyscan` wants it.
fn keyscan_words(name: &str) -> String {
    match name.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some((host, port)) => format!("-p {port} {host}"),
        None => name.to_owned(),
    }
}
