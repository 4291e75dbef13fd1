//! The layout of a bundle: one gzip'd tar a host, `manifest.json` first.

use std::fmt;

/// Name of the first entry.
pub const MANIFEST: &str = "manifest.json";

/// Longest path that a manifest tells of; Linux takes none that is longer.
pub const MAX_PATH_BYTES: usize = 4096;

/// Most entries that a bundle may have: a long run of short tasks on one host, with room.
pub const MAX_ENTRIES: usize = 200_000;

/// Largest data file. One of Pulp with branches has 1 MB; SQLite's own pages limit the rest.
pub const MAX_DATA_BYTES: u64 = 512 * 1024 * 1024;

/// Largest source.
pub const MAX_SOURCE_BYTES: u64 = 16 * 1024 * 1024;

/// Largest analysis: a few dozen bytes for each line of its source.
pub const MAX_ANALYSIS_BYTES: u64 = 64 * 1024 * 1024;

/// Most bytes that a bundle may unpack to.
pub const MAX_TOTAL_BYTES: u64 = 16 * 1024 * 1024 * 1024;

/// Largest manifest.
pub const MAX_MANIFEST_BYTES: u64 = 64 * 1024 * 1024;

/// Most data files in one bundle: the agent holds each open, so that a flush in the middle of a
/// collect cannot change what was listed.
pub const MAX_DATA_FILES: usize = 20_000;

/// Path of an entry, one of three forms; nothing a host says becomes any other path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryPath {
    /// `data/<name>`: a data file, raw.
    Data(String),
    /// `sources/<sha256>`
    Source(String),
    /// `analysis/<key>.json`
    Analysis(String),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a path that a bundle may have")]
pub struct UnsafeEntry(pub String);

impl EntryPath {
    pub fn parse(raw: &str) -> Result<Self, UnsafeEntry> {
        let refuse = || UnsafeEntry(raw.chars().take(200).collect());
        match raw.split_once('/') {
            Some(("data", name)) if is_file_name(name) => Ok(Self::Data(name.to_owned())),
            Some(("sources", digest)) if is_digest(digest) => Ok(Self::Source(digest.to_owned())),
            Some(("analysis", file)) => match file.strip_suffix(".json") {
                Some(key) if is_digest(key) => Ok(Self::Analysis(key.to_owned())),
                _ => Err(refuse()),
            },
            _ => Err(refuse()),
        }
    }

    /// Most bytes that an entry of its kind may have.
    pub const fn max_bytes(&self) -> u64 {
        match self {
            Self::Data(_) => MAX_DATA_BYTES,
            Self::Source(_) => MAX_SOURCE_BYTES,
            Self::Analysis(_) => MAX_ANALYSIS_BYTES,
        }
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(name) => write!(f, "data/{name}"),
            Self::Source(digest) => write!(f, "sources/{digest}"),
            Self::Analysis(key) => write!(f, "analysis/{key}.json"),
        }
    }
}

/// A plain file name: no folder, nothing that a terminal would act on, no longer than Linux takes.
pub fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains('/')
        && !name.chars().any(char::is_control)
}

/// Lower-case hexadecimal SHA-256.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn climbing_and_absolute_paths_are_refused() {
        for raw in [
            "data/../x",
            "data/a/b",
            "/data/x",
            "../data/x",
            "data/",
            "data/.",
            "sources/xyz",
            "x",
            "",
            "data/a\u{1b}[2J",
        ] {
            assert!(EntryPath::parse(raw).is_err(), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_it_was_and_stays_inside(raw in "(data|sources|analysis)?/?[ -~]{0,80}") {
            if let Ok(path) = EntryPath::parse(&raw) {
                prop_assert_eq!(path.to_string(), raw.clone());
                prop_assert!(!raw.split('/').any(|part| part == ".."));
                prop_assert!(!raw.starts_with('/'));
            }
        }
    }
}
