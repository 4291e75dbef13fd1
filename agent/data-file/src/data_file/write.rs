//! Writes data files that coverage.py reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufWriter, Cursor, Seek, Write};
use std::path::{Path, PathBuf};

use super::SCHEMA_VERSION;
use crate::data::{CoverageData, Kind, Measured};
use crate::lines::ArcSet;
use crate::page_writer::{PageWriteError, Value, Writer};

#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
pub struct WriteError {
    path: PathBuf,
    source: PageWriteError,
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
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let tmp = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let result = write_to(data, &tmp).and_then(|()| Ok(fs_err::rename(&tmp, path)?));
    if result.is_err() {
        let _ = fs_err::remove_file(&tmp);
    }
    result.map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Writes it to a new file, and to the disk.
fn write_to(data: &CoverageData, path: &Path) -> Result<(), PageWriteError> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = BufWriter::with_capacity(256 * 1024, fs_err::File::create_new(path)?);
    let file = write_pages(data, file)?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    Ok(file.sync_all()?)
}

/// The bytes of a data file that coverage.py reads.
pub fn to_bytes(data: &CoverageData) -> Result<Vec<u8>, PageWriteError> {
    Ok(write_pages(data, Cursor::new(Vec::new()))?.into_inner())
}

fn write_pages<W: Write + Seek>(data: &CoverageData, out: W) -> Result<W, PageWriteError> {
    let mut writer = Writer::new(out);
    let mut roots = Roots::default();
    roots.rows("coverage_schema", writer.table([(1, [Value::Integer(SCHEMA_VERSION)])]));
    let mut meta = Vec::new();
    if let Some(kind) = data.kind() {
        meta.push(("has_arcs", if kind == Kind::Arcs { "1" } else { "0" }));
    }
    meta.push(("version", concat!("pulpcov ", env!("CARGO_PKG_VERSION"))));
    let meta_rows = meta.iter().map(|(key, value)| [Value::Text(key), Value::Text(value)]);
    roots.rows("meta", writer.table((1..).zip(meta_rows)));
    roots.keys("meta", named(&mut writer, meta.iter().map(|&(key, _)| key)));

    // Ids are given in the order of the names, so tables and their indexes are in one order.
    let contexts: BTreeSet<&str> =
        data.files.values().flat_map(|file| file.contexts.keys()).map(String::as_str).collect();
    for (table, names) in [
        ("file", data.files.keys().map(String::as_str).collect::<Vec<_>>()),
        ("context", contexts.iter().copied().collect()),
    ] {
        let rows = names.iter().map(|name| [Value::Null, Value::Text(name)]);
        roots.rows(table, writer.table((1..).zip(rows)));
        roots.keys(table, named(&mut writer, names.iter().copied()));
    }
    let context_ids: BTreeMap<&str, i64> = contexts.into_iter().zip(1..).collect();
    write_measured(data, &context_ids, &mut writer, &mut roots);
    let tracers = data.files.values().zip(1i64..).filter(|(file, _)| !file.tracer.is_empty());
    roots.rows(
        "tracer",
        writer.table(tracers.map(|(file, id)| (id, [Value::Null, Value::Text(&file.tracer)]))),
    );
    let schema = roots.schema();
    writer.finish(&schema.iter().map(SchemaRow::row).collect::<Vec<_>>())
}

/// Lines and arcs: tables, and the indexes that make their rows unique.
fn write_measured<W: Write + Seek>(
    data: &CoverageData,
    context_ids: &BTreeMap<&str, i64>,
    writer: &mut Writer<W>,
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
    roots.rows("line_bits", writer.table((1..).zip(lines())));
    let keys = lines().zip(1..).map(|([file, context, _], id)| [file, context, Value::Integer(id)]);
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
    roots.rows("arc", writer.table((1..).zip(arcs())));
    let keys =
        arcs().zip(1..).map(|([file, context, from, to], id)| [file, context, from, to, Value::Integer(id)]);
    roots.keys("arc", writer.index(keys));
}

/// The index of a unique text column; the names come in ascending order.
fn named<'a, W: Write + Seek>(writer: &mut Writer<W>, names: impl Iterator<Item = &'a str>) -> u32 {
    writer.index(names.zip(1..).map(|(name, id)| [Value::Text(name), Value::Integer(id)]))
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

    /// The tables and indexes that were made, with their root pages and what makes them.
    fn schema(&self) -> Vec<SchemaRow> {
        let mut made = Vec::new();
        for (table, columns) in TABLES {
            if let Some(root) = self.rows.get(table) {
                let sql = Some(format!("CREATE TABLE {table} {columns}"));
                made.push(SchemaRow { kind: "table", name: table.to_owned(), table, root: *root, sql });
            }
            if let Some(root) = self.keys.get(table) {
                let name = format!("sqlite_autoindex_{table}_1");
                made.push(SchemaRow { kind: "index", name, table, root: *root, sql: None });
            }
        }
        made
    }
}

/// A row of `sqlite_schema`.
struct SchemaRow {
    kind: &'static str,
    name: String,
    table: &'static str,
    root: u32,
    sql: Option<String>,
}

impl SchemaRow {
    fn row(&self) -> [Value<'_>; 5] {
        [
            Value::Text(self.kind),
            Value::Text(&self.name),
            Value::Text(self.table),
            Value::Integer(self.root.into()),
            self.sql.as_deref().map_or(Value::Null, Value::Text),
        ]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::read;
    use super::*;

    pub(crate) fn sample(kind: Kind, files: usize) -> CoverageData {
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

    pub(crate) fn bytes_of(data: &CoverageData) -> Vec<u8> {
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
}
