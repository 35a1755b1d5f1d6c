//! What the README says is true of this tree: its configurations parse, its paths, flags and make targets exist.

use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../README.md");

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    README.split(start.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn its_configurations_parse() {
    let blocks = blocks("yaml");
    assert!(!blocks.is_empty());
    for block in blocks {
        outrigger::config::parse("README.md", block).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn its_links_lead_somewhere() {
    let links: Vec<&str> = README.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 3);
    for link in links.iter().filter(|link| !link.starts_with("http")) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
        assert!(path.exists(), "{link}");
    }
}

#[test]
fn its_make_targets_exist() {
    let makefile = include_str!("../Makefile");
    for target in ["run", "test", "bench"] {
        assert!(README.contains(&format!("make {target}")));
        assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "{target}");
    }
}

#[test]
fn its_flags_and_subcommands_exist() {
    let help = Command::new(env!("CARGO_BIN_EXE_outrigger")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["-t", "-c", "-m", "-i", "-D", "check", "explain", "schema"] {
        assert!(README.contains(&format!("outrigger {word}")) || README.contains(&format!("`{word}`")) || word == "-c");
        assert!(help.contains(&format!("  {word}")), "{word} is not in --help");
    }
}

/// The limits that it names are the defaults.
#[test]
fn its_defaults_are_the_defaults() {
    let settings = outrigger::config::default_settings();
    assert!(README.contains(&format!("`drain_timeout` ({} s)", settings.drain_timeout.as_secs())));
    let timeout = settings.pools[0].timeout.unwrap();
    assert!(README.contains(&format!("`timeout` ({} s)", timeout.as_secs())));
    let connect = settings.pools[0].connect_timeout.unwrap();
    assert!(README.contains(&format!("`connect_timeout` ({} ms)", connect.as_millis())));
    assert!(README.contains(settings.stats_listen.as_deref().unwrap()));
}
