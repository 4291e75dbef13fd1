//! From the words of a fleet command to all that reaching its hosts takes: SSH, secrets, agents.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::agent::binary::{AgentBinaries, AgentBinaryError};
use crate::cli::FleetArgs;
use crate::exit::{usage, usage_hint};
use crate::fleet::fan_out::Access;
use crate::inventory::Host;
use crate::transport::ssh::{Destination, HostKeyPolicy, KeyRing, Limits, ResolveError, Resolver, Wish};

pub(crate) async fn access(args: &FleetArgs, hosts: &[Host]) -> Result<Access> {
    let resolver = resolver(args)?;
    let password = password(args)?;
    let destinations = destinations(args, hosts, &resolver, password.as_deref())?;
    let passphrase_file = args.passphrase_file.as_deref().map(read_secret).transpose()?;
    let mut passphrase = |path: &Path| {
        passphrase_file.clone().or_else(|| ask(&format!("Passphrase for {}: ", path.display())))
    };
    let ring = KeyRing::load(resolver.key_files(), resolver.agents(), &mut passphrase)
        .await
        .map_err(|error| usage_hint(error, "use --passphrase-file, or load the key into ssh-agent"))?;
    let agents = AgentBinaries::find(args.agent_dir.as_deref()).map_err(|error| match error {
        AgentBinaryError::NotFound { .. } => {
            usage_hint(error, "build the agents, or name their folder with --agent-dir")
        }
        error @ AgentBinaryError::Read(_) => usage(error),
    })?;
    Ok(Access {
        ring,
        destinations,
        resolver,
        agents,
        limits: Limits {
            connect: Duration::from_secs(args.connect_timeout),
            auth: Duration::from_secs(args.auth_timeout),
            idle: Duration::from_secs(args.idle_timeout),
            op: Duration::from_secs(args.op_timeout),
        },
        retries: args.retries,
        become_password: become_password(args)?,
        r#become: args.r#become,
        become_method: args.become_method,
    })
}

fn resolver(args: &FleetArgs) -> Result<Resolver> {
    for (option, file) in args
        .known_hosts
        .iter()
        .map(|file| ("--known-hosts", file))
        .chain(args.host_key.file().map(|file| ("--host-key", file)))
    {
        // A file that was named and is not there is a slip; one of the defaults may well be absent.
        if let Err(error) = std::fs::metadata(file)
            && (args.host_key.policy() != HostKeyPolicy::AcceptNew
                || error.kind() != std::io::ErrorKind::NotFound)
        {
            return Err(usage(anyhow::anyhow!("{option} {}: {error}", file.display())));
        }
    }
    let local_user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let known_hosts =
        args.host_key.file().map_or_else(|| args.known_hosts.clone(), |file| vec![file.clone()]);
    Ok(Resolver::new(args.host_key.policy(), known_hosts, local_user.unwrap_or_else(|| "root".to_owned())))
}

fn destinations(
    args: &FleetArgs,
    hosts: &[Host],
    resolver: &Resolver,
    password: Option<&str>,
) -> Result<BTreeMap<String, Destination>> {
    let of = |host: &Host| {
        let mut ssh_args = host.ssh_args.clone();
        ssh_args.extend(args.ssh_common_args.clone());
        let wish = Wish {
            address: &host.address,
            port: host.port,
            user: host.user.as_deref().or(args.user.as_deref()),
            private_key: host.private_key.as_deref().or(args.private_key.as_deref()),
            password: host.password.as_deref().or(password),
            args: &ssh_args,
        };
        let destination = resolver.resolve(&wish).map_err(|error: ResolveError| {
            let hint = error.hint();
            let error = anyhow::Error::new(error).context(format!("host {}", host.name));
            match hint {
                Some(hint) => usage_hint(error, hint),
                None => usage(error),
            }
        })?;
        Ok((host.name.clone(), destination))
    };
    // ssh is asked of each host; 4 ms each add up.
    hosts.par_iter().map(of).collect()
}

/// The login password for hosts whose inventory has none.
fn password(args: &FleetArgs) -> Result<Option<String>> {
    match &args.connection_password_file {
        Some(file) => read_secret(file).map(Some),
        None if args.ask_pass => {
            ask_for("SSH password: ", "the SSH password", "--connection-password-file").map(Some)
        }
        None => Ok(None),
    }
}

fn become_password(args: &FleetArgs) -> Result<Option<String>> {
    if let Some(name) = &args.become_password_env {
        let word = std::env::var(name).map_err(|_| {
            usage(anyhow::anyhow!("--become-password-env: there is no environment variable {name}"))
        })?;
        return Ok(Some(word));
    }
    match &args.become_password_file {
        Some(file) => read_secret(file).map(Some),
        None if args.ask_become_pass => {
            ask_for("BECOME password: ", "the become password", "--become-password-file").map(Some)
        }
        None => Ok(None),
    }
}

/// The first line of a file of secrets.
fn read_secret(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| usage(anyhow::anyhow!("cannot read {}: {error}", file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Asks a person, who must be there.
pub(crate) fn ask_for(prompt: &str, what: &str, instead: &str) -> Result<String> {
    ask(prompt).ok_or_else(|| {
        usage_hint(anyhow::anyhow!("there is no terminal to ask for {what}"), format!("use {instead}"))
    })
}

fn ask(prompt: &str) -> Option<String> {
    std::io::stdin().is_terminal().then(|| rpassword::prompt_password(prompt).ok()).flatten()
}
