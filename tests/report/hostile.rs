//! Data that somebody made to break what reads it: an error that names the file, or all of it counted.

use std::fs;
use std::path::Path;
use std::process::Command;

use pulpcov_tests::python;

use super::{ends, pulpcov, says};

/// Makes one data file of each kind in a folder, by SQLite itself, from a good one.
const MAKE: &str = r#"
import os, sqlite3, sys
from coverage import CoverageData

def made(name, act=None, arcs=False, text="x = 1\n"):
    d = CoverageData(name)
    if arcs:
        d.add_arcs({os.path.abspath("a.py"): [(-1, 1), (1, -1)]})
    else:
        d.add_lines({os.path.abspath("a.py"): [1]})
    d.close()
    if act:
        db = sqlite3.connect(name)
        db.execute("pragma foreign_keys = off")
        act(db)
        db.commit()
        db.close()

def sql(*statements):
    return lambda db: [db.execute(s) for s in statements]

open("a.py", "w").write("x = 1\nif x:\n    y = 2\n")
made("good")
good = open("good", "rb").read()
open("truncated", "wb").write(good[:len(good) // 2 // 4096 * 4096])
open("cut", "wb").write(good[:-100])
open("nothing", "wb").write(b"")
open("no-pages", "wb").write(good[:4096] + b"\xff" * (len(good) - 4096))
made("schema", sql("update coverage_schema set version = 99"))
made("no-schema", sql("delete from coverage_schema"))
made("no-table", sql("drop table line_bits"))
made("columns", sql("alter table file rename column path to name"))
made("view", sql("create view v as select * from file"))
made("trigger", sql("create trigger t after insert on file begin delete from file; end"))
made("dangling", sql("update line_bits set file_id = 7"))
made("huge-id", sql("update line_bits set file_id = 9223372036854775807"))
made("text-bits", sql("update line_bits set numbits = 'text'"))
made("long-bits", sql("update line_bits set numbits = zeroblob(20000000)"))
made("far-line", sql("update arc set tono = 4611686018427387904"), arcs=True)
made("far-back", sql("update arc set fromno = -2147483648"), arcs=True)
made("real-line", sql("update arc set tono = 1.5"), arcs=True)
made("text-line", sql("update arc set tono = 'x'"), arcs=True)
head = b"!coverage.py: This is a private format, don't read it directly!"
names = ",".join('"/a%d.py":[9999999]' % n for n in range(2000))
open("sparse-json", "wb").write(head + ('{"lines":{%s}}' % names).encode())
made("wal", sql("pragma journal_mode = wal"))
made("utf16")
db = sqlite3.connect("utf16.new")
db.execute("pragma encoding = 'UTF-16'")
for (statement,) in sqlite3.connect("utf16").execute("select sql from sqlite_master where sql is not null"):
    db.execute(statement)
db.execute("insert into coverage_schema values (7)")
db.commit()
os.replace("utf16.new", "utf16")
"#;

/// What the error of each says, besides its name.
const REFUSED: [(&str, &str); 20] = [
    ("truncated", "cut short"),
    ("cut", "cut short"),
    ("nothing", "no SQLite file"),
    ("no-pages", "damaged"),
    ("schema", "schema version 99"),
    ("no-schema", "schema version 0"),
    ("no-table", "line_bits has columns []"),
    ("columns", "file has columns"),
    ("view", "schema is not one that coverage.py writes"),
    ("trigger", "schema is not one that coverage.py writes"),
    ("dangling", "file 7, which is not there"),
    ("huge-id", "file 9223372036854775807"),
    ("text-bits", "numbits are no blob"),
    ("long-bits", "line number"),
    ("far-line", "line number 4611686018427387904"),
    ("far-back", "line number -2147483648"),
    ("real-line", "floating point"),
    ("text-line", "something else"),
    ("utf16", "text encoding"),
    ("sparse-json", "too far apart"),
];

fn in_python(work: &Path, script: &str) {
    let made =
        Command::new(python::reference()).args(["-c", script]).current_dir(work).output().expect("runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn hostile_data_is_named_and_changes_nothing() {
    let work = tempfile::tempdir().expect("a folder");
    in_python(work.path(), MAKE);
    for (name, reason) in REFUSED {
        let said = ends(work.path(), 2, &["combine", "--strict", "-o", "out", "good", name]);
        assert!(said.contains(name) && said.contains(reason), "{name}: {said}");
        assert!(!said.contains("panicked"), "{said}");
        assert!(!work.path().join("out").exists(), "{name}");
    }
    ends(work.path(), 0, &["combine", "-o", "out", "good"]);
    // Left out, it adds nothing of what it holds.
    let good = fs::read(work.path().join("out")).expect("data");
    for (name, reason) in REFUSED {
        let said = ends(work.path(), 0, &["combine", "-o", "out", name, "good"]);
        assert!(
            said.contains(name) && said.contains(reason) && said.contains("1 left out"),
            "{name}: {said}"
        );
        assert_eq!(fs::read(work.path().join("out")).expect("data"), good, "{name}");
    }
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn hostile_names_are_shown_and_never_obeyed() {
    let work = tempfile::tempdir().expect("a folder");
    in_python(
        work.path(),
        "import os\nfrom coverage import CoverageData\n\
         names = ['a\\x1b]0;title\\x07.py', '<script>alert(1)<\\x2fscript>.py'.replace('/', ''), 'new\\nline.py', '\\u202eyp.py', '\"&x.py']\n\
         d = CoverageData('data')\n\
         for n in names:\n    open(n, 'w').write('x = 1 # <b>\\n')\n    d.add_lines({os.path.abspath(n): [1]})\n\
         d.close()\n",
    );
    let python = python::reference().to_string_lossy().into_owned();
    let words = ["report", "--python", &python, "data", "--text", "t", "--html", "html", "--xml", "x.xml"];
    let more = ["--json", "j.json", "--lcov", "l", "--markdown", "m.md", "--sonar", "s.xml"];
    ends(work.path(), 0, &[&words[..], &more].concat());
    let read = |name: &str| fs::read_to_string(work.path().join(name)).expect("written");
    for name in ["t", "m.md", "l", "html/index.html"] {
        let text = read(name);
        assert!(!text.contains(['\x1b', '\x07', '\u{202e}']), "{name}: {text:?}");
    }
    assert!(!read("html/index.html").contains("<script>alert"));
    assert_eq!(read("t").lines().filter(|line| line.contains(".py")).count(), 5);
    let parsed = "import json\nfrom xml.etree import ElementTree as E\nE.parse('x.xml'), E.parse('s.xml')\n\
                  assert len(json.load(open('j.json'))['files']) == 5";
    in_python(work.path(), parsed);
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn a_million_contexts_cost_nothing_where_nobody_asks() {
    let work = tempfile::tempdir().expect("a folder");
    in_python(
        work.path(),
        "import os, sqlite3\nfrom coverage import CoverageData\n\
         open('a.py', 'w').write('x = 1\\ny = 2\\n')\n\
         d = CoverageData('data')\nd.add_lines({os.path.abspath('a.py'): [1]})\nd.close()\n\
         db = sqlite3.connect('data')\n\
         db.executemany('insert into context (context) values (?)', (('c%d' % n,) for n in range(1000000)))\n\
         db.execute(\"insert into line_bits select 1, id, x'06' from context where id > 1\")\ndb.commit()\n",
    );
    let python = python::reference().to_string_lossy().into_owned();
    let (code, stdout, stderr) = says(&pulpcov(work.path(), &["report", "--python", &python, "data"]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("100%"), "{stdout}");
}
