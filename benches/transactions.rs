//! What a transaction costs the proxy, beside the same commands without one.
//!
//! `cargo bench --bench transactions` (a release build of Outrigger must be there, or be named by `OUTRIGGER`). Rounds of both
//! kinds take turns on the same connections; the figure is the proxy's CPU time per five commands, the ratio is taken round
//! by round. The goal: five commands in a transaction cost 1.5 times as much as in a pipeline.
#![allow(dead_code, reason = "what it shares with the bench of proxies has more")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode};

#[path = "proxies/process.rs"]
mod process;
#[path = "proxies/sys.rs"]
mod sys;

use process::{Process, find_program, free_address};
use sys::Result;

const CLIENTS: usize = 50;
const ROUNDS: usize = 9;
/// Times that each client asks in a round.
const TIMES: usize = 200;

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches without an argument, `cargo bench` with one.
    if std::env::args().len() == 1 {
        println!("Nothing measured. Run it as: cargo bench --bench transactions");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (server_at, proxy_at) = (free_address()?, free_address()?);
    let mut redis = Command::new(find_program("redis-server", "apt-get install redis-server")?);
    redis.args(["--port", &server_at.port().to_string(), "--save", "", "--appendonly", "no"]);
    let mut server = Process::start("redis", redis, &[], folder.path())?;
    server.wait_for(server_at)?;
    let file = folder.path().join("outrigger.yml");
    let configuration = format!(
        "workers: 1\nadmin: {{listen: off, stats: off}}\npools:\n  cache: {{listen: \"{proxy_at}\", protocol: redis, servers: [\"{server_at}:1 one\"]}}\n"
    );
    std::fs::write(&file, configuration).map_err(|error| error.to_string())?;
    let program = std::env::var("OUTRIGGER").unwrap_or_else(|_| "target/release/outrigger".to_owned());
    let mut outrigger = Command::new(find_program(&program, "cargo build --release, or OUTRIGGER=its path")?);
    outrigger.arg("-c").arg(&file);
    let mut proxy = Process::start("outrigger", outrigger, &[], folder.path())?;
    proxy.wait_for(proxy_at)?;

    let mut clients = connect(proxy_at)?;
    let plain = Exchange::new(&SETS, &["+OK"; 5]);
    let transaction = {
        let replies =
            ["+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*5\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK"];
        Exchange::new(&[&["MULTI"][..], SETS[0], SETS[1], SETS[2], SETS[3], SETS[4], &["EXEC"]], &replies)
    };
    plain.measure(&proxy, &mut clients)?;
    transaction.measure(&proxy, &mut clients)?;
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (plain, transaction) = (plain.measure(&proxy, &mut clients)?, transaction.measure(&proxy, &mut clients)?);
        println!("round {round}: five commands {plain:.2} us, in a transaction {transaction:.2} us");
        ratios.push(transaction / plain);
    }
    ratios.sort_by(f64::total_cmp);
    println!("ratio {:.2} (from {:.2} to {:.2}), the goal is 1.5", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
    Ok(())
}

const SETS: [&[&str]; 5] = [
    &["SET", "key:1", "value"],
    &["SET", "key:2", "value"],
    &["SET", "key:3", "value"],
    &["SET", "key:4", "value"],
    &["SET", "key:5", "value"],
];

fn connect(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let one = |_| {
        let client = TcpStream::connect(address)?;
        client.set_nodelay(true)?;
        Ok(client)
    };
    (0..CLIENTS).map(one).collect::<std::io::Result<_>>().map_err(|error| error.to_string())
}

/// What a client sends in one piece, and what it must get.
struct Exchange {
    requests: Vec<u8>,
    replies: Vec<u8>,
}

impl Exchange {
    fn new(requests: &[&[&str]], replies: &[&str]) -> Self {
        let requests = requests.iter().map(|words| {
            let words_: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
            format!("*{}\r\n{words_}", words.len())
        });
        let replies = replies.iter().map(|reply| format!("{reply}\r\n"));
        Self { requests: requests.collect::<String>().into(), replies: replies.collect::<String>().into() }
    }

    /// The proxy's CPU time per exchange, in microseconds.
    fn measure(&self, proxy: &Process, clients: &mut [TcpStream]) -> Result<f64> {
        let before = proxy.cpu_ns()?;
        let mut got = vec![0; self.replies.len()];
        for _ in 0..TIMES {
            for client in clients.iter_mut() {
                client.write_all(&self.requests).map_err(|error| error.to_string())?;
            }
            for client in clients.iter_mut() {
                client.read_exact(&mut got).map_err(|error| error.to_string())?;
                if got != self.replies {
                    return Err(format!("a wrong reply: {}", String::from_utf8_lossy(&got)));
                }
            }
        }
        Ok((proxy.cpu_ns()? - before) as f64 / 1000.0 / (TIMES * clients.len()) as f64)
    }
}
