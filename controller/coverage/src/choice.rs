//! Which of several analyses of one source counts: hosts with other Pythons see it otherwise, and a host may lie.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pulpcov_data_file::data::Kind;

use crate::analysis::SourceAnalysis;

/// Hosts behind an analysis that counts, and hosts behind another that sees other statements.
pub type Doubt = (BTreeSet<String>, BTreeSet<String>);

/// An analysis, and who has the source and a Python that makes it.
#[derive(Debug, Clone)]
pub(crate) struct OfferedAnalysis<'a> {
    pub(crate) key: &'a str,
    pub(crate) hosts: &'a BTreeSet<String>,
    pub(crate) analysis: Arc<SourceAnalysis>,
}

impl OfferedAnalysis<'_> {
    /// Whether both make the same number of what ran.
    fn says_the_same(&self, other: &Self, kind: Kind) -> bool {
        let (a, b) = (&self.analysis, &other.analysis);
        let lines = a.statements == b.statements && a.excluded == b.excluded && same_first_lines(a, b);
        lines && (kind == Kind::Lines || branches(a) == branches(b))
    }
}

/// Whether each line belongs to the same statement. Versions differ in what they make of the comments and the words
/// before the first one, which lead to nothing but that.
fn same_first_lines(a: &SourceAnalysis, b: &SourceAnalysis) -> bool {
    let begin = a.statements.first().copied().unwrap_or(i32::MAX);
    let others = |of: &SourceAnalysis| -> Vec<(i32, i32)> {
        let pairs = of.multiline.iter().map(|(&line, &first)| (line, first));
        pairs.filter(|&(line, first)| line >= begin || first > begin).collect()
    };
    others(a) == others(b)
}

/// How many ways there are out of all branches of a source.
pub fn exits_of_branches(analysis: &SourceAnalysis) -> i64 {
    branches(analysis).values().fold(0, |sum: i64, (exits, _)| sum.saturating_add(*exits))
}

/// Lines with several exits, each with their number and that of the arcs that leave it. Where these lead, Pythons
/// tell in their own ways, but what did not run of so many is not fewer for it.
fn branches(analysis: &SourceAnalysis) -> BTreeMap<i32, (i64, usize)> {
    let is_branch = |(line, exits): &(&i32, &i64)| **exits > 1 && !analysis.no_branch.contains(line);
    let arcs = |line: i32| analysis.arcs.range((line, i32::MIN)..=(line, i32::MAX)).count();
    analysis.exit_counts.iter().filter(is_branch).map(|(&line, &exits)| (line, (exits, arcs(line)))).collect()
}

/// The newest coverage.py's view; of equally new ones that of most hosts. Besides, the hosts behind it and behind
/// another that sees other statements or branches, where that is no matter of versions: the same coverage.py, or one
/// host alone against others.
pub(crate) fn choose(
    offered: &[OfferedAnalysis<'_>],
    kind: Kind,
) -> Option<(Arc<SourceAnalysis>, Option<Doubt>)> {
    let rank = |one: &&OfferedAnalysis<'_>| {
        (version_key(&one.analysis.coverage), one.hosts.len(), one.key.to_owned())
    };
    let chosen = offered.iter().max_by_key(rank)?;
    let is_doubtful = |other: &&OfferedAnalysis<'_>| {
        let is_alone = chosen.hosts.len() == 1 && !other.hosts.is_subset(chosen.hosts);
        (is_alone || other.analysis.coverage == chosen.analysis.coverage)
            && !other.says_the_same(chosen, kind)
    };
    let doubt = offered.iter().find(is_doubtful);
    Some((Arc::clone(&chosen.analysis), doubt.map(|other| (chosen.hosts.clone(), other.hosts.clone()))))
}

/// `7.17.3` as numbers, for comparing.
pub fn version_key(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analysis(coverage: &str, statements: &[i32]) -> Arc<SourceAnalysis> {
        Arc::new(SourceAnalysis {
            coverage: coverage.to_owned(),
            statements: statements.iter().copied().collect(),
            ..SourceAnalysis::default()
        })
    }

    fn hosts(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn chosen(all: &[(&str, &[&str], &str, &[i32])]) -> (String, usize, bool) {
        let sets: Vec<BTreeSet<String>> = all.iter().map(|(_, names, _, _)| hosts(names)).collect();
        let offered: Vec<OfferedAnalysis<'_>> = all
            .iter()
            .zip(&sets)
            .map(|((key, _, version, lines), hosts)| OfferedAnalysis {
                key,
                hosts,
                analysis: analysis(version, lines),
            })
            .collect();
        let (analysis, doubt) = choose(&offered, Kind::Arcs).expect("some");
        (analysis.coverage.clone(), analysis.statements.len(), doubt.is_some())
    }

    #[test]
    fn the_newest_view_counts_and_one_host_alone_is_doubted() {
        let old = ("a", &["h1", "h2"][..], "7.6.1", &[1, 2, 3][..]);
        assert_eq!(chosen(&[old, ("b", &["h3", "h4"], "7.17.3", &[1, 2])]), ("7.17.3".into(), 2, false));
        assert_eq!(chosen(&[old, ("b", &["h3"], "7.17.3", &[1, 2, 3])]), ("7.17.3".into(), 3, false));
        assert_eq!(chosen(&[old, ("b", &["h3"], "7.17.3", &[1])]), ("7.17.3".into(), 1, true));
        // A host with two Pythons has nobody against it.
        let own = ("a", &["h3"][..], "7.6.1", &[1, 2, 3][..]);
        assert_eq!(chosen(&[own, ("b", &["h3"], "7.17.3", &[1])]), ("7.17.3".into(), 1, false));
    }

    #[test]
    fn branches_that_one_host_alone_sees_otherwise_are_doubted() {
        let of = |exits: i64, arcs: &[(i32, i32)]| {
            let plain = analysis("7.17.3", &[1, 2, 3]);
            Arc::new(SourceAnalysis {
                exit_counts: [(1, exits)].into(),
                arcs: arcs.iter().copied().collect(),
                ..(*plain).clone()
            })
        };
        let (honest, few, lost) = (of(2, &[(1, 2), (1, 3)]), of(1, &[(1, 2), (1, 3)]), of(2, &[(1, 2)]));
        let elsewhere = of(2, &[(1, 2), (1, -1)]);
        let (one, other) = (hosts(&["h1"]), hosts(&["h2"]));
        let is_doubted = |lie: &Arc<SourceAnalysis>, kind| {
            let offered = [("a", &one, &honest), ("b", &other, lie)]
                .map(|(key, hosts, analysis)| OfferedAnalysis { key, hosts, analysis: Arc::clone(analysis) });
            choose(&offered, kind).expect("some").1.is_some()
        };
        assert!(is_doubted(&few, Kind::Arcs) && is_doubted(&lost, Kind::Arcs));
        assert!(!is_doubted(&few, Kind::Lines), "no number of lines is another");
        assert!(!is_doubted(&elsewhere, Kind::Arcs), "as many that did not run");
    }

    #[test]
    fn what_comes_before_the_first_statement_is_no_matter() {
        let of = |pairs: &[(i32, i32)]| {
            let plain = analysis("7.17.3", &[3, 5]);
            SourceAnalysis { multiline: pairs.iter().copied().collect(), ..(*plain).clone() }
        };
        assert!(same_first_lines(&of(&[(1, 3), (4, 3)]), &of(&[(4, 3)])));
        assert!(!same_first_lines(&of(&[(4, 3)]), &of(&[(4, 5)])));
        assert!(
            !same_first_lines(&of(&[(1, 3)]), &of(&[(1, 5)])),
            "a line of words would run the last statement"
        );
        assert!(!same_first_lines(&of(&[(5, 3)]), &of(&[])));
    }

    #[test]
    fn equal_versions_see_equal_statements_or_are_doubted_and_most_hosts_are_followed() {
        let most = ("a", &["h1", "h2"][..], "7.17.3", &[1, 2, 3][..]);
        assert_eq!(chosen(&[most, ("b", &["h3"], "7.17.3", &[1])]), ("7.17.3".into(), 3, true));
        assert_eq!(chosen(&[most, ("b", &["h3"], "7.17.3", &[1, 2, 3])]), ("7.17.3".into(), 3, false));
        assert!(chosen(&[("a", &["h1"], "7.10.7", &[]), ("b", &["h2"], "7.9.9", &[])]).0 == "7.10.7");
    }
}
