//! Collecting: what is listed, held open, and written as one bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use pulpcov_data_file::data_file;
use pulpcov_protocol::bundle::{EntryPath, MANIFEST, MAX_DATA_FILES, MAX_PATH_BYTES};
use pulpcov_protocol::manifest::{Compacted, Entry, Manifest, Process, Replaced, Source, Unsourced};
use pulpcov_protocol::op::{Collect, Want};
use pulpcov_protocol::outcome::FlushDetail;
use pulpcov_protocol::version::BUNDLE_FORMAT;

use crate::bundle::image_sources;
use crate::bundle::maps::{self, Written};
use crate::bundle::source_list;
use crate::bundle::source_list::{Measured, Sources};
use crate::bundle::spool::{Held, NotHeld, Spool};
use crate::failure::{During, Failure};
use crate::host::facts::CollectLock;
use crate::host::owners::Trusted;
use crate::host::{facts, fs};
use crate::receipt::{self, Receipt};
use crate::recorder::data_dir::{DataFile, LEDGER};
use crate::recorder::fingerprint::{self, Present};
use crate::recorder::ledger::Unflushed;
use crate::recorder::{data_dir, flush, ledger, phase};

/// What one `collect` listed; the files stay open until the bundle is sent.
pub(crate) struct Gathered {
    pub(crate) receipt: Receipt,
    pub(crate) lib_root: String,
    data: Vec<(Held, Entry)>,
    spool: Spool,
    pub(crate) remaining: u64,
    /// The last name of the list.
    pub(crate) last: Option<String>,
    pub(crate) others: u64,
    pub(crate) processes: Vec<Process>,
    pub(crate) compacted: Vec<Compacted>,
    pub(crate) sources: Vec<Source>,
    /// Texts of sources that lie in archives, by path.
    archived: BTreeMap<String, Vec<u8>>,
    unsourced: Vec<Unsourced>,
    unlisted: BTreeSet<String>,
    replaced: Replaced,
    /// Data files that no process of the service tells of, with their owners.
    extra: BTreeMap<String, u32>,
    pub(crate) flush: Option<FlushDetail>,
    pub(crate) unflushed: Unflushed,
    pub(crate) warnings: Vec<String>,
    _lock: CollectLock,
}

impl Gathered {
    pub(crate) fn data_files(&self) -> u64 {
        self.data.len() as u64
    }

    /// Processes, each counted once however often it was reset.
    pub(crate) fn process_count(&self) -> u64 {
        let one = self.processes.iter().map(|process| (process.pid, process.start_ticks));
        let many = self.compacted.iter().flat_map(|c| &c.members).map(|m| (m.pid, m.start_ticks));
        one.chain(many).collect::<BTreeSet<_>>().len() as u64
    }

    pub(crate) fn data_bytes(&self) -> u64 {
        self.data.iter().map(|(_, entry)| entry.size).sum()
    }
}

/// Flushes, then lists data files, processes and sources, of the users that were noted.
///
/// `unflushed` are processes of which an earlier round knows that they hold what nobody has.
pub(crate) fn gather(args: &Collect, unflushed: Option<Unflushed>) -> Result<Gathered, Failure> {
    let lib_root = &args.lib_root;
    let mut receipt = receipt::of_data(lib_root)?;
    if !receipt.complete && !source_list::script(lib_root).exists() {
        // It was cut off before anything could be recorded. What an earlier install left can wait.
        return Err(Failure::new("an install was not finished here").hint("install again, or uninstall"));
    }
    let mut warnings = Vec::new();
    image_sources::use_present_image(&mut receipt.config, &mut warnings)?;
    let root = &receipt.config.data_root;
    let lock = CollectLock::share(&receipt::path_in(lib_root), &root.join(LEDGER));
    if args.finish && args.after.is_none() {
        phase::finish(root)?;
    }
    let mut unasked = None;
    let mut flush = args.flush_timeout.and_then(|seconds| {
        let asked = flush::flush(&receipt.config, Duration::from_secs_f64(seconds.clamp(0.0, 600.0)));
        // On a full disk nobody can be asked, but what was written before can still be fetched: that
        // is when it is wanted most.
        asked.map_err(|failure| unasked = Some(format!("nobody was asked to flush: {}", failure.msg))).ok()
    });
    warnings.extend(unasked.clone());
    let mut written = maps::write_data(lib_root, &receipt.config)?;
    warnings.append(&mut written.warnings);
    let mut listing = {
        let before = ledger::read(&receipt.config)?;
        let runs = before.runs();
        let wanted = |name: &str| args.part.takes(runs.get(name).copied());
        data_dir::list(root, args.after.as_deref(), open_file_budget(), &wanted)?
    };
    if args.after.is_none() {
        add_held(&mut listing.files, &mut written)?;
    }
    let last = listing.files.last().map(|file| file.name.clone());
    // The ledger is read after the data is held: a process that ends in between has then flushed
    // more than its record admits, never less.
    let mut ledger = ledger::read(&receipt.config)?;
    if let Some(flush) = &mut flush {
        // What these ran is in their maps, whether they answer or not.
        for record in ledger.records.iter().filter(|record| record.has_live_map) {
            flush.silent.retain(|pid| record.pid_here != Some(*pid));
            flush.elsewhere.retain(|name| *name != record.process.record);
        }
    }
    let unflushed = match unflushed {
        Some(known) if args.flush_timeout.is_none() => known,
        _ => ledger.unflushed(flush.as_ref(), unasked.as_deref()),
    };
    ledger.note_unflushed(&unflushed);
    written.note(&mut ledger.records);
    // What is installed may lie on a volume that nobody writes to.
    let mut spool = Spool::new(Path::new(lib_root))
        .or_else(|failure| Spool::new(&root.join(LEDGER)).map_err(|_| failure))?;
    let mut data = Vec::with_capacity(listing.files.len());
    warnings.extend(listing.warnings);
    let runs = ledger.runs();
    for file in listing.files {
        // A process that began meanwhile may tell of it now.
        if !args.part.takes(runs.get(file.name.as_str()).copied()) {
            continue;
        }
        let path = EntryPath::Data(file.name.clone()).to_string();
        let uid = Some(file.regular.uid);
        match spool.hold(file.regular) {
            Ok((held, sha256, size)) => data.push((held, Entry { path, size, sha256, uid })),
            Err(NotHeld::KeepsChanging) => {
                warnings.push(format!("{} is left alone: it changes while it is read", file.name));
            }
            Err(NotHeld::Failed(error)) => return Err(error).during("read", &file.name),
        }
    }
    drop_erased(&mut data, &ledger, root);
    let (measured, paths) = measured(&mut data, &mut spool, &ledger)?;
    let extra = extra(&data, &ledger);
    let sources = source_list::list(lib_root, &receipt.config, &ledger, &measured)?;
    let trusted = source_list::trusted(&receipt.config);
    let replaced = replaced(&paths, &ledger, &sources, &trusted);
    warnings.extend(ledger.warnings.iter().cloned());
    warnings.extend(sources.warnings);
    Ok(Gathered {
        processes: ledger
            .processes()
            .filter(|process| args.part.takes(Some(&process.run)))
            .cloned()
            .collect(),
        compacted: ledger
            .compacted()
            .filter(|many| args.part.takes(Some(&many.common.run)))
            .cloned()
            .collect(),
        sources: sources.listed,
        archived: sources.archived,
        unsourced: sources.unsourced,
        unlisted: sources.unlisted,
        replaced,
        extra,
        lib_root: lib_root.clone(),
        remaining: listing.remaining,
        last,
        others: listing.others,
        receipt,
        data,
        spool,
        flush,
        unflushed,
        warnings,
        _lock: lock,
    })
}

/// Adds what there was no room for in the data folder; an older file of that name has less.
fn add_held(files: &mut Vec<DataFile>, written: &mut Written) -> Result<(), Failure> {
    for (name, bytes, uid) in written.held.drain(..) {
        files.retain(|file| file.name != name);
        files.push(DataFile::in_memory(name, &bytes, uid)?);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

/// Data files whose records say what they ran, with their owner and their paths.
type Paths = Vec<(String, Option<u32>, Vec<String>)>;

/// Drops what another agent has erased between the list and the ledger, its record with it: that has it in a bundle of its
/// own, and here nobody could say what it is.
fn drop_erased<T>(data: &mut Vec<(T, Entry)>, ledger: &ledger::Ledger, root: &Path) {
    let told = ledger.told_data();
    data.retain(|(_, entry)| {
        let name = entry.path.strip_prefix("data/").unwrap_or(&entry.path);
        told.contains(name) || std::fs::symlink_metadata(root.join(name)).is_ok()
    });
}

/// The files that data tells of, each with `sys.prefix` of a process that ran it, where that is known; and by data
/// file. Data that cannot be read tells of nothing; a report says so.
fn measured(
    data: &mut [(Held, Entry)],
    spool: &mut Spool,
    ledger: &ledger::Ledger,
) -> Result<(Measured, Paths), Failure> {
    let prefixes = ledger.prefixes();
    let (mut measured, mut by_data) = (Measured::new(), Paths::new());
    for (held, entry) in data {
        let name = entry.path.strip_prefix("data/").unwrap_or(&entry.path);
        let mut bytes = Vec::new();
        spool.read(held).and_then(|mut from| from.read_to_end(&mut bytes)).during("read", name)?;
        let mut paths = data_file::open(&bytes).and_then(|opened| opened.paths()).unwrap_or_default();
        // Those of no file: anybody's data may have them. A report finds no source for them.
        paths.retain(|path| path.len() <= MAX_PATH_BYTES && !path.contains('\0'));
        let prefix = prefixes.get(name);
        for path in &paths {
            let known = measured.entry(path.clone()).or_default();
            *known = known.take().or_else(|| prefix.map(|&prefix| prefix.to_owned()));
        }
        by_data.push((name.to_owned(), entry.uid, paths));
    }
    Ok((measured, by_data))
}

/// Data files that no process of the service tells of, with their owners: people may put such there.
fn extra(data: &[(Held, Entry)], ledger: &ledger::Ledger) -> BTreeMap<String, u32> {
    let told = ledger.told_data();
    let names = data.iter().filter_map(|(_, entry)| Some((entry.path.strip_prefix("data/")?, entry.uid)));
    names
        .filter(|(name, _)| !told.contains(name))
        .map(|(name, uid)| (name.to_owned(), uid.unwrap_or_default()))
        .collect()
}

/// What ran of bytes that are no longer there, by the very sources that were listed.
fn replaced(by_data: &Paths, ledger: &ledger::Ledger, sources: &Sources, trusted: &Trusted) -> Replaced {
    let mut present = Present::new(trusted);
    for (path, now) in &sources.present {
        present.add(path, now.clone());
    }
    let of_host = |source: &&Source| !sources.present.contains_key(&source.path);
    for source in sources.listed.iter().filter(of_host) {
        let is_archived = sources.archived.contains_key(&source.path);
        let now = if is_archived {
            fingerprint::of_archived(&source.path, trusted)
        } else {
            Some(fingerprint::of_source(&source.path, &source.sha256))
        };
        present.add(&source.path, now);
    }
    for one in sources.unsourced.iter().filter(|one| !sources.present.contains_key(&one.path)) {
        present.add(&one.path, None);
    }
    let found = by_data.iter().filter_map(|(name, owner, paths)| {
        let recorded = ledger.fingerprints(name, *owner)?;
        let paths = present.replaced(paths.iter(), recorded);
        (!paths.is_empty()).then(|| (name.clone(), paths, recorded))
    });
    Replaced::of(found.collect::<Vec<_>>())
}

/// How many data files can be held open at once: the hard limit, less what the agent itself needs.
fn open_file_budget() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const OWN: u64 = 64;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(MAX_DATA_FILES as u64 + OWN);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    let usable = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => limit.current.unwrap_or(1024),
    };
    usize::try_from(usable.saturating_sub(OWN)).unwrap_or(MAX_DATA_FILES).clamp(1, MAX_DATA_FILES)
}

/// Writes the bundle: manifest, data, sources, analyses. Returns how many entries it has.
pub(crate) fn write_bundle(
    gathered: &mut Gathered,
    host: &str,
    want: &Want,
    without_data: bool,
    out: &mut dyn Write,
) -> Result<u64, Failure> {
    let (sources, analysed) = wanted(&gathered.sources, want);
    let analyses =
        source_list::analyse(&gathered.lib_root, &gathered.receipt.config, &analysed, &gathered.archived)?;
    let data = if without_data { &mut [][..] } else { gathered.data.as_mut_slice() };

    let mut entries: Vec<Entry> = data.iter().map(|(_, entry)| entry.clone()).collect();
    entries.extend(sources.iter().map(|source| Entry {
        path: EntryPath::Source(source.sha256.clone()).to_string(),
        size: source.size,
        sha256: source.sha256.clone(),
        uid: None,
    }));
    entries.extend(analysed.iter().zip(&analyses).map(|(source, text)| Entry {
        path: EntryPath::Analysis(source.analysis.clone()).to_string(),
        size: text.len() as u64,
        sha256: fs::sha256(text),
        uid: None,
    }));
    let config = &gathered.receipt.config;
    let manifest = Manifest {
        format: BUNDLE_FORMAT,
        host: host.to_owned(),
        hostname: config.host_label.clone().unwrap_or_else(facts::hostname),
        boot_id: facts::boot_id(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        collected_at: facts::now(),
        data_root: config.data_root.to_string_lossy().into_owned(),
        profile: config.profile.name.clone(),
        interval: config.profile.interval,
        processes: gathered.processes.clone(),
        compacted: gathered.compacted.clone(),
        entries,
        sources: gathered.sources.clone(),
        unsourced: Some(gathered.unsourced.clone()),
        unlisted: gathered.unlisted.clone(),
        replaced: gathered.replaced.clone(),
        extra: gathered.extra.clone(),
        warnings: gathered.warnings.clone(),
    };
    let count = manifest.entries.len() as u64;
    let trusted = source_list::trusted(config);
    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::fast()));
    let text = serde_json::to_vec(&manifest)
        .map_err(|error| Failure::new(format!("cannot write the manifest: {error}")))?;
    append(&mut tar, MANIFEST, text.len() as u64, text.as_slice())?;
    let mut rest = manifest.entries.iter();
    for ((held, _), entry) in data.iter_mut().zip(rest.by_ref()) {
        let bytes = gathered.spool.read(held).during("read", &entry.path)?;
        append(&mut tar, &entry.path, entry.size, bytes)?;
    }
    for (source, entry) in sources.iter().zip(rest.by_ref()) {
        let bytes = source_list::text_of(source, &gathered.archived, &trusted)?;
        append(&mut tar, &entry.path, entry.size, bytes.as_slice())?;
    }
    for (text, entry) in analyses.iter().zip(rest) {
        append(&mut tar, &entry.path, entry.size, text.as_slice())?;
    }
    tar.into_inner()
        .and_then(GzEncoder::finish)
        .and_then(std::io::Write::flush)
        .during("write", "the bundle")?;
    Ok(count)
}

/// Sources to carry, each content once, and sources to analyse, each key once.
fn wanted<'s>(all: &'s [Source], want: &Want) -> (Vec<&'s Source>, Vec<&'s Source>) {
    let pick = |key: fn(&Source) -> &String, names: Option<&Vec<String>>| -> Vec<&'s Source> {
        let names: Option<BTreeSet<&String>> = names.map(|names| names.iter().collect());
        let mut seen = BTreeSet::new();
        all.iter()
            .filter(|source| names.as_ref().is_none_or(|names| names.contains(key(source))))
            .filter(|source| seen.insert(key(source).clone()))
            .collect()
    };
    let (sources, analyses) = match want {
        Want::Everything => (None, None),
        Want::Only { sources, analyses } => (Some(sources), Some(analyses)),
    };
    (pick(|source| &source.sha256, sources), pick(|source| &source.analysis, analyses))
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    size: u64,
    bytes: impl Read,
) -> Result<(), Failure> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::Regular);
    tar.append_data(&mut header, path, Exactly { bytes, left: size }).during("write", path)
}

/// Exactly so many bytes, or an error: a file that its owner cuts meanwhile must not become a tar
/// whose sizes lie.
struct Exactly<R> {
    bytes: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = match buffer.get_mut(..most) {
            Some(buffer) if !buffer.is_empty() => self.bytes.read(buffer)?,
            _ => return Ok(0),
        };
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it got shorter while it was read"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_erased_by_others_meanwhile_is_theirs_and_what_somebody_put_there_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("data.there"), "").expect("written");
        let entry = |name: &str| Entry {
            path: EntryPath::Data(name.to_owned()).to_string(),
            size: 0,
            sha256: String::new(),
            uid: None,
        };
        let mut data = vec![((), entry("data.there")), ((), entry("data.erased"))];
        drop_erased(&mut data, &ledger::Ledger::default(), folder.path());
        let left: Vec<&str> = data.iter().map(|((), entry)| entry.path.as_str()).collect();
        assert_eq!(left, ["data/data.there"]);
    }
}
