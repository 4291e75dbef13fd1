//! From what the inventory says of a host to how it is reached: ssh_config as `ssh -G` reads it, jump
//! hosts, keys, and the known hosts that count for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::inventory::SshClient;
use crate::transport::Endpoint;
use crate::transport::ssh::args::{self, ArgsError};
use crate::transport::ssh::auth::Login;
use crate::transport::ssh::config::{self, IdentityAgent, Proxy, Settings, Tokens};
use crate::transport::ssh::destination::Destination;
use crate::transport::ssh::host_key::{NewHosts, Trust};
use crate::transport::ssh::keys::KeyFile;
use crate::transport::ssh::known_hosts::{self, KnownHostsError};
use crate::transport::ssh::openssh::{self, Decided};
use crate::transport::ssh::route::{JumpHost, Route};

/// Jump hosts on the way to one host.
const MAX_HOPS: usize = 8;

/// How strict to be with hosts that are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostKeyPolicy {
    /// What ssh_config says, which is strict where it does not say `accept-new`.
    Config,
    Strict,
    AcceptNew,
}

/// What the inventory and the command line say of one host.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectRequest<'a> {
    pub(crate) address: &'a str,
    pub(crate) port: Option<u16>,
    pub(crate) user: Option<&'a str>,
    pub(crate) private_key: Option<&'a Path>,
    pub(crate) password: Option<&'a str>,
    /// Of keys, where OpenSSH's client asks for one.
    pub(crate) passphrase: Option<&'a str>,
    /// `ansible_ssh_args` and its brothers.
    pub(crate) args: &'a [String],
    /// Longest wait for a connection, where OpenSSH's client waits.
    pub(crate) connect: Duration,
}

impl ConnectRequest<'_> {
    /// As options of ssh. The first word on a matter counts, so the inventory's own variables come first, as with
    /// Ansible.
    pub(super) fn words(&self) -> Vec<String> {
        let port = self.port.map(|port| format!("Port={port}"));
        let user = self.user.map(|user| format!("User={user}"));
        let key = self.private_key.map(|key| format!("IdentityFile=\"{}\"", key.display()));
        [port, user, key].into_iter().flatten().flat_map(|option| ["-o".to_owned(), option]).collect()
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("{text:?}")]
    Args { text: String, source: ArgsError },
    #[error("ssh -G does not take that: {0}")]
    Refused(String),
    #[error("ssh_config's {0} is not followed here")]
    NotFollowed(&'static str),
    #[error("cannot run {program} -G")]
    Run { program: String, source: std::io::Error },
    #[error("jump host {0:?} is none")]
    Jump(String),
    #[error("ProxyJump leads round in a circle at {0}")]
    Circle(String),
    #[error(transparent)]
    KnownHosts(#[from] KnownHostsError),
}

impl ResolveError {
    /// Whether OpenSSH's client does what is asked for. That host keys are not checked, nobody does.
    const fn is_for_openssh(&self) -> bool {
        matches!(self, Self::Args { source: ArgsError::Refused(_), .. } | Self::NotFollowed(_))
    }

    pub(crate) const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Args { source, .. } => Some(source.hint()),
            Self::NotFollowed(_) => {
                Some("set it to none for this host, or give another ssh_config: --ssh-common-args '-F FILE'")
            }
            Self::Circle(_) => Some("give the jump host itself `ProxyJump none`"),
            Self::Run { .. } => Some("install OpenSSH's client, which reads ssh_config"),
            _ => None,
        }
    }
}

type TrustKey = (Vec<PathBuf>, bool, bool);

/// Resolves the hosts of a run; jump hosts and known hosts are shared between them.
pub(crate) struct Resolver {
    policy: HostKeyPolicy,
    /// Known hosts that count instead of the usual files.
    known_hosts: Vec<PathBuf>,
    local_user: String,
    home: PathBuf,
    /// Whether any ssh_config says something.
    configured: bool,
    trusts: Mutex<BTreeMap<TrustKey, Arc<Trust>>>,
    jumps: Mutex<BTreeMap<String, Arc<JumpHost>>>,
    key_files: Mutex<BTreeSet<KeyFile>>,
    agents: Mutex<BTreeSet<PathBuf>>,
}

impl Resolver {
    pub(crate) fn new(policy: HostKeyPolicy, known_hosts: Vec<PathBuf>, local_user: String) -> Self {
        let home = std::env::home_dir().unwrap_or_default();
        Self {
            policy,
            known_hosts,
            local_user,
            configured: is_configured(&home),
            home,
            trusts: Mutex::default(),
            jumps: Mutex::default(),
            key_files: Mutex::default(),
            agents: Mutex::default(),
        }
    }

    /// How a host is reached by SSH.
    pub(crate) fn resolve(
        &self,
        request: &ConnectRequest<'_>,
        client: &SshClient,
    ) -> Result<Endpoint, ResolveError> {
        match client {
            SshClient::Own => self.own(request),
            SshClient::OpenSsh(program) => self.open_ssh(request, program),
            SshClient::Auto => match self.own(request) {
                Err(error) if error.is_for_openssh() => self.open_ssh(request, "ssh"),
                result => result,
            },
        }
    }

    fn own(&self, request: &ConnectRequest<'_>) -> Result<Endpoint, ResolveError> {
        let options = accepted(request, args::accept)?;
        Ok(Endpoint::Ssh(Box::new(self.destination(request, &options, None, 0)?)))
    }

    fn open_ssh(&self, request: &ConnectRequest<'_>, client: &str) -> Result<Endpoint, ResolveError> {
        let options = accepted(request, args::accept_for_openssh)?;
        let printed = ask_ssh(client, request, &options)?;
        let tokens = Tokens { original: request.address, local_user: &self.local_user, home: &self.home };
        let settings = Settings::parse(&printed, &tokens);
        let decided = Decided {
            accept_new: self.accepts_new(&settings),
            known_hosts: &self.known_hosts,
            user: &settings.user,
            hostname: &settings.hostname,
            alias: settings.host_key_alias.as_deref(),
            by_command: matches!(settings.proxy, Proxy::Command(_)),
            connect_seconds: request.connect.as_secs(),
        };
        Ok(Endpoint::Process(Box::new(openssh::program(client, request, &options, &decided))))
    }

    /// The key files that all resolved hosts may want.
    pub(crate) fn key_files(&self) -> BTreeSet<KeyFile> {
        self.key_files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sockets of ssh-agents that they may ask.
    pub(crate) fn agents(&self) -> BTreeSet<PathBuf> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What this run has added to known hosts, for a person to read.
    pub(crate) fn said_of_new_hosts(&self) -> Vec<String> {
        let trusts = self.trusts.lock().unwrap_or_else(PoisonError::into_inner);
        trusts.values().filter_map(|trust| trust.new_hosts.as_ref()?.said()).collect()
    }

    /// `before` are the jump hosts that the command line of an inner hop puts before this one.
    fn destination(
        &self,
        request: &ConnectRequest<'_>,
        options: &[String],
        before: Option<&[String]>,
        depth: usize,
    ) -> Result<Destination, ResolveError> {
        let mut settings = self.settings(request, options)?;
        if let Some(before) = before.filter(|before| !before.is_empty()) {
            settings.proxy = Proxy::Jump(before.to_vec());
        }
        let route = match &settings.proxy {
            Proxy::None => Route::Direct,
            Proxy::Command(command) => Route::Command(command.clone()),
            Proxy::Jump(hops) => self.jump(request.address, hops, options, depth)?,
        };
        let mut keys: Vec<KeyFile> =
            request.private_key.iter().map(|&key| KeyFile::Wanted(key.into())).collect();
        keys.extend(
            settings.identity_files.iter().filter(|&path| Some(path.as_path()) != request.private_key).map(
                |path| {
                    if Settings::is_default_key(path, &self.home) {
                        KeyFile::Default(path.clone())
                    } else {
                        KeyFile::Configured(path.clone())
                    }
                },
            ),
        );
        if request.private_key.is_some() {
            // As ssh does: the default files are tried where none is named.
            keys.retain(|file| !matches!(file, KeyFile::Default(_)));
        }
        let agent = match &settings.identity_agent {
            IdentityAgent::None => None,
            IdentityAgent::Environment => std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
            IdentityAgent::Socket(socket) => Some(socket.clone()),
        };
        self.key_files.lock().unwrap_or_else(PoisonError::into_inner).extend(keys.iter().cloned());
        self.agents.lock().unwrap_or_else(PoisonError::into_inner).extend(agent.iter().cloned());
        let alias = settings.host_key_alias.as_deref();
        Ok(Destination {
            names: known_hosts::lookup_names(&settings.hostname, settings.port, alias),
            trust: self.trust(&settings)?,
            route,
            login: Login {
                user: settings.user,
                keys,
                certificates: settings.certificate_files,
                agent,
                identities_only: settings.identities_only,
                password: request.password.map(str::to_owned),
                methods: settings.methods,
            },
            family: settings.family,
            host_key_alias: settings.host_key_alias,
            address: settings.hostname,
            port: settings.port,
        })
    }

    /// The last of `hops`, reached through those before it.
    fn jump(
        &self,
        from: &str,
        hops: &[String],
        options: &[String],
        depth: usize,
    ) -> Result<Route, ResolveError> {
        let Some((last, before)) = hops.split_last() else { return Ok(Route::Direct) };
        if depth >= MAX_HOPS {
            return Err(ResolveError::Circle(last.clone()));
        }
        let hop = parse_hop(last).ok_or_else(|| ResolveError::Jump(last.clone()))?;
        // A `Host *` with a ProxyJump means the jump host too.
        if before.is_empty() && hop.address == from {
            return Err(ResolveError::Circle(last.clone()));
        }
        let files = config_file(options);
        let key = format!("{}|{}", hops.join(","), files.join(" "));
        if let Some(jump) = self.jumps.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Route::Jump(Arc::clone(jump)));
        }
        let destination = self.destination(&hop, &files, Some(before), depth + 1)?;
        let jump = Arc::new(JumpHost::new(last.clone(), destination));
        let mut jumps = self.jumps.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Route::Jump(Arc::clone(jumps.entry(key).or_insert(jump))))
    }

    fn settings(&self, request: &ConnectRequest<'_>, options: &[String]) -> Result<Settings, ResolveError> {
        let matters = self.configured || !options.is_empty();
        // How a new host is written down is a matter of ssh_config too.
        if matters || self.policy == HostKeyPolicy::AcceptNew {
            match ask_ssh("ssh", request, options) {
                Ok(printed) => {
                    let tokens =
                        Tokens { original: request.address, local_user: &self.local_user, home: &self.home };
                    let settings = Settings::parse(&printed, &tokens);
                    return match settings.not_followed {
                        Some(name) => Err(ResolveError::NotFollowed(name)),
                        None => Ok(settings),
                    };
                }
                Err(ResolveError::Run { source, .. })
                    if !matters && source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut settings = Settings::plain(request.address, &self.local_user, &self.home);
        settings.port = request.port.unwrap_or(22);
        if let Some(user) = request.user {
            user.clone_into(&mut settings.user);
        }
        Ok(settings)
    }

    const fn accepts_new(&self, settings: &Settings) -> bool {
        match self.policy {
            HostKeyPolicy::Config => settings.accept_new,
            HostKeyPolicy::Strict => false,
            HostKeyPolicy::AcceptNew => true,
        }
    }

    fn trust(&self, settings: &Settings) -> Result<Arc<Trust>, ResolveError> {
        let accept_new = self.accepts_new(settings);
        let files: Vec<PathBuf> = if self.known_hosts.is_empty() {
            settings.user_known_hosts.iter().chain(&settings.global_known_hosts).cloned().collect()
        } else {
            self.known_hosts.clone()
        };
        let key = (files, accept_new, settings.hash_known_hosts);
        let mut trusts = self.trusts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trust) = trusts.get(&key) {
            return Ok(Arc::clone(trust));
        }
        let first = key.0.first().filter(|_| accept_new).cloned();
        let trust = Arc::new(Trust {
            known: known_hosts::load(&key.0)?,
            new_hosts: first.map(|file| NewHosts {
                file,
                hash: settings.hash_known_hosts,
                added: Mutex::default(),
            }),
        });
        trusts.insert(key, Arc::clone(&trust));
        Ok(trust)
    }
}

/// The inventory's own arguments of ssh, as words that `accept` has nothing against.
fn accepted(
    request: &ConnectRequest<'_>,
    accept: fn(&str) -> Result<Vec<String>, ArgsError>,
) -> Result<Vec<String>, ResolveError> {
    let mut options = Vec::new();
    for text in request.args {
        let words = accept(text).map_err(|source| ResolveError::Args { text: text.clone(), source })?;
        options.extend(words);
    }
    Ok(options)
}

/// Whether any ssh_config says something that matters.
fn is_configured(home: &Path) -> bool {
    let says = |path: &Path| match fs_err::read(path) {
        Ok(bytes) => !config::is_idle(&String::from_utf8_lossy(&bytes)),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    let included = fs_err::read_dir(config::INCLUDED_FOLDER).into_iter().flatten().flatten();
    says(&home.join(".ssh/config"))
        || says(Path::new("/etc/ssh/ssh_config"))
        || included.into_iter().any(|entry| says(&entry.path()))
}

/// What `ssh -G` prints for a host.
fn ask_ssh(client: &str, request: &ConnectRequest<'_>, options: &[String]) -> Result<String, ResolveError> {
    let mut command = Command::new(client);
    command.arg("-G").stdin(Stdio::null());
    command.args(request.words()).args(options).arg("--").arg(request.address);
    let output =
        command.output().map_err(|source| ResolveError::Run { program: client.to_owned(), source })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        if words.contains("jumphost loop") {
            return Err(ResolveError::Circle(request.address.to_owned()));
        }
        return Err(ResolveError::Refused(crate::output::terminal::printable(words.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `-F FILE` of the options: of all of them the only one that ssh hands on to jump hosts.
fn config_file(options: &[String]) -> Vec<String> {
    let place = options.iter().position(|word| word == "-F");
    place.and_then(|place| options.get(place..place + 2)).unwrap_or_default().to_vec()
}

/// `user@host:port`, `[v6]:port` or `ssh://user@host:port`.
fn parse_hop(text: &str) -> Option<ConnectRequest<'_>> {
    let text = text.strip_prefix("ssh://").map_or(text, |rest| rest.trim_end_matches('/'));
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (Some(user).filter(|user| !user.is_empty()), place),
        None => (None, text),
    };
    let (address, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            (address, rest.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((address, port)) if !port.contains(':') => (address, Some(port)),
            _ => (place, None),
        },
    };
    let port = port.map(|port| port.parse().ok().filter(|&port| port > 0).ok_or(())).transpose().ok()?;
    (!address.is_empty()).then_some(ConnectRequest { address, port, user, ..ConnectRequest::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_hop() {
        let hop = |text| parse_hop(text).map(|hop| (hop.user, hop.address, hop.port));
        assert_eq!(hop("gate"), Some((None, "gate", None)));
        assert_eq!(hop("me@gate:2222"), Some((Some("me"), "gate", Some(2222))));
        assert_eq!(hop("a@b@gate"), Some((Some("a@b"), "gate", None)));
        assert_eq!(hop("[fe80::1]:22"), Some((None, "fe80::1", Some(22))));
        assert_eq!(hop("fe80::1"), Some((None, "fe80::1", None)));
        assert_eq!(hop("ssh://me@gate:22/"), Some((Some("me"), "gate", Some(22))));
        assert_eq!(hop("gate:x"), None);
        assert_eq!(hop(""), None);
    }
}
