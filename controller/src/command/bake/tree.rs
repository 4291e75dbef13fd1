//! What a bake took out of a container: checked, and laid out as a layer and as volumes. An image is a stranger's.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::output::file;

/// Most paths of a tree.
const MAX_PATHS: usize = 20_000;

/// Where a path of the container lies in the folder of the bake.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Lib(PathBuf),
    Data(PathBuf),
    /// A file of a folder of packages: that folder, and the file's name.
    Site(PathBuf, PathBuf),
}

struct Entry {
    place: Place,
    /// In the container.
    path: PathBuf,
    mode: u32,
    /// Nothing: a folder.
    bytes: Option<Vec<u8>>,
    mtime: u64,
}

pub(super) struct Tree {
    entries: Vec<Entry>,
    /// Folders of packages, each with its name in the bake.
    sites: BTreeMap<PathBuf, String>,
}

impl Tree {
    /// Reads a tar, which has nothing but regular files and folders in the places that were asked for.
    pub(super) fn read(tar: &mut impl Read, lib_root: &str, data_root: &str) -> Result<Self> {
        let mut archive = tar::Archive::new(tar);
        let mut tree = Self { entries: Vec::new(), sites: BTreeMap::new() };
        for entry in archive.entries()? {
            let mut entry = entry?;
            ensure!(tree.entries.len() < MAX_PATHS, "it has more than {MAX_PATHS} paths");
            let path = Path::new("/").join(entry.path()?);
            let is_plain =
                path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            ensure!(
                is_plain && path.to_str().is_some_and(|text| !text.chars().any(char::is_control)),
                "it has the path {}",
                path.display()
            );
            let kind = entry.header().entry_type();
            let (mode, mtime) = (entry.header().mode()? & 0o7777, entry.header().mtime()?);
            let bytes = match kind {
                tar::EntryType::Directory => None,
                tar::EntryType::Regular => {
                    let mut bytes = Vec::new();
                    entry.read_to_end(&mut bytes)?;
                    Some(bytes)
                }
                _ => bail!("{} is neither a file nor a folder", path.display()),
            };
            ensure!(mode & 0o6000 == 0, "{} would run as another user", path.display());
            let place = place(&path, bytes.is_some(), lib_root, data_root)
                .with_context(|| format!("{} is no place that was asked for", path.display()))?;
            if let Place::Site(folder, _) = &place {
                let name = format!("site-{}", tree.sites.len() + 1);
                tree.sites.entry(folder.clone()).or_insert(name);
            }
            tree.entries.push(Entry { place, path, mode, bytes, mtime });
        }
        ensure!(!tree.sites.is_empty(), "it has no hook in it");
        Ok(tree)
    }

    pub(super) fn files(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.bytes.is_some()).count() as u64
    }

    /// Files to mount one by one: in the folder of the bake, and in the container. Byte code is made again.
    pub(super) fn mounts(&self) -> Vec<(String, String)> {
        let site = |entry: &Entry| match &entry.place {
            Place::Site(folder, name) if !name.starts_with("__pycache__") => {
                let from = format!("{}/{}", self.sites.get(folder)?, name.display());
                Some((from, entry.path.display().to_string()))
            }
            _ => None,
        };
        self.entries.iter().filter_map(site).collect()
    }

    /// Writes the folder, whole or not at all.
    pub(super) fn write(&self, output: &Path, more: &[(&str, String)]) -> Result<()> {
        let place = file::output_place(output)?;
        let parent = place.parent().unwrap_or(Path::new("/"));
        fs_err::create_dir_all(parent)?;
        let folder = tempfile::Builder::new().prefix(".pulpcov-bake-").tempdir_in(parent)?;
        for name in ["lib", "data"] {
            fs_err::create_dir(folder.path().join(name))?;
        }
        let mut modes = Vec::new();
        for entry in &self.entries {
            let path = folder.path().join(self.own_path(&entry.place));
            match &entry.bytes {
                None => {
                    fs_err::create_dir_all(&path)?;
                    modes.push((path, entry.mode));
                }
                Some(bytes) => {
                    fs_err::create_dir_all(path.parent().unwrap_or(folder.path()))?;
                    let mut out = fs_err::File::create(&path)?;
                    out.write_all(bytes)?;
                    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(entry.mtime);
                    out.file().set_modified(time)?;
                    fs_err::set_permissions(&path, Permissions::from_mode(entry.mode))?;
                }
            }
        }
        for (path, mode) in modes.into_iter().rev() {
            fs_err::set_permissions(&path, Permissions::from_mode(mode))?;
        }
        self.write_layer(&folder.path().join("layer.tar"))?;
        for (name, text) in more {
            file::write_whole(&folder.path().join(name), text.as_bytes())?;
        }
        fs_err::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        fs_err::rename(folder.path(), &place)?;
        // It has another name now.
        let _ = folder.keep();
        Ok(())
    }

    /// The same as one tar, of what was checked and nothing else; root's.
    fn write_layer(&self, path: &Path) -> Result<()> {
        let mut tar = tar::Builder::new(fs_err::File::create(path)?);
        for entry in &self.entries {
            let bytes = entry.bytes.as_deref().unwrap_or_default();
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(match entry.bytes {
                Some(_) => tar::EntryType::Regular,
                None => tar::EntryType::Directory,
            });
            header.set_mode(entry.mode);
            header.set_mtime(entry.mtime);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, entry.path.strip_prefix("/").unwrap_or(&entry.path), bytes)?;
        }
        tar.into_inner()?;
        Ok(())
    }

    fn own_path(&self, place: &Place) -> PathBuf {
        match place {
            Place::Lib(rest) => Path::new("lib").join(rest),
            Place::Data(rest) => Path::new("data").join(rest),
            Place::Site(folder, name) => {
                Path::new(self.sites.get(folder).map_or("site", String::as_str)).join(name)
            }
        }
    }
}

/// Where a path belongs; nothing where it was not asked for.
fn place(path: &Path, is_file: bool, lib_root: &str, data_root: &str) -> Option<Place> {
    if let Ok(rest) = path.strip_prefix(lib_root) {
        return Some(Place::Lib(rest.to_owned()));
    }
    if let Ok(rest) = path.strip_prefix(data_root) {
        return (!is_file).then(|| Place::Data(rest.to_owned()));
    }
    let folder = path.parent()?;
    let (folder, name) = if folder.ends_with("__pycache__") {
        (folder.parent()?, Path::new("__pycache__").join(path.file_name()?))
    } else {
        (folder, path.file_name()?.into())
    };
    let is_ours = path.file_name()?.to_str().is_some_and(|name| name.contains("pulpcov"));
    (is_file && is_ours).then(|| Place::Site(folder.to_owned(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(entries: &[(&str, tar::EntryType, u32)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, mode) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_size(0);
            // The library refuses some of these itself.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, std::io::empty()).expect("written");
        }
        builder.into_inner().expect("whole")
    }

    fn read(entries: &[(&str, tar::EntryType, u32)]) -> Result<Tree> {
        Tree::read(&mut tar(entries).as_slice(), "/usr/local/lib/pulpcov", "/srv/pulp_coverage")
    }

    const PTH: (&str, tar::EntryType, u32) =
        ("usr/lib/python3/dist-packages/pulpcov.pth", tar::EntryType::Regular, 0o644);

    #[test]
    fn what_was_asked_for_has_its_place() {
        let tree = read(&[
            ("usr/local/lib/pulpcov", tar::EntryType::Directory, 0o755),
            ("usr/local/lib/pulpcov/receipt.json", tar::EntryType::Regular, 0o600),
            PTH,
            (
                "usr/lib/python3/dist-packages/__pycache__/_pulpcov_gate.cpython-311.pyc",
                tar::EntryType::Regular,
                0o644,
            ),
            ("srv/pulp_coverage", tar::EntryType::Directory, 0o1777),
        ])
        .expect("fine");
        assert_eq!(
            tree.mounts(),
            [("site-1/pulpcov.pth".to_owned(), "/usr/lib/python3/dist-packages/pulpcov.pth".to_owned())]
        );
        assert_eq!(tree.files(), 3);
    }

    #[test]
    fn nothing_else_is_taken() {
        for bad in [
            ("etc/passwd", tar::EntryType::Regular, 0o644),
            ("srv/pulp_coverage/data.x", tar::EntryType::Regular, 0o644),
            ("usr/local/lib/pulpcov/../../bin/pulpcov", tar::EntryType::Regular, 0o755),
            ("usr/local/lib/pulpcov/link", tar::EntryType::Symlink, 0o777),
            ("usr/local/lib/pulpcov/su", tar::EntryType::Regular, 0o4755),
            ("usr/local/lib/pulpcov/dev", tar::EntryType::Char, 0o644),
        ] {
            assert!(read(&[PTH, bad]).is_err(), "{bad:?}");
        }
        assert!(read(&[]).is_err(), "no hook");
    }
}
