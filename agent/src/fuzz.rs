//! A way to the reader of process records, for `fuzz/`.

use std::path::Path;

use crate::recorder::data_dir::LEDGER;
use crate::recorder::{fingerprint, ledger};

/// Most bytes that a record may take in a manifest, whatever is in it.
const MOST_TOLD: usize = 64 * 1024;

/// A record of any bytes in a data directory: it is told of in bounds, or left out with a reason.
pub fn record(bytes: &[u8], folder: &Path) {
    let ledger_folder = folder.join(LEDGER);
    let _ = std::fs::create_dir_all(&ledger_folder);
    for name in ["proc.h1.7.aa.json", "many.h1.0.bb.json"] {
        if std::fs::write(ledger_folder.join(name), bytes).is_err() {
            return;
        }
    }
    let Ok(found) = ledger::read_all(folder, "") else { return };
    for process in found.processes() {
        let told = serde_json::to_vec(process).map_or(0, |text| text.len());
        assert!(told < MOST_TOLD, "a record of {} bytes is told of in {told}", bytes.len());
        assert!(
            process.data.as_deref().is_none_or(|data| {
                let more = data.strip_prefix("data.h1.7.aa");
                more.is_some_and(|more| more.is_empty() || more.starts_with('-'))
            }),
            "data of another's"
        );
    }
    for sources in found.records.iter().filter_map(|record| record.sources.as_ref()) {
        assert_eq!(&fingerprint::split(&fingerprint::join(sources)), sources);
    }
    let _ = (found.runs(), found.prefixes(), found.told_data());
}
