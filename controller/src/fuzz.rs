//! Ways to the readers of what a host or a stranger sends, for `fuzz/`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use pulpcov_coverage::glob::Globs;
use pulpcov_coverage::selection::Selection;
use pulpcov_protocol::text::hex;
use sha2::{Digest, Sha256};

use crate::inventory::load;
use crate::inventory::load::{Request, Via};
use crate::inventory::model::list;
use crate::report::from_runs;
use crate::run::analysis_key::MadeBy;
use crate::run::bundle_reader;

/// The bytes of a bundle's archive, wherever they end or lie: what is checked is what is read.
pub fn bundle(archive: &[u8], folder: &Path) {
    let Some(path) = packed(archive, folder) else { return };
    let checked = bundle_reader::check_bundle(&path).ok();
    let read = bundle_reader::read_bundle(&path, |_, _, _| Ok(())).ok();
    assert_eq!(checked, read, "what is checked is not what is read");
}

/// The report of a run of one bundle, whose manifest is made to fit its entries: so a host's owner would.
pub fn run(archive: &[u8], folder: &Path) {
    let Some(archive) = fitting(archive) else { return };
    let Some(path) = packed(&archive, folder) else { return };
    let everything = |_: &str| String::new();
    let (Ok(include), Ok(omit)) = (Globs::new(&[], &everything), Globs::new(&[], &everything)) else {
        return;
    };
    let wanted = from_runs::ReportRequest {
        selection: &Selection::All,
        include,
        omit,
        sources: true,
        map_releases: true,
        analyser: None,
    };
    if let Ok(made) = from_runs::make(&[path], &wanted) {
        let numbers = made.report.totals();
        assert!(numbers.missing <= numbers.statements && numbers.missing_branches <= numbers.branches);
    }
}

/// An inventory and all that is told of its hosts.
pub fn inventory(text: &[u8], folder: &Path) {
    for name in ["hosts.yml", "hosts"] {
        let path = folder.join(name);
        if std::fs::write(&path, text).is_err() {
            return;
        }
        let request = Request { sources: vec![path.clone()], via: Via::Native, ..Request::default() };
        if let Ok(inventory) = load::load(&request) {
            let hosts: Vec<String> = inventory.hosts.keys().cloned().collect();
            let _ = list::list(&inventory, &hosts);
            let _ = list::graph(&inventory, "all");
        }
        let _ = std::fs::remove_file(path);
    }
}

fn packed(archive: &[u8], folder: &Path) -> Option<PathBuf> {
    let path = folder.join("bundle-0001.tar.gz");
    let mut packed = GzEncoder::new(Vec::new(), Compression::none());
    packed.write_all(archive).ok()?;
    std::fs::write(&path, packed.finish().ok()?).ok()?;
    Some(path)
}

/// Gives a source's analysis the key that it has for what the source has become.
fn fit_analysis(source: &mut serde_json::Value, entries: &mut [(String, Vec<u8>)]) -> Option<()> {
    let old = format!("analysis/{}.json", source.get("analysis")?.as_str()?);
    let (name, bytes) = entries.iter_mut().find(|(name, _)| *name == old)?;
    let key = MadeBy::of(bytes)?.key(source.get("sha256")?.as_str()?);
    *name = format!("analysis/{key}.json");
    *source.get_mut("analysis")? = serde_json::json!(key);
    Some(())
}

/// The archive with a manifest that has the digests and sizes of its entries.
fn fitting(archive: &[u8]) -> Option<Vec<u8>> {
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in tar::Archive::new(archive).entries().ok()?.raw(true) {
        let mut entry = entry.ok()?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).ok()?;
        entries.push((String::from_utf8_lossy(&entry.path_bytes()).into_owned(), bytes));
    }
    let (_, manifest) = entries.first()?;
    let mut manifest: serde_json::Value = serde_json::from_slice(manifest).ok()?;
    let mut renamed = BTreeMap::new();
    let mut told = Vec::new();
    for (name, bytes) in entries.iter_mut().skip(1) {
        let sha256 = hex(Sha256::digest(&*bytes));
        // A source's name is its digest.
        if let Some(old) = name.strip_prefix("sources/") {
            renamed.insert(old.to_owned(), sha256.clone());
            *name = format!("sources/{sha256}");
        }
    }
    for source in manifest.get_mut("sources")?.as_array_mut()? {
        if let Some(digest) = source.get_mut("sha256")
            && let Some(new) = digest.as_str().and_then(|old| renamed.get(old))
        {
            *digest = serde_json::json!(new);
        }
        let _ = fit_analysis(source, &mut entries);
    }
    for (name, bytes) in entries.iter().skip(1) {
        told.push(
            serde_json::json!({"path": name, "size": bytes.len(), "sha256": hex(Sha256::digest(bytes))}),
        );
    }
    *manifest.get_mut("entries")? = serde_json::json!(told);
    entries.first_mut()?.1 = manifest.to_string().into_bytes();
    let mut out = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, name, &*bytes).ok()?;
    }
    out.into_inner().ok()
}
