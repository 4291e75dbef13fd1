//! By which way a host is reached, as the inventory has it.

/// A way to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    Ssh(SshClient),
    /// This machine.
    Local,
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
