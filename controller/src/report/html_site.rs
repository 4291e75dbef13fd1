//! An HTML report on disk: whole or not at all, and never over files of somebody else.

use std::path::{Path, PathBuf};

use pulpcov_coverage::render::html::{ASSETS, Site};
use rayon::prelude::*;

/// What says that a folder is an HTML report, and may be replaced by the next one.
const MARKER: &str = ".pulpcov-html";

#[derive(Debug, thiserror::Error)]
pub(crate) enum SiteError {
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{0} is no folder")]
    NoFolder(PathBuf),
    #[error("{0} has files in it that are no HTML report of pulpcov")]
    Foreign(PathBuf),
}

/// Refuses a place where a report would replace what is no report: asked before the work is done.
pub(crate) fn check(folder: &Path) -> Result<(), SiteError> {
    // To other options that is stdout.
    if folder == Path::new("-") {
        return Err(SiteError::NoFolder(folder.to_owned()));
    }
    match std::fs::metadata(folder) {
        Err(_) if folder.is_symlink() => return Err(SiteError::NoFolder(folder.to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SiteError::Write { path: folder.to_owned(), source }),
        Ok(found) if !found.is_dir() => return Err(SiteError::NoFolder(folder.to_owned())),
        Ok(_) => {}
    }
    let write = |source| SiteError::Write { path: folder.to_owned(), source };
    let is_empty = fs_err::read_dir(folder).map_err(write)?.next().is_none();
    if is_empty || folder.join(MARKER).is_file() {
        Ok(())
    } else {
        Err(SiteError::Foreign(folder.to_owned()))
    }
}

/// Writes all pages into a folder beside, then puts that in place. It can be made again from the run
/// at any time, so its files are not synced one by one.
pub(crate) fn write(folder: &Path, site: &Site<'_>) -> Result<(), SiteError> {
    check(folder)?;
    let failed = |source| SiteError::Write { path: folder.to_owned(), source };
    // A link, or a name such as `.`: its own folder is replaced, and not the link.
    let folder =
        &if folder.exists() { std::fs::canonicalize(folder).map_err(failed)? } else { folder.to_owned() };
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::create_dir_all(parent).map_err(failed)?;
    let new = tempfile::Builder::new().prefix(".pulpcov-html-").tempdir_in(parent).map_err(failed)?;
    let place = |name: &str, bytes: &[u8]| std::fs::write(new.path().join(name), bytes);
    for (name, text) in ASSETS {
        place(name, text.as_bytes()).map_err(failed)?;
    }
    site.pages()
        .into_par_iter()
        .try_for_each(|page| place(site.name(page), site.render(page).as_bytes()))
        .map_err(failed)?;
    place(MARKER, b"").map_err(failed)?;
    open_to_readers(new.path()).map_err(failed)?;
    if folder.exists() {
        let old = tempfile::Builder::new().prefix(".pulpcov-html-").tempdir_in(parent).map_err(failed)?;
        fs_err::rename(folder, old.path().join("old")).map_err(failed)?;
        if let Err(source) = fs_err::rename(new.path(), folder) {
            let _ = std::fs::rename(old.path().join("old"), folder);
            return Err(failed(source));
        }
    } else {
        fs_err::rename(new.path(), folder).map_err(failed)?;
    }
    // It has its name now: nothing is left to clean up.
    let _ = new.keep();
    Ok(())
}

/// Temporary folders are private; a report is to be read, as any file that the user makes is.
fn open_to_readers(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}
