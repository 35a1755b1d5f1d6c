//! What the Redis protocol costs per request and per reply: `cargo bench --bench redis_protocol`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use outrigger::protocol::Limits;
use outrigger::protocol::redis::commands::{lookup, resolve};
use outrigger::protocol::redis::reply::write_command;
use outrigger::protocol::redis::request::{Arguments, parse};
use outrigger::protocol::redis::response::{elements, scan};

fn request(args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    write_command(&mut out, args);
    out
}

fn requests(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut args = Arguments::new();
    let value = [b'v'; 100];
    let keys: Vec<String> = (0..100).map(|index| format!("key:{index:012}")).collect();
    let mget: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(keys.iter().map(|key| key.as_bytes())).collect();
    for (name, input) in [
        ("parse GET", request(&[b"GET", b"key:000000000042"])),
        ("parse SET of 100 bytes", request(&[b"SET", b"key:000000000042", &value])),
        ("parse MGET of 100 keys", request(&mget)),
        ("parse inline GET", b"GET key:000000000042\r\n".to_vec()),
    ] {
        criterion.bench_function(name, |bencher| bencher.iter(|| parse(black_box(&input), &limits, &mut args)));
    }
}

fn replies(criterion: &mut Criterion) {
    let limits = Limits::default();
    let bulk = [&b"$100\r\n"[..], &[b'v'; 100], b"\r\n"].concat();
    let array = [&b"*100\r\n"[..], &bulk.repeat(100)].concat();
    for (name, input) in [
        ("scan +OK", b"+OK\r\n".as_slice()),
        ("scan integer", b":1000\r\n"),
        ("scan null", b"$-1\r\n"),
        ("scan bulk of 100 bytes", &bulk),
        ("scan array of 100 bulks", &array),
    ] {
        criterion.bench_function(name, |bencher| bencher.iter(|| scan(black_box(input), &limits)));
    }
    criterion.bench_function("elements of 100 bulks", |bencher| bencher.iter(|| elements(black_box(&array)).count()));
}

fn table(criterion: &mut Criterion) {
    for name in ["get", "SET", "zrevrangebyscore", "nosuch"] {
        criterion
            .bench_function(&format!("lookup {name}"), |bencher| bencher.iter(|| lookup(black_box(name.as_bytes()))));
    }
    let words: [&[u8]; 5] = [b"XGROUP", b"CREATE", b"s", b"g", b"$"];
    criterion.bench_function("resolve XGROUP CREATE", |bencher| {
        bencher.iter(|| resolve(black_box(words.len()), |index| words.get(index).copied()));
    });
    let words: [&[u8]; 4] = [b"EVAL", b"return 1", b"1", b"k"];
    let mut keys = Vec::new();
    criterion.bench_function("keys of EVAL", |bencher| {
        let command = lookup(b"eval").expect("a command");
        bencher.iter(|| command.keys(black_box(words.len()), |index| words.get(index).copied(), &mut keys));
    });
}

criterion_group!(benches, requests, replies, table);
criterion_main!(benches);
