//! Ways to a host: bytes in, bytes out, what it says on stderr, and its end.
//!
//! A host's [`inventory::Connection`] is resolved to an [`Endpoint`], and that opened to a [`Channel`] in which one shell
//! command runs. Whoever stands behind it, the agent and what is said to it are the same.

pub(crate) mod askpass;
mod client_files;
mod container;
mod error;
mod exec;
mod listing;
mod local;
mod nested;
mod process;
pub(crate) mod ssh;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

pub(crate) use error::{ResolveError, TransportError};
pub(crate) use listing::Listed;

use crate::inventory::{Connection, Engine, Host, Sought};
use crate::transport::nested::Nested;
use crate::transport::process::{ProcessError, Program};
use crate::transport::ssh::{ConnectRequest, Destination, KeyRing, Resolver};

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

/// A host, ready to be opened.
pub(crate) enum Endpoint {
    Ssh(Box<Destination>),
    /// A child whose stdin and stdout lead there.
    Process(Box<Program>),
    /// A container of another host's engine.
    Nested(Box<Nested>),
    /// Nobody is there: why.
    Absent(String),
}

impl Endpoint {
    /// What `host`'s connection comes to. A new transport has its line here.
    pub(crate) fn resolve(
        host: &Host,
        connection: &Connection,
        request: &ConnectRequest<'_>,
        resolver: &Resolver,
    ) -> Result<Self, ResolveError> {
        match connection {
            Connection::Ssh(client) => Ok(resolver.resolve(request, client)?),
            Connection::Local => Ok(Self::Process(Box::new(local::program()))),
            Connection::Container(container) => {
                Ok(Self::Process(Box::new(container::program(container, &host.address, request.user)?)))
            }
            Connection::Exec(words) => Ok(Self::Process(Box::new(exec::program(words, &host.address)?))),
        }
    }

    /// The container of a name that was found by the engine of this machine, or of the host that `on` leads to, with words
    /// that come before the engine's.
    pub(crate) fn of_found(
        sought: &Sought,
        name: &str,
        on: Option<(&Arc<Self>, &[String])>,
        user: Option<&str>,
    ) -> Result<Self, ResolveError> {
        Ok(match on {
            None => Self::Process(Box::new(container::program(&sought.container, name, user)?)),
            Some((host, before)) => {
                Self::Nested(Box::new(Nested::new(Arc::clone(host), before, sought, name, user)))
            }
        })
    }

    /// What runs of those that are sought, oldest first.
    ///
    /// # Errors
    /// The engine's last words, or why its host cannot be reached.
    pub(crate) async fn list(
        sought: &Sought,
        on: Option<(&Arc<Self>, &[String])>,
        ring: &KeyRing,
        limits: Limits,
    ) -> Result<Vec<Listed>, TransportError> {
        let here = Self::Process(Box::new(local::program()));
        let (host, before) = on.map_or((&here, &[][..]), |(host, before)| (&**host, before));
        let words = listing::words(sought);
        let line = nested::line(before.iter().chain(&words).map(String::as_str));
        let list = nested::run(host, ring, limits, &line).await?;
        listing::parse(&list, sought.name.as_deref()).map_err(TransportError::Command)
    }

    /// Who is logged in there, as far as it is known from here.
    pub(crate) fn user(&self) -> &str {
        match self {
            Self::Ssh(destination) => destination.user(),
            Self::Process(program) => program.user(),
            Self::Nested(nested) => nested.user(),
            Self::Absent(_) => "nobody",
        }
    }

    /// Restarts all that is at its end, where its way can.
    pub(crate) async fn restart(&self, ring: &KeyRing, limits: Limits) -> Result<(), TransportError> {
        match self {
            Self::Ssh(_) => Err(ProcessError::NoRestart { program: "ssh".to_owned() }.into()),
            Self::Process(program) => timeout(limits.op, program.restart())
                .await
                .map_err(|_| TransportError::Idle(limits.op.as_secs()))?
                .map_err(TransportError::from),
            Self::Nested(nested) => timeout(limits.op, nested.restart(ring, limits))
                .await
                .unwrap_or(Err(TransportError::Idle(limits.op.as_secs()))),
            Self::Absent(why) => Err(TransportError::Absent(why.clone())),
        }
    }

    /// Opens the way and starts a shell command at its end.
    pub(crate) async fn open(
        &self,
        ring: &KeyRing,
        limits: Limits,
        command: &str,
    ) -> Result<Channel, TransportError> {
        let inner = match self {
            Self::Ssh(destination) => Inner::Ssh(ssh::connect(destination, ring, limits, command).await?),
            Self::Process(program) => Inner::Process(Box::new(program.start(command, limits)?)),
            Self::Nested(nested) => return nested.open(ring, limits, command).await,
            Self::Absent(why) => return Err(TransportError::Absent(why.clone())),
        };
        Ok(Channel { inner, limits })
    }
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

/// A shell command that runs on a host.
pub(crate) struct Channel {
    inner: Inner,
    limits: Limits,
}

enum Inner {
    Ssh(ssh::Channel),
    Process(Box<process::Channel>),
}

impl Channel {
    /// A container that is made of an image for this command alone, and goes with it.
    pub(crate) fn of_image(
        engine: Engine,
        image: &str,
        limits: Limits,
        command: &str,
    ) -> Result<Self, TransportError> {
        let program = container::of_image(engine, image);
        Ok(Self { inner: Inner::Process(Box::new(program.start(command, limits)?)), limits })
    }

    /// How long its host may be silent.
    pub(crate) const fn idle(&self) -> Duration {
        self.limits.idle
    }

    /// How long one op of its host may take.
    pub(crate) const fn op(&self) -> Duration {
        self.limits.op
    }

    /// Sends bytes to the command's stdin.
    pub(crate) async fn send(&mut self, bytes: Vec<u8>) -> Result<(), TransportError> {
        let sending = async {
            match &mut self.inner {
                Inner::Ssh(channel) => channel.send(bytes).await.map_err(TransportError::from),
                Inner::Process(channel) => channel.send(&bytes).await.map_err(TransportError::from),
            }
        };
        // A dead peer never takes more; the write would wait for ever.
        timeout(self.limits.idle, sending).await.unwrap_or(Err(self.limits.silent()))
    }

    /// The next thing that comes. Data may still come after the exit status, so callers read on until
    /// [`ChannelEvent::Closed`].
    pub(crate) async fn next(&mut self) -> Result<ChannelEvent, TransportError> {
        let coming = async {
            match &mut self.inner {
                Inner::Ssh(channel) => channel.next().await.map_err(TransportError::from),
                Inner::Process(channel) => channel.next().await.map_err(TransportError::from),
            }
        };
        timeout(self.limits.idle, coming).await.unwrap_or(Err(self.limits.silent()))
    }

    /// Ends stdin and the connection: the agent leaves when its stdin ends.
    pub(crate) async fn close(self) {
        match self.inner {
            Inner::Ssh(channel) => channel.close().await,
            Inner::Process(channel) => channel.close().await,
        }
    }
}

impl Limits {
    const fn silent(&self) -> TransportError {
        TransportError::Idle(self.idle.as_secs())
    }
}
