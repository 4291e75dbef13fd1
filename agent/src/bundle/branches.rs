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
use crate::bundle::known_branches::{Answered, Code, Known, Note, Way};
use crate::bundle::source_list;
use crate::failure::Failure;
use crate::host::python::Start;
use crate::host::{fs, interpreter};
use crate::receipt::Config;
use crate::recorder::coverage_dir;
use crate::recorder::record::Record;

/// What the edges of one map are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arcs {
    /// By the number of their file.
    pub(crate) by_file: BTreeMap<u32, BTreeSet<Arc>>,
    /// Edges of which nobody can say what they are, and why: the code is not there that ran, or no interpreter.
    pub(crate) left: u64,
    pub(crate) why: Option<String>,
}

/// What is known of each source, by path.
type Found = BTreeMap<String, Known>;

/// What an interpreter says of a file.
#[derive(Deserialize)]
struct Answer {
    codes: Vec<Option<Vec<Option<Arc>>>>,
    passed: Vec<Arc>,
}

/// Ways of the code objects of a source.
type Wanted = BTreeMap<Code, BTreeSet<Way>>;

/// Whom to ask: the number of an interpreter, and its `-O`.
type Asked = (usize, u8);

/// The arcs of the edges of each map.
pub(crate) fn resolve(lib_root: &str, config: &Config, maps: &[(&Record, &Map)]) -> Vec<Arcs> {
    let mut wanted: BTreeMap<Asked, BTreeMap<String, Wanted>> = BTreeMap::new();
    for (record, map) in maps {
        // Of one that tells arcs nothing has to be asked.
        let asked = interpreter_of(config, record, map).filter(|_| map.facts.branch && record.has_live_map);
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
    let mut note = if wanted.is_empty() { Note::default() } else { Note::read(lib_root) };
    for ((number, optimize), files) in wanted {
        if let Some(python) = config.interpreters.get(number) {
            // One that no longer runs keeps nobody's lines.
            let answer = answers(lib_root, config, (python, optimize), files, &mut note);
            let answer = answer.map_err(|failure| failure.msg);
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
        let arc = ways.and_then(|ways| ways.0.get(&(edge.offset, edge.destination)));
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

/// What is known of these sources, and what the interpreter says of the others.
fn answers(
    lib_root: &str,
    config: &Config,
    (python, optimize): (&Interpreter, u8),
    wanted: BTreeMap<String, Wanted>,
    note: &mut Note,
) -> Result<Found, Failure> {
    if python.image.is_some() {
        // One of an image sees no file of the host's, and we none of its.
        let sources = wanted.keys().map(|path| (path.clone(), PathBuf::from(path))).collect();
        return ask(lib_root, (python, optimize), &wanted, &sources, None);
    }
    let asked = asked(lib_root, python, optimize);
    let trusted = source_list::trusted(config);
    let mut copies = Copies::new(lib_root, &config.data_root, interpreter::identity(python)?)?;
    let (mut known, mut open, mut sources, mut digests) =
        (Found::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (path, codes) in wanted {
        // Of one that cannot be read the edges are left, and counted.
        let Ok(bytes) = trusted.read(Path::new(&path), MAX_SOURCE_BYTES) else {
            sources.insert(path.clone(), PathBuf::new());
            open.insert(path, codes);
            continue;
        };
        let sha256 = fs::sha256(&bytes);
        if let Some(answer) = note.answer((&asked, &path, &sha256), &codes) {
            known.insert(path.clone(), answer.clone());
        } else {
            sources.insert(path.clone(), copies.take(Path::new(&path), &bytes)?);
            open.insert(path.clone(), codes);
        }
        digests.insert(path, sha256);
    }
    if open.is_empty() {
        return Ok(known);
    }
    copies.close()?;
    for (path, answer) in ask(lib_root, (python, optimize), &open, &sources, Some(&copies))? {
        let before = digests.get(&path).and_then(|sha256| note.of(&asked, &path, sha256));
        let answer = answer.and(before);
        known.insert(path, answer);
    }
    let noted = known
        .iter()
        .filter_map(|(path, known)| Some((path.clone(), (digests.get(path)?.clone(), known.clone()))));
    note.write(lib_root, &asked, noted.collect());
    Ok(known)
}

/// Who is asked: what an answer depends on besides the source.
fn asked(lib_root: &str, python: &Interpreter, optimize: u8) -> String {
    let coverage = coverage_dir::path(lib_root, python);
    format!("{} {} -O{optimize} {}", python.path, python.version, coverage.display())
}

fn ask(
    lib_root: &str,
    (python, optimize): (&Interpreter, u8),
    wanted: &BTreeMap<String, Wanted>,
    sources: &BTreeMap<String, PathBuf>,
    copies: Option<&Copies>,
) -> Result<Found, Failure> {
    let request: Vec<_> = wanted
        .iter()
        .map(|(path, codes)| {
            let codes: Vec<_> =
                codes.iter().map(|((line, code, lines), ways)| json!([line, code, lines, ways])).collect();
            json!({"source": sources.get(path), "codes": codes})
        })
        .collect();
    let script = script(lib_root);
    let mut start = Start::of(python).args(&["-I", "-B"]).path_arg(&script).sees(Path::new(lib_root));
    if let Some(copies) = copies {
        start = start.sees(copies.folder());
    }
    let request = json!({"coverage_dir": coverage_dir::path(lib_root, python), "optimize": optimize,
        "most": MAX_SOURCE_BYTES, "files": request});
    let answer = start.answer(request.to_string().as_bytes())?;
    let answers: Vec<Answer> = source_list::answers(&answer)?;
    Ok(wanted
        .iter()
        .zip(answers)
        .map(|((path, codes), answer)| (path.clone(), known(codes, answer)))
        .collect())
}

fn known(codes: &Wanted, answer: Answer) -> Known {
    let ways = codes.iter().zip(answer.codes);
    let codes = ways.map(|((code, ways), arcs)| {
        (*code, arcs.map(|arcs| Answered(ways.iter().copied().zip(arcs).collect())))
    });
    Known { codes: codes.collect(), passed: answer.passed }
}

/// The program that a Python answers with.
fn script(lib_root: &str) -> PathBuf {
    Path::new(lib_root).join("hook").join("branches.py")
}
