//! What is kept of what was seen, each in a table of its own: code objects, branches, and where these went.

use core::ptr;

use crate::abi::Ptr;
use crate::table::{Keyed, spread};

/// A code object that has a branch which was seen; held, so that no other one comes to its address.
#[derive(Clone, Copy)]
pub(crate) struct Code {
    pub(crate) object: Ptr,
    pub(crate) number: u32,
}

/// What tells code objects apart that are not the same: file, first line, and digests.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) key: [u32; 4],
    /// Its number in this map, and how many objects of it there were; none where the place is free.
    pub(crate) number: u32,
    pub(crate) count: u32,
}

/// A way that was told of: code object, offset, destination.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) key: [u32; 3],
    pub(crate) is_free: bool,
}

/// A branch, and where it went.
#[derive(Clone, Copy)]
pub(crate) struct Branch {
    pub(crate) code: Ptr,
    pub(crate) offset: u32,
    pub(crate) first: u32,
    pub(crate) second: u32,
}

pub(crate) const NOWHERE: u32 = u32::MAX;
/// The offset of no branch: the code object's start.
pub(crate) const ENTERED: u32 = u32::MAX;

impl Keyed for Code {
    fn is_free(&self) -> bool {
        self.object.is_null()
    }

    fn has_key_of(&self, other: &Self) -> bool {
        self.object == other.object
    }

    fn hash(&self) -> usize {
        spread(self.object as usize >> 4)
    }
}

impl Keyed for Branch {
    fn is_free(&self) -> bool {
        self.code.is_null()
    }

    fn has_key_of(&self, other: &Self) -> bool {
        self.code == other.code && self.offset == other.offset
    }

    fn hash(&self) -> usize {
        spread((self.code as usize >> 4) ^ (self.offset as usize).wrapping_mul(0xC2B2_AE3D))
    }
}

impl Keyed for Kind {
    fn is_free(&self) -> bool {
        self.count == 0
    }

    fn has_key_of(&self, other: &Self) -> bool {
        self.key == other.key
    }

    fn hash(&self) -> usize {
        self.key.iter().fold(0, |hash, part| spread(hash ^ *part as usize))
    }
}

impl Keyed for Way {
    fn is_free(&self) -> bool {
        self.is_free
    }

    fn has_key_of(&self, other: &Self) -> bool {
        self.key == other.key
    }

    fn hash(&self) -> usize {
        self.key.iter().fold(0, |hash, part| spread(hash ^ *part as usize))
    }
}

pub(crate) const NO_KIND: Kind = Kind { key: [0; 4], number: 0, count: 0 };
pub(crate) const NO_WAY: Way = Way { key: [0; 3], is_free: true };
pub(crate) const NO_CODE: Code = Code { object: ptr::null_mut(), number: 0 };
pub(crate) const NO_BRANCH: Branch =
    Branch { code: ptr::null_mut(), offset: 0, first: NOWHERE, second: NOWHERE };
