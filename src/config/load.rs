//! A whole file: recognises its dialect, reads everything, and hands out settings or all that is wrong.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::ring::server_order;

use super::Dialect;
use super::between_pools::{self, check_listens, resolve_stand_ins};
use super::fields::{Context, Fields};
use super::globals;
use super::inputs::Inputs;
use super::origins::Origins;
use super::pool::pool;
use super::report::{ConfigErrors, Report, Span, Warning};
use super::settings::Settings;
use super::yaml::{self, Kind, Node, Oddity};

/// A file that is larger than this is no configuration.
const MAX_FILE: u64 = 16 << 20;

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub settings: Settings,
    pub dialect: Dialect,
    pub warnings: Vec<Warning>,
    /// The files that it was read from: the configuration itself, if it is one, then each `password_file`.
    pub sources: Vec<PathBuf>,
    /// Equal if all of them had the same contents. Within one process: the next one counts otherwise.
    pub fingerprint: u64,
    hash: String,
    origins: Origins,
}

impl Loaded {
    /// Sixteen digits by which people tell whether instances run the same configuration: what `md5sum` says first of a
    /// file that holds no passwords. Passwords are left out, those in other files too.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// What is wrong with the value of a key, with its place in the file if it comes from there. `pool`: whose key it is.
    pub fn tell(&self, pool: Option<&str>, key: &str, message: &impl ToString) -> String {
        self.origins.tell(pool, key, message.to_string())
    }

    /// A flag goes over this key, beside the pools: it does not matter what the file says.
    pub fn overridden(&mut self, key: &str) {
        self.origins.forget(key);
    }
}

/// Reads and validates a file.
pub fn load_file(path: &Path) -> Result<Loaded, ConfigErrors> {
    let name = path.display().to_string();
    let mut inputs = Inputs::new();
    let text = read_text(path);
    inputs.file(path, &text);
    match text {
        Ok(text) => check(&name, &text, inputs),
        Err((at, reason)) => Err(ConfigErrors::unreadable(&name, at, reason, inputs)),
    }
}

/// Validates a text; `name` stands for it in messages, and relative file names in it start from its folder.
pub fn parse(name: &str, text: &str) -> Result<Loaded, ConfigErrors> {
    let mut inputs = Inputs::new();
    inputs.text(text);
    check(name, text, inputs)
}

/// What is in a file, or why it cannot be a configuration, with line and column if they can be told.
fn read_text(path: &Path) -> Result<String, (Option<(usize, usize)>, String)> {
    let mut bytes = Vec::new();
    let read = open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|error| (None, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err((None, "larger than 16 MiB; allowed: a configuration file".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let line = good.rsplit('\n').next().unwrap_or_default();
        let at = (good.matches('\n').count() + 1, line.chars().count() + 1);
        (Some(at), "not UTF-8; allowed: UTF-8 text".to_owned())
    })
}

/// Of a pipe (`-c <(generate)`) all is read that is written to it; one that nobody writes to is empty, and not waited for.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    rustix::fs::fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}

fn check(name: &str, text: &str, inputs: Inputs) -> Result<Loaded, ConfigErrors> {
    let report = Report::new(text, inputs);
    let read = read(name, text, &report);
    let origins = Origins::new(name, text, report.origins());
    let (errors, warnings, inputs) = report.finish();
    let hash = inputs.hash(text);
    let (sources, fingerprint) = inputs.finish();
    match read {
        Some((settings, dialect)) if errors.told.is_empty() => {
            let warnings =
                warnings.all().into_iter().map(|problem| Warning { name: name.to_owned(), problem }).collect();
            Ok(Loaded { settings, dialect, warnings, sources, fingerprint, hash, origins })
        }
        _ => {
            Err(ConfigErrors { name: name.to_owned(), problems: errors.told, more: errors.more, sources, fingerprint })
        }
    }
}

/// `None` only with an error in the report.
fn read(name: &str, text: &str, report: &Report<'_>) -> Option<(Settings, Dialect)> {
    let tree = match yaml::parse(text) {
        Ok(tree) => tree,
        Err((at, message)) => {
            report.error(at, message);
            return None;
        }
    };
    let Some(root) = &tree.root else {
        let start = Span { line: 1, column: 1, start: 0, end: 0 };
        report.error(start, "an empty file; allowed: `pools:` and pools below it, or a nutcracker.yml");
        return None;
    };
    let dialect = recognise(root);
    let context = Context { report, dialect };
    for (at, oddity) in tree.oddities {
        if let Some(message) = refuse(oddity, dialect) {
            report.error(at, message);
        }
    }
    let base = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut settings = globals::defaults(dialect);
    let pools = match dialect {
        Dialect::Twemproxy => Fields::of(root, "the file", context)?.all(),
        Dialect::Outrigger => own_pools(root, &mut settings, context, base)?,
    };
    let names: HashSet<&str> = pools.iter().filter_map(|(name, _)| name.scalar()).collect();
    let mut pools: Vec<_> = pools.into_iter().filter_map(|(name, node)| pool(name, node, context, base)).collect();
    check_listens(&pools, &settings, report);
    pools.sort_by(|a, b| server_order(&a.settings.name).cmp(&server_order(&b.settings.name)));
    resolve_stand_ins(&mut pools, &names);
    between_pools::traps(&pools, &names, report);
    settings.pools = pools.into_iter().map(|pool| pool.settings).collect();
    Some((settings, dialect))
}

/// Reads the global keys and returns what is below `pools`.
fn own_pools<'a>(
    root: &'a Node,
    settings: &mut Settings,
    context: Context<'a>,
    base: &Path,
) -> Option<Vec<(&'a Node, &'a Node)>> {
    let mut fields = Fields::of(root, "the file", context)?;
    let pools = fields.value("pools");
    globals::read(&mut fields, settings, context, base);
    let misplaced = fields.take_like(is_pool);
    for key in &misplaced {
        let name = key.describe();
        context.report.error(key.at, format!("a pool beside `pools:`: {name}; allowed: below it, indented further"));
    }
    fields.finish(false);
    let Some(value) = pools else {
        context.report.error(root.at, "missing key in the file: 'pools'; required: at least one pool below it");
        return None;
    };
    if !misplaced.is_empty() && value.node.is_nothing() {
        return None;
    }
    let pools = Fields::of(value.node, "'pools'", context)?.all();
    if pools.is_empty() {
        value.reject("allowed: at least one pool");
    }
    Some(pools)
}

/// Which of the two formats a file is meant to be: a nutcracker.yml has its pools at the top.
fn recognise(root: &Node) -> Dialect {
    const GLOBAL_KEYS: [&str; 9] =
        ["pools", "workers", "admin", "log", "observe", "resolver", "drain_timeout", "pre_stop_delay", "limits"];
    let Kind::Mapping(entries) = &root.kind else { return Dialect::Outrigger };
    let pools = entries.iter().find(|(key, _)| key.scalar() == Some("pools"));
    if pools.is_some_and(|(_, value)| !is_pool(value)) {
        return Dialect::Outrigger;
    }
    let global = entries.iter().any(|(key, _)| key.scalar().is_some_and(|key| GLOBAL_KEYS.contains(&key)));
    let mappings = entries.iter().all(|(_, value)| matches!(value.kind, Kind::Mapping(_)));
    if entries.iter().any(|(_, value)| is_pool(value)) || (mappings && !global && !entries.is_empty()) {
        Dialect::Twemproxy
    } else {
        Dialect::Outrigger
    }
}

/// Has what a pool has, and no level in between.
fn is_pool(node: &Node) -> bool {
    node.get("listen").is_some_and(|value| value.scalar().is_some())
        || node.get("servers").is_some_and(|value| matches!(value.kind, Kind::Sequence(_)))
}

impl Node {
    fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|(k, _)| k.scalar() == Some(key)).map(|(_, v)| v),
            _ => None,
        }
    }
}

/// Why this piece of YAML is not read; twemproxy's subset is strict.
fn refuse(oddity: Oddity, dialect: Dialect) -> Option<String> {
    let (found, allowed) = match oddity {
        Oddity::Tag => ("a tag", "values without `!`"),
        Oddity::SecondDocument => ("a second document", "one document in a file"),
        _ if dialect == Dialect::Outrigger => return None,
        Oddity::Flow => ("a value in brackets", "one `key: value` or `- server` a line"),
        Oddity::Anchor => ("an anchor", "values without `&`"),
        Oddity::Alias => ("an alias", "values without `*`"),
        Oddity::DocumentMarker => ("a document marker or directive", "a file without `---` and `%`"),
    };
    let whose = if dialect == Dialect::Twemproxy { ", as in twemproxy" } else { "" };
    Some(format!("{found} is not read here{whose}; allowed: {allowed}"))
}
