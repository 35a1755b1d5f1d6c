//! SELECT of several databases.

use crate::need;
use crate::support::client::resp;
use crate::support::{Client, Outrigger, Pool, Server};
use crate::{pipeline, support};

fn scene(lines: &[&str]) -> Option<([Server; 3], Outrigger)> {
    let servers = Server::three(Server::redis)?;
    let pool = lines.iter().fold(Pool::redis("cache", &servers), |pool, line| pool.set(line));
    let proxy = Outrigger::start_with("workers: 1\n", [pool]);
    Some((servers, proxy))
}

/// Of all servers together, the keys in a database.
fn keys_in(servers: &[Server], database: u32) -> Vec<String> {
    let mut found = Vec::new();
    for server in servers {
        let mut direct = server.client();
        direct.ask(&format!("SELECT {database}"));
        direct.send(resp(&["KEYS", "*"]));
        let support::client::Reply::Array(keys) = direct.try_reply().unwrap() else { panic!("no keys") };
        found.extend(keys.iter().map(ToString::to_string));
    }
    found.sort();
    found
}

#[test]
fn each_database_has_its_own_keys() {
    let (servers, proxy) = need!(scene(&["databases: 4", "redis_db: 1"]));
    let (mut client, mut other) = (proxy.client(), proxy.client());
    other.ask("HELLO 3");
    assert_eq!(client.ask("SET begin 1"), "+OK");
    for database in 0..4 {
        for (client, name) in [(&mut client, "two"), (&mut other, "three")] {
            assert_eq!(client.ask(&format!("SELECT {database}")), "+OK");
            let pairs: Vec<String> = (0..10).map(|n| format!("{name}-{database}-{n} {database}")).collect();
            assert_eq!(client.ask(&format!("MSET {}", pairs.join(" "))), "+OK");
            assert_eq!(client.ask(&format!("SET k-{name} {database}")), "+OK");
            let info = client.ask("CLIENT INFO");
            assert!(info.contains(&format!(" db={database} ")), "{info}");
        }
    }
    for database in 0..4 {
        let keys = keys_in(&servers, database);
        assert_eq!(keys.len(), 22 + usize::from(database == 1), "{keys:?}");
        assert!(keys.iter().all(|key| !key.contains("-0-") || database == 0), "{keys:?}");
        assert_eq!(client.ask(&format!("SELECT {database}")), "+OK");
        assert_eq!(client.ask("GET k-three"), format!("\"{database}\""));
    }
    assert_eq!(client.ask("RESET"), "+RESET");
    assert_eq!(client.ask("GET begin"), "\"1\"", "back where sessions begin");
    for wrong in ["4", "-1", "16"] {
        let expected = "-ERR DB index is out of range: pool cache serves databases 0 to 3 (databases)";
        assert_eq!(client.ask(&format!("SELECT {wrong}")), expected);
    }
    assert_eq!(client.ask("SELECT x"), "-ERR value is not an integer or out of range");
    assert_eq!(client.ask("GET begin"), "\"1\"");
}

#[test]
fn without_the_setting_there_is_the_pools_own() {
    let (_servers, proxy) = need!(scene(&["redis_db: 2"]));
    let mut client = proxy.client();
    assert_eq!(client.ask("SELECT 2"), "+OK");
    let expected = "-ERR DB index is out of range: pool cache serves database 2 only (databases)";
    assert_eq!(client.ask("SELECT 0"), expected);
    client.ask("HELLO 3");
    assert_eq!(client.ask("SELECT 2"), "+OK");
    assert_eq!(client.ask("SELECT 3"), expected.replace(" 3", " 2"));
}

#[test]
fn a_pipeline_through_databases_and_versions_stays_in_order() {
    let (_servers, proxy) = need!(scene(&["databases: 16"]));
    let mut clients: Vec<Client> = (0..8).map(|_| proxy.client()).collect();
    for round in 0..20 {
        for (number, client) in clients.iter_mut().enumerate() {
            let mut lines = Vec::new();
            for database in 0..16 {
                lines.push(format!("SELECT {database}"));
                lines.push(format!("SET c{number} {round}-{database}"));
                if database % 5 == 0 {
                    lines.push(format!("HELLO {}", 2 + database / 5 % 2));
                }
            }
            for database in (0..16).rev() {
                lines.push(format!("SELECT {database}"));
                lines.push(format!("GET c{number}"));
                lines.push(format!("GETDEL c{number}"));
            }
            client.send(pipeline(&lines.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        for client in &mut clients {
            for database in 0..16 {
                assert_eq!((client.reply(), client.reply()), ("+OK".into(), "+OK".into()));
                if database % 5 == 0 {
                    let hello = client.raw();
                    assert!(hello.contains(&format!("$5|proto|:{}|", 2 + database / 5 % 2)), "{hello}");
                }
            }
            for database in (0..16).rev() {
                let value = format!("\"{round}-{database}\"");
                assert_eq!([client.reply(), client.reply(), client.reply()], ["+OK".to_owned(), value.clone(), value]);
            }
        }
    }
}

#[test]
fn a_database_that_a_server_has_not_is_no_failure_of_the_server() {
    let server = need!(Server::redis_with(&["--databases", "2"]));
    let pool = Pool::redis("cache", std::slice::from_ref(&server))
        .set("databases: 4")
        .set("auto_eject_hosts: true")
        .set("on_readmit: keep")
        .set("max_ejected_percent: 100")
        .set("server_failure_limit: 1");
    let mut proxy = Outrigger::start([pool]);
    proxy.announce("cannot connect, through no fault of the server");
    let mut client = proxy.client();
    assert_eq!(client.ask("SELECT 3"), "+OK");
    for _ in 0..5 {
        let error = client.ask("SET a 1");
        assert!(error.starts_with("-ERR SELECT failed: ERR DB index is out of range"), "{error}");
    }
    assert_eq!(client.ask("SELECT 1"), "+OK");
    assert_eq!(client.ask("SET a 1"), "+OK");
    assert_eq!(proxy.client().ask("SET a 1"), "+OK");
    assert!(!proxy.log().contains("server ejected"));
}

#[test]
fn the_file_says_which_databases_there_are() {
    let at = |lines: &str| {
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        std::fs::write(file.path(), format!("pools:\n{lines}")).unwrap();
        let checked =
            std::process::Command::new(support::proxy::PROGRAM).arg("-t").arg("-c").arg(file.path()).output().unwrap();
        String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned()
    };
    let pool = |keys: &str| format!("  a: {{listen: 'h:1', protocol: redis, servers: ['h:2'], {keys}}}\n");
    assert!(
        at(&pool("databases: 3, redis_db: 3"))
            .contains("databases: 3 without redis_db, which is 3; allowed: at least 4")
    );
    let local = pool("databases: 3").replace("h:2", "local one");
    assert!(at(&local).contains("databases: 3 with a local server, which has one; allowed: 1"));
    assert!(at(&pool("databases: 3").replace("redis", "memcached")).contains("'databases' in a memcached pool"));
    assert!(at(&pool("databases: 0")).contains("allowed"));
    let spare = "auto_eject_hosts: true, on_readmit: keep, databases: 3, on_ejected: b";
    let two = |own: &str| pool(spare) + &format!("  b: {{listen: 'h:3', protocol: redis, servers: ['h:4'], {own}}}\n");
    for wrong in ["databases: 2", "redis_db: 0", "databases: 3, redis_db: 1"] {
        let said = at(&two(wrong));
        assert!(said.contains("it needs `databases: 3` and `redis_db: 0` too"), "{wrong}: {said}");
    }
    assert!(!at(&two("databases: 3")).contains("it needs"));
}
