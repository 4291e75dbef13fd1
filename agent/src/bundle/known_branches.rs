//! What interpreters have said of the branches of sources, kept beside what is installed: they are asked again only for
//! a source that has changed, and for ways that nobody had taken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulpcov_data_file::lines::Arc;
use serde::{Deserialize, Serialize};

use crate::host::fs;
use crate::recorder::hook;

/// Largest note. A larger one is not read: then everything is asked again.
const MAX_NOTE: u64 = 64 * 1024 * 1024;

/// A code object: its first line, and the digests of its instructions and lines.
pub(super) type Code = (u32, u32, u32);

/// Where a branch is, and where it went.
pub(super) type Way = (u32, u32);

/// The arc of each way of a code object; nothing for a way on which another branch decides.
pub(super) type Ways = BTreeMap<Way, Option<Arc>>;

/// What is known of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Nothing for a code object that the source does not have.
    #[serde(with = "pairs")]
    pub(super) codes: BTreeMap<Code, Option<Answered>>,
    /// Arcs that are taken wherever their first line is.
    pub(super) passed: Vec<Arc>,
}

/// The ways of a code object that somebody has asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answered(#[serde(with = "pairs")] pub(super) Ways);

/// Maps whose keys are no texts, as arrays of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl Known {
    /// Whether it has all that is wanted.
    fn has(&self, wanted: &BTreeMap<Code, BTreeSet<Way>>) -> bool {
        wanted.iter().all(|(code, ways)| match self.codes.get(code) {
            Some(Some(known)) => ways.iter().all(|way| known.0.contains_key(way)),
            Some(None) => true,
            None => false,
        })
    }

    /// The same with what was known before of this very source.
    pub(super) fn and(mut self, before: Option<&Self>) -> Self {
        for (code, ways) in before.into_iter().flat_map(|before| &before.codes) {
            match (self.codes.entry(*code).or_default(), ways) {
                (Some(now), Some(before)) => now.0.extend(before.0.iter().map(|(way, arc)| (*way, *arc))),
                (now @ None, Some(before)) => *now = Some(before.clone()),
                (_, None) => {}
            }
        }
        self
    }
}

/// What was said by the answering program of one agent.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Note {
    /// Digest of the program: what another one has said is nobody's any more.
    program: String,
    /// By who was asked, and by path: the digest of the source, and what is known of it.
    known: BTreeMap<String, BTreeMap<String, (String, Known)>>,
}

impl Note {
    pub(super) fn read(lib_root: &str) -> Self {
        let program = fs::sha256(hook::BRANCHES.as_bytes());
        let bytes = fs::read_limited(&place(Path::new(lib_root)), MAX_NOTE).unwrap_or_default();
        let found = serde_json::from_slice(&bytes).ok().filter(|note: &Self| note.program == program);
        found.unwrap_or_else(|| Self { program, known: BTreeMap::new() })
    }

    /// What is known of a source of this digest, whether or not it is all that is wanted.
    pub(super) fn of(&self, asked: &str, path: &str, sha256: &str) -> Option<&Known> {
        self.known.get(asked)?.get(path).filter(|(digest, _)| digest == sha256).map(|(_, known)| known)
    }

    /// All that is wanted of a source, if it is known.
    pub(super) fn answer(
        &self,
        (asked, path, sha256): (&str, &str, &str),
        wanted: &BTreeMap<Code, BTreeSet<Way>>,
    ) -> Option<&Known> {
        self.of(asked, path, sha256).filter(|known| known.has(wanted))
    }

    /// Notes what was said to one who was asked, of all sources that are wanted now: of others nothing is kept. Where it
    /// cannot be written, they are asked again.
    pub(super) fn write(&mut self, lib_root: &str, asked: &str, now: BTreeMap<String, (String, Known)>) {
        self.known.insert(asked.to_owned(), now);
        if let Ok(text) = serde_json::to_vec(self)
            && text.len() as u64 <= MAX_NOTE
        {
            let _ = fs::write_whole(&place(Path::new(lib_root)), &text, 0o600);
        }
    }
}

fn place(lib_root: &Path) -> PathBuf {
    lib_root.join("branches.json")
}

pub(crate) fn forget(lib_root: &Path) {
    let _ = std::fs::remove_file(place(lib_root));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(line: u32, ways: &[(Way, Option<Arc>)]) -> Known {
        let ways = Answered(ways.iter().copied().collect());
        Known { codes: BTreeMap::from([((line, 1, 2), Some(ways))]), passed: vec![(1, 2)] }
    }

    #[test]
    fn only_what_is_known_of_that_very_source_is_answered() {
        let lib = tempfile::tempdir().expect("a folder");
        let lib = lib.path().to_string_lossy();
        let mut note = Note::read(&lib);
        let said = known(3, &[((2, 8), Some((3, 4))), ((2, 6), None)]);
        note.write(&lib, "3.12", BTreeMap::from([("/a.py".to_owned(), ("d1".to_owned(), said.clone()))]));
        let note = Note::read(&lib);
        let wanted = |ways: &[Way]| BTreeMap::from([((3, 1, 2), ways.iter().copied().collect())]);
        let answer = |asked, path, digest, ways: &[Way]| note.answer((asked, path, digest), &wanted(ways));
        assert_eq!(answer("3.12", "/a.py", "d1", &[(2, 8), (2, 6)]), Some(&said));
        assert_eq!(answer("3.12", "/a.py", "d1", &[]), Some(&said));
        assert_eq!(answer("3.12", "/a.py", "d1", &[(2, 9)]), None, "a way that nobody had taken");
        assert_eq!(answer("3.12", "/a.py", "d2", &[(2, 8)]), None, "another source");
        assert_eq!(answer("3.13", "/a.py", "d1", &[(2, 8)]), None, "another Python");
        let other = Note { program: "another".to_owned(), ..note };
        std::fs::write(place(Path::new(&*lib)), serde_json::to_vec(&other).expect("JSON")).expect("written");
        assert!(Note::read(&lib).known.is_empty(), "said by another program");
        let note = other;
        let both = known(3, &[((2, 9), Some((3, 5)))]).and(note.of("3.12", "/a.py", "d1"));
        assert_eq!(both.codes[&(3, 1, 2)].as_ref().expect("its ways").0.len(), 3);
    }
}
