//! Tables of what was seen: open addressing, never full, without a word of Python.

use alloc::vec::Vec;

/// What a table's entry is found by.
pub(crate) trait Keyed: Copy {
    fn is_free(&self) -> bool;
    fn has_key_of(&self, other: &Self) -> bool;
    fn hash(&self) -> usize;
}

pub(crate) struct Table<E> {
    entries: Vec<E>,
    count: usize,
}

/// A store of Fibonacci: neighbours are spread.
pub(crate) const fn spread(number: usize) -> usize {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

impl<E: Keyed> Table<E> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), count: 0 }
    }

    /// Where an entry of that key is, or would be; nothing where there is no memory for it.
    fn place(entries: &[E], key: &E) -> Option<usize> {
        let mask = entries.len().checked_sub(1)?;
        let mut at = key.hash() & mask;
        while !entries[at].is_free() && !entries[at].has_key_of(key) {
            at = (at + 1) & mask;
        }
        Some(at)
    }

    pub(crate) fn get(&mut self, key: &E) -> Option<&mut E> {
        let at = Self::place(&self.entries, key)?;
        self.entries.get_mut(at).filter(|entry| !entry.is_free())
    }

    /// Puts an entry in, whose key is not there; false where there is no memory for it.
    pub(crate) fn insert(&mut self, entry: E, free: E) -> bool {
        if (self.count + 1) * 2 > self.entries.len() && !self.grow(free) {
            return false;
        }
        let Some(at) = Self::place(&self.entries, &entry) else { return false };
        self.entries[at] = entry;
        self.count += 1;
        true
    }

    fn grow(&mut self, free: E) -> bool {
        let size = (self.entries.len() * 2).max(1024);
        let mut entries = Vec::new();
        if entries.try_reserve_exact(size).is_err() {
            return false;
        }
        entries.resize(size, free);
        for entry in self.entries.iter().filter(|entry| !entry.is_free()) {
            if let Some(at) = Self::place(&entries, entry) {
                entries[at] = *entry;
            }
        }
        self.entries = entries;
        true
    }

    /// Takes all entries out.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = E> + use<E> {
        self.count = 0;
        core::mem::take(&mut self.entries).into_iter().filter(|entry| !entry.is_free())
    }
}
