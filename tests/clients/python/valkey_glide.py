"""Valkey GLIDE as programs use it: `valkey_glide.py 2|3`. All of a client's requests share one connection."""

import asyncio
import importlib.metadata
import sys

from checks import PATIENCE, ask, equal, eventually_async, host, port, run_async, servers, sizes_are_spread
from glide import (
    BackoffStrategy, Batch, GlideClient, GlideClientConfiguration, NodeAddress, ProtocolVersion, RequestError, Script,
)

protocol = int(sys.argv[1])


async def connect(**more):
    return await GlideClient.create(GlideClientConfiguration(
        [NodeAddress(host, port)], request_timeout=5000, reconnect_strategy=BackoffStrategy(100, 20, 2),
        protocol=ProtocolVersion.RESP3 if protocol == 3 else ProtocolVersion.RESP2, **more))


async def raises(kind, text, awaitable):
    try:
        got = await awaitable
    except kind as error:
        assert text in str(error), f"{error!r} does not say {text!r}"
        return
    raise AssertionError(f"no {kind.__name__} but {got!r}")


async def opens_and_names_itself(cache):
    equal(await cache.ping(), b"PONG")
    named = await connect(client_name="suite")
    equal(await named.client_getname(), b"suite")
    await named.close()


async def types(cache):
    equal(await cache.set("greeting", "hello"), "OK")
    equal(await cache.get("greeting"), b"hello")
    equal(await cache.get("none"), None)
    equal(await cache.hset("hash", {"a": "1", "b": "2"}), 2)
    equal(await cache.hgetall("hash"), {b"a": b"1", b"b": b"2"})
    equal(await cache.rpush("list", ["1", "2", "3"]), 3)
    equal(await cache.lrange("list", 0, -1), [b"1", b"2", b"3"])
    equal(await cache.sadd("set", ["x", "y"]), 2)
    equal(await cache.smembers("set"), {b"x", b"y"})
    equal(await cache.zadd("scores", {"one": 1, "two": 2.5}), 2)
    equal(await cache.zscore("scores", "two"), 2.5)
    entry = await cache.xadd("stream", [("f", "v")])
    equal(await cache.xlen("stream"), 1)
    equal(await cache.xread({"stream": "0"}), {b"stream": {entry: [[b"f", b"v"]]}})


async def batches(cache):
    batch = Batch(is_atomic=False)
    for n in range(500):
        batch.set(f"p{n}", str(n))
        batch.get(f"p{n}")
    equal(await cache.exec(batch, raise_on_error=True), [v for n in range(500) for v in ("OK", str(n).encode())])


async def transactions(cache):
    batch = Batch(is_atomic=True)
    batch.set("{t}a", "1").incr("{t}a").lpush("{t}a", ["x"])
    replies = await cache.exec(batch, raise_on_error=False)
    equal(replies[:2], ["OK", 2])
    assert isinstance(replies[2], RequestError), replies
    own = await connect()
    await own.watch(["{t}a"])
    await cache.set("{t}a", "9")
    equal(await own.exec(Batch(is_atomic=True).get("{t}a"), raise_on_error=True), None)
    equal(await own.exec(Batch(is_atomic=True).get("{t}a"), raise_on_error=True), [b"9"])
    await own.close()


async def scripts(cache):
    double = Script("return ARGV[1] * 2")
    equal(await cache.invoke_script(double, keys=["k"], args=["21"]), 42)
    equal(await cache.invoke_script(double, keys=["k2"], args=["4"]), 8)


async def keys_are_on_every_server(cache):
    await cache.mset({f"m{n}": str(n) for n in range(300)})
    sizes_are_spread()
    equal(await cache.mget([f"m{n}" for n in range(301)]), [str(n).encode() for n in range(300)] + [None])
    found, cursor = set(), b"0"
    while True:
        cursor, names = await cache.scan(cursor, match="m*", count=50)
        found.update(names)
        if cursor == b"0":
            break
    equal(len(found), 300)
    equal(await cache.delete([f"m{n}" for n in range(300)]), 300)


def subscriptions(channels, patterns):
    modes = GlideClientConfiguration.PubSubChannelModes
    return GlideClientConfiguration.PubSubSubscriptions({modes.Exact: channels, modes.Pattern: patterns}, None, None)


async def messages_are_published(cache):
    # The library has subscriptions with RESP3 only.
    if protocol == 2:
        return
    subscriber = await connect(pubsub_subscriptions=subscriptions({"news"}, {"n*"}))
    equal(await cache.publish("hello", "news"), 2)
    got = [await subscriber.get_pubsub_message() for _ in range(2)]
    equal([(item.message, item.channel) for item in got], [(b"hello", b"news")] * 2)
    equal(sorted((item.pattern or b"") for item in got), [b"", b"n*"])
    await subscriber.subscribe({"later"}, timeout_ms=5000)
    equal(await cache.publish("x", "later"), 1)
    equal((await subscriber.get_pubsub_message()).channel, b"later")
    await subscriber.unsubscribe({"later"}, timeout_ms=5000)
    equal(await cache.publish("x", "later"), 0)
    equal(await subscriber.get("none"), None)
    await subscriber.close()


async def blocking_pops(cache):
    own = await connect()
    equal(await own.blpop(["empty"], 0.1), None)
    waiting = asyncio.create_task(own.blpop(["wait"], PATIENCE))
    await asyncio.sleep(0.05)
    await cache.rpush("wait", ["now"])
    equal(await waiting, [b"wait", b"now"])
    await own.close()


async def errors_leave_the_connection_usable(cache):
    await cache.set("text", "x")
    await raises(RequestError, "WRONGTYPE", cache.lpush("text", ["y"]))
    await raises(RequestError, "unknown command", cache.custom_command(["NONSENSE"]))
    equal(await cache.get("text"), b"x")


async def a_server_is_lost_and_comes_back(cache):
    names = [f"back{n}" for n in range(60)]
    heard = await connect(pubsub_subscriptions=subscriptions({"after"}, set())) if protocol == 3 else None
    impatient = await connect()
    ask("kill")
    lost = [e for e in await asyncio.gather(*map(impatient.get, names), return_exceptions=True) if e]
    assert len(lost) == 60 if servers == 1 else 0 < len(lost) < 60, f"{len(lost)} lost"
    ask("start")

    async def back():
        return all([await cache.set(name, "after") == "OK" for name in names])

    await eventually_async("all keys", back)
    double = Script("return ARGV[1] * 2")
    equal([await cache.invoke_script(double, keys=[name], args=["4"]) for name in names], [8] * 60)
    if heard:
        async def hears():
            await cache.publish("again", "after")
            return heard.try_get_pubsub_message()

        await eventually_async("the subscription's return", hears)
        await heard.close()
    await impatient.close()


async def main():
    cache = await connect()
    code = await run_async(f"valkey-glide/RESP{protocol}", importlib.metadata.version("valkey-glide"), [
        opens_and_names_itself, types, batches, transactions, scripts, keys_are_on_every_server,
        messages_are_published, blocking_pops, errors_leave_the_connection_usable, a_server_is_lost_and_comes_back,
    ], cache)
    await cache.close()
    return code


sys.exit(asyncio.run(main()))
