//! What of CPython's stable ABI is called, as of 3.12; `Misc/stable_abi.toml` of its source lists all of it.

use core::ffi::{c_char, c_int, c_long, c_void};

#[repr(C)]
pub(crate) struct PyObject {
    _opaque: [u8; 0],
}

pub(crate) type Ptr = *mut PyObject;
pub(crate) type FastCall = unsafe extern "C" fn(Ptr, *const Ptr, isize) -> Ptr;

/// `PyModuleDef_Base`: an object's head, of whatever is not shared between interpreters.
#[repr(C)]
pub(crate) struct ModuleBase {
    pub(crate) refcount: isize,
    pub(crate) kind: Ptr,
    pub(crate) init: *mut c_void,
    pub(crate) index: isize,
    pub(crate) copy: Ptr,
}

#[repr(C)]
pub(crate) struct ModuleDef {
    pub(crate) base: ModuleBase,
    pub(crate) name: *const c_char,
    pub(crate) doc: *const c_char,
    pub(crate) size: isize,
    pub(crate) methods: *const MethodDef,
    pub(crate) slots: *const Slot,
    pub(crate) traverse: *mut c_void,
    pub(crate) clear: *mut c_void,
    pub(crate) free: *mut c_void,
}

#[repr(C)]
pub(crate) struct MethodDef {
    pub(crate) name: *const c_char,
    pub(crate) function: Option<FastCall>,
    pub(crate) flags: c_int,
    pub(crate) doc: *const c_char,
}

#[repr(C)]
pub(crate) struct Slot {
    pub(crate) id: c_int,
    pub(crate) value: *const c_void,
}

/// `METH_FASTCALL`.
pub(crate) const FASTCALL: c_int = 0x80;
/// `Py_mod_exec`.
pub(crate) const EXEC: c_int = 2;
/// `Py_mod_multiple_interpreters`, and `Py_MOD_PER_INTERPRETER_GIL_SUPPORTED`.
pub(crate) const INTERPRETERS: c_int = 3;
pub(crate) const OWN_GIL: *const c_void = 2 as *const c_void;

unsafe extern "C" {
    #[link_name = "_Py_NoneStruct"]
    pub(crate) static NONE: PyObject;
    #[link_name = "PyExc_TypeError"]
    pub(crate) static TYPE_ERROR: Ptr;

    pub(crate) fn PyModuleDef_Init(def: *mut ModuleDef) -> Ptr;
    pub(crate) fn PyModule_GetState(module: Ptr) -> *mut c_void;
    pub(crate) fn Py_IncRef(object: Ptr);
    pub(crate) fn Py_DecRef(object: Ptr);
    pub(crate) fn PyErr_SetString(kind: Ptr, text: *const c_char);
    pub(crate) fn PyErr_Clear();
    pub(crate) fn PyErr_GetRaisedException() -> Ptr;
    pub(crate) fn PyErr_SetRaisedException(exception: Ptr);
    pub(crate) fn PyEval_GetGlobals() -> Ptr;
    pub(crate) fn PyObject_GetAttrString(object: Ptr, name: *const c_char) -> Ptr;
    pub(crate) fn PyObject_GetAttr(object: Ptr, name: Ptr) -> Ptr;
    pub(crate) fn PyObject_Vectorcall(callable: Ptr, args: *const Ptr, count: usize, names: Ptr) -> Ptr;
    pub(crate) fn PyObject_CallMethod(object: Ptr, name: *const c_char, format: *const c_char, ...) -> Ptr;
    pub(crate) fn PyIter_Next(iterator: Ptr) -> Ptr;
    pub(crate) fn PyObject_IsInstance(object: Ptr, class: Ptr) -> c_int;
    pub(crate) fn PyObject_IsTrue(object: Ptr) -> c_int;
    pub(crate) fn PyObject_Type(object: Ptr) -> Ptr;
    pub(crate) fn PyLong_FromLong(number: c_long) -> Ptr;
    pub(crate) fn PyLong_AsLong(number: Ptr) -> c_long;
    pub(crate) fn PyTuple_Size(tuple: Ptr) -> isize;
    pub(crate) fn PyTuple_GetItem(tuple: Ptr, index: isize) -> Ptr;
    pub(crate) fn PyList_New(size: isize) -> Ptr;
    pub(crate) fn PyList_Append(list: Ptr, item: Ptr) -> c_int;
    pub(crate) fn PyDict_New() -> Ptr;
    pub(crate) fn PyDict_GetItemWithError(dict: Ptr, key: Ptr) -> Ptr;
    pub(crate) fn PyDict_GetItemString(dict: Ptr, key: *const c_char) -> Ptr;
    pub(crate) fn PyDict_SetItem(dict: Ptr, key: Ptr, value: Ptr) -> c_int;
    pub(crate) fn PyUnicode_InternFromString(text: *const c_char) -> Ptr;
    pub(crate) fn PyUnicode_AsUTF8AndSize(text: Ptr, size: *mut isize) -> *const c_char;
    pub(crate) fn PyUnicode_EncodeFSDefault(text: Ptr) -> Ptr;
    pub(crate) fn PyBytes_FromStringAndSize(bytes: *const c_char, size: isize) -> Ptr;
    pub(crate) fn PyUnicode_DecodeFSDefault(text: *const c_char) -> Ptr;
    pub(crate) fn PyBytes_AsStringAndSize(bytes: Ptr, text: *mut *mut c_char, size: *mut isize) -> c_int;
}

/// A reference that ends with its scope.
pub(crate) struct Owned(Ptr);

impl Owned {
    /// Of a new reference; nothing where the call failed, whose error is dropped: a callback raises nothing.
    pub(crate) fn of(object: Ptr) -> Option<Self> {
        if object.is_null() {
            // SAFETY: a call into Python that returns null has the GIL, as every caller here.
            unsafe { PyErr_Clear() };
            return None;
        }
        Some(Self(object))
    }

    pub(crate) fn get(&self) -> Ptr {
        self.0
    }

    /// The reference, which is the caller's to end.
    pub(crate) fn leave(self) -> Ptr {
        let object = self.0;
        core::mem::forget(self);
        object
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and we have the GIL: all of this runs within calls from Python.
        unsafe { Py_DecRef(self.0) };
    }
}

/// A new reference to what somebody else holds.
pub(crate) unsafe fn again(object: Ptr) -> Ptr {
    // SAFETY: the caller's object is one.
    unsafe { Py_IncRef(object) };
    object
}

pub(crate) fn none() -> Ptr {
    // SAFETY: None is never freed.
    unsafe { again((&raw const NONE).cast_mut()) }
}

pub(crate) fn is_none(object: Ptr) -> bool {
    core::ptr::eq(object, &raw const NONE)
}

/// The bytes of a bytes object, which it keeps.
pub(crate) unsafe fn bytes<'a>(object: Ptr) -> Option<&'a [u8]> {
    let (mut bytes, mut size) = (core::ptr::null_mut(), 0);
    // SAFETY: bytes or not, which the call tells.
    if unsafe { PyBytes_AsStringAndSize(object, &raw mut bytes, &raw mut size) } != 0 {
        // SAFETY: within a call from Python.
        unsafe { PyErr_Clear() };
        return None;
    }
    // SAFETY: the object keeps so many bytes there as long as it lives.
    Some(unsafe { core::slice::from_raw_parts(bytes.cast(), size.cast_unsigned()) })
}

/// The UTF-8 of a text that its object keeps; nothing where it has none.
pub(crate) unsafe fn text<'a>(object: Ptr) -> Option<&'a [u8]> {
    let mut size = 0;
    // SAFETY: a text or not, which the call tells.
    let bytes = unsafe { PyUnicode_AsUTF8AndSize(object, &raw mut size) };
    if bytes.is_null() {
        // SAFETY: within a call from Python.
        unsafe { PyErr_Clear() };
        return None;
    }
    // SAFETY: the object keeps so many bytes there as long as it lives.
    Some(unsafe { core::slice::from_raw_parts(bytes.cast(), size.cast_unsigned()) })
}

/// A whole number that fits; nothing of anything else.
pub(crate) unsafe fn number(object: Ptr) -> Option<u32> {
    // SAFETY: a number or not, which the call tells.
    let value = unsafe { PyLong_AsLong(object) };
    if value < 0 {
        // SAFETY: within a call from Python.
        unsafe { PyErr_Clear() };
    }
    u32::try_from(value).ok()
}
