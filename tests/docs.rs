//! The documents say what is true: their configurations load, their flags, files and commands exist, their limits are
//! the defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use outrigger::config;
use outrigger::protocol::redis::commands::{self, Refusal, Route};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The README and everything in `docs/`: name relative to the project, text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut names = vec![PathBuf::from("README.md")];
    for entry in fs::read_dir(root().join("docs")).expect("docs") {
        let name = PathBuf::from(entry.expect("an entry").file_name());
        // There are pictures as well.
        if name.extension().is_some_and(|kind| kind == "md") {
            names.push(Path::new("docs").join(name));
        }
    }
    assert!(names.len() > 1, "docs is empty");
    names.into_iter().map(|name| (name.clone(), read(name))).collect()
}

/// The fenced blocks of a document: what is said behind the fence, and the lines.
fn fenced(text: &str) -> Vec<(&str, String)> {
    // Outside and inside take turns.
    let blocks = text.split("\n```").skip(1).step_by(2);
    blocks
        .map(|block| block.split_once('\n').map_or((block, String::new()), |(tag, rest)| (tag, rest.into())))
        .collect()
}

/// The code spans of text without fenced blocks.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn without_fenced(text: &str) -> String {
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_configuration_loads() {
    let mut found = 0;
    for (name, text) in documents() {
        for (tag, yaml) in fenced(&text) {
            if tag == "yaml" {
                found += 1;
                let loaded = config::parse(&name.to_string_lossy(), &yaml);
                assert_eq!(loaded.map(|l| l.warnings).unwrap_or_else(|e| panic!("{e}\n{yaml}")), [], "{yaml}");
            }
        }
    }
    assert!(found >= 2, "{found} configurations found");
}

/// `-c` and `--conf-file=F` in code spans, and what stands behind `outrigger` in examples.
fn flags_named(text: &str) -> BTreeSet<String> {
    let blocks: Vec<String> = fenced(text).into_iter().map(|(_, block)| block).collect();
    let prose = without_fenced(text);
    let examples = blocks.iter().flat_map(|block| block.lines()).filter_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let (_, arguments) = line.trim_start_matches("$ ").split_once("outrigger ")?;
        (!line.starts_with(' ')).then_some(arguments)
    });
    let flag = |word: &&str| match word.strip_prefix("--") {
        Some(long) => long.starts_with(|c: char| c.is_ascii_lowercase()),
        None => word.len() == 2 && word.starts_with('-') && word.as_bytes()[1].is_ascii_alphabetic(),
    };
    let spans = spans(&prose);
    let own = spans.iter().copied().filter(|span| span.starts_with('-') || span.starts_with("outrigger "));
    let words = own.chain(examples).flat_map(str::split_whitespace).filter(flag);
    words.map(|word| word.split('=').next().unwrap_or(word).to_owned()).collect()
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_outrigger")).args(arguments).arg("--help").output().expect("help");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn every_flag_is_in_the_help() {
    let with_flags = ["explain", "diff", "upgrade", "status", "top", "events", "hotkeys", "slowlog", "healthcheck"];
    let help: String = help(&[]) + &with_flags.map(|name| help(&[name])).concat();
    let known: BTreeSet<&str> = help.split(|c: char| c.is_whitespace() || ",[]".contains(c)).collect();
    let mut found = 0;
    for (name, text) in documents() {
        for flag in flags_named(&text) {
            found += 1;
            assert!(known.contains(flag.as_str()), "{}: there is no {flag}", name.display());
        }
    }
    assert!(found > 10, "{found} flags found");
}

#[test]
fn every_subcommand_is_in_the_help() {
    let help = help(&[]);
    for name in ["check", "diff", "explain", "schema", "upgrade", "status", "top", "events", "healthcheck"] {
        assert!(read("README.md").contains(&format!("outrigger {name}")), "the README does not show {name}");
        assert!(help.contains(&format!("\n  {name} ")), "there is no {name}");
    }
}

#[test]
fn the_two_commands_are_in_the_makefile() {
    let (readme, makefile) = (read("README.md"), read("Makefile"));
    let mut named: BTreeSet<&str> = BTreeSet::new();
    let words: Vec<&str> = readme.split(|c: char| c.is_whitespace() || c == '`').collect();
    named.extend(words.windows(2).filter(|pair| pair[0] == "make").map(|pair| pair[1]));
    assert!(named.contains("run") && named.contains("test"), "{named:?}");
    for target in named {
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}: no such target");
    }
}

#[test]
fn every_path_exists() {
    /// What a word must begin with to be taken for a file of the project.
    const FOLDERS: [&str; 8] = ["src/", "config/", "deploy/", "tests/", "benches/", "docs/", "fuzz/", ".ci/"];
    let mut found = 0;
    for (name, text) in documents() {
        let words = text.split(|c: char| c.is_whitespace() || "()[]`',;\"".contains(c)).map(|w| (Path::new(""), w));
        let words = words.filter(|(_, word)| FOLDERS.iter().any(|folder| word.starts_with(folder)));
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
        let links = links.map(|link| (name.parent().unwrap_or(Path::new("")), link));
        // A link of `docs/` is relative to it; its text was taken for a word only if it names a folder.
        for (base, path) in words.chain(links) {
            found += 1;
            // `config/minimal.yml:` starts a message about that file.
            let path = path.split([':', '#']).next().unwrap_or_default().trim_end_matches('.');
            assert!(root().join(base).join(path).exists(), "{}: there is no {path}", name.display());
        }
    }
    assert!(found > 30, "{found} paths found");
}

#[test]
fn every_anchor_exists() {
    for (name, text) in documents() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((file, anchor)) = link.split_once('#').filter(|_| !link.contains("://")) else { continue };
            let file = if file.is_empty() { name.clone() } else { name.parent().unwrap_or(Path::new("")).join(file) };
            let target = read(file);
            let slug = |line: &str| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                title.replace(' ', "-").chars().filter(|c| c.is_alphanumeric() || *c == '-').collect::<String>()
            };
            let known = target.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == anchor);
            assert!(known, "{}: there is no heading for {link}", name.display());
        }
    }
}

#[test]
fn the_limits_of_the_readme_are_the_defaults() {
    let (readme, full) = (read("README.md"), read("config/full.yml"));
    let mut found = 0;
    for line in readme.lines().filter(|line| line.starts_with("| `max_")) {
        let cells: Vec<&str> = line.split('`').collect();
        let (key, value) = (cells[1], cells[3]);
        found += 1;
        assert!(full.lines().any(|l| l.trim() == format!("{key}: {value}")), "{key} is not {value}");
    }
    assert_eq!(found, full.lines().filter(|line| line.starts_with("  max_")).count());
}

/// The headings of docs/commands.md, and what stands before the commands of a refusal.
fn place(route: Route) -> (&'static str, &'static str) {
    match route {
        Route::Key => ("One key", ""),
        Route::Keys => ("Several keys on one server", ""),
        Route::Split(_) => ("Split over servers", ""),
        Route::FanOut(_) | Route::Wait => ("Asked of all servers", ""),
        Route::One | Route::Debug => ("Asked of one server", ""),
        Route::Only(_) => ("Only where the pool has one server", ""),
        Route::Transaction(_) => ("Transactions", ""),
        Route::Subscribe(_) | Route::Unsubscribe(_) | Route::Channel => ("Channels", ""),
        Route::Proxy(_) => ("Answered by Outrigger", ""),
        Route::Refused(Refusal::Cluster) => ("Refused", "This instance has cluster support disabled"),
        Route::Refused(reason) => ("Refused", reason.text()),
    }
}

#[test]
fn the_lists_of_redis_commands_are_the_table() {
    let mut table = BTreeMap::new();
    for command in commands::all() {
        for subcommand in command.subcommands {
            table.insert(subcommand.name.to_ascii_uppercase().replace('|', " "), place(subcommand.route));
        }
        // A container is a command of its own only if it may stand alone, as COMMAND may.
        if command.subcommands.is_empty() || command.check_arity(1) {
            table.insert(command.name.to_ascii_uppercase(), place(command.route));
        }
    }
    let text = read("docs/commands.md");
    let (mut listed, mut stars) = (BTreeMap::new(), BTreeSet::new());
    for section in text.split("\n### ").skip(1) {
        let (heading, body) = section.split_once('\n').expect("a section");
        for item in body.split("\n\n").flat_map(|paragraph| paragraph.split("\n- ")) {
            let item = item.trim_start_matches("- ");
            // A list of commands starts with what they have in common, and has code spans and blanks behind it.
            let Some((about, list)) = item.split_once(": `") else { continue };
            let list = format!("`{list}");
            // A star behind a command is about it.
            if !list.split('`').step_by(2).all(|between| matches!(between.trim(), "" | "*")) {
                continue;
            }
            let starred = list.split('`').skip(1).collect::<Vec<_>>();
            let starred = starred.chunks(2).filter(|pair| pair.get(1).is_some_and(|behind| behind.starts_with('*')));
            stars.extend(starred.map(|pair| pair[0].split_whitespace().collect::<Vec<_>>().join(" ")));
            let reason = if heading == "Refused" {
                about.split_whitespace().collect::<Vec<_>>().join(" ")
            } else {
                String::new()
            };
            for command in spans(&list) {
                let name = command.split_whitespace().collect::<Vec<_>>().join(" ");
                let before = listed.insert(name, (heading.to_owned(), reason.clone()));
                assert_eq!(before, None, "{command} is listed twice");
            }
        }
    }
    let table: BTreeMap<_, _> = table.into_iter().map(|(n, (h, r))| (n, (h.to_owned(), r.to_owned()))).collect();
    for (name, place) in &table {
        assert_eq!(listed.get(name), Some(place), "{name}");
    }
    let unknown: Vec<_> = listed.keys().filter(|name| !table.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "not in the table: {unknown:?}");
    let every = commands::all().flat_map(|command| std::iter::once(command).chain(command.subcommands));
    let restricted = every.filter(|command| command.restricted || command.route == Route::Debug);
    let restricted: BTreeSet<String> = restricted.map(|c| c.name.to_ascii_uppercase().replace('|', " ")).collect();
    assert_eq!(stars, restricted, "commands with a star, and those that the table restricts");
}

#[test]
fn every_row_of_what_happens_when_is_a_test() {
    let readme = read("README.md");
    let (_, section) = readme.split_once("## What happens when ...").expect("the section");
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let mut sources = String::new();
    collect(Path::new("tests"), &mut sources);
    let mut found = 0;
    for row in rows.take_while(|line| line.starts_with('|')) {
        let test = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default().trim().trim_matches('`');
        assert!(sources.contains(&format!("#[test]\nfn {test}() {{")), "no test {test} for: {row}");
        found += 1;
    }
    assert!(found > 15, "{found} rows found");
}

/// Every Rust source below a folder.
fn collect(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(root().join(folder)).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *sources += &std::fs::read_to_string(path).expect("a source");
        }
    }
}

#[test]
fn the_systemd_unit_runs_commands_that_exist_and_waits_for_the_drain() {
    use outrigger::cli;
    let unit = read("deploy/outrigger.service");
    let values = |key| unit.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='));
    let command = |key| cli::parse_from(values(key).next().expect(key).split(' ')).expect(key);
    let file = PathBuf::from("/etc/outrigger/outrigger.yml");
    assert_eq!(command("ExecStartPre"), cli::Command::Check { file: file.clone() });
    let options = cli::RunOptions { conf_file: Some(file), ..Default::default() };
    assert_eq!(command("ExecStart"), cli::Command::Run(options));
    let settings = config::parse("minimal.yml", &read("config/minimal.yml")).expect("a configuration").settings;
    let limit: u64 = values("TimeoutStopSec").next().and_then(|seconds| seconds.parse().ok()).expect("a limit");
    // The drain ends by force two seconds after its time.
    assert!(limit > (settings.pre_stop_delay + settings.drain_timeout).as_secs() + 2);
}
