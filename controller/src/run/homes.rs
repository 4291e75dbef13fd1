//! Which host a process belongs to that several tell of: containers that share a data folder each find what all of them
//! recorded. A host is believed about what it says is not its own; who says that it is its own has it, else whose own
//! processes call their host by that name, else the first by name of those that found it. Nothing is dropped for it: what
//! ran counts for the host whose it is, whoever brought it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pulpcov_protocol::bundle::EntryPath;
use pulpcov_protocol::manifest::{Compacted, Manifest, Process};

use crate::run::bundle_reader::manifest_of;

#[derive(Debug, Default)]
pub(crate) struct Homes {
    /// Of records that are foreign to some host.
    by_record: BTreeMap<String, Home>,
    /// What own processes call their host, to that host; nothing where several have that name.
    by_hostname: BTreeMap<String, Option<String>>,
}

#[derive(Debug, Default)]
struct Home {
    owner: Option<String>,
    hostname: String,
    finders: BTreeSet<String>,
}

/// What a bundle tells of another host.
pub(crate) enum Moved {
    One(String, Process),
    Many(String, Compacted),
}

impl Moved {
    pub(crate) const fn data(&self) -> Option<&String> {
        match self {
            Self::One(_, process) => process.data.as_ref(),
            Self::Many(_, many) => many.data.as_ref(),
        }
    }
}

impl Homes {
    /// Of all bundles together. One that cannot be read tells nothing: whoever reads it whole says why.
    pub(crate) fn of<'a>(bundles: impl Iterator<Item = &'a Path> + Clone) -> Self {
        let mut homes = Self::default();
        let manifests = || bundles.clone().filter_map(|path| manifest_of(path).ok());
        for manifest in manifests() {
            homes.note_foreign(&manifest);
        }
        if !homes.by_record.is_empty() {
            for manifest in manifests() {
                homes.note_own(&manifest);
            }
        }
        homes
    }

    fn note_foreign(&mut self, manifest: &Manifest) {
        let one = manifest.processes.iter().filter(|one| one.foreign).map(|one| (&one.record, &one.hostname));
        let none = String::new();
        let many = manifest.compacted.iter().filter(|many| many.foreign).map(|many| (&many.record, &none));
        for (record, hostname) in one.chain(many) {
            let home = self.by_record.entry(record.clone()).or_default();
            home.finders.insert(manifest.host.clone());
            // Whatever order they come in, one word of several counts.
            if home.hostname.is_empty() || *hostname < home.hostname && !hostname.is_empty() {
                home.hostname.clone_from(hostname);
            }
        }
    }

    fn note_own(&mut self, manifest: &Manifest) {
        let own = manifest.processes.iter().filter(|one| !one.foreign);
        for process in own.clone().filter(|one| !one.hostname.is_empty()) {
            let known = self.by_hostname.entry(process.hostname.clone());
            let host = known.or_insert_with(|| Some(manifest.host.clone()));
            if host.as_ref() != Some(&manifest.host) {
                *host = None;
            }
        }
        let many = manifest.compacted.iter().filter(|many| !many.foreign).map(|many| &many.record);
        for record in own.map(|one| &one.record).chain(many) {
            if let Some(home) = self.by_record.get_mut(record)
                && home.owner.as_ref().is_none_or(|owner| manifest.host < *owner)
            {
                home.owner = Some(manifest.host.clone());
            }
        }
    }

    /// The host of a record that a host says is not its own.
    fn home(&self, record: &str) -> Option<&String> {
        let home = self.by_record.get(record)?;
        let by_hostname = || self.by_hostname.get(&home.hostname)?.as_ref();
        home.owner.as_ref().or_else(by_hostname).or_else(|| home.finders.first())
    }

    fn of_another(&self, host: &str, record: &str, is_foreign: bool) -> Option<&String> {
        self.home(record).filter(|home| is_foreign && *home != host)
    }

    /// Data files of a bundle that are another host's, each with that host.
    pub(crate) fn data_of_others(&self, manifest: &Manifest) -> BTreeMap<String, String> {
        let one = manifest.processes.iter().map(|one| (&one.record, one.foreign, &one.data));
        let many = manifest.compacted.iter().map(|many| (&many.record, many.foreign, &many.data));
        one.chain(many)
            .filter_map(|(record, is_foreign, data)| {
                Some((data.clone()?, self.of_another(&manifest.host, record, is_foreign)?.clone()))
            })
            .collect()
    }

    /// Takes out of a manifest what is another host's.
    pub(crate) fn take_out(&self, manifest: &mut Manifest) -> Vec<Moved> {
        let others = self.data_of_others(manifest);
        let host = manifest.host.clone();
        let mut moved = Vec::new();
        for process in std::mem::take(&mut manifest.processes) {
            match self.of_another(&host, &process.record, process.foreign) {
                Some(home) => moved.push(Moved::One(home.clone(), process)),
                None => manifest.processes.push(process),
            }
        }
        for many in std::mem::take(&mut manifest.compacted) {
            match self.of_another(&host, &many.record, many.foreign) {
                Some(home) => moved.push(Moved::Many(home.clone(), many)),
                None => manifest.compacted.push(many),
            }
        }
        manifest.entries.retain(
            |entry| !matches!(EntryPath::parse(&entry.path), Ok(EntryPath::Data(name)) if others.contains_key(&name)),
        );
        moved
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

    /// Who has which record in the end, by what each bundle keeps and gives away.
    fn shared_out(homes: &Homes, all: &[&Manifest]) -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for manifest in all {
            let mut manifest = (*manifest).clone();
            for moved in homes.take_out(&mut manifest) {
                if let Moved::One(host, process) = moved {
                    found.entry(process.record).or_default().insert(host);
                }
            }
            for process in manifest.processes {
                found.entry(process.record).or_default().insert(manifest.host.clone());
            }
        }
        found
    }

    #[test]
    fn each_process_is_told_of_once_by_the_host_whose_it_is() {
        let all = [
            manifest("a", &[("own", false, "a-id"), ("gone", true, "c-id"), ("dead", true, "nobody")]),
            manifest("b", &[("own", true, "a-id"), ("gone", true, "c-id"), ("dead", true, "nobody")]),
            // Its own process had ended, and another's collect had taken it away before this one looked.
            manifest("c", &[("own", true, "a-id"), ("other", false, "c-id")]),
        ];
        // In whichever order they come.
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let ordered = order.map(|at| &all[at]);
            let found = shared_out(&homes_of(&ordered), &ordered);
            let of = |name: &str| {
                found[&format!("proc.{name}.json")].iter().map(String::as_str).collect::<Vec<_>>()
            };
            assert_eq!((of("own"), of("gone"), of("dead")), (vec!["a"], vec!["c"], vec!["a"]));
        }
    }

    #[test]
    fn nobody_takes_what_another_says_is_its_own() {
        let all = [manifest("a", &[("own", false, "a-id")]), manifest("liar", &[("own", false, "a-id")])];
        let found = shared_out(&homes_of(&[&all[0], &all[1]]), &[&all[0]]);
        assert_eq!(found["proc.own.json"], BTreeSet::from(["a".to_owned()]));
    }

    #[test]
    fn a_name_that_two_hosts_have_decides_nothing() {
        let all = [
            manifest("b", &[("one", false, "node"), ("gone", true, "node")]),
            manifest("a", &[("two", false, "node"), ("gone", true, "node")]),
        ];
        let found = shared_out(&homes_of(&[&all[0], &all[1]]), &[&all[0], &all[1]]);
        assert_eq!(found["proc.gone.json"], BTreeSet::from(["a".to_owned()]));
    }
}
