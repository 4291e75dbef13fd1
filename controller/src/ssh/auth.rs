//! Who we are to a host: keys from files, the ssh-agent, a password; in that order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg};

use super::session::{Checker, SshError};

/// Private keys by their files, decrypted once for all hosts.
#[derive(Default)]
pub(crate) struct KeyRing {
    keys: BTreeMap<PathBuf, Arc<PrivateKey>>,
    defaults: Vec<Arc<PrivateKey>>,
    use_agent: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyRingError {
    #[error("cannot read private key {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot use private key {path}: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("private key {path} wants a passphrase")]
    NoPassphrase { path: PathBuf },
}

impl KeyRing {
    /// Loads the named keys, and the user's default ones where they open without a passphrase.
    /// `passphrase` is asked once for each key that wants one.
    pub(crate) fn load(
        named: impl IntoIterator<Item = PathBuf>,
        passphrase: &mut dyn FnMut(&Path) -> Option<String>,
    ) -> Result<Self, KeyRingError> {
        let mut ring = Self { use_agent: std::env::var_os("SSH_AUTH_SOCK").is_some(), ..Self::default() };
        for path in named {
            if let Entry::Vacant(entry) = ring.keys.entry(path) {
                let key = read_key(entry.key(), passphrase)?;
                entry.insert(Arc::new(key));
            }
        }
        if let Some(home) = std::env::home_dir() {
            for name in ["id_ed25519", "id_ecdsa", "id_rsa"] {
                let path = home.join(".ssh").join(name);
                // A default key with a passphrase is for the ssh-agent; nobody asked for it here.
                if let Ok(key) = read_key(&path, &mut |_| None) {
                    ring.defaults.push(Arc::new(key));
                }
            }
        }
        Ok(ring)
    }
}

fn read_key(
    path: &Path,
    passphrase: &mut dyn FnMut(&Path) -> Option<String>,
) -> Result<PrivateKey, KeyRingError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| KeyRingError::Read { path: path.to_owned(), source })?;
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) => Ok(key),
        Err(russh::keys::Error::KeyIsEncrypted) => {
            let word =
                passphrase(path).ok_or_else(|| KeyRingError::NoPassphrase { path: path.to_owned() })?;
            russh::keys::decode_secret_key(&text, Some(&word)).map_err(|_| KeyRingError::Damaged {
                path: path.to_owned(),
                reason: "the passphrase is wrong".to_owned(),
            })
        }
        Err(error) => Err(KeyRingError::Damaged { path: path.to_owned(), reason: error.to_string() }),
    }
}

/// Who to log in as, and with what.
pub(super) struct Credentials<'a> {
    pub(super) user: &'a str,
    pub(super) private_key: Option<&'a Path>,
    pub(super) password: Option<&'a str>,
    pub(super) ring: &'a KeyRing,
}

/// Tries each credential once. Nothing is ever tried again: accounts get locked.
pub(super) async fn authenticate(
    handle: &mut Handle<Checker>,
    credentials: &Credentials<'_>,
) -> Result<(), SshError> {
    let mut tried = Vec::new();
    if let Some(path) = credentials.private_key {
        if let Some(key) = credentials.ring.keys.get(path) {
            tried.push(format!("key {}", path.display()));
            if try_key(handle, credentials.user, key).await? {
                return Ok(());
            }
        }
    } else {
        if credentials.ring.use_agent && try_ssh_agent(handle, credentials.user, &mut tried).await? {
            return Ok(());
        }
        for key in &credentials.ring.defaults {
            tried.push(format!("{} key", key.algorithm()));
            if try_key(handle, credentials.user, key).await? {
                return Ok(());
            }
        }
    }
    if let Some(password) = credentials.password {
        tried.push("password".to_owned());
        if handle
            .authenticate_password(credentials.user, password)
            .await
            .map_err(SshError::during_auth)?
            .success()
        {
            return Ok(());
        }
    }
    Err(SshError::Denied {
        user: credentials.user.to_owned(),
        tried: if tried.is_empty() { "nothing to try".to_owned() } else { tried.join(", ") },
    })
}

async fn try_key(handle: &mut Handle<Checker>, user: &str, key: &Arc<PrivateKey>) -> Result<bool, SshError> {
    // Asked only for RSA: the answer may take a second.
    let hash = if key.algorithm().is_rsa() {
        handle.best_supported_rsa_hash().await.map_err(SshError::during_auth)?.flatten()
    } else {
        None
    };
    let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
    Ok(handle.authenticate_publickey(user, key).await.map_err(SshError::during_auth)?.success())
}

async fn try_ssh_agent(
    handle: &mut Handle<Checker>,
    user: &str,
    tried: &mut Vec<String>,
) -> Result<bool, SshError> {
    // A dead ssh-agent is no reason to fail where a key file would do.
    let Ok(mut agent) = AgentClient::connect_env().await else { return Ok(false) };
    let Ok(identities) = agent.request_identities().await else { return Ok(false) };
    for identity in identities {
        let AgentIdentity::PublicKey { key, comment } = identity else { continue };
        tried.push(format!("ssh-agent key {comment}"));
        let hash = if key.algorithm().is_rsa() {
            handle.best_supported_rsa_hash().await.map_err(SshError::during_auth)?.flatten()
        } else {
            None
        };
        match handle.authenticate_publickey_with(user, key, hash, &mut agent).await {
            Ok(AuthResult::Success) => return Ok(true),
            Ok(AuthResult::Failure { .. }) => {}
            // An agent that refuses to sign (a locked one, a confirmation that was denied).
            Err(_) if !handle.is_closed() => {}
            Err(error) => return Err(SshError::Auth(error.to_string())),
        }
    }
    Ok(false)
}
