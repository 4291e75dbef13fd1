//! known_hosts: our own judgement. Reading is apart from judging; judging is pure.
//!
//! Format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Largest known_hosts file.
const MAX_FILE: u64 = 64 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Marker {
    None,
    Revoked,
    CertAuthority,
}

/// One line of a known_hosts file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownHost {
    marker: Marker,
    names: String,
    /// `ssh-ed25519`
    key_type: String,
    /// The key as SSH sends it.
    key: Vec<u8>,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
}

/// What the known hosts say of a key that a server showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostKeyVerdict {
    Known,
    Unknown,
    /// The host is known by other keys; the place of the first.
    Changed {
        file: PathBuf,
        line: usize,
    },
    Revoked {
        file: PathBuf,
        line: usize,
    },
}

/// Judges the key of the server at `address`:`port`.
pub(crate) fn judge(
    known: &[KnownHost],
    address: &str,
    port: u16,
    key_type: &str,
    key: &[u8],
) -> HostKeyVerdict {
    let name = lookup_name(address, port);
    let here = || known.iter().filter(|entry| names_match(&entry.names, &name));
    if let Some(entry) = here().find(|entry| entry.marker == Marker::Revoked && entry.key == key) {
        return HostKeyVerdict::Revoked { file: entry.file.clone(), line: entry.line };
    }
    let mut plain = here().filter(|entry| entry.marker == Marker::None);
    if plain.clone().any(|entry| entry.key_type == key_type && entry.key == key) {
        return HostKeyVerdict::Known;
    }
    match plain.next() {
        Some(entry) => HostKeyVerdict::Changed { file: entry.file.clone(), line: entry.line },
        None => HostKeyVerdict::Unknown,
    }
}

/// Key types that are known for a host: they are asked for first, so that a host known by one kind
/// of key does not show another.
pub(crate) fn known_types(known: &[KnownHost], address: &str, port: u16) -> Vec<String> {
    let name = lookup_name(address, port);
    known
        .iter()
        .filter(|entry| entry.marker == Marker::None && names_match(&entry.names, &name))
        .map(|entry| entry.key_type.clone())
        .collect()
}

/// How known_hosts writes a host: with its port where that is not 22.
pub(crate) fn lookup_name(address: &str, port: u16) -> String {
    let address = address.to_ascii_lowercase();
    if port == 22 { address } else { format!("[{address}]:{port}") }
}

/// The lines of a file that can be read; others (options we do not know, damage) are left out, as
/// OpenSSH does: a line that is not understood vouches for nobody.
pub(crate) fn parse(text: &str, file: &Path) -> Vec<KnownHost> {
    text.lines().enumerate().filter_map(|(i, line)| parse_line(line, file, i + 1)).collect()
}

fn parse_line(line: &str, file: &Path, number: usize) -> Option<KnownHost> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split_ascii_whitespace();
    let mut first = words.next()?;
    let marker = match first {
        "@revoked" => Marker::Revoked,
        "@cert-authority" => Marker::CertAuthority,
        _ if first.starts_with('@') => return None,
        _ => Marker::None,
    };
    if marker != Marker::None {
        first = words.next()?;
    }
    let key_type = words.next()?.to_owned();
    let key = BASE64.decode(words.next()?).ok()?;
    Some(KnownHost { marker, names: first.to_owned(), key_type, key, file: file.to_owned(), line: number })
}

fn names_match(names: &str, name: &str) -> bool {
    if let Some(hashed) = names.strip_prefix("|1|") {
        return hash_matches(hashed, name).unwrap_or(false);
    }
    let mut found = false;
    for pattern in names.split(',') {
        match pattern.strip_prefix('!') {
            // A negated name that fits rules the whole line out.
            Some(negated) if wildcard(&negated.to_ascii_lowercase(), name) => return false,
            Some(_) => {}
            None => found |= wildcard(&pattern.to_ascii_lowercase(), name),
        }
    }
    found
}

/// `salt|hash`: HMAC-SHA1 of the name.
fn hash_matches(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&BASE64.decode(salt).ok()?).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&BASE64.decode(hash).ok()?).is_ok())
}

/// `*` and `?`; brackets are part of a name here.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || Some(&c) == text.get(t) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    p = star_p + 1;
                    t = star_t + 1;
                    star = Some((star_p, star_t + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|&c| c == b'*'))
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum KnownHostsError {
    #[error("cannot read known hosts")]
    Read(#[source] std::io::Error),
    #[error("{path} is larger than {MAX_FILE} bytes")]
    TooLarge { path: PathBuf },
}

/// Reads the files that exist. One that exists and cannot be read is an error: taking it for empty
/// would take a revoked key for an unknown one.
pub(crate) fn load(files: &[PathBuf]) -> Result<Vec<KnownHost>, KnownHostsError> {
    let mut known = Vec::new();
    for path in files {
        match fs_err::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(KnownHostsError::Read(error)),
            Ok(meta) if meta.len() > MAX_FILE => {
                return Err(KnownHostsError::TooLarge { path: path.clone() });
            }
            Ok(_) => {}
        }
        let bytes = fs_err::read(path).map_err(KnownHostsError::Read)?;
        known.extend(parse(&String::from_utf8_lossy(&bytes), path));
    }
    Ok(known)
}

/// The files that OpenSSH reads by default.
pub(crate) fn default_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    if let Some(home) = std::env::home_dir() {
        files.extend(["known_hosts", "known_hosts2"].map(|name| home.join(".ssh").join(name)));
    }
    files.extend(["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"].map(PathBuf::from));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const B: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn verdict(text: &str, address: &str, port: u16) -> HostKeyVerdict {
        let key = BASE64.decode(A).expect("valid");
        judge(&parse(text, Path::new("kh")), address, port, "ssh-ed25519", &key)
    }

    fn changed(line: usize) -> HostKeyVerdict {
        HostKeyVerdict::Changed { file: "kh".into(), line }
    }

    #[test]
    fn every_form_of_a_name() {
        assert_eq!(verdict(&format!("web1 ssh-ed25519 {A} me\n"), "web1", 22), HostKeyVerdict::Known);
        assert_eq!(
            verdict(&format!("  WEB1,10.0.0.1\tssh-ed25519 {A}\n"), "10.0.0.1", 22),
            HostKeyVerdict::Known
        );
        assert_eq!(verdict(&format!("[web1]:2222 ssh-ed25519 {A}\n"), "web1", 2222), HostKeyVerdict::Known);
        assert_eq!(verdict(&format!("[web1]:2222 ssh-ed25519 {A}\n"), "web1", 22), HostKeyVerdict::Unknown);
        assert_eq!(verdict(&format!("*.lab ssh-ed25519 {A}\n"), "a.lab", 22), HostKeyVerdict::Known);
        assert_eq!(verdict(&format!("*.lab,!a.lab ssh-ed25519 {A}\n"), "a.lab", 22), HostKeyVerdict::Unknown);
        assert_eq!(verdict("", "web1", 22), HostKeyVerdict::Unknown);
    }

    #[test]
    fn a_hashed_name() {
        // Made with `ssh-keygen -H` for the name web1.
        let salt = BASE64.encode([7u8; 20]);
        let mut mac = Hmac::<Sha1>::new_from_slice(&[7u8; 20]).expect("any length");
        mac.update(b"web1");
        let hash = BASE64.encode(mac.finalize().into_bytes());
        let line = format!("|1|{salt}|{hash} ssh-ed25519 {A}\n");
        assert_eq!(verdict(&line, "web1", 22), HostKeyVerdict::Known);
        assert_eq!(verdict(&line, "web2", 22), HostKeyVerdict::Unknown);
    }

    #[test]
    fn changed_rotated_and_revoked_keys() {
        assert_eq!(verdict(&format!("# x\nweb1 ssh-ed25519 {B}\n"), "web1", 22), changed(2));
        assert_eq!(verdict(&format!("web1 ssh-rsa {B}\n"), "web1", 22), changed(1));
        let rotated = format!("web1 ssh-ed25519 {B}\nweb1 ssh-ed25519 {A}\n");
        assert_eq!(verdict(&rotated, "web1", 22), HostKeyVerdict::Known);
        let revoked = format!("web1 ssh-ed25519 {A}\n@revoked * ssh-ed25519 {A}\n");
        assert_eq!(verdict(&revoked, "web1", 22), HostKeyVerdict::Revoked { file: "kh".into(), line: 2 });
        let authority = format!("@cert-authority web1 ssh-ed25519 {A}\n");
        assert_eq!(verdict(&authority, "web1", 22), HostKeyVerdict::Unknown);
    }

    #[test]
    fn damaged_lines_vouch_for_nobody() {
        assert_eq!(
            verdict("web1 ssh-ed25519 %%%\nweb1\n@odd web1 ssh-ed25519 x\n", "web1", 22),
            HostKeyVerdict::Unknown
        );
    }
}
