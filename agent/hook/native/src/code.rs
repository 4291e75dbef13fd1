//! What a code object and its file tell of themselves, by calls that run no Python.

use alloc::vec::Vec;
use core::ptr;

use crate::abi::{self, Owned, Ptr};

/// Size, time in nanoseconds and inode of a file; zeros where there is none.
pub(crate) unsafe fn identity_of(path: Ptr) -> [u64; 3] {
    // SAFETY: a text; its bytes are copied, and end with a zero.
    unsafe {
        let Some(encoded) = Owned::of(abi::PyUnicode_EncodeFSDefault(path)) else { return [0; 3] };
        let mut bytes = abi::bytes(encoded.get()).unwrap_or_default().to_vec();
        bytes.push(0);
        let mut found: libc::stat = core::mem::zeroed();
        if libc::stat(bytes.as_ptr().cast(), &raw mut found) != 0 {
            return [0; 3];
        }
        let time = found.st_mtime.wrapping_mul(1_000_000_000).wrapping_add(found.st_mtime_nsec);
        [found.st_size.cast_unsigned(), time.cast_unsigned(), found.st_ino]
    }
}

/// First line of a code object, and digests of its instructions and of its lines.
pub(crate) unsafe fn digests(crc: Ptr, code: Ptr) -> Option<[u32; 3]> {
    // SAFETY: a code object of CPython's, of whose parts none is changed.
    unsafe {
        let line = Owned::of(abi::PyObject_GetAttrString(code, c"co_firstlineno".as_ptr()))?;
        let digest = |bytes: &Owned| {
            let args = [bytes.get()];
            let digest = Owned::of(abi::PyObject_Vectorcall(crc, args.as_ptr(), 1, ptr::null_mut()))?;
            abi::number(digest.get())
        };
        let instructions = Owned::of(abi::PyObject_GetAttrString(code, c"co_code".as_ptr()))?;
        // Not the table itself: that has columns, too, or has none.
        let mut table = Vec::new();
        let lines = Owned::of(abi::PyObject_CallMethod(code, c"co_lines".as_ptr(), ptr::null()))?;
        while let Some(range) = Owned::of(abi::PyIter_Next(lines.get())) {
            for at in 0..3 {
                let part = abi::PyTuple_GetItem(range.get(), at);
                let part = if abi::is_none(part) { None } else { abi::number(part) };
                table.try_reserve(4).ok()?;
                table.extend_from_slice(&part.unwrap_or(0).to_le_bytes());
            }
        }
        let table =
            Owned::of(abi::PyBytes_FromStringAndSize(table.as_ptr().cast(), table.len().cast_signed()))?;
        Some([abi::number(line.get())?, digest(&instructions)?, digest(&table)?])
    }
}

/// Whether it is a function or class whose body may be on the line of its definition: only its start tells that more than
/// the definition ran. Decorators lie before that line, and count as the first one.
pub(crate) unsafe fn is_of_one_line(code: Ptr) -> bool {
    // SAFETY: a code object of CPython's, of whose parts none is changed.
    unsafe {
        let get = |name: &core::ffi::CStr| Owned::of(abi::PyObject_GetAttrString(code, name.as_ptr()));
        let name = get(c"co_name");
        if name.as_ref().and_then(|name| abi::text(name.get())).is_none_or(|name| name.starts_with(b"<")) {
            return false;
        }
        let first = get(c"co_firstlineno").and_then(|line| abi::number(line.get()));
        let lines = Owned::of(abi::PyObject_CallMethod(code, c"co_lines".as_ptr(), ptr::null()));
        let mut other = None;
        while let Some(range) = lines.as_ref().and_then(|lines| Owned::of(abi::PyIter_Next(lines.get()))) {
            let line = abi::PyTuple_GetItem(range.get(), 2);
            let line = if abi::is_none(line) { None } else { abi::number(line) };
            if line.is_some() && line != first && *other.get_or_insert(line) != line {
                return false;
            }
        }
        true
    }
}

/// The last line of a code object and of those in it: of these only the last one can go further.
pub(crate) unsafe fn last_line(code: Ptr, depth: u32) -> u32 {
    const DEEPEST: u32 = 50;
    let mut last = 0;
    // SAFETY: a code object of CPython's, of whose parts none is changed.
    unsafe {
        let lines = Owned::of(abi::PyObject_CallMethod(code, c"co_lines".as_ptr(), ptr::null()));
        while let Some(range) = lines.as_ref().and_then(|lines| Owned::of(abi::PyIter_Next(lines.get()))) {
            last = last.max(abi::number(abi::PyTuple_GetItem(range.get(), 2)).unwrap_or(0));
        }
        let Some(constants) = Owned::of(abi::PyObject_GetAttrString(code, c"co_consts".as_ptr())) else {
            return last;
        };
        let Some(class) = Owned::of(abi::PyObject_Type(code)) else { return last };
        let (mut first, mut latest) = (0, ptr::null_mut());
        for at in 0..abi::PyTuple_Size(constants.get()).max(0) {
            let inner = abi::PyTuple_GetItem(constants.get(), at);
            if abi::PyObject_IsInstance(inner, class.get()) == 1 {
                let begins = Owned::of(abi::PyObject_GetAttrString(inner, c"co_firstlineno".as_ptr()));
                let begins = begins.and_then(|line| abi::number(line.get())).unwrap_or(0);
                if begins >= first {
                    (first, latest) = (begins, inner);
                }
            }
        }
        if !latest.is_null() && depth < DEEPEST {
            last = last.max(last_line(latest, depth + 1));
        }
    }
    last
}
