//! Hosts of several Pythons, with the shop on each: roots of Debian's releases, and one with a Python that was built by
//! somebody, in a virtual environment.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{base, image, pulp, python, shop};

/// Releases, and the Pythons that they have.
pub const RELEASES: [(&str, &str); 3] = [("bullseye", "3.9"), ("trixie", "3.13"), ("forky", "3.14")];

/// The Python that comes in a virtual environment, over the root image of all labs.
pub const BUILT: &str = "3.12";

const PACKAGES: &str = "systemd,systemd-sysv,dbus,openssh-server,sudo,python3,python3-flask,python3-gunicorn,gunicorn,\
                        iproute2,procps,ca-certificates";

/// What the shop needs there.
const REQUIREMENTS: [&str; 2] = ["flask==3.1.2", "gunicorn==23.0.0"];

const VENV: &str = "opt/shop/venv";

/// Whether this machine's mirror has a release.
pub fn has_release(release: &str) -> bool {
    let found = |mirror: String| {
        let scratch = tempfile::tempdir().ok()?;
        let url = format!("{}/dists/{release}/Release", mirror.trim_end_matches('/'));
        let fetch = ["download-file", &url];
        let output =
            Command::new("/usr/lib/apt/apt-helper").args(fetch).arg(scratch.path().join("r")).output();
        Some(output.ok()?.status.success())
    };
    base::mirror().ok().and_then(found).unwrap_or(false)
}

/// The root of a host of a release.
pub fn release(name: &str) -> Result<PathBuf> {
    let mut recipe = vec![include_bytes!("pythons.rs").to_vec(), include_bytes!("base.rs").to_vec()];
    recipe.extend(pulp::contents(&shop::sources())?);
    image::ensure_built(&format!("release-{name}"), &recipe, |root| {
        base::bootstrap(root, name, PACKAGES)?;
        Ok(shop::put_into(root)?)
    })
}

/// The root of a host with the built Python: a layer over the root image; nothing where this machine has no such Python.
pub fn built() -> Result<Option<PathBuf>> {
    let Some(python) = python::of_version(BUILT) else { return Ok(None) };
    let base = base::ensure()?;
    let mut recipe = vec![
        include_bytes!("pythons.rs").to_vec(),
        base.as_os_str().as_encoded_bytes().to_vec(),
        python.as_os_str().as_encoded_bytes().to_vec(),
    ];
    recipe.extend(pulp::contents(&shop::sources())?);
    let layer = image::ensure_built("built-python", &recipe, |layer| put_python(&python, layer))?;
    Ok(Some(PathBuf::from(format!("{}:{}", layer.display(), base.display()))))
}

/// The shop, under a Python of its own.
fn put_python(python: &Path, layer: &Path) -> Result<()> {
    put_venv(python, layer, Path::new(VENV), &REQUIREMENTS)?;
    shop::put_into(layer)?;
    let unit = layer.join("etc/systemd/system/shop-web.service");
    fs::write(
        &unit,
        fs::read_to_string(&unit)?.replace("/usr/bin/gunicorn", &format!("/{VENV}/bin/gunicorn")),
    )?;
    let worker = layer.join("opt/shop/shop-worker");
    fs::write(
        &worker,
        fs::read_to_string(&worker)?.replace("/usr/bin/python3", &format!("/{VENV}/bin/python")),
    )?;
    Ok(())
}

/// Puts that Python into a layer, at the path that it has on this machine, where it finds its library, and a virtual
/// environment of it with these packages, and their programs.
pub(crate) fn put_venv(python: &Path, layer: &Path, venv: &Path, requirements: &[&str]) -> Result<()> {
    let prefix = output(Command::new(python).args(["-c", "import sys; print(sys.base_prefix)"]))?;
    let prefix = PathBuf::from(prefix.trim());
    let inside = |path: &Path| layer.join(path.strip_prefix("/").unwrap_or(path));
    let parent = inside(prefix.parent().context("a Python in no folder")?);
    fs::create_dir_all(&parent)?;
    image::run(Command::new("cp").arg("-a").arg(&prefix).arg(&parent))?;
    for folder in parent.ancestors().take_while(|folder| *folder != layer) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    let place = layer.join(venv);
    let (programs, site) = (place.join("bin"), place.join(format!("lib/python{BUILT}/site-packages")));
    fs::create_dir_all(&programs)?;
    fs::create_dir_all(&site)?;
    symlink(prefix.join(format!("bin/python{BUILT}")), programs.join("python"))?;
    let home = prefix.join("bin");
    fs::write(
        place.join("pyvenv.cfg"),
        format!("home = {}\ninclude-system-site-packages = false\n", home.display()),
    )?;
    pip(python, &site, requirements)?;
    for program in fs::read_dir(site.join("bin"))? {
        let program = program?;
        let Ok(text) = fs::read_to_string(program.path()) else { continue };
        let (_, rest) = text.split_once('\n').unwrap_or_default();
        let here = programs.join(program.file_name());
        fs::write(&here, format!("#!/{}/bin/python\n{rest}", venv.display()))?;
        fs::set_permissions(&here, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Installs packages into a folder.
pub(crate) fn pip(python: &Path, folder: &Path, requirements: &[&str]) -> Result<()> {
    let words =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"];
    image::run(Command::new(python).args(words).arg(folder).args(requirements))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    anyhow::ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
