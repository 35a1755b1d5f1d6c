//! Configurations: any text becomes settings or errors, each with a place in the text; settings are what the rest of the
//! program relies on, and reading the text again gives the same ones.

use outrigger::config::{self, ConfigErrors, Problem, Settings};
use outrigger::ring::Ring;

/// Longest message that a person reads; what it quotes is cut.
const LONGEST_MESSAGE: usize = 2000;

pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Some files there block whoever reads them, and a password may come from a file.
    if text.contains("/proc") || text.contains("/dev") || text.contains("/sys") {
        return;
    }
    let first = config::parse("fuzz.yml", text);
    let second = config::parse("fuzz.yml", text);
    assert_eq!(format!("{first:?}"), format!("{second:?}"), "read twice");
    match first {
        Ok(loaded) => {
            loaded.warnings.iter().for_each(|warning| placed(&warning.problem, text));
            sound(&loaded.settings);
        }
        Err(errors) => explained(&errors, text),
    }
}

fn explained(errors: &ConfigErrors, text: &str) {
    assert!(!errors.problems.is_empty(), "refused without a reason: {text:?}");
    assert!(errors.problems.is_sorted_by_key(|problem| problem.position), "not in order: {errors}");
    errors.problems.iter().for_each(|problem| placed(problem, text));
    let whole = errors.to_string();
    assert!(whole.starts_with("fuzz.yml:"), "{whole}");
    assert!(whole.chars().all(|c| c == '\n' || !c.is_control()), "control characters for a terminal: {whole:?}");
}

/// The place is in the text, at most one behind the end of its line or one line behind the last.
fn placed(problem: &Problem, text: &str) {
    assert!(!problem.message.is_empty() && problem.message.len() < LONGEST_MESSAGE, "{problem:?}");
    let (line, column) = problem.position.expect("a text has places");
    let lines = lines(text);
    let count = lines.len();
    assert!((1..=count + 1).contains(&line), "line {line} of {count}: {problem:?}\n{text:?}");
    let width = lines.get(line - 1).map_or(0, |line| line.chars().count());
    assert!((1..=width + 1).contains(&column), "column {column} of {width}: {problem:?}\n{text:?}");
}

/// Lines as YAML counts them: a CR alone ends one too.
fn lines(text: &str) -> Vec<&str> {
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(end) = rest.find(['\r', '\n']) {
        let (line, behind) = rest.split_at(end);
        lines.push(line);
        rest = behind.strip_prefix("\r\n").unwrap_or(&behind[1..]);
    }
    lines.push(rest);
    lines
}

/// What the rest of the program relies on.
fn sound(settings: &Settings) {
    assert!(!settings.pools.is_empty());
    for pool in &settings.pools {
        assert!(!pool.name.is_empty() && pool.server_connections > 0, "{pool:?}");
        assert!(pool.servers.iter().all(|server| server.weight > 0 && !server.name.is_empty()), "{pool:?}");
        assert!(pool.servers.is_sorted_by_key(|server| (server.name.len(), server.name.clone())), "{pool:?}");
        // A continuum grows with the number of servers, never with their weights.
        let ring = Ring::build(pool.distribution, &pool.ring_servers(), |_| true);
        for point in [0, 1, u32::MAX / 2, u32::MAX] {
            assert!(ring.server(point).is_some_and(|server| server < pool.servers.len()), "{pool:?}");
        }
    }
}
