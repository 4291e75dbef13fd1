//! Private keys from files: read once for all hosts, decrypted where somebody knows the passphrase.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Certificate, PrivateKey, PublicKey};

/// A key that a file names: with its private half, or, where ssh-agent has that, without.
pub(super) struct Identity {
    pub(super) public: PublicKey,
    pub(super) private: Option<Arc<PrivateKey>>,
    pub(super) certificates: Vec<Certificate>,
}

/// Identities by their files.
#[derive(Default)]
pub(crate) struct KeyRing(BTreeMap<PathBuf, Identity>);

#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyRingError {
    #[error("cannot read private key {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot use private key {path}: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("private key {path} wants a passphrase")]
    NoPassphrase { path: PathBuf },
}

/// A file to read, and what its absence means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyFile {
    /// Somebody asked for this key: it must be there and open.
    Wanted(PathBuf),
    /// ssh_config names it: passed over where it is not there.
    Configured(PathBuf),
    /// One of those that are tried where none is named: passed over where it does not open by itself.
    Default(PathBuf),
}

impl KeyFile {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Wanted(path) | Self::Configured(path) | Self::Default(path) => path,
        }
    }
}

impl KeyRing {
    /// Loads keys; `passphrase` is asked once for each that wants one and that is not in ssh-agent.
    pub(crate) async fn load(
        files: impl IntoIterator<Item = KeyFile>,
        agents: impl IntoIterator<Item = PathBuf>,
        passphrase: &mut (dyn FnMut(&Path) -> Option<String> + Send),
    ) -> Result<Self, KeyRingError> {
        let mut held = Vec::new();
        for socket in agents {
            held.extend(held_by(&socket).await);
        }
        let mut ring = Self::default();
        for file in files {
            if ring.0.contains_key(file.path()) {
                continue;
            }
            let found = match read_identity(file.path(), &held, passphrase, &file) {
                Err(_) if matches!(file, KeyFile::Default(_)) => None,
                Err(KeyRingError::Read { .. }) if matches!(file, KeyFile::Configured(_)) => None,
                other => Some(other?),
            };
            if let Some(identity) = found {
                ring.0.insert(file.path().to_owned(), identity);
            }
        }
        Ok(ring)
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Identity> {
        self.0.get(path)
    }
}

/// The public keys that an ssh-agent holds; none where it does not answer.
async fn held_by(socket: &Path) -> Vec<PublicKey> {
    let Ok(mut agent) = AgentClient::connect_uds(socket).await else { return Vec::new() };
    let identities = agent.request_identities().await.unwrap_or_default();
    identities
        .into_iter()
        .filter_map(|identity| match identity {
            AgentIdentity::PublicKey { key, .. } => Some(key),
            AgentIdentity::Certificate { .. } => None,
        })
        .collect()
}

fn read_identity(
    path: &Path,
    held: &[PublicKey],
    passphrase: &mut (dyn FnMut(&Path) -> Option<String> + Send),
    file: &KeyFile,
) -> Result<Identity, KeyRingError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| KeyRingError::Read { path: path.to_owned(), source })?;
    let damaged = |reason: String| KeyRingError::Damaged { path: path.to_owned(), reason };
    let certificates = read_certificate(&beside(path, "-cert.pub")).into_iter().collect();
    // The public half alone names a key of ssh-agent's.
    if let Ok(public) = PublicKey::from_openssh(text.trim()) {
        return Ok(Identity { public, private: None, certificates });
    }
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) => {
            Ok(Identity { public: key.public_key().clone(), private: Some(Arc::new(key)), certificates })
        }
        Err(russh::keys::Error::KeyIsEncrypted) => {
            let public = public_half(path, &text);
            if let Some(public) =
                public.filter(|public| held.iter().any(|held| held.key_data() == public.key_data()))
            {
                return Ok(Identity { public, private: None, certificates });
            }
            let wanted = !matches!(file, KeyFile::Default(_));
            let word = wanted.then(|| passphrase(path)).flatten();
            let word = word.ok_or_else(|| KeyRingError::NoPassphrase { path: path.to_owned() })?;
            let key = russh::keys::decode_secret_key(&text, Some(&word))
                .map_err(|_| damaged("the passphrase is wrong".to_owned()))?;
            Ok(Identity { public: key.public_key().clone(), private: Some(Arc::new(key)), certificates })
        }
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// The public half of an encrypted key: OpenSSH's own form has it in clear, others keep it beside.
fn public_half(path: &Path, text: &str) -> Option<PublicKey> {
    PrivateKey::from_openssh(text).map(|key| key.public_key().clone()).ok().or_else(|| {
        let text = std::fs::read_to_string(beside(path, ".pub")).ok()?;
        PublicKey::from_openssh(text.trim()).ok()
    })
}

pub(super) fn read_certificate(path: &Path) -> Option<Certificate> {
    Certificate::from_openssh(std::fs::read_to_string(path).ok()?.trim()).ok()
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
