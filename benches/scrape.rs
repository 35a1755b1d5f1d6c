//! How long an answer of `/metrics` and of `/topology` takes with many servers, two workers, and every counter in use.
//!
//! `cargo bench --bench scrape`. An answer for a hundred servers must take less than 10 ms.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use outrigger::admin::{metrics, topology};

#[path = "../tests/metrics/still.rs"]
mod still;

use still::Still;

/// Pools, and servers of each: what a sidecar has, what is promised, and what nobody should have.
const SIZES: [(usize, usize); 3] = [(3, 10), (1, 100), (50, 100)];

fn scrape(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scrape");
    group.sample_size(20);
    for (pools, servers) in SIZES {
        let still = Still::with(&still::configuration(pools, servers));
        let name = format!("{pools} x {servers}");
        let text = metrics(&still.sources);
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        println!("{name}: {series} series, {} bytes", text.len());
        group.bench_function(BenchmarkId::new("metrics", &name), |b| b.iter(|| black_box(metrics(&still.sources))));
        group.bench_function(BenchmarkId::new("topology", &name), |b| {
            b.iter(|| black_box(serde_json::to_string(&topology(&still.sources)).expect("JSON")));
        });
    }
    group.finish();
}

criterion_group!(benches, scrape);
criterion_main!(benches);
