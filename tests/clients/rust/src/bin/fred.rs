//! fred as programs use it: `fred 2|3`, the version of the protocol.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fred::prelude::*;
use fred::types::RespVersion;
use fred::types::scripts::Script;
use futures::TryStreamExt;
use outrigger_client_suites::{Outcome, address, ask, equal, eventually, lost, sizes_are_spread, that};

fn builder() -> Result<Builder, Error> {
    let mut config = Config::from_url(&format!("redis://{}", address()))?;
    let two = std::env::args().nth(1).as_deref() == Some("2");
    config.version = if two { RespVersion::RESP2 } else { RespVersion::RESP3 };
    let mut builder = Builder::from_config(config);
    builder.set_policy(ReconnectPolicy::new_constant(0, 50));
    builder.with_connection_config(|connection| {
        connection.max_command_attempts = 2;
        connection.connection_timeout = Duration::from_secs(5);
    });
    builder.with_performance_config(|performance| performance.default_command_timeout = Duration::from_secs(12));
    Ok(builder)
}

async fn connect() -> Result<Client, Error> {
    let client = builder()?.build()?;
    client.init().await?;
    Ok(client)
}

async fn types(cache: Client) -> Outcome {
    equal(cache.ping::<String>(None).await?, "PONG".into())?;
    let _: () = cache.set("greeting", "hello", Some(Expiration::EX(100)), None, false).await?;
    equal(cache.get::<String, _>("greeting").await?, "hello".into())?;
    equal(cache.get::<Option<String>, _>("none").await?, None)?;
    let _: usize = cache.hset("hash", HashMap::from([("a", 1), ("b", 2)])).await?;
    let hash: HashMap<String, i64> = cache.hgetall("hash").await?;
    equal(hash, HashMap::from([("a".into(), 1), ("b".into(), 2)]))?;
    equal(cache.rpush::<usize, _, _>("list", vec![1, 2, 3]).await?, 3)?;
    equal(cache.lrange::<Vec<i64>, _>("list", 0, -1).await?, vec![1, 2, 3])?;
    equal(cache.sadd::<usize, _, _>("set", vec!["x", "y"]).await?, 2)?;
    equal(cache.smembers::<HashSet<String>, _>("set").await?, HashSet::from(["x".into(), "y".into()]))?;
    let _: usize = cache.zadd("scores", None, None, false, false, vec![(1.0, "one"), (2.5, "two")]).await?;
    equal(cache.zscore::<f64, _, _>("scores", "two").await?, 2.5)
}

async fn requests_at_once(cache: Client) -> Outcome {
    let one = |n: usize| {
        let cache = cache.clone();
        async move {
            let _: () = cache.set(format!("task{n}"), n as i64, None, None, false).await?;
            cache.get::<usize, _>(format!("task{n}")).await
        }
    };
    let got: Result<Vec<usize>, Error> = futures::future::join_all((0..500).map(one)).await.into_iter().collect();
    equal(got?, (0..500).collect())
}

async fn pipelines_and_transactions(cache: Client) -> Outcome {
    let pipe = cache.pipeline();
    for n in 0..300 {
        let _: () = pipe.incr(format!("count{}", n % 3)).await?;
    }
    equal(pipe.all::<Vec<i64>>().await?, (0..300).map(|n| n / 3 + 1).collect())?;
    let transaction = cache.multi();
    let _: () = transaction.set("{t}a", 1, None, None, false).await?;
    let _: () = transaction.incr("{t}a").await?;
    equal(transaction.exec::<(String, i64)>(true).await?, ("OK".into(), 2))?;
    let own = connect().await?;
    own.watch("{t}a").await?;
    let _: () = cache.set("{t}a", 9, None, None, false).await?;
    let transaction = own.multi();
    let _: () = transaction.get("{t}a").await?;
    equal(transaction.exec::<Option<Vec<i64>>>(true).await?, None)?;
    Ok(own.quit().await?)
}

async fn scripts(cache: Client) -> Outcome {
    let double = Script::from_lua("return ARGV[1] * 2");
    for n in 0..10 {
        equal(double.evalsha_with_reload::<i64, _, _>(&cache, format!("k{n}"), n).await?, n * 2)?;
    }
    Ok(())
}

async fn keys_are_on_every_server(cache: Client) -> Outcome {
    let names: Vec<String> = (0..300).map(|n| format!("m{n}")).collect();
    let pairs: HashMap<String, i64> = names.iter().cloned().zip(0..).collect();
    let _: () = cache.mset(pairs).await?;
    sizes_are_spread()?;
    equal(cache.mget::<Vec<i64>, _>(names.clone()).await?, (0..300).collect())?;
    let found: HashSet<String> = cache
        .scan_buffered("m*", Some(50), None)
        .map_ok(|key| key.into_string().unwrap_or_default())
        .try_collect()
        .await?;
    equal(found.len(), 300)?;
    equal(cache.del::<usize, _>(names).await?, 300)
}

async fn messages_are_published(cache: Client) -> Outcome {
    let subscriber = builder()?.build_subscriber_client()?;
    subscriber.init().await?;
    let mut messages = subscriber.message_rx();
    subscriber.subscribe("news").await?;
    subscriber.psubscribe("n*").await?;
    // With RESP3 the library does not wait for the confirmation.
    let both = || async { cache.publish::<usize, _, _>("news", "begin").await.is_ok_and(|heard| heard == 2) };
    eventually("subscriptions", both).await?;
    equal(cache.publish::<usize, _, _>("news", "hello").await?, 2)?;
    let mut hellos = 0;
    while hellos < 2 {
        let message = messages.recv().await?;
        equal(message.channel.to_string(), "news".into())?;
        hellos += usize::from(message.value.convert::<String>()? == "hello");
    }
    subscriber.unsubscribe("news").await?;
    let one = || async { cache.publish::<usize, _, _>("news", "end").await.is_ok_and(|heard| heard == 1) };
    eventually("one subscription less", one).await?;
    Ok(subscriber.quit().await?)
}

async fn blocking_pops(cache: Client) -> Outcome {
    let own = connect().await?;
    let nothing = own.blpop::<Option<(String, String)>, _>("empty", 0.1).await.unwrap_err();
    equal(nothing.kind(), &ErrorKind::Timeout)?;
    let waiting = tokio::spawn(async move { own.blpop::<(String, String), _>("wait", 10.0).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _: usize = cache.rpush("wait", "now").await?;
    equal(waiting.await??, ("wait".into(), "now".into()))
}

async fn errors_leave_the_connection_usable(cache: Client) -> Outcome {
    let _: () = cache.set("text", "x", None, None, false).await?;
    let wrong = cache.lpush::<usize, _, _>("text", "y").await.unwrap_err();
    that(wrong.details().contains("WRONGTYPE") || wrong.details().contains("wrong kind"), format!("{wrong:?}"))?;
    equal(cache.get::<String, _>("text").await?, "x".into())
}

async fn a_server_is_lost_and_comes_back(cache: Client) -> Outcome {
    let subscriber = builder()?.build_subscriber_client()?;
    subscriber.init().await?;
    let _again = subscriber.manage_subscriptions();
    let mut messages = subscriber.message_rx();
    subscriber.subscribe("after").await?;
    let subscribed = || async { cache.publish::<usize, _, _>("after", "before").await.is_ok_and(|heard| heard == 1) };
    eventually("the subscription", subscribed).await?;
    ask("kill");
    // While it reconnects requests wait; not for ever.
    let get = |n: usize| {
        let cache = cache.clone();
        async move {
            let reply = cache.get::<Option<String>, _>(format!("back{n}"));
            !matches!(tokio::time::timeout(Duration::from_secs(2), reply).await, Ok(Ok(_)))
        }
    };
    lost(futures::future::join_all((0..60).map(get)).await.into_iter().filter(|lost| *lost).count())?;
    ask("start");
    for n in 0..60 {
        let set = || {
            let cache = cache.clone();
            async move { cache.set::<(), _, _>(format!("back{n}"), "after", None, None, false).await.is_ok() }
        };
        eventually("a key", set).await?;
    }
    for _ in 0..150 {
        let _ = cache.publish::<usize, _, _>("after", "again").await;
        while let Ok(Ok(message)) = tokio::time::timeout(Duration::from_millis(100), messages.recv()).await {
            if message.value.convert::<String>()? == "again" {
                return Ok(subscriber.quit().await?);
            }
        }
    }
    Err("the subscription did not return".into())
}

#[tokio::main]
async fn main() {
    let cache = match tokio::time::timeout(outrigger_client_suites::PATIENCE, connect()).await {
        Ok(Ok(cache)) => cache,
        Ok(Err(error)) => {
            println!("failed connects: {error}");
            std::process::exit(1);
        }
        Err(_) => {
            println!("failed connects: not in time");
            std::process::exit(1);
        }
    };
    outrigger_client_suites::run!(
        "fred",
        "10.1.0",
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
