//! Reports and sums of data files of this machine: which are taken, what is not usable, and what may not stop them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use pulpcov_tests::{programs, python};
use tempfile::TempDir;

use crate::{ends, json, says};

fn python_word() -> String {
    python::reference().to_string_lossy().into_owned()
}

/// A script that was run `times`, each run a data file of its own.
fn recorded(times: usize) -> TempDir {
    let work = tempfile::tempdir().expect("a folder");
    fs::write(work.path().join("r.py"), "import sys\nif len(sys.argv) > 1:\n    x = 1\ny = 2\n")
        .expect("written");
    for _ in 0..times {
        coverage(work.path(), &["run", "--parallel-mode", "r.py"]);
    }
    work
}

fn coverage(work: &Path, words: &[&str]) {
    let output = Command::new(python::reference())
        .args(["-m", "coverage"])
        .args(words)
        .current_dir(work)
        .output()
        .expect("coverage runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn report(work: &Path, code: i32, words: &[&str]) -> String {
    ends(work, code, &[&["report", "--python", &python_word()], words].concat())
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn one_damaged_data_file_is_named_and_the_others_are_taken() {
    let work = recorded(1);
    let good = fs::read_dir(work.path())
        .expect("lists")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.to_string_lossy().contains(".coverage."))
        .expect("data");
    let bytes = fs::read(&good).expect("data");
    fs::write(work.path().join(".coverage.cut"), &bytes[..4096]).expect("written");
    fs::write(work.path().join(".coverage.empty"), "").expect("written");
    fs::write(work.path().join(".coverage.foreign"), "no data at all").expect("written");
    std::os::unix::fs::symlink("/nowhere/data", work.path().join(".coverage.gone")).expect("a link");
    let pipe = work.path().join(".coverage.pipe");
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().expect("mkfifo runs").success());
    let said = ends(work.path(), 0, &["combine", "-o", "all", "."]);
    for name in ["cut", "empty", "foreign", "gone", "pipe"] {
        assert!(said.contains(&format!("warning: left out: ./.coverage.{name}")), "{said}");
    }
    assert!(said.contains("combined 6 inputs, 1 measured file, 5 left out"), "{said}");
    let said = report(work.path(), 0, &["--json", "r.json", "--text", "-", "."]);
    assert!(said.contains("without 5 data files, which could not be read"), "{said}");
    let made = json(&work.path().join("r.json"));
    assert_eq!(made["meta"]["data_files_left_out"], 5);
    assert_eq!(made["files"]["r.py"]["summary"]["covered_lines"], 3);
    for (words, why) in [
        (&["combine", "-o", "none", "--strict", "."][..], ".coverage.cut"),
        (&["combine", "-o", "none", ".coverage.cut", ".coverage.empty"], "none of 2 data files is usable"),
    ] {
        let said = ends(work.path(), 2, words);
        assert!(said.contains(why) && !work.path().join("none").exists(), "{said}");
    }
    report(work.path(), 2, &["--strict", "."]);
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn a_folder_gives_the_data_files_of_processes_and_nothing_else() {
    let work = recorded(1);
    // Yesterday's sum, which had the line behind the `if`.
    coverage(work.path(), &["run", "r.py", "x"]);
    for name in ["data.json", "data.py", ".coverage.x-journal", ".coverage.x-wal", ".coveragerc"] {
        fs::write(work.path().join(name), "").expect("written");
    }
    let said = report(work.path(), 0, &["--json", "r.json", "."]);
    assert!(said.contains("./.coverage is not taken"), "{said}");
    let executed = || json(&work.path().join("r.json"))["files"]["r.py"]["executed_lines"].to_string();
    assert_eq!(executed(), "[1,2,4]");
    // What it writes is no input of its own, however often it is asked.
    for _ in 0..2 {
        let said = ends(work.path(), 0, &["combine", "-o", ".coverage.all", "."]);
        assert!(said.contains("combined 1 input, 1 measured file"), "{said}");
    }
    // Alone, it is what there is.
    let alone = recorded(0);
    coverage(alone.path(), &["run", "r.py", "x"]);
    report(alone.path(), 0, &["--json", "r.json", "."]);
    assert_eq!(
        json(&alone.path().join("r.json"))["files"]["r.py"]["executed_lines"].to_string(),
        "[1,2,3,4]"
    );
    // The names that the configuration says.
    let named = recorded(0);
    fs::write(named.path().join(".coveragerc"), "[run]\ndata_file = unit.cov\nparallel = true\n")
        .expect("written");
    let said = report(named.path(), 2, &["."]);
    assert!(said.contains("unit.cov, unit.cov.* and data.HOST.PID.* are taken"), "{said}");
    coverage(named.path(), &["run", "r.py"]);
    report(named.path(), 0, &["--json", "r.json", "."]);
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn modules_of_the_project_are_not_taken_for_pythons_own_and_not_run() {
    let work = recorded(1);
    for name in ["numbers", "json", "types", "ast", "enum", "token", "re", "coverage", "sitecustomize"] {
        let text = format!("open('ran-{name}', 'w').close()\nraise SystemExit(3)\n");
        fs::write(work.path().join(format!("{name}.py")), text).expect("written");
    }
    report(work.path(), 0, &["--json", "r.json", "."]);
    let command = || Command::new(programs::pulpcov());
    let by_variable = command()
        .args(["report", "--python", &python_word(), "."])
        .env("PYTHONPATH", work.path())
        .current_dir(work.path())
        .output()
        .expect("pulpcov runs");
    assert_eq!(says(&by_variable).0, Some(0), "{by_variable:?}");
    let ran = fs::read_dir(work.path()).expect("lists").flatten();
    let ran = ran.filter(|entry| entry.file_name().to_string_lossy().starts_with("ran-")).count();
    assert_eq!(ran, 0);
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn what_is_no_python_is_left_out_by_its_name_and_nothing_left_is_no_full_coverage() {
    let work = tempfile::tempdir().expect("a folder");
    fs::write(work.path().join("good.j2"), "line1\nline2\n").expect("written");
    fs::write(work.path().join("bad.j2"), "This is data: x.\n").expect("written");
    fs::write(
        work.path().join("r.py"),
        "for name in ['good.j2', 'bad.j2']:\n    exec(compile('x = 1\\n', name, 'exec'))\n",
    )
    .expect("written");
    coverage(work.path(), &["run", "--source=.", "r.py"]);
    let said = report(work.path(), 0, &["--text", "-", ".coverage"]);
    assert!(said.contains("good.j2") && !said.contains("bad.j2"), "{said}");
    // What is called Python and is none is an error, or, if told so, a warning.
    fs::write(work.path().join("r.py"), "this is no Python\n").expect("written");
    assert!(report(work.path(), 2, &[".coverage"]).contains("r.py"));
    report(work.path(), 0, &["-i", ".coverage"]);
    fs::remove_file(work.path().join("good.j2")).expect("removed");
    let said = report(work.path(), 1, &["-i", ".coverage"]);
    assert!(said.contains("no data to report") && !said.contains("100%"), "{said}");
    let said = report(work.path(), 1, &["--omit", "*", ".coverage"]);
    assert!(said.contains("no data to report: include and omit leave nothing"), "{said}");
    // What is wrong for the table alone stops no other report.
    fs::write(work.path().join("table.rc"), "[report]\nsort = bogus\nformat = none\n").expect("written");
    fs::write(work.path().join("good.j2"), "line1\nline2\n").expect("written");
    report(work.path(), 0, &["-i", "--rcfile", "table.rc", "--xml", "table.xml", ".coverage"]);
    let said = report(
        work.path(),
        2,
        &["-i", "--rcfile", "table.rc", "--xml", "table.xml", "--text", "-", ".coverage"],
    );
    assert!(said.contains("[report] sort is \"bogus\""), "{said}");
    // Data of branches in which nothing ran at all: nothing was left out of it.
    fs::write(work.path().join("outside.py"), "x = 1\n").expect("written");
    coverage(work.path(), &["run", "--branch", "--data-file=none", "--include=nowhere/*", "outside.py"]);
    coverage(work.path(), &["run", "--branch", "--data-file=none.2", "--include=nowhere/*", "outside.py"]);
    let said = report(work.path(), 1, &["none", "none.2"]);
    assert!(said.contains("no data to report: nothing was measured"), "{said}");
}

/// A failure is of a file, and not of its bytes: another project's name has no place in this one's message.
#[test]
#[ignore = "needs a package index: coverage.py"]
fn a_failure_names_the_file_that_it_is_of() {
    let cache = tempfile::tempdir().expect("a folder");
    for name in ["first", "second"] {
        let work = tempfile::tempdir().expect("a folder");
        let script = work.path().join(format!("{name}.py"));
        fs::write(&script, "x = 1\n").expect("written");
        coverage(work.path(), &["run", &format!("{name}.py")]);
        fs::write(&script, "this is no Python\n").expect("written");
        let output = Command::new(programs::pulpcov())
            .args(["report", "--python", &python_word(), ".coverage"])
            .env("PULPCOV_CACHE_DIR", cache.path())
            .current_dir(work.path())
            .output()
            .expect("pulpcov runs");
        let (code, _, said) = says(&output);
        assert_eq!(code, Some(2), "{said}");
        assert_eq!(
            (said.contains("first.py"), said.contains("second.py")),
            (name == "first", name == "second")
        );
    }
}

/// A reader that has left is no reason to end well what could not be done.
#[test]
#[ignore = "needs a package index: coverage.py"]
fn a_closed_stderr_does_not_keep_a_sum_from_being_written() {
    let work = recorded(1);
    fs::write(work.path().join(".coverage.cut"), "cut").expect("written");
    let mut child = Command::new(programs::pulpcov())
        .args(["combine", "-o", "all", "."])
        .current_dir(work.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pulpcov runs");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert!(work.path().join("all").exists());
}

#[test]
#[ignore = "needs a package index: coverage.py"]
fn a_diff_that_is_too_large_is_not_judged_by_its_beginning() {
    let work = recorded(1);
    let file = fs::File::create(work.path().join("huge.diff")).expect("made");
    file.set_len((256 << 20) + 1).expect("set");
    let said = report(work.path(), 2, &["--diff-file", "huge.diff", "."]);
    assert!(said.contains("it is larger than"), "{said}");
}

/// The same of a comparison, which has warnings to tell before its table.
#[test]
#[ignore = "needs a package index: coverage.py"]
fn a_closed_stderr_does_not_keep_a_diff_from_being_shown() {
    let work = pulpcov_tests::made_run::made_run(&[
        "--hosts",
        "2",
        "--processes",
        "1",
        "--sources",
        "5",
        "--branch",
    ]);
    let bundle = work.path().join("run/hosts").read_dir().expect("lists").flatten().next().expect("a host");
    fs::write(bundle.path().join("bundle-9999.tar.gz"), "damaged").expect("written");
    let mut child = Command::new(programs::pulpcov())
        .args(["diff", "run", "run", "--json", "d.json"])
        .current_dir(work.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pulpcov runs");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert!(work.path().join("d.json").exists());
}
