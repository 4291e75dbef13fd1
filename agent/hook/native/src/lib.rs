//! `_pulpcov_native`: what `live_map.py` does, in callbacks that run no Python.
//!
//! A callback in Python hides what a signal's handler runs meanwhile, and costs as much as the tracer where a branch only
//! ever goes one way. Each function here has the GIL for as long as it runs, and raises nothing into the program: where
//! something fails, recording ends, and the map says why.
#![no_std]

extern crate alloc;

mod abi;
mod code;
mod map;
mod measured;
mod recorder;
mod seen;
mod table;

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{c_int, c_void};
use core::ptr;

use abi::{FASTCALL, FastCall, MethodDef, ModuleBase, ModuleDef, Ptr, Slot};
use recorder::Recorder;

/// The memory of the program's own libc. What it aligns to is enough for all that is kept here.
struct Memory;

// SAFETY: malloc's own contract, with alignments that it gives; a larger one is refused.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > 16 {
            return ptr::null_mut();
        }
        // SAFETY: any size may be asked for.
        unsafe { libc::malloc(layout.size()).cast() }
    }

    unsafe fn dealloc(&self, memory: *mut u8, _layout: Layout) {
        // SAFETY: it is malloc's.
        unsafe { libc::free(memory.cast()) };
    }
}

#[global_allocator]
static MEMORY: Memory = Memory;

/// Every index is checked before it is used: nothing comes here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

/// What a function of the module is given, in words of Rust.
struct Call<'a> {
    recorder: &'a Recorder,
    args: &'a [Ptr],
}

/// A function of the module: null means that an exception is set.
macro_rules! function {
    ($name:ident, $count:literal, $body:expr) => {
        unsafe extern "C" fn $name(module: Ptr, args: *const Ptr, count: isize) -> Ptr {
            if count != $count {
                // SAFETY: within a call from Python.
                unsafe { abi::PyErr_SetString(abi::TYPE_ERROR, c"wrong number of arguments".as_ptr()) };
                return ptr::null_mut();
            }
            // SAFETY: each module has a recorder from its beginning, and CPython gives so many arguments; of none it may
            // give no place.
            let call = unsafe {
                Call {
                    recorder: &*abi::PyModule_GetState(module).cast::<Recorder>(),
                    args: if $count == 0 { &[] } else { core::slice::from_raw_parts(args, $count) },
                }
            };
            let body: fn(Call<'_>) -> Ptr = $body;
            body(call)
        }
    };
}

function!(setup, 6, |call| call.recorder.setup(call.args));
function!(begin, 4, |call| call.recorder.begin(call.args));
function!(descriptor, 0, |call| call.recorder.descriptor());
function!(pause, 0, |call| call.recorder.pause());
function!(stop, 1, |call| call.recorder.stop_for(call.args));
function!(files, 1, |call| call.recorder.files(call.args));
function!(state, 0, |call| call.recorder.state());
function!(start, 2, |call| call.recorder.start(call.args[0]));
function!(line, 2, |call| call.recorder.line(call.args[0], call.args[1]));
function!(branch, 3, |call| call.recorder.branch(call.args[0], call.args[1], call.args[2], false));
function!(branch_side, 3, |call| call.recorder.branch(call.args[0], call.args[1], call.args[2], true));

const fn method(name: &'static core::ffi::CStr, function: FastCall) -> MethodDef {
    MethodDef { name: name.as_ptr(), function: Some(function), flags: FASTCALL, doc: ptr::null() }
}

/// What CPython only reads, and wants as pointers.
#[repr(transparent)]
struct Shared<T>(T);

// SAFETY: nobody writes to it.
unsafe impl<T> Sync for Shared<T> {}

static METHODS: Shared<[MethodDef; 12]> = Shared([
    method(c"setup", setup),
    method(c"begin", begin),
    method(c"descriptor", descriptor),
    method(c"pause", pause),
    method(c"stop", stop),
    method(c"files", files),
    method(c"state", state),
    method(c"start", start),
    method(c"line", line),
    method(c"branch", branch),
    method(c"branch_side", branch_side),
    MethodDef { name: ptr::null(), function: None, flags: 0, doc: ptr::null() },
]);

unsafe extern "C" fn execute(module: Ptr) -> c_int {
    // SAFETY: the state is as large as a recorder, and nobody's yet.
    unsafe { abi::PyModule_GetState(module).cast::<Recorder>().write(Recorder::new()) };
    0
}

static SLOTS: Shared<[Slot; 3]> = Shared([
    Slot { id: abi::EXEC, value: execute as *const c_void },
    Slot { id: abi::INTERPRETERS, value: abi::OWN_GIL },
    Slot { id: 0, value: ptr::null() },
]);

static mut MODULE: ModuleDef = ModuleDef {
    base: ModuleBase {
        refcount: 1,
        kind: ptr::null_mut(),
        init: ptr::null_mut(),
        index: 0,
        copy: ptr::null_mut(),
    },
    name: c"_pulpcov_native".as_ptr(),
    doc: c"pulpcov's live map: callbacks of sys.monitoring that run no Python.".as_ptr(),
    size: size_of::<Recorder>().cast_signed(),
    methods: (&raw const METHODS.0).cast(),
    slots: (&raw const SLOTS.0).cast(),
    traverse: ptr::null_mut(),
    clear: ptr::null_mut(),
    free: ptr::null_mut(),
};

/// What CPython calls when the module is imported.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit__pulpcov_native() -> *mut c_void {
    // SAFETY: CPython writes to it once, under the import lock.
    unsafe { abi::PyModuleDef_Init(&raw mut MODULE).cast() }
}
