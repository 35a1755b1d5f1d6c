//! What the text protocol of memcached costs: one request parsed, one reply scanned.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use outrigger::protocol::Limits;
use outrigger::protocol::memcached::{Expect, Request, request, response};

fn requests(criterion: &mut Criterion) {
    let value = "x".repeat(100);
    let mut group = criterion.benchmark_group("memcached request");
    for (name, text) in [
        ("get", "get user:12345678\r\n".to_owned()),
        ("get of 10 keys", format!("get{}\r\n", " user:12345678".repeat(10))),
        ("get of 100 keys", format!("get{}\r\n", " user:12345678".repeat(100))),
        ("set of 100 bytes", format!("set user:12345678 0 3600 100\r\n{value}\r\n")),
        ("set noreply", format!("set user:12345678 0 3600 100 noreply\r\n{value}\r\n")),
        ("incr", "incr user:12345678 1\r\n".to_owned()),
        ("delete", "delete user:12345678\r\n".to_owned()),
    ] {
        let limits = Limits::default();
        let mut scratch = Request::default();
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter(|| request::parse(black_box(text.as_bytes()), &limits, &mut scratch));
        });
    }
    group.finish();
}

fn replies(criterion: &mut Criterion) {
    let item = format!("VALUE user:12345678 0 100\r\n{}\r\n", "x".repeat(100));
    let mut group = criterion.benchmark_group("memcached reply");
    for (name, expect, text) in [
        ("STORED", Expect::Stored, "STORED\r\n".to_owned()),
        ("a miss", Expect::Values, "END\r\n".to_owned()),
        ("one value", Expect::Values, format!("{item}END\r\n")),
        ("100 values", Expect::Values, format!("{}END\r\n", item.repeat(100))),
        ("a number", Expect::Number, "1234567\r\n".to_owned()),
    ] {
        let limits = Limits::default();
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter(|| response::scan(black_box(text.as_bytes()), expect, &limits));
        });
    }
    group.finish();
}

criterion_group!(benches, requests, replies);
criterion_main!(benches);
