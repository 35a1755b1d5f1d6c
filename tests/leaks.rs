//! Clients that vanish in the middle of what they have begun: nothing of it stays, here or on the servers.
//!
//! `OUTRIGGER_LEAKS=N` is how many clients end; `OUTRIGGER_LEAKS_SEED=N` where chance begins.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use support::client::resp;
use support::ensemble::Ensemble;
use support::{Client, Server, eventually};

/// Clients of the short form.
const ENDS: u64 = 5_000;
/// That are there at the same time.
const AT_ONCE: usize = 40;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// What a client has begun when it ends; `#` is a number. Each line is one request.
const BEGUN: [&[&str]; 20] = [
    &["MULTI"],
    &["MULTI", "SET k# v", "INCR k#"],
    &["MULTI", "SET k# v", "NOSUCH"],
    &["MULTI", "SET k# v", "GET other#"],
    &["MULTI", "INCR k#", "EXEC"],
    &["WATCH k#"],
    &["WATCH k#", "GET k#", "MULTI", "SET k# v"],
    &["WATCH k#", "MULTI", "SET k# v", "EXEC", "WATCH k#"],
    &["WATCH k#", "UNWATCH", "MULTI", "DISCARD"],
    &["BLPOP list# 0"],
    &["BLPOP list# 0", "SET k# v", "BLPOP list# 0"],
    &["BRPOPLPUSH list# list# 0"],
    &["XREAD BLOCK 0 STREAMS stream# $"],
    &["BZPOPMIN scores# 0"],
    &["WAIT 1 0"],
    &["SUBSCRIBE c#", "PSUBSCRIBE p#*"],
    &["SUBSCRIBE c# d# e# f#", "UNSUBSCRIBE c#", "PUBLISH d# x"],
    &["SSUBSCRIBE c#", "RESET", "SSUBSCRIBE c#"],
    &["SELECT 1", "MULTI", "SET k# v"],
    &["GET k#", "MGET k# other# k#", "SET k# v", "DBSIZE", "SCAN 0"],
];

/// How a client ends.
#[derive(Clone, Copy)]
enum End {
    /// As it is closed.
    Closed,
    /// With a reset, and replies unread.
    Reset,
    /// After a part of another request.
    Half,
    /// It says no more, and reads until the proxy closes.
    HalfClosed,
    Quit,
    /// By CLIENT KILL.
    Killed,
}

const ALL_ENDS: [End; 6] = [End::Closed, End::Reset, End::Half, End::HalfClosed, End::Quit, End::Killed];

/// One that will vanish.
struct Guest {
    socket: TcpStream,
    end: End,
    /// Its number, where it is needed.
    id: Option<String>,
}

impl Guest {
    fn come(address: SocketAddr, random: &mut Random) -> Self {
        let end = ALL_ENDS[random.below(ALL_ENDS.len())];
        let mut socket = TcpStream::connect(address).unwrap();
        let id = matches!(end, End::Killed).then(|| number_of(&mut socket));
        let mut bytes = if random.below(2) == 0 { resp(&["HELLO", "3"]) } else { Vec::new() };
        for _ in 0..1 + random.below(2) {
            for request in BEGUN[random.below(BEGUN.len())] {
                let request = request.replace('#', &random.below(50).to_string());
                bytes.extend(resp(&request.split(' ').collect::<Vec<_>>()));
            }
        }
        let mut guest = Self { socket, end, id };
        guest.say(&bytes);
        guest
    }

    /// One that was ended already says nothing.
    fn say(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Ends; what is left of it is a socket that only reads, if anything.
    fn go(mut self, witness: &mut Client) -> Option<TcpStream> {
        match self.end {
            End::Closed => {}
            End::Reset => {
                let _ = set_socket_linger(&self.socket, Some(Duration::ZERO));
            }
            End::Half => self.say(b"*3\r\n$3\r\nSET\r\n$100\r\nhalf"),
            End::HalfClosed => {
                let _ = self.socket.shutdown(Shutdown::Write);
                return Some(self.socket);
            }
            End::Quit => self.say(b"QUIT\r\n"),
            End::Killed => {
                // It may have ended by itself, of what it said last.
                let killed = witness.ask(&format!("CLIENT KILL ID {}", self.id.as_deref().unwrap()));
                assert!(["0", "1"].contains(&&killed[..]), "{killed}");
            }
        }
        None
    }
}

/// Its number, as the proxy says it.
fn number_of(socket: &mut TcpStream) -> String {
    socket.write_all(b"CLIENT ID\r\n").unwrap();
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).unwrap();
    line.trim().trim_start_matches(':').to_owned()
}

/// One that stays, and gets the replies to what it asks, whoever comes and goes.
fn witness_all_well(witness: &mut Client, round: u64) {
    for n in 0..4 {
        let (key, value) = (format!("witness{n}"), format!("{round}-{n}"));
        assert_eq!(witness.ask(&format!("SET {key} {value}")), "+OK");
        assert_eq!(witness.ask(&format!("WATCH {key}")), "+OK");
        assert_eq!(witness.ask("MULTI"), "+OK");
        assert_eq!(witness.ask(&format!("GET {key}")), "+QUEUED");
        assert_eq!(witness.ask("EXEC"), format!("[\"{value}\"]"));
        assert_eq!(witness.ask(&format!("RPUSH own{n} {value}")), "1");
        assert_eq!(witness.ask(&format!("BLPOP own{n} 0")), format!("[\"own{n}\" \"{value}\"]"));
    }
}

/// What a server says of each connection, but of the one that asks.
fn connections(server: &Server) -> Vec<String> {
    let mut direct = server.client();
    let own = format!("id={} ", direct.ask("CLIENT ID"));
    let list = direct.ask("CLIENT LIST");
    let lines = list.trim_matches('"').split("\\n").filter(|line| !line.is_empty());
    lines.filter(|line| !line.starts_with(&own)).map(str::to_owned).collect()
}

/// It neither waits nor watches nor queues nor listens.
fn is_free(line: &str) -> bool {
    let has = |word: &str| line.split(' ').any(|part| part == word);
    has("flags=N") && has("multi=-1") && has("sub=0") && has("psub=0") && line.split(' ').all(|part| part != "ssub=1")
}

#[test]
fn clients_that_vanish_leave_nothing() {
    let setting = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let ends = setting("OUTRIGGER_LEAKS").unwrap_or(ENDS);
    let seed = setting("OUTRIGGER_LEAKS_SEED").unwrap_or(1);
    println!("seed {seed}");
    let mut random = Random(seed);
    let ensemble = need!(Ensemble::start(3, &["databases: 2"]));
    let address = ensemble.proxy.socket_address(0);
    let mut witness = ensemble.client(2);
    let (mut guests, mut mute) = (Vec::<Guest>::new(), Vec::new());
    let begin = Instant::now();
    for number in 0..ends {
        guests.push(Guest::come(address, &mut random));
        if guests.len() > AT_ONCE {
            let one = random.below(guests.len());
            mute.extend(guests.swap_remove(one).go(&mut witness));
            mute.drain(..mute.len().saturating_sub(AT_ONCE));
        }
        if number % 250 == 0 {
            witness_all_well(&mut witness, number);
        }
    }
    mute.extend(guests.drain(..).filter_map(|guest| guest.go(&mut witness)));
    println!("{ends} ended in {:.1?}", begin.elapsed());
    witness_all_well(&mut witness, ends);
    ensemble.expect_all_given_back();
    // Of those that only read as well: they are still there.
    eventually("the sessions to end", || (ensemble.metric("outrigger_sessions{", "") == 1).then_some(()));
    for server in &ensemble.servers {
        let name = format!("server=\"{}\"", server.name());
        eventually("the servers' connections to be free, and no others than the proxy counts", || {
            let found = connections(server);
            let counted = ensemble.metric("outrigger_server_connections{", &format!("{name},state=\"connected\""));
            (found.iter().all(|line| is_free(line)) && found.len() as u64 == counted).then_some(())
        });
    }
}
