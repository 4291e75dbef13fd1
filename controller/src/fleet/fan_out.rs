//! Many hosts at once, each on its own: one that fails never stops the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pulpcov_protocol::op::Op;
use pulpcov_protocol::outcome::Outcome;
use pulpcov_protocol::text::error_chain;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::agent::binary::AgentBinaries;
use crate::agent::bootstrap::{self, BecomeBy};
use crate::agent::client::{AgentError, Progressing, Provisions, RemoteAgent};
use crate::fleet::outcome::{HostStatus, Recap};
use crate::fleet::signals::Signals;
use crate::inventory::{BecomeMethod, Host};
use crate::output::event::{Event, Events, HostResult};
use crate::output::terminal::printable;
use crate::transport::ssh::{KeyRing, Resolver};
use crate::transport::{Endpoint, Limits, TransportError};

/// First pause before a connection is tried again; it doubles each time.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Longest wait for a container that was restarted: the kubelet takes its time where one ends often.
const RETURN: Duration = Duration::from_mins(3);

/// All that reaching the hosts of a run takes.
pub(crate) struct Access {
    pub(crate) ring: KeyRing,
    /// Who logs in where the inventory does not say.
    pub(crate) user: Option<String>,
    /// By the hosts' names.
    pub(crate) endpoints: BTreeMap<String, Arc<Endpoint>>,
    pub(crate) resolver: Resolver,
    pub(crate) agents: AgentBinaries,
    pub(crate) limits: Limits,
    pub(crate) retries: u32,
    /// Password for hosts whose inventory has none.
    pub(crate) become_password: Option<String>,
    /// Become root although the inventory does not say so.
    pub(crate) r#become: bool,
    /// How, where the inventory does not say.
    pub(crate) become_method: BecomeMethod,
}

impl Access {
    /// An agent on `host` that has done `op`. Connection failures are tried again, refusals never.
    pub(crate) async fn ask(
        &self,
        host: &Host,
        op: &Op,
        reporter: &Reporter,
    ) -> Result<(RemoteAgent, Outcome), AgentError> {
        let word = op.to_word();
        let mut agent = self.open(host, word.as_deref()).await?;
        let outcome = match word {
            Some(_) => agent.outcome(reporter).await?,
            None => agent.call(op, reporter).await?,
        };
        Ok((agent, outcome))
    }

    /// The same for a visit of one op.
    pub(crate) async fn ask_once(
        &self,
        host: &Host,
        op: &Op,
        reporter: &Reporter,
    ) -> Result<Outcome, AgentError> {
        let (agent, outcome) = self.ask(host, op, reporter).await?;
        agent.close().await;
        Ok(outcome)
    }

    /// Restarts a host from outside, and asks it `op` once it is there again: what ends may still answer for a while, by
    /// which `is_the_old` knows it, and what begins not yet.
    pub(crate) async fn restart_and_ask(
        &self,
        host: &Host,
        op: &Op,
        reporter: &Reporter,
        is_the_old: impl Fn(&Outcome) -> bool + Sync,
    ) -> Result<Outcome, AgentError> {
        let Some(endpoint) = self.endpoints.get(&host.name) else {
            return Err(AgentError::Unexpected("host that is not of this run".to_owned()));
        };
        reporter.step("restarting the container");
        endpoint.restart(&self.ring, self.limits).await?;
        reporter.step("waiting until it is there again");
        let begin = Instant::now();
        loop {
            let is_late = begin.elapsed() > RETURN;
            match self.ask_once(host, op, reporter).await {
                Ok(outcome) if is_the_old(&outcome) => {
                    if is_late {
                        return Err(AgentError::NotRestarted(RETURN.as_secs()));
                    }
                }
                Err(error) if error.may_pass() && !is_late => {}
                outcome => return outcome,
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// What comes of a way to a host, tried again where that may help.
    pub(super) async fn again<T, R>(&self, mut work: impl FnMut() -> R) -> Result<T, TransportError>
    where
        R: Future<Output = Result<T, TransportError>>,
    {
        let mut pause = RETRY_PAUSE;
        let mut left = self.retries;
        loop {
            match work().await {
                Err(error) if left > 0 && error.is_worth_a_retry() => {
                    left -= 1;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
    }

    /// A running agent that is about to do the op of a word, if any.
    async fn open(&self, host: &Host, first: Option<&str>) -> Result<RemoteAgent, AgentError> {
        let Some(endpoint) = self.endpoints.get(&host.name) else {
            return Err(AgentError::Unexpected("host that is not of this run".to_owned()));
        };
        let become_password = host.r#become.password.as_deref().or(self.become_password.as_deref());
        let by = (self.r#become || host.r#become.wanted).then(|| BecomeBy {
            method: host.r#become.method.unwrap_or(self.become_method),
            exe: host.r#become.exe.as_deref(),
            has_password: become_password.is_some(),
        });
        let command = bootstrap::command(
            self.agents.x86_64.as_ref().map(crate::agent::binary::AgentBinary::offer),
            self.agents.aarch64.as_ref().map(crate::agent::binary::AgentBinary::offer),
            by,
            first,
        );
        let user = endpoint.user();
        let provisions = Provisions { agents: &self.agents, user, r#become: by, become_password };
        let start = async || {
            let channel = self.again(|| endpoint.open(&self.ring, self.limits, &command)).await?;
            RemoteAgent::start(channel, &provisions).await
        };
        match start().await {
            // Another uninstall on that machine has taken the agent away between its finding and its start.
            Err(error) if error.is_of_an_agent_taken_away() => start().await,
            started => started,
        }
    }
}

/// What a host's job brought.
pub(crate) struct JobResult<T> {
    pub(crate) verdict: HostResult,
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

impl Progressing for Reporter {
    fn step(&self, step: &str) {
        // Steps are for the eye: where the screen is behind, they may be lost.
        let _ = self.events.try_send(Event::Step { host: self.host.clone(), step: step.to_owned() });
    }
}

/// Hosts that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaxFail {
    Hosts(usize),
    Percent(u8),
}

impl MaxFail {
    pub(crate) const fn of(self, hosts: usize) -> usize {
        match self {
            Self::Hosts(n) => n,
            Self::Percent(percent) => hosts.saturating_mul(percent as usize) / 100,
        }
    }
}

impl std::str::FromStr for MaxFail {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let bad = || "neither a number of hosts nor a percentage".to_owned();
        match word.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|&percent| percent <= 100).map(Self::Percent).ok_or_else(bad)
            }
            None => word.parse().map(Self::Hosts).map_err(|_| bad()),
        }
    }
}

/// How many hosts at once, and when to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FanOut {
    pub(crate) forks: usize,
    /// Hosts of a batch; the next begins when all of one have ended.
    pub(crate) serial: Option<usize>,
    /// Hosts that may fail before no more are begun.
    pub(crate) max_fail: Option<usize>,
}

/// Runs `job` on every host, in the order of `hosts`.
///
/// # Cancel safety
/// The first Ctrl-C, SIGTERM, or a terminal that is closed, starts no new host and lets the running ones end; the second
/// drops them.
pub(crate) async fn run<T, F, R>(hosts: Vec<Host>, fan_out: FanOut, events: &Events, job: F) -> Recap<T>
where
    T: Send + 'static,
    F: Fn(Arc<Host>, Reporter) -> R + Clone + Send + 'static,
    R: Future<Output = Result<JobResult<T>, AgentError>> + Send,
{
    let addresses: BTreeMap<String, String> =
        hosts.iter().map(|host| (host.name.clone(), host.address.clone())).collect();
    let mut waiting: VecDeque<Host> = hosts.into();
    let mut queue =
        Queue { fan_out, left_of_batch: fan_out.serial.unwrap_or(usize::MAX), bad: 0, stop: None };
    let mut running = JoinSet::new();
    let mut statuses = BTreeMap::new();
    // Before any host begins: none may be cut off by what comes in between.
    let mut signals = Signals::listen(&[Signal::INT, Signal::TERM, Signal::HUP]).ok();
    let mut interrupts = 0;
    loop {
        while queue.takes_one(running.len())
            && let Some(host) = waiting.pop_front()
        {
            queue.left_of_batch -= 1;
            let (events, job) = (events.clone(), job.clone());
            running.spawn(async move {
                let name = host.name.clone();
                let status = run_one(Arc::new(host), &events, job).await;
                (name, status)
            });
        }
        if running.is_empty() {
            if waiting.is_empty() || queue.stop.is_some() {
                break;
            }
            queue.next_batch();
            continue;
        }
        tokio::select! {
            // None: there are some. An error: a panic in a job, or a drop after the second Ctrl-C, which is
            // filled in below.
            next = running.join_next() => if let Some(Ok((name, status))) = next {
                queue.count(status.verdict);
                statuses.insert(name, status);
            },
            () = interruption(&mut signals) => {
                interrupts += 1;
                queue.stop = Some("interrupted before it began".to_owned());
                if interrupts > 1 {
                    running.abort_all();
                } else {
                    let text = "interrupted: running hosts may end; once more drops them".to_owned();
                    let _ = events.try_send(Event::Warning { host: None, text });
                }
            }
        }
    }
    let reason = queue.stop.unwrap_or_default();
    statuses.extend(waiting.into_iter().map(|host| {
        (
            host.name,
            HostStatus { verdict: HostResult::NotStarted, msg: reason.clone(), ..HostStatus::default() },
        )
    }));
    for (name, address) in addresses {
        let msg = if interrupts > 1 { "dropped in the middle" } else { "internal error" };
        let status = statuses.entry(name).or_insert_with(|| HostStatus {
            verdict: HostResult::Failed,
            msg: msg.to_owned(),
            ..HostStatus::default()
        });
        status.address = address;
    }
    Recap(statuses)
}

/// Where signals cannot be listened to, none comes.
async fn interruption(signals: &mut Option<Signals>) {
    match signals {
        Some(signals) => {
            signals.next().await;
        }
        None => std::future::pending().await,
    }
}

/// Decides whether another host may begin.
struct Queue {
    fan_out: FanOut,
    left_of_batch: usize,
    bad: usize,
    /// Why no more hosts are begun.
    stop: Option<String>,
}

impl Queue {
    fn takes_one(&self, running: usize) -> bool {
        self.stop.is_none() && self.left_of_batch > 0 && running < self.fan_out.forks.max(1)
    }

    fn next_batch(&mut self) {
        self.left_of_batch = self.fan_out.serial.unwrap_or(usize::MAX);
    }

    fn count(&mut self, verdict: HostResult) {
        self.bad += usize::from(verdict.is_bad());
        if self.stop.is_none() && self.fan_out.max_fail.is_some_and(|max| self.bad > max) {
            self.stop = Some(format!("{} had failed before it began (--max-fail)", self.bad));
        }
    }
}

async fn run_one<T, F, R>(host: Arc<Host>, events: &Events, job: F) -> HostStatus<T>
where
    F: Fn(Arc<Host>, Reporter) -> R,
    R: Future<Output = Result<JobResult<T>, AgentError>>,
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
            HostStatus {
                verdict: done.verdict,
                msg: done.msg,
                data: Some(done.data),
                ..HostStatus::default()
            }
        }
        Err(error) => HostStatus {
            verdict: if error.is_unreachable() { HostResult::Unreachable } else { HostResult::Failed },
            msg: printable(&error_chain(&error)),
            hint: error.hint().map(|hint| printable(&hint)),
            ..HostStatus::default()
        },
    };
    let _ = events
        .send(Event::HostFinished {
            host: name,
            result: status.verdict,
            changed: status.verdict == HostResult::Changed,
            msg: status.msg.clone(),
            hint: status.hint.clone(),
            took: began.elapsed(),
        })
        .await;
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_may_fail() {
        let of = |word: &str, hosts| word.parse::<MaxFail>().map(|max| max.of(hosts));
        assert_eq!((of("0", 9), of("3", 9), of("10%", 50), of("10%", 9)), (Ok(0), Ok(3), Ok(5), Ok(0)));
        for bad in ["", "%", "-1", "101%", "x", "1.5"] {
            assert!(of(bad, 1).is_err(), "{bad}");
        }
    }
}
