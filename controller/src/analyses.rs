//! What hosts say of sources: each analysis with those who brought it. A host may lie, so what several say of one source
//! is compared, and what cannot be of a source is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pulpcov_coverage::analysis::{AnalysisError, SourceAnalysis};
use pulpcov_coverage::choice::version_key;
use pulpcov_coverage::fleet::{Doubt, SourceId};
use pulpcov_protocol::text::{error_chain, hex};
use pulpcov_protocol::wheel::pinned_coverage;
use sha2::{Digest, Sha256};

use crate::analysis_key::MadeBy;

/// Most bytes of analyses that a report holds.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// What was said of a source.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Analysed(Arc<SourceAnalysis>),
    NotPython,
    /// Why it could not be analysed; every host has other words, for its own paths.
    Failed(String),
}

impl Said {
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
                let exits =
                    analysis.exit_counts.values().fold(0, |sum: i64, exits| sum.saturating_add(*exits));
                (1 + analysis.statements.len(), exits, analysis.arcs.len())
            }
            Self::NotPython | Self::Failed(_) => (0, 0, 0),
        }
    }
}

/// An analysis as a bundle has it.
#[derive(Debug, Clone)]
pub(crate) struct Brought {
    said: Said,
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
            said: Said::of(SourceAnalysis::from_json(text)),
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
    own: Option<BTreeMap<String, Said>>,
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
        let said = |text: &[u8]| Said::of(SourceAnalysis::of_this_machine(text));
        self.own = Some(own.into_iter().map(|(sha256, text)| (sha256, said(text))).collect());
    }

    /// What counts of what was brought under a key, if that is of this source.
    fn of(&self, id: &SourceId, key: &str) -> Result<Option<&Said>, String> {
        if let Some(own) = &self.own {
            return Ok(own.get(&id.sha256));
        }
        let Some(brought) = self.by_key.get(key) else { return Ok(None) };
        let best = brought.iter().max_by_key(|one| (one.said.rank(), &one.digest));
        let Some(best) = best else { return Ok(None) };
        if best.made_by.key(&id.sha256) != key {
            return Err("its analysis is one of another source".to_owned());
        }
        if let Said::Analysed(analysis) = &best.said
            && !is_pinned_or_older(&analysis.coverage)
        {
            return Err(format!(
                "its analysis is of coverage {}, which pulpcov puts on no host",
                analysis.coverage
            ));
        }
        if let (Said::Analysed(analysis), Some(&most)) = (&best.said, self.lines.get(&id.sha256)) {
            let told = usize::try_from(analysis.n_lines).unwrap_or(usize::MAX);
            if told > most {
                return Err(format!("its analysis tells of {told} lines, and it has at most {most}"));
            }
        }
        Ok(Some(&best.said))
    }

    pub(crate) fn find(&self, id: &SourceId, key: &str) -> Option<Arc<SourceAnalysis>> {
        match self.of(id, key) {
            Ok(Some(Said::Analysed(analysis))) => Some(Arc::clone(analysis)),
            _ => None,
        }
    }

    /// Why a source has none, by what was said under its keys.
    pub(crate) fn lack<'k>(&self, id: &SourceId, keys: impl Iterator<Item = &'k str>) -> Lack {
        let mut because = None;
        for key in keys {
            match self.of(id, key) {
                Ok(Some(Said::NotPython)) => return Lack::NotPython,
                Ok(Some(Said::Failed(words))) => because = Some(words.clone()),
                Err(words) => because = Some(words),
                Ok(_) => {}
            }
        }
        Lack::Because(because)
    }

    /// Hosts of which one says otherwise than the other of what both analysed.
    pub(crate) fn disputed(&self, key: &str) -> Option<Doubt> {
        let brought = self.by_key.get(key).filter(|_| self.own.is_none())?;
        let best = brought.iter().max_by_key(|one| (one.said.rank(), &one.digest))?;
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
    use crate::analysis_key::key_of;

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
    fn who_says_otherwise_is_named() {
        let (honest, lie) = (text("1,2,3"), text("1"));
        let key = key_of("aa", "7.17.3", "3.11");
        for order in [[("h1", &honest), ("h2", &lie)], [("h2", &lie), ("h1", &honest)]] {
            let all = analyses(&order.map(|(host, text)| (host, text.as_str())));
            assert_eq!(all.find(&id("aa"), &key).expect("one").statements.len(), 3);
            let (best, other) = all.disputed(&key).expect("two");
            assert_eq!((best.first(), other.first()), (Some(&"h1".to_owned()), Some(&"h2".to_owned())));
        }
        assert!(analyses(&[("h1", &honest), ("h2", &honest)]).disputed(&key).is_none());
        // Errors name paths, which differ.
        let failed =
            |path: &str| format!(r#"{{"coverage":"7.17.3","python":"3.11","error":"OSError: {path}"}}"#);
        assert!(analyses(&[("h1", &failed("/a")), ("h2", &failed("/b"))]).disputed(&key).is_none());
    }
}
