//! The service that the hosts run: gunicorn with two workers over a Flask application, and a worker
//! that forks a child for each job and ends it with `os._exit`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::python;

/// Its sources.
pub fn sources() -> PathBuf {
    crate::programs::workspace().join("tests/support/shop")
}

/// Its profile.
pub fn profile() -> PathBuf {
    sources().join("profile.yml")
}

/// Puts it into the folder that every host's disk starts as.
pub fn put_into(skeleton: &Path) -> std::io::Result<()> {
    let package = skeleton.join("opt/shop/shop");
    fs::create_dir_all(&package)?;
    for file in fs::read_dir(sources().join("shop"))? {
        let file = file?;
        if file.path().extension().is_some_and(|extension| extension == "py") {
            fs::copy(file.path(), package.join(file.file_name()))?;
        }
    }
    let program = skeleton.join("opt/shop/shop-worker");
    fs::copy(sources().join("shop-worker"), &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let units = skeleton.join("etc/systemd/system");
    fs::create_dir_all(units.join("multi-user.target.wants"))?;
    for unit in ["shop-web.service", "shop-worker.service"] {
        fs::copy(sources().join(unit), units.join(unit))?;
        symlink(format!("../{unit}"), units.join("multi-user.target.wants").join(unit))?;
    }
    Ok(())
}

/// A shell's command that writes a data file which measured nothing, and is large even when it is packed: what somebody
/// left there, so that a collect takes its time.
pub fn ballast(path: &str, megabytes: u32) -> String {
    let script = r#"python3 -c "
import os, sqlite3
db = sqlite3.connect('PATH')
for table in ('coverage_schema (version integer)', 'meta (key text, value text)', 'file (id integer primary key, path text)',
        'context (id integer primary key, context text)', 'line_bits (file_id integer, context_id integer, numbits blob)',
        'arc (file_id integer, context_id integer, fromno integer, tono integer)', 'tracer (file_id integer primary key, tracer text)'):
    db.execute('create table ' + table)
db.execute('insert into coverage_schema values (7)')
db.execute('insert into context values (1, ?)', (os.urandom(MEGABYTES * 1000000).hex(),))
db.commit()
""#;
    script.replace("PATH", path).replace("MEGABYTES", &megabytes.to_string())
}

/// The data files of all bundles of a run, unpacked below a folder; where they lie.
pub fn unpack_data(run: &Path, folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).expect("a folder");
    for host in fs::read_dir(run.join("hosts")).expect("hosts") {
        let bundles = fs::read_dir(host.expect("a host").path()).expect("bundles");
        let mut bundles: Vec<_> = bundles.map(|bundle| bundle.expect("a bundle").path()).collect();
        // What a process has written twice it has written more of.
        bundles.sort_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).expect("a time"));
        for bundle in bundles {
            let mut tar = Command::new("tar");
            tar.arg("-xzf").arg(&bundle).arg("-C").arg(folder).args(["--wildcards", "data/*"]);
            // A bundle that only brought sources has no data.
            let _ = tar.stderr(std::process::Stdio::null()).status().expect("tar runs");
        }
    }
    folder.join("data")
}

/// Holds a JSON report against `coverage combine` and `coverage json` of coverage.py itself, on the same data, with the
/// hosts' sources at their paths.
pub fn assert_equals_coverage_py(report: &Value, data: &Path, work: &Path) {
    let reference = reference_report(data, work);
    for (name, file) in reference["files"].as_object().expect("files") {
        assert_eq!(&report["files"][name], file, "{name}");
    }
    // What never ran counts too: coverage.py's own report of the same data does not know it.
    for (name, file) in report["files"].as_object().expect("files") {
        if reference["files"].get(name).is_none() {
            assert_eq!(file["summary"]["covered_lines"], 0, "{name}");
        }
    }
}

fn reference_report(data: &Path, work: &Path) -> Value {
    fs::create_dir_all(work).expect("a folder");
    let files: Vec<_> =
        fs::read_dir(data).expect("data").map(|entry| entry.expect("an entry").path()).collect();
    assert!(!files.is_empty());
    let rcfile = work.join("rc");
    let text = format!(
        "[run]\ndata_file = {}\n[paths]\nshop =\n    {}\n    /opt/shop/shop\n",
        work.join("combined").display(),
        sources().join("shop").display()
    );
    fs::write(&rcfile, text).expect("written");
    let python = python::reference();
    let run = |words: &[&str], files: &[PathBuf]| {
        let output = Command::new(&python)
            .args(["-m", "coverage"])
            .args(words)
            .arg("--rcfile")
            .arg(&rcfile)
            .args(files)
            .current_dir(sources())
            .output()
            .expect("coverage runs");
        assert!(
            output.status.success(),
            "{words:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(&["combine", "--keep", "-q"], &files);
    let out = work.join("reference.json");
    run(&["json", "-q", "-o", &out.to_string_lossy()], &[]);
    serde_json::from_slice(&fs::read(&out).expect("a report")).expect("JSON")
}
