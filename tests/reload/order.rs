//! None of one client's requests overtakes another, whatever changes under them.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::endings::change;
use crate::support::{Fake, Outrigger, Pool, eventually};

/// A write that nobody waits for is one as well: what comes after it finds it, although it goes by another connection.
#[test]
fn what_follows_a_quiet_write_does_not_overtake_it() {
    let held = Mutex::new(None::<String>);
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    // It stores when it is told to. Other connections are served meanwhile.
    let server = Fake::start(move |_, talk| {
        while let Some(line) = talk.line() {
            if line.starts_with("set ") {
                let value = talk.line();
                wait.lock().unwrap().recv().unwrap();
                *held.lock().unwrap() = value;
                talk.say("STORED\r\n");
            } else if line.contains("other") {
                talk.say("END\r\n");
            } else {
                let value = held.lock().unwrap().clone();
                talk.say(value.map_or("END\r\n".to_owned(), |value| format!("VALUE k 0 1\r\n{value}\r\nEND\r\n")));
            }
        }
    });
    let pool = Pool::new("cache", "memcached", &[server.entry()]).set("timeout: 15s");
    let proxy = Outrigger::start_with("workers: 1", [pool]);
    // Of two clients one has another connection afterwards.
    let mut clients = [proxy.client(), proxy.client()];
    for (count, client) in clients.iter_mut().enumerate() {
        client.send(format!("set k 0 0 1 noreply\r\n{count}\r\n"));
        eventually("it to be on its way", || {
            (proxy.stats()["cache"][server.name()]["requests"] == count as u64 + 1).then_some(())
        });
    }
    change(&proxy, |text| text + "    server_connections: 2\n");
    for client in &mut clients {
        client.send("get k\r\n");
    }
    // What one asks who comes later is answered by the new connection: the others' requests would have been as well.
    let mut later = Vec::new();
    eventually("an answer past the writes", || {
        let mut client = proxy.client();
        client.patience(Duration::from_millis(200));
        client.send("get other\r\n");
        let answered = client.try_memcached_reply().is_ok();
        later.push(client);
        answered.then_some(())
    });
    clients.iter().for_each(|_| go.send(()).unwrap());
    for (count, client) in clients.iter_mut().enumerate() {
        let reply = client.memcached_reply();
        assert!(["VALUE k 0 1|0|END", "VALUE k 0 1|1|END"].contains(&&reply[..]), "client {count}: {reply}");
    }
}
