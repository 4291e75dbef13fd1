//! The programs under test, as the build made them.

use std::path::PathBuf;

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// Where builds go.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// Where this very program was built: programs of one build belong together.
pub fn own_folder() -> PathBuf {
    let own = std::env::current_exe().expect("this program is somewhere");
    let folder = own.parent().expect("a folder");
    if folder.ends_with("deps") { folder.parent().expect("a folder").to_owned() } else { folder.to_owned() }
}

fn built(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "{} is not built: run .ci/test", path.display());
    path
}

/// The controller.
pub fn pulpcov() -> PathBuf {
    built(own_folder().join("pulpcov"))
}

/// The static agent for this machine's hosts.
pub fn agent() -> PathBuf {
    built(target().join("agents/pulpcov-agent-x86_64"))
}

/// The program that makes labs.
pub fn lab() -> PathBuf {
    built(own_folder().join("pulpcov-lab"))
}
