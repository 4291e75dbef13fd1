//! A real Kubernetes of one node: API server, kubelet and containerd, in namespaces of their own. Its programs are built out
//! of the distribution's source package, which takes minutes: once for a machine, and only where that is asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::engine::{Engine, IMAGE};
use crate::{base, image, programs};

/// The variable that asks for the programs to be built.
pub const ASKED: &str = "PULPCOV_KUBERNETES";

const PATIENCE: Duration = Duration::from_mins(2);

fn files() -> PathBuf {
    programs::workspace().join("tests/support/kubernetes")
}

/// The folder with API server and kubelet; nothing where they were not built and nobody asks for it.
pub fn at_hand() -> Option<PathBuf> {
    let recipe = [fs::read(files().join("build.sh")).expect("a script")];
    let is_asked = std::env::var_os(ASKED).is_some_and(|value| value == "1");
    if !is_asked {
        return image::found("kubernetes", &recipe);
    }
    Some(
        image::ensure_built("kubernetes", &recipe, build)
            .unwrap_or_else(|error| panic!("no Kubernetes: {error:#}")),
    )
}

fn build(out: &Path) -> Result<()> {
    let mirror = base::mirror()?;
    image::run(Command::new(files().join("build.sh")).args([&mirror, base::RELEASE]).arg(out))
}

pub struct Kubernetes {
    folder: TempDir,
    child: Child,
}

impl Kubernetes {
    /// Starts the node with an engine's image on it, and waits until it is ready for pods.
    pub fn start(programs: &Path, engine: &Engine) -> Self {
        let folder = tempfile::Builder::new().prefix("pulpcov-kubernetes.").tempdir().expect("a folder");
        prepare(folder.path(), engine).unwrap_or_else(|error| panic!("cannot prepare a node: {error:#}"));
        let log = fs::File::create(folder.path().join("log.txt")).expect("a log");
        let child = Command::new("unshare")
            .args(["-m", "-n", "-p", "-f", "--kill-child", "sh"])
            .arg(files().join("up.sh"))
            .args([folder.path(), programs])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("unshare runs");
        let node = Self { folder, child };
        node.wait("the node", |node| node.kubectl(&["get", "node", "node"]).status.success());
        node
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
        let tail = |text: String| text.lines().rev().take(15).collect::<Vec<_>>().join("\n");
        ["log.txt", "apiserver.log", "kubelet.log", "containerd.log", "import.log"]
            .map(|name| tail(read(name)))
            .join("\n--\n")
    }

    /// Waits for something; the test fails where it does not come.
    pub fn wait(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let begin = Instant::now();
        while !condition(self) {
            assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}: {}", self.log());
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// A program in the node's network.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let inner = fs::read_to_string(children).unwrap_or_default();
        let mut command = Command::new("nsenter");
        command.args(["-t", inner.trim(), "-n", "--"]).arg(program).current_dir(self.folder.path());
        command
    }

    pub fn kubectl(&self, words: &[&str]) -> Output {
        self.command("kubectl")
            .args(["--kubeconfig", "kubeconfig"])
            .args(words)
            .output()
            .expect("kubectl runs")
    }

    /// A shell's script in a pod, which must succeed; its stdout.
    pub fn shell(&self, pod: &str, script: &str) -> String {
        let output = self.kubectl(&["exec", pod, "--", "sh", "-c", script]);
        assert!(output.status.success(), "{script} in {pod}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// pulpcov in the node's network, which must end with `code`: what it wrote, and what it said.
    pub fn pulpcov(&self, code: i32, words: &[&str]) -> (String, String) {
        let (wrote, said, ended) = self.run(words);
        assert_eq!(ended, Some(code), "pulpcov {words:?}\n{wrote}{said}");
        (wrote, said)
    }

    /// The same, however it ends.
    pub fn pulpcov_ends(&self, words: &[&str]) -> (String, String) {
        let (wrote, said, _) = self.run(words);
        (wrote, said)
    }

    fn run(&self, words: &[&str]) -> (String, String, Option<i32>) {
        let output = self
            .command(programs::pulpcov())
            .args(words)
            .env("CI", "true")
            .env("PULPCOV_STATE_DIR", self.path("state"))
            .output()
            .expect("pulpcov runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr), output.status.code())
    }
}

fn prepare(folder: &Path, engine: &Engine) -> Result<()> {
    let run = folder.to_str().context("a folder's name")?;
    for name in ["containerd.toml", "kubelet.yaml", "kubeconfig", "tokens.csv"] {
        let text = fs::read_to_string(files().join(name))?.replace("RUN", run);
        fs::write(folder.join(name), text)?;
    }
    let key = ["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f"];
    image::run(Command::new("ssh-keygen").args(key).arg(folder.join("sa.key")))?;
    // What keeps a pod's namespaces does nothing.
    engine.podman_does(&["create", "--name", "pause", IMAGE, "true"]);
    let sleep = "CMD [\"sleep\", \"infinity\"]";
    engine.podman_does(&["commit", "-q", "--change", sleep, "pause", "localhost/pause"]);
    let images = folder.join("images.tar");
    engine.podman_does(&[
        "save",
        "-q",
        "-m",
        "-o",
        images.to_str().context("a path")?,
        IMAGE,
        "localhost/pause",
    ]);
    Ok(())
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        // Its first process takes all others with it, and their mounts.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
