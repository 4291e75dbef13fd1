//! Starts a Python of the service: one of the host as a child, one of an image in a throw-away container of it, which has
//! no rights, of the host's files only those that are named, and a network only where a wheel is to be fetched.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use pulpcov_protocol::outcome::Interpreter;

use crate::failure::Failure;
use crate::host::{child, quadlet};

/// How a throw-away container is run, before what belongs to one run. An image that is not here is not fetched.
const CONTAINER: [&str; 18] = [
    "run",
    "--rm",
    "--interactive",
    "--pull=never",
    "--log-driver=none",
    "--no-healthcheck",
    "--systemd=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    // Where SELinux confines containers, its labels are not those of our files.
    "--security-opt=label=disable",
    "--user=0:0",
    "--workdir=/",
    "--ulimit=core=0:0",
    "--env=PYTHONDONTWRITEBYTECODE=1",
    // As the image has them, they are the service's.
    "--env=PYTHONPATH=",
    "--env=PYTHONHOME=",
    "--env=PULPCOV_ROLE=",
    "--env=PULPCOV_UNIT=",
];

/// One start of a Python.
pub(crate) struct Start<'a> {
    path: &'a str,
    image: Option<&'a str>,
    args: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    /// What of the host's files one of an image sees: where, under which name, and whether it may write there.
    mounts: Vec<(PathBuf, PathBuf, bool)>,
    has_network: bool,
}

impl<'a> Start<'a> {
    pub(crate) fn of(python: &'a Interpreter) -> Self {
        Self::at(&python.path, python.image.as_deref())
    }

    /// Of the Python at a path, of the host or of an image.
    pub(crate) const fn at(path: &'a str, image: Option<&'a str>) -> Self {
        Self {
            path,
            image,
            args: Vec::new(),
            environment: Vec::new(),
            mounts: Vec::new(),
            has_network: false,
        }
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(OsString::from));
        self
    }

    pub(crate) fn path_arg(mut self, path: &Path) -> Self {
        self.args.push(path.into());
        self
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Has it see a path of the host's.
    pub(crate) fn sees(self, path: &Path) -> Self {
        self.mount(path, path, false)
    }

    /// Has it write below one.
    pub(crate) fn writes(self, path: &Path) -> Self {
        self.mount(path, path, true)
    }

    /// Has it see a path of the host's under another name.
    pub(crate) fn sees_as(self, path: &Path, name: &Path) -> Self {
        self.mount(path, name, false)
    }

    fn mount(mut self, path: &Path, name: &Path, is_writable: bool) -> Self {
        if self.image.is_some() {
            self.mounts.push((path.to_owned(), name.to_owned(), is_writable));
        }
        self
    }

    /// Has it reach what the host reaches.
    pub(crate) fn with_network(mut self) -> Self {
        self.has_network = true;
        self
    }

    /// Runs it to its end: what it answers to an input.
    pub(crate) fn answer(self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        let Some(image) = self.image else {
            let mut command = Command::new(self.path);
            command.args(self.args).envs(self.environment);
            return child::run(&mut command, input);
        };
        child::run_engine(&mut self.in_container(image), input).map_err(|failure| Failure {
            msg: format!("{} of {image}: {}", self.path, failure.msg),
            ..failure
        })
    }

    fn in_container(&self, image: &str) -> Command {
        let mut command = Command::new(quadlet::ENGINE);
        command.args(CONTAINER);
        command.arg(format!("--timeout={}", child::PATIENCE.as_secs()));
        command.arg(if self.has_network { "--network=host" } else { "--network=none" });
        if self.has_network {
            // How this host reaches a package index. Of each the name alone: the value is taken from our environment.
            command.args(child::network_variables().map(|name| format!("--env={name}")));
        }
        for (name, value) in &self.environment {
            let mut word = OsString::from(format!("--env={name}="));
            word.push(value);
            command.arg(word);
        }
        for (path, name, is_writable) in &self.mounts {
            let mut word = OsString::from("--volume=");
            word.push(path);
            word.push(":");
            word.push(name);
            word.push(if *is_writable { ":rw" } else { ":ro" });
            command.arg(word);
        }
        // A text alone would be taken apart at its blanks.
        command.arg(format!("--entrypoint={}", serde_json::json!([self.path])));
        command.arg(image).args(&self.args);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_an_image_sees_what_is_named_and_nothing_else() {
        let start = Start::at("/usr/bin/python3", Some("sha256:1"))
            .args(&["-I"])
            .env("A", "b c")
            .sees(Path::new("/lib root"))
            .writes(Path::new("/x"));
        let command = start.in_container("sha256:1");
        let words: Vec<&str> = command.get_args().map(|word| word.to_str().expect("a text")).collect();
        assert_eq!(
            words[CONTAINER.len()..],
            [
                "--timeout=600",
                "--network=none",
                "--env=A=b c",
                "--volume=/lib root:/lib root:ro",
                "--volume=/x:/x:rw",
                "--entrypoint=[\"/usr/bin/python3\"]",
                "sha256:1",
                "-I"
            ]
        );
        assert!(words[..CONTAINER.len()].contains(&"--cap-drop=all"));
    }
}
