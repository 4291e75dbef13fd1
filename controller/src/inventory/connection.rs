//! By which way a host is reached, as the inventory has it.

use serde_json::Value;

use crate::inventory::vars::container::{Container, Engine};
use crate::inventory::vars::getter::{Getter, HostVarError};

/// A way to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    Ssh(SshClient),
    /// This machine.
    Local,
    /// A container or a pod, by its engine's command line.
    Container(Box<Container>),
    /// A program and its words, with `{host}` in them.
    Exec(Vec<String>),
}

/// Who speaks SSH.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum SshClient {
    /// pulpcov itself, and OpenSSH's client where a host's settings want what pulpcov does not do.
    #[default]
    Auto,
    /// pulpcov itself, or nobody.
    Own,
    /// OpenSSH's client: the program.
    OpenSsh(String),
}

impl SshClient {
    /// OpenSSH's client, as it is found on the PATH.
    pub(crate) fn open_ssh() -> Self {
        Self::OpenSsh("ssh".to_owned())
    }
}

impl Getter<'_> {
    /// `pulpcov_exec` says it all; else Ansible's own word, and whose SSH it is.
    pub(in crate::inventory) fn connection(&self) -> Result<Option<Connection>, HostVarError> {
        const EXEC: &str = "pulpcov_exec";
        let words = self.list(EXEC)?;
        if !words.is_empty() {
            return Ok(Some(Connection::Exec(words)));
        }
        if self.find(&[EXEC])?.is_some() {
            return Err(self.wrong(
                EXEC.to_owned(),
                &Value::Array(Vec::new()),
                "list of a program and its words",
            ));
        }
        let client = self.ssh_client()?;
        let named = self.text(&["ansible_connection"])?;
        match named.as_deref().map(|name| name.strip_prefix("ansible.builtin.").unwrap_or(name)) {
            None => Ok(client.map(Connection::Ssh)),
            Some("ssh" | "smart" | "paramiko" | "paramiko_ssh") => {
                Ok(Some(Connection::Ssh(client.unwrap_or_default())))
            }
            Some("local") => Ok(Some(Connection::Local)),
            Some(other) => match Engine::of_connection(other) {
                Some(engine) => Ok(Some(Connection::Container(Box::new(self.container(engine)?)))),
                None => Err(self.unsupported("ansible_connection", other)),
            },
        }
    }

    fn ssh_client(&self) -> Result<Option<SshClient>, HostVarError> {
        const CLIENT: &str = "pulpcov_ssh";
        let program = self.text(&["ansible_ssh_executable"])?.filter(|program| !program.trim().is_empty());
        let client = match self.text(&[CLIENT])?.as_deref() {
            None => return Ok(program.map(SshClient::OpenSsh)),
            Some("auto") => SshClient::Auto,
            Some("own") => SshClient::Own,
            Some("openssh") => SshClient::open_ssh(),
            Some(other) => {
                return Err(self.wrong(
                    CLIENT.to_owned(),
                    &Value::String(other.to_owned()),
                    "auto, own or openssh",
                ));
            }
        };
        Ok(Some(match (client, program) {
            (SshClient::OpenSsh(_), Some(program)) => SshClient::OpenSsh(program),
            (client, _) => client,
        }))
    }
}
