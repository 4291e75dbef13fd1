//! Logging in: certificates and keys from files, ssh-agent, then a password; each once.

use std::path::PathBuf;
use std::sync::Arc;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Certificate, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::{MethodKind, MethodSet};

use crate::transport::ssh::config::Methods;
use crate::transport::ssh::error::{HostWords, SshError};
use crate::transport::ssh::host_key::Checker;
use crate::transport::ssh::keys::{KeyFile, KeyRing, read_certificate};

/// What to log in with.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) keys: Vec<KeyFile>,
    /// Certificates that stand in files of their own.
    pub(crate) certificates: Vec<PathBuf>,
    /// Socket of ssh-agent.
    pub(crate) agent: Option<PathBuf>,
    /// Of ssh-agent's keys only those that `keys` names.
    pub(crate) identities_only: bool,
    pub(crate) password: Option<String>,
    pub(crate) methods: Methods,
}

/// Tries each credential once. Nothing is ever tried again: accounts get locked.
pub(super) async fn authenticate(
    handle: &mut Handle<Checker>,
    login: &Login,
    ring: &KeyRing,
) -> Result<(), SshError> {
    let mut attempt = Attempt { handle, user: &login.user, tried: Vec::new(), offered: None };
    let done = (login.methods.publickey && attempt.with_keys(login, ring).await?)
        || attempt.with_password(login).await?;
    if done {
        return Ok(());
    }
    let tried = if attempt.tried.is_empty() { "nothing to try".to_owned() } else { attempt.tried.join(", ") };
    Err(SshError::Denied { user: login.user.clone(), tried, words: HostWords::default() })
}

struct Attempt<'a> {
    handle: &'a mut Handle<Checker>,
    user: &'a str,
    tried: Vec<String>,
    /// What the host takes, once it has said so.
    offered: Option<MethodSet>,
}

impl Attempt<'_> {
    /// Keys of files that somebody named, those of ssh-agent, and the default ones.
    async fn with_keys(&mut self, login: &Login, ring: &KeyRing) -> Result<bool, SshError> {
        let is_default = |file: &&KeyFile| matches!(file, KeyFile::Default(_));
        let named = || login.keys.iter().filter(|file| !is_default(file));
        let others: Vec<Certificate> =
            login.certificates.iter().filter_map(|path| read_certificate(path)).collect();
        for file in named() {
            if self.with_file(file, ring, &others).await? {
                return Ok(true);
            }
        }
        if let Some(socket) = &login.agent {
            let only: Option<Vec<&PublicKey>> = login
                .identities_only
                .then(|| login.keys.iter().filter_map(|file| Some(&ring.get(file.path())?.public)).collect());
            if self.with_agent(socket, only.as_deref(), login, ring).await? {
                return Ok(true);
            }
        }
        for file in login.keys.iter().filter(is_default) {
            if self.with_file(file, ring, &others).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn with_file(
        &mut self,
        file: &KeyFile,
        ring: &KeyRing,
        others: &[Certificate],
    ) -> Result<bool, SshError> {
        let Some(identity) = ring.get(file.path()) else { return Ok(false) };
        let Some(private) = &identity.private else { return Ok(false) };
        let own = others.iter().filter(|other| other.public_key() == identity.public.key_data());
        for certificate in identity.certificates.iter().chain(own) {
            if self.wants_no_more_keys() {
                return Ok(false);
            }
            self.tried.push(format!("certificate {:?}", certificate.key_id()));
            let result = self
                .handle
                .authenticate_openssh_cert(self.user, Arc::clone(private), certificate.clone())
                .await
                .map_err(SshError::during_auth)?;
            if self.note(&result) {
                return Ok(true);
            }
        }
        if self.wants_no_more_keys() {
            return Ok(false);
        }
        self.tried.push(format!("key {}", file.path().display()));
        self.with_private(private).await
    }

    async fn with_private(&mut self, key: &Arc<PrivateKey>) -> Result<bool, SshError> {
        let hash = self.rsa_hash(key.public_key()).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
        let result =
            self.handle.authenticate_publickey(self.user, key).await.map_err(SshError::during_auth)?;
        Ok(self.note(&result))
    }

    async fn with_agent(
        &mut self,
        socket: &std::path::Path,
        only: Option<&[&PublicKey]>,
        login: &Login,
        ring: &KeyRing,
    ) -> Result<bool, SshError> {
        // A dead ssh-agent is no reason to fail where a key file would do.
        let Ok(mut agent) = AgentClient::connect_uds(socket).await else { return Ok(false) };
        let Ok(identities) = agent.request_identities().await else { return Ok(false) };
        let by_file = |key: &PublicKey| {
            let mut found = login.keys.iter().filter_map(|file| ring.get(file.path()));
            found.any(|one| one.private.is_some() && one.public.key_data() == key.key_data())
        };
        for identity in identities {
            let (key, certificate, comment) = match identity {
                AgentIdentity::PublicKey { key, comment } => (key, None, comment),
                AgentIdentity::Certificate { certificate, comment } => {
                    (PublicKey::from(certificate.public_key().clone()), Some(certificate), comment)
                }
            };
            let allowed = only.is_none_or(|only| only.iter().any(|one| one.key_data() == key.key_data()));
            if !allowed || (certificate.is_none() && by_file(&key)) || self.wants_no_more_keys() {
                continue;
            }
            self.tried.push(format!("ssh-agent key {comment}"));
            let hash = self.rsa_hash(&key).await?;
            let result = match certificate {
                Some(certificate) => {
                    self.handle.authenticate_certificate_with(self.user, certificate, hash, &mut agent).await
                }
                None => self.handle.authenticate_publickey_with(self.user, key, hash, &mut agent).await,
            };
            match result {
                Ok(result) if self.note(&result) => return Ok(true),
                Ok(_) => {}
                // An agent that refuses to sign (a locked one, a confirmation that was denied).
                Err(_) if !self.handle.is_closed() => {}
                Err(error) => return Err(SshError::auth(error.to_string())),
            }
        }
        Ok(false)
    }

    /// By the method that the host offers; never by both, for they would count twice against the account.
    async fn with_password(&mut self, login: &Login) -> Result<bool, SshError> {
        let Some(password) = &login.password else { return Ok(false) };
        if self.offered.is_none() {
            let result = self.handle.authenticate_none(self.user).await.map_err(SshError::during_auth)?;
            if self.note(&result) {
                return Ok(true);
            }
        }
        if login.methods.password && self.takes(MethodKind::Password) {
            self.tried.push("password".to_owned());
            let result = self
                .handle
                .authenticate_password(self.user, password)
                .await
                .map_err(SshError::during_auth)?;
            return Ok(self.note(&result));
        }
        if login.methods.keyboard_interactive && self.takes(MethodKind::KeyboardInteractive) {
            return self.with_questions(password).await;
        }
        Ok(false)
    }

    /// keyboard-interactive: the password is the answer to the one question that hides what is typed.
    async fn with_questions(&mut self, password: &str) -> Result<bool, SshError> {
        self.tried.push("keyboard-interactive".to_owned());
        let mut answered = false;
        let mut response = self
            .handle
            .authenticate_keyboard_interactive_start(self.user, None)
            .await
            .map_err(SshError::during_auth)?;
        loop {
            let prompts = match response {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
            };
            let mut answers = Vec::new();
            for prompt in &prompts {
                if prompt.echo || answered {
                    let question = crate::output::terminal::printable(prompt.prompt.trim());
                    return Err(SshError::auth(format!(
                        "the host asks {question:?}, which nobody is here to answer"
                    )));
                }
                answered = true;
                answers.push(password.to_owned());
            }
            response = self
                .handle
                .authenticate_keyboard_interactive_respond(answers)
                .await
                .map_err(SshError::during_auth)?;
        }
    }

    /// Whether that was a success; what the host takes next is kept.
    fn note(&mut self, result: &AuthResult) -> bool {
        match result {
            AuthResult::Success => true,
            AuthResult::Failure { remaining_methods, partial_success } => {
                if *partial_success && let Some(last) = self.tried.last_mut() {
                    last.push_str(" (taken, but the host wants more)");
                }
                self.offered = Some(remaining_methods.clone());
                false
            }
        }
    }

    fn takes(&self, method: MethodKind) -> bool {
        self.offered.as_ref().is_none_or(|offered| offered.contains(&method))
    }

    /// After a key was taken as the first of several proofs.
    fn wants_no_more_keys(&self) -> bool {
        !self.takes(MethodKind::PublicKey)
    }

    /// Asked only for RSA: the answer may take a second.
    async fn rsa_hash(&self, key: &PublicKey) -> Result<Option<russh::keys::HashAlg>, SshError> {
        if key.algorithm().is_rsa() {
            return Ok(self.handle.best_supported_rsa_hash().await.map_err(SshError::during_auth)?.flatten());
        }
        Ok(None)
    }
}
