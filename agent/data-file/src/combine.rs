//! Many data files into one set, straight from their pages: what is already known costs no memory, so
//! memory follows the union and not the number of files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::data::{CombineError, CoverageData, Kind, Measured, MeasuredFile};
use crate::lines::{self, ArcSet, LineSet};

/// There are millions of arcs, and names are few. The seed differs in each process, so that no data file can be made to
/// collide.
pub(crate) type NumberHash = foldhash::fast::RandomState;

/// What ran of a file in one context.
#[derive(Debug)]
enum Sum {
    Lines(LineSet),
    Arcs(HashSet<u64, NumberHash>),
}

fn packed((from, to): lines::Arc) -> u64 {
    u64::from(from.cast_unsigned()) << 32 | u64::from(to.cast_unsigned())
}

#[expect(clippy::cast_possible_truncation, reason = "each half is a whole number of its own")]
fn unpacked(packed: u64) -> lines::Arc {
    (((packed >> 32) as u32).cast_signed(), (packed as u32).cast_signed())
}

#[derive(Debug, Default)]
struct FileSum {
    path: Arc<str>,
    /// The file that came after this one the last time.
    next: usize,
    tracer: Option<String>,
    /// Context, as its place, to what ran; most files have one.
    contexts: Vec<(usize, Sum)>,
}

/// Data of one kind, growing. After an error it holds a part of what was wanted: throw it away.
#[derive(Debug, Default)]
pub struct Combiner {
    kind: Option<Kind>,
    paths: HashMap<Arc<str>, usize>,
    files: Vec<FileSum>,
    last: usize,
    contexts: HashMap<String, usize>,
    hash: NumberHash,
    has_tracers: bool,
}

impl Combiner {
    pub const fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Takes data of this kind from now on, and of no other.
    pub(crate) fn accept(&mut self, kind: Option<Kind>) -> Result<(), CombineError> {
        match (self.kind, kind) {
            (Some(have), Some(new)) if have != new => Err(CombineError::Kinds { have, new }),
            (have, new) => {
                self.kind = have.or(new);
                Ok(())
            }
        }
    }

    /// The place of a file, which is known from now on. Data files have them in much the same order.
    pub(crate) fn file(&mut self, path: &str) -> usize {
        let expected = self.files.get(self.last).map_or(0, |file| file.next);
        let place = match self.files.get(expected) {
            Some(file) if *file.path == *path => expected,
            _ => self.find(path),
        };
        if let Some(last) = self.files.get_mut(self.last) {
            last.next = place;
        }
        self.last = place;
        place
    }

    fn find(&mut self, path: &str) -> usize {
        if let Some(place) = self.paths.get(path) {
            return *place;
        }
        let (place, path) = (self.files.len(), Arc::<str>::from(path));
        self.files.push(FileSum { path: path.clone(), ..FileSum::default() });
        self.paths.insert(path, place);
        place
    }

    /// The place of a context, which is known from now on.
    pub(crate) fn context(&mut self, context: &str) -> usize {
        if let Some(place) = self.contexts.get(context) {
            return *place;
        }
        let place = self.contexts.len();
        self.contexts.insert(context.to_owned(), place);
        place
    }

    /// The plugin that measured a file; an empty one for none. All data must agree.
    pub(crate) fn tracer(&mut self, place: usize, path: &str, tracer: &str) -> Result<(), CombineError> {
        let Some(file) = self.files.get_mut(place) else { return Ok(()) };
        match &file.tracer {
            Some(have) if have != tracer => Err(CombineError::Tracers {
                file: path.to_owned(),
                have: have.clone(),
                new: tracer.to_owned(),
            }),
            Some(_) => Ok(()),
            None => {
                self.has_tracers |= !tracer.is_empty();
                file.tracer = Some(tracer.to_owned());
                Ok(())
            }
        }
    }

    /// Whether any file was measured by a plugin: only then can files disagree.
    pub(crate) const fn has_tracers(&self) -> bool {
        self.has_tracers
    }

    pub(crate) const fn file_count(&self) -> usize {
        self.files.len()
    }

    /// The first plugin shows up: the first `known` files were measured without one.
    pub(crate) fn settle_tracers(&mut self, known: usize) {
        for file in self.files.iter_mut().take(known) {
            file.tracer.get_or_insert_default();
        }
    }

    fn sum(&mut self, file: usize, context: usize, kind: Kind) -> Option<&mut Sum> {
        let contexts = &mut self.files.get_mut(file)?.contexts;
        let found = contexts.iter().position(|(have, _)| *have == context);
        let place = found.unwrap_or_else(|| {
            let empty = match kind {
                Kind::Lines => Sum::Lines(LineSet::default()),
                Kind::Arcs => Sum::Arcs(HashSet::with_hasher(self.hash.clone())),
            };
            contexts.push((context, empty));
            contexts.len() - 1
        });
        contexts.get_mut(place).map(|(_, sum)| sum)
    }

    pub(crate) fn add_lines(&mut self, file: usize, context: usize, numbits: &[u8]) {
        if let Some(Sum::Lines(lines)) = self.sum(file, context, Kind::Lines) {
            lines.union_with(numbits);
        }
    }

    pub(crate) fn add_arcs(&mut self, file: usize, context: usize, arcs: &[lines::Arc]) {
        if let Some(Sum::Arcs(set)) = self.sum(file, context, Kind::Arcs) {
            set.extend(arcs.iter().copied().map(packed));
        }
    }

    /// The same as data of another shape.
    pub fn add(&mut self, data: &CoverageData) -> Result<(), CombineError> {
        self.accept(data.kind())?;
        for (path, file) in &data.files {
            let place = self.file(path);
            self.tracer(place, path, &file.tracer)?;
            for (context, measured) in &file.contexts {
                let context = self.context(context);
                match measured {
                    Measured::Lines(lines) => self.add_lines(place, context, lines.as_numbits()),
                    Measured::Arcs(arcs) => self.add_arcs(place, context, &arcs.iter().collect::<Vec<_>>()),
                }
            }
        }
        Ok(())
    }

    /// The union with another one.
    pub fn merge(&mut self, mut other: Self) -> Result<(), CombineError> {
        self.accept(other.kind)?;
        if self.has_tracers || other.has_tracers {
            self.settle_tracers(usize::MAX);
            other.settle_tracers(usize::MAX);
        }
        let mut names: Vec<(String, usize)> = other.contexts.into_iter().collect();
        names.sort_unstable_by_key(|(_, place)| *place);
        let contexts: Vec<usize> = names.iter().map(|(name, _)| self.context(name)).collect();
        for theirs in other.files {
            let path = &theirs.path;
            let file = self.file(path);
            if let Some(tracer) = &theirs.tracer {
                self.tracer(file, path, tracer)?;
            }
            for (context, sum) in theirs.contexts {
                let context = contexts.get(context).copied().unwrap_or_default();
                match sum {
                    Sum::Lines(lines) => self.add_lines(file, context, lines.as_numbits()),
                    Sum::Arcs(arcs) => {
                        if let Some(Sum::Arcs(set)) = self.sum(file, context, Kind::Arcs) {
                            if set.is_empty() {
                                *set = arcs;
                            } else {
                                set.extend(arcs);
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// All of it, in order.
    pub fn into_data(self) -> CoverageData {
        let mut data = CoverageData::new(self.kind);
        let mut contexts: Vec<(String, usize)> = self.contexts.into_iter().collect();
        contexts.sort_unstable_by_key(|(_, place)| *place);
        for file in self.files {
            let measured = file.contexts.into_iter().filter_map(|(context, sum)| {
                let measured = match sum {
                    Sum::Lines(lines) => Measured::Lines(lines),
                    Sum::Arcs(arcs) => Measured::Arcs(arcs.into_iter().map(unpacked).collect::<ArcSet>()),
                };
                Some((contexts.get(context)?.0.clone(), measured))
            });
            let contexts: BTreeMap<String, Measured> = measured.collect();
            data.files.insert(
                file.path.as_ref().to_owned(),
                MeasuredFile { tracer: file.tracer.unwrap_or_default(), contexts },
            );
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arcs_are_packed_and_unpacked(from in any::<i32>(), to in any::<i32>()) {
            prop_assert_eq!(unpacked(packed((from, to))), (from, to));
        }

        #[test]
        fn it_is_the_merge_of_data(parts in prop::collection::vec((0usize..3, 0usize..3, prop::collection::vec((-9i32..9, 1i32..9), 0..9)), 0..9), branch in any::<bool>(), cut in 0usize..9) {
            let mut whole = CoverageData::default();
            let mut halves = [Combiner::default(), Combiner::default()];
            for (i, (file, context, numbers)) in parts.iter().enumerate() {
                let mut one = CoverageData::default();
                let measured = if branch {
                    Measured::Arcs(numbers.iter().copied().collect())
                } else {
                    Measured::Lines(numbers.iter().map(|(n, _)| n.unsigned_abs()).collect())
                };
                one.add(&format!("{file}.py"), &format!("c{context}"), measured).expect("one kind");
                halves[usize::from(i < cut)].add(&one).expect("one kind");
                whole.merge(one).expect("one kind");
            }
            let [mut a, b] = halves;
            a.merge(b).expect("one kind");
            prop_assert_eq!(a.into_data(), whole);
        }
    }
}
