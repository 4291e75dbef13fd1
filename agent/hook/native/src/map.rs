//! The mapped file: records are appended, and committed by their size, which is written last. Nothing here calls Python.
//!
//! A mapping never moves: the file grows by mappings of its own. Its blocks are allocated before that, so that a full disk
//! is an error here and not a signal where something is stored.

use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering, compiler_fence};

use libc::c_int;

/// Size of a record, its kind and its context.
pub(crate) const HEAD: usize = 8;
/// Bytes by which a map grows at first, and at most, where a record needs no more.
const FIRST: usize = 16 * 1024;
const MOST: usize = 128 * 1024;
const PAGE: usize = 4096;

pub(crate) const FILE: u16 = 2;
pub(crate) const CODE: u16 = 3;
pub(crate) const EDGE: u16 = 4;
const FILLER: u16 = 0;

/// The file that this process writes.
pub(crate) struct Map {
    fd: c_int,
    /// Device and inode: a program may close every descriptor that it does not know, and then has ours for its own.
    identity: (u64, u64),
    /// Where it is, to be opened again.
    path: Vec<u8>,
    owner: libc::pid_t,
    /// The first mapping, where the reason stands that recording stopped for.
    first: *mut u8,
    state_at: usize,
    /// The last mapping, how long it is, and what of it has records.
    base: *mut u8,
    length: usize,
    used: usize,
    /// Where it ends in the file.
    end: usize,
}

impl Map {
    /// Maps an empty file that begins with `head`, whose number at `state_at` tells why recording stopped. The path
    /// ends with a zero.
    pub(crate) fn begin(fd: c_int, path: Vec<u8>, head: &[u8], state_at: usize) -> Result<Self, c_int> {
        if state_at.checked_add(4).is_none_or(|end| end > head.len()) {
            return Err(libc::EINVAL);
        }
        // SAFETY: no memory is touched.
        let owner = unsafe { libc::getpid() };
        let mut map = Self {
            fd,
            identity: identity_of(fd).ok_or(libc::EBADF)?,
            path,
            owner,
            first: ptr::null_mut(),
            state_at,
            base: ptr::null_mut(),
            length: 0,
            used: 0,
            end: 0,
        };
        map.grow(head.len())?;
        map.first = map.base;
        // SAFETY: the mapping has room for it, and begins at a page. Its first word comes last: from then on it is a map.
        unsafe {
            let (word, rest) = head.split_first_chunk::<8>().ok_or(libc::EINVAL)?;
            ptr::copy_nonoverlapping(rest.as_ptr(), map.base.add(8), rest.len());
            compiler_fence(Ordering::Release);
            ptr::copy_nonoverlapping(word.as_ptr(), map.base, 8);
        }
        map.used = head.len().next_multiple_of(8);
        Ok(map)
    }

    /// Whether this process is another one by now: forked by a program in C that has told nobody.
    pub(crate) fn is_of_another_process(&self) -> bool {
        // SAFETY: no memory is touched.
        self.owner != unsafe { libc::getpid() }
    }

    /// The file's descriptor: another one where the program has closed the first.
    pub(crate) fn descriptor(&mut self) -> Result<c_int, c_int> {
        if identity_of(self.fd) == Some(self.identity) {
            return Ok(self.fd);
        }
        let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: the path ends with a zero.
        let fd = unsafe { libc::open(self.path.as_ptr().cast(), flags) };
        if fd >= 0 && identity_of(fd) == Some(self.identity) {
            self.fd = fd;
            return Ok(fd);
        }
        if fd >= 0 {
            // SAFETY: it was opened here.
            unsafe { libc::close(fd) };
        }
        Err(libc::EBADF)
    }

    fn grow(&mut self, wanted: usize) -> Result<(), c_int> {
        let fd = self.descriptor()?;
        let length = wanted.max((self.length * 2).clamp(FIRST, MOST)).next_multiple_of(PAGE);
        let at = libc::off_t::try_from(self.end).map_err(|_| libc::EFBIG)?;
        let size = libc::off_t::try_from(length).map_err(|_| libc::EFBIG)?;
        // SAFETY: both take numbers; the mapping is a new one.
        unsafe {
            let mut failed = libc::posix_fallocate(fd, at, size);
            while failed == libc::EINTR {
                failed = libc::posix_fallocate(fd, at, size);
            }
            if failed != 0 {
                return Err(failed);
            }
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let mapped = libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, fd, at);
            if mapped == libc::MAP_FAILED {
                return Err(libc::ENOMEM);
            }
            self.base = mapped.cast();
        }
        (self.length, self.used) = (length, 0);
        self.end += length;
        Ok(())
    }

    /// Appends a record with so many zeros behind its payload; returns where these begin.
    pub(crate) fn append(&mut self, kind: u16, payload: &[&[u8]], zeros: usize) -> Result<*mut u8, c_int> {
        if self.is_of_another_process() {
            return Err(libc::ESTALE); // its parent's: two that append would undo each other
        }
        let said: usize = payload.iter().map(|part| part.len()).sum();
        let size = (HEAD + said).next_multiple_of(8) + zeros.next_multiple_of(8);
        let number = u32::try_from(size).map_err(|_| libc::EFBIG)?;
        if self.length - self.used < size {
            self.fill();
            self.grow(size)?;
        }
        // SAFETY: from `used` on the mapping has room for `size` bytes, which are zeros yet.
        unsafe {
            let record = self.base.add(self.used);
            let mut at = record.add(HEAD);
            for part in payload {
                ptr::copy_nonoverlapping(part.as_ptr(), at, part.len());
                at = at.add(part.len());
            }
            commit(record, kind, number);
            self.used += size;
            Ok(record.add((HEAD + said).next_multiple_of(8)))
        }
    }

    /// Makes the rest of a mapping a record of nothing: the next one begins behind it.
    fn fill(&mut self) {
        let rest = self.length - self.used;
        if let (Ok(number @ 8..), false) = (u32::try_from(rest), self.base.is_null()) {
            // SAFETY: at least a head fits.
            unsafe { commit(self.base.add(self.used), FILLER, number) };
            self.used = self.length;
        }
    }

    /// Notes why nothing more is recorded, where there was room for it from the beginning.
    pub(crate) fn stop(&mut self, reason: c_int) {
        if self.is_of_another_process() {
            return; // its parent's, which goes on
        }
        let reason = reason.unsigned_abs().to_le();
        // SAFETY: `begin` has checked that the number is within the head, which lies in the first mapping.
        unsafe { self.first.add(self.state_at).cast::<u32>().write_unaligned(reason) };
    }
}

/// Device and inode of an open file.
fn identity_of(fd: c_int) -> Option<(u64, u64)> {
    // SAFETY: all zeros are a value of it, and the call fills it where it succeeds.
    let (failed, found) = unsafe {
        let mut found: libc::stat = core::mem::zeroed();
        (libc::fstat(fd, &raw mut found), found)
    };
    (failed == 0).then_some((found.st_dev, found.st_ino))
}

/// Others may read at any moment: the size is stored behind all else, whatever the processor's order of stores is.
#[expect(
    clippy::cast_ptr_alignment,
    reason = "a mapping begins at a page, and each record's size is of eights"
)]
unsafe fn commit(record: *mut u8, kind: u16, size: u32) {
    // SAFETY: the caller's record has a head, and begins at a multiple of eight.
    unsafe {
        record.add(4).cast::<u16>().write(kind.to_le());
        (*record.cast::<AtomicU32>()).store(size.to_le(), Ordering::Release);
    }
}
