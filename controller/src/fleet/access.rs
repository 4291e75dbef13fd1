//! All that reaching the hosts of a run takes: SSH, secrets, agents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::agent::binary::{AgentBinaries, AgentBinaryError};
use crate::exit::{usage, usage_hint};
use crate::fleet::fan_out::Access;
use crate::inventory::{BecomeMethod, Connection, Host, SshClient};
use crate::output::terminal::ask;
use crate::transport::ssh::{ConnectRequest, HostKeyPolicy, KeyRing, Resolver};
use crate::transport::{Endpoint, Limits};

/// How to reach hosts whose inventory does not say.
pub(crate) struct AccessRequest {
    /// By which way.
    pub(crate) connection: Connection,
    pub(crate) user: Option<String>,
    pub(crate) private_key: Option<PathBuf>,
    /// Of private keys that want one; asked on a terminal otherwise.
    pub(crate) passphrase: Option<String>,
    pub(crate) known_hosts: Vec<PathBuf>,
    pub(crate) host_key: HostKey,
    pub(crate) ssh_common_args: Option<String>,
    /// The login password.
    pub(crate) password: Option<String>,
    pub(crate) r#become: bool,
    pub(crate) become_method: BecomeMethod,
    pub(crate) become_password: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) retries: u32,
    pub(crate) agent_dir: Option<PathBuf>,
}

pub(crate) async fn access(request: AccessRequest, hosts: &[Host]) -> Result<Access> {
    let resolver = resolver(&request)?;
    let endpoints = endpoints(&request, hosts, &resolver)?;
    let mut passphrase = |path: &Path| {
        request.passphrase.clone().or_else(|| ask(&format!("Passphrase for {}: ", path.display())))
    };
    let ring = KeyRing::load(resolver.key_files(), resolver.agents(), &mut passphrase)
        .await
        .map_err(|error| usage_hint(error, "use --passphrase-file, or load the key into ssh-agent"))?;
    let agents = AgentBinaries::find(request.agent_dir.as_deref()).map_err(|error| match error {
        AgentBinaryError::NotFound { .. } => {
            usage_hint(error, "build the agents, or name their folder with --agent-dir")
        }
        error @ AgentBinaryError::Read(_) => usage(error),
    })?;
    Ok(Access {
        ring,
        user: request.user,
        endpoints,
        resolver,
        agents,
        limits: request.limits,
        retries: request.retries,
        become_password: request.become_password,
        r#become: request.r#become,
        become_method: request.become_method,
    })
}

fn resolver(request: &AccessRequest) -> Result<Resolver> {
    for (option, file) in request
        .known_hosts
        .iter()
        .map(|file| ("--known-hosts", file))
        .chain(request.host_key.file().map(|file| ("--host-key", file)))
    {
        // A file that was named and is not there is a slip; one of the defaults may well be absent.
        if let Err(error) = std::fs::metadata(file)
            && (request.host_key.policy() != HostKeyPolicy::AcceptNew
                || error.kind() != std::io::ErrorKind::NotFound)
        {
            return Err(usage(anyhow::anyhow!("{option} {}: {error}", file.display())));
        }
    }
    let local_user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let known_hosts =
        request.host_key.file().map_or_else(|| request.known_hosts.clone(), |file| vec![file.clone()]);
    Ok(Resolver::new(request.host_key.policy(), known_hosts, local_user.unwrap_or_else(|| "root".to_owned())))
}

fn endpoints(
    request: &AccessRequest,
    hosts: &[Host],
    resolver: &Resolver,
) -> Result<BTreeMap<String, Arc<Endpoint>>> {
    let of = |host: &Host| {
        let mut ssh_args = host.ssh_args.clone();
        ssh_args.extend(request.ssh_common_args.clone());
        let wanted = ConnectRequest {
            address: &host.address,
            port: host.port,
            user: host.user.as_deref().or(request.user.as_deref()),
            private_key: host.private_key.as_deref().or(request.private_key.as_deref()),
            password: host.password.as_deref().or(request.password.as_deref()),
            passphrase: request.passphrase.as_deref(),
            args: &ssh_args,
            connect: request.limits.connect,
        };
        let connection = match (&host.connection, &request.connection) {
            (None, ours) | (Some(Connection::Ssh(SshClient::Auto)), ours @ Connection::Ssh(_)) => ours,
            (Some(its), _) => its,
        };
        let endpoint = Endpoint::resolve(host, connection, &wanted, resolver).map_err(|error| {
            let hint = error.hint();
            let error = anyhow::Error::new(error).context(format!("host {}", host.name));
            match hint {
                Some(hint) => usage_hint(error, hint),
                None => usage(error),
            }
        })?;
        Ok((host.name.clone(), Arc::new(endpoint)))
    };
    // ssh is asked of each host; 4 ms each add up.
    hosts.par_iter().map(of).collect()
}

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostKey {
    Policy(HostKeyPolicy),
    File(PathBuf),
}

impl std::str::FromStr for HostKey {
    type Err = std::convert::Infallible;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(match word {
            "config" => Self::Policy(HostKeyPolicy::Config),
            "strict" => Self::Policy(HostKeyPolicy::Strict),
            "accept-new" => Self::Policy(HostKeyPolicy::AcceptNew),
            file => Self::File(file.into()),
        })
    }
}

impl HostKey {
    pub(crate) fn policy(&self) -> HostKeyPolicy {
        match self {
            Self::Policy(policy) => policy.clone(),
            Self::File(_) => HostKeyPolicy::Strict,
        }
    }

    pub(crate) const fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::Policy(_) => None,
            Self::File(file) => Some(file),
        }
    }
}
