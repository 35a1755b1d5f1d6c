"""coredis as programs use it; it speaks RESP3 only."""

import asyncio
import importlib.metadata
import sys

import coredis
from checks import PATIENCE, ask, equal, eventually_async, host, port, run_async, servers, sizes_are_spread


def connect():
    return coredis.Redis(host=host, port=port, decode_responses=True, stream_timeout=PATIENCE)


async def types(cache):
    equal(await cache.ping(), "PONG")
    assert await cache.set("greeting", "hello")
    equal(await cache.get("greeting"), "hello")
    equal(await cache.hset("hash", {"a": "1"}), 1)
    equal(await cache.hgetall("hash"), {"a": "1"})
    equal(await cache.sadd("set", ["x", "y"]), 2)
    equal(await cache.smembers("set"), {"x", "y"})
    equal(await cache.zadd("scores", {"one": 1, "two": 2.5}), 2)
    equal([tuple(pair) for pair in await cache.zrange("scores", 0, -1, withscores=True)], [("one", 1.0), ("two", 2.5)])
    entry = await cache.xadd("stream", {"f": "v"})
    equal([item.identifier for item in await cache.xrange("stream")], [entry])


async def requests_at_once(cache):
    async def one(n):
        await cache.set(f"task{n}", n)
        return await cache.get(f"task{n}")

    equal(await asyncio.gather(*(one(n) for n in range(300))), [str(n) for n in range(300)])


async def pipelines_and_transactions(cache):
    async with cache.pipeline(transaction=False) as pipe:
        replies = [pipe.incr("count") for _ in range(300)]
    equal([await reply for reply in replies], list(range(1, 301)))
    async with cache.pipeline() as pipe:
        first, second = pipe.set("{t}a", 1), pipe.incr("{t}a")
    equal([await first, await second], [True, 2])
    try:
        async with cache.pipeline() as pipe:
            async with pipe.watch("{t}a"):
                await cache.set("{t}a", 7)
                pipe.get("{t}a")
        raise AssertionError("not overtaken")
    except coredis.exceptions.WatchError:
        pass


async def scripts(cache):
    double = cache.register_script("return ARGV[1] * 2")
    equal(await double(["k"], [21]), 42)
    equal(await double(["k2"], [4]), 8)


async def keys_are_on_every_server(cache):
    assert await cache.mset({f"m{n}": n for n in range(300)})
    sizes_are_spread()
    equal(list(await cache.mget([f"m{n}" for n in range(301)])), [str(n) for n in range(300)] + [None])
    equal(len({key async for key in cache.scan_iter("m*")}), 300)
    equal(await cache.delete([f"m{n}" for n in range(300)]), 300)


async def messages_are_published(cache):
    async with cache.pubsub(ignore_subscribe_messages=True) as subscriber:
        await subscriber.subscribe("news")
        await subscriber.psubscribe("n*")
        equal(await cache.publish("news", "hello"), 2)
        got = [await anext(subscriber) for _ in range(2)]
        equal([(item["type"], item["data"]) for item in got], [("message", "hello"), ("pmessage", "hello")])


async def blocking_pops(cache):
    equal(await cache.blpop(["empty"], timeout=0.1), None)
    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.05)
    await cache.rpush("wait", ["now"])
    equal(list(await waiting), ["wait", "now"])


async def wait():
    async with connect() as own:
        return await own.blpop(["wait"], timeout=PATIENCE)


async def errors_leave_the_connection_usable(cache):
    await cache.set("text", "x")
    try:
        raise AssertionError(await cache.lpush("text", ["y"]))
    except coredis.exceptions.WrongTypeError:
        pass
    equal(await cache.get("text"), "x")


async def a_server_is_lost_and_comes_back(cache):
    names = [f"back{n}" for n in range(60)]
    async with cache.pubsub(ignore_subscribe_messages=True) as subscriber:
        await subscriber.subscribe("after")
        ask("kill")
        lost = 0
        for name in names:
            try:
                await cache.get(name)
            except (coredis.exceptions.RedisError, OSError):
                lost += 1
        assert lost == 60 if servers == 1 else 0 < lost < 60, f"{lost} lost"
        ask("start")

        async def back():
            return all([await cache.set(name, "after") for name in names])

        await eventually_async("all keys", back)

        async def hears():
            await cache.publish("after", "again")
            return await subscriber.get_message(timeout=0.1)

        await eventually_async("the subscription's return", hears)


async def main():
    async with connect() as cache:
        return await run_async("coredis", importlib.metadata.version("coredis"), [
            types, requests_at_once, pipelines_and_transactions, scripts, keys_are_on_every_server,
            messages_are_published, blocking_pops, errors_leave_the_connection_usable, a_server_is_lost_and_comes_back,
        ], cache)


sys.exit(asyncio.run(main()))
