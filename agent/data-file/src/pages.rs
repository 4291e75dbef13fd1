//! SQLite tables at page level: only what coverage.py's data file needs, and safe against any bytes.
//!
//! Every offset is checked, every page is visited once at most, nothing recurses deeper than a real
//! tree. What a coverage.py never writes (WAL, other encodings, tables without row ids) is refused.

/// File format: <https://www.sqlite.org/fileformat2.html>.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Interior pages have hundreds of children; ten levels would hold more than a file can.
const MAX_DEPTH: u32 = 10;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    #[error("it is no SQLite file")]
    NotSqlite,
    #[error("its {0} is not one that coverage.py writes")]
    Unknown(&'static str),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

use PageError::{Damaged, Unknown};

pub(crate) struct Database<'a> {
    bytes: &'a [u8],
    page_size: usize,
}

/// A column's value, as stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Integer(i64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn text(self) -> Result<&'a str, PageError> {
        match self {
            Value::Text(bytes) => std::str::from_utf8(bytes).map_err(|_| Damaged("a text is not UTF-8")),
            _ => Err(Damaged("a text column holds something else")),
        }
    }

    pub(crate) fn integer(self) -> Result<i64, PageError> {
        match self {
            Value::Integer(n) => Ok(n),
            _ => Err(Damaged("an integer column holds something else")),
        }
    }
}

/// A table of the schema.
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) root: u32,
    pub(crate) sql: String,
}

fn be16(bytes: &[u8], at: usize) -> Result<usize, PageError> {
    let two = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Damaged("a page ends early"))?;
    Ok(u16::from_be_bytes(*two).into())
}

fn be32(bytes: &[u8], at: usize) -> Result<u32, PageError> {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(Damaged("a page ends early"))?;
    Ok(u32::from_be_bytes(*four))
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, PageError> {
    // Nearly all are of one byte.
    if let Some(&byte) = bytes.get(*at).filter(|byte| **byte < 0x80) {
        *at += 1;
        return Ok(byte.into());
    }
    let mut n = 0u64;
    for i in 0..9 {
        let byte = *bytes.get(*at).ok_or(Damaged("a number ends early"))?;
        *at += 1;
        if i == 8 {
            return Ok(n << 8 | u64::from(byte));
        }
        n = n << 7 | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(n)
}

/// Reads the columns of a record, one after the other.
pub(crate) struct Record<'a> {
    header: &'a [u8],
    at: usize,
    body: &'a [u8],
    /// Stands for the first column where that is NULL: an INTEGER PRIMARY KEY is the row id.
    pub(crate) row_id: i64,
}

impl<'a> Record<'a> {
    fn new(payload: &'a [u8], row_id: i64) -> Result<Self, PageError> {
        let mut at = 0;
        let header_len =
            usize::try_from(varint(payload, &mut at)?).map_err(|_| Damaged("a record's header"))?;
        let header = payload.get(..header_len).ok_or(Damaged("a record's header"))?;
        let body = payload.get(header_len..).ok_or(Damaged("a record's header"))?;
        Ok(Self { header, at, body, row_id })
    }

    /// The next columns, all of them integers: what nearly every row of branch data is.
    pub(crate) fn integers<const N: usize>(&mut self) -> Result<[i64; N], PageError> {
        let mut values = [0; N];
        for value in &mut values {
            let serial = self.header.get(self.at).copied();
            let len = match serial {
                Some(8) => {
                    self.at += 1;
                    continue;
                }
                Some(serial @ 1..=4) => usize::from(serial),
                Some(9) => {
                    self.at += 1;
                    *value = 1;
                    continue;
                }
                _ => {
                    *value = self.next_value()?.integer()?;
                    continue;
                }
            };
            self.at += 1;
            let (bytes, rest) = self.body.split_at_checked(len).ok_or(Damaged("a column ends early"))?;
            self.body = rest;
            *value = match bytes {
                [a] => a.cast_signed().into(),
                [a, b] => i16::from_be_bytes([*a, *b]).into(),
                bytes => signed(bytes),
            };
        }
        Ok(values)
    }

    pub(crate) fn next_value(&mut self) -> Result<Value<'a>, PageError> {
        if self.at >= self.header.len() {
            return Err(Damaged("a record has too few columns"));
        }
        let serial = varint(self.header, &mut self.at)?;
        let len = match serial {
            0 | 8 | 9 => 0,
            1..=4 => serial,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(Damaged("a column of a reserved type")),
            _ => (serial - 12) / 2,
        };
        let len = usize::try_from(len).map_err(|_| Damaged("a column's length"))?;
        let (bytes, rest) = self.body.split_at_checked(len).ok_or(Damaged("a column ends early"))?;
        self.body = rest;
        Ok(match serial {
            0 => Value::Null,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            1..=6 => Value::Integer(signed(bytes)),
            7 => return Err(Damaged("a floating point number")),
            _ if serial % 2 == 0 => Value::Blob(bytes),
            _ => Value::Text(bytes),
        })
    }
}

/// Big-endian two's complement of one to eight bytes.
fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    bytes.iter().fold(if negative { -1 } else { 0 }, |n, &byte| n << 8 | i64::from(byte))
}

impl<'a> Database<'a> {
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, PageError> {
        if !bytes.starts_with(MAGIC) || bytes.len() < 512 {
            return Err(PageError::NotSqlite);
        }
        let page_size = match be16(bytes, 16)? {
            1 => 65536,
            size if size.is_power_of_two() && size >= 512 => size,
            _ => return Err(Damaged("the page size")),
        };
        if bytes.get(18..20) != Some(&[1, 1]) {
            return Err(Unknown("journal mode (WAL)"));
        }
        if bytes.get(20) != Some(&0) {
            return Err(Unknown("page layout"));
        }
        if be32(bytes, 56)? > 1 {
            return Err(Unknown("text encoding"));
        }
        if !bytes.len().is_multiple_of(page_size)
            || (be32(bytes, 28)? as usize).checked_mul(page_size) > Some(bytes.len())
        {
            return Err(Damaged("it is cut short"));
        }
        Ok(Self { bytes, page_size })
    }

    /// Bytes of the file.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    fn page(&self, number: u32) -> Result<&'a [u8], PageError> {
        let start = (number as usize).checked_sub(1).and_then(|n| n.checked_mul(self.page_size));
        let start = start.ok_or(Damaged("a page number"))?;
        self.bytes.get(start..start + self.page_size).ok_or(Damaged("a page number"))
    }

    /// The tables of the schema. Views, triggers and virtual tables are refused: coverage.py has none.
    pub(crate) fn tables(&self) -> Result<Vec<Table>, PageError> {
        let mut tables = Vec::new();
        self.rows(1, |record| {
            let kind = record.next_value()?.text()?;
            let name = record.next_value()?.text()?.to_owned();
            let _table = record.next_value()?;
            let root = record.next_value()?;
            let sql = record.next_value()?;
            match kind {
                "table" => {
                    let root = u32::try_from(root.integer()?).map_err(|_| Damaged("a root page"))?;
                    tables.push(Table { name, root, sql: sql.text()?.to_owned() });
                    Ok(())
                }
                "index" => Ok(()),
                _ => Err(Unknown("schema")),
            }
        })?;
        Ok(tables)
    }

    /// Calls `row` with each row of the table at `root`, in the order of the row ids.
    pub(crate) fn rows(
        &self,
        root: u32,
        mut row: impl FnMut(&mut Record<'_>) -> Result<(), PageError>,
    ) -> Result<(), PageError> {
        let mut walk = Walk {
            database: self,
            pages_left: self.bytes.len() / self.page_size,
            bytes_left: self.bytes.len(),
            row: &mut row,
        };
        walk.page(root, 0)
    }
}

struct Walk<'a, 'w, F> {
    database: &'w Database<'a>,
    /// A page belongs to one place of one tree; more visits than pages mean a loop.
    pages_left: usize,
    /// Records do not overlap; more bytes than the file has mean that some do, to make much of little.
    bytes_left: usize,
    row: &'w mut F,
}

const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

impl<F: FnMut(&mut Record<'_>) -> Result<(), PageError>> Walk<'_, '_, F> {
    fn visit(&mut self) -> Result<(), PageError> {
        self.pages_left = self.pages_left.checked_sub(1).ok_or(Damaged("its pages form a loop"))?;
        Ok(())
    }

    fn page(&mut self, number: u32, depth: u32) -> Result<(), PageError> {
        if depth > MAX_DEPTH {
            return Err(Damaged("its pages form a loop"));
        }
        self.visit()?;
        let page = self.database.page(number)?;
        let header = if number == 1 { 100 } else { 0 };
        let cells = be16(page, header + 3)?;
        match page.get(header) {
            Some(&INTERIOR) => {
                for i in 0..cells {
                    let cell = be16(page, header + 12 + 2 * i)?;
                    self.page(be32(page, cell)?, depth + 1)?;
                }
                self.page(be32(page, header + 8)?, depth + 1)
            }
            Some(&LEAF) => {
                for i in 0..cells {
                    let cell = be16(page, header + 8 + 2 * i)?;
                    self.cell(page, cell)?;
                }
                Ok(())
            }
            _ => Err(Damaged("a page of an unexpected kind")),
        }
    }

    fn cell(&mut self, page: &[u8], mut at: usize) -> Result<(), PageError> {
        let len = usize::try_from(varint(page, &mut at)?).map_err(|_| Damaged("a record's length"))?;
        let row_id = varint(page, &mut at)?.cast_signed();
        self.bytes_left = self.bytes_left.checked_sub(len).ok_or(Damaged("its records overlap"))?;
        let usable = self.database.page_size;
        let most = usable - 35;
        if len <= most {
            let payload = page.get(at..at + len).ok_or(Damaged("a record ends early"))?;
            return (self.row)(&mut Record::new(payload, row_id)?);
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let fits = least + (len - least) % (usable - 4);
        let local = if fits <= most { fits } else { least };
        let mut payload = page.get(at..at + local).ok_or(Damaged("a record ends early"))?.to_vec();
        let mut next = be32(page, at + local)?;
        while payload.len() < len {
            self.visit()?;
            let overflow = self.database.page(next)?;
            let part = (len - payload.len()).min(usable - 4);
            payload.extend_from_slice(overflow.get(4..4 + part).ok_or(Damaged("a record ends early"))?);
            next = be32(overflow, 0)?;
        }
        (self.row)(&mut Record::new(&payload, row_id)?)
    }
}

/// Names of a table's columns, in order, from its CREATE TABLE.
pub(crate) fn columns(sql: &str) -> Vec<String> {
    let uncommented: String =
        sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let Some((_, body)) = uncommented.split_once('(') else { return Vec::new() };
    let mut depth = 0;
    let parts = body.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts
        .filter_map(|part| part.split_whitespace().next())
        .map(|word| word.trim_matches(['"', '`', '[', ']', ')']).to_ascii_lowercase())
        .take_while(|word| {
            !["unique", "primary", "foreign", "check", "constraint"].iter().any(|c| word.starts_with(c))
        })
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_past_comments_and_constraints() {
        let sql = "CREATE TABLE arc (\n    -- If recording branches\n    file_id integer,  -- foreign key, to `file`.\n    context_id integer,\n    fromno integer,\n    tono integer,\n    foreign key (file_id) references file (id),\n    unique (file_id, context_id, fromno, tono)\n)";
        assert_eq!(columns(sql), ["file_id", "context_id", "fromno", "tono"]);
        assert_eq!(columns("CREATE TABLE meta (key text, value text, unique (key))"), ["key", "value"]);
        assert!(columns("nonsense").is_empty());
    }

    #[test]
    fn columns_of_integers_are_read_as_one_by_one() {
        // Widths of 1, 2, 3, 4, 6 and 8 bytes, and the two constants.
        let header = [9, 1, 2, 3, 4, 5, 6, 8, 9];
        let body: Vec<u8> = (0..24).map(|i| if i % 5 == 0 { 0xF0 } else { i }).collect();
        let payload = [&header[..], &body].concat();
        let one_by_one: Vec<i64> = {
            let mut record = Record::new(&payload, 1).expect("a record");
            (0..8).map(|_| record.next_value().and_then(Value::integer).expect("a number")).collect()
        };
        let together = Record::new(&payload, 1).expect("a record").integers::<8>().expect("numbers");
        assert_eq!(together.to_vec(), one_by_one);
        assert!(Record::new(&payload[..12], 1).expect("a record").integers::<8>().is_err());
        assert!(Record::new(&payload, 1).expect("a record").integers::<9>().is_err());
    }

    #[test]
    fn negative_numbers_of_every_width() {
        assert_eq!(signed(&[0xFF]), -1);
        assert_eq!(signed(&[0x80, 0x00]), -32768);
        assert_eq!(signed(&[0x00, 0x80]), 128);
    }
}
