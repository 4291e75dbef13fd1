//! A real Pulp in one container, as its own CI has it: s6 watches over the database, the API, the content app and two
//! workers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::engine::{self, Engine};
use crate::{base, image, pulp};

/// The image, and the container's name.
pub const IMAGE: &str = "localhost/pulp";
pub const NAME: &str = "pulp";

/// A store with the image in it, made once for a machine.
fn image_store() -> Result<PathBuf> {
    let layer = pulp::layer()?;
    let mut recipe =
        vec![layer.as_os_str().as_encoded_bytes().to_vec(), include_bytes!("pulp_container.rs").to_vec()];
    recipe.extend(pulp::contents(&pulp::files().join("s6"))?);
    image::ensure_built("pulp-container", &recipe, |building| build(&layer, building))
}

fn build(layer: &Path, building: &Path) -> Result<()> {
    fs::create_dir_all(building)?;
    let tree = tempfile::tempdir()?;
    image::run(Command::new("cp").arg("-a").arg(pulp::files().join("s6")).arg(tree.path()))?;
    fs::create_dir_all(tree.path().join("shared"))?;
    // Both folders as one.
    let merged = tempfile::tempdir()?;
    let mount = || -> Result<()> {
        let lower = format!("lowerdir={}:{}", layer.display(), base::ensure()?.display());
        image::run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &lower]).arg(merged.path()))
    };
    mount()?;
    let made = engine::make_image(building, IMAGE, merged.path(), tree.path());
    image::run(Command::new("umount").arg(merged.path()))?;
    made
}

/// Starts the container, and waits until two processes of each kind say that they are there.
pub fn start() -> Engine {
    let engine = Engine::with_images(image_store());
    engine.start_of(IMAGE, NAME, &[], &["s6-svscan", "/s6"]);
    engine.shell(NAME, "install -d -o pulp -g pulp /shared/media /shared/fixture");
    wait_until_online(&engine);
    engine
}

pub fn wait_until_online(engine: &Engine) {
    engine.wait(
        NAME,
        // Of nothing, jq says that all is well.
        "said=$(curl -sf -m 5 http://127.0.0.1:24817/pulp/api/v3/status/) && printf %s \"$said\" | \
         jq -e '[.online_workers, .online_api_apps, .online_content_apps] | all(length >= 2)'",
    );
}

/// Repositories, syncs, uploads, publications, downloads.
pub fn exercise(engine: &Engine, rounds: u32) {
    let script = format!(
        "PULP_API=http://127.0.0.1:24817 PULP_CONTENT=http://127.0.0.1:24816 /opt/exercise.sh {rounds}"
    );
    engine.shell(NAME, &script);
}
