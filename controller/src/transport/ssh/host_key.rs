//! Whether a host is the one that it should be: its key or certificate against the known hosts.

use std::borrow::Cow;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pulpcov_protocol::text::wildcard;
use russh::keys::ssh_key::Algorithm;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Preferred, client};

use crate::transport::ssh::error::SshError;
use crate::transport::ssh::known_hosts::{self, HostKeyVerdict, KnownHost};

/// Known hosts, and what becomes of a host that is not among them.
#[derive(Default)]
pub(crate) struct Trust {
    pub(super) known: Vec<KnownHost>,
    /// Where new hosts are written; they are refused without.
    pub(super) new_hosts: Option<NewHosts>,
}

/// The file that takes the keys of new hosts, and those that this run has added.
pub(crate) struct NewHosts {
    pub(super) file: PathBuf,
    pub(super) hash: bool,
    pub(super) added: Mutex<Vec<KnownHost>>,
}

impl Trust {
    fn judge(&self, names: &[String], key: &PublicKey, bytes: &[u8]) -> Result<(), SshError> {
        let name = names.first().cloned().unwrap_or_default();
        let kind = key.algorithm();
        let fingerprint = || key.fingerprint(HashAlg::Sha256).to_string();
        let text = |path: PathBuf| path.display().to_string();
        match known_hosts::judge(&self.known, names, kind.as_str(), bytes) {
            HostKeyVerdict::Known => Ok(()),
            HostKeyVerdict::Unknown => match &self.new_hosts {
                Some(new_hosts) => new_hosts.add(names, key, bytes),
                None => Err(SshError::HostKeyUnknown { name, fingerprint: fingerprint() }),
            },
            HostKeyVerdict::Changed { file, line } => {
                Err(SshError::HostKeyChanged { name, file: text(file), line, fingerprint: fingerprint() })
            }
            HostKeyVerdict::Revoked { file, line } => {
                Err(SshError::HostKeyRevoked { name, file: text(file), line })
            }
        }
    }

    /// A certificate counts where an authority for the host signed it; where none is known its key is
    /// judged as any other.
    fn judge_certificate(&self, names: &[String], shown: &Certificate, host: &str) -> Result<(), SshError> {
        let name = names.first().cloned().unwrap_or_default();
        let damaged = |_| SshError::Handshake("a host certificate of no known form".to_owned());
        let authority = PublicKey::from(shown.signature_key().clone());
        let (key, authority_bytes) =
            (PublicKey::from(shown.public_key().clone()), authority.to_bytes().map_err(damaged)?);
        let key_bytes = key.to_bytes().map_err(damaged)?;
        for bytes in [&key_bytes, &authority_bytes] {
            if let Some(entry) = known_hosts::revocation(&self.known, names, bytes) {
                let file = entry.file.display().to_string();
                return Err(SshError::HostKeyRevoked { name, file, line: entry.line });
            }
        }
        if !known_hosts::is_authority(&self.known, names, &authority_bytes) {
            return self.judge(names, &key, &key_bytes);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match fault(shown, &authority, host, now) {
            None => Ok(()),
            Some(reason) => Err(SshError::HostCertificate { name, reason }),
        }
    }
}

/// Why a certificate of a trusted authority does not count for `host`.
fn fault(certificate: &Certificate, authority: &PublicKey, host: &str, now: u64) -> Option<String> {
    if certificate.cert_type() != CertType::Host {
        return Some("it is a user's".to_owned());
    }
    if now < certificate.valid_after() {
        return Some("it is not valid yet".to_owned());
    }
    if now >= certificate.valid_before() {
        return Some("it has expired".to_owned());
    }
    // No principals: for any host, as OpenSSH has it.
    let principals = certificate.valid_principals();
    let host = host.to_ascii_lowercase();
    let fits = |principal: &String| wildcard(&principal.to_ascii_lowercase(), &host);
    if !principals.is_empty() && !principals.iter().any(fits) {
        return Some(format!("it is for {}", principals.join(", ")));
    }
    if let Some((option, _)) = certificate.critical_options().iter().next() {
        return Some(format!("its critical option {option} is not known"));
    }
    let fingerprint = authority.fingerprint(HashAlg::Sha256);
    certificate.validate_at(now, [&fingerprint]).err().map(|_| "its signature is wrong".to_owned())
}

impl NewHosts {
    pub(super) fn said(&self) -> Option<String> {
        let added = self.added.lock().unwrap_or_else(PoisonError::into_inner).len();
        let what = if added == 1 { "a host that was" } else { "hosts that were" };
        (added > 0).then(|| format!("{added} {what} not known: added to {}", self.file.display()))
    }

    /// Writes a host's key down, once: a host that shows another key later in the run is refused.
    fn add(&self, names: &[String], key: &PublicKey, bytes: &[u8]) -> Result<(), SshError> {
        let kind = key.algorithm();
        let name = names.first().cloned().unwrap_or_default();
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        match known_hosts::judge(&added, names, kind.as_str(), bytes) {
            HostKeyVerdict::Known => return Ok(()),
            HostKeyVerdict::Unknown => {}
            HostKeyVerdict::Changed { .. } | HostKeyVerdict::Revoked { .. } => {
                let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
                let file = self.file.display().to_string();
                return Err(SshError::HostKeyChanged { name, file, line: 0, fingerprint });
            }
        }
        let line =
            append(&self.file, |salt| known_hosts::new_line(&name, self.hash, kind.as_str(), bytes, salt))
                .map_err(|source| SshError::NewHostKey {
                    name,
                    file: self.file.display().to_string(),
                    source,
                })?;
        added.extend(known_hosts::parse(&line, &self.file));
        Ok(())
    }
}

/// Appends one line as a whole; other programs may write to the file at the same time.
fn append(file: &Path, line: impl FnOnce([u8; 20]) -> String) -> std::io::Result<String> {
    let mut salt = [0; 20];
    getrandom::fill(&mut salt)?;
    let mut line = line(salt);
    if let Some(folder) = file.parent() {
        fs_err::create_dir_all(folder)?;
    }
    // A last line without an end must not swallow ours.
    if fs_err::read(file).is_ok_and(|bytes| bytes.last().is_some_and(|&byte| byte != b'\n')) {
        line.insert(0, '\n');
    }
    let mut options = fs_err::OpenOptions::new();
    let mut file = options.create(true).append(true).open(file)?;
    file.write_all(line.as_bytes())?;
    match file.sync_all() {
        // A device, such as /dev/null.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {}
        other => other?,
    }
    Ok(line.trim_start().to_owned())
}

/// What host key algorithms to ask for: of the types that are known first, and certificates where an
/// authority is known.
pub(super) fn preferred(trust: &Trust, names: &[String]) -> Preferred {
    let types = known_hosts::known_types(&trust.known, names);
    let mut keys: Vec<Algorithm> = Preferred::DEFAULT.key.to_vec();
    // Stable: known types first, each group in the library's order. An RSA key is known as ssh-rsa
    // whatever hash it signs with.
    keys.sort_by_key(|algorithm| {
        let is_known = types.iter().any(|known| {
            known == algorithm.as_str() || (known == "ssh-rsa" && matches!(algorithm, Algorithm::Rsa { .. }))
        });
        !is_known
    });
    let certificates =
        if known_hosts::has_authority(&trust.known, names) { keys.clone() } else { Vec::new() };
    Preferred { key: Cow::Owned(keys), host_key_certificates: Cow::Owned(certificates), ..Preferred::DEFAULT }
}

/// Judges what the server shows in the handshake, and keeps the refusal for the error.
pub(super) struct Checker {
    pub(super) trust: Arc<Trust>,
    /// What known_hosts may call the host.
    pub(super) names: Vec<String>,
    /// What a certificate calls it.
    pub(super) principal: String,
    pub(super) refusal: Arc<Mutex<Option<SshError>>>,
    /// What the host said to whoever logs in: a banner, why an account may not, why it hung up.
    pub(super) words: Arc<Mutex<Vec<String>>>,
}

impl Checker {
    fn heard(&self, words: &str) {
        /// Of a banner that is a page of law only the end counts.
        const LINES: usize = 3;
        if let Ok(mut heard) = self.words.lock() {
            let lines = words.lines().map(str::trim).filter(|line| !line.is_empty());
            heard.extend(lines.map(|line| line.chars().take(200).collect::<String>()));
            let surplus = heard.len().saturating_sub(LINES);
            heard.drain(..surplus);
        }
    }
}

impl client::Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let judged = match shown {
            PublicKeyOrCertificate::Certificate(certificate) => {
                self.trust.judge_certificate(&self.names, certificate, &self.principal)
            }
            PublicKeyOrCertificate::PublicKey { key, .. } => match key.to_bytes() {
                Ok(bytes) => self.trust.judge(&self.names, key, &bytes),
                Err(_) => Err(SshError::Handshake("a host key of no known form".to_owned())),
            },
        };
        let accepted = judged.is_ok();
        if let Ok(mut slot) = self.refusal.lock() {
            *slot = judged.err();
        }
        Ok(accepted)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut client::Session) -> Result<(), Self::Error> {
        self.heard(banner);
        Ok(())
    }

    async fn disconnected(
        &mut self,
        reason: client::DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        match reason {
            client::DisconnectReason::ReceivedDisconnect(info) => {
                self.heard(&info.message);
                Ok(())
            }
            client::DisconnectReason::Error(error) => Err(error),
        }
    }
}
