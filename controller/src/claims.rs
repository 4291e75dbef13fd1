//! Who brings what: each source and each analysis is fetched from one host of the fleet only.
//!
//! A host that fails gives its promises back; hosts that relied on them are still connected and
//! bring the rest. Nobody waits before its own work is done, so nobody waits in a circle.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::Notify;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Promised,
    Here,
}

#[derive(Default)]
pub(crate) struct Claims {
    claims: Mutex<BTreeMap<String, (Claim, String)>>,
    changed: Notify,
}

impl Claims {
    fn with<R>(&self, act: impl FnOnce(&mut BTreeMap<String, (Claim, String)>) -> R) -> R {
        act(&mut self.claims.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Promises those of `keys` that nobody has promised or brought; returns them.
    pub(crate) fn promise(&self, host: &str, keys: impl IntoIterator<Item = String>) -> Vec<String> {
        self.with(|claims| {
            let mut mine = Vec::new();
            for key in keys {
                if !claims.contains_key(&key) {
                    claims.insert(key.clone(), (Claim::Promised, host.to_owned()));
                    mine.push(key);
                }
            }
            mine
        })
    }

    /// What is here, safely stored.
    pub(crate) fn keep(&self, keys: impl IntoIterator<Item = String>) {
        self.with(|claims| claims.extend(keys.into_iter().map(|key| (key, (Claim::Here, String::new())))));
        self.changed.notify_waiters();
    }

    /// Gives back what `host` promised and did not bring once the guard is dropped: also where its job panics
    /// or is dropped itself.
    pub(crate) fn guard<'a>(&'a self, host: &'a str) -> GiveBack<'a> {
        GiveBack { claims: self, host }
    }

    /// Gives back all that `host` promised and did not bring.
    fn give_back(&self, host: &str) {
        self.with(|claims| claims.retain(|_, (claim, by)| *claim == Claim::Here || by != host));
        self.changed.notify_waiters();
    }

    /// Waits until each of `keys` is here, or promises those that were given back.
    pub(crate) async fn settle(&self, host: &str, keys: &[String]) -> Vec<String> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mine = self.promise(host, keys.iter().cloned());
            let all_here = self.with(|claims| {
                keys.iter().all(|key| claims.get(key).is_some_and(|(claim, _)| *claim == Claim::Here))
            });
            if !mine.is_empty() || all_here {
                return mine;
            }
            changed.await;
        }
    }
}

pub(crate) struct GiveBack<'a> {
    claims: &'a Claims,
    host: &'a str,
}

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        self.claims.give_back(self.host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_job_that_panics_gives_back_what_it_promised() {
        let claims = Arc::new(Claims::default());
        let panicking = tokio::spawn({
            let claims = Arc::clone(&claims);
            async move {
                let _guard = claims.guard("a");
                claims.promise("a", keys(&["x"]));
                panic!("in the middle");
            }
        });
        panicking.await.expect_err("it panicked");
        assert_eq!(claims.settle("b", &keys(&["x"])).await, keys(&["x"]));
    }

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[tokio::test]
    async fn a_promise_that_is_given_back_goes_to_who_waits() {
        let claims = Arc::new(Claims::default());
        assert_eq!(claims.promise("a", keys(&["x", "y"])), keys(&["x", "y"]));
        assert_eq!(claims.promise("b", keys(&["x", "z"])), keys(&["z"]));
        claims.keep(keys(&["z"]));
        let waiting = tokio::spawn({
            let claims = Arc::clone(&claims);
            async move { claims.settle("b", &keys(&["x", "z"])).await }
        });
        tokio::task::yield_now().await;
        claims.give_back("a");
        assert_eq!(waiting.await.expect("ends"), keys(&["x"]));
        claims.keep(keys(&["x"]));
        assert!(claims.settle("b", &keys(&["x", "z"])).await.is_empty());
    }
}
