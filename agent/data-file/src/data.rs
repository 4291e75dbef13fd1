//! What one or many data files hold, and how they are combined.
//!
//! Combining is a union of sets, file by file and context by context: associative, commutative and
//! idempotent, so inputs may come in any order, in parts, and more than once.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::lines::{ArcSet, LineSet};

/// Whether a path is absolute here, or on Windows.
pub fn is_absolute_anywhere(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with(['/', '\\'])
        || (bytes.get(1) == Some(&b':') && matches!(bytes.get(2), Some(b'/' | b'\\')))
}

/// What a data file records. A file that recorded nothing is of no kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Lines,
    Arcs,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lines => "statement",
            Self::Arcs => "branch",
        })
    }
}

/// What ran of one source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measured {
    Lines(LineSet),
    Arcs(ArcSet),
}

impl Measured {
    pub fn none(kind: Kind) -> Self {
        match kind {
            Kind::Lines => Self::Lines(LineSet::default()),
            Kind::Arcs => Self::Arcs(ArcSet::default()),
        }
    }

    pub const fn kind(&self) -> Kind {
        match self {
            Self::Lines(_) => Kind::Lines,
            Self::Arcs(_) => Kind::Arcs,
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Lines(lines) => lines.is_empty(),
            Self::Arcs(arcs) => arcs.is_empty(),
        }
    }

    /// The lines that ran: all that line data and branch data have in common.
    #[must_use]
    pub fn to_lines(&self) -> Self {
        match self {
            Self::Lines(lines) => Self::Lines(lines.clone()),
            Self::Arcs(arcs) => Self::Lines(arcs.lines()),
        }
    }

    pub fn union_with(&mut self, other: &Self) -> Result<(), CombineError> {
        match (self, other) {
            (Self::Lines(mine), Self::Lines(theirs)) => mine.union_with(theirs.as_numbits()),
            (Self::Arcs(mine), Self::Arcs(theirs)) => mine.union_with(theirs),
            (mine, theirs) => return Err(CombineError::Kinds { have: mine.kind(), new: theirs.kind() }),
        }
        Ok(())
    }
}

/// One measured source file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeasuredFile {
    /// The plugin that measured it, if one did.
    pub tracer: String,
    /// Context to what ran in it; the empty context is "none".
    pub contexts: BTreeMap<String, Measured>,
}

impl MeasuredFile {
    /// What ran in any context.
    pub fn all(&self, kind: Kind) -> Measured {
        let mut all = Measured::none(kind);
        for measured in self.contexts.values() {
            // All contexts of one data set are of one kind: `merge` sees to it.
            let _ = all.union_with(measured);
        }
        all
    }
}

impl MeasuredFile {
    /// Line to the contexts that it ran in.
    pub fn contexts_by_line(&self) -> BTreeMap<u32, BTreeSet<String>> {
        let mut by_line: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for (context, measured) in &self.contexts {
            if let Measured::Lines(lines) = measured.to_lines() {
                for line in lines.iter() {
                    by_line.entry(line).or_default().insert(context.clone());
                }
            }
        }
        by_line
    }
}

/// The contents of a data file, or of many combined.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CoverageData {
    kind: Option<Kind>,
    pub files: BTreeMap<String, MeasuredFile>,
}

/// Data that does not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    #[error("cannot combine {new} data with {have} data")]
    Kinds { have: Kind, new: Kind },
    #[error("{file} was measured by plugin {new:?} here and by {have:?} elsewhere")]
    Tracers { file: String, have: String, new: String },
}

impl CoverageData {
    pub fn new(kind: Option<Kind>) -> Self {
        Self { kind, files: BTreeMap::new() }
    }

    pub const fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Adds what ran of a file in a context.
    pub fn add(&mut self, file: &str, context: &str, measured: Measured) -> Result<(), CombineError> {
        self.accept(Some(measured.kind()))?;
        let contexts = &mut self.files.entry(file.to_owned()).or_default().contexts;
        match contexts.entry(context.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(measured);
                Ok(())
            }
            Entry::Occupied(mut entry) => entry.get_mut().union_with(&measured),
        }
    }

    /// Takes what ran of the files at `paths` out.
    #[must_use]
    pub fn take_out<'p>(&mut self, paths: impl Iterator<Item = &'p str>) -> Self {
        let files = paths.filter_map(|path| self.files.remove_entry(path)).collect();
        Self { kind: self.kind, files }
    }

    fn accept(&mut self, kind: Option<Kind>) -> Result<(), CombineError> {
        match (self.kind, kind) {
            (Some(have), Some(new)) if have != new => Err(CombineError::Kinds { have, new }),
            (have, new) => {
                self.kind = have.or(new);
                Ok(())
            }
        }
    }

    /// Whether `other` could be merged: asked of all inputs before the first is merged, so that a
    /// refusal leaves nothing half done.
    pub fn check(&self, other: &Self) -> Result<(), CombineError> {
        if let (Some(have), Some(new)) = (self.kind, other.kind)
            && have != new
        {
            return Err(CombineError::Kinds { have, new });
        }
        for (name, file) in &other.files {
            if let Some(mine) = self.files.get(name)
                && mine.tracer != file.tracer
            {
                return Err(CombineError::Tracers {
                    file: name.clone(),
                    have: mine.tracer.clone(),
                    new: file.tracer.clone(),
                });
            }
        }
        Ok(())
    }

    /// The union of both; `self` is unchanged where they do not go together.
    pub fn merge(&mut self, other: Self) -> Result<(), CombineError> {
        self.check(&other)?;
        self.kind = self.kind.or(other.kind);
        for (name, theirs) in other.files {
            let mine = match self.files.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(theirs);
                    continue;
                }
                Entry::Occupied(entry) => entry.into_mut(),
            };
            for (context, measured) in theirs.contexts {
                match mine.contexts.entry(context) {
                    Entry::Vacant(entry) => {
                        entry.insert(measured);
                    }
                    Entry::Occupied(mut entry) => entry.get_mut().union_with(&measured)?,
                }
            }
        }
        Ok(())
    }

    /// What line data and branch data have in common.
    #[must_use]
    pub fn to_lines(self) -> Self {
        let files = self.files.into_iter().map(|(name, file)| {
            let contexts =
                file.contexts.iter().map(|(context, measured)| (context.clone(), measured.to_lines()));
            (name, MeasuredFile { tracer: file.tracer, contexts: contexts.collect() })
        });
        Self { kind: self.kind.map(|_| Kind::Lines), files: files.collect() }
    }

    /// The same data with files under other paths; what comes together is combined.
    pub fn map_paths(self, map: &mut dyn FnMut(&str) -> String) -> Result<Self, CombineError> {
        let mut mapped = Self::new(self.kind);
        // Relative paths first: they may tell where absolute ones lead.
        let (absolute, relative): (Vec<_>, Vec<_>) =
            self.files.into_iter().partition(|(path, _)| is_absolute_anywhere(path));
        for (path, file) in relative.into_iter().chain(absolute) {
            let mut one = Self::new(self.kind);
            one.files.insert(map(&path), file);
            mapped.merge(one)?;
        }
        Ok(mapped)
    }

    /// Only what ran in contexts that `takes` takes.
    #[must_use]
    pub fn only_contexts(mut self, takes: &dyn Fn(&str) -> bool) -> Self {
        for file in self.files.values_mut() {
            file.contexts.retain(|context, _| takes(context));
        }
        self
    }

    /// The same data under one context, whatever contexts it had.
    #[must_use]
    pub fn in_context(self, context: &str) -> Self {
        let Some(kind) = self.kind else { return self };
        let files = self.files.into_iter().map(|(name, file)| {
            let contexts = BTreeMap::from([(context.to_owned(), file.all(kind))]);
            (name, MeasuredFile { tracer: file.tracer, contexts })
        });
        Self { kind: Some(kind), files: files.collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(kind: Kind) -> impl Strategy<Value = CoverageData> {
        let file = prop::sample::select(vec!["a.py", "b.py", "c.py"]);
        let context = prop::sample::select(vec!["", "h1", "h2"]);
        let numbers = prop::collection::vec((1u32..40, 1i32..40), 0..20);
        prop::collection::vec((file, context, numbers), 0..8).prop_map(move |parts| {
            let mut data = CoverageData::new(Some(kind));
            for (file, context, numbers) in parts {
                let measured = match kind {
                    Kind::Lines => Measured::Lines(numbers.iter().map(|&(n, _)| n).collect()),
                    Kind::Arcs => {
                        Measured::Arcs(numbers.iter().map(|&(n, m)| (n.cast_signed(), m)).collect())
                    }
                };
                data.add(file, context, measured).expect("one kind");
            }
            data
        })
    }

    fn merged(mut a: CoverageData, b: CoverageData) -> CoverageData {
        a.merge(b).expect("one kind");
        a
    }

    fn laws(a: &CoverageData, b: &CoverageData, c: &CoverageData) {
        assert_eq!(merged(a.clone(), b.clone()), merged(b.clone(), a.clone()));
        assert_eq!(
            merged(merged(a.clone(), b.clone()), c.clone()),
            merged(a.clone(), merged(b.clone(), c.clone()))
        );
        assert_eq!(merged(a.clone(), a.clone()), *a);
    }

    proptest! {
        #[test]
        fn line_combining_is_commutative_associative_idempotent(a in data(Kind::Lines), b in data(Kind::Lines), c in data(Kind::Lines)) {
            laws(&a, &b, &c);
        }

        #[test]
        fn arc_combining_is_commutative_associative_idempotent(a in data(Kind::Arcs), b in data(Kind::Arcs), c in data(Kind::Arcs)) {
            laws(&a, &b, &c);
        }
    }

    #[test]
    fn kinds_do_not_mix_and_nothing_is_half_merged() {
        let mut lines = CoverageData::default();
        lines.add("a.py", "", Measured::Lines([1, 2].into_iter().collect())).expect("first");
        let mut arcs = CoverageData::default();
        arcs.add("b.py", "", Measured::Arcs([(1, 2)].into_iter().collect())).expect("first");
        let before = lines.clone();
        assert_eq!(lines.merge(arcs), Err(CombineError::Kinds { have: Kind::Lines, new: Kind::Arcs }));
        assert_eq!(lines, before);
    }

    #[test]
    fn paths_that_come_together_are_combined() {
        let mut data = CoverageData::default();
        for (path, line) in [("/a/x.py", 1), ("/b/x.py", 2), ("y.py", 3)] {
            data.add(path, "", Measured::Lines([line].into_iter().collect())).expect("lines");
        }
        let mapped = data.map_paths(&mut |path| path.rsplit('/').next().unwrap_or_default().to_owned());
        let mapped = mapped.expect("one kind");
        assert_eq!(mapped.files.keys().collect::<Vec<_>>(), ["x.py", "y.py"]);
        assert_eq!(mapped.files["x.py"].all(Kind::Lines), Measured::Lines([1, 2].into_iter().collect()));
    }

    #[test]
    fn a_plugin_conflict_is_refused_by_name() {
        let mut a = CoverageData::default();
        a.add("t.html", "", Measured::Lines([1].into_iter().collect())).expect("first");
        let mut b = a.clone();
        b.files.get_mut("t.html").expect("just added").tracer = "django".into();
        assert!(matches!(a.merge(b), Err(CombineError::Tracers { .. })));
    }
}
