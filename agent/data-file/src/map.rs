//! Maps: what a recorded process writes while it runs. Appended to, and readable at any moment, also when the process
//! was killed in the middle of a store.
//!
//! A map is [`MAGIC`] and then records, each of them aligned to 8 bytes; all numbers are little-endian:
//!
//! ```text
//! u32 size        of the whole record; 0 where nothing follows. Written last: it commits the record.
//! u16 kind
//! u16 context     number of a context record, from 1 on; 0: in none
//! ```
//!
//! | kind | payload |
//! |---|---|
//! | 0 nothing | whatever: room that was left before the file grew |
//! | 1 facts | u32 length, u32 0, JSON: who the process is |
//! | 2 file | u32 lines, u32 length, u64 size, u64 time in nanoseconds and u64 inode of its source when that was loaded, its path, zeros to the next 8 bytes, then a byte for each line from 0 on, which is not 0 once that line ran. Files are numbered from 0 on, as they come |
//! | 3 code | u32 file, u32 first line, 8 bytes that tell its instructions from others. Numbered likewise |
//! | 4 edge | u32 code, u32 offset of a branch, u32 offset of its destination, u32 0: it was taken. From the offset 0xFFFFFFFF: the code object, which has one line, was entered |
//! | 5 lines | u32 file, u32 count, u32 each: lines that ran |
//! | 6 arcs | u32 file, u32 count, i32 from and i32 to each: arcs that ran |
//! | 7 context | u32 length, u32 0, its name. Numbered from 1 on |
//! | 8 state | u32 why nothing more is recorded, as the system numbers errors; 0: it goes on. u32 0. Stored in place |
//!
//! A byte for a line and not a bit: it is one plain store, which no other thread can undo. A file that has grown has a
//! second record of its path. Whoever reads trusts nothing: what is damaged ends the map there, and is told.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::data::{CombineError, CoverageData, Measured};
use crate::lines::{Arc, ArcSet, LineSet};

/// What a map begins with; the last letter is the version of the form.
pub const MAGIC: [u8; 8] = *b"pcovmap1";

/// The damage that no second look mends.
pub const TOO_MANY: &str = "it has too many lines";

/// Longest path, and longest name of a context.
const MAX_TEXT: usize = 4096;

/// Largest facts.
const MAX_FACTS: usize = 64 * 1024;

/// How far the facts of a map can go.
pub const MAX_HEAD: u64 = (MAGIC.len() + 2 * HEAD + MAX_FACTS) as u64;

/// Size of what each record begins with, and what records are aligned to.
const HEAD: usize = 8;

/// Who wrote a map; what it does not tell is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    pub pid: u32,
    /// Clock ticks between boot and its start.
    pub start_ticks: u64,
    pub boot_id: String,
    /// Where it has that number, as `/proc/self/ns/pid` reads there.
    pub pid_ns: String,
    /// The install that its hook is from, and its host.
    pub install: String,
    pub hostname: String,
    pub generation: u64,
    pub label: String,
    pub run: String,
    pub role: String,
    /// `3.12.1`
    pub python: String,
    /// `sys.prefix` of it.
    pub prefix: String,
    /// By which means lines and branches came here.
    pub core: String,
    /// Whether branches were recorded, too.
    pub branch: bool,
    /// `-O` of the Python.
    pub optimize: u8,
}

/// A code object whose branches were recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// Number of its file.
    pub file: u32,
    pub first_line: u32,
    /// Tells its instructions from others.
    pub digest: [u8; 8],
}

/// A way that a branch took: offsets of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Number of the code object.
    pub code: u32,
    pub offset: u32,
    pub destination: u32,
    pub context: u16,
}

/// What a map tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map {
    pub facts: Facts,
    /// Paths, by number; an empty one where it is no text, or too long.
    pub files: Vec<String>,
    /// What their sources were when they were loaded, by number.
    pub sources: Vec<SourceIdentity>,
    /// By number.
    pub codes: Vec<Code>,
    /// Names of contexts: the first has number 1.
    pub contexts: Vec<String>,
    /// By file and context.
    pub lines: BTreeMap<(u32, u16), LineSet>,
    /// By file and context.
    pub arcs: BTreeMap<(u32, u16), BTreeSet<Arc>>,
    pub edges: BTreeSet<Edge>,
    /// The system's number of the error that ended recording before its process ended.
    pub stopped: Option<u32>,
    /// Lines, arcs and edges that were read.
    weight: usize,
    /// What is wrong behind all that, where anything is: of a living process it may be a store that is under way.
    pub damage: Option<Damage>,
}

/// Size, time in nanoseconds and inode of a source; zeros where there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceIdentity {
    pub size: u64,
    pub mtime_ns: u64,
    pub inode: u64,
}

/// A record that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub offset: usize,
    pub reason: &'static str,
}

/// Bytes that are no map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    #[error("it is no map")]
    NotAMap,
    #[error("it is a map of form {0:?}, this program reads 1")]
    Version(char),
}

/// Reads a map, as far as it is whole.
pub fn read(bytes: &[u8]) -> Result<Map, MapError> {
    let (name, version) = MAGIC.split_at(MAGIC.len() - 1);
    let rest = bytes.strip_prefix(name).ok_or(MapError::NotAMap)?;
    match rest.first() {
        Some(found) if version == [*found] => {}
        Some(found) => return Err(MapError::Version(char::from(*found))),
        None => return Err(MapError::NotAMap),
    }
    let mut map = Map::default();
    let mut offset = MAGIC.len();
    while let Some(head) = bytes.get(offset..).and_then(Head::of).filter(|head| head.size > 0) {
        let record = usize::try_from(head.size).ok().and_then(|size| bytes.get(offset..)?.get(HEAD..size));
        let read = match record {
            _ if head.size % 8 != 0 => Err("its size is none"),
            None => Err("it is longer than the file"),
            Some(payload) => map.add(head, payload),
        };
        if let Err(reason) = read {
            map.damage = Some(Damage { offset, reason });
            break;
        }
        offset += head.size as usize;
    }
    Ok(map)
}

/// What each record begins with.
#[derive(Debug, Clone, Copy)]
struct Head {
    size: u32,
    kind: u16,
    context: u16,
}

impl Head {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (size, rest) = bytes.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let context = *rest.first_chunk::<2>()?;
        Some(Self {
            size: u32::from_le_bytes(*size),
            kind: u16::from_le_bytes(*kind),
            context: u16::from_le_bytes(context),
        })
    }
}

/// Two numbers that a payload begins with, and the rest of it.
fn pair(payload: &[u8]) -> Result<(u32, u32, &[u8]), &'static str> {
    let (first, rest) = number(payload)?;
    let (second, rest) = number(rest)?;
    Ok((first, second, rest))
}

fn wide_number(bytes: &[u8]) -> Result<(u64, &[u8]), &'static str> {
    let (number, rest) = bytes.split_first_chunk::<8>().ok_or("it is too short")?;
    Ok((u64::from_le_bytes(*number), rest))
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), &'static str> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or("it is too short")?;
    Ok((u32::from_le_bytes(*number), rest))
}

/// So many numbers, and nothing but zeros behind them.
fn numbers(count: u32, bytes: &[u8]) -> Result<impl Iterator<Item = u32> + '_, &'static str> {
    let length = (count as usize).checked_mul(4).ok_or("it is too short")?;
    let (found, rest) = bytes.split_at_checked(length).ok_or("it is too short")?;
    if rest.len() >= 8 || rest.iter().any(|&byte| byte != 0) {
        return Err("something is behind it");
    }
    Ok(found.chunks_exact(4).filter_map(|chunk| Some(u32::from_le_bytes(*chunk.first_chunk()?))))
}

fn text(length: u32, most: usize, bytes: &[u8]) -> Result<(&str, &[u8]), &'static str> {
    let length = usize::try_from(length).ok().filter(|&length| length <= most).ok_or("a text is too long")?;
    let (text, rest) = bytes.split_at_checked(length).ok_or("it is too short")?;
    Ok((std::str::from_utf8(text).map_err(|_| "a text is none")?, rest))
}

impl Map {
    fn add(&mut self, head: Head, payload: &[u8]) -> Result<(), &'static str> {
        if usize::from(head.context) > self.contexts.len() {
            return Err("its context was not told");
        }
        match head.kind {
            0 => {}
            1 => {
                let (length, _, rest) = pair(payload)?;
                let (json, _) = text(length, MAX_FACTS, rest)?;
                self.facts = serde_json::from_str(json).map_err(|_| "its facts are none")?;
            }
            2 => self.add_file(head.context, payload)?,
            3 => {
                self.count_lines(1)?;
                let (file, first_line, rest) = pair(payload)?;
                self.known(file)?;
                let digest = *rest.first_chunk::<8>().ok_or("it is too short")?;
                self.codes.push(Code { file, first_line, digest });
            }
            4 => {
                let (code, offset, rest) = pair(payload)?;
                let (destination, _) = number(rest)?;
                if code as usize >= self.codes.len() {
                    return Err("its code was not told");
                }
                self.count_lines(1)?;
                self.edges.insert(Edge { code, offset, destination, context: head.context });
            }
            5 => {
                let (file, count, rest) = pair(payload)?;
                self.known(file)?;
                let lines: Vec<u32> = numbers(count, rest)?.collect();
                // A set has a bit for each line up to the last.
                let last = lines.iter().max().map_or(0, |&last| last as usize);
                if last >= MAX_LINES as usize {
                    return Err("its lines are none");
                }
                // However few there are, a set has a bit for each up to the last; it grows once.
                let have = self.lines.get(&(file, head.context)).map_or(0, |set| set.as_numbits().len());
                self.count_lines((last / 8).saturating_sub(have) / 8 + lines.len())?;
                let set = self.lines.entry((file, head.context)).or_default();
                for line in lines {
                    set.insert(line);
                }
            }
            6 => {
                let (file, count, rest) = pair(payload)?;
                self.known(file)?;
                let ends: Vec<u32> = numbers(count.checked_mul(2).ok_or("it is too short")?, rest)?.collect();
                self.count_lines(ends.len() / 2)?;
                let arcs = ends.chunks_exact(2).filter_map(|ends| match *ends {
                    [from, to] => Some((from.cast_signed(), to.cast_signed())),
                    _ => None,
                });
                self.arcs.entry((file, head.context)).or_default().extend(arcs);
            }
            7 => {
                let (length, _, rest) = pair(payload)?;
                let (name, _) = text(length, MAX_TEXT, rest)?;
                self.contexts.push(name.to_owned());
            }
            8 => self.stopped = Some(pair(payload)?.0).filter(|&reason| reason != 0),
            _ => return Err("it is of no kind"),
        }
        Ok(())
    }

    fn add_file(&mut self, context: u16, payload: &[u8]) -> Result<(), &'static str> {
        let (lines, length, rest) = pair(payload)?;
        let (size, rest) = wide_number(rest)?;
        let (mtime_ns, rest) = wide_number(rest)?;
        let (inode, rest) = wide_number(rest)?;
        let length = length as usize;
        let path = rest.get(..length).ok_or("it is too short")?;
        let flags = rest.get(length.next_multiple_of(8)..).ok_or("it is too short")?;
        let flags = flags.get(..lines as usize).ok_or("it is too short")?;
        let number = u32::try_from(self.files.len()).map_err(|_| "there are too many files")?;
        self.sources.push(SourceIdentity { size, mtime_ns, inode });
        // Python has names that are no text. What ran of such a file is counted by whoever reads on.
        let path = std::str::from_utf8(path).ok().filter(|path| path.len() <= MAX_TEXT);
        self.files.push(path.unwrap_or_default().to_owned());
        let ran = (0u32..).zip(flags).filter(|(_, flag)| **flag != 0).map(|(line, _)| line);
        let ran: LineSet = ran.collect();
        if !ran.is_empty() {
            self.count_lines(ran.count())?;
            self.lines.insert((number, context), ran);
        }
        Ok(())
    }

    /// What one process may have run; more is somebody's who wants us to run out of memory.
    fn count_lines(&mut self, lines: usize) -> Result<(), &'static str> {
        self.weight += lines;
        if self.weight <= MAX_WEIGHT { Ok(()) } else { Err(TOO_MANY) }
    }

    fn known(&self, file: u32) -> Result<(), &'static str> {
        if (file as usize) < self.files.len() { Ok(()) } else { Err("its file was not told") }
    }

    /// What ran, as coverage.py has it, but for the edges, which are offsets of instructions yet.
    pub fn to_data(&self) -> Result<CoverageData, CombineError> {
        let mut data = CoverageData::new(None);
        let lines = self.lines.iter().map(|(place, lines)| (place, Measured::Lines(lines.clone())));
        let arcs = self
            .arcs
            .iter()
            .map(|(place, arcs)| (place, Measured::Arcs(arcs.iter().copied().collect::<ArcSet>())));
        for ((file, context), measured) in lines.chain(arcs) {
            let (Some(path), Some(context)) = (self.path_of(*file), self.name_of(*context)) else {
                continue;
            };
            data.add(path, context, measured)?;
        }
        Ok(data)
    }

    /// What ran as arcs, with those that edges were resolved to, by the number of their file: a line that ran is one
    /// from it to itself, as coverage.py has it where nothing else tells that it ran.
    pub fn to_arcs(&self, of_edges: &BTreeMap<u32, BTreeSet<Arc>>) -> Result<CoverageData, CombineError> {
        let mut data = CoverageData::new(None);
        let of_edges =
            of_edges.iter().map(|(file, arcs)| (*file, 0, arcs.iter().copied().collect::<ArcSet>()));
        let of_lines = self.lines.iter().map(|((file, context), lines)| {
            let ran = lines.iter().filter(|&line| line > 0).map(u32::cast_signed);
            (*file, *context, ran.map(|line| (line, line)).collect())
        });
        let told =
            self.arcs.iter().map(|((file, context), arcs)| (*file, *context, arcs.iter().copied().collect()));
        for (file, context, arcs) in of_lines.chain(of_edges).chain(told) {
            // Of an empty file nothing ran, but that it was run is told.
            if let Some((path, context)) = self.path_of(file).zip(self.name_of(context)) {
                data.add(path, context, Measured::Arcs(arcs))?;
            }
        }
        Ok(data)
    }

    /// The path of a file, where that is a text.
    pub fn path_of(&self, file: u32) -> Option<&str> {
        self.files.get(file as usize).map(String::as_str).filter(|path| !path.is_empty())
    }

    /// The name of a context; none has the empty name.
    fn name_of(&self, context: u16) -> Option<&str> {
        let before = usize::from(context).checked_sub(1);
        before.map_or(Some(""), |at| self.contexts.get(at).map(String::as_str))
    }
}

/// More lines than any source has.
const MAX_LINES: u32 = 1024 * 1024;

/// Most lines, arcs, code objects and edges of one map: all of Django has 40,000.
const MAX_WEIGHT: usize = 2_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A map as a process would write it.
    struct Writer(Vec<u8>);

    impl Writer {
        fn new() -> Self {
            Self(MAGIC.to_vec())
        }

        fn record(&mut self, kind: u16, context: u16, payload: &[u8]) -> &mut Self {
            let size = (HEAD + payload.len()).next_multiple_of(8);
            self.0.extend(u32::try_from(size).expect("small").to_le_bytes());
            self.0.extend(kind.to_le_bytes());
            self.0.extend(context.to_le_bytes());
            self.0.extend(payload);
            self.0.resize(self.0.len().next_multiple_of(8), 0);
            self
        }

        fn text(&mut self, kind: u16, text: &str) -> &mut Self {
            let length = u32::try_from(text.len()).expect("small");
            self.record(kind, 0, &[words(&[length, 0]).as_slice(), text.as_bytes()].concat())
        }

        fn file(&mut self, context: u16, path: &str, flags: &[u8]) -> &mut Self {
            let sizes = [flags.len(), path.len()].map(|size| u32::try_from(size).expect("small"));
            let mut payload = words(&sizes);
            payload.extend([7u64, 8, 9].iter().flat_map(|part| part.to_le_bytes()));
            payload.extend(path.as_bytes());
            payload.resize(payload.len().next_multiple_of(8), 0);
            payload.extend(flags);
            self.record(2, context, &payload)
        }
    }

    fn words(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn some_map() -> Vec<u8> {
        let mut map = Writer::new();
        map.text(1, r#"{"pid": 7, "role": "web", "python": "3.12.1", "branch": true, "of_later": 1}"#)
            .file(0, "/opt/shop/shop/web.py", &[0, 1, 1, 0, 1])
            .text(7, "tests/test_web.py::test_price")
            .record(5, 1, &words(&[0, 3, 2, 9, 4]))
            .record(3, 0, &[words(&[0, 12]), vec![9; 8]].concat())
            .record(4, 0, &words(&[0, 6, 20, 0]))
            .file(0, "/opt/shop/shop/empty.py", &[1]);
        map.0
    }

    #[test]
    fn a_map_tells_what_ran_and_who_ran_it() {
        let map = read(&some_map()).expect("a map");
        assert_eq!(map.damage, None);
        assert_eq!((map.facts.pid, map.facts.role.as_str(), map.facts.branch), (7, "web", true));
        let lines = |file, context| map.lines[&(file, context)].iter().collect::<Vec<_>>();
        assert_eq!((lines(0, 0), lines(0, 1), lines(1, 0)), (vec![1, 2, 4], vec![2, 4, 9], vec![0]));
        assert_eq!(map.sources[0], SourceIdentity { size: 7, mtime_ns: 8, inode: 9 });
        assert_eq!(map.codes, [Code { file: 0, first_line: 12, digest: [9; 8] }]);
        let edge = Edge { code: 0, offset: 6, destination: 20, context: 0 };
        assert_eq!(map.edges, BTreeSet::from([edge]));
        let data = map.to_data().expect("lines");
        let contexts: Vec<&String> = data.files["/opt/shop/shop/web.py"].contexts.keys().collect();
        assert_eq!(contexts, ["", "tests/test_web.py::test_price"]);
    }

    /// Each record is small, and of one long file: what it costs to read is not what the file is long.
    #[test]
    fn a_long_session_is_not_too_much() {
        let mut written = Writer::new();
        written.file(0, "/x.py", &[]);
        for line in 900_000..950_000 {
            written.record(5, 0, &words(&[0, 1, line]));
        }
        let map = read(&written.0).expect("a map");
        assert_eq!((map.damage, map.lines[&(0, 0)].count()), (None, 50_000));
    }

    #[test]
    fn what_is_damaged_ends_a_map_and_is_told() {
        let with = |behind: &[u8]| {
            let map = read(&[some_map().as_slice(), behind].concat()).expect("a map");
            assert_eq!(map.files.len(), 2, "what comes before counts");
            map.damage.map(|damage| damage.reason)
        };
        let record = |kind: u16, context: u16, payload: &[u32]| {
            let mut map = Writer(Vec::new());
            map.record(kind, context, &words(payload));
            with(&map.0)
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[0; 64]), None);
        assert_eq!(record(9, 0, &[]), Some("it is of no kind"));
        assert_eq!(record(5, 2, &[0, 0]), Some("its context was not told"));
        assert_eq!(record(5, 0, &[2, 0]), Some("its file was not told"));
        assert_eq!(record(5, 0, &[0, u32::MAX]), Some("it is too short"));
        assert_eq!(record(6, 0, &[0, u32::MAX]), Some("it is too short"));
        assert_eq!(record(5, 0, &[0, 1, u32::MAX]), Some("its lines are none"));
        assert_eq!(record(5, 0, &[0, 1, 7, 7]), Some("something is behind it"));
        assert_eq!(record(4, 0, &[1, 0, 0, 0]), Some("its code was not told"));
        assert_eq!(with(&[255; 16]), Some("its size is none"));
        assert_eq!(with(&[64, 0, 0, 0, 2, 0, 0, 0]), Some("it is longer than the file"));
        assert_eq!(read(b"SQLite format 3"), Err(MapError::NotAMap));
        assert_eq!(read(b"pcovmap2"), Err(MapError::Version('2')));
    }

    proptest! {
        /// A process that is killed leaves a beginning: what it had committed is all there.
        #[test]
        fn a_beginning_of_a_map_has_all_that_was_committed(at in 8usize..400) {
            let whole = some_map();
            let cut = read(&whole[..at.min(whole.len())]).expect("a map");
            let all = read(&whole).expect("a map");
            prop_assert!(all.files.starts_with(&cut.files) && all.codes.starts_with(&cut.codes));
            prop_assert!(cut.lines.iter().all(|(place, lines)| all.lines[place] == *lines || place.1 == 0));
            // A file that is longer than what was written, as one that is being written to.
            let mut grown = whole[..at.min(whole.len())].to_vec();
            grown.resize(grown.len() + 4096, 0);
            prop_assert!(read(&grown).expect("a map").files.len() >= cut.files.len());
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 8usize..200) {
            let mut odd = some_map();
            for (place, byte) in odd.iter_mut().skip(at).zip(&bytes) {
                *place = *byte;
            }
            let _ = read(&odd).expect("a map").to_data();
            let _ = read(&[&MAGIC[..], &bytes].concat()).map(|map| map.to_data());
        }

        #[test]
        fn lines_are_kept_whatever_wrote_them(lines in proptest::collection::btree_set(0u32..3000, 0..200)) {
            let mut flags = vec![0u8; 3000];
            for &line in &lines {
                flags[line as usize] = 1;
            }
            let told: Vec<u32> = lines.iter().copied().collect();
            let mut by_flags = Writer::new();
            by_flags.file(0, "/x.py", &flags);
            let mut by_numbers = Writer::new();
            let count = u32::try_from(told.len()).expect("small");
            by_numbers.file(0, "/x.py", &[]).record(5, 0, &[words(&[0, count]), words(&told)].concat());
            let found = |map: &Writer| {
                let map = read(&map.0).expect("a map");
                map.lines.get(&(0, 0)).map(|lines| lines.iter().collect::<Vec<_>>()).unwrap_or_default()
            };
            prop_assert_eq!(found(&by_flags), told.clone());
            prop_assert_eq!(found(&by_numbers), told);
        }
    }
}
