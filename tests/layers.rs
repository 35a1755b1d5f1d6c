//! The architecture as a test: modules import from lower layers only, and no file is too long to read.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first; a module may import from its own row's left and from every row above.
/// Within a row the order is that of permitted imports as well: a module sees those before it.
const LAYERS: [&[&str]; 7] = [
    // Vocabulary: the standard library and bytes.
    &["hash", "telemetry", "protocol"],
    // Mechanisms: no configuration; `io` alone knows sockets.
    &["ring", "health", "io"],
    // A file becomes settings.
    &["config"],
    // Towards servers.
    &["discovery", "backend", "local"],
    &["pool"],
    // Towards clients; a worker and its listeners know each other's hand-over types.
    &["session", "worker", "listener"],
    // Control.
    &["admin", "monitor", "reload", "upgrade", "proxy", "cli"],
];

/// Pairs that may know each other although neither is below the other.
const PEERS: [(&str, &str); 1] = [("worker", "listener")];

const LONGEST_FILE: usize = 500;

fn position(module: &str) -> Option<(usize, usize)> {
    LAYERS
        .iter()
        .enumerate()
        .find_map(|(row, names)| names.iter().position(|name| *name == module).map(|column| (row, column)))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

/// The top-level module that a file belongs to: `src/pool/mod.rs` and `src/pool.rs` are `pool`.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("a source");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules named by `crate::x` in a line.
fn imports(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with('$'))
        .map(|(at, found)| {
            let rest = &code[at + found.len()..];
            rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        })
        .filter(|name: &String| name.starts_with(char::is_lowercase))
        .collect()
}

#[test]
fn every_module_has_a_layer() {
    for path in all_sources() {
        let module = module_of(&path);
        assert!(matches!(&module[..], "lib" | "main") || position(&module).is_some(), "{module} is in no layer");
    }
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for path in all_sources() {
        let module = module_of(&path);
        let Some(own) = position(&module) else { continue };
        let text = fs::read_to_string(&path).expect("a source");
        for (number, line) in text.lines().enumerate() {
            for import in imports(line) {
                let peers = PEERS.iter().any(|p| *p == (&module, &import) || *p == (&import, &module));
                let down = position(&import).is_some_and(|other| other < own);
                if import != module && !down && !peers {
                    wrong.push(format!("{}:{}: {module} imports {import}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "imports that go up:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long() {
    for path in all_sources() {
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = code.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_reader_of_imports_sees_them() {
    assert_eq!(imports("use crate::pool::Pool;"), ["pool"]);
    assert_eq!(imports("    fn f(x: crate::io::Pass, y: &crate::hash::KeyHash) // crate::proxy"), ["io", "hash"]);
    assert!(imports("// use crate::proxy;").is_empty());
}
