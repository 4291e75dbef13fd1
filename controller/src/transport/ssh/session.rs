//! One connection, one channel: connect, check the host key, log in, run one command.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{self, Handle};
use russh::{AlgorithmKind, ChannelMsg, Disconnect, Preferred, cipher, kex, mac};
use tokio::time::timeout;

use crate::transport::ssh::auth::{Login, authenticate};
use crate::transport::ssh::config::Family;
use crate::transport::ssh::host_key::{self, Checker, Trust};
use crate::transport::ssh::keys::KeyRing;
use crate::transport::ssh::route::{self, Route};

/// Window of the channel. 16 MiB was five to ten times slower at 20 to 50 hosts.
const WINDOW: u32 = 2 * 1024 * 1024;

/// Packets that wait for us before the peer is held back: 1 MiB a host at most.
const CHANNEL_BUFFER: usize = 32;

/// How long a peer may be silent before it is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long each step may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) auth: Duration,
    /// Silence in the middle of a conversation.
    pub(crate) idle: Duration,
    /// One op, however much its host has to say meanwhile.
    pub(crate) op: Duration,
}

/// Where to connect to, by which way, as whom, and whom to believe.
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
    fn principal(&self) -> &str {
        self.host_key_alias.as_deref().unwrap_or(&self.address)
    }

    pub(super) fn silent(&self, limit: Duration) -> SshError {
        SshError::ConnectTimeout { address: self.address.clone(), port: self.port, seconds: limit.as_secs() }
    }
}

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
    #[error("silent for {0} s")]
    Idle(u64),
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
    fn with_words(mut self, heard: &Mutex<Vec<String>>) -> Self {
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

fn config(destination: &Destination) -> client::Config {
    let mut preferred = host_key::preferred(&destination.trust, &destination.names);
    let mut ciphers = Preferred::DEFAULT.cipher.to_vec();
    ciphers.push(cipher::AES_128_GCM);
    // Hardware does AES; half the CPU of the library's default for bulk data.
    ciphers.sort_by_key(|name| {
        [cipher::AES_256_GCM, cipher::AES_128_GCM].iter().position(|fast| fast == name).unwrap_or(usize::MAX)
    });
    preferred.cipher = Cow::Owned(ciphers);
    // What the library leaves out of its default order, and hardened or old servers have alone: last of all.
    let mut exchanges = Preferred::DEFAULT.kex.to_vec();
    exchanges.extend([kex::ECDH_SHA2_NISTP256, kex::ECDH_SHA2_NISTP384, kex::ECDH_SHA2_NISTP521]);
    preferred.kex = Cow::Owned(exchanges);
    let mut macs = Preferred::DEFAULT.mac.to_vec();
    macs.extend([mac::HMAC_SHA1_ETM, mac::HMAC_SHA1]);
    preferred.mac = Cow::Owned(macs);
    client::Config {
        window_size: WINDOW,
        channel_buffer_size: CHANNEL_BUFFER,
        keepalive_interval: Some(KEEPALIVE),
        nodelay: true,
        preferred,
        ..client::Config::default()
    }
}

/// A handshake's error in words: what both sides have, where they have nothing in common.
fn why(error: &russh::Error) -> String {
    match error {
        russh::Error::NoCommonAlgo { kind, ours, theirs } => {
            let what = match kind {
                AlgorithmKind::Kex => "key exchange",
                AlgorithmKind::Key => "kind of host key",
                AlgorithmKind::Cipher => "cipher",
                AlgorithmKind::Mac => "MAC",
                AlgorithmKind::Compression => "compression",
            };
            let ours: Vec<&str> = ours
                .iter()
                .map(String::as_str)
                .filter(|name| !name.starts_with("ext-info") && !name.starts_with("kex-strict"))
                .collect();
            format!(
                "no {what} in common: the host has {}, pulpcov has {}",
                theirs.join(", "),
                ours.join(", ")
            )
        }
        error => error.to_string(),
    }
}

/// A logged-in connection with one channel that runs `command`.
pub(crate) struct Channel {
    handle: Handle<Checker>,
    inner: russh::Channel<client::Msg>,
    idle: Duration,
    op: Duration,
}

/// What comes from the command.
#[derive(Debug)]
pub(crate) enum ChannelEvent {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Exit(u32),
    /// Nothing more will come.
    Closed,
}

/// Connects, checks the host key, logs in. Nothing is sent to a host whose key is not known.
pub(super) async fn log_in(
    destination: &Destination,
    ring: &KeyRing,
    limits: Limits,
) -> Result<Handle<Checker>, SshError> {
    let link = route::open(destination, ring, limits).await?;
    let refusal = Arc::new(Mutex::new(None));
    let words = Arc::new(Mutex::new(Vec::new()));
    let checker = Checker {
        trust: Arc::clone(&destination.trust),
        names: destination.names.clone(),
        principal: destination.principal().to_owned(),
        refusal: Arc::clone(&refusal),
        words: Arc::clone(&words),
    };
    let config = Arc::new(config(destination));
    let handshake = timeout(limits.connect, client::connect_stream(config, link.stream, checker)).await;
    if let Some(refused) = refusal.lock().ok().and_then(|mut slot| slot.take()) {
        return Err(refused);
    }
    let mut handle = match handshake {
        Err(_) => return Err(destination.silent(limits.connect)),
        Ok(Err(error)) => {
            return Err(SshError::Handshake(format!("{}{}", why(&error), link.words.suffix().await)));
        }
        Ok(Ok(handle)) => handle,
    };
    timeout(limits.auth, authenticate(&mut handle, &destination.login, ring))
        .await
        .map_err(|_| SshError::AuthTimeout(limits.auth.as_secs()))?
        .map_err(|error| error.with_words(&words))?;
    Ok(handle)
}

/// Logs in and starts `command`.
pub(crate) async fn connect(
    destination: &Destination,
    ring: &KeyRing,
    limits: Limits,
    command: &str,
) -> Result<Channel, SshError> {
    let handle = log_in(destination, ring, limits).await?;
    let lost = |error: russh::Error| SshError::Lost(error.to_string());
    let channel = timeout(limits.idle, async {
        let channel = handle.channel_open_session().await.map_err(lost)?;
        channel.exec(true, command).await.map_err(lost)?;
        Ok::<_, SshError>(channel)
    })
    .await
    .map_err(|_| SshError::Idle(limits.idle.as_secs()))??;
    Ok(Channel { handle, inner: channel, idle: limits.idle, op: limits.op })
}

impl Channel {
    /// How long its host may be silent.
    pub(crate) const fn idle(&self) -> Duration {
        self.idle
    }

    /// How long one op of its host may take.
    pub(crate) const fn op(&self) -> Duration {
        self.op
    }

    /// Sends bytes to the command's stdin.
    pub(crate) async fn send(&self, bytes: Vec<u8>) -> Result<(), SshError> {
        // A dead peer never opens the window again; the write would wait for ever.
        match timeout(self.idle, self.inner.data_bytes(bytes)).await {
            Ok(result) => result.map_err(|error| SshError::Lost(error.to_string())),
            Err(_) => Err(SshError::Idle(self.idle.as_secs())),
        }
    }

    /// The next thing that comes. Data may still come after the exit status, so callers read on until
    /// [`ChannelEvent::Closed`].
    pub(crate) async fn next(&mut self) -> Result<ChannelEvent, SshError> {
        loop {
            let message = timeout(self.idle, self.inner.wait())
                .await
                .map_err(|_| SshError::Idle(self.idle.as_secs()))?;
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
            let _ = self.inner.eof().await;
            let _ = self.inner.close().await;
            let _ = self.handle.disconnect(Disconnect::ByApplication, "", "en").await;
        };
        let _ = timeout(Duration::from_secs(2), polite).await;
    }
}
