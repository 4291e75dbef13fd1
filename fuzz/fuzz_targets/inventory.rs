//! An inventory, in YAML or INI, and all that is told of its hosts.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir_in("/dev/shm").expect("a folder"));

fuzz_target!(|text: &[u8]| pulpcov::fuzz::inventory(text, FOLDER.path()));
