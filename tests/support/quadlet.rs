//! A host whose services are containers under systemd: Debian trixie with podman, its generator, and the shop's units as
//! quadlets, one of them an instance of a template.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{base, engine, image, programs, shop};

/// The first release whose podman reads drop-ins of quadlets.
const RELEASE: &str = "trixie";

const PACKAGES: &str = "systemd,systemd-sysv,dbus,openssh-server,sudo,python3,iproute2,procps,ca-certificates,podman,crun,conmon,netavark,catatonit";

/// What makes podman run here: its root may not raise limits, and a host in namespaces has no group to give away. What
/// a container writes goes to a folder of the machine's.
const SETTINGS: [(&str, &str); 2] = [
    (
        "etc/containers/containers.conf",
        "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=10000:10000\"]\ncgroups = \"disabled\"\n\
         [network]\nnetwork_backend = \"netavark\"\n[engine]\nruntime = \"crun\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n",
    ),
    (
        "etc/containers/storage.conf",
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"/shared/graph\"\nrunroot = \"/run/containers/storage\"\n\
         [storage.options]\nadditionalimagestores = [\"/var/lib/images\"]\n",
    ),
];

fn units() -> PathBuf {
    programs::workspace().join("tests/support/quadlets")
}

/// The root of such a host, for one host of a lab with a shared folder and the machine's boot id.
pub fn root() -> Result<PathBuf> {
    let store = engine::image_store()?;
    let mut recipe =
        vec![store.as_os_str().as_encoded_bytes().to_vec(), include_bytes!("quadlet.rs").to_vec()];
    for unit in ["shop-web.container", "shop-worker@.container"] {
        recipe.push(fs::read(units().join(unit))?);
    }
    image::ensure_built("quadlet", &recipe, |building| build(&store, building))
}

fn build(store: &Path, building: &Path) -> Result<()> {
    base::bootstrap(building, RELEASE, PACKAGES)?;
    let images = building.join("var/lib/images");
    image::run(Command::new("cp").arg("-a").arg(store).arg(&images))?;
    for (path, text) in SETTINGS {
        let path = building.join(path);
        fs::create_dir_all(path.parent().unwrap_or(building))?;
        fs::write(path, text)?;
    }
    let folder = building.join("etc/containers/systemd");
    fs::create_dir_all(&folder)?;
    for unit in ["shop-web.container", "shop-worker@.container"] {
        fs::copy(units().join(unit), folder.join(unit))?;
    }
    symlink("shop-worker@.container", folder.join("shop-worker@1.container"))?;
    for folder in ["", "wait", "done"] {
        let path = building.join("var/lib/shop").join(folder);
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))?;
    }
    Ok(())
}

/// The shop's profile with the units of such a host, in a folder.
pub fn profile(folder: &Path) -> PathBuf {
    let text = fs::read_to_string(shop::profile()).expect("a profile");
    let path = folder.join("quadlets.yml");
    fs::write(&path, text.replace("shop-worker.service", "\"shop-worker@*.service\"")).expect("written");
    path
}
