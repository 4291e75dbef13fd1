//! Random programs, random data, random configuration: our reports and coverage.py's are the same.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use pulpcov_data_file::data::{CoverageData, Kind, Measured};
use pulpcov_data_file::data_file;
use pulpcov_tests::python;

use super::{assert_equal_files, coverage, pulpcov};

/// Programs in one folder, and folders: a thousand programs in all, half of them in branch mode.
const PROGRAMS: usize = 40;
const FOLDERS: u32 = 26;

#[derive(Debug, Clone)]
enum Statement {
    Simple(u8),
    Block(u8, Vec<Statement>, Vec<Statement>),
}

fn statement() -> impl Strategy<Value = Statement> {
    let leaf = any::<u8>().prop_map(Statement::Simple);
    leaf.prop_recursive(4, 30, 4, |inner| {
        let body = prop::collection::vec(inner, 1..4);
        (any::<u8>(), body.clone(), body).prop_map(|(kind, a, b)| Statement::Block(kind, a, b))
    })
}

/// What surrounds a statement decides what may stand there.
#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    in_loop: bool,
    in_function: bool,
    is_async: bool,
}

impl Place {
    fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

fn line(out: &mut String, place: Place, text: &str) {
    for part in text.split('\n') {
        writeln!(out, "{}{part}", "    ".repeat(place.depth)).expect("written");
    }
}

fn simple(kind: u8, place: Place, out: &mut String) {
    let text = match kind % 22 {
        0 => "x = 1",
        1 => "x = (\n    1 +\n    2\n)",
        2 => "pass",
        3 => "\"a string that does nothing\"",
        4 => "print(x)  # pragma: no cover",
        5 => "f = lambda a: a + 1",
        6 => "xs = [\n    y\n    for y in range(3)\n    if y\n]",
        7 if place.in_loop => "break",
        8 if place.in_loop => "continue",
        9 if place.in_function => "return x",
        10 if place.in_function && !place.is_async => "yield x",
        11 => "raise ValueError(\n    'no'\n)",
        12 => "assert x, 'why'",
        13 => "import os",
        14 => "x: int = 3; y = 4",
        15 => "del x",
        16 => "...",
        17 => "skip_me(x)",
        18 => "if x: y = 1",
        19 => "\n# a comment\nx = '''\nlines\n'''",
        20 if place.in_function && place.is_async => "await x",
        _ => "call(x,\n     lambda: 1,\n     y)",
    };
    line(out, place, text);
}

fn write(statements: &[Statement], place: Place, out: &mut String) {
    for statement in statements {
        match statement {
            Statement::Simple(kind) => simple(*kind, place, out),
            Statement::Block(kind, a, b) => block(*kind, a, b, place, out),
        }
    }
}

/// Which of a block's two bodies stands under a line, and inside of what.
#[derive(Clone, Copy)]
enum Under {
    /// Nothing: another line of the block follows.
    Line,
    A,
    B,
    LoopA,
    FunctionA,
    ClassA,
    AsyncA,
    AsyncLoopB,
}

use Under::{A, AsyncA, AsyncLoopB, B, ClassA, FunctionA, Line, LoopA};

/// Compound statements: their lines, how much deeper each stands, and what stands under it.
const BLOCKS: [&[(&str, usize, Under)]; 19] = [
    &[("if x:", 0, A)],
    &[("if x and (\n    y\n):", 0, A), ("elif y:  # pragma: no branch", 0, B), ("else:", 0, A)],
    &[("while x:", 0, LoopA)],
    &[("while True:", 0, LoopA)],
    &[("for i in x:", 0, LoopA), ("else:", 0, B)],
    &[("try:", 0, A), ("except (ValueError,\n        OSError) as e:", 0, B)],
    &[("try:", 0, A), ("except ValueError:", 0, B), ("except:", 0, A), ("else:", 0, B), ("finally:", 0, A)],
    &[("try:", 0, A), ("finally:", 0, B)],
    &[("with x:", 0, A)],
    &[("with open(x) as f, \\\n        open(y) as g:", 0, A)],
    &[("match x:", 0, Line), ("case 1:", 1, A), ("case [y, *_] if y:", 1, B)],
    &[("match x:", 0, Line), ("case {'a': y}:", 1, A), ("case _:", 1, B)],
    &[("def f(a, b=1):\n    \"\"\"Says what it does.\"\"\"", 0, FunctionA)],
    &[("@decorated\n@twice(\n    1\n)\ndef f(\n    a,\n):", 0, FunctionA)],
    &[("async def f(a):", 0, Line), ("async with a as b:", 1, AsyncA), ("async for i in b:", 1, AsyncLoopB)],
    &[("class C(\n    B\n):\n    x = 1", 0, ClassA)],
    &[("if TYPE_CHECKING:", 0, A), ("else:", 0, B)],
    &[("if x:  # pragma: no cover", 0, A), ("else:", 0, B)],
    &[("if 0:", 0, A), ("if x: # never taken", 0, B)],
];

fn block(kind: u8, a: &[Statement], b: &[Statement], place: Place, out: &mut String) {
    for (text, deeper, under) in BLOCKS[usize::from(kind) % BLOCKS.len()] {
        let at = Place { depth: place.depth + deeper, ..place };
        line(out, at, text);
        let inner = at.deeper();
        let function = Place { in_function: true, in_loop: false, is_async: false, ..inner };
        match under {
            Line => {}
            A => write(a, inner, out),
            B => write(b, inner, out),
            LoopA => write(a, Place { in_loop: true, ..inner }, out),
            FunctionA => write(a, function, out),
            ClassA => write(a, Place { in_function: false, in_loop: false, ..inner }, out),
            AsyncA => write(a, Place { is_async: true, ..function }, out),
            AsyncLoopB => write(b, Place { is_async: true, in_loop: true, ..function }, out),
        }
    }
}

fn program() -> impl Strategy<Value = String> {
    prop::collection::vec(statement(), 0..7).prop_map(|statements| {
        let mut out = String::new();
        write(&statements, Place { depth: 0, in_loop: false, in_function: false, is_async: false }, &mut out);
        out
    })
}

/// Numbers to make lines and arcs of; those out of the file are of no line.
type Ran = Vec<(prop::sample::Index, prop::sample::Index, u8)>;

#[derive(Debug, Clone)]
struct Case {
    branch: bool,
    programs: Vec<(String, Ran)>,
    rcfile: String,
    words: Vec<&'static str>,
}

fn rcfile() -> impl Strategy<Value = String> {
    let report = [
        "exclude_also =\n    skip_me\n    class C",
        "exclude_lines =\n    raise ValueError",
        "partial_also =\n    never taken",
        "partial_branches =\n    while x",
        "omit = */m1*.py",
        "include = pkg/*, m2.py",
        "precision = 2",
        "skip_empty = true",
        "skip_covered = yes",
        "sort = -cover",
        "show_missing = on",
    ];
    let chosen = prop::sample::subsequence(report.to_vec(), 0..4);
    (chosen, prop::option::of(0usize..4)).prop_map(|(report, depth)| {
        let depth = depth.map(|depth| format!("[xml]\npackage_depth = {depth}\n")).unwrap_or_default();
        format!("[report]\n{}\n{depth}", report.join("\n"))
    })
}

fn case() -> impl Strategy<Value = Case> {
    let index = || any::<prop::sample::Index>();
    let ran = prop::collection::vec((index(), index(), any::<u8>()), 0..40);
    let programs = prop::collection::vec((program(), ran), PROGRAMS);
    let words = prop::sample::subsequence(vec!["--show-missing", "--skip-empty", "--format=markdown"], 0..=3);
    (any::<bool>(), programs, rcfile(), words).prop_map(|(branch, programs, rcfile, words)| Case {
        branch,
        programs,
        rcfile,
        words,
    })
}

fn measured(branch: bool, text: &str, ran: &Ran) -> Measured {
    let lines = text.lines().count().max(1);
    let line = |index: &prop::sample::Index| i32::try_from(index.index(lines) + 1).expect("a small file");
    if !branch {
        return Measured::Lines(ran.iter().map(|(a, _, _)| line(a).unsigned_abs()).collect());
    }
    let arcs = ran.iter().map(|(a, b, kind)| match kind % 8 {
        0 => (-line(a), line(b)),
        1 => (line(a), -line(b)),
        2 => (line(a), line(a)),
        // What may well be possible: a few lines on.
        3..=6 => (line(a), line(a) + 1 + i32::from(*kind % 3)),
        _ => (line(a), line(b)),
    });
    Measured::Arcs(arcs.collect())
}

fn name(i: usize) -> String {
    if i.is_multiple_of(3) { format!("pkg/sub{}/m{i}.py", i % 4) } else { format!("m{i}.py") }
}

fn check(case: &Case) {
    let work = tempfile::tempdir().expect("a folder");
    let folder = fs::canonicalize(work.path()).expect("a path");
    let mut data = CoverageData::new(Some(if case.branch { Kind::Arcs } else { Kind::Lines }));
    for (i, (text, ran)) in case.programs.iter().enumerate() {
        let path = folder.join(name(i));
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, text).expect("written");
        data.add(&path.to_string_lossy(), "", measured(case.branch, text, ran)).expect("one kind");
    }
    data_file::write(&data, &folder.join(".coverage")).expect("written");
    fs::write(folder.join(".coveragerc"), &case.rcfile).expect("written");
    compare(&folder, &case.words);
}

/// Every format of both tools. Where coverage.py finds nothing to report, so do we.
fn compare(folder: &Path, words: &[&str]) {
    let oracle = "import sys, coverage, io, contextlib\n\
        def made(name, make):\n    try: make()\n    except coverage.exceptions.NoDataError: open('nothing', 'w')\n\
        for n, m in (('json', 'json_report'), ('xml', 'xml_report'), ('lcov', 'lcov_report')):\n\
        \x20   c = coverage.Coverage(); c.load(); made(n, lambda: getattr(c, m)(outfile='reference.' + n))\n";
    super::run(std::process::Command::new(python::reference()).args(["-c", oracle]).current_dir(folder));
    let python = python::reference().to_string_lossy().into_owned();
    let all = [
        "report",
        "--python",
        &python,
        "--json",
        "ours.json",
        "--xml",
        "ours.xml",
        "--lcov",
        "ours.lcov",
        ".coverage",
    ];
    if folder.join("nothing").exists() {
        let output = std::process::Command::new(pulpcov_tests::programs::pulpcov())
            .args(all)
            .current_dir(folder)
            .output()
            .expect("runs");
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    pulpcov(folder, &all);
    assert_equal_files(folder);
    let ours: Vec<&str> = ["report", "--python", &python, ".coverage"].iter().chain(words).copied().collect();
    let theirs: Vec<&str> = ["report"].iter().chain(words).copied().collect();
    let (ours, theirs) = (pulpcov(folder, &ours), coverage(folder, &theirs));
    if words.contains(&"--format=markdown") {
        assert_eq!(ours, theirs);
    } else {
        assert_eq!(super::table_fields(&ours), super::table_fields(&theirs));
    }
}

#[test]
#[ignore = "needs a package index: coverage.py and Django"]
fn a_thousand_random_programs() {
    let config =
        Config { cases: FOLDERS, max_shrink_iters: 300, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&case(), |case| {
            // Panics become failures, which shrink.
            check(&case);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
