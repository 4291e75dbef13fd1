//! An agent at the other end of a channel: started by the bootstrap, spoken to in frames.

use std::time::{Duration, Instant};

use pulpcov_protocol::frame::{Decoder, Frame, FrameError, Kind, MAX_DATA, PING_EVERY, StreamEnd, header};
use pulpcov_protocol::op::Op;
use pulpcov_protocol::outcome::{Hello, Outcome, Progress};
use pulpcov_protocol::text::hex;
use pulpcov_protocol::version::PROTOCOL;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::agent::binary::AgentBinaries;
use crate::agent::bootstrap::{BecomeBy, Handshake, MAX_NOISE, next_handshake};
use crate::inventory::BecomeMethod;
use crate::run::bundle::BundleError;
use crate::transport::{Channel, ChannelEvent, TransportError};

/// Bytes of a host's stderr that are kept for the error message.
const MAX_STDERR: usize = 4096;

/// An agent over a line of 128 kbit/s.
const SLOW_UPLOAD: Duration = Duration::from_mins(2);

/// Why a host's agent did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("cannot start the agent: {0}")]
    Bootstrap(String),
    #[error("its agent has not started within {0} s")]
    Start(u64),
    #[error("{} refuses the password", .0.name())]
    BecomePassword(BecomeMethod),
    #[error("{} wants a password", .0.name())]
    BecomeNeedsPassword(BecomeMethod),
    #[error("sudo wants a terminal (requiretty)")]
    SudoNeedsTerminal,
    #[error("{user} may not use {} there: {words}", .method.name())]
    BecomeDenied { method: BecomeMethod, user: String, words: String },
    #[error("there is no {0} on that host")]
    BecomeMissing(String),
    #[error("the agent speaks protocol {found}, this pulpcov speaks {PROTOCOL}")]
    Protocol { found: u32 },
    #[error("the agent sent a {0}")]
    Unexpected(String),
    #[error("the agent sent a frame that is none: {0}")]
    Frame(#[from] FrameError),
    #[error("it has not done within {0} s what it was asked (--op-timeout)")]
    OpTimeout(u64),
    #[error("the agent floods us with what it is doing")]
    Flood,
    #[error("it was not restarted within {0} s")]
    NotRestarted(u64),
    #[error("the agent is gone{0}")]
    Gone(String),
    #[error("{msg}")]
    Failed { msg: String, hint: Option<String> },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("the bundle arrived damaged: {0}")]
    Stream(String),
}

impl AgentError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Transport(error) => error.hint(),
            Self::BecomeNeedsPassword(BecomeMethod::Doas) => Some(
                "doas reads a password from a terminal only: put `permit nopass` into doas.conf".to_owned(),
            ),
            Self::BecomeNeedsPassword(_) => {
                Some("use --ask-become-pass or --become-password-file".to_owned())
            }
            Self::SudoNeedsTerminal => {
                Some("put `Defaults:USER !requiretty` into sudoers on that host".to_owned())
            }
            Self::BecomeMissing(_) => Some(
                "install it there; in a container, log in as root instead: ansible_become: false, ansible_user: root"
                    .to_owned(),
            ),
            Self::Failed { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    /// Whether it may be another thing in a moment, on a host that is being restarted.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::Transport(_) | Self::Gone(_) | Self::Bootstrap(_))
    }

    /// Whether the bootstrap had found the agent, which was gone when it was to be started.
    pub(crate) fn is_of_an_agent_taken_away(&self) -> bool {
        matches!(self, Self::Bootstrap(words) if tells_of_a_gone_agent(words))
    }

    /// Ansible's word for it: the host could not be reached, or it was and something failed there.
    pub(crate) const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Transport(_))
    }
}

/// A running agent.
pub(crate) struct RemoteAgent {
    channel: Channel,
    decoder: Decoder,
    stderr: Vec<u8>,
    exit: Option<u32>,
    steps: Steps,
    /// When the agent heard of us last.
    spoke: Instant,
}

/// What the bootstrap may need.
pub(crate) struct Provisions<'a> {
    pub(crate) agents: &'a AgentBinaries,
    pub(crate) user: &'a str,
    pub(crate) r#become: Option<BecomeBy<'a>>,
    pub(crate) become_password: Option<&'a str>,
}

impl RemoteAgent {
    /// Brings the agent up behind a channel that runs the bootstrap. A host that says much and does nothing is
    /// waited for no longer than one that says nothing, and than an upload over a slow line takes.
    pub(crate) async fn start(channel: Channel, provisions: &Provisions<'_>) -> Result<Self, AgentError> {
        let most = channel.idle() + SLOW_UPLOAD;
        tokio::time::timeout(most, Self::start_slowly(channel, provisions))
            .await
            .unwrap_or_else(|_| Err(AgentError::Start(most.as_secs())))
    }

    async fn start_slowly(channel: Channel, provisions: &Provisions<'_>) -> Result<Self, AgentError> {
        let mut agent = Self {
            channel,
            decoder: Decoder::default(),
            stderr: Vec::new(),
            exit: None,
            steps: Steps::default(),
            spoke: Instant::now(),
        };
        let mut noise = Vec::new();
        loop {
            match next_handshake(&mut noise) {
                Some(Handshake::Need(machine)) => agent.upload(&machine, provisions.agents).await?,
                Some(Handshake::Run) => break,
                Some(Handshake::Error(reason)) => return Err(AgentError::Bootstrap(reason)),
                None if noise.len() > MAX_NOISE => {
                    return Err(AgentError::Bootstrap("its login shell prints too much".to_owned()));
                }
                None => match agent.channel.next().await? {
                    ChannelEvent::Stdout(bytes) => noise.extend(bytes),
                    ChannelEvent::Stderr(bytes) => agent.keep_stderr(&bytes),
                    ChannelEvent::Exit(code) => agent.exit = Some(code),
                    ChannelEvent::Closed => {
                        // What keeps people out, such as nologin, says so on stdout.
                        agent.keep_stderr(&noise);
                        return Err(AgentError::Bootstrap(agent.last_words()));
                    }
                },
            }
        }
        agent.decoder.push(&noise);
        let hello = agent.await_hello(provisions).await?;
        if hello.protocol != PROTOCOL {
            return Err(AgentError::Protocol { found: hello.protocol });
        }
        Ok(agent)
    }

    async fn upload(&mut self, machine: &str, agents: &AgentBinaries) -> Result<(), AgentError> {
        let Some(binary) = agents.for_machine(machine) else {
            return Err(AgentError::Bootstrap(format!("there is no agent for {machine}")));
        };
        for part in binary.bytes.chunks(MAX_DATA) {
            self.channel.send(part.to_vec()).await?;
        }
        Ok(())
    }

    /// Waits for the agent's first frame, and gives a password when and only when it is asked for.
    async fn await_hello(&mut self, provisions: &Provisions<'_>) -> Result<Hello, AgentError> {
        let mut prompts = 0;
        let asks = provisions.r#become.and_then(|by| Some((by.method, by.method.prompt()?)));
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return expect(Kind::Hello, &frame);
            }
            // It may have been asked for before the bootstrap's last word: stderr has a way of its own.
            if let Some((method, prompt)) = asks {
                let asked = String::from_utf8_lossy(&self.stderr).matches(prompt).count();
                if asked > prompts {
                    prompts = asked;
                    match provisions.become_password {
                        Some(password) if prompts == 1 => {
                            self.channel.send(format!("{password}\n").into_bytes()).await?;
                        }
                        Some(_) => return Err(AgentError::BecomePassword(method)),
                        None => return Err(AgentError::BecomeNeedsPassword(method)),
                    }
                }
            }
            match self.channel.next().await? {
                ChannelEvent::Stdout(bytes) => self.decoder.push(&bytes),
                ChannelEvent::Stderr(bytes) => self.keep_stderr(&bytes),
                ChannelEvent::Exit(code) => self.exit = Some(code),
                ChannelEvent::Closed => return Err(self.why_no_agent(provisions)),
            }
        }
    }

    fn why_no_agent(&self, provisions: &Provisions<'_>) -> AgentError {
        let words = self.last_words();
        let Some(by) = provisions.r#become else { return AgentError::Bootstrap(words) };
        let says = |any: &[&str]| any.iter().any(|one| words.contains(one));
        let method = by.method;
        if tells_of_a_gone_agent(&words) {
            AgentError::Bootstrap(words)
        } else if says(&["you must have a tty"]) {
            AgentError::SudoNeedsTerminal
        } else if says(&["a password is required", "Authentication required", "Authorization required"]) {
            AgentError::BecomeNeedsPassword(method)
        } else if says(&["incorrect password", "Sorry, try again", "Authentication failure", "incorrect"]) {
            AgentError::BecomePassword(method)
        } else if says(&["not found", "No such file"]) {
            AgentError::BecomeMissing(by.exe.unwrap_or(method.name()).to_owned())
        } else if says(&["not in the sudoers", "may not run sudo", "not allowed", "not permitted", "denied"])
        {
            AgentError::BecomeDenied { method, user: provisions.user.to_owned(), words }
        } else {
            AgentError::Bootstrap(words)
        }
    }

    /// Asks for an op and waits for its outcome; `progress` hears what the agent is doing.
    pub(crate) async fn call(&mut self, op: &Op, progress: &dyn Progressing) -> Result<Outcome, AgentError> {
        self.call_with(op, &[], progress).await
    }

    /// The same for an op that comes with streams: wheels of an install.
    pub(crate) async fn call_with(
        &mut self,
        op: &Op,
        streams: &[Vec<u8>],
        progress: &dyn Progressing,
    ) -> Result<Outcome, AgentError> {
        let most = self.channel.op();
        in_time(most, async {
            self.send_with(op, streams).await?;
            self.await_outcome(progress).await
        })
        .await
    }

    async fn send_with(&mut self, op: &Op, streams: &[Vec<u8>]) -> Result<(), AgentError> {
        self.send_op(op).await?;
        for stream in streams {
            for part in stream.chunks(MAX_DATA) {
                self.send(Kind::Data, part).await?;
            }
            let end = StreamEnd { bytes: stream.len() as u64, sha256: hex(Sha256::digest(stream)) };
            self.send_json(Kind::DataEnd, &end).await?;
        }
        Ok(())
    }

    /// The outcome of the op that the agent is at.
    pub(crate) async fn outcome(&mut self, progress: &dyn Progressing) -> Result<Outcome, AgentError> {
        let most = self.channel.op();
        in_time(most, self.await_outcome(progress)).await
    }

    async fn await_outcome(&mut self, progress: &dyn Progressing) -> Result<Outcome, AgentError> {
        loop {
            let frame = self.frame().await?;
            match frame.kind {
                Kind::Progress => self.steps.report(&frame, progress)?,
                Kind::Outcome => return settled(&frame),
                kind => return Err(AgentError::Unexpected(format!("{kind:?} frame"))),
            }
        }
    }

    /// Asks for an op that answers with a stream. `sink` gets the bytes; the outcome comes only
    /// after the stream was found whole.
    pub(crate) async fn fetch(
        &mut self,
        op: &Op,
        progress: &dyn Progressing,
        sink: &mut (dyn FnMut(&[u8]) -> Result<(), BundleError> + Send),
    ) -> Result<Outcome, AgentError> {
        let most = self.channel.op();
        in_time(most, self.await_stream(op, progress, sink)).await
    }

    async fn await_stream(
        &mut self,
        op: &Op,
        progress: &dyn Progressing,
        sink: &mut (dyn FnMut(&[u8]) -> Result<(), BundleError> + Send),
    ) -> Result<Outcome, AgentError> {
        self.send_op(op).await?;
        let (mut hasher, mut bytes, mut ended) = (Sha256::new(), 0u64, false);
        loop {
            let frame = self.frame().await?;
            match frame.kind {
                Kind::Progress => self.steps.report(&frame, progress)?,
                Kind::Data if !ended => {
                    hasher.update(&frame.payload);
                    bytes += frame.payload.len() as u64;
                    sink(&frame.payload)?;
                }
                Kind::DataEnd if !ended => {
                    let end: StreamEnd = expect(Kind::DataEnd, &frame)?;
                    let found = StreamEnd { bytes, sha256: hex(std::mem::take(&mut hasher).finalize()) };
                    if end != found {
                        return Err(AgentError::Stream(format!(
                            "{bytes} bytes of {} came through",
                            end.bytes
                        )));
                    }
                    ended = true;
                }
                Kind::Outcome => {
                    let outcome = settled(&frame)?;
                    return if ended {
                        Ok(outcome)
                    } else {
                        Err(AgentError::Stream("it has no end".to_owned()))
                    };
                }
                kind => return Err(AgentError::Unexpected(format!("{kind:?} frame"))),
            }
        }
    }

    pub(crate) async fn close(self) {
        self.channel.close().await;
    }

    async fn send_op(&mut self, op: &Op) -> Result<(), AgentError> {
        self.send_json(Kind::Op, op).await
    }

    async fn send_json(
        &mut self,
        kind: Kind,
        message: &(impl serde::Serialize + Sync),
    ) -> Result<(), AgentError> {
        let payload =
            serde_json::to_vec(message).map_err(|error| AgentError::Unexpected(error.to_string()))?;
        self.send(kind, &payload).await
    }

    /// Waits for something else, and lets the agent know meanwhile that it is not forgotten.
    pub(crate) async fn hold<T>(&mut self, work: impl Future<Output = T>) -> Result<T, AgentError> {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(PING_EVERY, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) => self.send(Kind::Ping, &[]).await?,
            }
        }
    }

    async fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), AgentError> {
        self.spoke = Instant::now();
        let mut frame = header(kind, payload.len())?.to_vec();
        frame.extend_from_slice(payload);
        Ok(self.channel.send(frame).await?)
    }

    async fn frame(&mut self) -> Result<Frame, AgentError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            let event = self.channel.next().await?;
            // An agent at work shows it every two seconds.
            if self.spoke.elapsed() >= PING_EVERY {
                self.send(Kind::Ping, &[]).await?;
            }
            match event {
                ChannelEvent::Stdout(bytes) => self.decoder.push(&bytes),
                ChannelEvent::Stderr(bytes) => self.keep_stderr(&bytes),
                ChannelEvent::Exit(code) => self.exit = Some(code),
                ChannelEvent::Closed => return Err(AgentError::Gone(format!(": {}", self.last_words()))),
            }
        }
    }

    fn keep_stderr(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(bytes);
        let surplus = self.stderr.len().saturating_sub(MAX_STDERR);
        self.stderr.drain(..surplus);
    }

    /// The host's last line on stderr, made harmless, or its exit code.
    fn last_words(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.stderr).into_owned();
        for prompt in BecomeMethod::ALL.into_iter().filter_map(BecomeMethod::prompt) {
            text = text.replace(prompt, "");
        }
        // kubectl's own, behind what the command said.
        let is_said =
            |line: &&str| !line.is_empty() && !line.starts_with("command terminated with exit code");
        let line = text.lines().rev().map(str::trim).find(is_said);
        let code = self.exit.map_or("no exit status".to_owned(), |code| format!("exit status {code}"));
        line.map_or(code, |line| line.chars().filter(|c| !c.is_control()).take(300).collect())
    }
}

/// Whether these are a shell's words, or sudo's, on an agent of ours that is not there.
fn tells_of_a_gone_agent(words: &str) -> bool {
    words.contains("/.pulpcov-") && ["not found", "No such file"].iter().any(|gone| words.contains(gone))
}

/// Hears what an agent is doing.
pub(crate) trait Progressing: Sync {
    fn step(&self, step: &str);
}

impl<F: Fn(&str) + Sync> Progressing for F {
    fn step(&self, step: &str) {
        self(step);
    }
}

/// Waits for what an op brings, and no longer than an op may take: signs of life are no end.
async fn in_time<T>(
    most: Duration,
    work: impl Future<Output = Result<T, AgentError>>,
) -> Result<T, AgentError> {
    tokio::time::timeout(most, work).await.unwrap_or_else(|_| Err(AgentError::OpTimeout(most.as_secs())))
}

/// Steps that a host may tell at once, and how many more each second: an agent beats every two seconds, and tells a
/// few dozen steps of its longest op.
const MAX_STEPS: u32 = 500;
const STEPS_PER_SECOND: u32 = 20;

/// How often a host has told what it is doing.
#[derive(Debug, Default)]
struct Steps {
    told: u32,
    since: Option<Instant>,
}

impl Steps {
    /// Tells on what a host is doing. One that says it without end fails.
    fn report(&mut self, frame: &Frame, progress: &dyn Progressing) -> Result<(), AgentError> {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let earned = now.duration_since(since).as_secs().saturating_mul(STEPS_PER_SECOND.into());
        self.told += 1;
        if u64::from(self.told) > u64::from(MAX_STEPS) + earned {
            return Err(AgentError::Flood);
        }
        if let Ok(Progress { step }) = serde_json::from_slice(&frame.payload)
            // An empty step is a heartbeat.
            && !step.is_empty()
        {
            progress.step(&step);
        }
        Ok(())
    }
}

fn settled(frame: &Frame) -> Result<Outcome, AgentError> {
    let outcome: Outcome = expect(Kind::Outcome, frame)?;
    if outcome.failed {
        return Err(AgentError::Failed { msg: outcome.msg, hint: outcome.hint });
    }
    Ok(outcome)
}

fn expect<T: DeserializeOwned>(kind: Kind, frame: &Frame) -> Result<T, AgentError> {
    if frame.kind != kind {
        return Err(AgentError::Unexpected(format!("{:?} frame where a {kind:?} was due", frame.kind)));
    }
    serde_json::from_slice(&frame.payload)
        .map_err(|error| AgentError::Unexpected(format!("{kind:?} that is damaged: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_was_taken_away_is_told_from_a_program_that_is_missing() {
        for words in [
            "pulpcov: 1: exec: /tmp/.pulpcov-0/77f1: not found",
            "sudo: /var/tmp/.pulpcov-1000/77f1: command not found",
            "bash: /tmp/.pulpcov-0/77f1: No such file or directory",
        ] {
            assert!(AgentError::Bootstrap(words.to_owned()).is_of_an_agent_taken_away(), "{words}");
        }
        for words in ["pulpcov: 1: exec: /opt/sudo: not found", "/tmp/.pulpcov-0/77f1: Permission denied"] {
            assert!(!AgentError::Bootstrap(words.to_owned()).is_of_an_agent_taken_away(), "{words}");
        }
    }
}
