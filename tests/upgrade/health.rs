//! What is known of servers goes along with an upgrade.

use std::time::Duration;

use crate::need;
use crate::stage::edit;
use crate::support::{Outrigger, Pool, Server, eventually};

/// A server that is to be emptied before its return must not come back by way of another process.
#[test]
fn an_ejected_server_stays_ejected_over_an_upgrade_and_returns_empty() {
    let servers = need!(Server::three(Server::redis));
    let keys = "timeout: 200\n    auto_eject_hosts: true\n    on_readmit: flush\n    server_failure_limit: 1\n    server_retry_timeout: 1s\n    \
                probe_interval: 100ms\n    slow_start: 0";
    let pool = Pool::redis("r", &servers).set(keys);
    let mut proxy = Outrigger::start([pool]);
    for words in ["connection lost", "cannot connect", "no reply in time", "server ejected"] {
        proxy.announce(words);
    }
    let mut client = proxy.client();
    for key in 0..30 {
        assert_eq!(client.ask(&format!("SET k{key} before")), "+OK");
    }
    servers[0].pause();
    let state = |proxy: &Outrigger, pool: &str| proxy.stats()[pool][servers[0].name()]["server_state"].clone();
    eventually("the server to be ejected", || {
        (0..30).for_each(|key| drop(client.ask(&format!("GET k{key}"))));
        (state(&proxy, "r") == "ejected").then_some(())
    });
    // Its pool is called something else from then on.
    edit(&proxy, |text| text.replace("  r:\n", "  renamed:\n"));
    proxy.upgrade();
    assert_eq!(state(&proxy, "renamed"), "ejected", "{}", proxy.log());
    // Not an error for its keys, which the others have.
    for key in 0..30 {
        assert_eq!(client.ask(&format!("SET k{key} after")), "+OK");
    }
    servers[0].resume();
    eventually("the server to be back", || (state(&proxy, "renamed") == "live").then_some(()));
    std::thread::sleep(Duration::from_millis(50));
    for key in 0..30 {
        let value = client.ask(&format!("GET k{key}"));
        assert_ne!(value, "\"before\"", "an older value came back for k{key}");
    }
}
