//! A recorded process's map: whatever is read is data that can be written, and a beginning of it has no more.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use pulpcov_data_file::{data_file, map};

fuzz_target!(|bytes: &[u8]| {
    let Ok(found) = map::read(bytes) else { return };
    let half = map::read(&bytes[..bytes.len().max(16) / 2]).map_or(0, |half| half.files.len());
    assert!(half <= found.files.len(), "a beginning has more files");
    for data in [found.to_data(), found.to_arcs(&BTreeMap::new())].into_iter().flatten() {
        if let Ok(written) = data_file::to_bytes(&data) {
            // A file of which nothing ran has no context any more.
            let again = data_file::to_bytes(&data_file::read(&written).expect("our own")).expect("our own");
            assert_eq!(again, written, "written is not what is read again");
        }
    }
});
