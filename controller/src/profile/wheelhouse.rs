//! A folder of wheels on the controller, pushed to hosts that need one.

use std::path::{Path, PathBuf};

use pulpcov_protocol::op::Wheel;
use pulpcov_protocol::outcome::Interpreter;
use pulpcov_protocol::text::hex;
use pulpcov_protocol::wheel::choose;
use sha2::{Digest, Sha256};

pub(crate) struct Wheelhouse {
    folder: PathBuf,
    names: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WheelhouseError {
    #[error("cannot read the wheelhouse")]
    Read(#[source] std::io::Error),
    #[error("{folder} has no wheel of coverage")]
    NoCoverage { folder: PathBuf },
    #[error("{folder} has no wheel of coverage {version} for {tag}")]
    Missing { folder: PathBuf, version: String, tag: String },
}

impl Wheelhouse {
    pub(crate) fn open(folder: &Path) -> Result<Self, WheelhouseError> {
        let entries = fs_err::read_dir(folder).map_err(WheelhouseError::Read)?;
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.retain(|name| name.starts_with("coverage-"));
        names.sort();
        if names.is_empty() {
            return Err(WheelhouseError::NoCoverage { folder: folder.to_owned() });
        }
        Ok(Self { folder: folder.to_owned(), names })
    }

    /// The wheels that these interpreters still need, each once, with their bytes.
    pub(crate) fn for_host(
        &self,
        interpreters: &[Interpreter],
    ) -> Result<Vec<(Wheel, Vec<u8>)>, WheelhouseError> {
        let mut wheels: Vec<(Wheel, Vec<u8>)> = Vec::new();
        for python in interpreters.iter().filter(|python| !python.coverage_present) {
            let Some(name) = choose(&self.names, python) else {
                let tag = python.tags.first().cloned().unwrap_or_default();
                return Err(WheelhouseError::Missing {
                    folder: self.folder.clone(),
                    version: python.coverage.clone(),
                    tag,
                });
            };
            if wheels.iter().any(|(wheel, _)| wheel.file_name == name) {
                continue;
            }
            let bytes = fs_err::read(self.folder.join(name)).map_err(WheelhouseError::Read)?;
            let sha256 = hex(Sha256::digest(&bytes));
            wheels.push((Wheel { file_name: name.to_owned(), sha256, size: bytes.len() as u64 }, bytes));
        }
        Ok(wheels)
    }
}
