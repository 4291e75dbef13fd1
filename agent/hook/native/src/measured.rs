//! Which code is measured, and under which path: as coverage.py decides it by `source_pkgs` and `omit`.

use alloc::vec::Vec;
use core::cell::Cell;
use core::ffi::{CStr, c_char};
use core::ptr;

use crate::abi::{self, Owned, Ptr};

/// The packages that are measured, and what is left out of them.
pub(crate) struct Measured {
    packages: Vec<Vec<u8>>,
    /// `match` of a compiled pattern of paths, or None.
    omit: Ptr,
    /// Finds the path of a file that is not where its code says.
    canonical: Ptr,
}

impl Measured {
    /// Of a tuple of names, and two callables that the caller keeps.
    pub(crate) unsafe fn of(packages: Ptr, omit: Ptr, canonical: Ptr) -> Self {
        // SAFETY: a tuple or not, which the calls tell.
        let packages = unsafe {
            let count = abi::PyTuple_Size(packages).max(0);
            (0..count)
                .filter_map(|at| abi::text(abi::PyTuple_GetItem(packages, at)))
                .map(<[u8]>::to_vec)
                .collect()
        };
        Self { packages, omit, canonical }
    }

    /// The path under which what runs now is measured, where it is. What a signal's handler raises meanwhile is left in
    /// `raised`.
    pub(crate) unsafe fn path(&self, file: Ptr, raised: &Cell<Ptr>) -> Option<Owned> {
        // SAFETY: the frame that the callback is called for is the one that runs; all of these are objects.
        unsafe {
            let name = abi::text(file)?;
            if name.is_empty() || name.starts_with(b"<") || name.starts_with(b"memory:") {
                return None;
            }
            let globals = abi::PyEval_GetGlobals();
            if globals.is_null() || !self.is_of_package(globals, name) {
                return None;
            }
            let path = self.canonical_path(moved_to(globals, name).unwrap_or(file), raised)?;
            if self.omit.is_null() {
                return Some(path);
            }
            let found =
                Owned::of(abi::PyObject_Vectorcall(self.omit, [path.get()].as_ptr(), 1, ptr::null_mut()))?;
            abi::is_none(found.get()).then_some(path)
        }
    }

    unsafe fn is_of_package(&self, globals: Ptr, file: &[u8]) -> bool {
        let is_below = |module: &[u8]| {
            self.packages.iter().any(|package| {
                let rest = module.strip_prefix(package.as_slice());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
            })
        };
        // SAFETY: `globals` is a dict, and keeps its texts while nobody changes it: nothing else runs.
        unsafe {
            let name = item(globals, c"__name__").and_then(|name| abi::text(name));
            if let Some(name) = name.filter(|name| *name != b"__main__") {
                return is_below(name);
            }
            // `python -m` knows the module's whole name; of a script there is its file's.
            let spec = item(globals, c"__spec__").filter(|&spec| !abi::is_none(spec));
            let of_spec =
                spec.and_then(|spec| Owned::of(abi::PyObject_GetAttrString(spec, c"name".as_ptr())));
            match of_spec.as_ref().and_then(|name| abi::text(name.get())) {
                Some(name) if name != b"__main__" => is_below(name),
                _ => is_below(stem(file)),
            }
        }
    }

    /// Absolute, and without links.
    unsafe fn canonical_path(&self, file: Ptr, raised: &Cell<Ptr>) -> Option<Owned> {
        const PATH_MAX: usize = 4096;
        // SAFETY: a text, whose bytes are copied before anything else is called.
        unsafe {
            let encoded = Owned::of(abi::PyUnicode_EncodeFSDefault(file))?;
            let mut bytes = abi::bytes(encoded.get())?.to_vec();
            bytes.push(0);
            let name = CStr::from_bytes_with_nul(&bytes).ok()?;
            if name.to_bytes().starts_with(b"/") {
                // A buffer of ours: the oldest of glibc's, which a name without a version may mean, wants one.
                let mut real = [0 as c_char; PATH_MAX];
                if !libc::realpath(name.as_ptr(), real.as_mut_ptr()).is_null() {
                    return Owned::of(abi::PyUnicode_DecodeFSDefault(real.as_ptr()));
                }
            }
            let path = abi::PyObject_Vectorcall(self.canonical, [file].as_ptr(), 1, ptr::null_mut());
            if path.is_null() {
                // It raises nothing itself.
                raised.set(abi::PyErr_GetRaisedException());
                return None;
            }
            Owned::of(path).filter(|path| !abi::is_none(path.get()))
        }
    }
}

unsafe fn item(dict: Ptr, key: &CStr) -> Option<Ptr> {
    // SAFETY: the caller's dict is one; what is borrowed of it stays in it.
    let found = unsafe { abi::PyDict_GetItemString(dict, key.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// The file that the module was loaded from, where byte code was moved after it was made. What was given another name
/// meanwhile, as `exec` does, is not meant.
unsafe fn moved_to(globals: Ptr, name: &[u8]) -> Option<Ptr> {
    // SAFETY: as of `item`.
    unsafe {
        let file = item(globals, c"__file__")?;
        let loaded = abi::text(file)?;
        (loaded != name && base(loaded) == base(name)).then_some(file)
    }
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn stem(path: &[u8]) -> &[u8] {
    let base = base(path);
    base.strip_suffix(b".py").or_else(|| base.strip_suffix(b".pyc")).unwrap_or(base)
}
