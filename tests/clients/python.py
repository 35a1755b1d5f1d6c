"""What Python programs do with a cache: `python.py redis|pymemcache HOST:PORT`. Ends with 0 when all of it works."""

import sys


def use_redis(host, port):
    import redis

    # RESP2, and what the library asks for by itself, which falls back to RESP2 where it must.
    for options in ({"protocol": 2}, {}):
        try:
            cache = redis.Redis(host=host, port=port, decode_responses=True, socket_timeout=10, **options)
            cache.ping()
        except redis.exceptions.ResponseError as error:
            # RESP3 is refused in words, not by closing the connection.
            assert "NOPROTO" in str(error), error
            assert not options, "RESP2 must work"
            continue
        redis_commands(cache, redis)
        cache.close()


def redis_commands(cache, redis):
    assert cache.set("greeting", "hello", ex=100)
    assert cache.get("greeting") == "hello"
    assert cache.ttl("greeting") > 0
    assert cache.mset({f"k{n}": n for n in range(100)})
    assert cache.mget([f"k{n}" for n in range(101)]) == [str(n) for n in range(100)] + [None]
    assert cache.exists(*[f"k{n}" for n in range(100)]) == 100
    assert cache.delete(*[f"k{n}" for n in range(100)]) == 100
    cache.delete("hash", "list", "set", "scores", "stream", "count")
    assert cache.hset("hash", mapping={"a": 1, "b": 2}) == 2
    assert cache.hgetall("hash") == {"a": "1", "b": "2"}
    assert cache.rpush("list", *range(10)) == 10
    assert cache.lrange("list", 0, -1) == [str(n) for n in range(10)]
    assert cache.sadd("set", "x", "y") == 2
    assert sorted(cache.sscan_iter("set")) == ["x", "y"]
    assert cache.zadd("scores", {"one": 1, "two": 2}) == 2
    assert cache.zrange("scores", 0, -1, withscores=True) == [("one", 1.0), ("two", 2.0)]
    assert cache.xadd("stream", {"f": "v"})
    assert cache.xlen("stream") == 1
    pipe = cache.pipeline(transaction=False)
    for n in range(500):
        pipe.incr("count")
    assert pipe.execute() == list(range(1, 501))
    assert cache.register_script("return KEYS[1]") is not None
    assert cache.eval("return KEYS[1]", 1, "greeting") == "greeting"
    assert cache.client_id() > 0
    assert cache.info("replication")["role"] == "master"
    for refused in (cache.flushall, cache.dbsize, lambda: cache.blpop("list"), lambda: cache.lpush("greeting", 1)):
        try:
            refused()
        except redis.exceptions.ResponseError:
            pass
        else:
            raise AssertionError("not refused")
    assert cache.get("greeting") == "hello"


def use_pymemcache(host, port):
    from pymemcache.client.base import Client

    cache = Client((host, port), timeout=10, default_noreply=False)
    assert cache.set("greeting", "hello", expire=100)
    assert cache.get("greeting") == b"hello"
    assert cache.set_many({f"k{n}": str(n) for n in range(100)}) == []
    found = cache.get_many([f"k{n}" for n in range(110)])
    assert found == {f"k{n}": str(n).encode() for n in range(100)}, found
    value, unique = cache.gets("k1")
    assert cache.cas("k1", "new", unique) is True
    assert cache.cas("k1", "newer", unique) is False
    assert cache.add("k1", "x") is False
    assert cache.replace("k1", "5") is True
    assert cache.incr("k1", 3) == 8
    assert cache.decr("k1", 1) == 7
    assert cache.append("k1", "0") and cache.prepend("k1", "1")
    assert cache.get("k1") == b"170"
    assert cache.touch("k1", 10) is True
    assert cache.delete("k1") is True
    assert cache.delete("k1") is False
    for n in range(300):
        cache.set(f"q{n}", "x", noreply=True)
    assert len(cache.get_many([f"q{n}" for n in range(300)])) == 300
    assert cache.version()
    assert b"pid" in cache.stats()
    assert cache.flush_all() is True
    assert cache.get("greeting") is None
    cache.quit()


library, address = sys.argv[1:]
host, port = address.rsplit(":", 1)
{"redis": use_redis, "pymemcache": use_pymemcache}[library](host, int(port))
