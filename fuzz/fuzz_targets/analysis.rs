//! What a host's coverage.py says of a source, and a report of lines and arcs that no such source ever ran.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pulpcov_coverage::analysis::SourceAnalysis;
use pulpcov_data_file::data::Measured;
use pulpcov_data_file::lines::{ArcSet, LineSet};
use pulpcov_coverage::report::report_file;

fuzz_target!(|text: &[u8]| {
    let Ok(source) = SourceAnalysis::from_json(text) else { return };
    // How much a source of a million lines costs is for tests; many small ones are worth more here.
    if source.n_lines > 10_000 {
        return;
    }
    let source = Arc::new(source);
    let lines: LineSet = (1..40).chain([5_000, 1_000_000]).collect();
    let arcs: ArcSet = (-3..40).flat_map(|line| [(line, line + 1), (line, line), (line, -1)]).collect();
    for measured in [Measured::Lines(lines), Measured::Arcs(arcs)] {
        let report = report_file("a.py".to_owned(), &source, &measured, [(0, &measured)]);
        let numbers = report.analysed.numbers;
        assert_eq!(numbers.statements, source.statements.len() as u64);
        assert!(numbers.missing <= numbers.statements && numbers.missing_branches <= numbers.branches);
    }
});
