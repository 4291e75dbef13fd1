//! How much is looked at of what lies in a folder that everybody can write into: a share for each owner, those first
//! whose files they should be. A flood of one user's files costs that user's, and nobody else's.

use std::collections::BTreeMap;

use pulpcov_protocol::text::counted;

/// A file by its name, and what the kernel says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) size: u64,
}

/// Most files, and bytes in them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

impl Share {
    const fn has_room(&self, candidate: &Candidate) -> bool {
        self.files > 0 && self.bytes >= candidate.size
    }

    const fn less(self, candidate: &Candidate) -> Self {
        Self { files: self.files - 1, bytes: self.bytes - candidate.size }
    }
}

/// Whether one more file fits into all of the shares, which it then takes up; else it takes nothing of any.
fn take(candidate: &Candidate, shares: &mut [&mut Share]) -> bool {
    let fits = shares.iter().all(|share| share.has_room(candidate));
    if fits {
        for share in shares.iter_mut() {
            **share = share.less(candidate);
        }
    }
    fits
}

/// What is looked at, in order: the service's by name, then those of others, those who have least first; and how many
/// files of each owner are beyond its share, or all.
pub(crate) fn select(
    candidates: Vec<Candidate>,
    is_service: &dyn Fn(u32) -> bool,
    mut all: Share,
    stranger: Share,
) -> (Vec<Candidate>, BTreeMap<u32, u64>) {
    let (mut taken, strangers): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|candidate| is_service(candidate.uid));
    taken.sort_by(|a, b| a.name.cmp(&b.name));
    let mut beyond = BTreeMap::new();
    taken.retain(|candidate| take(candidate, &mut [&mut all]) || left(candidate, &mut beyond));
    let mut by_owner: BTreeMap<u32, Vec<Candidate>> = BTreeMap::new();
    for candidate in strangers {
        by_owner.entry(candidate.uid).or_default().push(candidate);
    }
    let mut owners: Vec<Vec<Candidate>> = by_owner.into_values().collect();
    owners.sort_by_key(|files| (files.len(), files.first().map(|file| file.uid)));
    for mut files in owners {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let mut own = stranger;
        files.retain(|candidate| take(candidate, &mut [&mut own, &mut all]) || left(candidate, &mut beyond));
        taken.extend(files);
    }
    (taken, beyond)
}

fn left(candidate: &Candidate, beyond: &mut BTreeMap<u32, u64>) -> bool {
    *beyond.entry(candidate.uid).or_default() += 1;
    false
}

/// What is said of many things, each reason once, with a few of the names that it is said of.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    by_reason: BTreeMap<String, (Vec<String>, u64)>,
    /// Owner to how many of its files are beyond its share.
    beyond: BTreeMap<u32, u64>,
}

/// Names that are told with a reason.
const NAMED: usize = 3;

impl Remarks {
    pub(crate) fn add(&mut self, reason: impl Into<String>, name: impl Into<String>) {
        let (names, count) = self.by_reason.entry(reason.into()).or_default();
        *count += 1;
        if names.len() < NAMED {
            names.push(name.into());
        }
    }

    pub(crate) fn add_beyond(&mut self, beyond: BTreeMap<u32, u64>) {
        self.beyond = beyond;
    }

    /// One line for each reason, and for each owner of too much: what it is said that one is, and that several are.
    pub(crate) fn lines(&self, one: &str, several: &str) -> Vec<String> {
        let line = |(reason, (names, count)): (&String, &(Vec<String>, u64))| {
            let more = count - names.len() as u64;
            let names = names.join(", ");
            match (*count, more) {
                (1, _) => format!("{names} {one}: {reason}"),
                (_, 0) => format!("{names} {several}: {reason}"),
                _ => format!("{names} and {more} more {several}: {reason}"),
            }
        };
        let beyond = |(uid, count): (&u32, &u64)| {
            let files = counted(*count, "file");
            format!(
                "{files} of user {uid} {}: beyond that user's share",
                if *count == 1 { one } else { several }
            )
        };
        self.by_reason.iter().map(line).chain(self.beyond.iter().map(beyond)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(name: &str, uid: u32, size: u64) -> Candidate {
        Candidate { name: name.to_owned(), uid, size }
    }

    const ALL: Share = Share { files: 10, bytes: 1000 };
    const STRANGER: Share = Share { files: 3, bytes: 100 };

    #[test]
    fn the_service_comes_first_and_a_flood_takes_no_place_but_its_own() {
        let mut all: Vec<Candidate> = (0..500).map(|n| candidate(&format!("a{n:03}"), 1005, 1)).collect();
        all.push(candidate("z", 0, 900));
        all.push(candidate("b", 1006, 50));
        all.push(candidate("c", 1006, 51));
        let (taken, beyond) = select(all, &|uid| uid == 0, ALL, STRANGER);
        let names: Vec<&str> = taken.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["z", "b", "a000", "a001", "a002"]);
        assert_eq!(beyond, BTreeMap::from([(1005, 497), (1006, 1)]));
    }

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let all = vec![candidate("z", 0, 950), candidate("a", 1006, 60), candidate("b", 1006, 50)];
        let (taken, beyond) = select(all, &|uid| uid == 0, ALL, STRANGER);
        let names: Vec<&str> = taken.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((names, beyond), (vec!["z", "b"], BTreeMap::from([(1006, 1)])));
    }

    proptest! {
        #[test]
        fn no_share_is_exceeded_and_each_file_is_taken_or_counted(
            files in prop::collection::vec((0u32..4, 0u64..200), 0..60),
        ) {
            let all: Vec<Candidate> = files
                .iter()
                .enumerate()
                .map(|(n, &(uid, size))| candidate(&n.to_string(), uid, size))
                .collect();
            let (taken, beyond) = select(all.clone(), &|uid| uid < 2, ALL, STRANGER);
            prop_assert_eq!(taken.len() as u64 + beyond.values().sum::<u64>(), all.len() as u64);
            prop_assert!(taken.len() <= ALL.files && taken.iter().map(|one| one.size).sum::<u64>() <= ALL.bytes);
            for uid in 2..4 {
                let own: Vec<u64> = taken.iter().filter(|one| one.uid == uid).map(|one| one.size).collect();
                prop_assert!(own.len() <= STRANGER.files && own.iter().sum::<u64>() <= STRANGER.bytes);
            }
            let mut reversed = all;
            reversed.reverse();
            prop_assert_eq!(select(reversed, &|uid| uid < 2, ALL, STRANGER).0, taken);
        }
    }

    #[test]
    fn remarks_are_counted() {
        let mut remarks = Remarks::default();
        for n in 0..135_000 {
            remarks.add("no coverage.py data file", format!("x{n}"));
        }
        remarks.add("it has 300 names", "y");
        remarks.add_beyond(BTreeMap::from([(7, 1), (1005, 38_000)]));
        assert_eq!(
            remarks.lines("is left alone", "are left alone"),
            [
                "y is left alone: it has 300 names",
                "x0, x1, x2 and 134997 more are left alone: no coverage.py data file",
                "1 file of user 7 is left alone: beyond that user's share",
                "38000 files of user 1005 are left alone: beyond that user's share",
            ]
        );
    }
}
