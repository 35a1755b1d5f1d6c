//! The sidecar as the manifests have it, started: what the kubelet, Prometheus and Docker ask it is answered.

use std::fs;
use std::process::Command;

use super::files::{list, manifest, mounted, parsed, sidecar, text};
use crate::need;
use crate::support::client::Address;
use crate::support::process::Port;
use crate::support::proxy::{How, PROGRAM};
use crate::support::{Outrigger, Server};

/// The configuration of the ConfigMap, over servers and on ports that there are here.
fn start(admin: &Port, folder: &std::path::Path) -> Option<(Outrigger, [Server; 3])> {
    let servers = Server::three(Server::redis)?;
    let mut settings = fs::read_to_string(mounted(folder)).unwrap();
    let port = Port::reserve();
    let pool = parsed(&settings)["pools"]["cache"].clone();
    let mut put = |from: &str, to: &str| {
        assert_eq!(settings.matches(from).count(), 1, "{from}");
        settings = settings.replace(from, to);
    };
    put(text(&pool["listen"]), &port.address().to_string());
    put("0.0.0.0:22223", &admin.address().to_string());
    for (entry, server) in list(&pool["servers"]).iter().zip(&servers) {
        put(text(entry), &server.entry());
    }
    // Its own `admin:` stays, but for the statistics.
    let text = |admin: &str| {
        let stats = admin.lines().find(|line| line.contains("stats:")).unwrap();
        settings.replace("stats: off", stats.trim())
    };
    Some((Outrigger::start_text(How::default(), text, vec![Address::Tcp(port.address())]), servers))
}

/// The status of the answer.
fn get(admin: &Port, path: &str, token: Option<&str>) -> String {
    let mut client = Address::Tcp(admin.address()).connect().unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{token}Connection: close\r\n\r\n", admin.address()));
    client.rest().split(' ').nth(1).expect("a status").to_owned()
}

#[test]
fn what_asks_the_sidecar_gets_its_answer() {
    let (admin, folder) = (Port::reserve(), crate::support::folder());
    let (proxy, _servers) = need!(start(&admin, folder.path()));
    assert_eq!(proxy.client().ask("SET greeting hello"), "+OK");
    let container = sidecar();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(get(&admin, text(&container[probe]["httpGet"]["path"]), None), "200", "{probe}");
    }
    let metrics = manifest("podmonitor")["spec"]["podMetricsEndpoints"][0]["path"].clone();
    assert_eq!(get(&admin, text(&metrics), None), "401");
    assert_eq!(get(&admin, text(&metrics), Some("a-token")), "200");

    // The health check of the image; and what deploy/README.md tells to ask.
    let outrigger = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("OUTRIGGER_ADMIN", admin.address().to_string()).output().unwrap()
    };
    assert!(outrigger(&["healthcheck"]).status.success());
    let (_, key) = super::files::token();
    let status = outrigger(&["status", "--token-file", folder.path().join(key).to_str().unwrap()]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    drop(proxy);
    assert!(!outrigger(&["healthcheck"]).status.success());
}
