//! What hosts say of sources: each analysis with those who brought it. A host may lie, so what several say of one source
//! is compared, and what cannot be of a source is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pulpcov_coverage::analysis::{AnalysisError, SourceAnalysis};
use pulpcov_coverage::choice::{Doubt, exits_of_branches, version_key};
use pulpcov_coverage::fleet::SourceId;
use pulpcov_protocol::text::{error_chain, hex};
use pulpcov_protocol::wheel::pinned_coverage;
use sha2::{Digest, Sha256};

use crate::run::analysis_key::MadeBy;

/// Most bytes of analyses that a report holds.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// What was said of a source.
#[derive(Debug, Clone, PartialEq)]
enum SourceAnswer {
    Analysed(Arc<SourceAnalysis>),
    NotPython,
    /// Why it could not be analysed; every host has other words, for its own paths.
    Failed(String),
}

impl SourceAnswer {
    fn of(read: Result<SourceAnalysis, AnalysisError>) -> Self {
        match read {
            Ok(analysis) => Self::Analysed(Arc::new(analysis)),
            Err(error) if error.is_not_python() => Self::NotPython,
            Err(error @ AnalysisError::Failed(_)) => Self::Failed(error_chain(&error)),
            Err(error) => Self::Failed(format!("its analysis is damaged: {}", error_chain(&error))),
        }
    }

    fn is_the_same(&self, other: &Self) -> bool {
        self == other || matches!((self, other), (Self::Failed(_), Self::Failed(_)))
    }

    /// Of several the one that finds most to run. Which of them is true nobody can tell here.
    fn rank(&self) -> (usize, i64, usize) {
        match self {
            Self::Analysed(analysis) => {
                (1 + analysis.statements.len(), exits_of_branches(analysis), analysis.arcs.len())
            }
            Self::NotPython | Self::Failed(_) => (0, 0, 0),
        }
    }
}

/// An analysis as a bundle has it.
#[derive(Debug, Clone)]
pub(crate) struct Brought {
    said: SourceAnswer,
    made_by: Arc<MadeBy>,
    /// Orders what says otherwise and ranks alike.
    digest: String,
    bytes: u64,
    hosts: BTreeSet<String>,
}

impl Brought {
    /// Nothing where the text does not tell who made it.
    pub(crate) fn of(host: &str, text: &[u8]) -> Option<Self> {
        Some(Self {
            said: SourceAnswer::of(SourceAnalysis::from_json(text)),
            made_by: Arc::new(MadeBy::of(text)?),
            digest: hex(Sha256::digest(text)),
            bytes: text.len() as u64,
            hosts: BTreeSet::from([host.to_owned()]),
        })
    }
}

/// Why a source has no analysis here.
pub(crate) enum Lack {
    NotPython,
    /// In words, if there are any.
    Because(Option<String>),
}

#[derive(Debug, Default)]
pub(crate) struct Analyses {
    by_key: BTreeMap<String, Vec<Brought>>,
    /// Of a Python of this machine, by the digests of their sources; where there are these, no host's count.
    own: Option<BTreeMap<String, SourceAnswer>>,
    /// Most lines that a source can have, by its digest.
    lines: BTreeMap<String, usize>,
    bytes: u64,
}

impl Analyses {
    /// Takes in what a bundle brought; fails where a report would hold too much.
    pub(crate) fn add(&mut self, key: String, brought: Brought) -> Result<(), u64> {
        let of_key = self.by_key.entry(key).or_default();
        if let Some(known) = of_key.iter_mut().find(|known| known.said.is_the_same(&brought.said)) {
            known.hosts.extend(brought.hosts);
            return Ok(());
        }
        self.bytes += brought.bytes;
        if self.bytes > MAX_BYTES {
            return Err(MAX_BYTES);
        }
        of_key.push(brought);
        Ok(())
    }

    pub(crate) fn note_lines(&mut self, sha256: String, lines: usize) {
        self.lines.insert(sha256, lines);
    }

    /// Puts analyses of this machine, by the digests of their sources, in the place of the hosts'.
    pub(crate) fn replace<'t>(&mut self, own: impl IntoIterator<Item = (String, &'t [u8])>) {
        let said = |text: &[u8]| SourceAnswer::of(SourceAnalysis::of_this_machine(text));
        self.own = Some(own.into_iter().map(|(sha256, text)| (sha256, said(text))).collect());
    }

    /// What counts of what was brought under a key, if that is of this source.
    fn of(&self, id: &SourceId, key: &str) -> Result<Option<&SourceAnswer>, String> {
        if let Some(own) = &self.own {
            return Ok(own.get(&id.sha256));
        }
        Ok(self.best(id, key)?.map(|best| &best.said))
    }

    /// Of what was brought under a key and can be of this source, the one that counts. Where nothing can be, why.
    fn best(&self, id: &SourceId, key: &str) -> Result<Option<&Brought>, String> {
        let mut refused = None;
        let can_be = |one: &&Brought| match self.refusal(one, id, key) {
            None => true,
            Some(words) => {
                refused.get_or_insert(words);
                false
            }
        };
        let brought = self.by_key.get(key).into_iter().flatten().filter(can_be);
        let best = brought.max_by_key(|one| (one.said.rank(), one.hosts.len(), &one.digest));
        if best.is_none() { refused.map_or(Ok(None), Err) } else { Ok(best) }
    }

    /// Why what was brought cannot be of this source.
    fn refusal(&self, one: &Brought, id: &SourceId, key: &str) -> Option<String> {
        let hosts = || one.hosts.iter().cloned().collect::<Vec<_>>().join(", ");
        if one.made_by.key(&id.sha256) != key {
            return Some(format!("the analysis from {} is one of another source", hosts()));
        }
        let SourceAnswer::Analysed(analysis) = &one.said else { return None };
        if !is_pinned_or_older(&analysis.coverage) {
            return Some(format!(
                "the analysis from {} is of coverage {}, newer than this pulpcov knows",
                hosts(),
                analysis.coverage
            ));
        }
        let told = usize::try_from(analysis.n_lines).unwrap_or(usize::MAX);
        let most = *self.lines.get(&id.sha256)?;
        (told > most).then(|| {
            format!("the analysis from {} tells of {told} lines, and it has at most {most}", hosts())
        })
    }

    pub(crate) fn find(&self, id: &SourceId, key: &str) -> Option<Arc<SourceAnalysis>> {
        match self.of(id, key) {
            Ok(Some(SourceAnswer::Analysed(analysis))) => Some(Arc::clone(analysis)),
            _ => None,
        }
    }

    /// Why a source has none, by what was said under its keys.
    pub(crate) fn lack<'k>(&self, id: &SourceId, keys: impl Iterator<Item = &'k str>) -> Lack {
        let mut because = None;
        for key in keys {
            match self.of(id, key) {
                Ok(Some(SourceAnswer::NotPython)) => return Lack::NotPython,
                Ok(Some(SourceAnswer::Failed(words))) => because = Some(words.clone()),
                Err(words) => because = Some(words),
                Ok(_) => {}
            }
        }
        Lack::Because(because)
    }

    /// Hosts of which one says otherwise than the other of what both analysed.
    pub(crate) fn disputed(&self, id: &SourceId, key: &str) -> Option<Doubt> {
        let brought = self.by_key.get(key).filter(|_| self.own.is_none())?;
        let best = self.best(id, key).ok()??;
        let other = brought.iter().find(|one| one.digest != best.digest)?;
        Some((best.hosts.clone(), other.hosts.clone()))
    }
}

/// Whether a coverage.py can be one that pulpcov has put on a host: the newest one's view counts, so none is newer
/// than there are.
fn is_pinned_or_older(version: &str) -> bool {
    let newest = pinned_coverage(3, u32::MAX).unwrap_or_default();
    version_key(version) <= version_key(newest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::analysis_key::key_of;

    fn id(sha256: &str) -> SourceId {
        SourceId { module_path: "x.py".into(), sha256: sha256.into() }
    }

    fn analyses(texts: &[(&str, &str)]) -> Analyses {
        let mut analyses = Analyses::default();
        for (host, text) in texts {
            let brought = Brought::of(host, text.as_bytes()).expect("an analysis");
            analyses.add(key_of("aa", "7.17.3", "3.11"), brought).expect("small");
        }
        analyses
    }

    fn text(statements: &str) -> String {
        format!(r#"{{"coverage":"7.17.3","python":"3.11","n_lines":3,"statements":[{statements}]}}"#)
    }

    #[test]
    fn an_analysis_counts_for_its_own_source_alone() {
        let mut all = analyses(&[("h1", &text("1,2"))]);
        let key = key_of("aa", "7.17.3", "3.11");
        assert!(all.find(&id("aa"), &key).is_some());
        assert!(all.find(&id("bb"), &key).is_none());
        let lack = all.lack(&id("bb"), std::iter::once(key.as_str()));
        assert!(matches!(lack, Lack::Because(Some(words)) if words.contains("of another source")));
        all.note_lines("aa".into(), 2);
        assert!(all.find(&id("aa"), &key).is_none(), "it has no third line");
    }

    #[test]
    fn a_coverage_that_nobody_has_is_not_believed() {
        let newer = text("1").replace("7.17.3", "7.99.9");
        let mut all = Analyses::default();
        let key = key_of("aa", "7.99.9", "3.11");
        all.add(key.clone(), Brought::of("h1", newer.as_bytes()).expect("an analysis")).expect("small");
        assert!(all.find(&id("aa"), &key).is_none());
        let lack = all.lack(&id("aa"), std::iter::once(key.as_str()));
        assert!(matches!(lack, Lack::Because(Some(words)) if words.contains("coverage 7.99.9")));
    }

    #[test]
    fn what_cannot_be_of_a_source_hides_no_other() {
        let long = text("1,2,3,4,5,6").replace(r#""n_lines":3"#, r#""n_lines":9"#);
        let mut all = analyses(&[("h1", &text("1,2")), ("h2", &long)]);
        all.note_lines("aa".into(), 3);
        let key = key_of("aa", "7.17.3", "3.11");
        assert_eq!(all.find(&id("aa"), &key).expect("h1's").statements.len(), 2);
        let (best, other) = all.disputed(&id("aa"), &key).expect("two");
        assert_eq!((best.first(), other.first()), (Some(&"h1".to_owned()), Some(&"h2".to_owned())));
    }

    #[test]
    fn who_denies_branches_does_not_count() {
        let honest = text("1,2").replace('}', r#","exit_counts":[[1,2]],"arcs":[[1,2],[1,-1]]}"#);
        let lie = honest.replace('}', r#","no_branch":[1]}"#);
        let key = key_of("aa", "7.17.3", "3.11");
        let all = analyses(&[("h1", &honest), ("h2", &lie)]);
        assert!(all.find(&id("aa"), &key).expect("one").no_branch.is_empty());
        assert!(all.disputed(&id("aa"), &key).is_some());
    }

    #[test]
    fn who_says_otherwise_is_named() {
        let (honest, lie) = (text("1,2,3"), text("1"));
        let key = key_of("aa", "7.17.3", "3.11");
        for order in [[("h1", &honest), ("h2", &lie)], [("h2", &lie), ("h1", &honest)]] {
            let all = analyses(&order.map(|(host, text)| (host, text.as_str())));
            assert_eq!(all.find(&id("aa"), &key).expect("one").statements.len(), 3);
            let (best, other) = all.disputed(&id("aa"), &key).expect("two");
            assert_eq!((best.first(), other.first()), (Some(&"h1".to_owned()), Some(&"h2".to_owned())));
        }
        assert!(analyses(&[("h1", &honest), ("h2", &honest)]).disputed(&id("aa"), &key).is_none());
        // Errors name paths, which differ.
        let failed =
            |path: &str| format!(r#"{{"coverage":"7.17.3","python":"3.11","error":"OSError: {path}"}}"#);
        assert!(
            analyses(&[("h1", &failed("/a")), ("h2", &failed("/b"))]).disputed(&id("aa"), &key).is_none()
        );
    }
}
