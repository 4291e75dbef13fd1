//! Bundles as they arrive and as they lie: spooled under a limit, verified against their own
//! manifest, and only then given a name.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use pulpcov_protocol::bundle::{EntryPath, MAX_TOTAL_BYTES, UnsafeEntry};
use pulpcov_protocol::manifest::{Entry, Manifest, Source};
use pulpcov_protocol::op::{Erase, ErasedFile, Op};
use pulpcov_protocol::version::UnreadableFormat;
use tempfile::NamedTempFile;

use crate::run::bundle_reader::check_bundle;

/// Largest bundle that is taken from one host.
const MAX_BUNDLE_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// Most bundles of one host in one run directory.
const MAX_BUNDLES: u32 = 9999;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("cannot store a bundle")]
    Store(#[source] std::io::Error),
    #[error("cannot read bundle {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is no regular file")]
    NoFile { path: PathBuf },
    #[error("its folder has {MAX_BUNDLES} bundles already")]
    TooMany,
    #[error("the bundle is larger than {MAX_BUNDLE_BYTES} bytes")]
    TooLarge,
    #[error("the bundle unpacks to more than {MAX_TOTAL_BYTES} bytes")]
    Bomb,
    #[error("the bundle is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Entry(#[from] UnsafeEntry),
    #[error("the bundle's entry {path} is no regular file")]
    NotAFile { path: String },
    #[error("it says that it is of host {says:?}, and lies in the folder of {place:?}")]
    Host { says: String, place: String },
    #[error("the bundle's entry {path} is not the one its manifest tells of")]
    Surprise { path: String },
    #[error("the bundle's manifest tells of {path}, which is not there")]
    Missing { path: String },
    #[error("the bundle's entry {path} has {found} bytes, its manifest says {expected}")]
    Size { path: String, expected: u64, found: u64 },
    #[error("the bundle's entry {path} does not match its sha256")]
    Digest { path: String },
    #[error("the bundle's manifest has {what}, the limit is {limit}")]
    Limit { what: String, limit: u64 },
    #[error("it has more {what} than {limit} bytes, with those of other bundles")]
    TooMuch { what: String, limit: u64 },
    #[error(transparent)]
    Format(#[from] UnreadableFormat),
    #[error("the bundle says it is of host {found}")]
    WrongHost { found: String },
    #[error("the bundle's manifest tells of no source that {path} belongs to")]
    Unnamed { path: String },
    #[error("the bundle's entry {path} is no analysis of the source that it is named for")]
    WrongKey { path: String },
    #[error("the bundle's manifest says of several sources that {key} is their analysis")]
    SharedKey { key: String },
    #[error("the bundle lacks {path}, which was asked for")]
    NotBrought { path: String },
    #[error("the bundle brings {path}, which was not asked for")]
    NotAskedFor { path: String },
    #[error("the bundle has {found} data files, and the host had listed {listed}")]
    OtherData { listed: u64, found: u64 },
    #[error("the bundle tells of other sources than the host had listed")]
    OtherSources,
}

/// A bundle on its way in: a file without a name that anyone would take for a bundle.
pub(crate) struct Spool {
    file: NamedTempFile,
    bytes: u64,
}

impl Spool {
    /// Beside where the bundle will be, so that a rename is all that is left to do.
    pub(crate) fn new(folder: &Path) -> Result<Self, BundleError> {
        let file =
            tempfile::Builder::new().prefix(".spool-").tempfile_in(folder).map_err(BundleError::Store)?;
        Ok(Self { file, bytes: 0 })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLarge);
        }
        self.file.write_all(bytes).map_err(BundleError::Store)
    }

    /// Checks every byte against the manifest, and the manifest against what was asked for.
    pub(crate) fn verify(self, host: &str, asked: &BundleRequest<'_>) -> Result<VerifiedBundle, BundleError> {
        self.file.as_file().sync_all().map_err(BundleError::Store)?;
        let manifest = check_bundle(self.file.path())?;
        if manifest.host != host {
            return Err(BundleError::WrongHost {
                found: manifest.host.chars().filter(|c| !c.is_control()).take(100).collect(),
            });
        }
        asked.check(&manifest)?;
        Ok(VerifiedBundle { file: self.file, manifest, bytes: self.bytes })
    }
}

/// What a host was asked for, and what it had listed before.
pub(crate) struct BundleRequest<'a> {
    /// Paths of the sources and analyses that it is to bring.
    pub(crate) keys: &'a [String],
    pub(crate) data_files: u64,
    pub(crate) sources: &'a [Source],
}

impl BundleRequest<'_> {
    /// Whether a bundle is just that: others wait for what it was to bring, and rely on what it had listed.
    fn check(&self, manifest: &Manifest) -> Result<(), BundleError> {
        let is_data = |entry: &&Entry| matches!(EntryPath::parse(&entry.path), Ok(EntryPath::Data(_)));
        let found = manifest.entries.iter().filter(is_data).count() as u64;
        if found != self.data_files {
            return Err(BundleError::OtherData { listed: self.data_files, found });
        }
        if manifest.sources != self.sources {
            return Err(BundleError::OtherSources);
        }
        let wanted: BTreeSet<&String> = self.keys.iter().collect();
        let brought: BTreeSet<&String> =
            manifest.entries.iter().filter(|entry| !is_data(entry)).map(|entry| &entry.path).collect();
        if let Some(path) = wanted.difference(&brought).next() {
            return Err(BundleError::NotBrought { path: (*path).clone() });
        }
        match brought.difference(&wanted).next() {
            Some(path) => Err(BundleError::NotAskedFor { path: (*path).clone() }),
            None => Ok(()),
        }
    }
}

/// A bundle whose every entry is what its manifest says.
pub(crate) struct VerifiedBundle {
    file: NamedTempFile,
    pub(crate) manifest: Manifest,
    pub(crate) bytes: u64,
}

impl VerifiedBundle {
    /// Gives it the next free name in `folder`. After this returns, the bundle survives a power loss.
    pub(crate) fn place(self, folder: &Path) -> Result<PlacedBundle, BundleError> {
        let Self { mut file, manifest, .. } = self;
        for number in 1..=MAX_BUNDLES {
            let path = folder.join(format!("bundle-{number:04}.tar.gz"));
            match file.persist_noclobber(&path) {
                Ok(placed) => {
                    placed.sync_all().map_err(BundleError::Store)?;
                    fs_err::File::open(folder)
                        .and_then(|folder| folder.sync_all())
                        .map_err(BundleError::Store)?;
                    return Ok(PlacedBundle { manifest });
                }
                // Taken, perhaps just now by another collect.
                Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => file = error.file,
                Err(error) => return Err(BundleError::Store(error.error)),
            }
        }
        Err(BundleError::TooMany)
    }
}

/// A bundle that is verified and safely kept here. Only this tells what a host may erase.
pub(crate) struct PlacedBundle {
    manifest: Manifest,
}

/// Files that a host may erase: their bytes, named by digest, lie in a bundle here. There is no other way to
/// make one.
pub(crate) struct Collected {
    files: Vec<ErasedFile>,
    records: Vec<ErasedFile>,
}

impl PlacedBundle {
    /// Paths of the entries that it brought.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &String> {
        self.manifest.entries.iter().map(|entry| &entry.path)
    }

    pub(crate) fn collected(&self) -> Collected {
        let named =
            |name: &String, sha256: &String| ErasedFile { name: name.clone(), sha256: sha256.clone() };
        let data = self.manifest.entries.iter().filter_map(|entry| match EntryPath::parse(&entry.path) {
            Ok(EntryPath::Data(name)) => Some(named(&name, &entry.sha256)),
            _ => None,
        });
        let records = self.manifest.records().map(|(name, sha256)| named(name, sha256));
        Collected { files: data.collect(), records: records.collect() }
    }
}

impl Collected {
    /// The op that erases them on their host.
    pub(crate) fn erase(self, lib_root: &str) -> Op {
        let Self { files, records } = self;
        Op::Erase(Erase { lib_root: lib_root.to_owned(), files, records, check: false })
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use std::collections::BTreeMap;

    use pulpcov_protocol::bundle::MANIFEST;
    use pulpcov_protocol::text::hex;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::run::analysis_key;

    fn manifest(entries: &[(&str, &[u8])]) -> Manifest {
        let entries = entries
            .iter()
            .map(|(path, bytes)| Entry {
                path: (*path).into(),
                size: bytes.len() as u64,
                sha256: hex(Sha256::digest(bytes)),
                uid: None,
            })
            .collect();
        Manifest {
            format: 1,
            host: "h1".into(),
            hostname: "h1".into(),
            boot_id: "b".into(),
            agent: "0".into(),
            collected_at: 0.0,
            data_root: "/srv".into(),
            profile: "p".into(),
            interval: 5.0,
            compacted: Vec::new(),
            processes: vec![],
            entries,
            sources: vec![],
            unsourced: None,
            unlisted: std::collections::BTreeSet::new(),
            replaced: pulpcov_protocol::manifest::Replaced::default(),
            extra: BTreeMap::new(),
            warnings: vec![],
        }
    }

    fn pack(manifest: &Manifest, entries: &[(&str, &[u8], tar::EntryType)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let text = serde_json::to_vec(manifest).expect("serialises");
        let all = std::iter::once((MANIFEST, text.as_slice(), tar::EntryType::Regular))
            .chain(entries.iter().copied());
        for (path, bytes, kind) in all {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_entry_type(kind);
            // Past the builder's own checks: a hostile host does not use them.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, bytes).expect("appends");
        }
        tar.into_inner().and_then(GzEncoder::finish).expect("packs")
    }

    fn verify(bytes: &[u8]) -> Result<VerifiedBundle, BundleError> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::new(folder.path()).expect("spools");
        spool.write(bytes).expect("writes");
        spool.verify("h1", &BundleRequest { keys: &[], data_files: 1, sources: &[] })
    }

    const REGULAR: tar::EntryType = tar::EntryType::Regular;

    #[test]
    fn a_true_bundle_gets_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = pack(&manifest(&[("data/a", b"xyz")]), &[("data/a", b"xyz", REGULAR)]);
        let mut spool = Spool::new(folder.path()).expect("spools");
        spool.write(&bytes).expect("writes");
        // A name that is taken is no end: the next one is.
        fs_err::write(folder.path().join("bundle-0001.tar.gz"), "taken").expect("written");
        let asked = BundleRequest { keys: &[], data_files: 1, sources: &[] };
        let placed = spool.verify("h1", &asked).expect("true").place(folder.path()).expect("places");
        let path = folder.path().join("bundle-0002.tar.gz");
        assert_eq!(fs_err::read(&path).expect("reads"), bytes);
        assert_eq!(fs_err::read_dir(folder.path()).expect("lists").count(), 2, "no spool is left");
        let collected = placed.collected();
        assert_eq!(collected.files.len(), 1);
        assert_eq!(collected.files[0].sha256, hex(Sha256::digest(b"xyz")));
    }

    #[test]
    fn every_lie_has_its_own_name() {
        let told = manifest(&[("data/a", b"xyz")]);
        assert!(matches!(
            verify(&pack(&told, &[("data/a", b"xyZ", REGULAR)])),
            Err(BundleError::Digest { .. })
        ));
        assert!(matches!(verify(&pack(&told, &[("data/a", b"xy", REGULAR)])), Err(BundleError::Size { .. })));
        assert!(matches!(
            verify(&pack(&told, &[("data/b", b"xyz", REGULAR)])),
            Err(BundleError::Surprise { .. })
        ));
        assert!(matches!(verify(&pack(&told, &[])), Err(BundleError::Missing { .. })));
        let twice = [("data/a", &b"xyz"[..], REGULAR), ("data/a", &b"xyz"[..], REGULAR)];
        assert!(matches!(verify(&pack(&told, &twice)), Err(BundleError::Surprise { .. })));
        assert!(matches!(
            verify(&pack(&told, &[("data/a", b"", tar::EntryType::Symlink)])),
            Err(BundleError::NotAFile { .. })
        ));
        assert!(matches!(
            verify(&pack(&told, &[("../../etc/cron.d/x", b"xyz", REGULAR)])),
            Err(BundleError::Entry(_))
        ));
        assert!(matches!(verify(&pack(&manifest(&[("../x", b"")]), &[])), Err(BundleError::Entry(_))));
        let mut other = told.clone();
        other.host = "h2".into();
        assert!(matches!(
            verify(&pack(&other, &[("data/a", b"xyz", REGULAR)])),
            Err(BundleError::WrongHost { .. })
        ));
        let mut newer = told.clone();
        newer.format = 99;
        assert!(matches!(verify(&pack(&newer, &[])), Err(BundleError::Format(_))));
        let mut huge = told;
        huge.entries[0].size = u64::MAX / 2;
        assert!(matches!(verify(&pack(&huge, &[])), Err(BundleError::Limit { .. })));
        let wrong = format!("sources/{}", "0".repeat(64));
        let mut source = manifest(&[(wrong.as_str(), b"evil")]);
        let pack_it = |told: &Manifest| pack(told, &[(wrong.as_str(), b"evil", REGULAR)]);
        assert!(matches!(verify(&pack_it(&source)), Err(BundleError::Unnamed { .. })));
        source.sources = vec![a_source(&"0".repeat(64), &"1".repeat(64))];
        assert!(matches!(verify(&pack_it(&source)), Err(BundleError::Digest { .. })));
        source.sources[0].analysis = "x".into();
        assert!(matches!(verify(&pack_it(&source)), Err(BundleError::Damaged(_))));
        let long = [("././@LongLink", &b"x"[..], tar::EntryType::GNULongName)];
        assert!(matches!(verify(&pack(&manifest(&[("data/a", b"xyz")]), &long)), Err(BundleError::Entry(_))));
        assert!(matches!(verify(b"no gzip at all"), Err(BundleError::Damaged(_))));
    }

    fn a_source(sha256: &str, analysis: &str) -> Source {
        Source {
            path: "/x.py".into(),
            module_path: "x.py".into(),
            sha256: sha256.into(),
            size: 1,
            analysis: analysis.into(),
            interpreter: "/python".into(),
        }
    }

    /// An analysis under the key of another source would be that source's for all hosts.
    #[test]
    fn an_analysis_is_of_the_source_that_its_key_names() {
        let text = br#"{"coverage":"7.17.3","python":"3.11","n_lines":1,"statements":[1]}"#;
        let (own, other) = ("a".repeat(64), "b".repeat(64));
        let key = analysis_key::key_of(&own, "7.17.3", "3.11");
        let path = format!("analysis/{key}.json");
        let mut told = manifest(&[(&path, text)]);
        let checked = |told: &Manifest| {
            let folder = tempfile::tempdir().expect("a folder");
            let place = folder.path().join("bundle-0001.tar.gz");
            fs_err::write(&place, pack(told, &[(&path, text, REGULAR)])).expect("written");
            check_bundle(&place).map(drop)
        };
        told.sources = vec![a_source(&own, &key)];
        checked(&told).expect("its own");
        told.sources = vec![a_source(&other, &key)];
        assert!(matches!(checked(&told), Err(BundleError::WrongKey { .. })));
        told.sources.push(a_source(&own, &key));
        assert!(matches!(checked(&told), Err(BundleError::SharedKey { .. })));
        told.sources.clear();
        assert!(matches!(checked(&told), Err(BundleError::Unnamed { .. })));
    }

    #[test]
    fn a_bundle_is_what_was_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let digest = hex(Sha256::digest(b"xyz"));
        let (source, name) = (a_source(&digest, &"1".repeat(64)), format!("sources/{digest}"));
        let mut told = manifest(&[("data/a", b"xyz"), (&name, b"xyz")]);
        told.sources = vec![source.clone()];
        let bytes = pack(&told, &[("data/a", b"xyz", REGULAR), (&name, b"xyz", REGULAR)]);
        let verify = |keys: &[&str], data_files, sources: &[Source]| {
            let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
            let mut spool = Spool::new(folder.path()).expect("spools");
            spool.write(&bytes).expect("writes");
            spool.verify("h1", &BundleRequest { keys: &keys, data_files, sources }).map(drop)
        };
        let sources = [source];
        verify(&[&name], 1, &sources).expect("as it was asked for");
        let more = [name.as_str(), "analysis/x.json"];
        assert!(
            matches!(verify(&more, 1, &sources), Err(BundleError::NotBrought { path }) if path == more[1])
        );
        assert!(matches!(verify(&[], 1, &sources), Err(BundleError::NotAskedFor { path }) if path == name));
        assert!(matches!(verify(&[&name], 2, &sources), Err(BundleError::OtherData { listed: 2, found: 1 })));
        assert!(matches!(verify(&[&name], 1, &[]), Err(BundleError::OtherSources)));
    }

    #[test]
    fn a_flipped_or_missing_byte_anywhere_is_noticed() {
        let bytes = pack(&manifest(&[("data/a", b"xyz")]), &[("data/a", b"xyz", REGULAR)]);
        for at in 10..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            // What remains readable must still say the same.
            if let Ok(bundle) = verify(&flipped) {
                assert_eq!(bundle.manifest.entries.len(), 1, "byte {at}");
            }
            assert!(verify(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
