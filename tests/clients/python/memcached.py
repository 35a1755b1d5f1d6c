"""What Python programs do with memcached: `memcached.py HOST:PORT`. Ends with 0 when all of it works."""

import sys


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


host, port = sys.argv[1].rsplit(":", 1)
use_pymemcache(host, int(port))
