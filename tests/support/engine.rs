//! A real container engine of a test's own: podman with runc, its images and containers in throw-away folders, its
//! containers without a network. Containers end with the test; one that was killed leaves them to the next.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::Result;
use tempfile::TempDir;

use crate::{base, image, programs, shop};

/// The image: the hosts' root with the shop, and s6 to watch over it.
pub const IMAGE: &str = "localhost/shop";

/// How the folders of engines begin.
const PREFIX: &str = "pulpcov-engine.";

const PATIENCE: Duration = Duration::from_mins(1);

fn files() -> PathBuf {
    programs::workspace().join("tests/support/containers")
}

/// A store with the image in it, made once for a machine.
pub fn image_store() -> Result<PathBuf> {
    let root = base::ensure()?;
    let mut recipe = vec![root.as_os_str().as_encoded_bytes().to_vec(), include_bytes!("engine.rs").to_vec()];
    for file in ["web-run", "worker-run"] {
        recipe.push(fs::read(files().join(file))?);
    }
    image::ensure_built("containers", &recipe, |building| build(&root, building))
}

fn build(root: &Path, building: &Path) -> Result<()> {
    fs::create_dir_all(building)?;
    let tree = tempfile::tempdir()?;
    shop::put_into(tree.path())?;
    for service in ["web", "worker"] {
        let folder = tree.path().join("s6").join(service);
        fs::create_dir_all(&folder)?;
        let run = folder.join("run");
        fs::copy(files().join(format!("{service}-run")), &run)?;
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755))?;
    }
    for folder in ["wait", "done"] {
        let path = tree.path().join("var/lib/shop").join(folder);
        fs::create_dir_all(&path)?;
        // Whoever a container runs as.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))?;
    }
    make_image(building, IMAGE, root, tree.path())
}

/// Makes an image in a store, of a root with a tree over it.
pub fn make_image(store: &Path, name: &str, root: &Path, tree: &Path) -> Result<()> {
    let settings = tempfile::tempdir()?;
    write_settings(settings.path(), store, None)?;
    let script = format!(
        "set -e; tar -C '{root}' --exclude=./usr/share/locale --exclude=./usr/share/doc --exclude=./var/cache -c . | \
         podman import -q - {name}-base; podman create --name new {name}-base true; podman cp '{tree}/.' new:/; \
         podman commit -q new {name}; podman rm new",
        root = root.display(),
        tree = tree.display(),
    );
    image::run(podman_in(settings.path(), "sh").args(["-c", &script]))
}

/// What this machine's engine needs: its root may not raise limits.
fn write_settings(folder: &Path, graph: &Path, images: Option<&Path>) -> Result<()> {
    fs::write(
        folder.join("containers.conf"),
        "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=10000:10000\"]\nnetns = \"none\"\n\
         [network]\nnetwork_backend = \"netavark\"\n[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n",
    )?;
    let images =
        images.map_or(String::new(), |path| format!("additionalimagestores = [\"{}\"]\n", path.display()));
    fs::write(
        folder.join("storage.conf"),
        format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n[storage.options]\n{images}",
            graph.display(),
            folder.join("run").display()
        ),
    )?;
    Ok(())
}

fn podman_in(folder: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("CONTAINERS_CONF", folder.join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"));
    command
}

pub struct Engine {
    folder: TempDir,
}

impl Engine {
    /// Podman, with the image at hand.
    pub fn podman() -> Self {
        Self::with_images(image_store())
    }

    /// The same with the images of a store.
    pub fn with_images(store: Result<PathBuf>) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "real containers need root: run the tests as root");
        let images = store.unwrap_or_else(|error| panic!("no image for containers: {error:#}"));
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().expect("a folder for the engine");
        write_settings(folder.path(), &folder.path().join("graph"), Some(&images)).expect("settings");
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program that finds this engine.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = podman_in(self.folder.path(), program);
        command.current_dir(self.folder.path());
        command
    }

    /// podman, which must succeed; its stdout.
    pub fn podman_does(&self, words: &[&str]) -> String {
        let output = self.command("podman").args(words).output().expect("podman runs");
        assert!(
            output.status.success(),
            "podman {words:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts a container of that name with the image; `words` come before the image, `inside` behind it.
    pub fn start(&self, name: &str, words: &[&str], inside: &[&str]) {
        self.start_of(IMAGE, name, words, inside);
    }

    /// The same with another image.
    pub fn start_of(&self, image: &str, name: &str, words: &[&str], inside: &[&str]) {
        let begin = ["run", "-d", "--init=false", "--name", name];
        self.podman_does(&[&begin[..], words, &[image], inside].concat());
    }

    /// One whose PID 1 is s6, with the web application and the worker.
    pub fn start_s6(&self, name: &str, words: &[&str]) {
        self.start(name, words, &["s6-svscan", "/s6"]);
    }

    /// A shell's script in a container, as its root.
    pub fn on(&self, name: &str, script: &str) -> Output {
        self.command("podman")
            .args(["exec", "-u", "0", name, "sh", "-c", script])
            .output()
            .expect("podman runs")
    }

    /// The same, which must succeed; its stdout.
    pub fn shell(&self, name: &str, script: &str) -> String {
        let output = self.on(name, script);
        assert!(output.status.success(), "{script} in {name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until a script succeeds in a container.
    pub fn wait(&self, name: &str, script: &str) {
        let begin = Instant::now();
        while !self.on(name, script).status.success() {
            assert!(begin.elapsed() < PATIENCE, "waited in vain in {name} for: {script}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    }

    /// pulpcov, which must end with `code`: what it wrote, and what it said.
    pub fn pulpcov(&self, code: i32, words: &[&str]) -> (String, String) {
        let output = self
            .command(programs::pulpcov())
            .args(words)
            .env("CI", "true")
            .env("COLUMNS", "160")
            .env("PULPCOV_STATE_DIR", self.path("state"))
            .output()
            .expect("pulpcov runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (wrote, said) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "pulpcov {words:?}\n{wrote}{said}");
        (wrote, said)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.command("podman").args(["rm", "-f", "-a", "-t", "0"]).output();
        let _ = self.command("podman").args(["volume", "rm", "-a", "-f"]).output();
        // The store's own mount.
        let _ = Command::new("umount").args(["-l", "-q"]).arg(self.path("graph/overlay")).output();
    }
}
