//! A data file's pages: whatever is read can be written, and is read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulpcov_data_file::combine::Combiner;
use pulpcov_data_file::data_file;

fuzz_target!(|bytes: &[u8]| {
    let Ok(data) = data_file::read(bytes) else { return };
    if let Ok(opened) = data_file::open(bytes) {
        let mut combiner = Combiner::default();
        if opened.combine(&mut combiner, None).is_ok() {
            assert_eq!(combiner.into_data(), data, "combined is not what is read");
        }
    }
    if let Ok(written) = data_file::to_bytes(&data) {
        assert_eq!(data_file::read(&written).expect("our own"), data, "written is not what is read again");
    }
});
