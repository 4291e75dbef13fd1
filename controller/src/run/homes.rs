//! Which host a process belongs to that several tell of: containers that share a data folder each find what all of them
//! recorded. A host is believed about what it says is not its own, and who says that it is its own is it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pulpcov_protocol::bundle::EntryPath;
use pulpcov_protocol::manifest::Manifest;

use crate::run::bundle_reader::manifest_of;

/// Record to its host, of those that are foreign to some host.
#[derive(Debug, Default)]
pub(crate) struct Homes(BTreeMap<String, Home>);

/// The best claim yet: its own comes before a host of the name that the process tells, that before any that found it, and
/// of equal ones the first by name counts.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Home {
    rank: Rank,
    host: String,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Own,
    SameName,
    Found,
}

/// A record of a manifest: its name, whether it is foreign, and what the host of its process calls itself.
fn records(manifest: &Manifest) -> impl Iterator<Item = (&String, bool, &str)> {
    let one = manifest.processes.iter().map(|one| (&one.record, one.foreign, one.hostname.as_str()));
    one.chain(manifest.compacted.iter().map(|many| (&many.record, many.foreign, "")))
}

impl Homes {
    /// Of all bundles together. One that cannot be read claims nothing: whoever reads it whole says why.
    pub(crate) fn of<'a>(bundles: impl Iterator<Item = &'a Path> + Clone) -> Self {
        let mut homes = Self::default();
        let manifests = || bundles.clone().filter_map(|path| manifest_of(path).ok());
        for manifest in manifests() {
            homes.note_foreign(&manifest);
        }
        if !homes.0.is_empty() {
            for manifest in manifests() {
                homes.note_own(&manifest);
            }
        }
        homes
    }

    fn note_foreign(&mut self, manifest: &Manifest) {
        for (record, _, hostname) in records(manifest).filter(|(_, is_foreign, _)| *is_foreign) {
            let rank = if hostname == manifest.hostname { Rank::SameName } else { Rank::Found };
            self.claim(record, Home { rank, host: manifest.host.clone() });
        }
    }

    fn note_own(&mut self, manifest: &Manifest) {
        for (record, is_foreign, _) in records(manifest) {
            if !is_foreign && self.0.contains_key(record) {
                self.claim(record, Home { rank: Rank::Own, host: manifest.host.clone() });
            }
        }
    }

    fn claim(&mut self, record: &str, claim: Home) {
        let now = self.0.entry(record.to_owned());
        let best = now.or_insert_with(|| Home { rank: Rank::Found, host: claim.host.clone() });
        if claim < *best {
            *best = claim;
        }
    }

    /// Whether a host tells of a record that is another's.
    fn is_anothers(&self, host: &str, record: &str) -> bool {
        self.0.get(record).is_some_and(|home| home.host != host)
    }

    /// Data files of a bundle that are another host's, with which they come as well.
    pub(crate) fn data_of_others(&self, manifest: &Manifest) -> BTreeSet<String> {
        let one = manifest.processes.iter().map(|one| (&one.record, one.foreign, &one.data));
        let many = manifest.compacted.iter().map(|many| (&many.record, many.foreign, &many.data));
        one.chain(many)
            .filter(|(record, is_foreign, _)| *is_foreign && self.is_anothers(&manifest.host, record))
            .filter_map(|(_, _, data)| data.clone())
            .collect()
    }

    /// Takes out of a manifest what is another host's.
    pub(crate) fn keep_own(&self, manifest: &mut Manifest) {
        let others = self.data_of_others(manifest);
        let host = manifest.host.clone();
        manifest.processes.retain(|one| !one.foreign || !self.is_anothers(&host, &one.record));
        manifest.compacted.retain(|many| !many.foreign || !self.is_anothers(&host, &many.record));
        manifest.entries.retain(
            |entry| !matches!(EntryPath::parse(&entry.path), Ok(EntryPath::Data(name)) if others.contains(&name)),
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(host: &str, processes: &[(&str, bool, &str)]) -> Manifest {
        let processes: Vec<_> = processes
            .iter()
            .map(|(name, foreign, hostname)| {
                json!({
                    "record": format!("proc.{name}.json"), "record_sha256": "", "pid": 7, "parent": 1,
                    "start_ticks": 1, "started_at": 0.0, "argv": [], "unit": null, "role": "api", "python": "3.11.2",
                    "coverage": "7.17.3", "data": format!("data.{name}"), "last_flush": null, "state": "elsewhere",
                    "error": null, "foreign": foreign, "hostname": hostname,
                })
            })
            .collect();
        let manifest = json!({
            "format": 1, "host": host, "hostname": format!("{host}-id"), "boot_id": "b", "agent": "0",
            "collected_at": 1.0, "data_root": "/d", "profile": "p", "interval": 5.0, "processes": processes,
            "entries": [], "sources": [],
        });
        serde_json::from_value(manifest).expect("a manifest")
    }

    fn homes_of(manifests: &[&Manifest]) -> Homes {
        let mut homes = Homes::default();
        for manifest in manifests {
            homes.note_foreign(manifest);
        }
        for manifest in manifests {
            homes.note_own(manifest);
        }
        homes
    }

    #[test]
    fn each_process_is_told_of_once_by_the_host_whose_it_is() {
        let all = [
            manifest("a", &[("own", false, "a-id"), ("named", true, "c-id"), ("dead", true, "gone")]),
            manifest("b", &[("own", true, "a-id"), ("named", true, "c-id"), ("dead", true, "gone")]),
            manifest("c", &[("own", true, "a-id"), ("named", true, "c-id"), ("dead", true, "gone")]),
        ];
        // In whichever order they come.
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let homes = homes_of(order.map(|at| &all[at]).as_slice());
            let kept = |at: usize| {
                let mut manifest = all[at].clone();
                homes.keep_own(&mut manifest);
                manifest.processes.into_iter().map(|one| one.record).collect::<Vec<_>>()
            };
            assert_eq!(kept(0), ["proc.own.json", "proc.dead.json"]);
            assert_eq!(kept(1), Vec::<String>::new());
            assert_eq!(kept(2), ["proc.named.json"]);
        }
    }

    #[test]
    fn nobody_takes_what_another_says_is_its_own() {
        let all = [manifest("a", &[("own", false, "a-id")]), manifest("liar", &[("own", false, "a-id")])];
        let homes = homes_of(&[&all[0], &all[1]]);
        let mut manifest = all[0].clone();
        homes.keep_own(&mut manifest);
        assert_eq!(manifest.processes.len(), 1);
    }
}
