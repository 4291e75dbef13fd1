//! Several releases of one file: lines that did not change are carried over from one to the other.

use std::collections::{BTreeMap, BTreeSet};

use pulpcov_data_file::data::{Kind, Measured};
use pulpcov_data_file::lines::{ArcSet, LineSet};
use similar::{Algorithm, DiffOp, capture_diff_slices};

/// Most lines of a source that are compared: the time may grow with their square.
const MAX_LINES: usize = 100_000;

/// What was carried over of one variant of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    pub module_path: String,
    /// Digests of the variant that was given up, and of the one that is reported.
    pub from: String,
    pub to: String,
    pub hosts: BTreeSet<String>,
    /// Lines that ran there and are in both, and those that are not: these count nowhere.
    pub carried: usize,
    pub lost: usize,
}

/// Line of one text to the same line of another; nothing where they are too long to compare.
pub fn line_map(from: &str, to: &str) -> Option<BTreeMap<u32, u32>> {
    let (from, to): (Vec<&str>, Vec<&str>) = (from.split('\n').collect(), to.split('\n').collect());
    if from.len() > MAX_LINES || to.len() > MAX_LINES {
        return None;
    }
    let mut map = BTreeMap::new();
    for op in capture_diff_slices(Algorithm::Patience, &from, &to) {
        if let DiffOp::Equal { old_index, new_index, len } = op {
            let lines = (old_index..old_index + len).zip(new_index..);
            map.extend(
                lines.filter_map(|(old, new)| {
                    Some((u32::try_from(old + 1).ok()?, u32::try_from(new + 1).ok()?))
                }),
            );
        }
    }
    Some(map)
}

/// What ran, with the line numbers of the other text; and how many lines are in both, and are not.
pub(crate) fn carry(measured: &Measured, map: &BTreeMap<u32, u32>) -> (Measured, usize, usize) {
    let Measured::Lines(ran) = measured.to_lines() else { return (Measured::none(Kind::Lines), 0, 0) };
    let carried = ran.iter().filter(|line| map.contains_key(line)).count();
    let lost = ran.count() - carried;
    let mapped = match measured {
        Measured::Lines(lines) => {
            Measured::Lines(lines.iter().filter_map(|line| map.get(&line).copied()).collect::<LineSet>())
        }
        Measured::Arcs(arcs) => {
            // An arc is the same where both of its ends are; the ends of code objects keep their sign.
            let end = |line: i32| {
                let new = i32::try_from(*map.get(&line.unsigned_abs())?).ok()?;
                Some(if line < 0 { -new } else { new })
            };
            Measured::Arcs(
                arcs.iter().filter_map(|(from, to)| Some((end(from)?, end(to)?))).collect::<ArcSet>(),
            )
        }
    };
    (mapped, carried, lost)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_and_arcs_follow_an_insertion_and_what_changed_is_lost() {
        let map = line_map("a\nb\nc\nd", "new\na\nB\nc\nd").expect("short");
        assert_eq!(map, BTreeMap::from([(1, 2), (3, 4), (4, 5)]));
        let lines = Measured::Lines([1, 2, 4].into_iter().collect());
        assert_eq!(carry(&lines, &map), (Measured::Lines([2, 5].into_iter().collect()), 2, 1));
        let arcs = Measured::Arcs([(-1, 1), (1, 2), (3, 4), (4, -1)].into_iter().collect());
        let wanted = Measured::Arcs([(-2, 2), (4, 5), (5, -2)].into_iter().collect());
        assert_eq!(carry(&arcs, &map), (wanted, 3, 1));
    }

    proptest! {
        #[test]
        fn only_equal_lines_are_carried_each_to_one_place_in_order(a in "[ab\n]{0,30}", b in "[ab\n]{0,30}") {
            let map = line_map(&a, &b).expect("short");
            let (a, b): (Vec<&str>, Vec<&str>) = (a.split('\n').collect(), b.split('\n').collect());
            for (from, to) in &map {
                prop_assert_eq!(a[*from as usize - 1], b[*to as usize - 1]);
            }
            prop_assert!(map.values().is_sorted_by(|x, y| x < y));
            if a == b {
                prop_assert_eq!(map.len(), a.len());
            }
        }
    }
}
