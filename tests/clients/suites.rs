//! Runs the suites of this folder, each a program in its client's own language, against a plain redis-server (a suite that
//! passes there is right), then through the proxy in front of one server and of three.
//!
//! `python/checks.py` says how a suite and this runner talk. `OUTRIGGER_CLIENTS` is `all`, or beginnings of names of suites with commas
//! between; without it the short form runs, in `make test`. `OUTRIGGER_CLIENT_PLACES` is some of `plain,1,3`.

use std::io::{BufRead, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::support::process::say_skipped;
use super::support::{Outrigger, Pool, Server};

/// Seconds that one suite may take in one place.
const LIMIT: &str = "150";

/// What runs a suite.
#[derive(Clone, Copy)]
enum Language {
    Python,
    Node,
    Php,
    /// Built beforehand, into `target/clients`.
    Built,
}

struct Suite {
    name: &'static str,
    language: Language,
    /// The program with its arguments, from the folder of its language.
    program: &'static [&'static str],
    /// What must be there: a module of Python or Node, a class of PHP.
    library: &'static str,
    /// Part of `make test`.
    short: bool,
}

const fn suite(
    name: &'static str,
    language: Language,
    program: &'static [&'static str],
    library: &'static str,
    short: bool,
) -> Suite {
    Suite { name, language, program, library, short }
}

use Language::{Built, Node, Php, Python};

const SUITES: [Suite; 21] = [
    suite("redis-py/RESP2", Python, &["redis_py.py", "2"], "redis", true),
    suite("redis-py/RESP3", Python, &["redis_py.py", "3"], "redis", true),
    suite("redis-py-asyncio/RESP2", Python, &["redis_py_asyncio.py", "2"], "redis", true),
    suite("redis-py-asyncio/RESP3", Python, &["redis_py_asyncio.py", "3"], "redis", true),
    suite("celery", Python, &["celery_results.py"], "celery", false),
    suite("coredis", Python, &["coredis_suite.py"], "coredis", false),
    suite("valkey-glide/RESP2", Python, &["valkey_glide.py", "2"], "glide", false),
    suite("valkey-glide/RESP3", Python, &["valkey_glide.py", "3"], "glide", false),
    suite("ioredis/RESP2", Node, &["ioredis.js", "2"], "ioredis", false),
    suite("ioredis/RESP3", Node, &["ioredis.js", "3"], "ioredis", true),
    suite("node-redis/RESP2", Node, &["node_redis.js", "2"], "redis", false),
    suite("node-redis/RESP3", Node, &["node_redis.js", "3"], "redis", true),
    suite("bullmq", Node, &["bullmq.js"], "bullmq", false),
    suite("redis-rs/RESP2", Built, &["redis_rs", "2"], "", false),
    suite("redis-rs/RESP3", Built, &["redis_rs", "3"], "", false),
    suite("fred/RESP2", Built, &["fred", "2"], "", false),
    suite("fred/RESP3", Built, &["fred", "3"], "", false),
    suite("redigo", Built, &["redigo"], "", false),
    suite("go-redis", Built, &["goredis"], "", false),
    suite("phpredis", Php, &["phpredis.php"], "Redis", false),
    suite("predis", Php, &["predis.php"], "Predis/Autoloader.php", false),
];

/// What the client talks to.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Plain,
    One,
    Three,
}

impl Place {
    const ALL: [Self; 3] = [Self::Plain, Self::One, Self::Three];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::One => "1 server",
            Self::Three => "3 servers",
        }
    }
}

/// What one suite said in one place.
#[derive(Default)]
struct Outcome {
    version: String,
    passed: usize,
    failed: Vec<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn python() -> std::ffi::OsString {
    std::env::var_os("OUTRIGGER_TEST_PYTHON").unwrap_or_else(|| "python3".into())
}

impl Suite {
    /// Why it cannot be run here.
    fn missing(&self) -> Option<String> {
        let library = self.library;
        let mut probe = match self.language {
            Python => command(python(), &["-c", &format!("import {library}")]),
            Node => command("node", &["--input-type=module", "-e", &format!("import '{library}'")]),
            Php => {
                command("php", &["-r", &format!("exit(class_exists('{library}') || @include '{library}' ? 0 : 1);")])
            }
            Built => {
                let file = self.program().get_program().to_owned();
                return (!Path::new(&file).is_file()).then(|| format!("{} was not built", self.program[0]));
            }
        };
        if matches!(self.language, Node) {
            probe.current_dir(folder().join("node"));
        }
        match probe.output() {
            Ok(output) if output.status.success() => None,
            Ok(_) => Some(format!("no {library} for {}", probe.get_program().display())),
            Err(error) => Some(format!("no {}: {error}", probe.get_program().display())),
        }
    }

    fn program(&self) -> Command {
        let file = |language: &str| folder().join(language).join(self.program[0]);
        let mut command = match self.language {
            Python => command(python(), &[file("python")]),
            Node => command("node", &[file("node")]),
            Php => command("php", &[file("php")]),
            Built => Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients").join(self.program[0])),
        };
        command.args(&self.program[1..]);
        command
    }

    fn run(&self, place: Place) -> Outcome {
        let count = if place == Place::Three { 3 } else { 1 };
        let mut servers: Vec<Server> = (0..count).map(|_| Server::redis().expect("a redis-server")).collect();
        let proxy = (place != Place::Plain).then(|| {
            let pool = Pool::redis("cache", &servers).set("hash: murmur").set("hash_tag: \"{}\"");
            let mut proxy = Outrigger::start([pool]);
            // A suite kills a server.
            proxy.announce("connection lost");
            proxy.announce("cannot connect");
            proxy.announce("subscriptions lost");
            proxy
        });
        let address = proxy.as_ref().map_or_else(|| servers[0].socket_address(), |proxy| proxy.socket_address(0));
        let program = self.program();
        let mut child = Command::new("timeout")
            .args(["-k", "5", LIMIT])
            .arg(program.get_program())
            .args(program.get_args())
            .env("OUTRIGGER_ADDRESS", address.to_string())
            .env("OUTRIGGER_SERVERS", count.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("coreutils' timeout");
        let (mut answers, mut errors) = (child.stdin.take().unwrap(), child.stderr.take().unwrap());
        let said = BufReader::new(child.stdout.take().unwrap());
        let complaints = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut outcome = Outcome::default();
        for line in said.lines().map_while(Result::ok) {
            self.hear(place, &line, &mut servers, &mut answers, &mut outcome);
        }
        let (status, complaints) = (child.wait().unwrap(), complaints.join().unwrap());
        if status.success() != outcome.failed.is_empty() || outcome.passed + outcome.failed.len() == 0 {
            let last: Vec<&str> = complaints.lines().rev().take(15).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            outcome.failed.push(format!("ended with {status}\n{}", last.join("\n")));
        }
        outcome
    }

    /// One line of the suite's.
    fn hear(&self, place: Place, line: &str, servers: &mut [Server], answers: &mut ChildStdin, outcome: &mut Outcome) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "client" => outcome.version = rest.split_once(' ').map_or(rest, |(_, version)| version).to_owned(),
            "ok" => {
                outcome.passed += 1;
                println!("{} · {} · ok {rest}", self.name, place.name());
            }
            "failed" => {
                println!("{} · {} · FAILED {rest}", self.name, place.name());
                outcome.failed.push(rest.to_owned());
            }
            "ask" => {
                let _ = writeln!(answers, "{}", answer(rest, servers));
            }
            _ => println!("{} · {} · {line}", self.name, place.name()),
        }
    }
}

/// What a suite is told that asks.
fn answer(question: &str, servers: &mut [Server]) -> String {
    match question {
        "kill" => servers[0].kill(),
        "start" => servers[0].restart(),
        "sizes" => return servers.iter().map(|server| server.client().ask("DBSIZE")).collect::<Vec<_>>().join(" "),
        other => panic!("a suite asks {other:?}"),
    }
    "done".to_owned()
}

fn command<S: AsRef<std::ffi::OsStr>>(program: impl AsRef<std::ffi::OsStr>, arguments: &[S]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// The suites to run, in which places, and whether all of them must be there.
fn chosen() -> (Vec<&'static Suite>, Vec<Place>, bool) {
    match std::env::var("OUTRIGGER_CLIENTS") {
        Err(_) => (SUITES.iter().filter(|suite| suite.short).collect(), vec![Place::One, Place::Three], false),
        Ok(names) => {
            let may_skip = std::env::var("CLIENTS_MAY_SKIP").is_ok_and(|value| value == "1");
            let wanted = |suite: &&Suite| names == "all" || names.split(',').any(|name| suite.name.starts_with(name));
            let places = std::env::var("OUTRIGGER_CLIENT_PLACES").unwrap_or_else(|_| "plain,1,3".to_owned());
            let places =
                Place::ALL.into_iter().filter(|place| places.split(',').any(|one| place.name().starts_with(one)));
            (SUITES.iter().filter(wanted).collect(), places.collect(), !may_skip)
        }
    }
}

/// Two at a time; the outcomes in the order of `runs`.
fn run_all(runs: &[(&'static Suite, Place)]) -> Vec<Outcome> {
    let outcomes: Vec<Mutex<Outcome>> = runs.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((suite, place)) = runs.get(index) else { return };
            // The proxy's log may hold what nobody announced, which is a panic.
            let ran = catch_unwind(AssertUnwindSafe(|| suite.run(*place)));
            *outcomes[index].lock().unwrap() = ran.unwrap_or_else(|panic| Outcome {
                failed: vec![panic.downcast_ref::<String>().map_or("panicked", String::as_str).to_owned()],
                ..Outcome::default()
            });
        }
    };
    std::thread::scope(|scope| [scope.spawn(work), scope.spawn(work)].into_iter().for_each(|one| one.join().unwrap()));
    outcomes.into_iter().map(|outcome| outcome.into_inner().unwrap()).collect()
}

#[test]
fn suites_of_real_clients() {
    let (suites, places, all_must_run) = chosen();
    if super::support::process::program("redis-server").is_none() {
        return;
    }
    assert!(!suites.is_empty(), "OUTRIGGER_CLIENTS names no suite");
    let missing: Vec<(&Suite, Option<String>)> = suites.into_iter().map(|suite| (suite, suite.missing())).collect();
    let runs: Vec<(&Suite, Place)> = missing
        .iter()
        .filter(|(_, why)| why.is_none())
        .flat_map(|(suite, _)| places.iter().map(move |place| (*suite, *place)))
        .collect();
    let begin = Instant::now();
    let outcomes = run_all(&runs);
    println!(
        "\n{:<24} {:<12} {}",
        "client",
        "version",
        places.iter().map(|p| format!("{:<14}", p.name())).collect::<String>()
    );
    for (suite, why) in &missing {
        if let Some(why) = why {
            println!("{:<24} SKIPPED: {why}", suite.name);
            say_skipped(&format!("{}: {why}", suite.name));
            continue;
        }
        let own = || {
            runs.iter().zip(&outcomes).filter(|((other, _), _)| other.name == suite.name).map(|(_, outcome)| outcome)
        };
        let cells: String =
            own().map(|o| format!("{:<14}", format!("{}/{}", o.passed, o.passed + o.failed.len()))).collect();
        println!("{:<24} {:<12} {cells}", suite.name, own().map(|o| o.version.as_str()).max().unwrap_or_default());
    }
    println!("{:.0?} in all", begin.elapsed());
    let failed: Vec<String> = runs
        .iter()
        .zip(&outcomes)
        .flat_map(|((suite, place), outcome)| {
            outcome.failed.iter().map(move |why| format!("{} · {} · {why}", suite.name, place.name()))
        })
        .collect();
    assert!(failed.is_empty(), "{} checks failed:\n{}", failed.len(), failed.join("\n"));
    let skipped: Vec<&str> = missing.iter().filter(|(_, why)| why.is_some()).map(|(suite, _)| suite.name).collect();
    assert!(skipped.is_empty() || !all_must_run, "not run: {}; CLIENTS_MAY_SKIP=1 lets them", skipped.join(", "));
}
