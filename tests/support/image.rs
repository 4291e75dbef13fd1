//! Root images and layers over them: built once for a machine, and found again by what they are made of.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// The folder of all images, and where the image `name` that is made of `recipe` belongs.
fn place(name: &str, recipe: &[Vec<u8>]) -> Result<(PathBuf, PathBuf)> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .context("there is no home to cache the image in")?
        .join("pulpcov-tests");
    fs::create_dir_all(&cache)?;
    let mut digest = Sha256::new();
    for part in recipe {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    let digest: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let image = cache.join(format!("{name}-{digest}"));
    Ok((cache, image))
}

/// That image, if it was built.
pub fn found(name: &str, recipe: &[Vec<u8>]) -> Option<PathBuf> {
    place(name, recipe).ok().map(|(_, image)| image).filter(|image| image.exists())
}

/// The image `name` that is made of `recipe`, built now if it is not there. `build` gets an empty place.
pub fn ensure_built(
    name: &str,
    recipe: &[Vec<u8>],
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let (cache, image) = place(name, recipe)?;
    // Two tests may want it at once; one builds.
    let lock = fs::File::create(cache.join(format!("{name}.lock")))?;
    lock.lock()?;
    if !image.exists() {
        let _ = writeln!(std::io::stderr(), "building the hosts' {name} image (once, about two minutes)");
        let building = cache.join(format!("building-{name}-{}", std::process::id()));
        let built = build(&building);
        if built.is_err() {
            let _ = fs::remove_dir_all(&building);
        }
        built?;
        fs::rename(&building, &image)?;
    }
    Ok(image)
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
