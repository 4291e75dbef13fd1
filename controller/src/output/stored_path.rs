//! Paths in the files that this program keeps: JSON is UTF-8, and a path need not be.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A path that is read back as it was written: its text where it is UTF-8, else its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub(crate) struct StoredPath(pub(crate) PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<StoredPath> for Form {
    fn from(StoredPath(path): StoredPath) -> Self {
        match path.into_os_string().into_string() {
            Ok(text) => Self::Text(text),
            Err(raw) => Self::Bytes(raw.into_vec()),
        }
    }
}

impl From<Form> for StoredPath {
    fn from(form: Form) -> Self {
        Self(match form {
            Form::Text(text) => text.into(),
            Form::Bytes(raw) => OsString::from_vec(raw).into(),
        })
    }
}

/// A path as text that no other path has: what is no UTF-8 in it is escaped.
pub(crate) fn distinct(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_back_as_it_was() {
        for raw in [&b"/runs/n\xff"[..], "/runs/n\u{fffd}".as_bytes(), b"runs/latest", b""] {
            let path = StoredPath(OsString::from_vec(raw.to_vec()).into());
            let text = serde_json::to_string(&path).expect("JSON");
            assert_eq!(serde_json::from_str::<StoredPath>(&text).expect("read back"), path, "{text}");
        }
        let text = serde_json::to_string(&StoredPath("/r".into())).expect("JSON");
        assert_eq!(text, r#""/r""#, "as files of earlier versions have it");
    }

    #[test]
    fn no_two_paths_have_one_text() {
        let path = |raw: &[u8]| PathBuf::from(OsString::from_vec(raw.to_vec()));
        assert_ne!(distinct(&path(b"/a\xff")), distinct(&path(b"/a\xfe")));
        assert_eq!(distinct(Path::new("/ä/hosts.yml")), "/ä/hosts.yml");
    }
}
