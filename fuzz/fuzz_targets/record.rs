//! A process record in a folder that everybody can write into.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir_in("/dev/shm").expect("a folder"));

fuzz_target!(|bytes: &[u8]| pulpcov_agent::fuzz::record(bytes, FOLDER.path()));
