//! A wheel is a zip: unpacked by the agent, so that no interpreter of the service's has to be root for it.

use std::io::{Cursor, Read};
use std::path::{Component, Path};

use crate::failure::{During, Failure};
use crate::host::fs;

/// Most files of a wheel, and bytes in them: coverage.py has a hundred, and four megabytes.
const MAX_FILES: usize = 2000;
const MAX_BYTES: u64 = 128 * 1024 * 1024;

/// Unpacks a wheel into a folder of our own. Fails with what is wrong with it.
pub(crate) fn unpack(wheel: &[u8], name: &str, folder: &Path) -> Result<(), Failure> {
    let damaged = |what: &str| Failure::new(format!("{name} is no wheel: {what}"));
    let mut archive =
        zip::ZipArchive::new(Cursor::new(wheel)).map_err(|error| damaged(&error.to_string()))?;
    if archive.len() > MAX_FILES {
        return Err(damaged("it has too many files"));
    }
    let mut left = MAX_BYTES;
    for at in 0..archive.len() {
        let mut file = archive.by_index(at).map_err(|error| damaged(&error.to_string()))?;
        let path = file.name().map_err(|error| damaged(&error.to_string()))?.into_owned();
        let path = Path::new(&path);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) || file.is_symlink() {
            return Err(damaged("a file in it has no plain path"));
        }
        let place = folder.join(path);
        if file.is_dir() {
            fs_err::create_dir_all(place)?;
            continue;
        }
        let mut bytes = Vec::new();
        (&mut file).take(left + 1).read_to_end(&mut bytes).map_err(|error| damaged(&error.to_string()))?;
        left = left.checked_sub(bytes.len() as u64).ok_or_else(|| damaged("it unpacks to too much"))?;
        if let Some(above) = place.parent() {
            fs_err::create_dir_all(above)?;
        }
        fs::write_new(&place, &bytes, 0o644).during("write", place.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;

    use super::*;

    fn packed(names: &[&str]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for name in names {
            zip.start_file(*name, SimpleFileOptions::default()).expect("begins");
            zip.write_all(b"x = 1\n").expect("written");
        }
        zip.finish().expect("ends").into_inner()
    }

    #[test]
    fn a_wheel_is_unpacked_and_leads_nowhere_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("tree");
        std::fs::create_dir(&place).expect("a folder");
        unpack(&packed(&["coverage/__init__.py", "coverage/a/b.py"]), "w", &place).expect("a wheel");
        assert_eq!(std::fs::read(place.join("coverage/a/b.py")).expect("there"), b"x = 1\n");
        for bad in ["../out.py", "/out.py", "coverage/../../out.py"] {
            let said = unpack(&packed(&[bad]), "w", &place).expect_err(bad);
            assert!(said.msg.contains("no plain path"), "{}", said.msg);
        }
        assert!(!folder.path().join("out.py").exists());
        assert!(unpack(b"PK no", "w", &place).is_err());
    }
}
