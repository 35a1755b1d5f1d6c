//! Packets that are lost, and connections that are reset, in a network namespace of its own: the test starts itself again
//! under `unshare`. Needs nft (package nftables), ss and ip (iproute2) and the right to make a namespace.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::scene::{Front, Side, Times, millis, pass, play};
use crate::support::process::{program, say_skipped};

/// Set in the process that has its own network.
const INSIDE: &str = "OUTRIGGER_CHAOS_NETWORK";

/// Whether this process has a network of its own. If not the test has run, in another process, or was skipped.
pub fn own_network() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return true;
    }
    if ["unshare", "nft", "ss", "ip"].iter().any(|name| program(name).is_none()) {
        return false;
    }
    // Without root: a user namespace in which we are.
    let root = rustix::process::geteuid().is_root();
    let flags = if root { "-n" } else { "-Urn" };
    if !Command::new("unshare").args([flags, "true"]).status().is_ok_and(|status| status.success()) {
        say_skipped("no network namespace may be made here");
        return false;
    }
    let _alone = crate::scene::alone();
    let test = std::thread::current().name().expect("the name of the test").to_owned();
    let itself = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command
        .arg(flags)
        .arg(itself)
        .args(["--exact", &test, "--nocapture", "--test-threads=1", "--include-ignored"])
        .env(INSIDE, "yes");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "not the test {test}: {text}");
    let told = text.lines().filter(|line| line.contains(" -> ") || line.starts_with("  "));
    told.for_each(|line| println!("{line}"));
    false
}

fn run(name: &str, arguments: &[&str]) {
    let path = program(name).expect("a tool that was there before");
    let output = Command::new(path).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Filters what reaches loopback's sockets; `rule` is about one port, `PORT`.
pub fn filter(sides: &[Side; 2], rules: &[&str]) {
    let mut table = "table inet chaos {\nchain input {\ntype filter hook input priority 0\n".to_owned();
    for side in sides {
        rules.iter().for_each(|rule| table += &format!("{}\n", rule.replace("PORT", &side.port().to_string())));
    }
    table += "}\n}\n";
    let path = program("nft").expect("a tool that was there before");
    let mut nft = Command::new(path).args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{table}");
}

pub fn no_filter(_: &mut [Side; 2]) {
    run("nft", &["delete", "table", "inet", "chaos"]);
}

/// Resets all connections to s0.
fn reset(sides: &[Side; 2]) {
    for side in sides {
        let port = format!("= {}", side.port());
        run("ss", &["-K", "-t", "state", "established", "dport", &port]);
    }
}

#[test]
fn a_server_behind_a_black_hole_costs_its_own_keys_a_time_out() {
    if !own_network() {
        return;
    }
    play("black hole", Front::Nothing, &[], |scene| {
        let hole = ["tcp dport PORT drop", "tcp sport PORT drop"];
        let run = scene.run(Times::fault(1000), |s| filter(s, &hole), no_filter);
        run.only_the_victim_suffers().it_was_noticed().well_again_within(millis(1500));
        run.errors_say(&["Connection timed out"]).nobody_waits_longer_than(millis(800));
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn a_server_that_answers_no_syn_costs_its_own_keys_the_time_to_connect() {
    if !own_network() {
        return;
    }
    play("SYN black hole", Front::Nothing, &[], |scene| {
        let fault = |sides: &mut [Side; 2]| {
            filter(sides, &["tcp dport PORT tcp flags & (syn|ack) == syn drop"]);
            reset(sides);
        };
        let run = scene.run(Times::fault(900), fault, no_filter);
        run.only_the_victim_suffers().it_was_noticed().well_again_within(millis(700));
        run.errors_say(&[
            "Connection timed out: not connected",
            "Software caused",
            "Connection reset",
            "Connection timed out",
            // The reset's error goes to whoever asks the socket first; who asks later reads its end.
            "Connection closed",
        ]);
        run.nobody_waits_longer_than(millis(800));
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn lost_packets_cost_the_keys_of_their_server_only() {
    if !own_network() {
        return;
    }
    play("5 % of packets lost", Front::Nothing, &[], |scene| {
        let loss = ["tcp dport PORT numgen random mod 100 < 5 drop", "tcp sport PORT numgen random mod 100 < 5 drop"];
        let run = scene.run(Times::fault(1000), |s| filter(s, &loss), no_filter);
        run.only_the_victim_suffers().well_again_within(millis(1000));
        run.errors_say(&["Connection timed out"]).nobody_waits_longer_than(millis(800));
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn writes_whose_replies_are_lost_are_not_made_twice() {
    if !own_network() {
        return;
    }
    play("replies lost one way", Front::Nothing, &[], |scene| {
        let run = scene.run(Times::fault(900), |s| filter(s, &["tcp sport PORT drop"]), no_filter);
        run.only_the_victim_suffers().it_was_noticed().well_again_within(millis(1500));
        run.errors_say(&["Connection timed out"]).nobody_waits_longer_than(millis(800));
        scene.increments_add_up(&run);
        run
    });
}

#[test]
fn twelve_resets_of_all_connections_cost_what_was_written_and_no_more() {
    if !own_network() {
        return;
    }
    play("connections reset x 12", Front::Nothing, &[], |scene| {
        let resets = |sides: &mut [Side; 2]| {
            for _ in 0..12 {
                reset(sides);
                pass(millis(60));
            }
        };
        let run = scene.run(Times::fault(800), resets, |_| {});
        run.only_the_victim_suffers().at_most(35).well_again_within(millis(300));
        let stats = scene.proxy.stats();
        let lost =
            ["r", "m"].map(|pool| ["server_err", "server_eof"].map(|f| stats[pool]["s0"][f].as_u64().unwrap_or(0)));
        let lost: u64 = lost.as_flattened().iter().sum();
        assert!(lost >= 12, "only {lost} connections were lost");
        scene.increments_add_up(&run);
        run
    });
}
