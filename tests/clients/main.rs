//! Client libraries that people use, as they use them.

mod suites;
#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use redis::{Commands, RedisResult};
use support::process::say_skipped;
use support::{Outrigger, Pool, Server};

fn redis_proxy() -> Option<([Server; 3], Outrigger, redis::Connection)> {
    let servers = Server::three(Server::redis)?;
    let proxy = Outrigger::start([Pool::redis("cache", &servers).set("hash: murmur")]);
    let client = redis::Client::open(format!("redis://{}/", proxy.socket_address(0))).unwrap();
    let connection = client.get_connection().unwrap();
    Some((servers, proxy, connection))
}

#[test]
fn the_redis_crate_reads_and_writes() {
    let (_servers, _proxy, mut redis) = need!(redis_proxy());
    let _: () = redis.set("a", 1).unwrap();
    let _: () = redis.set_ex("b", "two", 100).unwrap();
    assert_eq!(redis.incr::<_, _, i64>("a", 41).unwrap(), 42);
    assert_eq!(redis.mget::<_, (i64, String, Option<String>)>(&["a", "b", "c"]).unwrap(), (42, "two".into(), None));
    let _: () = redis.mset(&[("x", "1"), ("y", "2"), ("z", "3")]).unwrap();
    assert_eq!(redis.del::<_, i64>(&["x", "y", "z", "none"]).unwrap(), 3);
    let _: () = redis.hset_multiple("h", &[("f", 1), ("g", 2)]).unwrap();
    let all: HashMap<String, i64> = redis.hgetall("h").unwrap();
    assert_eq!(all["g"], 2);
    let _: i64 = redis.zadd_multiple("z", &[(1, "one"), (2, "two")]).unwrap();
    assert_eq!(redis.zrange::<_, Vec<String>>("z", 0, -1).unwrap(), ["one", "two"]);
    let members: Vec<i64> = (0..500).collect();
    assert_eq!(redis.sadd::<_, _, i64>("s", &members).unwrap(), 500);
    assert_eq!(redis.sscan::<_, i64>("s").unwrap().map(Result::unwrap).count(), 500);
    let id: String = redis::cmd("XADD").arg(&["stream", "*", "f", "v"]).query(&mut redis).unwrap();
    assert!(id.contains('-'));
    let doubled: i64 =
        redis::cmd("EVAL").arg(&["return redis.call('GET',KEYS[1])*2", "1", "a"]).query(&mut redis).unwrap();
    assert_eq!(doubled, 84);
}

#[test]
fn the_redis_crate_pipelines() {
    let (_servers, _proxy, mut redis) = need!(redis_proxy());
    let mut pipe = redis::pipe();
    for n in 0..1000 {
        pipe.set(format!("k{n}"), n).ignore().get(format!("k{n}"));
    }
    let values: Vec<i64> = pipe.query(&mut redis).unwrap();
    assert_eq!(values, (0..1000).collect::<Vec<_>>());
}

#[test]
fn the_redis_crate_understands_errors_and_goes_on() {
    let (_servers, _proxy, mut redis) = need!(redis_proxy());
    let refused: RedisResult<()> = redis::cmd("FLUSHALL").query(&mut redis);
    assert!(refused.unwrap_err().to_string().contains("FLUSHALL"));
    let nested: RedisResult<()> = redis::cmd("EXEC").query(&mut redis);
    assert!(nested.unwrap_err().to_string().contains("EXEC without MULTI"));
    let _: () = redis.set("a", "x").unwrap();
    let wrong: RedisResult<i64> = redis.lpush("a", 1);
    assert_eq!(wrong.unwrap_err().code(), Some("WRONGTYPE"));
    assert_eq!(redis.get::<_, String>("a").unwrap(), "x");
}

#[test]
fn the_memcache_crate_reads_and_writes() {
    let servers = need!(Server::three(Server::memcached));
    let proxy = Outrigger::start([Pool::memcached("cache", &servers).set("hash: murmur")]);
    let url = format!("memcache://{}?timeout=10&protocol=ascii", proxy.socket_address(0));
    let cache = memcache::Client::connect(url).unwrap();
    for n in 0..50 {
        cache.set(&format!("k{n}"), n, 100).unwrap();
    }
    let names: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
    let found: HashMap<String, u32> = cache.gets(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    assert_eq!(found.len(), 50);
    assert!(found.iter().all(|(key, value)| *key == format!("k{value}")));
    cache.add("n", "10", 0).unwrap();
    // The crate does not tell whether it was stored.
    cache.add("n", "11", 0).unwrap();
    assert_eq!(cache.increment("n", 5).unwrap(), 15);
    assert_eq!(cache.decrement("n", 1).unwrap(), 14);
    cache.append("n", "0").unwrap();
    assert_eq!(cache.get::<String>("n").unwrap().as_deref(), Some("140"));
    assert!(cache.touch("n", 100).unwrap());
    assert!(cache.delete("n").unwrap());
    assert_eq!(cache.get::<String>("n").unwrap(), None);
    let (_, _, unique) = cache.get::<(Vec<u8>, u32, Option<u64>)>("k1").unwrap().unwrap();
    assert!(cache.cas("k1", "new", 0, unique.unwrap()).unwrap());
    assert!(!cache.cas("k1", "newer", 0, unique.unwrap()).unwrap());
    assert_eq!(cache.version().unwrap().len(), 1);
    cache.flush().unwrap();
    assert_eq!(cache.get::<String>("k2").unwrap(), None);
}

#[test]
fn pymemcache() {
    let servers = need!(Server::three(Server::memcached));
    let proxy = Outrigger::start([Pool::memcached("cache", &servers).set("hash: murmur")]);
    // A Python other than the first one of the path, such as that of a virtual environment.
    let python = std::env::var_os("OUTRIGGER_TEST_PYTHON").unwrap_or_else(|| "python3".into());
    let can = Command::new(&python).args(["-c", "import pymemcache"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        // In CI too: these libraries are welcome where they are, not required.
        return say_skipped("no Python, or none with pymemcache");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/python/memcached.py");
    let output = Command::new(&python).arg(&script).arg(proxy.socket_address(0).to_string()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stdout));
}
