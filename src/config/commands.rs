//! `commands` of a pool: where the keys of commands are that Outrigger's table does not have, and what they do.

use super::fields::Fields;
use super::report::quoted;
use super::settings::CommandSettings;
use super::value::Value;
use super::yaml::{Kind, Node};
use crate::protocol::redis::commands::{self, learnt};

/// Commands that one pool may describe.
const MOST: usize = 200;
const NAMES_ALLOWED: &str = "allowed: the name of a command, 1 to 64 letters, digits and signs without spaces and `|`";
const KEYS_ALLOWED: &str = "allowed: first (the first argument is the key), all (every argument is one), none, or the places of the first and the \
     last key, the last from the end if negative, and the step from one to the next ([1, -1, 2])";

/// The commands, by name.
pub(super) fn commands(value: Value<'_>) -> Option<Vec<CommandSettings>> {
    let context = value.context;
    if !matches!(value.node.kind, Kind::Mapping(_)) {
        value.reject("allowed: names of commands, each with `keys` and `write` below it");
        return None;
    }
    let entries = Fields::of(value.node, "'commands'", context)?.all();
    if entries.len() > MOST {
        value.reject(&format!("allowed: at most {MOST} commands"));
        return None;
    }
    let mut read: Vec<CommandSettings> = Vec::with_capacity(entries.len());
    for (name, node) in entries {
        let Some(own) = command(name, node, value) else { continue };
        if read.iter().any(|other| other.name == own.name) {
            context
                .report
                .error(name.at, format!("duplicate command: {}; allowed: once, in any case", name.describe()));
            continue;
        }
        read.push(own);
    }
    read.sort_by(|a, b| a.name.cmp(&b.name));
    Some(read)
}

fn command(name: &Node, node: &Node, value: Value<'_>) -> Option<CommandSettings> {
    let report = value.context.report;
    let fits = |text: &&str| {
        text.len() <= learnt::LONGEST_NAME && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'|')
    };
    let Some(text) = name.scalar().filter(fits) else {
        report.error(name.at, format!("bad name of a command: {}; {NAMES_ALLOWED}", name.describe()));
        return None;
    };
    if commands::lookup(text.as_bytes()).is_some() {
        report.error(
            name.at,
            format!("Outrigger knows the command {}; allowed: those that it does not know", quoted(text)),
        );
        return None;
    }
    let mut fields = Fields::of(node, &format!("command {}", quoted(text)), value.context)?;
    let keys = fields.value("keys");
    let places = keys.map(|keys| self::keys(keys));
    let write = fields.read("write", true, |v| v.boolean());
    fields.finish(false);
    if keys.is_none() {
        report.error(name.at, format!("missing key in command {}: 'keys'; {KEYS_ALLOWED}", quoted(text)));
    }
    Some(CommandSettings { name: text.to_ascii_lowercase(), keys: places??, write })
}

/// First, last and step; the outer `None`: it is none of what is allowed.
fn keys(value: Value<'_>) -> Option<Option<(i16, i16, u16)>> {
    match (&value.node.kind, value.node.scalar()) {
        (_, Some("none")) => return Some(None),
        (_, Some("first")) => return Some(Some((1, 1, 1))),
        (_, Some("all")) => return Some(Some((1, -1, 1))),
        (Kind::Sequence(items), _) => {
            let number = |item: &Node| item.scalar()?.parse::<i16>().ok();
            if let [first, last, step] = &items[..]
                && let (Some(first), Some(last), Some(step)) = (number(first), number(last), number(step))
                && first > 0
                && (last >= first || last < 0)
                && step > 0
            {
                return Some(Some((first, last, step.unsigned_abs())));
            }
        }
        _ => {}
    }
    value.reject(KEYS_ALLOWED);
    None
}
