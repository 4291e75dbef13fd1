//! Who brings what: each source and each analysis is fetched from one host of the fleet only.
//!
//! A host that fails, or that lets others wait for too long, releases what it had reserved; hosts that relied on them are
//! still connected and bring the rest. Nobody waits before its own work is done, so nobody waits in a circle.
//!
//! Some hosts are also asked for analyses that another one brings: one that lies about a source is found out by whoever
//! has the same one. Which analyses these are no host can tell beforehand.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use pulpcov_protocol::bundle::EntryPath;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Longest wait for what another host has reserved; then whoever waits brings it itself.
const PATIENCE: Duration = Duration::from_mins(5);

/// Of so many hosts one is asked for what others bring too, but one of each run at least.
const HOSTS_PER_CHECKER: usize = 10;

/// Such a host is asked for one of so many analyses, but for some at least: most of what a few cost is their Python's start.
const ANALYSES_PER_CHECK: usize = 5;
const LEAST_CHECKS: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Reserved,
    Stored,
}

/// What a host brings or has brought, and since when.
struct Reservation {
    progress: Progress,
    by: String,
    since: Instant,
}

impl Reservation {
    fn by_host(host: &str) -> Self {
        Self { progress: Progress::Reserved, by: host.to_owned(), since: Instant::now() }
    }
}

#[derive(Default)]
struct State {
    reservations: BTreeMap<String, Reservation>,
    /// Analyses that two hosts are asked for.
    checked: BTreeMap<String, String>,
    /// Hosts that had something to list.
    hosts: usize,
    checkers: usize,
}

#[derive(Default)]
pub(crate) struct FetchOnce {
    state: Mutex<State>,
    changed: Notify,
    /// Decides what is checked; nobody else knows it.
    secret: [u8; 16],
}

impl FetchOnce {
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)?;
        Ok(Self { secret, ..Self::default() })
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Reserves those of `keys` that nobody has reserved or brought; returns them.
    pub(crate) fn reserve(&self, host: &str, keys: impl IntoIterator<Item = String>) -> Vec<String> {
        self.with(|state| {
            let mut mine = Vec::new();
            for key in keys {
                if !state.reservations.contains_key(&key) {
                    state.reservations.insert(key.clone(), Reservation::by_host(host));
                    mine.push(key);
                }
            }
            mine
        })
    }

    /// Analyses among `keys` that another host brings, and that `host` is asked for besides; none where others are
    /// asked already.
    pub(crate) fn check(&self, host: &str, keys: &[String]) -> Vec<String> {
        self.with(|state| {
            state.hosts += usize::from(!keys.is_empty());
            let may_check = |key: &&String| {
                let of_another =
                    state.reservations.get(*key).is_some_and(|one| one.by != host && !one.by.is_empty());
                of_another && !state.checked.contains_key(*key) && is_analysis(key)
            };
            let mut others: Vec<&String> = keys.iter().filter(may_check).collect();
            if others.is_empty() || state.checkers > state.hosts / HOSTS_PER_CHECKER {
                return Vec::new();
            }
            others.sort_by_cached_key(|key| {
                Sha256::new().chain_update(self.secret).chain_update(key).finalize()
            });
            others.truncate(others.len().div_ceil(ANALYSES_PER_CHECK).max(LEAST_CHECKS));
            let chosen: Vec<String> = others.into_iter().cloned().collect();
            state.checkers += 1;
            state.checked.extend(chosen.iter().map(|key| (key.clone(), host.to_owned())));
            chosen
        })
    }

    /// What `host` has brought, and is safely stored.
    pub(crate) fn keep(&self, host: &str, keys: impl IntoIterator<Item = String>) {
        self.with(|state| {
            for key in keys {
                let first = |one: &Reservation| one.progress == Progress::Stored && one.by != host;
                if !state.reservations.get(&key).is_some_and(first) {
                    state.reservations.insert(
                        key,
                        Reservation { progress: Progress::Stored, ..Reservation::by_host(host) },
                    );
                }
            }
        });
        self.changed.notify_waiters();
    }

    /// Releases what `host` reserved and did not bring once the guard is dropped: also where its job panics
    /// or is dropped itself.
    pub(crate) fn guard<'a>(&'a self, host: &'a str) -> ReleaseGuard<'a> {
        ReleaseGuard { fetch_once: self, host }
    }

    /// Releases all that `host` reserved and did not bring.
    fn release(&self, host: &str) {
        self.with(|state| {
            state.reservations.retain(|_, one| one.progress == Progress::Stored || one.by != host);
        });
        self.changed.notify_waiters();
    }

    /// Takes over those of `keys` that others reserved too long ago and did not bring; or tells when the next of them
    /// will be late.
    fn take_over(&self, host: &str, keys: &[String]) -> Result<Vec<String>, Instant> {
        self.with(|state| {
            let ends = |key: &String| {
                state
                    .reservations
                    .get(key)
                    .filter(|one| one.progress == Progress::Reserved)
                    .map(|one| one.since + PATIENCE)
            };
            let now = Instant::now();
            let late: Vec<String> =
                keys.iter().filter(|key| ends(key).is_some_and(|end| end <= now)).cloned().collect();
            if late.is_empty() {
                return Err(keys.iter().filter_map(ends).min().unwrap_or(now + PATIENCE));
            }
            state.reservations.extend(late.iter().map(|key| (key.clone(), Reservation::by_host(host))));
            Ok(late)
        })
    }

    /// Waits until each of `keys` is here, or reserves those that were released.
    pub(crate) async fn wait(&self, host: &str, keys: &[String]) -> Vec<String> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mine = self.reserve(host, keys.iter().cloned());
            let all_here = self.with(|state| {
                keys.iter().all(|key| {
                    state.reservations.get(key).is_some_and(|one| one.progress == Progress::Stored)
                })
            });
            if !mine.is_empty() || all_here {
                return mine;
            }
            match self.take_over(host, keys) {
                Ok(late) => return late,
                // Whatever else comes meanwhile, it is no answer of the one that is waited for.
                Err(end) => drop(tokio::time::timeout_at(end, changed).await),
            }
        }
    }
}

fn is_analysis(key: &str) -> bool {
    matches!(EntryPath::parse(key), Ok(EntryPath::Analysis(_)))
}

pub(crate) struct ReleaseGuard<'a> {
    fetch_once: &'a FetchOnce,
    host: &'a str,
}

impl Drop for ReleaseGuard<'_> {
    fn drop(&mut self) {
        self.fetch_once.release(self.host);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_releases_what_it_reserved() {
        let fetch_once = Arc::new(FetchOnce::default());
        let panicking = tokio::spawn({
            let fetch_once = Arc::clone(&fetch_once);
            async move {
                let _guard = fetch_once.guard("a");
                fetch_once.reserve("a", keys(&["x"]));
                panic!("in the middle");
            }
        });
        panicking.await.expect_err("it panicked");
        assert_eq!(fetch_once.wait("b", &keys(&["x"])).await, keys(&["x"]));
    }

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[tokio::test]
    async fn what_is_released_goes_to_who_waits() {
        let fetch_once = Arc::new(FetchOnce::default());
        assert_eq!(fetch_once.reserve("a", keys(&["x", "y"])), keys(&["x", "y"]));
        assert_eq!(fetch_once.reserve("b", keys(&["x", "z"])), keys(&["z"]));
        fetch_once.keep("b", keys(&["z"]));
        let waiting = tokio::spawn({
            let fetch_once = Arc::clone(&fetch_once);
            async move { fetch_once.wait("b", &keys(&["x", "z"])).await }
        });
        tokio::task::yield_now().await;
        fetch_once.release("a");
        assert_eq!(waiting.await.expect("ends"), keys(&["x"]));
        fetch_once.keep("b", keys(&["x"]));
        assert!(fetch_once.wait("b", &keys(&["x", "z"])).await.is_empty());
    }

    /// A host that neither brings what it reserved nor fails stops nobody.
    #[tokio::test(start_paused = true)]
    async fn what_is_reserved_for_too_long_is_taken_over() {
        let fetch_once = FetchOnce::default();
        fetch_once.reserve("a", keys(&["x", "y"]));
        fetch_once.keep("a", keys(&["y"]));
        assert_eq!(fetch_once.wait("b", &keys(&["x", "y"])).await, keys(&["x"]));
        // Others wait as long for who took it over, whatever comes meanwhile.
        let (begin, wanted) = (Instant::now(), keys(&["x"]));
        let ((), late) = tokio::join!(
            async {
                for n in 0..9 {
                    tokio::time::sleep(Duration::from_mins(1)).await;
                    fetch_once.keep("d", keys(&[&format!("other{n}")]));
                }
            },
            fetch_once.wait("c", &wanted)
        );
        assert_eq!((late, fetch_once.wait("b", &[]).await), (keys(&["x"]), Vec::new()));
        assert!(begin.elapsed() < Duration::from_mins(10));
        fetch_once.reserve("b", keys(&["x"]));
        // What the first one brings after all is no harm, nor what it then fails to.
        fetch_once.keep("b", keys(&["x"]));
        fetch_once.release("a");
        assert!(fetch_once.wait("c", &keys(&["x", "y"])).await.is_empty());
    }

    fn analyses(count: usize) -> Vec<String> {
        (0..count).map(|n| EntryPath::Analysis(format!("{n:064x}")).to_string()).collect()
    }

    #[test]
    fn some_analyses_are_asked_of_two_hosts_and_nobody_knows_which() {
        let chosen = |fetch_once: &FetchOnce| {
            fetch_once.reserve("a", analyses(200));
            assert!(fetch_once.check("a", &analyses(200)).is_empty(), "its own");
            let chosen = fetch_once.check("b", &analyses(200));
            assert_eq!(chosen.len(), 40);
            assert!(fetch_once.check("c", &analyses(200)).is_empty(), "one checks for ten");
            chosen
        };
        let (one, other) = (FetchOnce::new().expect("random"), FetchOnce::new().expect("random"));
        assert_ne!(chosen(&one), chosen(&other));
        for n in 4..10 {
            assert!(one.check(&format!("h{n}"), &analyses(200)).is_empty());
        }
        let next = one.check("h10", &analyses(200));
        assert_eq!(next.len(), 32, "of those that nobody checks yet");
        let few = FetchOnce::default();
        few.reserve("a", analyses(3));
        assert_eq!(few.check("b", &analyses(4)).len(), 3);
    }
}
