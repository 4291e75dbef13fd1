//! The service that the hosts run: gunicorn with two workers over a Flask application, and a worker
//! that forks a child for each job and ends it with `os._exit`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

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
