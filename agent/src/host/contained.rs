//! The Pythons of containers: what a process says of its own, and what an image's programs are run by.

use std::path::Path;

use pulpcov_protocol::profile::is_python_name;

use crate::failure::Failure;
use crate::host::interpreter::{into_text, words_of};
use crate::host::python::Start;

/// What a process of a container says of its Python.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contained {
    /// The path by which it was started: a virtual environment's is not the file behind it.
    pub(crate) named: Option<String>,
    /// That file.
    pub(crate) exe: Option<String>,
}

/// What Python a process of a container runs; only its image can tell what that is.
pub(crate) fn of_process(pid: u32) -> Contained {
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok().map(into_text);
    let Some(exe) = exe.filter(|exe| is_python_name(exe)) else {
        return Contained { named: None, exe: None };
    };
    let first = words_of(pid).and_then(|words| words.into_iter().next()).unwrap_or_default();
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let is_there = |path: &Path| {
        let path = path.strip_prefix("/").unwrap_or(path);
        std::fs::symlink_metadata(Path::new(&format!("/proc/{pid}/root")).join(path)).is_ok()
    };
    Contained {
        named: named_python(&first, &String::from_utf8_lossy(&environment), &is_there),
        exe: Some(exe),
    }
}

/// The path that a command line's first word names: by itself, or by the path of the environment.
fn named_python(first: &str, environment: &str, is_there: &dyn Fn(&Path) -> bool) -> Option<String> {
    if !is_python_name(first) {
        return None;
    }
    if first.starts_with('/') {
        return Some(first.to_owned());
    }
    let path = environment.split('\0').find_map(|word| word.strip_prefix("PATH="))?;
    let folders = path.split(':').filter(|folder| folder.starts_with('/'));
    folders.map(|folder| Path::new(folder).join(first)).find(|path| is_there(path)).map(into_text)
}

/// Answers which Pythons run programs of an image, by the first lines of each and by what a shell wrapper starts; where
/// none says so, its own.
const FIND: &str = include_str!("../../hook/find_python.py");

/// The Pythons of an image that run programs of these names.
pub(crate) fn of_image(image: &str, programs: &[&str]) -> Result<Vec<String>, Failure> {
    let request = serde_json::json!(programs).to_string();
    let answer = Start::at("python3", Some(image)).args(&["-I", "-c", FIND]).answer(request.as_bytes())?;
    serde_json::from_slice(&answer)
        .map_err(|error| Failure::new(format!("the image answers not as a Python does: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_of_a_container_is_named_by_its_path() {
        let is_there = |path: &Path| path == Path::new("/opt/venv/bin/python3");
        let environment = "HOME=/\0PATH=/opt/venv/bin:/usr/bin\0";
        let named = |first: &str| named_python(first, environment, &is_there);
        assert_eq!(named("python3").as_deref(), Some("/opt/venv/bin/python3"));
        assert_eq!(named("/usr/bin/python3.11").as_deref(), Some("/usr/bin/python3.11"));
        assert_eq!(named("python2"), None);
        assert_eq!(named("gunicorn: master [app]"), None);
    }

    #[test]
    fn programs_of_an_image_tell_their_python() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .expect("set");
        };
        program("plain", "#!/opt/venv/bin/python3 -s\n");
        program("long", "#!/bin/sh\n'''exec' \"/a/long/bin/python3\" \"$0\" \"$@\"\n");
        program("wrapper", "#!/bin/bash\nset -e\nexec plain \"$@\"\n");
        let find = |names: &[&str]| -> Vec<String> {
            let path = format!("{}:/usr/bin", folder.path().display());
            let mut child = std::process::Command::new("/usr/bin/python3")
                .args(["-I", "-c", FIND])
                .env("PATH", path)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("python3 runs");
            let asked = serde_json::json!(names).to_string();
            std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), asked.as_bytes())
                .expect("asked");
            serde_json::from_slice(&child.wait_with_output().expect("ends").stdout).expect("JSON")
        };
        assert_eq!(find(&["wrapper", "nothing"]), ["/opt/venv/bin/python3"]);
        assert_eq!(find(&["long", "plain"]), ["/a/long/bin/python3", "/opt/venv/bin/python3"]);
        assert_eq!(find(&["nothing"]).len(), 1, "the image's own");
    }
}
