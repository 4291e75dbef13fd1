//! A bundle's manifest: what is read can be written, and is read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulpcov_protocol::bundle::EntryPath;
use pulpcov_protocol::manifest::Manifest;

fuzz_target!(|text: &[u8]| {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(text) else { return };
    for entry in &manifest.entries {
        let _ = EntryPath::parse(&entry.path);
    }
    assert!(manifest.records().count() >= manifest.processes.len());
    let written = serde_json::to_vec(&manifest).expect("a manifest is JSON");
    let again: Manifest = serde_json::from_slice(&written).expect("our own");
    assert_eq!(again, manifest);
});
