//! The program itself: with this, `cargo test` builds it, for this and for the tests of the whole.

use std::process::Command;

#[test]
fn it_tells_its_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_pulpcov")).arg("--version").output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), concat!("pulpcov ", env!("CARGO_PKG_VERSION"), "\n"));
}
