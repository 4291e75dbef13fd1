//! A SQLite file written page by page, in one go: tables and indexes are built bottom up from rows
//! that come in order, so nothing is searched, split or journalled.
//!
//! Pages go out as they are full; the first one, which says where all begins, is written last.
//!
//! File format: <https://www.sqlite.org/fileformat2.html>. The oracle of the tests is SQLite itself.

use std::io::{Seek, Write};

/// SQLite's own default, and so coverage.py's.
const PAGE: usize = 4096;

/// The page that holds SQLite's lock bytes; no file of ours reaches it.
const MAX_PAGES: usize = 0x4000_0000 / PAGE;

/// The version that this file claims to be written by; it decides nothing.
const SQLITE_VERSION: u32 = 3_045_000;

const DATABASE_HEADER: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum PageWriteError {
    #[error("it would have more than 1 GiB")]
    TooLarge,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A value of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
    Blob(&'a [u8]),
}

/// Rows and index keys in SQLite's record format. There are hundreds of thousands: one buffer serves all.
#[derive(Default)]
struct Record {
    types: Vec<u8>,
    body: Vec<u8>,
    bytes: Vec<u8>,
}

impl Record {
    fn of(&mut self, values: &[Value<'_>]) -> &[u8] {
        self.types.clear();
        self.body.clear();
        for value in values {
            let serial_type = match *value {
                Value::Null => 0,
                Value::Integer(n) => integer(n, &mut self.body),
                Value::Text(text) => {
                    self.body.extend_from_slice(text.as_bytes());
                    13 + 2 * text.len() as u64
                }
                Value::Blob(bytes) => {
                    self.body.extend_from_slice(bytes);
                    12 + 2 * bytes.len() as u64
                }
            };
            varint(serial_type, &mut self.types);
        }
        // The header's length counts itself; it needs a second byte from 128 on.
        let types = self.types.len();
        let length = if types + 1 < 128 { types + 1 } else { types + 2 };
        self.bytes.clear();
        varint(length as u64, &mut self.bytes);
        self.bytes.extend_from_slice(&self.types);
        self.bytes.extend_from_slice(&self.body);
        &self.bytes
    }
}

/// Appends an integer in as few bytes as it takes; returns its serial type.
fn integer(n: i64, body: &mut Vec<u8>) -> u64 {
    let (serial_type, width) = match n {
        0 => return 8,
        1 => return 9,
        -0x80..=0x7f => (1, 1),
        -0x8000..=0x7fff => (2, 2),
        -0x80_0000..=0x7f_ffff => (3, 3),
        -0x8000_0000..=0x7fff_ffff => (4, 4),
        -0x8000_0000_0000..=0x7fff_ffff_ffff => (5, 6),
        _ => (6, 8),
    };
    body.extend_from_slice(n.to_be_bytes().get(8 - width..).unwrap_or_default());
    serial_type
}

/// Big-endian groups of seven bits; a ninth byte has all its eight.
fn varint(n: u64, out: &mut Vec<u8>) {
    // Nearly all are of one byte.
    if n < 0x80 {
        out.push((n & 0x7f) as u8);
        return;
    }
    if n >> 56 != 0 {
        out.extend((0..8).map(|i| 0x80 | (n >> (57 - 7 * i) & 0x7f) as u8));
        out.push((n & 0xff) as u8);
        return;
    }
    let groups = (1..8).take_while(|&i| n >> (7 * i) != 0).count();
    out.extend((0..=groups).rev().map(|i| (n >> (7 * i) & 0x7f) as u8 | if i > 0 { 0x80 } else { 0 }));
}

/// The two kinds of tree: rows by row id, and keys in their order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tree {
    Table,
    Index,
}

impl Tree {
    const fn page_type(self, is_leaf: bool) -> u8 {
        match (self, is_leaf) {
            (Self::Table, true) => 13,
            (Self::Table, false) => 5,
            (Self::Index, true) => 10,
            (Self::Index, false) => 2,
        }
    }

    /// Bytes of a payload that stay on the page.
    const fn local(self, payload: usize) -> usize {
        let most = match self {
            Self::Table => PAGE - 35,
            Self::Index => (PAGE - 12) * 64 / 255 - 23,
        };
        if payload <= most {
            return payload;
        }
        let least = (PAGE - 12) * 32 / 255 - 23;
        let wanted = least + (payload - least) % (PAGE - 4);
        if wanted <= most { wanted } else { least }
    }
}

/// A page in the making: its cells, one behind the other.
struct Node {
    cells: Vec<u8>,
    /// Where in `cells` each of them begins.
    starts: Vec<usize>,
    room: usize,
}

impl Node {
    fn new(header: usize) -> Self {
        Self { cells: Vec::with_capacity(PAGE), starts: Vec::new(), room: PAGE - header }
    }

    /// Each cell has a pointer of two bytes besides itself.
    const fn fits(&self, cell: &[u8]) -> bool {
        self.cells.len() + cell.len() + 2 * (self.starts.len() + 1) <= self.room
    }

    fn push(&mut self, cell: &[u8]) {
        self.starts.push(self.cells.len());
        self.cells.extend_from_slice(cell);
    }

    fn pop(&mut self) -> Vec<u8> {
        self.starts.pop().map(|start| self.cells.split_off(start)).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.cells.clear();
        self.starts.clear();
    }
}

/// A finished page, and the cell that parts it from the next: without the left child before it.
struct Child {
    page: u32,
    divider: Vec<u8>,
}

pub(crate) struct Writer<W> {
    out: W,
    pages: usize,
    /// What went wrong first; nothing is written after it, and `finish` returns it.
    failed: Option<PageWriteError>,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        let mut writer = Self { out, pages: 0, failed: None };
        writer.append(&[0; PAGE]);
        writer
    }

    fn append(&mut self, page: &[u8]) {
        self.pages += 1;
        if self.failed.is_none() {
            self.failed = if self.pages >= MAX_PAGES {
                Some(PageWriteError::TooLarge)
            } else {
                self.out.write_all(page).err().map(PageWriteError::Io)
            };
        }
    }

    /// A table of rows with ascending row ids; its root page.
    pub(crate) fn table<'v, V: AsRef<[Value<'v>]>>(
        &mut self,
        rows: impl IntoIterator<Item = (i64, V)>,
    ) -> u32 {
        let (mut children, mut leaf, mut last) = (Vec::new(), Node::new(8), 0);
        let (mut record, mut cell) = (Record::default(), Vec::new());
        for (row_id, values) in rows {
            let payload = record.of(values.as_ref());
            cell.clear();
            varint(payload.len() as u64, &mut cell);
            varint(row_id.cast_unsigned(), &mut cell);
            self.payload(Tree::Table, payload, &mut cell);
            if !leaf.fits(&cell) {
                let page = self.page(Tree::Table, &leaf, None);
                children.push(Child { page, divider: row_id_cell(last) });
                leaf.clear();
            }
            leaf.push(&cell);
            last = row_id;
        }
        let page = self.page(Tree::Table, &leaf, None);
        children.push(Child { page, divider: row_id_cell(last) });
        self.inner(Tree::Table, children)
    }

    /// An index of keys in ascending order; its root page.
    pub(crate) fn index<'v, V: AsRef<[Value<'v>]>>(&mut self, keys: impl IntoIterator<Item = V>) -> u32 {
        let (mut children, mut leaf) = (Vec::new(), Node::new(8));
        let (mut record, mut cell) = (Record::default(), Vec::new());
        for values in keys {
            let key = record.of(values.as_ref());
            cell.clear();
            varint(key.len() as u64, &mut cell);
            self.payload(Tree::Index, key, &mut cell);
            if !leaf.fits(&cell) {
                // Keys stand once in the tree: the last one of the leaf goes up and parts it from the next.
                let divider = leaf.pop();
                let page = self.page(Tree::Index, &leaf, None);
                children.push(Child { page, divider });
                leaf.clear();
            }
            leaf.push(&cell);
        }
        let page = self.page(Tree::Index, &leaf, None);
        children.push(Child { page, divider: Vec::new() });
        self.inner(Tree::Index, children)
    }

    /// Levels of inner pages over `children`, until one page is over all.
    fn inner(&mut self, tree: Tree, mut children: Vec<Child>) -> u32 {
        while children.len() > 1 {
            let mut groups: Vec<Vec<Child>> = Vec::new();
            let (mut group, mut used) = (Vec::new(), 0);
            for child in children {
                // The last child of a page has no cell on it.
                let cell = group.last().map_or(0, |last: &Child| 4 + last.divider.len() + 2);
                if used + cell > PAGE - 12 {
                    groups.push(std::mem::take(&mut group));
                    used = 0;
                } else {
                    used += cell;
                }
                group.push(child);
            }
            if !group.is_empty() {
                groups.push(group);
            }
            even_out(&mut groups);
            children = groups.into_iter().map(|group| self.inner_page(tree, group)).collect();
        }
        children.first().map_or(0, |child| child.page)
    }

    fn inner_page(&mut self, tree: Tree, mut group: Vec<Child>) -> Child {
        let right = group.pop().unwrap_or(Child { page: 0, divider: Vec::new() });
        let mut node = Node::new(12);
        for child in group {
            let mut cell = child.page.to_be_bytes().to_vec();
            cell.extend(child.divider);
            node.push(&cell);
        }
        Child { page: self.page(tree, &node, Some(right.page)), divider: right.divider }
    }

    /// Appends what stays local of a payload, and puts the rest on pages of its own.
    fn payload(&mut self, tree: Tree, payload: &[u8], cell: &mut Vec<u8>) {
        let local = tree.local(payload.len());
        let (here, mut rest) = payload.split_at(local.min(payload.len()));
        cell.extend_from_slice(here);
        if rest.is_empty() {
            return;
        }
        let mut next = self.next_page();
        cell.extend(next.to_be_bytes());
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min(PAGE - 4));
            rest = behind;
            next += 1;
            let mut page = if rest.is_empty() { 0 } else { next }.to_be_bytes().to_vec();
            page.extend_from_slice(part);
            page.resize(PAGE, 0);
            self.append(&page);
        }
    }

    fn next_page(&self) -> u32 {
        u32::try_from(self.pages + 1).unwrap_or(u32::MAX)
    }

    fn page(&mut self, tree: Tree, node: &Node, right: Option<u32>) -> u32 {
        let number = self.next_page();
        self.append(&tree_page(tree, node, right, 0));
        number
    }

    /// Makes it whole. `schema` has a row of `sqlite_schema` for each table and index.
    pub(crate) fn finish(mut self, schema: &[[Value<'_>; 5]]) -> Result<W, PageWriteError> {
        let (mut leaf, mut record) = (Node::new(8 + DATABASE_HEADER), Record::default());
        for (values, row_id) in schema.iter().zip(1u64..) {
            let (payload, mut cell) = (record.of(values), Vec::new());
            varint(payload.len() as u64, &mut cell);
            varint(row_id, &mut cell);
            self.payload(Tree::Table, payload, &mut cell);
            debug_assert!(leaf.fits(&cell), "the schema has a page");
            leaf.push(&cell);
        }
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let mut first = tree_page(Tree::Table, &leaf, None, DATABASE_HEADER);
        let header = database_header(u32::try_from(self.pages).unwrap_or(u32::MAX));
        first.splice(..DATABASE_HEADER, header);
        self.out.rewind()?;
        self.out.write_all(&first)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// No inner page may stand over one child alone: the group before it gives one.
fn even_out(groups: &mut [Vec<Child>]) {
    if let [.., before, last] = groups
        && last.len() == 1
        && let Some(child) = before.pop()
    {
        last.insert(0, child);
    }
}

fn row_id_cell(row_id: i64) -> Vec<u8> {
    let mut cell = Vec::new();
    varint(row_id.cast_unsigned(), &mut cell);
    cell
}

/// Lays a page out: header, pointers from the front, cells at the end.
fn tree_page(tree: Tree, node: &Node, right: Option<u32>, offset: usize) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE);
    page.resize(offset, 0);
    let content = PAGE - node.cells.len();
    page.push(tree.page_type(right.is_none()));
    page.extend([0, 0]);
    page.extend(two_bytes(node.starts.len()));
    page.extend(two_bytes(content));
    page.push(0);
    page.extend(right.into_iter().flat_map(u32::to_be_bytes));
    for start in &node.starts {
        page.extend(two_bytes(content + start));
    }
    page.resize(content, 0);
    page.extend_from_slice(&node.cells);
    page
}

fn two_bytes(n: usize) -> [u8; 2] {
    u16::try_from(n).unwrap_or(0).to_be_bytes()
}

fn database_header(pages: u32) -> Vec<u8> {
    let mut header = b"SQLite format 3\0".to_vec();
    header.extend(two_bytes(PAGE));
    // Rollback journal for writers and readers, no reserved bytes, the fractions that are fixed.
    header.extend([1, 1, 0, 64, 32, 32]);
    // Change counter, size; no free pages; schema cookie and format; no cache size, no vacuum; UTF-8.
    for number in [1, pages, 0, 0, 1, 4, 0, 0, 1, 0, 0, 0] {
        header.extend(u32::to_be_bytes(number));
    }
    header.resize(92, 0);
    header.extend(1u32.to_be_bytes());
    header.extend(SQLITE_VERSION.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;

    /// A file of one table and one index over it, opened by SQLite.
    fn opened(rows: &[(i64, String)]) -> (tempfile::TempDir, Connection) {
        let mut writer = Writer::new(std::io::Cursor::new(Vec::new()));
        let table = writer.table(rows.iter().map(|(n, text)| {
            (*n, [Value::Null, Value::Text(text), Value::Blob(text.as_bytes()), Value::Integer(*n)])
        }));
        let mut keys: Vec<(&String, i64)> = rows.iter().map(|(n, text)| (text, *n)).collect();
        keys.sort();
        let index = writer.index(keys.iter().map(|(text, n)| [Value::Text(text), Value::Integer(*n)]));
        let row = |kind, name, root: u32, sql| {
            [
                Value::Text(kind),
                Value::Text(name),
                Value::Text("t"),
                Value::Integer(root.into()),
                Value::Text(sql),
            ]
        };
        let bytes = writer
            .finish(&[
                row(
                    "table",
                    "t",
                    table,
                    "CREATE TABLE t (id integer primary key, name text, raw blob, n integer)",
                ),
                row("index", "i", index, "CREATE INDEX i on t (name)"),
            ])
            .expect("small")
            .into_inner();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("db");
        fs_err::write(&path, bytes).expect("written");
        (folder, Connection::open(path).expect("opens"))
    }

    fn check(rows: &[(i64, String)]) {
        let (_folder, connection) = opened(rows);
        let verdict: String =
            connection.query_row("pragma integrity_check", [], |row| row.get(0)).expect("checks");
        assert_eq!(verdict, "ok", "{} rows", rows.len());
        let mut select = connection.prepare("select id, name, n from t order by id").expect("prepares");
        let found: Vec<(i64, String)> = select
            .query_map([], |row| {
                let (id, name, n): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                assert_eq!(id, n);
                Ok((id, name))
            })
            .expect("queries")
            .collect::<Result<_, _>>()
            .expect("rows");
        assert_eq!(found, rows);
        // By the index alone, each row by its key.
        for (n, text) in rows.iter().step_by(rows.len() / 50 + 1) {
            let by_name: i64 = connection
                .query_row(
                    "select count(*) from t indexed by i where name = ? and id = ?",
                    (text, n),
                    |row| row.get(0),
                )
                .expect("finds");
            assert_eq!(by_name, 1);
        }
    }

    #[test]
    fn sqlite_finds_every_row_at_every_size() {
        for count in [0, 1, 2, 40, 41, 42, 43, 44, 45, 100, 5_000, 60_000] {
            check(&(0..count).map(|n| (n * 3 - 7, format!("name {n:08}"))).collect::<Vec<_>>());
        }
    }

    #[test]
    fn sqlite_finds_long_values_that_go_over_pages() {
        for length in [900, 1000, 1001, 2000, 4050, 4061, 4062, 4100, 8190, 20_000] {
            check(&(0..30).map(|n| (n, format!("{n:05}{}", "x".repeat(length)))).collect::<Vec<_>>());
        }
    }

    #[test]
    fn long_keys_make_a_deep_index() {
        check(&(0..3000).map(|n| (n, format!("{n:06}{}", "y".repeat(950)))).collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sqlite_agrees_about_any_rows(lengths in prop::collection::vec(0usize..6000, 0..60), numbers in prop::collection::btree_set(any::<i64>(), 60)) {
            let rows: Vec<(i64, String)> = numbers
                .into_iter()
                .zip(lengths)
                .map(|(n, length)| (n, format!("{n}{}", "z".repeat(length))))
                .collect();
            check(&rows);
        }
    }
}
