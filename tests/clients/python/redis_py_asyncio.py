"""redis.asyncio as programs use it: `redis_py_asyncio.py 2|3`, the version of the protocol."""

import asyncio
import sys

import redis
import redis.asyncio
from checks import PATIENCE, ask, equal, eventually_async, host, port, run_async, servers, sizes_are_spread
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

protocol = int(sys.argv[1])


def connect():
    options = {"protocol": protocol, "decode_responses": True, "socket_timeout": PATIENCE, "max_connections": 400}
    return redis.asyncio.Redis(host=host, port=port, retry=Retry(ConstantBackoff(0.05), 3), **options)


async def strings_hashes_and_streams(cache):
    assert await cache.ping()
    assert await cache.set("greeting", "hello", ex=100)
    equal(await cache.get("greeting"), "hello")
    equal(await cache.hset("hash", mapping={"a": 1}), 1)
    equal(await cache.hgetall("hash"), {"a": "1"})
    entry = await cache.xadd("stream", {"f": "v"})
    equal(await cache.xrange("stream"), [(entry, {"f": "v"})])


async def many_tasks_at_once(cache):
    async def one(n):
        await cache.set(f"task{n}", n)
        return await cache.get(f"task{n}")

    equal(await asyncio.gather(*(one(n) for n in range(300))), [str(n) for n in range(300)])
    sizes_are_spread()
    equal(await cache.mget([f"task{n}" for n in range(300)]), [str(n) for n in range(300)])
    equal(await cache.delete(*[f"task{n}" for n in range(300)]), 300)


async def pipelines_and_transactions(cache):
    async with cache.pipeline(transaction=False) as pipe:
        for n in range(500):
            pipe.incr("count")
        equal(await pipe.execute(), list(range(1, 501)))
    async with cache.pipeline() as pipe:
        equal(await pipe.set("{t}a", 1).incr("{t}a").execute(), [True, 2])
    async with cache.pipeline() as pipe:
        await pipe.watch("{t}a")
        await cache.set("{t}a", 7)
        pipe.multi()
        pipe.get("{t}a")
        try:
            raise AssertionError(f"not overtaken: {await pipe.execute()}")
        except redis.WatchError:
            pass


async def scripts_and_locks(cache):
    double = cache.register_script("return ARGV[1] * 2")
    equal(await double(keys=["k"], args=[21]), 42)
    async with cache.lock("lock", timeout=5):
        assert not await cache.lock("lock", timeout=5).acquire(blocking=False)


async def all_keys_are_scanned(cache):
    await cache.mset({f"scan:{n}": n for n in range(300)})
    equal(sorted([key async for key in cache.scan_iter("scan:*")]), sorted(f"scan:{n}" for n in range(300)))


async def messages_are_published(cache):
    async with cache.pubsub() as subscriber:
        await subscriber.subscribe("news")
        await subscriber.psubscribe("n*")
        equal([(await anext(subscriber.listen()))["type"] for _ in range(2)], ["subscribe", "psubscribe"])
        equal(await cache.publish("news", "hello"), 2)
        got = [await anext(subscriber.listen()) for _ in range(2)]
        equal([(item["type"], item["data"]) for item in got], [("message", "hello"), ("pmessage", "hello")])


async def blocking_pops(cache):
    equal(await cache.blpop(["empty"], timeout=0.1), None)
    waiting = asyncio.create_task(cache.blpop(["wait"], timeout=PATIENCE))
    await asyncio.sleep(0.05)
    await cache.rpush("wait", "now")
    equal(list(await waiting), ["wait", "now"])


async def a_cancelled_pop_takes_nothing(cache):
    own = connect()
    waiting = asyncio.create_task(own.blpop(["cancelled"], timeout=0))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await own.aclose()
    await asyncio.sleep(0.1)
    await cache.rpush("cancelled", "kept")
    equal(await cache.lrange("cancelled", 0, -1), ["kept"])


async def a_server_is_lost_and_comes_back(cache):
    names = [f"back{n}" for n in range(60)]
    subscriber = cache.pubsub(ignore_subscribe_messages=True)
    await subscriber.subscribe("after")

    async def subscribed():
        return await cache.publish("after", "before") == 1

    await eventually_async("the subscription", subscribed)
    ask("kill")
    lost = [error for error in await asyncio.gather(*map(cache.get, names), return_exceptions=True) if error]
    assert len(lost) == 60 if servers == 1 else 0 < len(lost) < 60, f"{len(lost)} lost"
    ask("start")

    async def back():
        return all([await cache.set(name, "after") for name in names])

    await eventually_async("all keys", back)

    async def hears():
        await cache.publish("after", "again")
        got = await subscriber.get_message(timeout=0.1)
        return got and got["data"] == "again"

    await eventually_async("the subscription's return", hears)
    await subscriber.aclose()


async def main():
    cache = connect()
    code = await run_async(f"redis-py-asyncio/RESP{protocol}", redis.__version__, [
        strings_hashes_and_streams, many_tasks_at_once, pipelines_and_transactions, scripts_and_locks,
        all_keys_are_scanned, messages_are_published, blocking_pops, a_cancelled_pop_takes_nothing,
        a_server_is_lost_and_comes_back,
    ], cache)
    await cache.aclose()
    return code


sys.exit(asyncio.run(main()))
