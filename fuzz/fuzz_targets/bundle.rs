//! A host's bundle, as the bytes of its archive: what is checked is what is read.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir_in("/dev/shm").expect("a folder"));

fuzz_target!(|archive: &[u8]| pulpcov::fuzz::bundle(archive, FOLDER.path()));
