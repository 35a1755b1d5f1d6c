//! INFO: the figures of all servers, and what clients look for before they start.

use std::collections::HashMap;

use crate::support::client::{Reply, resp};
use crate::support::{Client, Outrigger, Pool, Server, eventually};
use crate::{Fleet, need};

/// The text, and its fields.
#[track_caller]
fn info(client: &mut Client, sections: &[&str]) -> (String, HashMap<String, String>) {
    let words = [&["INFO"], sections].concat();
    client.send(resp(&words));
    let Reply::Bulk(text) = client.try_reply().unwrap() else { panic!("{words:?}: no text") };
    let text = String::from_utf8(text).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(field, value)| (field.to_owned(), value.trim_end().to_owned())).collect();
    (text, fields)
}

fn sections(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# ")).collect()
}

#[test]
fn figures_are_sums_and_clients_find_what_they_look_for() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    for n in 0..100 {
        assert_eq!(client.ask(&format!("SET k:{n} 1")), "+OK");
    }
    client.ask("EXPIRE k:1 100");
    let (text, fields) = info(&mut client, &[]);
    let direct: Vec<_> = fleet.servers.iter().map(|server| info(&mut server.client(), &[])).collect();
    assert_eq!(fields["redis_version"], direct[0].1["redis_version"]);
    for (field, value) in [("redis_mode", "standalone"), ("loading", "0"), ("role", "master"), ("cluster_enabled", "0")]
    {
        assert_eq!(fields[field], value, "{field}");
    }
    assert!(fields["db0"].starts_with("keys=100,expires=1,avg_ttl="), "{}", fields["db0"]);
    let keys: u64 = direct.iter().map(|(_, f)| f["total_commands_processed"].parse::<u64>().unwrap()).sum();
    let said: u64 = fields["total_commands_processed"].parse().unwrap();
    assert!(said > 100 && said <= keys, "{said} of {keys}");
    let memory: u64 = fields["used_memory"].parse().unwrap();
    assert!(memory > 2 * direct[0].1["used_memory"].parse::<u64>().unwrap());
    assert!(fields["used_memory_human"].ends_with('M'), "{}", fields["used_memory_human"]);
    let mut expected = sections(&direct[0].0);
    expected.push("Outrigger");
    assert_eq!(sections(&text), expected);
    assert_eq!((&fields["pool"][..], &fields["servers"][..]), ("cache", "3"));
    assert!(!text.contains("unanswered"), "{text}");
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with("# ") || line.contains(':')));
}

#[test]
fn sections_are_chosen_by_name() {
    let fleet = need!(Fleet::start(&[]));
    let mut client = fleet.proxy.client();
    for (words, expected) in [
        (&["replication"][..], &["Replication"][..]),
        (&["REPLICATION"], &["Replication"]),
        (&["server", "Keyspace", "clients"], &["Server", "Clients", "Keyspace"]),
        (&["outrigger"], &["Outrigger"]),
        (&["outrigger", "cpu"], &["CPU", "Outrigger"]),
        (&["nonsense"], &[]),
    ] {
        let (text, fields) = info(&mut client, words);
        assert_eq!(sections(&text), expected, "{words:?}");
        assert!(!expected.contains(&"Replication") || fields["role"] == "master");
    }
    client.ask("GET k");
    let (everything, fields) = info(&mut client, &["everything"]);
    assert!(sections(&everything).starts_with(&["Server"]) && sections(&everything).ends_with(&["Outrigger"]));
    assert!(fields["cmdstat_get"].starts_with("calls=1,"), "{}", fields["cmdstat_get"]);
}

#[test]
fn of_one_server_it_is_the_servers_own_and_a_section_more() {
    let server = [need!(Server::redis())];
    let proxy = Outrigger::start([Pool::redis("one", &server)]);
    let (mut client, mut direct) = (proxy.client(), server[0].client());
    client.ask("SET k v");
    let (text, fields) = info(&mut client, &[]);
    let (own, its) = info(&mut direct, &[]);
    let mut expected = sections(&own);
    expected.push("Outrigger");
    assert_eq!(sections(&text), expected);
    for field in ["run_id", "redis_version", "db0", "maxmemory", "tcp_port", "role"] {
        assert_eq!(fields[field], its[field], "{field}");
    }
    assert!(text.contains("\r\n\r\n# Outrigger\r\noutrigger_version:"));
    let (text, _) = info(&mut client, &["keyspace"]);
    assert_eq!(text, info(&mut direct, &["keyspace"]).0);
    assert_eq!(sections(&info(&mut client, &["outrigger"]).0), ["Outrigger"]);
}

#[test]
fn a_server_without_an_answer_is_named_and_the_others_are_summed() {
    let mut fleet = need!(Fleet::start(&[]));
    let keys = fleet.keys();
    let mut client = fleet.proxy.client();
    let named = fleet.lose_the_second();
    assert!(client.ask(&format!("GET {}", keys[1])).starts_with("-ERR "));
    let (_, fields) = info(&mut client, &[]);
    assert!(fields["db0"].starts_with("keys=2,"), "{}", fields["db0"]);
    assert!(fields["unanswered0"].ends_with(&named), "{}", fields["unanswered0"]);
    assert!(!fields.contains_key("unanswered1"));
    fleet.servers[1].restart();
    eventually("the server's return", || {
        let (_, fields) = info(&mut client, &[]);
        (!fields.contains_key("unanswered0")).then_some(())
    });
}

#[test]
fn where_no_server_answers_clients_still_find_what_they_look_for() {
    let mut servers = need!(Server::three(Server::redis));
    let mut proxy = Outrigger::start([Pool::redis("cache", &servers), Pool::redis("one", &servers[..1])]);
    for text in ["connection lost", "cannot connect"] {
        proxy.announce(text);
    }
    servers.iter_mut().for_each(Server::kill);
    for (pool, unanswered) in [(0, 3), (1, 1)] {
        let mut client = proxy.client_of(pool);
        let (text, fields) = info(&mut client, &[]);
        assert_eq!(sections(&text), ["Server", "Persistence", "Replication", "Outrigger"]);
        assert!(fields["redis_version"].starts_with("7."));
        assert_eq!((&fields["loading"][..], &fields["role"][..]), ("0", "master"));
        assert_eq!(text.matches("unanswered").count(), unanswered, "{text}");
        assert_eq!(sections(&info(&mut proxy.client_of(0), &["replication"]).0), ["Replication"]);
    }
}
