//! Has the agent carry the native callbacks for its own machine type, where `.ci/agents` has built them.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=PULPCOV_NATIVE");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("native.so");
    let machine = std::env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let built =
        std::env::var_os("PULPCOV_NATIVE").map(|folder| PathBuf::from(folder).join(format!("{machine}.so")));
    let bytes = match &built {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        }
        // A build of no release, as for its unit tests: Python's own callbacks do.
        None => Vec::new(),
    };
    std::fs::write(out, bytes).expect("the native callbacks can be written");
}
