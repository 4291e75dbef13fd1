//! A report by host, group, role or label: who ran which lines, who alone, and what all of them ran.

use pulpcov_data_file::lines::LineSet;

use crate::origin::Dimension;
use crate::report::{FileReport, Report};

/// The names of one dimension, and what belongs to each.
#[derive(Debug, Clone)]
pub struct View {
    pub dimension: Dimension,
    pub names: Vec<String>,
    /// Origin to the names that it goes by, as their places in `names`.
    members: Vec<Vec<usize>>,
}

/// What one name ran of a file: lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    pub ran: LineSet,
    /// Of these, what no other name ran. (A host of an outer group is no stranger to it.)
    pub only_there: LineSet,
}

/// What one name ran of a whole report: counts of statements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub ran: usize,
    pub only_there: usize,
}

impl View {
    pub fn new(report: &Report, dimension: Dimension) -> Self {
        let mut names: Vec<String> = match dimension {
            Dimension::Host => report.hosts.clone(),
            Dimension::Group => report.groups.keys().cloned().collect(),
            Dimension::Role | Dimension::Label => Vec::new(),
        };
        let of_origins = report.origins.iter().flat_map(|origin| dimension.names_of(origin, &report.groups));
        names.extend(of_origins.map(str::to_owned));
        names.sort();
        names.dedup();
        let place = |name: &str| names.binary_search_by(|have| have.as_str().cmp(name)).ok();
        let members = report
            .origins
            .iter()
            .map(|origin| dimension.names_of(origin, &report.groups).into_iter().filter_map(place).collect())
            .collect();
        Self { dimension, names, members }
    }

    /// The names that an origin goes by, as their places in `names`.
    pub fn members(&self, origin: usize) -> &[usize] {
        self.members.get(origin).map_or(&[], Vec::as_slice)
    }

    /// What each name ran of a file, in the order of `names`.
    pub fn of_file(&self, file: &FileReport) -> Vec<Part> {
        let mut parts = vec![Part::default(); self.names.len()];
        for (origin, lines) in &file.ran {
            for &name in self.members(*origin) {
                if let Some(part) = parts.get_mut(name) {
                    part.ran.union_with(lines.as_numbits());
                }
            }
        }
        if self.dimension == Dimension::Group {
            self.only_in_groups(file, &mut parts);
        } else {
            only_in_one(&mut parts);
        }
        parts
    }

    /// Groups overlap: what a group alone ran is what no host outside of it ran.
    fn only_in_groups(&self, file: &FileReport, parts: &mut [Part]) {
        for (name, part) in parts.iter_mut().enumerate() {
            let strangers = file.ran.iter().filter(|(origin, _)| !self.members(*origin).contains(&name));
            let others: LineSet = strangers.map(|(_, lines)| lines).collect();
            part.only_there = part.ran.difference(&others);
        }
    }

    /// The lines of a file that every name ran.
    pub fn everywhere(parts: &[Part]) -> LineSet {
        let mut parts = parts.iter();
        let first = parts.next().map(|part| part.ran.clone()).unwrap_or_default();
        parts.fold(first, |all, part| all.intersection(&part.ran))
    }

    /// What each name ran of the whole report, and how many statements all of them ran.
    pub fn totals(&self, report: &Report) -> (Vec<Counts>, usize) {
        let mut totals = vec![Counts::default(); self.names.len()];
        let mut everywhere = 0;
        for file in &report.files {
            let parts = self.of_file(file);
            everywhere += Self::everywhere(&parts).count();
            for (total, part) in totals.iter_mut().zip(&parts) {
                total.ran += part.ran.count();
                total.only_there += part.only_there.count();
            }
        }
        (totals, everywhere)
    }

    /// A name as a reader sees it.
    pub fn shown(name: &str) -> &str {
        if name.is_empty() { "(none)" } else { name }
    }
}

/// Where each origin has one name, a line is one name's alone if it was seen once.
fn only_in_one(parts: &mut [Part]) {
    let (mut once, mut again) = (LineSet::default(), LineSet::default());
    for part in &*parts {
        again.union_with(once.intersection(&part.ran).as_numbits());
        once.union_with(part.ran.as_numbits());
    }
    for part in parts {
        part.only_there = part.ran.difference(&again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{Groups, Origin};

    fn lines(lines: &[u32]) -> LineSet {
        lines.iter().copied().collect()
    }

    fn report() -> Report {
        let origin =
            |host: &str, label: &str| Origin { host: host.into(), label: label.into(), ..Origin::default() };
        let file = FileReport {
            ran: vec![(0, lines(&[1, 2])), (1, lines(&[2, 3])), (2, lines(&[2, 4]))],
            ..FileReport::default()
        };
        Report {
            origins: vec![origin("a", "startup"), origin("a", "tier1"), origin("b", "tier1")],
            hosts: vec!["a".into(), "b".into(), "c".into()],
            groups: Groups::from([
                ("all".to_owned(), ["a", "b", "c"].map(str::to_owned).into()),
                ("web".to_owned(), ["a".to_owned()].into()),
            ]),
            files: vec![file],
            ..Report::default()
        }
    }

    #[test]
    fn each_dimension_tells_who_ran_what_and_who_alone() {
        let report = report();
        let of = |dimension| View::new(&report, dimension).of_file(&report.files[0]);
        let hosts = of(Dimension::Host);
        assert_eq!(hosts[0], Part { ran: lines(&[1, 2, 3]), only_there: lines(&[1, 3]) });
        assert_eq!(hosts[1], Part { ran: lines(&[2, 4]), only_there: lines(&[4]) });
        assert_eq!(hosts[2], Part::default(), "a host without data has a place");
        assert_eq!(View::everywhere(&hosts[..2]), lines(&[2]));
        assert_eq!(View::everywhere(&hosts), lines(&[]));
        let labels = of(Dimension::Label);
        assert_eq!(labels[1], Part { ran: lines(&[2, 3, 4]), only_there: lines(&[3, 4]) });
    }

    #[test]
    fn a_group_inside_another_takes_nothing_from_it() {
        let report = report();
        let view = View::new(&report, Dimension::Group);
        assert_eq!(view.names, ["all", "web"]);
        let groups = view.of_file(&report.files[0]);
        assert_eq!(groups[0].only_there, lines(&[1, 2, 3, 4]));
        assert_eq!(groups[1].only_there, lines(&[1, 3]));
        let (totals, everywhere) = view.totals(&report);
        assert_eq!((totals[1].ran, totals[1].only_there, everywhere), (3, 2, 3));
    }
}
