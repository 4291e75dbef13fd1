//! What one bundle holds, until all of it was read: a damaged one adds nothing.

use std::collections::{BTreeMap, BTreeSet};

use pulpcov_coverage::origin::Origin;
use pulpcov_coverage::source_text::most_lines;
use pulpcov_data_file::combine::Combiner;
use pulpcov_data_file::data::CoverageData;
use pulpcov_data_file::data_file;
use pulpcov_protocol::bundle::EntryPath;
use pulpcov_protocol::manifest::Manifest;
use pulpcov_protocol::text::error_chain;

use crate::report::analyses::Brought;
use crate::run::bundle::BundleError;
use crate::run::homes::Homes;

/// The role of data that no process of the service tells of: it is counted, and can be left out.
pub(crate) const EXTRA: &str = "extra";

/// What a manifest says of its entries, to be looked up.
pub(crate) struct ManifestIndex {
    host: String,
    /// Data file to where and when it was written.
    origins: BTreeMap<String, Origin>,
    /// Data files that have paths whose source was replaced.
    of_replaced: BTreeSet<String>,
}

impl ManifestIndex {
    pub(crate) fn of(manifest: &Manifest, homes: &Homes) -> Self {
        Self {
            host: manifest.host.clone(),
            origins: origins_of(manifest, homes),
            of_replaced: manifest.replaced.data.iter().map(|one| one.name.clone()).collect(),
        }
    }
}

/// Data file to where and when it was written, by what the processes say of themselves.
fn origins_of(manifest: &Manifest, homes: &Homes) -> BTreeMap<String, Origin> {
    let of_others = homes.data_of_others(manifest);
    let extra = manifest.extra.keys().map(|name| {
        let origin = Origin { host: manifest.host.clone(), role: EXTRA.to_owned(), label: String::new() };
        (name.clone(), origin)
    });
    let one = manifest.processes.iter().map(|process| (&process.data, &process.role, &process.label));
    let many = manifest.compacted.iter().map(|many| (&many.data, &many.common.role, &many.common.label));
    let origin = |(data, role, label): (&Option<String>, &String, &String)| {
        let data = data.as_ref()?;
        let host = of_others.get(data).unwrap_or(&manifest.host).clone();
        Some((data.clone(), Origin { host, role: role.clone(), label: label.clone() }))
    };
    extra.chain(one.chain(many).filter_map(origin)).collect()
}

/// Bytes of sources that a report may still take.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Room {
    /// Nobody asks for them.
    None,
    Left(u64),
}

#[derive(Default)]
pub(crate) struct Staged {
    /// What ran, by where and when, and by kind.
    pub(crate) data: BTreeMap<Origin, Vec<Combiner>>,
    /// Names of the data files that could be read.
    pub(crate) read: BTreeSet<String>,
    /// Data that has paths whose source was replaced, by its name, each by itself.
    pub(crate) of_replaced: Vec<(String, Origin, CoverageData)>,
    pub(crate) analyses: Vec<(String, Brought)>,
    pub(crate) texts: BTreeMap<String, Vec<u8>>,
    /// Most lines of each source.
    pub(crate) lines: BTreeMap<String, usize>,
    pub(crate) warnings: BTreeSet<String>,
    taken: u64,
}

impl Staged {
    /// Takes the bytes of an entry. Fails where there is no room for them.
    pub(crate) fn take(
        &mut self,
        told: &ManifestIndex,
        entry: EntryPath,
        bytes: Vec<u8>,
        room: Room,
    ) -> Result<(), BundleError> {
        match entry {
            EntryPath::Data(name) => self.take_data(told, name, &bytes),
            EntryPath::Analysis(key) => {
                self.analyses.extend(Brought::of(&told.host, &bytes).map(|brought| (key, brought)));
            }
            EntryPath::Source(sha256) => {
                self.lines.insert(sha256.clone(), most_lines(&bytes));
                if let Room::Left(most) = room {
                    self.taken += bytes.len() as u64;
                    if self.taken > most {
                        let what = "sources for a report".to_owned();
                        return Err(BundleError::TooMuch { what, limit: most });
                    }
                    self.texts.insert(sha256, bytes);
                }
            }
        }
        Ok(())
    }

    fn take_data(&mut self, told: &ManifestIndex, name: String, bytes: &[u8]) {
        let host = &told.host;
        let unknown = || Origin { host: host.clone(), ..Origin::default() };
        let origin = told.origins.get(&name).cloned().unwrap_or_else(unknown);
        let added = data_file::open(bytes).and_then(|opened| {
            // By itself first: a damaged one adds nothing.
            let mut one = Combiner::default();
            opened.combine(&mut one, Some(""))?;
            if told.of_replaced.contains(&name) {
                self.of_replaced.push((name.clone(), origin, one.into_data()));
                return Ok(());
            }
            let of_origin = self.data.entry(origin).or_default();
            let fits =
                |all: &Combiner| all.kind().is_none() || one.kind().is_none() || all.kind() == one.kind();
            match of_origin.iter_mut().find(|all| fits(all)) {
                Some(all) => all.merge(one)?,
                None => of_origin.push(one),
            }
            Ok(())
        });
        match added {
            Ok(()) => drop(self.read.insert(name)),
            Err(error) => {
                let reason = error_chain(&error);
                self.warnings.insert(format!("host {host}: data file {name} is left out: {reason}"));
            }
        }
    }
}
