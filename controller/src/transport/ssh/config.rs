//! What ssh_config comes to for one host, as `ssh -G` prints it. Pure.

use std::path::{Path, PathBuf};

use crate::transport::ssh::known_hosts;

/// The files that OpenSSH tries where none is named.
const DEFAULT_KEYS: &[&str] = &["id_ed25519", "id_ecdsa", "id_rsa"];

/// Settings that say whom to believe, or by which way to go, and that `ssh -G` prints only where they are set.
const NOT_FOLLOWED: &[&str] =
    &["RevokedHostKeys", "KnownHostsCommand", "BindAddress", "BindInterface", "ProxyUseFdpass"];

/// What decides how a host is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(super) hostname: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) host_key_alias: Option<String>,
    pub(super) identity_files: Vec<PathBuf>,
    pub(super) certificate_files: Vec<PathBuf>,
    pub(super) identities_only: bool,
    pub(super) identity_agent: IdentityAgent,
    pub(super) proxy: Proxy,
    pub(super) user_known_hosts: Vec<PathBuf>,
    pub(super) global_known_hosts: Vec<PathBuf>,
    /// `StrictHostKeyChecking accept-new`
    pub(super) accept_new: bool,
    pub(super) hash_known_hosts: bool,
    pub(super) family: Family,
    pub(super) methods: Methods,
    /// A setting that would matter, and that is not followed here.
    pub(super) not_followed: Option<&'static str>,
}

/// Which methods of logging in are not forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Methods {
    pub(super) publickey: bool,
    pub(super) password: bool,
    pub(super) keyboard_interactive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IdentityAgent {
    /// `SSH_AUTH_SOCK`
    Environment,
    None,
    Socket(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proxy {
    None,
    Command(String),
    /// `user@host:port`, the nearest first.
    Jump(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Any,
    V4,
    V6,
}

/// What tokens stand for.
pub(super) struct Tokens<'a> {
    /// The name as the inventory has it.
    pub(super) original: &'a str,
    pub(super) local_user: &'a str,
    pub(super) home: &'a Path,
}

impl Settings {
    /// Where no ssh_config says anything.
    pub(super) fn plain(hostname: &str, user: &str, home: &Path) -> Self {
        let ssh = home.join(".ssh");
        Self {
            hostname: hostname.to_owned(),
            port: 22,
            user: user.to_owned(),
            host_key_alias: None,
            identity_files: DEFAULT_KEYS.iter().map(|name| ssh.join(name)).collect(),
            certificate_files: Vec::new(),
            identities_only: false,
            identity_agent: IdentityAgent::Environment,
            proxy: Proxy::None,
            user_known_hosts: known_hosts::user_files(home),
            global_known_hosts: known_hosts::global_files(),
            accept_new: false,
            hash_known_hosts: false,
            family: Family::Any,
            methods: Methods { publickey: true, password: true, keyboard_interactive: true },
            not_followed: None,
        }
    }

    /// Reads what `ssh -G` printed.
    pub(super) fn parse(printed: &str, tokens: &Tokens<'_>) -> Self {
        let mut settings = Self::plain(tokens.original, tokens.local_user, tokens.home);
        settings.identity_files.clear();
        for (key, value) in printed.lines().filter_map(|line| line.split_once(' ')) {
            settings.set(key, value);
        }
        settings.expand(tokens);
        settings
    }

    fn set(&mut self, key: &str, value: &str) {
        let paths = || value.split_ascii_whitespace().filter(|&word| word != "none").map(PathBuf::from);
        let yes = matches!(value, "yes" | "true");
        match key {
            "hostname" => value.clone_into(&mut self.hostname),
            "port" => self.port = value.parse().unwrap_or(22),
            "user" => value.clone_into(&mut self.user),
            "hostkeyalias" => self.host_key_alias = Some(value.to_owned()),
            // A name may have blanks, so it is the whole of the line.
            "identityfile" if value != "none" => self.identity_files.push(value.into()),
            "certificatefile" => self.certificate_files.push(value.into()),
            "identitiesonly" => self.identities_only = yes,
            "identityagent" => {
                self.identity_agent = match value {
                    "none" => IdentityAgent::None,
                    "SSH_AUTH_SOCK" => IdentityAgent::Environment,
                    path => IdentityAgent::Socket(path.into()),
                }
            }
            "proxycommand" if value != "none" => self.proxy = Proxy::Command(value.to_owned()),
            "proxyjump" if value != "none" => {
                self.proxy = Proxy::Jump(value.split(',').map(|hop| hop.trim().to_owned()).collect());
            }
            "userknownhostsfile" => self.user_known_hosts = paths().collect(),
            "globalknownhostsfile" => self.global_known_hosts = paths().collect(),
            "stricthostkeychecking" => self.accept_new = value == "accept-new",
            "hashknownhosts" => self.hash_known_hosts = yes,
            "addressfamily" => {
                self.family = match value {
                    "inet" => Family::V4,
                    "inet6" => Family::V6,
                    _ => Family::Any,
                }
            }
            "pubkeyauthentication" => self.methods.publickey = !matches!(value, "no" | "false"),
            "passwordauthentication" => self.methods.password = yes,
            "kbdinteractiveauthentication" => self.methods.keyboard_interactive = yes,
            "preferredauthentications" => {
                let names: Vec<&str> = value.split(',').collect();
                self.methods.publickey &= names.contains(&"publickey");
                self.methods.password &= names.contains(&"password");
                self.methods.keyboard_interactive &= names.contains(&"keyboard-interactive");
            }
            _ if !matches!(value, "none" | "no" | "false") => {
                let found = NOT_FOLLOWED.iter().find(|name| name.eq_ignore_ascii_case(key));
                self.not_followed = self.not_followed.or(found.copied());
            }
            _ => {}
        }
    }

    fn expand(&mut self, tokens: &Tokens<'_>) {
        let of = |text: &str, host: &Self| host.expand_text(text, tokens);
        let path = |path: &PathBuf, host: &Self| {
            let text = path.to_string_lossy();
            let text = match text.strip_prefix("~/") {
                Some(rest) => tokens.home.join(rest).to_string_lossy().into_owned(),
                None => text.into_owned(),
            };
            PathBuf::from(of(&text, host))
        };
        let all = |paths: &[PathBuf], host: &Self| paths.iter().map(|one| path(one, host)).collect();
        self.identity_files = all(&self.identity_files, self);
        self.certificate_files = all(&self.certificate_files, self);
        self.user_known_hosts = all(&self.user_known_hosts, self);
        self.global_known_hosts = all(&self.global_known_hosts, self);
        self.host_key_alias = self.host_key_alias.as_deref().map(|alias| of(alias, self));
        if let IdentityAgent::Socket(socket) = &self.identity_agent {
            let socket = match socket.to_str().and_then(|text| text.strip_prefix('$')) {
                // An environment variable has the place.
                Some(name) => std::env::var_os(name.trim_matches(['{', '}'])).map(PathBuf::from),
                None => Some(path(socket, self)),
            };
            self.identity_agent = socket.map_or(IdentityAgent::None, IdentityAgent::Socket);
        }
        if let Proxy::Command(command) = &self.proxy {
            self.proxy = Proxy::Command(of(command, self));
        }
    }

    /// `%h` and its like; what is no token is left as it is.
    fn expand_text(&self, text: &str, tokens: &Tokens<'_>) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            expanded.push_str(before);
            let mut chars = after.chars();
            match chars.next() {
                Some('%') => expanded.push('%'),
                Some('h') => expanded.push_str(&self.hostname),
                Some('n') => expanded.push_str(tokens.original),
                Some('p') => expanded.push_str(&self.port.to_string()),
                Some('r') => expanded.push_str(&self.user),
                Some('u') => expanded.push_str(tokens.local_user),
                Some('d') => expanded.push_str(&tokens.home.to_string_lossy()),
                Some('k') => {
                    expanded.push_str(self.host_key_alias.as_deref().unwrap_or(tokens.original));
                }
                other => {
                    expanded.push('%');
                    expanded.extend(other);
                }
            }
            rest = chars.as_str();
        }
        expanded.push_str(rest);
        expanded
    }

    /// Whether a file is tried although nobody named it.
    pub(super) fn is_default_key(path: &Path, home: &Path) -> bool {
        path.parent() == Some(&home.join(".ssh"))
            && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("id_"))
    }
}

/// What the machine's own file includes by default; the caller looks into these itself.
pub(super) const INCLUDED_FOLDER: &str = "/etc/ssh/ssh_config.d";
const INCLUDED: &str = "/etc/ssh/ssh_config.d/*.conf";

/// Whether the text of an ssh_config says nothing that matters here, so that `ssh -G` need not be asked.
pub(super) fn is_idle(text: &str) -> bool {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).all(|line| {
        let end = line.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(line.len());
        let (key, value) = line.split_at(end);
        match key.to_ascii_lowercase().as_str() {
            // How new hosts are written down matters only where they are, and then ssh is asked.
            "sendenv" | "hashknownhosts" | "gssapiauthentication" | "forwardx11trusted" | "forwardx11" => {
                true
            }
            "host" => value.trim() == "*",
            "include" => value.trim() == INCLUDED,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_prints_is_read_with_its_tokens() {
        let printed = "host web1\nuser deploy\nhostname 10.0.0.1\nport 2222\nidentitiesonly yes\n\
            identityfile ~/.ssh/%h key\nidentityfile /k/%r\nidentityagent none\n\
            userknownhostsfile /h/a /h/b\nstricthostkeychecking accept-new\nhostkeyalias %n.lab\n\
            proxycommand nc %h %p %%x\naddressfamily inet6\npreferredauthentications password\n";
        let tokens = Tokens { original: "web1", local_user: "me", home: Path::new("/home/me") };
        let settings = Settings::parse(printed, &tokens);
        assert_eq!((settings.hostname.as_str(), settings.port), ("10.0.0.1", 2222));
        assert_eq!(settings.identity_files, ["/home/me/.ssh/10.0.0.1 key", "/k/deploy"].map(PathBuf::from));
        assert_eq!(settings.proxy, Proxy::Command("nc 10.0.0.1 2222 %x".into()));
        assert_eq!(settings.host_key_alias.as_deref(), Some("web1.lab"));
        assert!(settings.identities_only && settings.accept_new && !settings.methods.publickey);
        assert_eq!((settings.family, settings.identity_agent), (Family::V6, IdentityAgent::None));
        assert_eq!(settings.not_followed, None);
        let printed = "revokedhostkeys /etc/ssh/revoked\nproxyusefdpass no\nuser x\n";
        assert_eq!(Settings::parse(printed, &tokens).not_followed, Some("RevokedHostKeys"));
    }

    #[test]
    fn debians_own_file_says_nothing() {
        assert!(is_idle(
            "# x\nInclude /etc/ssh/ssh_config.d/*.conf\nHost *\n    SendEnv LANG LC_*\n    HashKnownHosts yes\n"
        ));
        assert!(!is_idle("Host web\n  User x\n"));
        assert!(!is_idle("ProxyJump gate\n"));
        assert!(!is_idle("Include work.conf\n"));
    }
}
