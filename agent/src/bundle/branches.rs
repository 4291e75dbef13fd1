//! Edges of branches, as live maps have them, become arcs: asked of the interpreter that ran them, once for all
//! processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulpcov_data_file::lines::Arc;
use pulpcov_data_file::map::{Edge, Map};
use pulpcov_protocol::bundle::MAX_SOURCE_BYTES;
use pulpcov_protocol::outcome::Interpreter;
use serde::Deserialize;
use serde_json::json;

use crate::bundle::copies::Copies;
use crate::bundle::source_list;
use crate::failure::Failure;
use crate::host::interpreter;
use crate::host::python::Start;
use crate::receipt::Config;
use crate::recorder::coverage_dir;
use crate::recorder::ledger::Record;

/// What the edges of one map are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arcs {
    /// By the number of their file.
    pub(crate) by_file: BTreeMap<u32, BTreeSet<Arc>>,
    /// Edges of which nobody can say what they are, and why: the code is not there that ran, or no interpreter.
    pub(crate) left: u64,
    pub(crate) why: Option<String>,
}

/// A code object: its first line, and the digests of its instructions and lines.
type Code = (u32, u32, u32);

/// Where a branch is, and where it went.
type Way = (u32, u32);

/// By path: the arc of each way of each code object; nothing for a code that is not there, and for a way on which another
/// branch decides.
type Found = BTreeMap<String, Known>;

/// What an interpreter says of a file.
#[derive(Deserialize)]
struct Answer {
    codes: Vec<Option<Vec<Option<Arc>>>>,
    passed: Vec<Arc>,
}

/// What is known of a file.
struct Known {
    codes: BTreeMap<Code, Option<BTreeMap<Way, Option<Arc>>>>,
    /// Arcs that are taken wherever their first line is.
    passed: Vec<Arc>,
}

/// Whom to ask: the number of an interpreter, and its `-O`.
type Asked = (usize, u8);

/// The arcs of the edges of each map.
pub(crate) fn resolve(lib_root: &str, config: &Config, maps: &[(&Record, &Map)]) -> Vec<Arcs> {
    let mut wanted: BTreeMap<Asked, BTreeMap<String, BTreeMap<Code, BTreeSet<Way>>>> = BTreeMap::new();
    for (record, map) in maps {
        let asked = interpreter_of(config, record, map).filter(|_| map.facts.branch);
        let Some(asked) = asked else { continue };
        let files = wanted.entry(asked).or_default();
        for path in map.files.iter().filter(|path| !path.is_empty()) {
            files.entry(path.clone()).or_default();
        }
        for edge in &map.edges {
            if let Some((path, code)) = place(map, edge) {
                let ways = files.entry(path.to_owned()).or_default().entry(code).or_default();
                ways.insert((edge.offset, edge.destination));
            }
        }
    }
    let mut found: BTreeMap<Asked, Result<Found, String>> = BTreeMap::new();
    for ((number, optimize), files) in wanted {
        if let Some(python) = config.interpreters.get(number) {
            // One that no longer runs keeps nobody's lines.
            let answer = ask(lib_root, config, python, optimize, files).map_err(|failure| failure.msg);
            found.insert((number, optimize), answer);
        }
    }
    let of_one = |(record, map): &(&Record, &Map)| {
        let answer = interpreter_of(config, record, map).and_then(|asked| found.get(&asked));
        let mut arcs = of_map(map, answer.and_then(|answer| answer.as_ref().ok()));
        arcs.why = answer.and_then(|answer| answer.as_ref().err()).cloned();
        arcs
    };
    maps.iter().map(of_one).collect()
}

/// The interpreter that a process was, or one of the same release.
fn interpreter_of(config: &Config, record: &Record, map: &Map) -> Option<Asked> {
    let minor = |version: &str| version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let process = &record.process;
    let pythons = || config.interpreters.iter().enumerate();
    let same =
        pythons().find(|(_, python)| python.prefix == record.prefix && python.version == process.python);
    let like = || pythons().find(|(_, python)| python.version == process.python);
    let near = || pythons().find(|(_, python)| interpreter::minor_version(python) == minor(&process.python));
    same.or_else(like).or_else(near).map(|(number, _)| (number, map.facts.optimize))
}

/// The file and the code object of an edge.
fn place<'m>(map: &'m Map, edge: &Edge) -> Option<(&'m str, Code)> {
    let code = map.codes.get(edge.code as usize)?;
    let (instructions, rest) = code.digest.split_first_chunk::<4>()?;
    let lines = rest.first_chunk::<4>()?;
    let path = map.path_of(code.file)?;
    Some((path, (code.first_line, u32::from_le_bytes(*instructions), u32::from_le_bytes(*lines))))
}

fn of_map(map: &Map, found: Option<&Found>) -> Arcs {
    let mut arcs = Arcs::default();
    for edge in &map.edges {
        let ways = place(map, edge).and_then(|(path, code)| found?.get(path)?.codes.get(&code)?.as_ref());
        let arc = ways.and_then(|ways| ways.get(&(edge.offset, edge.destination)));
        match (arc, map.codes.get(edge.code as usize)) {
            (Some(Some(arc)), Some(code)) => {
                arcs.by_file.entry(code.file).or_default().insert(*arc);
            }
            (Some(None), _) => {}
            _ => arcs.left += 1,
        }
    }
    for ((file, _), lines) in &map.lines {
        let known = map.path_of(*file).and_then(|path| found?.get(path));
        let passed = known.into_iter().flat_map(|known| &known.passed);
        let has_run = |line: i32| u32::try_from(line).is_ok_and(|line| lines.contains(line));
        // An exception may have led elsewhere: then the line that follows did not run.
        let ran = passed.filter(|(from, to)| has_run(*from) && (*to < 0 || has_run(*to)));
        arcs.by_file.entry(*file).or_default().extend(ran);
    }
    arcs
}

fn ask(
    lib_root: &str,
    config: &Config,
    python: &Interpreter,
    optimize: u8,
    files: BTreeMap<String, BTreeMap<Code, BTreeSet<Way>>>,
) -> Result<Found, Failure> {
    // One of an image sees no file of the host's.
    let mut copies = match python.image {
        Some(_) => None,
        None => Some(Copies::new(lib_root, &config.data_root, interpreter::identity(python)?)?),
    };
    let trusted = source_list::trusted(config);
    let mut request = Vec::new();
    for (path, codes) in &files {
        let source = match &mut copies {
            None => PathBuf::from(path),
            Some(copies) => match trusted.read(Path::new(path), MAX_SOURCE_BYTES) {
                Ok(bytes) => copies.take(Path::new(path), &bytes)?,
                // Its edges are left, and counted.
                Err(_) => PathBuf::new(),
            },
        };
        let codes: Vec<_> =
            codes.iter().map(|((line, code, lines), ways)| json!([line, code, lines, ways])).collect();
        request.push(json!({"source": source, "codes": codes}));
    }
    let script = script(lib_root);
    let mut start = Start::of(python).args(&["-I", "-B"]).path_arg(&script).sees(Path::new(lib_root));
    if let Some(copies) = &copies {
        copies.close()?;
        start = start.sees(copies.folder());
    }
    let request = json!({"coverage_dir": coverage_dir::path(lib_root, python), "optimize": optimize,
        "most": MAX_SOURCE_BYTES, "files": request});
    let answer = start.answer(request.to_string().as_bytes())?;
    let answers: Vec<Answer> = source_list::answers(&answer)?;
    Ok(files.into_iter().zip(answers).map(|((path, codes), answer)| (path, known(codes, answer))).collect())
}

fn known(codes: BTreeMap<Code, BTreeSet<Way>>, answer: Answer) -> Known {
    let ways = codes.into_iter().zip(answer.codes);
    let codes =
        ways.map(|((code, ways), arcs)| (code, arcs.map(|arcs| ways.into_iter().zip(arcs).collect())));
    Known { codes: codes.collect(), passed: answer.passed }
}

/// The program that a Python answers with.
fn script(lib_root: &str) -> PathBuf {
    Path::new(lib_root).join("hook").join("branches.py")
}
