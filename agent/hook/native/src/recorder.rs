//! What is recorded: a byte a line, and each edge of a branch once.
//!
//! Nothing of it is borrowed while Python is called: a finaliser may run there, and give the GIL to a thread that comes
//! here again.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::ffi::c_int;
use core::ptr;

use crate::abi::{self, Owned, Ptr};
use crate::code::{digests, identity_of, is_of_one_line, last_line};
use crate::map::{self, Map};
use crate::measured::Measured;
use crate::seen::{Branch, Code, ENTERED, Kind, NO_BRANCH, NO_CODE, NO_KIND, NO_WAY, NOWHERE, Way};
use crate::table::Table;

/// How much further than a line that was not foreseen a file's bytes go.
const SLACK: u32 = 256;
/// More lines than any source has.
const MAX_LINES: u32 = 1024 * 1024;
/// So many code objects of equal instructions and lines are held: what is compiled again and again is not.
const MAX_EQUAL: u32 = 4;
/// Most code objects that a map tells of.
const MAX_CODES: u32 = 500_000;
/// What a file is that is not measured.
const NOT_MEASURED: i64 = -1;

/// A file that is measured.
#[derive(Clone, Copy)]
struct File {
    path: Ptr,
    /// Its bytes in the map that is written now, and how many there are; none before it is told of.
    flags: *mut u8,
    mapped: u32,
    number: u32,
    /// As many as there should be.
    lines: u32,
    /// Size, time in nanoseconds and inode, as they were when its code was loaded.
    identity: [u64; 3],
}

/// The objects of Python that callbacks need, each held for ever.
struct Objects {
    measured: Measured,
    /// `co_filename` to the number of a file, or what says that it is not measured.
    known: Ptr,
    file_name: Ptr,
    disable: Ptr,
    set_local_events: Ptr,
    tool: Ptr,
    events: Ptr,
    /// Whether branches are recorded, too.
    branch: bool,
    crc: Ptr,
    /// Told where a child finds itself that nobody has announced.
    reborn: Ptr,
}

pub(crate) struct Recorder {
    objects: Cell<Option<&'static Objects>>,
    map: RefCell<Option<Map>>,
    files: RefCell<Vec<File>>,
    /// Files in the order of their numbers in this map.
    told: RefCell<Vec<u32>>,
    codes: RefCell<Table<Code>>,
    kinds: RefCell<Table<Kind>>,
    ways: RefCell<Table<Way>>,
    code_count: Cell<u32>,
    branches: RefCell<Table<Branch>>,
    /// How often something was stored that was not there.
    news: Cell<u32>,
    stopped: Cell<c_int>,
    /// What a signal's handler raised within a callback: it is the program's.
    raised: Cell<Ptr>,
}

impl Recorder {
    pub(crate) const fn new() -> Self {
        Self {
            objects: Cell::new(None),
            map: RefCell::new(None),
            files: RefCell::new(Vec::new()),
            told: RefCell::new(Vec::new()),
            codes: RefCell::new(Table::new()),
            kinds: RefCell::new(Table::new()),
            ways: RefCell::new(Table::new()),
            code_count: Cell::new(0),
            branches: RefCell::new(Table::new()),
            news: Cell::new(0),
            stopped: Cell::new(0),
            raised: Cell::new(ptr::null_mut()),
        }
    }

    /// `setup((package, ...), omit, canonical, (disable, set_local_events, tool, events, branch), crc32, reborn)`
    pub(crate) fn setup(&self, args: &[Ptr]) -> Ptr {
        // SAFETY: all are objects; those that are kept get a reference which is never ended.
        unsafe {
            let omit = if abi::is_none(args[1]) { ptr::null_mut() } else { abi::again(args[1]) };
            let part = |at| {
                let item = abi::PyTuple_GetItem(args[3], at);
                if item.is_null() { abi::none() } else { abi::again(item) }
            };
            let objects = Objects {
                measured: Measured::of(args[0], omit, abi::again(args[2])),
                known: abi::PyDict_New(),
                file_name: abi::PyUnicode_InternFromString(c"co_filename".as_ptr()),
                disable: part(0),
                set_local_events: part(1),
                tool: part(2),
                events: part(3),
                branch: abi::PyObject_IsTrue(abi::PyTuple_GetItem(args[3], 4)) == 1,
                crc: abi::again(args[4]),
                reborn: abi::again(args[5]),
            };
            abi::PyErr_Clear();
            if objects.known.is_null() || objects.file_name.is_null() {
                return abi::none();
            }
            self.objects.set(Some(alloc::boxed::Box::leak(alloc::boxed::Box::new(objects))));
            abi::none()
        }
    }

    /// `begin(fd, path, head, state_at)`: what is recorded goes to this file from now on, from zero. Returns why not, or 0.
    pub(crate) fn begin(&self, args: &[Ptr]) -> Ptr {
        // SAFETY: the arguments are objects; the bytes are used while their objects are held by the caller.
        let (fd, path, head, state_at) = unsafe {
            let fd = abi::number(args[0]).and_then(|fd| c_int::try_from(fd).ok());
            (fd, abi::bytes(args[1]), abi::bytes(args[2]), abi::number(args[3]))
        };
        let begun = match (fd, path, head, state_at) {
            (Some(fd), Some(path), Some(head), Some(state_at)) => {
                let mut path = path.to_vec();
                path.push(0);
                Map::begin(fd, path, head, state_at as usize)
            }
            _ => Err(libc::EINVAL),
        };
        let failed = match begun {
            Ok(map) => {
                // Nothing is recorded into it that still has the old one's numbers.
                self.map.replace(None);
                self.forget();
                self.map.replace(Some(map));
                self.stopped.set(0);
                0
            }
            Err(failed) => failed,
        };
        // SAFETY: within a call from Python.
        unsafe { abi::PyLong_FromLong(failed.into()) }
    }

    /// `descriptor()`: that of the map of this very process, or -1.
    pub(crate) fn descriptor(&self) -> Ptr {
        let fd = self.map.try_borrow_mut().ok().and_then(|mut map| {
            map.as_mut().filter(|map| !map.is_of_another_process()).and_then(|map| map.descriptor().ok())
        });
        // SAFETY: within a call from Python.
        unsafe { abi::PyLong_FromLong(fd.unwrap_or(-1).into()) }
    }

    /// Nothing is recorded until the next beginning.
    pub(crate) fn pause(&self) -> Ptr {
        self.map.replace(None);
        self.forget();
        abi::none()
    }

    /// Nothing of an earlier map is in the next; what is measured stays known. Old mappings stay: whoever reads may.
    fn forget(&self) {
        if let Ok(mut files) = self.files.try_borrow_mut() {
            for file in files.iter_mut() {
                (file.flags, file.mapped) = (ptr::null_mut(), 0);
            }
        }
        self.told.replace(Vec::new());
        self.kinds.replace(Table::new());
        self.ways.replace(Table::new());
        self.branches.replace(Table::new());
        self.code_count.set(0);
        for code in self.codes.replace(Table::new()).take() {
            // SAFETY: the reference was taken when it came into the table.
            unsafe { abi::Py_DecRef(code.object) };
        }
    }

    /// `files(n)`: paths of this map's files behind the first n.
    pub(crate) fn files(&self, args: &[Ptr]) -> Ptr {
        // SAFETY: within a call from Python; paths are held for ever.
        unsafe {
            let since = abi::number(args[0]).unwrap_or(0) as usize;
            let paths: Vec<Ptr> = match (self.told.try_borrow(), self.files.try_borrow()) {
                (Ok(told), Ok(files)) => told
                    .iter()
                    .skip(since)
                    .filter_map(|&at| files.get(at as usize))
                    .map(|file| file.path)
                    .collect(),
                _ => Vec::new(),
            };
            let list = abi::PyList_New(0);
            for path in paths {
                if list.is_null() || abi::PyList_Append(list, path) != 0 {
                    break;
                }
            }
            list
        }
    }

    /// `state()`: how often something new was stored, and why recording stopped, or 0, in one number.
    pub(crate) fn state(&self) -> Ptr {
        let reason = i64::from(self.stopped.get().unsigned_abs() & 0xFFFF);
        // SAFETY: within a call from Python.
        unsafe { abi::PyLong_FromLong(i64::from(self.news.get()) << 16 | reason) }
    }

    fn has_map(&self) -> bool {
        self.map.try_borrow().is_ok_and(|map| map.is_some())
    }

    /// Whether files and branches that are new are told of; lines of known files are, as long as there is a map.
    fn is_recording(&self) -> bool {
        self.stopped.get() == 0 && self.has_map()
    }

    fn store_news(&self) {
        self.news.set(self.news.get().wrapping_add(1) & 0x7FFF_FFFF);
    }

    /// `stop(reason)`
    pub(crate) fn stop_for(&self, args: &[Ptr]) -> Ptr {
        // SAFETY: CPython's argument.
        let reason = unsafe { abi::number(args[0]) }.and_then(|reason| c_int::try_from(reason).ok());
        self.stop(reason.unwrap_or(libc::EINVAL));
        abi::none()
    }

    fn stop(&self, reason: c_int) {
        self.stopped.set(reason);
        if let Ok(mut map) = self.map.try_borrow_mut()
            && let Some(map) = map.as_mut()
        {
            map.stop(reason);
        }
    }

    fn append(&self, kind: u16, payload: &[&[u8]], zeros: usize) -> Option<*mut u8> {
        let mut map = self.map.try_borrow_mut().ok()?;
        let appended = map.as_mut()?.append(kind, payload, zeros);
        drop(map);
        self.store_news();
        appended.map_err(|reason| self.stop(reason)).ok()
    }

    /// A child of whose fork Python was not told begins a map of its own, before it would append to its parent's.
    fn check_process(&self, objects: &Objects) {
        let is_reborn =
            self.map.try_borrow().is_ok_and(|map| map.as_ref().is_some_and(Map::is_of_another_process));
        if is_reborn {
            // SAFETY: within a call from Python, with nothing borrowed.
            let done = unsafe { abi::PyObject_Vectorcall(objects.reborn, ptr::null(), 0, ptr::null_mut()) };
            if done.is_null() {
                // It raises nothing itself.
                // SAFETY: within a call from Python.
                self.raised.set(unsafe { abi::PyErr_GetRaisedException() });
            }
            drop(Owned::of(done));
        }
    }

    /// The callback of `PY_START`.
    pub(crate) fn start(&self, code: Ptr) -> Ptr {
        let Some(objects) = self.objects.get() else { return abi::none() };
        if self.is_recording() && self.file_of(objects, code).is_some() {
            let args = [objects.tool, code, objects.events];
            // SAFETY: within a call from Python, with nothing borrowed.
            drop(Owned::of(unsafe {
                abi::PyObject_Vectorcall(objects.set_local_events, args.as_ptr(), 3, ptr::null_mut())
            }));
            // SAFETY: CPython's argument.
            if objects.branch && unsafe { is_of_one_line(code) } {
                self.see(objects, code, ENTERED, 0);
            }
        }
        // SAFETY: it is held for ever.
        self.answer(unsafe { abi::again(objects.disable) })
    }

    /// What a callback answers; null where a signal's handler has raised meanwhile, which goes on as if it had come a
    /// moment later.
    fn answer(&self, answer: Ptr) -> Ptr {
        let raised = self.raised.replace(ptr::null_mut());
        if raised.is_null() {
            return answer;
        }
        // SAFETY: the exception is one, and given away; so is the answer.
        unsafe {
            abi::Py_DecRef(answer);
            abi::PyErr_SetRaisedException(raised);
        }
        ptr::null_mut()
    }

    /// The callback of `LINE`.
    pub(crate) fn line(&self, code: Ptr, number: Ptr) -> Ptr {
        let Some(objects) = self.objects.get() else { return abi::none() };
        // SAFETY: CPython's arguments.
        if let Some(number) = unsafe { abi::number(number) }
            && self.has_map()
            && let Some(at) = self.file_of(objects, code)
            && let Some(flags) = self.flags_for(objects, at, code, number)
        {
            // SAFETY: there are more bytes than that behind it, in a mapping that is never taken away.
            unsafe { flags.add(number as usize).write(1) };
            self.store_news();
        }
        // SAFETY: it is held for ever.
        self.answer(unsafe { abi::again(objects.disable) })
    }

    /// The callback of `BRANCH`, which goes on until both ways were seen, and of `BRANCH_LEFT` and `BRANCH_RIGHT`, each of
    /// which is one way.
    pub(crate) fn branch(&self, code: Ptr, offset: Ptr, destination: Ptr, is_side: bool) -> Ptr {
        let Some(objects) = self.objects.get() else { return abi::none() };
        // SAFETY: CPython's arguments.
        let numbers = unsafe { abi::number(offset).zip(abi::number(destination)) };
        let is_done = numbers.is_none_or(|(offset, to)| self.see(objects, code, offset, to));
        // SAFETY: both are held for ever.
        self.answer(unsafe { if is_done || is_side { abi::again(objects.disable) } else { abi::none() } })
    }

    /// Notes a way of a branch; whether nothing more is to be seen of it.
    fn see(&self, objects: &Objects, code: Ptr, offset: u32, to: u32) -> bool {
        let key = Branch { code, offset, first: to, second: NOWHERE };
        let Ok(mut branches) = self.branches.try_borrow_mut() else { return false };
        if let Some(known) = branches.get(&key) {
            if known.first == to || known.second == to {
                return known.second != NOWHERE;
            }
            known.second = to;
            drop(branches);
            self.append_way(objects, code, offset, to);
            return true;
        }
        drop(branches);
        if !self.is_recording() {
            return true;
        }
        match self.append_way(objects, code, offset, to) {
            // One of many: the next of its kind tells of the other way.
            Some(false) => true,
            None => !self.is_recording(),
            Some(true) => {
                let is_kept = self.branches.try_borrow_mut().is_ok_and(|mut all| all.insert(key, NO_BRANCH));
                if !is_kept {
                    self.stop(libc::ENOMEM);
                }
                !is_kept
            }
        }
    }

    /// Tells of a way, once; whether its code object is held.
    fn append_way(&self, objects: &Objects, code: Ptr, offset: u32, to: u32) -> Option<bool> {
        self.check_process(objects);
        let (number, is_held) = self.code_number(objects, code)?;
        let way = Way { key: [number, offset, to], is_free: false };
        if self.ways.try_borrow_mut().ok()?.get(&way).is_none() {
            self.append(map::EDGE, &[&number.to_le_bytes(), &offset.to_le_bytes(), &to.to_le_bytes()], 0)?;
            if !self.ways.try_borrow_mut().ok()?.insert(way, NO_WAY) {
                self.stop(libc::ENOMEM);
            }
        }
        Some(is_held)
    }

    /// The number of a code object in this map, which is told of where it has none, and whether it is held.
    fn code_number(&self, objects: &Objects, object: Ptr) -> Option<(u32, bool)> {
        if let Some(known) = self.codes.try_borrow_mut().ok()?.get(&Code { object, number: 0 }) {
            return Some((known.number, true));
        }
        let at = self.file_of(objects, object)?;
        self.flags_for(objects, at, object, 0)?;
        let file = self.files.try_borrow().ok()?.get(at)?.number;
        // SAFETY: a code object of CPython's; nothing is borrowed.
        let [line, instructions, lines] = unsafe { digests(objects.crc, object) }?;
        let key = [u32::try_from(at).ok()?, line, instructions, lines];
        let known = self.kinds.try_borrow_mut().ok()?.get(&Kind { key, number: 0, count: 0 }).map(|kind| {
            kind.count = kind.count.saturating_add(1);
            (kind.number, kind.count <= MAX_EQUAL)
        });
        let (number, is_held) = match known {
            Some(known) => known,
            None => (self.tell_of_code(key, file)?, true),
        };
        if is_held {
            // SAFETY: a code object; its reference ends when the table is emptied.
            unsafe { abi::Py_IncRef(object) };
            if !self.codes.try_borrow_mut().ok()?.insert(Code { object, number }, NO_CODE) {
                self.stop(libc::ENOMEM);
                return None;
            }
        }
        Some((number, is_held))
    }

    /// Tells of a code object that has no equal yet; its number.
    fn tell_of_code(&self, key: [u32; 4], file: u32) -> Option<u32> {
        let number = self.code_count.get();
        if number >= MAX_CODES {
            self.stop(libc::EFBIG);
            return None;
        }
        // A file that has grown has another number by now, and the same path.
        let words = [file, key[1], key[2], key[3]].map(u32::to_le_bytes);
        self.append(map::CODE, &[&words[0], &words[1], &words[2], &words[3]], 0)?;
        self.code_count.set(number + 1);
        if self.kinds.try_borrow_mut().ok()?.insert(Kind { key, number, count: 1 }, NO_KIND) {
            return Some(number);
        }
        self.stop(libc::ENOMEM);
        None
    }

    /// Which file a code object is of, where it is measured.
    fn file_of(&self, objects: &Objects, code: Ptr) -> Option<usize> {
        // SAFETY: a code object of CPython's, and a dict of ours; nothing is borrowed.
        unsafe {
            let name = Owned::of(abi::PyObject_GetAttr(code, objects.file_name))?;
            let known = abi::PyDict_GetItemWithError(objects.known, name.get());
            if !known.is_null() {
                return usize::try_from(abi::PyLong_AsLong(known)).ok();
            }
            abi::PyErr_Clear();
            let path = objects.measured.path(name.get(), &self.raised);
            if !self.raised.get().is_null() {
                return None; // what was raised says nothing of the file
            }
            let number = match path {
                Some(path) => {
                    let lines = last_line(code, 0).saturating_add(1).min(MAX_LINES);
                    let identity = identity_of(path.get());
                    let path = path.leave();
                    let file = File { path, flags: ptr::null_mut(), mapped: 0, number: 0, lines, identity };
                    let mut files = self.files.try_borrow_mut().ok()?;
                    files.try_reserve(1).ok()?;
                    files.push(file);
                    i64::try_from(files.len() - 1).ok()?
                }
                None => NOT_MEASURED,
            };
            let value = Owned::of(abi::PyLong_FromLong(number))?;
            if abi::PyDict_SetItem(objects.known, name.get(), value.get()) != 0 {
                abi::PyErr_Clear();
            }
            usize::try_from(number).ok()
        }
    }

    /// Where the bytes of a file are in this map, more of them than `line`; it is told of where it is not, or is too
    /// short there.
    fn flags_for(&self, objects: &Objects, at: usize, code: Ptr, line: u32) -> Option<*mut u8> {
        let file = *self.files.try_borrow().ok()?.get(at)?;
        if !file.flags.is_null() && line < file.mapped {
            return Some(file.flags);
        }
        self.check_process(objects);
        if line >= MAX_LINES || !self.is_recording() {
            return None;
        }
        let mut lines = file.lines;
        if line >= lines {
            // SAFETY: a code object of CPython's; nothing is borrowed.
            lines = unsafe { last_line(code, 0) }.max(line).saturating_add(SLACK).min(MAX_LINES);
        }
        // SAFETY: the path is held for ever.
        let encoded = Owned::of(unsafe { abi::PyUnicode_EncodeFSDefault(file.path) })?;
        // SAFETY: its bytes are used while it is held.
        let path = unsafe { abi::bytes(encoded.get()) }?;
        let size = u32::try_from(path.len()).ok()?;
        let [bytes, time, inode] = file.identity.map(u64::to_le_bytes);
        let head: [&[u8]; 6] = [&lines.to_le_bytes(), &size.to_le_bytes(), &bytes, &time, &inode, path];
        let flags = self.append(map::FILE, &head, lines as usize)?;
        let mut told = self.told.try_borrow_mut().ok()?;
        let number = u32::try_from(told.len()).ok()?;
        told.try_reserve(1).ok()?;
        told.push(u32::try_from(at).ok()?);
        *self.files.try_borrow_mut().ok()?.get_mut(at)? =
            File { flags, mapped: lines, number, lines, ..file };
        Some(flags)
    }
}
