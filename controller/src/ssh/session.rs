//! One connection, one channel: connect, check the host key, log in, run one command.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::ssh_key::Algorithm;
use russh::keys::{HashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Disconnect, Preferred, cipher};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::auth::{Credentials, KeyRing, authenticate};
use super::known_hosts::{self, HostKeyVerdict, KnownHost};
use super::quick_ack::QuickAck;

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
}

/// Where to connect to, and as whom.
pub(crate) struct Target<'a> {
    pub(crate) address: &'a str,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    pub(crate) private_key: Option<&'a std::path::Path>,
    pub(crate) password: Option<&'a str>,
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
    #[error("{name} shows a host certificate, which is not read")]
    HostCertificate { name: String },
    #[error("SSH handshake failed: {0}")]
    Handshake(String),
    #[error("permission denied for {user} (tried: {tried})")]
    Denied { user: String, tried: String },
    #[error("login failed: {0}")]
    Auth(String),
    #[error("no answer to the login within {0} s")]
    AuthTimeout(u64),
    #[error("connection lost: {0}")]
    Lost(String),
    #[error("silent for {0} s")]
    Idle(u64),
}

impl SshError {
    pub(super) fn during_auth(error: russh::Error) -> Self {
        Self::Auth(error.to_string())
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
                "check that fingerprint on the host itself, then add it: ssh-keyscan {}",
                keyscan_words(name)
            )),
            Self::HostKeyChanged { name, file, .. } => Some(format!(
                "if the host was set up anew, remove the old key: ssh-keygen -R '{name}' -f {file}"
            )),
            Self::Denied { .. } => Some(
                "set ansible_user and ansible_ssh_private_key_file, or load the key into ssh-agent"
                    .to_owned(),
            ),
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

/// Judges the server's key when the handshake shows it, and keeps the verdict for the error.
pub(super) struct Checker {
    known: Arc<Vec<KnownHost>>,
    address: String,
    port: u16,
    refusal: Arc<Mutex<Option<SshError>>>,
}

impl client::Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let refusal = self.refuse(shown);
        let accepted = refusal.is_none();
        if let Ok(mut slot) = self.refusal.lock() {
            *slot = refusal;
        }
        Ok(accepted)
    }
}

impl Checker {
    fn refuse(&self, shown: &PublicKeyOrCertificate) -> Option<SshError> {
        let name = known_hosts::lookup_name(&self.address, self.port);
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Some(SshError::HostCertificate { name });
        };
        let Ok(bytes) = key.to_bytes() else {
            return Some(SshError::Handshake("a host key of no known form".to_owned()));
        };
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let text = |path: std::path::PathBuf| path.display().to_string();
        match known_hosts::judge(&self.known, &self.address, self.port, key.algorithm().as_str(), &bytes) {
            HostKeyVerdict::Known => None,
            HostKeyVerdict::Unknown => Some(SshError::HostKeyUnknown { name, fingerprint }),
            HostKeyVerdict::Changed { file, line } => {
                Some(SshError::HostKeyChanged { name, file: text(file), line, fingerprint })
            }
            HostKeyVerdict::Revoked { file, line } => {
                Some(SshError::HostKeyRevoked { name, file: text(file), line })
            }
        }
    }
}

fn config(known: &[KnownHost], address: &str, port: u16) -> client::Config {
    let types = known_hosts::known_types(known, address, port);
    let mut keys: Vec<Algorithm> = Preferred::DEFAULT.key.to_vec();
    // Stable: known types first, each group in the library's order. An RSA key is known as ssh-rsa
    // whatever hash it signs with.
    keys.sort_by_key(|algorithm| {
        let is_known = types.iter().any(|known| {
            known == algorithm.as_str() || (known == "ssh-rsa" && matches!(algorithm, Algorithm::Rsa { .. }))
        });
        !is_known
    });
    let mut ciphers = Preferred::DEFAULT.cipher.to_vec();
    // Hardware does AES; half the CPU of the library's default for bulk data.
    ciphers.sort_by_key(|&name| name != cipher::AES_256_GCM);
    client::Config {
        window_size: WINDOW,
        channel_buffer_size: CHANNEL_BUFFER,
        keepalive_interval: Some(KEEPALIVE),
        nodelay: true,
        preferred: Preferred { key: Cow::Owned(keys), cipher: Cow::Owned(ciphers), ..Preferred::DEFAULT },
        ..client::Config::default()
    }
}

/// A logged-in connection with one channel that runs `command`.
pub(crate) struct Channel {
    handle: Handle<Checker>,
    inner: russh::Channel<client::Msg>,
    idle: Duration,
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

/// Connects, checks the host key, logs in, starts `command`. Nothing is sent to a host whose key is
/// not known.
pub(crate) async fn connect(
    target: &Target<'_>,
    ring: &KeyRing,
    known: &Arc<Vec<KnownHost>>,
    limits: Limits,
    command: &str,
) -> Result<Channel, SshError> {
    let stream = open_tcp(target, limits.connect).await?;
    let refusal = Arc::new(Mutex::new(None));
    let checker = Checker {
        known: Arc::clone(known),
        address: target.address.to_owned(),
        port: target.port,
        refusal: Arc::clone(&refusal),
    };
    let config = Arc::new(config(known, target.address, target.port));
    let handshake = timeout(limits.connect, client::connect_stream(config, QuickAck(stream), checker)).await;
    if let Some(refused) = refusal.lock().ok().and_then(|mut slot| slot.take()) {
        return Err(refused);
    }
    let mut handle = handshake
        .map_err(|_| SshError::ConnectTimeout {
            address: target.address.to_owned(),
            port: target.port,
            seconds: limits.connect.as_secs(),
        })?
        .map_err(|error| SshError::Handshake(error.to_string()))?;
    let credentials =
        Credentials { user: target.user, private_key: target.private_key, password: target.password, ring };
    timeout(limits.auth, authenticate(&mut handle, &credentials))
        .await
        .map_err(|_| SshError::AuthTimeout(limits.auth.as_secs()))??;
    let lost = |error: russh::Error| SshError::Lost(error.to_string());
    let channel = timeout(limits.idle, async {
        let channel = handle.channel_open_session().await.map_err(lost)?;
        channel.exec(true, command).await.map_err(lost)?;
        Ok::<_, SshError>(channel)
    })
    .await
    .map_err(|_| SshError::Idle(limits.idle.as_secs()))??;
    Ok(Channel { handle, inner: channel, idle: limits.idle })
}

async fn open_tcp(target: &Target<'_>, limit: Duration) -> Result<TcpStream, SshError> {
    let (address, port) = (target.address.to_owned(), target.port);
    let found = timeout(limit, tokio::net::lookup_host((target.address, port))).await;
    let mut addresses = match found {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(source)) => return Err(SshError::Resolve { address, source }),
        Err(_) => return Err(SshError::ConnectTimeout { address, port, seconds: limit.as_secs() }),
    };
    let mut last =
        SshError::Resolve { address: address.clone(), source: std::io::ErrorKind::NotFound.into() };
    for socket in addresses.by_ref() {
        match timeout(limit, TcpStream::connect(socket)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(source)) => last = SshError::Connect { address: address.clone(), port, source },
            Err(_) => {
                last = SshError::ConnectTimeout { address: address.clone(), port, seconds: limit.as_secs() }
            }
        }
    }
    Err(last)
}

impl Channel {
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
