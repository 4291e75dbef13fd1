//! known_hosts: our own judgement. Reading is apart from judging; judging is pure.
//!
//! Format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use pulpcov_protocol::text::wildcard;
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

/// Judges a plain key of the host that known_hosts may have under one of `names`, the best first.
pub(crate) fn judge(known: &[KnownHost], names: &[String], key_type: &str, key: &[u8]) -> HostKeyVerdict {
    if let Some(entry) = revocation(known, names, key) {
        return HostKeyVerdict::Revoked { file: entry.file.clone(), line: entry.line };
    }
    let mut changed = None;
    for name in names {
        let mut plain = of_name(known, name, &Marker::None);
        if plain.clone().any(|entry| entry.key_type == key_type && entry.key == key) {
            return HostKeyVerdict::Known;
        }
        // The name without the port may be another host's: it can vouch, not accuse.
        changed = changed.or_else(|| plain.next().filter(|_| names.first() == Some(name)));
    }
    match changed {
        Some(entry) => HostKeyVerdict::Changed { file: entry.file.clone(), line: entry.line },
        None => HostKeyVerdict::Unknown,
    }
}

/// The line that revokes a key, or an authority's key, for a host.
pub(crate) fn revocation<'a>(known: &'a [KnownHost], names: &[String], key: &[u8]) -> Option<&'a KnownHost> {
    known.iter().find(|entry| {
        entry.marker == Marker::Revoked
            && entry.key == key
            && names.iter().any(|name| names_match(&entry.names, name))
    })
}

/// Whether a key is that of an authority for a host.
pub(crate) fn is_authority(known: &[KnownHost], names: &[String], key: &[u8]) -> bool {
    names.iter().any(|name| of_name(known, name, &Marker::CertAuthority).any(|entry| entry.key == key))
}

/// Whether any authority is named for a host, so that a certificate is worth asking for.
pub(crate) fn has_authority(known: &[KnownHost], names: &[String]) -> bool {
    names.iter().any(|name| of_name(known, name, &Marker::CertAuthority).next().is_some())
}

/// Key types that are known for a host: they are asked for first, so that a host known by one kind
/// of key does not show another.
pub(crate) fn known_types(known: &[KnownHost], names: &[String]) -> Vec<String> {
    names
        .iter()
        .flat_map(|name| of_name(known, name, &Marker::None))
        .map(|entry| entry.key_type.clone())
        .collect()
}

fn of_name<'a>(
    known: &'a [KnownHost],
    name: &'a str,
    marker: &'a Marker,
) -> impl Iterator<Item = &'a KnownHost> + Clone {
    known.iter().filter(move |entry| entry.marker == *marker && names_match(&entry.names, name))
}

/// What known_hosts may call a host: its alias, or its name with the port where that is not 22, and
/// then without.
pub(crate) fn lookup_names(address: &str, port: u16, alias: Option<&str>) -> Vec<String> {
    if let Some(alias) = alias {
        return vec![alias.to_ascii_lowercase()];
    }
    let address = address.to_ascii_lowercase();
    if port == 22 { vec![address] } else { vec![format!("[{address}]:{port}"), address] }
}

/// A line for a new host.
pub(crate) fn new_line(name: &str, hash: bool, key_type: &str, key: &[u8], salt: [u8; 20]) -> String {
    let name = if hash { hashed(name, &salt) } else { name.to_owned() };
    format!("{name} {key_type} {}\n", BASE64.encode(key))
}

/// `|1|salt|HMAC-SHA1 of the name`
fn hashed(name: &str, salt: &[u8]) -> String {
    // HMAC takes keys of any length.
    let mac = Hmac::<Sha1>::new_from_slice(salt).map(|mut mac| {
        mac.update(name.as_bytes());
        mac.finalize().into_bytes()
    });
    mac.map_or_else(|_| name.to_owned(), |mac| format!("|1|{}|{}", BASE64.encode(salt), BASE64.encode(mac)))
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

#[derive(Debug, thiserror::Error)]
pub(crate) enum KnownHostsError {
    #[error("cannot read known hosts")]
    Read(#[source] std::io::Error),
    #[error("cannot look at {path}")]
    LookAt { path: PathBuf, source: std::io::Error },
    #[error("{path} is larger than {MAX_FILE} bytes")]
    TooLarge { path: PathBuf },
}

/// Reads the files that exist. One that exists and cannot be read is an error: taking it for empty
/// would take a revoked key for an unknown one.
pub(crate) fn load(files: &[PathBuf]) -> Result<Vec<KnownHost>, KnownHostsError> {
    let mut known = Vec::new();
    for path in files {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(KnownHostsError::LookAt { path: path.clone(), source }),
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

/// The user's files by default.
pub(crate) fn user_files(home: &Path) -> Vec<PathBuf> {
    ["known_hosts", "known_hosts2"].map(|name| home.join(".ssh").join(name)).to_vec()
}

/// The machine's files by default.
pub(crate) fn global_files() -> Vec<PathBuf> {
    ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"].map(PathBuf::from).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const B: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn verdict(text: &str, address: &str, port: u16) -> HostKeyVerdict {
        let key = BASE64.decode(A).expect("valid");
        judge(&parse(text, Path::new("kh")), &lookup_names(address, port, None), "ssh-ed25519", &key)
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
        // OpenSSH takes a name without port for a host on another port, where it fits.
        assert_eq!(verdict(&format!("web1 ssh-ed25519 {A}\n"), "web1", 2222), HostKeyVerdict::Known);
        assert_eq!(verdict(&format!("web1 ssh-ed25519 {B}\n"), "web1", 2222), HostKeyVerdict::Unknown);
        assert_eq!(lookup_names("Web1", 2222, Some("Alias")), ["alias"]);
    }

    #[test]
    fn a_hashed_name() {
        let key = BASE64.decode(A).expect("valid");
        let line = new_line("web1", true, "ssh-ed25519", &key, [7; 20]);
        assert!(line.starts_with("|1|BwcHBwcHBwcHBwcHBwcHBwcHBwc=|"), "{line}");
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
        let (known, key) = (parse(&authority, Path::new("kh")), BASE64.decode(A).expect("valid"));
        assert!(
            is_authority(&known, &["web1".into()], &key) && !is_authority(&known, &["web2".into()], &key)
        );
    }

    #[test]
    fn damaged_lines_vouch_for_nobody() {
        assert_eq!(
            verdict("web1 ssh-ed25519 %%%\nweb1\n@odd web1 ssh-ed25519 x\n", "web1", 22),
            HostKeyVerdict::Unknown
        );
    }
}
