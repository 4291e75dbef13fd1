//! The agents that this controller brings along: one for each machine type.

use std::path::{Path, PathBuf};

use pulpcov_protocol::text::hex;
use sha2::{Digest, Sha256};

use crate::agent::bootstrap::Offer;

/// An agent binary in memory.
pub(crate) struct AgentBinary {
    pub(crate) bytes: Vec<u8>,
    sha256: String,
}

impl AgentBinary {
    pub(crate) fn offer(&self) -> Offer<'_> {
        Offer { sha256: &self.sha256, size: self.bytes.len() }
    }
}

/// Agents by machine type.
pub(crate) struct AgentBinaries {
    pub(crate) x86_64: Option<AgentBinary>,
    pub(crate) aarch64: Option<AgentBinary>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentBinaryError {
    #[error("no pulpcov-agent-x86_64 and no pulpcov-agent-aarch64 in {}", searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound { searched: Vec<PathBuf> },
    #[error("cannot read an agent")]
    Read(#[source] std::io::Error),
}

impl AgentBinaries {
    /// Finds the agents: in `folder` if one was named, else beside this program and where packages
    /// put them.
    pub(crate) fn find(folder: Option<&Path>) -> Result<Self, AgentBinaryError> {
        let folders = match folder {
            Some(folder) => vec![folder.to_owned()],
            None => default_folders(),
        };
        let x86_64 = find_one(&folders, "pulpcov-agent-x86_64")?;
        let aarch64 = find_one(&folders, "pulpcov-agent-aarch64")?;
        if x86_64.is_none() && aarch64.is_none() {
            return Err(AgentBinaryError::NotFound { searched: folders });
        }
        Ok(Self { x86_64, aarch64 })
    }

    /// The agent that a host of type `machine` asked for.
    pub(crate) fn for_machine(&self, machine: &str) -> Option<&AgentBinary> {
        match machine {
            "x86_64" | "amd64" => self.x86_64.as_ref(),
            "aarch64" | "arm64" => self.aarch64.as_ref(),
            _ => None,
        }
    }
}

fn default_folders() -> Vec<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    let beside = program.parent().unwrap_or(Path::new("/")).to_owned();
    let above = beside.parent().unwrap_or(Path::new("/")).to_owned();
    vec![beside, above.join("agents"), above.join("lib").join("pulpcov")]
}

fn find_one(folders: &[PathBuf], name: &str) -> Result<Option<AgentBinary>, AgentBinaryError> {
    let Some(path) = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file()) else {
        return Ok(None);
    };
    let bytes = fs_err::read(path).map_err(AgentBinaryError::Read)?;
    let sha256 = hex(Sha256::digest(&bytes));
    Ok(Some(AgentBinary { bytes, sha256 }))
}
