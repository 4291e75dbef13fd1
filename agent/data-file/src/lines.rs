//! Sets of lines and of arcs, in the forms of coverage.py's data file.

/// Lines that ran, as numbits: bit `n % 8` of byte `n / 8` is line `n`. Never ends in a zero byte.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineSet(Vec<u8>);

impl LineSet {
    pub fn from_numbits(mut numbits: Vec<u8>) -> Self {
        while numbits.last() == Some(&0) {
            numbits.pop();
        }
        Self(numbits)
    }

    pub fn as_numbits(&self) -> &[u8] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Line numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().zip((0u32..).step_by(8)).flat_map(|(&byte, first)| {
            (0..8).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| first + bit)
        })
    }

    pub fn contains(&self, line: u32) -> bool {
        self.0.get(line as usize / 8).is_some_and(|byte| byte & (1 << (line % 8)) != 0)
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// The lines that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self::from_numbits(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine & theirs).collect())
    }

    /// The lines that are in this one only.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let theirs = other.0.iter().copied().chain(std::iter::repeat(0));
        Self::from_numbits(self.0.iter().zip(theirs).map(|(mine, theirs)| mine & !theirs).collect())
    }

    pub fn insert(&mut self, line: u32) {
        let byte = line as usize / 8;
        if self.0.len() <= byte {
            self.0.resize(byte + 1, 0);
        }
        if let Some(byte) = self.0.get_mut(byte) {
            *byte |= 1 << (line % 8);
        }
    }

    pub fn union_with(&mut self, other: &[u8]) {
        let used = other.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        if self.0.len() < used {
            self.0.resize(used, 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(other) {
            *mine |= theirs;
        }
    }
}

impl<'a> FromIterator<&'a LineSet> for LineSet {
    /// The union of all.
    fn from_iter<I: IntoIterator<Item = &'a LineSet>>(sets: I) -> Self {
        let mut all = Self::default();
        for set in sets {
            all.union_with(set.as_numbits());
        }
        all
    }
}

impl FromIterator<u32> for LineSet {
    fn from_iter<I: IntoIterator<Item = u32>>(lines: I) -> Self {
        let mut set = Self::default();
        for line in lines {
            set.insert(line);
        }
        set
    }
}

/// From line and to line; negative numbers are the entry and exit of the code object at that line.
pub type Arc = (i32, i32);

/// Arcs that ran: sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArcSet(Vec<Arc>);

impl ArcSet {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Arc> + '_ {
        self.0.iter().copied()
    }

    /// The lines that the arcs touch, as coverage.py counts them: every positive end.
    pub fn lines(&self) -> LineSet {
        self.iter()
            .flat_map(|(from, to)| [from, to])
            .filter_map(|n| u32::try_from(n).ok().filter(|&n| n > 0))
            .collect()
    }

    pub fn union_with(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        let mut merged = Vec::with_capacity(self.0.len() + other.0.len() / 4);
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        loop {
            match (mine.peek(), theirs.peek()) {
                (Some(a), Some(b)) => {
                    let (a, b) = (**a, **b);
                    merged.push(a.min(b));
                    if a <= b {
                        mine.next();
                    }
                    if b <= a {
                        theirs.next();
                    }
                }
                (Some(_), None) => {
                    merged.extend(mine.by_ref());
                    break;
                }
                (None, _) => {
                    merged.extend(theirs.by_ref());
                    break;
                }
            }
        }
        self.0 = merged;
    }
}

impl FromIterator<Arc> for ArcSet {
    fn from_iter<I: IntoIterator<Item = Arc>>(arcs: I) -> Self {
        let mut arcs: Vec<Arc> = arcs.into_iter().collect();
        arcs.sort_unstable();
        arcs.dedup();
        Self(arcs)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbits_round_trip(lines in prop::collection::btree_set(0u32..5000, 0..60)) {
            let set: LineSet = lines.iter().copied().collect();
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), lines);
            prop_assert_eq!(LineSet::from_numbits([set.as_numbits(), &[0, 0]].concat()), set);
        }

        #[test]
        fn line_union_is_the_union(a in prop::collection::btree_set(0u32..500, 0..60), b in prop::collection::btree_set(0u32..500, 0..60)) {
            let mut set: LineSet = a.iter().copied().collect();
            set.union_with(b.iter().copied().collect::<LineSet>().as_numbits());
            prop_assert_eq!(set, a.union(&b).copied().collect::<LineSet>());
        }

        #[test]
        fn line_algebra_is_that_of_sets(a in prop::collection::btree_set(0u32..500, 0..60), b in prop::collection::btree_set(0u32..500, 0..60)) {
            let (set, other): (LineSet, LineSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            prop_assert_eq!(set.intersection(&other), a.intersection(&b).copied().collect::<LineSet>());
            prop_assert_eq!(set.difference(&other), a.difference(&b).copied().collect::<LineSet>());
            prop_assert_eq!(set.count(), a.len());
            prop_assert!((0..500).all(|line| set.contains(line) == a.contains(&line)));
        }

        #[test]
        fn arc_union_is_the_union(a in prop::collection::btree_set((-50i32..50, -50i32..50), 0..60), b in prop::collection::btree_set((-50i32..50, -50i32..50), 0..60)) {
            let mut set: ArcSet = a.iter().copied().collect();
            set.union_with(&b.iter().copied().collect());
            prop_assert_eq!(set, a.union(&b).copied().collect::<ArcSet>());
        }
    }
}
