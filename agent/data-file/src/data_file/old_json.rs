//! Data files of coverage 4.x: one JSON object after a line of words.

use std::collections::BTreeMap;

use super::{ReadError, check_density, line_number};
use crate::data::{CoverageData, Measured};

/// How data of coverage 4.x begins.
pub(super) const HEAD: &[u8] = b"!coverage.py: This is a private format, don't read it directly!";

/// Its shape: lines or arcs by file, and the plugins that measured some of them.
#[derive(serde::Deserialize)]
struct OldJson {
    lines: Option<BTreeMap<String, Vec<i64>>>,
    arcs: Option<BTreeMap<String, Vec<(i64, i64)>>>,
    #[serde(default)]
    file_tracers: BTreeMap<String, String>,
}

/// Reads what follows the head.
pub(super) fn read(text: &[u8]) -> Result<CoverageData, ReadError> {
    let old: OldJson = serde_json::from_slice(text).map_err(ReadError::OldJson)?;
    if old.lines.is_none() && old.arcs.is_none() {
        return Err(ReadError::OldEmpty);
    }
    let mut data = CoverageData::default();
    let number = |n: i64| line_number(n).ok_or(ReadError::LineNumber(n));
    check_density(furthest(&old).into_iter(), text.len())?;
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

/// The furthest line of each file; one that is no line number is refused where it is read.
fn furthest(old: &OldJson) -> Vec<u32> {
    let line = |n: i64| line_number(n).map_or(0, i32::unsigned_abs);
    let lines = old.lines.iter().flat_map(BTreeMap::values);
    let arcs = old.arcs.iter().flat_map(BTreeMap::values);
    lines
        .map(|lines| lines.iter().map(|n| line(*n)).max().unwrap_or(0))
        .chain(arcs.map(|arcs| arcs.iter().map(|(from, to)| line(*from).max(line(*to))).max().unwrap_or(0)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Kind;

    #[test]
    fn data_of_coverage_4_is_read() {
        let old = |text: &str| super::super::read(&[HEAD, text.as_bytes()].concat());
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
}
