//! By which bytes an inventory is known at another place: a second checkout is the same one.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pulpcov_protocol::text::hex;
use sha2::{Digest, Sha256};

/// Most files, and most bytes of all, that are read for it.
const MOST_FILES: usize = 4096;
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// SHA-256, in hexadecimal digits, of what `sha256sum` would say of all files of the sources, by their path below the
/// source. Nothing where a source is no file and no folder, cannot be read, or is too large. The Ansible collection
/// has the same rule.
pub(crate) fn of(sources: &[PathBuf]) -> Option<String> {
    let mut all = Sha256::new();
    let (mut files_left, mut bytes_left) = (MOST_FILES, MOST_BYTES);
    for source in sources {
        for file in files_of(source, &mut files_left).ok()? {
            // An empty path would make a folder of a file.
            let path = if file.as_os_str().is_empty() { source.clone() } else { source.join(&file) };
            bytes_left = bytes_left.checked_sub(fs::metadata(&path).ok()?.len())?;
            all.update(hex(Sha256::digest(fs::read(&path).ok()?).as_slice()));
            all.update(b"  ");
            all.update(file.as_os_str().as_bytes());
            all.update(b"\n");
        }
    }
    Some(hex(all.finalize()))
}

/// The regular files of a source, in the order of their names' bytes; none that is hidden, none behind a link to a
/// folder. A file is known by an empty path.
fn files_of(source: &Path, left: &mut usize) -> io::Result<Vec<PathBuf>> {
    let kind = fs::metadata(source)?;
    if !kind.is_dir() {
        return if kind.is_file() {
            Ok(vec![PathBuf::new()])
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        };
    }
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(source.join(&folder))? {
            let entry = entry?;
            if is_hidden(&entry.file_name()) {
                continue;
            }
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if fs::metadata(entry.path()).is_ok_and(|kind| kind.is_file()) {
                *left = left.checked_sub(1).ok_or(io::ErrorKind::InvalidInput)?;
                files.push(path);
            }
        }
    }
    files.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(files)
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_known_and_a_change_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(&path, text).expect("written");
            path
        };
        let digest = |name: &str| of(&[folder.path().join(name)]);
        let (first, copy) = (put("a.yml", "all:\n"), put("copy/b.yml", "all:\n"));
        assert!(of(std::slice::from_ref(&first)).is_some());
        assert_eq!(of(&[first]), of(&[copy]));
        for name in ["one", "two"] {
            put(&format!("{name}/hosts.yml"), "all:\n");
            put(&format!("{name}/group_vars/all.yml"), "x: 1\n");
            put(&format!("{name}/.git/index"), name);
        }
        std::os::unix::fs::symlink(folder.path().join("one"), folder.path().join("one/loop"))
            .expect("a link");
        assert!(digest("one").is_some());
        assert_eq!(digest("one"), digest("two"));
        assert_ne!(digest("one"), digest("a.yml"));
        assert_ne!(digest("copy"), digest("copy/b.yml"));
        put("two/group_vars/all.yml", "x: 2\n");
        assert_ne!(digest("one"), digest("two"));
        assert_eq!(digest("nowhere"), None);
        assert_eq!(of(&[PathBuf::from("/dev/null")]), None);
    }

    #[test]
    fn it_is_what_sha256sum_says() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("hosts.yml"), "all:\n").expect("written");
        let line = format!("{}  hosts.yml\n", hex(Sha256::digest("all:\n").as_slice()));
        assert_eq!(of(&[folder.path().to_owned()]), Some(hex(Sha256::digest(line).as_slice())));
    }
}
