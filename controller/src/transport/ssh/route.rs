//! The way to a host: TCP, a `ProxyCommand`, or channels through jump hosts.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::client::{Handle, Msg};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{Mutex, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::transport::Limits;
use crate::transport::ssh::config::Family;
use crate::transport::ssh::connect::log_in;
use crate::transport::ssh::destination::Destination;
use crate::transport::ssh::error::SshError;
use crate::transport::ssh::held::Held;
use crate::transport::ssh::host_key::Checker;
use crate::transport::ssh::keys::KeyRing;
use crate::transport::ssh::quick_ack::QuickAck;

/// Connections to one jump host. sshd drops new ones at random from ten unauthenticated on
/// (`MaxStartups 10:30:100`), and one alone would make every host wait for the slowest reader.
const JUMP_CONNECTIONS: usize = 4;

/// Hosts that share a jump host's first connection before there is a second.
const HOSTS_PER_CONNECTION: usize = 8;

/// How long a `ProxyCommand` may live without its stream: long enough to say why it leaves.
const PROXY_GRACE: Duration = Duration::from_millis(500);

/// What may come from a host while we write to it. One that says more before it takes what it is sent is waited for, and
/// with it those that share its connection.
const READ_AHEAD: usize = 8 * 1024 * 1024;

/// How often a connection to a jump host is tried.
const JUMP_TRIES: u32 = 3;

#[derive(Clone)]
pub(super) enum Route {
    Direct,
    Command(String),
    Jump(Arc<JumpHost>),
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream to a host's sshd.
pub(super) struct Link {
    pub(super) stream: Box<dyn Stream>,
    pub(super) words: LastWords,
}

/// What a `ProxyCommand` says last on stderr: known when it has ended.
#[derive(Default)]
pub(super) struct LastWords(Option<JoinHandle<String>>);

impl LastWords {
    /// Keeps the last line of `stderr` while `child` runs, and ends the child soon after `stream_gone`.
    fn of(child: Child, stderr: ChildStderr, stream_gone: oneshot::Receiver<()>) -> Self {
        Self(Some(tokio::spawn(async move {
            // Killed when this ends, also with the whole program.
            let _child = child;
            let (mut lines, mut last) = (BufReader::new(stderr).lines(), String::new());
            let over = async {
                let _ = stream_gone.await;
                tokio::time::sleep(PROXY_GRACE).await;
            };
            tokio::pin!(over);
            loop {
                tokio::select! {
                    line = lines.next_line() => match line {
                        Ok(Some(line)) if line.trim().is_empty() => {}
                        Ok(Some(line)) => last = crate::output::terminal::printable(line.trim()).chars().take(300).collect(),
                        _ => return last,
                    },
                    () = &mut over => return last,
                }
            }
        })))
    }

    /// For the end of an error message, once the stream is gone and the command with it.
    pub(super) async fn suffix(self) -> String {
        let Some(reading) = self.0 else { return String::new() };
        match timeout(Duration::from_secs(1), reading).await {
            Ok(Ok(words)) if !words.is_empty() => format!(" (the ProxyCommand says: {words})"),
            _ => String::new(),
        }
    }
}

/// Opens the way to a host.
pub(super) async fn open(
    destination: &Destination,
    ring: &KeyRing,
    limits: Limits,
) -> Result<Link, SshError> {
    let stream: Box<dyn Stream> = match &destination.route {
        Route::Direct => Box::new(QuickAck(open_tcp(destination, limits.connect).await?)),
        Route::Command(command) => return run_proxy(command),
        Route::Jump(jump) => Box::pin(jump.open(destination, ring, limits)).await?,
    };
    Ok(Link { stream, words: LastWords::default() })
}

async fn open_tcp(destination: &Destination, limit: Duration) -> Result<TcpStream, SshError> {
    let (address, port) = (destination.address.clone(), destination.port);
    let found = timeout(limit, tokio::net::lookup_host((destination.address.as_str(), port))).await;
    let addresses = match found {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(source)) => return Err(SshError::Resolve { address, source }),
        Err(_) => return Err(destination.silent(limit)),
    };
    let mut last =
        SshError::Resolve { address: address.clone(), source: std::io::ErrorKind::NotFound.into() };
    let wanted = addresses.filter(|address| match destination.family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    });
    for socket in wanted {
        match timeout(limit, TcpStream::connect(socket)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(source)) => last = SshError::Connect { address: address.clone(), port, source },
            Err(_) => last = destination.silent(limit),
        }
    }
    Err(last)
}

fn run_proxy(command: &str) -> Result<Link, SshError> {
    let failed = |source| SshError::ProxyCommand { command: command.to_owned(), source };
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("exec {command}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(failed(std::io::ErrorKind::BrokenPipe.into()));
    };
    let (gone, stream_gone) = oneshot::channel();
    // The command ends with the stream.
    let stream = Held::new(stdout, stdin, gone);
    Ok(Link { stream: Box::new(stream), words: LastWords::of(child, stderr, stream_gone) })
}

/// A host on the way to others, with few connections for all of them.
pub(super) struct JumpHost {
    name: String,
    destination: Destination,
    connections: [Mutex<Connection>; JUMP_CONNECTIONS],
    opened: AtomicUsize,
}

enum Connection {
    None,
    Open(Arc<Handle<Checker>>),
    /// It was tried and failed: no host behind it needs to wait for that again.
    Failed(Arc<SshError>),
}

impl JumpHost {
    pub(super) fn new(name: String, destination: Destination) -> Self {
        let connections = [const { Mutex::const_new(Connection::None) }; JUMP_CONNECTIONS];
        Self { name, destination, connections, opened: AtomicUsize::new(0) }
    }

    async fn open(
        &self,
        to: &Destination,
        ring: &KeyRing,
        limits: Limits,
    ) -> Result<Box<dyn Stream>, SshError> {
        let handle = self.connection(ring, limits).await?;
        let opening = handle.channel_open_direct_tcpip(to.address.clone(), to.port.into(), "127.0.0.1", 0);
        match timeout(limits.connect, opening).await {
            Ok(Ok(channel)) => Ok(read_ahead(channel)),
            Ok(Err(error)) => Err(SshError::NoWay {
                jump: self.name.clone(),
                address: to.address.clone(),
                port: to.port,
                reason: error.to_string(),
            }),
            Err(_) => Err(to.silent(limits.connect)),
        }
    }

    async fn connection(&self, ring: &KeyRing, limits: Limits) -> Result<Arc<Handle<Checker>>, SshError> {
        let host = self.opened.fetch_add(1, Ordering::Relaxed);
        let Some(slot) = self.connections.get(host / HOSTS_PER_CONNECTION % JUMP_CONNECTIONS) else {
            return Err(SshError::Lost("no connection to the jump host".to_owned()));
        };
        let mut slot = slot.lock().await;
        let failed =
            |source: &Arc<SshError>| SshError::Jump { jump: self.name.clone(), source: Arc::clone(source) };
        match &*slot {
            Connection::Open(handle) if !handle.is_closed() => return Ok(Arc::clone(handle)),
            Connection::Failed(source) => return Err(failed(source)),
            Connection::None | Connection::Open(_) => {}
        }
        let mut left = JUMP_TRIES;
        loop {
            left -= 1;
            match Box::pin(log_in(&self.destination, ring, limits)).await {
                Ok(handle) => {
                    let handle = Arc::new(handle);
                    *slot = Connection::Open(Arc::clone(&handle));
                    return Ok(handle);
                }
                Err(error) if left > 0 && error.is_worth_a_retry() => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(error) => {
                    let source = Arc::new(error);
                    *slot = Connection::Failed(Arc::clone(&source));
                    return Err(failed(&source));
                }
            }
        }
    }
}

/// A channel through a jump host, from which is always read: whoever waits there to write would keep the connection's other
/// hosts from hearing that they may go on, and itself.
fn read_ahead(channel: russh::Channel<Msg>) -> Box<dyn Stream> {
    let (mut far, writer) = tokio::io::split(channel.into_stream());
    let (reader, mut read) = tokio::io::duplex(READ_AHEAD);
    // It ends with the stream.
    let mut reading = JoinSet::new();
    reading.spawn(async move { tokio::io::copy(&mut far, &mut read).await });
    Box::new(Held::new(reader, writer, reading))
}
