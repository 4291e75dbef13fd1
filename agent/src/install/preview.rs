//! What a change would make of a file's text, in the shape that Ansible's `--diff` shows.

use std::path::Path;

use pulpcov_protocol::outcome::FileDiff;

/// Largest text that is shown; larger ones are only named.
const MAX_TEXT: usize = 64 * 1024;

/// Collects differences where somebody wants to see them.
pub(crate) struct Preview(Option<Vec<FileDiff>>);

impl Preview {
    pub(crate) fn new(wanted: bool) -> Self {
        Self(wanted.then(Vec::new))
    }

    /// A file that changes; `None` is one that is not there.
    pub(crate) fn file(&mut self, path: &Path, before: Option<&[u8]>, after: Option<&[u8]>) {
        let Some(all) = &mut self.0 else { return };
        let name = path.display().to_string();
        let header = |bytes: Option<&[u8]>| {
            if bytes.is_some() { name.clone() } else { "/dev/null".to_owned() }
        };
        all.push(FileDiff {
            before: before.map(text).unwrap_or_default(),
            after: after.map(text).unwrap_or_default(),
            before_header: header(before),
            after_header: header(after),
        });
    }

    /// A folder or a tree that comes or goes.
    pub(crate) fn folder(&mut self, path: &Path, comes: bool) {
        let there = format!("{}/\n", path.display());
        let [before, after] = if comes { [None, Some(there)] } else { [Some(there), None] };
        self.file(path, before.as_ref().map(String::as_bytes), after.as_ref().map(String::as_bytes));
    }

    pub(crate) fn take(&mut self) -> Vec<FileDiff> {
        self.0.take().unwrap_or_default()
    }
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= MAX_TEXT && !text.contains('\0') => text.to_owned(),
        _ => format!("({} bytes, sha256 {})\n", bytes.len(), crate::host::fs::sha256(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_shown_and_the_rest_is_named() {
        let mut preview = Preview::new(true);
        preview.file(Path::new("/a"), None, Some(b"x\n"));
        preview.file(Path::new("/b"), Some(b"\x7fELF\0"), None);
        let all = preview.take();
        assert_eq!((all[0].before_header.as_str(), all[0].after.as_str()), ("/dev/null", "x\n"));
        assert!(all[1].before.starts_with("(5 bytes, sha256 ") && all[1].after_header == "/dev/null");
        assert_eq!(Preview::new(false).take(), []);
    }
}
