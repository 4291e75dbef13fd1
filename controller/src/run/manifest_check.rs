//! What a manifest may say: words of bounded sizes, since a report keeps some of them once for each process or line.

use pulpcov_protocol::bundle::{MAX_PATH_BYTES, is_digest, is_file_name};
use pulpcov_protocol::manifest::{CommonFacts, FINGERPRINT_LETTERS, Manifest, Process, Source};

/// Longest name of a host, role, unit, label, run or version.
const MAX_NAME: usize = 1024;

/// Fails with what is wrong.
pub(crate) fn check(manifest: &Manifest) -> Result<(), String> {
    names(&[&manifest.host, &manifest.hostname, &manifest.boot_id, &manifest.agent, &manifest.profile])?;
    paths(&[&manifest.data_root])?;
    if !(manifest.collected_at.is_finite() && manifest.interval.is_finite()) {
        return Err("its manifest has times that are none".to_owned());
    }
    manifest.processes.iter().try_for_each(process)?;
    for many in &manifest.compacted {
        common(&many.common)?;
        let members = many.members.iter().map(|member| &member.record);
        files(members.chain([&many.record]).chain(&many.data))?;
    }
    manifest.sources.iter().try_for_each(source)?;
    for one in manifest.unsourced.iter().flatten() {
        paths(&[&one.path])?;
    }
    manifest.unlisted.iter().try_for_each(|package| names(&[package]))?;
    files(manifest.extra.keys())?;
    let replaced = &manifest.replaced;
    replaced.paths.iter().try_for_each(|path| paths(&[path]))?;
    files(replaced.data.iter().map(|one| &one.name))?;
    match replaced.fingerprints.iter().find(|one| one.len() != FINGERPRINT_LETTERS) {
        Some(_) => Err("its manifest has a fingerprint that is none".to_owned()),
        None => Ok(()),
    }
}

fn process(process: &Process) -> Result<(), String> {
    names(&[&process.role, &process.python, &process.coverage, &process.label, &process.run])?;
    names(&process.unit.iter().map(String::as_str).collect::<Vec<_>>())?;
    files(std::iter::once(&process.record).chain(&process.data))
}

fn common(common: &CommonFacts) -> Result<(), String> {
    names(&[&common.boot_id, &common.label, &common.run, &common.role, &common.python, &common.coverage])?;
    names(&common.unit.iter().map(String::as_str).collect::<Vec<_>>())?;
    paths(&[&common.prefix])
}

fn source(source: &Source) -> Result<(), String> {
    paths(&[&source.path, &source.module_path, &source.interpreter])?;
    if is_digest(&source.sha256) && is_digest(&source.analysis) {
        return Ok(());
    }
    Err(format!("its manifest has no digests for {:?}", source.path))
}

fn names(names: &[&str]) -> Result<(), String> {
    within(names, MAX_NAME)
}

fn paths(paths: &[&str]) -> Result<(), String> {
    within(paths, MAX_PATH_BYTES)
}

fn within(words: &[&str], most: usize) -> Result<(), String> {
    match words.iter().find(|word| word.len() > most) {
        Some(word) => Err(format!("its manifest has a word of {} bytes, the limit is {most}", word.len())),
        None => Ok(()),
    }
}

fn files<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    match names.find(|name| !is_file_name(name)) {
        Some(name) => {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
            Err(format!("its manifest names a file {shown:?}"))
        }
        None => Ok(()),
    }
}
