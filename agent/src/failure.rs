//! Why an op failed, in the two lines that reach a person: the reason, and what to do about it.

use std::fmt;

use pulpcov_protocol::text::error_chain;

/// Everything that goes wrong on a host ends as `msg` and `hint` of an outcome, so that is what an
/// op returns.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) msg: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(msg: impl Into<String>) -> Self {
        Self { msg: msg.into(), hint: None }
    }

    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)
    }
}

impl std::error::Error for Failure {}

/// fs-err's errors carry act and path already.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                Some(
                    "become root: set ansible_become: true for this host; where nobody may, set pulpcov_lib_root and \
                     pulpcov_data_root to folders that the service's user can write to"
                        .to_owned(),
                )
            }
            std::io::ErrorKind::StorageFull => Some("make room on that file system".to_owned()),
            std::io::ErrorKind::ReadOnlyFilesystem => Some(
                "remount that file system read-write; in a container, set pulpcov_lib_root and pulpcov_data_root to \
                 folders of a volume, or start it with the hook as volumes (pulpcov bake)"
                    .to_owned(),
            ),
            _ => None,
        };
        Self { msg: error_chain(&error), hint }
    }
}

/// Adds what was being done to an error of the system calls that carry no path.
pub(crate) trait During<T> {
    fn during(self, act: &str, object: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Into<std::io::Error>> During<T> for Result<T, E> {
    fn during(self, act: &str, object: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| {
            let failure = Failure::from(error.into());
            Failure { msg: format!("cannot {act} {object}: {}", failure.msg), ..failure }
        })
    }
}
