//! The report of a run whose bundle holds together, whatever is in it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir_in("/dev/shm").expect("a folder"));

fuzz_target!(|archive: &[u8]| pulpcov::fuzz::run(archive, FOLDER.path()));
