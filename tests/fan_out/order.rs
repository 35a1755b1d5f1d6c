//! Replies keep the order of the requests, whoever answers them and however they come.

use crate::support::client::resp;
use crate::{Fleet, need};

fn bytes(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| resp(&line.split(' ').collect::<Vec<_>>())).collect()
}

#[test]
fn in_a_pipeline_every_request_has_its_own_reply() {
    let fleet = need!(Fleet::start(&["allow_admin_commands: true"]));
    let [a, b, c] = fleet.keys();
    let mut client = fleet.proxy.client();
    let get = format!("GET {a}");
    let mget = format!("MGET {c} {b}");
    let lines = [
        ("DBSIZE", "3"),
        (&get, &format!("\"{a}\"")),
        ("KEYS none", "[]"),
        ("PING", "+PONG"),
        ("SCRIPT EXISTS x", "[0]"),
        (&mget, &format!("[\"{c}\" \"{b}\"]")),
        ("CLUSTER NODES", "-ERR This instance has cluster support disabled"),
        ("PUBSUB NUMSUB x", "[\"x\" 0]"),
        ("SCAN x", "-ERR invalid cursor"),
        ("CONFIG SET maxmemory 0", "+OK"),
        ("INFO nonsense", "\"\""),
        (&get, &format!("\"{a}\"")),
    ];
    let requests: Vec<&str> = lines.iter().map(|(line, _)| *line).collect();
    let pipeline = bytes(&requests).repeat(50);
    client.send_aside(pipeline);
    for round in 0..50 {
        for (line, reply) in lines {
            assert_eq!(client.reply(), reply, "{line} in round {round}");
        }
    }
    // Byte by byte, and as inline commands.
    for byte in bytes(&requests) {
        client.send([byte]);
    }
    lines.iter().for_each(|(line, reply)| assert_eq!(&client.reply(), reply, "{line}"));
    client.send(requests.join("\r\n") + "\r\n");
    lines.iter().for_each(|(line, reply)| assert_eq!(&client.reply(), reply, "{line}"));
}

#[test]
fn a_flush_stands_between_the_writes_before_it_and_after_it() {
    let fleet = need!(Fleet::start(&["allow_admin_commands: true"]));
    let [a, b, c] = fleet.keys();
    let mut client = fleet.proxy.client();
    let [one, two] = [format!("MSET {a} 1 {b} 1 {c} 1"), format!("SET {b} 2")];
    client.send_aside(bytes(&[&one, "DBSIZE", "FLUSHALL", "DBSIZE", &two, "DBSIZE"]).repeat(100));
    for _ in 0..100 {
        let replies: Vec<String> = (0..6).map(|_| client.reply()).collect();
        assert_eq!(replies, ["+OK", "3", "+OK", "0", "+OK", "1"]);
    }
}

#[test]
fn what_the_client_does_not_want_to_hear_is_done_all_the_same() {
    let fleet = need!(Fleet::start(&["allow_admin_commands: true"]));
    fleet.keys();
    let mut client = fleet.proxy.client();
    client.send(bytes(&[
        "CLIENT REPLY OFF",
        "DBSIZE",
        "KEYS *",
        "SCAN 0",
        "INFO",
        "RANDOMKEY",
        "FLUSHALL",
        "CLIENT REPLY ON",
        "DBSIZE",
        "CLIENT REPLY SKIP",
        "DBSIZE",
        "PING",
    ]));
    assert_eq!(client.reply(), "+OK");
    assert_eq!(client.reply(), "0");
    assert_eq!(client.reply(), "+PONG");
}

#[test]
fn many_clients_at_once_get_each_their_own() {
    let fleet = need!(Fleet::start(&[]));
    fleet.keys();
    let mut clients: Vec<_> = (0..20).map(|_| fleet.proxy.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let name = format!("PUBSUB NUMSUB c{number}");
        client.send(bytes(&[&name, "DBSIZE", "KEYS none"]).repeat(20));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        for _ in 0..20 {
            assert_eq!(client.reply(), format!("[\"c{number}\" 0]"));
            assert_eq!(client.reply(), "3");
            assert_eq!(client.reply(), "[]");
        }
    }
}
