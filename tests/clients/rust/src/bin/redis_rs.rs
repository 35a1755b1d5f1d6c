//! redis-rs as programs use it, with its multiplexed connection: `redis_rs 2|3`, the version of the protocol.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use outrigger_client_suites::{Outcome, address, ask, equal, eventually, lost, sizes_are_spread, that};
use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::{AsyncCommands, AsyncIter, Client, ErrorKind, PushInfo, PushKind, RedisResult, Script, ServerErrorKind};

fn protocol() -> &'static str {
    if std::env::args().nth(1).as_deref() == Some("2") { "resp2" } else { "resp3" }
}

fn client() -> RedisResult<Client> {
    Client::open(format!("redis://{}/?protocol={}", address(), protocol()))
}

async fn connect() -> RedisResult<MultiplexedConnection> {
    client()?.get_multiplexed_async_connection().await
}

async fn types(mut cache: MultiplexedConnection) -> Outcome {
    equal(cache.ping::<String>().await?, "PONG".into())?;
    let _: () = cache.set_ex("greeting", "hello", 100).await?;
    equal(cache.get::<_, String>("greeting").await?, "hello".into())?;
    equal(cache.get::<_, Option<String>>("none").await?, None)?;
    let _: () = cache.hset_multiple("hash", &[("a", 1), ("b", 2)]).await?;
    let hash: HashMap<String, i64> = cache.hgetall("hash").await?;
    equal(hash, HashMap::from([("a".into(), 1), ("b".into(), 2)]))?;
    equal(cache.rpush::<_, _, usize>("list", &[1, 2, 3]).await?, 3)?;
    equal(cache.lrange::<_, Vec<i64>>("list", 0, -1).await?, vec![1, 2, 3])?;
    equal(cache.sadd::<_, _, usize>("set", &["x", "y"]).await?, 2)?;
    equal(cache.smembers::<_, HashSet<String>>("set").await?, HashSet::from(["x".into(), "y".into()]))?;
    let _: usize = cache.zadd_multiple("scores", &[(1.0, "one"), (2.5, "two")]).await?;
    let scores: Vec<(String, f64)> = cache.zrange_withscores("scores", 0, -1).await?;
    equal(scores, vec![("one".into(), 1.0), ("two".into(), 2.5)])?;
    let id: String = cache.xadd("stream", "*", &[("f", "v")]).await?;
    let all: redis::streams::StreamRangeReply = cache.xrange_all("stream").await?;
    equal(all.ids.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>(), vec![id])
}

async fn requests_at_once(cache: MultiplexedConnection) -> Outcome {
    let one = |n: usize| {
        let mut cache = cache.clone();
        async move {
            let _: () = cache.set(format!("task{n}"), n).await?;
            cache.get::<_, usize>(format!("task{n}")).await
        }
    };
    let got: RedisResult<Vec<usize>> = futures::future::join_all((0..500).map(one)).await.into_iter().collect();
    equal(got?, (0..500).collect())
}

async fn pipelines_and_transactions(mut cache: MultiplexedConnection) -> Outcome {
    let mut pipe = redis::pipe();
    (0..500).for_each(|n| {
        pipe.set(format!("p{n}"), n).ignore().get(format!("p{n}"));
    });
    equal(pipe.query_async::<Vec<i64>>(&mut cache).await?, (0..500).collect())?;
    let both: (String, i64) = redis::pipe().atomic().set("{t}a", 1).incr("{t}a", 1).query_async(&mut cache).await?;
    equal(both, ("OK".into(), 2))?;
    let mut own = connect().await?;
    let _: () = redis::cmd("WATCH").arg("{t}a").query_async(&mut own).await?;
    let _: () = cache.set("{t}a", 9).await?;
    let overtaken: Option<(i64,)> = redis::pipe().atomic().get("{t}a").query_async(&mut own).await?;
    equal(overtaken, None)?;
    equal(redis::pipe().atomic().get("{t}a").query_async::<Option<(i64,)>>(&mut own).await?, Some((9,)))
}

async fn scripts(mut cache: MultiplexedConnection) -> Outcome {
    let double = Script::new("return ARGV[1] * 2");
    for n in 0..10 {
        equal(double.key(format!("k{n}")).arg(n).invoke_async::<i64>(&mut cache).await?, n * 2)?;
    }
    Ok(())
}

async fn keys_are_on_every_server(mut cache: MultiplexedConnection) -> Outcome {
    let names: Vec<String> = (0..300).map(|n| format!("m{n}")).collect();
    let pairs: Vec<(String, i64)> = names.iter().cloned().zip(0..).collect();
    let _: () = cache.mset(&pairs).await?;
    sizes_are_spread()?;
    equal(cache.mget::<_, Vec<i64>>(&names).await?, (0..300).collect())?;
    let mut other = cache.clone();
    let found: AsyncIter<String> = other.scan_match("m*").await?;
    let found: RedisResult<HashSet<String>> = found.collect::<Vec<_>>().await.into_iter().collect();
    equal(found?.len(), 300)?;
    equal(cache.del::<_, usize>(&names).await?, 300)
}

/// With RESP3 messages come as pushes on the connection that also has replies; with RESP2 on one of its own.
async fn messages_are_published(mut cache: MultiplexedConnection) -> Outcome {
    if protocol() == "resp2" {
        let mut subscriber = client()?.get_async_pubsub().await?;
        subscriber.subscribe("news").await?;
        subscriber.psubscribe("n*").await?;
        equal(cache.publish::<_, _, usize>("news", "hello").await?, 2)?;
        for _ in 0..2 {
            let message = subscriber.on_message().next().await.ok_or("closed")?;
            equal((message.get_channel_name(), message.get_payload::<String>()?), ("news", "hello".to_owned()))?;
        }
        subscriber.unsubscribe("news").await?;
        equal(cache.publish::<_, _, usize>("news", "hello").await?, 1)?;
        return Ok(());
    }
    let (sender, mut pushes) = tokio::sync::mpsc::unbounded_channel();
    let config = redis::AsyncConnectionConfig::new().set_push_sender(sender);
    let mut subscriber = client()?.get_multiplexed_async_connection_with_config(&config).await?;
    subscriber.subscribe("news").await?;
    subscriber.psubscribe("n*").await?;
    equal(cache.publish::<_, _, usize>("news", "hello").await?, 2)?;
    equal(subscriber.get::<_, Option<String>>("none").await?, None)?;
    let mut kinds = Vec::new();
    while kinds.len() < 4 {
        let PushInfo { kind, .. } = pushes.recv().await.ok_or("closed")?;
        kinds.push(kind);
    }
    equal(kinds, vec![PushKind::Subscribe, PushKind::PSubscribe, PushKind::Message, PushKind::PMessage])?;
    subscriber.unsubscribe("news").await?;
    Ok(equal(cache.publish::<_, _, usize>("news", "hello").await?, 1)?)
}

async fn blocking_pops(mut cache: MultiplexedConnection) -> Outcome {
    let mut own = connect().await?;
    own.set_response_timeout(outrigger_client_suites::PATIENCE);
    equal(own.blpop::<_, Option<(String, String)>>("empty", 0.1).await?, None)?;
    let waiting = tokio::spawn(async move { own.blpop::<_, (String, String)>("wait", 10.0).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _: usize = cache.rpush("wait", "now").await?;
    equal(waiting.await??, ("wait".into(), "now".into()))
}

async fn errors_leave_the_connection_usable(mut cache: MultiplexedConnection) -> Outcome {
    let _: () = cache.set("text", "x").await?;
    let wrong: RedisResult<usize> = cache.lpush("text", "y").await;
    equal(wrong.unwrap_err().code(), Some("WRONGTYPE"))?;
    let unknown: RedisResult<()> = redis::cmd("NONSENSE").query_async(&mut cache).await;
    equal(unknown.unwrap_err().kind(), ErrorKind::Server(ServerErrorKind::ResponseError))?;
    equal(cache.get::<_, String>("text").await?, "x".into())
}

async fn a_server_is_lost_and_comes_back(_: MultiplexedConnection) -> Outcome {
    let settings = ConnectionManagerConfig::new().set_number_of_retries(2).set_max_delay(Duration::from_millis(100));
    let manager = ConnectionManager::new_with_config(client()?, settings).await?;
    ask("kill");
    let mut gone = 0;
    for n in 0..60 {
        gone += usize::from(manager.clone().get::<_, Option<String>>(format!("back{n}")).await.is_err());
    }
    lost(gone)?;
    ask("start");
    for n in 0..60 {
        let set = || {
            let mut cache = manager.clone();
            async move { cache.set::<_, _, ()>(format!("back{n}"), "after").await.is_ok() }
        };
        eventually("a key", set).await?;
    }
    let double = Script::new("return ARGV[1] * 2");
    for n in 0..60 {
        equal(double.key(format!("back{n}")).arg(4).invoke_async::<i64>(&mut manager.clone()).await?, 8)?;
    }
    that(manager.clone().exists::<_, bool>("back1").await?, "back1 is gone")
}

#[tokio::main]
async fn main() {
    let cache = match connect().await {
        Ok(cache) => cache,
        Err(error) => {
            println!("failed connects: {error}");
            std::process::exit(1);
        }
    };
    outrigger_client_suites::run!(
        format!("redis-rs/{}", protocol()),
        "1.8.1",
        [
            types,
            requests_at_once,
            pipelines_and_transactions,
            scripts,
            keys_are_on_every_server,
            messages_are_published,
            blocking_pops,
            errors_leave_the_connection_usable,
            a_server_is_lost_and_comes_back,
        ],
        cache.clone()
    );
}
