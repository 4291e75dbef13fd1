//! Ansible's vault: values and files that a password opens.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aes::Aes256;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;

/// The first word of a vault's text.
const HEADER: &str = "$ANSIBLE_VAULT";

/// Rounds of the key derivation; the format fixes them.
const ROUNDS: u32 = 10_000;

/// Longest password.
const MAX_PASSWORD: u64 = 64 * 1024;

/// Passwords with the ids that they are for.
#[derive(Default, Clone)]
pub(crate) struct Secrets {
    words: Vec<(String, String)>,
}

// Passwords are for nobody's log.
impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.words.len())
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("it is vault-encrypted, and no vault password is given")]
    NoSecret,
    #[error("no vault password opens it")]
    WrongSecret,
    #[error("a vault that is damaged or of another format: {0}")]
    Format(&'static str),
    #[error("cannot read the vault password from {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} ended with {status}")]
    Script { path: PathBuf, status: std::process::ExitStatus },
    #[error("the vault password of {0} is empty")]
    Empty(PathBuf),
}

/// Whether a text is a vault.
pub(crate) fn is_vault(text: &str) -> bool {
    text.starts_with(HEADER)
}

impl Secrets {
    pub(crate) fn add(&mut self, id: &str, password: &str) {
        self.words.push((id.to_owned(), password.to_owned()));
    }

    /// Adds the password of a file, or the one that it prints where it can be executed.
    pub(crate) fn add_file(&mut self, id: &str, path: &Path) -> Result<(), VaultError> {
        let failed = |source| VaultError::Read { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let is_script = file.metadata().map_err(failed)?.permissions().mode() & 0o111 != 0;
        let mut password = String::new();
        if is_script {
            password = ask_script(id, path)?;
        } else {
            file.take(MAX_PASSWORD).read_to_string(&mut password).map_err(failed)?;
        }
        let password = password.trim();
        if password.is_empty() {
            return Err(VaultError::Empty(path.to_owned()));
        }
        self.add(id, password);
        Ok(())
    }

    /// Opens a vault; the passwords of its own id come first.
    pub(crate) fn open(&self, text: &str) -> Result<String, VaultError> {
        let (header, body) = text.trim().split_once('\n').ok_or(VaultError::Format("it has no body"))?;
        let mut fields = header.trim().split(';');
        let (_, version, cipher) = (fields.next(), fields.next(), fields.next());
        if !matches!(version, Some("1.1" | "1.2")) || cipher != Some("AES256") {
            return Err(VaultError::Format("not version 1.1 or 1.2 with AES256"));
        }
        let id = fields.next().unwrap_or("default");
        let sealed = Sealed::read(body)?;
        let (own, others): (Vec<_>, Vec<_>) = self.words.iter().partition(|(of, _)| of == id);
        if self.words.is_empty() {
            return Err(VaultError::NoSecret);
        }
        let opened = own.into_iter().chain(others).find_map(|(_, password)| sealed.open(password));
        let plain = opened.ok_or(VaultError::WrongSecret)?;
        String::from_utf8(plain).map_err(|_| VaultError::Format("it holds no text"))
    }
}

/// A client script is told which id it is asked for.
fn ask_script(id: &str, path: &Path) -> Result<String, VaultError> {
    let failed = |source| VaultError::Read { path: path.to_owned(), source };
    let full = path.canonicalize().map_err(failed)?;
    let mut command = Command::new(&full);
    if full.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("-client")) {
        command.args(["--vault-id", id]);
    }
    let output = command.stderr(Stdio::inherit()).output().map_err(failed)?;
    if !output.status.success() {
        return Err(VaultError::Script { path: path.to_owned(), status: output.status });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Salt, signature and cipher text.
struct Sealed {
    salt: Vec<u8>,
    signature: Vec<u8>,
    cipher: Vec<u8>,
}

impl Sealed {
    /// Hexadecimal digits of three lines of hexadecimal digits.
    fn read(body: &str) -> Result<Self, VaultError> {
        let damaged = VaultError::Format("its digits");
        let digits: String = body.split_whitespace().collect();
        let lines = unhex(&digits).and_then(|bytes| String::from_utf8(bytes).ok());
        let lines = lines.as_deref().map(|text| text.lines().collect::<Vec<_>>());
        let Some([salt, signature, cipher]) = lines.as_deref() else { return Err(damaged) };
        match (unhex(salt), unhex(signature), unhex(cipher)) {
            (Some(salt), Some(signature), Some(cipher)) => Ok(Self { salt, signature, cipher }),
            _ => Err(damaged),
        }
    }

    fn open(&self, password: &str) -> Option<Vec<u8>> {
        let mut derived = [0; 80];
        pbkdf2_hmac::<Sha256>(password.as_bytes(), &self.salt, ROUNDS, &mut derived);
        let (key, rest) = derived.split_at(32);
        let (hmac_key, iv) = rest.split_at(32);
        let mut mac = Hmac::<Sha256>::new_from_slice(hmac_key).ok()?;
        mac.update(&self.cipher);
        mac.verify_slice(&self.signature).ok()?;
        let mut plain = self.cipher.clone();
        ctr::Ctr128BE::<Aes256>::new_from_slices(key, iv).ok()?.apply_keystream(&mut plain);
        let padding = usize::from(*plain.last()?);
        if !(1..=16).contains(&padding) {
            return None;
        }
        plain.truncate(plain.len().checked_sub(padding)?);
        Some(plain)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "$ANSIBLE_VAULT;1.1;AES256
64636638363135393561613464613564396631643662373565643131383364336466666166663661
3065313066363336346530373462316632343939613332630a373733363630343764663934623131
65303931666435353665316236343066383836346139643837333131656666633235656336343965
3334636263643562340a303539393261383832633364653434343365653934626235633035623437
3739
";

    #[test]
    fn the_right_password_opens_it_and_no_other() {
        let mut secrets = Secrets::default();
        assert!(matches!(secrets.open(TEXT), Err(VaultError::NoSecret)));
        secrets.add("default", "wrong");
        assert!(matches!(secrets.open(TEXT), Err(VaultError::WrongSecret)));
        secrets.add("other", "fixture-pass");
        assert_eq!(secrets.open(TEXT).expect("opens"), "s3cret");
    }

    #[test]
    fn damage_is_named() {
        let mut secrets = Secrets::default();
        secrets.add("default", "fixture-pass");
        for text in
            ["$ANSIBLE_VAULT;1.1;AES256", "$ANSIBLE_VAULT;9;AES256\n00", "$ANSIBLE_VAULT;1.1;AES256\nxyz"]
        {
            assert!(matches!(secrets.open(text), Err(VaultError::Format(_))), "{text}");
        }
        assert!(matches!(secrets.open(&TEXT.replace("3739\n", "3738\n")), Err(VaultError::WrongSecret)));
    }
}
