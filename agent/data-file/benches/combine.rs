//! Reading and combining data files, without Python, disks or processes around it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pulpcov_data_file::data::{CoverageData, Kind, Measured};
use pulpcov_data_file::data_file;

/// A process of a service of 500 sources.
fn process(kind: Kind, seed: u32) -> CoverageData {
    let mut data = CoverageData::new(Some(kind));
    for source in 0..500u32 {
        let runs = |line: u32| !(line * 7 + source * 13 + seed * 31).is_multiple_of(5);
        let lines = (1..120).filter(|&line| runs(line));
        let measured = match kind {
            Kind::Lines => Measured::Lines(lines.collect()),
            Kind::Arcs => Measured::Arcs(lines.map(|n| (n.cast_signed(), n.cast_signed() + 1)).collect()),
        };
        data.add(&format!("/usr/lib/python3/site-packages/app/module_{source}.py"), "", measured)
            .expect("one kind");
    }
    data
}

fn bench(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, kind) in [("lines", Kind::Lines), ("arcs", Kind::Arcs)] {
        let path = folder.path().join(name);
        data_file::write(&process(kind, 1), &path).expect("writes");
        let bytes = fs_err::read(&path).expect("reads");
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("read", |b| b.iter(|| data_file::read(black_box(&bytes)).expect("ours")));
        let (all, one) = (process(kind, 1), process(kind, 2));
        group.bench_function("merge", |b| {
            b.iter_batched(
                || (all.clone(), one.clone()),
                |(mut all, one)| all.merge(one).expect("one kind"),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
