//! coverage.py's data file, read and written. The crate's one I/O module.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::combine::{Combiner, NumberHash};
use crate::data::{CombineError, CoverageData, Kind, Measured};
use crate::lines::ArcSet;
use crate::page_writer::{TooLarge, Value, Writer, record};
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
    #[error("a row names {what} {id}, which is not there")]
    Dangling { what: &'static str, id: i64 },
    #[error(transparent)]
    Combine(#[from] CombineError),
}

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("cannot write {path}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}")]
    TooLarge { path: PathBuf, source: TooLarge },
}

/// Reads a data file from disk.
pub fn read_path(path: &Path) -> Result<CoverageData, ReadError> {
    read(&bytes_of(path)?)
}

/// Reads a data file's bytes with all that ran in one context.
pub fn read_in_context(bytes: &[u8], context: &str) -> Result<CoverageData, ReadError> {
    let mut combiner = Combiner::default();
    open(bytes)?.combine(&mut combiner, Some(context))?;
    Ok(combiner.into_data())
}

/// The bytes of a data file, if they are not too many.
pub fn bytes_of(path: &Path) -> Result<Vec<u8>, ReadError> {
    let size = fs_err::metadata(path).map_err(ReadError::Io)?.len();
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
    if let Some(text) = bytes.strip_prefix(OLD_JSON) {
        return Ok(Opened(Contents::Old(read_old_json(text)?)));
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
        let places = Places {
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
    places: &Places,
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
        if let Some(place) = places.files.get(&id) {
            conflict = conflict.take().or(into.tracer(*place, path, tracer).err());
        }
        Ok(())
    })?;
    conflict.map_or(Ok(()), |conflict| Err(conflict.into()))
}

/// How data of coverage 4.x begins.
const OLD_JSON: &[u8] = b"!coverage.py: This is a private format, don't read it directly!";

/// A measured file's lines or arcs, and the plugin that measured it.
#[derive(serde::Deserialize)]
struct OldJson {
    lines: Option<BTreeMap<String, Vec<i64>>>,
    arcs: Option<BTreeMap<String, Vec<(i64, i64)>>>,
    #[serde(default)]
    file_tracers: BTreeMap<String, String>,
}

fn read_old_json(text: &[u8]) -> Result<CoverageData, ReadError> {
    let old: OldJson = serde_json::from_slice(text).map_err(ReadError::OldJson)?;
    if old.lines.is_none() && old.arcs.is_none() {
        return Err(ReadError::OldEmpty);
    }
    let mut data = CoverageData::default();
    let number = |n: i64| line_number(n).ok_or(ReadError::LineNumber(n));
    for (path, lines) in old.lines.into_iter().flatten() {
        let lines = lines.into_iter().map(|n| {
            let line = number(n)?;
            u32::try_from(line).map_err(|_| ReadError::LineNumber(n))
        });
        data.add(&path, "", Measured::Lines(lines.collect::<Result<_, _>>()?))?;
    }
    for (path, arcs) in old.arcs.into_iter().flatten() {
        let arcs = arcs.into_iter().map(|(from, to)| Ok::<_, ReadError>((number(from)?, number(to)?)));
        data.add(&path, "", Measured::Arcs(arcs.collect::<Result<_, _>>()?))?;
    }
    for (path, tracer) in old.file_tracers {
        if let Some(file) = data.files.get_mut(&path) {
            file.tracer = tracer;
        }
    }
    Ok(data)
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

/// Where the files and contexts of a data file are in what it is combined into, by their ids.
struct Places {
    files: HashMap<i64, usize, NumberHash>,
    contexts: HashMap<i64, usize, NumberHash>,
}

impl Places {
    fn file(&self, id: i64) -> Result<usize, ReadError> {
        self.files.get(&id).copied().ok_or(ReadError::Dangling { what: "file", id })
    }

    fn context(&self, id: i64) -> Result<usize, ReadError> {
        self.contexts.get(&id).copied().ok_or(ReadError::Dangling { what: "context", id })
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
) -> Result<HashMap<i64, usize, NumberHash>, PageError> {
    let mut places = HashMap::default();
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
    places: &Places,
    into: &mut Combiner,
) -> Result<(), ReadError> {
    let mut bad = None;
    database.rows(root, |row| {
        let (file, context) = (row.next_value()?.integer()?, row.next_value()?.integer()?);
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
    places: &Places,
    into: &mut Combiner,
) -> Result<(), ReadError> {
    let mut bad = None;
    // Rows of one file come together: one lookup a run, not one a row.
    let mut run = ((0, 0), Vec::new());
    let mut add = |((file, context), arcs): &((i64, i64), Vec<(i32, i32)>)| {
        if !arcs.is_empty() {
            into.add_arcs(places.file(*file)?, places.context(*context)?, arcs);
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
    bad.map_or(Ok(()), Err)
}

fn line_number(n: i64) -> Option<i32> {
    i32::try_from(n).ok().filter(|_| n.abs() <= MAX_LINE)
}

/// Tables as coverage.py makes them (schema version 7), in the order of their names in a file.
const TABLES: [(&str, &str); 7] = [
    ("coverage_schema", "(version integer)"),
    ("meta", "(key text, value text, unique (key))"),
    ("file", "(id integer primary key, path text, unique (path))"),
    ("context", "(id integer primary key, context text, unique (context))"),
    (
        "line_bits",
        "(file_id integer, context_id integer, numbits blob, foreign key (file_id) references file (id), \
         foreign key (context_id) references context (id), unique (file_id, context_id))",
    ),
    (
        "arc",
        "(file_id integer, context_id integer, fromno integer, tono integer, \
         foreign key (file_id) references file (id), foreign key (context_id) references context (id), \
         unique (file_id, context_id, fromno, tono))",
    ),
    ("tracer", "(file_id integer primary key, tracer text, foreign key (file_id) references file (id))"),
];

/// Writes a data file that coverage.py reads: whole or not at all.
pub fn write(data: &CoverageData, path: &Path) -> Result<(), WriteError> {
    let bytes = to_bytes(data).map_err(|source| WriteError::TooLarge { path: path.to_owned(), source })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let tmp = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let io = |source| WriteError::Io { path: path.to_owned(), source };
    match fs_err::remove_file(&tmp) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let result = fs_err::write(&tmp, bytes)
        .and_then(|()| fs_err::File::open(&tmp)?.sync_all())
        .and_then(|()| fs_err::rename(&tmp, path))
        .map_err(io);
    if result.is_err() {
        let _ = fs_err::remove_file(&tmp);
    }
    result
}

/// The bytes of a data file that coverage.py reads.
pub fn to_bytes(data: &CoverageData) -> Result<Vec<u8>, TooLarge> {
    let mut writer = Writer::new();
    let mut roots = Roots::default();
    roots.rows("coverage_schema", writer.table([(1, record(&[Value::Integer(SCHEMA_VERSION)]))]));
    let mut meta = Vec::new();
    if let Some(kind) = data.kind() {
        meta.push(("has_arcs", if kind == Kind::Arcs { "1" } else { "0" }));
    }
    meta.push(("version", concat!("pulpcov ", env!("CARGO_PKG_VERSION"))));
    let meta_rows = meta.iter().map(|(key, value)| record(&[Value::Text(key), Value::Text(value)]));
    roots.rows("meta", writer.table((1..).zip(meta_rows)));
    roots.keys("meta", named(&mut writer, meta.iter().map(|&(key, _)| key)));

    // Ids are given in the order of the names, so tables and their indexes are in one order.
    let contexts: BTreeSet<&str> =
        data.files.values().flat_map(|file| file.contexts.keys()).map(String::as_str).collect();
    for (table, names) in [
        ("file", data.files.keys().map(String::as_str).collect::<Vec<_>>()),
        ("context", contexts.iter().copied().collect()),
    ] {
        let rows = names.iter().map(|name| record(&[Value::Null, Value::Text(name)]));
        roots.rows(table, writer.table((1..).zip(rows)));
        roots.keys(table, named(&mut writer, names.iter().copied()));
    }
    let context_ids: BTreeMap<&str, i64> = contexts.into_iter().zip(1..).collect();
    write_measured(data, &context_ids, &mut writer, &mut roots);
    let tracers = data.files.values().zip(1i64..).filter(|(file, _)| !file.tracer.is_empty());
    roots.rows(
        "tracer",
        writer.table(tracers.map(|(file, id)| (id, record(&[Value::Null, Value::Text(&file.tracer)])))),
    );
    writer.finish(&roots.schema())
}

/// Lines and arcs: tables, and the indexes that make their rows unique.
fn write_measured(
    data: &CoverageData,
    context_ids: &BTreeMap<&str, i64>,
    writer: &mut Writer,
    roots: &mut Roots,
) {
    let places = || {
        data.files.values().zip(1i64..).flat_map(|(file, id)| {
            file.contexts.iter().map(move |(context, measured)| {
                (id, context_ids.get(context.as_str()).copied().unwrap_or_default(), measured)
            })
        })
    };
    let lines = || {
        places().filter_map(|(file, context, measured)| match measured {
            Measured::Lines(lines) => {
                Some([Value::Integer(file), Value::Integer(context), Value::Blob(lines.as_numbits())])
            }
            Measured::Arcs(_) => None,
        })
    };
    roots.rows("line_bits", writer.table((1..).zip(lines().map(|row| record(&row)))));
    let keys = lines().zip(1..).map(|([file, context, _], id)| record(&[file, context, Value::Integer(id)]));
    roots.keys("line_bits", writer.index(keys));
    let arcs = || {
        places().flat_map(|(file, context, measured)| {
            let arcs = match measured {
                Measured::Arcs(arcs) => Some(arcs),
                Measured::Lines(_) => None,
            };
            arcs.into_iter()
                .flat_map(ArcSet::iter)
                .map(move |(from, to)| [file, context, from.into(), to.into()].map(Value::Integer))
        })
    };
    roots.rows("arc", writer.table((1..).zip(arcs().map(|row| record(&row)))));
    let keys = arcs()
        .zip(1..)
        .map(|([file, context, from, to], id)| record(&[file, context, from, to, Value::Integer(id)]));
    roots.keys("arc", writer.index(keys));
}

/// The index of a unique text column; the names come in ascending order.
fn named<'a>(writer: &mut Writer, names: impl Iterator<Item = &'a str>) -> u32 {
    writer.index(names.zip(1..).map(|(name, id)| record(&[Value::Text(name), Value::Integer(id)])))
}

/// Root pages by table: of its rows, and of the index that SQLite keeps for its unique columns.
#[derive(Default)]
struct Roots {
    rows: HashMap<&'static str, u32>,
    keys: HashMap<&'static str, u32>,
}

impl Roots {
    fn rows(&mut self, table: &'static str, root: u32) {
        self.rows.insert(table, root);
    }

    fn keys(&mut self, table: &'static str, root: u32) {
        self.keys.insert(table, root);
    }

    /// The rows of `sqlite_schema`.
    fn schema(&self) -> Vec<Vec<u8>> {
        let mut rows = Vec::new();
        for (table, columns) in TABLES {
            let root = |roots: &HashMap<&str, u32>| roots.get(table).copied().map(i64::from);
            let sql = format!("CREATE TABLE {table} {columns}");
            if let Some(root) = root(&self.rows) {
                rows.push(record(&[
                    Value::Text("table"),
                    Value::Text(table),
                    Value::Text(table),
                    Value::Integer(root),
                    Value::Text(&sql),
                ]));
            }
            if let Some(root) = root(&self.keys) {
                let name = format!("sqlite_autoindex_{table}_1");
                rows.push(record(&[
                    Value::Text("index"),
                    Value::Text(&name),
                    Value::Text(table),
                    Value::Integer(root),
                    Value::Null,
                ]));
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(kind: Kind, files: usize) -> CoverageData {
        let mut data = CoverageData::new(Some(kind));
        for i in 0..files {
            let i32_i = i32::try_from(i).expect("small");
            let measured = match kind {
                Kind::Lines => Measured::Lines(
                    (1..200).filter(|n| n % u32::try_from(i + 2).expect("small") != 0).collect(),
                ),
                Kind::Arcs => Measured::Arcs((1..400).map(|n| (-n, n + i32_i)).collect()),
            };
            data.add(
                &format!("/srv/app/{}/f{i}.py", "d".repeat(i % 90)),
                if i % 3 == 0 { "" } else { "h1" },
                measured,
            )
            .expect("one kind");
        }
        data
    }

    fn bytes_of(data: &CoverageData) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(".coverage");
        write(data, &path).expect("writes");
        fs_err::read(path).expect("reads")
    }

    #[test]
    fn what_is_written_is_read_back() {
        for kind in [Kind::Lines, Kind::Arcs] {
            for files in [0, 1, 7, 300] {
                let data = sample(kind, files);
                assert_eq!(read(&bytes_of(&data)).expect("reads"), data);
            }
        }
    }

    #[test]
    fn sqlite_finds_nothing_wrong_with_it() {
        for kind in [Kind::Lines, Kind::Arcs] {
            for files in [0, 1, 7, 300] {
                let data = sample(kind, files);
                let folder = tempfile::tempdir().expect("a folder");
                let path = folder.path().join(".coverage");
                write(&data, &path).expect("writes");
                let connection = rusqlite::Connection::open(&path).expect("opens");
                for check in ["integrity_check", "foreign_key_check"] {
                    let mut statement = connection.prepare(&format!("pragma {check}")).expect("prepares");
                    let mut rows = statement.query([]).expect("runs");
                    while let Some(row) = rows.next().expect("a row") {
                        assert_eq!(row.get::<_, String>(0).expect("a word"), "ok", "{check} {kind} {files}");
                    }
                }
                // Each unique index is used, and holds every row.
                let names: i64 = connection
                    .query_row(
                        "select count(*) from file indexed by sqlite_autoindex_file_1 where path >= ''",
                        [],
                        |row| row.get(0),
                    )
                    .expect("counts");
                assert_eq!(usize::try_from(names).expect("small"), files);
                connection.execute("insert into file (path) values ('/srv/app//f0.py')", []).map_or_else(
                    |error| assert!(error.to_string().contains("UNIQUE"), "{error}"),
                    |_| assert_eq!(files, 0),
                );
            }
        }
    }

    #[test]
    fn a_long_name_and_a_long_bitmap_go_over_pages() {
        let mut data = CoverageData::default();
        let name = "x".repeat(20_000);
        data.add(&name, "", Measured::Lines((1..60_000).collect())).expect("first");
        assert_eq!(read(&bytes_of(&data)).expect("reads"), data);
    }

    #[test]
    fn other_formats_are_named() {
        assert!(matches!(read(b""), Err(ReadError::Page(PageError::NotSqlite))));
        assert!(matches!(read(&[OLD_JSON, br#"{"lines":3}"#].concat()), Err(ReadError::OldJson(_))));
        assert!(matches!(read(&[OLD_JSON, b"[]"].concat()), Err(ReadError::OldJson(_))));
        assert!(matches!(read(&[OLD_JSON, b"{}"].concat()), Err(ReadError::OldEmpty)));
        assert!(matches!(read(b"\x80\x02}q\x01"), Err(ReadError::Pickle)));
        let mut wal = bytes_of(&sample(Kind::Lines, 3));
        wal[18] = 2;
        assert!(matches!(read(&wal), Err(ReadError::Page(PageError::Unknown(_)))));
        let mut cut = bytes_of(&sample(Kind::Arcs, 30));
        cut.truncate(cut.len() - 4096);
        assert!(read(&cut).is_err());
    }

    #[test]
    fn data_of_coverage_4_is_read() {
        let old = |text: &str| read(&[OLD_JSON, text.as_bytes()].concat());
        let lines = old(r#"{"lines":{"/a.py":[3,1]},"file_tracers":{"/a.py":"p.Plugin"}}"#).expect("lines");
        assert_eq!(lines.files["/a.py"].all(Kind::Lines), Measured::Lines([1, 3].into_iter().collect()));
        assert_eq!(lines.files["/a.py"].tracer, "p.Plugin");
        let arcs = old(r#"{"arcs":{"/a.py":[[-1,3],[3,-1]]}}"#).expect("arcs");
        assert_eq!(
            arcs.files["/a.py"].all(Kind::Arcs),
            Measured::Arcs([(-1, 3), (3, -1)].into_iter().collect())
        );
        for bad in [r#"{"lines":{"/a.py":[-1]}}"#, r#"{"lines":{"/a.py":[99999999999]}}"#] {
            assert!(matches!(old(bad), Err(ReadError::LineNumber(_))), "{bad}");
        }
        assert!(matches!(old(r#"{"lines":{"a":[1]},"arcs":{"b":[[1,2]]}}"#), Err(ReadError::Combine(_))));
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
