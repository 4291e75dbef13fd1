//! coverage.py's data file, read and written. With its modules, the crate's one place of I/O.

mod old_json;
mod write;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

pub use write::{WriteError, to_bytes, write};

use crate::combine::{Combiner, NumberHash};
use crate::data::{CombineError, CoverageData, Kind};
pub use crate::page_writer::PageWriteError;
use crate::pages::{self, Database, PageError};

/// coverage.py's own number for the tables of 5.0 and later.
const SCHEMA_VERSION: i64 = 7;

/// Largest line number that is believed; Python's own limit on a file's lines is far below it.
const MAX_LINE: i64 = 10_000_000;

/// Largest data file that is read.
pub const MAX_DATA_FILE: u64 = 1024 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read a data file")]
    Io(#[source] std::io::Error),
    #[error("it is no regular file")]
    NoFile,
    #[error("{size} bytes, the limit is {MAX_DATA_FILE}")]
    TooLarge { size: u64 },
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("data of coverage 4.x that is no JSON of its shape")]
    OldJson(#[source] serde_json::Error),
    #[error("data of coverage 4.x without lines and without arcs")]
    OldEmpty,
    #[error("data of coverage 3.x: a pickle, which could run code when it is read, so it is not")]
    Pickle,
    #[error("schema version {0}, coverage 5.0 to 7.x write {SCHEMA_VERSION}")]
    Schema(i64),
    #[error("its table {table} has columns {found:?}")]
    Columns { table: &'static str, found: Vec<String> },
    #[error("line number {0}")]
    LineNumber(i64),
    #[error("its line numbers are too far apart: {0} bytes of lines in a file of {1} bytes")]
    Sparse(usize, usize),
    #[error("a row names {what} {id}, which is not there")]
    Dangling { what: &'static str, id: i64 },
    #[error(transparent)]
    Combine(#[from] CombineError),
}

/// Reads a data file from disk.
pub fn read_path(path: &Path) -> Result<CoverageData, ReadError> {
    read(&bytes_of(path)?)
}

/// The bytes of a data file, if they are not too many.
pub fn bytes_of(path: &Path) -> Result<Vec<u8>, ReadError> {
    let found = fs_err::metadata(path).map_err(ReadError::Io)?;
    if !found.is_file() {
        // A pipe or a device may never end.
        return Err(ReadError::NoFile);
    }
    let size = found.len();
    if size > MAX_DATA_FILE {
        return Err(ReadError::TooLarge { size });
    }
    fs_err::read(path).map_err(ReadError::Io)
}

/// Reads a data file's bytes, wherever they come from.
pub fn read(bytes: &[u8]) -> Result<CoverageData, ReadError> {
    let mut combiner = Combiner::default();
    open(bytes)?.combine(&mut combiner, None)?;
    Ok(combiner.into_data())
}

/// A data file that is open: its kind is known before it is combined.
pub struct Opened<'a>(Contents<'a>);

enum Contents<'a> {
    Sqlite { database: Database<'a>, tables: Tables, kind: Option<Kind> },
    Old(CoverageData),
}

/// Opens a data file's bytes, wherever they come from.
pub fn open(bytes: &[u8]) -> Result<Opened<'_>, ReadError> {
    if let Some(text) = bytes.strip_prefix(old_json::HEAD) {
        return Ok(Opened(Contents::Old(old_json::read(text)?)));
    }
    // Python 2's pickles of a dictionary: protocol 2 (`\x80\x02}`), or text.
    if bytes.starts_with(b"\x80\x02}") || bytes.starts_with(b"(dp") {
        return Err(ReadError::Pickle);
    }
    let database = Database::open(bytes)?;
    let tables = Tables::find(&database)?;
    let mut schema = None;
    database.rows(tables.schema, |row| {
        schema = Some(row.next_value()?.integer()?);
        Ok(())
    })?;
    if schema != Some(SCHEMA_VERSION) {
        return Err(ReadError::Schema(schema.unwrap_or(0)));
    }
    let kind = kind(&database, tables.meta)?;
    Ok(Opened(Contents::Sqlite { database, tables, kind }))
}

impl Opened<'_> {
    pub const fn kind(&self) -> Option<Kind> {
        match &self.0 {
            Contents::Sqlite { kind, .. } => *kind,
            Contents::Old(data) => data.kind(),
        }
    }

    /// The files that it tells of.
    pub fn paths(&self) -> Result<Vec<String>, ReadError> {
        match &self.0 {
            Contents::Sqlite { database, tables, .. } => {
                let mut paths = Vec::new();
                database.rows(tables.file, |row| {
                    row.next_value()?;
                    paths.push(row.next_value()?.text()?.to_owned());
                    Ok(())
                })?;
                Ok(paths)
            }
            Contents::Old(data) => Ok(data.files.keys().cloned().collect()),
        }
    }

    /// Adds what it holds to others; all in one context, if one is named.
    pub fn combine(self, into: &mut Combiner, in_context: Option<&str>) -> Result<(), ReadError> {
        let (database, tables, kind) = match self.0 {
            Contents::Sqlite { database, tables, kind } => (database, tables, kind),
            Contents::Old(data) => {
                let data = if let Some(context) = in_context { data.in_context(context) } else { data };
                return Ok(into.add(&data)?);
            }
        };
        into.accept(kind)?;
        let known = into.file_count();
        let places = FileIds {
            files: places(&database, tables.file, |path| into.file(path))?,
            contexts: places(&database, tables.context, |context| {
                into.context(in_context.unwrap_or(context))
            })?,
        };
        match kind {
            Some(Kind::Lines) => read_lines(&database, tables.line_bits, &places, into)?,
            Some(Kind::Arcs) => read_arcs(&database, tables.arc, &places, into)?,
            None => {}
        }
        read_tracers(&database, &tables, &places, known, into)
    }
}

/// Each file's plugin, where it has one; a file without one must have none elsewhere either. `known`
/// files are those of earlier data files.
fn read_tracers(
    database: &Database<'_>,
    tables: &Tables,
    places: &FileIds,
    known: usize,
    into: &mut Combiner,
) -> Result<(), ReadError> {
    let mut tracers = HashMap::new();
    database.rows(tables.tracer, |row| {
        let (id, tracer) = (key(row)?, row.next_value()?.text()?.to_owned());
        tracers.insert(id, tracer);
        Ok(())
    })?;
    for id in tracers.keys() {
        places.file(*id)?;
    }
    if tracers.is_empty() && !into.has_tracers() {
        return Ok(());
    }
    if !into.has_tracers() {
        into.settle_tracers(known);
    }
    let mut conflict = None;
    database.rows(tables.file, |row| {
        let (id, path) = (key(row)?, row.next_value()?.text()?);
        let tracer = tracers.get(&id).map_or("", String::as_str);
        if let Some(place) = places.files.get(id) {
            conflict = conflict.take().or(into.tracer(place, path, tracer).err());
        }
        Ok(())
    })?;
    conflict.map_or(Ok(()), |conflict| Err(conflict.into()))
}

/// Root pages of the seven tables.
struct Tables {
    schema: u32,
    meta: u32,
    file: u32,
    context: u32,
    line_bits: u32,
    arc: u32,
    tracer: u32,
}

thread_local! {
    /// The last CREATE TABLE of each table whose columns were right: reading these words takes longer
    /// than reading a small table.
    static KNOWN: RefCell<HashMap<&'static str, String>> = RefCell::default();
}

impl Tables {
    fn find(database: &Database<'_>) -> Result<Self, ReadError> {
        let all = database.tables()?;
        let root = |table: &'static str, wanted: &[&str]| {
            let Some(found) = all.iter().find(|t| t.name == table) else {
                return Err(ReadError::Columns { table, found: Vec::new() });
            };
            // The same words as in the data file before, nearly always.
            let is_known = KNOWN.with_borrow(|known| known.get(table) == Some(&found.sql));
            if !is_known {
                let columns = pages::columns(&found.sql);
                if columns != wanted {
                    return Err(ReadError::Columns { table, found: columns });
                }
                KNOWN.with_borrow_mut(|known| known.insert(table, found.sql.clone()));
            }
            Ok(found.root)
        };
        Ok(Self {
            schema: root("coverage_schema", &["version"])?,
            meta: root("meta", &["key", "value"])?,
            file: root("file", &["id", "path"])?,
            context: root("context", &["id", "context"])?,
            line_bits: root("line_bits", &["file_id", "context_id", "numbits"])?,
            arc: root("arc", &["file_id", "context_id", "fromno", "tono"])?,
            tracer: root("tracer", &["file_id", "tracer"])?,
        })
    }
}

/// Where the names of a table are in what they are combined into, by their ids. coverage.py counts these
/// from 1; any other id is looked up.
#[derive(Default)]
struct IdMap {
    from_one: Vec<usize>,
    others: HashMap<i64, usize, NumberHash>,
}

impl IdMap {
    fn insert(&mut self, id: i64, place: usize) {
        if usize::try_from(id) == Ok(self.from_one.len() + 1) {
            self.from_one.push(place);
        } else {
            self.others.insert(id, place);
        }
    }

    fn get(&self, id: i64) -> Option<usize> {
        let counted = usize::try_from(id).ok().and_then(|id| self.from_one.get(id.checked_sub(1)?));
        counted.or_else(|| self.others.get(&id)).copied()
    }
}

/// Where the files and contexts of a data file are in what it is combined into.
struct FileIds {
    files: IdMap,
    contexts: IdMap,
}

impl FileIds {
    fn file(&self, id: i64) -> Result<usize, ReadError> {
        self.files.get(id).ok_or(ReadError::Dangling { what: "file", id })
    }

    fn context(&self, id: i64) -> Result<usize, ReadError> {
        self.contexts.get(id).ok_or(ReadError::Dangling { what: "context", id })
    }
}

/// An INTEGER PRIMARY KEY is stored as NULL and is the row id.
fn key(row: &mut pages::Record<'_>) -> Result<i64, PageError> {
    match row.next_value()? {
        pages::Value::Null => Ok(row.row_id),
        value => value.integer(),
    }
}

/// Ids of a table of names, each with the place that `place` gives its name.
fn places(
    database: &Database<'_>,
    root: u32,
    mut place: impl FnMut(&str) -> usize,
) -> Result<IdMap, PageError> {
    let mut places = IdMap::default();
    database.rows(root, |row| {
        let id = key(row)?;
        places.insert(id, place(row.next_value()?.text()?));
        Ok(())
    })?;
    Ok(places)
}

fn kind(database: &Database<'_>, meta: u32) -> Result<Option<Kind>, PageError> {
    let mut kind = None;
    database.rows(meta, |row| {
        if row.next_value()?.text()? == "has_arcs" {
            kind = Some(if row.next_value()?.text()? == "1" { Kind::Arcs } else { Kind::Lines });
        }
        Ok(())
    })?;
    Ok(kind)
}

fn read_lines(
    database: &Database<'_>,
    root: u32,
    places: &FileIds,
    into: &mut Combiner,
) -> Result<(), ReadError> {
    let mut bad = None;
    database.rows(root, |row| {
        let [file, context] = row.integers()?;
        let pages::Value::Blob(numbits) = row.next_value()? else {
            return Err(PageError::Damaged("numbits are no blob"));
        };
        let most = i64::try_from(numbits.len()).map_or(i64::MAX, |len| len.saturating_mul(8));
        match (places.file(file), places.context(context)) {
            (Ok(file), Ok(context)) if most <= MAX_LINE => into.add_lines(file, context, numbits),
            (Ok(_), Ok(_)) => bad = Some(ReadError::LineNumber(most)),
            (Err(error), _) | (_, Err(error)) => bad = Some(error),
        }
        Ok(())
    })?;
    bad.map_or(Ok(()), Err)
}

fn read_arcs(
    database: &Database<'_>,
    root: u32,
    places: &FileIds,
    into: &mut Combiner,
) -> Result<(), ReadError> {
    let mut bad = None;
    // Rows of one file come together: one lookup a run, not one a row.
    let mut run = ((0, 0), Vec::new());
    let mut furthest: HashMap<usize, u32, NumberHash> = HashMap::default();
    let mut add = |((file, context), arcs): &((i64, i64), Vec<(i32, i32)>)| {
        if !arcs.is_empty() {
            let place = places.file(*file)?;
            let line = arcs.iter().map(|(from, to)| from.unsigned_abs().max(to.unsigned_abs())).max();
            let known = furthest.entry(place).or_default();
            *known = line.unwrap_or(0).max(*known);
            into.add_arcs(place, places.context(*context)?, arcs);
        }
        Ok::<(), ReadError>(())
    };
    database.rows(root, |row| {
        let [file, context, from, to] = row.integers()?;
        if run.0 != (file, context) {
            bad = bad.take().or(add(&run).err());
            run.0 = (file, context);
            run.1.clear();
        }
        match (line_number(from), line_number(to)) {
            (Some(from), Some(to)) => run.1.push((from, to)),
            (from_ok, _) => bad = Some(ReadError::LineNumber(if from_ok.is_none() { from } else { to })),
        }
        Ok(())
    })?;
    bad = bad.take().or(add(&run).err());
    bad.map_or(Ok(()), Err)?;
    check_density(furthest.into_values(), database.len())
}

/// A few bytes may name very far lines, and whoever makes sets of lines of them needs memory for all the
/// lines before: more than this many times the file's own size is nobody's code.
const MOST_SPARSE: usize = 64;

/// Checks the furthest lines of the files of one data file, of so many bytes.
fn check_density(furthest: impl Iterator<Item = u32>, bytes: usize) -> Result<(), ReadError> {
    let needed: usize = furthest.map(|line| line as usize / 8).sum();
    if needed > bytes.saturating_mul(MOST_SPARSE) { Err(ReadError::Sparse(needed, bytes)) } else { Ok(()) }
}

fn line_number(n: i64) -> Option<i32> {
    i32::try_from(n).ok().filter(|_| n.abs() <= MAX_LINE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::old_json::HEAD;
    use super::write::tests::{bytes_of, sample};
    use super::*;

    #[test]
    fn other_formats_are_named() {
        assert!(matches!(read(b""), Err(ReadError::Page(PageError::NotSqlite))));
        assert!(matches!(read(&[HEAD, br#"{"lines":3}"#].concat()), Err(ReadError::OldJson(_))));
        assert!(matches!(read(&[HEAD, b"[]"].concat()), Err(ReadError::OldJson(_))));
        assert!(matches!(read(&[HEAD, b"{}"].concat()), Err(ReadError::OldEmpty)));
        assert!(matches!(read(b"\x80\x02}q\x01"), Err(ReadError::Pickle)));
        let mut wal = bytes_of(&sample(Kind::Lines, 3));
        wal[18] = 2;
        assert!(matches!(read(&wal), Err(ReadError::Page(PageError::Unknown(_)))));
        let mut cut = bytes_of(&sample(Kind::Arcs, 30));
        cut.truncate(cut.len() - 4096);
        assert!(read(&cut).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn damaged_bytes_are_an_error_or_data_but_never_a_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), cut in prop::option::of(any::<prop::sample::Index>())) {
            thread_local! { static GOOD: Vec<u8> = bytes_of(&sample(Kind::Arcs, 12)); }
            let mut bytes = GOOD.with(Clone::clone);
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            for (at, value) in edits {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            let _ = read(&bytes);
        }
    }
}
