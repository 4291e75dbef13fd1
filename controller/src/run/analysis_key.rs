//! Keys of analyses, computed here: a host says what it analysed, and by whom, but not what that is called.

use std::collections::BTreeMap;

use pulpcov_protocol::manifest::{DEFAULT_OPTIONS, Source, analysis_key_text};
use pulpcov_protocol::text::hex;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Who made an analysis, by its own words.
#[derive(Debug, Deserialize)]
pub(crate) struct MadeBy {
    coverage: String,
    python: String,
}

impl MadeBy {
    /// Nothing where the text is no analysis.
    pub(crate) fn of(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The key of what they make of a source.
    pub(crate) fn key(&self, source_sha256: &str) -> String {
        key_of(source_sha256, &self.coverage, &self.python)
    }
}

/// The key of the analysis of a source, with the exclusions of coverage.py itself.
pub(crate) fn key_of(source_sha256: &str, coverage: &str, python: &str) -> String {
    hex(Sha256::digest(analysis_key_text(source_sha256, coverage, python, DEFAULT_OPTIONS)))
}

/// Key to the digest of the source that a bundle says it is of. `Err` has one that it says of several.
pub(crate) fn keys_of(sources: &[Source]) -> Result<BTreeMap<&str, &str>, String> {
    let mut keys = BTreeMap::new();
    for source in sources {
        let sha256 = source.sha256.as_str();
        if keys.insert(source.analysis.as_str(), sha256).is_some_and(|before| before != sha256) {
            return Err(source.analysis.clone());
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_one_source_and_of_who_analysed_it() {
        let made_by = |text: &str| MadeBy::of(text.as_bytes());
        let known = made_by(r#"{"coverage":"7.17.3","python":"3.11","n_lines":1}"#).expect("an analysis");
        assert_eq!(known.key("aa"), key_of("aa", "7.17.3", "3.11"));
        assert_ne!(known.key("aa"), known.key("bb"));
        let newer = made_by(r#"{"error":"NotPython: x","coverage":"7.17.4","python":"3.11"}"#);
        assert_ne!(newer.expect("an analysis").key("aa"), known.key("aa"));
        assert!(made_by(r#"{"coverage":7}"#).is_none());
    }
}
