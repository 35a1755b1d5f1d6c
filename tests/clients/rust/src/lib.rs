//! How a suite says what it found; see `../../python/checks.py`, which says the same.

use std::fmt::Debug;
use std::future::Future;
use std::io::{BufRead, stdin};
use std::time::{Duration, Instant};

/// What takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What a check ends with that fails.
pub type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// HOST:PORT, where the client connects to.
pub fn address() -> String {
    std::env::var("OUTRIGGER_ADDRESS").unwrap_or_else(|_| "127.0.0.1:6379".to_owned())
}

/// How many servers are behind it.
pub fn servers() -> usize {
    std::env::var("OUTRIGGER_SERVERS").ok().and_then(|number| number.parse().ok()).unwrap_or(1)
}

/// Asks whoever runs the suite.
pub fn ask(question: &str) -> String {
    println!("ask {question}");
    let mut answer = String::new();
    stdin().lock().read_line(&mut answer).expect("an answer");
    answer.trim().to_owned()
}

#[track_caller]
pub fn equal<T: PartialEq + Debug>(got: T, expected: T) -> Outcome {
    let line = std::panic::Location::caller().line();
    if got == expected { Ok(()) } else { Err(format!("got {got:?}, expected {expected:?} (line {line})").into()) }
}

#[track_caller]
pub fn that(holds: bool, otherwise: impl Into<String>) -> Outcome {
    let line = std::panic::Location::caller().line();
    if holds { Ok(()) } else { Err(format!("{} (line {line})", otherwise.into()).into()) }
}

/// Looks until there is something.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) -> Outcome {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if tokio::time::timeout(PATIENCE, look()).await.unwrap_or(false) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("waited in vain for {what}").into())
}

pub fn sizes_are_spread() -> Outcome {
    let answer = ask("sizes");
    let sizes: Vec<&str> = answer.split_whitespace().collect();
    that(sizes.len() == servers() && sizes.iter().all(|size| *size != "0"), format!("keys of each server: {sizes:?}"))
}

/// One server's end costs all of 60 keys where it is the only one, else some.
pub fn lost(count: usize) -> Outcome {
    that(count > 0 && (count == 60) == (servers() == 1), format!("{count} lost"))
}

/// Shows one finished check; true if it failed.
pub fn finish(name: &str, outcome: Result<Outcome, tokio::time::error::Elapsed>) -> bool {
    let why = match outcome {
        Ok(Ok(())) => {
            println!("ok {name}");
            return false;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing for {:?}", 2 * PATIENCE),
    };
    println!("failed {name}: {}", why.replace('\n', " "));
    true
}

/// Runs each check with the same arguments; its name is what it shows. Ends the process.
#[macro_export]
macro_rules! run {
    ($client:expr, $version:expr, [$($check:ident),* $(,)?], $argument:expr) => {{
        println!("client {} {}", $client, $version);
        let mut failures = 0;
        $(
            let check = tokio::time::timeout(2 * $crate::PATIENCE, $check($argument)).await;
            failures += usize::from($crate::finish(stringify!($check), check));
        )*
        std::process::exit(i32::from(failures > 0));
    }};
}
