//! Many hosts at once, each on its own: one that fails never stops the others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pulpcov_protocol::text::error_chain;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::agent_binary::AgentBinaries;
use crate::bootstrap::{self, BecomeBy};
use crate::event::{Event, Events};
use crate::inventory::Host;
use crate::recap::{HostStatus, Recap, Verdict};
use crate::remote_agent::{AgentError, Provisions, RemoteAgent};
use crate::ssh::known_hosts::KnownHost;
use crate::ssh::{self, KeyRing, Limits, Target};

/// First pause before a connection is tried again; it doubles each time.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// All that reaching a host takes, the same for every host of a run.
pub(crate) struct Access {
    pub(crate) ring: KeyRing,
    pub(crate) known: Arc<Vec<KnownHost>>,
    pub(crate) agents: AgentBinaries,
    pub(crate) limits: Limits,
    pub(crate) retries: u32,
    /// User for hosts whose inventory names none.
    pub(crate) user: String,
    pub(crate) private_key: Option<PathBuf>,
    /// sudo password for hosts whose inventory has none.
    pub(crate) sudo_password: Option<String>,
    /// Become root although the inventory does not say so.
    pub(crate) r#become: bool,
}

impl Access {
    /// A running agent on `host`. Connection failures are tried again, refusals never.
    pub(crate) async fn open(&self, host: &Host) -> Result<RemoteAgent, AgentError> {
        let wants_sudo = self.r#become || host.r#become.is_some();
        let own_password = host.r#become.as_ref().and_then(|by| by.password.as_deref());
        let sudo_password = own_password.or(self.sudo_password.as_deref());
        let user = host.user.as_deref().unwrap_or(&self.user);
        let by = match (wants_sudo, sudo_password) {
            (false, _) => BecomeBy::Nothing,
            (true, None) => BecomeBy::SudoWithoutPassword,
            (true, Some(_)) => BecomeBy::SudoWithPassword,
        };
        let command = bootstrap::command(
            self.agents.x86_64.as_ref().map(crate::agent_binary::AgentBinary::offer),
            self.agents.aarch64.as_ref().map(crate::agent_binary::AgentBinary::offer),
            by,
        );
        let target = Target {
            address: &host.address,
            port: host.port,
            user,
            private_key: host.private_key.as_deref().or(self.private_key.as_deref()),
            password: host.password.as_deref(),
        };
        let mut pause = RETRY_PAUSE;
        let mut left = self.retries;
        let channel = loop {
            match ssh::connect(&target, &self.ring, &self.known, self.limits, &command).await {
                Ok(channel) => break channel,
                Err(error) if left > 0 && error.is_worth_a_retry() => {
                    left -= 1;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(error.into()),
            }
        };
        RemoteAgent::start(channel, &Provisions { agents: &self.agents, user, sudo_password }).await
    }
}

/// What a host's job brought.
pub(crate) struct Done<T> {
    pub(crate) changed: bool,
    pub(crate) msg: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) data: T,
}

/// Tells what a host is doing.
#[derive(Clone)]
pub(crate) struct Reporter {
    host: String,
    events: Events,
}

impl crate::remote_agent::Progressing for Reporter {
    fn step(&self, step: &str) {
        // Steps are for the eye: where the screen is behind, they may be lost.
        let _ = self.events.try_send(Event::Step { host: self.host.clone(), step: step.to_owned() });
    }
}

/// Runs `job` on every host, at most `forks` at a time, in the order of `hosts`.
///
/// # Cancel safety
/// The first Ctrl-C starts no new host and lets the running ones end; the second drops them.
pub(crate) async fn run<T, F, R>(hosts: Vec<Host>, forks: usize, events: &Events, job: F) -> Recap<T>
where
    T: Send + 'static,
    F: Fn(Arc<Host>, Reporter) -> R + Clone + Send + 'static,
    R: Future<Output = Result<Done<T>, AgentError>> + Send,
{
    let slots = Arc::new(Semaphore::new(forks.max(1)));
    let stopping = Arc::new(AtomicBool::new(false));
    let names: Vec<String> = hosts.iter().map(|host| host.name.clone()).collect();
    let mut running = JoinSet::new();
    for host in hosts {
        let (slots, stopping, events, job) =
            (Arc::clone(&slots), Arc::clone(&stopping), events.clone(), job.clone());
        running.spawn(async move {
            let name = host.name.clone();
            let _slot = slots.acquire_owned().await;
            if stopping.load(Ordering::Relaxed) {
                return (name, not_started());
            }
            let status = run_one(Arc::new(host), &events, job).await;
            (name, status)
        });
    }
    let mut statuses = BTreeMap::new();
    let mut interrupts = 0;
    loop {
        tokio::select! {
            next = running.join_next() => match next {
                None => break,
                Some(Ok((name, status))) => {
                    statuses.insert(name, status);
                }
                // A panic in a job, or a drop after the second Ctrl-C: filled in below.
                Some(Err(_)) => {}
            },
            _ = tokio::signal::ctrl_c() => {
                interrupts += 1;
                stopping.store(true, Ordering::Relaxed);
                if interrupts > 1 {
                    running.abort_all();
                } else {
                    let text = "interrupted: running hosts may end; once more drops them".to_owned();
                    let _ = events.try_send(Event::Warning { host: None, text });
                }
            }
        }
    }
    for name in names {
        statuses.entry(name).or_insert_with(|| HostStatus {
            verdict: Verdict::Failed,
            msg: if interrupts > 1 { "dropped in the middle" } else { "internal error" }.to_owned(),
            hint: None,
            data: None,
        });
    }
    Recap(statuses)
}

fn not_started<T>() -> HostStatus<T> {
    HostStatus {
        verdict: Verdict::NotStarted,
        msg: "interrupted before it began".to_owned(),
        hint: None,
        data: None,
    }
}

async fn run_one<T, F, R>(host: Arc<Host>, events: &Events, job: F) -> HostStatus<T>
where
    F: Fn(Arc<Host>, Reporter) -> R,
    R: Future<Output = Result<Done<T>, AgentError>>,
{
    let name = host.name.clone();
    let began = Instant::now();
    // If the screen is gone, the run is not: a closed channel is no error.
    let _ = events.send(Event::HostStarted { host: name.clone() }).await;
    let reporter = Reporter { host: name.clone(), events: events.clone() };
    let status = match job(host, reporter).await {
        Ok(done) => {
            for text in done.warnings {
                let _ = events.send(Event::Warning { host: Some(name.clone()), text }).await;
            }
            let verdict = if done.changed { Verdict::Changed } else { Verdict::Ok };
            HostStatus { verdict, msg: done.msg, hint: None, data: Some(done.data) }
        }
        Err(error) => HostStatus {
            verdict: if error.is_unreachable() { Verdict::Unreachable } else { Verdict::Failed },
            msg: printable(&error_chain(&error)),
            hint: error.hint().map(|hint| printable(&hint)),
            data: None,
        },
    };
    let _ = events
        .send(Event::HostFinished {
            host: name,
            result: status.verdict,
            changed: status.verdict == Verdict::Changed,
            msg: status.msg.clone(),
            hint: status.hint.clone(),
            took: began.elapsed(),
        })
        .await;
    status
}

/// A host's words on our terminal: no control characters, not without end.
pub(crate) fn printable(text: &str) -> String {
    // Marks that turn the direction of writing would show one thing and mean another.
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if harmful(c) { ' ' } else { c }).take(1000).collect()
}
