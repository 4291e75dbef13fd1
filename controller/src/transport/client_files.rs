//! What OpenSSH's client is started with beside its words: a configuration that comes before the user's own, and a socket
//! that answers what it asks. Both lie in a folder of our user's alone, and go with it.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::transport::askpass::{self, Askpass, Secrets};

/// The ssh_config that a user has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserConfig {
    /// His own, then that of the machine.
    Usual,
    /// `-F`.
    File(PathBuf),
    /// `-F none`.
    None,
}

/// What the files are made of.
#[derive(Clone)]
pub(super) struct ClientOptions {
    /// Lines of ssh_config for every host on the way. ssh hands its `-F` on to the clients of jump hosts, and of all its
    /// words no other.
    pub(super) for_all: Vec<String>,
    pub(super) user_config: UserConfig,
    /// Nothing where nothing may be asked.
    pub(super) secrets: Option<Secrets>,
}

/// The files of one ssh.
pub(super) struct ClientFiles {
    // Ends before its folder goes.
    pub(super) askpass: Option<Askpass>,
    folder: TempDir,
}

impl ClientFiles {
    pub(super) fn make(options: &ClientOptions) -> io::Result<Self> {
        let folder = private_folder(&std::env::temp_dir()).or_else(|_| private_folder(Path::new("/tmp")))?;
        let included = match &options.user_config {
            UserConfig::Usual => "Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\n".to_owned(),
            UserConfig::File(path) => {
                // By a name that needs no quotes, and that no pattern fits by chance.
                let link = folder.path().join("user");
                symlink(std::path::absolute(path)?, &link)?;
                format!("Include {}\n", link.display())
            }
            UserConfig::None => String::new(),
        };
        let for_all: String = options.for_all.iter().map(|line| format!("  {line}\n")).collect();
        let text = format!("Host *\n{for_all}Match all\n{included}");
        fs_err::write(folder.path().join("config"), text)?;
        let askpass =
            options.secrets.clone().map(|secrets| Askpass::listen(secrets, folder.path())).transpose()?;
        Ok(Self { askpass, folder })
    }

    /// Words that ssh is given before all others.
    pub(super) fn words(&self) -> [OsString; 2] {
        ["-F".into(), self.folder.path().join("config").into()]
    }
}

/// A folder that nobody else looks into, whatever the umask, with a path that ssh takes as it is: it puts it unquoted into
/// the command of a jump host, and a socket's is short.
fn private_folder(parent: &Path) -> io::Result<TempDir> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@=".contains(c);
    if !parent.to_str().is_some_and(|path| path.starts_with('/') && path.chars().all(is_plain)) {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    let folder = tempfile::Builder::new()
        .prefix("pulpcov-ssh.")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)?;
    SocketAddr::from_pathname(folder.path().join(askpass::SOCKET_NAME))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_folder_is_nobody_elses_and_the_users_words_come_after_ours() {
        let user = tempfile::tempdir().expect("a folder");
        let file = user.path().join("my config");
        fs_err::write(&file, "Host gate\n  StrictHostKeyChecking no\n").expect("written");
        let options = ClientOptions {
            for_all: vec!["StrictHostKeyChecking yes".to_owned()],
            user_config: UserConfig::File(file),
            secrets: Some(Secrets::new("u", &["h"], Some("pw"), None)),
        };
        let files = ClientFiles::make(&options).expect("made");
        let folder = files.folder.path().to_owned();
        assert_eq!(fs_err::metadata(&folder).expect("there").permissions().mode() & 0o777, 0o700);
        let text = fs_err::read_to_string(folder.join("config")).expect("a configuration");
        assert!(text.starts_with("Host *\n  StrictHostKeyChecking yes\nMatch all\nInclude /"), "{text}");
        drop(files);
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_whose_path_ssh_would_take_apart_is_not_used() {
        let odd = tempfile::Builder::new().prefix("a b").tempdir().expect("a folder");
        assert!(private_folder(odd.path()).is_err());
        let long = odd.path().join("x".repeat(120));
        fs_err::create_dir(&long).expect("a folder");
        assert!(private_folder(&long).is_err());
    }
}
