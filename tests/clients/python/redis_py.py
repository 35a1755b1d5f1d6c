"""redis-py as programs use it: `redis_py.py 2|3`, the version of the protocol."""

import sys
import threading
import time

import redis
from checks import PATIENCE, ask, equal, eventually, host, port, raises, run, servers, sizes_are_spread
from redis.backoff import ConstantBackoff
from redis.retry import Retry

protocol = int(sys.argv[1])


def connect(**more):
    options = {"protocol": protocol, "decode_responses": True, "socket_timeout": PATIENCE, **more}
    return redis.Redis(host=host, port=port, retry=Retry(ConstantBackoff(0.05), 3), **options)


def opens_with_hello_and_names_itself(cache):
    assert cache.ping()
    named = connect(client_name="suite")
    equal(named.client_getname(), "suite")
    info = named.client_info()
    equal(info["name"], "suite")
    equal(int(info.get("resp", protocol)), protocol)
    named.close()


def strings(cache):
    assert cache.set("greeting", "hello", ex=100)
    equal(cache.get("greeting"), "hello")
    assert 0 < cache.ttl("greeting") <= 100
    equal(cache.set("greeting", "again", get=True), "hello")
    equal(cache.set("greeting", "x", nx=True), None)
    equal(cache.incrbyfloat("float", 0.5), 0.5)
    equal(cache.append("greeting", "!"), 6)
    equal(cache.getrange("greeting", 1, 2), "ga")
    raw = connect(decode_responses=False)
    value = bytes(range(256)) * 300
    assert raw.set(b"\x00binary\xff", value)
    equal(raw.get(b"\x00binary\xff"), value)
    equal(cache.get("none"), None)
    assert cache.expire("greeting", 0)
    equal(cache.exists("greeting"), 0)


def hashes(cache):
    equal(cache.hset("hash", mapping={"a": 1, "b": 2}), 2)
    equal(cache.hgetall("hash"), {"a": "1", "b": "2"})
    equal(cache.hmget("hash", "a", "none"), ["1", None])
    equal(sorted(cache.hscan_iter("hash")), [("a", "1"), ("b", "2")])
    equal(cache.hincrbyfloat("hash", "a", 1.5), 2.5)
    equal(len(cache.hrandfield("hash", 2, withvalues=True)), 2 if protocol == 3 else 4)
    equal(cache.hgetall("none"), {})


def lists(cache):
    equal(cache.rpush("list", *range(10)), 10)
    equal(cache.lrange("list", 0, -1), [str(n) for n in range(10)])
    equal(cache.lpop("list", 2), ["0", "1"])
    equal(cache.lmpop(1, "list", direction="RIGHT", count=2), ["list", ["9", "8"]])
    equal(cache.lpos("list", "5"), 3)


def sets(cache):
    equal(cache.sadd("set", "x", "y"), 2)
    equal(cache.smembers("set"), {"x", "y"})
    equal(sorted(cache.sscan_iter("set")), ["x", "y"])
    equal([bool(found) for found in cache.smismember("set", ["x", "z"])], [True, False])


def sorted_sets(cache):
    equal(cache.zadd("scores", {"one": 1, "two": 2.5}), 2)
    equal([list(pair) for pair in cache.zrange("scores", 0, -1, withscores=True)], [["one", 1.0], ["two", 2.5]])
    equal(cache.zscore("scores", "two"), 2.5)
    equal(cache.zadd("scores", {"one": 2}, incr=True), 3.0)
    equal(sorted(cache.zscan_iter("scores")), [("one", 3.0), ("two", 2.5)])
    equal(cache.zmscore("scores", ["one", "none"]), [3.0, None])
    popped = cache.zpopmin("scores")
    equal(list(popped if protocol == 3 else popped[0]), ["two", 2.5])


def streams(cache):
    first = cache.xadd("stream", {"f": "v"})
    second = cache.xadd("stream", {"f": "w"})
    equal(cache.xlen("stream"), 2)
    equal(cache.xrange("stream"), [(first, {"f": "v"}), (second, {"f": "w"})])
    read = cache.xread({"stream": first})
    entries = read["stream"][0] if isinstance(read, dict) else read[0][1]
    equal([tuple(entry) for entry in entries], [(second, {"f": "w"})])
    assert cache.xgroup_create("stream", "group", "0")
    assert cache.xreadgroup("group", "me", {"stream": ">"}, count=1)
    equal(cache.xpending("stream", "group")["pending"], 1)
    equal(cache.xack("stream", "group", first), 1)
    equal(cache.xinfo_stream("stream")["length"], 2)
    equal(cache.xinfo_groups("stream")[0]["name"], "group")


def a_pipeline_answers_in_order(cache):
    pipe = cache.pipeline(transaction=False)
    for n in range(1000):
        pipe.set(f"p{n}", n)
        pipe.get(f"p{n}")
    equal(pipe.execute(), [value for n in range(1000) for value in (True, str(n))])
    pipe = cache.pipeline(transaction=False)
    pipe.set("wrong", "x")
    pipe.lpush("wrong", "y")
    pipe.get("wrong")
    replies = pipe.execute(raise_on_error=False)
    assert replies[0] is True and isinstance(replies[1], redis.ResponseError) and replies[2] == "x", replies


def transactions(cache):
    pipe = cache.pipeline()
    pipe.set("{t}a", 1)
    pipe.incr("{t}a")
    pipe.lpush("{t}a", "x")
    pipe.hset("{t}h", mapping={"f": "v"})
    pipe.hgetall("{t}h")
    replies = pipe.execute(raise_on_error=False)
    equal(replies[:2], [True, 2])
    assert isinstance(replies[2], redis.ResponseError), replies
    equal(replies[3:], [1, {"f": "v"}])
    equal(cache.get("{t}a"), "2")


def transactions_that_watch(cache):
    other = connect()
    cache.set("{t}w", 1)

    def add(pipe):
        value = int(pipe.get("{t}w"))
        if value == 1:
            other.set("{t}w", 10)
        pipe.multi()
        pipe.set("{t}w", value + 1)
        pipe.get("{t}w")

    # The first attempt is overtaken, the second is not.
    equal(cache.transaction(add, "{t}w"), [True, "11"])
    with cache.pipeline() as pipe:
        pipe.watch("{t}w")
        other.set("{t}w", 5)
        pipe.multi()
        pipe.set("{t}w", 6)
        raises(redis.WatchError, "", pipe.execute)
    with cache.pipeline() as pipe:
        pipe.watch("{t}w")
        other.set("{t}w", 6)
        pipe.unwatch()
        pipe.multi()
        pipe.get("{t}w")
        equal(pipe.execute(), ["6"])


def scripts(cache):
    double = cache.register_script("redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1]) * 2")
    equal(double(keys=["scripted"], args=[21]), 42)
    equal(double(keys=["scripted2"], args=[4]), 8)
    equal(cache.eval("return {KEYS[1], KEYS[2], ARGV[1]}", 2, "{t}1", "{t}2", "x"), ["{t}1", "{t}2", "x"])
    raises(redis.ResponseError, "", cache.eval, "return redis.error_reply('MY error')", 1, "k")
    with cache.pipeline() as pipe:
        double(keys=["{t}s"], args=[3], client=pipe)
        pipe.get("{t}s")
        equal(pipe.execute(), [6, "3"])
    sha = cache.script_load("return 7")
    equal(cache.script_exists(sha, "0" * 40), [True, False])
    equal(cache.evalsha(sha, 1, "any"), 7)


def locks(cache):
    lock = cache.lock("lock", timeout=5)
    assert lock.acquire(blocking=False)
    assert not connect().lock("lock", timeout=5).acquire(blocking=False)
    assert lock.extend(5)
    lock.release()
    with cache.lock("lock", timeout=5, blocking_timeout=1):
        assert cache.get("lock")
    raises(redis.exceptions.LockError, "", lock.release)


def all_keys_are_scanned(cache):
    with cache.pipeline(transaction=False) as pipe:
        for n in range(500):
            pipe.set(f"scan:{n}", n)
        pipe.execute()
    equal(sorted(cache.scan_iter("scan:*", count=50)), sorted(f"scan:{n}" for n in range(500)))
    equal(sorted(cache.keys("scan:*")), sorted(f"scan:{n}" for n in range(500)))
    assert cache.dbsize() >= 500
    assert cache.randomkey()


def keys_are_on_every_server(cache):
    assert cache.mset({f"m{n}": n for n in range(300)})
    sizes_are_spread()
    equal(cache.mget([f"m{n}" for n in range(301)]), [str(n) for n in range(300)] + [None])
    equal(cache.exists(*[f"m{n}" for n in range(301)]), 300)
    equal(cache.unlink(*[f"m{n}" for n in range(150)]), 150)
    equal(cache.delete(*[f"m{n}" for n in range(300)]), 150)


def message(subscriber, kind):
    got = eventually(f"a {kind}", lambda: subscriber.get_message(timeout=1))
    equal(got["type"], kind)
    return got


def messages_are_published(cache):
    with cache.pubsub() as subscriber:
        subscriber.subscribe("news", "other")
        equal([message(subscriber, "subscribe")["channel"] for _ in range(2)], ["news", "other"])
        subscriber.psubscribe("n*s")
        message(subscriber, "psubscribe")
        equal(cache.publish("news", "hello"), 2)
        first, second = (eventually("a message", lambda: subscriber.get_message(timeout=1)) for _ in range(2))
        equal((first["type"], first["data"], second["type"]), ("message", "hello", "pmessage"))
        equal(second["pattern"], "n*s")
        equal(cache.publish("other", "2"), 1)
        equal(message(subscriber, "message")["data"], "2")
        equal(dict(cache.pubsub_numsub("news", "other")), {"news": 1, "other": 1})
        assert {"news", "other"} <= set(cache.pubsub_channels())
        if protocol == 2:
            # With RESP3 the library itself takes the reply for a message.
            subscriber.ping()
            message(subscriber, "pong")
        subscriber.unsubscribe()
        subscriber.punsubscribe()
        equal(sorted(eventually("an end", lambda: subscriber.get_message(timeout=1))["type"] for _ in range(3)),
              ["punsubscribe", "unsubscribe", "unsubscribe"])
    eventually("nobody", lambda: cache.publish("news", "x") == 0)


def a_listener_gets_many_messages(cache):
    got = []

    def listen(subscriber):
        for item in subscriber.listen():
            got.append(item["data"])
            if item["data"] == "end":
                return

    with cache.pubsub(ignore_subscribe_messages=True) as subscriber:
        subscriber.subscribe("many")
        thread = threading.Thread(target=listen, args=(subscriber,), daemon=True)
        thread.start()
        eventually("the subscription", lambda: cache.publish("many", "begin") == 1)
        for n in range(500):
            cache.publish("many", n)
        cache.publish("many", "end")
        thread.join(PATIENCE)
    equal([item for item in got if item != "begin"], [str(n) for n in range(500)] + ["end"])


def blocking_pops(cache):
    begin = time.monotonic()
    equal(cache.blpop(["empty"], timeout=0.2), None)
    assert time.monotonic() - begin >= 0.19
    cache.rpush("{q}1", "a", "b")
    equal(list(cache.blpop(["{q}0", "{q}1"], timeout=1)), ["{q}1", "a"])
    equal(list(cache.brpop(["{q}1"], timeout=1)), ["{q}1", "b"])
    woken = []
    waiter = threading.Thread(target=lambda: woken.append(connect().blpop(["wait"], timeout=PATIENCE)), daemon=True)
    waiter.start()
    time.sleep(0.05)
    cache.rpush("wait", "now")
    waiter.join(PATIENCE)
    equal([list(pair) for pair in woken], [["wait", "now"]])
    equal(cache.bzpopmin("empty", timeout=0.1), None)
    equal(cache.blmove("{q}1", "{q}2", 0.1), None)
    last = cache.xadd("blocked", {"f": "v"})
    assert not cache.xread({"blocked": last}, block=50)


def errors_leave_the_connection_usable(cache):
    single = connect(single_connection_client=True)
    mine = single.client_id()
    single.set("text", "x")
    raises(redis.ResponseError, "WRONGTYPE", single.lpush, "text", "y")
    raises(redis.ResponseError, "unknown command", single.execute_command, "NONSENSE", "a")
    raises(redis.ResponseError, "wrong number", single.execute_command, "GET")
    equal(single.get("text"), "x")
    equal(single.client_id(), mine)


def the_proxy_answers_about_itself(cache):
    equal(cache.echo("x"), "x")
    assert cache.time()[0] > 1_600_000_000
    equal(cache.info("replication")["role"], "master")
    assert cache.command_count() > 200
    assert cache.select(0)


def a_server_is_lost_and_comes_back(cache):
    names = [f"back{n}" for n in range(60)]
    subscriber = cache.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe("after")
    for name in names:
        cache.set(name, "before")
    ask("kill")
    lost = 0
    for name in names:
        try:
            cache.get(name)
        except redis.RedisError:
            lost += 1
    assert lost == 60 if servers == 1 else 0 < lost < 60, f"{lost} lost"
    ask("start")
    eventually("all keys", lambda: all(cache.set(name, "after") for name in names))
    equal([cache.get(name) for name in names], ["after"] * 60)
    with cache.pipeline() as pipe:
        pipe.set("{t}back", 1).get("{t}back")
        equal(pipe.execute(), [True, "1"])
    double = cache.register_script("return ARGV[1] * 2")
    equal([double(keys=[name], args=[4]) for name in names[:10]], [8] * 10)

    def hears():
        cache.publish("after", "again")
        got = subscriber.get_message(timeout=0.1)
        return got and got["data"] == "again"

    eventually("the subscription's return", hears)
    subscriber.close()


cache = connect()
run(f"redis-py/RESP{protocol}", redis.__version__, [
    opens_with_hello_and_names_itself, strings, hashes, lists, sets, sorted_sets, streams, a_pipeline_answers_in_order,
    transactions, transactions_that_watch, scripts, locks, all_keys_are_scanned, keys_are_on_every_server,
    messages_are_published, a_listener_gets_many_messages, blocking_pops, errors_leave_the_connection_usable,
    the_proxy_answers_about_itself, a_server_is_lost_and_comes_back,
], cache)
