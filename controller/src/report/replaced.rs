//! What ran of sources that were replaced before their data was collected: it goes to the very bytes that ran.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pulpcov_coverage::origin::Origin;
use pulpcov_data_file::data::CoverageData;
use pulpcov_protocol::manifest::{FINGERPRINT_LETTERS, Replaced, ReplacedData, fingerprint_text};
use pulpcov_protocol::text::hex;
use sha2::{Digest, Sha256};

/// Such data of one data file, and what its processes ran.
pub(crate) struct OfReplaced {
    pub(crate) origin: Origin,
    pub(crate) data: CoverageData,
    /// Fingerprint to its place in the manifest's list, which many data files have in common.
    marks: Arc<BTreeMap<String, u32>>,
    recorded: BTreeSet<u32>,
}

impl OfReplaced {
    /// Whether its code came from a file at that path with that digest.
    pub(crate) fn ran(&self, path: &str, sha256: &str) -> bool {
        self.marks.get(&fingerprint(path, sha256)).is_some_and(|place| self.recorded.contains(place))
    }
}

/// As the host makes it of a path and the digest of what lies there.
fn fingerprint(path: &str, sha256: &str) -> String {
    let mut digest = hex(Sha256::digest(fingerprint_text(path, sha256).as_bytes()));
    digest.truncate(FINGERPRINT_LETTERS);
    digest
}

/// What a manifest says of replaced sources, to be looked up.
pub(crate) struct Index<'m> {
    replaced: &'m Replaced,
    by_name: BTreeMap<&'m str, &'m ReplacedData>,
    marks: Arc<BTreeMap<String, u32>>,
}

impl<'m> Index<'m> {
    pub(crate) fn of(replaced: &'m Replaced) -> Self {
        Self {
            replaced,
            by_name: replaced.data.iter().map(|one| (one.name.as_str(), one)).collect(),
            marks: Arc::new(replaced.fingerprints.iter().cloned().zip(0..).collect()),
        }
    }

    /// Takes out of a data file what ran of sources that are no longer there.
    pub(crate) fn take_out(
        &self,
        name: &str,
        origin: &Origin,
        data: &mut CoverageData,
    ) -> Option<OfReplaced> {
        let told = self.by_name.get(name)?;
        let places: BTreeSet<usize> =
            told.paths.iter().filter_map(|&place| usize::try_from(place).ok()).collect();
        let paths = places.into_iter().filter_map(|place| self.replaced.paths.get(place));
        Some(OfReplaced {
            origin: origin.clone(),
            data: data.take_out(paths.map(String::as_str)),
            marks: Arc::clone(&self.marks),
            recorded: told.recorded.iter().copied().collect(),
        })
    }
}
