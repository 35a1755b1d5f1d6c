//! What placing a key costs: the hashes at three key lengths, the ring look-up in each of its forms; and what it costs to
//! say which keys move.
//!
//! `cargo bench --bench placement`. The forms of the ketama look-up: `index` is [`Ring::server`], the request path;
//! `hashring` is [`Ring::locate`], which asks the HashRing; `sorted` is a binary search through bare sorted values, the
//! plain alternative to both.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use outrigger::config;
use outrigger::hash::{HashTag, KeyHash, tagged};
use outrigger::reload::Plan;
use outrigger::ring::{Distribution, Ring, RingServer};

/// In bytes: a counter, a usual key, a long one.
const KEY_LENGTHS: [usize; 3] = [8, 32, 128];
const POOL_SIZES: [usize; 3] = [3, 10, 100];
/// How many different points a look-up cycles through: more than a branch predictor learns by heart.
const POINTS: usize = 1 << 14;

fn hashes(c: &mut Criterion) {
    let mut group = c.benchmark_group("hash");
    for length in KEY_LENGTHS {
        let key: Vec<u8> = b"user:0123456789:session:".iter().copied().cycle().take(length).collect();
        for (name, hash) in KeyHash::ALL {
            group.bench_function(BenchmarkId::new(name, length), |b| {
                b.iter(|| black_box(hash).hash(black_box(&key)));
            });
        }
    }
    group.finish();
    let tag = Some(HashTag(*b"{}"));
    c.bench_function("tagged", |b| b.iter(|| tagged(black_box(b"user:{0123456789}:session"), black_box(tag))));
}

fn look_ups(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    let points: Vec<u32> = (0..POINTS as u32).map(|number| KeyHash::Murmur.hash(&number.to_le_bytes())).collect();
    for size in POOL_SIZES {
        let ketama = ring(Distribution::Ketama, size);
        let modula = ring(Distribution::Modula, size);
        let sorted: Vec<(u32, usize)> = ketama.continuum().collect();
        let (values, owners): (Vec<u32>, Vec<usize>) = sorted.into_iter().unzip();
        let binary_search = |point: u32| {
            let at = values.partition_point(|&value| value < point);
            owners.get(at).or(owners.first()).copied()
        };
        let mut measure = |name: &str, look_up: &dyn Fn(u32) -> Option<usize>| {
            group.bench_function(BenchmarkId::new(name, size), |b| {
                let mut next = points.iter().cycle();
                b.iter(|| next.next().and_then(|&point| look_up(black_box(point))));
            });
        };
        measure("ketama_index", &|point| ketama.server(point));
        measure("ketama_sorted", &binary_search);
        measure("ketama_hashring", &|point| ketama.locate(point).map(|found| found.server));
        measure("modula", &|point| modula.server(point));
        measure("nothing", &|point| Some(point as usize));
    }
    group.finish();
}

/// An ejection, or a return, costs this much on the control thread.
fn builds(c: &mut Criterion) {
    for size in POOL_SIZES {
        c.bench_function(&format!("build/ketama/{size}"), |b| b.iter(|| ring(Distribution::Ketama, black_box(size))));
    }
}

fn ring(distribution: Distribution, size: usize) -> Ring {
    let names: Vec<String> = (0..size).map(|number| format!("10.0.0.{:03}:6379", number)).collect();
    let servers: Vec<RingServer> = names.iter().map(|name| RingServer { name, weight: 1 }).collect();
    Ring::build(distribution, &servers, |_| true)
}

/// What a reload computes first: 50 pools of 100 servers of which one pool, or every pool, gets one more.
fn plans(c: &mut Criterion) {
    let settings = |longer: usize| {
        let pool = |number: usize| {
            let servers = 100 + usize::from(number < longer);
            let servers: String = (0..servers).map(|i| format!("      - 10.0.{number}.{i}:6379\n")).collect();
            format!("  pool{number}:\n    listen: 127.0.0.1:{}\n    servers:\n{servers}", 20_000 + number)
        };
        let text = format!("pools:\n{}", (0..50).map(pool).collect::<String>());
        config::parse("bench", &text).expect("valid").settings
    };
    let old = settings(0);
    for longer in [0, 1, 50] {
        let new = settings(longer);
        c.bench_function(&format!("plan/{longer}_of_50"), |b| {
            b.iter(|| Plan::between(black_box(&old), black_box(&new)))
        });
    }
}

criterion_group!(benches, hashes, look_ups, builds, plans);
criterion_main!(benches);
