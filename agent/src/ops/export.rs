//! Sends what a bake has installed, as a tar of the paths that an image needs.

use std::io::Write;
use std::path::Path;

use pulpcov_protocol::op::Export;
use pulpcov_protocol::outcome::{BundleDetail, Detail, Outcome};

use crate::failure::{During, Failure};
use crate::host::fs;
use crate::receipt;
use crate::receipt::MAX_REPLACED;
use crate::recorder::data_dir::LEDGER;

pub(super) fn run(args: &Export, stream: &mut dyn Write) -> Result<Outcome, Failure> {
    let receipt = receipt::required(&args.lib_root)?;
    if !receipt.baked {
        return Err(Failure::new("what is installed here was not baked"));
    }
    let lib_root = Path::new(&args.lib_root);
    let root = &receipt.config.data_root;
    let mut tar = Tar { builder: tar::Builder::new(stream), entries: 0 };
    tar.tree(lib_root)?;
    for path in receipt.files.keys().filter(|path| !path.starts_with(lib_root) && !path.starts_with(root)) {
        tar.file(path)?;
    }
    tar.folder(root, 0o1777)?;
    tar.folder(&root.join(LEDGER), 0o1777)?;
    let entries = tar.entries;
    tar.builder.into_inner().during("write", "the tar")?;
    Ok(Outcome::ok(false, format!("sent {entries} paths"), Detail::Bundle(BundleDetail { entries })))
}

struct Tar<'a> {
    builder: tar::Builder<&'a mut dyn Write>,
    entries: u64,
}

impl Tar<'_> {
    /// A folder of ours with all that is in it, in the order of the names.
    fn tree(&mut self, folder: &Path) -> Result<(), Failure> {
        self.folder(folder, 0o755)?;
        let mut paths: Vec<_> = fs_err::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        paths.sort();
        for path in paths {
            if fs::look_at(&path)?.is_dir() {
                self.tree(&path)?;
            } else {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, mode: u32) -> Result<(), Failure> {
        self.add(path, tar::EntryType::Directory, mode, 0, &[])
    }

    /// Times stay: byte code is of a source of that time.
    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        use std::os::unix::fs::MetadataExt;
        let bytes = fs::read_limited(path, MAX_REPLACED)?;
        let found = fs_err::symlink_metadata(path)?;
        let time = u64::try_from(found.mtime()).unwrap_or_default();
        // Whoever a container runs as reads all of it, the receipt too.
        self.add(path, tar::EntryType::Regular, found.mode() & 0o755 | 0o644, time, &bytes)
    }

    fn add(
        &mut self,
        path: &Path,
        kind: tar::EntryType,
        mode: u32,
        time: u64,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(bytes.len() as u64);
        let name = path.strip_prefix("/").unwrap_or(path);
        self.builder.append_data(&mut header, name, bytes).during("write", path.display())?;
        self.entries += 1;
        Ok(())
    }
}
