//! A child whose stdin and stdout lead to a host: OpenSSH's client, a container engine, a shell of this machine.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

use crate::output::terminal::printable;
use crate::transport::askpass::{Asked, Askpass};
use crate::transport::client_files::{ClientFiles, ClientOptions};
use crate::transport::container::Restart;
use crate::transport::{ChannelEvent, Limits};

/// Bytes that are read at once.
const READ: usize = 64 * 1024;

/// Bytes of stderr that are kept for an error message.
const MAX_WORDS: usize = 4096;

/// How long a child may take to leave once its stdin has ended.
const GRACE: Duration = Duration::from_secs(2);

/// Exit code of ssh for what is its own failure and not its command's.
const SSH_FAILED: i32 = 255;

/// What it means where the child ends before the host has said a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Its command ran and ended so.
    AsItsCommand,
    /// With ssh's own exit code, the host was not reached; with others, its command ended so.
    AsSsh,
    /// The host was not reached: a container that is not there, an engine that does not run.
    BeforeTheHost,
}

/// How to start the child.
#[derive(Clone)]
pub(crate) struct Program {
    words: Vec<String>,
    /// Of OpenSSH's client.
    client: Option<ClientOptions>,
    ends: Ends,
    user: Option<String>,
    /// Where it is started, where that is not where we are.
    folder: Option<&'static str>,
    env: BTreeMap<String, String>,
    /// A file that its words name.
    file: Option<Arc<NamedTempFile>>,
    restart: Option<Arc<Restart>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("cannot run {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("no folder for what ssh needs: {0}")]
    Files(io::Error),
    #[error("no answer by {program} within {seconds} s{}", said(.notice.as_deref()))]
    NoAnswer { program: String, seconds: u64, notice: Option<String> },
    #[error("{program}: {words}")]
    Unreachable { program: String, words: String },
    #[error("{program}: permission denied: {words}")]
    Denied { program: String, words: String },
    #[error("{program}: the host's key does not count: {words}")]
    HostKey { program: String, words: String },
    #[error("{program}: nobody is there to answer {question:?}")]
    Asked { program: String, question: String },
    #[error("{program} cannot restart it: {words}")]
    Restart { program: String, words: String },
    #[error("{program} restarts nothing")]
    NoRestart { program: String },
    #[error("connection lost: {program}: {source}")]
    Lost { program: String, source: io::Error },
}

impl ProcessError {
    /// Whether a new try may help, and can do no harm.
    pub(crate) const fn is_worth_a_retry(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoAnswer { .. })
    }

    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Start { program, source } if source.kind() == io::ErrorKind::NotFound => {
                Some(format!("install {program}, or name it with its folder"))
            }
            Self::Denied { program, .. } => Some(format!(
                "log in by {program} yourself first: set ansible_user and its key or password, load the key into ssh-agent, or get a Kerberos ticket"
            )),
            Self::Start { source, .. } | Self::Files(source) if is_out_of_files(source) => {
                Some("allow more open files (ulimit -n), or go to fewer hosts at once (--forks)".to_owned())
            }
            Self::Files(_) => Some("set TMPDIR to a folder that can be written".to_owned()),
            Self::Asked { .. } => Some(
                "what is asked for is no password of the host's: let it be logged in to by a key, or by --ssh own"
                    .to_owned(),
            ),
            Self::HostKey { .. } => Some(
                "check the host's fingerprint, then add it to known_hosts; or use --host-key accept-new"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Of ssh's last words.
    fn of_ssh(program: String, words: String) -> Self {
        let says = |any: &[&str]| any.iter().any(|one| words.contains(one));
        if says(&["Host key verification failed", "IDENTIFICATION HAS CHANGED", "REVOKED HOST KEY"]) {
            Self::HostKey { program, words }
        } else if says(&["Permission denied", "Too many authentication failures", "No more authentication"]) {
            Self::Denied { program, words }
        } else {
            Self::Unreachable { program, words }
        }
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::MFILE)
}

fn said(notice: Option<&str>) -> String {
    notice.map_or_else(String::new, |notice| format!("; it waits for: {notice}"))
}

impl Program {
    /// The shell command comes behind `words`, as one word.
    pub(crate) const fn new(words: Vec<String>, ends: Ends) -> Self {
        Self {
            words,
            client: None,
            ends,
            user: None,
            folder: None,
            env: BTreeMap::new(),
            file: None,
            restart: None,
        }
    }

    #[must_use]
    pub(super) fn with_client(mut self, client: ClientOptions) -> Self {
        self.client = Some(client);
        self
    }

    #[must_use]
    pub(crate) fn of_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    #[must_use]
    pub(crate) fn in_folder(mut self, folder: &'static str) -> Self {
        self.folder = Some(folder);
        self
    }

    /// More for its environment.
    #[must_use]
    pub(crate) fn with_env(mut self, env: &BTreeMap<String, String>) -> Self {
        self.env.clone_from(env);
        self
    }

    /// Holds a file that its words name.
    #[must_use]
    pub(crate) fn keeping(mut self, file: Option<Arc<NamedTempFile>>) -> Self {
        self.file = file;
        self
    }

    #[must_use]
    pub(super) fn restarted_by(mut self, restart: Restart) -> Self {
        self.restart = Some(Arc::new(restart));
        self
    }

    /// Restarts what is at the other end, all of it.
    pub(crate) async fn restart(&self) -> Result<(), ProcessError> {
        let (mut words, last) = match self.restart.as_deref() {
            Some(Restart::Words(words)) => (words.clone(), None),
            Some(Restart::Within(command)) => (self.words.clone(), Some(*command)),
            None => return Err(ProcessError::NoRestart { program: self.name() }),
        };
        words.extend(last.map(str::to_owned));
        let failed = |source: io::Error| ProcessError::Start { program: self.name(), source };
        let (program, rest) = words.split_first().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let output = Command::new(program)
            .args(rest)
            .envs(&self.env)
            .stdin(Stdio::null())
            // Neither an interrupt at the terminal nor our own end comes between its stop and its start.
            .process_group(0)
            .output()
            .await
            .map_err(failed)?;
        // What ends the first process may end with it.
        if output.status.success() || last.is_some() {
            return Ok(());
        }
        let words = printable(String::from_utf8_lossy(&output.stderr).trim());
        Err(ProcessError::Restart { program: self.name(), words })
    }

    #[cfg(test)]
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    /// Who is logged in at the other end.
    pub(crate) fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("its user")
    }

    fn name(&self) -> String {
        let first = self.words.first().map(String::as_str).unwrap_or_default();
        first.rsplit('/').next().unwrap_or(first).to_owned()
    }

    /// Starts the child with a shell command.
    pub(crate) fn start(&self, command: &str, limits: Limits) -> Result<Channel, ProcessError> {
        let failed = |source: io::Error| ProcessError::Start { program: self.name(), source };
        let mut words = self.words.iter();
        let program = words.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let mut command_line = Command::new(program);
        if let Some(folder) = self.folder {
            command_line.current_dir(folder);
        }
        let files = self.client.as_ref().map(ClientFiles::make).transpose().map_err(ProcessError::Files)?;
        if let Some(files) = &files {
            command_line.args(files.words());
            command_line.envs(files.askpass.iter().flat_map(Askpass::env));
        }
        let mut child = command_line
            .envs(&self.env)
            .args(words)
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // An interrupt at the terminal is for us: what runs may end.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let gone = || failed(io::Error::other("it has no stdin, stdout and stderr"));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Ok(Channel {
            stdin: Some(stdin.ok_or_else(gone)?),
            stdout: Some(stdout.ok_or_else(gone)?),
            stderr: Some(stderr.ok_or_else(gone)?),
            child,
            files,
            notice: None,
            program: self.name(),
            ends: self.ends,
            patience: limits.connect + limits.auth,
            answer: Some(Instant::now() + limits.connect + limits.auth),
            words: Vec::new(),
            coming: VecDeque::new(),
        })
    }
}

/// A child, and what comes from it.
pub(crate) struct Channel {
    child: Child,
    /// Of OpenSSH's client: among them who answers what it asks.
    files: Option<ClientFiles>,
    /// What it waits for a person to do.
    notice: Option<String>,
    stdin: Option<ChildStdin>,
    /// Until it ends.
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    program: String,
    ends: Ends,
    patience: Duration,
    /// Until when the host must have said its first word, as long as it has not.
    answer: Option<Instant>,
    /// The last of stderr, before that word.
    words: Vec<u8>,
    coming: VecDeque<ChannelEvent>,
}

impl Channel {
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), ProcessError> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        let sent = async {
            stdin.write_all(bytes).await?;
            stdin.flush().await
        };
        match sent.await {
            Ok(()) => Ok(()),
            // Why it does not listen any more is told by what comes from it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.stdin = None;
                Ok(())
            }
            Err(source) => Err(ProcessError::Lost { program: self.program.clone(), source }),
        }
    }

    pub(crate) async fn next(&mut self) -> Result<ChannelEvent, ProcessError> {
        if let Some(event) = self.coming.pop_front() {
            return Ok(event);
        }
        let Some(answer) = self.answer else { return self.read().await };
        match timeout_at(answer, self.read()).await {
            Ok(event) => event,
            Err(_) => Err(ProcessError::NoAnswer {
                program: self.program.clone(),
                seconds: self.patience.as_secs(),
                notice: self.notice.clone(),
            }),
        }
    }

    async fn read(&mut self) -> Result<ChannelEvent, ProcessError> {
        let lost = |source| ProcessError::Lost { program: self.program.clone(), source };
        let (mut out, mut err) = (Vec::with_capacity(READ), Vec::with_capacity(READ));
        while self.stdout.is_some() || self.stderr.is_some() {
            tokio::select! {
                read = read_some(&mut self.stdout, &mut out) => {
                    if read.map_err(lost)? > 0 {
                        self.answer = None;
                        return Ok(ChannelEvent::Stdout(out));
                    }
                    self.stdout = None;
                }
                read = read_some(&mut self.stderr, &mut err) => {
                    if read.map_err(lost)? > 0 {
                        self.keep_words(&err);
                        return Ok(ChannelEvent::Stderr(err));
                    }
                    self.stderr = None;
                }
                asked = asked(&mut self.files) => match asked {
                    Asked::Notice(text) => self.notice = Some(printable(&text)),
                    Asked::Refused(question) => return Err(self.refuse(&question)),
                },
            }
        }
        let status = self.child.wait().await.map_err(lost)?;
        let code = status.code();
        let was_reached = self.answer.is_none()
            || match self.ends {
                Ends::AsItsCommand => true,
                Ends::AsSsh => code != Some(SSH_FAILED) && code.is_some(),
                Ends::BeforeTheHost => false,
            };
        if !was_reached {
            return Err(self.not_reached(code));
        }
        self.answer = None;
        self.coming.push_back(ChannelEvent::Closed);
        Ok(match code.and_then(|code| u32::try_from(code).ok()) {
            Some(code) => ChannelEvent::Exit(code),
            None => ChannelEvent::Closed,
        })
    }

    /// Ends a child that asks for what it cannot have, before it tries something else.
    fn refuse(&self, question: &str) -> ProcessError {
        self.kill_all();
        ProcessError::Asked { program: self.program.clone(), question: printable(question) }
    }

    /// Ends the child and those that it has started: a jump host's ssh is its own child, and so is what a script runs.
    fn kill_all(&self) {
        // An agent of this machine ends well when its stdin does.
        let leads_away = self.ends != Ends::AsItsCommand;
        if let Some(group) =
            self.child.id().filter(|_| leads_away).and_then(|id| Pid::from_raw(id.cast_signed()))
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn keep_words(&mut self, bytes: &[u8]) {
        if self.answer.is_some() {
            self.words.extend_from_slice(bytes);
            let surplus = self.words.len().saturating_sub(MAX_WORDS);
            self.words.drain(..surplus);
        }
    }

    /// Why, in the child's own words.
    fn not_reached(&self, code: Option<i32>) -> ProcessError {
        let text = String::from_utf8_lossy(&self.words);
        // ssh begins its lines with its own name, and so do we.
        let own = format!("{}: ", self.program);
        let bare = |line| str::strip_prefix(line, &own).unwrap_or(line);
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(bare).collect();
        let words = if lines.is_empty() {
            code.map_or("it was killed".to_owned(), |code| format!("it ended with {code} and said nothing"))
        } else {
            printable(&lines.join("; "))
        };
        match self.ends {
            Ends::AsSsh => ProcessError::of_ssh(self.program.clone(), words),
            _ => ProcessError::Unreachable { program: self.program.clone(), words },
        }
    }

    /// Ends stdin and waits for the child to leave; one that does not is killed.
    pub(crate) async fn close(mut self) {
        self.stdin = None;
        let mut rest = Vec::new();
        let left = async {
            // A child that still has something to say must not wait for a reader.
            while matches!(read_some(&mut self.stdout, &mut rest).await, Ok(1..)) {
                rest.clear();
            }
            let _ = self.child.wait().await;
        };
        let _ = timeout(GRACE, left).await;
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.kill_all();
    }
}

async fn asked(files: &mut Option<ClientFiles>) -> Asked {
    match files.as_mut().and_then(|files| files.askpass.as_mut()) {
        Some(askpass) => askpass.asked().await,
        None => std::future::pending().await,
    }
}

/// Reads what there is; nothing ever comes of a stream that has ended.
async fn read_some(
    stream: &mut Option<impl tokio::io::AsyncRead + Unpin>,
    buffer: &mut Vec<u8>,
) -> io::Result<usize> {
    match stream {
        Some(stream) => stream.read_buf(buffer).await,
        None => std::future::pending().await,
    }
}
