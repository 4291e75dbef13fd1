//! Reading bundles: nothing is taken that the manifest does not tell of, and every byte is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::Path;

use flate2::read::GzDecoder;
use pulpcov_protocol::bundle::{EntryPath, MANIFEST, MAX_ENTRIES, MAX_MANIFEST_BYTES, MAX_TOTAL_BYTES};
use pulpcov_protocol::manifest::{Entry, Manifest};
use pulpcov_protocol::text::hex;
use pulpcov_protocol::version::check_bundle_format;
use sha2::{Digest, Sha256};

use crate::run::analysis_key::{self, MadeBy};
use crate::run::bundle::BundleError;
use crate::run::manifest_check;

/// Reads a bundle and checks all of it; `entry` gets each entry's bytes, already checked.
pub(crate) fn read_bundle(
    path: &Path,
    mut entry: impl FnMut(&Manifest, &EntryPath, Vec<u8>) -> Result<(), BundleError>,
) -> Result<Manifest, BundleError> {
    walk_bundle(path, |manifest, kind, told, found| {
        let bytes = bytes_of(found, told)?;
        entry(manifest, kind, bytes)
    })
}

fn bytes_of(found: &mut dyn Read, told: &Entry) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    copy_entry(found, told, &mut bytes)?;
    Ok(bytes)
}

/// Checks all of a bundle, holding no more of it than a buffer.
pub(crate) fn check_bundle(path: &Path) -> Result<Manifest, BundleError> {
    walk_bundle(path, |_, _, told, found| copy_entry(found, told, &mut std::io::sink()))
}

/// An analysis is of one source, and made by whoever it says: nothing else has its key.
fn check_key(key: &str, told: &Entry, bytes: &[u8], keys: &BTreeMap<&str, &str>) -> Result<(), BundleError> {
    let made_by = MadeBy::of(bytes);
    let is_its_own = keys.get(key).zip(made_by).is_some_and(|(sha256, made_by)| made_by.key(sha256) == key);
    if is_its_own { Ok(()) } else { Err(BundleError::WrongKey { path: told.path.clone() }) }
}

/// What a bundle says of itself, of which nothing else is read.
pub(crate) fn manifest_of(path: &Path) -> Result<Manifest, BundleError> {
    let mut archive = open(path)?;
    first_entry(&mut archive.entries().map_err(damaged)?.raw(true))
}

fn damaged(error: std::io::Error) -> BundleError {
    BundleError::Damaged(error.to_string())
}

/// A bundle as a stream of at most one byte more than it may have, so that reaching the limit can be told from ending at
/// it.
type Archive = tar::Archive<std::io::Take<GzDecoder<std::io::BufReader<fs_err::File>>>>;

fn open(path: &Path) -> Result<Archive, BundleError> {
    let read = |source| BundleError::Read { path: path.to_owned(), source };
    if !fs_err::metadata(path).map_err(read)?.is_file() {
        // To open a pipe would wait for whoever writes into it.
        return Err(BundleError::NoFile { path: path.to_owned() });
    }
    let file = fs_err::File::open(path).map_err(read)?;
    let unpacked = GzDecoder::new(std::io::BufReader::new(file)).take(MAX_TOTAL_BYTES + 1);
    Ok(tar::Archive::new(unpacked))
}

fn first_entry<R: Read>(entries: &mut tar::Entries<'_, R>) -> Result<Manifest, BundleError> {
    let first = entries.next().ok_or_else(|| BundleError::Damaged("it is empty".to_owned()))?;
    read_manifest(first.map_err(damaged)?)
}

/// Goes through a bundle; `entry` reads and checks the bytes of each entry.
fn walk_bundle(
    path: &Path,
    mut entry: impl FnMut(&Manifest, &EntryPath, &Entry, &mut dyn Read) -> Result<(), BundleError>,
) -> Result<Manifest, BundleError> {
    let mut archive = open(path)?;
    // Raw: the library would read a long name, or a pax header, whole into memory before we see it.
    let mut entries = archive.entries().map_err(damaged)?.raw(true);
    let manifest = first_entry(&mut entries)?;
    let keys = analysis_key::keys_of(&manifest.sources).map_err(|key| BundleError::SharedKey { key })?;
    let mut expected = manifest.entries.iter();
    for found in entries {
        let mut found = found.map_err(damaged)?;
        let name = String::from_utf8_lossy(&found.path_bytes()).into_owned();
        let kind = EntryPath::parse(&name)?;
        if found.header().entry_type() != tar::EntryType::Regular {
            return Err(BundleError::NotAFile { path: name });
        }
        let told =
            expected.next().filter(|told| told.path == name).ok_or(BundleError::Surprise { path: name })?;
        if matches!(&kind, EntryPath::Source(sha256) if *sha256 != told.sha256) {
            return Err(BundleError::Digest { path: told.path.clone() });
        }
        if let EntryPath::Analysis(key) = &kind {
            let bytes = bytes_of(&mut found, told)?;
            check_key(key, told, &bytes, &keys)?;
            entry(&manifest, &kind, told, &mut bytes.as_slice())?;
        } else {
            entry(&manifest, &kind, told, &mut found)?;
        }
    }
    if let Some(missing) = expected.next() {
        return Err(BundleError::Missing { path: missing.path.clone() });
    }
    let mut rest = archive.into_inner();
    // To the very end: the checksum of the whole stream stands there.
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(damaged)?;
    if rest.limit() == 0 {
        return Err(BundleError::Bomb);
    }
    Ok(manifest)
}

/// Bytes of an entry that are held at once.
const BUFFER: usize = 64 * 1024;

/// Copies an entry to `sink` and checks that it is what the manifest tells of.
fn copy_entry(found: &mut dyn Read, told: &Entry, sink: &mut dyn Write) -> Result<(), BundleError> {
    let damaged = |error: std::io::Error| BundleError::Damaged(error.to_string());
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut found = std::io::BufReader::with_capacity(BUFFER, found.take(told.size + 1));
    loop {
        let bytes = std::io::BufRead::fill_buf(&mut found).map_err(damaged)?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(bytes);
        sink.write_all(bytes).map_err(damaged)?;
        let read = bytes.len();
        size += read as u64;
        std::io::BufRead::consume(&mut found, read);
    }
    if size != told.size {
        return Err(BundleError::Size { path: told.path.clone(), expected: told.size, found: size });
    }
    if hex(hasher.finalize()) != told.sha256 {
        return Err(BundleError::Digest { path: told.path.clone() });
    }
    Ok(())
}

/// The format first, alone: a newer manifest may have any other shape.
#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

fn read_manifest<R: Read>(entry: tar::Entry<'_, R>) -> Result<Manifest, BundleError> {
    if entry.path_bytes() != MANIFEST.as_bytes() {
        return Err(BundleError::Damaged("it does not begin with a manifest".to_owned()));
    }
    let size = entry.size();
    if size > MAX_MANIFEST_BYTES {
        return Err(BundleError::Limit { what: format!("{size} bytes"), limit: MAX_MANIFEST_BYTES });
    }
    let mut text = Vec::new();
    entry
        .take(MAX_MANIFEST_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| BundleError::Damaged(error.to_string()))?;
    let json = |error: serde_json::Error| BundleError::Damaged(format!("its manifest: {error}"));
    check_bundle_format(serde_json::from_slice::<Format>(&text).map_err(json)?.format)?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(json)?;
    manifest_check::check(&manifest).map_err(BundleError::Damaged)?;
    if manifest.entries.len() > MAX_ENTRIES {
        return Err(BundleError::Limit {
            what: format!("{} entries", manifest.entries.len()),
            limit: MAX_ENTRIES as u64,
        });
    }
    let (digests, keys): (BTreeSet<&String>, BTreeSet<&String>) =
        manifest.sources.iter().map(|source| (&source.sha256, &source.analysis)).unzip();
    let mut names = BTreeSet::new();
    for told in &manifest.entries {
        let path = EntryPath::parse(&told.path)?;
        if told.size > path.max_bytes() {
            return Err(BundleError::Limit {
                what: format!("{} of {} bytes", told.path, told.size),
                limit: path.max_bytes(),
            });
        }
        let is_named = match &path {
            EntryPath::Data(_) => true,
            EntryPath::Source(sha256) => digests.contains(sha256),
            EntryPath::Analysis(key) => keys.contains(key),
        };
        if !is_named {
            return Err(BundleError::Unnamed { path: told.path.clone() });
        }
        if !names.insert(&told.path) {
            return Err(BundleError::Surprise { path: told.path.clone() });
        }
    }
    Ok(manifest)
}
